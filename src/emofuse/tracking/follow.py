"""The process that logs the runs of a stage while they train."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from select import select
from typing import Any

from emofuse.tracking.address import TrackingConfig, tracker
from emofuse.tracking.experiment import experiment_of
from emofuse.tracking.runs_in_tracker import RunsInTracker
from emofuse.tracking.runs_on_disk import CURVES, RunsOnDisk, opened

__all__ = ["follow"]

_PAUSE = 1.0
"""Seconds between two looks."""


def follow(root: Path, config: TrackingConfig, folder: Path) -> None:
    """Log the runs of a stage while they train, until standard input ends; prints a line once the tracker has answered.

    Args:
        root: the project's root folder
        config: the experiment
        folder: where the runs write

    Raises:
        TrackingError: the tracker cannot be reached or does not take the runs
    """
    while not _begun(folder):  # Not every stage trains something: until then MLflow need not be imported.
        if _ended():
            return
    with tracker(root) as (client, uri):
        experiment = experiment_of(client, uri, config)
        print("the tracker answers", flush=True)
        task = _lines(_begun(folder)[0])[0]["task"]
        runs = RunsInTracker(client, experiment, root, f"tags.task = '{task}'")
        followed: dict[Path, _Followed] = {}
        ended = False
        while not ended:
            ended = _ended()
            for path in _begun(folder):
                if path not in followed:
                    followed[path] = _Followed(path, root, runs)
                followed[path].look()
        for each in followed.values():
            if not each.finished:
                client.set_terminated(each.run.info.run_id, "FAILED")
        parents = {each.parent.key for each in followed.values()}
        for model in RunsOnDisk(root, task).models():
            if model.parent.key in parents:
                runs.show_run(model.parent, model.parent)


def _ended() -> bool:
    """Whether standard input ends before it is time to look again."""
    return bool(select([sys.stdin], [], [], _PAUSE)[0])


def _begun(folder: Path) -> list[Path]:
    """The files that say which run they are of."""
    return [path for path in sorted(folder.iterdir()) if _lines(path)]


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that are whole."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]


class _Followed:
    """A run in training.

    Args:
        path: its file
        root: the project's root folder
        runs: of the tracker
    """

    def __init__(self, path: Path, root: Path, runs: RunsInTracker) -> None:
        self._path, self._root, self._runs, self._read = path, root, runs, 1
        self._record = _lines(path)[0]
        card, self.parent = opened(self._record)
        self.run = runs.create(card, self.parent, (self._record["time"],) * 2)
        self.finished = False

    def look(self) -> None:
        """Log what was written since the last look, and what the run gave if it has finished."""
        if self.finished:
            return
        out = self._root / self._record["out"]
        self.finished = (out / "record.json").exists()  # which is written after the last epoch
        epochs = _lines(self._path)
        new, self._read = epochs[self._read :], len(epochs)
        self._runs.log(
            self.run, ((CURVES[name], each[name], each["time"], each["epoch"]) for each in new for name in CURVES)
        )
        if self.finished:
            card = RunsOnDisk(self._root, self._record["task"]).run(out)
            times = (self._record["time"], epochs[-1]["time"])
            self._runs.finish(self.run, replace(card, times=times), self.parent)
