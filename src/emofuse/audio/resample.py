"""Mixing to mono, resampling to 16 kHz, and rescaling of samples that are out of range."""

import math
from functools import lru_cache, reduce
from typing import TYPE_CHECKING

import numpy as np

from emofuse.core.schema import SAMPLE_RATE

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

__all__ = ["Channels", "Levels", "Resampler", "downmix", "into_range", "resample"]

_LARGEST_FILTER = 10_000_000
"""Taps of the resampler's filter above which the source's rate is rounded first; it takes 40 bytes a tap to make."""

_CANCELLED = 0.05
"""Power of the channels' mean, against that of as many channels of unrelated sound, below which they cancel."""

_LOUDEST = 8.0
"""Largest sample of sound that is only loud; lossy decoders and hot recordings stay well below."""

_CLIPPED = 0.01
"""Share of samples beyond full scale above which the cut-off is reported."""

_INT16 = 32_768

_REACH = 8
"""Samples at the lower of the two rates that the resampler's filter reaches to either side, and two more."""


class Levels:
    """How loud samples are, which may come piece by piece; see :func:`into_range`.

    Attributes:
        finite: whether all are numbers
    """

    def __init__(self) -> None:
        self.finite = True
        self._peak, self._beyond, self._count, self._whole = 0.0, 0, 0, True

    def add(self, samples: np.ndarray) -> None:
        """Take some more, float32 ``[channels, n_samples]``, not empty."""
        peak = max(float(samples.max()), -float(samples.min()))
        self.finite = self.finite and math.isfinite(peak)
        self._peak = max(self._peak, peak)
        self._count += samples.size
        if peak > 1:
            self._beyond += int(np.count_nonzero((samples > 1) | (samples < -1)))
        if self._whole and (samples != np.rint(samples)).any():
            self._whole = False

    def verdict(self) -> tuple[float, dict[str, str]]:
        """Return what samples are to be multiplied by, and what is wrong with them, by defect.

        Raises:
            ValueError: they are far beyond full scale, and nothing says what full scale is
        """
        if self._peak <= 1:
            return 1.0, {}
        if self._peak > _LOUDEST:
            if self._peak > _INT16 or not self._whole:
                raise ValueError(
                    f"samples reach {self._peak:,.1f} where full scale is 1; export it again, as 16-bit integers"
                )
            words = f"whole numbers up to {self._peak:,.0f}, as of 16-bit integers, which were divided by 32,768"
            return 1 / _INT16, {"audio_rescaled": words}
        share = self._beyond / self._count
        faults = {"audio_clipped": f"{share:.0%} of samples are beyond full scale and are cut off there"}
        return 1.0, faults if share > _CLIPPED else {}


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
    levels = Levels()
    levels.add(samples)
    factor, defects = levels.verdict()
    return (samples if factor == 1 else samples * np.float32(factor)), defects


class Channels:
    """Whether channels cancel each other, judged by all of their samples, which may come piece by piece."""

    def __init__(self) -> None:
        self._powers: list[float] = []
        self._of_mean = 0.0

    def add(self, samples: np.ndarray) -> np.ndarray:
        """Take some more, float32 ``[channels, n_samples]``, and return their mean."""
        if len(samples) == 1:
            return samples[0]
        # Channel by channel: numpy's mean goes sample by sample, which took half of an ingest.
        total: np.ndarray = reduce(np.add, samples)
        mean: np.ndarray = total / np.float32(len(samples))
        powers = [float(np.dot(each, each)) for each in samples]
        self._powers = [sum(each) for each in zip(self._powers or [0.0] * len(powers), powers, strict=True)]
        self._of_mean += float(np.dot(mean, mean))
        return mean

    def loudest(self) -> int | None:
        """Return the channel to take in place of the mean; None if they do not cancel."""
        if self._of_mean * len(self._powers) ** 2 >= _CANCELLED * sum(self._powers):
            return None
        return int(np.argmax(self._powers))


def downmix(samples: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """Average the channels: ``[channels, n_samples]`` to ``[n_samples]``; where they cancel, take the loudest.

    Returns:
        the samples, and what is wrong with them, by defect
    """
    channels = Channels()
    mean = channels.add(samples)
    loudest = channels.loudest()
    if loudest is None:
        return mean, {}
    return samples[loudest], {"audio_channels_cancel": f"its channels cancel, so channel {loudest + 1} was taken"}


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample float32 ``[n_samples]`` from ``rate`` Hz to 16 kHz with torchaudio's windowed-sinc filter."""
    rate = _near(rate)
    if rate == SAMPLE_RATE:
        return samples
    import torch

    result: np.ndarray = _resampler(rate)(torch.from_numpy(samples)).numpy()
    return result


class Resampler:
    """As :func:`resample`, of sound that comes piece by piece: each is resampled with what stands around it.

    Args:
        rate: in Hz
    """

    def __init__(self, rate: int) -> None:
        self._rate = _near(rate)
        step = self._rate // math.gcd(self._rate, SAMPLE_RATE)
        reach = math.ceil(_REACH * max(1.0, self._rate / SAMPLE_RATE)) + step
        self._step, self._around = step, -(-reach // step) * step
        self._left, self._before = np.zeros(0, np.float32), 0

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Return what can be resampled with some more, both float32 ``[n_samples]``."""
        if self._rate == SAMPLE_RATE:
            return samples.copy()
        self._left = np.concatenate([self._left, samples])
        whole = (len(self._left) - self._before - self._around) // self._step * self._step
        return self._take(whole) if whole > 0 else np.zeros(0, np.float32)

    def end(self) -> np.ndarray:
        """Return the rest."""
        if not len(self._left) - self._before:
            return np.zeros(0, np.float32)
        return resample(self._left, self._rate)[self._before * SAMPLE_RATE // self._rate :]

    def _take(self, whole: int) -> np.ndarray:
        """Resample so many samples, a multiple of the step, behind those that are kept for their sake."""
        start, stop = self._before * SAMPLE_RATE // self._rate, (self._before + whole) * SAMPLE_RATE // self._rate
        done = resample(self._left[: self._before + whole + self._around], self._rate)[start:stop]
        drop = max(0, self._before + whole - self._around)
        self._left, self._before = self._left[drop:].copy(), self._before + whole - drop
        return done


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
