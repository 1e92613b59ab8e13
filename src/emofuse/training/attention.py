"""Attention weights and gates of a trained network in one test dialogue, for the report."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emofuse.core.files import write_json
from emofuse.core.schema import SPLITS
from emofuse.models.parts.base import Network
from emofuse.tasks import Fold
from emofuse.training.data import Inputs, collate

__all__ = ["save_attention"]

_TURNS = 12
"""The dialogue whose number of turns is nearest to this is shown; the first of equals."""

_DECIMALS = 4


@torch.inference_mode()
def save_attention(folder: Path, network: Network, inputs: Inputs, fold: Fold) -> None:
    """Write ``attention.json``: attention and gates of a network that names any, in one dialogue of test.

    The file holds ``utterance_ids`` of its L turns; ``attention``, for each title the L weights of each turn, which
    add up to one, the mean over heads; and ``gate``, for each title how far it is open at each turn, from 0 to 1, the
    mean over the vector.

    Args:
        folder: of the run
        network: trained
        inputs: what it reads
        fold: the utterances
    """
    if not network.attentions:
        return
    dialogues = [np.arange(*ends) for ends in zip(fold.dialogues[:-1], fold.dialogues[1:], strict=True)]
    tested = [rows for rows in dialogues if (fold.splits[rows] == SPLITS.index("test")).all()]
    rows = min(tested, key=lambda each: abs(len(each) - _TURNS))
    network.eval()
    with _recorded(network) as seen:
        network(collate([rows], inputs, fold)[1])
    ids = [fold.utterance_ids[row] for row in rows]
    write_json(folder / "attention.json", {"utterance_ids": ids, **seen})


@contextmanager
def _recorded(network: Network) -> Iterator[dict[str, dict[str, list[Any]]]]:
    """Note what the attention modules and the gates say of the first dialogue of a batch."""
    seen: dict[str, dict[str, list[Any]]] = {"attention": {}, "gate": {}}
    modules = dict(network.named_modules())

    def attention(path: str, title: str) -> Iterator[Any]:
        def ask(module: nn.Module, args: Any, options: dict[str, Any]) -> Any:
            return args, {**options, "need_weights": True}

        def note(module: nn.Module, args: Any, output: tuple[Tensor, Tensor]) -> None:
            seen["attention"][title] = _listed(output[1][0])

        yield modules[path].register_forward_pre_hook(ask, with_kwargs=True)
        yield modules[path].register_forward_hook(note)

    def gate(path: str, title: str) -> Iterator[Any]:
        def note(module: nn.Module, args: Any, output: Tensor) -> None:
            seen["gate"][title] = _listed(output[0].sigmoid().mean(dim=-1))

        yield modules[path].register_forward_hook(note)

    hooks = [
        hook
        for titles, watch in ((network.attentions, attention), (network.gates, gate))
        for path, title in titles.items()
        if path in modules
        for hook in watch(path, title)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _listed(values: Tensor) -> list[Any]:
    return np.round(values.double().numpy(), _DECIMALS).tolist()
