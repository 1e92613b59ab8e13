"""Progress of a run while it trains: a growing file of lines that the tracker follows.

There is no pipe and no lock between the two, so that training waits for nobody.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emofuse.core.files import digest
from emofuse.training.runs import Run, flat, rounded

__all__ = ["Progress"]


class Progress:
    """The growing file of one run: a line that says which run it is, and one after each epoch.

    Args:
        folder: of the stage's files; None where nobody reads along
        run: which run
        parameters: configuration, as in the run's record
        out: the run's folder once it is finished
    """

    def __init__(self, folder: Path | None, run: Run, parameters: Mapping[str, Any], out: Path) -> None:
        self._path = folder / f"{digest(asdict(run))}.jsonl" if folder else None
        self._write({**asdict(run), "parameters": flat(parameters), "out": out.as_posix()})

    def __call__(self, epoch: Mapping[str, float]) -> None:
        """Add an epoch: its number, and values by name."""
        self._write(rounded(epoch))

    def _write(self, line: Mapping[str, Any]) -> None:
        with suppress(OSError):  # A disk that is full, say, is the training's own concern.
            if self._path:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**line, "time": time.time()}) + "\n")
