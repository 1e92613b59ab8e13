"""Runs for the tracker from the outputs of stages.

A trained run is a folder with ``record.json`` and ``predictions.parquet`` under ``data/models/<task>/``; its test
scores are in ``data/scores/<task>/<pair>/``, written by the scoring stage; ``metrics/<task>/<pair>/`` has the means and
the pictures of the whole task.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import polars as pl
import yaml

from emofuse.core.files import digest, file_digest
from emofuse.core.layout import Layout, Pair
from emofuse.core.params import Params, ParamsError
from emofuse.core.store import DEFAULT_ROOT, Store
from emofuse.features.shards import FeatureError, metadata
from emofuse.plan import Plan, params_of_task
from emofuse.scoring.scores import DEV

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
    "Results",
    "opened",
    "read_models",
]

KEY = "emofuse.key"
"""Tag by which a run is found again."""

_LOCK = "emofuse.lock"

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
        times: start and end in seconds since 1970, where this machine's work store knows them, since no out holds a
            time; a model ends as if its runs had followed one another
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
    confusion: pl.DataFrame | None = None
    result: str | None = None

    @cached_property
    def contents(self) -> str:
        """Digest of the artifacts and the datasets, which are logged again as a whole when it changes."""
        files = {name: file_digest(path) for name, path in self.files.items()}
        datasets = [(each.name, each.digest) for each in self.datasets]
        return digest([files, datasets, self.confusion.rows() if self.confusion is not None else None])


@dataclass(frozen=True)
class Model:
    """A model of a task.

    Attributes:
        parent: the run of the whole model: means over its runs
        runs: its trained runs, by seed and fold
        folder: where they are
        scored: digest of the scoring stage's results for the task; None before it ran
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


def read_models(root: Path) -> list[Model]:
    """Return all that was trained under a project's root, by task and model.

    While DVC runs an experiment, which it says in the environment, everything on disk is that experiment's: it stands
    beside the runs of the project itself and of other experiments, and in the place of none of them.

    Raises:
        OSError: a file that should stand beside another is missing
        ValueError: a file is damaged
    """
    locked = _locked_stages(root)
    folders = sorted(path for path in root.glob("data/models/*") if path.is_dir())
    return [model for folder in folders for model in Results(root, folder.name, locked).models()]


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
    params = {_clean(each): str(value) for each, value in record["parameters"].items()}
    return Card("", name, {**place, **source, LEVEL: "run"}, params), _parent_of(name, {**place, **source}, params)


