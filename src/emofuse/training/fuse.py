"""Fusion of the modalities: HCAM stage III and the baselines that it is compared with.

Each model is a function from a job to its run; :data:`MODELS` names them.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from dataclasses import dataclass as plain_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from emofuse.features.shards import FeatureStore, metadata
from emofuse.files import digest, file_digest
from emofuse.models.concat import Concat, ConcatConfig
from emofuse.models.hcam import HCAM, HCAMConfig
from emofuse.models.late import choose_weights, combine
from emofuse.models.majority import prior
from emofuse.params import STRICT, Params
from emofuse.store import Store, link
from emofuse.tasks import SPLITS, Fold, Task, TaskConfig
from emofuse.training.data import Sequences, pooled, single_frames
from emofuse.training.fit import FitConfig, Fitted, dev_scores, fit, standardize
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
class _HCAMStage:
    network: HCAMConfig
    fit: FitConfig
    ensemble: bool


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

    @property
    def contexts(self) -> dict[str, Path]:
        """Folders of both modalities' context runs of this seed and fold."""
        models = self.data / "models" / self.run.task
        return {name: models / name / "context" / self.run.folder for name in MODALITIES}


def fuse(name: str, task: str, model: str, params: Params, data: Path, store: Store) -> None:
    """Train a model for every seed and fold of a task.

    Args:
        name: key of the job in the parameters
        task: key of the task
        model: one of :data:`MODELS`
        params: the parameter file
        data: the project's data folder
        store: where finished runs are kept
    """
    if model not in MODELS:
        raise ValueError(f"fuse.{name}.model: {model!r}; expected one of {sorted(MODELS)}")
    kind = MODELS[model]
    task_config = params.get(f"tasks.{task}", TaskConfig)
    config = params.get(f"models.{model}", kind.config)
    jobs = [
        _Job(Run(task, model, f"fuse@{name}", seed, fold), config, task_config.corpus, data, store.root, params)
        for seed in range(task_config.seeds if kind.seeded else 1)
        for fold in range(Task.load(task, task_config, data).folds)
    ]
    shutil.rmtree(data / "models" / task / model, ignore_errors=True)  # As DVC does: no run of earlier seeds stays.
    run_all(name, _train, jobs)


def _train(job: _Job) -> bool:
    store, kind = Store(job.store), MODELS[job.run.model]
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
    posteriors = {name: read_posteriors(path, fold) for name, path in job.contexts.items()}
    weights = choose_weights(posteriors, partial(_dev_weighted_f1, fold=fold))
    save_run(folder, job.run, fold, combine(posteriors, weights), {"weights": weights})
    save_config(folder, job.run, fold, job.config, {"reads": "posteriors", "weights": weights})


def _concat(job: _Job, fold: Fold, folder: Path) -> None:
    frames = {name: Sequences.of(FeatureStore(path).align(fold.utterance_ids)) for name, path in job.features.items()}
    inputs = {name: pooled(each, deviation=int(each.lengths.max()) > 1) for name, each in frames.items()}
    fitted, build = _fit_fusion(Concat, job, fold, inputs, "pooled")
    build["features"] = {name: metadata(path) for name, path in job.features.items()}
    save_fitted(folder, job.run, fold, fitted, job.config, build, None)


def _hcam(job: _Job, fold: Fold, folder: Path) -> None:
    inputs = {name: single_frames(read_vectors(path, "context")) for name, path in job.contexts.items()}
    fitted, build = _fit_fusion(HCAM, job, fold, inputs, "context")
    if job.config.ensemble:
        posteriors = {name: read_posteriors(path, fold) for name, path in job.contexts.items()}
        posteriors["fused"] = fitted.probabilities
        build["weights"] = choose_weights(posteriors, partial(_dev_weighted_f1, fold=fold))
        fitted = replace(fitted, probabilities=combine(posteriors, build["weights"]))
    save_fitted(folder, job.run, fold, fitted, job.config, build, None)


def _dev_weighted_f1(probabilities: np.ndarray, fold: Fold) -> float:
    return dev_scores(probabilities, fold)["weighted_f1"]


def _fit_fusion(
    network_class: Any, job: _Job, fold: Fold, inputs: dict[str, Sequences], reads: Reads
) -> tuple[Fitted, dict[str, Any]]:
    dims = {name: sequences.dim for name, sequences in inputs.items()}
    build: dict[str, Any] = {"reads": reads, "dims": dims, "past": fold.context == "past"}
    torch.manual_seed(job.run.seed)
    network = network_class(job.config.network, dims, len(fold.classes), build["past"])
    for name, sequences in inputs.items():
        standardize(network.standardize[name], sequences, fold)
    return fit(network, inputs, fold, job.config.fit, job.run.seed), build


def _features(job: _Job) -> list[Path]:
    return [path for folder in job.features.values() for path in sorted(folder.glob("*.parquet"))]


def _context_predictions(job: _Job) -> list[Path]:
    return [folder / "predictions.parquet" for folder in job.contexts.values()]


def _context_runs(job: _Job) -> list[Path]:
    return [*_context_predictions(job), *(folder / "vectors.safetensors" for folder in job.contexts.values())]


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
        "models.base",
        "models.layers",
        "models.losses",
        "scoring.metrics",
        "training.data",
        "training.fit",
        "training.fuse",
        "training.runs",
        *own,
    )


MODELS = {
    "majority": _Kind(_majority, lambda job: [], _code("models.majority"), seeded=False),
    "late": _Kind(_late, _context_predictions, _code("models.late")),
    "concat": _Kind(_concat, _features, _code("models.concat"), _ConcatStage),
    "hcam": _Kind(_hcam, _context_runs, _code("models.hcam", "models.late"), _HCAMStage),
}
"""The fusion models by name."""
