"""Parts of the networks: padding and missing values have no say, masks leave no row empty."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from emofuse.models.parts.base import from_dialogues, to_dialogues
from emofuse.models.parts.layers import (
    AttentionBlock,
    AttentionPooling,
    LayerWeights,
    SharedDropout,
    Speaker,
    SpeakerEmbedding,
    Standardize,
    attention_mask,
    frame_mask,
)

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**16)


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def places_of(sizes: list[int], seed: int = 0, spare: int = 0) -> Tensor:
    """Places of dialogues whose utterances lie in random order in the batch, with ``spare`` empty columns."""
    order = torch.from_numpy(np.random.default_rng(seed).permutation(sum(sizes)))
    places_BL = torch.full((len(sizes), max(sizes) + spare), -1)
    for row, (size, end) in enumerate(zip(sizes, np.cumsum(sizes), strict=True)):
        places_BL[row, :size] = order[end - size : end]
    return places_BL


@settings(max_examples=50, deadline=None)
@given(
    seed=SEEDS,
    rows=st.integers(1, 40),
    dim=st.integers(1, 5),
    missing=st.floats(0, 0.9),
    scale=st.floats(0.01, 1000),
    shift=st.floats(-1000, 1000),
    pieces=st.integers(1, 40),
)
def test_standardize_is_what_numpy_gives(
    seed: int, rows: int, dim: int, missing: float, scale: float, shift: float, pieces: int
) -> None:
    rng = np.random.default_rng(seed)
    x_ND = (shift + scale * rng.normal(size=(rows, dim))).astype(np.float32)
    x_ND[rng.random((rows, dim)) < missing] = np.nan
    x_ND[0] = shift  # a value in each column, so that numpy has a mean
    layer = Standardize(dim)
    layer.fit(torch.from_numpy(x_ND).split(pieces))
    exact_ND = x_ND.astype(np.float64)
    mean_D, deviation_D = np.nanmean(exact_ND, axis=0), np.nanstd(exact_ND, axis=0)
    np.testing.assert_allclose(layer.mean_D, mean_D, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.scale_D, np.maximum(deviation_D, 1e-4), rtol=1e-4, atol=1e-4)
    # float32 rounds the mean, which a small deviation magnifies.
    rounding = 1e-3 + 1e-6 * np.abs(mean_D) / np.maximum(deviation_D, 1e-4)
    expected_ND = np.nan_to_num((exact_ND - mean_D) / np.maximum(deviation_D, 1e-4)).clip(-10, 10)
    assert (np.abs(layer(torch.from_numpy(x_ND)).numpy() - expected_ND) <= rounding).all()


def test_standardize_takes_a_missing_value_for_the_mean_and_cuts_outliers() -> None:
    layer = Standardize(2)
    layer.fit([torch.tensor([[1.0, torch.nan], [3.0, torch.nan]])])
    assert layer.mean_D.tolist() == [2, 0]
    got = layer(torch.tensor([[torch.nan, torch.nan], [2.0, 0.0], [1000.0, -1000.0], [torch.inf, -torch.inf]]))
    assert got.tolist() == [[0, 0], [0, 0], [10, -10], [10, -10]]


def test_standardize_is_saved_with_the_network() -> None:
    layer, other = Standardize(3), Standardize(3)
    layer.fit([random(0, 20, 3) * 5 + 1])
    other.load_state_dict(layer.state_dict())
    x_ND = random(1, 4, 3)
    assert torch.equal(layer(x_ND), other(x_ND))


@settings(max_examples=50, deadline=None)
@given(lengths=SIZES, seed=SEEDS, garbage=st.floats(-1e6, 1e6), spare=st.integers(0, 3))
def test_attention_pooling_weights_its_own_frames_alone(
    lengths: list[int], seed: int, garbage: float, spare: int
) -> None:
    torch.manual_seed(seed)
    pool = AttentionPooling(4)
    lengths_U = torch.tensor(lengths)
    x_UTH = random(seed, len(lengths), max(lengths) + spare, 4)
    mask_UT = torch.arange(x_UTH.shape[1]) < lengths_U[:, None]
    x_UTH[~mask_UT] = garbage
    pooled_UH = pool(x_UTH, lengths_U)
    for row, length in enumerate(lengths):
        own_TH = x_UTH[row, :length]
        weights_T = pool.score(own_TH)[:, 0].softmax(dim=0)
        torch.testing.assert_close(pooled_UH[row], weights_T @ own_TH, atol=1e-5, rtol=1e-5)
        assert (pooled_UH[row] <= own_TH.amax(dim=0) + 1e-5).all()
    # Weights that sum to one give a constant sequence back.
    torch.testing.assert_close(
        pool(torch.where(mask_UT[..., None], 3.0, x_UTH), lengths_U), torch.full_like(pooled_UH, 3.0)
    )


class Elsewhere(Tensor):
    """A tensor as if on another device: it can be moved, and no other function takes it."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.to:
            raise RuntimeError(f"{func} of a tensor on another device")
        with torch._C.DisableTorchFunctionSubclass():
            return args[0].to(*args[1:]).as_subclass(Tensor)


