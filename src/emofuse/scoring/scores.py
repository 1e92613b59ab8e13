"""From the predictions of all models of a task to scores, intervals and paired comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from emofuse.core.params import STRICT
from emofuse.models.registry import in_order
from emofuse.scoring.calibration import BINS, bin_of, calibration_error, gap_counts
from emofuse.scoring.metrics import SUMMARY, confusion_counts, measure, metric_names, tally
from emofuse.scoring.predictions import RUN, ScoringError, folds_are_pooled, join_targets, scored_utterances
from emofuse.scoring.resampling import bootstrap, bootstrap_p, holm, percentile_interval, reflected_interval

__all__ = [
    "ALL",
    "BEST_ON_TEST",
    "DECIMALS",
    "ECE",
    "FOLD_MEAN",
    "NONZERO",
    "SUFFIXES",
    "Scores",
    "ScoringConfig",
    "score",
]

FOLD_MEAN = "fold_mean/"
"""Prefix of the metrics that are means over folds, printed beside those of pooled folds."""

BEST_ON_TEST = "best_on_test_epoch/"
"""Prefix of the metrics at each run's epoch with the best weighted F1 on test: what a choice on test would give."""

ALL, NONZERO = "all", "nonzero"
"""Which utterances are counted: all; where the classes come from sentiment, also those whose sentiment is not zero."""

SUFFIXES = {ALL: "", NONZERO: "/nonzero"}
"""What the names of metrics end in, by which utterances are counted."""

ECE = "ece"
"""Name of the expected calibration error, beside those of :func:`~emofuse.scoring.metrics.metric_names`."""

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

_CONFUSED = {"target": "true", "said": "predicted"}
"""Columns with the name of a class, by those with its index."""

_CONFUSION = ["model", "utterances", *_CONFUSED.values()]

DECIMALS = 6
"""Every float that scoring hands on is rounded to this many decimals, so that what is written is stable."""


@checked_dataclass(frozen=True, config=STRICT)
class ScoringConfig:
    """How sure the scores are: the settings of intervals and tests."""

    resamples: int = Field(default=10_000, ge=1)
    """Number of bootstrap resamples; no p is below 2 / (1 + resamples)."""

    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Share of the bootstrap distribution that an interval covers."""

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
        n_utterances: labelled test utterances, of all folds together
        n_dialogues: dialogues that these belong to
        models: ``model, metric, mean, sd, low, high, n_runs``; mean and sample standard deviation over runs (null for
            one run), bootstrap interval of the mean. Where folds are pooled, rows ``fold_mean/<metric>`` give the mean
            over folds of each fold's own score, by seed, then mean and standard deviation over seeds; they have no
            interval. Rows ``best_on_test_epoch/<metric>``, where epochs were kept, have none either.
        pairs: ``model_a, model_b, metric, difference, low, high, p, p_adjusted`` of every two models; difference = a -
            b, where a comes later in the order of tables; ``p_adjusted`` after Holm over all pairs of a metric. The
            calibration error is not among the metrics: how far chance enlarges it depends on how sure a model is, so
            that a difference of two need not be one of calibration
        runs: ``model, seed, fold, metric, value`` of every trained run, and of every seed's pooled run with fold null
        confusion: ``model, utterances, true, predicted, count``, summed over runs; ``utterances`` is :data:`ALL`, or
            :data:`NONZERO` where there are such metrics
        run_confusion: ``model, seed, fold, utterances, true, predicted, count`` of every trained run
        calibration: ``model, utterances, low, high, count, confidence, accuracy`` of each bin of confidence that has
            answers: its ends, the answers of all runs, their mean confidence, and the share that is right
    """

    classes: tuple[str, ...]
    config: ScoringConfig
    pooled: bool
    n_utterances: int
    n_dialogues: int
    models: pl.DataFrame
    pairs: pl.DataFrame
    runs: pl.DataFrame
    confusion: pl.DataFrame
    run_confusion: pl.DataFrame
    calibration: pl.DataFrame


@dataclass(frozen=True)
class _Counts:
    """What is counted of runs, by dialogue.

    Attributes:
        runs: model, seed, fold
        tallies: ``[3, n_classes, n_runs, n_dialogues]`` of :func:`~emofuse.scoring.metrics.tally`
        gaps: ``[BINS, n_runs, n_dialogues]``
    """

    runs: pl.DataFrame
    tallies: NDArray[np.float64]
    gaps: NDArray[np.float64]


