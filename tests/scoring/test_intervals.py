"""Intervals and tests against enumeration, theory and simulation."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from emofuse.scoring import intervals
from emofuse.scoring.calibration import BINS, calibration_error, gap_counts
from emofuse.scoring.intervals import (
    SMALLEST_P,
    Spread,
    bootstrap,
    holm,
    influences,
    interval,
    p_value,
    reflected_interval,
    spread,
)
from emofuse.scoring.metrics import measure, tally

ACCURACY, WEIGHTED_F1 = 0, 2


def random_confusions(n_runs: int, n_dialogues: int, seed: int = 0) -> np.ndarray:
    """Counts ``[run, dialogue, 3, 3]`` of runs that saw the same targets, so that each dialogue's row sums agree."""
    rng = np.random.default_rng(seed)
    confusion = np.zeros((n_runs, n_dialogues, 3, 3))
    true = rng.integers(0, 3, (n_dialogues, 5))
    for run in range(n_runs):
        predicted = np.where(rng.random(true.shape) < 0.3 + 0.15 * run, true, rng.integers(0, 3, true.shape))
        for dialogue, turn in np.ndindex(*true.shape):
            confusion[run, dialogue, true[dialogue, turn], predicted[dialogue, turn]] += 1
    return confusion


def right_and_wrong(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Tallies of runs on a class and its opposite, from ``[run, dialogue]`` counts of right and wrong answers."""
    confusion = np.zeros((*right.shape, 2, 2))
    confusion[..., 0, 0], confusion[..., 0, 1] = right, wrong
    return tally(confusion)


def of_model(tallies: np.ndarray, metric: int = ACCURACY) -> Spread:
    """The spread of a metric over the runs of one model."""
    return spread(measure(tallies.sum(axis=-1))[metric], influences(tallies)[metric])


def test_influences_are_those_of_leaving_dialogues_out_one_by_one() -> None:
    confusion = random_confusions(n_runs=2, n_dialogues=7)
    without = np.stack(
        [measure(tally(np.delete(confusion, left_out, axis=1).sum(axis=1))) for left_out in range(7)], -1
    )
    expected = np.sqrt(6 / 7) * (without - without.mean(axis=-1, keepdims=True))
    np.testing.assert_allclose(influences(tally(confusion)), expected, atol=1e-12)


def test_variance_of_a_mean_of_equal_dialogues_is_the_textbook_s() -> None:
    right = np.random.default_rng(0).binomial(10, 0.7, (1, 50))
    found = of_model(right_and_wrong(right, 10 - right))
    assert found.mean == pytest.approx(right.mean() / 10)
    assert found.of_units == pytest.approx((right / 10).var(ddof=1) / 50)
    assert found.of_repetitions == 0
    expected = stats.t.interval(0.9, 49, right.mean() / 10, stats.sem(right[0] / 10))
    assert interval(found, 0.9, 0) == pytest.approx(expected)


def test_units_count_by_what_repetitions_share() -> None:
    """The mean covariance of two repetitions, as a double loop finds it; the variance of each alone is in the other."""
    rng = np.random.default_rng(1)
    values, moved = rng.normal(size=4), rng.normal(size=(4, 9)) + rng.normal(size=9)
    found = spread(values, moved)
    covariances = [moved[a] @ moved[b] for a, b in product(range(4), repeat=2) if a != b]
    assert found.of_units == pytest.approx(np.mean(covariances))
    assert found.of_repetitions == pytest.approx(values.var(ddof=1) / 4)
    opposite = np.stack([moved[0], -moved[0]])
    assert spread(values[:2], opposite).of_units == 0


def test_repetitions_that_share_no_dialogue_effect_give_the_t_interval_of_their_mean() -> None:
    values = np.array([0.5, 0.55, 0.65])
    found = spread(values, np.zeros((3, 20)))
    assert interval(found, 0.95, 0) == pytest.approx(stats.t.interval(0.95, 2, values.mean(), stats.sem(values)))
    difference = spread(values - 0.6, np.zeros((3, 20)))
    assert p_value(difference) == pytest.approx(stats.ttest_1samp(values, 0.6).pvalue)


def test_each_source_has_a_quantile_of_its_own() -> None:
    found = Spread(np.array(0.5), np.array(0.0004), np.array(0.0009), 5, 101)
    half = np.sqrt(0.0004 * stats.t.ppf(0.975, 4) ** 2 + 0.0009 * stats.t.ppf(0.975, 100) ** 2)
    assert interval(found, 0.95, 0) == pytest.approx((0.5 - half, 0.5 + half))


def test_a_run_that_stands_for_all_repetitions_is_one_run() -> None:
    right = np.random.default_rng(2).binomial(10, 0.6, (1, 30))
    once = of_model(right_and_wrong(right, 10 - right))
    often = of_model(right_and_wrong(np.repeat(right, 5, axis=0), np.repeat(10 - right, 5, axis=0)))
    assert interval(often, 0.95, 0) == pytest.approx(interval(once, 0.95, 0))


def test_of_one_dialogue_nothing_is_known() -> None:
    found = of_model(right_and_wrong(np.array([[6], [8]]), np.array([[4], [2]])))
    assert interval(found, 0.95, 0) == (0, 1)
    assert interval(found, 0.95, -1) == (-1, 1)
    assert p_value(found) == 1


def test_an_interval_stays_where_scores_can_be() -> None:
    found = Spread(np.array([0.01, 0.99]), np.full(2, 0.01), np.full(2, 0.01), 5, 20)
    low, high = interval(found, 0.95, 0)
    assert (low[0], high[1]) == (0, 1)
    assert interval(found, 0.95, -1)[0][0] < -0.1


spreads = st.builds(
    Spread,
    st.integers(-1000, 1000).map(lambda thousandths: np.array(thousandths / 1000)),
    st.floats(0, 0.1).map(np.array),
    st.floats(0, 0.1).map(np.array),
    st.integers(2, 10),
    st.integers(2, 300),
)


@given(spreads, st.floats(0.001, 0.999))
def test_a_test_and_its_interval_never_disagree(found: Spread, alpha: float) -> None:
    p, (low, high) = float(p_value(found)), interval(found, 1 - alpha, -1)
    if p < alpha * (1 - 1e-9):
        assert low > 0 or high < 0
    if p > alpha * (1 + 1e-9):
        assert low <= 0 <= high


def test_p_of_equals_and_of_opposites() -> None:
    nothing = np.zeros(2)
    found = p_value(Spread(np.array([0.0, 0.5]), nothing, nothing, 5, 20))
    np.testing.assert_allclose(found, [1, SMALLEST_P])


N_TRIALS, N_SEEDS, N_DIALOGUES, CHUNK_OF_TRIALS = 3000, 5, 80, 250


def p_of_equal_models(deviation: float, seed: int) -> np.ndarray:
    """p of :data:`N_TRIALS` pairs of equal models by weighted F1, with the sign of the difference, ``[N_TRIALS]``.

    Two models of one kind find other dialogues difficult, and each of their seeds is ``deviation`` from the expectation
    of both. There are three classes; a wrong answer is the next class.
    """
    rng, found = np.random.default_rng(seed), []
    for _ in range(N_TRIALS // CHUNK_OF_TRIALS):
        shape = (3, CHUNK_OF_TRIALS, 2, N_SEEDS, N_DIALOGUES)
        true = rng.poisson(
            np.array([4.0, 2.0, 1.0])[:, None, None, None, None], (3, CHUNK_OF_TRIALS, 1, 1, N_DIALOGUES)
        )
        ease = rng.uniform(0.2, 0.8, (CHUNK_OF_TRIALS, 1, 1, N_DIALOGUES))
        ease = ease + rng.normal(0, 0.08, (CHUNK_OF_TRIALS, 2, 1, N_DIALOGUES))
        skill = rng.normal(0, deviation, (CHUNK_OF_TRIALS, 2, N_SEEDS, 1))
        hits = rng.binomial(np.broadcast_to(true, shape), np.clip(ease + skill, 0, 1))
        predicted = hits + np.roll(true - hits, 1, axis=0)
        tallies = np.stack([hits, predicted, np.broadcast_to(true, shape)]).astype(float)
        values = measure(tallies.sum(axis=-1))[WEIGHTED_F1]
        moved = influences(tallies.reshape(3, 3, -1, N_DIALOGUES))[WEIGHTED_F1].reshape(shape[1:])
        each = spread(values[:, 0] - values[:, 1], moved[:, 0] - moved[:, 1])
        found.append(np.sign(each.mean) * p_value(each))
    return np.concatenate(found)


@pytest.mark.parametrize("deviation", [0.0, 0.026, 0.051])
def test_p_is_honest_on_both_sides_where_models_are_alike_and_seeds_differ(deviation: float) -> None:
    """At 0.05 and 0.01, neither model is found better more often than by half of that; nor is the test too timid."""
    p = p_of_equal_models(deviation, seed=int(1000 * deviation))
    for level in (0.05, 0.01):
        too_often = level / 2 + 3 * np.sqrt(level / 2 * (1 - level / 2) / N_TRIALS)
        for side in (1, -1):
            assert ((side * p > 0) & (abs(p) <= level)).mean() <= too_often, (level, side)
        assert (abs(p) <= level).mean() >= 0.4 * level - 2 * np.sqrt(0.4 * level / N_TRIALS)


@pytest.mark.parametrize("deviation", [0.0, 0.05])
def test_interval_covers_the_truth_as_often_as_it_says(deviation: float) -> None:
    """Dialogues differ in difficulty and seeds in skill, around an accuracy of 0.58."""
    rng, n_trials = np.random.default_rng(0), 1000
    skill = rng.normal(0, deviation, (n_trials, 4, 1))
    right = rng.binomial(10, np.clip(0.1 + 0.8 * rng.beta(1.5, 1.0, (n_trials, 1, 60)) + skill, 0, 1))
    tallies = right_and_wrong(right.reshape(-1, 60), 10 - right.reshape(-1, 60))
    values = measure(tallies.sum(axis=-1))[ACCURACY].reshape(n_trials, 4)
    moved = influences(tallies)[ACCURACY].reshape(n_trials, 4, 60)
    low, high = interval(spread(values, moved), 0.9, 0)
    assert 0.87 <= ((low <= 0.58) & (high >= 0.58)).mean() <= 0.97


def test_bootstrap_is_a_bootstrap() -> None:
    """Draw by draw it equals drawing dialogues, and two of three repetitions, one at a time."""
    n_predictions, n_draws = np.random.default_rng(3).integers(1, 9, (6, 7)).astype(float), 20
    gaps = np.random.default_rng(0).normal(size=(BINS, 6, 7))
    rows = np.array([[[0, 1], [2, 3], [4, 5]]])
    draws = bootstrap(gaps, n_predictions, rows, n_draws, np.random.default_rng(1))
    dialogue_draws, repetition_draws = np.random.default_rng(1).spawn(2)
    dialogues = dialogue_draws.multinomial(7, np.full(7, 1 / 7), n_draws)
    repetitions = repetition_draws.multinomial(2, np.full(3, 1 / 3), n_draws)
    for draw in range(n_draws):
        drawn = [np.repeat(each, dialogues[draw], axis=-1).sum(axis=-1) for each in (gaps, n_predictions)]
        errors = calibration_error(*drawn)[rows[0]].mean(axis=1)
        np.testing.assert_allclose(draws[0, draw], np.repeat(errors, repetitions[draw]).mean())


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[[0], [1]], [[2], [3]]])
    gaps = np.random.default_rng(0).integers(-99, 99, (BINS, 4, 6)) / 64
    n_predictions = np.random.default_rng(1).integers(1, 9, (4, 6)).astype(float)
    expected = bootstrap(gaps, n_predictions, rows, 30, np.random.default_rng(2))
    monkeypatch.setattr(intervals, "CHUNK", chunk)
    np.testing.assert_array_equal(bootstrap(gaps, n_predictions, rows, 30, np.random.default_rng(2)), expected)


def test_interval_of_a_calibration_error_covers_the_truth() -> None:
    """Answers are surer than right by 0.05. With 20 answers a bin the estimate is too large, and the draws far more."""
    rng, n_trials, covered, plain = np.random.default_rng(0), 200, [], []
    confidence = np.linspace(0.2, 1, 300)
    for _ in range(n_trials):
        right = rng.random(300) < confidence - 0.05
        dialogue = np.arange(300) // 5
        gaps = gap_counts(dialogue, confidence, right, n_cells=60)[:, None]
        draws = bootstrap(gaps, np.full((1, 60), 5.0), np.array([[[0]]]), 200, rng)[0]
        estimate = calibration_error(gaps.sum(axis=-1), np.array([300.0]))
        low, high = reflected_interval(estimate, draws, 0.9)
        covered.append(low[0] <= 0.05 <= high[0])
        plain.append(np.quantile(draws, 0.05) <= 0.05)
    assert np.mean(covered) > 0.7
    assert np.mean(plain) < 0.2


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
