"""Runs in the tracker: missing ones are logged, and none twice.

Every step may be repeated: a run is found again by its key, what it already has is left alone, and its tags are
written last. So a process that was killed half-way, or a tracker that went away, costs nothing but the next
synchronization. Two machines that write at once know nothing of each other: the younger of two runs with one key goes
at the next look.
"""

import json
import math
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from emofuse.core.files import digest
from emofuse.core.git import git
from emofuse.tracking.runs_on_disk import CURRENT, EXPERIMENT, KEY, PLACE, TEST, Card, Model

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["RunsInTracker", "all_pages", "tags_of_machine"]

_MACHINE = "emofuse.machine"
"""Tag with a digest of the machine and the project that made a run."""

_COMPLETE = "emofuse.complete"
"""Tag with the digest of the artifacts, written when everything is in the tracker."""

_MAX_METRICS = 1000
"""What MLflow takes in one call."""

Point = tuple[str, float, float, int]
"""A metric's name, value, time in seconds since 1970, and step."""


class RunsInTracker:
    """The runs of an experiment, without doubles.

    Args:
        client: of the tracker
        experiment: its id
        root: the project's root folder
        query: which runs to look at, in MLflow's language

    Attributes:
        done: names of the runs that :meth:`show` ``added``, ``updated``, or left ``unchanged``
    """

    def __init__(self, client: "MlflowClient", experiment: str, root: Path, query: str = "") -> None:
        self.done: dict[str, list[str]] = {"added": [], "updated": [], "unchanged": []}
        self._client, self._experiment, self._tags = client, experiment, tags_of_machine(root)
        self._runs: list[Run] = []
        self._by_key: dict[str, Run] = {}
        for run in all_pages(client.search_runs, [experiment], query, order_by=["start_time ASC"]):
            if run.data.tags.get(KEY) in self._by_key:
                client.delete_run(run.info.run_id)
            else:
                self._keep(run)

    def without_known(self, model: Model) -> Model:
        """Return a model of an experiment without the runs that gave what the project's own current runs gave."""
        return replace(model, runs=tuple(card for card in model.runs if not self._own(card)))

    def of(self, card: Card) -> "Run":
        """The run of a card."""
        return self._by_key[card.key]

    def show(self, model: Model) -> None:
        """Bring a model's parent run and all runs under it in line."""
        cards = (model.parent, *model.runs)
        for card in cards:
            self.show_run(card, model.parent)
        self._retire(cards)

    def create(self, card: Card, parent: Card, times: tuple[float, float] | None) -> "Run":
        """Make a run with its tags alone, and that of its model if there is none."""
        if parent is not card and parent.key not in self._by_key:
            self.create(parent, parent, times)
        start = int(1000 * times[0]) if times else None
        tags = {**card.tags, **self._link(card, parent), **self._tags}
        return self._keep(self._client.create_run(self._experiment, start_time=start, run_name=card.name, tags=tags))

    def show_run(self, card: Card, parent: Card) -> None:
        """Bring a run of a model in line, or the model's own, its parent."""
        from mlflow.entities import RunTag

        found = self._by_key.get(card.key)
        run = found or self.create(card, parent, card.times)
        data = run.data
        tags = _new({**card.tags, **self._link(card, parent), _COMPLETE: card.contents}, data.tags)
        metrics = _new({**_gone(card, data.metrics), **card.metrics}, data.metrics)
        if not (tags or metrics):
            self.done["unchanged"].append(card.name)
            return
        if _COMPLETE in tags:
            self._log_contents(run, card)
        # A first value has the time of the run's end, so that two machines with the same outputs log the same point,
        # of which MLflow keeps one.
        end = _end_of(run, card.times) / 1000
        self.log(run, ((name, value, time() if name in data.metrics else end, 0) for name, value in metrics.items()))
        self._end(run, card.times)
        self._client.log_batch(run.info.run_id, tags=[RunTag(*each) for each in tags.items()])
        self.done["updated" if found else "added"].append(card.name)

    def finish(self, run: "Run", card: Card, parent: Card) -> None:
        """Log what a run gave that was made without a key; it goes where there is one of that key already."""
        if card.key in self._by_key:
            self._client.delete_run(run.info.run_id)
        else:
            self._by_key[card.key] = self._client.get_run(run.info.run_id)
        self.show_run(card, parent)
        self._retire([card])

    def log(self, run: "Run", points: Iterable[Point]) -> None:
        """Log values of metrics."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, int(1000 * at), step) for name, value, at, step in points]
        for first in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(run.info.run_id, metrics[first : first + _MAX_METRICS])

    def _log_contents(self, run: "Run", card: Card) -> None:
        """Log all that does not change with the scores; what is there already stays as it is."""
        from mlflow.entities import Param

        with tempfile.TemporaryDirectory(prefix="emofuse-") as folder:
            for name, source in card.files.items():  # Of links to DVC's cache, which is read-only, too.
                place = Path(folder, name)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)
            self._client.log_artifacts(run.info.run_id, folder)
        _log_datasets(self._client, run.info.run_id, card)
        self._client.log_batch(run.info.run_id, params=[Param(*each) for each in card.params.items()])
        new = [each for each in card.curves if each[0] not in run.data.metrics]
        # Epochs are spread evenly over the run's time, since no out holds a time.
        start, end = card.times or (run.info.start_time / 1000,) * 2
        last = max((epoch for *_, epoch in new), default=1)
        self.log(run, ((name, value, start + (end - start) * epoch / last, epoch) for name, value, epoch in new))

    def _retire(self, cards: Sequence[Card]) -> None:
        """Mark the runs that stood where one of these stands now, and delete what a process left that was killed."""
        shown = {self.of(card).info.run_id for card in cards}
        places = {_place(card.tags) for card in cards}
        for run in self._runs:
            tags = run.data.tags
            if _place(tags) not in places or run.info.run_id in shown:
                continue
            if tags.get(CURRENT) == "true":
                self._client.set_tag(run.info.run_id, CURRENT, "false")
            if KEY not in tags and tags.get(_MACHINE) == self._tags[_MACHINE]:
                self._client.delete_run(run.info.run_id)

    def _own(self, card: Card) -> bool:
        run = self._by_key.get(card.result or "") if EXPERIMENT in card.tags else None
        return run is not None and run.data.tags.get(CURRENT) == "true" and EXPERIMENT not in run.data.tags

    def _keep(self, run: "Run") -> "Run":
        self._runs.append(run)
        if KEY in run.data.tags:
            self._by_key[run.data.tags[KEY]] = run
        return run

    def _link(self, card: Card, parent: Card) -> dict[str, str]:
        return {} if parent is card else {"mlflow.parentRunId": self.of(parent).info.run_id}

    def _end(self, run: "Run", times: tuple[float, float] | None) -> None:
        """Say that a run is finished, and when; without a time there is no duration, rather than that of logging."""
        if times and _end_of(run, times) != run.info.end_time:
            self._client.set_terminated(run.info.run_id, end_time=_end_of(run, times))
        elif run.info.status != "FINISHED":
            self._client.update_run(run.info.run_id, "FINISHED")


def all_pages(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """All that one of MLflow's searches finds, page by page."""
    page = None
    while page is None or page.token:
        page = search(*arguments, max_results=1000, page_token=page.token if page else None, **options)
        yield from page


