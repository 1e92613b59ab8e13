"""Accuracy and F1 from confusion matrices, many at once; and likelihood.

Metrics of confusions need three numbers a class: how often it was hit, predicted and true. These *tallies* are linear
in the counts, so summing and resampling are done on them and not on whole matrices. Arrays of tallies and of values put
classes and metrics first and the many cases last, because numpy reduces over a leading axis several times faster
than over a short last one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SMALLEST",
    "SUMMARY",
    "confusion_counts",
    "measure",
    "measure_confusion",
    "metric_names",
    "negative_log_likelihood",
    "tally",
]

SUMMARY = ("accuracy", "balanced_accuracy", "weighted_f1", "macro_f1")
"""The metrics over all classes, in the order of every table and array; the F1 of each class follows."""

SMALLEST = 1e-12
"""A probability counts as this at least, so that one that was rounded to zero leaves a likelihood."""


def metric_names(classes: Sequence[str]) -> list[str]:
    """Names of the values that :func:`measure` gives, in its order: :data:`SUMMARY`, then ``f1/<class>``."""
    return [*SUMMARY, *(f"f1/{name}" for name in classes)]


def confusion_counts(
    cell: NDArray[np.integer],
    true: NDArray[np.integer],
    predicted: NDArray[np.integer],
    *,
    n_cells: int,
    n_classes: int,
) -> NDArray[np.float64]:
    """Count confusions separately in each of several cells, such as the dialogues of each run.

    Args:
        cell: ``[n]``, the cell that a prediction belongs to, below ``n_cells``
        true: ``[n]``, index of the true class
        predicted: ``[n]``, index of the predicted class
        n_cells: number of cells
        n_classes: number of classes

    Returns:
        ``[n_cells, n_classes, n_classes]``, rows true; whole numbers, as floats for the matrix products to come
    """
    place = (cell.astype(np.int64) * n_classes + true) * n_classes + predicted
    counts = np.bincount(place, minlength=n_cells * n_classes**2)
    return counts.reshape(n_cells, n_classes, n_classes).astype(np.float64)


def tally(confusion: NDArray[np.number]) -> NDArray[np.float64]:
    """Reduce confusions ``[..., n_classes, n_classes]`` to hits, predicted, true: ``[3, n_classes, ...]``."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    tallies = np.stack([hits, confusion.sum(axis=-2), confusion.sum(axis=-1)])
    return np.ascontiguousarray(np.moveaxis(tallies, -1, 1), dtype=np.float64)


def measure(tallies: NDArray[np.float64] | Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """All metrics of every tally.

    With h hits, p times predicted and t times true: recall is h / t, and F1 is 2h / (p + t), the harmonic mean of
    recall and precision. What is 0 / 0 counts as 0 (scikit-learn's ``zero_division=0``). Balanced accuracy is the mean
    recall of the classes that occur; macro F1 is the mean over all classes of the task, weighted F1 the mean
    weighted by t.

    Args:
        tallies: ``[3, n_classes, ...]`` from :func:`tally`, or sums of such; or the three one by one, of shapes that
            broadcast to that of the hits

    Returns:
        ``[4 + n_classes, ...]``, fractions, in the order of :func:`metric_names`
    """
    hits, predicted, true = tallies
    # Counts are whole: where a denominator is 0 so is its numerator, and a denominator of 1 gives the 0 that is wanted.
    f1 = 2 * hits / np.maximum(predicted + true, 1)
    total = np.maximum(true.sum(axis=0), 1)
    values = np.empty((len(SUMMARY) + len(f1), *f1.shape[1:]))
    values[0] = hits.sum(axis=0) / total
    values[1] = (hits / np.maximum(true, 1)).sum(axis=0) / np.maximum((true > 0).sum(axis=0), 1)
    values[2] = (f1 * true).sum(axis=0) / total
    values[3] = f1.mean(axis=0)
    values[4:] = f1
    return values


def measure_confusion(confusion: NDArray[np.number]) -> NDArray[np.float64]:
    """All metrics of confusion matrices ``[..., n_classes, n_classes]`` (rows true) as ``[..., 4 + n_classes]``."""
    return np.moveaxis(measure(tally(confusion)), 0, -1)


def negative_log_likelihood(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """Mean of -log p of the true class, in nats.

    Args:
        probabilities: ``[n, n_classes]``
        targets: ``[n]``, indices of the true classes
    """
    of_true = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(of_true, SMALLEST)).mean())
