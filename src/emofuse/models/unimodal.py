"""HCAM stages I and II: the unimodal networks (Dutta and Ganapathy 2023, arXiv 2304.06910, hierarchical modelling).

The paper says: in stage I the frames of an utterance pass a bidirectional GRU with self-attention and the network is
trained to classify the utterance; stage I is then frozen, and in stage II the utterance vectors of a conversation pass
a bidirectional GRU with self-attention, trained with cross-entropy and a supervised contrastive loss.

Our reading: two GRU layers in each stage; stage I pools with additive attention, ``u = sum_t a_t h_t``,
``a = softmax(v . tanh(W h))``; stage II adds multi-head self-attention over the dialogue with residual and layer norm,
``c = LN(h + MHA(h, h, h))``; the contrastive loss acts on a linear projection of ``c``.
"""

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from emofuse.models.base import Batch, Network, Output, Unit, from_dialogues, to_dialogues
from emofuse.models.layers import AttentionPooling, CrossAttention, Recurrent, Standardize, attention_mask
from emofuse.models.losses import supervised_contrastive
from emofuse.params import STRICT

__all__ = ["ContextConfig", "ContextNetwork", "UtteranceConfig", "UtteranceNetwork"]

Share = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[int, Field(ge=2, multiple_of=2)]


@dataclass(frozen=True, config=STRICT)
class UtteranceConfig:
    """Stage I.

    Attributes:
        project: frames are first mapped to this size; 0 leaves them as they are
        hidden: size of the utterance vector, both directions together
        layers: GRU layers
        dropout: on the pooled vector and between GRU layers
        input_dropout: on the frames
    """

    project: Annotated[int, Field(ge=0)]
    hidden: Size
    layers: Annotated[int, Field(ge=1, le=8)]
    dropout: Share
    input_dropout: Share


class UtteranceNetwork(Network):
    """Stage I: frames of one modality to an utterance vector and classes; no context.

    Args:
        config: sizes and dropout
        dim: size D of a frame
        classes: number C of classes
    """

    unit: ClassVar[Unit] = "utterance"

    def __init__(self, config: UtteranceConfig, dim: int, classes: int) -> None:
        super().__init__()
        self.standardize = Standardize(dim)
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.project = nn.Linear(dim, config.project) if config.project else nn.Identity()
        self.recurrent = Recurrent(config.project or dim, config.hidden, config.layers, config.dropout)
        self.pool = AttentionPooling(config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(config.hidden, classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits, and the pooled vectors as ``vectors['utterance']``, ``[U, H]``."""
        (x_UTD,), (lengths_U,) = batch.frames.values(), batch.lengths.values()
        states_UTH = self.recurrent(self.project(self.input_dropout(self.standardize(x_UTD))), lengths_U)
        pooled_UH = self.pool(states_UTH, lengths_U)
        return Output(self.classify(self.dropout(pooled_UH)), {"utterance": pooled_UH})


@dataclass(frozen=True, config=STRICT)
class ContextConfig:
    """Stage II.

    Attributes:
        hidden: size of the contextual vector, both directions together
        layers: GRU layers
        heads: heads of the self-attention
        dropout: on the input vectors, between GRU layers, in the attention and before the classes
        contrastive: weight of the supervised contrastive loss; 0 switches it off
        temperature: of the contrastive loss
    """

    hidden: Size
    layers: Annotated[int, Field(ge=1, le=8)]
    heads: Annotated[int, Field(ge=1)]
    dropout: Share
    contrastive: Annotated[float, Field(ge=0)]
    temperature: Annotated[float, Field(gt=0)]


class ContextNetwork(Network):
    """Stage II: the utterance vectors of a dialogue to contextual vectors and classes.

    Args:
        config: sizes, dropout and the contrastive loss
        dim: size D of an utterance vector
        classes: number C of classes
        past: context is the turns before alone
    """

    unit: ClassVar[Unit] = "dialogue"

    def __init__(self, config: ContextConfig, dim: int, classes: int, past: bool) -> None:
        super().__init__()
        self.config, self.past = config, past
        self.standardize = Standardize(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.recurrent = Recurrent(dim, config.hidden, config.layers, config.dropout, past)
        self.attend = CrossAttention(config.hidden, config.heads, config.dropout)
        self.project = nn.Linear(config.hidden, config.hidden)
        self.classify = nn.Linear(config.hidden, classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits, the contrastive loss, and ``vectors['context']``, ``[U, H]``."""
        (x_UTD,) = batch.frames.values()
        x_UD = self.dropout(self.standardize(x_UTD[:, 0]))
        context_UH = self.contextualise(x_UD, batch.places_BL)
        auxiliary = {}
        if self.config.contrastive:
            loss = supervised_contrastive(self.project(context_UH), batch.targets_U, self.config.temperature)
            auxiliary["contrastive"] = self.config.contrastive * loss
        return Output(self.classify(self.dropout(context_UH)), {"context": context_UH}, auxiliary)

    def contextualise(self, x_UD: Tensor, places_BL: Tensor) -> Tensor:
        """Return ``[U, H]``: GRU and self-attention over each dialogue."""
        lengths_B = (places_BL >= 0).sum(dim=1)
        states_BLH = self.recurrent(to_dialogues(x_UD, places_BL), lengths_B)
        attended_BLH = self.attend(states_BLH, states_BLH, attention_mask(places_BL, self.past))
        result: Tensor = from_dialogues(attended_BLH, places_BL)
        return result
