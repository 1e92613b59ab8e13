"""Log what the tracker lacks, and nothing twice.

Every step may be repeated: a run is found again by its key, what it already has is left alone, and the tag
:data:`COMPLETE` is written last. So a process that was killed half-way, or a tracker that went away, costs nothing but
the next synchronization.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
from filelock import FileLock, Timeout
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from tqdm import tqdm

from emofuse.files import digest
from emofuse.params import STRICT
from emofuse.process import quiet
from emofuse.tracking.results import CURRENT, EXPERIMENT, KEY, PLACE, SECONDS, Card, Model, read_models

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run, RunTag

__all__ = ["Summary", "TrackingConfig", "TrackingError", "sync", "training_seconds", "try_sync"]

COMPLETE = "emofuse.complete"
"""Tag with the digest of params, curves and artifacts, written when all of them are in the tracker."""

LOCK_SECONDS = 300
"""How long to wait for another process that is writing to the same tracker."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""MLflow's own variables that differ from its defaults here, unless the environment has them."""

MAX_METRICS, MAX_TEXTS = 800, 100
"""What MLflow takes in one call: metrics, and each of params and tags; 1,000 in all."""


class TrackingError(RuntimeError):
    """The tracker cannot be reached or does not take the runs; one line, which names the tracker."""


@checked_dataclass(frozen=True, config=STRICT)
class TrackingConfig:
    """Where runs are shown."""

    experiment: Annotated[str, Field(min_length=1)] = "emofuse"
    """Name of the MLflow experiment; the environment variable MLFLOW_EXPERIMENT_NAME chooses another."""

    enabled: bool = True
    """Whether the scoring stage brings the tracker in line; ``emofuse track`` does in any case."""

    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Longest time in seconds that the scoring stage waits for the tracker."""


@dataclass(frozen=True)
class Summary:
    """What a synchronization did.

    Attributes:
        tracker: its address, without user name and password
        added: names of the runs that are new in the tracker
        updated: names of those whose scores, tags or pictures have changed, or that an interrupted process left
        unchanged: names of those that were there already
    """

    tracker: str
    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    def __str__(self) -> str:
        added = f"{len(self.added)} {'run' if len(self.added) == 1 else 'runs'} added"
        return f"tracking: {added}, {len(self.updated)} updated, {len(self.unchanged)} unchanged in {self.tracker}"


def sync(root: Path, config: TrackingConfig) -> Summary:
    """Bring the MLflow tracker in line with what is on disk.

    The tracker is a SQLite file ``mlflow.db`` in the project's root, made when needed, with its artifacts beside it,
    unless MLFLOW_TRACKING_URI names another. A model trained again, with another result, is a new run; the earlier
    one stays, without the tag ``emofuse.current = true``. A run that somebody deleted in the tracker, but that is still
    on disk, returns.

    Args:
        root: the project's root folder
        config: the experiment

    Raises:
        TrackingError: the tracker cannot be reached or does not take the runs; what was logged stays, and the next
            call goes on from there
        OSError: a file that should stand beside another is missing
        ValueError: a file on disk is damaged
    """
    uri = _uri(root)
    with _alone(uri):
        models = read_models(root)  # under the lock, so that what a later call has read is never undone
        if not models:
            return Summary(_public(uri))
        with _errors_of(uri):
            tracker = _Tracker(uri, _name(config), _git_commit(root))
            cards = sum(1 + len(model.runs) for model in models)
            with tqdm(total=cards, desc="track", unit="run", disable=quiet()) as bar:
                for model in models:
                    tracker.show(model, bar.update)
            return Summary(_public(uri), tuple(tracker.added), tuple(tracker.updated), tuple(tracker.unchanged))


def training_seconds(root: Path, config: TrackingConfig) -> dict[tuple[str, str], float]:
    """Return the mean wall-clock seconds of a current run's own stage, by task and model, as far as the tracker knows.

    Args:
        root: the project's root folder
        config: the experiment

    Raises:
        TrackingError: the tracker cannot be reached
    """
    uri = _uri(root)
    database = _database(uri)
    if database and not database.exists():
        return {}
    from mlflow import MlflowClient

    seconds: dict[tuple[str, str], list[float]] = {}
    with _errors_of(uri):
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(_name(config))
        for run in _all_runs(client, found.experiment_id) if found else ():
            tags = run.data.tags
            if tags.get(CURRENT) == "true" and EXPERIMENT not in tags and SECONDS in run.data.metrics:
                model = (tags["task"], tags["model"])
                seconds.setdefault(model, []).append(run.data.metrics[SECONDS])
    return {model: sum(each) / len(each) for model, each in seconds.items()}


def try_sync(root: Path, config: TrackingConfig) -> None:
    """Call :func:`sync` from a stage: it never raises, ends in bounded time, and prints one line.

    A process of its own does the work, because only a process can be ended from outside whatever it hangs in. Nothing
    is lost then: the results are on disk, and ``emofuse track`` catches up.

    Args:
        root: the project's root folder
        config: the experiment, and how long to wait
    """
    if not config.enabled:
        return
    command = [sys.executable, "-m", "emofuse.tracking", str(root), config.experiment]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=config.timeout_s)
        failed, said = done.returncode != 0, done.stderr if done.returncode else done.stdout
        line = (said.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        failed, line = True, f"not done after {config.timeout_s:g} s"
    except OSError as error:
        failed, line = True, str(error)
    print(f"tracking: incomplete, `emofuse track` catches up ({line})" if failed else line)


class _Tracker:
    """An experiment of a tracker.

    Args:
        uri: MLflow's address of the tracker
        experiment: its name, made if it is not there
        commit: git's commit, which new runs get as a tag

    Attributes:
        added: names of the runs that :meth:`show` added
        updated: names of those that it changed
        unchanged: names of those that it left alone
    """

    def __init__(self, uri: str, experiment: str, commit: str | None) -> None:
        from mlflow import MlflowClient

        self.added: list[str] = []
        self.updated: list[str] = []
        self.unchanged: list[str] = []
        self._client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._experiment = _experiment(self._client, uri, experiment)
        self._commit = {"git_commit": commit, "mlflow.source.git.commit": commit} if commit else {}
        self._runs = list(_all_runs(self._client, self._experiment))
        # The oldest run of a key is the one; a double of another machine's, made at the same moment, is retired.
        self._by_key = {run.data.tags.get(KEY): run for run in reversed(self._runs)}

    def show(self, model: Model, done: Callable[[], object]) -> None:
        """Show a model's parent run and all runs under it; calls ``done`` after each."""
        parent = self._show(model.parent, {})
        done()
        for card in model.runs:
            self._show(card, {"mlflow.parentRunId": parent})
            done()
        self._retire([model.parent, *model.runs])

    def _show(self, card: Card, link: Mapping[str, str]) -> str:
        """Show one run and return its id."""
        found = self._by_key.get(card.key)
        tags = {**card.tags, **link}
        run = found or self._client.create_run(self._experiment, run_name=card.name, tags={**tags, **self._commit})
        complete = run.data.tags.get(COMPLETE) == card.contents
        new_tags = {name: value for name, value in tags.items() if run.data.tags.get(name) != value}
        new_metrics = {name: value for name, value in card.metrics.items() if run.data.metrics.get(name) != value}
        new_metrics |= {name: value for name, value in card.firsts.items() if name not in run.data.metrics}
        if new_tags or new_metrics or not complete:
            self._log(run, card, new_tags, new_metrics, complete)
            (self.updated if found else self.added).append(card.name)
        else:
            self.unchanged.append(card.name)
        return run.info.run_id

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
        keys, places = {card.key for card in cards}, {_place(card.tags) for card in cards}
        chosen = {self._by_key[key].info.run_id for key in keys if key in self._by_key}
        for run in self._runs:
            tags = run.data.tags
            if run.info.run_id not in chosen and _place(tags) in places and tags.get(CURRENT) == "true":
                self._client.set_tag(run.info.run_id, CURRENT, "false")


