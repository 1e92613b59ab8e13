"""HCAM stages I and II: the unimodal networks (Dutta and Ganapathy 2023, arXiv 2304.06910, hierarchical modelling).

The paper itself was not read, and what is known of it comes from these places:

* the abstract says (https://arxiv.org/abs/2304.06910): bidirectional recurrent layers with self-attention make a vector
  of each utterance; the layers are trained hierarchically
* a third party's summary says (https://www.sciencestack.ai/paper/2304.06910): stage I learns utterance embeddings of a
  modality, stage II adds the context of other utterances with a GRU and self-attention; a supervised contrastive loss
  stands beside the cross-entropy
* the authors' earlier code does, for another system (https://github.com/iiscleap/multimodal_emotion_recognition,
  ``model_lstm_tranformers.py``): a bidirectional GRU with self-attention over a conversation's utterances, for each
  modality, trained first and frozen while the fusion learns

Our reading: which stage has which loss, and a linear path around each stage, so that a layer can only add to what went
in. Stage I pools with additive attention, stage II adds multi-head self-attention with residual and layer norm::

    u = sum_t a_t h_t + R [mean_t(x_t); max_t(x_t)]      h = GRU(P x),  a = softmax_t(v . tanh(W h_t))
    c = LN(h + MHA(h, h, h)) + R u                       h = GRU(u) over the dialogue

with an utterance's frames ``x`` ``[T, D]``, ``h`` ``[T, H]`` and its vector ``u`` ``[H]``; in stage II ``u``, ``h``
and ``c`` are ``[L, H]``, of the L turns of a dialogue. The contrastive loss acts on a linear projection of ``c``.
"""

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from emofuse.core.params import STRICT
from emofuse.models.parts.base import Batch, Network, Output, Unit, from_dialogues, to_dialogues
from emofuse.models.parts.layers import (
    AttentionBlock,
    AttentionPooling,
    LayerWeights,
    SharedDropout,
    Speaker,
    SpeakerEmbedding,
    Standardize,
    attention_mask,
    check_heads,
    frame_mask,
)
from emofuse.models.parts.losses import supervised_contrastive
from emofuse.models.parts.recurrent import Recurrent

__all__ = ["ContextConfig", "ContextNetwork", "UtteranceConfig", "UtteranceNetwork"]

Share = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[int, Field(ge=2, multiple_of=2)]


@dataclass(frozen=True, config=STRICT)
class UtteranceConfig:
    """Stage I.

    Attributes:
        input_projection: frames are first mapped to this size; 0 leaves them as they are
        hidden: size of the utterance vector, both directions together
        layers: GRU layers
        dropout: on the pooled vector and between GRU layers
        input_dropout: on the frames, the same features in all frames of an utterance
    """

    input_projection: Annotated[int, Field(ge=0)]
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
        n_layers: of the encoder that a frame has side by side, to be weighed
    """

    unit: ClassVar[Unit] = "utterance"

    def __init__(self, config: UtteranceConfig, dim: int, classes: int, n_layers: int = 1) -> None:
        super().__init__()
        self.standardize = Standardize(dim)
        self.layer_weights = LayerWeights(dim, n_layers)
        dim = self.layer_weights.dim
        self.input_dropout = SharedDropout(config.input_dropout)
        self.input_projection = nn.Linear(dim, config.input_projection) if config.input_projection else nn.Identity()
        self.recurrent = Recurrent(config.input_projection or dim, config.hidden, config.layers, config.dropout)
        self.pooling = AttentionPooling(config.hidden)
        self.residual_projection = nn.Linear(2 * dim, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden, classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits, and the pooled vectors as ``vectors['utterance']``, ``[U, H]``."""
        (x_UTD,), (lengths_U,) = batch.frames.values(), batch.lengths.values()
        mask_UT1 = frame_mask(x_UTD, lengths_U)[..., None]
        x_UTD = self.input_dropout(self.layer_weights(self.standardize(x_UTD))) * mask_UT1
        states_UTH = self.recurrent(self.input_projection(x_UTD), lengths_U)
        mean_UD = x_UTD.sum(dim=1) / mask_UT1.sum(dim=1)
        most_UD = x_UTD.masked_fill(~mask_UT1, -torch.inf).amax(dim=1)
        pooled_UH = self.pooling(states_UTH, lengths_U) + self.residual_projection(torch.cat([mean_UD, most_UD], dim=1))
        return Output(self.classifier(self.dropout(pooled_UH)), {"utterance": pooled_UH})


@dataclass(frozen=True, config=STRICT)
class ContextConfig:
    """Stage II.

    Attributes:
        hidden: size of the contextual vector, both directions together
        layers: GRU layers
        heads: heads of the self-attention, a divisor of ``hidden``
        dropout: on the input vectors, between GRU layers, in the attention and before the classes
        contrastive: weight of the supervised contrastive loss; 0 switches it off
        temperature: of the contrastive loss
        speaker: what the network is given about speakers; our addition
    """

    hidden: Size
    layers: Annotated[int, Field(ge=1, le=8)]
    heads: Annotated[int, Field(ge=1)]
    dropout: Share
    contrastive: Annotated[float, Field(ge=0)]
    temperature: Annotated[float, Field(gt=0)]
    speaker: Speaker = "none"

    def __post_init__(self) -> None:
        check_heads(self.hidden, self.heads)


class ContextNetwork(Network):
    """Stage II: the utterance vectors of a dialogue to contextual vectors and classes.

    Args:
        config: sizes, dropout and the contrastive loss
        dim: size D of an utterance vector
        classes: number C of classes
        causal: whether only earlier turns are context
    """

    unit: ClassVar[Unit] = "dialogue"

    def __init__(self, config: ContextConfig, dim: int, classes: int, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.standardize = Standardize(dim)
        self.dropout = nn.Dropout(config.dropout)
        self.speaker = SpeakerEmbedding(config.speaker, dim)
        self.recurrent = Recurrent(dim, config.hidden, config.layers, config.dropout, causal)
        self.self_attention = AttentionBlock(config.hidden, config.heads, config.dropout)
        self.residual_projection = nn.Linear(dim, config.hidden)
        self.contrastive_projection = nn.Linear(config.hidden, config.hidden) if config.contrastive else None
        self.classifier = nn.Linear(config.hidden, classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits, the contrastive loss, and ``vectors['context']``, ``[U, H]``."""
        (x_UTD,) = batch.frames.values()
        x_UD = self.dropout(self.standardize(x_UTD[:, 0]))
        x_UD = self.speaker(x_UD, batch.speakers_U, batch.places_BL)
        context_UH = self.contextualise(x_UD, batch.places_BL)
        auxiliary = {}
        if self.contrastive_projection is not None:
            loss = supervised_contrastive(
                self.contrastive_projection(context_UH), batch.targets_U, self.config.temperature
            )
            auxiliary["contrastive"] = self.config.contrastive * loss
        return Output(self.classifier(self.dropout(context_UH)), {"context": context_UH}, auxiliary_losses=auxiliary)

    def contextualise(self, x_UD: Tensor, places_BL: Tensor) -> Tensor:
        """Return ``[U, H]``: GRU and self-attention over each dialogue, and a projection of the input past them."""
        lengths_B = (places_BL >= 0).sum(dim=1)
        states_BLH = self.recurrent(to_dialogues(x_UD, places_BL), lengths_B)
        attended_BLH = self.self_attention(states_BLH, states_BLH, attention_mask(places_BL, self.causal))
        return from_dialogues(attended_BLH, places_BL) + self.residual_projection(x_UD)
