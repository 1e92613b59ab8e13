"""HCAM stages I and II for one modality: an utterance network, then a context network on its frozen vectors."""

import shutil
from dataclasses import asdict
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic.dataclasses import dataclass

from emofuse.core.files import digest, file_digest
from emofuse.core.params import STRICT, Params
from emofuse.core.store import Store, link
from emofuse.features.shards import metadata
from emofuse.models.unimodal import ContextConfig, ContextNetwork, UtteranceConfig, UtteranceNetwork
from emofuse.tasks import Task, TaskConfig
from emofuse.training.data import read_features, single_frames
from emofuse.training.fit import FitConfig, fit, standardize
from emofuse.training.runs import Run, code_digest, fold_digest, read_vectors, run_all, save_fitted

__all__ = ["Modality", "UnimodalConfig", "pretrain"]

Modality = Literal["audio", "text"]

_CODE = code_digest(
    "features.shards",
    "models.base",
    "models.layers",
    "models.losses",
    "models.recurrent",
    "models.unimodal",
    "scoring.metrics",
    "training.data",
    "training.fit",
    "training.pretrain",
    "training.runs",
)


@dataclass(frozen=True, config=STRICT)
class _UtteranceStage:
    network: UtteranceConfig
    fit: FitConfig


@dataclass(frozen=True, config=STRICT)
class _ContextStage:
    network: ContextConfig
    fit: FitConfig


@dataclass(frozen=True, config=STRICT)
class UnimodalConfig:
    """The two stages of a modality.

    Attributes:
        utterance: stage I, frames to an utterance vector
        context: stage II, utterance vectors of a dialogue to contextual vectors
    """

    utterance: _UtteranceStage
    context: _ContextStage


@plain_dataclass(frozen=True)
class _Job:
    """One seed and fold of both stages; small enough to send to a worker."""

    name: str
    task: str
    modality: str
    seed: int
    fold: int
    features: Path
    data: Path
    out: Path
    store: Path
    params: Params


def pretrain(name: str, task: str, modality: Modality, params: Params, data: Path, store: Store) -> None:
    """Train stages I and II of a modality for every seed and fold of a task.

    Args:
        name: key of the job in the parameters
        task: key of the task
        modality: whose features are read
        params: the parameter file
        data: the project's data folder
        store: where finished runs are kept
    """
    config = params.get(f"tasks.{task}", TaskConfig)
    opened = Task.load(task, config, data)
    for line in opened.differences():
        print(f"{task}: {line}")
    features, out = data / "features" / config.corpus / modality, data / "models" / task / modality
    jobs = [
        _Job(name, task, modality, seed, fold, features, data, out, store.root, params)
        for seed in range(config.seeds)
        for fold in range(opened.folds)
    ]
    shutil.rmtree(out, ignore_errors=True)  # As DVC does: no run of earlier seeds stays among these.
    run_all(name, _train, jobs)


def _train(job: _Job) -> bool:
    store = Store(job.store)
    config = job.params.get(f"models.{job.modality}", UnimodalConfig)
    task = Task.load(job.task, job.params.get(f"tasks.{job.task}", TaskConfig), job.data)
    fold = task.fold(job.fold)
    shards = [file_digest(path) for path in sorted(job.features.glob("*.parquet"))]
    first, second = (_run(job, level) for level in ("utterance", "context"))

    def utterance(folder: Path) -> None:
        sequences = read_features(job.features, fold.utterance_ids)
        torch.manual_seed(job.seed)
        network = UtteranceNetwork(
            config.utterance.network, sequences.dim, len(fold.classes), n_layers=sequences.n_layers
        )
        standardize(network.standardize, sequences, fold)
        fitted = fit(network, {job.modality: sequences}, fold, config.utterance.fit, job.seed)
        build = {"reads": "frames", "features": {job.modality: metadata(job.features)}, "dim": sequences.dim}
        build |= {"n_layers": sequences.n_layers} if sequences.n_layers > 1 else {}
        save_fitted(folder, first, fold, fitted, config.utterance, build, "utterance")

    def context(folder: Path) -> None:
        vectors = single_frames(read_vectors(entry.path, "utterance"))
        past = fold.context == "past"
        torch.manual_seed(job.seed)
        network = ContextNetwork(config.context.network, vectors.dim, len(fold.classes), past)
        standardize(network.standardize, vectors, fold)
        fitted = fit(network, {job.modality: vectors}, fold, config.context.fit, job.seed)
        build = {"reads": "utterance", "dim": vectors.dim, "past": past}
        save_fitted(folder, second, fold, fitted, config.context, build, "context")

    key = [_CODE, fold_digest(fold), shards, asdict(first), asdict(config.utterance)]
    entry = store.ensure("runs", digest(key), utterance)
    last = store.ensure("runs", digest([*key, asdict(config.context)]), context)
    link(entry, job.out / "utterance" / first.folder)
    link(last, job.out / "context" / second.folder)
    return entry.reused and last.reused


def _run(job: _Job, level: str) -> Run:
    return Run(job.task, f"{job.modality}-{level}", f"pretrain@{job.name}", job.seed, job.fold)
