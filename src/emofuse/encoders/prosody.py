"""Classical prosody, frame by frame: pitch, voicing, energy and the spectrum's shape. No weights, no labels.

Pitch and voicing follow Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise
ratio of a sampled sound" (1993): the autocorrelation of a Hann-windowed frame, divided by that of the window, has its
best peak at the period. The paper says: a peak at lag τ has the strength r(τ) - 0.01 log2(floor·τ), and a frame is
unvoiced if 0.45 + max(0, 2 - (peak / global peak) / (0.03 / 1.45)) is more. Our reading: each frame decides alone,
without the paper's search for the cheapest path, so that a frame depends on its own samples and the clip's peak only.
The spectral columns follow Eyben and others, "The Geneva Minimalistic Acoustic Parameter Set" (2016), and Peeters, "A
large set of audio features for sound description" (2004).
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT
from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders.base import EncoderError, code_version, series

__all__ = ["COLUMNS", "Config", "Prosody"]

COLUMNS = (
    "pitch",  # semitones above 27.5 Hz; NaN where unvoiced
    "voicing",  # autocorrelation at the period, 0 to 1
    "energy",  # root mean square, dB of full scale
    "crossings",  # share of neighbouring samples of different sign
    "centroid",  # mean of the power spectrum, kHz
    "spread",  # its standard deviation, kHz
    "rolloff",  # 85 % of the power lie below, kHz
    "flatness",  # geometric over arithmetic mean of the power, dB
    "flux",  # distance of the normalised magnitude spectrum from the frame before
    "alpha",  # power in 50 to 1,000 Hz over that in 1 to 5 kHz, dB
    "hammarberg",  # highest peak up to 2 kHz over that in 2 to 5 kHz, dB
    "slope",  # of the logarithmic spectrum from 0.5 to 1.5 kHz, dB/kHz
)

_TINY = 1e-12

_FINE = 4
"""Lags a sample: a voice's peaks are sharper than samples, and a peak that is missed loses to one an octave below."""

_RATE = _FINE * SAMPLE_RATE

_OCTAVE_COST, _VOICING_THRESHOLD, _SILENCE_THRESHOLD = 0.01, 0.45, 0.03


@dataclass(frozen=True, config=STRICT)
class Config:
    """Options of the family.

    Attributes:
        window_ms: length of the Hann window; three periods of ``floor`` at least
        hop_ms: distance between frames
        floor: lowest pitch, Hz
        ceiling: highest pitch, Hz
    """

    window_ms: Annotated[int, Field(ge=10, le=200)] = 40
    hop_ms: Annotated[int, Field(ge=5, le=200)] = 10
    floor: Annotated[float, Field(ge=40, le=400)] = 75.0
    ceiling: Annotated[float, Field(ge=100, le=1000)] = 500.0


