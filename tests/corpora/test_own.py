import io
import json
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from emofuse.audio.clips import Clip, prepare, prepare_recording
from emofuse.audio.flac import decode
from emofuse.audio.sound import AudioBytes, AudioFile
from emofuse.core.params import ParamsError, validate
from emofuse.core.sharding import shard_name, shard_of
from emofuse.corpora import READERS, Corpus, CorpusError, Utterance
from emofuse.corpora.ingest import CorpusConfig, check, ingest
from emofuse.corpora.naming import SCHEMES
from emofuse.corpora.own import Config, Splits, read, split

EMODB = Path(__file__).parents[3] / "shared" / "data" / "emodb"
SCHEME = SCHEMES[0]
EMODB_OPTIONS = {
    "names": f"wav/{SCHEME.pattern}",
    "values": {"label": {**SCHEME.values["label"], "N": None}},
    "splits": {"by": "speaker", "dev": ["11", "14"], "test": ["15", "16"]},
}
FULL = """\
utterance_id,dialogue_id,turn,speaker,session,text,start_s,end_s,label,sentiment,split,audio
u1,d1,2,ann,s1,"  Well,  no. ",3.5,4.25,angry,-0.5,train,sound/a.wav
u2,d2,0,bob,s2,Hello,,,,,dev,sound/b.wav
u3,d1,0,bob,s1,,0,1,sad,1,train,sound/c.wav
"""


def corpus(folder: Path, table: str | None = None, *sounds: str, **options: Any) -> Corpus:
    if table is not None:
        (folder / "utterances.csv").write_text(table, encoding="utf-8")
    for name in sounds:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(1600, 0.25), 16_000, format="WAV" if path.suffix == ".wav" else None)
    found = read(folder, validate(options, Config, "corpora.mine.options"))
    check(found)
    return found


def fails(folder: Path, table: str | None, message: str, *sounds: str, **options: Any) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        corpus(folder, table, *sounds, **options)
    assert str(folder) in str(error.value)


def sound(utterance: Utterance) -> Path | None:
    assert utterance.audio is None or isinstance(utterance.audio, AudioFile)
    return utterance.audio.path if utterance.audio else None


def test_it_is_a_reader() -> None:
    assert "own" in READERS


@pytest.mark.parametrize("kind", ["csv", "parquet", "typed"])
def test_every_column(tmp_path: Path, kind: str) -> None:
    if kind == "csv":
        found = corpus(tmp_path, FULL)
    else:
        typed = {"turn": pl.Int64, "start_s": pl.Float32, "end_s": pl.Float64, "sentiment": pl.Float64}
        table = pl.read_csv(FULL.encode(), infer_schema=False)
        table.cast(typed if kind == "typed" else {}).write_parquet(tmp_path / "utterances.parquet")
        found = corpus(tmp_path)
    assert [each.utterance_id for each in found.utterances] == ["u3", "u1", "u2"]
    assert found.utterances[1] == Utterance(
        utterance_id="u1",
        dialogue_id="d1",
        turn=1,
        speaker="ann",
        session="s1",
        text="Well, no.",
        start_s=3.5,
        end_s=4.25,
        label="angry",
        sentiment=-0.5,
        split="train",
        audio=AudioFile(tmp_path / "sound" / "a.wav"),
    )
    assert (found.utterances[0].text, found.utterances[0].defects) == (None, ("text_empty",))
    assert (found.utterances[2].label, found.utterances[2].start_s) == (None, None)


def test_an_id_and_nothing_else(tmp_path: Path) -> None:
    found = corpus(tmp_path, "utterance_id\nb\na\n").utterances
    assert [(each.utterance_id, each.dialogue_id, each.turn) for each in found] == [("b", "b", 0), ("a", "a", 0)]
    assert {each.audio for each in found} == {None}
    assert {each.defects for each in found} == {()}


def test_the_audio_gives_the_id(tmp_path: Path) -> None:
    found = corpus(tmp_path, "audio,label\nx/one.take2.wav,happy\n").utterances
    assert [each.utterance_id for each in found] == ["one.take2"]


