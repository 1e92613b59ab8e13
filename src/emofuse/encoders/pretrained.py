"""What the families of pretrained transformers networks share: options, loading, identity, layers, precision.

Networks come from safetensors, at a pinned revision or from a folder whose files are hashed. No remote code runs, and a
network whose weights do not all fit is an error, not a warning: transformers would fill the gaps with random numbers.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass as plain_dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from emofuse.core.files import digest, file_digest
from emofuse.core.params import STRICT
from emofuse.encoders.base import EncoderError, code_version, series

__all__ = [
    "InFlight",
    "Layers",
    "PretrainedConfig",
    "Source",
    "bucketed",
    "change",
    "compile_layers",
    "describe",
    "device",
    "load_network",
    "locate",
    "one_ahead",
    "pool",
    "record",
    "to_device",
    "use_attention",
]

T = TypeVar("T")

_BUCKET = 8
"""Compiled networks meet lengths that are multiples of it: few shapes, and masks as attention's kernels want them."""

_READ = {".safetensors", ".json", ".txt", ".model"}
"""Files of a model folder that shape its features: weights, configuration, vocabulary."""

_UNUSED = re.compile(r"(^|\.)(pooler\..*|masked_spec_embed|position_ids|inv_freq)$")
"""Weights that may be missing or left over: no feature depends on them, or the network computes them itself."""


@dataclass(frozen=True, config=STRICT)
class PretrainedConfig:
    """Options that the families share.

    Attributes:
        model: ``package:<name>/<folder>`` for a model that an installed package carries in its module of that name, a
            local folder, or a hub id
        labels_seen: whether the weights have seen emotion labels
        revision: commit of a hub model, 40 hexadecimal digits; null for a folder, whose files are hashed instead
        layers: the ``last`` hidden layer, the mean of the last four (``mean4``), the last four side by side
            (``concat4``), or the numbers of layers whose states stand side by side (0 is the embedding, 1 the first
            layer)
        output: all ``frames``, or their ``mean``
        dtype: in which the network computes
        local_files_only: whether a hub model must be in the local cache already
        attention: ``sdpa``, torch's own where the architecture has it; or ``flash_attention_2``, of the package
            flash-attn, on a GPU and in a type smaller than float32
        compile: whether torch compiles the network's layers, which takes a minute and a C++ compiler
    """

    model: str
    labels_seen: bool
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    layers: Literal["last", "mean4", "concat4"] | Annotated[tuple[int, ...], Field(min_length=1)] = "last"
    output: Literal["frames", "mean"] = "frames"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    local_files_only: bool = False
    attention: Literal["sdpa", "flash_attention_2"] = "sdpa"
    compile: bool = False


@plain_dataclass(frozen=True)
class Source:
    """Where a network lies.

    Attributes:
        place: what transformers loads: a folder's path, or a hub id
        revision: commit of a hub model
        ask_hub: whether the hub may be asked for what the local cache does not have
        identity: what says which network it is: ``id`` and ``revision``
    """

    place: str
    revision: str | None
    ask_hub: bool
    identity: dict[str, str]

    def load(self, loader: Any, **options: Any) -> Any:
        """Call ``loader.from_pretrained``, with the local cache first: what a commit names never changes.

        Raises:
            EncoderError: it failed; the message names the network and the reason
        """
        options |= {"revision": self.revision, "trust_remote_code": False}
        try:
            try:
                return loader.from_pretrained(self.place, local_files_only=True, **options)
            except OSError:
                if not self.ask_hub:
                    raise
                return loader.from_pretrained(self.place, **options)
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise EncoderError(f"{self.identity['id']} cannot be loaded: {reason}") from error


def locate(config: PretrainedConfig) -> Source:
    """Find a network.

    Raises:
        EncoderError: there is no such package or folder, or a hub id without a revision
    """
    place = _resolve(config.model)
    if not Path(place).is_dir():
        if config.revision is None:
            raise EncoderError(f"{config.model}: no such folder, and a hub model needs a pinned revision")
        identity = {"id": config.model, "revision": config.revision}
        return Source(place, config.revision, not config.local_files_only, identity)
    # The place of a folder is no part of what it is.
    name = config.model if place != config.model else f"folder:{Path(place).resolve().name}"
    hashes = {path.name: file_digest(path) for path in Path(place).iterdir() if path.suffix in _READ}
    return Source(place, None, False, {"id": name, "revision": digest(hashes)[:16]})


