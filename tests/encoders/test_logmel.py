"""Log-mel frames: their number, their scale, and that one clip never depends on another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emofuse.encoders.logmel import Config, LogMel


def noise(n_samples: int, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(n_samples).standard_normal(n_samples)).astype(np.float32)


def frames(config: Config, samples: np.ndarray) -> np.ndarray:
    (found,) = LogMel(config).encode([samples])
    return found


@pytest.fixture(scope="module")
def encoder() -> LogMel:
    return LogMel(Config(n_mels=40, window_ms=25, hop_ms=20))


@settings(max_examples=30)
@given(st.integers(400, 20_000))
def test_a_frame_every_hop(encoder: LogMel, n_samples: int) -> None:
    (found,) = encoder.encode([noise(n_samples)])
    assert found.shape == (1 + n_samples // 320, 40)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("n_mels", "hop_ms", "expected"), [(8, 5, (201, 8)), (80, 10, (101, 80)), (64, 25, (41, 64))])
def test_the_options_rule_the_shape(n_mels: int, hop_ms: int, expected: tuple[int, int]) -> None:
    config = Config(n_mels=n_mels, hop_ms=hop_ms)
    assert frames(config, noise(16_000)).shape == expected
    assert LogMel(config).dim == n_mels
    assert LogMel(config).identity["frame_rate"] == 1000 / hop_ms


@pytest.mark.parametrize(("n_samples", "expected"), [(0, 0), (1, 0), (399, 0), (400, 2), (401, 2)])
def test_a_clip_shorter_than_the_window_has_no_frame(encoder: LogMel, n_samples: int, expected: int) -> None:
    (found,) = encoder.encode([noise(n_samples)])
    assert found.shape == (expected, 40)


def test_a_louder_clip_gives_larger_values() -> None:
    quiet, loud = frames(Config(), noise(16_000)), frames(Config(), 10 * noise(16_000))
    assert (loud > quiet).all()
    assert np.median(loud - quiet) == pytest.approx(2 * np.log(10), abs=0.01)


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(frames(Config(), np.zeros(16_000, np.float32)), np.log(1e-6), rtol=1e-6)


def test_a_higher_tone_is_in_a_higher_band() -> None:
    time = np.arange(16_000) / 16_000
    bands = [
        frames(Config(), np.sin(2 * np.pi * hertz * time).astype(np.float32)).mean(axis=0).argmax()
        for hertz in (200, 800, 3_000, 7_000)
    ]
    assert bands == sorted(set(bands))


def test_a_later_sound_is_in_a_later_frame(encoder: LogMel) -> None:
    samples = np.zeros(16_000, np.float32)
    samples[8_000:8_040] = 0.5
    (found,) = encoder.encode([samples])
    assert found.mean(axis=1).argmax() == 8_020 // 320


def test_a_clip_does_not_depend_on_its_company(encoder: LogMel) -> None:
    clips = [noise(length, level) for length, level in [(500, 0.1), (16_000, 0.9), (3, 0.1), (7_000, 0.0)]]
    together = list(encoder.encode(clips))
    for clip, found in zip(clips, together, strict=True):
        (alone,) = encoder.encode([clip])
        np.testing.assert_array_equal(alone, found)


def test_no_clips(encoder: LogMel) -> None:
    assert list(encoder.encode([])) == []
