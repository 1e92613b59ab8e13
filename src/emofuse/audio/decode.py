"""Decoding of sound files: libsndfile first, then FFmpeg; only the requested part is decoded."""

import io
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

from emofuse.audio.headers import Header, read_header

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["Ending", "Take", "decode_spans"]

_BLOCK = 65_536
"""Samples of each channel that libsndfile decodes at once."""

_RATES = (1_000, 768_000)
"""Hz; what a header says beyond them is damage, and would ask for memory without end at resampling."""

_MOST_VALUES = 1_536_000
"""Samples a second of all channels together, as of 32 channels at 48 kHz."""

_UNKNOWN = 2**62
"""Samples that libsndfile names from here up where a file's length is not known."""


@dataclass(frozen=True)
class Ending:
    """What is known of a recording when a span of it has been decoded.

    Attributes:
        rate: in Hz
        seconds: how long the whole recording is; None where nothing says so
        faults: what is wrong with it, by defect, in words
    """

    rate: int
    seconds: float | None
    faults: Mapping[str, str] = field(default_factory=dict)


Take = Callable[[int, np.ndarray, Ending], None]
"""Gets a span's number, its samples, float32 ``[channels, n_samples]``, and what is known of the recording."""


@dataclass(frozen=True)
class _Opened:
    """A recording that a reader has opened: samples come block by block, ``[channels, n]``."""

    rate: int
    seconds: float | None
    blocks: Iterator[np.ndarray]


_Reader = Callable[[BinaryIO], AbstractContextManager[_Opened]]


class _CutOffError(ValueError):
    """A recording ends before the place that its header names."""


class _EmptyError(ValueError):
    """A recording ends before it begins."""


def decode_spans(
    stream: BinaryIO, spans: Sequence[tuple[float, float]], max_seconds: float, take: Take
) -> dict[int, str]:
    """Decode parts of a recording, from its beginning to the end of the last of them and only once.

    Parts may overlap. What lies beyond the recording's end has no samples. Of a file that is damaged or cut off, what
    can be decoded is kept, with a fault.

    Args:
        stream: the whole file; a file on disk is unbuffered
        spans: start and end in seconds; the end may be infinite
        max_seconds: a part is cut there
        take: is called for each part as soon as it is complete, and must not raise what a reader may

    Returns:
        why a part cannot be decoded, by its number; the reader's words that was asked last

    Raises:
        OSError: nothing of the file can be decoded
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    try:
        header = read_header(stream, size)
    except ValueError as error:
        raise OSError(str(error)) from error
    return _Decoding(stream, header, dict(enumerate(spans)), max_seconds, take).run()


class _Decoding:
    """Spans that are still to be decoded, and what was decoded of them where a reader failed."""

    def __init__(
        self, stream: BinaryIO, header: Header, left: dict[int, tuple[float, float]], max_seconds: float, take: Take
    ) -> None:
        self._stream, self._header, self._left = stream, header, left
        self._max_seconds, self._take = max_seconds, take
        self._faults = dict(header.faults)
        self._parts: dict[int, tuple[np.ndarray, Ending]] = {}
        self._words = ""

    def run(self) -> dict[int, str]:
        """Ask one reader after the other; see :func:`decode_spans`."""
        readers: tuple[_Reader, ...] = (_libsndfile, _ffmpeg)
        for reader in readers:
            self._ask(reader)
            if not self._left:
                return {}
        for index, (samples, ending) in list(self._parts.items()):
            self._done(index, samples, replace(ending, faults=self._faults))
        return dict.fromkeys(self._left, self._words)

    def _ask(self, reader: _Reader) -> None:
        self._stream.seek(0)
        try:
            with reader(self._stream) as opened:
                self._decode(opened)
        except Exception as error:  # two libraries' own, and whatever else foreign bytes bring about
            self._words = _words(error)

    def _decode(self, opened: _Opened) -> None:
        cut = _Cut(opened.blocks, {index: self._range(span, opened.rate) for index, span in self._left.items()})
        try:
            for index, samples in cut:
                self._done(index, samples, Ending(opened.rate, opened.seconds, self._faults))
            if cut.place == 0 and not self._header.silent:
                raise _EmptyError("no samples in it")
        except Exception as error:
            # What the other reader makes of such a file is not above doubt either.
            kind = "audio_cut_off" if isinstance(error, _CutOffError) else "audio_damaged"
            self._faults = self._faults or {kind: _words(error)}
            if cut.place or isinstance(error, _EmptyError):
                self._keep(cut, opened.rate)
            raise
        ending = Ending(opened.rate, cut.place / opened.rate, self._faults)
        for index, samples in cut.rest():
            self._done(index, samples, ending)

    def _range(self, span: tuple[float, float], rate: int) -> tuple[int, float]:
        # A second more than is kept, so that what is cut off is not heard in the end of what is kept.
        start, end = span[0], min(span[1], span[0] + self._max_seconds + 1)
        return round(start * rate), end if math.isinf(end) else round(end * rate)

    def _keep(self, cut: "_Cut", rate: int) -> None:
        """Keep what there is of the spans that a reader did not come to the end of."""
        for index, samples in cut.rest():
            kept = self._parts.get(index)
            if kept is None or kept[0].shape[1] / kept[1].rate < samples.shape[1] / rate:
                self._parts[index] = samples, Ending(rate, None)

    def _done(self, index: int, samples: np.ndarray, ending: Ending) -> None:
        del self._left[index]
        self._parts.pop(index, None)
        self._take(index, samples, ending)


class _Cut:
    """Iterate over the spans of a stream of blocks, each as soon as it is complete.

    Args:
        blocks: samples, ``[channels, n]`` each
        ranges: first sample and the one after the last, by the span's number

    Attributes:
        place: how many samples have come
    """

    def __init__(self, blocks: Iterator[np.ndarray], ranges: Mapping[int, tuple[int, float]]) -> None:
        self.place = 0
        self._blocks, self._ranges = blocks, ranges
        self._waiting = deque(sorted(ranges, key=lambda index: ranges[index][0]))
        self._active: dict[int, list[np.ndarray]] = {}
        self._channels = 1

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        for block in self._blocks:
            start, self.place, self._channels = self.place, self.place + block.shape[1], len(block)
            while self._waiting and self._ranges[self._waiting[0]][0] < self.place:
                self._active[self._waiting.popleft()] = []
            for index in list(self._active):
                first, last = self._ranges[index]
                self._active[index].append(block[:, max(first - start, 0) : int(min(last, self.place)) - start])
                if last <= self.place:
                    yield index, self._joined(self._active.pop(index))
            if not self._waiting and not self._active:
                return

    def rest(self) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over the spans that are not complete, with what there is of them."""
        for index, parts in self._active.items():
            yield index, self._joined(parts)
        for index in self._waiting:
            yield index, self._joined([])

    def _joined(self, parts: list[np.ndarray]) -> np.ndarray:
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts, axis=1) if parts else np.zeros((self._channels, 0), np.float32)


