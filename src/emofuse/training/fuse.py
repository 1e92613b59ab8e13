"""Fusion of the modalities: HCAM stage III, CMA, HBAF, and the baselines that they are compared with.

Each model is a function from a job to its run; :data:`MODELS` names them. A model's ablations, the same with parts
switched off, are trained in the same job, as runs of ``<model>/<ablation>``.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from dataclasses import dataclass as plain_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from emofuse.core.files import digest, file_digest
from emofuse.core.params import STRICT, Params
from emofuse.core.store import Store, link
from emofuse.features.shards import metadata
from emofuse.models.cma import CMA, CMAConfig
from emofuse.models.concat import Concat, ConcatConfig
from emofuse.models.hbaf import HBAF, HBAFConfig
from emofuse.models.hcam import HCAM, HCAMConfig
from emofuse.models.late import choose_weights, combine
from emofuse.models.majority import prior
from emofuse.tasks import SPLITS, Fold, Task, TaskConfig
from emofuse.training.attention import save_example
from emofuse.training.data import Inputs, pooled, read_features, single_frames
from emofuse.training.fit import FitConfig, dev_scores, fit, standardize
from emofuse.training.runs import (
    Reads,
    Run,
    code_digest,
    fold_digest,
    read_posteriors,
    read_vectors,
    run_all,
    save_config,
    save_fitted,
    save_run,
)

__all__ = ["MODELS", "fuse"]

MODALITIES = ("audio", "text")


@dataclass(frozen=True, config=STRICT)
class _NoConfig:
    """A model without options."""


@dataclass(frozen=True, config=STRICT)
class _ConcatStage:
    network: ConcatConfig
    fit: FitConfig


@dataclass(frozen=True, config=STRICT)
class _CMAStage:
    network: CMAConfig
    fit: FitConfig


@dataclass(frozen=True, config=STRICT)
class _HBAFStage:
    network: HBAFConfig
    fit: FitConfig


@dataclass(frozen=True, config=STRICT)
class _HCAMStage:
    """Stage III.

    Attributes:
        context: whether stage II comes between; without it stage III reads the vectors of stage I
        ensemble: whether the posteriors of audio, text and fusion are mixed, with weights chosen on dev
    """

    network: HCAMConfig
    context: bool
    ensemble: bool
    fit: FitConfig

    @property
    def level(self) -> Literal["utterance", "context"]:
        """The stage before."""
        return "context" if self.context else "utterance"


@plain_dataclass(frozen=True)
class _Job:
    """One seed and fold of a model; small enough to send to a worker."""

    run: Run
    config: Any
    corpus: str
    data: Path
    store: Path
    params: Params

    @property
    def features(self) -> dict[str, Path]:
        """Folders of both modalities' features."""
        return {name: self.data / "features" / self.corpus / name for name in MODALITIES}

    def runs(self, level: str) -> dict[str, Path]:
        """Folders of both modalities' runs of this seed and fold, of stage I (``utterance``) or II (``context``)."""
        models = self.data / "models" / self.run.task
        return {name: models / name / level / self.run.folder for name in MODALITIES}


def fuse(
    name: str, task: str, model: str, params: Params, data: Path, store: Store, *, ablations: bool = False
) -> None:
    """Train a model for every seed and fold of a task.

    Args:
        name: key of the job in the parameters
        task: key of the task
        model: one of :data:`MODELS`
        params: the parameter file
        data: the project's data folder
        store: where finished runs are kept
        ablations: whether the model's ablations are trained too
    """
    if model not in MODELS:
        raise ValueError(f"fuse.{name}.model: {model!r}; expected one of {sorted(MODELS)}")
    kind = MODELS[model]
    task_config = params.get(f"tasks.{task}", TaskConfig)
    folds = Task.load(task, task_config, data).folds
    jobs = [
        _Job(Run(task, variant, f"fuse@{name}", seed, fold), config, task_config.corpus, data, store.root, params)
        for variant, config in _variants(model, params, ablations=ablations).items()
        for seed in range(task_config.seeds if kind.seeded else 1)
        for fold in range(folds)
    ]
    shutil.rmtree(data / "models" / task / model, ignore_errors=True)  # As DVC does: no run of earlier seeds stays.
    run_all(name, _train, jobs)


def _variants(model: str, params: Params, *, ablations: bool) -> dict[str, Any]:
    """The configuration of a model and of its ablations, by name."""
    key, kind = f"models.{model}", MODELS[model].config
    variants = {model: params.get(key, kind)}
    if ablations:
        changes = params.get("ablations", dict[str, dict[str, dict[str, Any]]]).get(model, {})
        for name, each in changes.items():
            variants[f"{model}/{name}"] = params.changed(key, each, f"ablations.{model}.{name}").get(key, kind)
    return variants


def _train(job: _Job) -> bool:
    store, kind = Store(job.store), MODELS[job.run.model.split("/")[0]]
    task = Task.load(job.run.task, job.params.get(f"tasks.{job.run.task}", TaskConfig), job.data)
    fold = task.fold(job.run.fold)
    inputs = [file_digest(path) for path in kind.reads(job)]
    config = asdict(job.config)
    key = digest([kind.code, fold_digest(fold), inputs, config, asdict(job.run)])
    entry = store.ensure("runs", key, lambda folder: kind.train(job, fold, folder))
    link(entry, job.data / "models" / job.run.task / job.run.model / job.run.folder)
    return entry.reused


def _majority(job: _Job, fold: Fold, folder: Path) -> None:
    frequencies = prior(fold.targets[fold.splits == SPLITS.index("train")], len(fold.classes))
    save_run(folder, job.run, fold, np.tile(frequencies, (len(fold.utterance_ids), 1)), {})


