"""From predictions to tables of scores: means, folds, broadcasting, order, and what must not matter."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError
from sklearn.metrics import f1_score

from emofuse.scoring.ensembles import of_seeds
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.predictions import ScoringError
from emofuse.scoring.scores import Scores, score

Make = Callable[..., pl.DataFrame]
CONFIG = ScoringConfig(resamples=300, seed=1)


def row(table: pl.DataFrame, **keys: str | int | None) -> dict[str, Any]:
    found = table.filter(pl.col(name).eq_missing(value) for name, value in keys.items())
    assert len(found) == 1
    return found.row(0, named=True)


def assert_scores_equal(one: Scores, other: Scores) -> None:
    for name in ("models", "pairs", "runs", "confusion", "calibration"):
        assert_frame_equal(getattr(one, name), getattr(other, name), check_exact=True)


def test_mean_and_deviation_are_those_of_the_runs(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    runs = guess(targets, 0.7, "hcam")
    scores = score(runs, targets, classes, CONFIG)
    predicted = runs["probabilities"].list.arg_max().to_numpy().reshape(3, -1)
    f1 = [f1_score(targets["target"], own, average="weighted") for own in predicted]
    got = row(scores.models, model="hcam", metric="weighted_f1")
    assert (got["mean"], got["sd"]) == pytest.approx((np.mean(f1), np.std(f1, ddof=1)), abs=1e-6)
    assert got["low"] < got["mean"] < got["high"]
    assert got["n_runs"] == 3
    assert row(scores.runs, model="hcam", seed=1, fold=0, metric="weighted_f1")["value"] == pytest.approx(
        f1[1], abs=1e-6
    )
    assert scores.confusion["count"].sum() == 3 * len(targets)
    assert (scores.n_utterances, scores.n_dialogues, scores.pooled) == (72, 12, False)


def test_order_of_rows_does_not_matter(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    runs = pl.concat([guess(targets, 0.7, "hcam"), guess(targets, 0.6, "concat")])
    shuffled = score(
        runs.sample(fraction=1, shuffle=True, seed=1), targets.sample(fraction=1, shuffle=True, seed=2), classes, CONFIG
    )
    assert_scores_equal(score(runs, targets, classes, CONFIG), shuffled)


def test_a_new_model_changes_nothing_about_the_others(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    two = pl.concat([guess(targets, 0.7, "hcam"), guess(targets, 0.6, "concat")])
    before = score(two, targets, classes, CONFIG)
    after = score(pl.concat([two, guess(targets, 0.5, "cma")]), targets, classes, CONFIG)
    assert_frame_equal(before.models, after.models.filter(pl.col("model") != "cma"))
    kept = after.pairs.filter((pl.col("model_a") == "hcam") & (pl.col("model_b") == "concat"))
    assert_frame_equal(before.pairs.drop("p_adjusted"), kept.drop("p_adjusted"))


def test_a_perfect_model_leaves_no_doubt(truth: Make, predict: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    scores = score(predict(targets, targets["target"]), targets, classes, CONFIG)
    accuracy = row(scores.models, model="hcam", metric="accuracy")
    assert (accuracy["mean"], accuracy["low"], accuracy["high"], accuracy["sd"]) == (1, 1, 1, None)
    assert scores.pairs.is_empty()
    assert scores.pairs.columns == ["model_a", "model_b", "metric", "difference", "low", "high", "p", "p_adjusted"]


def test_twins_do_not_differ(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    one = guess(targets, 0.7, "hcam")
    scores = score(pl.concat([one, one.with_columns(model=pl.lit("hbaf"))]), targets, classes, CONFIG)
    assert scores.pairs.select("difference", "low", "high").unique().rows() == [(0, 0, 0)]
    assert scores.pairs.select("p", "p_adjusted").unique().rows() == [(1, 1)]


def test_a_better_model_is_found_better(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth(n_dialogues=30)
    runs = pl.concat([guess(targets, 0.9, "hcam"), guess(targets, 0.5, "concat")])
    pair = row(score(runs, targets, classes, CONFIG).pairs, metric="weighted_f1")
    assert (pair["model_a"], pair["model_b"]) == ("hcam", "concat")
    assert 0 < pair["low"] < pair["difference"] < pair["high"]
    assert pair["p"] < 0.001


def test_a_model_without_seeds_meets_every_seed(
    truth: Make, guess: Make, predict: Make, classes: tuple[str, ...]
) -> None:
    """One run of majority scores as ten equal ones would, apart from the number of runs and their deviation of zero."""
    targets = truth()
    hcam = guess(targets, 0.6, "hcam")
    once = predict(targets, [0] * len(targets), "majority", seed=17)
    thrice = pl.concat([predict(targets, [0] * len(targets), "majority", seed=seed) for seed in range(3)])
    one, three = (score(pl.concat([hcam, majority]), targets, classes, CONFIG) for majority in (once, thrice))
    assert_frame_equal(one.pairs, three.pairs)
    assert_frame_equal(one.models.drop("sd", "n_runs"), three.models.drop("sd", "n_runs"))
    assert row(one.models, model="majority", metric="accuracy")["n_runs"] == 1


def test_different_seeds_cannot_be_paired(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    runs = pl.concat([guess(targets, 0.7, "concat"), guess(targets, 0.7, "hcam", seeds=(0, 1))])
    with pytest.raises(ScoringError, match=r"model 'hcam' has seeds \[0, 1\]; expected \[0, 1, 2\], or a single one"):
        score(runs, targets, classes, CONFIG)


def test_disjoint_folds_are_pooled(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    """Pooled folds score like one test set of all utterances; the mean over folds stands beside it."""
    folds = [truth(n_dialogues=n, fold=fold, prefix=f"s{fold}_") for fold, n in enumerate((3, 9))]
    targets = pl.concat(folds)
    runs = guess(targets, 0.7, "hcam")
    pooled = score(runs, targets, classes, CONFIG)
    whole = score(runs.with_columns(fold=pl.lit(0)), targets.with_columns(fold=pl.lit(0)), classes, CONFIG)
    assert pooled.pooled
    beside = pl.col("metric").str.starts_with("fold_mean/")
    assert_frame_equal(pooled.models.filter(~beside), whole.models)

    accuracy = pooled.runs.filter(pl.col("metric") == "accuracy")
    by_fold = accuracy.filter(pl.col("fold").is_not_null())
    means = by_fold.group_by("seed").agg(pl.col("value").mean())["value"]
    got = row(pooled.models, model="hcam", metric="fold_mean/accuracy")
    assert (got["mean"], got["sd"]) == pytest.approx((means.mean(), means.std()), abs=2e-6)
    assert (got["low"], got["high"], got["n_runs"]) == (None, None, 3)
    assert accuracy["fold"].to_list() == [0, 1, None] * 3


def test_rotating_dev_makes_every_seed_and_fold_a_run(
    truth: Make, guess: Make, predict: Make, classes: tuple[str, ...]
) -> None:
    targets = pl.concat([truth(fold=fold) for fold in range(4)])
    majority = predict(truth(), [0] * 72, "majority")
    by_fold = predict(targets, [0] * len(targets), "majority")
    once, fourfold = (
        score(pl.concat([guess(targets, 0.7, "hcam"), own]), targets, classes, CONFIG) for own in (majority, by_fold)
    )
    assert row(once.models, model="hcam", metric="accuracy")["n_runs"] == 12
    assert row(fourfold.models, model="majority", metric="accuracy")["n_runs"] == 4
    assert_frame_equal(once.pairs, fourfold.pairs)
    assert (once.pooled, once.n_utterances) == (False, 72)
    assert not once.models["metric"].str.starts_with("fold_mean/").any()


def test_seeds_of_a_fold_that_agree_are_no_more_evidence_than_one(
    truth: Make, guess: Make, predict: Make, classes: tuple[str, ...]
) -> None:
    """Four folds test the same utterances. A fold's seeds say the same, so that there are four repetitions, not 20."""
    targets = pl.concat([truth(fold=fold) for fold in range(4)])
    once = pl.concat([guess(targets, 0.7, "hcam", seeds=(0,)), guess(targets, 0.6, "concat", seeds=(0,))])
    often = pl.concat([once.with_columns(seed=pl.lit(seed, pl.Int32)) for seed in range(5)])
    one, five = (score(runs, targets, classes, CONFIG) for runs in (once, often))
    assert_frame_equal(one.pairs, five.pairs)
    assert_frame_equal(one.models.drop("sd", "n_runs"), five.models.drop("sd", "n_runs"))
    by_seed = score(guess(truth(), 0.7, "hcam", seeds=range(4)), truth(), classes, CONFIG)
    by_fold = pl.concat([guess(truth(), 0.7, "hcam", seeds=range(4)).with_columns(fold=pl.col("seed"), seed=0)])
    assert_frame_equal(score(by_fold, targets, classes, CONFIG).models, by_seed.models)