def test_audio_is_found_by_id(tmp_path: Path) -> None:
    table = "utterance_id,dialogue_id\na,1\nb,1\nday1/c,2\n"
    found = corpus(tmp_path, table, "audio/a.wav", "audio/day1/c.flac", "audio/z.wav")
    paths = {each.utterance_id: sound(each) for each in found.utterances}
    # What is not there is looked for where it should be, so that ingesting says so.
    expected = {"a": "audio/a.wav", "b": "audio/b.wav", "day1/c": "audio/day1/c.flac"}
    assert paths == {name: tmp_path / path for name, path in expected.items()}
    assert {each.defects for each in found.utterances} == {()}
    assert found.notes == ["sound in audio/ that belongs to no utterance: 1 files, such as z"]
    (tmp_path / "audio" / "._a.wav").touch()
    corpus(tmp_path, table)
    fails(tmp_path, table, r"a.wav: a.flac exists too|a.flac: .*exists too", "audio/a.flac")


def test_turns_follow_the_rows_and_dialogues_come_in_one_piece(tmp_path: Path) -> None:
    found = corpus(tmp_path, "utterance_id,dialogue_id\na,1\nb,2\nc,1\nd,2\n").utterances
    rows = [(each.utterance_id, each.dialogue_id, each.turn) for each in found]
    assert rows == [("a", "1", 0), ("c", "1", 1), ("b", "2", 0), ("d", "2", 1)]


def test_codes_get_their_meaning(tmp_path: Path) -> None:
    values = {"label": {"1": "happy", "2": "sad", "9": None}, "split": {"val": "dev", "train": "train"}}
    table = "utterance_id,label,split,note\na,1,val,x\nb,9,train,y\nc,,train,z\n"
    found = corpus(tmp_path, table, values=values, ignore=["note"]).utterances
    assert [(each.label, each.split) for each in found] == [("happy", "dev"), (None, "train"), (None, "train")]
    fails(tmp_path, "utterance_id,label\na,3\n", "row 1: label is '3'; expected one of .*`values` lists", values=values)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("utterance_id,lable\na,x\n", r"unknown columns \['lable'\]; known are .*`ignore`"),
        ("label\nx\n", "neither a column utterance_id nor a column audio"),
        ("utterance_id,label\na,x\n,y\n", r"utterances.csv: row 2: utterance_id is None; expected an id"),
        ("utterance_id,label\na,x\na,y\n", r"1 utterance ids occur more than once, such as \['a'\]"),
        ("utterance_id,dialogue_id\na,\n", "row 1: dialogue_id is None; .*leave the column out"),
        ("utterance_id,turn\na,one\n", "row 1: turn is 'one'; expected a finite number"),
        ("utterance_id,turn\na,1.5\n", "row 1: turn is '1.5'; expected a whole number, 0 or more"),
        ("utterance_id,turn\na,-1\n", "row 1: turn is '-1'; expected a whole number, 0 or more"),
        ("utterance_id,turn\na,\n", "row 1: turn is None; expected a whole number"),
        ("utterance_id,dialogue_id,turn\na,d,1\nb,d,1\n", "row 2: turn is 1, which a of dialogue d is too"),
        ("utterance_id,start_s\na,-1\n", "row 1: start_s is '-1'; expected 0 or more seconds"),
        ("utterance_id,start_s,end_s\na,2,1\n", "row 1: end_s is '1'; expected no less than start_s, 2.0"),
        ("utterance_id,sentiment\na,nan\n", "row 1: sentiment is 'nan'; expected a finite number"),
        ("utterance_id,split\na,valid\n", "row 1: split is 'valid'; expected train, dev or test"),
        ("utterance_id,split\na,\n", "row 1: split is None; expected train, dev or test"),
        (
            "utterance_id,audio\na,../../etc/passwd.wav\n",
            "row 1: audio is '../../etc/passwd.wav'; expected the path of a file below",
        ),
        ("utterance_id,audio\na,/etc/x.wav\n", "row 1: audio is '/etc/x.wav'; expected the path of a file below"),
        (
            "utterance_id;label\na;x\n",
            "header is 'utterance_id;label', one cell; expected commas .* not semi",
        ),
        ("audio,start_s,end_s\na.wav,0,1\na.wav,1,2\n", "several rows name a.wav; expected a column utterance_id"),
        ("utterance_id,label\na,x,y\n", "row 1: 3 cells; expected 2, as the header has"),
        ("", "empty; expected a table in CSV, with a header"),
        ("utterance_id\n", "no utterances in it"),
    ],
)
def test_faults_name_file_row_column_and_value(tmp_path: Path, table: str, message: str) -> None:
    fails(tmp_path, table, message)


