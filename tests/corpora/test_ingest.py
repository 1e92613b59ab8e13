"""From a raw folder to the project's own form: exact rows and counts, or an error and nothing half-written."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import soundfile

from emofuse import corpora
from emofuse.audio.flac import decode
from emofuse.audio.sound import AudioFile
from emofuse.core import schema
from emofuse.core.params import ParamsError, validate
from emofuse.core.sharding import shard_name, shard_of
from emofuse.corpora import Corpus, CorpusError, Utterance
from emofuse.corpora.ingest import CorpusConfig, check, ingest

Row = Callable[..., dict[str, str]]
Write = Callable[..., Path]

EIGHT = [1.5, 60, 8, 200, 40, 160, 3.5, 2.25]


def turn(utterance_id: str, dialogue: str, number: int, **more: Any) -> Utterance:
    return Utterance(utterance_id, dialogue, number, "Ross", "Hi.", "joy", **more)


def table(*ids: str) -> pl.DataFrame:
    return pl.DataFrame({"utterance_id": ids, "value": [1.0] * len(ids)}, schema_overrides={"utterance_id": pl.String})


def test_a_good_corpus_passes() -> None:
    check(Corpus([turn("a", "d", 0), turn("b", "d", 1), turn("c", "e", 0)], {"values": table("b", "x")}))


@pytest.mark.parametrize(
    ("utterances", "tables", "fault"),
    [
        ([], {}, "the corpus has no utterances"),
        ([turn("a", "d", 0), turn("a", "d", 1)], {}, r"utterance_id: 1 ids occur more than once, such as \['a'\]"),
        ([turn("a", "d", 0), turn("a", "e", 0)], {}, r"utterance_id: 1 ids occur more than once, such as \['a'\]"),
        (
            [turn("a", "d", 0), turn("b", "e", 0), turn("c", "d", 1)],
            {},
            "^c: dialogue d is not in one piece",
        ),
        ([turn("a", "d", 1)], {}, "^a: turn is 1; expected 0"),
        ([turn("a", "d", 0), turn("b", "d", 2)], {}, "^b: turn is 2; expected 1"),
        ([turn("a", "d", 0), turn("b", "d", 0)], {}, "^b: turn is 0; expected 1"),
        ([turn("a", "d", 0), turn("b", "e", 1)], {}, "^b: turn is 1; expected 0"),
        ([turn("a", "d", 0)], {"values": table("a", "x", "x")}, "of table 'values': 1 ids occur more .*'x'"),
    ],
)
def test_what_later_stages_take_for_granted(
    utterances: Sequence[Utterance], tables: dict[str, pl.DataFrame], fault: str
) -> None:
    with pytest.raises(CorpusError, match=fault):
        check(Corpus(utterances, tables))


@pytest.fixture
def meld(tmp_path: Path, meld_row: Row, write_meld: Write) -> Path:
    """Eight utterances with MELD's oddities; ids repeat from split to split and have gaps."""
    late = {"StartTime": "00:00:09,000", "EndTime": "00:00:02,000"}
    transcripts = {
        "train": [
            meld_row(1, 0, "Second dialogue"),
            meld_row(0, 5, "It\x92s \x93here\x94\x85 now", Speaker="Monica", Emotion="sadness", Sentiment="negative"),
            meld_row(0, 2, "First, \u201creally\u201d", Emotion="neutral", Sentiment="neutral"),
            meld_row(0, 9, "", Emotion="neutral", Sentiment="neutral"),
        ],
        "dev": [meld_row(0, 2, 'She said "no",\nthen left'), meld_row(0, 3, "Bad times", **late)],
        "test": [meld_row(0, 2, "Test", Emotion=""), meld_row(7, 0, "Test", Speaker="Emily")],
    }
    prosody = {
        "train": {"dia1_utt0": EIGHT, "dia0_utt5": ["", *EIGHT[1:]], "dia0_utt2": EIGHT, "dia88_utt1": EIGHT},
        "dev": {"dia0_utt2": EIGHT, "dia0_utt3": ["nan", *EIGHT[1:]]},
        "test": {"dia7_utt0": [9.5, *EIGHT[1:]], "dia0_utt2": EIGHT},
    }
    return write_meld(tmp_path / "raw", transcripts, prosody)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Ingest a folder as the corpus `small` and return the paths of what that wrote, and their bytes."""

    def ingest_into(source: Path, name: str = "a", **options: Any) -> dict[str, bytes]:
        usual: dict[str, Any] = {"name": "small", "reader": "meld", "source": str(source)}
        usual |= {"shards": 2, "max_seconds": 10.0, "max_defective": 1.0}
        out = tmp_path / name
        config = validate(usual | options, CorpusConfig, "corpus")
        ingest(config, out / "small", out / "metrics" / "small.json")
        return {str(each.relative_to(out)): each.read_bytes() for each in sorted(out.rglob("*")) if each.is_file()}

    return ingest_into


def test_the_tables_say_whose_terms_they_fall_under(tmp_path: Path, meld: Path, run: Callable[..., Any]) -> None:
    run(meld)
    run(meld, "b", terms="for members of the project alone")
    terms = [pl.read_parquet_metadata(tmp_path / name / "small/utterances.parquet")["terms"] for name in "ab"]
    assert terms[0].startswith("the MELD project, https://github.com/declare-lab/MELD")
    assert terms[1] == "for members of the project alone"
    assert (tmp_path / "a/small/audio").is_dir()


def test_meld_s_rows(tmp_path: Path, meld: Path, run: Callable[..., Any]) -> None:
    run(meld)
    rows = pq.read_table(tmp_path / "a" / "small" / "utterances.parquet")
    assert rows.schema.remove_metadata().equals(schema.UTTERANCES)
    shown = ["utterance_id", "dialogue_id", "turn", "speaker", "text", "label", "sentiment", "split", "defects"]
    assert [tuple(row.values()) for row in rows.select(shown).to_pylist()] == [
        ("train_dia0_utt2", "train_dia0", 0, "Ross", "First, “really”", "neutral", 0.0, "train", []),
        ("train_dia0_utt5", "train_dia0", 1, "Monica", "It’s “here”… now", "sadness", -1.0, "train", []),
        (
            *("train_dia0_utt9", "train_dia0", 2, "Ross", None, "neutral", 0.0, "train"),
            ["text_empty", "prosody_missing"],
        ),
        ("train_dia1_utt0", "train_dia1", 0, "Ross", "Second dialogue", "joy", 1.0, "train", []),
        ("dev_dia0_utt2", "dev_dia0", 0, "Ross", 'She said "no", then left', "joy", 1.0, "dev", []),
        ("dev_dia0_utt3", "dev_dia0", 1, "Ross", "Bad times", "joy", 1.0, "dev", ["time_invalid"]),
        ("test_dia0_utt2", "test_dia0", 0, "Ross", "Test", None, 1.0, "test", []),
        ("test_dia7_utt0", "test_dia7", 0, "Emily", "Test", "joy", 1.0, "test", []),
    ]
    hidden = rows.select(["start_s", "end_s", "session", "audio_sha256", "n_samples"]).to_pylist()
    assert [tuple(row.values()) for row in hidden] == [
        *[(1.5, 2.75, "s01e02", None, None)] * 5,
        (None, None, "s01e02", None, None),
        *[(1.5, 2.75, "s01e02", None, None)] * 2,
    ]


def test_meld_s_prosody(tmp_path: Path, meld: Path, run: Callable[..., Any]) -> None:
    run(meld)
    found = pl.read_parquet(tmp_path / "a" / "small" / "tables" / "prosody.parquet")
    assert found.width == 9
    assert dict(found.select("utterance_id", "duration").rows()) == {
        **{"train_dia0_utt2": 1.5, "train_dia0_utt5": None, "train_dia1_utt0": 1.5},
        **{"dev_dia0_utt2": 1.5, "dev_dia0_utt3": None, "test_dia0_utt2": 1.5, "test_dia7_utt0": 9.5},
    }


def test_meld_s_summary(tmp_path: Path, meld: Path, run: Callable[..., Any]) -> None:
    run(meld)
    summary = json.loads((tmp_path / "a" / "metrics" / "small.json").read_text())
    notes = summary.pop("notes")
    assert not [note for note in notes if "prosody" in note]
    assert summary == {
        **{"utterances": 8, "dialogues": 5, "speakers": 3, "hours_of_audio": 0.0},
        "splits": {
            "dev": {"joy": 2},
            "test": {"joy": 1, "unlabelled": 1},
            "train": {"joy": 1, "neutral": 2, "sadness": 1},
        },
        "defects": {"prosody_missing": 1, "text_empty": 1, "time_invalid": 1},
        "tables": {
            "prosody": {
                "columns": 8,
                "rows_of_known_utterances": 7,
                "rows_of_unknown_utterances": 1,
                "utterances_without_a_row": 1,
            }
        },
    }


def test_twice_the_same_bytes(meld: Path, run: Callable[..., dict[str, bytes]]) -> None:
    first, second, again = run(meld, "a"), run(meld, "b"), run(meld, "a")
    assert set(first) == {
        *("small/utterances.parquet", "small/tables/prosody.parquet", "small/tables/tables.json"),
        "metrics/small.json",
    }
    assert first == second == again


def test_a_wrong_sentiment_leaves_what_was_there(tmp_path: Path, meld: Path, run: Callable[..., Any]) -> None:
    before = run(meld)
    path = meld / "dev_sent_emo.csv"
    path.write_text(path.read_text().replace("positive", "Positive", 1))
    with pytest.raises(CorpusError, match=r"dev_sent_emo\.csv: dev_dia0_utt2: Sentiment is 'Positive'; expected one"):
        run(meld)
    assert {each: (tmp_path / "a" / each).read_bytes() for each in before} == before
    assert [each.name for each in (tmp_path / "a").iterdir() if each.name.startswith(".")] == []


def test_too_many_defects_are_an_error(tmp_path: Path, meld: Path, run: Callable[..., Any]) -> None:
    with pytest.raises(CorpusError) as error:
        run(meld, max_defective=0.2)
    assert str(error.value) == (
        "2 of 8 utterances have a defect, more than max_defective 0.2 allows: "
        "train_dia0_utt9 (text_empty; prosody_missing), dev_dia0_utt3 (time_invalid)"
    )
    assert [each for each in (tmp_path / "a").rglob("*") if each.is_file()] == []
    run(meld, max_defective=0.25)


def test_published_tables_that_the_parameters_name(tmp_path: Path, meld: Path, run: Callable[..., Any]) -> None:
    (meld / "extra.csv").write_text("clip,a,b\ntrain-0-2,1,2\ntest-7-0,,4\ntest-7-1,5,6\n")
    rename = {r"(\w+)-(\d+)-(\d+)": r"\1_dia\2_utt\3"}
    run(meld, tables={"extra_2": {"path": "extra.csv", "key": "clip", "rename": rename}})
    table = pl.read_parquet(tmp_path / "a" / "small" / "tables" / "extra_2.parquet")
    assert table.rows() == [("train_dia0_utt2", 1.0, 2.0), ("test_dia7_utt0", None, 4.0)]
    summary = json.loads((tmp_path / "a" / "metrics" / "small.json").read_text())
    assert summary["tables"]["extra_2"]["rows_of_unknown_utterances"] == 1
    assert summary["defects"]["extra_2_missing"] == 6
    assert set(summary["tables"]) == {"extra_2", "prosody"}


def test_the_tables_are_listed_so_that_no_corpus_has_an_empty_folder_of_them(
    tmp_path: Path, meld: Path, run: Callable[..., dict[str, bytes]]
) -> None:
    listed = json.loads(run(meld)["small/tables/tables.json"])
    table = pl.read_parquet(tmp_path / "a/small/tables/prosody.parquet")
    assert listed == {"prosody": [name for name in table.columns if name != "utterance_id"]}
    (meld / "meld_dev_audio_features.csv").unlink()
    assert json.loads(run(meld)["small/tables/tables.json"]) == {}


def test_what_looks_at_the_corpus_can_stop_it_before_its_sound_is_decoded(
    tmp_path: Path, meld: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CorpusConfig("small", "meld", str(meld), shards=2, max_seconds=10.0, max_defective=1.0)
    monkeypatch.setattr("emofuse.corpora.ingest.prepare_all", lambda *_: pytest.fail("sound was decoded"))

    def refuse(utterances: pl.DataFrame, split_source: str) -> None:
        assert split_source == "official: MELD's own"
        assert utterances["label"].drop_nulls().unique().sort().to_list() == ["joy", "neutral", "sadness"]
        raise ValueError("not this corpus")

    with pytest.raises(ValueError, match="not this corpus"):
        ingest(config, tmp_path / "small", tmp_path / "small.json", refuse)
    assert not (tmp_path / "small").exists()


def test_a_table_of_a_name_that_the_reader_uses_is_refused(meld: Path, run: Callable[..., Any]) -> None:
    fault = r"^corpus\.tables: the reader of meld finds tables of these names itself: \['prosody'\]"
    with pytest.raises(CorpusError, match=fault):
        run(meld, tables={"prosody": {"path": "meld_dev_audio_features.csv", "key": "filename"}})


def test_a_table_s_name_is_no_path() -> None:
    values = {"name": "small", "reader": "own", "source": "x", "shards": 1, "max_seconds": 1.0, "max_defective": 0.0}
    with pytest.raises(ParamsError, match=r"corpus\.tables\..*: '\.\./up': String should match pattern"):
        validate(values | {"tables": {"../up": {"path": "x.csv"}}}, CorpusConfig, "corpus")


def test_nothing_of_an_earlier_run_stays(tmp_path: Path, meld: Path, run: Callable[..., dict[str, bytes]]) -> None:
    run(meld)
    (tmp_path / "a" / ".small.killed~").mkdir()
    (meld / "meld_dev_audio_features.csv").unlink()
    assert set(run(meld)) == {"small/utterances.parquet", "small/tables/tables.json", "metrics/small.json"}
    assert sorted(each.name for each in (tmp_path / "a").iterdir()) == ["metrics", "small"]


def spoken(folder: Path) -> Corpus:
    """Dialogues of two turns: a tone of its own for each, and in the first dialogue what can be wrong."""
    utterances = []
    for number in range(12):
        path = folder / f"{number}.wav"
        stereo = np.stack([np.full(9_600 + number, 0.5), np.full(9_600 + number, -0.25 + number / 100)], axis=1)
        soundfile.write(path, stereo, 48_000)
        utterances.append(turn(f"u{number}", f"d{number // 2}", number % 2, split="train", audio=AudioFile(path)))
    soundfile.write(folder / "long.wav", np.full(16_000, 0.5), 16_000)
    (folder / "broken.wav").write_text("no sound")
    utterances[0] = replace(utterances[0], audio=AudioFile(folder / "long.wav"))
    utterances[1] = replace(utterances[1], audio=AudioFile(folder / "broken.wav"), defects=("text_empty",))
    utterances[2] = replace(utterances[2], audio=None)
    utterances[3] = replace(utterances[3], audio=AudioFile(folder / "nowhere.wav"))
    return Corpus(utterances)


def test_audio_is_spread_over_shards(
    tmp_path: Path,
    run: Callable[..., dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = spoken(tmp_path)
    monkeypatch.setattr(corpora, "read", lambda *_: corpus)
    monkeypatch.setattr("emofuse.audio.parallel.cores", lambda: 1)
    written = run(tmp_path, max_seconds=0.5, shards=3)
    out = tmp_path / "a" / "small"
    rows = {row["utterance_id"]: row for row in pl.read_parquet(out / "utterances.parquet").to_dicts()}
    assert list(rows) == [each.utterance_id for each in corpus.utterances]
    assert [rows[f"u{number}"]["defects"] for number in range(12)] == [
        ["audio_too_long"],
        ["text_empty", "audio_unreadable"],
        [],
        ["audio_missing"],
        *[[]] * 8,
    ]
    assert [rows[f"u{number}"]["n_samples"] for number in (0, 1, 2, 3, 5, 11)] == [8_000, 0, None, 0, 3_202, 3_204]
    stored = {}
    for index in range(3):
        dialogues = {each.dialogue_id for each in corpus.utterances if shard_of(each.dialogue_id, 3) == index}
        if dialogues:
            clips = pq.read_table(out / "audio" / shard_name(index, 3))
            assert clips.schema.remove_metadata().equals(schema.AUDIO)
            assert {rows[each]["dialogue_id"] for each in clips["utterance_id"].to_pylist()} <= dialogues
            stored |= dict(zip(clips["utterance_id"].to_pylist(), clips["audio"].to_pylist(), strict=True))
    assert set(stored) == {"u0", *(f"u{number}" for number in range(4, 12))}
    assert {key for key, row in rows.items() if row["audio_sha256"]} == set(stored)
    for key, clip in stored.items():
        pcm = (decode(clip["bytes"]) * 32_768).astype("<i2")
        assert hashlib.sha256(pcm.tobytes()).hexdigest() == rows[key]["audio_sha256"]
        assert len(pcm) == rows[key]["n_samples"]
        number = int(key[1:])
        assert clip["path"] == (f"{number}.wav" if number else "long.wav")
        level = (0.5 - 0.25 + number / 100) / 2 if number else 0.5
        assert pcm[200:3000].mean() / 32_768 == pytest.approx(level, abs=0.003)
    assert b'"hours_of_audio": 0.0006,' in written["metrics/small.json"]
    fault = "not a sound file that can be decoded: Invalid data found when processing input"
    assert capsys.readouterr().out.splitlines() == [
        "12 utterances, 3 with a defect",
        "audio_missing: 1",
        f"  u3: {tmp_path / 'nowhere.wav'}: not found",
        "audio_too_long: 1",
        "  u0: long.wav: 1.0 s, cut at 0.5 s",
        "audio_unreadable: 1",
        f"  u1: {tmp_path / 'broken.wav'}: {fault}",
        "text_empty: 1",
        "  u1",
    ]


def test_notes_are_printed_and_of_many_defects_the_first(
    tmp_path: Path, meld_row: Row, write_meld: Write, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [meld_row(0, number, "") for number in range(12)]
    run(write_meld(tmp_path / "raw", {"train": rows, "dev": [meld_row(0, 0, "Hi.")], "test": [meld_row(0, 0, "Hi.")]}))
    assert capsys.readouterr().out.splitlines() == [
        "note: no sound: no clips in folders named train_splits, dev_splits_complete, output_repeated_splits_test",
        "note: no published prosody: meld_{train,dev,test}_audio_features.csv are not all there",
        "14 utterances, 12 with a defect",
        "text_empty: 12",
        *(f"  train_dia0_utt{number}" for number in range(10)),
        "  and 2 more",
    ]


@pytest.mark.parametrize("seconds", [-5, 0, 1e300, float("inf"), float("nan")])
def test_a_clip_s_length_has_plausible_bounds(seconds: float) -> None:
    """It bounds what is decoded of a clip."""
    given = {"name": "a", "reader": "own", "source": "x", "shards": 1, "max_defective": 0.1, "max_seconds": seconds}
    with pytest.raises(ParamsError, match=r"corpus\.max_seconds: "):
        validate(given, CorpusConfig, "corpus")
