"""Frozen transformers text encoders (BERT family): token features without special tokens."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from emofuse.encoders.base import EncoderError
from emofuse.files import digest, file_digest
from emofuse.params import STRICT

__all__ = ["Config", "TextEncoder", "load"]

_BATCH_TOKENS = 4096


@dataclass(frozen=True, config=STRICT)
class Config:
    """Options of the family.

    Attributes:
        model: ``package:<module>/<folder>`` for a model that an installed package carries, a local folder, or a hub id
        revision: commit of a hub model; null for a local folder, whose files are hashed instead
        layers: the ``last`` hidden layer, the mean of the last four (``mean4``), or the numbers of layers whose states
            stand side by side (0 is the embedding, 1 the first layer)
        max_tokens: a longer text is cut there
        labels_seen: whether the weights have seen emotion labels
        local_files_only: whether a hub model must be in the local cache already
    """

    model: str
    revision: str | None = None
    layers: Literal["last", "mean4"] | Annotated[tuple[int, ...], Field(min_length=1)] = "mean4"
    max_tokens: Annotated[int, Field(ge=8)] = 256
    labels_seen: bool = False
    local_files_only: bool = True


class TextEncoder:
    """A transformers text model in evaluation mode; see :class:`emofuse.encoders.base.Encoder`.

    Raises:
        EncoderError: the model is not there, or has no safetensors weights
    """

    reads = "text"
    modality: Literal["text"] = "text"

    def __init__(self, config: Config) -> None:
        transformers_logging.disable_progress_bar()
        source = _resolve(config.model)
        revision = _revision(source, config)
        options = {"revision": config.revision, "local_files_only": config.local_files_only, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(source, **options)
            self._model = AutoModel.from_pretrained(source, use_safetensors=True, dtype=torch.float32, **options).eval()
        except (OSError, ValueError) as error:
            raise EncoderError(f"text encoder {config.model!r} cannot be loaded: {error}") from error
        self._config = config
        self.dim = self._model.config.hidden_size * (1 if isinstance(config.layers, str) else len(config.layers))
        self._check_config()
        self.identity: dict[str, Any] = {
            "id": config.model,
            "revision": revision,
            "layer": config.layers if isinstance(config.layers, str) else list(config.layers),
            "dtype": "float32",
            "frame_rate": None,
            "labels_seen": config.labels_seen,
            "max_tokens": config.max_tokens,
        }

    def encode(self, contents: Sequence[str]) -> Iterator[np.ndarray]:
        """Yield float32 ``[n_tokens, dim]`` for each text, special tokens left out; ``[0, dim]`` if it has no token."""
        if not contents:
            return
        tokens = self._tokenizer(
            list(contents), truncation=True, max_length=self._config.max_tokens, return_special_tokens_mask=True
        )
        lengths = np.array([len(each) for each in tokens["input_ids"]])
        result: list[np.ndarray] = [np.zeros((0, self.dim), np.float32)] * len(contents)
        for batch in by_budget(lengths, _BATCH_TOKENS):
            states_BTD = self._encode([tokens["input_ids"][index] for index in batch])
            for index, states_TD in zip(batch, states_BTD, strict=True):
                special = np.array(tokens["special_tokens_mask"][index], dtype=bool)
                result[index] = states_TD[: lengths[index]][~special]
        yield from result

    def _check_config(self) -> None:
        depth = self._model.config.num_hidden_layers
        if not isinstance(self._config.layers, str) and not set(self._config.layers) <= set(range(depth + 1)):
            raise EncoderError(f"layers {list(self._config.layers)}: {self._config.model} has layers 0 to {depth}")
        longest = self._tokenizer.model_max_length
        if self._config.max_tokens > longest:
            raise EncoderError(f"max_tokens {self._config.max_tokens}: {self._config.model} reads at most {longest}")

    @torch.inference_mode()
    def _encode(self, ids: list[list[int]]) -> np.ndarray:
        padded = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        layers = self._config.layers
        output = self._model(**padded, output_hidden_states=layers != "last")
        if layers == "last":
            states: torch.Tensor = output.last_hidden_state
        elif layers == "mean4":
            states = torch.stack(output.hidden_states[-4:]).mean(dim=0)
        else:
            states = torch.cat([output.hidden_states[each] for each in layers], dim=-1)
        result: np.ndarray = states.numpy()
        return result


def load(config: Config) -> TextEncoder:
    """Return the encoder."""
    return TextEncoder(config)


def by_budget(lengths: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Yield batches of indices, longest first, whose padded size is at most ``budget`` (one index at least).

    Args:
        lengths: ``[n]`` sizes of the examples
        budget: sum of the padded sizes of a batch
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, int(budget // max(1, lengths[order[start]])))
        yield order[start : start + count]
        start += count


def _resolve(model: str) -> str:
    if not model.startswith("package:"):
        return model
    module, _, folder = model.removeprefix("package:").partition("/")
    try:
        path = Path(str(files(module))) / folder
    except ModuleNotFoundError as error:
        raise EncoderError(f"{model}: the package {module} is not installed") from error
    if not path.is_dir():
        raise EncoderError(f"{model}: the package {module} has no folder {folder!r}")
    return str(path)


def _revision(source: str, config: Config) -> str:
    if not Path(source).is_dir():
        if config.revision is None:
            raise EncoderError(f"{config.model}: no such folder, and a hub model needs a pinned revision")
        return config.revision
    # The vocabulary and the configuration shape the features as the weights do.
    return digest({path.name: file_digest(path) for path in Path(source).iterdir() if path.is_file()})[:16]