def test_faults_of_typed_tables(tmp_path: Path) -> None:
    for columns, message in (
        ({"speaker": [1.5]}, "speaker is 1.5; expected text"),
        ({"label": [True]}, "label is True; expected text"),
        ({"sentiment": [True]}, "sentiment is True; expected a finite number"),
        ({"turn": [[1]]}, r"turn is \[1\]; expected a finite number"),
    ):
        pl.DataFrame({"utterance_id": [7], **columns}).write_parquet(tmp_path / "utterances.parquet")
        fails(tmp_path, None, f"utterances.parquet: row 1: {message}")
    (tmp_path / "utterances.parquet").write_bytes(b"PAR1")
    fails(tmp_path, None, "not a table in PARQUET")


def test_links_to_files_and_to_the_corpus_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (tmp_path / "elsewhere.wav").touch()
    (folder / "link.wav").symlink_to(tmp_path / "elsewhere.wav")
    found = corpus(folder, "audio\nlink.wav\n").utterances
    assert [sound(each) for each in found] == [folder / "link.wav"]
    (tmp_path / "raw").symlink_to(folder)
    assert len(corpus(tmp_path / "raw").utterances) == 1


def test_one_table_and_only_one(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="not found; expected the folder of a corpus of your own"):
        corpus(tmp_path / "absent")
    fails(tmp_path, None, "neither utterances.csv nor utterances.parquet; expected one, or the option `names`")
    pl.DataFrame({"utterance_id": ["a"]}).write_parquet(tmp_path / "utterances.parquet")
    fails(tmp_path, "utterance_id\na\n", "both utterances.csv and utterances.parquet")
    fails(tmp_path, None, "a table, but the option `names` says", names=".*")


# Names


def test_names_carry_the_facts(tmp_path: Path) -> None:
    names = r"Actor_(?P<speaker>\d+)/(?P<dialogue_id>d\d+)-(?P<turn>\d+)-(?P<label>\w)"
    sounds = ("Actor_2/d1-02-h.wav", "Actor_1/d1-00-s.flac", "Actor_1/d2-00-h.ogg")
    found = corpus(tmp_path, None, *sounds, names=names, values={"label": {"h": "happy", "s": "sad"}}).utterances
    rows = [(each.utterance_id, each.dialogue_id, each.turn, each.speaker, each.label) for each in found]
    assert rows == [
        ("d1-00-s", "d1", 0, "1", "sad"),
        ("d1-02-h", "d1", 1, "2", "happy"),
        ("d2-00-h", "d2", 0, "1", "happy"),
    ]
    (tmp_path / "readme.txt").touch()
    fails(tmp_path, None, r"take2.wav: 'take2' does not match the option names", "take2.wav", names=names)


def test_a_group_may_take_no_part(tmp_path: Path) -> None:
    found = corpus(tmp_path, None, "a.wav", "b_x.wav", names=r"(?P<speaker>\w)(?:_(?P<label>\w))?").utterances
    assert [(each.speaker, each.label) for each in found] == [("a", None), ("b", "x")]
    fails(tmp_path, None, "1 utterance ids occur more than once", "a.flac", names=".*")


def test_ids_have_the_folder_where_files_have_one_name(tmp_path: Path) -> None:
    found = corpus(tmp_path, None, "joy/1.wav", "anger/1.wav", "anger/2.wav", names="(?P<label>.*)/.*").utterances
    assert [each.utterance_id for each in found] == ["anger/1", "2", "joy/1"]
    named = corpus(tmp_path, "audio,label\njoy/1.wav,joy\nanger/1.wav,anger\n./anger/2.wav,anger\n").utterances
    assert [each.utterance_id for each in named] == ["joy/1", "anger/1", "2"]


