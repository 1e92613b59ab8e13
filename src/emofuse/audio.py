"""Sound from any source to the stored form: 16 kHz, mono, 16-bit FLAC, and back."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional

from emofuse.corpora.base import AudioSource
from emofuse.schema import SAMPLE_RATE

__all__ = ["AudioFile", "Clip", "decode", "downmix", "encode", "prepare", "resample"]


@dataclass(frozen=True)
class AudioFile:
    """A sound file on disk, in any format that libsndfile reads (wav, flac, mp3, ogg)."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    def load(self) -> tuple[np.ndarray, int]:
        """Return samples, float32 ``[channels, n_samples]``, and their rate in Hz.

        Raises:
            OSError: the file is missing or cannot be decoded
        """
        try:
            samples, rate = soundfile.read(self.path, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise OSError(f"{self.path}: {error}") from error
        return samples.T, rate


@dataclass(frozen=True)
class Clip:
    """A clip in its stored form.

    Attributes:
        data: a whole FLAC file, 16 kHz mono, 16 bits; None where the sound is missing
        sha256: digest of its samples, so that the same sound has the same digest whatever encoder wrote it
        n_samples: at 16 kHz
        defects: such as ``audio_missing``, ``audio_too_long``
    """

    data: bytes | None
    sha256: str | None
    n_samples: int
    defects: tuple[str, ...] = ()


def prepare(source: AudioSource, max_seconds: float) -> Clip:
    """Bring one source to the stored form; what is wrong with it becomes a defect and never an exception.

    Args:
        source: where the sound comes from
        max_seconds: a longer clip is cut there and has the defect ``audio_too_long``
    """
    try:
        samples, rate = source.load()
    except (OSError, ValueError):
        return Clip(None, None, 0, ("audio_unreadable",))
    if samples.size == 0:
        return Clip(None, None, 0, ("audio_empty",))
    if not np.isfinite(samples).all():
        return Clip(None, None, 0, ("audio_not_finite",))
    defects = []
    mono = resample(downmix(samples), rate)
    limit = int(max_seconds * SAMPLE_RATE)
    if len(mono) > limit:
        mono = mono[:limit]
        defects.append("audio_too_long")
    if not mono.any():
        defects.append("audio_silent")
    pcm = np.clip(np.rint(mono * 32_767), -32_768, 32_767).astype("<i2")
    return Clip(encode(pcm), hashlib.sha256(pcm.tobytes()).hexdigest(), len(pcm), tuple(defects))


def downmix(samples: np.ndarray) -> np.ndarray:
    """Average the channels: ``[channels, n_samples]`` to ``[n_samples]``."""
    return samples.mean(axis=0, dtype=np.float32)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample float32 ``[n_samples]`` from ``rate`` Hz to 16 kHz with torchaudio's windowed-sinc filter."""
    if rate == SAMPLE_RATE:
        return samples
    result: np.ndarray = torchaudio.functional.resample(torch.from_numpy(samples), rate, SAMPLE_RATE).numpy()
    return result


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
