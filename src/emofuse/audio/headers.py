"""Detection of truncated sound files by their headers, since decoders accept them as complete."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

__all__ = ["Header", "read_header"]

_UNBOUNDED = 0x7FFF0000
"""Writers to a pipe, which cannot come back to fill in a WAV file's length, leave one from here up."""

_LEFT_OUT = 65_536
"""More bytes than these behind the samples, and no chunk, are sound that an old length leaves out."""

_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the small file begins that Git LFS leaves in a file's place until it is fetched."""

_MOST_PARTS = 10_000
"""Chunks or boxes that are looked at; a forged file may have one for every eight bytes."""


@dataclass(frozen=True)
class Header:
    """What the first bytes of a file tell.

    Attributes:
        faults: by defect, in words
        silent: whether it truly has no samples: what is behind an empty sound is no sound
    """

    faults: dict[str, str]
    silent: bool = False


def read_header(stream: BinaryIO, size: int) -> Header:
    """Read the header of a WAV, an AIFF or an MP4 file; others have nothing to compare.

    Args:
        stream: the file
        size: in bytes

    Raises:
        ValueError: the file is empty, or the pointer of Git LFS to a file that was not fetched
    """
    if size == 0:
        raise ValueError("empty, 0 bytes")
    head = stream.read(len(_POINTER))
    if head == _POINTER:
        raise ValueError("a pointer of Git LFS and not the sound itself; `git lfs pull` fetches it")
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        chunks = list(islice(_chunks(stream, size, 12), _MOST_PARTS))
        if any(kind == b"data" and length == 0 for kind, length, _ in chunks):
            return _without_length(stream, size, chunks)
        ends = [end for kind, _, end in chunks if kind == b"data"]
        if ends and size - ends[0] > _LEFT_OUT and not _is_chunk(stream, ends[0] + ends[0] % 2):
            fault = f"its samples should end at byte {ends[0]}, but {size - ends[0]} bytes follow, which are not heard"
            return Header({"audio_header_wrong": fault})
    elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        parts = islice(_chunks(stream, size, 12, ">"), _MOST_PARTS)
        ends = [end for kind, _, end in parts if kind == b"SSND"]
    elif head[4:8] == b"ftyp":
        boxes = islice(_mp4_boxes(stream, size), _MOST_PARTS)
        ends = [end for kind, end in boxes if kind in (b"mdat", b"moov")]
    else:
        return Header({})
    if max(ends, default=0) <= size:
        return Header({})
    fault = f"cut off: by its headers it should have at least {max(ends)} bytes, but it has {size}"
    return Header({"audio_cut_off": fault})


def _without_length(stream: BinaryIO, size: int, chunks: list[tuple[bytes, int, int]]) -> Header:
    """A recorder that stopped without warning leaves a length of zero, which is also that of no sound."""
    place = next(end for kind, length, end in chunks if kind == b"data" and length == 0)
    behind = list(islice(_chunks(stream, size, place), _MOST_PARTS))
    end = behind[-1][2] if behind else place
    if 0 <= size - end < 8 and all(kind.strip().isalnum() for kind, _, _ in behind):
        return Header({}, silent=True)
    fault = f"its header says that it has no samples, but {size - place} bytes follow, which are read as sound"
    return Header({"audio_header_wrong": fault})


def _is_chunk(stream: BinaryIO, place: int) -> bool:
    """Whether a chunk begins there, or a tag of the kind that MP3 files have."""
    stream.seek(place)
    name = stream.read(4)
    return name[:3] == b"ID3" or all(0x20 <= each < 0x7F for each in name)


def _chunks(stream: BinaryIO, size: int, place: int, order: str = "<") -> Iterator[tuple[bytes, int, int]]:
    """Yield name, length and end of each chunk of a WAV file, or of an AIFF file in its order of bytes."""
    while place + 8 <= size:
        stream.seek(place)
        kind, length = struct.unpack(f"{order}4sI", stream.read(8))
        if length >= _UNBOUNDED:
            return
        yield kind, length, place + 8 + length
        place += 8 + length + length % 2


def _mp4_boxes(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    place = 0
    while place + 8 <= size:
        stream.seek(place)
        length, kind, long = struct.unpack(">I4sQ", stream.read(16).ljust(16, b"\0"))
        length = {0: size - place, 1: long}.get(length, length)
        if length < 8:
            return
        yield kind, place + length
        place += length
