"""Tables of what was counted: means over runs, confusions, and bins of confidence."""

from collections.abc import Sequence

import polars as pl

from emofuse.models.registry import in_order
from emofuse.scoring.calibration import BINS, bin_of
from emofuse.scoring.metrics import SUMMARY
from emofuse.scoring.names import DECIMALS, ECE, FOLD_MEAN

__all__ = ["calibration_table", "confusion_table", "fold_means", "in_table_order", "over_runs", "rounded"]

_CONFUSED = ("true", "predicted")
"""Columns with the name of a class."""


def over_runs(values: pl.DataFrame) -> pl.DataFrame:
    """Mean, sample standard deviation and number of the runs of each model, by metric."""
    value = pl.col("value")
    return values.group_by("model", "metric", maintain_order=True).agg(
        mean=value.mean(), sd=value.std(), n_runs=value.len().cast(pl.Int64)
    )


def fold_means(values: pl.DataFrame) -> pl.DataFrame:
    """Summary of the mean over folds of each seed's scores, as metrics with a prefix."""
    named = values.filter(pl.col("metric").is_in([*SUMMARY, ECE])).with_columns(metric=FOLD_MEAN + pl.col("metric"))
    return over_runs(named.group_by("model", "seed", "metric", maintain_order=True).agg(pl.col("value").mean()))


def confusion_table(predictions: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """The table ``confusion``, with the confusions that never happened."""
    true, predicted = (pl.DataFrame({name: range(len(classes))}) for name in _CONFUSED)
    keys = ["model", "utterances"]
    cells = predictions.select(keys).unique().sort("utterances").join(true, how="cross").join(predicted, how="cross")
    counts = predictions.rename({"target": "true"}).group_by(*keys, *_CONFUSED).agg(count=pl.len().cast(pl.Int64))
    table = cells.join(counts, on=[*keys, *_CONFUSED], how="left", maintain_order="left")
    names = pl.col(*_CONFUSED).replace_strict(dict(enumerate(classes)), return_dtype=pl.String)
    return in_table_order(table.select(*keys, names, pl.col("count").fill_null(0)))


def calibration_table(predictions: pl.DataFrame) -> pl.DataFrame:
    """The table ``calibration``."""
    bins = pl.Series(bin_of(predictions["confidence"].to_numpy()))
    keys = ["model", "utterances", "bin"]
    rows = predictions.with_columns(bin=bins).select(*keys, "confidence", right=pl.col("predicted") == pl.col("target"))
    # Sorted, because a sum of floats depends on its order.
    table = rows.sort(*keys, "confidence", "right").group_by(keys, maintain_order=True)
    means = table.agg(
        count=pl.len().cast(pl.Int64),
        confidence=pl.col("confidence").cast(pl.Float64).mean(),
        accuracy=pl.col("right").mean(),
    )
    ends = means.with_columns(low=pl.col("bin") / BINS, high=(pl.col("bin") + 1) / BINS)
    columns = [*keys[:2], "low", "high", "count", "confidence", "accuracy"]
    return rounded(in_table_order(ends.select(columns)))


def in_table_order(table: pl.DataFrame) -> pl.DataFrame:
    """Sort by model, then by seed and fold where there are such columns (null last), keeping the order of the rest."""
    order = pl.Enum(in_order(table["model"].to_list()))
    by = [pl.col("model").cast(order), *(pl.col(name) for name in ("seed", "fold") if name in table.columns)]
    return table.sort(by, nulls_last=True, maintain_order=True)


def rounded(table: pl.DataFrame) -> pl.DataFrame:
    """Round all floats to :data:`~emofuse.scoring.names.DECIMALS`."""
    # Adding zero turns -0.0 into 0.0.
    return table.with_columns(pl.selectors.float().round(DECIMALS) + 0.0)
