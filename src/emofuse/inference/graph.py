"""The networks of a bundle, and how one reads what another says: as the training stages had it, without them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors import SafetensorError

from emofuse.core.params import ParamsError, validate
from emofuse.inference.bundle import BundleError, read_json, read_weights
from emofuse.models.base import Network
from emofuse.models.cma import CMA, CMAConfig
from emofuse.models.concat import Concat, ConcatConfig
from emofuse.models.hbaf import HBAF, HBAFConfig
from emofuse.models.hcam import HCAM, HCAMConfig
from emofuse.models.late import combine
from emofuse.models.unimodal import ContextConfig, ContextNetwork, UtteranceConfig, UtteranceNetwork
from emofuse.reporting.protocol import before, modalities
from emofuse.tasks import Fold
from emofuse.training.data import Inputs, MappedSequences, Sequences, examples, pooled, single_frames
from emofuse.training.fit import infer
from emofuse.training.runs import Reads

__all__ = ["FUSION", "MODALITIES", "Graph"]

MODALITIES = ("audio", "text")

FUSION: dict[str, tuple[Any, Any]] = {
    "concat": (Concat, ConcatConfig),
    "hcam": (HCAM, HCAMConfig),
    "cma": (CMA, CMAConfig),
    "hbaf": (HBAF, HBAFConfig),
}
"""Networks of both modalities, and their configurations, by the name before an ablation's."""

_BATCH = 32


@dataclass(frozen=True)
class _Node:
    """A model of the graph: a network, a mixture of posteriors, or both."""

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

    def posteriors(self, name: str, frames: Inputs, fold: Fold) -> np.ndarray:
        """Return the posteriors of a model, float32 ``[n, C]``.

        Args:
            name: of the model
            frames: of each modality that it reads
            fold: the utterances, by dialogue
        """
        return _Pass(self._nodes, frames, fold).posteriors(name)


class _Pass:
    """One pass of some utterances through the graph; every network runs once."""

    def __init__(self, nodes: Mapping[str, _Node], frames: Inputs, fold: Fold) -> None:
        self._nodes, self._frames, self._fold = nodes, frames, fold
        self._done: dict[str, tuple[np.ndarray, Mapping[str, Any]]] = {}

    def posteriors(self, name: str) -> np.ndarray:
        config = self._nodes[name].config
        if "weights" not in config:
            return self._infer(name)[0]
        parts = {each: self._infer(name if each == "fused" else before(each, config))[0] for each in config["weights"]}
        return combine(parts, config["weights"])

    def _infer(self, name: str) -> tuple[np.ndarray, Mapping[str, Any]]:
        if name not in self._done:
            network, config = self._nodes[name].network, self._nodes[name].config
            if network is None:
                raise BundleError(f"{name} has no network")
            inputs = {each: self._input(each, config) for each in modalities(config["model"])}
            self._done[name] = infer(network, inputs, self._fold, examples(self._fold, network.unit), _BATCH)
        return self._done[name]

    def _input(self, modality: str, config: Mapping[str, Any]) -> Sequences | MappedSequences:
        reads = config["reads"]
        if reads in ("utterance", "context"):
            return single_frames(self._infer(before(modality, config))[1][reads])
        frames = self._frames[modality]
        return pooled(frames, config["dims"][modality] > frames.dim) if reads == "pooled" else frames


def _load(folder: Path) -> _Node:
    config, weights = read_json(folder / "config.json"), folder / "model.safetensors"
    if config.get("reads") not in get_args(Reads):
        raise BundleError(f"{folder / 'config.json'}: reads is {config.get('reads')!r}; expected {get_args(Reads)}")
    if config["reads"] == "posteriors":
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
    name, options, classes = config["model"].partition("/")[0], config["config"]["network"], len(config["classes"])
    if name.endswith("-utterance"):
        return UtteranceNetwork(validate(options, UtteranceConfig, where), config["dim"], classes)
    if name.endswith("-context"):
        return ContextNetwork(validate(options, ContextConfig, where), config["dim"], classes, config["past"])
    if name not in FUSION:
        raise BundleError(f"{where}: {name!r} is no network of this version; known are {sorted(FUSION)}")
    kind, config_kind = FUSION[name]
    network: Network = kind(validate(options, config_kind, where), config["dims"], classes, config["past"])
    return network
