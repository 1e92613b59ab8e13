"""Sound files for small corpora in the layouts of their owners."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from emofuse.corpora.demo.voice import Speech


@cache
def spoken() -> tuple[np.ndarray, int]:
    """Return a sentence from a speech synthesizer, float64 ``[n_samples]``, and its rate in Hz."""
    sentence = "I never said that you could take the boat."
    samples, rate = Speech(sentence, "en-us", rate=170, pitch=50, range=50, volume=100, name="spoken.wav").load()
    voiced = samples[0].astype(np.float64)
    return voiced[np.argmax(np.abs(voiced) > 0.05) :], rate  # without the silence that it begins with


@cache
def speech(seconds: float, rate: int, channels: int) -> np.ndarray:
    """Return that sentence again and again at this rate, float32 ``[n_samples, channels]``."""
    samples, own_rate = spoken()
    resampled = resample_poly(samples, rate, own_rate)
    return np.repeat(np.resize(resampled, round(seconds * rate))[:, None], channels, axis=1).astype(np.float32)


def save_mp4(path: Path, seconds: float, rate: int, channels: int) -> None:
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=rate, layout=layout)
        planes = np.ascontiguousarray(speech(seconds, rate, channels).T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)


@pytest.fixture(scope="session")
def save_clip() -> Callable[..., Path]:
    """Write speech as wav or mp4, by the path's ending: ``save_clip(path, seconds, rate, channels)``."""

    def save(path: Path, seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mp4":
            save_mp4(path, seconds, rate, channels)
        else:
            soundfile.write(path, speech(seconds, rate, channels), rate)
        return path

    return save


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in a folder of the test's own, so that the work store is its own too."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
