"""Intervals and tests against enumeration, theory and simulation."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.scoring import resampling
from emofuse.scoring.calibration import BINS, calibration_error, gap_counts
from emofuse.scoring.metrics import measure, tally
from emofuse.scoring.resampling import bootstrap, holm, percentile_interval, reflected_interval, swap_test

ACCURACY, WEIGHTED_F1 = 0, 2


def random_confusions(n_runs: int, n_dialogues: int, seed: int = 0) -> np.ndarray:
    """Counts ``[run, dialogue, 3, 3]`` of runs that saw the same targets, so that each dialogue's row sums agree."""
    rng = np.random.default_rng(seed)
    confusion = np.zeros((n_runs, n_dialogues, 3, 3))
    true = rng.integers(0, 3, (n_dialogues, 5))
    for run in range(n_runs):
        said = np.where(rng.random(true.shape) < 0.3 + 0.15 * run, true, rng.integers(0, 3, true.shape))
        for dialogue, turn in np.ndindex(*true.shape):
            confusion[run, dialogue, true[dialogue, turn], said[dialogue, turn]] += 1
    return confusion


def right_and_wrong(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Tallies of one run on a class and its opposite, from ``[dialogue]`` counts of right and wrong answers."""
    confusion = np.zeros((1, len(right), 2, 2))
    confusion[0, :, 0, 0], confusion[0, :, 0, 1] = right, wrong
    return tally(confusion)


def no_gaps(tallies: np.ndarray) -> np.ndarray:
    """Gaps ``[bin, run, dialogue]`` of answers that are as often right as they are sure."""
    return np.zeros((BINS, *tallies.shape[2:]))


def test_bootstrap_is_a_bootstrap() -> None:
    """Draw by draw it equals drawing dialogues and runs one at a time."""
    confusion, n_draws = random_confusions(n_runs=3, n_dialogues=7), 20
    gaps = np.random.default_rng(0).normal(size=(BINS, 3, 7))
    draws = bootstrap(tally(confusion), gaps, np.array([[0, 1, 2]]), n_draws, np.random.default_rng(1))
    dialogue_draws, run_draws = np.random.default_rng(1).spawn(2)
    dialogues = dialogue_draws.multinomial(7, np.full(7, 1 / 7), n_draws)
    runs = run_draws.multinomial(3, np.full(3, 1 / 3), n_draws)
    for draw in range(n_draws):
        drawn = np.repeat(confusion, dialogues[draw], axis=1).sum(axis=1)
        scores = measure(tally(np.repeat(drawn, runs[draw], axis=0)))
        np.testing.assert_allclose(draws[:-1, 0, draw], scores.mean(axis=-1))
        errors = calibration_error(np.repeat(gaps, dialogues[draw], axis=2).sum(axis=2), drawn.sum(axis=(1, 2)))
        np.testing.assert_allclose(draws[-1, 0, draw], np.repeat(errors, runs[draw]).mean())


def test_bootstrap_spread_is_that_of_a_mean_of_dialogues() -> None:
    """Accuracy over equal dialogues is a mean, whose bootstrap deviation is known: that of the dialogues / sqrt(n)."""
    right = np.random.default_rng(0).binomial(10, 0.7, 50)
    tallies = right_and_wrong(right, 10 - right)
    draws = bootstrap(tallies, no_gaps(tallies), np.array([[0]]), 20_000, np.random.default_rng(1))
    assert draws[ACCURACY].mean() == pytest.approx(right.mean() / 10, abs=1e-3)
    assert draws[ACCURACY].std() == pytest.approx((right / 10).std() / np.sqrt(50), rel=0.03)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Dialogues differ in difficulty, around an accuracy of 0.6; bootstrapping utterances would cover far less."""
    rng, n_trials, covered = np.random.default_rng(0), 200, []
    for _ in range(n_trials):
        right = rng.binomial(10, rng.beta(1.5, 1.0, 60))
        tallies = right_and_wrong(right, 10 - right)
        draws = bootstrap(tallies, no_gaps(tallies), np.array([[0]]), 300, rng)
        low, high = percentile_interval(draws[ACCURACY, 0], 0.9)
        covered.append(low <= 0.6 <= high)
    assert 0.84 <= np.mean(covered) <= 0.96


def test_interval_is_the_central_part() -> None:
    low, high = percentile_interval(np.arange(101.0), 0.9)
    assert (low, high) == pytest.approx((5, 95))


def test_interval_of_a_calibration_error_covers_the_truth() -> None:
    """Answers are surer than right by 0.05. With 20 answers a bin the estimate is too large, and the draws far more."""
    rng, n_trials, covered, plain = np.random.default_rng(0), 200, [], []
    confidence = np.linspace(0.2, 1, 300)
    for _ in range(n_trials):
        right = rng.random(300) < confidence - 0.05
        dialogue = np.arange(300) // 5
        gaps = gap_counts(dialogue, confidence, right, n_cells=60)[:, None]
        hits = np.bincount(dialogue, right, 60)
        tallies = right_and_wrong(hits, 5 - hits)
        draws = bootstrap(tallies, gaps, np.array([[0]]), 200, rng)[-1, 0]
        estimate = calibration_error(gaps.sum(axis=-1), np.array([300.0]))
        low, high = reflected_interval(estimate, draws, 0.9)
        covered.append(low[0] <= 0.05 <= high[0])
        plain.append(percentile_interval(draws, 0.9)[0] <= 0.05)
    assert np.mean(covered) > 0.7
    assert np.mean(plain) < 0.2


def test_seeds_widen_the_interval() -> None:
    """Two runs of the same mean as one, but far apart, leave more doubt."""
    right, wrong, even = (np.full(30, count) for count in (8, 2, 5))
    tallies = np.concatenate([right_and_wrong(a, 10 - a) for a in (right, wrong, even)], axis=2)
    draws = bootstrap(tallies, no_gaps(tallies), np.array([[0, 1], [2, 2]]), 500, np.random.default_rng(0))
    assert set(np.round(draws[ACCURACY, 0], 6)) == {0.2, 0.5, 0.8}
    assert set(np.round(draws[ACCURACY, 1], 6)) == {0.5}


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tallies, rows = tally(random_confusions(n_runs=4, n_dialogues=6)), np.array([[0, 1], [2, 3]])
    gaps = np.random.default_rng(0).integers(-99, 99, (BINS, 4, 6)) / 64

    def both() -> tuple[np.ndarray, np.ndarray]:
        draws = bootstrap(tallies, gaps, rows, 30, np.random.default_rng(2))
        return draws, swap_test(tallies, rows[:1], rows[1:], 30, np.random.default_rng(2))

    expected = both()
    monkeypatch.setattr(resampling, "CHUNK", chunk)
    for value, wanted in zip(both(), expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


def test_swap_test_approximates_the_exact_test() -> None:
    """With 8 dialogues all 2^8 swaps can be made; p of the random ones lies within their sampling error."""
    confusion = random_confusions(n_runs=4, n_dialogues=8, seed=3)
    a, b = [0, 1], [2, 3]
    n_draws = 4000
    p = swap_test(tally(confusion), np.array([a]), np.array([b]), n_draws, np.random.default_rng(0))[:, 0]

    def difference(swap: tuple[int, ...]) -> Any:
        keep = 1 - np.array(swap)[:, None, None]
        first = (confusion[a] * keep + confusion[b] * (1 - keep)).sum(axis=1)
        second = (confusion[b] * keep + confusion[a] * (1 - keep)).sum(axis=1)
        return measure(tally(first)).mean(axis=-1) - measure(tally(second)).mean(axis=-1)

    truth = abs(difference((0,) * 8))
    exact = np.mean([abs(difference(swap)) >= truth - 1e-12 for swap in product((0, 1), repeat=8)], axis=0)
    np.testing.assert_allclose(p, exact, atol=4 * np.sqrt(0.25 / n_draws))


def test_swap_test_of_equals_and_of_opposites() -> None:
    confusion = random_confusions(n_runs=1, n_dialogues=20)
    perfect = np.zeros_like(confusion)
    np.einsum("rdii->rdi", perfect)[:] = confusion.sum(axis=-1)
    tallies = tally(np.concatenate([confusion, confusion, perfect]))
    p = swap_test(tallies, np.array([[0], [2]]), np.array([[1], [0]]), 999, np.random.default_rng(0))
    np.testing.assert_array_equal(p[:, 0], 1)
    assert (p[:4, 1] == 1 / 1000).all()


def test_swap_test_is_honest_where_models_are_alike() -> None:
    """Of tests between equally good models, no more than a share of alpha finds a difference at alpha."""
    rng, n_trials = np.random.default_rng(0), 300
    found = 0
    for _ in range(n_trials):
        difficulty = rng.beta(2, 2, 20)
        pair = [rng.binomial(5, difficulty) for _ in range(2)]
        tallies = np.concatenate([right_and_wrong(right, 5 - right) for right in pair], axis=2)
        p = swap_test(tallies, np.array([[0]]), np.array([[1]]), 99, rng)
        found += p[WEIGHTED_F1, 0] <= 0.1
    assert found / n_trials <= 0.1 + 3 * np.sqrt(0.09 / n_trials)


def test_holm_by_hand() -> None:
    """Sorted 0.005 0.01 0.03 0.04 times 4 3 2 1 is 0.02 0.03 0.06 0.04; the last may not fall below the third."""
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_raises_p(values: list[float]) -> None:
    p = np.array(values)
    adjusted = holm(p)
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    bonferroni = np.minimum(1, p * len(p))
    assert ((p <= adjusted) & (adjusted <= bonferroni)).all()
    np.testing.assert_array_equal(holm(np.stack([p, p]))[1], adjusted)
