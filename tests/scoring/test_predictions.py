"""Ids that do not fit are errors that name the run; nothing is ever matched by position."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from emofuse.scoring.predictions import ScoringError, folds_are_pooled, join_targets, scored_utterances

Make = Callable[..., pl.DataFrame]


def join(runs: pl.DataFrame, truth: pl.DataFrame, classes: tuple[str, ...]) -> pl.DataFrame:
    return join_targets(runs, scored_utterances(truth, classes), classes)


def test_joined_by_id(truth: Make, predict: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    runs = predict(targets, targets["target"]).sample(fraction=1, shuffle=True, seed=1)
    joined = join(runs, targets.sample(fraction=1, shuffle=True, seed=2), classes)
    assert len(joined) == len(targets)
    assert joined["predicted"].to_list() == joined["target"].to_list()


def test_the_first_of_equal_probabilities_is_predicted(truth: Make, predict: Make, classes: tuple[str, ...]) -> None:
    targets = truth(n_dialogues=1, n_turns=1)
    even = predict(targets, [1]).with_columns(probabilities=pl.lit([0.2, 0.4, 0.4]).cast(pl.List(pl.Float32)))
    assert join(even, targets, classes)["predicted"].to_list() == [1]


def test_dev_is_not_scored(truth: Make, predict: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    dev = targets.with_columns(split=pl.lit("dev"), utterance_id="dev_" + pl.col("utterance_id"))
    runs = pl.concat([predict(targets, targets["target"]), predict(dev, dev["target"], split="dev")])
    assert len(join(runs, pl.concat([targets, dev]), classes)) == len(targets)


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda runs: runs.tail(-2), "missing utterance ids: 'd0_0', 'd0_1'"),
        (lambda runs: pl.concat([runs, runs.head(1)]), "doubled utterance ids: 'd0_0'"),
        (
            lambda runs: runs.with_columns(pl.col("utterance_id").str.replace("d1_", "x")),
            "unknown utterance ids: 'x0', 'x1', 'x2', 'x3', 'x4' and 1 more",
        ),
        (lambda runs: runs.with_columns(pl.col("probabilities").list.head(2)), "not 3 probabilities: 'd0_0'"),
        (lambda runs: runs.with_columns(probabilities=pl.lit([0.5, None, 0.5])), "probabilities that are no numbers"),
        (lambda runs: runs.with_columns(probabilities=pl.lit([0.5, np.nan, 0.5])), "probabilities that are no numbers"),
        (lambda runs: runs.with_columns(split=pl.lit("dev")), "missing utterance ids: 'd0_0'"),
    ],
)
def test_a_bad_run_is_named(
    harm: Callable[[pl.DataFrame], pl.DataFrame], fault: str, truth: Make, predict: Make, classes: tuple[str, ...]
) -> None:
    targets = truth()
    good = predict(targets, targets["target"], "concat")
    bad = predict(targets, targets["target"], "hcam", seed=3)
    with pytest.raises(ScoringError) as error:
        join(pl.concat([good, harm(bad)], how="vertical_relaxed"), targets, classes)
    assert "model 'hcam', seed 3, fold 0: " in str(error.value)
    assert fault in str(error.value)


def test_one_task_at_a_time(truth: Make, predict: Make, classes: tuple[str, ...]) -> None:
    runs = predict(truth(), truth()["target"])
    with pytest.raises(ScoringError, match=r"several tasks: \['other', 'tiny'\]"):
        join(pl.concat([runs, runs.with_columns(task=pl.lit("other"))]), truth(), classes)


def test_no_predictions(truth: Make, predict: Make, classes: tuple[str, ...]) -> None:
    with pytest.raises(ScoringError, match="no test predictions"):
        join(predict(truth(), truth()["target"]).clear(), truth(), classes)


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda targets: targets.filter(pl.col("split") == "dev"), "no labelled test utterance"),
        (lambda targets: pl.concat([targets, targets.head(1)]), "twice in one fold: 'd0_0'"),
        (lambda targets: targets.with_columns(target=pl.lit(3)), "not an index of the 3 classes"),
        (lambda targets: targets.with_columns(target=pl.lit(None, pl.Int64)), "not an index of the 3 classes"),
    ],
)
def test_bad_targets(
    harm: Callable[[pl.DataFrame], pl.DataFrame], fault: str, truth: Make, classes: tuple[str, ...]
) -> None:
    with pytest.raises(ScoringError, match=fault):
        scored_utterances(harm(truth()), classes)


def test_folds(truth: Make) -> None:
    one = truth()
    assert not folds_are_pooled(one)
    assert not folds_are_pooled(pl.concat([one, truth(fold=1)]))
    assert folds_are_pooled(pl.concat([one, truth(fold=1, prefix="other_")]))
    with pytest.raises(ScoringError, match=r"folds 0 \(72 utterances\) and 1 \(60\) share 60"):
        folds_are_pooled(pl.concat([one, truth(fold=1).tail(60)]))
