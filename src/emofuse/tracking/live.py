"""Logging during training, by a process beside the stage.

The stage never waits for it: MLflow takes seconds to import, and a tracker may hang. What is not shown by the end of
the stage, the next synchronization brings.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

__all__ = ["shown"]

_GRACE = 2.0
"""Seconds at the end of a stage to log what its last runs gave, with a tracker that has answered before."""


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
        command = [sys.executable, "-m", "emofuse.tracking", ".", config.experiment, folder]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        try:
            yield Path(folder)
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    """Let the process log what the last runs gave if the tracker has answered, and end it."""
    answered = bool(process.stdout and select([process.stdout], [], [], 0)[0])
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_GRACE if answered else 0)
    process.kill()
    _, error = process.communicate()
    if process.returncode > 0:
        print(f"tracking: not while it trained ({''.join(error.splitlines()[-1:])})")
