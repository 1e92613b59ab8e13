"""HBAF: heterogeneous bimodal attention fusion (Luo, Phan, Wang and Reiss 2025, arXiv 2503.06405).

The paper itself was not read, and what is known of it comes from these places:

* the abstract says (https://arxiv.org/abs/2503.06405): a uni-modal representation module brings contextual content into
  low-level audio representations, to bridge the gap to the text's high-level ones; a fusion module uses dynamic bimodal
  attention and a dynamic gating mechanism to filter wrong cross-modal relations, inside and between modalities; an
  inter-modal contrastive module captures absolute and relative interactions of audio and text
* a third party's summary says (https://www.sciencestack.ai/paper/2503.06405): the fusion module has residual
  connections; the audio context network, the fusion module and the contrastive module are ablated

Our reading: bimodal attention is self-attention inside a modality and cross-attention between the two, which the gate
closes; an absolute relation is that an utterance's audio and text match, a relative one that similarities between
utterances agree across modalities; audio, text and the fusion each have a cross-entropy. For the utterance vectors
``x_a, x_t`` of HCAM's stage I, ``[L, .]`` of a dialogue's L turns, narrow ``a'`` and ``[L, H]`` from there on::

    t = W_t x_t + GRU(W_t x_t)                       a' = V_a x_a,  a = W_a LN(a' + GRU(a') + MHA(a', a', a'))
    t* = LN(t + MHA(t, t, t) + g_t MHA(t, a, a))     g_t = sigmoid(U_t [t; MHA(t, a, a)] + c)       and so for a*
    logits = W [a*; t*] + b                          loss = CE + w_t CE(t) + w_a CE(a) + w_abs L_abs + w_rel L_rel
    L_abs: symmetric InfoNCE between P_a a, P_t t    L_rel: mean squared difference of their cosine similarities

Without ``layer_norm``, LN is left out: how sure a modality is of a turn stays in the length of its vector. The gate
starts nearly closed (c = -2), so that a weak modality has to earn its influence.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from emofuse.core.params import STRICT
from emofuse.core.schema import IGNORE, MODALITIES
from emofuse.models.parts.base import Batch, Network, Output, Unit, from_dialogues, to_dialogues
from emofuse.models.parts.layers import Speaker, SpeakerEmbedding, Standardize, attention_mask, check_heads
from emofuse.models.parts.losses import cosine_similarities
from emofuse.models.parts.recurrent import Recurrent

__all__ = ["HBAF", "HBAFConfig", "absolute_contrastive", "relative_contrastive"]

_GATE_BIAS = -2.0

Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class HBAFConfig:
    """Sizes, losses and switches.

    Attributes:
        hidden: size of the fused modalities' vectors
        audio_hidden: size inside the audio context network
        heads: attention heads
        dropout: on the text's vectors and around its GRU, in the attention and before the classes
        context: whether the audio context network runs
        gate: whether the cross-attention is gated
        self_attention: whether a modality attends to itself
        cross_attention: whether the modalities attend to each other
        text_loss: weight of the text head's cross-entropy
        audio_loss: weight of the audio head's cross-entropy
        absolute: weight of the absolute contrastive loss
        relative: weight of the relative contrastive loss
        temperature: of the absolute contrastive loss
        speaker: what it knows of the speakers
        skip: whether the classifier also reads the turn's own vectors: ours
        layer_norm: whether a layer norm stands behind every attention
        audio_dropout: on the audio's vectors, and around the GRU and the attention of its context
    """

    hidden: Annotated[int, Field(ge=2, multiple_of=2)]
    audio_hidden: Annotated[int, Field(ge=2, multiple_of=2)]
    heads: Annotated[int, Field(ge=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    context: bool
    gate: bool
    self_attention: bool
    cross_attention: bool
    text_loss: Weight
    audio_loss: Weight
    absolute: Weight
    relative: Weight
    temperature: Annotated[float, Field(gt=0)]
    speaker: Speaker = "none"
    skip: bool = False
    layer_norm: bool = True
    audio_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        check_heads(self.hidden, self.heads)


class HBAF(Network):
    """Utterance vectors of both modalities of a dialogue to classes.

    Args:
        config: sizes, losses and switches
        dims: size of each modality's vectors, keys ``audio`` and ``text``
        classes: number C of classes
        causal: whether context is the turns before alone
    """

    unit: ClassVar[Unit] = "dialogue"
    attentions: ClassVar[Mapping[str, str]] = {
        "bimodal_attention.audio.cross_attention": "audio attends to text",
        "bimodal_attention.text.cross_attention": "text attends to audio",
        "bimodal_attention.audio.self_attention": "audio attends to itself",
        "bimodal_attention.text.self_attention": "text attends to itself",
    }
    gates: ClassVar[Mapping[str, str]] = {
        "bimodal_attention.audio.gate": "text into audio",
        "bimodal_attention.text.gate": "audio into text",
    }

    def __init__(self, config: HBAFConfig, dims: dict[str, int], classes: int, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        hidden, audio_hidden = config.hidden, config.audio_hidden
        self.standardize = nn.ModuleDict({name: Standardize(dim) for name, dim in dims.items()})
        self.dropout = nn.Dropout(config.dropout)
        self.text_input_projection = nn.Linear(dims["text"], hidden)
        self.text_speaker = SpeakerEmbedding(config.speaker, hidden)
        self.text_context = Recurrent(hidden, hidden, 2, config.dropout, causal)
        self.audio_dropout = nn.Dropout(config.audio_dropout)
        self.audio_input_projection = nn.Linear(dims["audio"], audio_hidden)
        self.audio_speaker = SpeakerEmbedding(config.speaker, audio_hidden)
        self.audio_context = _AudioContext(config, causal) if config.context else None
        self.audio_output_projection = nn.Linear(audio_hidden, hidden)
        self.bimodal_attention = nn.ModuleDict({name: _BimodalAttention(config) for name in dims})
        weights = {"audio": config.audio_loss, "text": config.text_loss}
        self.auxiliary_heads = nn.ModuleDict({name: nn.Linear(hidden, classes) for name in dims if weights[name]})
        contrasted = dims if config.absolute or config.relative else {}
        self.contrastive_projection = nn.ModuleDict({name: nn.Linear(hidden, hidden // 2) for name in contrasted})
        self.classifier = nn.Linear(2 * hidden + (sum(dims.values()) if config.skip else 0), classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits of the fused head, those of the others, both losses, and ``vectors['fused']``, ``[U, 2 H]``."""
        places_BL = batch.places_BL
        mask = attention_mask(places_BL, self.causal)
        audio_BLH, text_BLH = self._audio(batch, mask), self._text(batch)
        before = {"audio": from_dialogues(audio_BLH, places_BL), "text": from_dialogues(text_BLH, places_BL)}
        fused_BLH = torch.cat(
            [
                self.bimodal_attention["audio"](audio_BLH, text_BLH, mask),
                self.bimodal_attention["text"](text_BLH, audio_BLH, mask),
            ],
            dim=-1,
        )
        fused_UH = seen_UH = from_dialogues(fused_BLH, places_BL)
        if self.config.skip:
            own = (self.standardize[name](batch.frames[name][:, 0]) for name in MODALITIES)
            seen_UH = torch.cat([fused_UH, *own], dim=1)
        return Output(
            self.classifier(self.dropout(seen_UH)),
            vectors={"fused": fused_UH},
            auxiliary_heads=self._auxiliary_heads(before),
            auxiliary_losses=self._contrastive(before, batch.targets_U != IGNORE),
        )

    def _text(self, batch: Batch) -> Tensor:
        x_UH = self.text_input_projection(self.dropout(self.standardize["text"](batch.frames["text"][:, 0])))
        x_UH = self.text_speaker(x_UH, batch.speakers_U, batch.places_BL)
        x_BLH = to_dialogues(x_UH, batch.places_BL)
        lengths_B = (batch.places_BL >= 0).sum(dim=1)
        return x_BLH + self.dropout(self.text_context(self.dropout(x_BLH), lengths_B))

    def _audio(self, batch: Batch, mask: Tensor) -> Tensor:
        x_UD = self.standardize["audio"](batch.frames["audio"][:, 0])
        x_UH = self.audio_input_projection(self.audio_dropout(x_UD))
        x_UH = self.audio_speaker(x_UH, batch.speakers_U, batch.places_BL)
        x_BLH = to_dialogues(x_UH, batch.places_BL)
        if self.audio_context is not None:
            x_BLH = self.audio_context(x_BLH, (batch.places_BL >= 0).sum(dim=1), mask)
        return self.audio_output_projection(x_BLH)

    def _auxiliary_heads(self, vectors: dict[str, Tensor]) -> dict[str, tuple[float, Tensor]]:
        weights = {"audio": self.config.audio_loss, "text": self.config.text_loss}
        return {name: (weights[name], head(self.dropout(vectors[name]))) for name, head in self.auxiliary_heads.items()}

    def _contrastive(self, vectors: dict[str, Tensor], labelled_U: Tensor) -> dict[str, Tensor]:
        config, losses = self.config, {}
        if self.contrastive_projection:
            projections = ((name, self.contrastive_projection[name]) for name in MODALITIES)
            audio_UP, text_UP = (head(vectors[name])[labelled_U] for name, head in projections)
            if config.absolute:
                losses["absolute"] = config.absolute * absolute_contrastive(audio_UP, text_UP, config.temperature)
            if config.relative:
                losses["relative"] = config.relative * relative_contrastive(audio_UP, text_UP)
        return losses


