"""The tracker's client runs in a process beside a stage, because only a process can be ended whatever it hangs in.

A training stage never waits for it: MLflow takes seconds to import. What is not logged by the end of a stage, the next
synchronization brings.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emofuse.tracking.address import TrackingConfig

__all__ = ["shown", "try_sync"]

_GRACE = 2.0
"""Seconds at the end of a stage to log what its last runs gave, with a tracker that has answered before."""

_CLIENT = (sys.executable, "-m", "emofuse.tracking")


@contextmanager
def shown() -> Iterator[Path | None]:
    """Show the runs of a stage in the tracker while they train.

    Yields:
        a folder for :class:`~emofuse.training.progress.Progress`; None where tracking is off
    """
    # Imported here, since a stage's process first has to ask to die with its parent.
    from emofuse.core.params import Params
    from emofuse.tracking.address import TrackingConfig

    config = Params.load().get("tracking", TrackingConfig)
    if not config.enabled:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="emofuse-", ignore_cleanup_errors=True) as folder:
        pipe = subprocess.PIPE
        command = [*_CLIENT, ".", config.experiment, folder]
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        try:
            yield Path(folder)
        finally:
            _end(process)


def try_sync(root: Path, config: "TrackingConfig") -> None:
    """Call :func:`emofuse.tracking.sync.sync` from a stage: it never raises, ends in bounded time, and prints one line.

    Nothing is lost where it fails: the results are on disk, and ``emofuse track`` catches up.

    Args:
        root: the project's root folder
        config: the experiment, and how long to wait
    """
    if not config.enabled:
        return
    command = [*_CLIENT, str(root), config.experiment]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=config.timeout_s)
        failed = done.returncode != 0
        line = ((done.stderr if failed else done.stdout).splitlines() or [f"exit status {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        failed, line = True, f"not done after {config.timeout_s:g} s"
    except OSError as error:
        failed, line = True, str(error)
    print(f"tracking: incomplete, `emofuse track` catches up ({line})" if failed else line)


def _end(process: "subprocess.Popen[str]") -> None:
    """Let the process log what the last runs gave if the tracker has answered, and end it."""
    answered = bool(process.stdout and select([process.stdout], [], [], 0)[0])
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_GRACE if answered else 0)
    process.kill()
    _, error = process.communicate()
    if process.returncode > 0:
        print(f"tracking: not while it trained ({''.join(error.splitlines()[-1:])})")