def tags_of_machine(root: Path) -> dict[str, str]:
    """Return the tags of new runs that say which machine and project made them, and at which of git's commits."""
    tags = {_MACHINE: digest([socket.gethostname(), str(root.resolve())])[:16]}
    commit = git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def _new(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """What is not there, or with another value."""
    return {name: value for name, value in wanted.items() if there.get(name) != value}


def _gone(card: Card, there: Mapping[str, float]) -> dict[str, float]:
    """Not a number for each score that the scoring stage has left out since: MLflow deletes no metric."""
    if not any(name.startswith(TEST) for name in card.metrics):
        return {}  # Nothing was scored here, so that nothing is known of scores.
    return {name: math.nan for name, value in there.items() if name.startswith(TEST) and not math.isnan(value)}


def _end_of(run: "Run", times: tuple[float, float] | None) -> int:
    """When a run ended that took so long, in milliseconds: its start, which cannot be moved, if unknown."""
    start: int = run.info.start_time
    return start + round(1000 * (times[1] - times[0])) if times else start


def _place(tags: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(tags.get(name) for name in PLACE)


def _log_datasets(client: "MlflowClient", run_id: str, card: Card) -> None:
    """Name the datasets of a run; nothing of them but names and digests goes to the tracker."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    inputs = []
    for path, made in card.datasets.items():
        name, source = Path(*path.parts[2:]).with_suffix("").as_posix(), json.dumps({"uri": path.as_posix()})
        inputs.append(DatasetInput(Dataset(name, made, "local", source), [InputTag("mlflow.data.context", "training")]))
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException:
        # Another machine named one for the first time at the same moment; the tracker has it now.
        client.log_inputs(run_id, inputs)
