"""Parts that several models are made of. None lets padding touch a result, and none lets ``causal`` see the future."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from emofuse.models.parts.base import from_dialogues

__all__ = [
    "AttentionBlock",
    "AttentionPooling",
    "LayerWeights",
    "SharedDropout",
    "Speaker",
    "SpeakerEmbedding",
    "Standardize",
    "attention_mask",
    "check_heads",
    "frame_mask",
]

_LARGEST = 10.0
_ROLES = 8

Speaker = Literal["none", "same", "role"]
"""What a network knows of the speakers: nothing, whether the turn before was the same speaker's, or their role."""


class Standardize(nn.Module):
    """Zero mean and unit variance by the statistics of the training split; a missing value (NaN) becomes the mean.

    Values beyond ten standard deviations are cut there, so that one broken clip cannot dominate a batch.

    Args:
        dim: size D of a frame
    """

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(dim))
        self.register_buffer("scale_D", torch.ones(dim))

    def fit(self, chunks: Iterable[Tensor]) -> None:
        """Take the statistics of float frames ``[N, D]``, given in pieces, leaving out missing values.

        Source: Chan, Golub and LeVeque 1979, equation 2.1, for the merging of two pieces.
        """
        count_D, mean_D, squares_D = (torch.zeros(len(self.mean_D), dtype=torch.float64) for _ in range(3))
        for x_ND in chunks:
            present_ND = ~x_ND.isnan()
            own_D = present_ND.sum(dim=0)
            filled_ND = x_ND.nan_to_num(0.0).double()
            own_mean_D = filled_ND.sum(dim=0) / own_D.clamp(min=1)
            squares_D += ((filled_ND - own_mean_D) * present_ND).square().sum(dim=0)
            share_D = own_D / (count_D + own_D).clamp(min=1)
            squares_D += (own_mean_D - mean_D).square() * count_D * share_D
            mean_D += (own_mean_D - mean_D) * share_D
            count_D += own_D
        self.mean_D.copy_(mean_D)
        self.scale_D.copy_((squares_D / count_D.clamp(min=1)).sqrt().clamp(min=1e-4))

    def forward(self, x_UTD: Tensor) -> Tensor:
        """Return ``[..., D]`` standardized."""
        return ((x_UTD - self.mean_D) / self.scale_D).nan_to_num(0.0).clamp(-_LARGEST, _LARGEST)


class LayerWeights(nn.Module):
    """Weighs an encoder's layers by a softmax that is learnt (SUPERB: Yang et al. 2021, arXiv 2105.01051, section 2.2).

    The weights start equal. What comes in has been standardized, each layer by its own statistics, so that a weight
    says how much a layer is used and not how large its values are.

    Args:
        dim: size of what comes in, all layers side by side
        n_layers: their number; of one there is nothing to weigh

    Attributes:
        dim: size of what goes out, that of one layer
    """

    def __init__(self, dim: int, n_layers: int = 1) -> None:
        super().__init__()
        if dim % n_layers:
            raise ValueError(f"n_layers: {n_layers} does not divide frames of size {dim}")
        self.dim = dim // n_layers
        self.logits = nn.Parameter(torch.zeros(n_layers)) if n_layers > 1 else None

    def forward(self, x_UTD: Tensor) -> Tensor:
        """Return ``[..., D]`` of ``[..., n_layers * D]``."""
        if self.logits is None:
            return x_UTD
        return self.logits.softmax(dim=0) @ x_UTD.unflatten(-1, (len(self.logits), self.dim))


class SharedDropout(nn.Module):
    """Dropout of whole features: one mask for all frames of a sequence (Gal and Ghahramani 2016, section 4).

    Args:
        share: probability that a feature is dropped
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(share)

    def forward(self, x_UTD: Tensor) -> Tensor:
        """Return ``[U, T, D]``."""
        return x_UTD * self.dropout(torch.ones_like(x_UTD[:, :1]))


class AttentionPooling(nn.Module):
    """Self-attention pooling: weights ``softmax_t(v . tanh(W h_t))`` over a sequence's own frames, then their sum.

    Args:
        hidden: size H of a frame
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, x_UTH: Tensor, lengths_U: Tensor) -> Tensor:
        """Return ``[U, H]``."""
        mask_UT = frame_mask(x_UTH, lengths_U)
        weights_UT = self.score(x_UTH)[..., 0].masked_fill(~mask_UT, -torch.inf).softmax(dim=1)
        return torch.einsum("ut,uth->uh", weights_UT, x_UTH)


