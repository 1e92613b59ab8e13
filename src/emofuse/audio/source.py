"""Where a clip's sound comes from."""

from typing import Protocol

import numpy as np

__all__ = ["AudioSource"]


class AudioSource(Protocol):
    """Anything that yields sound: a file on disk, or a synthesizer's instructions. Must be picklable."""

    @property
    def name(self) -> str:
        """File name that is stored beside the audio."""

    def load(self) -> tuple[np.ndarray, int]:
        """Return samples, float32 ``[channels, n_samples]`` in [-1, 1], and their rate in Hz."""
