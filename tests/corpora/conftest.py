"""Sound files for small corpora in the layouts of their owners."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile


def tone(seconds: float, rate: int, channels: int) -> np.ndarray:
    """Return a quiet tone of 440 Hz, float32 ``[n_samples, channels]``."""
    times = np.arange(round(seconds * rate)) / rate
    return np.repeat(0.3 * np.sin(2 * np.pi * 440 * times)[:, None], channels, axis=1).astype(np.float32)


def save_mp4(path: Path, seconds: float, rate: int, channels: int) -> None:
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=rate, layout=layout)
        planes = np.ascontiguousarray(tone(seconds, rate, channels).T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)


@pytest.fixture(scope="session")
def save_clip() -> Callable[..., Path]:
    """Write a tone as wav or mp4, by the path's ending: ``save_clip(path, seconds, rate, channels)``."""

    def save(path: Path, seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mp4":
            save_mp4(path, seconds, rate, channels)
        else:
            soundfile.write(path, tone(seconds, rate, channels), rate)
        return path

    return save


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in a folder of the test's own, so that the work store is its own too."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
