"""Writes that are whole or absent, and digests of what lies on disk."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = [
    "DamagedError",
    "DiskFullError",
    "checked",
    "checked_digest",
    "digest",
    "file_digest",
    "is_disk_full",
    "readable_size",
    "replace_directory",
    "replace_file",
    "sweep",
    "write_digests",
    "write_json",
    "write_row_groups",
    "write_table",
    "write_text",
]

_DIGESTS = "digests.json"

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_SAID = re.compile(rf"\(os error ({'|'.join(map(str, _DISK_FULL))})\)|[Nn]o space left on device|disk is full")
"""How libraries in other languages say it, whose errors are no ``OSError``."""


class DamagedError(ValueError):
    """A file is not what was written."""


class DiskFullError(OSError):
    """There is no room for a file; the message says what helps."""

    @classmethod
    def at(cls, path: Path) -> "DiskFullError":
        """Return the error of a file or folder that was to be written."""
        there = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
        free = readable_size(shutil.disk_usage(there).free)
        advice = f"{free} free; finished work is kept: make room, such as by `emofuse store prune`, and run again"
        return cls(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {advice}", str(path))


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is full, whichever library says it."""
    return (isinstance(error, OSError) and error.errno in _DISK_FULL) or bool(_SAID.search(str(error)))


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; on leaving without an error the file is flushed and takes its place.

    Raises:
        DiskFullError: there is no room for it
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix="~", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with _saying_where(path):
            yield temporary
            temporary.chmod(0o644)
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """Give an empty folder beside ``path``; on leaving without an error it is flushed and takes ``path``'s place.

    Raises:
        DiskFullError: there is no room for it
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix="~", dir=path.parent))
    try:
        with _saying_where(path):
            yield temporary
            temporary.chmod(0o755)
            for each in sorted(temporary.rglob("*")):
                _sync(each)
            _sync(temporary)
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
            _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(path: Path) -> None:
    """Remove what killed writers of a folder left beside it; the caller sees to it that no living one is at work."""
    for leftover in path.parent.glob(f".{path.name}.*~"):
        shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, with a newline at its end."""
    with replace_file(path) as temporary:
        temporary.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the order given, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def write_table(path: Path, table: pa.Table, **options: Any) -> None:
    """Write a Parquet file atomically; ``options`` go to :func:`pyarrow.parquet.write_table`."""
    with replace_file(path) as temporary:
        pq.write_table(table, temporary, **options)


def write_row_groups(path: Path, schema: pa.Schema, groups: Iterable[pa.Table], **options: Any) -> None:
    """Write tables as the row groups of one Parquet file, atomically, each as it comes; it may hold none.

    Args:
        path: the file
        schema: of every table
        groups: the tables, one row group each
        options: go to :class:`pyarrow.parquet.ParquetWriter`
    """
    with replace_file(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(group.num_rows, 1))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_digests(folder: Path) -> None:
    """Note the digests of a finished folder's files beside them, for :func:`checked`."""
    write_json(folder / _DIGESTS, {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()})


def checked(path: Path) -> Path:
    """Return the path of a file after comparing it with its digest, where :func:`write_digests` noted one.

    Raises:
        DamagedError: the file has changed since
        OSError: the file is not there
    """
    checked_digest(path)
    return path


def checked_digest(path: Path) -> str:
    """Return a file's digest, as :func:`file_digest` does, after comparing it as :func:`checked` does."""
    found, noted = file_digest(path), path.with_name(_DIGESTS)
    expected = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else {}
    if expected.get(path.name, found) != found:
        raise DamagedError(f"{path}: damaged since it was written; remove it and run `dvc repro`")
    return found


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value, in hexadecimal, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def readable_size(count: int) -> str:
    """A number of bytes for people, such as ``1.2 GB``, in powers of 1,000."""
    power = min(int(math.log10(max(count, 1))) // 3, 4)
    return f"{count} B" if power == 0 else f"{count / 1000**power:.1f} {' kMGT'[power]}B"


@contextmanager
def _saying_where(path: Path) -> Iterator[None]:
    """Say of a full disk which file has no room: what a write raises names none."""
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if is_disk_full(error):
            raise DiskFullError.at(path) from error
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
