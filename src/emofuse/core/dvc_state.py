"""Repair of the files that a killed DVC or a full disk leaves empty or truncated.

Over ``.dvc/tmp/rwlock``, which says who reads and writes which outs, and ``dvc.lock``, which says what was made of
what, every later command of DVC falls. Nothing in them is needed: the first is about processes that are gone, and from
git's version of the second, or none, the next ``dvc repro`` brings everything back out of its cache.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from emofuse.core.files import write_text
from emofuse.core.git import git

__all__ = ["OUTSIDE", "find_broken", "heal", "lock_files", "locked_stages", "outside"]

_STATE = Path(".dvc/tmp")

_RWLOCK = _STATE / "rwlock"

_OUTS = (
    *("data/corpora", "data/corrupted", "data/digests", "data/features", "data/models", "data/scores", "data/sound"),
    "metrics",
)
"""Folders under which the stages write."""

_DEPTH = 2
"""Folders between these and a stage's own."""

OUTSIDE = (
    "leads out of the project, and DVC refuses outs behind such a link once they are made; put DVC's cache on the "
    "other disk instead, see docs/how-to/faults.md"
)
"""What is wrong with a path that :func:`outside` finds."""

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser in C is ten times faster, which a large lock file needs; not every build of PyYAML has it."""


def lock_files(root: Path) -> list[Path]:
    """Return the lock files that are there: the root's, and one for each folder of ``corpora/``."""
    return [each for each in (root / "dvc.lock", *sorted(root.glob("corpora/*/dvc.lock"))) if each.is_file()]


def locked_stages(path: Path) -> dict[str, dict[str, Any]]:
    """Return the stages' entries in a lock file.

    Raises:
        ValueError: it is empty, cut off, or no lock file
    """
    try:
        return _stages(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not a lock file of DVC, maybe of one that was killed; `emofuse heal`") from error


def find_broken(root: Path) -> list[Path]:
    """Return those of DVC's files under a project's root that DVC cannot read."""
    return [*_broken_rwlock(root), *_broken_locks(root)]


def heal(root: Path) -> list[str]:
    """Take away or restore what :func:`find_broken` finds, under DVC's own locks.

    What is locked is left as it is: a process of DVC is at work on it.

    Returns:
        what was done, one line for each file
    """
    done = []
    if _broken_rwlock(root):
        with _dvc_lock(root, "rwlock.lock") as held:
            for path in _broken_rwlock(root) if held else ():
                path.unlink()
                done.append(f"{path}: was left empty by a killed DVC process; removed")
    if _broken_locks(root):
        with _dvc_lock(root, "lock") as held:
            done += map(_restore, _broken_locks(root) if held else ())
    return done


def outside(root: Path) -> list[Path]:
    """Return the links under which stages write that lead out of a project's root folder."""
    home = root.resolve()
    found: list[Path] = []
    waiting = [(root / "data", 0)] + [(root / each, _DEPTH) for each in _OUTS]
    while waiting:
        path, depth = waiting.pop(0)
        if path.is_symlink() and not path.resolve().is_relative_to(home):
            found.append(path)
        elif depth and path.is_dir():
            waiting += [(each, depth - 1) for each in sorted(path.iterdir()) if each.is_dir()]
    return [each for each in found if not any(other in each.parents for other in found)]


def _stages(text: str) -> dict[str, dict[str, Any]]:
    tree = yaml.load(text, Loader=_LOADER)  # noqa: S506 (a safe one)
    stages = tree.get("stages", {}) if isinstance(tree, dict) else None
    if not isinstance(stages, dict) or "schema" not in tree or not all(map(_is_entry, stages.values())):
        raise ValueError("expected a schema, and of each stage its command, deps and outs")
    return stages


def _is_entry(entry: Any) -> bool:
    """Whether a value is what a lock file says of a stage, as far as DVC would fall over it."""
    if not isinstance(entry, dict) or "cmd" not in entry:
        return False
    lists = [entry.get(key, []) for key in ("deps", "outs")]
    return all(isinstance(each, list) for each in lists) and all(
        isinstance(each, dict) and "path" in each for listed in lists for each in listed
    )


def _broken_rwlock(root: Path) -> list[Path]:
    path = root / _RWLOCK
    try:
        whole = isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except FileNotFoundError:
        return []
    except ValueError:
        whole = False
    return [] if whole else [path]


def _broken_locks(root: Path) -> list[Path]:
    broken = []
    for path in lock_files(root):
        try:
            locked_stages(path)
        except ValueError:
            if not _in_conflict(path):
                broken.append(path)
    return broken


def _in_conflict(path: Path) -> bool:
    """Whether git left a merge to a person: healing would drop the other side's stages."""
    return any(line.startswith(b"<<<<<<< ") for line in path.read_bytes().splitlines())


def _restore(path: Path) -> str:
    committed = git(path.parent, "show", f"HEAD:./{path.name}") or ""
    try:
        _stages(committed)
    except (ValueError, yaml.YAMLError):
        path.unlink()
        return f"{path}: was cut off and removed; `dvc repro` recreates it from the cache"
    write_text(path, committed)
    return f"{path}: was cut off; restored from git; `dvc repro` updates it from the cache"


@contextmanager
def _dvc_lock(root: Path, name: str) -> Iterator[bool]:
    """Hold one of DVC's locks, under which it writes these files; yields whether nobody else does."""
    from dvc.lock import LockError, make_lock  # here, since a stage of a sound project need not wait for it

    folder = root / _STATE
    folder.mkdir(parents=True, exist_ok=True)
    lock = make_lock(str(folder / name), tmp_dir=str(folder))
    try:
        lock.lock()
    except LockError:
        yield False
        return
    try:
        yield True
    finally:
        lock.unlock()
