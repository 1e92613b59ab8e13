"""Conversion of clips to the stored form; problems are recorded as defects."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emofuse.audio.decode import Ending, decode_spans
from emofuse.audio.flac import encode
from emofuse.audio.resample import downmix, into_range, resample
from emofuse.audio.sound import AudioBytes, AudioFile, AudioSource, Sound
from emofuse.core.schema import SAMPLE_RATE

__all__ = ["Clip", "prepare", "prepare_recording", "same_recording"]

_SHORTEST = 0.1
"""Seconds; a shorter clip is kept, and listed."""

_ROUNDING = 0.05
"""Seconds that a segment may end after its recording: times are written with one decimal, too."""


@dataclass(frozen=True)
class Clip:
    """A clip in its stored form.

    Attributes:
        data: a whole FLAC file, 16 kHz mono, 16 bits; None where the sound is missing
        sha256: digest of its samples, so that the same sound has the same digest whatever encoder wrote it
        n_samples: at 16 kHz
        defects: such as ``audio_missing``, ``audio_too_long``
        reason: what is wrong, in words; of a clip without data it begins with the file's path
    """

    data: bytes | None
    sha256: str | None
    n_samples: int
    defects: tuple[str, ...] = ()
    reason: str | None = None


def prepare(source: AudioSource, max_seconds: float) -> Clip:
    """Bring one source to the stored form; what is wrong with it becomes a defect and never an exception.

    Args:
        source: where the sound comes from
        max_seconds: a longer clip is cut there and has the defect ``audio_too_long``
    """
    (clip,) = prepare_recording([source], max_seconds)
    return clip


def same_recording(source: AudioSource) -> object:
    """Return what sources have in common that are decoded together, because they are in one file."""
    if isinstance(source, AudioFile):
        return source.path
    return source.data if isinstance(source, AudioBytes) else object()


def prepare_recording(sources: Sequence[AudioSource], max_seconds: float) -> list[Clip]:
    """Bring segments of one recording to the stored form, each cut to the sample; the recording is decoded once.

    Args:
        sources: segments of one file, or a single source of another kind
        max_seconds: a longer clip is cut there
    """
    first = sources[0]
    if not isinstance(first, AudioFile | AudioBytes):
        return [_loaded(each, max_seconds) for each in sources]
    files = [each for each in sources if isinstance(each, AudioFile | AudioBytes)]
    clips = {index: clip for index, each in enumerate(files) if (clip := _without_span(each))}
    left = [index for index in range(len(files)) if index not in clips]

    def take(index: int, samples: np.ndarray, ending: Ending) -> None:
        clips[left[index]] = _guarded(files[left[index]], samples, ending, max_seconds)

    spans = [files[index].span for index in left]
    try:
        with first.open() as stream:
            errors = decode_spans(stream, spans, max_seconds, take)
        clips |= {left[index]: _unreadable(first, words) for index, words in errors.items()}
    except FileNotFoundError as error:
        clips |= {index: _without_sound("audio_missing", str(error)) for index in left}
    except (OSError, MemoryError) as error:
        clips = {index: _unreadable(first, _words(error)) for index in left} | clips
    return [clips[index] for index in range(len(files))]


def _loaded(source: AudioSource, max_seconds: float) -> Clip:
    try:
        samples, rate = source.load()
        faults = source.faults if isinstance(source, Sound) else {}
        ending = Ending(rate, samples.shape[1] / rate if samples.size else 0.0, faults)
        # A second more than is kept, as for files.
        kept = samples if math.isinf(max_seconds) else samples[:, : math.ceil((max_seconds + 1) * rate)]
        return _clip(source.name, kept, ending, (0.0, math.inf), max_seconds)
    except Exception as error:  # whatever a source raises
        return _without_sound("audio_unreadable", str(error) or f"{source.name}: {type(error).__name__}")


def _guarded(source: AudioFile | AudioBytes, samples: np.ndarray, ending: Ending, max_seconds: float) -> Clip:
    try:
        return _clip(source.name, samples, ending, source.span, max_seconds)
    except Exception as error:  # one clip never stops a corpus
        return _unreadable(source, _words(error))


def _without_span(source: AudioFile | AudioBytes) -> Clip | None:
    start, end = source.span
    place = f"{source.name}: from {start:g} s to {end:g} s"
    if start < 0:
        return _without_sound("segment_outside", f"{place}, before it begins")
    if end < start:
        return _without_sound("segment_inverted", f"{place}, which is before its start")
    if end == start:
        return _without_sound("segment_empty", f"{place}, which is nothing")
    return None


def _clip(name: str, samples: np.ndarray, ending: Ending, span: tuple[float, float], max_seconds: float) -> Clip:
    defect = _without_samples(samples, ending, span)
    if defect:
        return _without_sound(defect[0], f"{name}: {defect[1]}")
    try:
        samples, rescaled = into_range(samples)
    except ValueError as error:
        return _without_sound("audio_out_of_range", f"{name}: {error}")
    mixed, cancelled = downmix(samples)
    mono = resample(mixed, ending.rate)
    faults = {**ending.faults, **rescaled, **cancelled, **_length_faults(samples.shape[1], ending, span, max_seconds)}
    if math.isfinite(max_seconds):
        mono = mono[: int(max_seconds * SAMPLE_RATE)]
    if len(mono) < _SHORTEST * SAMPLE_RATE:
        faults["audio_too_short"] = f"{len(mono) / SAMPLE_RATE:.3f} s, under {_SHORTEST:g} s"
    # The scale that readers of 16-bit files divide by, so that such a file at 16 kHz is stored sample for sample.
    pcm = np.clip(np.rint(mono * 32_768), -32_768, 32_767).astype("<i2")
    if not pcm.any():
        faults["audio_silent"] = "every sample is zero"
    reason = f"{name}: {'; '.join(faults.values())}" if faults else None
    return Clip(encode(pcm), hashlib.sha256(pcm.tobytes()).hexdigest(), len(pcm), tuple(faults), reason)


def _without_samples(samples: np.ndarray, ending: Ending, span: tuple[float, float]) -> tuple[str, str] | None:
    """What is wrong with a clip that nothing can be stored of."""
    start, end = span
    if samples.size == 0 and _is_segment(span):
        if end - start < 1 / ending.rate:
            return "segment_empty", f"from {start:g} s to {end:g} s is less than a sample"
        known = "" if ending.seconds is None else f", but it ends at {ending.seconds:.2f} s"
        return "segment_outside", f"from {start:g} s to {end:g} s{known}"
    if samples.size == 0:
        return "audio_empty", "no samples in it"
    if not np.isfinite(samples).all():
        return "audio_not_finite", "a sample is not a finite number"
    return None


def _length_faults(count: int, ending: Ending, span: tuple[float, float], max_seconds: float) -> dict[str, str]:
    start, end = span
    there = count / ending.rate
    faults = {}
    if math.isfinite(end) and there < min(end - start, max_seconds) - _ROUNDING:
        faults["segment_outside"] = f"from {start:g} s to {end:g} s, but it ends at {start + there:.2f} s"
    if there > max_seconds:
        length = there if there < max_seconds + 1 else _length(ending, span)
        reason = f"over {max_seconds:g} s" if length is None else f"{length:.1f} s"
        faults["audio_too_long"] = f"{reason}, cut at {max_seconds:g} s"
    return faults


def _length(ending: Ending, span: tuple[float, float]) -> float | None:
    """Seconds of a clip that was not decoded to its end, as far as they are known."""
    start, end = span
    if math.isfinite(end):
        return end - start
    return None if ending.seconds is None else ending.seconds - start


def _is_segment(span: tuple[float, float]) -> bool:
    return span[0] > 0 or math.isfinite(span[1])


def _unreadable(source: AudioFile | AudioBytes, words: str) -> Clip:
    reason = words if words.startswith(source.where) else f"{source.where}: {words}"
    return _without_sound("audio_unreadable", reason)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _without_sound(defect: str, reason: str) -> Clip:
    return Clip(None, None, 0, (defect,), reason)
