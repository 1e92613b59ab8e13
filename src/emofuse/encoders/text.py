"""Frozen transformers text encoders (BERT, RoBERTa, DeBERTa, MiniLM, ModernBERT …): tokens without the special ones."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from transformers import AutoTokenizer

from emofuse.encoders.base import EncoderError
from emofuse.encoders.batches import cheapest
from emofuse.encoders.pretrained import (
    InFlight,
    Layers,
    PretrainedConfig,
    cost_of_precision,
    describe,
    device,
    load_network,
    locate,
    one_ahead,
    pool,
)
from emofuse.params import STRICT

__all__ = ["Config", "TextEncoder", "load"]

_CODE = ("batches", "text")

_BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768}
"""Tokens that are encoded at once."""

_CALL_TOKENS = {"cpu": 25, "cuda": 500}
"""Tokens that could be encoded in the time that one more batch takes; measured on a processor, guessed on a card."""

_SAMPLE = 64
"""Texts on which the cost of a smaller type is measured."""


@dataclass(frozen=True, config=STRICT)
class Config(PretrainedConfig):
    """Options of the family.

    Attributes:
        max_tokens: a longer text is cut there
    """

    max_tokens: Annotated[int, Field(ge=8)] = 256


class TextEncoder:
    """A transformers text network in evaluation mode; see :class:`emofuse.encoders.base.Encoder`.

    Raises:
        EncoderError: the network is not there, is no encoder, or cannot do what the options ask for
    """

    reads = "text"
    modality: Literal["text"] = "text"

    def __init__(self, config: Config) -> None:
        source = locate(config)
        self._name, self._config = source.identity["id"], config
        self._tokenizer = source.load(AutoTokenizer)
        self._network = load_network(source).to(device())
        shape = self._network.config
        if shape.is_encoder_decoder or getattr(shape, "is_decoder", False):
            raise EncoderError(f"{self._name} is of the type {shape.model_type!r}, which is no encoder of text")
        self._layers = Layers(config.layers, shape.num_hidden_layers, shape.hidden_size, self._name)
        self._check_length()
        self.dim = self._layers.dim
        self.identity: dict[str, Any] = {
            **describe(config, source, [f"emofuse.encoders.{each}" for each in _CODE]),
            "frame_rate": None,
            "max_tokens": config.max_tokens,
        }

    def encode(self, contents: Sequence[str]) -> Iterator[np.ndarray]:
        """Yield float32 ``[n_tokens, dim]`` for each text, special tokens left out; ``[0, dim]`` if it has no token.

        The first call in a type smaller than float32 prints what that type costs.
        """
        wanted = getattr(torch, self._config.dtype)
        if self._network.dtype != wanted and contents:
            exact = self._encode(contents[:_SAMPLE])
            self._network.to(wanted)
            cost_of_precision(self._name, self._config.dtype, exact, self._encode(contents[:_SAMPLE]))
        yield from self._encode(contents)

    def _encode(self, contents: Sequence[str]) -> list[np.ndarray]:
        if not contents:
            return []
        options = {"truncation": True, "max_length": self._config.max_tokens, "return_special_tokens_mask": True}
        tokens = self._tokenizer(list(contents), **options)
        frames = [np.zeros((0, self.dim), np.float32)] * len(contents)
        for batch, result in one_ahead(self._batches(tokens["input_ids"])):
            for index, states_TD in zip(batch, result.fetch(), strict=True):
                frames[index] = states_TD[~np.array(tokens["special_tokens_mask"][index], dtype=bool)]
        return [pool(each) for each in frames] if self._config.output == "mean" else frames

    def _batches(self, ids: Sequence[Sequence[int]]) -> Iterator[tuple[np.ndarray, InFlight]]:
        lengths, kind = np.array([len(each) for each in ids]), self._network.device.type
        for batch in cheapest(lengths, _BATCH_TOKENS[kind], _CALL_TOKENS[kind]):
            yield batch, self._run([ids[index] for index in batch])

    @torch.inference_mode()
    def _run(self, ids: list[Sequence[int]]) -> InFlight:
        padded = self._tokenizer.pad({"input_ids": ids}, padding_side="right", return_tensors="pt")
        states = self._network(**padded.to(self._network.device), output_hidden_states=True).hidden_states
        return InFlight(
            self._layers.combine([states[each] for each in self._layers.numbers]), [len(each) for each in ids]
        )

    def _check_length(self) -> None:
        longest = self._tokenizer.model_max_length
        if self._config.max_tokens > longest:
            raise EncoderError(f"max_tokens {self._config.max_tokens}: {self._name} reads at most {longest}")


def load(config: Config) -> TextEncoder:
    """Return the encoder."""
    return TextEncoder(config)
