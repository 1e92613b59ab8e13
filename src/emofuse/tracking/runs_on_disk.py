"""What the stages left on disk, as the runs that a tracker should show for it.

A trained run is a folder with ``record.json`` and ``predictions.parquet`` under ``data/models/<task>/``; its test
scores are in ``data/scores/<task>/<pair>/``, written by the scoring stage; ``metrics/<task>/<pair>/`` has the means and
the pictures of the whole task.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import polars as pl

from emofuse.core.dvc_state import lock_files, locked_stages
from emofuse.core.files import digest, file_digest
from emofuse.core.layout import Layout, Pair
from emofuse.core.params import ParamsError
from emofuse.core.store import DEFAULT_ROOT, Store
from emofuse.features.shards import FeatureError, metadata
from emofuse.plan import Plan, params_of_task
from emofuse.scoring.names import DEV

__all__ = [
    "CURRENT",
    "CURVES",
    "DEV_F1",
    "EXPERIMENT",
    "KEY",
    "LEVEL",
    "PLACE",
    "TEST",
    "Card",
    "Model",
    "RunsOnDisk",
    "opened",
    "read_models",
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

CURVES = {name: f"curves/{name}" for name in ("loss", "dev_accuracy", "dev_weighted_f1")}
"""Values of an epoch, and the metrics that show them."""

TEST = "test/"
"""Prefix of scores on test, as ``dev/`` is on dev, by which models and experiments are compared."""

DEV_F1 = f"{DEV}weighted_f1"


@dataclass(frozen=True)
class Card:
    """A run as the tracker should show it.

    Attributes:
        name: such as ``demo/logmel+minilm/hcam/seed-0-fold-0``
        tags: by name, the key among them once it is known
        params: by name
        metrics: single values by name, as fractions
        curves: ``(name, value, epoch)``
        times: start and end in seconds since 1970, where this machine's work store knows them, since no out holds a
            time; a model ends as if its runs had followed one another
        datasets: digest of what went in, as ``dvc.lock`` has it, by its path; none where stages ran without DVC
        files: artifacts, by the path that they have in the tracker
        result: digest of what a run gave: the key that it has, or would have, as a run of the project itself
        scores: folder of the results in whose table its model is
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: tuple[tuple[str, float, int], ...] = ()
    times: tuple[float, float] | None = None
    datasets: Mapping[Path, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    result: str | None = None
    scores: Path | None = None

    @property
    def key(self) -> str:
        """Digest by which the run is found again."""
        return self.tags[KEY]

    @cached_property
    def contents(self) -> str:
        """Digest of the artifacts and the datasets, which are logged again as a whole when it changes."""
        files = {name: file_digest(path) for name, path in self.files.items()}
        return digest([files, [(path.as_posix(), made) for path, made in self.datasets.items()]])


@dataclass(frozen=True)
class Model:
    """A model of a task.

    Attributes:
        parent: the run of the whole model: means over its runs
        runs: its trained runs, by seed and fold
        folder: where they are
    """

    parent: Card
    runs: tuple[Card, ...]
    folder: Path


def read_models(root: Path) -> list[Model]:
    """Return all that was trained under a project's root, by task and model.

    While DVC runs an experiment, which it says in the environment, everything on disk is that experiment's: it stands
    beside the runs of the project itself and of other experiments, and in the place of none of them.

    Raises:
        OSError: a file that should stand beside another is missing
        ValueError: a file is damaged
    """
    stages = [stage for path in lock_files(root) for stage in locked_stages(path).values()]
    # An out after all that depends on it: it says what is there now.
    files = [each for kind in ("deps", "outs") for stage in stages for each in stage.get(kind, ())]
    digests = {Path(each["path"]): str(each["md5"]) for each in files if "md5" in each}
    tasks = sorted(path.name for path in Layout(root).models.glob("*") if path.is_dir())
    return [model for task in tasks for model in RunsOnDisk(root, task, digests).models()]


def opened(record: Mapping[str, Any]) -> tuple[Card, Card]:
    """Return a run and its model as they are known before any epoch: name, tags and params; the run has no key yet.

    Args:
        record: of the run, whose ``parameters`` are those of all seeds
    """
    place = {name: str(record[name]) for name in ("task", "model", "seed", "fold")}
    place["encoders"] = "+".join(record["encoders"].values()) or "labels"
    name = "{task}/{encoders}/{model}/seed-{seed}-fold-{fold}".format(**place)
    if experiment := os.environ.get("DVC_EXP_NAME"):
        place[EXPERIMENT], name = experiment, f"{experiment}: {name}"
    tags = {**place, "mlflow.source.name": record["stage"], "mlflow.source.type": "LOCAL"}
    params = {_clean(each): str(value) for each, value in record["parameters"].items()}
    return Card(name, {**tags, LEVEL: "run"}, params), _parent_of(name, tags, params)


def _parent_of(name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> Card:
    """A model as it is known from one of its runs; with other parameters it is another model."""
    own = {each: value for each, value in tags.items() if each not in ("seed", "fold")}
    key = digest([*(own.get(each) for each in PLACE), params])
    return Card(name.rpartition("/")[0], {**own, KEY: key, CURRENT: "true", LEVEL: "model"}, params)


class RunsOnDisk:
    """All that is on disk of one task.

    Args:
        root: the project's root folder
        task: its key
        digests: of data, by path; without them, as while a stage trains, what the scoring stage left is out of date,
            and no part of a run
    """

    def __init__(self, root: Path, task: str, digests: Mapping[Path, str] | None = None) -> None:
        self._root, self._layout, self._task, self._digests = root, Layout(root), task, digests or {}
        self._params, run = None, []
        with suppress(ParamsError):  # The runs are worth showing where only the trained models were pulled, too.
            self._params = params_of_task(task, root)
            run = Plan.load(self._params).pairs
        scored = [] if digests is None else sorted(path.name for path in root.glob(f"metrics/{task}/*+*/"))
        # First those that are run, since results of others may be out of date.
        self._pairs = sorted(map(Pair.parse, scored), key=lambda pair: pair not in run)
        self._scores = {pair: _by_run(self._layout.scores(task, pair) / "runs.parquet") for pair in self._pairs}

    def models(self) -> list[Model]:
        """The task's models, by encoders and name.

        One that reads no encoder lies beside the models of each pair, and is one model all the same.
        """
        found: dict[tuple[str, str], dict[Path, list[Card]]] = {}
        for path in (self._layout.models / self._task).rglob("record.json"):
            card = self.run(path.parent)
            folders = found.setdefault((card.tags["encoders"], card.tags["model"]), {})
            folders.setdefault(path.parent.parent, []).append(card)
        return [self._model(folders) for _, folders in sorted(found.items())]

    def run(self, folder: Path) -> Card:
        """Return a trained run.

        Raises:
            OSError: a file that should stand beside another is missing
            ValueError: a file is damaged
        """
        files = {name: folder / name for name in ("record.json", "predictions.parquet")}
        try:
            record = json.loads(files["record.json"].read_text(encoding="utf-8"))
            card, _ = opened(record)
            pair, place = self._pair(record["encoders"]), (record["model"], record["seed"], record["fold"])
            # The key is of the result itself, and not of the stage, which may be repeated with an equal result, and in
            # whose name the majority has a pair of encoders that it does not read.
            given = {name: each for name, each in record.items() if name != "stage"}
            result = digest([given, file_digest(files["predictions.parquet"])])
            key = digest([result, card.tags[EXPERIMENT]]) if EXPERIMENT in card.tags else result
            datasets, encoder_tags = self._inputs(record["encoders"])
            return replace(
                card,
                tags={**card.tags, KEY: key, CURRENT: "true", **encoder_tags},
                metrics=_metrics(record, self._scores[pair].get(place, {}) if pair else {}),
                curves=tuple(
                    (CURVES[name], each[name], each["epoch"])
                    for each in record["history"]
                    for name in CURVES
                    if name in each
                ),
                times=self._times.get(file_digest(files["record.json"])),
                datasets=datasets,
                files=files,
                result=result,
                scores=self._layout.metrics(self._task, pair) if pair else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{files['record.json']}: not a run's record: {error!r}") from error

    def _model(self, folders: Mapping[Path, Sequence[Card]]) -> Model:
        scores = next(iter(folders.values()))[0].scores
        folder = min(folders, key=lambda each: (each.parent.name != (scores.name if scores else ""), each))
        runs = sorted(folders[folder], key=lambda card: (int(card.tags["seed"]), int(card.tags["fold"])))
        first, known = runs[0], [card.times for card in runs if card.times]
        start, took = min(known, default=(0.0, 0.0))[0], sum(end - begin for begin, end in known)
        params = {each: value for each, value in first.params.items() if all(c.params.get(each) == value for c in runs)}
        parent = replace(
            _parent_of(first.name, first.tags, params),
            metrics={**_on_dev(runs), **(_on_test(scores / "scores.csv", first.tags["model"]) if scores else {})},
            times=(start, start + took) if known else None,
            datasets=first.datasets,
            files=_pictures_and_tables(scores, first.tags["model"]) if scores else {},
        )
        return Model(parent, tuple(runs), folder)

    @cached_property
    def _times(self) -> dict[str, tuple[float, float]]:
        return Store(self._root / DEFAULT_ROOT).times("runs")

    def _pair(self, encoders: Mapping[str, str]) -> Pair | None:
        """A pair in whose results a model is; a unimodal one is in those of all pairs with its encoder."""
        fits = (pair for pair in self._pairs if all(pair.encoder(each) == encoders[each] for each in encoders))
        return next(fits, None)

    def _inputs(self, encoders: Mapping[str, str]) -> tuple[dict[Path, str], dict[str, str]]:
        """The data that a model reads, with digests, and tags that say what made its features."""
        if self._params is None:
            return {}, {}
        corpus = self._params.get("corpus.name", str)
        folders = {modality: Layout().features(corpus, name) for modality, name in encoders.items()}
        paths = (Layout().corpus(corpus) / "utterances.parquet", *folders.values())
        made = {f"encoder.{modality}": _identity(self._root / folder) for modality, folder in folders.items()}
        digests = {path: self._digests[path] for path in paths if path in self._digests}
        return digests, {name: text for name, text in made.items() if text}


def _identity(features: Path) -> str | None:
    """What made features, in a line."""
    try:
        made = metadata(features)
    except (OSError, FeatureError):
        return None  # not pulled
    labels = "seen" if made["labels_seen"] else "unseen"
    return f"{made['id']}@{made['revision']}, layer {made['layer']}, labels {labels}"


def _pictures_and_tables(metrics: Path, model: str) -> dict[str, Path]:
    """A pair's pictures, results table and page, without the confusion matrices of other models."""
    own = f"confusion-{model.replace('/', '-')}"
    paths = [*metrics.glob("report.html"), *metrics.glob("table.md"), *sorted(metrics.rglob("*.svg"))]
    shown = (path for path in paths if path.stem == own or not path.stem.startswith("confusion-"))
    return {path.relative_to(metrics).as_posix(): path for path in shown}


def _on_test(path: Path, model: str) -> dict[str, float]:
    """Means over runs of a model on test, their standard deviations, and the ends of their intervals."""
    rows = pl.read_csv(path).filter(pl.col("model") == model).to_dicts() if path.exists() else []
    return {
        _clean(f"{TEST}{row['metric']}{suffix}"): row[column]
        for row in rows
        for column, suffix in (("mean", ""), ("sd", "_sd"), ("low", "_low"), ("high", "_high"))
        if not row["metric"].startswith(DEV) and row[column] is not None
    }


def _on_dev(runs: Sequence[Card]) -> dict[str, float]:
    """Mean and sample standard deviation over runs of what is there before anything is scored."""
    found: dict[str, float] = {"n_runs": len(runs)}
    for name in runs[0].metrics:
        values = [card.metrics[name] for card in runs] if name.startswith(DEV) or name == "n_parameters" else []
        found |= {name: round(fmean(values), 6)} if values else {}
        found |= {f"{name}_sd": round(stdev(values), 6)} if name.startswith(DEV) and len(values) > 1 else {}
    return found


def _metrics(record: Mapping[str, Any], scores: Mapping[str, float]) -> dict[str, float]:
    """Scores on test and on dev, and the size of the network."""
    test = {f"{TEST}{name}": value for name, value in scores.items()}
    dev = {f"{DEV}{name}": value for name, value in record["dev"].items()}
    size = {name: record[name] for name in ("n_parameters", "best_epoch") if record[name] is not None}
    return {_clean(name): float(value) for name, value in (test | dev | size).items()}


def _by_run(path: Path) -> dict[tuple[str, int, int], dict[str, float]]:
    """The scores of each model, seed and fold; rows without a fold, which pool all of them, belong to no run."""
    found: dict[tuple[str, int, int], dict[str, float]] = {}
    table = pl.read_parquet(path, columns=["model", "seed", "fold", "metric", "value"]) if path.exists() else None
    for model, seed, fold, metric, value in table.drop_nulls("fold").iter_rows() if table is not None else ():
        found.setdefault((model, seed, fold), {})[metric] = value
    return found


def _clean(name: str) -> str:
    """A name that MLflow takes for a metric or parameter."""
    return re.sub(r"[^\w.\-: /]", "_", name)
