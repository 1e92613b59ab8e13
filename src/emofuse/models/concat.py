"""Baseline: early concatenation of both modalities' pooled frames, and a bidirectional GRU over the dialogue."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from emofuse.core.params import STRICT
from emofuse.models.base import Batch, Network, Output, Unit, from_dialogues, to_dialogues
from emofuse.models.layers import LayerWeights, Speaker, SpeakerEmbedding, Standardize
from emofuse.models.recurrent import Recurrent

__all__ = ["Concat", "ConcatConfig"]


@dataclass(frozen=True, config=STRICT)
class ConcatConfig:
    """The baseline's sizes.

    Attributes:
        hidden: size of the GRU's output, both directions together
        layers: GRU layers
        dropout: on the input, between GRU layers and before the classes
        speaker: what it is told of the speakers
    """

    hidden: Annotated[int, Field(ge=2, multiple_of=2)]
    layers: Annotated[int, Field(ge=1, le=8)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    speaker: Speaker = "none"


class Concat(Network):
    """Pooled vectors of audio and text, concatenated, through a dialogue GRU to classes.

    Args:
        config: sizes and dropout
        dims: size of each modality's pooled vector, keys ``audio`` and ``text``
        classes: number C of classes
        past: context is the turns before alone
        n_layers: by modality, of the encoder's layers that a vector has side by side, to be weighed; 1 if left out
    """

    unit: ClassVar[Unit] = "dialogue"

    def __init__(
        self,
        config: ConcatConfig,
        dims: dict[str, int],
        classes: int,
        past: bool,
        n_layers: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.standardize = nn.ModuleDict({name: Standardize(dim) for name, dim in dims.items()})
        weigh = {name: LayerWeights(dim, n_layers.get(name, 1)) for name, dim in dims.items()}
        self.weigh = nn.ModuleDict(weigh)
        self.dropout = nn.Dropout(config.dropout)
        dim = sum(each.dim for each in weigh.values())
        self.speaker = SpeakerEmbedding(config.speaker, dim)
        self.recurrent = Recurrent(dim, config.hidden, config.layers, config.dropout, past)
        self.classify = nn.Linear(config.hidden, classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits, and ``vectors['context']``, ``[U, H]``."""
        vectors = [self.weigh[name](self.standardize[name](batch.frames[name][:, 0])) for name in ("audio", "text")]
        x_UD = self.speaker(self.dropout(torch.cat(vectors, dim=1)), batch.speakers_U, batch.places_BL)
        x_BLD = to_dialogues(x_UD, batch.places_BL)
        states_BLH = self.recurrent(x_BLD, (batch.places_BL >= 0).sum(dim=1))
        context_UH = from_dialogues(states_BLH, batch.places_BL)
        return Output(self.classify(self.dropout(context_UH)), {"context": context_UH})
