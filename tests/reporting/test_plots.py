"""Pictures are there, the same twice, and made without global state."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from emofuse.reporting.plots import plot_confusion, plot_learning, plot_scores, write_plot
from emofuse.scoring.scores import Scores, ScoringConfig, score

Make = Callable[..., pl.DataFrame]


@pytest.fixture
def scores(truth: Make, guess: Make, predict: Make, classes: tuple[str, ...]) -> Scores:
    targets = pl.concat([truth(n_dialogues=4), truth(n_dialogues=4, fold=1, prefix="x")])
    majority = predict(targets, [0] * len(targets), "majority")
    return score(pl.concat([majority, guess(targets, 0.7, "hcam")]), targets, classes, ScoringConfig(resamples=50))


def records() -> list[dict[str, Any]]:
    history = [{"epoch": epoch, "loss": 1 / epoch, "dev_weighted_f1": 0.1 * epoch} for epoch in (1, 2, 3)]
    trained = [{"model": "hcam", "seed": seed, "fold": 0, "best_epoch": 3, "history": history} for seed in (0, 1)]
    return [*trained, {"model": "majority", "seed": 0, "fold": 0, "best_epoch": None, "history": []}]


def in_two_parts(scores: Scores) -> pl.DataFrame:
    whole = scores.confusion.filter(model="hcam")
    return pl.concat([whole, whole.with_columns(utterances=pl.lit("nonzero"))])


@pytest.mark.parametrize(
    "draw",
    [
        lambda scores: plot_confusion(scores.confusion.filter(model="hcam"), "hcam"),
        lambda scores: plot_confusion(in_two_parts(scores), "hcam"),
        lambda scores: plot_scores(scores),
        lambda scores: plot_scores(scores, ["accuracy", "f1/happy"]),
        lambda scores: plot_learning(records()),
        lambda scores: plot_learning(records()[-1:]),
    ],
    ids=["confusion", "two confusions", "scores", "other metrics", "learning", "nothing learned"],
)
def test_pictures_are_the_same_twice(draw: Callable[[Scores], bytes], scores: Scores) -> None:
    png = draw(scores)
    assert png.startswith(b"\x89PNG")
    assert len(png) > 3000
    assert png == draw(scores)
    assert b"tEXt" not in png  # where matplotlib puts its version


def test_written_whole(tmp_path: Path) -> None:
    write_plot(tmp_path / "plots" / "a.png", b"abc")
    assert (tmp_path / "plots" / "a.png").read_bytes() == b"abc"


def test_heavy_imports_wait() -> None:
    code = "import sys, emofuse.scoring; print({'matplotlib', 'sklearn', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
