"""Fixtures that several folders of tests share."""

import csv
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The fixtures that properties use here hold no state; times on a busy machine say nothing.
settings.register_profile("emofuse", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("emofuse")

TRANSCRIPT = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
PROSODY = (
    "filename,duration,avg_intensity,intensity_variation,avg_pitch,pitch_std,pitch_range,articulation_rate,mean_hnr"
)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start Python code as a process of its own: ``start(code, folder, arguments...)``."""

    def run(code: str, folder: Path, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


@pytest.fixture(scope="session")
def meld_row() -> Callable[..., dict[str, str]]:
    """One row of a MELD transcript: ``meld_row(dialogue, utterance, text, **other columns)``."""

    def make(dialogue: int, utterance: int, text: str, **columns: str) -> dict[str, str]:
        usual = ["1", text, "Ross", "joy", "positive", str(dialogue), str(utterance), "1", "2"]
        times = ["00:00:01,500", "00:00:02,750"]
        return dict(zip(TRANSCRIPT.split(","), [*usual, *times], strict=True)) | columns

    return make


@pytest.fixture(scope="session")
def write_meld() -> Callable[..., Path]:
    """Write a folder as MELD ships it: ``write_meld(folder, transcripts by split, prosody by split or None)``."""

    def write(
        folder: Path,
        transcripts: Mapping[str, Sequence[Mapping[str, str]]],
        prosody: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for split, rows in transcripts.items():
            lines = [list(row.values()) for row in rows]
            _write_csv(folder / f"{split}_sent_emo.csv", TRANSCRIPT.split(","), lines)
        for split, clips in (prosody or {}).items():
            lines = [[f"{clip}.wav", *values] for clip, values in clips.items()]
            _write_csv(folder / f"meld_{split}_audio_features.csv", PROSODY.split(","), lines)
        return folder

    return write


def _write_csv(path: Path, header: list[str], lines: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *lines])
