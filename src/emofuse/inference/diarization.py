"""Who spoke when, by a pipeline of pyannote.audio, where that package is installed.

The package reads its networks with an unrestricted unpickler, so that a pipeline can run code of its author's. It would
also tell its makers of every use, which is switched off here; PYANNOTE_METRICS_ENABLED=1 allows it.
"""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from emofuse.audio.sound import Sound
from emofuse.encoders.base import EncoderError
from emofuse.inference.segments import Segment

__all__ = ["Diarizer", "diarizer"]

Diarizer = Callable[[Sound], list[Segment]]
"""Mono sound to segments with speakers."""


def diarizer(name: str) -> Diarizer:
    """Load a pipeline of pyannote.audio.

    Args:
        name: a local folder or file, or a hub id with a pinned revision, ``id@revision``; those of the hub are
            gated, so their terms have to be accepted there first

    Raises:
        EncoderError: the package is not installed, or has no such pipeline, or a hub id has no revision
    """
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
    try:
        from pyannote.audio import Pipeline
    except ImportError as error:
        raise EncoderError(f"diarizer {name}: needs pyannote.audio; `pip install 'emofuse[diarization]'`") from error
    source, revision = (name, None) if Path(name).exists() else _pinned(name)
    try:
        with redirect_stdout(sys.stderr):  # it prints advice
            pipeline = Pipeline.from_pretrained(source, revision=revision)
    except Exception as error:  # the hub's own, and whatever a wrong configuration or network brings about
        words = " ".join(str(error).split()) or type(error).__name__
        raise EncoderError(f"diarizer {name}: {words}") from error
    if pipeline is None:  # what its version 3 returns where the terms were not accepted
        raise EncoderError(f"diarizer {name}: not available; accept its terms on the hub and run `hf auth login`")
    return lambda sound: _segments(pipeline, sound)


def _pinned(name: str) -> tuple[str, str]:
    source, _, revision = name.rpartition("@")
    if not source or not revision:
        raise EncoderError(f"diarizer {name}: neither a folder nor a file; of the hub name the revision, ID@REVISION")
    return source, revision


def _segments(pipeline: Any, sound: Sound) -> list[Segment]:
    import torch

    file = {"waveform": torch.from_numpy(sound.samples), "sample_rate": sound.rate, "uri": sound.name}
    with redirect_stdout(sys.stderr):
        output = pipeline(file)
    annotation = getattr(output, "speaker_diarization", output)  # version 4 has it inside of its answer
    return sorted(
        (
            Segment(max(0.0, part.start), part.end, str(speaker))
            for part, _, speaker in annotation.itertracks(yield_label=True)
        ),
        key=lambda each: (each.start_s, each.end_s),
    )
