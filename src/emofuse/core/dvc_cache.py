"""Damaged files in DVC's cache: truncated, or altered on disk.

DVC believes what is write-protected in its cache. Out of a damaged file it lays out a damaged one, without a word, and
finds nothing to do when it is asked again. Once both are gone, the next `dvc pull` brings the file again, and the next
`dvc repro` makes it again.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emofuse.core.dvc_state import lock_files, locked_stages

__all__ = ["Damaged", "find_damaged", "take_away_damaged"]

_FOLDER = ".dir"
"""End of the digest of a folder's listing."""


@dataclass(frozen=True)
class Damaged:
    """A damaged file of the cache.

    Attributes:
        out: what the file is a part of, such as ``data/features/demo/text``
        path: where DVC lays it out in the project
        stored: where it is in the cache
    """

    out: str
    path: Path
    stored: Path


def find_damaged(root: Path, message: str = "") -> list[Damaged]:
    """Return the damaged files of the outs that the lock files name.

    Digests take time, so they are computed where sizes do not add up, and of the outs that a message is about.

    Args:
        root: the project's root folder
        message: a message that may name outs

    Raises:
        ValueError: a lock file is damaged itself
    """
    stages = [each for path in lock_files(root) for each in locked_stages(path).values()]
    outs = [out for stage in stages for out in stage.get("outs", ()) if "md5" in out]
    if not outs:
        return []
    from dvc.repo import Repo

    cache = Repo(str(root)).cache.local
    found: list[Damaged] = []
    for out in outs:
        files = {path: Path(cache.oid_to_path(md5)) for path, md5 in _files(out, cache)}
        if out["path"] in message or _is_cut_off(out, files):
            wrong = {path: each for path, each in files.items() if each.exists() and _md5(each) != _name(each)}
            found += [Damaged(out["path"], root / path, each) for path, each in wrong.items()]
    return found


def take_away_damaged(root: Path, message: str = "") -> list[Damaged]:
    """Remove the damaged files from the cache, and from the project where they are laid out as they are.

    Args:
        root: the project's root folder
        message: a message that may name outs

    Returns:
        what was removed
    """
    found = find_damaged(root, message)
    for each in found:
        if each.path.is_file() and _md5(each.path) == _md5(each.stored):
            each.path.unlink()
        each.stored.unlink()
    return found


def _files(out: dict[str, Any], cache: Any) -> Iterator[tuple[str, str]]:
    """Path and digest of each file of an out; of a folder's listing first, which lies at no path of its own."""
    yield out["path"], out["md5"]
    listing = Path(cache.oid_to_path(out["md5"]))
    if out["md5"].endswith(_FOLDER) and listing.exists():
        try:
            members = json.loads(listing.read_text(encoding="utf-8"))
        except ValueError:  # cut off; its digest says so
            return
        for each in members:
            yield f"{out['path']}/{each['relpath']}", each["md5"]


def _is_cut_off(out: dict[str, Any], files: dict[str, Path]) -> bool:
    """Whether the files have other sizes together than DVC noted; not known where some are not in the cache."""
    is_folder = out["md5"].endswith(_FOLDER)
    contents = [stored for path, stored in files.items() if not (is_folder and path == out["path"])]
    there = all(each.exists() for each in files.values())
    return there and sum(each.stat().st_size for each in contents) != out["size"]


def _name(stored: Path) -> str:
    """The digest that a file of the cache goes by."""
    return f"{stored.parent.name}{stored.name}".removesuffix(_FOLDER)


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
