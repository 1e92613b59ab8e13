"""Whisper as CTranslate2 writes it, as transformers' network: ``model.bin``, read as data.

The file is a header and named arrays: version of the layout, the network's kind and its revision, then for each array
its name, shape, type and bytes, and at the end names that stand for other arrays. A string has a 16-bit length and ends
with a zero byte; numbers are little-endian. The network's sizes are those of its arrays. Query, key and value of a
self-attention are one array, on top of each other; so are key and value of a cross-attention.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from emofuse.encoders.base import EncoderError

__all__ = ["WEIGHTS", "load", "load_extractor", "read_arrays"]

WEIGHTS = "model.bin"
"""Name of the file."""

_VERSION = 6
"""Version of the layout that is read."""

_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
"""Types by their number; integers are settings, since quantized weights are not read."""

_ATTENTION = {"self_attention": ("self_attn", 3), "attention": ("encoder_attn", 2)}
"""transformers' name of an attention, and how many of its projections are one array."""

_START, _END, _BEFORE, _NO_TIMES = "<|startoftranscript|>", "<|endoftext|>", "<|startofprev|>", "<|notimestamps|>"


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name, mapped and not copied.

    Raises:
        ValueError: it is no such file, of another version, cut short, or quantized
    """
    data = memoryview(np.memmap(path, np.uint8, mode="r"))  # type: ignore[arg-type]
    try:
        return dict(_arrays(data))
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"{path.name} is cut short, or not of CTranslate2") from error


def load(folder: Path, name: str) -> Any:
    """Return transformers' WhisperForConditionalGeneration in float32, with the weights of a folder.

    Args:
        folder: with ``model.bin``, ``config.json`` and ``tokenizer.json``
        name: of the network, for messages

    Raises:
        EncoderError: the file is damaged, holds no Whisper, or one that knows several languages
    """
    try:
        arrays = read_arrays(folder / WEIGHTS)
        config, generation = _configure(arrays, folder)
        with torch.device("meta"):
            network = WhisperForConditionalGeneration(config)
        network.load_state_dict(dict(_weights(arrays, config)), strict=False, assign=True)
    except LookupError as error:
        raise EncoderError(f"{name} cannot be loaded: {WEIGHTS} has no {error.args[0]!s}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{name} cannot be loaded: {' '.join(str(error).split())}") from error
    network.tie_weights()
    if absent := [key for key, each in network.state_dict().items() if each.is_meta]:
        raise EncoderError(f"{name} cannot be loaded: {WEIGHTS} has no weights for {absent[:3]}")
    network.generation_config = generation
    return network.eval()


def load_extractor(folder: Path) -> Any:
    """Return the feature extractor of a folder's network."""
    bands = read_arrays(folder / WEIGHTS)["encoder/conv1/weight"].shape[1]
    return WhisperFeatureExtractor(feature_size=bands)


