"""A conversation is read turn by turn, or refused with the file and the turn."""

import io
import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emofuse.audio.sound import AudioFile
from emofuse.corpora.own import sound_names
from emofuse.inference import conversation as conversation_module
from emofuse.inference import hearing
from emofuse.inference.conversation import ConversationError, Turn, read_conversation


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path, tone: np.ndarray) -> None:
    for name in ("10.WAV", "2.wav", "1.flac", "4.oga"):
        soundfile.write(tmp_path / name, tone, 16_000, format="WAV")
    (tmp_path / "2.TXT").write_text("\ufeffYou are\n late. ", encoding="utf-8")
    (tmp_path / "03.txt").write_text("Sorry!")
    (tmp_path / "notes.txt").write_text("no turn")
    (tmp_path / "._2.wav").write_bytes(b"")
    conversation = read_conversation(tmp_path)
    assert conversation.turns == (
        Turn(AudioFile(tmp_path / "1.flac"), source="1.flac"),
        Turn(AudioFile(tmp_path / "2.wav"), "You are late.", source="2.wav"),
        Turn(None, "Sorry!", source="03.txt"),
        Turn(AudioFile(tmp_path / "4.oga"), source="4.oga"),
        Turn(AudioFile(tmp_path / "10.WAV"), source="10.WAV"),
    )
    assert conversation.remarks == ("not turns, left out: notes.txt",)


@pytest.mark.parametrize("name", ["talk.json", "talk.csv"])
def test_a_table_is_read(name: str, write_turns: Callable[..., Path], tone: np.ndarray) -> None:
    turns = [{"speaker": "Ann", "text": "  You, “Ben”,\n are late. "}, {"speaker": "Ben", "audio": "b.wav"}]
    path = write_turns(name, turns)
    soundfile.write(path.parent / "b.wav", tone, 16_000)
    assert read_conversation(path).turns == (
        Turn(None, "You, “Ben”, are late.", "Ann"),
        Turn(AudioFile(path.parent / "b.wav"), None, "Ben", source="b.wav"),
    )


@pytest.mark.parametrize("name", ["talk.json", "talk.csv"])
def test_a_turn_with_times_has_its_part_of_a_recording_to_the_sample(
    name: str, write_turns: Callable[..., Path], tone: np.ndarray
) -> None:
    turns = [{"audio": "talk.wav", "start_s": 0.25, "end_s": 0.75}, {"text": "Later.", "start_s": 5, "end_s": 6}]
    path = write_turns(name, turns)
    soundfile.write(path.parent / "talk.wav", tone, 16_000)
    first, second = read_conversation(path).turns
    assert first.audio is not None
    np.testing.assert_array_equal(first.audio.load()[0][0], tone[4000:12_000].astype(np.float32) / 32_768)
    assert (first.start_s, first.end_s, first.source) == (0.25, 0.75, "talk.wav")
    assert (second.audio, second.start_s, second.end_s) == (None, 5, 6)


def test_standard_input_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'[{"text": "Gr\xc3\xbc\xc3\x9fe"}]'), "ascii"))
    assert read_conversation(Path("-")).turns == (Turn(None, "Grüße"),)
    faults = {
        b"[{": "not valid JSON",
        b"{}": "expected a list",
        b"[{}]": "turn 1: neither audio nor text",
        b"[]": "no turns",
    }
    for given, fault in faults.items():
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given), "ascii"))
        with pytest.raises(ConversationError, match=f"^standard input: {fault}"):
            read_conversation(Path("-"))