def test_paths_of_windows_are_read(tmp_path: Path) -> None:
    found = corpus(tmp_path, "audio,label\nclips\\a.wav,joy\nodd\\b.wav,joy\n", "clips/a.wav", "odd\\b.wav")
    assert [sound(each) for each in found.utterances] == [tmp_path / "clips/a.wav", tmp_path / "odd\\b.wav"]
    assert [each.utterance_id for each in found.utterances] == ["a", "odd\\b"]
    fails(tmp_path, "audio\n..\\a.wav\n", "row 1: audio is '../a.wav'; expected the path of a file below")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": "("}, "names is not a regular expression"),
        ({"names": "(?P<emotion>.)"}, r"\['emotion'\] are no columns; known are"),
        ({"names": "(?P<audio>.)"}, r"\['audio'\] are no columns"),
        ({"values": {"emotion": {}}}, r"\['emotion'\] are no columns"),
        ({"splits": {"by": "speaker", "dev": 0.2}}, "test: missing"),
        ({"splits": {"by": "speaker", "dev": 0.2, "test": 1.5}}, "less than 1"),
        ({"split": {}}, "unknown key; allowed are .*splits"),
    ],
)
def test_faults_of_the_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        corpus(tmp_path, "utterance_id\na\n", **options)


def test_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    sounds = [f"talk/{number}.wav" for number in (10, 1, 11, 2)]
    found = corpus(tmp_path, None, *sounds, names=r"(?P<dialogue_id>talk)/\d+").utterances
    assert [(each.utterance_id, each.turn) for each in found] == [("1", 0), ("2", 1), ("10", 2), ("11", 3)]


@pytest.mark.parametrize("ending", ["avi", "flv", "oga", "amr", "wma", "MOV"])
def test_sound_of_any_ending_is_found(tmp_path: Path, ending: str) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / f"a.{ending}").touch()
    found = corpus(tmp_path, "utterance_id\na\n").utterances
    assert [sound(each) for each in found] == [tmp_path / "audio" / f"a.{ending}"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("column", ["utterance_id", "audio"])
def test_names_are_found_however_they_are_spelt(tmp_path: Path, form: Any, column: str) -> None:
    on_disk = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], "für.wav")
    named = unicodedata.normalize(form, "für" if column == "utterance_id" else "audio/für.wav")
    found = corpus(tmp_path, f"{column}\n{named}\n", f"audio/{on_disk}").utterances
    assert [(each.utterance_id, sound(each)) for each in found] == [("f\u00fcr", tmp_path / "audio" / on_disk)]


@pytest.mark.parametrize("names", [".*", None])
def test_sound_is_found_by_what_is_in_a_file_and_what_is_left_out_is_named(tmp_path: Path, names: str | None) -> None:
    """With and without a table; a table for features is no sound, hidden files are nobody's."""
    folder = tmp_path if names else tmp_path / "audio"
    (folder / ".trash").mkdir(parents=True)
    for name in ("a.wav", "b.bin", "c", ".trash/d.wav", ".e.wav"):
        soundfile.write(folder / name, np.full(1_600, 0.25), 16_000, format="OGG")
    for name in ("readme.txt", "features.csv"):
        (folder / name).write_text("a,b\n1,2\n")
    (folder / "f.wav").symlink_to(tmp_path / "nowhere")
    found = corpus(tmp_path, None, names=names) if names else corpus(tmp_path, "utterance_id\na\nb\nc\n")
    paths = [sound(each) for each in found.utterances]
    assert paths == [folder / "a.wav", folder / "b.bin", folder / "c"]
    assert found.notes == [
        "links that lead nowhere, pipes and the like, which are not read: 1, such as f.wav",
        "files without sound, which are no utterances: 2, such as features.csv",
    ]


# Segments of recordings, and sound inside a table

SEGMENTS = """\
utterance_id,audio,dialogue_id,speaker,start_s,end_s
a,talk.wav,d,ann,0.5,1.25
b,talk.wav,d,ben,1.0,2.0
c,talk.wav,e,ann,2,1
d,talk.wav,f,ann,3,9
e,other.wav,g,ann,0.5,1
"""


def test_rows_that_name_one_recording_get_their_segments(tmp_path: Path) -> None:
    found = corpus(tmp_path, SEGMENTS, "talk.wav")
    sources = {each.utterance_id: each.audio for each in found.utterances}
    talk = tmp_path / "talk.wav"
    assert sources == {
        "a": AudioFile(talk, 0.5, 1.25),
        "b": AudioFile(talk, 1.0, 2.0),
        "c": AudioFile(talk, 2.0, 1.0),
        "d": AudioFile(talk, 3.0, 9.0),
        "e": AudioFile(tmp_path / "other.wav", 0.5, 1.0),
    }
    times = {each.utterance_id: (each.start_s, each.end_s) for each in found.utterances}
    assert (times["a"], times["c"]) == ((0.5, 1.25), (None, None))
    assert found.notes == ["sound files that several rows name, which each have their segment of it: 1"]
    without = corpus(tmp_path, SEGMENTS.replace("2,1", "1,2"), segments=False)
    assert {each.audio for each in without.utterances} == {AudioFile(talk), AudioFile(tmp_path / "other.wav")}


