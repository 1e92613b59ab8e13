"""Log-mel spectrogram frames, computed clip by clip with torchaudio: no weights, no labels."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torchaudio.transforms import MelSpectrogram

from emofuse.core.params import STRICT
from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders.base import code_version, series

__all__ = ["Config", "LogMel"]

_FLOOR = 1e-6


@dataclass(frozen=True, config=STRICT)
class Config:
    """Options of the family.

    Attributes:
        n_mels: number of mel bands
        window_ms: length of the Hann window
        hop_ms: distance between frames
    """

    n_mels: Annotated[int, Field(ge=8, le=256)] = 40
    window_ms: Annotated[int, Field(ge=5, le=200)] = 25
    hop_ms: Annotated[int, Field(ge=5, le=200)] = 10


class LogMel:
    """Natural logarithm of mel-band power; see :class:`emofuse.encoders.base.Encoder`."""

    reads = "audio"
    modality: Literal["audio"] = "audio"
    cost = None

    def __init__(self, config: Config) -> None:
        self.dim = config.n_mels
        window, hop = (SAMPLE_RATE * ms // 1000 for ms in (config.window_ms, config.hop_ms))
        self.identity: dict[str, Any] = {
            "id": "logmel",
            "revision": "1",
            "layer": f"{config.n_mels} bands, {config.window_ms} ms window",
            "dtype": "float32",
            "frame_rate": 1000 / config.hop_ms,
            "labels_seen": False,
            "code": code_version(__name__),
            "versions": series("torch", "torchaudio"),
        }
        self._window = window
        n_fft = 1 << (window - 1).bit_length()
        self._mel = MelSpectrogram(
            SAMPLE_RATE, n_fft=n_fft, win_length=window, hop_length=hop, n_mels=config.n_mels, pad_mode="constant"
        )

    def encode(self, contents: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield float32 ``[1 + n_samples // hop, n_mels]`` for each clip; no frame if it is shorter than the window."""
        for samples in contents:
            if len(samples) < self._window:
                yield np.zeros((0, self.dim), np.float32)
            else:
                yield torch.log(self._mel(torch.from_numpy(samples)).T + _FLOOR).numpy()