def test_a_table_in_a_folder_goes_before_its_files(write_turns: Callable[..., Path], tone: np.ndarray) -> None:
    path = write_turns("turns.csv", [{"text": "Hello."}])
    soundfile.write(path.parent / "1.wav", tone, 16_000)
    assert read_conversation(path.parent).turns == (Turn(text="Hello."),)
    write_turns("turns.json", [])
    with pytest.raises(ConversationError, match=r"both turns.json and turns.csv"):
        read_conversation(path.parent)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("talk.json", b"[{", "not valid JSON"),
        ("talk.json", b'["\xff"]', "not UTF-8"),
        ("talk.json", b"{}", "expected a list of turns"),
        ("talk.json", b"[]", "no turns in it"),
        ("talk.json", b'[{"text": "a"}, {"txt": "b"}]', r"turn 2.txt: 'b': unknown key; allowed are .*'text'"),
        ("talk.json", b'[{"text": 5}]', "turn 1.text: 5"),
        ("talk.json", b'[{"text": "a"}, {"speaker": "Ann", "text": " "}]', "turn 2: neither audio nor text"),
        ("talk.json", b'[{"audio": "gone.wav"}]', "turn 1: .*gone.wav: no such file"),
        ("talk.csv", b"text,speaker\na,b,c\n", "row 1: 3 cells; expected 2"),
        ("talk.csv", b'text\n"a', "row 1, from line 2: not valid CSV"),
        ("talk.csv", b"text\n", "no turns in it"),
        ("talk.json", b'[{"text": "a", "start_s": 1}]', "turn 1: expected both start_s and end_s"),
        ("talk.json", b'[{"text": "a", "start_s": -1, "end_s": 2}]', "turn 1.start_s: -1"),
        ("talk.csv", b"text,start_s,end_s\na,x,2\n", "turn 1.start_s: 'x'"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, fault: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConversationError, match=fault):
        read_conversation(tmp_path / name)


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversationError, match="not found"):
        read_conversation(tmp_path / "nowhere")
    with pytest.raises(ConversationError, match="no turns in it; expected sound files"):
        read_conversation(tmp_path)


def test_the_content_of_a_folder_decides_and_what_is_left_out_is_named(tmp_path: Path, tone: np.ndarray) -> None:
    for name, form in (("01.WAV", "WAV"), ("02.oga", "OGG"), ("04.wav", "WAV"), ("05.sound", "FLAC"), ("06", "WAV")):
        soundfile.write(tmp_path / name, tone, 16_000, format=form)
    for name, text in (("01.TXT", "Hello."), ("03.txt", "You are late."), ("readme.txt", "By Ann."), ("07.txt", " ")):
        (tmp_path / name).write_text(text)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" * 100)
    (tmp_path / "more").mkdir()
    os.mkfifo(tmp_path / "08.wav")
    conversation = read_conversation(tmp_path)
    assert conversation.turns == (
        Turn(AudioFile(tmp_path / "01.WAV"), "Hello.", source="01.WAV"),
        Turn(AudioFile(tmp_path / "02.oga"), source="02.oga"),
        Turn(None, "You are late.", source="03.txt"),
        Turn(AudioFile(tmp_path / "04.wav"), source="04.wav"),
        Turn(AudioFile(tmp_path / "05.sound"), source="05.sound"),
        Turn(AudioFile(tmp_path / "06"), source="06"),
    )
    assert conversation.remarks == ("not turns, left out: 08.wav, more, photo.jpg, 07.txt, readme.txt",)


def test_a_folder_of_texts_alone_is_read(tmp_path: Path) -> None:
    for name in ("b.txt", "a10.txt", "a9.TXT"):
        (tmp_path / name).write_text(name)
    assert [turn.text for turn in read_conversation(tmp_path).turns] == ["a9.TXT", "a10.txt", "b.txt"]


def test_two_sounds_of_one_turn_are_refused(tmp_path: Path, tone: np.ndarray) -> None:
    for name in ("1.wav", "1.flac"):
        soundfile.write(tmp_path / name, tone, 16_000)
    with pytest.raises(ConversationError, match=r"1\.wav: 1\.flac is the sound of that turn as well"):
        read_conversation(tmp_path)


def test_names_are_one_however_they_are_spelt(tmp_path: Path, tone: np.ndarray) -> None:
    soundfile.write(tmp_path / unicodedata.normalize("NFD", "1 für.wav"), tone, 16_000)
    (tmp_path / unicodedata.normalize("NFC", "1 für.txt")).write_text("Für dich.")
    assert [turn.text for turn in read_conversation(tmp_path).turns] == ["Für dich."]


def test_line_separators_inside_a_cell_end_no_turn(tmp_path: Path) -> None:
    (tmp_path / "talk.csv").write_text(
        'speaker,text\nAnn,One\u0085two\nBen,"Three\u2028four\nfive"\n', "utf-8", newline=""
    )
    texts = [(turn.speaker, turn.text) for turn in read_conversation(tmp_path / "talk.csv").turns]
    assert texts == [("Ann", "One two"), ("Ben", "Three four five")]


