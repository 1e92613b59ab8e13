"""The calibration error agrees with its definition, answer by answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.scoring.calibration import BINS, bin_of, calibration_error, gap_counts

predictions = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=40)


def reference(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error, as Guo et al. 2017 write it: sum over bins of |B| / n * |acc(B) - conf(B)|."""
    error = 0.0
    for index in range(BINS):
        low, high = index / BINS, (index + 1) / BINS
        inside = (confidence > low) & (confidence <= high) if index else confidence <= high
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@given(predictions)
def test_error_is_that_of_the_definition(pairs: list[tuple[float, bool]]) -> None:
    confidence, right = (np.array(each) for each in zip(*pairs, strict=True))
    gaps = gap_counts(np.zeros(len(pairs), int), confidence, right, n_cells=1)
    error = calibration_error(gaps, np.array([len(pairs)]))
    assert error == pytest.approx([reference(confidence, right)], abs=1e-6)


def test_bins_are_open_below_and_closed_above() -> None:
    edges = np.arange(BINS + 1) / BINS
    assert bin_of(edges).tolist() == [0, *range(BINS)]
    assert bin_of(np.nextafter(edges, 2)).tolist() == [*range(BINS), BINS - 1]


def test_cells_add_up_exactly_in_any_order() -> None:
    rng = np.random.default_rng(0)
    confidence, right = rng.random(5000).astype(np.float32), rng.random(5000) < 0.5
    by_cell = gap_counts(rng.integers(0, 50, 5000), confidence, right, n_cells=50)
    whole = gap_counts(np.zeros(5000, int), confidence, right, n_cells=1)
    np.testing.assert_array_equal(by_cell.sum(axis=1), whole[:, 0])
    np.testing.assert_array_equal(by_cell[:, ::-1].sum(axis=1), whole[:, 0])


def test_nothing_gives_zero() -> None:
    assert calibration_error(np.zeros((BINS, 2)), np.zeros(2)).tolist() == [0, 0]
