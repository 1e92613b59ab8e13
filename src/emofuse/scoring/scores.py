"""Scores, intervals and paired comparisons of all models of a task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from emofuse.scoring.counts import Counts, count, pool_folds, values_of
from emofuse.scoring.estimates import ScoringConfig, compared, estimate, with_intervals
from emofuse.scoring.metrics import SUMMARY
from emofuse.scoring.names import ALL, BEST_ON_TEST, ECE, FOLD_MEAN, METRIC, NONZERO, SUFFIXES
from emofuse.scoring.predictions import (
    RUN,
    ScoringError,
    Unit,
    folds_are_pooled,
    join_targets,
    scored_utterances,
    unit_of,
)
from emofuse.scoring.summaries import calibration_table, confusion_table, fold_means, in_table_order, over_runs, rounded
from emofuse.scoring.temperature import temperatures, tempered

__all__ = ["Scores", "score"]

_ERRORS = [f"{prefix}{ECE}{suffix}" for prefix in ("", FOLD_MEAN) for suffix in SUFFIXES.values()]
"""Metrics that a model has none of which only names classes, and so never says how sure it is."""

_OF_MODELS = ("models", "runs", "confusion", "calibration", "temperatures", "tempered")
"""Tables of :class:`Scores` with rows for each model."""


@dataclass(frozen=True)
class Scores:
    """All that the test set says about the models of a task; floats are rounded fractions.

    Attributes:
        classes: class names, in the order of the targets
        config: the settings of intervals and tests
        pooled: whether folds test different utterances, so that a seed's predictions are pooled over folds into one
            run; otherwise every seed and fold is a run
        unit: what intervals and tests take to be drawn at random
        n_units: how many of these the test set has
        n_utterances: labelled test utterances, of all folds together
        n_dialogues: dialogues that these belong to
        models: ``model, metric, mean, sd, low, high, n_runs``; mean and sample standard deviation over runs (null for
            one run), interval of the mean. Where folds are pooled, rows ``fold_mean/<metric>`` give the mean
            over folds of each fold's own score, by seed, then mean and standard deviation over seeds; they have no
            interval. Rows ``best_on_test_epoch/<metric>``, where epochs were kept, have none either.
        pairs: ``model_a, model_b, metric, difference, low, high, p, p_adjusted`` of every two models; difference = a -
            b, where a comes later in the order of tables; ``p_adjusted`` after Holm over all pairs of a metric. The
            calibration error is not among the metrics: how far chance enlarges it depends on how sure a model is, so
            that a difference of two need not be one of calibration
        ensemble_pairs: the same columns, of the ensembles and the models of a single seed, adjusted among themselves;
            :data:`emofuse.scoring.ensembles.COMPARED` says why they stand apart
        runs: ``model, seed, fold, metric, value`` of every trained run, and of every seed's pooled run with fold null
        confusion: ``model, utterances, true, predicted, count``, summed over runs; ``utterances`` is ``all``,
            or ``nonzero`` where there are such metrics
        calibration: ``model, utterances, low, high, count, confidence, accuracy`` of each bin of confidence that has
            answers: its ends, the predictions of all runs, their mean confidence, and the share that is right
        temperatures: ``model, seed, fold, temperature``, chosen on dev, of every run that predicts dev
        tempered: the columns of ``models``, of the calibration error with these temperatures; no other table knows them

    A model that only names classes is never unsure: it has no calibration error, bins or temperature.
    """

    classes: tuple[str, ...]
    config: ScoringConfig
    pooled: bool
    unit: Unit
    n_units: int
    n_utterances: int
    n_dialogues: int
    models: pl.DataFrame
    pairs: pl.DataFrame
    ensemble_pairs: pl.DataFrame
    runs: pl.DataFrame
    confusion: pl.DataFrame
    calibration: pl.DataFrame
    temperatures: pl.DataFrame
    tempered: pl.DataFrame


def score(
    runs: pl.DataFrame,
    truth: pl.DataFrame,
    classes: Sequence[str],
    config: ScoringConfig,
    epochs: pl.DataFrame | None = None,
    ensembles: pl.DataFrame | None = None,
) -> Scores:
    """Score all models of a task on test, with intervals and paired comparisons.

    Args:
        runs: rows of :data:`emofuse.core.schema.PREDICTIONS` of all models, in any order; those of test are scored
        truth: ``fold, split, utterance_id, dialogue_id, target`` (an index of ``classes``), labelled utterances only;
            with a column ``sentiment``, every metric is also given without the utterances where that is zero, as
            ``<metric>/nonzero``; with a column ``speaker``, see :func:`~emofuse.scoring.predictions.unit_of`; those of
            dev are what temperatures are chosen by, of the runs that predict dev
        classes: class names in the order of the probabilities and targets
        config: settings of intervals and tests
        epochs: predictions for test after each epoch, with a column ``epoch``, of the runs that kept it; gives
            rows ``best_on_test_epoch/<metric>``, without intervals
        ensembles: rows of :func:`~emofuse.scoring.ensembles.of_seeds`; they become models of the same tables, which are
            compared apart

    Raises:
        ScoringError: predictions and targets do not fit (see :func:`~emofuse.scoring.predictions.join_targets`), folds
            overlap in part, a model lacks a fold, or two models with several seeds have different ones
    """
    test = scored_utterances(truth, classes)
    unit = unit_of(test)
    test = test.with_columns(unit=pl.col("speaker" if unit == "speaker" else "dialogue_id"))
    pooled = folds_are_pooled(test)
    predictions = join_targets(runs, test, classes)
    trained = in_table_order(predictions.select(RUN).unique())
    _check_folds(trained, test["fold"].unique().sort().to_list(), pooled)
    judged = []
    for part, own in _parts(predictions):
        tables = _judge(count(own, trained, len(classes)), classes, pooled, config)
        judged.append([_named(table, part) for table in tables])
    models, pairs, values = (rounded(pl.concat(tables)) for tables in zip(*judged, strict=True))
    counted = pl.concat([own.with_columns(utterances=pl.lit(part)) for part, own in _parts(predictions)])
    sure = predictions.group_by("model").agg(pl.col("confidence").min() < 1).filter("confidence")["model"].implode()
    chosen = temperatures(runs.filter(pl.col("model").is_in(sure)), truth)
    errors = _tempered_errors(runs, chosen, test, classes, pooled, config) if len(chosen) else models.clear()
    if epochs is not None:
        models = pl.concat([models, rounded(_best_on_test(epochs, test, classes))])
    kept = pl.col("model").is_in(sure) | ~pl.col("metric").is_in(_ERRORS)
    alone = Scores(
        classes=tuple(classes),
        config=config,
        pooled=pooled,
        unit=unit,
        n_units=test["unit"].n_unique(),
        n_utterances=test["utterance_id"].n_unique(),
        n_dialogues=test["dialogue_id"].n_unique(),
        models=in_table_order(models.filter(kept)),
        pairs=pairs,
        ensemble_pairs=pairs.clear(),
        runs=in_table_order(values.filter(kept)),
        confusion=confusion_table(counted, classes),
        calibration=calibration_table(counted.filter(pl.col("model").is_in(sure))),
        temperatures=rounded(in_table_order(chosen)),
        tempered=rounded(errors),
    )
    return alone if ensembles is None else _with_ensembles(alone, runs, truth, ensembles)


def _with_ensembles(scores: Scores, runs: pl.DataFrame, truth: pl.DataFrame, ensembles: pl.DataFrame) -> Scores:
    """Add the rows of ensembles, which are scored beside the models of a single seed."""
    single = runs.group_by("model").agg(pl.col("seed").n_unique()).filter(pl.col("seed") == 1)["model"].implode()
    beside = pl.concat([runs.filter(pl.col("model").is_in(single)).select(ensembles.columns), ensembles])
    other = score(beside, truth, scores.classes, scores.config)
    names = ensembles["model"].unique().implode()
    of_ensembles = pl.col("model").is_in(names)
    joined: dict[str, Any] = {
        name: in_table_order(pl.concat([getattr(scores, name), getattr(other, name).filter(of_ensembles)]))
        for name in _OF_MODELS
    }
    compared = other.pairs.filter(pl.col("model_a").is_in(names) | pl.col("model_b").is_in(names))
    return replace(scores, ensemble_pairs=compared, **joined)


def _parts(predictions: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """All predictions, and those without the zeros where the truth has the sentiment."""
    whole = (ALL, predictions)
    if "sentiment" not in predictions.columns:
        return [whole]
    return [whole, (NONZERO, predictions.filter(pl.col("sentiment") != 0))]


def _named(table: pl.DataFrame, part: str) -> pl.DataFrame:
    return table.with_columns(metric=pl.col("metric") + SUFFIXES[part])


def _check_folds(trained: pl.DataFrame, folds: list[int], pooled: bool) -> None:
    """Every seed of a model covers all folds; a single run will do where the folds test the same utterances."""
    single = trained.group_by("model").len().filter(pl.col("len") == 1)["model"].to_list()
    for (model, seed), own in trained.group_by("model", "seed", maintain_order=True):
        missing = sorted(set(folds) - set(own["fold"]))
        if missing and (pooled or model not in single):
            raise ScoringError(
                f"model {model!r}, seed {seed}: no test predictions for folds {missing}; expected folds {folds}"
            )


def _judge(counts: Counts, classes: Sequence[str], pooled: bool, config: ScoringConfig) -> list[pl.DataFrame]:
    """The tables ``models``, ``pairs`` and ``runs`` of :class:`Scores`."""
    counts, summary, values = _means(counts, classes, pooled)
    estimates = estimate(counts, config)
    return [with_intervals(summary, estimates, classes, config), compared(estimates, classes, config), values]


def _tempered_errors(
    runs: pl.DataFrame,
    chosen: pl.DataFrame,
    test: pl.DataFrame,
    classes: Sequence[str],
    pooled: bool,
    config: ScoringConfig,
) -> pl.DataFrame:
    """Rows of ``models`` of the calibration error with each run's temperature."""
    predictions = join_targets(tempered(runs, chosen), test, classes)
    trained = in_table_order(predictions.select(RUN).unique())
    tables = []
    for part, own in _parts(predictions):
        counts, summary, _ = _means(count(own, trained, len(classes)), classes, pooled)
        errors = with_intervals(summary.filter(metric=ECE), estimate(counts, config), classes, config)
        tables.append(_named(errors, part))
    return pl.concat(tables)