def test_a_folder_has_the_sounds_that_it_would_have_as_a_corpus(tmp_path: Path, tone: np.ndarray) -> None:
    """One rule: a wrong ending, none, one that claims too much; nothing but sound by what is in it or by its ending."""
    for name in ("01.wav", "02.bin", "03", "04.text"):
        soundfile.write(tmp_path / name, tone, 16_000, format="OGG")
    for name in ("05.amr", "06.oga", "07.md", "08.wma", "09.npz"):
        (tmp_path / name).write_bytes(b"no sound at all")
    conversation = read_conversation(tmp_path)
    sounds = [Path(str(turn.source)).stem for turn in conversation.turns]
    assert sounds == sound_names(tmp_path) == ["01", "02", "03", "04", "05", "06", "08"]
    assert conversation.remarks == ("not turns, left out: 07.md, 09.npz",)


def test_names_of_any_bytes_are_told_so_that_they_can_be_written(tmp_path: Path, tone: np.ndarray) -> None:
    folder = tmp_path / os.fsdecode(b"gespr\xe4ch")
    folder.mkdir()
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    (tmp_path / "a.wav").rename(folder / os.fsdecode(b"01\xff.wav"))
    (folder / os.fsdecode(b"n\xfe.md")).touch()
    conversation = read_conversation(folder)
    (turn,) = conversation.turns
    assert (conversation.name, turn.source, turn.audio.name) == (r"gespr\xe4ch", r"01\xff.wav", r"01\xff.wav")
    assert conversation.remarks == (r"not turns, left out: n\xfe.md",)


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ([{"text": "a\ud800"}], "turn 1: .*Invalid JSON"),
        ([{"text": "a", "speaker": "\udcff"}], "turn 1: .*Invalid JSON: lone leading surrogate"),
        ([{"text": "a"}, {"text": "ab " * 40_000}], "turn 2: 119,999 characters of text; a turn may have 100,000"),
        (10_001 * [{"text": "a"}], "10,001 turns; a conversation may have 10,000"),
        ([{"text": "a" * 2**25}], "bytes; a file of text may have 33,554,432"),
    ],
    ids=["half a character", "half a speaker", "a long text", "many turns", "many bytes"],
)
def test_what_a_table_may_have_is_bounded(tmp_path: Path, turns: list[dict[str, str]], fault: str) -> None:
    (tmp_path / "turns.json").write_text(json.dumps(turns))
    with pytest.raises(ConversationError, match=fault):
        read_conversation(tmp_path / "turns.json")


def test_a_folder_s_texts_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "01.txt").write_text("ab " * 40_000)
    with pytest.raises(ConversationError, match=r"01\.txt: 119,999 characters of text"):
        read_conversation(tmp_path)
    with (tmp_path / "01.txt").open("r+b") as stream:
        stream.truncate(2**26)
    with pytest.raises(ConversationError, match=r"01\.txt: 67,108,864 bytes"):
        read_conversation(tmp_path)
    (tmp_path / "01.txt").rename(tmp_path / "turns.csv")
    with pytest.raises(ConversationError, match=r"turns\.csv: 67,108,864 bytes"):
        read_conversation(tmp_path)


def test_the_sound_of_a_conversation_is_bounded(
    tmp_path: Path, tone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of recordings that a table names, and that of clips."""
    for name in ("01.wav", "02.wav"):
        soundfile.write(tmp_path / name, tone, 16_000)
    turns = [{"audio": name, "start_s": 0, "end_s": 0.1} for name in ("01.wav", "02.wav")]
    (tmp_path / "times.json").write_text(json.dumps(turns))
    for module in (conversation_module, hearing):
        monkeypatch.setattr(module, "MOST_SAMPLES", len(tone) + 10)
    with pytest.raises(ConversationError, match="turn 2: with it there are over 8 h of sound; predict in parts"):
        read_conversation(tmp_path / "times.json")
    with pytest.raises(ConversationError, match="turn 2: with it there are over 8 h of sound; predict in parts"):
        hearing.hear(read_conversation(tmp_path).turns, 40.0, None)
