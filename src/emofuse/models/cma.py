"""CMA: cross-modal attention with statistics pooling (Krishna 2021, arXiv 2108.09669); utterance level, no context.

The paper itself was not read, and what is known of it comes from these places:

* the abstract says (https://arxiv.org/abs/2108.09669): wav2vec 2.0 and BERT as encoders; cross-modal attention learns
  their alignment; statistics pooling makes utterance vectors of the frames of both, and early fusion combines them;
  1.88 points of accuracy above its reference [3] on IEMOCAP
* a sibling paper says (Krishna and Patil 2020, https://doi.org/10.21437/Interspeech.2020-1190, as the description of a
  talk on it has it, https://aiplus.odsc.com/courses/multimodal-emotion-recognition-using-cross-modal-attention-and-1d-convolutional-neural-networks):
  features of the audio encoder attend to those of the text encoder and vice versa; one-dimensional convolutions read
  the sound

Our reading, for frames ``x_m`` ``[T_m, D_m]`` of modality m, audio or text: a convolution and a bidirectional LSTM over
both modalities' frames, mean and standard deviation as the statistics, and all sizes::

    h_m = BiLSTM(ReLU(Conv1D(x_m)))                                       [T_m, H]
    a   = MHA(query h_audio, key and value h_text)                        t = MHA(query h_text, key and value h_audio)
    s_m = [mean, std] of the attended frames over time                    [2 H]
    logits = W [s_audio; s_text] + b

With attention off, ``a = h_audio`` and ``t = h_text``. With the residual, ``a = LN(h_audio + MHA(...))``, and so for
``t``. Without one, what a modality says comes through the other's queries alone: where the audio is a single vector an
utterance, as with published prosody, ``t`` is the same in every frame, and text is heard through one query only.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from emofuse.core.params import STRICT
from emofuse.core.schema import MODALITIES
from emofuse.models.parts.base import Batch, Network, Output, Unit
from emofuse.models.parts.layers import LayerWeights, Standardize, check_heads, frame_mask
from emofuse.models.parts.recurrent import Recurrent

__all__ = ["CMA", "CMAConfig", "statistics_pooling"]


@dataclass(frozen=True, config=STRICT)
class CMAConfig:
    """Sizes and switches.

    Attributes:
        channels: of the convolution
        kernel: frames that the convolution sees, odd
        hidden: size of the LSTM's output, both directions together
        heads: attention heads
        dropout: on the frames after the LSTM and before the classes
        attention: whether modalities attend to each other; off leaves each to itself
        pooling: ``statistics`` (mean and standard deviation) or the ``mean`` alone
        residual: whether the attended frames are added to the modality's own, with a layer norm; the abstract is silent
    """

    channels: Annotated[int, Field(ge=2)]
    kernel: Annotated[int, Field(ge=1)]
    hidden: Annotated[int, Field(ge=2, multiple_of=2)]
    heads: Annotated[int, Field(ge=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    attention: bool
    pooling: Literal["statistics", "mean"]
    residual: bool = False

    def __post_init__(self) -> None:
        check_heads(self.hidden, self.heads)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel: {self.kernel} is even and has no frame in its middle")


class CMA(Network):
    """Frames of both modalities to classes.

    Args:
        config: sizes and switches
        dims: size of each modality's frames, keys ``audio`` and ``text``
        classes: number C of classes
        causal: without meaning here, since no context is read
        n_layers: by modality, of the encoder's layers that a frame has side by side, to be weighed; 1 if left out
    """

    unit: ClassVar[Unit] = "utterance"

    def __init__(
        self,
        config: CMAConfig,
        dims: dict[str, int],
        classes: int,
        causal: bool,
        n_layers: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        del causal
        self.config = config
        self.standardize = nn.ModuleDict({name: Standardize(dim) for name, dim in dims.items()})
        layer_weights = {name: LayerWeights(dim, n_layers.get(name, 1)) for name, dim in dims.items()}
        self.layer_weights = nn.ModuleDict(layer_weights)
        self.encoders = nn.ModuleDict({name: _Encoder(config, each.dim) for name, each in layer_weights.items()})
        self.cross_attention = nn.ModuleDict(
            {
                name: nn.MultiheadAttention(config.hidden, config.heads, batch_first=True)
                for name in dims
                if config.attention
            }
        )
        normed = dims if config.attention and config.residual else ()
        self.norms = nn.ModuleDict({name: nn.LayerNorm(config.hidden) for name in normed})
        self.dropout = nn.Dropout(config.dropout)
        pooled = config.hidden * (2 if config.pooling == "statistics" else 1)
        self.classifier = nn.Linear(2 * pooled, classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits, and ``vectors['fused']``: early fusion, ``[U, 4 H]``, or half of it without deviations."""
        masks = {name: frame_mask(batch.frames[name], lengths_U) for name, lengths_U in batch.lengths.items()}
        states = {name: self._encode(batch, name, masks[name]) for name in MODALITIES}
        pooled = []
        for name, other in zip(MODALITIES, reversed(MODALITIES), strict=True):
            attended_UTH = states[name]
            if self.config.attention:
                attended_UTH, _ = self.cross_attention[name](
                    states[name], states[other], states[other], key_padding_mask=~masks[other], need_weights=False
                )
            if name in self.norms:
                attended_UTH = self.norms[name](states[name] + attended_UTH)
            statistics_U2H = statistics_pooling(attended_UTH, masks[name])
            pooled.append(statistics_U2H if self.config.pooling == "statistics" else statistics_U2H.chunk(2, dim=1)[0])
        fused_UH = torch.cat(pooled, dim=1)
        return Output(self.classifier(self.dropout(fused_UH)), {"fused": fused_UH})

    def _encode(self, batch: Batch, name: str, mask_UT: Tensor) -> Tensor:
        x_UTD = self.layer_weights[name](self.standardize[name](batch.frames[name]))
        encoded_UTH: Tensor = self.dropout(self.encoders[name](x_UTD, batch.lengths[name], mask_UT))
        return encoded_UTH


class _Encoder(nn.Module):
    """Conv1D and BiLSTM of one modality: ``[U, T, D]`` to ``[U, T, H]``, zero after each sequence's end."""

    def __init__(self, config: CMAConfig, dim: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(dim, config.channels, config.kernel, padding="same")
        self.recurrent = Recurrent(config.channels, config.hidden, cell="lstm")

    def forward(self, x_UTD: Tensor, lengths_U: Tensor, mask_UT: Tensor) -> Tensor:
        # A standardized padding frame is no longer zero, and the convolution would read it.
        x_UDT = (x_UTD * mask_UT[..., None]).transpose(1, 2)
        convolved_UTC = self.convolution(x_UDT).relu().transpose(1, 2)
        return self.recurrent(convolved_UTC, lengths_U)


def statistics_pooling(x_UTH: Tensor, mask_UT: Tensor) -> Tensor:
    """Return mean and standard deviation over a sequence's own frames, ``[U, 2 H]``; of one frame the latter is zero.

    Args:
        x_UTH: frames
        mask_UT: bool, which frames are the sequence's own
    """
    weight_UT1 = mask_UT[..., None] / mask_UT.sum(dim=1)[:, None, None]
    mean_UH = (x_UTH * weight_UT1).sum(dim=1)
    variance_UH = ((x_UTH - mean_UH[:, None]).square() * weight_UT1).sum(dim=1)
    # The square root has no finite slope at zero, which is what one frame gives.
    deviation_UH = (variance_UH + 1e-8).sqrt() - 1e-4
    return torch.cat([mean_UH, deviation_UH], dim=1)
