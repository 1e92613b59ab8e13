"""Predictions that others made, in files as people write them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from emofuse.core import schema
from emofuse.core.params import ParamsError, validate
from emofuse.plan import External
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.external import ExternalPredictions, read_external
from emofuse.scoring.predictions import ScoringError
from emofuse.scoring.scores import score

Make = Callable[..., pl.DataFrame]
CLASSES = ("angry", "happy", "sad")
TRUTH = pl.DataFrame(
    [
        (0, "dev", "001", "0", 0),
        (0, "dev", "002", "0", 1),
        (0, "test", "003", "1", 2),
        (0, "test", "004", "2", 1),
    ],
    schema={
        "fold": pl.Int32,
        "split": pl.String,
        "utterance_id": pl.String,
        "dialogue_id": pl.String,
        "target": pl.Int64,
    },
    orient="row",
)
IDS = ("000", *TRUTH["utterance_id"])
"""The first is of train."""


def read(path: Path, truth: pl.DataFrame = TRUTH, ids: Sequence[str] = IDS) -> ExternalPredictions:
    return read_external(path, "asked", "tiny", truth, CLASSES, ids)


def csv(folder: Path, *lines: str) -> Path:
    path = folder / "predictions.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_labels_of_test_alone_become_rows_that_are_scored(tmp_path: Path) -> None:
    """With a byte order mark, as spreadsheets write it, ids that look like numbers, and another column."""
    path = csv(tmp_path, "\ufeffutterance_id,label,why", '004,sad,"a sigh, and a pause"', "003, sad ,", "000,happy,")
    found = read(path)
    assert found.kind == "labels"
    schema.conform(found.rows.to_arrow(compat_level=pl.CompatLevel.oldest()), schema.PREDICTIONS, "rows")
    assert found.rows.drop("probabilities").rows() == [
        ("tiny", "asked", 0, 0, "test", "003"),
        ("tiny", "asked", 0, 0, "test", "004"),
    ]
    assert found.rows["probabilities"].to_list() == [[0, 0, 1], [0, 0, 1]]
    scores = score(found.rows, TRUTH, CLASSES, ScoringConfig(resamples=10))
    assert scores.models.filter(metric="accuracy")["mean"].to_list() == [0.5]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_probabilities_are_those_of_their_class_whatever_the_order_of_columns(tmp_path: Path, suffix: str) -> None:
    table = pl.DataFrame({"sad": [0.7, 0.1, 0.0, 0.333], "utterance_id": IDS[:0:-1], "angry": [0.2, 0.8, 1.0, 0.333]})
    table = table.with_columns(happy=pl.Series([0.1, 0.1, 0.0, 0.333]))
    path = tmp_path / f"predictions.{suffix}"
    table.write_csv(path) if suffix == "csv" else table.write_parquet(path)
    found = read(path)
    assert found.kind == "probabilities"
    assert found.rows.select("split", "utterance_id").rows() == TRUTH.select("split", "utterance_id").rows()
    expected = [[1 / 3, 1 / 3, 1 / 3], [1, 0, 0], [0.8, 0.1, 0.1], [0.2, 0.1, 0.7]]
    np.testing.assert_allclose(found.rows["probabilities"].to_list(), expected, rtol=1e-6)


def test_labels_of_a_parquet_may_be_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    pl.DataFrame({"utterance_id": IDS, "label": pl.Series(["sad"] * 5, dtype=pl.Categorical)}).write_parquet(path)
    assert read(path).rows["probabilities"].to_list() == [[0, 0, 1]] * 4


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["id,label", "003,sad"], "no column 'utterance_id'; columns are .'id', 'label'."),
        (["utterance_id,label", "003,sad"], "utterances missing: '004'"),
        (["utterance_id,label", "003,sad", "004,sad", "003,sad"], "utterances doubled: '003'"),
        (["utterance_id,label", "003,sad", "004,sad", "3,sad"], "utterances not in the corpus: '3'"),
        (["utterance_id,label", "003,sad", "004,sad", ",sad"], "1 rows have no utterance_id"),
        (["utterance_id,label", "003,sad", "004,joy"], "label of '004' is 'joy', 1 such in all; expected one of"),
        (["utterance_id,label", "003,sad", "004,"], "label of '004' is None"),
        (["utterance_id,label", "003,sad", "004,sad", "001,sad"], "utterances missing; .* all of dev or none: '002'"),
        (["utterance_id,happy,sad", "003,1,0", "004,1,0"], "none for the classes .'angry'."),
        (["utterance_id,label,sad", "003,sad,1", "004,sad,1"], r"columns 'label' and \['sad'\]; expected a label or"),
        (["utterance_id,angry,happy,sad", "003,1,0,0", "004,0.5,0.4,0.2"], "add up to 1 ± 0.01: '004'"),
        (["utterance_id,angry,happy,sad", "003,1,0,0", "004,1.5,-0.5,0"], "from 0 to 1 .*: '004'"),
        (["utterance_id,angry,happy,sad", "003,1,0,0", "004,1,,0"], "from 0 to 1 .*: '004'"),
        (["utterance_id,angry,happy,sad", "003,1,0,0", "004,much,0,0"], "from 0 to 1 .*: '004'"),
        (["utterance_id,angry,happy,sad", "003,1,0,0", "004,nan,0,0"], "from 0 to 1 .*: '004'"),
        ([], "predictions.csv"),
    ],
)
def test_what_is_missing_doubled_unknown_or_no_answer_is_refused(tmp_path: Path, lines: list[str], fault: str) -> None:
    path = csv(tmp_path, *lines)
    with pytest.raises(ScoringError, match=fault) as raised:
        read(path)
    assert str(path) in str(raised.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, content in (("predictions.parquet", b"utterance_id,label"), ("predictions.xlsx", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ScoringError, match=name):
            read(tmp_path / name)
    with pytest.raises(ScoringError, match=r"none\.csv: not found"):
        read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            b'utterance_id,label\n003,sad\n004,"sad\n',
            "row 2, from line 3: not valid CSV: unexpected end of data; a quote",
        ),
        (b'utterance_id,why,label\n003,"she said "no"",sad\n004,,sad\n', "row 1, from line 2: not valid CSV"),
        (b"utterance_id,label\n003,sad\n004,sad,for a reason\n", "row 2: 3 cells; expected 2, as the header has"),
        (b"utterance_id,label,why\n003,sad,na\xefve\n004,sad,\n", "not UTF-8: the byte ef in line 2; save the table"),
        (b"utterance_id,label\n003,sad\n004,sad\0\n", "line 3: a zero byte"),
        (b"utterance_id,label,label\n003,sad,sad\n", "the column 'label' occurs more than once"),
        (b"utterance_id,label\n003,sad\n004," + 5_000 * b"sad " + b"\n", "the label of '004' is 'sad sad"),
    ],
)
def test_a_damaged_row_is_named_and_none_shifts_another(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_bytes(content)
    with pytest.raises(ScoringError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: {fault}")
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_line_separators_inside_a_cell_are_part_of_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("utterance_id,why,label\n003,a\u2028b\x85c,sad\n004,'q',happy\n", encoding=encoding)
    assert read(path).rows.select("utterance_id", "probabilities").rows() == [("003", [0, 0, 1]), ("004", [0, 1, 0])]


def test_a_named_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "predictions.csv")
    with pytest.raises(ScoringError, match="not a regular file"):
        read(tmp_path / "predictions.csv")


def test_folds_that_test_the_same_utterances_are_answered_once_and_others_each(
    truth: Make, guess: Make, tmp_path: Path
) -> None:
    """In the second case each fold's dev is the test of the other."""
    same = pl.concat([truth(fold=fold) for fold in range(3)])
    parts = [truth(fold=fold, prefix=f"s{part}_") for fold, part in ((0, 0), (0, 1), (1, 1), (1, 0))]
    split = [part.with_columns(split=pl.lit(("test", "dev")[place % 2])) for place, part in enumerate(parts)]
    for targets, folds in (
        (same, {(0, "test")}),
        (pl.concat(split), {(f, s) for f in (0, 1) for s in ("dev", "test")}),
    ):
        ids = targets["utterance_id"].unique()
        path = tmp_path / "predictions.csv"
        pl.DataFrame({"utterance_id": ids, "label": "sad"}).write_csv(path)
        rows = read(path, targets, ids.to_list()).rows
        assert set(rows.select("fold", "split").unique().rows()) == folds
        own = guess(targets.filter(split="test"), 0.6, "hcam")
        scores = score(pl.concat([rows, own]), targets, CLASSES, ScoringConfig(resamples=10))
        assert scores.pairs.filter(metric="accuracy").select("model_a", "model_b").rows() == [("asked", "hcam")]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{name: a, task: t, file: a.csv, source: a model of 2025, labels_seen: maybe}", "labels_seen"),
        ("{name: a, task: t, file: a.csv, source: a model of 2025}", "labels_seen"),
        ("{name: a, task: t, file: a.csv, source: '', labels_seen: true}", "source"),
        ("{name: a/b, task: t, file: a.csv, source: a model of 2025, labels_seen: true}", "letters, digits"),
    ],
)
def test_an_entry_says_who_made_it_and_whether_it_may_have_seen_the_labels(text: str, fault: str) -> None:
    for seen in ("yes", "no", "unknown"):  # The first two are booleans of YAML.
        entry: Any = yaml.safe_load(f"{{name: a, task: t, file: a.csv, source: a model of 2025, labels_seen: {seen}}}")
        assert validate(entry, External, "external").labels_seen in (True, False, "unknown")
    with pytest.raises(ParamsError, match=fault):
        validate(yaml.safe_load(text), External, "external")
