"""MELD's transcripts and prosody, in small and, where the real files lie beside the repository, in full."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.corpora import Corpus, CorpusError
from emofuse.corpora.ingest import check
from emofuse.corpora.meld import Config, read, repair

Row = Callable[..., dict[str, str]]
Write = Callable[..., Path]

CLIP = [1.5, 60, 8, 200, 40, 160, 3.5, 2.25]


@pytest.fixture
def read_rows(tmp_path: Path, meld_row: Row, write_meld: Write) -> Callable[..., Corpus]:
    """Read a corpus whose dev split has these rows, and the others one."""

    def run(*rows: dict[str, str]) -> Corpus:
        other = [meld_row(0, 0, "Hi.")]
        return read(write_meld(tmp_path, {"train": other, "dev": rows, "test": other}), Config())

    return run


def test_rows_come_in_order_with_the_split_in_front(read_rows: Callable[..., Corpus], meld_row: Row) -> None:
    places = [(10, 0), (2, 11), (2, 9), (2, 2)]
    corpus = read_rows(*(meld_row(dialogue, utterance, f"{dialogue} {utterance}") for dialogue, utterance in places))
    dev = [(each.utterance_id, each.dialogue_id, each.turn) for each in corpus.utterances if each.split == "dev"]
    assert dev == [
        ("dev_dia2_utt2", "dev_dia2", 0),
        ("dev_dia2_utt9", "dev_dia2", 1),
        ("dev_dia2_utt11", "dev_dia2", 2),
        ("dev_dia10_utt0", "dev_dia10", 0),
    ]
    assert [each.split for each in corpus.utterances] == ["train", *["dev"] * 4, "test"]
    assert corpus.split_source == "official: MELD's own"
    check(corpus)


def test_a_row_s_values(read_rows: Callable[..., Corpus], meld_row: Row) -> None:
    times = {"StartTime": "01:02:03,004", "EndTime": "01:02:03,500"}
    row = meld_row(0, 0, "No,\x85 \x93no\x94.\x81\n", Speaker=" Mr.\x92s  Who", Sentiment="negative", **times)
    found = next(each for each in read_rows(row).utterances if each.split == "dev")
    assert (found.text, found.speaker, found.label) == ("No,… “no”.", "Mr.’s Who", "joy")
    assert (found.sentiment, found.start_s, found.end_s, found.session) == (-1.0, 3723.004, 3723.5, "s01e02")
    assert found.defects == ()
    assert found.audio is None


@pytest.mark.parametrize(
    ("columns", "defects"),
    [
        ({"Utterance": ""}, ("text_empty",)),
        ({"Utterance": " \x81 \u00a0"}, ("text_empty",)),
        ({"StartTime": ""}, ("time_invalid",)),
        ({"EndTime": "late"}, ("time_invalid",)),
        ({"EndTime": "00:00:01,499"}, ("time_invalid",)),
        ({"Utterance": "", "StartTime": "0"}, ("text_empty", "time_invalid")),
    ],
)
def test_defects(
    read_rows: Callable[..., Corpus], meld_row: Row, columns: dict[str, str], defects: tuple[str, ...]
) -> None:
    found = next(each for each in read_rows(meld_row(0, 0, "Hi.", **columns)).utterances if each.split == "dev")
    assert found.defects == defects
    assert (found.text is None) == ("text_empty" in defects)
    assert (found.start_s is None) == (found.end_s is None) == ("time_invalid" in defects)


def test_no_label_and_no_speaker_are_none(read_rows: Callable[..., Corpus], meld_row: Row) -> None:
    row = meld_row(0, 0, "Hi.", Emotion="", Speaker="")
    found = next(each for each in read_rows(row).utterances if each.split == "dev")
    assert (found.label, found.speaker) == (None, None)


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"Sentiment": "Positive"}, "dev_dia3_utt1: Sentiment is 'Positive'; expected one of ['negative', 'neutral', "),
        ({"Sentiment": ""}, "dev_dia3_utt1: Sentiment is None; expected one of"),
        ({"Dialogue_ID": "x"}, "row 2: Dialogue_ID is 'x'; expected a whole number"),
        ({"Utterance_ID": ""}, "row 2: Utterance_ID is None; expected a whole number"),
        ({"Utterance_ID": "-1"}, "row 2: Utterance_ID is '-1'; expected a whole number"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, read_rows: Callable[..., Corpus], meld_row: Row, columns: dict[str, str], fault: str
) -> None:
    with pytest.raises(CorpusError) as error:
        read_rows(meld_row(3, 0, "Hi."), meld_row(3, 1, "Hi.", **columns))
    assert str(error.value).startswith(f"{tmp_path / 'dev_sent_emo.csv'}: {fault}")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "empty; expected a table in CSV, with a header"),
        (b"Utterance,Speaker\nHi.,Ross\n", "expected rows with the columns"),
        (
            b"Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n",
            "expected rows with the columns",
        ),
        (b"Utterance\n\xff\xfe\n", "not UTF-8: the byte ff in line 2; save the table once more"),
        (b"Utterance\na,b,c\n", "row 1: 3 cells; expected 1, as the header has"),
    ],
)
def test_a_file_that_is_no_transcript_is_named(
    tmp_path: Path, read_rows: Callable[..., Corpus], meld_row: Row, data: bytes, fault: str
) -> None:
    read_rows(meld_row(0, 0, "Hi."))
    (tmp_path / "test_sent_emo.csv").write_bytes(data)
    with pytest.raises(CorpusError, match=rf"test_sent_emo\.csv: {fault}"):
        read(tmp_path, Config())


def test_a_missing_transcript_is_named(tmp_path: Path, read_rows: Callable[..., Corpus], meld_row: Row) -> None:
    read_rows(meld_row(0, 0, "Hi."))
    (tmp_path / "test_sent_emo.csv").unlink()
    with pytest.raises(CorpusError, match=r"test_sent_emo\.csv: not found; expected MELD's transcript"):
        read(tmp_path, Config())


@pytest.fixture
def with_prosody(tmp_path: Path, meld_row: Row, write_meld: Write) -> Path:
    rows = [meld_row(0, 0, "Hi."), meld_row(0, 1, "Hi.")]
    clips = {"dia0_utt1": CLIP, "dia0_utt0": [0.5, *CLIP[1:3], "", "nan", *CLIP[5:]]}
    splits = ("train", "dev", "test")
    return write_meld(tmp_path, dict.fromkeys(splits, rows), dict.fromkeys(splits, clips))


def test_prosody_is_keyed_by_split_and_clip(with_prosody: Path) -> None:
    table = read(with_prosody, Config()).tables["prosody"]
    assert table["utterance_id"].to_list() == [
        f"{split}_dia0_utt{utterance}" for split in ("train", "dev", "test") for utterance in (1, 0)
    ]
    assert table.dtypes == [pl.String, *[pl.Float64] * 8]
    assert table.row(0)[1:] == tuple(CLIP)
    assert table.with_columns(pl.col(pl.Float64).fill_nan(None)).row(1)[1:6] == (0.5, 60, 8, None, None)


def test_prosody_of_two_splits_is_left_out_and_noted(with_prosody: Path) -> None:
    (with_prosody / "meld_dev_audio_features.csv").unlink()
    corpus = read(with_prosody, Config())
    assert corpus.tables == {}
    assert [note for note in corpus.notes if "no published prosody" in note] != []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("filename", "file", "expected a column 'filename'"),
        ("dia0_utt1.wav", "dia0_utt1.mp3", r"filename 'dia0_utt1\.mp3'; expected dia<D>_utt<U>\.wav"),
        ("dia0_utt1.wav", "", r"filename None; expected dia<D>_utt<U>\.wav"),
        ("1.5,60", "1.5,loud", "row 1: avg_intensity is 'loud', no finite number"),
        ("avg_pitch,pitch_std", "pitch_std,avg_pitch", "columns .*; expected .*, as in train"),
        (",mean_hnr", "", "row 1: 9 cells; expected 8"),
    ],
)
def test_bad_prosody_is_named(with_prosody: Path, old: str, new: str, fault: str) -> None:
    path = with_prosody / "meld_dev_audio_features.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CorpusError, match=rf"(?s)meld_dev_audio_features\.csv: {fault}"):
        read(with_prosody, Config())


@given(st.text())
def test_repaired_text_has_no_control_characters_and_single_spaces(text: str) -> None:
    repaired = repair(text)
    assert not any("\x80" <= each < "\xa0" for each in repaired)
    assert repaired.split(" ") == repaired.split() or repaired == ""
    assert repair(repaired) == repaired


@pytest.mark.parametrize("charset", ["cp1252", "latin-1"])
def test_utf_8_that_was_read_as_something_else_is_repaired(charset: str) -> None:
    for text in ("it’s", "“no”… – yes", "café, naïve, déjà vu", "Ünder"):
        harmed = "".join(bytes([code]).decode(charset, errors="ignore") or chr(code) for code in text.encode())
        assert harmed != text
        assert repair(harmed) == text
    assert repair("é, â and Ã stay") == "é, â and Ã stay"


def test_all_of_windows_1252_s_punctuation_is_repaired() -> None:
    assert [each for each in range(0x80, 0xA0) if repair(f"a{chr(each)}a") == "a a"] == [0x81, 0x8D, 0x8F, 0x90, 0x9D]
    assert repair("it\x92s") == "it’s"


@pytest.fixture(scope="module")
def real(root: Path) -> Corpus:
    folder = root.parent / "shared" / "data" / "meld"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return read(folder, Config())


def test_real_counts(real: Corpus) -> None:
    check(real)
    utterances = Counter(each.split for each in real.utterances)
    assert utterances == {"train": 9_989, "dev": 1_109, "test": 2_610}
    dialogues = Counter(each.split for each in real.utterances if each.turn == 0)
    assert dialogues == {"train": 1_038, "dev": 114, "test": 280}
    labels = Counter(each.label for each in real.utterances if each.split == "test")
    assert labels == {
        **{"neutral": 1_256, "surprise": 281, "fear": 50, "sadness": 208},
        **{"joy": 402, "disgust": 68, "anger": 345},
    }
    assert not any("text_empty" in each.defects for each in real.utterances)


def test_real_prosody(real: Corpus) -> None:
    table = real.tables["prosody"]
    missing = {each.utterance_id for each in real.utterances} - set(table["utterance_id"])
    assert missing == {"train_dia125_utt3", "dev_dia110_utt7"}
    assert table.width == 1 + 8
    split = pl.col("utterance_id").str.extract(r"^(\w+?)_")
    empty = table.group_by(split).agg(pl.col("avg_pitch", "articulation_rate").null_count())
    assert {row[0]: row[1:] for row in empty.rows()} == {"train": (77, 370), "dev": (12, 43), "test": (26, 117)}
    longest = table.sort("duration", descending=True).row(0)
    assert (longest[0], round(longest[1], 2)) == ("test_dia38_utt4", 304.97)