@contextmanager
def _libsndfile(stream: BinaryIO) -> Iterator[_Opened]:
    # A file by its number, since soundfile takes the ending of a named one for its format.
    source = stream if isinstance(stream, io.BytesIO) else stream.fileno()
    with soundfile.SoundFile(source, closefd=False) as file:
        _check(file.samplerate, file.channels)
        seconds = file.frames / file.samplerate if file.frames < _UNKNOWN else None
        yield _Opened(file.samplerate, seconds, _blocks(file))


def _blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    count = 0
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        count += len(block)
        yield block.T
    # Of an mp3, and of one inside a wav, the number of samples is an estimate.
    if 0 < count < file.frames < _UNKNOWN and not file.subtype.startswith("MPEG"):
        raise _CutOffError(f"cut off: {count} of {file.frames} samples can be read")


@contextmanager
def _ffmpeg(stream: BinaryIO) -> Iterator[_Opened]:
    import av

    # A file may be a playlist that names others; no protocol is allowed, so none of them is opened.
    options = {"protocol_whitelist": "none"}
    with av.open(_Nameless(stream), mode="r", options=options, metadata_errors="replace") as container:
        if not container.streams.audio:
            raise ValueError("no sound in it")
        track = container.streams.audio[0]
        if track.codec_context is None:
            raise ValueError("its sound is in a form that FFmpeg does not know")
        _check(track.rate, track.channels)
        seconds = None if container.duration is None else container.duration / av.time_base
        yield _Opened(track.rate, seconds, _frames(container))


def _frames(container: "InputContainer") -> Iterator[np.ndarray]:
    import av

    # Interleaved float, since PyAV reads beside its memory where more than eight channels have a plane each. Rate and
    # channels stay as they are.
    resampler = av.AudioResampler(format="flt")
    for frame in chain(container.decode(audio=0), [None]):
        for each in resampler.resample(frame):
            yield each.to_ndarray().reshape(-1, len(each.layout.channels)).T


class _Nameless:
    """A file without its name, which FFmpeg would believe rather than what is in it.

    A damaged header may name a place far behind the end. A file system refuses that place, memory does not, and FFmpeg
    would read nothing more; so it is refused here.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.read, self.tell, self._seek = stream.read, stream.tell, stream.seek
        here = stream.tell()
        self._size = stream.seek(0, io.SEEK_END)
        stream.seek(here)

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and place > self._size:
            return -1
        try:
            return self._seek(place, whence)
        except (OSError, ValueError):
            return -1  # as FFmpeg knows it; PyAV would print the error


def _check(rate: int, channels: int) -> None:
    if not _RATES[0] <= rate <= _RATES[1] or channels < 1 or rate * channels > _MOST_VALUES:
        raise ValueError(f"its header says {rate} Hz and {channels} channels, which no recording has")


def _words(error: Exception) -> str:
    """What an error of a reader says, in one line."""
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string)
    known = getattr(error, "strerror", None)
    if known:
        return f"not a sound file that can be decoded: {known}"
    text = str(error).strip().partition("\n")[0]
    return text if text and isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