def _means(counts: Counts, classes: Sequence[str], pooled: bool) -> tuple[Counts, pl.DataFrame, pl.DataFrame]:
    """Counts of the runs that count, folds pooled where they are to be; summary and values of all metrics."""
    values = values_of(counts, classes)
    if not pooled:
        return counts, over_runs(values), values
    counts = pool_folds(counts)
    pooled_values = values_of(counts, classes)
    summary = pl.concat([over_runs(pooled_values), fold_means(values)])
    return counts, summary, pl.concat([pooled_values, values])


def _best_on_test(epochs: pl.DataFrame, test: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Rows of ``models`` at each run's best epoch on test, the first of equals."""
    tables = []
    for (epoch,), rows in epochs.group_by("epoch", maintain_order=True):
        predictions = join_targets(rows.drop("epoch"), test, classes)
        trained = in_table_order(predictions.select(RUN).unique())
        for part, own in _parts(predictions):
            values = values_of(count(own, trained, len(classes)), classes)
            kept = values.filter(pl.col("metric").is_in([*SUMMARY, ECE]))
            tables.append(_named(kept, part).with_columns(epoch=pl.lit(epoch)))
    values = pl.concat(tables)
    ranked = values.filter(pl.col("metric") == METRIC).sort(["value", "epoch"], descending=[True, False])
    best = ranked.group_by(RUN, maintain_order=True).first().select(*RUN, "epoch")
    chosen = values.join(best, on=[*RUN, "epoch"], how="semi", maintain_order="left")
    summary = over_runs(chosen.with_columns(metric=BEST_ON_TEST + pl.col("metric")))
    nothing = pl.lit(None, pl.Float64)
    return summary.select("model", "metric", "mean", "sd", nothing.alias("low"), nothing.alias("high"), "n_runs")
