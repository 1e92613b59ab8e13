"""Turns are found where somebody speaks, in one piece or in many, and nowhere else."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emofuse.audio.sound import AudioFile
from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders import EncoderError
from emofuse.inference import voice_activity
from emofuse.inference.voice_activity import WINDOW, Span, TurnFinder, find_turns

Project = Any
GAP = round(0.8 * SAMPLE_RATE)


@pytest.fixture(scope="module")
def voices(project: Project) -> list[np.ndarray]:
    """Utterances of a dialogue of two synthetic voices, float32 at 16 kHz."""
    files = sorted(next(iter(project.conversations.values())).glob("*.flac"), key=lambda each: int(each.stem))
    return [AudioFile(path).load()[0][0] for path in files][:6]


def joined(clips: list[np.ndarray], gap: int = GAP) -> tuple[np.ndarray, list[Span]]:
    """Clips one after another with silence between, and where they are."""
    silence, parts, spans, place = np.zeros(gap, np.float32), [], [], 0
    for clip in clips:
        parts += [silence, clip]
        spans.append(Span(place + gap, place + gap + len(clip)))
        place = spans[-1].end
    return np.concatenate([*parts, silence]), spans


def test_each_utterance_is_a_turn_within_a_quarter_of_a_second(voices: list[np.ndarray]) -> None:
    sound, expected = joined(voices)
    found = find_turns(sound)
    assert len(found) == len(expected)
    for turn, clip in zip(found, expected, strict=True):
        assert abs(turn.start - clip.start) < SAMPLE_RATE / 4
        assert abs(turn.end - clip.end) < SAMPLE_RATE / 4


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=12))
@settings(max_examples=15)
def test_pieces_of_any_size_give_the_same_turns(voices: list[np.ndarray], sizes: list[int]) -> None:
    sound, _ = joined(voices[:3])
    finder, found, needed = TurnFinder(), [], 0
    pieces = np.split(sound, [each for each in np.cumsum(sizes) if each < len(sound)])
    for piece in pieces:
        for span in finder.feed(piece):
            assert span.start >= needed, "sound that was no longer needed"
            found.append(span)
        needed = finder.needed_from
    assert [*found, *finder.end()] == find_turns(sound)


def chords() -> np.ndarray:
    """Half a minute of plucked chords."""
    times = np.arange(30 * SAMPLE_RATE) / SAMPLE_RATE
    sound = np.zeros_like(times)
    for number in range(60):
        since = np.maximum(times - number / 2, 0)
        tone = 220 * 2 ** ((number * 7 % 24) / 12)
        sound += np.where(since > 0, np.exp(-3 * since), 0) * np.sin(2 * np.pi * tone * times)
    return (0.1 * sound).astype(np.float32)


@pytest.mark.parametrize("kind", ["nothing", "silence", "noise", "music", "a click"])
def test_where_nobody_speaks_there_is_no_turn(kind: str) -> None:
    noise = np.random.default_rng(0).standard_normal(30 * SAMPLE_RATE).astype(np.float32)
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[8000:8040] = 1
    sounds = {
        "nothing": noise[:0],
        "silence": 0 * noise,
        "noise": 0.05 * noise,
        "music": chords(),
        "a click": click,
    }
    assert find_turns(sounds[kind]) == []


def test_no_turn_is_longer_than_half_a_minute_and_none_of_its_speech_is_lost(voices: list[np.ndarray]) -> None:
    speech = np.concatenate([np.concatenate(voices)] * 7)
    assert len(speech) > 60 * SAMPLE_RATE
    found = find_turns(speech)
    assert max(each.end - each.start for each in found) <= 30 * SAMPLE_RATE + SAMPLE_RATE / 4
    assert sum(each.end - each.start for each in found) > 0.95 * len(speech)
    assert all(first.end <= second.start for first, second in pairwise(found))


def test_turns_stay_inside_of_the_sound(voices: list[np.ndarray]) -> None:
    clip = voices[0][: len(voices[0]) // WINDOW * WINDOW - 100]
    (turn,) = find_turns(clip)
    assert turn.start == 0
    assert turn.end <= len(clip)


def test_of_silence_nothing_is_kept() -> None:
    finder = TurnFinder()
    assert [*finder.feed(np.zeros(300 * SAMPLE_RATE, np.float32)), *finder.end()] == []
    assert finder.needed_from >= 299 * SAMPLE_RATE


def test_without_its_package_the_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_activity, "find_spec", lambda name: None)
    with pytest.raises(EncoderError, match="the package silero-vad is not installed"):
        voice_activity.VoiceActivity.load()


def test_damaged_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/silero_vad_16k.safetensors").write_bytes(b"no weights")

    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(voice_activity, "find_spec", lambda name: Spec)
    with pytest.raises(EncoderError, match=r"voice activity: .*silero_vad_16k.safetensors"):
        voice_activity.VoiceActivity.load()
