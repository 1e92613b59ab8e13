"""Frozen transformers text encoders (BERT, RoBERTa, DeBERTa, MiniLM, ModernBERT …): tokens without the special ones."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from emofuse.core.params import STRICT
from emofuse.encoders.base import EncoderError
from emofuse.encoders.batches import cheapest
from emofuse.encoders.plain import Bert, Words, load_bert, load_words
from emofuse.encoders.pretrained import (
    InFlight,
    Layers,
    PretrainedConfig,
    Settling,
    bucketed,
    describe,
    device,
    one_ahead,
    reduce,
    to_device,
)
from emofuse.encoders.weights import Source, load_network

__all__ = ["Config", "TextEncoder"]

_NEEDS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""Vocabularies, one of which the local cache must have beside weights and configuration."""

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
        source = config.locate(_NEEDS)
        self._name, self._config = source.name, config
        plain = _load_plain(source) if config.attention == "sdpa" and not config.compile else None
        self._tokenizer: Any
        self._tokenizer, network = plain or (_load_tokenizer(source), load_network(source))
        self._network = network.to(device())
        shape = self._network.config
        if shape.is_encoder_decoder or getattr(shape, "is_decoder", False):
            raise EncoderError(f"{self._name} is of type {shape.model_type!r}, which is not a text encoder")
        self._layers = Layers(config.layers, shape.num_hidden_layers, shape.hidden_size, self._name)
        self._longest = _longest(self._tokenizer, self._network)
        if config.max_tokens > self._longest:
            raise EncoderError(f"max_tokens {config.max_tokens}: {self._name} reads at most {self._longest}")
        self._settle = Settling(config, self._name, self._network, self._network.to, _SAMPLE)
        self.dim = self._layers.dim
        self.cost: float | None = None
        self.identity: dict[str, Any] = {
            **describe(config, source, self._layers, __name__, ["tokenizers"]),
            "frame_rate": None,
            "max_tokens": config.max_tokens,
        }

    def encode(self, contents: Sequence[str]) -> Iterator[np.ndarray]:
        """Yield float32 ``[n_tokens, dim]`` for each text, special tokens left out; ``[0, dim]`` if it has no token.

        Raises:
            EncoderError: at the first texts, what the options ask for cannot be done on this machine
        """
        written = (each for each in contents if each.strip())
        self.cost = self._settle(written, self._encode)
        yield from self._encode(contents)

    def count_tokens(self, text: str) -> int:
        """Return the number of a text's tokens, the special ones among them, of which ``max_tokens`` are encoded."""
        return len(self._tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def _encode(self, contents: Sequence[str]) -> list[np.ndarray]:
        if not contents:
            return []
        options = {"truncation": True, "max_length": self._config.max_tokens, "return_special_tokens_mask": True}
        tokens = self._tokenizer(list(contents), **options)
        frames = [np.zeros((0, self.dim), np.float32)] * len(contents)
        for batch, result in one_ahead(self._batches(tokens["input_ids"])):
            for index, states_TD in zip(batch, result.fetch(), strict=True):
                frames[index] = states_TD[~np.array(tokens["special_tokens_mask"][index], dtype=bool)]
        return [reduce(each, self._config) for each in frames]

    def _batches(self, ids: Sequence[Sequence[int]]) -> Iterator[tuple[np.ndarray, InFlight]]:
        lengths, kind = np.array([self._padded(len(each)) for each in ids]), self._network.device.type
        for batch in cheapest(lengths, _BATCH_TOKENS[kind], _CALL_TOKENS[kind]):
            yield batch, self._run([ids[index] for index in batch])

    @torch.inference_mode()
    def _run(self, ids: list[Sequence[int]]) -> InFlight:
        lengths = [len(each) for each in ids]
        size = {"padding": "max_length", "max_length": self._padded(max(lengths))}
        padded = self._tokenizer.pad({"input_ids": ids}, padding_side="right", return_tensors="pt", **size)
        inputs = {name: to_device(each, self._network.device) for name, each in padded.items()}
        states = self._network(**inputs, output_hidden_states=True).hidden_states
        return InFlight(self._layers.combine([states[each] for each in self._layers.numbers]), lengths)

    def _padded(self, n_tokens: int) -> int:
        return min(bucketed(n_tokens), self._longest) if self._config.compile else n_tokens


def _load_plain(source: Source) -> tuple[Words, Bert] | None:
    """Tokenizer and network without transformers, where they are of the kind that needs none."""
    if source.weights != "model.safetensors":
        return None
    words = load_words(source.folder)
    network = load_bert(source.folder) if words else None
    return (words, network) if words and network else None


def _load_tokenizer(source: Source) -> Any:
    from transformers import AutoTokenizer  # here, as transformers is slow to import

    try:
        tokenizer = source.load(AutoTokenizer)
    except TypeError as error:  # what transformers makes of vocabularies that are not there
        raise EncoderError(f"{source.name} cannot be loaded: it has no tokenizer; is it a text encoder?") from error
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        # transformers makes up a tokenizer to which every word is unknown.
        raise EncoderError(f"{source.name} cannot be loaded: its tokenizer has no vocabulary; are files missing?")
    return tokenizer


def _longest(tokenizer: Any, network: nn.Module) -> int:
    """Tokens that a network reads at most: what tokenizer and network say, and what its tables of positions hold."""
    limits = [tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", None)]
    for name, table in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(table, nn.Embedding):
            # RoBERTa's kind counts positions from behind that of padding.
            limits.append(table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1))
    return min(each for each in limits if each is not None)