@dataclass(frozen=True)
class _Resampled:
    """Scores of models, and how they vary; metrics in the order of :func:`_names`.

    Attributes:
        models: names in the order of tables
        means: over runs, ``[n_metrics, n_models]``
        draws: of these means, ``[n_metrics, n_models, resamples]``
    """

    models: list[str]
    means: NDArray[np.float64]
    draws: NDArray[np.float64]


def score(
    runs: pl.DataFrame,
    truth: pl.DataFrame,
    classes: Sequence[str],
    config: ScoringConfig,
    epochs: pl.DataFrame | None = None,
) -> Scores:
    """Score all models of a task on test, with intervals and paired comparisons.

    Args:
        runs: rows of :data:`emofuse.core.schema.PREDICTIONS` of all models, in any order; those of test are scored
        truth: ``fold, split, utterance_id, dialogue_id, target`` (an index of ``classes``), labelled utterances only;
            with a column ``sentiment``, every metric is also given without the utterances where that is zero, as
            ``<metric>/nonzero``
        classes: class names in the order of the probabilities and targets
        config: settings of intervals and tests
        epochs: what networks said of test after each epoch, with a column ``epoch``, of the runs that kept it; gives
            rows ``best_on_test_epoch/<metric>``, without intervals

    Raises:
        ScoringError: predictions and targets do not fit (see :func:`~emofuse.scoring.predictions.join_targets`), folds
            overlap in part, a model lacks a fold, or two models with several seeds have different ones
    """
    test = scored_utterances(truth, classes)
    pooled = folds_are_pooled(test)
    answers = join_targets(runs, test, classes)
    trained = _in_table_order(answers.select(RUN).unique())
    _check_folds(trained, test["fold"].unique().sort().to_list(), pooled)
    dialogues = test["dialogue_id"].unique().sort()
    judged = []
    for part, own in _parts(answers):
        tables = _judge(_count(own, trained, dialogues, len(classes)), classes, pooled, config)
        judged.append([_named(table, "", part) for table in tables])
    models, pairs, values = (_rounded(pl.concat(tables)) for tables in zip(*judged, strict=True))
    counted = pl.concat([own.with_columns(utterances=pl.lit(part)) for part, own in _parts(answers)])
    confusion = _confusion_table(counted, classes)
    if epochs is not None:
        models = pl.concat([models, _rounded(_best_on_test(epochs, test, classes))])
    return Scores(
        classes=tuple(classes),
        config=config,
        pooled=pooled,
        n_utterances=test["utterance_id"].n_unique(),
        n_dialogues=len(dialogues),
        models=_in_table_order(models),
        pairs=pairs,
        runs=_in_table_order(values),
        confusion=confusion.group_by(_CONFUSION, maintain_order=True).agg(pl.col("count").sum()),
        run_confusion=confusion,
        calibration=_calibration_table(counted),
    )


