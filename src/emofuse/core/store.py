"""The work store: what was expensive, by the digest of everything that it was made from.

DVC empties a stage's outs before it runs the stage. What took long therefore also lives here, outside the outs: a
stage asks the store first, makes what is missing, and links the results into its outs. An entry is a folder, made
under a temporary name and renamed when whole, with a manifest of its files' digests, so that a half-written or
altered entry is never taken for a whole one. The store may be deleted at any time; nothing but time is lost.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from emofuse.core.files import file_digest, replace_directory, sweep

__all__ = ["DEFAULT_ROOT", "Entry", "Store", "StoreError", "link"]

DEFAULT_ROOT = Path(os.environ.get("DVC_ROOT", "")) / ".emofuse"
"""In the project's own root folder, also while DVC runs an experiment in a copy of it, which is gone afterwards."""

_MANIFEST = "manifest.json"


class StoreError(OSError):
    """An entry was removed or altered while a stage worked with it."""


@dataclass(frozen=True)
class Entry:
    """One finished piece of work.

    Attributes:
        path: its folder
        reused: whether it was there already
        seconds: wall-clock seconds that making it took
    """

    path: Path
    reused: bool
    seconds: float


class Store:
    """Finished work under ``root``, one folder an entry: ``<root>/<kind>/<key>/``.

    Args:
        root: the store's folder; made when the first entry is
    """

    def __init__(self, root: Path = DEFAULT_ROOT) -> None:
        self.root = root

    def find(self, kind: str, key: str) -> Entry | None:
        """Return the entry if it is there and whole.

        Args:
            kind: the family of work, such as ``runs``
            key: hexadecimal digest of all that the work depends on
        """
        path = self._path(kind, key)
        try:
            manifest = _manifest(path)
            # Without a file it may be what a deletion of the store left of an entry that was being made.
            whole = bool(manifest["files"]) and manifest["files"] == _digests(path)
            seconds = float(manifest["seconds"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            whole, seconds = False, 0.0
        return Entry(path, reused=True, seconds=seconds) if whole else None

    def ensure(self, kind: str, key: str, make: Callable[[Path], None]) -> Entry:
        """Return the entry, making it first if it is missing; of several processes that ask at once, one makes it.

        Marks it as used now, which is what :meth:`prune` goes by.

        Args:
            kind: the family of work
            key: hexadecimal digest of all that the work depends on
            make: fills the empty folder that it is given; if it raises, nothing is kept, and if it leaves no file,
                it is called again the next time

        Raises:
            StoreError: the entry was removed while it was being made
            DiskFullError: the disk is full
        """
        path = self._path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            found = self.find(kind, key)
            if found:
                os.utime(found.path / _MANIFEST)
                return found
            sweep(path)  # the lock is held
            start = time.perf_counter()
            with replace_directory(path) as folder:
                try:
                    make(folder)
                except Exception as error:
                    if not folder.exists():  # Whatever a library says of a file that it cannot write there.
                        raise _vanished(path) from error
                    raise
                seconds = time.perf_counter() - start
                _write_manifest(
                    folder, {"files": _digests(folder), "seconds": seconds, "finished": round(time.time(), 3)}
                )
            return Entry(path, reused=False, seconds=seconds)

    def times(self, kind: str) -> dict[str, tuple[float, float]]:
        """Return when entries were made, start and end in seconds since 1970, by the SHA-256 of each of their files."""
        result: dict[str, tuple[float, float]] = {}
        for path in sorted(self.root.glob(f"{kind}/[!.]*/{_MANIFEST}")):
            with suppress(OSError, ValueError, KeyError):  # pruned meanwhile, or damaged: nothing is known then
                manifest = _manifest(path.parent)
                end = float(manifest["finished"])
                result |= dict.fromkeys(manifest["files"].values(), (end - float(manifest["seconds"]), end))
        return result

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return, by kind of work, the number of entries and their bytes."""
        result: dict[str, tuple[int, int]] = {}
        for path in self._entries():
            count, size = result.get(path.parent.name, (0, 0))
            result[path.parent.name] = (count + 1, size + _size(path))
        return result

    def prune(self, older_than_days: float) -> tuple[int, int]:
        """Remove the entries that were last used more than so many days ago, and what killed processes left behind.

        Returns:
            number of entries removed, and the bytes freed
        """
        limit = time.time() - 86_400 * older_than_days
        removed, freed = 0, 0
        for path in sorted(each for each in self.root.glob("*/*") if each.is_dir()):
            key = path.name.removeprefix(".").partition(".")[0]
            manifest = path / _MANIFEST
            try:
                # Whoever holds the lock is making or reading this entry: not a leftover, and not unused.
                with FileLock(path.with_name(f"{key}.lock"), timeout=0):
                    whole = path.name == key and manifest.exists()
                    if whole and manifest.stat().st_mtime >= limit:
                        continue
                    removed += whole
                    freed += _size(path)
                    shutil.rmtree(path)
            except Timeout:
                continue
        return removed, freed

    def _entries(self) -> Iterator[Path]:
        if self.root.is_dir():
            for manifest in sorted(self.root.glob(f"*/[!.]*/{_MANIFEST}")):
                yield manifest.parent

    def _path(self, kind: str, key: str) -> Path:
        return self.root / kind / key


def link(entry: Entry, target: Path) -> None:
    """Show an entry's files under ``target``, without the manifest: hard links, or copies across file systems.

    Raises:
        StoreError: the entry, or a file of it, is not there any more
    """
    with _locked(entry.path):  # so that no `prune` takes it away in the middle
        try:
            names = list(_manifest(entry.path)["files"])
            for name in names:
                _link_file(entry.path / name, target / name)
        except FileNotFoundError as error:
            raise _vanished(entry.path) from error
        if not names:
            raise _vanished(entry.path)


def _link_file(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    try:
        os.link(source, place)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, place)


def _locked(path: Path) -> FileLock:
    """The lock of an entry."""
    return FileLock(path.with_suffix(".lock"))


def _manifest(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    return manifest


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write an entry's manifest into its folder, which is not made again where somebody has removed it."""
    try:
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    except FileNotFoundError as error:
        raise _vanished(folder) from error


def _vanished(path: Path) -> StoreError:
    reason = "was removed while a stage worked with it; run again, and prune or delete the store when nothing runs"
    return StoreError(errno.ENOENT, reason, str(path))


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / _MANIFEST)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
