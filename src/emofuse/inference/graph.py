"""The networks of a bundle, connected as in training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError

from emofuse.core.params import ParamsError, validate
from emofuse.inference.bundle import BundleError, read_json, read_weights
from emofuse.inference.stepping import stepping
from emofuse.models.parts.base import Network, build
from emofuse.models.parts.mixture import combine
from emofuse.models.registry import MODELS, Input, base_name, model, sources
from emofuse.tasks import Fold
from emofuse.training.data import Inputs, MappedSequences, Sequences, examples, pooled, single_frames
from emofuse.training.fit import infer

__all__ = ["Graph", "Kept"]

Outputs = tuple[np.ndarray, Mapping[str, torch.Tensor]]
"""A network's probabilities ``[n, C]`` of some utterances, and its vectors ``[n, H]`` by name."""


@dataclass(frozen=True)
class Kept:
    """What is known of a dialogue's first utterances whatever comes after, and not computed again.

    Attributes:
        outputs: of networks without context, and of causal ones, by the network's name
        pooled: means, and with ``True`` deviations, over the frames of a modality
        steps: causal networks with their state after those utterances; None where one keeps none
    """

    outputs: dict[str, Outputs] = field(default_factory=dict)
    pooled: dict[tuple[str, bool], torch.Tensor] = field(default_factory=dict)
    steps: dict[str, Network | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Node:
    """A model of the graph: a network, a mixture of probabilities, or both."""

    config: dict[str, Any]
    network: Network | None


class Graph:
    """The networks of a bundle.

    Args:
        folders: with a network's configuration and weights each, by name
        batch: size of a batch; four times as many utterances or dialogues are read at once

    Raises:
        BundleError: a configuration or the weights are missing, damaged, or do not fit each other
    """

    def __init__(self, folders: Mapping[str, Path], batch: int = 32) -> None:
        self._nodes = {name: _load(folder) for name, folder in folders.items()}
        self._batch = batch

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    @property
    def is_causal(self) -> bool:
        """Whether no network reads the turns after the one that it answers."""
        dialogues = (each for each in self._nodes.values() if each.network and each.network.unit == "dialogue")
        return all(each.config["causal"] for each in dialogues)

    def probabilities(self, name: str, frames: Inputs, fold: Fold, kept: Kept | None = None) -> np.ndarray:
        """Return the probabilities of a model, float32 ``[n, C]``.

        Args:
            name: of the model
            frames: of each modality that it reads
            fold: the utterances, by dialogue
            kept: of a single dialogue that goes on, what is known of its first utterances; what is found of the others
                is added
        """
        steps = kept is not None and self.is_causal
        return _Pass(self._nodes, frames, fold, kept or Kept(), self._batch, steps).probabilities(name)


class _Pass:
    """One pass of some utterances through the graph; every network runs once, or once for each that is new."""

    def __init__(
        self, nodes: Mapping[str, _Node], frames: Inputs, fold: Fold, kept: Kept, batch: int, steps: bool
    ) -> None:
        self._nodes, self._frames, self._fold, self._kept = nodes, frames, fold, kept
        self._batch, self._steps = batch, steps
        self._done: dict[str, Outputs] = {}

    def probabilities(self, name: str) -> np.ndarray:
        config = self._nodes[name].config
        if "weights" not in config:
            return self._infer(name)[0]
        before = sources(config)
        parts = {each: self._infer(before[each].name if each in before else name)[0] for each in config["weights"]}
        return combine(parts, config["weights"])

    def _infer(self, name: str) -> Outputs:
        if name not in self._done:
            network, config = self._nodes[name].network, self._nodes[name].config
            if network is None:
                raise BundleError(f"{name} has no network")
            inputs = {each: self._input(each, config) for each in model(config["model"]).modalities}
            keeps = self._keeping(name, network, inputs)
            if keeps is None:
                items = examples(self._fold, network.unit)
                self._done[name] = infer(network, inputs, self._fold, items, self._batch)
            else:
                self._done[name] = self._kept.outputs[name] = self._continued(name, keeps, inputs)
        return self._done[name]

    def _keeping(self, name: str, network: Network, inputs: Inputs) -> Network | None:
        """The network, if what it says of an utterance stays; of a causal one a copy with its state; or None."""
        if network.unit == "utterance":
            return network
        if self._steps and name not in self._kept.steps:
            self._kept.steps[name] = stepping(network, {each: inputs[each].dim for each in inputs})
        return self._kept.steps.get(name)

    def _continued(self, name: str, network: Network, inputs: Inputs) -> Outputs:
        """Outputs for the first utterances as they were, and for the others: at once, or one after the other."""
        outputs = self._kept.outputs.get(name)
        first = 0 if outputs is None else len(outputs[0])
        rows = [np.array([row]) for row in range(first, len(self._fold.utterance_ids))]
        for items in [rows] if network.unit == "utterance" and rows else [[row] for row in rows]:
            outputs = _joined(outputs, infer(network, inputs, self._fold, items, self._batch), np.concatenate(items))
        if outputs is None:
            raise ValueError(f"{name}: nothing to answer")
        return outputs

    def _input(self, modality: str, config: Mapping[str, Any]) -> Sequences | MappedSequences:
        reads = config["reads"]
        if reads in ("utterance", "context"):
            return single_frames(self._infer(sources(config)[modality].name)[1][reads])
        frames = self._frames[modality]
        return self._pooled(modality, config["dims"][modality] > frames.dim) if reads == "pooled" else frames

    def _pooled(self, modality: str, deviation: bool) -> Sequences:
        frames, key = self._frames[modality], (modality, deviation)
        earlier = self._kept.pooled.get(key)
        if earlier is None:
            vectors = pooled(frames, deviation).values
        else:
            new = (frames.chunks(np.array([row])) for row in range(len(earlier), len(frames.lengths)))
            alone = (Sequences(each, torch.tensor([0, len(each)]), frames.n_layers) for (each,) in new)
            vectors = torch.cat([earlier, *(pooled(each, deviation).values for each in alone)])
        self._kept.pooled[key] = vectors
        return single_frames(vectors, frames.n_layers)


def _joined(before: Outputs | None, found: Outputs, rows: np.ndarray) -> Outputs:
    """Outputs for the first utterances, and those that were found for the next ones."""
    probabilities, vectors = found[0][rows], {name: each[rows] for name, each in found[1].items()}
    if before is None:
        return probabilities, vectors
    joined = {name: torch.cat([before[1][name], each]) for name, each in vectors.items()}
    return np.concatenate([before[0], probabilities]), joined


def _load(folder: Path) -> _Node:
    config, weights = read_json(folder / "config.json"), folder / "model.safetensors"
    if config.get("reads") not in get_args(Input):
        raise BundleError(f"{folder / 'config.json'}: reads is {config.get('reads')!r}; expected {get_args(Input)}")
    if config["reads"] == "probabilities":
        return _Node(config, None)
    try:
        network = _build(config, str(folder / "config.json"))
        network.load_state_dict(read_weights(weights))
    except FileNotFoundError as error:
        raise BundleError(f"{weights}: not found") from error
    except KeyError as error:
        raise BundleError(f"{folder / 'config.json'}: no key {error}") from error
    except ParamsError as error:
        raise BundleError(f"{error}; it is of another version of this package") from error
    except TypeError as error:  # a key that the network needs is not there
        raise BundleError(f"{folder / 'config.json'}: {error}; it is of another version of this package") from error
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{weights}: damaged, or not of its config.json: {error}") from error
    return _Node(config, network.eval())


def _build(config: Mapping[str, Any], where: str) -> Network:
    name, options, classes = base_name(config["model"]), config["config"]["network"], len(config["classes"])
    entry = MODELS.get(name)
    if entry is None or entry.network is None:
        known = [each.name for each in MODELS.values() if each.network]
        raise BundleError(f"{where}: {name!r} is no network of this version; known are {known}")
    return build(entry.network_class(), validate(options, entry.config_class(), where), classes, config)
