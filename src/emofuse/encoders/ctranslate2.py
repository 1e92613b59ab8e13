"""Whisper's encoder as CTranslate2 writes it: ``model.bin``, read as data.

The file is a header and named arrays: version of the layout, the network's kind and its revision, then for each array
its name, shape, type and bytes, and at the end names that stand for other arrays. A string has a 16-bit length and ends
with a zero byte; numbers are little-endian. The network's sizes are those of its arrays. Query, key and value of a
self-attention are one array, on top of each other.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emofuse.audio.spectrogram import STEP, WINDOW, log_mel
from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders.base import EncoderError
from emofuse.encoders.plain import WhisperEncoder

__all__ = ["WEIGHTS", "Extractor", "load", "load_extractor", "read_arrays"]

WEIGHTS = "model.bin"
"""Name of the file."""

_VERSION = 6
"""Version of the layout that is read."""

_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
"""Types by their number; integers are settings, since quantized weights are not read."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by name, mapped and not copied.

    Raises:
        ValueError: it is no such file, of another version, cut short, or quantized
    """
    data = memoryview(np.memmap(path, np.uint8, mode="r"))  # type: ignore[arg-type]
    try:
        return dict(_arrays(data))
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise ValueError(f"{path.name} is cut short, or not a file of CTranslate2") from error


def load(folder: Path, name: str) -> WhisperEncoder:
    """Return the encoder of a folder with ``model.bin`` in float32, in evaluation mode.

    Args:
        folder: of the model
        name: of the network, for messages

    Raises:
        EncoderError: the file is damaged, or holds no Whisper
    """
    try:
        arrays = read_arrays(folder / WEIGHTS)
        network = WhisperEncoder(**_sizes(arrays))
        network.load_state_dict(dict(_weights(arrays, len(network.layers))), assign=True)
    except LookupError as error:
        raise EncoderError(f"{name} cannot be loaded: {WEIGHTS} has no {error.args[0]!s}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{name} cannot be loaded: {' '.join(str(error).split())}") from error
    return network.eval().requires_grad_(False)


def load_extractor(folder: Path) -> "Extractor":
    """Return the feature extractor of a folder's network."""
    return Extractor(read_arrays(folder / WEIGHTS)["encoder/conv1/weight"].shape[1])


class Extractor:
    """Spectrograms of clips, called as transformers' feature extractor is, as far as this package calls it.

    Args:
        bands: of the spectrogram
    """

    sampling_rate, hop_length, n_fft, n_samples = SAMPLE_RATE, STEP, WINDOW, 30 * SAMPLE_RATE

    def __init__(self, bands: int) -> None:
        self._bands = bands

    def __call__(self, clips: Sequence[np.ndarray], max_length: int, **_: Any) -> dict[str, Tensor]:
        """Return ``input_features``, ``[n, bands, max_length / hop_length]``, of clips, float32 ``[n_samples]``."""
        found = np.stack([log_mel(clip, max_length // STEP, self._bands) for clip in clips])
        return {"input_features": torch.from_numpy(found)}


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
        raise ValueError(f"{WEIGHTS} has layout {version} of CTranslate2; expected {_VERSION}")
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
            raise ValueError(f"{name} in {WEIGHTS} has the unknown type {number}")
        yield name, np.frombuffer(reader.bytes(size), _TYPES[number]).reshape(shape)


def _sizes(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    layers = sum(1 for each in arrays if each.startswith("encoder/layer_") and each.endswith("/ffn/linear_0/bias"))
    return {
        "bands": arrays["encoder/conv1/weight"].shape[1],
        "width": arrays["encoder/conv1/weight"].shape[0],
        "inner": len(arrays["encoder/layer_0/ffn/linear_0/bias"]),
        "heads": int(arrays["encoder/num_heads"]),
        "layers": layers,
        "positions": len(arrays["encoder/position_encodings/encodings"]),
    }


def _weights(arrays: Mapping[str, np.ndarray], layers: int) -> Iterator[tuple[str, Tensor]]:
    """Yield transformers' name of each weight, and the weight in float32."""
    for each in ("conv1", "conv2"):
        yield from _pair(arrays, f"encoder/{each}", each)
    yield "embed_positions.weight", _tensor(arrays, "encoder/position_encodings/encodings")
    yield from _norm(arrays, "encoder/layer_norm", "layer_norm")
    for number in range(layers):
        own, theirs = f"encoder/layer_{number}", f"layers.{number}"
        yield from _norm(arrays, f"{own}/ffn/layer_norm", f"{theirs}.final_layer_norm")
        yield from _pair(arrays, f"{own}/ffn/linear_0", f"{theirs}.fc1")
        yield from _pair(arrays, f"{own}/ffn/linear_1", f"{theirs}.fc2")
        yield from _norm(arrays, f"{own}/self_attention/layer_norm", f"{theirs}.self_attn_layer_norm")
        yield from _stacked(arrays, f"{own}/self_attention/linear_0", f"{theirs}.self_attn")
        yield from _pair(arrays, f"{own}/self_attention/linear_1", f"{theirs}.self_attn.out_proj")


def _stacked(arrays: Mapping[str, np.ndarray], own: str, theirs: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the projections that are one array. Whisper's key has no bias: CTranslate2 writes zeros for it."""
    for kind in ("weight", "bias"):
        for part, each in zip("qkv", _tensor(arrays, f"{own}/{kind}").chunk(3), strict=True):
            if (part, kind) != ("k", "bias"):
                yield f"{theirs}.{part}_proj.{kind}", each
            elif each.any():
                raise ValueError(f"{own} has a bias for its keys, which Whisper does not have")


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
        raise ValueError(f"{name} in {WEIGHTS} is quantized, which is not supported")
    return torch.from_numpy(arrays[name].astype(np.float32))
