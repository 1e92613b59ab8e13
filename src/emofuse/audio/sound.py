"""Sources of sound."""

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from emofuse.audio.decode import Ending, decode_spans
from emofuse.core.names import readable

__all__ = ["AudioBytes", "AudioFile", "AudioSource", "Sound", "read_sound"]


class AudioSource(Protocol):
    """Anything that yields sound: a file on disk, or a synthesizer's instructions. Must be picklable."""

    @property
    def name(self) -> str:
        """File name that is stored beside the audio."""

    def load(self) -> tuple[np.ndarray, int]:
        """Return samples, float32 ``[channels, n_samples]`` in [-1, 1], and their rate in Hz."""


@dataclass(frozen=True)
class AudioFile:
    """A sound file on disk, or a segment of one; what is in it decides on its format, not the ending of its name.

    libsndfile reads wav, flac, mp3, ogg and others; what it does not read is left to FFmpeg, by way of PyAV.

    Attributes:
        path: the file
        start_s: where the segment begins, in seconds; None: the whole file
        end_s: where it ends
    """

    path: Path
    start_s: float | None = None
    end_s: float | None = None

    @property
    def name(self) -> str:
        """The file's name without its folder, as it can be written down."""
        return readable(self.path.name)

    @property
    def where(self) -> str:
        """The file, for messages."""
        return readable(self.path)

    @property
    def span(self) -> tuple[float, float]:
        """Start and end in seconds; the end of a whole file is infinite."""
        return _span(self.start_s, self.end_s)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file.

        Raises:
            FileNotFoundError: it is missing
            OSError: it is a folder, a named pipe or what else has no end
        """
        if not self.path.exists():
            raise FileNotFoundError(f"{self.where}: not found")
        if not self.path.is_file():
            raise OSError(f"{self.where}: not a regular file")
        # Unbuffered, so that the place in the file is the same for Python and for libsndfile, which gets its number.
        with self.path.open("rb", buffering=0) as stream:
            yield stream  # type: ignore[misc]

    def is_sound(self) -> bool:
        """Whether a second of it can be decoded."""
        try:
            with self.open() as stream:
                return not decode_spans(stream, [(0.0, 1.0)], 1.0, lambda *_: None)
        except OSError:
            return False

    def load(self) -> tuple[np.ndarray, int]:
        """Return samples, float32 ``[channels, n_samples]``, and their rate in Hz.

        Raises:
            FileNotFoundError: the file is missing
            OSError: it is empty, cut off, damaged, or no sound that can be decoded; the message begins with its path
        """
        with self.open() as stream:
            return _load(stream, self.span, self.where)


@dataclass(frozen=True)
class AudioBytes:
    """A whole sound file that is in memory, as a Parquet of Hugging Face datasets has it, or a segment of one.

    Attributes:
        name: of the file
        data: its bytes
        start_s: where the segment begins, in seconds; None: the whole file
        end_s: where it ends
    """

    name: str
    data: bytes
    start_s: float | None = None
    end_s: float | None = None

    @property
    def span(self) -> tuple[float, float]:
        """Start and end in seconds; the end of a whole file is infinite."""
        return _span(self.start_s, self.end_s)

    @property
    def where(self) -> str:
        """The file, for messages."""
        return self.name

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file."""
        yield io.BytesIO(self.data)

    def load(self) -> tuple[np.ndarray, int]:
        """Return samples and rate; raises as :meth:`AudioFile.load` does."""
        with self.open() as stream:
            return _load(stream, self.span, self.where)


@dataclass(frozen=True)
class Sound:
    """Sound that is in memory already.

    Attributes:
        name: for messages
        samples: float32 ``[channels, n_samples]`` in [-1, 1]
        rate: in Hz
        faults: what is wrong with the file that it was decoded from, by defect, in words
    """

    name: str
    samples: np.ndarray
    rate: int
    faults: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> tuple[np.ndarray, int]:
        """Return samples and rate."""
        return self.samples, self.rate


def read_sound(data: bytes, name: str, max_seconds: float = math.inf) -> Sound:
    """Decode a sound file that is in memory, of any format that :class:`AudioFile` reads.

    Of a file that is cut off, damaged, or has a wrong header, the sound that is there is kept, with its faults.

    Args:
        data: the whole file
        name: for messages
        max_seconds: no more than this is decoded

    Raises:
        OSError: it is empty, or there is no sound in it that can be decoded; the message begins with ``name``
    """
    samples, ending = _decoded(io.BytesIO(data), (0.0, max_seconds), name)
    if ending.faults and not samples.size:
        raise OSError(f"{name}: {'; '.join(ending.faults.values())}")
    return Sound(name, samples, ending.rate, ending.faults)


def _span(start_s: float | None, end_s: float | None) -> tuple[float, float]:
    return start_s or 0.0, math.inf if end_s is None else end_s


def _load(stream: BinaryIO, span: tuple[float, float], where: str) -> tuple[np.ndarray, int]:
    samples, ending = _decoded(stream, span, where)
    if ending.faults:
        raise OSError(f"{where}: {'; '.join(ending.faults.values())}")
    return samples, ending.rate


def _decoded(stream: BinaryIO, span: tuple[float, float], where: str) -> tuple[np.ndarray, Ending]:
    taken: list[tuple[np.ndarray, Ending]] = []
    try:
        errors = decode_spans(stream, [span], math.inf, lambda _, samples, ending: taken.append((samples, ending)))
    except OSError as error:
        raise OSError(f"{where}: {error}") from error
    if errors:
        raise OSError(f"{where}: {'; '.join(errors.values())}")
    return taken[0]
