"""A recording that is decoded piece by piece is the one that is decoded at once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from emofuse.audio import recordings
from emofuse.audio.clips import prepare
from emofuse.audio.decode import Ending
from emofuse.audio.recordings import NoSoundError, decode_recording
from emofuse.audio.resample import Resampler, downmix, resample
from emofuse.audio.sound import AudioBytes, AudioFile, Sound, read_sound


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_PIECE_S", 0.7)


def noise(channels: int, count: int) -> np.ndarray:
    return (0.2 * np.random.default_rng(0).standard_normal((channels, count))).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("sizes", [[1], [1000, 1, 5000, 20_000], [44_100] * 3])
def test_pieces_are_resampled_as_the_whole(rate: int, sizes: list[int]) -> None:
    (whole,) = noise(1, sum(sizes))
    resampler = Resampler(rate)
    pieces = [resampler.feed(each) for each in np.split(whole, np.cumsum(sizes)[:-1])]
    found = np.concatenate([*pieces, resampler.end()])
    expected = resample(whole, rate)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "rate"), [("a.wav", 44_100), ("a.flac", 16_000), ("a.ogg", 48_000), ("a.mp3", 22_050)]
)
def test_a_file_of_any_kind_comes_in_pieces(name: str, rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / name, noise(2, 3 * rate + 77).T, rate)
    samples, found = decode_recording(AudioFile(tmp_path / name))
    whole, _ = AudioFile(tmp_path / name).load()
    expected = resample(downmix(whole)[0], rate)
    assert samples.shape == (1, len(expected))
    np.testing.assert_allclose(samples[0], expected, atol=1e-6)
    assert found == {}
    apart, _ = decode_recording(AudioFile(tmp_path / name), apart=True)
    np.testing.assert_allclose(apart[1], resample(np.ascontiguousarray(whole[1]), rate), atol=1e-6)


def test_channels_that_cancel_over_the_whole_are_told_apart(tmp_path: Path) -> None:
    (one,) = noise(1, 40_000)
    soundfile.write(tmp_path / "a.wav", np.stack([0.9 * one, -one], axis=1), 16_000, subtype="FLOAT")
    samples, found = decode_recording(AudioFile(tmp_path / "a.wav"))
    np.testing.assert_array_equal(samples[0], -one)
    assert found == {"audio_channels_cancel": "its channels cancel, so channel 2 was taken"}


def test_full_scale_is_that_of_the_whole(tmp_path: Path) -> None:
    numbers = np.rint(noise(1, 40_000)[0] * 20_000)
    numbers[:20_000] = np.sign(numbers[:20_000])
    soundfile.write(tmp_path / "a.wav", numbers, 16_000, subtype="FLOAT")
    samples, found = decode_recording(AudioFile(tmp_path / "a.wav"))
    np.testing.assert_allclose(samples[0], numbers / 32_768, rtol=1e-6)
    assert list(found) == ["audio_rescaled"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda samples: samples[:0], "no samples in it"),
        (lambda samples: np.append(samples, np.nan), "a sample is not a finite number"),
        (lambda samples: np.append(samples, 20.5), "samples reach 20.5 where full scale is 1"),
    ],
)
def test_what_is_no_sound_is_one_line(change: Callable[[np.ndarray], np.ndarray], fault: str, tmp_path: Path) -> None:
    samples = change(noise(1, 30_000)[0]).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(NoSoundError, match=fault):
        decode_recording(AudioFile(tmp_path / "a.wav"))
    with pytest.raises(NoSoundError, match=fault):
        decode_recording(Sound("a", samples[None], 16_000))


def crashed(data: bytes) -> bytes:
    """As a recorder leaves a file when its battery is empty: the sound is there, and its length is zero."""
    return data[:40] + bytes(4) + data[44:]


def overstated(data: bytes) -> bytes:
    return data[:40] + (int.from_bytes(data[40:44], "little") + 6).to_bytes(4, "little") + data[44:]


def outdated(data: bytes) -> bytes:
    """As a recorder leaves a file that writes the length from time to time, or cannot write one over 4 GB."""
    return data[:40] + (40_000).to_bytes(4, "little") + data[44:]


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


DAMAGES = [
    ("a.wav", crashed, "audio_header_wrong", 60_000),
    ("a.wav", outdated, "audio_header_wrong", 20_000),
    ("a.wav", overstated, "audio_cut_off", 60_000),
    ("a.wav", halved, "audio_cut_off", 29_989),
    ("a.flac", halved, "audio_damaged", 28_672),
]


@pytest.mark.parametrize(("name", "damage", "defect", "count"), DAMAGES)
def test_what_is_there_of_a_damaged_recording_is_kept_and_told_as_of_a_clip(
    name: str, damage: Callable[[bytes], bytes], defect: str, count: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    whole = np.rint(32_768 * noise(1, 60_000)[0]).astype(np.int16)
    soundfile.write(path, whole, 16_000)
    path.write_bytes(damage(path.read_bytes()))
    clip = prepare(AudioFile(path), 40.0)
    expected = (whole[:count] / 32_768).astype(np.float32)
    assert (clip.n_samples, clip.defects) == (count, (defect,))
    for source in (AudioFile(path), AudioBytes(name, path.read_bytes()), read_sound(path.read_bytes(), name)):
        samples, told = decode_recording(source)
        np.testing.assert_array_equal(samples[0], expected)
        assert list(told) == [defect]
        assert clip.reason == f"{name}: {told[defect]}"
        assert prepare(source, 40.0).defects == (defect,)


def test_a_damaged_file_without_a_sample_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(1, 60_000)[0], 16_000)
    data = (tmp_path / "a.flac").read_bytes()[:200]
    with pytest.raises(OSError, match=r"^a\.flac: "):
        read_sound(data, "a.flac")
    with pytest.raises(OSError, match=r"^a\.flac: "):
        decode_recording(AudioBytes("a.flac", data))


def test_what_comes_after_a_day_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_LONGEST_S", 1.8)
    soundfile.write(tmp_path / "a.wav", noise(1, 30_000)[0], 16_000)
    samples, told = decode_recording(AudioFile(tmp_path / "a.wav"))
    assert samples.shape == (1, 28_800)
    assert told == {"audio_too_long": "over 0.0005 h, cut there"}
    soundfile.write(tmp_path / "a.wav", noise(1, 28_800)[0], 16_000)
    assert decode_recording(AudioFile(tmp_path / "a.wav"))[1] == {}


def test_sound_that_becomes_another_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a stream does whose sender was changed."""

    def decode_spans(stream: object, spans: list[object], most: float, take: Callable[..., None]) -> dict[int, str]:
        del stream, most
        for number, _ in enumerate(spans[:3]):
            take(number, noise(1 if number < 2 else 2, 11_200), Ending(16_000, None))
        return {}

    monkeypatch.setattr(recordings, "decode_spans", decode_spans)
    (tmp_path / "a.ts").touch()
    samples, told = decode_recording(AudioFile(tmp_path / "a.ts"))
    assert samples.shape == (1, 22_400)
    assert told == {"audio_damaged": "at 1.4 s it becomes one of 16000 Hz and 2 channels, which is left out"}


def test_of_an_hour_no_more_is_in_memory_than_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest piece that is resampled at once, of ten minutes, is one of half a minute with what is around it."""
    monkeypatch.setattr(recordings, "_PIECE_S", 30.0)
    soundfile.write(tmp_path / "a.flac", np.zeros(600 * 8_000, np.int16), 8_000)
    sizes: list[int] = []
    resampled = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda samples: sizes.append(len(samples)) or resampled(samples))
    samples, _ = decode_recording(AudioFile(tmp_path / "a.flac"))
    assert samples.shape == (1, 600 * 16_000)
    assert max(sizes) < 31 * 8_000


@pytest.mark.parametrize(("apart", "kept"), [(False, 5_000), (True, 2_500)])
def test_no_more_is_kept_than_there_may_be_which_is_said(
    apart: bool, kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "MOST_SAMPLES", 5_000)
    soundfile.write(tmp_path / "long.flac", noise(2, 20_000).T, 16_000)
    samples, defects = decode_recording(AudioFile(tmp_path / "long.flac"), apart)
    assert samples.shape == (2 if apart else 1, kept)
    hours = 4 if apart else 8
    assert defects["audio_too_long"] == f"over {hours} h, cut there; the rest is not heard"