def _parent_of(name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> Card:
    """A model as it is known from one of its runs; with other parameters it is another model."""
    own = {each: value for each, value in tags.items() if each not in ("seed", "fold", _LOCK)}
    key = digest([*(own.get(each) for each in PLACE), params])
    return Card(key, name.rpartition("/")[0], {**own, KEY: key, CURRENT: "true", LEVEL: "model"}, params)


class Results:
    """All that is on disk of one task.

    Args:
        root: the project's root folder
        name: key of the task
        locked: entries of ``dvc.lock`` by stage; without them, as while a stage trains, what the scoring stage left is
            out of date, and no part of a run
    """

    def __init__(self, root: Path, name: str, locked: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.name = name
        self._root, self._layout, self._locked = root, Layout(root), locked or {}
        self._pairs = [] if locked is None else self._scored_pairs()
        self._scores = {pair: _by_run(self._layout.scores(name, pair) / "runs.parquet") for pair in self._pairs}
        self._confusion = {pair: _by_run(self._layout.scores(name, pair) / "confusion.parquet") for pair in self._pairs}

    def models(self) -> list[Model]:
        """The task's models, by encoders and name.

        One that reads no encoder lies beside the models of each pair, and is one model all the same.
        """
        runs: dict[tuple[str, str], dict[Path, list[Card]]] = {}
        encoders: dict[str, dict[str, str]] = {}
        for path in self._layout.models.joinpath(self.name).rglob("record.json"):
            record, card = self.run(path.parent)
            encoders[card.tags["encoders"]] = record["encoders"]
            folders = runs.setdefault((card.tags["encoders"], record["model"]), {})
            folders.setdefault(path.parent.parent, []).append(card)
        return [self._model(name, encoders[of], folders) for (of, name), folders in sorted(runs.items())]

    def run(self, folder: Path) -> tuple[dict[str, Any], Card]:
        """Return the record of a trained run and the run.

        Raises:
            OSError: a file that should stand beside another is missing
            ValueError: a file is damaged
        """
        path = folder / "record.json"
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return record, self._run(record, folder)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a run's record: {error!r}") from error

    def _run(self, record: dict[str, Any], folder: Path) -> Card:
        card, _ = opened(record)
        encoders, pair = record["encoders"], self._pair(record["encoders"])
        files = {name: folder / name for name in ("record.json", "predictions.parquet")}
        # The key is of the result itself. The stage's entry in dvc.lock will not do: it changes when a seed is added or
        # a comment is edited, which leaves the result as it was, and stays when a stage is run without DVC. Nor does
        # the stage's name, in which the majority has a pair of encoders that it does not read.
        given = {name: each for name, each in record.items() if name != "stage"}
        result = digest([given, file_digest(files["predictions.parquet"])])
        key = digest([result, card.tags[EXPERIMENT]]) if EXPERIMENT in card.tags else result
        lock = self._locked.get(record["stage"])
        own = {_LOCK: digest(lock)} if lock else {}
        run = (record["model"], record["seed"], record["fold"])
        return Card(
            key=key,
            name=card.name,
            tags={**card.tags, KEY: key, CURRENT: "true", **own, **self._encoder_tags(encoders)},
            params=card.params,
            metrics=_metrics(record, self._scores[pair].get(run) if pair else None),
            curves=tuple(
                (CURVES[name], epoch[name], epoch["epoch"])
                for epoch in record["history"]
                for name in CURVES
                if name in epoch
            ),
            times=self._times.get(file_digest(files["record.json"])),
            datasets=tuple(dict.fromkeys(self._datasets(lock, list(encoders.values())))),
            files=files,
            confusion=self._confusion[pair].get(run) if pair else None,
            result=result,
        )

    def _model(self, name: str, encoders: Mapping[str, str], folders: Mapping[Path, Sequence[Card]]) -> Model:
        pair = self._pair(encoders)
        folder = min(folders, key=lambda each: (each.parent.name != str(pair), each))
        runs = tuple(sorted(folders[folder], key=lambda card: (int(card.tags["seed"]), int(card.tags["fold"]))))
        metrics = self._layout.metrics(self.name, pair) if pair else None
        scores = metrics / "scores.json" if metrics else None
        scored = file_digest(scores) if scores and scores.exists() else None
        return Model(self._with_means(runs, name, metrics), runs, folder, scored)

    def _with_means(self, runs: Sequence[Card], name: str, metrics: Path | None) -> Card:
        first, known = runs[0], [card.times for card in runs if card.times]
        params = {each: value for each, value in first.params.items() if all(c.params.get(each) == value for c in runs)}
        return replace(
            _parent_of(first.name, first.tags, params),
            metrics={**_on_dev(runs), **(_on_test(metrics / "scores.csv", name) if metrics else {})},
            times=(start := min(known)[0], start + sum(end - begin for begin, end in known)) if known else None,
            datasets=tuple(dict.fromkeys(each for card in runs for each in card.datasets)),
            files=_pictures_and_tables(metrics, name) if metrics else {},
        )

    @cached_property
    def _times(self) -> dict[str, tuple[float, float]]:
        return Store(self._root / DEFAULT_ROOT).times("runs")

    @cached_property
    def _params(self) -> Params | None:
        try:
            return params_of_task(self.name, self._root)
        except ParamsError:
            return None  # The runs are worth showing without them, such as where only the trained models were pulled.

    def _scored_pairs(self) -> list[Pair]:
        """The pairs of encoders with results: first those that are run, since results of others may be out of date."""
        found = [Pair.parse(path.name) for path in sorted((self._root / "metrics" / self.name).glob("*+*/"))]
        try:
            run = Plan.load(self._params).pairs if self._params else ()
        except ParamsError:
            return found
        return sorted(found, key=lambda pair: pair not in run)

    def _pair(self, encoders: Mapping[str, str]) -> Pair | None:
        """A pair in whose results a model is; a unimodal one is in those of all pairs with its encoder."""
        fits = (
            pair for pair in self._pairs if all(pair.encoder(name) == encoder for name, encoder in encoders.items())
        )
        return next(fits, None)

    def _datasets(self, lock: Mapping[str, Any] | None, encoders: Sequence[str]) -> Iterator[Dataset]:
        """The data that a stage depends on: the corpus's table, and features, also by way of unimodal networks."""
        for each in (lock or {}).get("deps", ()):
            path = Path(each["path"])
            kind = path.parts[:2]
            if kind == ("data", "corpora") or (kind == ("data", "features") and path.name in encoders):
                yield Dataset(path.relative_to(*kind).with_suffix("").as_posix(), each["md5"], path.as_posix())
            elif kind == ("data", "models") and path.name in encoders:
                yield from self._datasets(self._locked.get(f"pretrain {self.name} {path.name}"), encoders)

    def _encoder_tags(self, encoders: Mapping[str, str]) -> dict[str, str]:
        """What made the features that a model reads."""
        if self._params is None:
            return {}
        corpus = self._params.get("corpus.name", str)
        return {f"encoder.{name}": made for name in encoders if (made := self._identity(corpus, encoders[name]))}

    def _identity(self, corpus: str, encoder: str) -> str | None:
        try:
            made = metadata(self._layout.features(corpus, encoder))
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
    values = {
        name: [card.metrics[name] for card in runs]
        for name in runs[0].metrics
        if name.startswith(DEV) or name == "n_parameters"
    }
    deviations = {
        f"{name}_sd": round(stdev(each), 6) for name, each in values.items() if name.startswith(DEV) and len(each) > 1
    }
    return {"n_runs": len(runs), **{name: round(fmean(each), 6) for name, each in values.items()}, **deviations}


def _metrics(record: Mapping[str, Any], scores: pl.DataFrame | None) -> dict[str, float]:
    """Scores on test and on dev, and the size of the network."""
    rows = scores.select("metric", "value").rows() if scores is not None else []
    test = {f"{TEST}{name}": value for name, value in rows}
    dev = {f"{DEV}{name}": value for name, value in record["dev"].items()}
    size = {name: record[name] for name in ("n_parameters", "best_epoch") if record[name] is not None}
    return {_clean(name): float(value) for name, value in (test | dev | size).items()}


def _by_run(path: Path) -> dict[tuple[str, int, int], pl.DataFrame]:
    """A table's rows for each model, seed and fold; rows without a fold, which pool all of them, belong to no run."""
    if not path.exists():
        return {}
    table = pl.read_parquet(path).filter(pl.col("fold").is_not_null())
    columns = ["model", "seed", "fold"]
    return {
        (str(model), int(seed), int(fold)): rows.drop(columns)
        for (model, seed, fold), rows in table.group_by(columns, maintain_order=True)
    }


def _locked_stages(root: Path) -> dict[str, dict[str, Any]]:
    """The entries of all ``dvc.lock`` by what their command runs, such as ``pretrain demo logmel``."""
    found: dict[str, dict[str, Any]] = {}
    for path in (root / "dvc.lock", *sorted(root.glob("corpora/*/dvc.lock"))):
        if path.exists():
            found |= {_stage(str(each["cmd"])): each for each in _read_lock(path).values()}
    return found


def _read_lock(path: Path) -> dict[str, dict[str, Any]]:
    # The parser in C is ten times faster, which a large lock file needs; not every build of PyYAML has it.
    loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        stages: dict[str, dict[str, Any]] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)["stages"]  # noqa: S506
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not a lock file of DVC: {error}") from error
    return stages


def _stage(command: str) -> str:
    """A stage as its runs name it: its script, and what it makes, without the file of the parameters and a modality."""
    script, _, *arguments = command.removeprefix("python ").split()
    name = Path(script).stem
    return " ".join([name, *(each for each in arguments if name != "pretrain" or each not in ("audio", "text"))])


def _clean(name: str) -> str:
    """A name that MLflow takes for a metric or parameter."""
    return re.sub(r"[^\w.\-: /]", "_", name)
