"""Fusion of the modalities: HCAM stage III, CMA, HBAF, and the baselines that they are compared with.

:mod:`emofuse.models.registry` names the models; how one is trained follows from its kind. A model's ablations, the same
with parts switched off, stand in its section of the parameters and are trained as runs of ``<model>/<ablation>``.
"""

from dataclasses import asdict, field, make_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from emofuse.core.files import checked, digest, file_digest
from emofuse.core.layout import Pair
from emofuse.core.params import STRICT, Params
from emofuse.core.schema import MODALITIES, SPLITS
from emofuse.core.store import link
from emofuse.features.shards import metadata
from emofuse.models.parts.mixture import choose_weights, combine
from emofuse.models.registry import Input, Model, model, sources
from emofuse.training.attention import save_attention
from emofuse.training.data import Inputs, pooled, read_features, single_frames
from emofuse.training.fit import FitConfig, dev_scores, fit, standardize
from emofuse.training.jobs import Job, Work, keep, train_all
from emofuse.training.progress import Progress
from emofuse.training.runs import (
    Run,
    code_digest,
    fold_digest,
    read_probabilities,
    read_vectors,
    save_config,
    save_fitted,
    save_run,
)

__all__ = ["ablate", "fuse", "settings"]


def fuse(work: Work, pair: Pair, name: str) -> None:
    """Train a model for every seed and fold of a task.

    Args:
        work: the task and where its data lie
        pair: the encoders that it reads
        name: of the model in the registry
    """
    settings(work.params, name)
    out = work.layout.fusion(work.task, pair) / name
    train_all(work, out, _train, _jobs(work, pair, name, out))


def ablate(work: Work, pair: Pair, name: str) -> None:
    """Train the ablations of a model for every seed and fold of a task; the arguments are those of :func:`fuse`."""
    out = work.layout.fusion(work.task, pair) / "ablations" / name
    jobs = []
    for ablation in work.params.get(f"models.{name}.ablations", dict[str, Any]):
        settings(work.params, f"{name}/{ablation}")
        jobs += _jobs(work, pair, f"{name}/{ablation}", out / ablation)
    train_all(work, out, _train, jobs)


def settings(params: Params, name: str) -> Any:
    """Return the checked section of a model, or of an ablation with its changes made.

    Args:
        params: of the corpus
        name: such as ``hcam`` or ``hcam/no-context``

    Raises:
        ParamsError: a value is not allowed, or an ablation changes what is not there
    """
    base, _, ablation = name.partition("/")
    key = f"models.{base}"
    if ablation:
        where = f"{key}.ablations.{ablation}"
        params = params.changed(key, params.get(where, dict[str, Any]), where)
    return params.get(key, _section(model(base)))


def _section(entry: Model) -> type[Any]:
    """The dataclass of a model's section, put together from what the registry says."""
    fields: list[Any] = []
    if entry.network is not None:
        fields.append(("network", entry.config_class()))
    if entry.kind == "network":
        fields.append(("fit", FitConfig))
        if entry.reads_networks:
            fields.append(("ensemble", bool, False))
    if len(entry.inputs) > 1:
        fields.append(("reads", Literal[entry.inputs], entry.inputs[0]))
    fields.append(("ablations", dict[str, dict[str, Any]], field(default_factory=dict)))
    return dataclass(frozen=True, config=STRICT)(make_dataclass("Section", fields, frozen=True))


def _jobs(work: Work, pair: Pair, name: str, out: Path) -> list[Job]:
    entry = model(name)
    encoders = {each: pair.encoder(each) for each in entry.modalities}
    trainer = ["training.linear"] if entry.kind == "linear" else []
    code = code_digest("training.fuse", f"models.{entry.module}", *trainer)
    return [Job(work, name, encoders, *place, code, out) for place in work.places(seeded=entry.seeded)]