def _late(job: _Job, fold: Fold, folder: Path) -> None:
    posteriors = _posteriors(job, fold, "context")
    weights = _weights(posteriors, fold)
    save_run(folder, job.run, fold, combine(posteriors, weights), {"weights": weights})
    save_config(folder, job.run, fold, job.config, {"reads": "posteriors", "weights": weights})


def _concat(job: _Job, fold: Fold, folder: Path) -> None:
    _network(Concat, "pooled", job, fold, folder)


def _cma(job: _Job, fold: Fold, folder: Path) -> None:
    _network(CMA, "frames", job, fold, folder)


def _hbaf(job: _Job, fold: Fold, folder: Path) -> None:
    _network(HBAF, "utterance", job, fold, folder)


def _hcam(job: _Job, fold: Fold, folder: Path) -> None:
    parts = _posteriors(job, fold, job.config.level) if job.config.ensemble else {}
    _network(HCAM, job.config.level, job, fold, folder, parts)


def _network(
    network_class: Any,
    reads: Reads,
    job: _Job,
    fold: Fold,
    folder: Path,
    parts: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Train a network and write its run.

    Args:
        network_class: the model
        reads: what it reads
        job: seed, fold and configuration
        fold: the utterances
        folder: where to
        parts: posteriors ``[n, C]`` of earlier stages by name, to be mixed with the network's own
    """
    inputs = _inputs(job, fold, reads)
    dims = {name: sequences.dim for name, sequences in inputs.items()}
    build: dict[str, Any] = {"reads": reads, "dims": dims, "past": fold.context == "past"}
    if reads in ("frames", "pooled"):
        build["features"] = {name: metadata(path) for name, path in job.features.items()}
    torch.manual_seed(job.run.seed)
    weighed = {name: each.n_layers for name, each in inputs.items() if each.n_layers > 1}
    more = {"n_layers": weighed} if weighed else {}
    build |= more
    network = network_class(job.config.network, dims, len(fold.classes), build["past"], **more)
    for name, sequences in inputs.items():
        standardize(network.standardize[name], sequences, fold)
    fitted = fit(network, inputs, fold, job.config.fit, job.run.seed)
    if parts:
        posteriors = {**parts, "fused": fitted.probabilities}
        build["weights"] = _weights(posteriors, fold)
        fitted = replace(fitted, probabilities=combine(posteriors, build["weights"]))
    save_fitted(folder, job.run, fold, fitted, job.config, build, None)
    save_example(folder, fitted.network, inputs, fold)


def _inputs(job: _Job, fold: Fold, reads: Reads) -> Inputs:
    if reads in ("utterance", "context"):
        return {name: single_frames(read_vectors(path, reads)) for name, path in job.runs(reads).items()}
    sequences = {name: read_features(path, fold.utterance_ids) for name, path in job.features.items()}
    if reads == "frames":
        return sequences
    return {name: pooled(each, deviation=int(each.lengths.max()) > 1) for name, each in sequences.items()}


def _posteriors(job: _Job, fold: Fold, level: str) -> dict[str, np.ndarray]:
    return {name: read_posteriors(path, fold) for name, path in job.runs(level).items()}


def _weights(posteriors: Mapping[str, np.ndarray], fold: Fold) -> dict[str, float]:
    return choose_weights(posteriors, partial(_dev_weighted_f1, fold=fold))


def _dev_weighted_f1(probabilities: np.ndarray, fold: Fold) -> float:
    return dev_scores(probabilities, fold)["weighted_f1"]


def _features(job: _Job) -> list[Path]:
    return [path for folder in job.features.values() for path in sorted(folder.glob("*.parquet"))]


def _predictions(job: _Job, level: str) -> list[Path]:
    return [folder / "predictions.parquet" for folder in job.runs(level).values()]


def _vectors(job: _Job, level: str) -> list[Path]:
    return [folder / "vectors.safetensors" for folder in job.runs(level).values()]


@plain_dataclass(frozen=True)
class _Kind:
    """How a model is trained.

    Attributes:
        train: fills a run's folder
        reads: the files that it reads
        code: digest of the modules that it runs
        config: its section under ``models``
        seeded: whether seeds differ
    """

    train: Callable[[_Job, Fold, Path], None]
    reads: Callable[[_Job], list[Path]]
    code: str
    config: type[Any] = _NoConfig
    seeded: bool = True


def _code(*own: str) -> str:
    return code_digest(
        "features.shards",
        "models.base",
        "models.layers",
        "models.losses",
        "scoring.metrics",
        "training.data",
        "training.attention",
        "training.fit",
        "training.fuse",
        "training.runs",
        *own,
    )


MODELS = {
    "majority": _Kind(_majority, lambda job: [], _code("models.majority"), seeded=False),
    "late": _Kind(_late, lambda job: _predictions(job, "context"), _code("models.late")),
    "concat": _Kind(_concat, _features, _code("models.concat", "models.recurrent"), _ConcatStage),
    "hcam": _Kind(
        _hcam,
        lambda job: [*_predictions(job, job.config.level), *_vectors(job, job.config.level)],
        _code("models.hcam", "models.late"),
        _HCAMStage,
    ),
    "cma": _Kind(_cma, _features, _code("models.cma", "models.recurrent"), _CMAStage),
    "hbaf": _Kind(_hbaf, lambda job: _vectors(job, "utterance"), _code("models.hbaf", "models.recurrent"), _HBAFStage),
}
"""The fusion models by name."""
