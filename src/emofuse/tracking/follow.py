"""The process that logs the runs of a stage while they train."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Any

from emofuse.tracking.address import TrackingConfig, client_of, errors_of, tracker_uri
from emofuse.tracking.experiment import experiment_of, share_view, tags_of_machine
from emofuse.tracking.results import CURVES, Results, opened
from emofuse.tracking.runs import Runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

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
    uri = tracker_uri(root)
    with errors_of(uri):
        client = client_of(uri)
        experiment = experiment_of(client, uri, config)
        print("the tracker answers", flush=True)
        share_view(client, experiment)
        task = _lines(_begun(folder)[0])[0]["task"]
        runs = Runs(client, experiment, tags_of_machine(root), f"tags.task = '{task}'")
        followed: dict[Path, _Followed] = {}
        ended = False
        while not ended:
            ended = _ended()
            for path in _begun(folder):
                if path not in followed:
                    followed[path] = _Followed(path, root, runs)
                followed[path].look()
        for each in followed.values():
            each.end(client)
        parents = {each.parent.key for each in followed.values()}
        for model in Results(root, task).models():
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

    def __init__(self, path: Path, root: Path, runs: Runs) -> None:
        self._path, self._root, self._runs = path, root, runs
        record = _lines(path)[0]
        card, self.parent = opened(record)
        self._out, self._task = root / record["out"], record["task"]
        self._run = runs.create(card, self.parent, (record["time"], record["time"]))
        self._start, self._read, self._finished = record["time"], 1, False

    def look(self) -> None:
        """Log what was written since the last look, and what the run gave if it has finished."""
        if self._finished:
            return
        self._finished = (self._out / "record.json").exists()  # which is written after the last epoch
        epochs = _lines(self._path)
        new = epochs[self._read :]
        self._read = len(epochs)
        points = [(CURVES[name], each[name], each["time"], each["epoch"]) for each in new for name in CURVES]
        self._runs.log(self._run, points)
        if self._finished:
            _, card = Results(self._root, self._task).run(self._out)
            self._runs.finish(self._run, replace(card, times=(self._start, epochs[-1]["time"])), self.parent)

    def end(self, client: "MlflowClient") -> None:
        """Say that the run has failed, unless it has finished."""
        if not self._finished:
            client.set_terminated(self._run.info.run_id, "FAILED")
