"""What the stages left on disk, as the runs that a tracker should show for it.

All paths are relative to the project's root. A trained run is a folder with ``record.json`` and
``predictions.parquet`` under ``data/models/<task>/``; its test scores are in ``data/scores/<task>/``, written by the
scoring stage and absent before it ran; ``metrics/<task>/`` has the means and the pictures of the whole task.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from emofuse.core.files import digest, file_digest
from emofuse.core.params import Params, ParamsError
from emofuse.core.store import DEFAULT_ROOT, Store
from emofuse.features.shards import FeatureError, metadata
from emofuse.reporting.protocol import modalities

__all__ = ["CURRENT", "EXPERIMENT", "KEY", "LOCK", "PLACE", "SECONDS", "Card", "Dataset", "Model", "read_models"]

KEY = "emofuse.key"
"""Tag by which a run is found again."""

LOCK = "emofuse.lock"
"""Tag with the digest of the stage's entry in ``dvc.lock``."""

CURRENT = "emofuse.current"
"""Tag that tells the runs that are on disk from those that a later training has replaced."""

EXPERIMENT = "emofuse.experiment"
"""Tag with the name of DVC's experiment that a run was made in; runs of a plain ``dvc repro`` have none."""

PLACE = ("task", "model", "seed", "fold", EXPERIMENT)
"""What a run stands for; a run that is trained again, with another result, takes the place of the earlier one."""

SECONDS = "training_seconds"
"""Metric with the wall-clock time of a run's own stage. It is from the work store: no time stands in an out."""

CURVES = ("loss", "dev_weighted_f1")


@dataclass(frozen=True)
class Dataset:
    """What a run was made of.

    Attributes:
        name: such as ``demo/utterances`` or ``demo/audio``
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
        name: such as ``demo/hcam/seed-0-fold-0``
        contents: digest of params, curves and artifacts, which are logged again as a whole when it changes
        tags: by name, the key among them
        metrics: single values by name, as fractions
        firsts: single values that stay as they were logged first, such as times, which differ each time
        params: by name
        curves: ``(name, value, epoch)``
        files: artifacts, by the path that they have in the tracker
        datasets: what went in; none where stages ran without DVC
        confusion: ``utterances, true, predicted, count`` of a single run on test, for a picture
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
        return max(self.runs, key=lambda card: card.metrics["dev/weighted_f1"])


def read_models(root: Path) -> list[Model]:
    """Return all that was trained under a project's root, by task and model.

    While DVC runs an experiment, which it says in the environment, everything on disk is shown as that experiment's:
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
        self._root, self._locked = root, locked
        experiment = os.environ.get("DVC_EXP_NAME")
        self._tags = {EXPERIMENT: experiment} if experiment else {}
        self._prefix = f"{experiment}: " if experiment else ""
        self._metrics = root / "metrics" / name
        self._scores = _by_run(root / "data/scores" / name / "runs.parquet")
        self._confusion = _by_run(root / "data/scores" / name / "confusion.parquet")
        self._encoders = _encoders(root, name)
        self._seconds = Store(root / DEFAULT_ROOT).seconds("runs")

    def models(self) -> list[Model]:
        """The task's models in alphabetical order."""
        runs: dict[tuple[str, Path], list[Card]] = {}
        for path in (self._root / "data/models" / self.name).rglob("record.json"):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                card = self._run(record, path.parent)
                runs.setdefault((record["model"], path.parent.parent), []).append(card)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}: not a run's record: {error!r}") from error
        means = self._means()
        return [self._model(name, folder, cards, means.get(name, {})) for (name, folder), cards in sorted(runs.items())]

    def _model(self, name: str, folder: Path, cards: Sequence[Card], means: dict[str, float]) -> Model:
        runs, scores = tuple(sorted(cards, key=_seed_and_fold)), self._metrics / "scores.json"
        scored = file_digest(scores) if scores.exists() else None
        return Model(self._parent(name, means, runs), runs, folder, scored)

    def _run(self, record: dict[str, Any], folder: Path) -> Card:
        place = {name: str(record[name]) for name in ("task", "model", "seed", "fold")}
        run = (record["model"], record["seed"], record["fold"])
        confusion = self._confusion.get(run)
        files = {name: folder / name for name in ("record.json", "predictions.parquet")}
        # The key is of the result itself. The stage's entry in dvc.lock will not do: it changes when a seed is added or
        # a comment is edited, which leaves the result as it was, and stays when a stage is run without DVC.
        key = digest([record, file_digest(files["predictions.parquet"]), *self._tags.values()])
        lock = self._locked.get(record["stage"])
        made = file_digest(files["record.json"])
        return Card(
            key=key,
            name=self._prefix + "{task}/{model}/seed-{seed}-fold-{fold}".format(**place),
            contents=digest([key, confusion.rows() if confusion is not None else None]),
            tags={KEY: key, CURRENT: "true", **place, "stage": record["stage"], "mlflow.source.name": record["stage"]}
            | ({LOCK: digest(lock)} if lock else {})
            | self._tags
            | self._encoder_tags(record["model"]),
            metrics=_metrics(record, self._scores.get(run)),
            firsts={SECONDS: self._seconds[made]} if made in self._seconds else {},
            files=files,
            params={_clean(name): str(value) for name, value in record["parameters"].items()},
            curves=tuple((name, epoch[name], epoch["epoch"]) for epoch in record["history"] for name in CURVES),
            datasets=tuple(_datasets(lock, modalities(record["model"]))),
            confusion=confusion,
        )

    def _parent(self, model: str, means: dict[str, float], runs: Sequence[Card]) -> Card:
        key = digest([self.name, model, *self._tags.values()])
        files = {path.relative_to(self._metrics).as_posix(): path for path in self._pictures_and_table(model)}
        return Card(
            key=key,
            name=f"{self._prefix}{self.name}/{model}",
            contents=digest({name: file_digest(path) for name, path in files.items()}),
            tags={KEY: key, CURRENT: "true", "task": self.name, "model": model}
            | self._tags
            | self._encoder_tags(model),
            metrics=means,
            files=files,
            datasets=tuple(dict.fromkeys(each for card in runs for each in card.datasets)),
        )

    def _pictures_and_table(self, model: str) -> list[Path]:
        """The task's pictures, results table and page, without the confusion matrices of other models."""
        own = f"confusion-{model.replace('/', '-')}"
        pages = [path for path in (self._metrics / "report.html", self._metrics / "table.md") if path.exists()]
        paths = [*pages, *sorted(self._metrics.rglob("*.png"))]
        return [path for path in paths if path.stem == own or not path.stem.startswith("confusion-")]

    def _means(self) -> dict[str, dict[str, float]]:
        """Means over runs, by model; their intervals are in ``table.md``."""
        path = self._metrics / "scores.csv"
        result: dict[str, dict[str, float]] = {}
        for row in pl.read_csv(path).to_dicts() if path.exists() else []:
            result.setdefault(row["model"], {})[_clean(row["metric"])] = row["mean"]
        return result

    def _encoder_tags(self, model: str) -> dict[str, str]:
        """What made the features that a model reads."""
        return {f"encoder.{each}": self._encoders[each] for each in modalities(model) if each in self._encoders}