def test_attention_pooling_takes_lengths_of_another_device() -> None:
    """Lengths stay in the processor's memory, where packing needs them, while frames are on the accelerator."""
    pool, x_UTH, lengths_U = AttentionPooling(4), random(0, 2, 5, 4), torch.tensor([3, 5])
    assert torch.equal(pool(x_UTH, lengths_U.as_subclass(Elsewhere)), pool(x_UTH, lengths_U))


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, causal=st.booleans(), spare=st.integers(0, 2))
def test_attention_mask_shows_own_dialogue_and_leaves_no_row_empty(sizes: list[int], causal: bool, spare: int) -> None:
    mask = attention_mask(places_of(sizes, spare=spare), causal)
    assert not mask.all(dim=2).any()
    for row, size in enumerate(sizes):
        for asks in range(size):
            seen = (~mask[row, asks]).nonzero()[:, 0].tolist()
            assert seen == list(range(asks + 1 if causal else size))


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, seed=SEEDS, spare=st.integers(0, 2))
def test_to_and_from_dialogues_are_inverse(sizes: list[int], seed: int, spare: int) -> None:
    places_BL = places_of(sizes, seed, spare)
    x_UH = random(seed, sum(sizes), 3)
    laid_BLH = to_dialogues(x_UH, places_BL)
    assert torch.equal(from_dialogues(laid_BLH, places_BL), x_UH)
    assert not laid_BLH[places_BL < 0].any()
    for row, size in enumerate(sizes):
        assert torch.equal(laid_BLH[row, :size], x_UH[places_BL[row, :size]])


def test_cross_attention_ignores_what_is_masked() -> None:
    torch.manual_seed(0)
    layer = AttentionBlock(8, 4, 0.0)
    query_BLH, key_BSH = random(1, 2, 3, 8), random(2, 2, 5, 8)
    mask = torch.zeros(2, 3, 5, dtype=torch.bool)
    mask[0, :, 3:] = True
    mask[1, 2, 0] = True
    before_BLH = layer(query_BLH, key_BSH, mask)
    changed_BSH = key_BSH.clone()
    changed_BSH[0, 3:] = 1e3
    changed_BSH[1, 0] = -1e3
    after_BLH = layer(query_BLH, changed_BSH, mask)
    assert torch.equal(after_BLH[0], before_BLH[0])
    assert torch.equal(after_BLH[1, 2], before_BLH[1, 2])
    assert not torch.isclose(after_BLH[1, :2], before_BLH[1, :2]).all()


def test_cross_attention_is_residual_and_normed() -> None:
    layer = AttentionBlock(8, 2, 0.0)
    nn.init.zeros_(layer.attention.out_proj.weight)
    query_BLH = random(3, 2, 4, 8)
    got_BLH = layer(query_BLH, random(4, 2, 4, 8), torch.zeros(2, 4, 4, dtype=torch.bool))
    torch.testing.assert_close(got_BLH, nn.functional.layer_norm(query_BLH, (8,)))


