"""HCAM stages I and II for one modality: an utterance network, then a context network on its frozen vectors."""

from dataclasses import asdict
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass

from emofuse.core.files import digest
from emofuse.core.params import STRICT
from emofuse.core.store import link
from emofuse.features.shards import metadata
from emofuse.models.registry import UNIMODAL, unimodal
from emofuse.models.unimodal import ContextConfig, ContextNetwork, UtteranceConfig, UtteranceNetwork
from emofuse.training.data import read_features, single_frames
from emofuse.training.fit import FitConfig, fit, standardize
from emofuse.training.jobs import Job, Work, keep, train_all
from emofuse.training.progress import Progress
from emofuse.training.runs import Run, code_digest, fold_digest, read_vectors, save_fitted

__all__ = ["UnimodalConfig", "pretrain"]


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


def pretrain(work: Work, modality: str, encoder: str) -> None:
    """Train stages I and II of a modality for every seed and fold of a task.

    Args:
        work: the task and where its data lie
        modality: ``audio`` or ``text``, whose settings are taken
        encoder: whose features are read
    """
    for line in work.opened.differences():
        print(f"{work.task}: {line}")
    code = code_digest("training.pretrain")
    out, last = work.layout.unimodal(work.task, encoder), unimodal(modality, "context").name
    train_all(
        work,
        out,
        _train,
        [Job(work, last, {modality: encoder}, *place, code, out) for place in work.places()],
    )


def _train(job: Job) -> bool:
    ((modality, encoder),) = job.encoders.items()
    config = job.work.params.get(f"models.{modality}", UnimodalConfig)
    fold = job.fold
    folder = job.work.features(encoder)
    first, second = (
        Run(job.work.task, each.name, job.encoders, job.work.stage, *job.place)
        for each in UNIMODAL
        if each.modalities == (modality,)
    )

    outs = job.out / "utterance" / first.folder, job.out / "context" / second.folder

    def utterance(out: Path) -> None:
        sequences = read_features(folder, fold.utterance_ids)
        torch.manual_seed(first.seeds.number("initialization"))
        layers = {"n_layers": sequences.n_layers} if sequences.n_layers > 1 else {}
        network = UtteranceNetwork(config.utterance.network, sequences.dim, len(fold.classes), **layers)
        standardize(network.standardize, sequences, fold)
        progress = Progress(job.work.progress, first, asdict(config.utterance), outs[0])
        fitted = fit(network, {modality: sequences}, fold, config.utterance.fit, first.seeds, progress)
        build = {"reads": "frames", "features": {modality: metadata(folder)}, "dim": sequences.dim, **layers}
        save_fitted(out, first, fold, fitted, asdict(config.utterance), build, "utterance")

    def context(out: Path) -> None:
        vectors = single_frames(read_vectors(entry.path, "utterance"))
        causal = fold.context == "causal"
        torch.manual_seed(second.seeds.number("initialization"))
        network = ContextNetwork(config.context.network, vectors.dim, len(fold.classes), causal)
        standardize(network.standardize, vectors, fold)
        progress = Progress(job.work.progress, second, asdict(config.context), outs[1])
        fitted = fit(network, {modality: vectors}, fold, config.context.fit, second.seeds, progress)
        build = {"reads": "utterance", "dim": vectors.dim, "causal": causal}
        save_fitted(out, second, fold, fitted, asdict(config.context), build, "context")

    key = [job.code, fold_digest(fold), job.work.shards(encoder), asdict(first), asdict(config.utterance)]
    entry = keep(job.work.store, digest(key), utterance)
    last = keep(job.work.store, digest([*key, asdict(config.context)]), context)
    link(entry, outs[0])
    link(last, outs[1])
    return entry.reused and last.reused
