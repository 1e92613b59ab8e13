"""What is written, byte by byte where it can be derived by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from emofuse.reporting.tables import (
    ABLATIONS,
    best_model,
    dev_scores,
    learning_curves,
    markdown_table,
    write_runs,
    write_scores,
)
from emofuse.scoring.predictions import ScoringError
from emofuse.scoring.scores import NOT_COVERED, Scores, ScoringConfig, score

Make = Callable[..., pl.DataFrame]

TABLE = f"""\
- hcam has the best weighted F1 of 2 models: 86.7 % [0.0, 100.0].
- No significant difference from: majority +53.3 [-100.0, +100.0].

| Model | Accuracy | Balanced accuracy | Weighted F1 | Macro F1 | Calibration error | Runs |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| majority | 50.0 [0.0, 100.0] | 50.0 [0.0, 100.0] | 33.3 [0.0, 100.0] | 33.3 [0.0, 100.0] | 30.0 [30.0, 30.0] | 1 |
| hcam | **87.5** ± 17.7 [0.0, 100.0] | **87.5** ± 17.7 [0.0, 100.0] | **86.7** ± 18.9 [0.0, 100.0] \
| **86.7** ± 18.9 [0.0, 100.0] | **12.5** ± 10.6 [5.0, 20.0] | 2 |

Percent on test: 4 utterances in 1 dialogues. Mean over runs ± standard deviation [95 % interval of the mean, \
over dialogues and runs]. {NOT_COVERED}

Paired comparisons (difference in points):

- hcam over majority: Weighted F1 +53.3 [-100.0, +100.0], p = 1, Holm-adjusted 1
- majority over hcam: Weighted F1 -53.3 [-100.0, +100.0], p = 1, Holm-adjusted 1
"""


@pytest.fixture
def tiny(predict: Make) -> Scores:
    """Four utterances of one dialogue: two of class a, two of class b.

    Majority says a: accuracy 2/4, recalls 1 and 0, F1 of a 4/6 and of b 0. hcam's seed 0 takes one b for an a: accuracy
    3/4, recalls 1 and 1/2, F1 4/5 and 2/3, both means 11/15; its seed 1 is perfect. So its accuracy is 0.875 with a
    deviation of 0.25 / sqrt(2), its F1 13/15 with (4/15) / sqrt(2). One dialogue tells nothing of others: the intervals
    hold all that a score can be. That of the calibration error is a bootstrap's, which draws one of two runs. All
    answers are sure to 0.8, which is 0.3 from majority's accuracy and 0.05 and 0.2 from those of hcam.
    """
    ids = [f"d_{turn}" for turn in range(4)]
    truth = pl.DataFrame({"fold": 0, "split": "test", "utterance_id": ids, "dialogue_id": "d", "target": [0, 0, 1, 1]})
    by_run = {("majority", 0): [0, 0, 0, 0], ("hcam", 0): [0, 0, 1, 0], ("hcam", 1): [0, 0, 1, 1]}
    runs = pl.concat([predict(truth, own, model, seed) for (model, seed), own in by_run.items()])
    two = runs.with_columns(pl.col("probabilities").list.head(2))
    return score(two, truth, ["a", "b"], ScoringConfig(resamples=200))


@pytest.fixture
def dev() -> pl.DataFrame:
    """What dev says of their runs: hcam's mean accuracy is 0.7 with a deviation of 0.2 / sqrt(2)."""
    by_run = [("hcam", 0.8, 0.75), ("hcam", 0.6, 0.65), ("majority", 0.5, 0.3)]
    return dev_scores([{"model": model, "dev": {"accuracy": a, "weighted_f1": f}} for model, a, f in by_run])


def test_markdown(tiny: Scores) -> None:
    assert markdown_table(tiny, [("hcam", "majority"), ("majority", "hcam")]) == TABLE


