"""Noise is as loud and word errors are as many as declared, whatever they are put into."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.robustness.features import add_noise, long_term_spectrum, shaped_noise, with_word_errors

FLAT = np.ones(513)
WORDS = ("so", "the", "never", "a", "train's")

texts = st.lists(st.none() | st.lists(st.sampled_from("abcde"), max_size=9).map(" ".join), max_size=12)


def distance(truth: Sequence[str], transcripts: Sequence[str]) -> int:
    """Edit distance, as the textbook has it."""
    row = list(range(len(transcripts) + 1))
    for count, word in enumerate(truth, 1):
        previous, row[0] = row[0], count
        for place, other in enumerate(transcripts, 1):
            previous, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, previous + (word != other))
    return row[-1]


def words(text: str | None) -> list[str]:
    return (text or "").split()


def speech(seed: int, loudness: float, length: int = 8000) -> np.ndarray:
    """Something whose loudness varies, float32 in [-1, 1]."""
    rng = np.random.default_rng(seed)
    swell = 0.5 + 0.5 * np.sin(np.arange(length) / 700)
    return np.clip(loudness * swell * rng.standard_normal(length), -1, 1).astype(np.float32)


@given(st.integers(0, 50), st.floats(-10, 40), st.sampled_from([0.01, 0.3, 3.0]))
def test_the_ratio_is_the_one_asked_for_over_the_whole_clip(seed: int, db: float, loudness: float) -> None:
    clean = speech(seed, loudness)
    noise = shaped_noise(len(clean), FLAT, np.random.default_rng(seed + 1))
    mixed = add_noise(clean, noise, db)
    # What was turned down was turned down as a whole: both parts are found again in the sum, at one ratio.
    parts = np.stack([clean, noise], axis=1).astype(np.float64)
    (of_speech, of_noise), *_ = np.linalg.lstsq(parts, mixed.astype(np.float64), rcond=None)
    powers = np.mean(np.square(parts * [of_speech, of_noise]), axis=0)
    assert 10 * np.log10(powers[0] / powers[1]) == pytest.approx(db, abs=0.01)
    assert np.abs(mixed).max() < 1
    np.testing.assert_allclose(mixed, parts @ [of_speech, of_noise], atol=1e-5)


def test_silence_stays_silent() -> None:
    noise = shaped_noise(100, FLAT, np.random.default_rng(0))
    assert not add_noise(np.zeros(100, np.float32), noise, 0.0).any()


def test_noise_has_the_spectrum_of_the_speech() -> None:
    rng = np.random.default_rng(0)
    low = np.convolve(rng.standard_normal(200_000), np.hanning(16), "same")
    power = long_term_spectrum([low])
    found = long_term_spectrum([shaped_noise(200_000, power, rng)])
    bands = [np.log10(each[1:].reshape(32, 16).sum(axis=1) / each.sum()) for each in (power, found)]
    heard = bands[0] > -5  # bands with a hundred-thousandth of the power or more
    assert heard.sum() > 5
    np.testing.assert_allclose(bands[0][heard], bands[1][heard], atol=0.1)


def test_no_clips_have_no_spectrum() -> None:
    assert not long_term_spectrum([]).any()
    assert not long_term_spectrum([np.zeros(5000, np.float32)]).any()


@given(texts, st.floats(0, 1), st.integers(0, 20))
def test_the_edit_distance_is_the_one_asked_for(truth: list[str | None], rate: float, seed: int) -> None:
    transcripts = with_word_errors(truth, rate, WORDS, np.random.default_rng(seed))
    total = sum(len(words(each)) for each in truth)
    assert sum(distance(words(a), words(b)) for a, b in zip(truth, transcripts, strict=True)) == round(rate * total)
    assert all(text is None or text.split() for text in transcripts if text not in truth)
    assert transcripts == with_word_errors(truth, rate, WORDS, np.random.default_rng(seed))


@given(texts)
def test_no_errors_leave_every_text_as_it_was(truth: list[str | None]) -> None:
    assert with_word_errors(truth, 0.0, WORDS, np.random.default_rng(0)) == truth


def test_errors_are_of_all_three_kinds_alike() -> None:
    truth = [" ".join(f"w{row}-{place}" for place in range(10)) for row in range(300)]
    transcripts = with_word_errors(truth, 0.1, ["new"], np.random.default_rng(0))
    added = sum(words(each).count("new") for each in transcripts)
    kept = sum(word != "new" for each in transcripts for word in words(each))
    substituted_or_deleted, substituted_or_added = 3000 - kept, added
    assert substituted_or_deleted == pytest.approx(200, abs=10)
    assert substituted_or_added == pytest.approx(200, abs=10)
