"""One training run of a model, whichever it is: what it reads, how it is trained, and what identifies it.

:mod:`emofuse.models.registry` names the models; how one is trained follows from its kind.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emofuse.core.files import checked_digest, digest, write_digests
from emofuse.core.schema import SPLITS
from emofuse.core.store import link
from emofuse.features.shards import metadata
from emofuse.models.parts.base import Network, build
from emofuse.models.parts.mixture import choose_weights, combine
from emofuse.models.registry import UNIMODAL, Input, model, sources
from emofuse.training.attention import save_attention
from emofuse.training.data import Inputs, pooled, read_features, single_frames
from emofuse.training.fit import Fitted, dev_scores, fit, standardize
from emofuse.training.jobs import Job, Work
from emofuse.training.progress import Progress
from emofuse.training.runs import (
    fold_digest,
    read_probabilities,
    read_vectors,
    run_all,
    save_config,
    save_fitted,
    save_run,
)
from emofuse.training.settings import settings

__all__ = ["train", "train_all"]


def train_all(work: Work, out: Path, chains: Sequence[Sequence[Job]]) -> None:
    """Train runs side by side.

    Args:
        work: the stage's
        out: the stage's folder, emptied first as DVC does, so that no run of earlier seeds stays
        chains: runs, those of a chain one after the other, since each may read from those before it
    """
    shutil.rmtree(out, ignore_errors=True)
    run_all(work.stage, _train_chain, chains)


def train(job: Job) -> bool:
    """Train and keep a run, and show it in its folder; return whether the store had it already."""
    training = _Training(job)
    entry = job.work.store.ensure("runs", training.key(), training.train)
    link(entry, job.folder)
    return entry.reused


def _train_chain(jobs: Sequence[Job]) -> bool:
    reused = [train(job) for job in jobs]
    return all(reused)


class _Training:
    """One run of a model while it is trained."""

    def __init__(self, job: Job) -> None:
        self.job, self.run, self.fold = job, job.run, job.fold
        self.entry, self.settings = model(job.model), settings(job.work.params, job.model)
        self.reads: Input = getattr(self.settings, "reads", self.entry.inputs[0])
        # What a network reads from another is read where that is: the folder of the other's run.
        networks = sources({"reads": self.reads, "model": job.model})
        self.before = {
            modality: job.work.layout.unimodal(job.work.task, job.encoders[modality]) / network.folder / self.run.folder
            for modality, network in networks.items()
        }
        self.features = {name: job.work.features(encoder) for name, encoder in job.encoders.items()}

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain values, ablations left out."""
        return {name: each for name, each in asdict(self.settings).items() if name != "ablations"}

    def key(self) -> str:
        """Digest of all that the run depends on."""
        return digest([self.job.code, fold_digest(self.fold), self._files(), self.reads, self.config, asdict(self.run)])

    def train(self, out: Path) -> None:
        """Fill the run's folder."""
        {"prior": self._prior, "mixture": self._mixture}.get(self.entry.kind, self._network)(out)
        write_digests(out)

    def _files(self) -> list[str]:
        """Digests of the files that are read."""
        if self.reads == "labels":
            return []
        if not self.before:
            return [each for encoder in self.job.encoders.values() for each in self.job.work.shards(encoder)]
        names = ["predictions.parquet"] if self._mixes else []
        names += ["vectors.safetensors"] if self.entry.kind == "network" else []
        return [checked_digest(folder / name) for name in names for folder in self.before.values()]

    @property
    def _mixes(self) -> bool:
        """Whether probabilities of the unimodal networks are mixed in."""
        return self.entry.kind == "mixture" or getattr(self.settings, "ensemble", False)

    def _prior(self, out: Path) -> None:
        train = self.fold.targets[self.fold.splits == SPLITS.index("train")]
        frequencies = self.entry.load().prior(train, len(self.fold.classes))
        save_run(out, self.run, self.fold, np.tile(frequencies, (len(self.fold.utterance_ids), 1)), {})

    def _mixture(self, out: Path) -> None:
        mixture, weights = self.entry.load().mix(self._probabilities(), self._dev_score)
        save_run(out, self.run, self.fold, mixture, {"weights": weights})
        save_config(out, self.run, self.fold, self.config, {"reads": self.reads, "weights": weights})

    def _network(self, out: Path) -> None:
        inputs = self._inputs()
        sizes = self._sizes(inputs)
        made: dict[str, Any] = {"reads": self.reads, **sizes}
        if not self.before:
            made["features"] = {name: metadata(folder) for name, folder in self.features.items()}
        torch.manual_seed(self.run.seeds.number("initialization"))
        network = build(self.entry.network_class(), self.settings.network, len(self.fold.classes), sizes)
        fitted = self._fitted(network, inputs)
        if self._mixes:
            probabilities = {**self._probabilities(), "fused": fitted.probabilities}
            made["weights"] = choose_weights(probabilities, self._dev_score)
            fitted = replace(fitted, probabilities=combine(probabilities, made["weights"]))
        vectors = self.entry.folder if self.entry in UNIMODAL else None
        save_fitted(out, self.run, self.fold, fitted, self.config, made, vectors)
        save_attention(out, fitted.network, inputs, self.fold)

    def _inputs(self) -> Inputs:
        if self.before:
            return {name: single_frames(read_vectors(folder, self.reads)) for name, folder in self.before.items()}
        sequences = {name: read_features(folder, self.fold.utterance_ids) for name, folder in self.features.items()}
        if self.reads == "frames":
            return sequences
        return {name: pooled(each, deviation=int(each.lengths.max()) > 1) for name, each in sequences.items()}

    def _sizes(self, inputs: Inputs) -> dict[str, Any]:
        """What a network is built for, as :func:`emofuse.models.parts.base.build` takes it."""
        dims, causal = {name: each.dim for name, each in inputs.items()}, self.fold.context == "causal"
        if self.entry.kind == "linear":
            return {"dims": dims, "causal": causal}
        weighed = {name: each.n_layers for name, each in inputs.items() if each.n_layers > 1}
        if self.entry not in UNIMODAL:
            return {"dims": dims, "causal": causal, **({"n_layers": weighed} if weighed else {})}
        (modality,) = self.entry.modalities
        context = {"causal": causal} if self.before else {}
        return {"dim": dims[modality], **context, **({"n_layers": weighed[modality]} if weighed else {})}

    def _fitted(self, network: Network, inputs: Inputs) -> Fitted:
        if self.entry.kind == "linear":
            # By its name, so that no other model's runs depend on that module.
            fitted: Fitted = import_module("emofuse.training.linear").fit_linear(
                network, inputs, self.fold, self.settings.network
            )
            return fitted
        standardize(network, inputs, self.fold)
        progress = Progress(self.job.work.progress, self.run, self.config, self.job.folder)
        return fit(network, inputs, self.fold, self.settings.fit, self.run.seeds, progress)

    def _probabilities(self) -> dict[str, np.ndarray]:
        return {name: read_probabilities(folder, self.fold) for name, folder in self.before.items()}

    def _dev_score(self, probabilities: np.ndarray) -> float:
        return dev_scores(probabilities, self.fold)["weighted_f1"]