def test_clips_with_times_are_whole_unless_it_is_said(tmp_path: Path) -> None:
    """Times within a dialogue's recording, of clips that were cut before, as in most corpora."""
    table = "audio,start_s,end_s\na.wav,10,11\nb.wav,11,12\n"
    assert [each.audio for each in corpus(tmp_path, table).utterances] == [
        AudioFile(tmp_path / name) for name in ("a.wav", "b.wav")
    ]
    assert [each.audio for each in corpus(tmp_path, table, segments=True).utterances] == [
        AudioFile(tmp_path / "a.wav", 10, 11), AudioFile(tmp_path / "b.wav", 11, 12)
    ]  # fmt: skip


@pytest.mark.parametrize(("times", "column"), [(",", "start_s"), ("1,", "end_s"), (",1", "start_s")])
def test_a_row_of_a_shared_recording_needs_both_times(tmp_path: Path, times: str, column: str) -> None:
    table = f"utterance_id,audio,start_s,end_s\na,talk.wav,0,1\nb,talk.wav,{times}\n"
    fails(
        tmp_path, table, f"row 2: {column} is None; expected a number of seconds, since other rows name the same file"
    )


def test_segments_are_ingested_to_the_sample_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row a dialogue of its own, so that the segments of one recording belong to all shards."""
    noise = np.random.default_rng(5).integers(-8_000, 8_000, 5 * 16_000).astype(np.int16)
    source, out = tmp_path / "raw", tmp_path / "data" / "mine"
    source.mkdir()
    soundfile.write(source / "talk.flac", noise, 16_000)
    soundfile.write(source / "more.flac", noise[::-1], 16_000)
    rows = [f"u{n},{'more' if n % 3 else 'talk'}.flac,{n / 10},{n / 10 + 0.5}" for n in range(30)]
    faulty = ["inverted,talk.flac,2,1", "empty,talk.flac,1,1", "outside,talk.flac,5.5,6"]
    (source / "utterances.csv").write_text("\n".join(["utterance_id,audio,start_s,end_s", *rows, *faulty]) + "\n")
    prepared: list[Path] = []

    def counted(sources: Iterable[AudioFile], max_seconds: float) -> Iterator[Clip]:
        for path, members in groupby(sources, key=lambda each: each.path):
            prepared.append(path)
            yield from prepare_recording(list(members), max_seconds)

    monkeypatch.setattr("emofuse.corpora.ingest.prepare_all", counted)
    config = CorpusConfig("mine", reader="own", source=str(source), shards=4, max_seconds=4.0, max_defective=1.0)
    ingest(config, out, tmp_path / "mine.json")
    assert sorted(prepared) == [source / "more.flac", source / "talk.flac"]
    shards = {path.name: pl.read_parquet(path) for path in (out / "audio").iterdir()}
    assert len(shards) == 4
    for name, shard in shards.items():
        for utterance_id, clip in shard.rows():
            assert name == shard_name(shard_of(utterance_id, 4), 4)
            n = int(utterance_id[1:])
            samples = (noise[::-1] if n % 3 else noise)[n * 1_600 : n * 1_600 + 8_000]
            np.testing.assert_array_equal(decode(clip["bytes"]) * 32_768, samples)
    assert sum(shard.height for shard in shards.values()) == 30
    table = pl.read_parquet(out / "utterances.parquet")
    defects = {row["utterance_id"]: row["defects"] for row in table.to_dicts() if row["defects"]}
    assert defects == {name: [f"segment_{name}"] for name in ("inverted", "empty", "outside")}
    assert table["audio_sha256"].n_unique() == 31


def test_sound_inside_a_parquet_file_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pcm = np.arange(1_600, dtype=np.int16)
    soundfile.write(buffer, pcm, 16_000, format="FLAC")
    sounds = [{"bytes": buffer.getvalue(), "path": "x/one.flac"}, {"bytes": None, "path": "x\\two.wav"}, None]
    pl.DataFrame({"utterance_id": ["a", None, "c"], "audio": sounds}).write_parquet(tmp_path / "utterances.parquet")
    found = corpus(tmp_path).utterances
    assert [each.utterance_id for each in found] == ["a", "two", "c"]
    assert [each.audio for each in found[1:]] == [AudioFile(tmp_path / "x/two.wav"), None]
    assert isinstance(found[0].audio, AudioBytes)
    clip = prepare(found[0].audio, 4.0)
    assert (clip.defects, found[0].audio.name) == ((), "x/one.flac")
    assert clip.data is not None
    np.testing.assert_array_equal(decode(clip.data) * 32_768, pcm)


def write_parquet(folder: Path, sounds: Sequence[Any], times: Sequence[tuple[float | None, float | None]]) -> None:
    """Write a table with a row a sound, and its times."""
    ids = [f"u{number}" for number in range(len(sounds))]
    start, end = (pl.Series([each[place] for each in times], dtype=pl.Float64) for place in (0, 1))
    columns = {"utterance_id": ids, "audio": list(sounds), "start_s": start, "end_s": end}
    pl.DataFrame(columns).write_parquet(folder / "utterances.parquet")


PATHS = [{"bytes": None, "path": "audio/rec.wav"}] * 2


@pytest.mark.parametrize("sounds", [PATHS, ["audio/rec.wav", "./audio/rec.wav"], ["audio/rec.wav", "audio//rec.wav"]])
def test_one_recording_is_one_however_rows_name_it(tmp_path: Path, sounds: list[Any]) -> None:
    write_parquet(tmp_path, sounds, [(0.5, 1.0), (1.0, 2.5)])
    path = tmp_path / "audio" / "rec.wav"
    found = corpus(tmp_path)
    assert [each.audio for each in found.utterances] == [AudioFile(path, 0.5, 1.0), AudioFile(path, 1.0, 2.5)]
    assert found.notes == ["sound files that several rows name, which each have their segment of it: 1"]
    write_parquet(tmp_path, sounds, [(0.5, 1.0), (None, None)])
    with pytest.raises(CorpusError, match="row 2: start_s is None; expected a number of seconds, since other rows"):
        corpus(tmp_path)


def test_rows_that_hold_one_recording_are_cut_or_whole_as_the_option_says(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pcm = np.arange(3 * 16_000).astype(np.int16)
    soundfile.write(buffer, pcm, 16_000, format="FLAC")
    talk = {"bytes": buffer.getvalue(), "path": "talk.flac"}
    times = [(0.5, 1.0), (1.0, 2.5), (2.5, 9.0)]
    write_parquet(tmp_path, [talk] * 3, times)
    expected = r"row 2: audio is the same sound as that of row 1, with other times; expected the option segments, true"
    with pytest.raises(CorpusError, match=expected):
        corpus(tmp_path)

    source, out = tmp_path, tmp_path / "out"
    options = {"segments": True}
    config = CorpusConfig("x", "own", str(source), shards=1, max_seconds=4.0, max_defective=1.0, options=options)
    ingest(config, out, tmp_path / "x.json")
    (shard,) = (out / "audio").iterdir()
    clips = {name: decode(clip["bytes"]) * 32_768 for name, clip in pl.read_parquet(shard).rows()}
    for (start, end), clip in zip(times, clips.values(), strict=True):
        np.testing.assert_array_equal(clip, pcm[round(start * 16_000) : round(end * 16_000)])
    defects = pl.read_parquet(out / "utterances.parquet")["defects"].to_list()
    assert defects == [[], [], ["segment_outside"]]
    whole = corpus(tmp_path, segments=False).utterances
    assert {each.audio.span for each in whole if isinstance(each.audio, AudioBytes)} == {(0.0, math.inf)}


def test_equal_clips_are_no_segments(tmp_path: Path) -> None:
    """Of a table without times, such as two silences, or of a row that stands twice."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.arange(16_000).astype(np.int16), 16_000, format="FLAC")
    clip = {"bytes": buffer.getvalue(), "path": None}
    for times in ([(None, None)] * 2, [(10.0, 11.0)] * 2, [(None, None), (10.0, 11.0)]):
        write_parquet(tmp_path, [clip] * 2, times)
        config = CorpusConfig("x", "own", str(tmp_path), shards=1, max_seconds=4.0, max_defective=0.0)
        ingest(config, tmp_path / "out", tmp_path / "x.json")
        assert pl.read_parquet(tmp_path / "out" / "utterances.parquet")["n_samples"].to_list() == [16_000] * 2


