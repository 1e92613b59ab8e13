"""Segments of a recording are cut to the sample, and the recording is decoded once, a part at a time."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from emofuse.audio import decode as decoding
from emofuse.audio.clips import Clip, prepare, prepare_recording
from emofuse.audio.flac import decode
from emofuse.audio.parallel import prepare_all
from emofuse.audio.sound import AudioFile

RATE = 16_000


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Six seconds in which no two samples in a row are found twice."""
    return np.random.default_rng(3).integers(-8_000, 8_000, 6 * RATE).astype(np.int16)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory, noise: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    soundfile.write(path, noise, RATE)
    return path


def pcm(clip: Clip) -> np.ndarray:
    assert clip.data is not None
    return (decode(clip.data) * 32_768).astype(np.int16)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6 * RATE - 1), st.integers(1, 2 * RATE)), min_size=1, max_size=6), st.data())
def test_each_segment_has_its_own_samples(
    talk: Path, noise: np.ndarray, spans: list[tuple[int, int]], data: st.DataObject
) -> None:
    block = data.draw(st.sampled_from([1_000, 65_536]))
    ranges = [(start, min(start + length, len(noise))) for start, length in spans]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_BLOCK", block)
        clips = prepare_recording([AudioFile(talk, start / RATE, end / RATE) for start, end in ranges], 40.0)
    for (start, end), clip in zip(ranges, clips, strict=True):
        np.testing.assert_array_equal(pcm(clip), noise[start:end])
        assert set(clip.defects) <= {"audio_too_short"}


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_segments_at_other_rates_begin_and_end_where_they_should(tmp_path: Path, rate: int) -> None:
    """A click every second: each segment around one has it in its middle."""
    samples = np.zeros(5 * rate, np.float32)
    samples[rate // 2 :: rate] = 0.9
    soundfile.write(tmp_path / "a.flac", samples, rate)
    clips = prepare_recording([AudioFile(tmp_path / "a.flac", n, n + 1.0) for n in range(5)], 40.0)
    for clip in clips:
        assert clip.defects == ()
        assert clip.n_samples == RATE
        assert abs(int(np.abs(pcm(clip).astype(int)).argmax()) - RATE // 2) <= RATE // rate + 1


@pytest.mark.parametrize(
    ("start", "end", "defect", "n_samples", "words"),
    [
        (1.0, 1.0, "segment_empty", 0, "from 1 s to 1 s, which is nothing"),
        (1.0, 1.00001, "segment_empty", 0, "from 1 s to 1.00001 s is less than a sample"),
        (2.0, 1.0, "segment_inverted", 0, "from 2 s to 1 s, which is before its start"),
        (-0.5, 1.0, "segment_outside", 0, "from -0.5 s to 1 s, before it begins"),
        (7.0, 8.0, "segment_outside", 0, "from 7 s to 8 s, but it ends at 6.00 s"),
        (5.0, 7.0, "segment_outside", RATE, "from 5 s to 7 s, but it ends at 6.00 s"),
        (0.0, 5.5, "audio_too_long", 4 * RATE, "5.5 s, cut at 4 s"),
    ],
)
def test_segments_that_are_none_are_defects_by_name(
    talk: Path, start: float, end: float, defect: str, n_samples: int, words: str
) -> None:
    good = AudioFile(talk, 0.5, 1.5)
    clips = prepare_recording([good, AudioFile(talk, start, end), good], 4.0)
    assert [clip.defects for clip in clips] == [(), (defect,), ()]
    assert (clips[1].n_samples, clips[1].reason) == (n_samples, f"talk.wav: {words}")
    assert clips[0] == clips[2] == prepare(good, 4.0)


def test_a_rounded_end_is_no_defect(talk: Path) -> None:
    clip = prepare(AudioFile(talk, 5.0, 6.04), 40.0)
    assert (clip.n_samples, clip.defects) == (RATE, ())


def test_a_recording_that_cannot_be_read_is_a_defect_of_each_segment(tmp_path: Path) -> None:
    missing = [AudioFile(tmp_path / "none.wav", n, n + 1.0) for n in range(3)]
    assert [clip.defects for clip in prepare_recording(missing, 4.0)] == [("audio_missing",)] * 3
    (tmp_path / "text.wav").write_text("no sound")
    broken = [AudioFile(tmp_path / "text.wav", n, n + 1.0) for n in range(3)]
    assert [clip.defects for clip in prepare_recording(broken, 4.0)] == [("audio_unreadable",)] * 3


def test_of_a_recording_that_was_cut_off_the_segments_before_are_whole(tmp_path: Path, noise: np.ndarray) -> None:
    soundfile.write(tmp_path / "whole.flac", noise, RATE)
    data = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "part.flac").write_bytes(data[: len(data) * 7 // 12])
    segments = [AudioFile(tmp_path / "part.flac", n, n + 1.0) for n in range(6)]
    clips = prepare_recording(segments, 40.0)
    for n in range(3):
        np.testing.assert_array_equal(pcm(clips[n]), noise[n * RATE : (n + 1) * RATE])
    assert "audio_damaged" in clips[3].defects
    assert all(clip.defects for clip in clips[3:])
    assert [clip.data for clip in clips[4:]] == [None, None]


def test_a_recording_is_decoded_once_and_never_held_whole(
    talk: Path, noise: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    blocks = decoding._blocks

    def counted(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
        opened.append(file.frames)
        yield from blocks(file)

    monkeypatch.setattr(decoding, "_blocks", counted)
    segments = [AudioFile(talk, n / 100, n / 100 + 0.1) for n in range(500)]
    assert len(prepare_recording(segments, 40.0)) == 500
    assert opened == [len(noise)]


def test_segments_go_through_the_pool_together_and_in_order(talk: Path, noise: np.ndarray) -> None:
    whole = AudioFile(talk)
    sources = [AudioFile(talk, n / 10, n / 10 + 0.5) for n in range(40)]
    clips = list(prepare_all([*sources[:20], whole, *sources[20:]], 40.0))
    assert clips[20].n_samples == len(noise)
    for n, clip in enumerate([*clips[:20], *clips[21:]]):
        np.testing.assert_array_equal(pcm(clip), noise[round(n * RATE / 10) : round((n / 10 + 0.5) * RATE)])


def test_a_named_pipe_is_refused_and_waited_for_by_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    clip = prepare(AudioFile(tmp_path / "pipe.wav"), 40.0)
    assert clip.defects == ("audio_unreadable",)
    assert clip.reason == f"{tmp_path / 'pipe.wav'}: not a regular file"


def test_a_pointer_of_git_lfs_is_known_by_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n")
    clip = prepare(AudioFile(tmp_path / "a.wav"), 40.0)
    assert clip.defects == ("audio_unreadable",)
    assert clip.reason is not None
    assert "a pointer of Git LFS and not the sound itself; `git lfs pull` fetches it" in clip.reason
