"""The runs of an experiment in the tracker: what it lacks is logged, and nothing twice.

Every step may be repeated: a run is found again by its key, what it already has is left alone, and the tag
:data:`COMPLETE` is written last. So a process that was killed half-way, or a tracker that went away, costs nothing but
the next synchronization.

Processes of one machine take turns. Two machines may write to one tracker at once, and MLflow knows no lock: so all
runs that are missing are made first, with a tag that says by whom, and looked at again. Of two that stand for one
result the older stays, and who made the younger deletes it before anything was logged to either. What another machine
is logging just then is left to it.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emofuse.reporting.verdicts import METRIC
from emofuse.scoring.scores import ALL, BEST_ON_TEST
from emofuse.tracking.results import CURRENT, EXPERIMENT, KEY, PLACE, Card, Dataset, Model

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Param, Run, RunTag

__all__ = ["COMPLETE", "PATIENCE", "Runs", "all_pages", "all_runs"]

COMPLETE = "emofuse.complete"
"""Tag with the digest of params, curves and artifacts, written when all of them are in the tracker."""

WRITER = "emofuse.writer"
"""Tag with a digest of whose process made the run; of the processes with one digest a single one is at work."""

PATIENCE = 300
"""Seconds: how long to wait for another process of this machine, and how long one of another machine may need."""

MAX_METRICS, MAX_TEXTS = 800, 100
"""What MLflow takes in one call: metrics, and each of params and tags; 1,000 in all."""


class Runs:
    """The runs of an experiment.

    Args:
        client: of the tracker
        experiment: its id
        writer: the same for all processes that take turns
        commit: git's commit, which new runs get as a tag

    Attributes:
        added: names of the runs that :meth:`show` added
        updated: names of those that it changed
        unchanged: names of those that it left alone
    """

    def __init__(self, client: "MlflowClient", experiment: str, writer: str, commit: str | None) -> None:
        self.added: list[str] = []
        self.updated: list[str] = []
        self.unchanged: list[str] = []
        self._client, self._experiment, self._writer = client, experiment, writer
        self._commit = {"git_commit": commit, "mlflow.source.git.commit": commit} if commit else {}
        self._made: set[str] = set()
        self._runs: list[Run] = []
        self._by_key: dict[str | None, Run] = {}
        self._look()

    def new(self, models: Sequence[Model]) -> list[Model]:
        """Return the models without the runs of an experiment that gave what the project's own current runs gave."""
        tags = [run.data.tags for run in self._runs]
        own = {each.get(KEY) for each in tags if each.get(CURRENT) == "true" and EXPERIMENT not in each}
        found = []
        for model in models:
            runs = tuple(card for card in model.runs if EXPERIMENT not in card.tags or card.result not in own)
            found += [replace(model, runs=runs)] if runs else []
        return found

    def make(self, models: Sequence[Model]) -> None:
        """Make the runs that are missing, without anything in them but their tags."""
        missing = [card for model in models for card in model.cards if card.key not in self._by_key]
        for card in missing:
            tags = {**card.tags, **self._commit, WRITER: self._writer}
            made = self._client.create_run(self._experiment, run_name=card.name, tags=tags)
            self._made.add(made.info.run_id)
        if missing:
            self._look()
        doubles = [run for run in self._runs if run.data.tags.get(WRITER) == self._writer and not self._stays(run)]
        for run in doubles:
            self._client.delete_run(run.info.run_id)
        self._runs = [run for run in self._runs if run not in doubles]

    def show(self, model: Model, done: Callable[[], object]) -> None:
        """Bring a model's parent run and all runs under it in line; calls ``done`` after each."""
        link = {"mlflow.parentRunId": self._by_key[model.parent.key].info.run_id}
        for card in model.cards:
            self._show(card, {} if card is model.parent else link)
            done()
        self._retire(model.cards)

    def of(self, card: Card) -> "Run | None":
        """The run of a card, None where another machine is logging it just now."""
        run = self._by_key[card.key]
        return None if self._in_other_hands(run) else run

    def _look(self) -> None:
        self._runs = sorted(all_runs(self._client, self._experiment), key=_age)
        self._by_key = {run.data.tags.get(KEY): run for run in reversed(self._runs)}

    def _stays(self, run: "Run") -> bool:
        """Whether no older run stands for the same result."""
        return self._by_key[run.data.tags.get(KEY)].info.run_id == run.info.run_id

    def _in_other_hands(self, run: "Run") -> bool:
        """Whether another machine is logging the run, or was until it was killed some minutes ago."""
        from mlflow.utils.time import get_current_time_millis

        tags = run.data.tags
        young = get_current_time_millis() - run.info.start_time < 1000 * PATIENCE
        return COMPLETE not in tags and tags.get(WRITER) not in (None, self._writer) and young

    def _show(self, card: Card, link: Mapping[str, str]) -> None:
        run = self._by_key[card.key]
        complete = run.data.tags.get(COMPLETE) == card.contents
        tags = {name: value for name, value in {**card.tags, **link}.items() if run.data.tags.get(name) != value}
        metrics = {name: value for name, value in card.metrics.items() if run.data.metrics.get(name) != value}
        metrics |= {name: value for name, value in card.firsts.items() if name not in run.data.metrics}
        metrics |= _switched_off(card, run)
        datasets = _unknown(card.datasets, run)
        if self._in_other_hands(run) or not (tags or metrics or datasets or not complete):
            self.unchanged.append(card.name)
            return
        if datasets:
            _log_datasets(self._client, run.info.run_id, datasets)
        self._log(run, card, tags, metrics, complete)
        (self.added if run.info.run_id in self._made else self.updated).append(card.name)

    def _log(
        self, run: "Run", card: Card, tags: Mapping[str, str], metrics: Mapping[str, float], complete: bool
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.utils.time import get_current_time_millis

        now, start, run_id = get_current_time_millis(), run.info.start_time, run.info.run_id
        values = [Metric(name, value, now, 0) for name, value in metrics.items()]
        params: list[Param] = []
        if not complete:
            # At the time of the run's start, so that the points that an interrupted process has logged are the same.
            values += [Metric(name, value, start, epoch) for name, value, epoch in card.curves]
            params = [Param(name, value) for name, value in card.params.items()]
        _log_batches(self._client, run_id, values, params, [RunTag(*tag) for tag in tags.items()])
        if not complete:
            with _artifacts(card) as folder:
                self._client.log_artifacts(run_id, str(folder))
            # The time that logging took is of no interest, so that the run ends when it starts.
            self._client.set_terminated(run_id, end_time=start)
            self._client.set_tag(run_id, COMPLETE, card.contents)

    def _retire(self, cards: Sequence[Card]) -> None:
        """Mark the runs that stood where one of these stands now as no longer current."""
        chosen = {self._by_key[card.key].info.run_id for card in cards}
        places = {_place(card.tags) for card in cards}
        for run in self._runs:
            stands = run.data.tags.get(CURRENT) == "true" and _place(run.data.tags) in places
            if stands and run.info.run_id not in chosen and not self._in_other_hands(run):
                self._client.set_tag(run.info.run_id, CURRENT, "false")


def all_runs(client: "MlflowClient", experiment: str) -> Iterator["Run"]:
    """All runs of an experiment that are not deleted, the oldest first."""
    return all_pages(client.search_runs, [experiment], max_results=1000, order_by=["start_time ASC"])


def all_pages(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """All that one of MLflow's searches finds, page by page."""
    token = None
    while True:
        page = search(*arguments, **options, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _switched_off(card: Card, run: "Run") -> dict[str, float]:
    """Not a number for each column that the scoring stage has left out since: MLflow deletes no metric."""
    if METRIC not in card.metrics:
        return {}  # Nothing was scored here, so that nothing is known of columns.
    gone = [name for name in run.data.metrics if name.startswith(BEST_ON_TEST) and name not in card.metrics]
    return {name: math.nan for name in gone if not math.isnan(run.data.metrics[name])}


def _age(run: "Run") -> tuple[int, str]:
    """What all machines sort runs by, the oldest first."""
    return run.info.start_time, run.info.run_id


def _place(tags: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(tags.get(name) for name in PLACE)


def _unknown(datasets: Sequence[Dataset], run: "Run") -> list[Dataset]:
    """The datasets that a run does not name yet."""
    known = {(each.dataset.name, each.dataset.digest) for each in (run.inputs.dataset_inputs if run.inputs else ())}
    return [each for each in datasets if (each.name, each.digest) not in known]


def _log_datasets(client: "MlflowClient", run_id: str, datasets: Sequence[Dataset]) -> None:
    """Name datasets as inputs of a run; nothing of them but their names and digests goes to the tracker."""
    from mlflow.exceptions import MlflowException

    inputs = [_input(each) for each in datasets]
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException:
        # Another machine named one for the first time at the same moment; the tracker has it now.
        client.log_inputs(run_id, inputs)


def _input(dataset: Dataset) -> "DatasetInput":
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    source = json.dumps({"uri": dataset.path})
    entity = Entity(name=dataset.name, digest=dataset.digest, source_type="local", source=source)
    return DatasetInput(entity, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])


def _log_batches(
    client: "MlflowClient",
    run_id: str,
    metrics: Sequence["Metric"],
    params: Sequence["Param"],
    tags: Sequence["RunTag"],
) -> None:
    """Log in as few calls as MLflow takes; mostly one."""
    while metrics or params or tags:
        client.log_batch(run_id, metrics[:MAX_METRICS], params[:MAX_TEXTS], tags[:MAX_TEXTS])
        metrics, params, tags = metrics[MAX_METRICS:], params[MAX_TEXTS:], tags[MAX_TEXTS:]


@contextmanager
def _artifacts(card: Card) -> Iterator[Path]:
    """A temporary folder with the files of a card, and the picture of its confusion matrix."""
    import polars as pl

    from emofuse.reporting.figures import confusion
    from emofuse.reporting.svg import as_file

    with tempfile.TemporaryDirectory(prefix="emofuse-") as name:
        folder = Path(name)
        for place, source in card.files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / place)
        if card.confusion is not None:
            whole = card.confusion.filter(pl.col("utterances") == ALL)
            (folder / "confusion.svg").write_text(as_file(confusion(whole, card.name)), encoding="utf-8")
        yield folder