def test_an_error_is_short_whatever_it_quotes(tmp_path: Path) -> None:
    pl.DataFrame({"utterance_id": ["a"], "audio": [b"\xff" * 60_000]}).write_parquet(tmp_path / "utterances.parquet")
    with pytest.raises(CorpusError, match=r"row 1: audio is .*characters.*; expected text") as error:
        corpus(tmp_path)
    assert len(str(error.value)) < 400


# Splits

SPEAKERS = "utterance_id,speaker,dialogue_id\n" + "".join(f"u{n},p{n % 5},d{n}\n" for n in range(20))


@pytest.mark.parametrize(
    ("header", "cells", "splits", "expected"),
    [
        ("utterance_id", "", None, ""),
        ("utterance_id,split", ",train", None, "read from the column `split` of the corpus's table; their origin is"),
        ("utterance_id", "", Splits("dialogue", 0.2, ("b",)), "made here by dialogue: dev 20% of them, drawn, test b"),
    ],
)
def test_it_says_who_made_the_splits(tmp_path: Path, header: str, cells: str, splits: Any, expected: str) -> None:
    (tmp_path / "utterances.csv").write_text("\n".join([header, *(f"{name}{cells}" for name in "abcde")]))
    found = read(tmp_path, Config(splits=splits)).split_source
    assert found.startswith(expected)
    assert bool(found) is bool(expected)
    assert "official" not in found


