"""Sound from any source to the stored form: 16 kHz, mono, 16-bit FLAC, and back."""

import hashlib
import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

from emofuse.core.schema import SAMPLE_RATE

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

    from emofuse.audio.source import AudioSource

__all__ = ["AudioFile", "Clip", "Sound", "decode", "downmix", "encode", "prepare", "read_sound", "resample"]

_SHORTEST = 0.1
"""Seconds; a shorter clip is kept, and listed."""

_NOT_RECOGNISED = 1
"""libsndfile's code for a file in none of its formats."""

_UNBOUNDED = 0x7FFF0000
"""Writers to a pipe, which cannot come back to fill in a WAV file's length, leave one from here up."""

_LARGEST_FILTER = 100_000_000
"""Taps of the resampler's filter above which the source's rate is rounded first."""


@dataclass(frozen=True)
class AudioFile:
    """A sound file on disk: wav, flac, mp3, ogg through libsndfile, mp4 and what else FFmpeg reads through PyAV.

    The content decides, not the ending of the name, so a mislabelled file is read for what it is.
    """

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    def load(self) -> tuple[np.ndarray, int]:
        """Return samples, float32 ``[channels, n_samples]``, and their rate in Hz.

        A file that was cut off is refused where its format tells: wav, flac and mp4. Of an mp3 the part is read, and an
        ogg file has no samples then.

        Raises:
            FileNotFoundError: the file is missing
            OSError: it is empty, cut off, or no sound that can be decoded; the message begins with its path
        """
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: not found")
        # Unbuffered, so that the place in the file is the same for Python and for libsndfile, which gets its number.
        with self.path.open("rb", buffering=0) as stream:
            try:
                _refuse_cut(stream, self.path.stat().st_size)
                stream.seek(0)
                return _read(stream)
            except (OSError, ValueError) as error:
                raise OSError(f"{self.path}: {error}") from error


@dataclass(frozen=True)
class Sound:
    """Sound that is in memory already.

    Attributes:
        name: for messages
        samples: float32 ``[channels, n_samples]`` in [-1, 1]
        rate: in Hz
    """

    name: str
    samples: np.ndarray
    rate: int

    def load(self) -> tuple[np.ndarray, int]:
        """Return samples and rate."""
        return self.samples, self.rate


def read_sound(data: bytes, name: str) -> Sound:
    """Decode a whole sound file that is in memory, of any format that :class:`AudioFile` reads.

    Raises:
        OSError: it is empty, cut off, or no sound that can be decoded; the message begins with ``name``
    """
    stream = io.BytesIO(data)
    try:
        _refuse_cut(stream, len(data))
        stream.seek(0)
        return Sound(name, *_read(stream))
    except (OSError, ValueError) as error:
        raise OSError(f"{name}: {error}") from error


def _read(stream: BinaryIO) -> tuple[np.ndarray, int]:
    try:
        # A file by its number, since soundfile takes the ending of a named one for its format.
        source = stream if isinstance(stream, io.BytesIO) else stream.fileno()
        with soundfile.SoundFile(source, closefd=False) as file:
            samples = file.read(dtype="float32", always_2d=True)
            # Of an mp3 the number of samples is an estimate.
            if len(samples) < file.frames and file.format != "MP3":
                raise ValueError(f"cut off: {len(samples)} of {file.frames} samples can be read")
            return samples.T, file.samplerate
    except soundfile.LibsndfileError as error:
        if error.code != _NOT_RECOGNISED:
            raise OSError(error.error_string) from error
    stream.seek(0)
    return _read_with_ffmpeg(stream.read())