def load_network(source: Source) -> Any:
    """Load a network in float32, in evaluation mode.

    Raises:
        EncoderError: it is not there, the hub cannot be reached, it has no safetensors, or its weights do not fit
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # Its report of weights that do not fit is an error of ours.
    reported = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    network, report = source.load(AutoModel, use_safetensors=True, dtype=torch.float32, **reported)
    _check_weights(source, network, report)
    return network.eval().requires_grad_(False)


def describe(
    config: PretrainedConfig, source: Source, modules: Sequence[str], packages: Sequence[str] = ()
) -> dict[str, Any]:
    """Return an encoder's identity, as far as the families share it.

    Args:
        config: the options
        source: where the network lies
        modules: names of the modules whose code makes the features
        packages: that compute them beside torch and transformers
    """
    return {
        **source.identity,
        "layer": config.layers if isinstance(config.layers, str) else list(config.layers),
        "output": config.output,
        "dtype": config.dtype,
        "labels_seen": config.labels_seen,
        "code": code_version(__name__, *modules),
        "versions": series("torch", "transformers", *packages),
    }


class Layers:
    """The choice of layers: which hidden states are needed, and how they become features.

    Args:
        choice: ``layers`` of the options
        depth: number of the network's layers
        width: size of a hidden state
        name: of the network, for messages

    Attributes:
        numbers: the layers that are needed, counted as transformers does its ``hidden_states``; the last one is the
            network's output, behind its final norm if it has one, which differs among transformers' networks
        dim: size of a frame

    Raises:
        EncoderError: the network has no such layer
    """

    def __init__(self, choice: str | tuple[int, ...], depth: int, width: int, name: str) -> None:
        last_four = tuple(range(depth - 3, depth + 1))
        named = {"last": (depth,), "mean4": last_four, "concat4": last_four}
        self.numbers = named[choice] if isinstance(choice, str) else choice
        if not set(self.numbers) <= set(range(depth + 1)):
            raise EncoderError(f"layers {list(self.numbers)}: {name} has layers 0 to {depth}")
        self._average = choice == "mean4"
        self.dim = width * (1 if self._average else len(self.numbers))

    def combine(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return features ``[..., dim]`` of the hidden states that :attr:`numbers` names, ``[..., width]`` each."""
        return torch.stack(list(states)).mean(dim=0) if self._average else torch.cat(list(states), dim=-1)


def record(blocks: nn.ModuleList, numbers: Sequence[int]) -> dict[int, torch.Tensor]:
    """Have layers leave their hidden states in a dictionary whenever they run; layers beyond the last one are removed.

    Args:
        blocks: the transformer's layers
        numbers: the states; that of the last layer is not left, since the network's output stands in its place

    Returns:
        the dictionary, which the owner empties
    """
    depth = len(blocks)
    states: dict[int, torch.Tensor] = {}
    del blocks[max(1, *numbers) :]

    def before(number: int) -> Callable[..., None]:
        return lambda _, inputs: states.__setitem__(number, inputs[0])

    def after(number: int) -> Callable[..., None]:
        return lambda _, __, output: states.__setitem__(number, output[0] if isinstance(output, tuple) else output)

    for number in set(numbers) - {depth}:
        if number == 0:
            blocks[0].register_forward_pre_hook(before(0))
        else:
            blocks[number - 1].register_forward_hook(after(number))
    return states