def test_an_attention_block_without_a_layer_norm_adds_what_it_found() -> None:
    layer = AttentionBlock(8, 2, 0.0, layer_norm=False)
    nn.init.zeros_(layer.attention.out_proj.weight)
    nn.init.constant_(layer.attention.out_proj.bias, 0.5)
    query_BLH = random(3, 2, 4, 8)
    got_BLH = layer(query_BLH, random(4, 2, 4, 8), torch.zeros(2, 4, 4, dtype=torch.bool))
    torch.testing.assert_close(got_BLH, query_BLH + 0.5)


def test_shared_dropout_drops_the_same_features_in_all_frames_of_a_sequence() -> None:
    layer = SharedDropout(0.5)
    torch.manual_seed(0)
    dropped_UTD = layer(torch.ones(20, 7, 30))
    assert torch.equal(dropped_UTD, dropped_UTD[:, :1].expand_as(dropped_UTD))
    assert set(dropped_UTD.unique().tolist()) == {0, 2}
    assert not torch.equal(dropped_UTD[0], dropped_UTD[1])
    assert (dropped_UTD == 0).float().mean() == pytest.approx(0.5, abs=0.1)
    x_UTD = random(0, 2, 3, 4)
    assert torch.equal(layer.eval()(x_UTD), x_UTD)


def test_the_frame_mask_shows_those_before_the_end() -> None:
    mask_UT = frame_mask(torch.zeros(3, 4, 2), torch.tensor([1, 4, 2]))
    assert mask_UT.int().tolist() == [[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]


TOLD = {
    "same": [[0, 1, 2, 0, 0, 1], [0, 2, 0, 0, 0, 0]],
    "role": [[1, 2, 2, 0, 1, 3], [1, 1, 0, 0, 0, 0]],
}
"""Codes of the turns of two dialogues, of speakers 7 3 3 ? 7 9 and of speakers 4 4."""


@pytest.mark.parametrize("kind", TOLD)
def test_the_speaker_is_told_by_role_or_by_the_turn_before(kind: Speaker) -> None:
    layer = SpeakerEmbedding(kind, 2)
    places_BL = torch.tensor([[0, 1, 2, 3, 4, 5], [6, 7, -1, -1, -1, -1]])
    speakers_U = torch.tensor([7, 3, 3, -1, 7, 9, 4, 4])
    x_UH = torch.randn(8, 2)
    assert torch.equal(layer(x_UH, speakers_U, places_BL), x_UH)
    layer.vectors.weight.data = torch.arange(len(layer.vectors.weight) * 2.0).reshape(-1, 2)
    added_UH = layer(x_UH, speakers_U, places_BL) - x_UH
    expected = torch.tensor([*TOLD[kind][0], *TOLD[kind][1][:2]])
    torch.testing.assert_close(added_UH, layer.vectors.weight[expected])


def test_roles_beyond_the_eighth_are_one() -> None:
    layer = SpeakerEmbedding("role", 1)
    layer.vectors.weight.data = torch.arange(9.0)[:, None]
    places_BL = torch.arange(11)[None]
    added_UH = layer(torch.zeros(11, 1), torch.tensor([*range(10), 9]), places_BL)
    assert added_UH[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8]


def test_layers_weigh_equally_at_first_and_by_a_softmax_later() -> None:
    weigh, x_UTLD = LayerWeights(3 * 4, 3), random(0, 2, 5, 3, 4)
    assert weigh.dim == 4
    torch.testing.assert_close(weigh(x_UTLD.flatten(2)), x_UTLD.mean(dim=2))
    weigh.logits.data.copy_(torch.tensor([0.0, np.log(6.0), 0.0]))  # type: ignore[union-attr]
    expected_UTD = (x_UTLD[:, :, 0] + 6 * x_UTLD[:, :, 1] + x_UTLD[:, :, 2]) / 8
    torch.testing.assert_close(weigh(x_UTLD.flatten(2)), expected_UTD)


def test_of_one_layer_there_is_nothing_to_weigh() -> None:
    weigh, x_UTD = LayerWeights(4), random(0, 2, 5, 4)
    assert (weigh.dim, list(weigh.parameters()), list(weigh.state_dict())) == (4, [], [])
    assert weigh(x_UTD) is x_UTD
    with pytest.raises(ValueError, match="n_layers: 3 does not divide frames of size 10"):
        LayerWeights(10, 3)
