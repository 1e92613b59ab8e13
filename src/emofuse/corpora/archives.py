"""Unpacking of archives: once, outside the raw folder, and never outside their own folder."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import IO, Any

from emofuse.core.files import digest, is_disk_full
from emofuse.core.store import Store
from emofuse.corpora.base import CorpusError, regular

__all__ = ["unpack"]

_BLOCK = 1 << 20
_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""By how a file begins."""


def unpack(archive: Path, wanted: Iterable[str]) -> Path:
    """Unpack a tar archive, compressed or not, and return the folder that holds its files.

    The raw folder is left as it is: it may be read-only, and DVC would take a file that appears there for a new
    corpus. What is unpacked lies in the work store, and is unpacked again only if the archive has changed. Archives
    inside the archive are unpacked in their place if their name is wanted; those inside these are not.

    Args:
        archive: the file
        wanted: patterns of file names, such as ``*.mp4``; files of other names, macOS's ``._`` copies and links stay
            in the archive

    Raises:
        CorpusError: it is no archive, is damaged, or has a file that would land outside its folder
        OSError: the disk is full; the message says how to make room
    """
    patterns = sorted(wanted)
    state = archive.stat()
    key = digest([str(archive.resolve()), state.st_size, state.st_mtime_ns, patterns])
    return Store().ensure("unpacked", key, lambda folder: _unpack(archive, folder, patterns)).path


def _unpack(archive: Path, folder: Path, wanted: list[str]) -> None:
    _extract(archive, folder, wanted)
    for inner in sorted(path for path in folder.rglob("*") if path.name.endswith((".tar", ".tar.gz", ".tgz"))):
        _extract(inner, inner.parent, wanted)
        inner.unlink()


def _extract(archive: Path, folder: Path, wanted: list[str]) -> None:
    try:
        with _decompressed(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as opened:
            opened.extractall(folder, filter=partial(_filter, wanted=wanted))  # noqa: S202 (filtered)
            _check_end(stream, opened.offset)
    except tarfile.FilterError as error:
        raise CorpusError(f"{archive}: refused, since unpacking it is not safe: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        if is_disk_full(error):
            raise
        raise CorpusError(f"{archive}: cannot be unpacked: {error}") from error


@contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    with regular(archive, "an archive").open("rb") as file:
        head = file.read(6)
        file.seek(0)
        for sign, opener in _OPENERS.items():
            if head.startswith(sign):
                with opener(file, "rb") as stream:
                    yield stream
                return
        yield file


def _check_end(stream: IO[bytes], place: int) -> None:
    """Read to the end of the file, where the checksum of what was unpacked is; tarfile stops before.

    tarfile also takes a damaged header of a member for the end of the archive, which is blocks of zeros.
    """
    stream.seek(place)
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise ValueError(f"damaged: what begins at byte {place:,} of it is no member")
    while stream.read(_BLOCK):
        pass


def _filter(member: tarfile.TarInfo, folder: str, wanted: list[str]) -> tarfile.TarInfo | None:
    name = Path(member.name).name
    if not member.isreg() or name.startswith("._") or not any(fnmatch(name, pattern) for pattern in wanted):
        return None
    return tarfile.data_filter(member, folder)
