"""Synchronization of the tracker with the outputs on disk: first runs, then registered models."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from emofuse.core.process import quiet
from emofuse.tracking.address import TrackingConfig, alone, client_of, database, errors_of, public, tracker_uri
from emofuse.tracking.experiment import experiment_of, share_view, tags_of_machine, view
from emofuse.tracking.registry import Registry
from emofuse.tracking.results import CURRENT, EXPERIMENT, LEVEL, read_models
from emofuse.tracking.runs import Runs, all_pages

__all__ = ["Summary", "sync", "training_seconds", "try_sync"]


@dataclass(frozen=True)
class Summary:
    """What a synchronization did.

    Attributes:
        tracker: its address, without user name and password
        added: names of the runs that are new in the tracker
        updated: names of those whose scores, tags or pictures have changed, or that an interrupted process left
        unchanged: names of those that were there already
        registered: names in the registry of the models with a new version or changed scores, or whose alias has moved
        refused: why a model on disk could not be registered, one line a model
        view: of the models, as the rest of an address of MLflow's pages; empty where nothing was trained
    """

    tracker: str
    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    registered: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    view: str = ""

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
    if not any(root.glob("data/models/*/**/record.json")):
        return Summary(public(uri))
    with errors_of(uri):
        client = client_of(uri)
        with alone(uri):
            models = read_models(root)  # under the lock, so that what a later call has read is never undone
            experiment = experiment_of(client, uri, config)
            share_view(client, experiment)
            runs = Runs(client, experiment, tags_of_machine(root))
            models = [each for each in map(runs.without_known, models) if each.runs]
            with tqdm(total=sum(len(each.cards) for each in models), desc="track", unit="run", disable=quiet()) as bar:
                for model in models:
                    runs.show(model, bar.update)
            registry = Registry(client)
            for model in tqdm(models, desc="register", unit="model", disable=quiet()):
                registry.show(model, runs)
    added, updated, unchanged = map(tuple, (runs.added, runs.updated, runs.unchanged))
    registered, refused = tuple(registry.registered), tuple(registry.refused)
    return Summary(public(uri), added, updated, unchanged, registered, refused, view(experiment))


def training_seconds(root: Path, config: TrackingConfig) -> dict[tuple[str, str, str], float]:
    """Return the mean wall-clock seconds that a current run took to train, by task, encoders and model, where known.

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
    seconds: dict[tuple[str, str, str], list[float]] = {}
    with errors_of(uri):
        client = client_of(uri)
        found = client.get_experiment_by_name(config.name)
        query = f"tags.{LEVEL} = 'run' AND tags.`{CURRENT}` = 'true'"
        for run in all_pages(client.search_runs, [found.experiment_id], query, max_results=1000) if found else ():
            tags = run.data.tags
            if EXPERIMENT not in tags and run.info.end_time:
                model = (tags["task"], tags["encoders"], tags["model"])
                seconds.setdefault(model, []).append((run.info.end_time - run.info.start_time) / 1000)
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
        failed, printed = done.returncode != 0, done.stderr if done.returncode else done.stdout
        line = (printed.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        failed, line = True, f"not done after {config.timeout_s:g} s"
    except OSError as error:
        failed, line = True, str(error)
    print(f"tracking: incomplete, `emofuse track` catches up ({line})" if failed else line)


def _models(names: Sequence[str]) -> str:
    return f"{len(names)} {'model' if len(names) == 1 else 'models'}"