def _seed_and_fold(card: Card) -> tuple[int, int]:
    return int(card.tags["seed"]), int(card.tags["fold"])


def _metrics(record: Mapping[str, Any], scores: pl.DataFrame | None) -> dict[str, float]:
    """Test scores under the names of the results table, dev scores as ``dev/...``, and the size of the network."""
    test = dict(scores.select("metric", "value").rows()) if scores is not None else {}
    dev = {f"dev/{name}": value for name, value in record["dev"].items()}
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


def _datasets(lock: Mapping[str, Any] | None, reads: Sequence[str]) -> Iterator[Dataset]:
    """The data among a stage's dependencies: the corpus's tables, and the features of the modalities that are read."""
    for each in (lock or {}).get("deps", ()):
        path = Path(each["path"])
        kind = path.parts[:2]
        if kind == ("data", "corpora") or (kind == ("data", "features") and path.name in reads):
            yield Dataset(path.relative_to(*kind).with_suffix("").as_posix(), each["md5"], path.as_posix())


def _locked_stages(root: Path) -> dict[str, dict[str, Any]]:
    """The stages' entries in ``dvc.lock``; none where stages run without DVC."""
    path = root / "dvc.lock"
    if not path.exists():
        return {}
    # The parser in C is ten times faster, which a large lock file needs; not every build of PyYAML has it.
    loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        stages: dict[str, dict[str, Any]] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)["stages"]  # noqa: S506
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not a lock file of DVC: {error}") from error
    return stages


def _encoders(root: Path, task: str) -> dict[str, str]:
    """What made the features of the task's corpus, by modality, such as ``logmel@1, layer 40 bands, labels unseen``."""
    try:
        corpus = Params.load(root / "params.yaml").get(f"tasks.{task}.corpus", str)
        folders = [root / "data/features" / corpus / modality for modality in ("audio", "text")]
        return {folder.name: _identity(metadata(folder)) for folder in folders if folder.is_dir()}
    except (ParamsError, FeatureError):
        # The runs are worth showing without this, such as where only the trained models were pulled.
        return {}


def _identity(encoder: Mapping[str, Any]) -> str:
    labels = "seen" if encoder["labels_seen"] else "unseen"
    return f"{encoder['id']}@{encoder['revision']}, layer {encoder['layer']}, labels {labels}"


def _clean(name: str) -> str:
    """A name that MLflow takes for a metric or parameter."""
    return re.sub(r"[^\w.\-: /]", "_", name)
