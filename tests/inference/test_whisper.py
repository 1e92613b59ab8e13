"""Whisper by CTranslate2 transcribes speech, independently of the other clips of a batch."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from emofuse.audio.resample import downmix, resample
from emofuse.audio.sound import AudioFile
from emofuse.corpora.demo.voice import Speech
from emofuse.encoders import EncoderError
from emofuse.encoders.weights import model_folder
from emofuse.inference import whisper
from emofuse.inference.transcripts import recogniser
from emofuse.inference.whisper import PACKAGED, Whisper

CLIPS = {
    "dia0_utt0": "coffee mugs have numbers on the bottom?",
    "dia100_utt1": "you guys feel safe",
    "dia100_utt5": "okay, i'm sorry.",
    "dia101_utt0": "hey!",
}
"""What MELD's transcripts have of its four clips; the second and the third go on."""


@pytest.fixture(scope="module")
def recognise() -> Whisper:
    found = recogniser()
    assert isinstance(found, Whisper)
    return found


@pytest.fixture(scope="module")
def folder() -> Path:
    found = model_folder(PACKAGED)
    assert found is not None
    return found


def spoken(text: str) -> np.ndarray:
    samples, rate = Speech(text, "en-us", 140, 50, 50, 80, "test").load()
    return resample_poly(samples[0], 320, rate // 50).astype(np.float32)


TEXT = "Why do all your coffee mugs have numbers on the bottom?"


def test_what_is_said_aloud_is_written_down_in_any_company(recognise: Whisper) -> None:
    speech = spoken(TEXT)
    long = np.concatenate([speech, np.zeros(8 * 16_000, np.float32), speech])
    assert recognise([speech]) == [TEXT]
    assert recognise([long, speech, long[: 6 * 16_000]])[1] == TEXT
    assert recognise([]) == []


def test_four_clips_of_meld_are_transcribed(recognise: Whisper, shared: Path) -> None:
    loaded = [AudioFile(shared / "meld_clips" / f"{name}.wav").load() for name in CLIPS]
    for found, result in zip(
        recognise([resample(downmix(x)[0], rate) for x, rate in loaded]), CLIPS.values(), strict=True
    ):
        assert result in found.lower()


def test_more_than_a_window_is_cut_where_it_is_quiet(recognise: Whisper) -> None:
    speech = spoken(TEXT)
    parts = [np.concatenate([speech, np.zeros(16_000, np.float32)])] * 8
    long = np.concatenate(parts)
    assert len(long) > 33 * 16_000
    pieces = list(whisper._pieces(long))
    assert all(len(each) <= 30 * 16_000 for each in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), long)
    assert not pieces[0][-500:].any()
    assert recognise([long])[0].count("on the bottom?") >= 7


def test_what_goes_round_in_circles_is_heard_again_with_all_of_its_window(
    recognise: Whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []

    def words(self: Whisper, pieces: list[np.ndarray], seconds: list[int]) -> list[tuple[str, bool]]:
        asked.append(seconds)
        first = {2: ("Turn it on. " * 9, True), 3: ("Turn.", True), 4: ("Turn it on. Turn it", False)}
        return [first[len(piece)] if each < 30 else ("On.", True) for piece, each in zip(pieces, seconds, strict=True)]

    monkeypatch.setattr(Whisper, "_all_words", words)
    assert recognise([np.zeros(count, np.float32) for count in (2, 3, 4)]) == ["On.", "Turn.", "On."]
    assert asked == [[5, 5, 5], [30, 30]]
    assert not whisper._goes_round(TEXT)


@pytest.mark.parametrize(("file", "content"), [("model.bin", b"\x06\0\0\0junk"), ("tokenizer.json", b"{}")])
def test_a_damaged_model_is_one_line(file: str, content: bytes, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(EncoderError, match=rf"^speech recogniser {tmp_path}: ") as caught:
        recogniser(str(tmp_path))
    assert "\n" not in str(caught.value)
