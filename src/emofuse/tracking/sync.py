"""Synchronization of the tracker with the outputs on disk: first runs, then registered models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from emofuse.core.process import quiet
from emofuse.tracking.address import TrackingConfig, alone, database, public, tracker, tracker_uri
from emofuse.tracking.experiment import experiment_of, view
from emofuse.tracking.registry import Registry
from emofuse.tracking.runs_in_tracker import RunsInTracker, all_pages
from emofuse.tracking.runs_on_disk import CURRENT, EXPERIMENT, LEVEL, read_models

__all__ = ["Summary", "sync", "training_seconds"]


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
            _count(self.added, "run") + " added",
            f"{len(self.updated)} updated",
            f"{len(self.unchanged)} unchanged",
        ]
        parts += [_count(self.registered, "model") + " registered"] if self.registered else []
        parts += [_count(self.refused, "model") + " not registered"] if self.refused else []
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
    if not any(root.glob("data/models/*/**/record.json")):
        return Summary(public(tracker_uri(root)))
    with tracker(root) as (client, uri), alone(uri):
        models = read_models(root)  # under the lock, so that what a later call has read is never undone
        experiment = experiment_of(client, uri, config)
        runs, registry = RunsInTracker(client, experiment, root), Registry(client)
        models = [each for each in map(runs.without_known, models) if each.runs]
        for model in tqdm(models, desc="track", unit="model", disable=quiet()):
            runs.show(model)
        for model in tqdm(models, desc="register", unit="model", disable=quiet()):
            registry.show(model, runs)
    done = {name: tuple(each) for name, each in (runs.done | registry.done).items()}
    return Summary(public(uri), **done, view=view(experiment))


def training_seconds(root: Path, config: TrackingConfig) -> dict[tuple[str, str, str], float]:
    """Return the mean wall-clock seconds that a current run took to train, by task, encoders and model, where known.

    Args:
        root: the project's root folder
        config: the experiment

    Raises:
        TrackingError: the tracker cannot be reached
    """
    file = database(tracker_uri(root))
    if file and not file.exists():
        return {}
    seconds: dict[tuple[str, str, str], list[float]] = {}
    with tracker(root) as (client, _):
        found = client.get_experiment_by_name(config.name)
        query = f"tags.{LEVEL} = 'run' AND tags.`{CURRENT}` = 'true'"
        for run in all_pages(client.search_runs, [found.experiment_id], query) if found else ():
            tags = run.data.tags
            if EXPERIMENT not in tags and run.info.end_time:
                model = (tags["task"], tags["encoders"], tags["model"])
                seconds.setdefault(model, []).append((run.info.end_time - run.info.start_time) / 1000)
    return {model: fmean(each) for model, each in seconds.items()}


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"
