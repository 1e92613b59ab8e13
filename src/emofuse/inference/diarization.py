"""Who spoke when, by a pipeline of pyannote.audio, where that package is installed."""

from collections.abc import Callable
from typing import Any

from emofuse.audio.source import Sound
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
        EncoderError: the package is not installed, or has no such pipeline
    """
    try:
        from pyannote.audio import Pipeline
    except ImportError as error:
        raise EncoderError(f"diarizer {name}: needs pyannote.audio; `pip install 'emofuse[diarization]'`") from error
    source, _, revision = name.rpartition("@")
    try:
        pipeline = Pipeline.from_pretrained(source, revision=revision) if source else Pipeline.from_pretrained(name)
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(f"diarizer {name}: {' '.join(str(error).split())}") from error
    if pipeline is None:  # what its version 3 returns where the terms were not accepted
        raise EncoderError(f"diarizer {name}: not available; accept its terms on the hub and run `hf auth login`")
    return lambda sound: _segments(pipeline, sound)


def _segments(pipeline: Any, sound: Sound) -> list[Segment]:
    import torch

    output = pipeline({"waveform": torch.from_numpy(sound.samples), "sample_rate": sound.rate})
    annotation = getattr(output, "speaker_diarization", output)  # version 4 has it inside of its answer
    return sorted(
        (
            Segment(max(0.0, part.start), part.end, str(speaker))
            for part, _, speaker in annotation.itertracks(yield_label=True)
        ),
        key=lambda each: (each.start_s, each.end_s),
    )