class _Reader:
    """Reads values off a buffer, one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def numbers(self, layout: str) -> tuple[int, ...]:
        found = struct.unpack_from(f"<{layout}", self._data, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return found

    def bytes(self, size: int) -> memoryview:
        if self._at + size > len(self._data):
            raise IndexError(size)
        self._at += size
        return self._data[self._at - size : self._at]

    def string(self) -> str:
        (size,) = self.numbers("H")
        return str(self.bytes(size), "utf-8").rstrip("\0")


def _arrays(data: memoryview) -> Iterator[tuple[str, np.ndarray]]:
    reader = _Reader(data)
    (version,) = reader.numbers("I")
    if version != _VERSION:
        raise ValueError(f"{WEIGHTS} has the layout {version} of CTranslate2; {_VERSION} is read")
    kind, _ = reader.string(), reader.numbers("I")
    if kind != "WhisperSpec":
        raise ValueError(f"{WEIGHTS} holds a {kind!r}; expected 'WhisperSpec'")
    (count,) = reader.numbers("I")
    for _ in range(count):
        name = reader.string()
        (rank,) = reader.numbers("B")
        shape = reader.numbers(f"{rank}I")
        number, size = reader.numbers("BI")
        if number not in _TYPES:
            raise ValueError(f"{name} in {WEIGHTS} is of the unknown type {number}")
        yield name, np.frombuffer(reader.bytes(size), _TYPES[number]).reshape(shape)


def _configure(arrays: Mapping[str, np.ndarray], folder: Path) -> tuple[WhisperConfig, GenerationConfig]:
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    ids = {each["content"]: each["id"] for each in added}
    words, width = arrays["decoder/embeddings/weight"].shape
    if ids[_END] != 50_256:
        raise ValueError("it knows several languages; the one that is read here knows English alone")
    shared = {"bos_token_id": ids[_END], "eos_token_id": ids[_END], "pad_token_id": ids[_END]}
    shared |= {"decoder_start_token_id": ids[_START], "begin_suppress_tokens": said["suppress_ids_begin"]}
    sizes: dict[str, Any] = {"d_model": width, "vocab_size": words}
    for side in ("encoder", "decoder"):
        layers = (each for each in arrays if each.startswith(f"{side}/layer_") and each.endswith("/ffn/linear_0/bias"))
        sizes[f"{side}_layers"] = sum(1 for _ in layers)
        sizes[f"{side}_attention_heads"] = int(arrays[f"{side}/num_heads"])
        sizes[f"{side}_ffn_dim"] = len(arrays[f"{side}/layer_0/ffn/linear_0/bias"])
    sizes["num_mel_bins"] = arrays["encoder/conv1/weight"].shape[1]
    sizes["max_source_positions"] = len(arrays["encoder/position_encodings/encodings"])
    sizes["max_target_positions"] = len(arrays["decoder/position_encodings/encodings"])
    generation = GenerationConfig(
        **shared,
        is_multilingual=False,
        max_length=sizes["max_target_positions"],
        no_timestamps_token_id=ids[_NO_TIMES],
        prev_sot_token_id=ids[_BEFORE],
        return_timestamps=False,
        suppress_tokens=said["suppress_ids"],
        alignment_heads=said["alignment_heads"],
    )
    return WhisperConfig(**sizes, **shared), generation


def _weights(arrays: Mapping[str, np.ndarray], config: WhisperConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield transformers' name of each weight, and the weight in float32."""
    for each in ("conv1", "conv2"):
        yield from _pair(arrays, f"encoder/{each}", f"model.encoder.{each}")
    yield "model.decoder.embed_tokens.weight", _tensor(arrays, "decoder/embeddings/weight")
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        yield f"model.{side}.embed_positions.weight", _tensor(arrays, f"{side}/position_encodings/encodings")
        yield from _norm(arrays, f"{side}/layer_norm", f"model.{side}.layer_norm")
        for number in range(layers):
            yield from _layer(arrays, f"{side}/layer_{number}", f"model.{side}.layers.{number}")


def _layer(arrays: Mapping[str, np.ndarray], own: str, theirs: str) -> Iterator[tuple[str, Tensor]]:
    yield from _norm(arrays, f"{own}/ffn/layer_norm", f"{theirs}.final_layer_norm")
    for number in (1, 2):
        yield from _pair(arrays, f"{own}/ffn/linear_{number - 1}", f"{theirs}.fc{number}")
    for name, (attention, stacked) in _ATTENTION.items():
        if f"{own}/{name}/layer_norm/gamma" not in arrays:
            continue
        yield from _norm(arrays, f"{own}/{name}/layer_norm", f"{theirs}.{attention}_layer_norm")
        if stacked == 2:
            yield from _pair(arrays, f"{own}/{name}/linear_0", f"{theirs}.{attention}.q_proj")
        yield from _stacked(arrays, f"{own}/{name}/linear_{3 - stacked}", f"{theirs}.{attention}", "qkv"[-stacked:])
        yield from _pair(arrays, f"{own}/{name}/linear_{4 - stacked}", f"{theirs}.{attention}.out_proj")


def _stacked(arrays: Mapping[str, np.ndarray], own: str, theirs: str, parts: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the projections that are one array. Whisper's key has no bias: CTranslate2 writes zeros for it."""
    for kind in ("weight", "bias"):
        for part, each in zip(parts, _tensor(arrays, f"{own}/{kind}").chunk(len(parts)), strict=True):
            if (part, kind) != ("k", "bias"):
                yield f"{theirs}.{part}_proj.{kind}", each
            elif each.any():
                raise ValueError(f"{own} has a bias for its keys, which Whisper has not")


def _pair(arrays: Mapping[str, np.ndarray], own: str, theirs: str) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        yield f"{theirs}.{kind}", _tensor(arrays, f"{own}/{kind}")


def _norm(arrays: Mapping[str, np.ndarray], own: str, theirs: str) -> Iterator[tuple[str, Tensor]]:
    for kind, name in (("weight", "gamma"), ("bias", "beta")):
        yield f"{theirs}.{kind}", _tensor(arrays, f"{own}/{name}")


def _tensor(arrays: Mapping[str, np.ndarray], name: str) -> Tensor:
    if name not in arrays:
        raise ValueError(f"{WEIGHTS} has no {name}")
    if arrays[name].dtype.kind != "f":
        raise ValueError(f"{name} in {WEIGHTS} is quantized, which is not read")
    return torch.from_numpy(arrays[name].astype(np.float32))
