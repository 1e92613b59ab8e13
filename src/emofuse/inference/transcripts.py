"""Transcripts for turns that have none: any transformers speech recogniser, from safetensors, offline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
    pipeline,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING
from transformers.utils import logging

from emofuse.encoders import EncoderError
from emofuse.schema import SAMPLE_RATE

__all__ = ["Recogniser"]

_CHUNK_SECONDS = 30
"""Longer clips are recognised in pieces that overlap: what Whisper hears at once."""


class Recogniser:
    """A transformers model for automatic speech recognition, CTC or sequence to sequence.

    Args:
        name: a local folder, or a hub id with a pinned revision, ``id@revision``, that is in the local cache

    Raises:
        EncoderError: the model is not there, is no speech recogniser, or has no safetensors weights
    """

    def __init__(self, name: str) -> None:
        source, revision = _source(name)
        options: dict[str, Any] = {"revision": revision, "local_files_only": True, "trust_remote_code": False}
        logging.disable_progress_bar()
        try:
            config = AutoConfig.from_pretrained(source, **options)
            whole = type(config) in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING
            model = (AutoModelForSpeechSeq2Seq if whole else AutoModelForCTC).from_pretrained(
                source, use_safetensors=True, dtype=torch.float32, **options
            )
            self._recognise = pipeline(
                "automatic-speech-recognition",
                model=model.eval(),
                tokenizer=AutoTokenizer.from_pretrained(source, **options),
                feature_extractor=AutoFeatureExtractor.from_pretrained(source, **options),
                chunk_length_s=_CHUNK_SECONDS,
            )
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            fetch = "" if revision is None else f"; `hf download {source} --revision {revision}` fetches a model"
            raise EncoderError(f"speech recogniser {name}: {reason}{fetch}") from error

    def __call__(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Return what is said in each clip, float32 ``[n_samples]`` at 16 kHz; empty if nothing is."""
        return [self._hear(clip) for clip in clips]

    def _hear(self, clip: np.ndarray) -> str:
        heard: Any = self._recognise({"raw": clip, "sampling_rate": SAMPLE_RATE})
        return str(heard["text"])


def _source(name: str) -> tuple[str, str | None]:
    if Path(name).is_dir():
        return name, None
    source, _, revision = name.rpartition("@")
    if not source:
        raise EncoderError(
            f"speech recogniser {name}: no such folder; of a hub model name the revision, as id@revision"
        )
    return source, revision