class _Training:
    """One run of a model while it is trained."""

    def __init__(self, job: Job) -> None:
        self.job, self.entry, self.fold = job, model(job.model), job.fold
        self.settings = settings(job.work.params, job.model)
        self.reads: Input = getattr(self.settings, "reads", self.entry.inputs[0])
        self.run = Run(job.work.task, job.model, job.encoders, job.work.stage, *job.place)
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
        config = asdict(self.settings)
        del config["ablations"]
        return config

    def key(self) -> str:
        """Digest of all that the run depends on."""
        return digest([self.job.code, fold_digest(self.fold), self._files(), self.reads, self.config, asdict(self.run)])

    def train(self, out: Path) -> None:
        """Fill the run's folder."""
        kinds = {"prior": self._prior, "linear": self._linear, "mixture": self._mixture, "network": self._network}
        kinds[self.entry.kind](out)

    def _files(self) -> list[str]:
        """Digests of the files that are read."""
        if self.reads == "labels":
            return []
        if not self.before:
            return [each for encoder in self.job.encoders.values() for each in self.job.work.shards(encoder)]
        names = ["predictions.parquet"] if self._mixes else []
        names += ["vectors.safetensors"] if self.entry.kind == "network" else []
        return [file_digest(checked(folder / name)) for name in names for folder in self.before.values()]

    @property
    def _mixes(self) -> bool:
        """Whether probabilities of the unimodal networks are mixed in."""
        return self.entry.kind == "mixture" or getattr(self.settings, "ensemble", False)

    def _prior(self, out: Path) -> None:
        frequencies = self.entry.load().prior(
            self.fold.targets[self.fold.splits == SPLITS.index("train")], len(self.fold.classes)
        )
        save_run(out, self.run, self.fold, np.tile(frequencies, (len(self.fold.utterance_ids), 1)), {})

    def _mixture(self, out: Path) -> None:
        mixture, weights = self.entry.load().mix(self._probabilities(), self._dev_score)
        save_run(out, self.run, self.fold, mixture, {"weights": weights})
        save_config(out, self.run, self.fold, self.config, {"reads": self.reads, "weights": weights})

    def _linear(self, out: Path) -> None:
        inputs = {name: read_features(self.features[name], self.fold.utterance_ids) for name in self.features}
        # By its name, so that no other model's runs depend on that module.
        trainer = import_module("emofuse.training.linear")
        trainer.train_linear(out, self.run, self.fold, inputs, self.features, self.settings.network)

    def _network(self, out: Path) -> None:
        inputs = self._inputs()
        dims = {name: sequences.dim for name, sequences in inputs.items()}
        build: dict[str, Any] = {"reads": self.reads, "dims": dims, "causal": self.fold.context == "causal"}
        if not self.before:
            build["features"] = {name: metadata(folder) for name, folder in self.features.items()}
        torch.manual_seed(self.run.seeds.number("initialization"))
        weighed = {name: each.n_layers for name, each in inputs.items() if each.n_layers > 1}
        layers = {"n_layers": weighed} if weighed else {}
        build |= layers
        network = self.entry.network_class()(
            self.settings.network, dims, len(self.fold.classes), build["causal"], **layers
        )
        for name, sequences in inputs.items():
            standardize(network.standardize[name], sequences, self.fold)
        progress = Progress(self.job.work.progress, self.run, self.config, self.job.out / self.run.folder)
        fitted = fit(network, inputs, self.fold, self.settings.fit, self.run.seeds, progress)
        if self._mixes:
            probabilities = {**self._probabilities(), "fused": fitted.probabilities}
            build["weights"] = choose_weights(probabilities, self._dev_score)
            fitted = replace(fitted, probabilities=combine(probabilities, build["weights"]))
        save_fitted(out, self.run, self.fold, fitted, self.config, build, None)
        save_attention(out, fitted.network, inputs, self.fold)

    def _inputs(self) -> Inputs:
        if self.before:
            return {name: single_frames(read_vectors(folder, self.reads)) for name, folder in self.before.items()}
        sequences = {name: read_features(self.features[name], self.fold.utterance_ids) for name in MODALITIES}
        if self.reads == "frames":
            return sequences
        return {name: pooled(each, deviation=int(each.lengths.max()) > 1) for name, each in sequences.items()}

    def _probabilities(self) -> dict[str, np.ndarray]:
        return {name: read_probabilities(folder, self.fold) for name, folder in self.before.items()}

    def _dev_score(self, probabilities: np.ndarray) -> float:
        return dev_scores(probabilities, self.fold)["weighted_f1"]


def _train(job: Job) -> bool:
    training = _Training(job)
    entry = keep(job.work.store, training.key(), training.train)
    link(entry, job.out / training.run.folder)
    return entry.reused