def test_files(tiny: Scores, dev: pl.DataFrame, tmp_path: Path) -> None:
    write_scores(tmp_path, tiny, dev, {"task": "tiny", "split": "one dialogue"}, TABLE)
    assert (tmp_path / "table.md").read_text() == TABLE
    scores = (tmp_path / "scores.csv").read_text().splitlines()
    assert scores[0] == "model,metric,mean,sd,low,high,n_runs"
    assert scores[1] == "majority,accuracy,0.5,,0.0,1.0,1"
    assert "hcam,accuracy,0.875,0.176777,0.0,1.0,2" in scores
    assert "hcam,f1/b,0.833333,0.235702,0.0,1.0,2" in scores
    assert scores[-4:] == [
        *("majority,dev/accuracy,0.5,,,,1", "majority,dev/weighted_f1,0.3,,,,1"),
        *("hcam,dev/accuracy,0.7,0.141421,,,2", "hcam,dev/weighted_f1,0.7,0.070711,,,2"),
    ]
    assert json.loads((tmp_path / "dev.json").read_text()) == {
        "majority": {"dev/accuracy": 0.5, "dev/weighted_f1": 0.3},
        "hcam": {"dev/accuracy": 0.7, "dev/weighted_f1": 0.7},
    }
    pairs = (tmp_path / "pairs.csv").read_text().splitlines()
    assert pairs[:2] == [
        "model_a,model_b,metric,difference,low,high,p,p_adjusted",
        "hcam,majority,accuracy,0.375,-1.0,1.0,1.0,1.0",
    ]
    confusion = (tmp_path / "confusion.csv").read_text().splitlines()
    assert confusion[0] == "model,utterances,true,predicted,count"
    assert confusion[5:] == ["hcam,all,a,a,4", "hcam,all,a,b,0", "hcam,all,b,a,1", "hcam,all,b,b,3"]
    calibration = (tmp_path / "calibration.csv").read_text().splitlines()
    assert calibration[0] == "model,utterances,low,high,count,confidence,accuracy"
    assert calibration[1:] == ["majority,all,0.8,0.866667,4,0.8,0.5", "hcam,all,0.8,0.866667,8,0.8,0.875"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "calibration.csv",
        "confusion.csv",
        "dev.json",
        "pairs.csv",
        "scores.csv",
        "scores.json",
        "table.md",
    ]


def test_json_carries_the_protocol_and_the_same_numbers(tiny: Scores, dev: pl.DataFrame, tmp_path: Path) -> None:
    write_scores(tmp_path, tiny, dev, {"task": "tiny"}, TABLE)
    value = json.loads((tmp_path / "scores.json").read_text())
    assert value["protocol"] == {"task": "tiny"}
    assert value["intervals"] == {"confidence_level": 0.95, "resamples": 200, "seed": 0}
    assert value["test"]["classes"] == ["a", "b"]
    accuracy = {"mean": 0.875, "sd": 0.176777, "low": 0.0, "high": 1.0, "n_runs": 2}
    assert value["scores"]["hcam"]["accuracy"] == accuracy
    assert value["scores"]["majority"]["accuracy"]["sd"] is None
    on_dev = {"mean": 0.7, "sd": 0.141421, "low": None, "high": None, "n_runs": 2}
    assert value["scores"]["hcam"]["dev/accuracy"] == on_dev
    assert list(value["scores"]) == ["majority", "hcam"]
    assert pl.DataFrame(value["pairs"]).rows() == tiny.pairs.rows()


def test_runs_for_the_tracker(tiny: Scores, tmp_path: Path) -> None:
    write_runs(tmp_path, tiny)
    back = pl.read_parquet(tmp_path / "runs.parquet")
    assert back.columns == ["model", "seed", "fold", "metric", "value"]
    assert back.filter(metric="accuracy")["value"].to_list() == [0.5, 0.75, 1.0]
    confusion = pl.read_parquet(tmp_path / "confusion.parquet")
    assert confusion.columns == ["model", "seed", "fold", "utterances", "true", "predicted", "count"]
    keys = ["model", "utterances", "true", "predicted"]
    summed = confusion.group_by(keys, maintain_order=True).agg(pl.col("count").sum())
    assert summed.rows() == tiny.confusion.rows()