class AttentionBlock(nn.Module):
    """Multi-head attention, dropout, residual and layer norm (Vaswani et al. 2017, sections 3.1 and 3.2).

    With the same sequence as query and key it is self-attention. The norm gives every turn's vector one length, and the
    length may be what says how sure a modality is.

    Args:
        hidden: size H of queries and keys
        heads: number of heads, a divisor of H
        dropout: on the attention's output
        layer_norm: whether there is one behind
    """

    def __init__(self, hidden: int, heads: int, dropout: float, layer_norm: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden) if layer_norm else nn.Identity()

    def forward(self, query_BLH: Tensor, key_BSH: Tensor, mask: Tensor) -> Tensor:
        """Return ``[B, L, H]``.

        Args:
            query_BLH: what attends
            key_BSH: what is attended to
            mask: bool ``[B, L, S]``, true where a query may not attend; every query must have a key left
        """
        mask = mask.repeat_interleave(self.attention.num_heads, dim=0)
        found_BLH, _ = self.attention(query_BLH, key_BSH, key_BSH, attn_mask=mask, need_weights=False)
        normed: Tensor = self.norm(query_BLH + self.dropout(found_BLH))
        return normed


class SpeakerEmbedding(nn.Module):
    """Adds to a turn's vector what its speaker is to the dialogue: ours, no source of the three systems speaks of it.

    ``same`` learns three vectors: the turn before was the same speaker's, another's, or there is none or it is unknown.
    ``role`` learns one for each place in the order in which a dialogue's speakers first speak, the last one shared by
    the eighth and all later, and one for an unknown speaker. Neither knows who a speaker is in other dialogues, and
    neither looks at later turns. All start at zero.

    Args:
        kind: what is added
        hidden: size H of a turn's vector
    """

    def __init__(self, kind: Speaker, hidden: int) -> None:
        super().__init__()
        self.codes = {"none": None, "same": _same_speaker, "role": _roles}[kind]
        self.vectors = nn.Embedding(3 if kind == "same" else _ROLES + 1, hidden) if self.codes else nn.Identity()
        for weight in self.vectors.parameters():
            nn.init.zeros_(weight)

    def forward(self, x_UH: Tensor, speakers_U: Tensor, places_BL: Tensor) -> Tensor:
        """Return ``[U, H]``."""
        if self.codes is None:
            return x_UH
        codes_BL = self.codes(speakers_U[places_BL.clamp(min=0)])
        return x_UH + from_dialogues(self.vectors(codes_BL), places_BL)


def _same_speaker(speakers_BL: Tensor) -> Tensor:
    """Code whether the turn before is the same speaker's (2), another's (1), or is unknown (0)."""
    before_BL = nn.functional.pad(speakers_BL, (1, 0), value=-1)[:, :-1]
    known_BL = (before_BL >= 0) & (speakers_BL >= 0)
    return known_BL * (1 + (before_BL == speakers_BL).long())


def _roles(speakers_BL: Tensor) -> Tensor:
    """Code each turn's speaker by the order in which they first speak, from 1; 0 is unknown."""
    same_BLL = speakers_BL[:, :, None] == speakers_BL[:, None, :]
    first_BL = same_BLL.long().argmax(dim=2)
    turns_L = torch.arange(speakers_BL.shape[1], device=speakers_BL.device)
    known_BL = speakers_BL >= 0
    order_BL = ((first_BL == turns_L) & known_BL).cumsum(dim=1)
    return known_BL * order_BL.gather(1, first_BL).clamp(max=_ROLES)


def check_heads(hidden: int, heads: int) -> None:
    """Refuse a number of attention heads that does not divide the size of the vectors.

    Raises:
        ValueError: it does not
    """
    if hidden % heads:
        raise ValueError(f"heads: {heads} does not divide hidden: {hidden}")


def frame_mask(x_UTD: Tensor, lengths_U: Tensor) -> Tensor:
    """Return the mask of a sequence's own frames, true where there is no padding: bool ``[U, T]``."""
    return torch.arange(x_UTD.shape[1], device=x_UTD.device) < lengths_U.to(x_UTD.device)[:, None]


def attention_mask(places_BL: Tensor, causal: bool) -> Tensor:
    """Return where the turns of a dialogue may not attend: bool ``[B, L, L]``.

    Turns after a dialogue's end are hidden from all others; they attend to themselves, so that no row is empty.
    """
    turns = places_BL.shape[1]
    absent_BL = places_BL < 0
    mask = absent_BL[:, None, :].expand(-1, turns, -1)
    if causal:
        future_LL = torch.ones(turns, turns, dtype=torch.bool, device=places_BL.device).triu(1)
        mask = mask | future_LL
    own_LL = torch.eye(turns, dtype=torch.bool, device=places_BL.device)
    return mask & ~own_LL