class Prosody:
    """One column a name of :data:`COLUMNS`; see :class:`emofuse.encoders.base.Encoder`.

    Raises:
        EncoderError: the pitch range is empty, or the window too short for it
    """

    reads = "audio"
    modality: Literal["audio"] = "audio"
    dim = len(COLUMNS)
    cost = None

    def __init__(self, config: Config) -> None:
        if config.floor >= config.ceiling:
            raise EncoderError(f"floor {config.floor}: must be below ceiling {config.ceiling}")
        if config.window_ms * config.floor < 3000:
            raise EncoderError(f"window_ms {config.window_ms}: three periods of {config.floor} Hz are longer")
        self._floor = config.floor
        self._size, self._hop = (SAMPLE_RATE * each // 1000 for each in (config.window_ms, config.hop_ms))
        self._lags = np.arange(int(_RATE / config.ceiling), int(_RATE / config.floor) + 1)
        self._window = np.hanning(self._size + 1)[:-1]
        # Twice the window, so that the circular autocorrelation is the linear one.
        self._n_fft = 1 << (2 * self._size - 1).bit_length()
        self._window_correlation = self._correlate(np.abs(np.fft.rfft(self._window, self._n_fft)) ** 2)
        self.identity: dict[str, Any] = {
            "id": "prosody",
            "revision": "1",
            "layer": f"{', '.join(COLUMNS)}; {config.window_ms} ms window, {config.floor:g} to {config.ceiling:g} Hz",
            "dtype": "float64",
            "frame_rate": 1000 / config.hop_ms,
            "labels_seen": False,
            "code": code_version(__name__),
            "versions": series("numpy"),
        }

    def encode(self, contents: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield float32 ``[1 + (n_samples - window) // hop, 12]`` for each clip; no frame if it is too short."""
        for samples in contents:
            if len(samples) < self._size:
                yield np.zeros((0, self.dim), np.float32)
            else:
                yield self._frames(samples.astype(np.float64)).astype(np.float32)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        frames_TN = sliding_window_view(samples, self._size)[:: self._hop]
        centred_TN = frames_TN - frames_TN.mean(axis=1, keepdims=True)
        power_TF = np.abs(np.fft.rfft(centred_TN * self._window, self._n_fft)) ** 2
        loudness = np.abs(centred_TN).max(axis=1) / max(np.abs(samples - samples.mean()).max(), _TINY)
        pitch, voicing = self._pitch(power_TF, loudness)
        energy = 20 * np.log10(np.sqrt(np.square(centred_TN).mean(axis=1)) + 1e-6)
        crossings = (np.diff(np.signbit(centred_TN), axis=1)).mean(axis=1)
        return np.column_stack([pitch, voicing, energy, crossings, *_shape(power_TF)])

    def _pitch(self, power_TF: np.ndarray, loudness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        correlation_TL = self._correlate(power_TF)
        scale = correlation_TL[:, :1] + _TINY
        ratio_TL = correlation_TL / scale / (self._window_correlation / self._window_correlation[0])
        lags = self._lags
        before, here, after = (ratio_TL[:, lags + shift] for shift in (-1, 0, 1))
        peak = (here >= before) & (here > after)
        strength_TL = np.where(peak, here - _OCTAVE_COST * np.log2(self._floor * lags / _RATE), -np.inf)
        best = strength_TL.argmax(axis=1)
        rows = np.arange(len(best))
        left, middle, right = (each[rows, best] for each in (before, here, after))
        curvature = np.minimum(left - 2 * middle + right, -_TINY)
        period = lags[best] + 0.5 * (left - right) / curvature
        silence = np.maximum(0, 2 - loudness / (_SILENCE_THRESHOLD / (1 + _VOICING_THRESHOLD)))
        voiced = strength_TL[rows, best] > _VOICING_THRESHOLD + silence
        semitones = 12 * np.log2(_RATE / period / 27.5)
        voicing = np.where(peak.any(axis=1), np.clip(middle, 0, 1), 0.0)
        return np.where(voiced, semitones, np.nan), voicing

    def _correlate(self, power: np.ndarray) -> np.ndarray:
        return np.fft.irfft(power, _FINE * self._n_fft)[..., : self._lags[-1] + 2]


def _shape(power_TF: np.ndarray) -> list[np.ndarray]:
    khz = np.linspace(0, SAMPLE_RATE / 2000, power_TF.shape[1])
    power_TF = power_TF + _TINY
    share_TF = power_TF / power_TF.sum(axis=1, keepdims=True)
    centroid = share_TF @ khz
    spread = np.sqrt(np.maximum(share_TF @ khz**2 - centroid**2, 0))
    rolloff = khz[(share_TF.cumsum(axis=1) < 0.85).sum(axis=1)]
    decibel_TF = 10 * np.log10(power_TF)
    flatness = decibel_TF.mean(axis=1) - 10 * np.log10(power_TF.mean(axis=1))
    magnitude_TF = np.sqrt(share_TF)
    flux = np.concatenate([[0.0], np.linalg.norm(np.diff(magnitude_TF, axis=0), axis=1)])
    bands = {name: (khz >= low) & (khz <= high) for name, (low, high) in _BANDS.items()}
    alpha = 10 * np.log10(power_TF[:, bands["low"]].sum(axis=1) / power_TF[:, bands["high"]].sum(axis=1))
    hammarberg = decibel_TF[:, bands["base"]].max(axis=1) - decibel_TF[:, bands["upper"]].max(axis=1)
    centred = khz[bands["middle"]] - khz[bands["middle"]].mean()
    slope = decibel_TF[:, bands["middle"]] @ centred / (centred @ centred)
    return [centroid, spread, rolloff, flatness, flux, alpha, hammarberg, slope]


_BANDS = {"low": (0.05, 1.0), "high": (1.0, 5.0), "base": (0.0, 2.0), "upper": (2.0, 5.0), "middle": (0.5, 1.5)}
"""Bands of the spectral columns, kHz."""