def test_folds_get_a_table_of_their_own(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = pl.concat([truth(n_dialogues=3), truth(n_dialogues=3, fold=1, prefix="x")])
    table = markdown_table(score(guess(targets, 0.7, "hcam"), targets, classes, ScoringConfig(resamples=50)))
    assert table.count("| hcam |") == 2
    assert "pooled over the folds" in table
    assert table.rstrip().endswith("| 3 |")


def test_scores_without_zeros_get_a_table_of_their_own(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth(n_dialogues=4)
    sentiment = targets.with_columns(sentiment=pl.Series([0.0, 1.5] * (len(targets) // 2)))
    runs = guess(targets, 0.7, "hcam")
    table = markdown_table(score(runs, sentiment, classes, ScoringConfig(resamples=50), runs.with_columns(epoch=1)))
    assert table.count("| hcam |") == 4
    assert "\n\nWithout the utterances whose sentiment is zero:" in table
    assert "was chosen this way. Without the utterances whose sentiment is zero:" in table


def test_the_best_epoch_on_test_is_called_what_it_is(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth(n_dialogues=4)
    runs = pl.concat([guess(targets, 0.7, "hcam"), guess(targets, 0.7, "late")])
    epochs = guess(targets, 0.8, "hcam").with_columns(epoch=1)
    table = markdown_table(score(runs, targets, classes, ScoringConfig(resamples=50), epochs))
    assert (table.count("| hcam |"), table.count("| late |")) == (2, 1)
    assert "too high, because test chose the epoch" in table


def test_best_model(tiny: Scores) -> None:
    assert best_model(tiny, ["majority", "hcam"]) == "hcam"
    assert best_model(tiny, ["majority", "not scored"]) == "majority"
    with pytest.raises(ScoringError, match="not scored"):
        best_model(tiny, ["not scored"])


def test_a_comparison_with_a_model_that_was_not_scored(tiny: Scores) -> None:
    with pytest.raises(ScoringError, match=r"'late'.*compared: \['hcam', 'majority'\]"):
        markdown_table(tiny, [("hcam", "late")])


def test_learning_curves_are_in_table_order() -> None:
    epochs = [{"epoch": epoch, "loss": 1 / epoch, "dev_weighted_f1": epoch / 3} for epoch in (1, 2)]
    curves = learning_curves(
        [
            {"model": "hcam", "seed": 1, "fold": 0, "history": epochs},
            {"model": "hcam", "seed": 0, "fold": 0, "history": epochs[:1]},
            {"model": "majority", "seed": 0, "fold": 0, "history": []},
            {"model": "concat", "seed": 0, "fold": 0, "history": epochs[:1]},
        ]
    )
    assert curves.columns == ["model", "seed", "fold", "epoch", "loss", "dev_weighted_f1"]
    assert curves.rows() == [
        ("concat", 0, 0, 1, 1.0, 0.333333),
        ("hcam", 0, 0, 1, 1.0, 0.333333),
        ("hcam", 1, 0, 1, 1.0, 0.333333),
        ("hcam", 1, 0, 2, 0.5, 0.666667),
    ]


def test_ablations_stand_apart_and_are_never_bold(truth: Make, guess: Make, classes: tuple[str, ...]) -> None:
    targets = truth(n_dialogues=10)
    skills = {"hcam": 0.5, "hcam/no-context": 0.95, "late": 0.4}
    runs = pl.concat([guess(targets, skill, model) for model, skill in skills.items()])
    table = markdown_table(score(runs, targets, classes, ScoringConfig(resamples=20)))
    first, _, apart = table.partition(f"{ABLATIONS}:")
    assert "no-context" not in first
    assert "| hcam | **" in first
    assert "| hcam/no-context | " in apart
    assert "**" not in apart
