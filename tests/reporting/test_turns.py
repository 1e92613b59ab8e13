"""The turns of test that a page and its sound are made of: whole dialogues, what most runs predict, no other split."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from emofuse.core.layout import Layout
from emofuse.core.params import Params
from emofuse.reporting import turns as module
from emofuse.reporting.sound import write_sound
from emofuse.reporting.turns import as_json, read_turns, shown_utterances
from emofuse.tasks import Task

Project = Any


@pytest.fixture
def task(project: Project) -> Task:
    return Task.load("demo", Params.load(root=project.root), Layout(project.root))


def runs(rows: list[tuple[str, int, str, list[float]]]) -> pl.DataFrame:
    schema = ["model", "seed", "utterance_id", "probabilities"]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(split=pl.lit("test"), fold=0)


def test_whole_dialogues_of_test_and_no_others(project: Project, task: Task) -> None:
    table, n_dialogues = shown_utterances(task, Layout(project.root))
    whole = pl.read_parquet(Layout(project.root).corpus("demo") / "utterances.parquet").filter(split="test")
    assert table["utterance_id"].to_list() == whole["utterance_id"].to_list()
    assert table["text"].to_list() == whole["text"].to_list()
    assert n_dialogues == whole["dialogue_id"].n_unique()
    assert table.filter(pl.col("target").is_null()).height == whole["label"].null_count()


def test_a_large_test_is_cut_at_the_end_of_a_dialogue(
    project: Project, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, n_dialogues = shown_utterances(task, Layout(project.root))
    first = whole["dialogue_id"][0]
    for most in (1, whole.filter(dialogue_id=first).height):
        monkeypatch.setattr(module, "MOST", most)
        table, n = shown_utterances(task, Layout(project.root))
        assert table.equals(whole.filter(dialogue_id=first))
        assert n == n_dialogues


def test_long_words_are_cut_at_the_end_of_a_dialogue(
    project: Project, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = shown_utterances(task, Layout(project.root))
    first, second = whole["dialogue_id"].unique(maintain_order=True)[:2]
    of_two = whole.filter(pl.col("dialogue_id").is_in([first, second]))
    size = sum(len(json.dumps(each)) for each in of_two["text"])
    for most, expected in ((1, whole.filter(dialogue_id=first)), (size, of_two)):
        monkeypatch.setattr(module, "MOST_BYTES", most)
        assert shown_utterances(task, Layout(project.root))[0].equals(expected)


def test_what_most_runs_predict_and_how_many_are_right(project: Project, task: Task) -> None:
    table, _ = shown_utterances(task, Layout(project.root))
    rows = table.filter(pl.col("target").is_not_null())
    name, target = rows["utterance_id"][0], rows["target"][0]
    other = (target + 1) % 4
    says = {number: [1.0 if each == number else 0.0 for each in range(4)] for number in (target, other)}
    result = runs([("hcam", 0, name, says[other]), ("hcam", 1, name, says[target]), ("hcam", 2, name, says[other])])
    ablation = runs([("hcam/no-context", 0, name, says[target])])
    found = read_turns(task, Layout(project.root), pl.concat([result, ablation]))
    place = table["utterance_id"].to_list().index(name)
    assert list(found.predicted) == ["hcam"]
    assert (found.predicted["hcam"][place], found.right["hcam"][place]) == (other, 1)
    assert found.predicted["hcam"].count(None) == table.height - 1
    columns = as_json(found, task.classes, {"hcam": 3})
    assert columns["models"]["hcam"] == {"runs": 3, "predicted": found.predicted["hcam"], "right": found.right["hcam"]}
    assert len(columns["dialogue"]) == len(columns["text"]) == table.height
    assert columns["speakers"][columns["speaker"][place]] == table["speaker"][place]


def test_each_turn_s_sound_is_a_file(project: Project, task: Task, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/corpora").symlink_to(project.root / "data/corpora")
    write_sound(task, Layout(tmp_path))
    folder = Layout(tmp_path).sound("demo")
    table, _ = shown_utterances(task, Layout(project.root))
    names = dict(table.drop_nulls("sound").select("utterance_id", "sound").rows())
    assert {path.name for path in folder.iterdir()} == {"index.json", *names.values()}
    dialogue = table["dialogue_id"][0]
    for place, row in enumerate(table.filter(dialogue_id=dialogue).to_dicts()):
        if row["sound"]:
            laid = project.conversations[dialogue] / f"{place}.flac"
            assert (folder / row["sound"]).read_bytes() == laid.read_bytes()


def test_a_corpus_without_sound_has_a_folder_that_is_not_empty(project: Project, task: Task, tmp_path: Path) -> None:
    corpus = Layout(tmp_path).corpus("demo")
    corpus.mkdir(parents=True)
    whole = pl.read_parquet(Layout(project.root).corpus("demo") / "utterances.parquet")
    silent = whole.with_columns(n_samples=pl.lit(None, pl.Int64), audio_sha256=pl.lit(None, pl.String))
    silent.write_parquet(corpus / "utterances.parquet")
    write_sound(task, Layout(tmp_path))
    assert (Layout(tmp_path).sound("demo") / "index.json").read_text() == "{}\n"
