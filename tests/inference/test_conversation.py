"""A conversation is read turn by turn, or refused with the file and the turn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from emofuse.audio.source import AudioFile
from emofuse.inference.conversation import ConversationError, Turn, _natural, read_conversation


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path, tone: np.ndarray) -> None:
    for name in ("10.wav", "2.wav", "1.flac"):
        soundfile.write(tmp_path / name, tone, 16_000)
    (tmp_path / "2.txt").write_text("\ufeffYou are\n late. ", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no turn")
    (tmp_path / "._2.wav").write_bytes(b"")
    assert read_conversation(tmp_path) == [
        Turn(AudioFile(tmp_path / "1.flac")),
        Turn(AudioFile(tmp_path / "2.wav"), "You are late."),
        Turn(AudioFile(tmp_path / "10.wav")),
    ]


@pytest.mark.parametrize("name", ["talk.json", "talk.csv"])
def test_a_table_is_read(name: str, write_turns: Callable[..., Path], tone: np.ndarray) -> None:
    turns = [{"speaker": "Ann", "text": "  You, “Ben”,\n are late. "}, {"speaker": "Ben", "audio": "b.wav"}]
    path = write_turns(name, turns)
    soundfile.write(path.parent / "b.wav", tone, 16_000)
    assert read_conversation(path) == [
        Turn(None, "You, “Ben”, are late.", "Ann"),
        Turn(AudioFile(path.parent / "b.wav"), None, "Ben"),
    ]


def test_a_table_in_a_folder_goes_before_its_files(write_turns: Callable[..., Path], tone: np.ndarray) -> None:
    path = write_turns("turns.csv", [{"text": "Hello."}])
    soundfile.write(path.parent / "1.wav", tone, 16_000)
    assert read_conversation(path.parent) == [Turn(text="Hello.")]
    write_turns("turns.json", [])
    with pytest.raises(ConversationError, match=r"both turns.json and turns.csv"):
        read_conversation(path.parent)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("talk.json", b"[{", "not valid JSON"),
        ("talk.json", b"\xff\xfe", "not UTF-8"),
        ("talk.json", b"{}", "expected a list of turns"),
        ("talk.json", b"[]", "no turns in it"),
        ("talk.json", b'[{"text": "a"}, {"txt": "b"}]', r"turn 2.txt: 'b': unknown key; allowed are .*'text'"),
        ("talk.json", b'[{"text": 5}]', "turn 1.text: 5"),
        ("talk.json", b'[{"text": "a"}, {"speaker": "Ann", "text": " "}]', "turn 2: neither audio nor text"),
        ("talk.json", b'[{"audio": "gone.wav"}]', "turn 1: .*gone.wav: no such file"),
        ("talk.csv", b"text,speaker\na,b,c\n", "more cells than columns"),
        ("talk.csv", b'text\n"a', "not valid CSV"),
        ("talk.csv", b"text\n", "no turns in it"),
        ("talk.txt", b"hello", "expected a folder, or a file that ends in .json or .csv"),
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
