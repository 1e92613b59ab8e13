"""Channels to one, any rate to 16 kHz, and samples into the range that they should have."""

import math
from functools import lru_cache, reduce
from typing import TYPE_CHECKING

import numpy as np

from emofuse.core.schema import SAMPLE_RATE

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

__all__ = ["downmix", "into_range", "resample"]

_LARGEST_FILTER = 10_000_000
"""Taps of the resampler's filter above which the source's rate is rounded first; it takes 40 bytes a tap to make."""

_CANCELLED = 0.05
"""Power of the channels' mean, against that of as many channels of unrelated sound, below which they cancel."""

_LOUDEST = 8.0
"""Largest sample of sound that is only loud; lossy decoders and hot recordings stay well below."""

_CLIPPED = 0.01
"""Share of samples beyond full scale above which the cut-off is reported."""

_INT16 = 32_768


def into_range(samples: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """Bring samples into [-1, 1] if that is what they should have; what is a little beyond is left to be cut off.

    Float files may hold the numbers of 16-bit integers. Where all samples are whole numbers there is no doubt, and they
    are divided by 32,768.

    Args:
        samples: float32 ``[channels, n_samples]``, finite, not empty

    Returns:
        the samples, and what is wrong with them, by defect

    Raises:
        ValueError: samples are far beyond full scale, and nothing says what full scale is
    """
    peak = max(float(samples.max()), -float(samples.min()))
    if peak <= 1:
        return samples, {}
    if peak > _LOUDEST:
        if peak > _INT16 or (samples != np.rint(samples)).any():
            raise ValueError(f"samples reach {peak:,.1f} where full scale is 1; export it again, as 16-bit integers")
        words = f"whole numbers up to {peak:,.0f}, as of 16-bit integers, which were divided by 32,768"
        return samples / np.float32(_INT16), {"audio_rescaled": words}
    share = float(np.mean((samples > 1) | (samples < -1)))
    faults = {"audio_clipped": f"{share:.0%} of samples are beyond full scale and are cut off there"}
    return samples, faults if share > _CLIPPED else {}


def downmix(samples: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """Average the channels: ``[channels, n_samples]`` to ``[n_samples]``; where they cancel, take the loudest.

    Returns:
        the samples, and what is wrong with them, by defect
    """
    if len(samples) == 1:
        return samples[0], {}
    # Channel by channel: numpy's mean goes sample by sample, which took half of an ingest.
    total: np.ndarray = reduce(np.add, samples)
    mean = total / np.float32(len(samples))
    powers = [float(np.dot(each, each)) for each in samples]
    if float(np.dot(mean, mean)) * len(samples) ** 2 >= _CANCELLED * sum(powers):
        return mean, {}
    loudest = int(np.argmax(powers))
    return samples[loudest], {"audio_channels_cancel": f"its channels cancel, so channel {loudest + 1} was taken"}


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample float32 ``[n_samples]`` from ``rate`` Hz to 16 kHz with torchaudio's windowed-sinc filter."""
    rate = _near(rate)
    if rate == SAMPLE_RATE:
        return samples
    import torch

    result: np.ndarray = _resampler(rate)(torch.from_numpy(samples)).numpy()
    return result


def _near(rate: int) -> int:
    """The rate itself, or one close by if its filter would be too large.

    The filter grows with the product of the reduced rates, to gigabytes for 44,101 Hz: 44,100 is near enough.
    """
    step = 1
    while (near := round(rate / step) * step) * SAMPLE_RATE > _LARGEST_FILTER * math.gcd(near, SAMPLE_RATE) ** 2:
        step *= 10
    return near


@lru_cache
def _resampler(rate: int) -> "Resample":
    # Imported here, since it takes seconds and much of speech is at 16 kHz already.
    from torchaudio.transforms import Resample

    return Resample(rate, SAMPLE_RATE)
