"""Intervals and paired tests by resampling dialogues.

The utterances of a dialogue share speakers, topic and, in a model with context, each other's mistakes, so the dialogue
and not the utterance is the unit that is drawn. The functions take the tallies of :mod:`emofuse.scoring.metrics` by run
and dialogue, and a table ``rows`` that says which runs stand for which model: one run may stand several times, as where
a deterministic model meets ten seeds of another.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from emofuse.scoring.calibration import calibration_error
from emofuse.scoring.metrics import measure

__all__ = ["bootstrap", "bootstrap_p", "holm", "percentile_interval", "reflected_interval"]

CHUNK = 1000
"""Resamples that are in memory at once; draws are taken in sequence, so results do not depend on it."""

TIE = 1e-12
"""Differences smaller than this are none but for rounding."""


def bootstrap(
    tallies: NDArray[np.float64],
    gaps: NDArray[np.float64],
    rows: NDArray[np.intp],
    resamples: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Bootstrap the mean score of each model over dialogues and runs.

    Dialogues are drawn with replacement (the cluster bootstrap: Davison and Hinkley 1997, section 3.8) and so are runs,
    so that the spread holds the choice of test dialogues and that of seeds. Of n runs n - 1 are drawn, which gives
    their mean the variance s^2 / n that it has (Rao and Wu 1988); n draws would give a fifth less for five seeds. All
    models see the same draws, which makes their differences paired.

    Args:
        tallies: ``[3, n_classes, n_distinct_runs, n_dialogues]``
        gaps: ``[n_bins, n_distinct_runs, n_dialogues]`` of :func:`~emofuse.scoring.calibration.gap_counts`
        rows: ``[n_models, n_runs]``, indices of distinct runs
        resamples: number of draws
        generator: source of the draws

    Returns:
        ``[n_metrics + 1, n_models, resamples]``, the calibration error last
    """
    n_dialogues, n_runs = tallies.shape[-1], rows.shape[1]
    n_drawn = max(1, n_runs - 1)
    dialogue_draws, run_draws = generator.spawn(2)
    chunks = []
    for size in _chunks(resamples):
        dialogue_counts = dialogue_draws.multinomial(n_dialogues, np.full(n_dialogues, 1 / n_dialogues), size)
        run_weights = run_draws.multinomial(n_drawn, np.full(n_runs, 1 / n_runs), size).T / n_drawn
        weighed = _weigh(tallies, dialogue_counts)
        error = calibration_error(_weigh(gaps, dialogue_counts), weighed[2].sum(axis=0))
        values = np.concatenate([measure(weighed), error[None]])
        chunks.append(np.stack([(values[:, row] * run_weights).sum(axis=1) for row in rows], axis=1))
    return np.concatenate(chunks, axis=-1)


def percentile_interval(
    draws: NDArray[np.float64], confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the central ``confidence`` of the draws ``[..., resamples]`` (Efron and Tibshirani 1993, chapter 13)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=-1)
    return low, high


def reflected_interval(
    estimate: NDArray[np.float64], draws: NDArray[np.float64], confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reflect the interval of the draws ``[..., resamples]`` in the estimate, for a positive one that chance enlarges.

    A calibration error is a sum of absolute values, which grows with noise, and a resample has more noise than the
    sample. The basic bootstrap interval (Davison and Hinkley 1997, section 5.2) takes off what the draws have too much.
    """
    low, high = percentile_interval(draws, confidence)
    return np.maximum(2 * estimate - high, 0), np.maximum(2 * estimate - low, 0)


def bootstrap_p(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Test whether two means are equal, two-sided, by draws ``[..., resamples]`` of their difference.

    p is the level at which the percentile interval of the draws begins to hold zero (Efron and Tibshirani 1993, section
    15.4), so that a test and its interval never disagree. Where the draws hold seeds, so does p: a test that swaps the
    two models' answers alone takes the luck of a few seeds for a difference between models.
    """
    below, above = ((sign * differences <= TIE).sum(axis=-1) for sign in (1, -1))
    p: NDArray[np.float64] = np.minimum(1, 2 * (1 + np.minimum(below, above)) / (1 + differences.shape[-1]))
    return p


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
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


def _weigh(tallies: NDArray[np.float64], weights: NDArray[np.integer]) -> NDArray[np.float64]:
    """Weigh tallies or gaps ``[..., dialogues]`` by ``[n, dialogues]`` and sum: ``[..., n]``.

    All are whole numbers, or of a fixed number of binary digits, so the product is exact and does not depend on the
    order or the threads of the matrix product.
    """
    flat = tallies.reshape(-1, tallies.shape[-1]) @ weights.T.astype(np.float64)
    return flat.reshape(*tallies.shape[:-1], len(weights))
