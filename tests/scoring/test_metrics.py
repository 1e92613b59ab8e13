"""The metrics agree with scikit-learn, whatever classes are missing."""

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from emofuse.scoring.metrics import confusion_counts, measure, measure_confusion, metric_names, tally

N_CLASSES = 4
predictions = st.lists(st.tuples(st.integers(0, N_CLASSES - 1), st.integers(0, N_CLASSES - 1)), min_size=1, max_size=30)


def reference(true: np.ndarray, predicted: np.ndarray) -> list[float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # balanced accuracy warns of predicted classes that do not occur
        balanced = balanced_accuracy_score(true, predicted)
    by_class, macro, weighted = (
        f1_score(true, predicted, labels=range(N_CLASSES), average=average, zero_division=0)
        for average in (None, "macro", "weighted")
    )
    return [accuracy_score(true, predicted), balanced, weighted, macro, *by_class]


@settings(max_examples=60, deadline=None)
@given(predictions)
def test_metrics_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs).T
    confusion = confusion_counts(np.zeros_like(true), true, predicted, n_cells=1, n_classes=N_CLASSES)[0]
    np.testing.assert_array_equal(confusion, confusion_matrix(true, predicted, labels=range(N_CLASSES)))
    np.testing.assert_allclose(measure_confusion(confusion), reference(true, predicted), atol=1e-12)


@given(st.lists(predictions, min_size=1, max_size=4))
def test_cells_are_counted_apart_and_measured_alike(cells: list[list[tuple[int, int]]]) -> None:
    cell = np.repeat(np.arange(len(cells)), [len(pairs) for pairs in cells])
    true, predicted = np.concatenate(cells).T
    together = confusion_counts(cell, true, predicted, n_cells=len(cells), n_classes=N_CLASSES)
    for index, pairs in enumerate(cells):
        own_true, own_said = np.array(pairs).T
        alone = confusion_counts(np.zeros_like(own_true), own_true, own_said, n_cells=1, n_classes=N_CLASSES)[0]
        np.testing.assert_array_equal(together[index], alone)
        np.testing.assert_allclose(measure_confusion(together)[index], measure_confusion(alone))


def test_leading_axes_of_any_depth() -> None:
    confusion = np.random.default_rng(0).integers(0, 5, (2, 3, N_CLASSES, N_CLASSES))
    assert tally(confusion).shape == (3, N_CLASSES, 2, 3)
    assert measure(tally(confusion)).shape == (4 + N_CLASSES, 2, 3)
    np.testing.assert_allclose(measure_confusion(confusion)[1, 2], measure_confusion(confusion[1, 2]))


def test_tallies_are_linear() -> None:
    confusion = np.random.default_rng(0).integers(0, 5, (6, N_CLASSES, N_CLASSES))
    np.testing.assert_array_equal(tally(confusion).sum(axis=-1), tally(confusion.sum(axis=0)))


def test_nothing_gives_zero() -> None:
    assert not measure_confusion(np.zeros((2, 2))).any()


def test_names_are_in_the_order_of_the_values() -> None:
    assert metric_names(["a", "b"]) == ["accuracy", "balanced_accuracy", "weighted_f1", "macro_f1", "f1/a", "f1/b"]