class InFlight:
    """Features on their way from the device, so that the next batch need not wait for them.

    Args:
        states_BTD: features of a batch, padded at the end
        lengths: frames of each example
    """

    def __init__(self, states_BTD: torch.Tensor, lengths: Sequence[int]) -> None:
        states_BTD = states_BTD.float()
        self._lengths, self._done = lengths, None
        self._host = states_BTD
        if states_BTD.device.type == "cuda":
            self._host = torch.empty(states_BTD.shape, pin_memory=True).copy_(states_BTD, non_blocking=True)
            self._done = torch.cuda.current_stream().record_event()

    def fetch(self) -> list[np.ndarray]:
        """Wait for the features and return those of each example, float32 ``[n_frames, dim]``."""
        if self._done is not None:
            self._done.synchronize()
        # Copies, since a view of one example would keep all of the batch and its padding in memory.
        return [each[:length].numpy().copy() for each, length in zip(self._host, self._lengths, strict=True)]


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items, each after the next one has been asked for."""
    for first, _ in pairwise(chain(items, [None])):
        yield first  # type: ignore[misc]


def pool(frames: np.ndarray) -> np.ndarray:
    """Return the mean frame ``[1, dim]`` of ``[n_frames, dim]``; of no frame, no frame."""
    return frames.mean(axis=0, keepdims=True) if len(frames) else frames


def device() -> torch.device:
    """Where networks run: a graphics card if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Bring what a network reads to where it runs, without waiting for it on a graphics card."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def bucketed(length: int) -> int:
    """Return the length, in frames or tokens, to which a compiled network's batch is padded."""
    return -(-length // _BUCKET) * _BUCKET


def compile_layers(network: nn.Module, name: str) -> None:
    """Have torch compile a transformer's layers: a program or a few for all that are alike, and batches of any shape.

    Args:
        network: the network
        name: of the network, for messages

    Raises:
        EncoderError: there is no compiler, or the architecture does not say what its layers are
    """
    layers = [each for each in network.modules() if isinstance(each, GradientCheckpointingLayer)]
    if not layers:
        raise EncoderError(
            f"compile: true: {name} has no layers that are known to transformers as such; set it to false"
        )
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=device()))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise EncoderError(f"compile: true: torch cannot compile here, set it to false; {reason}") from error
    for layer in layers:
        # Not the layer, whose hooks then stay outside.
        layer.forward = torch.compile(layer.forward, dynamic=True)  # type: ignore[method-assign]


def use_attention(network: Any, config: PretrainedConfig, name: str) -> None:
    """Compute attention as the options ask for it. transformers begins with torch's own where the architecture has it.

    Args:
        network: the network
        config: the options
        name: of the network, for messages

    Raises:
        EncoderError: it is not installed, or cannot be used with this network, type or machine
    """
    if config.attention == "sdpa":
        return
    if config.dtype == "float32":
        raise EncoderError(f"attention: {config.attention}: needs the dtype bfloat16 or float16")
    try:
        network.set_attn_implementation(config.attention)
    except (ImportError, ValueError) as error:
        raise EncoderError(
            f"attention: {config.attention}: not for {name} here: {' '.join(str(error).split())}"
        ) from error


def change(exact: Iterable[np.ndarray], rounded: Iterable[np.ndarray]) -> float:
    """Return the root mean square of the features' change, relative to that of the features.

    Args:
        exact: features ``[n_frames, dim]`` of some examples in float32
        rounded: of the same examples in a smaller type
    """
    before, after = (np.concatenate(list(each)).astype(np.float64) for each in (exact, rounded))
    return float(np.sqrt(np.square(after - before).sum() / max(np.square(before).sum(), np.finfo(np.float64).tiny)))


def _check_weights(source: Source, network: Any, report: dict[str, Any]) -> None:
    parts = {name for name, _ in network.named_children()}
    stray = [each for each in report["unexpected_keys"] if _part(each, network.base_model_prefix) in parts]
    faults = {
        "missing": report["missing_keys"],
        "not used": stray,
        "of another shape": [each[0] for each in report["mismatched_keys"]],
    }
    for what, keys in faults.items():
        found = sorted(each for each in keys if not _UNUSED.search(each))
        if found:
            name = source.identity["id"]
            raise EncoderError(f"{name} cannot be loaded: {len(found)} of its weights are {what}, such as {found[:3]}")


def _part(key: str, prefix: str) -> str:
    return key.removeprefix(f"{prefix}.").partition(".")[0]


def _resolve(model: str) -> str:
    if not model.startswith("package:"):
        return model
    name, _, folder = model.removeprefix("package:").partition("/")
    try:
        installed = distribution(name)
    except (PackageNotFoundError, ValueError) as error:
        raise EncoderError(f"{model}: the package {name} is not installed") from error
    # What the installer noted, and no import: an import would run what lies under that name in the working folder.
    place = (name, *filter(None, folder.split("/")))
    if not any(each.parts[: len(place)] == place for each in installed.files or ()):
        raise EncoderError(f"{model}: the package {name} has no folder {folder!r}")
    path = Path(str(installed.locate_file("/".join(place))))
    if not path.is_dir():
        raise EncoderError(f"{model}: the package {name} has no folder {folder!r}")
    return str(path)
