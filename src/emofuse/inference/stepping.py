"""Networks that read a dialogue turn by turn and keep what they know of it: causal ones, whose past does not change.

What turns have to do with each other goes through three parts: recurrent layers, attention, and the embedding of who
speaks. In a copy of the network these keep their state, the keys and values of earlier turns, and earlier speakers;
all other parts take a turn by itself anyway. Whether that holds of a network is tried out on a short dialogue.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from emofuse.core.schema import IGNORE
from emofuse.models.parts.base import Batch, Network, Output
from emofuse.models.parts.layers import SpeakerEmbedding
from emofuse.models.parts.recurrent import Recurrent

__all__ = ["stepping"]

_TURNS = 5
"""Of the dialogue that is tried."""

_TOLERANCE = 1e-4


def stepping(network: Network, dims: Mapping[str, int]) -> Network | None:
    """Return a copy of a causal network that is given one turn after the other and keeps the dialogue's state.

    Args:
        network: in evaluation mode; its unit is the dialogue
        dims: size of each modality's vectors that it reads

    Returns:
        the copy, or None if it would not give what the network gives for the whole
    """
    speakers = torch.tensor([0, 1, 1, 0, 2])
    generator = torch.Generator().manual_seed(0)
    frames = {name: torch.randn(_TURNS, 1, dim, generator=generator) for name, dim in dims.items()}
    steps = _with_state(network)
    with torch.no_grad():
        whole = _values(network(_batch(frames, speakers, slice(None))))
        parts = [_values(steps(_batch(frames, speakers, slice(turn, turn + 1)))) for turn in range(_TURNS)]
    for name, expected in whole.items():
        if not torch.allclose(torch.cat([each[name] for each in parts]), expected, _TOLERANCE, _TOLERANCE):
            return None
    return _with_state(network)


def _batch(frames: Mapping[str, Tensor], speakers_U: Tensor, turns: slice) -> Batch:
    """A batch of one dialogue."""
    count = len(speakers_U[turns])
    return Batch(
        frames={name: each[turns] for name, each in frames.items()},
        lengths=dict.fromkeys(frames, torch.ones(count, dtype=torch.long)),
        places_BL=torch.arange(count)[None],
        speakers_U=speakers_U[turns],
        targets_U=torch.full((count,), IGNORE),
    )


def _values(output: Output) -> dict[str, Tensor]:
    return {"logits": output.logits_UC, **output.vectors}


def _with_state(network: Network) -> Network:
    steps, speakers = copy.deepcopy(network), _Speakers()
    steps.register_forward_pre_hook(speakers.add)
    for module in steps.modules():
        if isinstance(module, Recurrent):
            module.forward = _RecurrentStep(module)  # type: ignore[assignment]
        elif isinstance(module, nn.MultiheadAttention):
            module.forward = _AttentionStep(module)  # type: ignore[assignment]
        elif isinstance(module, SpeakerEmbedding):
            module.forward = _SpeakerStep(module, speakers)  # type: ignore[assignment]
    return steps


class _RecurrentStep:
    """The next output of :class:`Recurrent`, by torch's own layers, whose numbers are the same to rounding."""

    def __init__(self, recurrent: Recurrent) -> None:
        self._layers, self._state = recurrent.layers, None

    def __call__(self, x_11D: Tensor, lengths_1: Tensor) -> Tensor:
        del lengths_1
        output_11H, self._state = self._layers(x_11D, self._state)
        return output_11H


class _AttentionStep:
    """What the next turn finds in all turns so far, by multi-head attention."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        self._attention = attention
        size = attention.head_dim
        self._keys, self._values = (torch.zeros(1, attention.num_heads, 0, size) for _ in range(2))

    def __call__(self, query_11H: Tensor, key_11H: Tensor, value_11H: Tensor, **options: object) -> tuple[Tensor, None]:
        del options  # a mask, which hides no turn of the past
        attention = self._attention
        parts = zip(
            (query_11H, key_11H, value_11H),
            attention.in_proj_weight.chunk(3),
            attention.in_proj_bias.chunk(3),
            strict=True,
        )
        # [1, heads, 1, H / heads] each
        query, key, value = (
            functional.linear(*each).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for each in parts
        )
        self._keys, self._values = torch.cat([self._keys, key], dim=2), torch.cat([self._values, value], dim=2)
        found = functional.scaled_dot_product_attention(query, self._keys, self._values)
        return attention.out_proj(found.transpose(1, 2).flatten(2)), None


class _Speakers:
    """The speakers of all turns so far."""

    def __init__(self) -> None:
        self.all_N = torch.zeros(0, dtype=torch.long)

    def add(self, network: nn.Module, given: tuple[Batch]) -> None:
        del network
        self.all_N = torch.cat([self.all_N, given[0].speakers_U])


class _SpeakerStep:
    """The next turn's vector with what its speaker is to the dialogue; both modalities of a turn may ask."""

    def __init__(self, embedding: SpeakerEmbedding, speakers: _Speakers) -> None:
        self._embedding, self._speakers = embedding, speakers

    def __call__(self, x_1H: Tensor, speakers_1: Tensor, places_11: Tensor) -> Tensor:
        del speakers_1, places_11
        codes, vectors = self._embedding.codes, self._embedding.vectors
        if codes is None:
            return x_1H
        with_speaker_1H: Tensor = x_1H + vectors(codes(self._speakers.all_N[None])[0, -1:])
        return with_speaker_1H
