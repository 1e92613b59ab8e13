"""What a stage's process owes its surroundings: to die with its parent, to run alone, to use all cores."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from emofuse.store import DEFAULT_ROOT

__all__ = ["cores", "die_with_parent", "quiet", "stage"]

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; does nothing where the kernel cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Run a stage so that an orphan of a killed run never writes beside its successor.

    The process dies with DVC, holds a lock for as long as it lives, and turns errors that a person can mend into one
    line on standard error with exit status 1.

    Args:
        name: the stage's name in ``dvc.yaml``, such as ``extract@demo-audio``
    """
    die_with_parent()
    lock = FileLock(_lock_file(name))
    try:
        lock.acquire(timeout=10)
    except Timeout:
        sys.exit(f"{name}: another process is running this stage; wait for it, or end it")
    try:
        yield
    except (ValueError, OSError) as error:
        if os.environ.get("EMOFUSE_DEBUG"):
            raise
        sys.exit(f"{name}: {error}")
    finally:
        lock.release()


def _lock_file(name: str) -> Path:
    folder = DEFAULT_ROOT / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quiet() -> bool:
    """Whether progress bars are off: standard error is no terminal."""
    return not sys.stderr.isatty()
