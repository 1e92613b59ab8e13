"""The log-mel spectrogram that Whisper reads, a hundred frames per second.

Radford et al. 2023 (https://arxiv.org/abs/2212.04356), section 2.2: 80 bands, windows of 25 ms, steps of 10 ms, scaled
by the loudest place of the clip. The bands are those of Slaney's Auditory Toolbox. Written here, since transformers'
extractor of the same numbers takes a second to import.
"""

from functools import cache

import numpy as np

from emofuse.core.schema import SAMPLE_RATE

__all__ = ["STEP", "WINDOW", "log_mel"]

STEP = SAMPLE_RATE // 100
"""Samples from one step to the next."""

WINDOW = SAMPLE_RATE // 40
"""Samples of a window."""

_FLOOR = 1e-10
_RANGE = 8.0
"""Powers of ten below the loudest place that are distinguished."""


def log_mel(samples: np.ndarray, steps: int, bands: int = 80) -> np.ndarray:
    """Return the spectrogram of a clip, float32 ``[bands, steps]``; silence follows where the clip is shorter.

    Args:
        samples: float32 ``[n_samples]`` at 16 kHz; what is beyond the steps is left out
        steps: of 10 ms
        bands: mel bands
    """
    padded = np.zeros(steps * STEP, np.float32)
    kept = samples[: len(padded)]
    padded[: len(kept)] = kept
    mirrored = np.pad(padded, WINDOW // 2, "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, WINDOW)[::STEP][:steps]
    hann = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(windows * hann)))
    # Band by band: a product of matrices would start numpy's own threads, which wait for each other.
    mel = np.stack([(power[:, start:end] * weights).sum(axis=1) for start, end, weights in _filters(bands)])
    logarithm = np.log10(np.maximum(mel, _FLOOR))
    scaled: np.ndarray = (np.maximum(logarithm, logarithm.max() - _RANGE) + 4) / 4
    return scaled.astype(np.float32)


@cache
def _filters(bands: int) -> list[tuple[int, int, np.ndarray]]:
    """Triangles of area one over the frequencies of a window, each from its first to its last, float32."""
    edges = _hertz(np.linspace(0.0, _mel(SAMPLE_RATE / 2), bands + 2))
    frequencies = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])[:, None]
    places = [np.flatnonzero(each) for each in triangles]
    ends = [(int(each[0]), int(each[-1]) + 1) if len(each) else (0, 0) for each in places]
    return [(a, b, each[a:b].astype(np.float32)) for (a, b), each in zip(ends, triangles, strict=True)]


_LINEAR = 200 / 3
"""Hz of a mel below a kilohertz, which is 15 mel; above, 27 mel are a factor of 6.4."""


def _mel(hertz: float) -> float:
    return float(15 + np.log(hertz / 1000) * 27 / np.log(6.4))


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * _LINEAR, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
