"""From the predictions of all models of a task to scores, intervals and paired comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from emofuse.core.params import STRICT
from emofuse.models.registry import in_order
from emofuse.scoring.calibration import BINS, bin_of, calibration_error, gap_counts
from emofuse.scoring.intervals import (
    Spread,
    bootstrap,
    holm,
    influences,
    interval,
    p_value,
    reflected_interval,
    spread,
)
from emofuse.scoring.metrics import SUMMARY, confusion_counts, measure, metric_names, tally
from emofuse.scoring.predictions import (
    RUN,
    ScoringError,
    Unit,
    folds_are_pooled,
    join_targets,
    scored_utterances,
    unit_of,
)
from emofuse.scoring.temperature import temperatures, tempered

__all__ = [
    "ALL",
    "BEST_ON_TEST",
    "DECIMALS",
    "DEV",
    "ECE",
    "FOLD_MEAN",
    "METRIC",
    "NONZERO",
    "NOT_COVERED",
    "SUFFIXES",
    "Scores",
    "ScoringConfig",
    "score",
]

METRIC = "weighted_f1"
"""The metric that models are compared by."""

DEV = "dev/"
"""Prefix of the metrics on dev, by which models, settings and experiments are chosen."""

FOLD_MEAN = "fold_mean/"
"""Prefix of the metrics that are means over folds, printed beside those of pooled folds."""

BEST_ON_TEST = "best_on_test_epoch/"
"""Prefix of the metrics at each run's epoch with the best weighted F1 on test: what a choice on test would give."""

ALL, NONZERO = "all", "nonzero"
"""Which utterances are counted: all; where the classes come from sentiment, also those whose sentiment is not zero."""

SUFFIXES = {ALL: "", NONZERO: "/nonzero"}
"""What the names of metrics end in, by which utterances are counted."""

NOT_COVERED = (
    "Intervals and p cover which of the test set's dialogues (or speakers, where the protocol names them) and which of "
    "a model's training runs were drawn; they do not cover other training data, another split, other speakers or "
    "recordings than the corpus has, or choices that were made between looks at this test set."
)
"""What a reader has to know beside every interval, for the foot of a table."""

ECE = "ece"
"""Name of the expected calibration error, beside those of :func:`~emofuse.scoring.metrics.metric_names`."""

_ERRORS = [f"{prefix}{ECE}{suffix}" for prefix in ("", FOLD_MEAN) for suffix in SUFFIXES.values()]
"""Metrics that a model has none of which only names classes, and so never says how sure it is."""

PAIRS = {
    "model_a": pl.String,
    "model_b": pl.String,
    "metric": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_adjusted": pl.Float64,
}
"""Columns of the table of pairs."""

_OF_MODELS = ("models", "runs", "confusion", "calibration", "temperatures", "tempered")
"""Tables of :class:`Scores` with rows for each model."""

_UNITS = {"dialogue": pl.col("dialogue_id"), "speaker": pl.col("speaker")}

_CONFUSED = ("true", "predicted")
"""Columns with the name of a class."""

DECIMALS = 6
"""Every float that scoring hands on is rounded to this many decimals, so that what is written is stable."""


@checked_dataclass(frozen=True, config=STRICT)
class ScoringConfig:
    """How sure the scores are: the settings of intervals and tests."""

    resamples: int = Field(default=10_000, ge=1)
    """Number of bootstrap resamples, of the calibration error alone: the other intervals draw nothing."""

    confidence_level: float = Field(default=0.95, gt=0, lt=1)
    """Probability with which an interval holds what it is of."""

    seed: int = Field(default=0, ge=0)
    """Seed of all resampling; the same draws serve every model."""


