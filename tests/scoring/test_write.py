"""What is written for programs, byte by byte where it can be derived by hand."""

import json
from pathlib import Path

import polars as pl
import pytest

from emofuse.scoring.scores import Scores
from emofuse.scoring.write import learning_curves, scores_on_dev, write_runs, write_scores


@pytest.fixture
def dev() -> pl.DataFrame:
    """What dev says of their runs: hcam's mean accuracy is 0.7 with a deviation of 0.2 / sqrt(2)."""
    by_run = [("hcam", 0.8, 0.75), ("hcam", 0.6, 0.65), ("majority", 0.5, 0.3)]
    return scores_on_dev([{"model": model, "dev": {"accuracy": a, "weighted_f1": f}} for model, a, f in by_run])


def test_files(tiny: Scores, dev: pl.DataFrame, tmp_path: Path) -> None:
    write_scores(tmp_path, tiny, dev, {"task": "tiny", "split": "one dialogue"}, "| table |\n")
    assert (tmp_path / "table.md").read_text() == "| table |\n"
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
    write_scores(tmp_path, tiny, dev, {"task": "tiny"}, "| table |\n")
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
