"""Whisper's spectrogram has the numbers of transformers' extractor."""

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor

from emofuse.audio.spectrogram import log_mel


@pytest.mark.parametrize(("bands", "seconds", "steps"), [(80, 1.23, 3000), (80, 2.0, 201), (128, 0.4, 40)])
def test_the_numbers_are_those_of_transformers(bands: int, seconds: float, steps: int) -> None:
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(round(16_000 * seconds))).astype(np.float32)
    samples[: len(samples) // 2] += np.sin(np.arange(len(samples) // 2) / 5).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=bands)
    options = {"padding": "max_length", "max_length": 160 * steps, "truncation": False}
    (expected,) = extractor([samples], sampling_rate=16_000, return_tensors="np", **options)["input_features"]
    found = log_mel(samples, steps, bands)
    assert found.dtype == np.float32
    assert found.shape == (bands, steps)
    np.testing.assert_allclose(found, expected, atol=2e-4)
