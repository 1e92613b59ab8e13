"""Counts of right and wrong answers by run and unit, from which every score follows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from emofuse.scoring.calibration import BINS, calibration_error, gap_counts
from emofuse.scoring.metrics import confusion_counts, measure, metric_names, tally
from emofuse.scoring.names import ECE
from emofuse.scoring.predictions import RUN

__all__ = ["Counts", "count", "measured", "names_of", "pool_folds", "values_of"]


@dataclass(frozen=True)
class Counts:
    """What is counted of runs, by unit.

    Attributes:
        runs: model, seed, fold
        tallies: ``[3, n_classes, n_runs, n_units]`` of :func:`~emofuse.scoring.metrics.tally`
        gaps: ``[BINS, n_runs, n_units]``
    """

    runs: pl.DataFrame
    tallies: NDArray[np.float64]
    gaps: NDArray[np.float64]


def count(predictions: pl.DataFrame, trained: pl.DataFrame, n_classes: int) -> Counts:
    """Count the answers of all runs.

    Args:
        predictions: as :func:`~emofuse.scoring.predictions.join_targets` gives them, with a column ``unit``
        trained: the runs, ``model, seed, fold``, in the order of the counts
        n_classes: how many classes there are
    """
    units = predictions["unit"].unique().sort()
    places = predictions.join(trained.with_row_index("run"), on=RUN, how="left").join(
        pl.DataFrame({"unit": units}).with_row_index("place"), on="unit", how="left"
    )
    cell = places["run"].to_numpy().astype(np.int64) * len(units) + places["place"].to_numpy()
    true, predicted = places["target"].to_numpy(), places["predicted"].to_numpy()
    shape = (len(trained), len(units))
    n_cells = len(trained) * len(units)
    confusion = confusion_counts(cell, true, predicted, n_cells=n_cells, n_classes=n_classes)
    gaps = gap_counts(cell, places["confidence"].to_numpy(), predicted == true, n_cells=n_cells)
    return Counts(trained, tally(confusion.reshape(*shape, n_classes, n_classes)), gaps.reshape(BINS, *shape))


def pool_folds(counts: Counts) -> Counts:
    """Sum the counts of a seed's folds, whose utterances are disjoint; the fold of the pooled run is null."""
    seeds = counts.runs.select("model", "seed").unique(maintain_order=True)
    own = counts.runs.join(seeds.with_row_index("place"), on=["model", "seed"], how="left", maintain_order="left")
    places = own["place"].to_numpy()
    tallies, gaps = (_sum_runs(each, places, len(seeds)) for each in (counts.tallies, counts.gaps))
    return Counts(seeds.with_columns(fold=pl.lit(None, pl.Int32)), tallies, gaps)


def _sum_runs(counts: NDArray[np.float64], places: NDArray[np.integer], n_places: int) -> NDArray[np.float64]:
    """Sum ``[..., n_runs, n_units]`` over the runs of each place: ``[..., n_places, n_units]``."""
    by_run = np.moveaxis(counts, -2, 0)
    sums = np.zeros((n_places, *by_run.shape[1:]))
    np.add.at(sums, places, by_run)
    return np.moveaxis(sums, 0, -2)


def names_of(classes: Sequence[str]) -> list[str]:
    """Names of the metrics of :func:`measured`, in its order."""
    return [*metric_names(classes), ECE]


def measured(counts: Counts) -> NDArray[np.float64]:
    """Every metric of every run, ``[n_metrics, n_runs]``."""
    tallies = counts.tallies.sum(axis=-1)
    error = calibration_error(counts.gaps.sum(axis=-1), tallies[2].sum(axis=0))
    return np.concatenate([measure(tallies), error[None]])


def values_of(counts: Counts, classes: Sequence[str]) -> pl.DataFrame:
    """Every metric of every run: model, seed, fold, metric, value."""
    names, values = [names_of(classes)] * len(counts.runs), measured(counts).T.tolist()
    wide = counts.runs.with_columns(metric=pl.Series(names), value=pl.Series(values))
    return wide.explode("metric", "value")
