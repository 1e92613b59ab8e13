"""Turns and speakers of a recording: given, detected, or one channel per speaker."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emofuse.audio.recordings import NoSoundError, decode_recording
from emofuse.audio.resample import downmix
from emofuse.audio.sound import AudioSource, Sound
from emofuse.core.schema import SAMPLE_RATE
from emofuse.inference.segments import Segment, SegmentError, name_beside, one_each, read_segments

if TYPE_CHECKING:
    from emofuse.inference.diarization import Diarizer

    Segments = Path | Sequence[Segment] | Diarizer

__all__ = [
    "ONE_SPEAKER",
    "SPEAKER",
    "Conversation",
    "ConversationError",
    "Turn",
    "cut",
    "fit",
    "read_mono",
    "read_recording",
]

ONE_SPEAKER = "speakers are not distinguished: all turns count as one speaker's"
"""The remark on a recording of which nothing is known but its sound."""

_TELLS = "segments with speakers, for example from a diarizer, or a channel per speaker would distinguish them"
"""What is added where one of them could be given."""

SPEAKER = "speaker"
"""Name of whoever speaks in such a recording."""

_TOLERANCE_S = 0.5
"""Seconds that a segment may end after the sound, since programs round their times."""

_ALIKE = 1e-4
"""Largest difference of two channels that hold the same sound: under four steps of 16 bits."""


class ConversationError(ValueError):
    """A conversation cannot be read; the message names the file and the turn, which are counted from 1."""


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        audio: its sound, such as :class:`emofuse.audio.sound.AudioFile`
        text: the words
        speaker: who speaks
        start_s: where it begins in a recording, in seconds
        end_s: where it ends there
        source: name of the file that it is from
    """

    audio: AudioSource | None = None
    text: str | None = None
    speaker: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    source: str | None = None


@dataclass(frozen=True)
class Conversation:
    """Turns in their order, and remarks on them as a whole.

    Attributes:
        name: of the file or folder
        turns: by their starts
        remarks: such as that speakers are not distinguished
        sound: of a recording, the whole of it: mono at 16 kHz
        is_found: whether its turns were found in the sound, and nobody has said where they are
    """

    name: str
    turns: tuple[Turn, ...]
    remarks: tuple[str, ...] = ()
    sound: Sound | None = None
    is_found: bool = False


def read_recording(
    source: AudioSource,
    where: str,
    segments: "Segments | None" = None,
    channels: bool = False,
    check_time: Callable[[], None] = lambda: None,
) -> Conversation:
    """Read a recording and find its turns.

    Args:
        source: the recording, of any format that the decoders read
        where: the recording, for messages
        segments: where the turns are: a file that says so, a list, or what finds them and their speakers; without these
            voice activity finds them
        channels: whether each channel is a speaker
        check_time: called before voice activity is found in a channel; what it raises ends the reading

    Raises:
        ConversationError: there is no sound in it, nobody is heard to speak, or the channels are not one a speaker
        SegmentError: the file of segments cannot be read, or segments end after the sound
        OSError: it cannot be decoded
    """
    if segments and channels:
        raise ConversationError(f"{where}: either segments or channels tell who speaks; give one of the two")
    if channels:
        return _of_channels(source, where, check_time)
    sound, remarks = read_mono(source, where)
    found, notes = _given(segments, where, sound) if segments else (_spoken(sound, SPEAKER), ())
    remarks = (*remarks, *notes)
    if not segments or not any(each.speaker for each in found):
        remarks = (*remarks, f"{ONE_SPEAKER}; {_TELLS}")
    if not found:
        raise ConversationError(f"{where}: no speech was found in its {_seconds(sound):.1f} s")
    turns = tuple(_turns([(each, sound) for each in found], source.name))
    return Conversation(source.name, turns, remarks, sound, is_found=not segments or callable(segments))


def read_mono(source: AudioSource, where: str) -> tuple[Sound, tuple[str, ...]]:
    """Decode a recording to mono at 16 kHz.

    Args:
        source: the recording
        where: the recording, for messages

    Returns:
        the sound, and remarks on it, such as that its channels cancel

    Raises:
        ConversationError: there is no sound in it
        OSError: it cannot be decoded
    """
    samples, defects = _decoded(source, where, apart=False)
    return Sound(source.name, samples, SAMPLE_RATE), tuple(f"{source.name}: {each}" for each in defects.values())


def cut(sound: Sound, start_s: float, end_s: float, where: str) -> Sound:
    """Return a part of a recording at 16 kHz, to the sample.

    Args:
        sound: the recording
        start_s: where the part begins, in seconds
        end_s: where it ends
        where: file and turn, for the message

    Raises:
        ConversationError: the part is empty or ends after the sound
    """
    if not start_s < end_s:
        raise ConversationError(f"{where}: from {start_s:g} s to {end_s:g} s; expected an end after a start")
    if end_s > _seconds(sound) + _TOLERANCE_S:
        raise ConversationError(f"{where}: ends at {end_s:g} s, but {sound.name} at {_seconds(sound):.2f} s")
    return Sound(sound.name, sound.samples[:, round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)], SAMPLE_RATE)