def _read_with_ffmpeg(data: bytes) -> tuple[np.ndarray, int]:
    import av

    try:
        # From memory, since FFmpeg would believe a file's name rather than what is in it.
        # A file may be a playlist that names others; no protocol is allowed, so none of them is opened.
        options = {"protocol_whitelist": "none"}
        with av.open(io.BytesIO(data), mode="r", options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise ValueError("no sound in it")
            rate = container.streams.audio[0].rate
            resampler = av.AudioResampler(format="fltp")  # planes of float; rate and channels stay as they are
            frames = [*container.decode(audio=0), None]
            chunks = [each.to_ndarray() for frame in frames for each in resampler.resample(frame)]
    except av.FFmpegError as error:
        raise OSError(f"not a sound file that can be decoded: {error.strerror}") from error
    return np.concatenate(chunks, axis=1) if chunks else np.zeros((1, 0), np.float32), rate


def _refuse_cut(stream: BinaryIO, size: int) -> None:
    """Compare the size of a WAV or MP4 file with what it says of itself; decoders take a part for the whole."""
    if size == 0:
        raise ValueError("empty, 0 bytes")
    head = stream.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        ends = [end for kind, end in _wav_chunks(stream, size) if kind == b"data"]
    elif head[4:8] == b"ftyp":
        ends = [end for kind, end in _mp4_boxes(stream, size) if kind in (b"mdat", b"moov")]
    else:
        return
    if max(ends, default=0) > size:
        raise ValueError(f"cut off: by its headers it should have at least {max(ends)} bytes, but it has {size}")


def _wav_chunks(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    place = 12
    while place + 8 <= size:
        stream.seek(place)
        kind, length = struct.unpack("<4sI", stream.read(8))
        if length >= _UNBOUNDED:
            return
        yield kind, place + 8 + length
        place += 8 + length + length % 2


def _mp4_boxes(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    place = 0
    while place + 8 <= size:
        stream.seek(place)
        length, kind, long = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
        length = {0: size - place, 1: long}.get(length, length)
        if length < 8:
            return
        yield kind, place + length
        place += length


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


def prepare(source: "AudioSource", max_seconds: float) -> Clip:
    """Bring one source to the stored form; what is wrong with it becomes a defect and never an exception.

    Args:
        source: where the sound comes from
        max_seconds: a longer clip is cut there and has the defect ``audio_too_long``
    """
    try:
        samples, rate = source.load()
    except FileNotFoundError as error:
        return _without_sound("audio_missing", str(error))
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        return _without_sound("audio_unreadable", str(error) or f"{source.name}: {type(error).__name__}")
    if samples.size == 0:
        return _without_sound("audio_empty", f"{source.name}: no samples in it")
    if not np.isfinite(samples).all():
        return _without_sound("audio_not_finite", f"{source.name}: a sample is not a finite number")
    faults = {}
    # A second more than is kept, so that what is cut off is not resampled, and its end is not heard in what is kept.
    mono = resample(downmix(samples[:, : math.ceil((max_seconds + 1) * rate)]), rate)
    limit = int(max_seconds * SAMPLE_RATE)
    if len(mono) > limit:
        mono = mono[:limit]
        faults["audio_too_long"] = f"{samples.shape[1] / rate:.1f} s, cut at {max_seconds:g} s"
    if len(mono) < _SHORTEST * SAMPLE_RATE:
        faults["audio_too_short"] = f"{len(mono) / SAMPLE_RATE:.3f} s, under {_SHORTEST:g} s"
    # The scale that readers of 16-bit files divide by, so that such a file at 16 kHz is stored sample for sample.
    pcm = np.clip(np.rint(mono * 32_768), -32_768, 32_767).astype("<i2")
    if not pcm.any():
        faults["audio_silent"] = "every sample is zero"
    reason = f"{source.name}: {'; '.join(faults.values())}" if faults else None
    return Clip(encode(pcm), hashlib.sha256(pcm.tobytes()).hexdigest(), len(pcm), tuple(faults), reason)


def _without_sound(defect: str, reason: str) -> Clip:
    return Clip(None, None, 0, (defect,), reason)


def downmix(samples: np.ndarray) -> np.ndarray:
    """Average the channels: ``[channels, n_samples]`` to ``[n_samples]``."""
    # Channel by channel: numpy's mean goes sample by sample, which took half of an ingest.
    total: np.ndarray = reduce(np.add, samples)
    return total / np.float32(len(samples))


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample float32 ``[n_samples]`` from ``rate`` Hz to 16 kHz with torchaudio's windowed-sinc filter."""
    if rate * SAMPLE_RATE > _LARGEST_FILTER * math.gcd(rate, SAMPLE_RATE) ** 2:
        # The filter grows with the product of the reduced rates, to gigabytes for 44,101 Hz: 44,100 is near enough.
        rate = round(rate, -1)
    if rate == SAMPLE_RATE:
        return samples
    import torch

    result: np.ndarray = _resampler(rate)(torch.from_numpy(samples)).numpy()
    return result


@lru_cache
def _resampler(rate: int) -> "Resample":
    # Imported here, since it takes seconds and much of speech is at 16 kHz already.
    from torchaudio.transforms import Resample

    return Resample(rate, SAMPLE_RATE)


def encode(pcm: np.ndarray) -> bytes:
    """Write int16 ``[n_samples]`` at 16 kHz as a FLAC file in memory."""
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    """Read a stored clip: float32 ``[n_samples]`` at 16 kHz, in [-1, 1]."""
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    result: np.ndarray = samples
    return result
