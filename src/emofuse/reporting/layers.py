"""What networks have learnt of an encoder's layers: how much each weighs, and how that is drawn."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from emofuse.models.registry import in_order

__all__ = ["LayerShares", "layer_figures", "read_layer_shares"]

_LOGITS = "logits"
_LAYER_WEIGHTS = "layer_weights"
"""How a network names them: ``layer_weights.logits``, or of two modalities ``layer_weights.<modality>.logits``."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, 276.0, 14.0, 100.0
"""Edges of the bars in their picture."""

_FILLED = 0.8
"""Width of a bar as a share of its place."""


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


def layer_figures(shares: Sequence[LayerShares]) -> list[dict[str, Any]]:
    """Lay the shares out as bars, all on one scale."""
    most = max((share for each in shares for share in each.shares), default=1.0)
    return [_figure(each, most) for each in shares]


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


def _figure(layers: LayerShares, most: float) -> dict[str, Any]:
    place = (_RIGHT - _LEFT) / len(layers.shares)

    def y(share: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * share / most, 1)

    bars = [
        {
            "x": round(_LEFT + place * (number + (1 - _FILLED) / 2), 1),
            "y": y(share),
            "width": round(_FILLED * place, 1),
            "height": round(_BOTTOM - y(share), 1),
            "middle": round(_LEFT + place * (number + 0.5), 1),
            "text": f"layer {number}: {100 * share:.1f} %",
        }
        for number, share in enumerate(layers.shares)
    ]
    strongest = int(np.argmax(layers.shares))
    runs = "1 run" if layers.n_runs == 1 else f"{layers.n_runs} runs"
    return {
        "model": layers.model,
        "caption": f"{layers.modality}, {layers.encoder}, {runs}",
        "summary": f"{bars[strongest]['text']} is the most of {len(bars)}",
        "bars": bars,
        "ticks": [{"y": y(share), "text": f"{100 * share:.3g}"} for share in (0.0, most / 2, most)],
        "equal": y(1 / len(bars)),
    }
