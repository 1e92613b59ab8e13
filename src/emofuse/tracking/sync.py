"""The tracker is brought in line with what is on disk: first the runs, then the registry of trained models."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from filelock import FileLock, Timeout
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from tqdm import tqdm

from emofuse.core.files import digest
from emofuse.core.params import STRICT
from emofuse.core.process import quiet
from emofuse.tracking.address import TrackingError, database, errors_of, public, tracker_uri
from emofuse.tracking.registry import Registry
from emofuse.tracking.results import CURRENT, EXPERIMENT, SECONDS, Model, read_models
from emofuse.tracking.runs import PATIENCE, Runs, all_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Summary", "TrackingConfig", "sync", "training_seconds", "try_sync"]


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
        unchanged: names of those that were there already, or that another machine is logging just now
        registered: names in the registry of the models with a new version or changed scores, or whose alias has moved
        refused: why a model on disk could not be registered, one line a model
    """

    tracker: str
    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    registered: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [
            f"{len(self.added)} {'run' if len(self.added) == 1 else 'runs'} added",
            f"{len(self.updated)} updated",
            f"{len(self.unchanged)} unchanged",
            *([f"{_models(self.registered)} registered"] if self.registered else []),
            *([f"{_models(self.refused)} not registered"] if self.refused else []),
        ]
        return f"tracking: {', '.join(parts)} in {self.tracker}"


def sync(root: Path, config: TrackingConfig) -> Summary:
    """Bring the MLflow tracker in line with what is on disk.

    The tracker is a SQLite file ``mlflow.db`` in the project's root, made when needed, with its artifacts beside it,
    unless MLFLOW_TRACKING_URI names another. A model trained again, with another result, is a new run; the earlier
    one stays, without the tag ``emofuse.current = true``. A run that somebody deleted in the tracker, but that is still
    on disk, returns. Of an experiment of DVC those runs are logged whose results the project's own runs do not have. Of
    each model the run that is best on dev is in the registry.

    Args:
        root: the project's root folder
        config: the experiment

    Raises:
        TrackingError: the tracker cannot be reached or does not take the runs; what was logged stays, and the next
            call goes on from there
        OSError: a file that should stand beside another is missing
        ValueError: a file on disk is damaged
    """
    uri = tracker_uri(root)
    with _alone(uri) as writer:
        models = read_models(root)  # under the lock, so that what a later call has read is never undone
        if not models:
            return Summary(public(uri))
        with errors_of(uri):
            return _bring_in_line(uri, _name(config), writer, _git_commit(root), models)


def training_seconds(root: Path, config: TrackingConfig) -> dict[tuple[str, str, str], float]:
    """Return the mean wall-clock seconds of a current run's own stage, by task, encoders and model, as far as known.

    Args:
        root: the project's root folder
        config: the experiment

    Raises:
        TrackingError: the tracker cannot be reached
    """
    uri = tracker_uri(root)
    file = database(uri)
    if file and not file.exists():
        return {}
    from mlflow import MlflowClient

    seconds: dict[tuple[str, str, str], list[float]] = {}
    with errors_of(uri):
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(_name(config))
        for run in all_runs(client, found.experiment_id) if found else ():
            tags = run.data.tags
            if tags.get(CURRENT) == "true" and EXPERIMENT not in tags and SECONDS in run.data.metrics:
                model = (tags["task"], tags["encoders"], tags["model"])
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
        failed, counts = done.returncode != 0, done.stderr if done.returncode else done.stdout
        line = (counts.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        failed, line = True, f"not done after {config.timeout_s:g} s"
    except OSError as error:
        failed, line = True, str(error)
    print(f"tracking: incomplete, `emofuse track` catches up ({line})" if failed else line)


def _bring_in_line(uri: str, experiment: str, writer: str, commit: str | None, models: Sequence[Model]) -> Summary:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    runs = Runs(client, _experiment(client, uri, experiment), writer, commit)
    models = runs.new(models)
    runs.make(models)
    with tqdm(total=sum(len(model.cards) for model in models), desc="track", unit="run", disable=quiet()) as bar:
        for model in models:
            runs.show(model, bar.update)
    registry = Registry(client)
    for model in tqdm(models, desc="register", unit="model", disable=quiet()):
        registry.show(model, runs)
    counts = (runs.added, runs.updated, runs.unchanged, registry.registered, registry.refused)
    return Summary(public(uri), *map(tuple, counts))


def _name(config: TrackingConfig) -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.experiment


def _experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """Id of the experiment, made if it is not there; artifacts of a SQLite tracker lie beside its file."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return _new_experiment(client, uri, name)
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracker {public(uri)}: the experiment {name!r} was deleted; restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or name another one in tracking.experiment"
        )
    return found.experiment_id


def _new_experiment(client: "MlflowClient", uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    file = database(uri)
    try:
        return client.create_experiment(
            name, artifact_location=(file.parent / "mlartifacts").as_uri() if file else None
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        # Another machine made it at the same moment.
        return _experiment(client, uri, name)


@contextmanager
def _alone(uri: str) -> Iterator[str]:
    """Hold the lock of a tracker, against doubles and against two processes that both make the database.

    Gives a digest of the lock: of the processes that have the same, one is at work.
    """
    file = database(uri)
    # A tracker in the network has no folder here: its lock holds for the processes of one user on one machine.
    shared = Path(tempfile.gettempdir()) / f"emofuse-{os.getuid()}-{digest(uri)[:16]}.lock"
    lock = FileLock(file.with_name(f"{file.name}-lock") if file else shared)
    try:
        with lock.acquire(timeout=PATIENCE):
            yield digest([socket.gethostname(), lock.lock_file])[:16]
    except Timeout as error:
        raise TrackingError(f"another process is writing to {public(uri)}, it holds {lock.lock_file}") from error


def _models(names: Sequence[str]) -> str:
    return f"{len(names)} {'model' if len(names) == 1 else 'models'}"


def _git_commit(root: Path) -> str | None:
    """The commit that is checked out, None outside of a repository or before its first commit."""
    # Also where somebody else owns the checkout, as in a container: reading a commit's name runs nothing of theirs.
    command = ["git", "-c", "safe.directory=*", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
