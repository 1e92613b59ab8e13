"""Recurrent layers over ragged sequences: a GRU or an LSTM, forwards or in both directions.

On a GPU the layers are cuDNN's. On a processor torch's LSTM is one operation, once for each direction: the second reads
every sequence from its own end. Of a GRU torch writes down every small operation of every frame for the way back, so
that the longest clip of a batch sets the cost, whatever else the batch holds. Here a GRU is one operation: both
directions take a frame together, what the way back needs beside its own recursion is computed for all frames at once,
and the gradient of a weight is one product at the end. The numbers are those of torch's layers, to rounding.

Shapes as in :mod:`emofuse.models.parts.base`, and R directions, G gates, H the hidden size of one direction.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from emofuse.models.parts.layers import frame_mask

__all__ = ["Cell", "Recurrent"]

Cell = Literal["gru", "lstm"]


class Recurrent(nn.Module):
    """GRU (Cho et al. 2014) or LSTM (Hochreiter and Schmidhuber 1997) over ragged sequences.

    Args:
        dim: size D of the input
        hidden: size of the output, both directions together
        layers: number of layers
        dropout: between layers
        causal: read forwards only
        cell: which of the two
    """

    def __init__(
        self, dim: int, hidden: int, layers: int = 1, dropout: float = 0.0, causal: bool = False, cell: Cell = "gru"
    ) -> None:
        super().__init__()
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.cell = cell
        self.layers = kind(
            dim,
            hidden if causal else hidden // 2,
            layers,
            batch_first=True,
            bidirectional=not causal,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(self, x_UTD: Tensor, lengths_U: Tensor) -> Tensor:
        """Return ``[U, T, H]``, zero after each sequence's end."""
        if x_UTD.is_cuda:
            packed = pack_padded_sequence(x_UTD, lengths_U.cpu(), batch_first=True, enforce_sorted=False)
            padded_UTH, _ = pad_packed_sequence(self.layers(packed)[0], batch_first=True, total_length=x_UTD.shape[1])
            return padded_UTH
        places_UT = _backwards(lengths_U, x_UTD.shape[1])
        layer = {"gru": self._gru, "lstm": self._lstm}[self.cell]
        for index in range(self.layers.num_layers):
            x_UTD = functional.dropout(x_UTD, self.layers.dropout if index else 0.0, self.training)
            x_UTD = layer(x_UTD, places_UT, index)
        return x_UTD * frame_mask(x_UTD, lengths_U)[..., None]

    def _gru(self, x_UTD: Tensor, places_UT: Tensor, index: int) -> Tensor:
        """Return one layer's states, ``[U, T, R H]``; after a sequence's end they are to be ignored."""
        weights = (self._weights(index, direction) for direction in self._directions)
        weight_RGD, weight_RGH, bias_RG, state_bias_RG = (torch.stack(each) for each in zip(*weights, strict=True))
        gates_UTG = functional.linear(x_UTD, weight_RGD.flatten(0, 1), bias_RG.flatten())
        forwards, *backwards = gates_UTG.chunk(len(self._directions), dim=-1)
        gates_RUTG = torch.stack([forwards, *(_reorder(each, places_UT) for each in backwards)]).to(weight_RGH.dtype)
        with torch.autocast("cpu", enabled=False):  # Rounding would add up from frame to frame.
            states_TRUH = _GRU.apply(gates_RUTG.permute(2, 0, 1, 3).contiguous(), weight_RGH.mT, state_bias_RG[:, None])
        forwards, *backwards = states_TRUH.permute(1, 2, 0, 3)
        return torch.cat([forwards, *(_reorder(each, places_UT) for each in backwards)], dim=-1)

    def _lstm(self, x_UTD: Tensor, places_UT: Tensor, index: int) -> Tensor:
        """Return what :meth:`_gru` does. Read forwards, a sequence never meets the padding behind it."""
        x_UTD = x_UTD.to(self.layers.weight_hh_l0.dtype)
        zeros_1UH = x_UTD.new_zeros(1, len(x_UTD), self.layers.hidden_size)
        states = []
        for direction in self._directions:
            read_UTD = _reorder(x_UTD, places_UT) if direction else x_UTD
            weights = self._weights(index, direction)
            once = (True, 1, 0.0, self.training, False, True)  # biases, one layer without dropout, one way, batch first
            with torch.autocast("cpu", enabled=False):
                states_UTH = torch.lstm(read_UTD, (zeros_1UH, zeros_1UH), weights, *once)[0]
            states.append(_reorder(states_UTH, places_UT) if direction else states_UTH)
        return torch.cat(states, dim=-1)

    @property
    def _directions(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.layers.bidirectional else ("",)

    def _weights(self, index: int, direction: str) -> tuple[Tensor, ...]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return tuple(getattr(self.layers, f"{name}_l{index}{direction}") for name in names)


def _backwards(lengths_U: Tensor, steps: int) -> Tensor:
    """Return where each frame stands when its sequence is read from its end, ``[U, T]``; padding stays where it is."""
    steps_T = torch.arange(steps)
    mirrored_UT = lengths_U[:, None] - 1 - steps_T
    return torch.where(mirrored_UT >= 0, mirrored_UT, steps_T)


def _reorder(x_UTH: Tensor, places_UT: Tensor) -> Tensor:
    return x_UTH[torch.arange(len(x_UTH))[:, None], places_UT]


class _GRU(torch.autograd.Function):
    """States ``[T, R, U, H]`` of a GRU from what its gates read of the input, ``[T, R, U, 3 H]``::

    r, z = sigmoid(x_rz + W_rz h + b_rz)    m = W_n h + b_n    n = tanh(x_n + r m)    h' = n + z (h - n)
    """

    @staticmethod
    def forward(ctx: Any, gates_TRUG: Tensor, weight_RHG: Tensor, bias_R1G: Tensor) -> Tensor:
        steps, directions, count, size = *gates_TRUG.shape[:3], weight_RHG.shape[1]
        states = gates_TRUG.new_zeros(steps + 1, directions, count, size)
        opened = gates_TRUG.new_empty(steps, directions, count, 2 * size)
        asked, new = (gates_TRUG.new_empty(steps, directions, count, size) for _ in range(2))
        x_opened, x_new = gates_TRUG.split((2 * size, size), dim=-1)
        for x_rz, x_n, before, after, rz, m, n in _frames(x_opened, x_new, states[:-1], states[1:], opened, asked, new):
            read_rz, read_m = torch.baddbmm(bias_R1G, before, weight_RHG).split((2 * size, size), dim=-1)
            r, z = torch.add(x_rz, read_rz, out=rz).sigmoid_().chunk(2, dim=-1)
            torch.addcmul(x_n, r, m.copy_(read_m), out=n).tanh_()
            torch.lerp(n, before, z, out=after)
        ctx.save_for_backward(states, opened, asked, new, weight_RHG)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes_TRUH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, opened, asked, new, weight_RHG = ctx.saved_tensors
        r, z = opened.chunk(2, dim=-1)
        of_new = (1 - z) * (1 - new.square())
        of_gates = torch.stack([of_new * asked * r * (1 - r), (states[:-1] - new) * z * (1 - z), of_new * r], dim=-2)
        slopes, gates = torch.empty_like(new), torch.empty_like(of_gates)
        carried, weight_RGH = torch.zeros_like(new[0]), weight_RHG.mT.contiguous()
        for given, kept, share, slope, gate in _frames(slopes_TRUH, z, of_gates, slopes, gates, reverse=True):
            torch.add(given, carried, out=slope)
            torch.mul(slope[..., None, :], share, out=gate)
            carried = torch.baddbmm(slope * kept, gate.flatten(-2), weight_RGH)
        weight, bias = _of_weights(states[:-1], gates.flatten(-2))
        gates[..., 2, :] = slopes * of_new
        return gates.flatten(-2), weight, bias


def _frames(*tensors: Tensor, reverse: bool = False) -> Iterator[tuple[Tensor, ...]]:
    """Yield the tensors' frames side by side, from the first to the last or the other way round."""
    frames = zip(*(each.unbind(0) for each in tensors), strict=True)
    return reversed(list(frames)) if reverse else frames


def _of_weights(before_TRUH: Tensor, gates_TRUG: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the recurrent weight, ``[R, H, G]``, and bias, ``[R, 1, G]``."""
    weight = torch.einsum("truh,trug->rhg", before_TRUH, gates_TRUG)
    return weight, gates_TRUG.sum(dim=(0, 2))[:, None]
