"""The losses against their definitions, and what must have no influence on them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from emofuse.core.schema import IGNORE
from emofuse.models.parts.losses import cosine_similarities, cross_entropy, supervised_contrastive

TARGETS = st.lists(st.sampled_from([IGNORE, 0, 1, 2]), min_size=1, max_size=12)


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def khosla(vectors: np.ndarray, targets: list[int], temperature: float) -> float:
    """Khosla et al. 2020, equation 2, in loops; the mean over the anchors that have a positive."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kept = [index for index, target in enumerate(targets) if target != IGNORE]
    losses = []
    for anchor in kept:
        others = [index for index in kept if index != anchor]
        positives = [index for index in others if targets[index] == targets[anchor]]
        if not positives:
            continue
        total = sum(np.exp(unit[anchor] @ unit[other] / temperature) for other in others)
        shares = [np.exp(unit[anchor] @ unit[positive] / temperature) / total for positive in positives]
        losses.append(-np.mean(np.log(shares)))
    return float(np.mean(losses)) if losses else 0.0


@settings(max_examples=100, deadline=None)
@given(targets=TARGETS, seed=st.integers(0, 2**16), temperature=st.floats(0.05, 5))
def test_supervised_contrastive_is_khosla_equation_2(targets: list[int], seed: int, temperature: float) -> None:
    vectors_NH = random(seed, len(targets), 3)
    got = supervised_contrastive(vectors_NH, torch.tensor(targets), temperature)
    assert float(got) == pytest.approx(khosla(vectors_NH.numpy(), targets, temperature), rel=1e-9, abs=1e-12)


def test_similarities_are_not_rounded_where_the_network_is() -> None:
    vectors_NH = random(0, 6, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        found_NN = cosine_similarities(vectors_NH, vectors_NH)
    assert torch.equal(found_NN, cosine_similarities(vectors_NH, vectors_NH))
    assert found_NN.dtype == torch.float32


@settings(max_examples=50, deadline=None)
@given(targets=TARGETS, seed=st.integers(0, 2**16))
def test_rows_without_a_target_have_no_influence_and_no_gradient(targets: list[int], seed: int) -> None:
    targets_N = torch.tensor(targets)
    ignored_N = targets_N == IGNORE
    vectors_NH = random(seed, len(targets), 3)
    changed_NH = torch.where(ignored_N[:, None], random(seed + 1, len(targets), 3) * 100, vectors_NH).requires_grad_()
    vectors_NH.requires_grad_()
    losses = [supervised_contrastive(each, targets_N, 0.1) for each in (vectors_NH, changed_NH)]
    losses += [cross_entropy(each, targets_N) for each in (vectors_NH, changed_NH)]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[2], losses[3])
    (losses[1] + losses[3]).backward()
    assert changed_NH.grad is not None
    assert changed_NH.grad.isfinite().all()
    assert not changed_NH.grad[ignored_N].any()


def test_gradients_are_those_of_the_function() -> None:
    targets_N = torch.tensor([0, 1, 0, 1, 1, 2, IGNORE])
    vectors_NH = random(0, 7, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x_NH: supervised_contrastive(x_NH, targets_N, 0.5), (vectors_NH,))
    assert torch.autograd.gradcheck(lambda x_NC: cross_entropy(x_NC, targets_N), (vectors_NH,))


def test_scale_does_not_matter_and_closeness_does() -> None:
    vectors_NH, targets_N = random(0, 6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    loss = supervised_contrastive(vectors_NH, targets_N, 0.1)
    torch.testing.assert_close(supervised_contrastive(vectors_NH * 7, targets_N, 0.1), loss)
    together_NH = torch.eye(3, dtype=torch.float64)[targets_N]
    assert supervised_contrastive(together_NH, targets_N, 0.1) < 1e-3 < loss


@pytest.mark.parametrize("targets", [[], [0], [IGNORE, IGNORE], [0, 1, 2], [0, IGNORE, 1]])
def test_without_positives_the_contrastive_loss_is_a_zero_that_can_be_trained_on(targets: list[int]) -> None:
    vectors_NH = random(0, len(targets), 3).requires_grad_()
    loss = supervised_contrastive(vectors_NH, torch.tensor(targets, dtype=torch.int64), 0.1)
    loss.backward()
    assert loss == 0
    assert vectors_NH.grad is not None
    assert not vectors_NH.grad.any()


def test_cross_entropy_is_the_mean_over_what_has_a_target() -> None:
    logits_UC = random(0, 4, 3)
    targets = [2, IGNORE, 0, IGNORE]
    shares_UC = logits_UC.exp() / logits_UC.exp().sum(dim=1, keepdim=True)
    expected = -(shares_UC[0, 2].log() + shares_UC[2, 0].log()) / 2
    torch.testing.assert_close(cross_entropy(logits_UC, torch.tensor(targets)), expected)


def test_cross_entropy_of_no_targets_is_zero() -> None:
    logits_UC = random(0, 3, 2).requires_grad_()
    loss = cross_entropy(logits_UC, torch.full((3,), IGNORE))
    loss.backward()
    assert loss == 0
    assert logits_UC.grad is not None
    assert not logits_UC.grad.any()


@settings(max_examples=25, deadline=None)
@given(targets=st.lists(st.integers(-1, 2), min_size=1, max_size=8), seed=st.integers(0, 99), gamma=st.floats(0.1, 5))
def test_weights_and_gamma_are_those_of_the_definition(targets: list[int], seed: int, gamma: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits_UC = torch.randn(len(targets), 3, generator=generator).double()
    weights_C = torch.tensor([0.5, 1.0, 2.0]).double()
    total, weight = 0.0, 0.0
    for logits_C, target in zip(logits_UC, targets, strict=True):
        if target != IGNORE:
            p = logits_C.softmax(0)[target].item()
            total += weights_C[target].item() * (1 - p) ** gamma * -math.log(p)
            weight += weights_C[target].item()
    got = cross_entropy(logits_UC, torch.tensor(targets), weights_C, gamma)
    assert got.item() == pytest.approx(total / weight if weight else 0.0)


def test_a_certain_answer_has_a_finite_focal_gradient() -> None:
    logits_UC = torch.tensor([[200.0, 0.0]], requires_grad=True)
    cross_entropy(logits_UC, torch.tensor([0]), None, 0.5).backward()
    assert logits_UC.grad is not None
    assert logits_UC.grad.isfinite().all()
