"""Set-up of a stage's process: it ends with its parent, runs once at a time, and uses all cores."""

import ctypes
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from emofuse.core.dvc_cache import Damaged, take_away_damaged
from emofuse.core.dvc_state import OUTSIDE, heal, outside
from emofuse.core.files import DiskFullError, is_disk_full
from emofuse.core.memory import collector_paused, end_quickly
from emofuse.core.names import print_all_names
from emofuse.core.store import DEFAULT_ROOT

__all__ = ["computing_alone", "cores", "die_with_parent", "follow_parent", "quiet", "stage", "start_worker"]

_PR_SET_PDEATHSIG = 1

_PATIENCE = 10.0
"""Seconds that a stage waits for another process that runs it, which may be dying."""


class StageBusyError(ValueError):
    """Another process is running the same stage."""


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; does nothing where the kernel cannot."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def stage(name: str) -> Iterator[str]:
    """Run a stage so that an orphan of a killed run never writes beside its successor.

    The process dies with DVC, holds a lock for as long as it lives, and turns errors that a person can mend into one
    line on standard error with exit status 1. What a killed DVC left broken is healed first. A file that is damaged in
    DVC's cache is taken away after an error, so that DVC sees that it has to bring it again. Imports that take seconds
    belong inside: before, a killed DVC leaves the process alive.

    Args:
        name: of the stage and of what it makes, such as ``pretrain demo logmel``

    Yields:
        the name
    """
    die_with_parent()
    end_quickly()
    print_all_names()
    try:
        _refuse_foreign_code()
        _refuse_outside()
        with _alone(name):
            with suppress(Exception):  # It may be of use to the next DVC, not to this stage.
                for line in heal(Path()):
                    print(line, file=sys.stderr)
            yield name
    except Exception as error:
        full = is_disk_full(error)
        damaged: list[Damaged] = []
        with suppress(Exception):  # the error that counts is the stage's
            damaged = [] if full or isinstance(error, StageBusyError) else take_away_damaged(Path(), str(error))
        if os.environ.get("EMOFUSE_DEBUG") or not (damaged or full or isinstance(error, (ValueError, OSError))):
            raise
        if full and not isinstance(error, DiskFullError):
            error = DiskFullError.at(Path(getattr(error, "filename", None) or Path.cwd()))
        lines = [line.strip() for line in str(error).splitlines()]
        lines += [f"{each.path}: was damaged in DVC's cache and has been removed" for each in damaged]
        lines += ["`dvc pull` downloads it again, `dvc repro` makes it again"] if damaged else []
        sys.exit(f"{name}: {'; '.join(line for line in lines if line)}")


def _refuse_outside() -> None:
    for path in outside(Path()):
        raise ValueError(f"{path}: {OUTSIDE}")


@contextmanager
def _alone(name: str) -> Iterator[None]:
    # Beside the outs: experiments that DVC runs in copies of the project may be at the same stage.
    folder = Path(DEFAULT_ROOT.name) / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{re.sub(r'[^A-Za-z0-9+-]', '-', name)}.lock")
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout as error:
        raise StageBusyError("another process is running this stage; wait for it, or end it") from error
    try:
        yield
    finally:
        lock.release()


def _refuse_foreign_code() -> None:
    """End where the code that runs differs from that in the working folder, whose digest DVC would note.

    DVC runs experiments in copies of the project, which have its code and are no installation of their own.
    """
    own, runs = Path("src/emofuse").resolve(), Path(__file__).parents[1]
    if own.is_dir() and own != runs and _sources(own) != _sources(runs):
        mend = "run `make setup` here, or, for an experiment in the queue, leave the code as it was queued"
        raise ValueError(f"emofuse is imported from {runs}, whose code is not that of this project; {mend}")


def _sources(folder: Path) -> dict[str, bytes]:
    """The modules below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.py"))}


def follow_parent(parent: int) -> None:
    """End with the process that started this one, at once if it has ended already.

    Args:
        parent: its process id
    """
    die_with_parent()
    if os.getppid() != parent:  # It ended before this process could ask to end with it, and nobody would stop us.
        os._exit(1)


def start_worker() -> None:
    """Make a pool's process compute with one thread.

    Two threads on a clip of two seconds wait for each other more than they work, and the last bits of a result would
    depend on their number.
    """
    # Imported here, since a stage without a pool need not wait for it.
    with collector_paused():
        import torch
    from threadpoolctl import threadpool_limits

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Without it torch refuses to be deterministic on CUDA.
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")  # `use_deterministic_algorithms` imports the compiler: 0.7 s.
    threadpool_limits(1)


@contextmanager
def computing_alone() -> Iterator[None]:
    """Compute with one thread, as a pool's process does, where a pool would cost more than the work."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quiet() -> bool:
    """Whether progress bars are off: standard error is no terminal."""
    return not sys.stderr.isatty()
