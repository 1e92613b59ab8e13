"""What goes into every model and what comes out; shape suffixes used throughout:

U utterances of a batch, B dialogues, L turns of the longest dialogue, T frames of the longest sequence, D input size,
H hidden size, C classes, M modalities.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

__all__ = ["Batch", "Network", "Output", "Unit", "build", "from_dialogues", "to_dialogues"]

Unit = Literal["utterance", "dialogue"]


@dataclass(frozen=True)
class Batch:
    """Some utterances, whole dialogues of them where the model reads context.

    Attributes:
        frames: for each modality, float32 ``[U, T, D]``, zero after each sequence's end; NaN is a missing value
        lengths: for each modality, int64 ``[U]``, at least 1
        places_BL: for each turn of each dialogue its utterance, and -1 after a dialogue's end
        speakers_U: number of the speaker, -1 if unknown
        targets_U: class, or :data:`emofuse.core.schema.IGNORE`
    """

    frames: dict[str, Tensor]
    lengths: dict[str, Tensor]
    places_BL: Tensor
    speakers_U: Tensor
    targets_U: Tensor


@dataclass(frozen=True)
class Output:
    """What a network predicts for a batch.

    Attributes:
        logits_UC: of the head that predicts
        vectors: for each name, ``[U, H]``, what the next stage of training reads
        auxiliary_heads: further heads by name, each with the weight of its loss and its logits ``[U, C]``
        auxiliary_losses: further losses by name, already weighted
    """

    logits_UC: Tensor
    vectors: dict[str, Tensor] = field(default_factory=dict)
    auxiliary_heads: dict[str, tuple[float, Tensor]] = field(default_factory=dict)
    auxiliary_losses: dict[str, Tensor] = field(default_factory=dict)


class Network(nn.Module):
    """A network of this project: ``forward(batch) -> Output``.

    Attributes:
        unit: what a batch is cut from: utterances, or dialogues where context is read
        attentions: titles of its attention modules, by their path in the network
        gates: titles of its gates, modules whose sigmoid lets something in, by their path in the network
    """

    unit: ClassVar[Unit]
    attentions: ClassVar[Mapping[str, str]] = {}
    gates: ClassVar[Mapping[str, str]] = {}

    def forward(self, batch: Batch) -> Output:
        """Return logits, vectors and auxiliary losses of a batch."""
        raise TypeError(f"{type(self).__name__} has no forward")


def build(kind: Callable[..., Network], options: Any, classes: int, sizes: Mapping[str, Any]) -> Network:
    """Build a network, in training and again from its ``config.json``.

    Args:
        kind: its class
        options: of the network
        classes: number C of classes
        sizes: ``dim`` of a network of one modality, or ``dims`` of each; ``causal`` but for one that reads no context;
            ``n_layers`` where frames have layers to weigh; other keys are left out
    """
    size = sizes["dims"] if "dims" in sizes else sizes["dim"]
    causal = [sizes["causal"]] if "causal" in sizes else []
    weighed = {"n_layers": sizes["n_layers"]} if "n_layers" in sizes else {}
    return kind(options, size, classes, *causal, **weighed)


def to_dialogues(x_UH: Tensor, places_BL: Tensor) -> Tensor:
    """Lay utterances out by dialogue: ``[U, H]`` to ``[B, L, H]``, zero after each dialogue's end."""
    present_BL = places_BL >= 0
    return x_UH[places_BL.clamp(min=0)] * present_BL[..., None]


def from_dialogues(x_BLH: Tensor, places_BL: Tensor) -> Tensor:
    """Undo :func:`to_dialogues`: ``[B, L, H]`` to ``[U, H]``."""
    present_BL = places_BL >= 0
    x_UH = torch.empty_like(x_BLH[present_BL])
    x_UH[places_BL[present_BL]] = x_BLH[present_BL]
    return x_UH
