"""Baseline: early concatenation of both modalities' vectors, and a bidirectional GRU over the dialogue.

The vectors are those of HCAM's stage I, which other fusions read too, so that none is ahead by its input alone; or mean
and deviation of the frames. With ``skip``, the classifier reads the turn's own vectors beside the GRU's output.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from emofuse.core.params import STRICT
from emofuse.core.schema import MODALITIES
from emofuse.models.parts.base import Batch, Network, Output, Unit, from_dialogues, to_dialogues
from emofuse.models.parts.layers import LayerWeights, Speaker, SpeakerEmbedding, Standardize
from emofuse.models.parts.recurrent import Recurrent

__all__ = ["Concat", "ConcatConfig"]


@dataclass(frozen=True, config=STRICT)
class ConcatConfig:
    """The baseline's sizes.

    Attributes:
        hidden: size of the GRU's output, both directions together
        layers: GRU layers
        dropout: on the input, between GRU layers and before the classes
        speaker: what it knows of the speakers
        skip: whether the classifier also reads the turn's own vectors
    """

    hidden: Annotated[int, Field(ge=2, multiple_of=2)]
    layers: Annotated[int, Field(ge=1, le=8)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    speaker: Speaker = "none"
    skip: bool = False


class Concat(Network):
    """Vectors of audio and text, concatenated, through a dialogue GRU to classes.

    Args:
        config: sizes and dropout
        dims: size of each modality's vector, keys ``audio`` and ``text``
        classes: number C of classes
        causal: whether context is the turns before alone
        n_layers: by modality, of the encoder's layers that a vector has side by side, to be weighed; 1 if left out
    """

    unit: ClassVar[Unit] = "dialogue"

    def __init__(
        self,
        config: ConcatConfig,
        dims: dict[str, int],
        classes: int,
        causal: bool,
        n_layers: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.skip = config.skip
        self.standardize = nn.ModuleDict({name: Standardize(dim) for name, dim in dims.items()})
        layer_weights = {name: LayerWeights(dim, n_layers.get(name, 1)) for name, dim in dims.items()}
        self.layer_weights = nn.ModuleDict(layer_weights)
        self.dropout = nn.Dropout(config.dropout)
        dim = sum(each.dim for each in layer_weights.values())
        self.speaker = SpeakerEmbedding(config.speaker, dim)
        self.recurrent = Recurrent(dim, config.hidden, config.layers, config.dropout, causal)
        self.classifier = nn.Linear(config.hidden + (dim if config.skip else 0), classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits, and ``vectors['context']``, ``[U, H]``."""
        own = [self.layer_weights[name](self.standardize[name](batch.frames[name][:, 0])) for name in MODALITIES]
        own_UD = torch.cat(own, dim=1)
        x_UD = self.speaker(self.dropout(own_UD), batch.speakers_U, batch.places_BL)
        x_BLD = to_dialogues(x_UD, batch.places_BL)
        states_BLH = self.recurrent(x_BLD, (batch.places_BL >= 0).sum(dim=1))
        context_UH = from_dialogues(states_BLH, batch.places_BL)
        seen_UH = torch.cat([context_UH, own_UD], dim=1) if self.skip else context_UH
        return Output(self.classifier(self.dropout(seen_UH)), {"context": context_UH})
