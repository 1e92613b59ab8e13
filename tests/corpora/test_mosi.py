from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from emofuse.audio.sound import AudioFile
from emofuse.corpora import Corpus, CorpusError, Utterance, read
from emofuse.corpora.ingest import CorpusConfig, check, ingest
from emofuse.corpora.mosi import Config
from emofuse.corpora.mosi import read as read_mosi

# Videos of the standard folds: the first trains, the second is of dev, the third of test.
TRAIN, DEV, TEST = "03bSnISJMiM", "_dI--eQ6qVU", "c7UH_rxdZv4"
OWNER = "Raw/Labels/OpinionLevelSentiment.csv"
SOUNDS = "Raw/Audio/WAV_16000/Segmented"
TEXTS = "Raw/Transcript/Segmented"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def row(each: Utterance) -> tuple[object, ...]:
    return (each.utterance_id, each.turn, each.split, each.sentiment, each.text, each.defects)


@pytest.fixture
def owners(tmp_path: Path, save_clip: Callable[..., Path]) -> Path:
    """The owner's layout, segments not in order, with a missing transcript and bad clips."""
    source = tmp_path / "raw"
    labels = [
        f"4.5,9.25,{TRAIN},2,-0.8",
        f"1.0,4.5,{TRAIN},1,2.4",
        f"90.0,95.0,{TRAIN},10,0.0",
        f"0.5,2.0,{TEST},1,-3.0",
        f"9.0,2.0,{TEST},2,3.0",
        f"0.1,0.2,{DEV},1,1.0",
        "0.1,0.2,NotInAnyFold,1,1.0",
    ]
    write(source / OWNER, "\n".join(labels) + "\n")
    write(source / TEXTS / f"{TRAIN}.annotprocessed", "1_DELIM_HERE_IT WAS GOOD\n2_DELIM_HERE_BUT\n10_DELIM_HERE_SO_\n")
    write(source / TEXTS / f"{TEST}.annotprocessed", "1_DELIM_HERE_NO\n2_DELIM_HERE_\n3_DELIM_HERE_NOT RATED\n")
    write(source / TEXTS / f"{DEV}.annotprocessed", "1_DELIM_HERE_DEV\n")
    write(source / TEXTS / f"._{DEV}.annotprocessed", "\0\x05\x16\x07")
    for segment in (1, 2, 10):
        save_clip(source / SOUNDS / f"{TRAIN}_{segment}.wav", 0.25 * segment)
    write(source / SOUNDS / f"{TEST}_1.wav", "")
    save_clip(source / SOUNDS / f"{TEST}_2.wav", 0.05)
    save_clip(source / SOUNDS / f"{DEV}_1.wav", 1.0, 8_000)
    return source


OWNERS_ROWS = [
    (f"{TRAIN}_1", 0, "train", 2.4, "IT WAS GOOD", ()),
    (f"{TRAIN}_2", 1, "train", -0.8, "BUT", ()),
    (f"{TRAIN}_10", 2, "train", 0.0, "SO_", ()),
    ("NotInAnyFold_1", 0, None, 1.0, None, ("text_empty",)),
    (f"{DEV}_1", 0, "dev", 1.0, "DEV", ()),
    (f"{TEST}_1", 0, "test", -3.0, "NO", ()),
    (f"{TEST}_2", 1, "test", 3.0, None, ("text_empty", "time_invalid")),
]


def test_the_owner_s_layout(owners: Path) -> None:
    corpus = read("mosi", owners, {}, "corpora.mosi.options")
    check(corpus)
    assert [row(each) for each in corpus.utterances] == OWNERS_ROWS
    first, second = corpus.utterances[:2]
    assert (first.dialogue_id, first.speaker, first.label, first.session) == (TRAIN, TRAIN, None, None)
    assert (second.start_s, second.end_s) == (4.5, 9.25)
    assert first.audio == AudioFile(owners / SOUNDS / f"{TRAIN}_1.wav")
    assert list(corpus.notes) == [
        "transcribed segments without a sentiment, which are no utterances: 1",
        "videos in no standard fold: 1, such as NotInAnyFold",
        "7 segments of 4 videos; the whole corpus has 2,199 segments of 93 videos",
    ]


def test_what_is_wrong_with_the_owner_s_sound_is_listed_and_stops_nothing(owners: Path, tmp_path: Path) -> None:
    config = CorpusConfig("mosi", "mosi", str(owners), shards=2, max_seconds=2.0, max_defective=1.0)
    ingest(config, tmp_path / "out", tmp_path / "summary.json")
    table = pl.read_parquet(tmp_path / "out" / "utterances.parquet")
    assert table.select("utterance_id", "n_samples", "defects").rows() == [
        (f"{TRAIN}_1", 4_000, []),
        (f"{TRAIN}_2", 8_000, []),
        (f"{TRAIN}_10", 32_000, ["audio_too_long"]),
        ("NotInAnyFold_1", 0, ["text_empty", "audio_missing"]),
        (f"{DEV}_1", 16_000, []),
        (f"{TEST}_1", 0, ["audio_unreadable"]),
        (f"{TEST}_2", 800, ["text_empty", "time_invalid", "audio_too_short"]),
    ]