def test_named_groups(tmp_path: Path) -> None:
    splits = {"by": "speaker", "dev": ["p1"], "test": ["p2", "p3"]}
    found = corpus(tmp_path, SPEAKERS, splits=splits).utterances
    of = {each.speaker: each.split for each in found}
    assert of == {"p0": "train", "p1": "dev", "p2": "test", "p3": "test", "p4": "train"}
    for wrong, message in (
        ({"dev": ["p9"]}, r"splits.dev names the speakers \['p9'\]"),
        ({"dev": ["p2"]}, r"splits.dev names the speakers \['p2'\], which are not there or taken"),
        ({"dev": ["p0", "p1", "p4"]}, "5 speakers give 3 to dev and 2 to test; expected .* one for train"),
        ({"dev": []}, "5 speakers give 0 to dev"),
        ({"by": "session"}, "u0 has no session, by which the corpus is split"),
    ):
        fails(tmp_path, SPEAKERS, message, splits=splits | wrong)


def test_shares_beside_names(tmp_path: Path) -> None:
    found = corpus(tmp_path, SPEAKERS, splits={"by": "speaker", "dev": 0.4, "test": ["p2"]}).utterances
    groups = defaultdict(set)
    for each in found:
        groups[each.split].add(each.speaker)
    assert groups["test"] == {"p2"}
    assert (len(groups["dev"]), len(groups["train"])) == (2, 2)
    assert not groups["dev"] & groups["train"]


@given(st.sampled_from(["speaker", "session", "dialogue"]), st.integers(4, 30), st.floats(0.01, 0.4), st.data())
def test_no_group_and_no_dialogue_is_in_two_splits(by: Any, n_groups: int, share: float, data: st.DataObject) -> None:
    of = data.draw(st.lists(st.integers(0, n_groups - 1), min_size=n_groups, max_size=60))
    rows = list(range(n_groups)) + of
    utterances = [
        Utterance(f"u{n}", f"d{group}", 0, f"p{group}", None, None, session=f"s{group}") for n, group in enumerate(rows)
    ]
    found = split(utterances, Splits(by=by, dev=share, test=share), "here")
    groups = defaultdict(set)
    for each in found:
        groups[each.dialogue_id].add(each.split)
    assert all(len(each) == 1 for each in groups.values())
    counts = Counter(next(iter(each)) for each in groups.values())
    assert counts["dev"] == counts["test"] == max(1, int(share * n_groups))
    # Neither the order of the rows nor other columns matter.
    again = split(utterances[::-1], Splits(by=by, dev=share, test=share), "here")
    assert {each.utterance_id: each.split for each in again} == {each.utterance_id: each.split for each in found}


