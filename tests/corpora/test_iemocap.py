from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from emofuse.audio.sound import AudioFile
from emofuse.corpora import Corpus, CorpusError, read
from emofuse.corpora.iemocap import Config
from emofuse.corpora.iemocap import read as read_iemocap
from emofuse.corpora.ingest import CorpusConfig, ingest

EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[7.5712 - 10.4750]\tSes01F_impro01_M000\tfru\t[2.5000, 3.5000, 3.0000]
C-E2:\tFrustration;\t()
C-E4:\tAnger; Frustration;\t(a note with [brackets] in it)
A-E3:\tval 2; act 3; dom 3;\t()

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()

[26.9900 - 29.0000]\tSes01F_impro01_M002\txxx\t[-1.0000, -1.0000, -1.0000]
C-F1:\tNeutral;\t()

[11.0100 - 11.0500]\tSes01F_impro01_M001\texc\t[4.0000, 4.5000, 3.5000]
"""
TRANSCRIPT = """Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
Ses01F_impro01_M000 [007.5712-010.4750]:  Do you have your forms?
Ses01F_impro01_MXX0 [010.5000-010.9000]: Mmhmm.
M: [LAUGHTER]
Ses01F_impro01_M001 [011.0100-011.0500]: Yeah.  [LAUGHTER]
Ses01F_impro01_F001 [012.0000-014.0000]: Nobody judged this one.

"""
SECOND = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]
[1.0000 - 2.0000]\tSes05M_script01_1b_F000\tsad\t[1.5000, 2.0000, 2.0000]
[3.0000 - 4.0000]\tSes05M_script01_1b_M000\toth\t[3.0000, 3.0000, 3.0000]
"""


@pytest.fixture
def source(tmp_path: Path, save_clip: Callable[..., Path]) -> Path:
    """Two sessions as the owner ships them, with the corpus's oddities."""
    root = tmp_path / "raw" / "IEMOCAP_full_release"
    first, fifth = root / "Session1", root / "Session5"
    write(first / "dialog/EmoEvaluation/Ses01F_impro01.txt", EVALUATION)
    write(first / "dialog/EmoEvaluation/._Ses01F_impro01.txt", "\0\x05\x16\x07 Mac OS X")
    write(first / "dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt", "Ses01F_impro01_F000 :Neutral; ()")
    write(first / "dialog/EmoEvaluation/notes.txt", "[not an evaluation]")
    write(first / "dialog/transcriptions/Ses01F_impro01.txt", TRANSCRIPT)
    wavs = first / "sentences/wav/Ses01F_impro01"
    save_clip(wavs / "Ses01F_impro01_F000.wav", 1.9456)
    save_clip(wavs / "Ses01F_impro01_M000.wav", 0.5)
    save_clip(wavs / "Ses01F_impro01_M001.wav", 0.04)
    save_clip(wavs / "Ses01F_impro01_F001.wav")
    write(wavs / "._Ses01F_impro01_F000.wav", "\0\x05\x16\x07")
    write(fifth / "dialog/EmoEvaluation/Ses05M_script01_1b.txt", SECOND)
    write(fifth / "sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_F000.wav", "no sound")
    save_clip(fifth / "sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_M000.wav", 3.0, 48_000, 2)
    return tmp_path / "raw"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def rows(corpus: Corpus) -> list[tuple[object, ...]]:
    return [
        (u.utterance_id, u.turn, u.speaker, u.session, u.start_s, u.label, u.text, u.defects) for u in corpus.utterances
    ]


def test_rows(source: Path) -> None:
    corpus = read("iemocap", source, {}, "corpora.iemocap.options")
    assert rows(corpus) == [
        ("Ses01F_impro01_F000", 0, "Ses01_F", "1", 6.2901, "neu", "Excuse me.", ()),
        ("Ses01F_impro01_M000", 1, "Ses01_M", "1", 7.5712, "fru", "Do you have your forms?", ()),
        ("Ses01F_impro01_M001", 2, "Ses01_M", "1", 11.01, "exc", "Yeah.  [LAUGHTER]", ()),
        ("Ses01F_impro01_M002", 3, "Ses01_M", "1", 26.99, "xxx", None, ("text_empty",)),
        ("Ses05M_script01_1b_F000", 0, "Ses05_F", "5", 1.0, "sad", None, ("text_empty",)),
        ("Ses05M_script01_1b_M000", 1, "Ses05_M", "5", 3.0, "oth", None, ("text_empty",)),
    ]
    first = corpus.utterances[0]
    assert (first.dialogue_id, first.end_s, first.sentiment, first.split) == ("Ses01F_impro01", 8.2357, None, None)
    wavs = source / "IEMOCAP_full_release/Session1/sentences/wav/Ses01F_impro01"
    assert first.audio == AudioFile(wavs / "Ses01F_impro01_F000.wav")


