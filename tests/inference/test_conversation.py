"""A conversation is read turn by turn, or refused with the file and the turn."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from emofuse.audio.clips import AudioFile
from emofuse.inference.conversation import ConversationError, Turn, _natural, read_conversation


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
    assert conversation.remarks == ("1 file is no turn: notes.txt",)


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
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[{"), "ascii"))
    with pytest.raises(ConversationError, match="standard input: not valid JSON"):
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
        ("talk.csv", b"text,speaker\na,b,c\n", "more cells than columns"),
        ("talk.csv", b'text\n"a', "not valid CSV"),
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


@given(st.lists(st.integers(0, 10**6), unique=True), st.sampled_from(["{}.wav", "turn {} of 9.flac", "a{}b01.mp3"]))
def test_numbers_in_names_are_counted(numbers: list[int], name: str) -> None:
    paths = sorted((Path(name.format(number)) for number in numbers), key=_natural)
    assert paths == [Path(name.format(number)) for number in sorted(numbers)]
