"""Temperatures: what they do to probabilities, and that the one chosen is the best on dev."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from emofuse.scoring.predictions import ScoringError
from emofuse.scoring.temperature import (
    choose_temperature,
    negative_log_likelihood,
    temperatures,
    tempered,
    with_temperature,
)

Make = Callable[..., pl.DataFrame]


def drawn(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of four classes, and targets that are drawn by them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.7), n)
    return probabilities, (probabilities.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)


def test_likelihood_is_that_of_sklearn() -> None:
    probabilities, targets = drawn(200)
    assert negative_log_likelihood(probabilities, targets) == pytest.approx(log_loss(targets, probabilities))
    assert np.isfinite(negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1])))


def test_a_temperature_divides_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(9, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    halved = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(with_temperature(softmax, 2.0), halved)
    np.testing.assert_allclose(with_temperature(softmax, 1.0), softmax)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 5), st.integers(0, 99))
def test_what_made_probabilities_too_sure_or_too_shy_is_found_again(factor: float, seed: int) -> None:
    probabilities, targets = drawn(seed=seed)
    assert choose_temperature(with_temperature(probabilities, 1 / factor), targets) == pytest.approx(factor, rel=0.1)


def test_no_other_temperature_is_likelier() -> None:
    probabilities, targets = drawn(300, seed=3)
    probabilities = np.clip(probabilities**3, 1e-9, None)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    chosen = choose_temperature(probabilities, targets)
    best = negative_log_likelihood(with_temperature(probabilities, chosen), targets)
    for other in np.geomspace(0.06, 18, 50):
        assert best <= negative_log_likelihood(with_temperature(probabilities, other), targets) + 1e-7


def two_splits(truth: Make) -> pl.DataFrame:
    return pl.concat([truth(), truth(prefix="dev_").with_columns(split=pl.lit("dev"))])


def test_test_has_no_say_and_each_run_has_its_own(truth: Make, guess: Make) -> None:
    targets = two_splits(truth)
    runs = pl.concat([guess(targets, skill, name) for skill, name in ((0.5, "hcam"), (0.9, "late"))])
    runs = runs.join(targets.select("utterance_id", of="split"), on="utterance_id").with_columns(split="of").drop("of")
    chosen = temperatures(runs, targets)
    assert chosen.select("model", "seed", "fold").rows() == [
        (name, seed, 0) for name in ("hcam", "late") for seed in range(3)
    ]
    of_hcam, of_late = (chosen.filter(model=name)["temperature"] for name in ("hcam", "late"))
    assert of_hcam.min() > 1 > of_late.max()  # type: ignore[operator]
    wrong = targets.with_columns(target=pl.when(split="test").then(2 - pl.col("target")).otherwise("target"))
    assert temperatures(runs.filter(split="dev"), wrong).equals(chosen)

    changed = tempered(runs, chosen).sort("model", "seed", "utterance_id")
    before = runs.sort("model", "seed", "utterance_id")
    assert changed.drop("probabilities").equals(before.drop("probabilities"))
    probabilities, was = (np.array(each["probabilities"].to_list()) for each in (changed, before))
    assert (probabilities.argmax(axis=1) == was.argmax(axis=1)).all()
    hcam = (before["model"] == "hcam").to_numpy()
    assert probabilities[hcam].max() < 0.75
    assert probabilities[~hcam].max() > 0.85


def test_dev_without_a_label_is_an_error(truth: Make, guess: Make) -> None:
    dev = two_splits(truth).filter(split="dev")
    runs = guess(dev, 0.5, "hcam").with_columns(split=pl.lit("dev"))
    with pytest.raises(ScoringError, match="model 'hcam', seed 0, fold 0: 'dev_d0_0' of dev has no label"):
        temperatures(runs, dev[1:])