def _uri(root: Path) -> str:
    """MLflow's address of the tracker, with MLflow's own variables set."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # DVC runs queued experiments in copies of the project, and says where the project itself is.
    home = Path(os.environ.get("DVC_ROOT", root))
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(home / 'mlflow.db').resolve()}"


def _name(config: TrackingConfig) -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.experiment


def _place(tags: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(tags.get(name) for name in PLACE)


def _experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """Id of the experiment, made if it is not there; artifacts of a SQLite tracker lie beside its file."""
    found = client.get_experiment_by_name(name)
    if found is None:
        database = _database(uri)
        location = (database.parent / "mlartifacts").as_uri() if database else None
        return client.create_experiment(name, artifact_location=location)
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracker {_public(uri)}: the experiment {name!r} was deleted; restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or name another one in tracking.experiment"
        )
    return found.experiment_id


def _all_runs(client: "MlflowClient", experiment: str) -> Iterator["Run"]:
    """All runs that are not deleted, the oldest first."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, order_by=["start_time ASC"], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


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
    with tempfile.TemporaryDirectory(prefix="emofuse-") as name:
        folder = Path(name)
        for place, source in card.files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / place)
        if card.confusion is not None:
            (folder / "confusion.png").write_bytes(_confusion_picture(card.name, card.confusion))
        yield folder


def _confusion_picture(name: str, confusion: pl.DataFrame) -> bytes:
    from emofuse.scoring import Scores, ScoringConfig, plot_confusion

    scores = Scores(
        classes=tuple(confusion["true"].unique(maintain_order=True)),
        config=ScoringConfig(),
        pooled=False,
        n_utterances=int(confusion["count"].sum()),
        n_dialogues=0,
        models=pl.DataFrame({"model": [name], "n_runs": [1]}),
        pairs=pl.DataFrame(),
        runs=pl.DataFrame(),
        confusion=confusion.select(pl.lit(name).alias("model"), "true", "predicted", "count"),
        run_confusion=pl.DataFrame(),
        calibration=pl.DataFrame(),
    )
    return plot_confusion(scores, name)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Hold the lock of a tracker, against doubles and against two processes that both make the database."""
    database = _database(uri)
    # A tracker in the network has no folder here: its lock holds for the processes of one user on one machine.
    shared = Path(tempfile.gettempdir()) / f"emofuse-{os.getuid()}-{digest(uri)[:16]}.lock"
    lock = FileLock(database.with_name(f"{database.name}-lock") if database else shared)
    try:
        with lock.acquire(timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise TrackingError(f"another process is writing to {_public(uri)}, it holds {lock.lock_file}") from error


@contextmanager
def _errors_of(uri: str) -> Iterator[None]:
    """Turn what the tracker raises into one line that names it."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrackingError(_public(f"tracker {uri}: {first}")) from error


def _database(uri: str) -> Path | None:
    """The file of a SQLite tracker."""
    from sqlalchemy.engine import make_url

    path = make_url(uri).database if uri.startswith("sqlite:") else None
    return Path(path).resolve() if path else None


def _public(text: str) -> str:
    """An address, or a message with addresses in it, without user names and passwords."""
    return re.sub(r"://[^/\s]*@", "://***@", text)


def _git_commit(root: Path) -> str | None:
    """The commit that is checked out, None outside of a repository or before its first commit."""
    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