class _AudioContext(nn.Module):
    """GRU and self-attention over the dialogue's audio vectors, with residuals and layer norm."""

    def __init__(self, config: HBAFConfig, causal: bool) -> None:
        super().__init__()
        self.recurrent = Recurrent(config.audio_hidden, config.audio_hidden, 1, 0.0, causal)
        self.attention = nn.MultiheadAttention(config.audio_hidden, 1, batch_first=True)
        self.dropout = nn.Dropout(config.audio_dropout)
        self.norm = nn.LayerNorm(config.audio_hidden) if config.layer_norm else nn.Identity()

    def forward(self, x_BLH: Tensor, lengths_B: Tensor, mask: Tensor) -> Tensor:
        found_BLH, _ = self.attention(x_BLH, x_BLH, x_BLH, attn_mask=mask, need_weights=False)
        states_BLH = self.recurrent(self.dropout(x_BLH), lengths_B)
        normed_BLH: Tensor = self.norm(x_BLH + self.dropout(states_BLH) + self.dropout(found_BLH))
        return normed_BLH


class _BimodalAttention(nn.Module):
    """Self-attention and gated cross-attention of one modality, with residuals and layer norm."""

    def __init__(self, config: HBAFConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.self_attention = _attention(config) if config.self_attention else None
        self.cross_attention = _attention(config) if config.cross_attention else None
        self.gate = nn.Linear(2 * hidden, hidden) if config.gate and config.cross_attention else None
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.constant_(self.gate.bias, _GATE_BIAS)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(hidden) if config.layer_norm else nn.Identity()

    def forward(self, own_BLH: Tensor, other_BLH: Tensor, mask: Tensor) -> Tensor:
        total_BLH = own_BLH
        if self.self_attention is not None:
            total_BLH = total_BLH + self.dropout(_attend(self.self_attention, own_BLH, own_BLH, mask))
        if self.cross_attention is not None:
            found_BLH = _attend(self.cross_attention, own_BLH, other_BLH, mask)
            if self.gate is not None:
                found_BLH = found_BLH * self.gate(torch.cat([own_BLH, found_BLH], dim=-1)).sigmoid()
            total_BLH = total_BLH + self.dropout(found_BLH)
        normed_BLH: Tensor = self.norm(total_BLH)
        return normed_BLH


def _attention(config: HBAFConfig) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(config.hidden, config.heads, batch_first=True)


def absolute_contrastive(audio_UP: Tensor, text_UP: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE: an utterance's audio finds its own text among the batch's, and its text its audio.

    Args:
        audio_UP: projected audio vectors
        text_UP: projected text vectors of the same utterances
        temperature: divides the cosine similarities
    """
    similarity_UU = cosine_similarities(audio_UP, text_UP) / temperature
    own_U = torch.arange(len(audio_UP), device=audio_UP.device)
    if len(own_U) == 0:
        return similarity_UU.sum()
    return (nn.functional.cross_entropy(similarity_UU, own_U) + nn.functional.cross_entropy(similarity_UU.T, own_U)) / 2


def relative_contrastive(audio_UP: Tensor, text_UP: Tensor) -> Tensor:
    """Mean squared difference between the modalities' cosine similarities of every two utterances."""
    audio_UU, text_UU = (cosine_similarities(each, each) for each in (audio_UP, text_UP))
    return (audio_UU - text_UU).square().sum() / max(1, audio_UU.numel())


def _attend(attention: nn.MultiheadAttention, query_BLH: Tensor, key_BLH: Tensor, mask: Tensor) -> Tensor:
    mask = mask.repeat_interleave(attention.num_heads, dim=0)
    found_BLH: Tensor = attention(query_BLH, key_BLH, key_BLH, attn_mask=mask, need_weights=False)[0]
    return found_BLH