@dataclass(frozen=True)
class Scores:
    """All that the test set says about the models of a task; floats are fractions, rounded to :data:`DECIMALS`.

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
        confusion: ``model, utterances, true, predicted, count``, summed over runs; ``utterances`` is :data:`ALL`, or
            :data:`NONZERO` where there are such metrics
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


@dataclass(frozen=True)
class _Counts:
    """What is counted of runs, by unit.

    Attributes:
        runs: model, seed, fold
        tallies: ``[3, n_classes, n_runs, n_units]`` of :func:`~emofuse.scoring.metrics.tally`
        gaps: ``[BINS, n_runs, n_units]``
    """

    runs: pl.DataFrame
    tallies: NDArray[np.float64]
    gaps: NDArray[np.float64]


@dataclass(frozen=True)
class _Estimates:
    """Scores of models, and how they vary; metrics in the order of :func:`_names`, the calibration error last.

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
    test = test.with_columns(unit=_UNITS[unit])
    pooled = folds_are_pooled(test)
    predictions = join_targets(runs, test, classes)
    trained = _in_table_order(predictions.select(RUN).unique())
    _check_folds(trained, test["fold"].unique().sort().to_list(), pooled)
    judged = []
    for part, own in _parts(predictions):
        tables = _judge(_count(own, trained, len(classes)), classes, pooled, config)
        judged.append([_named(table, "", part) for table in tables])
    models, pairs, values = (_rounded(pl.concat(tables)) for tables in zip(*judged, strict=True))
    counted = pl.concat([own.with_columns(utterances=pl.lit(part)) for part, own in _parts(predictions)])
    sure = predictions.group_by("model").agg(pl.col("confidence").min() < 1).filter("confidence")["model"].implode()
    chosen = temperatures(runs.filter(pl.col("model").is_in(sure)), truth)
    errors = _tempered_errors(runs, chosen, test, classes, pooled, config) if len(chosen) else models.clear()
    if epochs is not None:
        models = pl.concat([models, _rounded(_best_on_test(epochs, test, classes))])
    kept = pl.col("model").is_in(sure) | ~pl.col("metric").is_in(_ERRORS)
    alone = Scores(
        classes=tuple(classes),
        config=config,
        pooled=pooled,
        unit=unit,
        n_units=test["unit"].n_unique(),
        n_utterances=test["utterance_id"].n_unique(),
        n_dialogues=test["dialogue_id"].n_unique(),
        models=_in_table_order(models.filter(kept)),
        pairs=pairs,
        ensemble_pairs=pairs.clear(),
        runs=_in_table_order(values.filter(kept)),
        confusion=_confusion_table(counted, classes),
        calibration=_calibration_table(counted.filter(pl.col("model").is_in(sure))),
        temperatures=_rounded(_in_table_order(chosen)),
        tempered=_rounded(errors),
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
        name: _in_table_order(pl.concat([getattr(scores, name), getattr(other, name).filter(of_ensembles)]))
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


def _named(table: pl.DataFrame, prefix: str, part: str) -> pl.DataFrame:
    return table.with_columns(metric=pl.lit(prefix) + pl.col("metric") + pl.lit(SUFFIXES[part]))


def _check_folds(trained: pl.DataFrame, folds: list[int], pooled: bool) -> None:
    """Every seed of a model covers all folds; a single run will do where the folds test the same utterances."""
    single = trained.group_by("model").len().filter(pl.col("len") == 1)["model"].to_list()
    for (model, seed), own in trained.group_by("model", "seed", maintain_order=True):
        missing = sorted(set(folds) - set(own["fold"]))
        if missing and (pooled or model not in single):
            raise ScoringError(
                f"model {model!r}, seed {seed}: no test predictions for folds {missing}; expected folds {folds}"
            )


def _count(predictions: pl.DataFrame, trained: pl.DataFrame, n_classes: int) -> _Counts:
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
    return _Counts(trained, tally(confusion.reshape(*shape, n_classes, n_classes)), gaps.reshape(BINS, *shape))


def _judge(counts: _Counts, classes: Sequence[str], pooled: bool, config: ScoringConfig) -> list[pl.DataFrame]:
    """The tables ``models``, ``pairs`` and ``runs`` of :class:`Scores`."""
    counts, summary, values = _means(counts, classes, pooled)
    estimates = _estimate(counts, config)
    return [_with_intervals(summary, estimates, classes, config), _pairs(estimates, classes, config), values]


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
    trained = _in_table_order(predictions.select(RUN).unique())
    tables = []
    for part, own in _parts(predictions):
        counts, summary, _ = _means(_count(own, trained, len(classes)), classes, pooled)
        errors = _with_intervals(summary.filter(metric=ECE), _estimate(counts, config), classes, config)
        tables.append(_named(errors, "", part))
    return pl.concat(tables)


def _means(counts: _Counts, classes: Sequence[str], pooled: bool) -> tuple[_Counts, pl.DataFrame, pl.DataFrame]:
    """Counts of the runs that count, folds pooled where they are to be; summary and values of all metrics."""
    values = _values(counts, classes)
    if not pooled:
        return counts, _summary(values), values
    counts = _pool_folds(counts)
    pooled_values = _values(counts, classes)
    summary = pl.concat([_summary(pooled_values), _fold_means(values)])
    return counts, summary, pl.concat([pooled_values, values])


def _best_on_test(epochs: pl.DataFrame, test: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Rows of ``models`` at each run's best epoch on test, the first of equals."""
    tables = []
    for (epoch,), rows in epochs.group_by("epoch", maintain_order=True):
        predictions = join_targets(rows.drop("epoch"), test, classes)
        trained = _in_table_order(predictions.select(RUN).unique())
        for part, own in _parts(predictions):
            values = _values(_count(own, trained, len(classes)), classes)
            kept = values.filter(pl.col("metric").is_in([*SUMMARY, ECE]))
            tables.append(_named(kept, "", part).with_columns(epoch=pl.lit(epoch)))
    values = pl.concat(tables)
    ranked = values.filter(pl.col("metric") == METRIC).sort(["value", "epoch"], descending=[True, False])
    best = ranked.group_by(RUN, maintain_order=True).first().select(*RUN, "epoch")
    chosen = values.join(best, on=[*RUN, "epoch"], how="semi", maintain_order="left")
    summary = _summary(chosen.with_columns(metric=BEST_ON_TEST + pl.col("metric")))
    nothing = pl.lit(None, pl.Float64)
    return summary.select("model", "metric", "mean", "sd", nothing.alias("low"), nothing.alias("high"), "n_runs")


def _pool_folds(counts: _Counts) -> _Counts:
    """Sum the counts of a seed's folds, whose utterances are disjoint; the fold of the pooled run is null."""
    seeds = counts.runs.select("model", "seed").unique(maintain_order=True)
    own = counts.runs.join(seeds.with_row_index("place"), on=["model", "seed"], how="left", maintain_order="left")
    places = own["place"].to_numpy()
    tallies, gaps = (_sum_runs(each, places, len(seeds)) for each in (counts.tallies, counts.gaps))
    return _Counts(seeds.with_columns(fold=pl.lit(None, pl.Int32)), tallies, gaps)


def _sum_runs(counts: NDArray[np.float64], places: NDArray[np.integer], n_places: int) -> NDArray[np.float64]:
    """Sum ``[..., n_runs, n_units]`` over the runs of each place: ``[..., n_places, n_units]``."""
    by_run = np.moveaxis(counts, -2, 0)
    sums = np.zeros((n_places, *by_run.shape[1:]))
    np.add.at(sums, places, by_run)
    return np.moveaxis(sums, 0, -2)


def _names(classes: Sequence[str]) -> list[str]:
    return [*metric_names(classes), ECE]


def _measured(counts: _Counts) -> NDArray[np.float64]:
    """Every metric of every run, ``[n_metrics, n_runs]``."""
    tallies = counts.tallies.sum(axis=-1)
    error = calibration_error(counts.gaps.sum(axis=-1), tallies[2].sum(axis=0))
    return np.concatenate([measure(tallies), error[None]])


def _values(counts: _Counts, classes: Sequence[str]) -> pl.DataFrame:
    """Every metric of every run: model, seed, fold, metric, value."""
    names, values = [_names(classes)] * len(counts.runs), _measured(counts).T.tolist()
    wide = counts.runs.with_columns(metric=pl.Series(names), value=pl.Series(values))
    return wide.explode("metric", "value")


def _summary(values: pl.DataFrame) -> pl.DataFrame:
    """Mean, sample standard deviation and number of the runs of each model, by metric."""
    value = pl.col("value")
    return values.group_by("model", "metric", maintain_order=True).agg(
        mean=value.mean(), sd=value.std(), n_runs=value.len().cast(pl.Int64)
    )


def _fold_means(values: pl.DataFrame) -> pl.DataFrame:
    """Summary of the mean over folds of each seed's scores, as metrics with a prefix."""
    named = values.filter(pl.col("metric").is_in([*SUMMARY, ECE])).with_columns(metric=FOLD_MEAN + pl.col("metric"))
    return _summary(named.group_by("model", "seed", "metric", maintain_order=True).agg(pl.col("value").mean()))


def _estimate(counts: _Counts, config: ScoringConfig) -> _Estimates:
    models = in_order(counts.runs["model"].to_list())
    rows = _line_up(counts.runs, models)
    moved = influences(counts.tallies)[:, rows].mean(axis=3)
    generator = np.random.default_rng(config.seed)
    draws = bootstrap(counts.gaps, counts.tallies[2].sum(axis=0), rows, config.resamples, generator)
    return _Estimates(models, _measured(counts)[:, rows].mean(axis=3), moved, draws)


def _with_intervals(
    summary: pl.DataFrame, estimates: _Estimates, classes: Sequence[str], config: ScoringConfig
) -> pl.DataFrame:
    """The table ``models``: the summary, and the intervals of its means."""
    ends = interval(spread(estimates.values[:-1], estimates.influences), config.confidence_level, 0)
    error = reflected_interval(estimates.values[-1].mean(axis=-1), estimates.error_draws, config.confidence_level)
    low, high = (np.concatenate([own, of_error[None]]) for own, of_error in zip(ends, error, strict=True))
    intervals = _table({"model": estimates.models}, _names(classes), {"low": low, "high": high})
    joined = summary.join(intervals, on=["model", "metric"], how="left", maintain_order="left")
    return joined.select("model", "metric", "mean", "sd", "low", "high", "n_runs")


def _pairs(estimates: _Estimates, classes: Sequence[str], config: ScoringConfig) -> pl.DataFrame:
    """The table of pairs."""
    models = estimates.models
    a, b = np.tril_indices(len(models), -1)
    if not len(a):
        return pl.DataFrame(schema=PAIRS)
    apart = (
        _difference(estimates, i, j) for i, j in zip(a.tolist(), b.tolist(), strict=True)
    )  # one at a time: each is megabytes
    rows = [(each.mean, *interval(each, config.confidence_level, -1), p_value(each)) for each in apart]
    difference, low, high, p = np.stack(rows, axis=-1)
    keys = {"model_a": [models[i] for i in a], "model_b": [models[i] for i in b]}
    columns = {"difference": difference, "low": low, "high": high, "p": p, "p_adjusted": holm(p)}
    return _table(keys, metric_names(classes), columns)


def _difference(estimates: _Estimates, a: int, b: int) -> Spread:
    values, moved = estimates.values[:-1], estimates.influences
    return spread(values[:, a] - values[:, b], moved[:, a] - moved[:, b])


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


def _confusion_table(predictions: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """The table ``confusion``, with the confusions that never happened."""
    true, predicted = (pl.DataFrame({name: range(len(classes))}) for name in _CONFUSED)
    keys = ["model", "utterances"]
    cells = predictions.select(keys).unique().sort("utterances").join(true, how="cross").join(predicted, how="cross")
    counts = predictions.rename({"target": "true"}).group_by(*keys, *_CONFUSED).agg(count=pl.len().cast(pl.Int64))
    table = cells.join(counts, on=[*keys, *_CONFUSED], how="left", maintain_order="left")
    names = pl.col(*_CONFUSED).replace_strict(dict(enumerate(classes)), return_dtype=pl.String)
    return _in_table_order(table.select(*keys, names, pl.col("count").fill_null(0)))


def _calibration_table(predictions: pl.DataFrame) -> pl.DataFrame:
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
    return _rounded(_in_table_order(ends.select(columns)))


def _in_table_order(table: pl.DataFrame) -> pl.DataFrame:
    """Sort by model, then by seed and fold where there are such columns (null last), keeping the order of the rest."""
    order = pl.Enum(in_order(table["model"].to_list()))
    by = [pl.col("model").cast(order), *(pl.col(name) for name in ("seed", "fold") if name in table.columns)]
    return table.sort(by, nulls_last=True, maintain_order=True)


def _rounded(table: pl.DataFrame) -> pl.DataFrame:
    # Adding zero turns -0.0 into 0.0.
    return table.with_columns(pl.selectors.float().round(DECIMALS) + 0.0)