def fit(segment: Segment, seconds: float, where: str) -> Segment:
    """Return a segment, cut at the sound's end if it is rounded to a little after it.

    Args:
        segment: the segment
        seconds: where the sound ends
        where: the segment, for the message

    Raises:
        SegmentError: it is of another recording
    """
    if segment.start_s >= seconds or segment.end_s > seconds + _TOLERANCE_S:
        raise SegmentError(
            f"{where} is from {segment.start_s:g} s to {segment.end_s:g} s, but the sound ends at "
            f"{seconds:.2f} s; is it of another recording?"
        )
    return replace(segment, end_s=min(segment.end_s, seconds))


def _of_channels(source: AudioSource, where: str, check_time: Callable[[], None]) -> Conversation:
    samples, defects = _decoded(source, where, apart=True)
    if len(samples) < 2:
        raise ConversationError(f"{where}: one channel; expected a channel for each speaker")
    if any(np.abs(each - samples[0]).max() < _ALIKE for each in samples[1:]):
        raise ConversationError(f"{where}: its channels hold the same sound; expected a channel for each speaker")
    sounds = [Sound(source.name, each[None], SAMPLE_RATE) for each in samples]
    found: list[tuple[Segment, Sound]] = []
    for number, sound in enumerate(sounds, start=1):
        check_time()
        found += [(segment, sound) for segment in _spoken(sound, f"channel {number}")]
    mono, _ = downmix(samples)
    whole = Sound(source.name, mono[None], SAMPLE_RATE)
    if not found:
        raise ConversationError(f"{where}: no speech was found in its {_seconds(whole):.1f} s")
    remarks = tuple(f"{source.name}: {each}" for each in defects.values())
    return Conversation(source.name, tuple(_turns(found, source.name)), remarks, whole, is_found=True)


def _decoded(source: AudioSource, where: str, apart: bool) -> tuple[np.ndarray, dict[str, str]]:
    """Samples as the stored form has them, in place: so a turn's sound is a part of them and no copy."""
    try:
        samples, defects = decode_recording(source, apart)
    except NoSoundError as error:
        raise ConversationError(f"{where}: {error}") from error
    np.clip(np.rint(np.multiply(samples, 32_768, out=samples), out=samples), -32_768, 32_767, out=samples)
    return np.divide(samples, 32_768, out=samples), defects


def _spoken(sound: Sound, speaker: str) -> list[Segment]:
    from emofuse.inference.voice_activity import find_turns  # here, since torch is slow to start

    spans = find_turns(sound.samples[0])
    return [Segment(span.start / SAMPLE_RATE, span.end / SAMPLE_RATE, speaker) for span in spans]


def _given(segments: "Segments", where: str, sound: Sound) -> tuple[list[Segment], tuple[str, ...]]:
    """Segments that are given, and remarks on them."""
    seconds = _seconds(sound)
    if callable(segments):
        return _clipped(segments(sound), seconds), ()
    if not isinstance(segments, Path):
        return _fitting(segments, seconds, where), ()
    (file,) = one_each(segments, [Path(sound.name)])
    found = _fitting(read_segments(file, sound.name), seconds, str(file))
    other = name_beside(file, sound.name)
    remark = f"{file} names the recording {other} and not {Path(sound.name).stem}; is it of another recording?"
    return found, (remark,) if other else ()


def _clipped(segments: Sequence[Segment], seconds: float) -> list[Segment]:
    """A diarizer's segments within the sound; it hears windows, the last of which may reach beyond."""
    inside = (replace(each, end_s=min(each.end_s, seconds)) for each in segments)
    return [each for each in inside if each.start_s < each.end_s]


def _fitting(segments: Sequence[Segment], seconds: float, where: str) -> list[Segment]:
    return [fit(each, seconds, f"{where}: segment {number}") for number, each in enumerate(segments, start=1)]


def _turns(found: Sequence[tuple[Segment, Sound]], name: str) -> Iterator[Turn]:
    for segment, sound in sorted(found, key=lambda each: (each[0].start_s, each[0].end_s)):
        start, end = round(segment.start_s * SAMPLE_RATE), round(segment.end_s * SAMPLE_RATE)
        clip = Sound(name, sound.samples[:, start:end], SAMPLE_RATE)
        yield Turn(clip, segment.text, segment.speaker, segment.start_s, segment.end_s, name)


def _seconds(sound: Sound) -> float:
    return sound.samples.shape[1] / sound.rate
