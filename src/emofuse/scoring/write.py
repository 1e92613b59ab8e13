"""Scores as files for programs: ``scores.csv`` and ``scores.json``, and what else a task's folders have."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from emofuse.core.files import write_json, write_table, write_text
from emofuse.models.registry import in_order
from emofuse.scoring.names import DECIMALS, DEV, METRIC
from emofuse.scoring.scores import Scores

__all__ = ["learning_curves", "scores_json", "scores_on_dev", "write_csv", "write_runs", "write_scores"]

_CURVES_SCHEMA = {
    "model": pl.String,
    "seed": pl.Int64,
    "fold": pl.Int64,
    "epoch": pl.Int64,
    "loss": pl.Float64,
    "dev_weighted_f1": pl.Float64,
}


def scores_on_dev(records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return the scores on dev, ``model, metric, mean, sd, low, high, n_runs``, the metrics as ``dev/<metric>``.

    Mean and sample standard deviation are over runs; there is no interval, since dev chose the epochs.

    Args:
        records: the ``record.json`` of all runs
    """
    rows = [(each["model"], f"{DEV}{name}", value) for each in records for name, value in each["dev"].items()]
    table = pl.DataFrame(rows, schema={"model": pl.String, "metric": pl.String, "value": pl.Float64}, orient="row")
    value, nothing = pl.col("value"), pl.lit(None, pl.Float64)
    summary = table.group_by("model", "metric", maintain_order=True).agg(
        mean=value.mean().round(DECIMALS),
        sd=value.std().round(DECIMALS),
        low=nothing.first(),
        high=nothing.first(),
        n_runs=value.len().cast(pl.Int64),
    )
    order = pl.Enum(in_order(summary["model"].to_list()))
    return summary.sort(pl.col("model").cast(order), maintain_order=True)


def write_scores(folder: Path, scores: Scores, dev: pl.DataFrame, protocol: Mapping[str, Any], table: str) -> None:
    """Write ``scores``, ``pairs``, ``confusion``, ``calibration`` as CSV, ``scores.json``, ``dev.json``, ``table.md``.

    Args:
        folder: where to, such as ``metrics/<task>/<pair>``
        scores: what :func:`emofuse.scoring.scores.score` gave
        dev: what :func:`scores_on_dev` gave
        protocol: what the numbers rest on (task, split, context …), JSON-able; passed on as it is
        table: the text of ``table.md``
    """
    write_csv(folder / "scores.csv", pl.concat([scores.models, dev]))
    write_csv(folder / "pairs.csv", scores.pairs)
    write_csv(folder / "confusion.csv", scores.confusion)
    write_csv(folder / "calibration.csv", scores.calibration)
    write_json(folder / "scores.json", scores_json(scores, dev, protocol))
    write_json(folder / "dev.json", _for_experiments(dev))
    write_text(folder / "table.md", table)


def write_runs(folder: Path, scores: Scores) -> None:
    """Write ``runs.parquet``, the test scores of every run."""
    write_table(folder / "runs.parquet", scores.runs.to_arrow(compat_level=pl.CompatLevel.oldest()))


def write_csv(path: Path, table: pl.DataFrame) -> None:
    """Write a table as CSV, atomically; null is an empty field."""
    write_text(path, table.write_csv())


def scores_json(scores: Scores, dev: pl.DataFrame, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Scores and protocol as one JSON-able value; scores by model and metric, those on dev under ``dev/<metric>``."""
    by_model: dict[str, dict[str, dict[str, Any]]] = {}
    for row in [*scores.models.to_dicts(), *dev.to_dicts()]:
        by_model.setdefault(row.pop("model"), {})[row.pop("metric")] = row
    return {
        "protocol": dict(protocol),
        "test": {
            "classes": list(scores.classes),
            "n_utterances": scores.n_utterances,
            "n_dialogues": scores.n_dialogues,
            "folds_pooled": scores.pooled,
            "unit": scores.unit,
            "n_units": scores.n_units,
        },
        "intervals": {
            "confidence_level": scores.config.confidence_level,
            "resamples": scores.config.resamples,
            "seed": scores.config.seed,
        },
        "scores": by_model,
        "pairs": scores.pairs.to_dicts(),
        "ensemble_pairs": scores.ensemble_pairs.to_dicts(),
    }


def _for_experiments(dev: pl.DataFrame) -> dict[str, dict[str, float]]:
    """What experiments are compared by, a column each in ``dvc exp show``; the names with dots would be paths there."""
    rows = dev.filter(pl.col("metric").is_in([f"{DEV}{METRIC}", f"{DEV}accuracy"]))
    result: dict[str, dict[str, float]] = {}
    for row in rows.to_dicts():
        result.setdefault(row["model"], {})[row["metric"]] = row["mean"]
    return result


def learning_curves(records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The training histories of run records, for ``dvc plots``: model, seed, fold, epoch, loss, dev_weighted_f1.

    Args:
        records: the ``record.json`` of runs; nothing appears of runs whose ``history`` is empty
    """
    place = {model: rank for rank, model in enumerate(in_order([record["model"] for record in records]))}
    ordered = sorted(records, key=lambda record: (place[record["model"]], record["seed"], record["fold"]))
    rows = [
        (record["model"], record["seed"], record["fold"], epoch["epoch"], epoch["loss"], epoch["dev_weighted_f1"])
        for record in ordered
        for epoch in record["history"]
    ]
    table = pl.DataFrame(rows, schema=_CURVES_SCHEMA, orient="row")
    return table.with_columns(pl.col("loss", "dev_weighted_f1").round(DECIMALS))
