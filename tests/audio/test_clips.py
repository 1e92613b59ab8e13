"""Sound keeps its pitch, its length and its samples; what is wrong with a clip is a defect and never an exception."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emofuse.audio.clips import prepare
from emofuse.audio.flac import decode, encode
from emofuse.audio.resample import downmix, resample
from emofuse.audio.sound import AudioFile

RATES = (8_000, 16_000, 22_050, 44_100, 48_000)


@dataclass(frozen=True)
class Given:
    """Samples that lie in memory."""

    samples: np.ndarray
    rate: int = 16_000
    name: str = "given.wav"

    def load(self) -> tuple[np.ndarray, int]:
        return self.samples, self.rate


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    """The strongest frequency of 16 kHz samples, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * 16_000 / len(samples))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [220, 1000, 3000])
def test_a_tone_keeps_its_pitch_and_its_length(rate: int, hertz: int) -> None:
    result = resample(tone(hertz, rate), rate)
    assert len(result) == 16_000
    assert pitch(result) == pytest.approx(hertz, abs=1)
    assert np.abs(result[1000:-1000]).max() == pytest.approx(0.5, abs=0.01)


def test_what_16_khz_cannot_hold_is_taken_out() -> None:
    assert np.abs(resample(tone(12_000, 48_000), 48_000)[500:-500]).max() < 0.01


@settings(max_examples=25)
@given(st.sampled_from(RATES), st.integers(1, 30_000))
def test_any_length_keeps_its_duration(rate: int, n_samples: int) -> None:
    result = resample(np.zeros(n_samples, np.float32), rate)
    assert abs(len(result) - n_samples * 16_000 / rate) < 1


def test_channels_are_averaged_and_not_put_end_to_end() -> None:
    left, right = tone(440, 16_000), tone(1000, 16_000)
    mixed, found = downmix(np.stack([left, right]))
    np.testing.assert_allclose(mixed, (left + right) / 2, atol=1e-7)
    assert found == {}
    np.testing.assert_array_equal(downmix(left[None])[0], left)


@pytest.mark.parametrize(
    ("name", "rate", "channels"), [("a.wav", 48_000, 2), ("a.flac", 8_000, 1), ("a.ogg", 44_100, 2)]
)
def test_a_file_of_any_kind_is_stored_at_16_khz_mono(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / name, np.stack([tone(440, rate, 2.0)] * channels, axis=1), rate)
    clip = prepare(AudioFile(tmp_path / name), 40.0)
    assert clip.data is not None
    described = soundfile.info(io.BytesIO(clip.data))
    assert (described.samplerate, described.channels, described.format, described.subtype) == (
        *(16_000, 1),
        *("FLAC", "PCM_16"),
    )
    assert (clip.n_samples, clip.defects) == (32_000, ())
    samples = decode(clip.data)
    assert len(samples) == 32_000
    assert pitch(samples) == pytest.approx(440, abs=1)


PCM = arrays.arrays(np.int16, st.integers(1, 300), elements=st.integers(-32_768, 32_767))


@given(PCM)
def test_stored_samples_come_back_bit_by_bit(pcm: np.ndarray) -> None:
    samples = decode(encode(pcm))
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples * 32_768, pcm)


