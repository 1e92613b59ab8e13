"""Calibration error: the gap between confidence and accuracy.

A prediction's confidence is its largest probability. Predictions are put into :data:`BINS` bins of equal width by
confidence, and the expected calibration error is the mean over predictions of the distance, within a bin, between the
share that is right and the mean confidence (Naeini, Cooper and Hauskrecht 2015; Guo, Pleiss, Sun and Weinberger 2017,
"On calibration of modern neural networks", section 2; theirs too are 15 bins, open below and closed above).

As with the tallies of :mod:`emofuse.scoring.metrics`, what is counted is linear in the predictions: *gaps*, the sum of
confidence less right of each bin, and the number of predictions. So resampling works on sums.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "bin_of", "calibration_error", "gap_counts"]

BINS = 15
"""Bins of equal width between 0 and 1."""

_STEPS = 2.0**24
"""Confidences count in steps of a float32's last bit, so that their sums are exact in any order."""


def bin_of(confidence: NDArray[np.floating]) -> NDArray[np.intp]:
    """The bin of each confidence: number m holds what is above ``m / BINS`` and at most ``(m + 1) / BINS``."""
    return np.searchsorted(np.arange(1, BINS) / BINS, confidence, side="left")


def gap_counts(
    cell: NDArray[np.integer], confidence: NDArray[np.floating], right: NDArray[np.bool_], *, n_cells: int
) -> NDArray[np.float64]:
    """Sum confidence less right separately in each of several cells, such as the dialogues of each run.

    Args:
        cell: ``[n]``, the cell that a prediction belongs to, below ``n_cells``
        confidence: ``[n]``, largest probability of a prediction
        right: ``[n]``, whether it is right
        n_cells: number of cells

    Returns:
        ``[BINS, n_cells]``
    """
    gap = np.round(confidence.astype(np.float64) * _STEPS) / _STEPS - right
    place = bin_of(confidence) * n_cells + cell
    sums = np.bincount(place, weights=gap, minlength=BINS * n_cells).astype(np.float64, copy=False)
    return sums.reshape(BINS, n_cells)


def calibration_error(gaps: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected calibration error, a fraction.

    Args:
        gaps: ``[BINS, ...]`` from :func:`gap_counts`, or sums of such
        counts: ``[...]``, number of predictions

    Returns:
        ``[...]``; 0 where there is no prediction
    """
    error: NDArray[np.float64] = abs(gaps).sum(axis=0) / np.maximum(counts, 1)
    return error
