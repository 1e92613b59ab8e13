"""The stored form of a clip: 16 kHz, mono, 16-bit FLAC."""

import io

import numpy as np
import soundfile

from emofuse.core.schema import SAMPLE_RATE

__all__ = ["decode", "encode"]


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