def test_speakers_are_drawn_where_utterances_stand_alone(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    """As in corpora of acted sentences; not where a speaker is unknown, or turns share dialogues."""
    dialogues = truth()
    alone = dialogues.with_columns(speaker=pl.col("dialogue_id"), dialogue_id=pl.col("utterance_id"))
    runs = pl.concat([guess(dialogues, 0.7, "hcam"), guess(dialogues, 0.6, "concat")])
    by_dialogue, by_speaker = (score(runs, each, classes, CONFIG) for each in (dialogues, alone))
    assert (by_speaker.unit, by_speaker.n_units, by_speaker.n_dialogues) == ("speaker", 12, 72)
    assert (by_dialogue.unit, by_dialogue.n_units, by_dialogue.n_dialogues) == ("dialogue", 12, 12)
    assert_scores_equal(by_dialogue, by_speaker)
    first = pl.int_range(pl.len()) == 0
    unknown = alone.with_columns(speaker=pl.when(first).then(None).otherwise("speaker"))
    talking = dialogues.with_columns(speaker=pl.lit("s") + (pl.int_range(pl.len()) % 2).cast(pl.String))
    for targets, n_units in ((unknown, 72), (talking, 12)):
        found = score(runs, targets, classes, CONFIG)
        assert (found.unit, found.n_units) == ("dialogue", n_units)


def with_dev(truth: Make, n_dialogues: int = 12) -> pl.DataFrame:
    """Targets of test and of a dev split of the same size."""
    dev = truth(n_dialogues=n_dialogues, prefix="dev_").with_columns(split=pl.lit("dev"))
    return pl.concat([truth(n_dialogues=n_dialogues), dev])


def guess_both(guess: Make, targets: pl.DataFrame, skill: float, model: str, **more: Any) -> pl.DataFrame:
    """Predictions of test and dev."""
    ids = targets.select("utterance_id", of="split")
    runs = guess(targets, skill, model, **more).join(ids, on="utterance_id", maintain_order="left")
    return runs.with_columns(split=pl.col("of")).drop("of")


def test_ensembles_are_rows_of_their_own_and_are_compared_apart(
    truth: Make, guess: Make, predict: Make, classes: tuple[str, ...]
) -> None:
    targets = with_dev(truth)
    runs = pl.concat(
        [
            guess_both(guess, targets, 0.6, "hcam"),
            guess_both(guess, targets, 0.5, "concat"),
            guess_both(guess, targets, 0.4, "majority", seeds=(0,)),
        ]
    )
    ensembles = of_seeds(runs)
    plain, both = score(runs, targets, classes, CONFIG), score(runs, targets, classes, CONFIG, ensembles=ensembles)
    assert plain.ensemble_pairs.is_empty()
    added = pl.col("model").str.ends_with("/ensemble")
    for name in ("models", "runs", "confusion", "calibration", "temperatures", "tempered"):
        assert_frame_equal(getattr(both, name).filter(~added), getattr(plain, name))
    assert_frame_equal(both.pairs, plain.pairs)
    assert both.models["model"].unique(maintain_order=True).to_list() == [
        *("majority", "concat", "concat/ensemble", "hcam", "hcam/ensemble")
    ]
    compared = both.ensemble_pairs.filter(metric="weighted_f1").select("model_a", "model_b").rows()
    assert compared == [
        *(("concat/ensemble", "majority"), ("hcam/ensemble", "majority"), ("hcam/ensemble", "concat/ensemble"))
    ]
    alone = score(pl.concat([ensembles.filter(model="hcam/ensemble")]), targets, classes, CONFIG)
    got = row(both.models, model="hcam/ensemble", metric="weighted_f1")
    assert got == row(alone.models, model="hcam/ensemble", metric="weighted_f1")
    assert (got["n_runs"], got["sd"]) == (1, None)


def test_a_temperature_mends_confidence_and_no_prediction(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    """All answers are sure to 0.8 and right half of the time; dev says so, and what is left is what test differs by."""
    targets = with_dev(truth, n_dialogues=100)
    runs = guess_both(guess, targets, 0.5, "hcam")
    scores = score(runs, targets, classes, CONFIG)
    error, mended = row(scores.models, model="hcam", metric="ece"), row(scores.tempered, model="hcam", metric="ece")
    assert error["mean"] == pytest.approx(0.3, abs=0.05)
    assert mended["mean"] < 0.06
    assert mended["low"] <= mended["mean"] <= mended["high"]
    assert scores.temperatures.select("model", "seed", "fold").rows() == [("hcam", seed, 0) for seed in range(3)]
    assert (scores.temperatures["temperature"] > 1.5).all()
    only_test = score(runs.filter(split="test"), targets, classes, CONFIG)
    assert only_test.temperatures.is_empty()
    assert only_test.tempered.is_empty()
    assert_scores_equal(scores, only_test)


def test_what_only_names_classes_has_no_calibration_error(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = with_dev(truth)
    runs = guess_both(guess, targets, 0.6, "hcam")
    labels = guess_both(guess, targets, 0.5, "asked", seeds=(0,)).with_columns(
        pl.col("probabilities").list.eval((pl.element() > 0.5).cast(pl.Float32))
    )
    scores = score(pl.concat([runs, labels]), targets, classes, CONFIG)
    assert set(scores.models.filter(metric="ece")["model"]) == {"hcam"}
    assert set(scores.runs.filter(metric="ece")["model"]) == {"hcam"}
    for table in (scores.calibration, scores.temperatures, scores.tempered):
        assert set(table["model"]) == {"hcam"}
    assert set(scores.models.filter(metric="weighted_f1")["model"]) == {"hcam", "asked"}
    assert row(scores.pairs, metric="weighted_f1")["model_a"] == "asked"


@pytest.mark.parametrize("prefix", ["", "other_"])
def test_a_missing_fold_is_an_error(prefix: str, truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = pl.concat([truth(), truth(fold=1, prefix=prefix)])
    runs = guess(targets, 0.7, "hcam").filter((pl.col("seed") != 2) | (pl.col("fold") == 1))
    with pytest.raises(
        ScoringError, match=r"'hcam', seed 2: no test predictions for folds \[0\]; expected folds \[0, 1\]"
    ):
        score(runs, targets, classes, CONFIG)


def test_calibration_is_that_of_all_answers(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    """Every answer is sure to 0.8 (in float32 a trifle more), so a run's error is the distance to its accuracy."""
    targets = truth()
    scores = score(guess(targets, 0.7, "hcam"), targets, classes, CONFIG)
    runs = scores.runs.pivot("metric", index="seed", values="value")
    assert runs["ece"].to_list() == pytest.approx([abs(0.8 - each) for each in runs["accuracy"]], abs=2e-6)
    got = row(scores.models, model="hcam", metric="ece")
    assert got["mean"] == pytest.approx(runs["ece"].mean(), abs=2e-6)
    assert 0 <= got["low"] <= got["mean"] <= got["high"]
    accuracy = runs["accuracy"].mean()
    assert scores.calibration.rows() == [("hcam", "all", 0.8, 0.866667, 216, 0.8, pytest.approx(accuracy, abs=2e-6))]
    assert "ece" not in scores.pairs["metric"]


def test_without_zeros_only_the_rest_is_scored(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    """As if the utterances of zero sentiment were not there; the metrics of all stay what they were."""
    targets = truth()
    runs = pl.concat([guess(targets, 0.7, "hcam"), guess(targets, 0.5, "concat")])
    sentiment = pl.Series([0.0, 1.0, -1.0] * (len(targets) // 3))
    rest = targets.filter(sentiment != 0)
    both = score(runs, targets.with_columns(sentiment=sentiment), classes, CONFIG)
    only = score(runs.join(rest, on="utterance_id", how="semi"), rest, classes, CONFIG)
    plain = score(runs, targets, classes, CONFIG)
    part = pl.col("metric").str.ends_with("/nonzero")
    for name in ("models", "pairs", "runs"):
        table, wanted, whole = (getattr(each, name) for each in (both, only, plain))
        without = table.filter(part).with_columns(pl.col("metric").str.strip_suffix("/nonzero"))
        assert_frame_equal(without, wanted, check_exact=True)
        assert_frame_equal(table.filter(~part), whole, check_exact=True)
    for name in ("confusion", "calibration"):
        table = getattr(both, name)
        for of, alone in (("all", plain), ("nonzero", only)):
            own = table.filter(utterances=of).with_columns(utterances=pl.lit("all"))
            assert_frame_equal(own, getattr(alone, name), check_exact=True)


def test_without_zeros_other_epochs_are_scored_too(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    """The best epoch is that of all utterances."""
    targets = truth()
    runs = guess(targets, 0.7, "hcam")
    sentiment = pl.Series([0.0, 1.0, -1.0] * (len(targets) // 3))
    rest, with_sentiment = targets.filter(sentiment != 0), targets.with_columns(sentiment=sentiment)
    both = score(runs, with_sentiment, classes, CONFIG, runs.with_columns(epoch=1)).models
    only = score(runs.join(rest, on="utterance_id", how="semi"), rest, classes, CONFIG).models
    found = row(both, metric="best_on_test_epoch/weighted_f1/nonzero")
    assert found["mean"] == row(only, metric="weighted_f1")["mean"]


def test_the_best_epoch_on_test_is_each_run_s_own_and_stands_apart(
    truth: Make, guess: Make, classes: tuple[str, ...]
) -> None:
    targets = truth()
    runs = pl.concat([guess(targets, 0.6, "hcam"), guess(targets, 0.5, "majority", seeds=(0,))])
    skills = {1: 0.5, 2: 0.9, 3: 0.7}
    epochs = pl.concat(
        [guess(targets, skill, "hcam", seeds=(0, 1, 2)).with_columns(epoch=epoch) for epoch, skill in skills.items()]
    )
    best, plain = score(runs, targets, classes, CONFIG, epochs), score(runs, targets, classes, CONFIG)
    prefix = "best_on_test_epoch/"
    chosen = best.models.filter(pl.col("metric").str.starts_with(prefix))
    assert_frame_equal(best.models.filter(~pl.col("metric").str.starts_with(prefix)), plain.models)
    assert_frame_equal(best.pairs, plain.pairs)
    only = score(guess(targets, 0.9, "hcam"), targets, classes, CONFIG).models
    for metric in ("accuracy", "balanced_accuracy", "weighted_f1", "macro_f1", "ece"):
        got, wanted = row(chosen, metric=prefix + metric), row(only, metric=metric)
        assert (got["model"], got["mean"], got["sd"], got["n_runs"]) == ("hcam", wanted["mean"], wanted["sd"], 3)
        assert (got["low"], got["high"]) == (None, None)


def test_the_seed_decides_what_is_drawn(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    runs = guess(targets, 0.7, "hcam")
    one, again = (score(runs, targets, classes, ScoringConfig(resamples=200, seed=4)) for _ in range(2))
    assert_scores_equal(one, again)
    other = score(runs, targets, classes, ScoringConfig(resamples=200, seed=5))
    drawn = pl.col("metric") == "ece"
    assert not one.models.filter(drawn)["high"].equals(other.models.filter(drawn)["high"])
    assert_frame_equal(one.models.filter(~drawn), other.models.filter(~drawn), check_exact=True)


def test_floats_are_rounded(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth()
    scores = score(pl.concat([guess(targets, 0.7, "hcam"), guess(targets, 0.6, "cma")]), targets, classes, CONFIG)
    for table in (scores.models, scores.pairs, scores.runs):
        floats = table.select(pl.selectors.float())
        assert_frame_equal(floats, floats.select(pl.all().round(6)), check_exact=True)


@pytest.mark.parametrize("bad", [{"resamples": 0}, {"confidence_level": 95}, {"seed": -1}, {"resample": 100}])
def test_bad_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bad))):
        ScoringConfig(**bad)
