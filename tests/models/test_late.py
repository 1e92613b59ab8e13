"""Models without a network: late fusion and class frequencies."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emofuse.core.schema import IGNORE
from emofuse.models.majority import prior
from emofuse.models.parts.mixture import choose_weights, combine

NAMES = ("audio", "text", "fused")


def probabilities_of(seed: int, count: int, rows: int = 20, classes: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.dirichlet(np.ones(classes), rows).astype(np.float32) for name in NAMES[:count]}


def accuracy_on(targets: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda mixture: float((mixture.argmax(axis=1) == targets).mean())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**16), count=st.integers(1, 3))
def test_weights_lie_on_the_simplex_and_lose_to_no_single_model(seed: int, count: int) -> None:
    probabilities = probabilities_of(seed, count)
    dev = accuracy_on(np.random.default_rng(seed + 1).integers(0, 3, 20))
    weights = choose_weights(probabilities, dev)
    assert list(weights) == list(probabilities)
    assert min(weights.values()) >= 0
    assert sum(weights.values()) == pytest.approx(1)
    assert dev(combine(probabilities, weights)) >= max(dev(each) for each in probabilities.values())


def test_the_one_good_model_takes_part_and_the_best_mixture_wins() -> None:
    probabilities = probabilities_of(0, 2)
    wanted = {"audio": 0.2, "text": 0.8}
    best = combine(probabilities, wanted)
    weights = choose_weights(probabilities, lambda mixture: -float(np.abs(mixture - best).sum()))
    assert weights == pytest.approx(wanted)


def test_ties_go_to_even_weights() -> None:
    assert choose_weights(probabilities_of(0, 2), lambda _: 0.5) == {"audio": 0.5, "text": 0.5}
    three = choose_weights(probabilities_of(0, 3), lambda _: 0.5)
    assert sorted(three.values()) == [0.3, 0.3, 0.4]
    probabilities = probabilities_of(1, 2)
    # Weights of 0.7 and above are right: the one nearest to even is taken.
    wins = {"audio": 0.7, "text": pytest.approx(0.3)}
    edge = combine(probabilities, {"audio": 0.7, "text": 0.3})
    far = combine(probabilities, {"audio": 1.0, "text": 0.0})
    nearer = float(np.abs(edge - far).sum()) + 1e-4
    assert choose_weights(probabilities, lambda mixture: float(np.abs(mixture - far).sum()) <= nearer) == wins


def test_combine_is_the_weighted_mean() -> None:
    probabilities = probabilities_of(2, 3)
    weights = dict(zip(NAMES, (0.2, 0.3, 0.5), strict=True))
    expected = 0.2 * probabilities["audio"] + 0.3 * probabilities["text"] + 0.5 * probabilities["fused"]
    got = combine(probabilities, weights)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-6)
    assert got.dtype == np.float32
    for names in permutations(NAMES):
        np.testing.assert_allclose(combine({name: probabilities[name] for name in names}, weights), got, rtol=1e-6)


def test_prior_counts_what_has_a_label() -> None:
    got = prior(np.array([0, 2, IGNORE, 2, 2, IGNORE]), 4)
    assert got.tolist() == [0.25, 0, 0.75, 0]
    assert got.dtype == np.float32