def test_ratings_are_a_table(source: Path) -> None:
    vad = read_iemocap(source, Config()).tables["vad"]
    assert vad.columns == ["utterance_id", "valence", "activation", "dominance"]
    assert vad.rows()[:4] == [
        ("Ses01F_impro01_F000", 2.5, 2.5, 2.5),
        ("Ses01F_impro01_M000", 2.5, 3.5, 3.0),
        ("Ses01F_impro01_M001", 4.0, 4.5, 3.5),
        ("Ses01F_impro01_M002", None, None, None),
    ]


def test_notes(source: Path) -> None:
    assert list(read_iemocap(source, Config()).notes) == [
        "dialogues without a transcript: 1",
        "transcript lines without an evaluation: 2",
        "transcript lines without an id and a time: 1",
        "no folder of session 2, 3, 4",
        "6 utterances, 2 dialogues and 4 speakers; "
        "the full release has 10,039 utterances, 151 dialogues and 10 speakers",
    ]


def test_the_source_may_be_the_release_itself(source: Path) -> None:
    assert rows(read_iemocap(source / "IEMOCAP_full_release", Config())) == rows(read_iemocap(source, Config()))


def test_without_sound(source: Path) -> None:
    for session in ("Session1", "Session5"):
        (source / "IEMOCAP_full_release" / session / "sentences").rename(source / session)
    corpus = read_iemocap(source, Config())
    assert {each.audio for each in corpus.utterances} == {None}
    assert "no sound: no session has a folder sentences/wav" in corpus.notes


def test_what_is_wrong_with_the_sound_is_listed_and_stops_nothing(source: Path, tmp_path: Path) -> None:
    config = CorpusConfig("iemocap", "iemocap", str(source), shards=2, max_seconds=2.0, max_defective=1.0)
    ingest(config, tmp_path / "out", tmp_path / "summary.json")
    table = pl.read_parquet(tmp_path / "out" / "utterances.parquet")
    assert table.select("utterance_id", "n_samples", "defects").rows() == [
        ("Ses01F_impro01_F000", 31_130, []),
        ("Ses01F_impro01_M000", 8_000, []),
        ("Ses01F_impro01_M001", 640, ["audio_too_short"]),
        ("Ses01F_impro01_M002", 0, ["text_empty", "audio_missing"]),
        ("Ses05M_script01_1b_F000", 0, ["text_empty", "audio_unreadable"]),
        ("Ses05M_script01_1b_M000", 32_000, ["text_empty", "audio_too_long"]),
    ]
    assert pl.read_parquet(tmp_path / "out" / "tables" / "vad.parquet").height == 6


@pytest.mark.parametrize(
    "line",
    [
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu",
        "[6.2901]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]",
        "[6.2901 - 8.2357]\tSes01F_impro02_F000\tneu\t[2.5000, 2.5000, 2.5000]",
        "[6.2901 - 8.2357]\tSes01F_impro01_X000\tneu\t[2.5000, 2.5000, 2.5000]",
    ],
)
def test_a_bad_line_is_named(source: Path, line: str) -> None:
    path = source / "IEMOCAP_full_release/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    write(path, f"% heading\n\n{line}\n")
    with pytest.raises(CorpusError, match=r"Ses01F_impro01\.txt: line 3: .*; expected \[start - end\], an id of"):
        read_iemocap(source, Config())


def test_a_time_that_runs_backwards_is_a_defect(source: Path) -> None:
    path = source / "IEMOCAP_full_release/Session5/dialog/EmoEvaluation/Ses05M_script01_1b.txt"
    path.write_text(SECOND.replace("[1.0000 - 2.0000]", "[2.0000 - 1.0000]"))
    odd = read_iemocap(source, Config()).utterances[4]
    assert (odd.start_s, odd.end_s, odd.defects) == (None, None, ("text_empty", "time_invalid"))


def test_a_transcript_that_is_not_utf_8_is_read(source: Path) -> None:
    path = source / "IEMOCAP_full_release/Session1/dialog/transcriptions/Ses01F_impro01.txt"
    path.write_bytes(b"Ses01F_impro01_F000 [006.2901-008.2357]: It\x92s me.\r\n")
    assert read_iemocap(source, Config()).utterances[0].text == "It’s me."


def test_missing_folders_are_named(tmp_path: Path, source: Path) -> None:
    with pytest.raises(CorpusError, match=r"none: no folder Session1 to Session5"):
        read_iemocap(tmp_path / "none", Config())
    (source / "IEMOCAP_full_release/Session2").mkdir()
    with pytest.raises(CorpusError, match=r"Session2/dialog/EmoEvaluation: not found; expected IEMOCAP's evaluations"):
        read_iemocap(source, Config())


def test_the_release_is_found_two_levels_below(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    source.rename(folder / "IEMOCAP_full_release_withoutVideos")
    assert len(read_iemocap(folder, Config()).utterances) == len(
        read_iemocap(folder / "IEMOCAP_full_release_withoutVideos", Config()).utterances
    )