@settings(max_examples=25)
@given(PCM)
def test_a_16_bit_file_at_16_khz_is_stored_sample_for_sample(tmp_path: Path, pcm: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", pcm, 16_000, subtype="PCM_16")
    clip = prepare(AudioFile(tmp_path / "a.wav"), 40.0)
    assert clip.data is not None
    np.testing.assert_array_equal(decode(clip.data) * 32_768, pcm)


def test_the_digest_is_of_the_sound_and_not_of_its_file(tmp_path: Path) -> None:
    pcm = np.rint(tone(440, 16_000) * 32_768).astype(np.int16)
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, pcm, 16_000)
    soundfile.write(tmp_path / "c.wav", pcm // 2, 16_000)
    first, second, third = (prepare(AudioFile(tmp_path / name), 40.0) for name in ("a.wav", "b.flac", "c.wav"))
    assert first == second
    assert first.sha256 is not None
    assert first.sha256 != third.sha256


def test_too_loud_is_cut_off_and_does_not_wrap_around() -> None:
    clip = prepare(Given(np.array([[2.0, -2.0, 1.0, -1.0]], np.float32)), 40.0)
    assert clip.data is not None
    np.testing.assert_array_equal(decode(clip.data) * 32_768, [32_767, -32_768, 32_767, -32_768])


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_long_clip_is_cut_and_listed(rate: int) -> None:
    clip = prepare(Given(tone(440, rate, 3.0)[None], rate), 2.0)
    assert (clip.n_samples, clip.defects) == (32_000, ("audio_too_long",))
    assert clip.data is not None
    assert len(decode(clip.data)) == 32_000
    fits = prepare(Given(tone(440, rate, 2.0)[None], rate), 2.0)
    assert (fits.n_samples, fits.defects) == (32_000, ())
    assert fits.sha256 == clip.sha256 or rate != 16_000


def test_a_clip_of_over_30_seconds_is_not_dropped() -> None:
    assert prepare(Given(tone(440, 16_000, 35.0)[None]), 40.0).n_samples == 35 * 16_000


@pytest.mark.parametrize(
    ("samples", "defect"),
    [
        (np.zeros((1, 0)), "audio_empty"),
        (np.zeros((0, 0)), "audio_empty"),
        (np.array([[0.1, np.nan]]), "audio_not_finite"),
        (np.array([[0.1, -np.inf]]), "audio_not_finite"),
    ],
)
def test_nothing_is_stored_of_a_clip_that_is_no_sound(samples: np.ndarray, defect: str) -> None:
    clip = prepare(Given(samples.astype(np.float32)), 40.0)
    assert (clip.data, clip.sha256, clip.n_samples, clip.defects) == (None, None, 0, (defect,))


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_a_silent_clip_is_stored_and_listed(level: float) -> None:
    clip = prepare(Given(np.full((2, 3_200), level, np.float32)), 40.0)
    assert (clip.n_samples, clip.defects) == (3_200, ("audio_silent",))
    assert clip.reason is not None
    assert clip.reason.endswith(": every sample is zero")
    assert clip.data is not None
    assert not decode(clip.data).any()


def test_a_silent_and_long_clip_has_both_defects() -> None:
    assert prepare(Given(np.zeros((1, 8_000), np.float32)), 0.2).defects == ("audio_too_long", "audio_silent")


@pytest.mark.parametrize(
    ("data", "defect"),
    [
        (None, "audio_missing"),
        (b"", "audio_unreadable"),
        (b"not a sound", "audio_unreadable"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "audio_unreadable"),
    ],
)
def test_a_bad_file_is_a_defect(tmp_path: Path, data: bytes | None, defect: str) -> None:
    if data is not None:
        (tmp_path / "a.wav").write_bytes(data)
    clip = prepare(AudioFile(tmp_path / "a.wav"), 40.0)
    assert (clip.data, clip.sha256, clip.n_samples, clip.defects) == (None, None, 0, (defect,))
    with pytest.raises(OSError, match=r"a\.wav"):
        AudioFile(tmp_path / "a.wav").load()


def test_a_wav_without_samples_is_empty(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000)
    assert prepare(AudioFile(tmp_path / "a.wav"), 40.0).defects == ("audio_empty",)


def test_a_truncated_file_never_raises(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.flac", tone(440, 16_000), 16_000)
    data = (tmp_path / "whole.flac").read_bytes()
    for length in range(0, len(data), max(1, len(data) // 20)):
        (tmp_path / "part.flac").write_bytes(data[:length])
        clip = prepare(AudioFile(tmp_path / "part.flac"), 40.0)
        assert clip.defects or clip.n_samples > 0


def test_the_same_sound_gives_the_same_bytes() -> None:
    source = Given(np.stack([tone(440, 44_100), tone(700, 44_100)]), 44_100)
    first, second = prepare(source, 40.0), prepare(source, 40.0)
    assert first.data is not None
    assert first == second


def test_real_clips_are_read(root: Path) -> None:
    folder = root.parent / "shared" / "data" / "meld_clips"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    for path in sorted(folder.glob("*.wav")):
        clip = prepare(AudioFile(path), 40.0)
        described = soundfile.info(path)
        assert clip.defects == ()
        assert abs(clip.n_samples - described.frames * 16_000 / described.samplerate) < 1