def test_a_dialogue_is_not_torn(tmp_path: Path) -> None:
    table = "utterance_id,speaker,dialogue_id\na,p1,d1\nb,p2,d1\nc,p3,d2\n"
    splits = {"by": "speaker", "dev": ["p2"], "test": ["p3"]}
    fails(tmp_path, table, r"dialogue d1 is split by its speakers: a \(train\) and b \(dev\)", splits=splits)


def test_either_a_column_or_the_option(tmp_path: Path) -> None:
    splits = {"by": "dialogue", "dev": 0.2, "test": 0.2}
    fails(tmp_path, "utterance_id,split\na,dev\n", "a has the split dev; drop the column or the option", splits=splits)


# From files to the stage's output


def test_faulty_sound_never_stops_a_corpus(
    tmp_path: Path, save_clip: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "raw", tmp_path / "data" / "mine"
    save_clip(source / "audio" / "stereo.wav", 1.0, 48_000, 2)
    save_clip(source / "audio" / "phone.wav", 1.0, 8_000)
    save_clip(source / "audio" / "long.flac", 5.0)
    spoken, rate = soundfile.read(save_clip(source / "audio" / "nan.wav"))
    spoken[len(spoken) // 2] = np.nan
    soundfile.write(source / "audio" / "nan.wav", spoken, rate, subtype="FLOAT")
    soundfile.write(source / "audio" / "nothing.wav", np.zeros(0), 16_000)
    (source / "audio" / "zero.wav").touch()
    whole = (source / "audio" / "stereo.wav").read_bytes()
    (source / "audio" / "cut.wav").write_bytes(whole[:20])
    (source / "audio" / "half.wav").write_bytes(whole[: len(whole) // 2])
    (source / "audio" / "text.wav").write_text("this is no sound")
    save_clip(tmp_path / "film.mp4", 1.0, 44_100, 2).rename(source / "audio" / "film.wav")
    names = ("stereo", "phone", "nan", "long", "nothing", "zero", "cut", "half", "text", "film", "gone")
    (source / "utterances.csv").write_text("utterance_id\n" + "\n".join(names) + "\n")
    config = CorpusConfig("mine", reader="own", source=str(source), shards=2, max_seconds=4.0, max_defective=1.0)
    ingest(config, out, tmp_path / "mine.json")
    rows = {row["utterance_id"]: row for row in pl.read_parquet(out / "utterances.parquet").to_dicts()}
    assert {name: row["defects"] for name, row in rows.items()} == {
        "stereo": [],
        "phone": [],
        "nan": ["audio_not_finite"],
        "long": ["audio_too_long"],
        "nothing": ["audio_empty"],
        "zero": ["audio_unreadable"],
        "cut": ["audio_unreadable"],
        "half": ["audio_cut_off"],
        "film": [],
        "text": ["audio_unreadable"],
        "gone": ["audio_missing"],
    }
    assert {rows[name]["n_samples"] for name in ("stereo", "phone")} == {16_000}
    assert rows["long"]["n_samples"] == 64_000
    assert json.loads((tmp_path / "mine.json").read_text())["defects"]["audio_unreadable"] == 3
    lines = [line.strip().partition(": ") for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    found = {name: reason.removeprefix(f"{source / 'audio'}/") for name, _, reason in lines}
    assert found.pop("cut").startswith("cut.wav: ")  # in the decoder's words
    assert found == {
        "nan": "nan.wav: a sample is not a finite number",
        "long": "long.flac: 5.0 s, cut at 4 s",
        "nothing": "nothing.wav: no samples in it",
        "zero": "zero.wav: empty, 0 bytes",
        "half": "half.wav: cut off: by its headers it should have at least 192044 bytes, but it has 96022",
        "text": "text.wav: not a sound file that can be decoded: Invalid data found when processing input",
        "gone": "gone.wav: not found",
    }


@pytest.mark.skipif(not EMODB.exists(), reason="EmoDB is not here")
def test_emodb() -> None:
    found = read(EMODB, validate(EMODB_OPTIONS, Config, "corpora.emodb.options"))
    check(found)
    assert len(found.utterances) == 535
    labels = Counter(each.label for each in found.utterances)
    assert labels == {
        "anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "sadness": 62, None: 79
    }  # fmt: skip
    speakers = defaultdict(set)
    for each in found.utterances:
        speakers[each.split].add(each.speaker)
    assert speakers["dev"] == {"11", "14"}
    assert speakers["test"] == {"15", "16"}
    assert len(speakers["train"]) == 6
