"""What the stages left on disk, as the runs that a tracker should show for it.

All paths are relative to the project's root. A trained run is a folder with ``record.json`` and
``predictions.parquet`` under ``data/models/<task>/``; its test scores are in ``data/scores/<task>/<pair>/``, written by
the scoring stage and absent before it ran; ``metrics/<task>/<pair>/`` has the means and the pictures of the whole task.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import polars as pl
import yaml

from emofuse.core.files import digest, file_digest
from emofuse.core.layout import Layout, Pair
from emofuse.core.params import ParamsError
from emofuse.core.store import DEFAULT_ROOT, Store
from emofuse.features.shards import FeatureError, metadata
from emofuse.plan import Plan, params_of_task
from emofuse.scoring.scores import DEV

__all__ = ["CURRENT", "EXPERIMENT", "KEY", "LOCK", "PLACE", "SECONDS", "Card", "Dataset", "Model", "read_models"]

KEY = "emofuse.key"
"""Tag by which a run is found again."""

LOCK = "emofuse.lock"
"""Tag with the digest of the stage's entry in ``dvc.lock``."""

CURRENT = "emofuse.current"
"""Tag that tells the runs that are on disk from those that a later training has replaced."""

EXPERIMENT = "emofuse.experiment"
"""Tag with the name of DVC's experiment that a run was made in; runs of a plain ``dvc repro`` have none."""

PLACE = ("task", "encoders", "model", "seed", "fold", EXPERIMENT)
"""What a run stands for; a run that is trained again, with another result, takes the place of the earlier one."""

SECONDS = "training_seconds"
"""Metric with the wall-clock time of a run's own stage. It is from the work store: no time stands in an out."""

