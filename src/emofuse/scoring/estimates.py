"""Scores of models with what varies: intervals of means, and comparisons of every two models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from emofuse.core.params import STRICT
from emofuse.models.registry import in_order
from emofuse.scoring.counts import Counts, measured, names_of
from emofuse.scoring.intervals import bootstrap, holm, influences, interval, p_value, reflected_interval, spread
from emofuse.scoring.metrics import metric_names
from emofuse.scoring.predictions import ScoringError

__all__ = ["PAIRS", "Estimates", "ScoringConfig", "compared", "estimate", "with_intervals"]

PAIRS = {
    **dict.fromkeys(("model_a", "model_b", "metric"), pl.String()),
    **dict.fromkeys(("difference", "low", "high", "p", "p_adjusted"), pl.Float64()),
}
"""Columns of the table of pairs."""


@checked_dataclass(frozen=True, config=STRICT)
class ScoringConfig:
    """Settings of intervals and tests."""

    resamples: int = Field(default=10_000, ge=1)
    """Number of bootstrap resamples for the calibration error; other intervals are not resampled."""

    confidence_level: float = Field(default=0.95, gt=0, lt=1)
    """Confidence level of all intervals."""

    seed: int = Field(default=0, ge=0)
    """Seed of the resampling; all models share the same draws."""


@dataclass(frozen=True)
class Estimates:
    """Scores of models, and how they vary; metrics in the order of :func:`names_of`, the calibration error last.

    Attributes:
        models: names in the order of tables
        values: ``[n_metrics, n_models, n_repetitions]``
        influences: of the units on these, ``[n_metrics - 1, n_models, n_repetitions, n_units]``; none on the last one
        error_draws: of the mean calibration error, ``[n_models, resamples]``
    """

    models: list[str]
    values: NDArray[np.float64]
    influences: NDArray[np.float64]
    error_draws: NDArray[np.float64]


def estimate(counts: Counts, config: ScoringConfig) -> Estimates:
    """Score the models, repetition by repetition, and say what each unit does to their scores."""
    models = in_order(counts.runs["model"].to_list())
    rows = _line_up(counts.runs, models)
    moved = influences(counts.tallies)[:, rows].mean(axis=3)
    generator = np.random.default_rng(config.seed)
    draws = bootstrap(counts.gaps, counts.tallies[2].sum(axis=0), rows, config.resamples, generator)
    return Estimates(models, measured(counts)[:, rows].mean(axis=3), moved, draws)


def with_intervals(
    summary: pl.DataFrame, estimates: Estimates, classes: Sequence[str], config: ScoringConfig
) -> pl.DataFrame:
    """The table ``models``: the summary, and the intervals of its means."""
    ends = interval(spread(estimates.values[:-1], estimates.influences), config.confidence_level, 0)
    error = reflected_interval(estimates.values[-1].mean(axis=-1), estimates.error_draws, config.confidence_level)
    low, high = (np.concatenate([own, of_error[None]]) for own, of_error in zip(ends, error, strict=True))
    intervals = _table({"model": estimates.models}, names_of(classes), {"low": low, "high": high})
    joined = summary.join(intervals, on=["model", "metric"], how="left", maintain_order="left")
    return joined.select("model", "metric", "mean", "sd", "low", "high", "n_runs")


def compared(estimates: Estimates, classes: Sequence[str], config: ScoringConfig) -> pl.DataFrame:
    """The table of pairs."""
    models = estimates.models
    a, b = np.tril_indices(len(models), -1)
    if not len(a):
        return pl.DataFrame(schema=PAIRS)
    values, moved = estimates.values[:-1], estimates.influences
    # One at a time: each is megabytes.
    apart = (spread(values[:, i] - values[:, j], moved[:, i] - moved[:, j]) for i, j in zip(a, b, strict=True))
    rows = [(each.mean, *interval(each, config.confidence_level, -1), p_value(each)) for each in apart]
    difference, low, high, p = np.stack(rows, axis=-1)
    keys = {"model_a": [models[i] for i in a], "model_b": [models[i] for i in b]}
    columns = {"difference": difference, "low": low, "high": high, "p": p, "p_adjusted": holm(p)}
    return _table(keys, metric_names(classes), columns)


def _table(keys: dict[str, list[str]], metrics: list[str], columns: dict[str, NDArray[np.float64]]) -> pl.DataFrame:
    """A row for each key and metric from columns ``[n_metrics, n_keys]``."""
    table = pl.DataFrame(keys).join(pl.DataFrame({"metric": metrics}), how="cross", maintain_order="left_right")
    return table.with_columns(pl.Series(name, values.T.ravel()) for name, values in columns.items())


def _line_up(runs: pl.DataFrame, models: list[str]) -> NDArray[np.intp]:
    """Which runs stand for each model in each repetition, ``[n_models, n_repetitions, n_within]``.

    The repetitions are the seeds. Where several folds test the same utterances they are the folds, and the seeds are
    within: runs of one fold have learned from the same dialogues, so that more seeds are no more repetitions. A model
    with one seed, such as one that draws nothing at random, stands beside every seed of the others; likewise one with a
    single run beside every fold.
    """
    own = {model: runs.with_row_index("row").filter(pl.col("model") == model).sort("seed", "fold") for model in models}
    seeds = max((sorted(set(table["seed"])) for table in own.values()), key=len)
    n_folds = runs["fold"].n_unique()
    rows = []
    for model, table in own.items():
        has = sorted(set(table["seed"]))
        if len(has) > 1 and has != seeds:
            raise ScoringError(f"model {model!r} has seeds {has}; expected {seeds}, or a single one")
        grid = table["row"].to_numpy().reshape(len(has), -1)
        rows.append(np.broadcast_to(grid, (len(seeds), n_folds)))
    lined_up = np.stack(rows).astype(np.intp)
    return lined_up.swapaxes(1, 2) if n_folds > 1 else lined_up
