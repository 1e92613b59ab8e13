"""What a tracker should show of a run: its names, numbers, files and datasets, wherever they come from."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emofuse.core.files import digest, file_digest

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "CURRENT",
    "CURVES",
    "DEV",
    "DEV_F1",
    "EXPERIMENT",
    "KEY",
    "LEVEL",
    "PLACE",
    "TEST",
    "Card",
    "Dataset",
    "Model",
    "clean",
    "opened",
    "parent_of",
]

KEY = "emofuse.key"
"""Tag by which a run is found again."""

CURRENT = "emofuse.current"
"""Tag that tells the runs that are on disk from those that a later training has replaced."""

LEVEL = "level"
"""Tag that tells a ``model``, with its means, from a ``run``, one seed and fold of it."""

EXPERIMENT = "emofuse.experiment"
"""Tag with the name of DVC's experiment that a run was made in; runs of a plain ``dvc repro`` have none."""

PLACE = ("task", "encoders", "model", "seed", "fold", EXPERIMENT)
"""What a run stands for; a run that is trained again, with another result, takes the place of the earlier one."""

CURVES = {name: f"training/{name}" for name in ("loss", "dev_accuracy", "dev_weighted_f1")}
"""Values of an epoch, and the metrics that show them."""

DEV, TEST = "dev/", "test/"
"""Prefixes of scores; models and experiments are compared by those on dev."""

DEV_F1 = f"{DEV}weighted_f1"


@dataclass(frozen=True)
class Dataset:
    """What a run was made of.

    Attributes:
        name: such as ``demo/utterances`` or ``demo/logmel``
        digest: of its contents, as the stage's entry in ``dvc.lock`` has it
        path: in the project
    """

    name: str
    digest: str
    path: str


@dataclass(frozen=True)
class Card:
    """A run as the tracker should show it.

    Attributes:
        key: digest by which the run is found again
        name: such as ``demo/logmel+minilm/hcam/seed-0-fold-0``
        tags: by name, the key among them
        params: by name
        metrics: single values by name, as fractions
        curves: ``(name, value, epoch)``
        times: start and end in seconds since 1970, where this machine's work store knows them: no out holds a time
        datasets: what went in; none where stages ran without DVC
        files: artifacts, by the path that they have in the tracker
        confusion: ``utterances, true, predicted, count`` of a single run on test, for a picture
        result: digest of what a run gave: the key that it has, or would have, as a run of the project itself
    """

    key: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: tuple[tuple[str, float, int], ...] = ()
    times: tuple[float, float] | None = None
    datasets: tuple[Dataset, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    confusion: "pl.DataFrame | None" = None
    result: str | None = None

    @cached_property
    def contents(self) -> str:
        """Digest of the artifacts, which are logged again as a whole when it changes."""
        files = {name: file_digest(path) for name, path in self.files.items()}
        return digest([files, self.confusion.rows() if self.confusion is not None else None])


@dataclass(frozen=True)
class Model:
    """A model of a task.

    Attributes:
        parent: the run of the whole model: means over its runs
        runs: its trained runs, by seed and fold
        folder: where they are
        scored: digest of what the scoring stage said of the task; None before it ran
    """

    parent: Card
    runs: tuple[Card, ...]
    folder: Path
    scored: str | None

    @property
    def cards(self) -> tuple[Card, ...]:
        """The parent, then the runs."""
        return (self.parent, *self.runs)

    @property
    def best(self) -> Card:
        """The run with the best weighted F1 on dev, among equals the first."""
        return max(self.runs, key=lambda card: card.metrics[DEV_F1])


def opened(record: Mapping[str, Any]) -> tuple[Card, Card]:
    """Return a run and its model as they are known before any epoch: name, tags and params; the run has no key yet.

    Args:
        record: of the run, whose ``parameters`` are those of all seeds
    """
    place = {name: str(record[name]) for name in ("task", "model", "seed", "fold")}
    place["encoders"] = "+".join(record["encoders"].values()) or "labels"
    source = {"stage": record["stage"], "mlflow.source.name": record["stage"], "mlflow.source.type": "LOCAL"}
    name = "{task}/{encoders}/{model}/seed-{seed}-fold-{fold}".format(**place)
    if experiment := os.environ.get("DVC_EXP_NAME"):
        place[EXPERIMENT], name = experiment, f"{experiment}: {name}"
    params = {clean(each): str(value) for each, value in record["parameters"].items()}
    return Card("", name, {**place, **source, LEVEL: "run"}, params), parent_of(name, {**place, **source}, params)


def parent_of(name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> Card:
    """Return a model as it is known from one of its runs; with other parameters it is another model."""
    own = {each: value for each, value in tags.items() if each not in ("seed", "fold")}
    key = digest([*(own.get(each) for each in PLACE), params])
    return Card(key, name.rpartition("/")[0], {**own, KEY: key, CURRENT: "true", LEVEL: "model"}, params)


def clean(name: str) -> str:
    """Return a name that MLflow takes for a metric or parameter."""
    return re.sub(r"[^\w.\-: /]", "_", name)
