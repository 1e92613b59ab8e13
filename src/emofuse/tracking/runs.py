"""Runs in the tracker: missing ones are logged, and none twice.

Every step may be repeated: a run is found again by its key, what it already has is left alone, and its tags are
written last. So a process that was killed half-way, or a tracker that went away, costs nothing but the next
synchronization. Two machines that write at once know nothing of each other: the younger of two runs with one key goes
at the next look.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import polars as pl

from emofuse.reporting.figures import confusion
from emofuse.reporting.svg import as_file
from emofuse.scoring.scores import ALL
from emofuse.tracking.results import CURRENT, EXPERIMENT, KEY, PLACE, TEST, Card, Model

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["MACHINE", "Runs", "all_pages"]

MACHINE = "emofuse.machine"
"""Tag with a digest of the machine and the project that made a run."""

_COMPLETE = "emofuse.complete"
"""Tag with the digest of the artifacts, written when everything is in the tracker."""

_MAX_METRICS = 1000
"""What MLflow takes in one call."""

Point = tuple[str, float, float, int]
"""A metric's name, value, time in seconds since 1970, and step."""


class Runs:
    """The runs of an experiment, without doubles.

    Args:
        client: of the tracker
        experiment: its id
        tags: that new runs get beside their own
        query: which runs to look at, in MLflow's language

    Attributes:
        added: names of the runs that :meth:`show` added
        updated: names of those that it changed
        unchanged: names of those that it left alone
    """

    def __init__(self, client: "MlflowClient", experiment: str, tags: Mapping[str, str], query: str = "") -> None:
        self.added: list[str] = []
        self.updated: list[str] = []
        self.unchanged: list[str] = []
        self._client, self._experiment, self._tags = client, experiment, tags
        self._runs: list[Run] = []
        self._by_key: dict[str, Run] = {}
        options = {"max_results": 1000, "order_by": ["start_time ASC"]}
        for run in all_pages(client.search_runs, [experiment], query, **options):
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

    def show(self, model: Model, done: Callable[[], object]) -> None:
        """Bring a model's parent run and all runs under it in line; calls ``done`` after each."""
        for card in model.cards:
            self.show_run(card, model.parent)
            done()
        self._retire(model.cards)

    def create(self, card: Card, parent: Card, times: tuple[float, float] | None) -> "Run":
        """Make a run with its tags alone, and that of its model if there is none."""
        if parent is not card and parent.key not in self._by_key:
            self.create(parent, parent, times)
        start = int(1000 * times[0]) if times else None
        tags = {**card.tags, **self._link(card, parent), **self._tags}
        return self._keep(self._client.create_run(self._experiment, start_time=start, run_name=card.name, tags=tags))

    def show_run(self, card: Card, parent: Card, run: "Run | None" = None) -> None:
        """Bring a run in line.

        Args:
            card: the run
            parent: its model, or itself
            run: which run of the tracker it is, where that has no key yet
        """
        from mlflow.entities import RunTag

        found = run or self._by_key.get(card.key)
        run = found or self.create(card, parent, card.times)
        data = run.data
        tags = _new({**card.tags, **self._link(card, parent), _COMPLETE: card.contents}, data.tags)
        metrics = _new({**_gone(card, data.metrics), **card.metrics}, data.metrics)
        if not (tags or metrics):
            self.unchanged.append(card.name)
            return
        if _COMPLETE in tags:
            self._log_contents(run, card)
        self.log(run, ((name, value, time(), 0) for name, value in metrics.items()))
        self._end(run, card.times)
        self._client.log_batch(run.info.run_id, tags=[RunTag(*each) for each in tags.items()])
        (self.updated if found else self.added).append(card.name)

    def finish(self, run: "Run", card: Card, parent: Card) -> None:
        """Log what a run gave that was made without a key; it goes where there is one of that key already."""
        if card.key in self._by_key:
            self._client.delete_run(run.info.run_id)
            self.show_run(card, parent)
        else:
            self._by_key[card.key] = run
            self.show_run(card, parent, self._client.get_run(run.info.run_id))
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

        with _artifacts(card) as folder:
            self._client.log_artifacts(run.info.run_id, str(folder))
        _log_datasets(self._client, run.info.run_id, card)
        self._client.log_batch(run.info.run_id, params=[Param(*each) for each in card.params.items()])
        curves = _new({name: value for name, value, _ in card.curves}, run.data.metrics)
        self.log(run, (point for point in _points(card, run) if point[0] in curves))

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
            if KEY not in tags and tags.get(MACHINE) == self._tags[MACHINE]:
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
        end = run.info.start_time + round(1000 * (times[1] - times[0])) if times else None  # A start cannot be moved.
        if end and end != run.info.end_time:
            self._client.set_terminated(run.info.run_id, end_time=end)
        elif run.info.status != "FINISHED":
            self._client.update_run(run.info.run_id, "FINISHED")


def all_pages(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """All that one of MLflow's searches finds, page by page."""
    token = None
    while True:
        page = search(*arguments, **options, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _new(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """What is not there, or with another value."""
    return {name: value for name, value in wanted.items() if there.get(name) != value}


def _gone(card: Card, there: Mapping[str, float]) -> dict[str, float]:
    """Not a number for each score that the scoring stage has left out since: MLflow deletes no metric."""
    if not any(name.startswith(TEST) for name in card.metrics):
        return {}  # Nothing was scored here, so that nothing is known of scores.
    return {name: math.nan for name, value in there.items() if name.startswith(TEST) and not math.isnan(value)}


def _place(tags: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(tags.get(name) for name in PLACE)


def _points(card: Card, run: "Run") -> Iterator[Point]:
    """A curve whose epochs are spread evenly over the run's time, since no out holds a time."""
    start, end = card.times or (run.info.start_time / 1000,) * 2
    last = max((step for *_, step in card.curves), default=1)
    for name, value, step in card.curves:
        yield name, value, start + (end - start) * step / last, step


def _log_datasets(client: "MlflowClient", run_id: str, card: Card) -> None:
    """Name the datasets of a run; nothing of them but names and digests goes to the tracker."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    context = [InputTag(MLFLOW_DATASET_CONTEXT, "training")]
    inputs = [
        DatasetInput(Dataset(each.name, each.digest, "local", json.dumps({"uri": each.path})), context)
        for each in card.datasets
    ]
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException:
        # Another machine named one for the first time at the same moment; the tracker has it now.
        client.log_inputs(run_id, inputs)


@contextmanager
def _artifacts(card: Card) -> Iterator[Path]:
    """A temporary folder with the files of a card, and the picture of its confusion matrix."""
    with tempfile.TemporaryDirectory(prefix="emofuse-") as name:
        folder = Path(name)
        for place, source in card.files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / place)
        if card.confusion is not None:
            whole = card.confusion.filter(pl.col("utterances") == ALL)
            (folder / "confusion.svg").write_text(as_file(confusion(whole, card.name)), encoding="utf-8")
        yield folder
