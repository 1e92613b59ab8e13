"""Prosody: tones, noises and silences whose values are known."""

import numpy as np
import pytest

from emofuse.encoders import EncoderError
from emofuse.encoders.prosody import COLUMNS, Config, Prosody

TIME = np.arange(16_000) / 16_000


def voice(hertz: float, level: float = 0.1) -> np.ndarray:
    """Twenty harmonics that fall by 6 dB an octave."""
    parts = (np.sin(2 * np.pi * hertz * number * TIME) / number for number in range(1, 21) if hertz * number < 8_000)
    return (level * sum(parts)).astype(np.float32)


def noise(level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)


def column(name: str, samples: np.ndarray) -> np.ndarray:
    (frames,) = Prosody(Config()).encode([samples])
    return frames[:, COLUMNS.index(name)]


@pytest.mark.parametrize("hertz", [80.0, 123.4, 220.0, 313.0, 440.0])
def test_the_pitch_of_a_voice(hertz: float) -> None:
    expected = 12 * np.log2(hertz / 27.5)
    np.testing.assert_allclose(column("pitch", voice(hertz)), expected, atol=0.1)
    assert (column("voicing", voice(hertz)) > 0.95).all()


def test_a_missing_fundamental_is_heard() -> None:
    samples = voice(150.0) - (0.1 * np.sin(2 * np.pi * 150 * TIME)).astype(np.float32)
    np.testing.assert_allclose(column("pitch", samples), 12 * np.log2(150 / 27.5), atol=0.1)


@pytest.mark.parametrize("samples", [noise(), np.zeros(16_000, np.float32)], ids=["noise", "silence"])
def test_what_has_no_pitch_is_unvoiced(samples: np.ndarray) -> None:
    assert np.isnan(column("pitch", samples)).mean() > 0.9
    others = [each for each in COLUMNS if each != "pitch"]
    assert all(np.isfinite(column(each, samples)).all() for each in others)


def test_a_quiet_part_of_a_loud_clip_is_unvoiced() -> None:
    samples = voice(200.0)
    samples[8_000:] *= 0.001
    pitch = column("pitch", samples)
    assert np.isfinite(pitch[:40]).all()
    assert np.isnan(pitch[60:]).all()


def test_ten_times_as_loud_is_twenty_decibels_more() -> None:
    np.testing.assert_allclose(column("energy", voice(100.0, 0.5)) - column("energy", voice(100.0, 0.05)), 20, atol=0.1)


def test_the_spectral_columns_order_sounds_as_an_ear_does() -> None:
    dark, bright = voice(200.0), noise()
    for name in ("centroid", "spread", "rolloff", "flatness", "crossings"):
        assert column(name, dark).max() < column(name, bright).min(), name
    for name in ("alpha", "hammarberg"):
        assert column(name, dark).min() > column(name, bright).max(), name
    assert column("slope", dark).mean() < column("slope", bright).mean()


def test_a_tone_is_at_its_frequency() -> None:
    tone = (0.1 * np.sin(2 * np.pi * 2_000 * TIME)).astype(np.float32)
    np.testing.assert_allclose(column("centroid", tone), 2.0, atol=0.02)
    np.testing.assert_allclose(column("rolloff", tone), 2.0, atol=0.03)
    np.testing.assert_allclose(column("crossings", tone), 0.25, atol=0.01)


def test_a_change_of_sound_is_flux() -> None:
    samples = np.where(TIME < 0.5, voice(100.0), voice(400.0)).astype(np.float32)
    flux = column("flux", samples)
    assert 44 <= flux.argmax() <= 52
    assert flux[0] == 0


@pytest.mark.parametrize(("n_samples", "expected"), [(0, 0), (639, 0), (640, 1), (799, 1), (800, 2)])
def test_a_frame_every_hop(n_samples: int, expected: int) -> None:
    before, found, _ = Prosody(Config()).encode([noise(), noise()[:n_samples], noise()])
    assert found.shape == (expected, 12)
    assert before.shape == (97, 12)


def test_a_clip_does_not_depend_on_its_company() -> None:
    clips = [voice(100.0), noise(0.5), voice(300.0)[:5_000]]
    for clip, found in zip(clips, Prosody(Config()).encode(clips), strict=True):
        (alone,) = Prosody(Config()).encode([clip])
        np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (Config(floor=300.0, ceiling=200.0), "floor 300.0: must be below ceiling 200.0"),
        (Config(window_ms=30), "window_ms 30: three periods of 75.0 Hz are longer"),
    ],
)
def test_an_impossible_range_is_named(config: Config, fault: str) -> None:
    with pytest.raises(EncoderError, match=fault):
        Prosody(config)
