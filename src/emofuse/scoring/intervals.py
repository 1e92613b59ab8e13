"""Intervals and paired tests of means over runs, from what leaving out a dialogue does and from how far runs differ.

The utterances of a dialogue share speakers, topic and, in a model with context, each other's mistakes, so the dialogue
and not the utterance is the unit that is left out or drawn; where every utterance stands alone it is the speaker. A
score varies with the units that test happens to hold and with the repetitions: the seeds, or the folds where several
folds test the same utterances. These are crossed, as readers and cases are in radiology, and are taken apart likewise
(Obuchowski and Rockette 1995; Hillis 2007). With v_r the score of repetition r of n, or the difference of two models
there, and Cov the covariance that two repetitions have from sharing the units, the variance of the mean is::

    var_r(v_r) / n  +  max(Cov, 0)

The first has n - 1 degrees of freedom, the second one fewer than there are units. The functions take the tallies of
:mod:`emofuse.scoring.metrics` by run and unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from emofuse.scoring.calibration import calibration_error
from emofuse.scoring.metrics import measure

__all__ = [
    "SMALLEST_P",
    "Spread",
    "bootstrap",
    "holm",
    "influences",
    "interval",
    "p_value",
    "reflected_interval",
    "spread",
]

Floats = NDArray[np.float64]

CHUNK = 1000
"""Resamples that are in memory at once; draws are taken in sequence, so results do not depend on it."""

TIE = 1e-12
"""Differences smaller than this are none but for rounding."""

SMALLEST_P = 1e-6
"""No p is reported below this: so far out nothing says that a t distribution still fits."""

_HALVINGS = 50
"""Of the bracket of log p, which they narrow to less than a float's last digit."""


@dataclass(frozen=True)
class Spread:
    """A mean over repetitions, and the variance that it has from each of two sources.

    Attributes:
        mean: ``[...]``
        of_repetitions: ``[...]`` variance from the choice of repetitions; 0 for a single one, of which nothing is known
        of_units: ``[...]`` variance from the choice of units; infinite for a single one
        n_repetitions: how many there are
        n_units: likewise
    """

    mean: Floats
    of_repetitions: Floats
    of_units: Floats
    n_repetitions: int
    n_units: int


def influences(tallies: Floats) -> Floats:
    """What each unit does to each score, scaled so that the squares of a run's add up to the variance of its score.

    They are those of the delete-one jackknife (Efron and Stein 1981): the score without the unit, less the mean of
    these, times the root of (n - 1) / n for n units.

    Args:
        tallies: ``[3, n_classes, n_runs, n_units]``

    Returns:
        ``[n_metrics, n_runs, n_units]``
    """
    n_units = tallies.shape[-1]
    without = measure(tallies.sum(axis=-1, keepdims=True) - tallies)
    result: Floats = np.sqrt((n_units - 1) / n_units) * (without - without.mean(axis=-1, keepdims=True))
    return result


def spread(values: Floats, influences: Floats) -> Spread:
    """Take the variance of a mean over repetitions apart.

    Args:
        values: ``[..., n_repetitions]``, scores of a model, or differences of two
        influences: ``[..., n_repetitions, n_units]`` of these
    """
    n_repetitions, n_units = influences.shape[-2:]
    shared = np.square(influences.mean(axis=-2)).sum(axis=-1)
    of_repetitions = np.zeros_like(shared)
    if n_repetitions > 1:
        of_repetitions = values.var(axis=-1, ddof=1) / n_repetitions
        own = np.square(influences).sum(axis=-1).mean(axis=-1)
        # What the units do to one repetition alone is in the variance of the repetitions already.
        shared = np.maximum((n_repetitions * shared - own) / (n_repetitions - 1), 0)
    of_units = shared if n_units > 1 else np.full_like(shared, np.inf)
    return Spread(values.mean(axis=-1), of_repetitions, of_units, n_repetitions, n_units)


def interval(spread: Spread, confidence_level: float, lowest: float) -> tuple[Floats, Floats]:
    """Ends of the interval that holds the expected mean with a probability of ``confidence_level``, or somewhat more.

    Each source's variance is multiplied by the square of its own t quantile, and the sum is the squared half width
    (Banerjee 1961, who shows that it never covers too seldom where the sources are independent and normal). Degrees of
    freedom after Satterthwaite cover too seldom with two or three seeds: ``benchmarks/levels.md`` compares.

    Args:
        spread: a mean and its variances
        confidence_level: between 0 and 1
        lowest: the least that the mean can be, 0 of a score and -1 of a difference; the most is 1
    """
    half = np.sqrt(_squared_half_width(spread, np.asarray(1 - confidence_level)))
    return np.maximum(spread.mean - half, lowest), np.minimum(spread.mean + half, 1)