def test_the_owner_s_layout_without_sound(owners: Path) -> None:
    (owners / "Raw/Audio").rename(owners / "elsewhere")
    corpus = read_mosi(owners, Config())
    assert {each.audio for each in corpus.utterances} == {None}
    assert corpus.notes[0] == f"no sound: there is no folder {SOUNDS}"


LABELS = """video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode
abc_1,2,"SECOND, AND LAST",-1.2,,,,Negative,train
abc_1,1,FIRST,0.0,,,,Neutral,train
-x-,1,,3.0,,,,Positive,valid
yz,12,TWELVE,-3,,,,Negative,test
"""


@pytest.fixture
def labelled(tmp_path: Path, save_clip: Callable[..., Path]) -> Path:
    """The layout of `label.csv` with clips as mp4."""
    source = tmp_path / "raw"
    write(source / "label.csv", LABELS)
    save_clip(source / "Raw/abc_1/1.mp4", 1.0, 44_100, 2)
    save_clip(source / "Raw/abc_1/2.mp4", 0.5, 48_000, 1)
    whole = save_clip(source / "Raw/yz/12.mp4", 1.0, 44_100, 2)
    whole.write_bytes(whole.read_bytes()[:1_000])
    return source


def test_label_csv(labelled: Path) -> None:
    corpus = read_mosi(labelled, Config())
    check(corpus)
    assert [row(each) for each in corpus.utterances] == [
        ("-x-_1", 0, "dev", 3.0, None, ("text_empty",)),
        ("abc_1_1", 0, "train", 0.0, "FIRST", ()),
        ("abc_1_2", 1, "train", -1.2, "SECOND, AND LAST", ()),
        ("yz_12", 0, "test", -3.0, "TWELVE", ()),
    ]
    assert corpus.utterances[1].audio == AudioFile(labelled / "Raw/abc_1/1.mp4")
    assert list(corpus.notes) == ["4 segments of 3 videos; the whole corpus has 2,199 segments of 93 videos"]


def test_films_are_stored_and_bad_ones_listed(labelled: Path, tmp_path: Path) -> None:
    config = CorpusConfig("mosi", "mosi", str(labelled), shards=1, max_seconds=40.0, max_defective=1.0)
    ingest(config, tmp_path / "out", tmp_path / "summary.json")
    table = pl.read_parquet(tmp_path / "out" / "utterances.parquet")
    assert table.select("utterance_id", "defects").rows() == [
        ("-x-_1", ["text_empty", "audio_missing"]),
        ("abc_1_1", []),
        ("abc_1_2", []),
        ("yz_12", ["audio_unreadable"]),
    ]
    # aac pads, so the length is about that of the sound.
    assert table["n_samples"].to_list() == [0, pytest.approx(16_000, abs=2_000), pytest.approx(8_000, abs=2_000), 0]


def test_label_csv_without_clips(tmp_path: Path) -> None:
    write(tmp_path / "label.csv", LABELS)
    corpus = read_mosi(tmp_path, Config())
    assert {each.audio for each in corpus.utterances} == {None}
    assert corpus.notes[0] == "no sound: there is no folder Raw beside label.csv"


UTTERANCES = """utterance_id,video_id,split,speaker,sentiment,text
-a_b_2,-a_b,train,,2.4,BUT GOOD
-a_b_1,-a_b,train,,-0.8,SO
c_7,c,valid,,0.0,
d_1,d,test,,1.75,TEST
"""


def test_a_table_of_utterances(tmp_path: Path) -> None:
    write(tmp_path / "mosi_utterances.csv", UTTERANCES)
    write(tmp_path / "mosi_audio_opensmile73.csv", "utterance_id,f0,f1\nd_1,1,\n-a_b_1,2.5,-3\n")
    corpus = read_mosi(tmp_path, Config())
    check(corpus)
    assert [row(each) for each in corpus.utterances] == [
        ("-a_b_1", 0, "train", -0.8, "SO", ()),
        ("-a_b_2", 1, "train", 2.4, "BUT GOOD", ()),
        ("c_7", 0, "dev", 0.0, None, ("text_empty",)),
        ("d_1", 0, "test", 1.75, "TEST", ()),
    ]
    assert corpus.tables["opensmile73"].rows() == [("d_1", 1.0, None), ("-a_b_1", 2.5, -3.0)]
    assert {each.audio for each in corpus.utterances} == {None}
    assert "mosi_utterances.csv, which differs from the standard folds" in corpus.split_source


