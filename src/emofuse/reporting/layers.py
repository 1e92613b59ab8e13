"""Learned weights of an encoder's layers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

from emofuse.models.registry import in_order

__all__ = ["LayerShares", "read_layer_shares"]

_LOGITS = "logits"
_LAYER_WEIGHTS = "layer_weights"
"""How a network names them: ``layer_weights.logits``, or of two modalities ``layer_weights.<modality>.logits``."""


@dataclass(frozen=True)
class LayerShares:
    """How much a model's networks weigh the layers of an encoder.

    Attributes:
        model: name in the results table
        modality: of the encoder
        encoder: its name
        shares: of each layer, from the embedding up, mean over runs; they sum to one
        n_runs: number of these
    """

    model: str
    modality: str
    encoder: str
    shares: tuple[float, ...]
    n_runs: int

    @property
    def caption(self) -> str:
        """Whose layers, and of how many runs."""
        return f"{self.modality}, {self.encoder}, {self.n_runs} {'run' if self.n_runs == 1 else 'runs'}"


def read_layer_shares(folders: Sequence[Path]) -> list[LayerShares]:
    """Return the learnt shares of the models that weigh layers, in the order of tables.

    Args:
        folders: of all runs; those of models without such weights, or without a network, are passed over
    """
    found: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for folder in folders:
        if (folder / "model.safetensors").exists():
            run = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            for modality, shares in _shares(folder / "model.safetensors", tuple(run["encoders"])).items():
                found.setdefault((run["model"], modality, run["encoders"][modality]), []).append(shares)
    models = in_order(list(dict.fromkeys(model for model, _, _ in found)))
    means = [LayerShares(*key, tuple(np.mean(runs, axis=0).tolist()), len(runs)) for key, runs in found.items()]
    return sorted(means, key=lambda each: (models.index(each.model), each.modality))


def _shares(path: Path, modalities: Sequence[str]) -> dict[str, np.ndarray]:
    """A run's softmax of the weights of layers, by modality."""
    found = {}
    with safe_open(path, "np") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            parts = name.split(".")
            if parts[0] == _LAYER_WEIGHTS and parts[-1] == _LOGITS:
                logits = file.get_tensor(name).astype(np.float64)
                powers = np.exp(logits - logits.max())
                found[parts[1] if len(parts) > 2 else modalities[0]] = powers / powers.sum()
    return found