def p_value(spread: Spread) -> Floats:
    """Test whether a mean is zero, two-sided: the level at which its interval begins to hold zero.

    So a test and its interval never disagree. At least :data:`SMALLEST_P`; 1 for what is zero but for rounding.
    """
    squared = np.square(spread.mean)
    low, high = np.full_like(squared, np.log(SMALLEST_P)), np.zeros_like(squared)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        holds_zero = _squared_half_width(spread, np.exp(middle)) >= squared
        low, high = np.where(holds_zero, middle, low), np.where(holds_zero, high, middle)
    return np.where(abs(spread.mean) <= TIE, 1.0, np.exp(high))


def _squared_half_width(spread: Spread, level: Floats) -> Floats:
    """Of the interval that misses with a probability of ``level``, ``[...]``."""
    total = np.zeros_like(spread.mean)
    for variance, count in ((spread.of_repetitions, spread.n_repetitions), (spread.of_units, spread.n_units)):
        if count > 1:
            total = total + variance * np.square(stdtrit(count - 1, level / 2))
    return total if spread.n_units > 1 else np.full_like(total, np.inf)


def bootstrap(
    gaps: Floats, n_predictions: Floats, rows: NDArray[np.intp], resamples: int, generator: np.random.Generator
) -> Floats:
    """Bootstrap the mean calibration error of each model over units and repetitions.

    Units are drawn with replacement (the cluster bootstrap: Davison and Hinkley 1997, section 3.8) and so are
    repetitions. Of n repetitions n - 1 are drawn, which gives their mean the variance s^2 / n that it has (Rao and Wu
    1988); n draws would give a fifth less for five seeds. All models see the same draws.

    Args:
        gaps: ``[n_bins, n_runs, n_units]`` of :func:`~emofuse.scoring.calibration.gap_counts`
        n_predictions: ``[n_runs, n_units]``
        rows: ``[n_models, n_repetitions, n_within]``, the runs of each repetition, which are averaged
        resamples: number of draws
        generator: source of the draws

    Returns:
        ``[n_models, resamples]``
    """
    n_units, n_repetitions = n_predictions.shape[-1], rows.shape[1]
    n_drawn = max(1, n_repetitions - 1)
    unit_draws, repetition_draws = generator.spawn(2)
    chunks = []
    for size in _chunks(resamples):
        unit_counts = unit_draws.multinomial(n_units, np.full(n_units, 1 / n_units), size)
        weights = repetition_draws.multinomial(n_drawn, np.full(n_repetitions, 1 / n_repetitions), size).T / n_drawn
        errors = calibration_error(_weigh(gaps, unit_counts), _weigh(n_predictions, unit_counts))
        chunks.append(np.stack([(errors[row].mean(axis=1) * weights).sum(axis=0) for row in rows]))
    return np.concatenate(chunks, axis=-1)


def reflected_interval(estimate: Floats, draws: Floats, confidence_level: float) -> tuple[Floats, Floats]:
    """Reflect the interval of the draws ``[..., resamples]`` in the estimate, for a positive one that chance enlarges.

    A calibration error is a sum of absolute values, which grows with noise, and a resample has more noise than the
    sample. The basic bootstrap interval (Davison and Hinkley 1997, section 5.2) takes off what the draws have too much.
    """
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=-1)
    return np.maximum(2 * estimate - high, 0), np.maximum(2 * estimate - low, 0)


def holm(p: Floats) -> Floats:
    """Adjust p-values ``[..., n_tests]`` for the number of tests along the last axis (Holm 1979).

    Holm bounds the chance of even one false claim, whatever the dependence between the tests. The false discovery rate
    would be the wrong promise here: each pair is read as a claim of its own, and pairs share models, so that their
    tests depend on each other in both directions, for which the procedure of Benjamini and Hochberg gives no guarantee.
    """
    n_tests = p.shape[-1]
    order = np.argsort(p, axis=-1)
    scaled = np.take_along_axis(p, order, axis=-1) * np.arange(n_tests, 0, -1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(scaled, axis=-1), 1), axis=-1)
    return adjusted


def _chunks(total: int) -> Iterator[int]:
    for start in range(0, total, CHUNK):
        yield min(CHUNK, total - start)


def _weigh(counts: Floats, weights: NDArray[np.integer]) -> Floats:
    """Weigh gaps or numbers of predictions ``[..., n_units]`` by ``[n, n_units]`` and sum: ``[..., n]``.

    All are whole numbers, or of a fixed number of binary digits, so the product is exact and does not depend on the
    order or the threads of the matrix product.
    """
    flat = counts.reshape(-1, counts.shape[-1]) @ weights.T.astype(np.float64)
    return flat.reshape(*counts.shape[:-1], len(weights))
