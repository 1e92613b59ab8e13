"""Transcripts by any speech recogniser of transformers, from safetensors, offline."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoModelForSpeechSeq2Seq,
    AutoModelForTDT,
    AutoTokenizer,
    pipeline,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CTC_MAPPING,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
    MODEL_FOR_TDT_MAPPING,
)
from transformers.utils import logging

from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders import EncoderError
from emofuse.encoders.weights import model_folder

__all__ = ["Recogniser"]

_LOADERS = (
    (MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, AutoModelForSpeechSeq2Seq),
    (MODEL_FOR_CTC_MAPPING, AutoModelForCTC),
    (MODEL_FOR_TDT_MAPPING, AutoModelForTDT),
)

_NOT_STORED = {"masked_spec_embed"}
"""Weights that only training uses, which some publishers leave out."""

_SHORTEST = SAMPLE_RATE // 10
"""Samples that a clip is filled up to with silence: the convolutions of wav2vec 2.0 take 25 ms at least."""

_TOKENS_A_SECOND = 10
"""More than anybody speaks. Without a bound Whisper may say one phrase over and over, up to 440 tokens for a second."""

_STEERING = 8
"""Places that Whisper's own signs, such as the language, may take before the words."""

_WINDOW_SECONDS = 30
"""What Whisper hears at once. It finds its way through a longer clip by the times that it writes down itself."""


class Recogniser:
    """A transformers model for automatic speech recognition: CTC, transducer, or sequence to sequence as Whisper is.

    Args:
        name: a local folder, ``package:<name>/<folder>`` of an installed package, or a hub id with a pinned revision,
            ``id@revision``, that is in the local cache

    Raises:
        EncoderError: the model is not there, is no speech recogniser, or has no safetensors weights, or not all of them

    Attributes:
        name: as given
    """

    def __init__(self, name: str) -> None:
        self.name = name
        source, revision = _source(name)
        try:
            self._recognise = _load(source, revision)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            fetch = "" if revision is None else f"; `hf download {source} --revision {revision}` fetches a model"
            raise EncoderError(f"speech recogniser {name}: {reason}{fetch}") from error
        self._windows = self._recognise.model.config.model_type == "whisper"

    def __call__(self, clips: Sequence[np.ndarray]) -> list[str]:
        """Return the words of each clip, float32 ``[n_samples]`` at 16 kHz; empty if there are none."""
        return [self._hear(clip) for clip in clips]

    def _hear(self, clip: np.ndarray) -> str:
        long = self._windows and len(clip) > _WINDOW_SECONDS * SAMPLE_RATE
        options: dict[str, Any] = {"return_timestamps": True} if long else {}
        if self._windows and not long:
            seconds = -(-len(clip) // SAMPLE_RATE)
            most = self._recognise.model.config.max_target_positions - _STEERING
            options["generate_kwargs"] = {"max_new_tokens": min(_TOKENS_A_SECOND * (seconds + 1), most)}
        samples = np.pad(clip, (0, max(0, _SHORTEST - len(clip))))
        heard: Any = self._recognise({"raw": samples, "sampling_rate": SAMPLE_RATE}, **options)
        return str(heard["text"])


def _source(name: str) -> tuple[str, str | None]:
    folder = model_folder(name)
    if folder is not None:
        return str(folder), None
    source, _, revision = name.rpartition("@")
    if not source:
        raise EncoderError(
            f"speech recogniser {name}: no such folder; of a hub model name the revision, as id@revision"
        )
    return source, revision


def _load(source: str, revision: str | None) -> Any:
    """The recogniser as transformers' pipeline, which resamples, generates and puts letters together."""
    options: dict[str, Any] = {"revision": revision, "local_files_only": True, "trust_remote_code": False}
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # Its report of missing weights is an error of ours.
    loader = _loader(AutoConfig.from_pretrained(source, **options))
    checked = {"use_safetensors": True, "output_loading_info": True}
    model, report = loader.from_pretrained(source, dtype=torch.float32, **checked, **options)
    _check_weights(report["missing_keys"])
    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    return _pipeline(model.eval(), tokenizer, AutoFeatureExtractor.from_pretrained(source, **options))


def _pipeline(model: Any, tokenizer: Any, extractor: Any) -> Any:
    return pipeline("automatic-speech-recognition", model=model, tokenizer=tokenizer, feature_extractor=extractor)


def _loader(config: Any) -> Any:
    for configs, loader in _LOADERS:
        if type(config) in configs:
            return loader
    raise ValueError(f"is of the type {config.model_type!r}, which does not recognise speech")


def _check_weights(missing: set[str]) -> None:
    """Transformers would fill the gaps with random numbers, such as for a network that never learned to recognise."""
    absent = sorted(each for each in missing if each.rpartition(".")[2] not in _NOT_STORED)
    if absent:
        raise ValueError(f"{len(absent)} of its weights are missing, such as {absent[:3]}")
