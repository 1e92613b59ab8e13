"""HBAF's contrastive losses against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emofuse.models.hbaf import absolute_contrastive, relative_contrastive

COUNTS, SEEDS = st.integers(1, 8), st.integers(0, 2**16)


def two_modalities(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    audio, text = np.random.default_rng(seed).normal(size=(2, count, 3))
    return audio, text


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@settings(max_examples=60, deadline=None)
@given(count=COUNTS, seed=SEEDS, temperature=st.floats(0.05, 5))
def test_the_absolute_loss_finds_an_utterance_among_the_other_modality(
    count: int, seed: int, temperature: float
) -> None:
    """Both ways, the mean over utterances of -log of the share that the utterance's own vector has."""
    audio, text = two_modalities(count, seed)
    losses = []
    for askers, asked in ((audio, text), (text, audio)):
        for own, asker in enumerate(askers):
            shares = np.exp([cosine(asker, each) / temperature for each in asked])
            losses.append(-np.log(shares[own] / shares.sum()))
    found = absolute_contrastive(torch.from_numpy(audio), torch.from_numpy(text), temperature)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-9, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(count=COUNTS, seed=SEEDS)
def test_the_relative_loss_compares_how_alike_utterances_are_in_each_modality(count: int, seed: int) -> None:
    audio, text = two_modalities(count, seed)
    gaps = [
        (cosine(audio[one], audio[other]) - cosine(text[one], text[other])) ** 2
        for one in range(count)
        for other in range(count)
    ]
    found = relative_contrastive(torch.from_numpy(audio), torch.from_numpy(text))
    assert float(found) == pytest.approx(np.mean(gaps), rel=1e-9, abs=1e-12)


def test_modalities_that_agree_lose_nothing() -> None:
    vectors_UP = torch.eye(4)
    turned_UP = vectors_UP.roll(1, dims=1)
    assert absolute_contrastive(vectors_UP, vectors_UP, 0.05) < 1e-6
    assert absolute_contrastive(vectors_UP, turned_UP, 0.05) > 10
    assert relative_contrastive(vectors_UP, turned_UP) == 0


def test_a_batch_without_labels_loses_nothing() -> None:
    none_UP = torch.zeros(0, 3, requires_grad=True)
    assert absolute_contrastive(none_UP, none_UP, 0.2) == 0
    assert relative_contrastive(none_UP, none_UP) == 0
