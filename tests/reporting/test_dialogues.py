"""The example of each model: from its best run on dev, joined by id, with the corpus's words where asked for."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from emofuse.core.files import write_json
from emofuse.reporting.dialogues import Dialogue, read_dialogues

IDS = ["d_0", "d_1", "d_2"]
CLASSES = ("calm", "cross")


@pytest.fixture
def folders(tmp_path: Path, leave_run: Callable[..., Path]) -> list[Path]:
    """Runs of two models and an ablation with an example each, and one run without."""
    found = [leave_run(tmp_path / "majority/seed-0", "majority")]
    for model, seed in (("hbaf", 0), ("hbaf", 1), ("hcam/no-context", 0), ("hcam", 0), ("hcam", 1)):
        found.append(leave_run(tmp_path / model / f"seed-{seed}", model, seed, 50 + 10 * seed))
        example = {"attention": {"a": [[1.0] * 3] * 3}, "gate": {"audio": [0.1 * seed] * 3}}
        write_json(found[-1] / "attention.json", {"utterance_ids": IDS, **example})
    return found


@pytest.fixture
def runs() -> pl.DataFrame:
    """Answers to the last turn and the first; seed 1 says the opposite, and so does dev."""
    rows = [
        (model, seed, 0, split, utterance, [sure, 1 - sure] if (seed == 0) == (split == "test") else [1 - sure, sure])
        for model in ("hbaf", "hcam")
        for seed in (0, 1)
        for split in ("dev", "test")
        for utterance, sure in (("d_2", 0.75), ("d_0", 0.25))
    ]
    return pl.DataFrame(rows, schema=["model", "seed", "fold", "split", "utterance_id", "probabilities"], orient="row")


def shown(folders: list[Path], runs: pl.DataFrame, utterances: pl.DataFrame | None = None) -> list[Dialogue]:
    return read_dialogues(folders, runs, CLASSES, utterances)


def test_each_model_shows_its_best_run_on_dev_in_the_order_of_tables(folders: list[Path], runs: pl.DataFrame) -> None:
    found = shown(folders, runs)
    assert [(each.model, each.seed) for each in found] == [("hcam", 1), ("hbaf", 1)]
    assert [each.gate for each in found] == [{"audio": [0.1] * 3}] * 2
    for each in found:
        assert each.turns.rows() == [("d_0", "calm", 0.75), ("d_1", None, None), ("d_2", "cross", 0.75)]
        assert not each.has_words


def test_words_are_joined_by_id_and_a_turn_without_any_stays(folders: list[Path], runs: pl.DataFrame) -> None:
    words = pl.DataFrame({"utterance_id": ["d_2", "x", "d_0"], "speaker": ["B", "X", "A"]})
    words = words.with_columns(text=pl.lit("words of ") + pl.col("utterance_id"), target=pl.lit("calm"))
    for each in shown(folders, runs, words):
        assert each.has_words
        assert each.turns["text"].to_list() == ["words of d_0", None, "words of d_2"]
        assert each.turns["speaker"].to_list() == ["A", None, "B"]
