"""Whole recordings at 16 kHz, decoded piece by piece to save memory."""

import math

import numpy as np

from emofuse.audio.decode import Ending, decode_spans
from emofuse.audio.resample import Channels, Levels, Resampler
from emofuse.audio.sound import AudioBytes, AudioFile, AudioSource, Sound
from emofuse.core.schema import SAMPLE_RATE

__all__ = ["MOST_HOURS", "MOST_SAMPLES", "NoSoundError", "decode_recording"]

MOST_HOURS = 8
"""Hours that are kept of a recording of one channel; of several that stay apart it is so much in all."""

MOST_SAMPLES = MOST_HOURS * 3600 * SAMPLE_RATE
"""Samples of these, some 2 GB."""

_PIECE_S = 30.0

_LONGEST_S = 24 * 3600.0
"""A day; what comes after is not heard, which is a defect."""

_BEHIND_S = 0.05
"""Seconds behind the day that are looked at, to know whether something comes after."""

_RESERVED = 2 * 3600 * SAMPLE_RATE
"""Samples that room is made for at first: two hours, which cost nothing before they are filled."""


class NoSoundError(ValueError):
    """A recording has no samples, or such that are none."""


def decode_recording(source: AudioSource, apart: bool = False) -> tuple[np.ndarray, dict[str, str]]:
    """Decode a recording; of one that is cut off, damaged, or has a wrong header, what is there is kept.

    Args:
        source: a file, or what is in memory already
        apart: whether channels stay as they are; otherwise they are mixed to one

    Returns:
        samples, float32 ``[channels, n_samples]`` at 16 kHz, and what is wrong with them, by defect

    Raises:
        NoSoundError: there is no sample in it, or one that is not a number or far beyond full scale
        OSError: nothing of it can be decoded
    """
    mixed = _Decoded(apart)
    faults = _decode(source, mixed)
    samples, factor, defects = mixed.finish()
    defects = faults | defects
    loudest = None if apart else mixed.channels.loudest()
    if loudest is not None:
        chosen = _Decoded(apart, loudest)
        _decode(source, chosen)
        samples, factor, _ = chosen.finish()
        defects |= {"audio_channels_cancel": f"its channels cancel, so channel {loudest + 1} was taken"}
    return (samples if factor == 1 else samples * np.float32(factor)), defects


class _Growing:
    """Samples that become more; what is reserved and not yet filled takes no memory.

    Args:
        most: what is more than this is not kept

    Attributes:
        is_cut: whether there was more
    """

    def __init__(self, most: int) -> None:
        self._room, self._count, self._most = np.empty(_RESERVED, np.float32), 0, most
        self.is_cut = False

    def add(self, samples: np.ndarray) -> None:
        if self._count + len(samples) > self._most:
            samples, self.is_cut = samples[: self._most - self._count], True
        if self._count + len(samples) > len(self._room):
            room = np.empty(2 * (self._count + len(samples)), np.float32)
            room[: self._count] = self._room[: self._count]
            self._room = room
        self._room[self._count : self._count + len(samples)] = samples
        self._count += len(samples)

    def samples(self) -> np.ndarray:
        return self._room[: self._count]


class _Decoded:
    """What was decoded so far.

    Args:
        apart: whether channels stay as they are
        chosen: a channel that is taken in place of their mean
    """

    def __init__(self, apart: bool, chosen: int | None = None) -> None:
        self.levels, self.channels = Levels(), Channels()
        self._apart, self._chosen = apart, chosen
        self._resamplers: list[Resampler] = []
        self._kept: list[_Growing] = []
        self._kind: tuple[int, int] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no sample has come."""
        return self._kind is None

    def fits(self, samples: np.ndarray, rate: int) -> bool:
        """Whether some more sound has the rate and the channels of what came before."""
        return not samples.size or self._kind in (None, (len(samples), rate))

    def take(self, samples: np.ndarray, rate: int) -> None:
        if not samples.size:
            return
        self._kind = len(samples), rate
        self.levels.add(samples)
        mean = self.channels.add(samples)
        kept = samples if self._apart else [mean if self._chosen is None else samples[self._chosen]]
        if not self._resamplers:
            self._resamplers, self._kept = (
                [Resampler(rate) for _ in kept],
                [_Growing(MOST_SAMPLES // len(kept)) for _ in kept],
            )
        for resampler, growing, channel in zip(self._resamplers, self._kept, kept, strict=True):
            growing.add(resampler.feed(channel))

    def finish(self) -> tuple[np.ndarray, float, dict[str, str]]:
        """Samples, what they are to be multiplied by, and what is wrong with them, by defect."""
        if not self._resamplers:
            raise NoSoundError("no samples in it")
        if not self.levels.finite:
            raise NoSoundError("a sample is not a finite number")
        try:
            factor, defects = self.levels.verdict()
        except ValueError as error:
            raise NoSoundError(str(error)) from error
        for resampler, growing in zip(self._resamplers, self._kept, strict=True):
            growing.add(resampler.end())
        if any(each.is_cut for each in self._kept):
            hours = MOST_HOURS / len(self._kept)
            defects |= {"audio_too_long": f"over {hours:.3g} h, cut there; the rest is not heard"}
        whole = [each.samples() for each in self._kept]
        return (whole[0][None] if len(whole) == 1 else np.stack(whole)), factor, defects


def _decode(source: AudioSource, decoded: _Decoded) -> dict[str, str]:
    """Decode a recording piece by piece, and return what is wrong with it, by defect."""
    if not isinstance(source, AudioFile | AudioBytes):
        samples, rate = source.load()
        decoded.take(samples, rate)
        return dict(source.faults) if isinstance(source, Sound) else {}
    faults: dict[str, str] = {}
    pieces = _pieces(*source.span)

    def take(number: int, samples: np.ndarray, ending: Ending) -> None:
        faults.update(ending.faults)
        start, _ = pieces[number]
        if samples.size and start >= source.span[0] + _LONGEST_S:
            faults["audio_too_long"] = f"over {_LONGEST_S / 3600:g} h, cut there"
        elif decoded.fits(samples, ending.rate):
            decoded.take(samples, ending.rate)
        else:
            kind = f"{ending.rate} Hz and {len(samples)} channels"
            faults.setdefault("audio_damaged", f"at {start:g} s it becomes one of {kind}, which is left out")

    try:
        with source.open() as stream:
            errors = decode_spans(stream, pieces, math.inf, take)
    except OSError as error:
        reason = str(error)
        raise OSError(reason if reason.startswith(source.where) else f"{source.where}: {reason}") from error
    words = list(dict.fromkeys([*errors.values(), *faults.values()]))
    if words and decoded.is_empty:
        raise OSError(f"{source.where}: {'; '.join(words)}")
    return faults


def _pieces(start: float, end: float) -> list[tuple[float, float]]:
    """Parts that a recording is decoded in, and a last one behind the longest that is heard."""
    last = min(end, start + _LONGEST_S)
    starts = [start + _PIECE_S * number for number in range(math.ceil((last - start) / _PIECE_S))]
    pieces = [(each, min(each + _PIECE_S, last)) for each in starts]
    return [*pieces, (last, last + _BEHIND_S)] if end > last else pieces
