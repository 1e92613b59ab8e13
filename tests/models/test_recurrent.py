"""Recurrent layers: the numbers and gradients of torch's own, sequence by sequence."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from emofuse.models.parts.recurrent import Cell, Recurrent

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=6)
CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])
DIRECTIONS = pytest.mark.parametrize("causal", [False, True])


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def alone(layer: Recurrent, x_UTD: Tensor, lengths: list[int]) -> Tensor:
    """What torch's layer says of each sequence without padding, ``[U, T, H]``."""
    states = [layer.layers(x_UTD[row, :length])[0] for row, length in enumerate(lengths)]
    return torch.stack([torch.nn.functional.pad(each, (0, 0, 0, x_UTD.shape[1] - len(each))) for each in states])


@CELLS
@DIRECTIONS
@settings(max_examples=20, deadline=None)
@given(lengths=SIZES, seed=st.integers(0, 2**16))
def test_states_and_gradients_are_those_of_torch_for_each_sequence_alone(
    cell: Cell, causal: bool, lengths: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    layer = Recurrent(3, 4, 2, 0.0, causal, cell)
    x_UTD = random(seed, len(lengths), max(lengths) + 2, 3).requires_grad_()
    expected_UTH = alone(layer, x_UTD, lengths)
    states_UTH = layer(x_UTD, torch.tensor(lengths))
    torch.testing.assert_close(states_UTH, expected_UTH, atol=2e-7, rtol=1e-6)
    leaves, weight_UTH = [x_UTD, *layer.parameters()], random(seed + 1, *states_UTH.shape)
    found = torch.autograd.grad((states_UTH * weight_UTH).sum(), leaves)
    wanted = torch.autograd.grad((expected_UTH * weight_UTH).sum(), leaves)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert all(not states_UTH[row, length:].any() for row, length in enumerate(lengths))


@CELLS
@DIRECTIONS
def test_the_slope_is_that_of_the_numbers(cell: Cell, causal: bool) -> None:
    torch.manual_seed(0)
    layer = Recurrent(3, 4, 1, 0.0, causal, cell).double()
    x_UTD = torch.randn(3, 5, 3, dtype=torch.double, requires_grad=True)
    lengths_U = torch.tensor([5, 2, 4])
    assert torch.autograd.gradcheck(lambda x, *_: layer(x, lengths_U), (x_UTD, *layer.parameters()))


@CELLS
def test_a_recurrence_in_half_precision_keeps_its_states_in_float32(cell: Cell) -> None:
    torch.manual_seed(0)
    layer, x_UTD, lengths_U = Recurrent(8, 6, cell=cell), random(0, 2, 40, 8), torch.tensor([40, 7])
    whole_UTH = layer(x_UTD, lengths_U)
    with torch.autocast("cpu", torch.bfloat16):
        half_UTH = layer(x_UTD, lengths_U)
    half_UTH.sum().backward()
    assert half_UTH.dtype == torch.float32
    assert (half_UTH - whole_UTH).abs().max() < 0.02
    assert torch.equal(half_UTH, whole_UTH) == (cell == "lstm"), "a GRU's gates read the input in half precision"


@CELLS
def test_dropout_stands_between_layers_in_training_alone(cell: Cell) -> None:
    torch.manual_seed(0)
    layer, x_UTD, lengths_U = Recurrent(3, 4, 2, 0.5, cell=cell), random(0, 2, 5, 3), torch.tensor([5, 3])
    assert not torch.equal(layer(x_UTD, lengths_U), layer(x_UTD, lengths_U))
    layer.eval()
    assert torch.equal(layer(x_UTD, lengths_U), layer(x_UTD, lengths_U))