def _parts(answers: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """All answers, and those without the zeros where the truth has the sentiment."""
    whole = (ALL, answers)
    return [whole, (NONZERO, answers.filter(pl.col("sentiment") != 0))] if "sentiment" in answers.columns else [whole]


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


def _count(answers: pl.DataFrame, trained: pl.DataFrame, dialogues: pl.Series, n_classes: int) -> _Counts:
    places = answers.join(trained.with_row_index("run"), on=RUN, how="left").join(
        pl.DataFrame({"dialogue_id": dialogues}).with_row_index("dialogue"), on="dialogue_id", how="left"
    )
    cell = places["run"].to_numpy().astype(np.int64) * len(dialogues) + places["dialogue"].to_numpy()
    true, said = places["target"].to_numpy(), places["said"].to_numpy()
    shape = (len(trained), len(dialogues))
    n_cells = len(trained) * len(dialogues)
    confusion = confusion_counts(cell, true, said, n_cells=n_cells, n_classes=n_classes)
    gaps = gap_counts(cell, places["confidence"].to_numpy(), said == true, n_cells=n_cells)
    return _Counts(trained, tally(confusion.reshape(*shape, n_classes, n_classes)), gaps.reshape(BINS, *shape))


def _judge(counts: _Counts, classes: Sequence[str], pooled: bool, config: ScoringConfig) -> list[pl.DataFrame]:
    """The tables ``models``, ``pairs`` and ``runs`` of :class:`Scores`."""
    counts, summary, values = _means(counts, classes, pooled)
    resampled = _resample(counts, config)
    return [_with_intervals(summary, resampled, classes, config), _pairs(resampled, classes, config), values]


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
    dialogues = test["dialogue_id"].unique().sort()
    tables = []
    for (epoch,), said in epochs.group_by("epoch", maintain_order=True):
        answers = join_targets(said.drop("epoch"), test, classes)
        trained = _in_table_order(answers.select(RUN).unique())
        for part, own in _parts(answers):
            values = _values(_count(own, trained, dialogues, len(classes)), classes)
            kept = values.filter(pl.col("metric").is_in([*SUMMARY, ECE]))
            tables.append(_named(kept, "", part).with_columns(epoch=pl.lit(epoch)))
    values = pl.concat(tables)
    ranked = values.filter(pl.col("metric") == "weighted_f1").sort(["value", "epoch"], descending=[True, False])
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
    """Sum ``[..., n_runs, n_dialogues]`` over the runs of each place: ``[..., n_places, n_dialogues]``."""
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


def _resample(counts: _Counts, config: ScoringConfig) -> _Resampled:
    models = in_order(counts.runs["model"].to_list())
    rows = _line_up(counts.runs, models)
    generator = np.random.default_rng(config.seed)
    draws = bootstrap(counts.tallies, counts.gaps, rows, config.resamples, generator)
    return _Resampled(models, _measured(counts)[:, rows].mean(axis=-1), draws)


def _with_intervals(
    summary: pl.DataFrame, resampled: _Resampled, classes: Sequence[str], config: ScoringConfig
) -> pl.DataFrame:
    """The table ``models``: the summary, and the intervals of its means."""
    low, high = percentile_interval(resampled.draws, config.confidence)
    low[-1], high[-1] = reflected_interval(resampled.means[-1], resampled.draws[-1], config.confidence)
    intervals = _table({"model": resampled.models}, _names(classes), {"low": low, "high": high})
    joined = summary.join(intervals, on=["model", "metric"], how="left", maintain_order="left")
    return joined.select("model", "metric", "mean", "sd", "low", "high", "n_runs")


def _pairs(resampled: _Resampled, classes: Sequence[str], config: ScoringConfig) -> pl.DataFrame:
    """The table of pairs."""
    models, means, draws = resampled.models, resampled.means[:-1], resampled.draws[:-1]
    a, b = np.tril_indices(len(models), -1)
    if not len(a):
        return pl.DataFrame(schema=PAIRS)
    apart = (draws[:, i] - draws[:, j] for i, j in zip(a, b, strict=True))  # one at a time: each is megabytes
    told = [(*percentile_interval(each, config.confidence), bootstrap_p(each)) for each in apart]
    low, high, p = np.stack(told, axis=-1)
    keys = {"model_a": [models[i] for i in a], "model_b": [models[i] for i in b]}
    columns = {"difference": means[:, a] - means[:, b], "low": low, "high": high, "p": p, "p_adjusted": holm(p)}
    return _table(keys, metric_names(classes), columns)


def _table(keys: dict[str, list[str]], metrics: list[str], columns: dict[str, NDArray[np.float64]]) -> pl.DataFrame:
    """A row for each key and metric from columns ``[n_metrics, n_keys]``."""
    table = pl.DataFrame(keys).join(pl.DataFrame({"metric": metrics}), how="cross", maintain_order="left_right")
    return table.with_columns(pl.Series(name, values.T.ravel()) for name, values in columns.items())


def _line_up(runs: pl.DataFrame, models: list[str]) -> NDArray[np.intp]:
    """Which run stands for each model in each repetition, ``[n_models, n_repetitions]``.

    The repetitions are all seeds times all folds. A model with one seed, such as one that draws nothing at random,
    stands beside every seed of the others; likewise one with a single run beside every fold.
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
        rows.append(np.broadcast_to(grid, (len(seeds), n_folds)).reshape(-1))
    return np.stack(rows).astype(np.intp)


def _confusion_table(answers: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """The table ``run_confusion``, with the confusions that never happened."""
    true, said = (pl.DataFrame({name: range(len(classes)), of: classes}) for name, of in _CONFUSED.items())
    keys = [*RUN, "utterances"]
    cells = answers.select(keys).unique().sort("utterances").join(true, how="cross").join(said, how="cross")
    counts = answers.group_by(*keys, *_CONFUSED).agg(count=pl.len().cast(pl.Int64))
    table = cells.join(counts, on=[*keys, *_CONFUSED], how="left", maintain_order="left")
    return _in_table_order(table.select(*keys, *_CONFUSED.values(), pl.col("count").fill_null(0)))


def _calibration_table(answers: pl.DataFrame) -> pl.DataFrame:
    bins = pl.Series(bin_of(answers["confidence"].to_numpy()))
    keys = ["model", "utterances", "bin"]
    rows = answers.with_columns(bin=bins).select(*keys, "confidence", right=pl.col("said") == pl.col("target"))
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
