"""The networks of a bundle, connected as in training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError

from emofuse.core.params import ParamsError, validate
from emofuse.inference.bundle import BundleError, read_json, read_weights
from emofuse.models.parts.base import Network
from emofuse.models.parts.mixture import combine
from emofuse.models.registry import MODELS, Input, base_name, model, sources
from emofuse.tasks import Fold
from emofuse.training.data import Inputs, MappedSequences, Sequences, examples, pooled, single_frames
from emofuse.training.fit import infer

__all__ = ["Graph", "Kept"]

_BATCH = 32

Outputs = tuple[np.ndarray, Mapping[str, torch.Tensor]]
"""A network's probabilities ``[n, C]`` of some utterances, and its vectors ``[n, H]`` by name."""

Kept = dict[str, Outputs]
"""Outputs of networks without context, by the network's name."""


@dataclass(frozen=True)
class _Node:
    """A model of the graph: a network, a mixture of probabilities, or both."""

    config: dict[str, Any]
    network: Network | None


class Graph:
    """The networks of a bundle.

    Args:
        folders: with a network's configuration and weights each, by name

    Raises:
        BundleError: a configuration or the weights are missing, damaged, or do not fit each other
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._nodes = {name: _load(folder) for name, folder in folders.items()}

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
            kept: outputs of networks without context for the first of these utterances, which are not computed again;
                those for the others are added
        """
        return _Pass(self._nodes, frames, fold, {} if kept is None else kept).probabilities(name)


class _Pass:
    """One pass of some utterances through the graph; every network runs once."""

    def __init__(self, nodes: Mapping[str, _Node], frames: Inputs, fold: Fold, kept: Kept) -> None:
        self._nodes, self._frames, self._fold, self._kept = nodes, frames, fold, kept
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
            items = examples(self._fold, network.unit)
            if network.unit == "dialogue":
                self._done[name] = infer(network, inputs, self._fold, items, _BATCH)
            else:
                earlier = self._kept.get(name)
                new = items if earlier is None else items[len(earlier[0]) :]
                outputs = infer(network, inputs, self._fold, new, _BATCH)
                self._done[name] = self._kept[name] = outputs if earlier is None else _concatenated(earlier, outputs)
        return self._done[name]

    def _input(self, modality: str, config: Mapping[str, Any]) -> Sequences | MappedSequences:
        reads = config["reads"]
        if reads in ("utterance", "context"):
            return single_frames(self._infer(sources(config)[modality].name)[1][reads])
        frames = self._frames[modality]
        return pooled(frames, config["dims"][modality] > frames.dim) if reads == "pooled" else frames


def _concatenated(before: Outputs, after: Outputs) -> Outputs:
    """Outputs for the first utterances, and for the others, which follow a gap for those."""
    count = len(before[0])
    vectors = {name: torch.cat([before[1][name], each[count:]]) for name, each in after[1].items()}
    return np.concatenate([before[0], after[0][count:]]), vectors


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
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{weights}: damaged, or not of its config.json: {error}") from error
    return _Node(config, network.eval())


def _build(config: Mapping[str, Any], where: str) -> Network:
    name, options, classes = base_name(config["model"]), config["config"]["network"], len(config["classes"])
    entry = MODELS.get(name)
    if entry is None or entry.network is None:
        known = [each.name for each in MODELS.values() if each.network]
        raise BundleError(f"{where}: {name!r} is no network of this version; known are {known}")
    # A network of one modality takes a size, one of several a size of each; without context, causality has no meaning.
    size = config["dims"] if "dims" in config else config["dim"]
    causal = [config["causal"]] if "causal" in config else []
    weighed = {"n_layers": config["n_layers"]} if "n_layers" in config else {}
    options_of = validate(options, entry.config_class(), where)
    network: Network = entry.network_class()(options_of, size, classes, *causal, **weighed)
    return network