@pytest.mark.parametrize(
    ("file", "text", "old", "new", "fault"),
    [
        ("label.csv", LABELS, "abc_1,1", "abc_1,one", "row 2: clip_id is 'one'; expected a whole number"),
        ("label.csv", LABELS, ",-1.2,", ",bad,", "row 1: label is 'bad'; expected a finite number"),
        ("label.csv", LABELS, ",-1.2,", ",nan,", "row 1: label is 'nan'; expected a finite number"),
        ("label.csv", LABELS, ",-3,", ",-3.5,", "row 4: label is '-3.5'; expected a sentiment from -3 to 3"),
        ("label.csv", LABELS, "Positive,valid", "Positive,", "row 3: mode is None; expected one of "),
        (
            "label.csv",
            LABELS,
            "clip_id",
            "clip",
            "expected rows with the columns video_id, clip_id, text, label, mode;",
        ),
        ("label.csv", LABELS, LABELS, "", "empty; expected a table in CSV, with a header"),
        ("mosi_utterances.csv", UTTERANCES, "c_7,c", "c_7,b", "row 3: utterance_id is 'c_7'; expected b_<number"),
        ("mosi_utterances.csv", UTTERANCES, "c_7", "c7", "row 3: utterance_id is 'c7'; expected c_<number"),
        (OWNER, "1,2,v,1\n", "", "", "expected rows with the columns start, end, video, segment, sentiment; found"),
        (OWNER, "1,2,v,1,x\n", "", "", "row 1: sentiment is 'x'; expected a finite number"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, file: str, text: str, old: str, new: str, fault: str) -> None:
    write(tmp_path / file, text.replace(old, new) if old else text)
    (tmp_path / TEXTS).mkdir(parents=True, exist_ok=True)
    with pytest.raises(CorpusError) as caught:
        read_mosi(tmp_path, Config())
    assert str(caught.value).startswith(f"{tmp_path / file}: {fault}")


def test_a_bad_transcript_line_is_named(owners: Path) -> None:
    write(owners / TEXTS / f"{DEV}.annotprocessed", "1_DELIM_HERE_DEV\n\nno number\n")
    with pytest.raises(CorpusError, match=rf"{DEV}\.annotprocessed: line 3: 'no number'; expected <segment>_DELIM"):
        read_mosi(owners, Config())


def test_a_bad_value_of_the_published_table_is_named(tmp_path: Path) -> None:
    write(tmp_path / "mosi_utterances.csv", UTTERANCES)
    write(tmp_path / "mosi_audio_opensmile73.csv", "utterance_id,f0\nd_1,loud\n")
    with pytest.raises(CorpusError, match=r"mosi_audio_opensmile73\.csv: row 1: f0 is 'loud', no finite number"):
        read_mosi(tmp_path, Config())


def test_a_folder_without_the_corpus_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"expected one of the files mosi_utterances\.csv, label\.csv, Raw/Labels/"):
        read_mosi(tmp_path, Config())


@pytest.fixture(scope="module")
def real(root: Path) -> Corpus:
    folder = root.parent / "shared" / "data" / "mosi"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return read_mosi(folder, Config())


def test_real_counts(real: Corpus) -> None:
    check(real)
    assert Counter(each.split for each in real.utterances) == {"train": 1_284, "dev": 229, "test": 686}
    videos = {(each.split, each.dialogue_id) for each in real.utterances}
    assert Counter(split for split, _ in videos) == {"train": 52, "dev": 10, "test": 31}
    assert list(real.notes) == []
    assert real.split_source == "official: the standard folds of CMU-MOSI, 52 / 10 / 31 videos"
    assert {each.defects for each in real.utterances} == {()}
    assert real.tables["opensmile73"].shape == (2_199, 74)
    assert set(real.tables["opensmile73"]["utterance_id"]) == {each.utterance_id for each in real.utterances}


def test_the_standard_folds_are_those_of_the_real_table(real: Corpus, tmp_path: Path) -> None:
    lines = [
        f"0,1,{each.dialogue_id},{each.utterance_id.rpartition('_')[2]},{each.sentiment}" for each in real.utterances
    ]
    write(tmp_path / OWNER, "\n".join(lines))
    (tmp_path / TEXTS).mkdir(parents=True)
    owner = read_mosi(tmp_path, Config())
    fold = {each.utterance_id: each.split for each in owner.utterances}
    assert fold == {each.utterance_id: each.split for each in real.utterances}