CURVES = ("loss", "dev_weighted_f1")


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
        key: digest by which the run is found again; other content that belongs to the same run leaves it as it is
        name: such as ``demo/logmel+minilm/hcam/seed-0-fold-0``
        contents: digest of params, curves and artifacts, which are logged again as a whole when it changes
        tags: by name, the key among them
        metrics: single values by name, as fractions
        firsts: single values that stay as they were logged first, such as times, which differ each time
        params: by name
        curves: ``(name, value, epoch)``
        files: artifacts, by the path that they have in the tracker
        datasets: what went in; none where stages ran without DVC
        confusion: ``utterances, true, predicted, count`` of a single run on test, for a picture
        result: digest of what a run gave: the key that it has, or would have, as a run of the project itself
    """

    key: str
    name: str
    contents: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Mapping[str, Path]
    firsts: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    curves: tuple[tuple[str, float, int], ...] = ()
    datasets: tuple[Dataset, ...] = ()
    confusion: pl.DataFrame | None = None
    result: str | None = None


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
        return max(self.runs, key=lambda card: card.metrics[f"{DEV}weighted_f1"])


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
    return [model for folder in folders for model in _Task(root, folder.name, locked).models()]


class _Task:
    """All that is on disk of one task."""

    def __init__(self, root: Path, name: str, locked: Mapping[str, Mapping[str, Any]]) -> None:
        self.name = name
        self._root, self._layout, self._locked = root, Layout(root), locked
        experiment = os.environ.get("DVC_EXP_NAME")
        self._tags = {EXPERIMENT: experiment} if experiment else {}
        self._prefix = f"{experiment}: " if experiment else ""
        self._pairs = self._scored_pairs()
        self._scores = {pair: _by_run(self._layout.scores(name, pair) / "runs.parquet") for pair in self._pairs}
        self._confusion = {pair: _by_run(self._layout.scores(name, pair) / "confusion.parquet") for pair in self._pairs}
        self._seconds = Store(root / DEFAULT_ROOT).seconds("runs")

    def models(self) -> list[Model]:
        """The task's models, by encoders and name.

        One that reads no encoder lies beside the models of each pair, and is one model all the same.
        """
        runs: dict[tuple[str, str], dict[Path, list[Card]]] = {}
        encoders: dict[str, dict[str, str]] = {}
        for path in (self._root / "data/models" / self.name).rglob("record.json"):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                card = self._run(record, path.parent)
                encoders[card.tags["encoders"]] = record["encoders"]
                folders = runs.setdefault((card.tags["encoders"], record["model"]), {})
                folders.setdefault(path.parent.parent, []).append(card)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: not a run's record: {error!r}") from error
        return [self._model(name, encoders[of], folders) for (of, name), folders in sorted(runs.items())]

    def _model(self, name: str, encoders: Mapping[str, str], folders: Mapping[Path, Sequence[Card]]) -> Model:
        pair = self._pair(encoders)
        folder = min(folders, key=lambda each: (each.parent.name != str(pair), each))
        runs = tuple(sorted(folders[folder], key=_seed_and_fold))
        scores = self._layout.metrics(self.name, pair) / "scores.json" if pair else None
        scored = file_digest(scores) if scores and scores.exists() else None
        return Model(self._parent(name, encoders, pair, runs), runs, folder, scored)

    def _scored_pairs(self) -> list[Pair]:
        """The pairs of encoders with results: first those that are run, since results of others may be out of date."""
        found = [Pair.parse(path.name) for path in sorted((self._root / "metrics" / self.name).glob("*+*/"))]
        try:
            run = Plan.load(params_of_task(self.name, self._root)).pairs
        except ParamsError:
            return found
        return sorted(found, key=lambda pair: pair not in run)

    def _pair(self, encoders: Mapping[str, str]) -> Pair | None:
        """A pair in whose results a model is; a unimodal one is in those of all pairs with its encoder."""
        fits = (
            pair for pair in self._pairs if all(pair.encoder(name) == encoder for name, encoder in encoders.items())
        )
        return next(fits, None)

    def _run(self, record: dict[str, Any], folder: Path) -> Card:
        encoders = record["encoders"]
        pair = self._pair(encoders)
        place = {name: str(record[name]) for name in ("task", "model", "seed", "fold")}
        place["encoders"] = _named(encoders)
        run = (record["model"], record["seed"], record["fold"])
        confusion = self._confusion[pair].get(run) if pair else None
        files = {name: folder / name for name in ("record.json", "predictions.parquet")}
        # The key is of the result itself. The stage's entry in dvc.lock will not do: it changes when a seed is added or
        # a comment is edited, which leaves the result as it was, and stays when a stage is run without DVC. Nor does
        # the stage's name, in which the majority has a pair of encoders that it does not read.
        given = {name: each for name, each in record.items() if name != "stage"}
        result = digest([given, file_digest(files["predictions.parquet"])])
        key = digest([result, *self._tags.values()]) if self._tags else result
        lock = self._locked.get(record["stage"])
        made = file_digest(files["record.json"])
        return Card(
            key=key,
            name=self._prefix + "{task}/{encoders}/{model}/seed-{seed}-fold-{fold}".format(**place),
            contents=digest([key, confusion.rows() if confusion is not None else None]),
            tags={KEY: key, CURRENT: "true", **place, "stage": record["stage"], "mlflow.source.name": record["stage"]}
            | ({LOCK: digest(lock)} if lock else {})
            | self._tags
            | self._encoder_tags(encoders),
            metrics=_metrics(record, self._scores[pair].get(run) if pair else None),
            firsts={SECONDS: self._seconds[made]} if made in self._seconds else {},
            files=files,
            params={_clean(name): str(value) for name, value in record["parameters"].items()},
            curves=tuple((name, epoch[name], epoch["epoch"]) for epoch in record["history"] for name in CURVES),
            datasets=tuple(dict.fromkeys(self._datasets(lock, list(encoders.values())))),
            confusion=confusion,
            result=result,
        )

    def _parent(self, model: str, encoders: Mapping[str, str], pair: Pair | None, runs: Sequence[Card]) -> Card:
        named = _named(encoders)
        key = digest([self.name, named, model, *self._tags.values()])
        metrics = self._layout.metrics(self.name, pair) if pair else None
        files = (
            {path.relative_to(metrics).as_posix(): path for path in _pictures_and_table(metrics, model)}
            if metrics
            else {}
        )
        return Card(
            key=key,
            name=f"{self._prefix}{self.name}/{named}/{model}",
            contents=digest({name: file_digest(path) for name, path in files.items()}),
            tags={KEY: key, CURRENT: "true", "task": self.name, "model": model, "encoders": named}
            | self._tags
            | self._encoder_tags(encoders),
            metrics=(_means(metrics / "scores.csv", model) if metrics else {}) | _on_dev(runs),
            files=files,
            datasets=tuple(dict.fromkeys(each for card in runs for each in card.datasets)),
        )

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
        try:
            corpus = params_of_task(self.name, self._root).get("corpus.name", str)
            folders = {name: self._layout.features(corpus, encoder) for name, encoder in encoders.items()}
            return {
                f"encoder.{name}": _identity(metadata(folder)) for name, folder in folders.items() if folder.is_dir()
            }
        except (ParamsError, FeatureError):
            # The runs are worth showing without this, such as where only the trained models were pulled.
            return {}


def _named(encoders: Mapping[str, str]) -> str:
    """The encoders that a model reads, as its folder has them; a model that reads nothing has none."""
    return "+".join(encoders.values()) or "labels"


def _pictures_and_table(metrics: Path, model: str) -> list[Path]:
    """A pair's pictures, results table and page, without the confusion matrices of other models."""
    own = f"confusion-{model.replace('/', '-')}"
    pages = [path for path in (metrics / "report.html", metrics / "table.md") if path.exists()]
    paths = [*pages, *sorted(metrics.rglob("*.svg"))]
    return [path for path in paths if path.stem == own or not path.stem.startswith("confusion-")]


def _means(path: Path, model: str) -> dict[str, float]:
    """Means over runs of a model on test; their intervals are in ``table.md``."""
    rows = pl.read_csv(path).filter(pl.col("model") == model).to_dicts() if path.exists() else []
    return {_clean(row["metric"]): row["mean"] for row in rows if not row["metric"].startswith(DEV)}


def _on_dev(runs: Sequence[Card]) -> dict[str, float]:
    """Mean and sample standard deviation of scores on dev over runs; they are there before anything is scored."""
    names = [name for name in runs[0].metrics if name.startswith(DEV)]
    values = {name: [card.metrics[name] for card in runs] for name in names}
    means = {name: fmean(each) for name, each in values.items()}
    return means | {f"{name}_sd": stdev(each) for name, each in values.items() if len(each) > 1}


def _seed_and_fold(card: Card) -> tuple[int, int]:
    return int(card.tags["seed"]), int(card.tags["fold"])


def _metrics(record: Mapping[str, Any], scores: pl.DataFrame | None) -> dict[str, float]:
    """Test scores under the names of the results table, dev scores as ``dev/...``, and the size of the network."""
    test = dict(scores.select("metric", "value").rows()) if scores is not None else {}
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


def _identity(encoder: Mapping[str, Any]) -> str:
    labels = "seen" if encoder["labels_seen"] else "unseen"
    return f"{encoder['id']}@{encoder['revision']}, layer {encoder['layer']}, labels {labels}"


def _clean(name: str) -> str:
    """A name that MLflow takes for a metric or parameter."""
    return re.sub(r"[^\w.\-: /]", "_", name)
