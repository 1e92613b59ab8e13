"""Intervals and tests against enumeration, theory and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.scoring import resampling
from emofuse.scoring.calibration import BINS, calibration_error, gap_counts
from emofuse.scoring.metrics import measure, tally
from emofuse.scoring.resampling import bootstrap, bootstrap_p, holm, percentile_interval, reflected_interval

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
    """Draw by draw it equals drawing dialogues, and two of three runs, one at a time."""
    confusion, n_draws = random_confusions(n_runs=3, n_dialogues=7), 20
    gaps = np.random.default_rng(0).normal(size=(BINS, 3, 7))
    draws = bootstrap(tally(confusion), gaps, np.array([[0, 1, 2]]), n_draws, np.random.default_rng(1))
    dialogue_draws, run_draws = np.random.default_rng(1).spawn(2)
    dialogues = dialogue_draws.multinomial(7, np.full(7, 1 / 7), n_draws)
    runs = run_draws.multinomial(2, np.full(3, 1 / 3), n_draws)
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
    """Runs of the same mean as others, but far apart, leave more doubt: that of a mean of three, s^2 / 3."""
    counts = [np.full(30, count) for count in (8, 5, 2)]
    tallies = np.concatenate([right_and_wrong(right, 10 - right) for right in counts], axis=2)
    draws = bootstrap(tallies, no_gaps(tallies), np.array([[0, 1, 2], [1, 1, 1]]), 20_000, np.random.default_rng(0))
    assert draws[ACCURACY, 0].std() == pytest.approx(0.3 / np.sqrt(3), rel=0.03)
    assert set(np.round(draws[ACCURACY, 1], 6)) == {0.5}


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tallies, rows = tally(random_confusions(n_runs=4, n_dialogues=6)), np.array([[0, 1], [2, 3]])
    gaps = np.random.default_rng(0).integers(-99, 99, (BINS, 4, 6)) / 64

    expected = bootstrap(tallies, gaps, rows, 30, np.random.default_rng(2))
    monkeypatch.setattr(resampling, "CHUNK", chunk)
    np.testing.assert_array_equal(bootstrap(tallies, gaps, rows, 30, np.random.default_rng(2)), expected)


@given(st.lists(st.integers(-9, 9).filter(bool), min_size=2, max_size=40), st.floats(0.01, 0.99))
def test_a_test_and_its_interval_never_disagree(values: list[int], alpha: float) -> None:
    draws = np.array(values, dtype=float)
    p, (low, high) = bootstrap_p(draws), percentile_interval(draws, 1 - alpha)
    if p <= alpha:
        assert low > 0 or high < 0
    if low > 0 or high < 0:
        assert p <= alpha + 4 / (1 + len(draws))


def test_p_of_equals_and_of_opposites() -> None:
    assert bootstrap_p(np.zeros(999)) == 1
    np.testing.assert_allclose(bootstrap_p(np.stack([np.ones(999), -np.ones(999)])), 2 / 1000)


def test_p_is_honest_where_models_are_alike_and_seeds_differ() -> None:
    """Two models of one kind, five seeds each that differ by two points: at 0.1, about a tenth of all p is below."""
    rng, n_trials, found = np.random.default_rng(0), 200, 0
    for _ in range(n_trials):
        difficulty = rng.beta(2, 2, 40)
        skills = rng.normal(0, 0.02, 10)
        runs = [rng.binomial(10, np.clip(difficulty + skill, 0, 1)) for skill in skills]
        tallies = np.concatenate([right_and_wrong(right, 10 - right) for right in runs], axis=2)
        draws = bootstrap(tallies, no_gaps(tallies), np.arange(10).reshape(2, 5), 200, rng)[ACCURACY]
        found += bootstrap_p(draws[0] - draws[1]) <= 0.1
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
