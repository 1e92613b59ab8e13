"""Predictions joined with targets by utterance id."""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = [
    "RUN",
    "ScoringError",
    "Unit",
    "first_ids",
    "folds_are_pooled",
    "join_targets",
    "scored_utterances",
    "unit_of",
]

RUN = ["model", "seed", "fold"]
"""The columns that name a trained run."""

Unit = Literal["dialogue", "speaker"]
"""What is taken to be drawn at random when test is: what its utterances share goes with it."""

SHOWN = 5
"""Offending ids that a message lists."""


class ScoringError(ValueError):
    """Predictions and targets do not fit together; the message names the run and the first offenders."""


def scored_utterances(truth: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """The labelled test utterances: fold, utterance_id, dialogue_id, target, and of sentiment, speaker what there is.

    Raises:
        ScoringError: there are none, an utterance is twice in a fold, or a target is not an index of ``classes``
    """
    test = truth.filter(pl.col("split") == "test").select(
        pl.col("fold").cast(pl.Int32),
        "utterance_id",
        "dialogue_id",
        pl.col("target").cast(pl.Int64),
        *(name for name in ("sentiment", "speaker") if name in truth.columns),
    )
    if test.is_empty():
        raise ScoringError("the task has no labelled test utterance")
    doubled = test.filter(pl.struct("fold", "utterance_id").is_duplicated())
    if len(doubled):
        raise ScoringError(f"targets: utterances twice in one fold: {first_ids(doubled)}")
    bad = test.filter(~pl.col("target").is_between(0, len(classes) - 1).fill_null(False))
    if len(bad):
        raise ScoringError(f"targets: not an index of the {len(classes)} classes {list(classes)}: {first_ids(bad)}")
    return test


def unit_of(test: pl.DataFrame) -> Unit:
    """Return what intervals and tests draw: dialogues; speakers where every utterance stands alone and all are known.

    Args:
        test: rows of :func:`scored_utterances`
    """
    alone = test["dialogue_id"].n_unique() == test["utterance_id"].n_unique()
    known = "speaker" in test.columns and not test["speaker"].null_count()
    return "speaker" if alone and known else "dialogue"


def folds_are_pooled(test: pl.DataFrame) -> bool:
    """True where the folds test different utterances, False where all folds, or the only one, test the same.

    Args:
        test: rows of :func:`scored_utterances`

    Raises:
        ScoringError: folds overlap in part, so that they can neither be pooled nor taken for repetitions
    """
    ids = {fold: set(rows["utterance_id"]) for (fold,), rows in test.group_by("fold")}
    pairs = list(combinations(sorted(ids), 2))
    if all(ids[a] == ids[b] for a, b in pairs):
        return False
    for a, b in pairs:
        if shared := len(ids[a] & ids[b]):
            raise ScoringError(
                f"the test sets of folds {a} ({len(ids[a])} utterances) and {b} ({len(ids[b])}) share {shared}; "
                "expected all folds disjoint or all the same"
            )
    return True


def join_targets(runs: pl.DataFrame, test: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """Give each test prediction its target, its predicted class and its confidence.

    Args:
        runs: rows of :data:`emofuse.core.schema.PREDICTIONS`, of any number of models of one task, in any order
        test: rows of :func:`scored_utterances`
        classes: class names in the order of the probabilities

    Returns:
        the columns of ``test`` and model, seed, predicted (index of the largest probability), confidence (that
        probability); one row a run and utterance

    Raises:
        ScoringError: several tasks, no test prediction, an utterance id missing, doubled or unknown in a run, or
            probabilities that are not one finite number a class
    """
    tasks = runs["task"].unique().sort().to_list()
    if len(tasks) > 1:
        raise ScoringError(f"predictions of several tasks: {tasks}; expected one")
    predicted = runs.filter(pl.col("split") == "test").with_columns(pl.col("fold").cast(pl.Int32))
    if predicted.is_empty():
        raise ScoringError("there are no test predictions")
    key = ["fold", "utterance_id"]
    _refuse(predicted.filter(pl.struct(*RUN, "utterance_id").is_duplicated()), "doubled utterance ids")
    _refuse(predicted.join(test, on=key, how="anti"), "unknown utterance ids")
    expected = runs.select(RUN).cast({"fold": pl.Int32}).unique().join(test.select(key), on="fold")
    _refuse(expected.join(predicted, on=[*RUN, "utterance_id"], how="anti"), "missing utterance ids")
    joined = predicted.join(test, on=key, how="left")
    probabilities = _probabilities(joined, len(classes))
    return joined.drop("task", "split", "probabilities").with_columns(
        predicted=pl.Series(probabilities.argmax(axis=1)),  # the first one on a tie
        confidence=pl.Series(probabilities.max(axis=1)),
    )


def _probabilities(rows: pl.DataFrame, n_classes: int) -> NDArray[np.float32]:
    """The probabilities of each row, ``[n, n_classes]``."""
    lengths = pl.col("probabilities").list.len()
    _refuse(rows.filter((lengths != n_classes).fill_null(True)), f"not {n_classes} probabilities")
    probabilities: NDArray[np.float32] = rows["probabilities"].list.to_array(n_classes).to_numpy()
    finite = np.isfinite(probabilities).all(axis=1)
    _refuse(rows.filter(~pl.Series(finite)), "probabilities that are no numbers")
    return probabilities


def _refuse(offenders: pl.DataFrame, fault: str) -> None:
    """Raise for the first run among the offending rows, if there are any."""
    if offenders.is_empty():
        return
    offenders = offenders.sort(*RUN, "utterance_id")
    model, seed, fold = offenders.select(RUN).row(0)
    own = offenders.filter((pl.col("model") == model) & (pl.col("seed") == seed) & (pl.col("fold") == fold))
    raise ScoringError(f"model {model!r}, seed {seed}, fold {fold}: {fault}: {first_ids(own)}")


def first_ids(rows: pl.DataFrame) -> str:
    """The first of the utterance ids of some rows, for a message, and how many more there are."""
    ids = rows["utterance_id"].unique().sort()
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(repr(each) for each in ids.head(SHOWN)) + more
