"""HCAM stage III: co-attention over the two modalities of a dialogue (Dutta and Ganapathy 2023, arXiv 2304.06910).

The paper itself was not read, and what is known of it comes from these places:

* the abstract says (https://arxiv.org/abs/2304.06910): a co-attention layer combines the utterances' audio and text
  embeddings; the audio, text and co-attention layers are trained hierarchically
* a third party's summary says (https://www.sciencestack.ai/paper/2304.06910): three stages; cross-attention in both
  directions; a supervised contrastive loss beside the cross-entropy; ensembling at test time
* the authors' later code does, for another system (https://github.com/iiscleap/MiSTER-E, ``hierarchical_moe.py``,
  ``train_moe.py``): text's turns query audio's and audio's query text's, then self-attention in each modality, each
  step with residual and layer norm; both are concatenated and classified; the contrastive loss takes the two
  modalities' vectors as two views of an utterance

Our reading: stages I and II are frozen, and the weights of the ensemble are chosen on dev. With ``a, t`` ``[L, H]`` the
contextual vectors of stage II of a dialogue's L turns, projected to one size, and each block being attention, residual
and layer norm::

    a' = LN(a + MHA(a, t, t))        t' = LN(t + MHA(t, a, a))          co-attention, `blocks` times
    a" = LN(a' + MHA(a', a', a'))    t" = LN(t' + MHA(t', t', t'))      self-attention
    logits = W [a"; t"] + b          loss = CE + w SupCon({P a", P t"})

Without ``layer_norm``, LN is left out: it gives a modality that is unsure of a turn a vector as long as one that is
sure. With co-attention off, ``a, t`` go to self-attention as they are, and fusion is the concatenation alone. None of
these places speaks of speakers. Ensembling is in :mod:`emofuse.models.parts.mixture`.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from emofuse.core.params import STRICT
from emofuse.core.schema import MODALITIES
from emofuse.models.parts.base import Batch, Network, Output, Unit, from_dialogues, to_dialogues
from emofuse.models.parts.layers import (
    AttentionBlock,
    Speaker,
    SpeakerEmbedding,
    Standardize,
    attention_mask,
    check_heads,
)
from emofuse.models.parts.losses import supervised_contrastive

__all__ = ["HCAM", "HCAMConfig"]


@dataclass(frozen=True, config=STRICT)
class HCAMConfig:
    """Stage III.

    Attributes:
        hidden: size of each modality's vectors
        co_attention: whether the modalities attend to each other; off leaves the concatenation
        blocks: number of co-attention blocks
        heads: attention heads, a divisor of ``hidden``
        dropout: on the inputs, in the attention and before the classes
        contrastive: weight of the supervised contrastive loss; 0 switches it off
        temperature: of the contrastive loss
        speaker: what it knows of the speakers
        skip: whether the classifier also reads the turn's own vectors: ours
        layer_norm: whether a layer norm stands behind every attention
    """

    hidden: Annotated[int, Field(ge=2)]
    co_attention: bool
    blocks: Annotated[int, Field(ge=1, le=8)]
    heads: Annotated[int, Field(ge=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    contrastive: Annotated[float, Field(ge=0)]
    temperature: Annotated[float, Field(gt=0)]
    speaker: Speaker = "none"
    skip: bool = False
    layer_norm: bool = True

    def __post_init__(self) -> None:
        check_heads(self.hidden, self.heads)


class HCAM(Network):
    """Stage III: contextual vectors of audio and text to classes.

    Args:
        config: sizes, dropout and the contrastive loss
        dims: size of each modality's vectors, keys ``audio`` and ``text``
        classes: number C of classes
        causal: whether context is the turns before alone
    """

    unit: ClassVar[Unit] = "dialogue"
    attentions: ClassVar[Mapping[str, str]] = {
        "co_attention.audio.0.attention": "audio attends to text",
        "co_attention.text.0.attention": "text attends to audio",
        "self_attention.audio.attention": "audio attends to itself",
        "self_attention.text.attention": "text attends to itself",
    }

    def __init__(self, config: HCAMConfig, dims: dict[str, int], classes: int, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.standardize = nn.ModuleDict({name: Standardize(dim) for name, dim in dims.items()})
        self.input_projection = nn.ModuleDict({name: nn.Linear(dim, config.hidden) for name, dim in dims.items()})
        self.speaker = SpeakerEmbedding(config.speaker, config.hidden)
        blocks = config.blocks if config.co_attention else 0
        self.co_attention = nn.ModuleDict({name: _blocks(config, blocks) for name in dims})
        self.self_attention = nn.ModuleDict({name: _blocks(config, 1)[0] for name in dims})
        self.contrastive_projection = nn.Linear(config.hidden, config.hidden) if config.contrastive else None
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(2 * config.hidden + (sum(dims.values()) if config.skip else 0), classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits, the contrastive loss, and ``vectors['fused']``, ``[U, 2 H]``."""
        places_BL = batch.places_BL
        mask = attention_mask(places_BL, self.causal)
        audio_BLH, text_BLH = (to_dialogues(self._project(batch, name), places_BL) for name in MODALITIES)
        blocks = (cast(nn.ModuleList, self.co_attention[name]) for name in MODALITIES)
        for audio_block, text_block in zip(*blocks, strict=True):
            audio_BLH, text_BLH = (
                audio_block(audio_BLH, text_BLH, mask),
                text_block(text_BLH, audio_BLH, mask),
            )
        audio_BLH = self.self_attention["audio"](audio_BLH, audio_BLH, mask)
        text_BLH = self.self_attention["text"](text_BLH, text_BLH, mask)
        audio_UH, text_UH = from_dialogues(audio_BLH, places_BL), from_dialogues(text_BLH, places_BL)
        fused_UH = torch.cat([audio_UH, text_UH], dim=1)
        auxiliary = {}
        if self.contrastive_projection is not None:
            views_NH = self.contrastive_projection(torch.cat([audio_UH, text_UH]))
            loss = supervised_contrastive(views_NH, batch.targets_U.repeat(2), self.config.temperature)
            auxiliary["contrastive"] = self.config.contrastive * loss
        seen_UH = torch.cat([fused_UH, *self._own(batch)], dim=1) if self.config.skip else fused_UH
        return Output(self.classifier(self.dropout(seen_UH)), {"fused": fused_UH}, auxiliary_losses=auxiliary)

    def _own(self, batch: Batch) -> list[Tensor]:
        return [self.standardize[name](batch.frames[name][:, 0]) for name in MODALITIES]

    def _project(self, batch: Batch, name: str) -> Tensor:
        projected_UH = self.input_projection[name](self.dropout(self.standardize[name](batch.frames[name][:, 0])))
        with_speaker_UH: Tensor = self.speaker(projected_UH, batch.speakers_U, batch.places_BL)
        return with_speaker_UH


def _blocks(config: HCAMConfig, count: int) -> nn.ModuleList:
    options = (config.hidden, config.heads, config.dropout, config.layer_norm)
    return nn.ModuleList(AttentionBlock(*options) for _ in range(count))
