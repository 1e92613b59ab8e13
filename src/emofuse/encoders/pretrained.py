"""What the families of pretrained transformers networks share: options, identity, layers, precision."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, pairwise
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from emofuse.core.params import STRICT
from emofuse.encoders.base import EncoderError, code_version, series
from emofuse.encoders.plain import WhisperLayer
from emofuse.encoders.weights import Source, locate

__all__ = [
    "InFlight",
    "Layers",
    "PretrainedConfig",
    "Settling",
    "bucketed",
    "change",
    "compile_layers",
    "describe",
    "device",
    "one_ahead",
    "record",
    "reduce",
    "to_device",
    "use_attention",
]

T = TypeVar("T")

_BUCKET = 8
"""Compiled networks meet lengths that are multiples of it: few shapes, and masks as attention's kernels want them."""


@dataclass(frozen=True, config=STRICT)
class PretrainedConfig:
    """Options that the families share.

    Attributes:
        model: ``package:<name>/<folder>`` for a model that an installed package carries, a local folder, or a hub id
        labels_seen: whether the weights have seen emotion labels
        revision: commit of a hub model, 40 hexadecimal digits; null for a folder, whose files are hashed instead
        sha256: digest that the weights must have: of their file, or of what ``sha256sum`` prints for several, by name
        layers: the ``last`` hidden layer, the mean of the last four (``mean4``), the last four side by side
            (``concat4``), the numbers of layers whose states stand side by side (0 is the embedding, 1 the first
            layer), or ``all`` of them side by side, embedding included, for the network that reads them to weigh
        stride: so many adjacent frames are averaged; the last ones are averaged over what there is
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
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    layers: Literal["last", "mean4", "concat4", "all"] | Annotated[tuple[int, ...], Field(min_length=1)] = "last"
    stride: Annotated[int, Field(ge=1)] = 1
    output: Literal["frames", "mean"] = "frames"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    local_files_only: bool = False
    attention: Literal["sdpa", "flash_attention_2"] = "sdpa"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.stride > 1 and self.output == "mean":
            raise ValueError(f"stride: {self.stride} averages frames, but output: mean keeps only one")

    def locate(self, needs: Sequence[str]) -> Source:
        """Find the network; the errors and ``needs`` are those of :func:`emofuse.encoders.weights.locate`."""
        return locate(self.model, self.revision, needs=needs, sha256=self.sha256, ask_hub=not self.local_files_only)


def describe(
    config: PretrainedConfig, source: Source, layers: "Layers", module: str, packages: Sequence[str] = ()
) -> dict[str, Any]:
    """Return an encoder's identity, as far as the families share it.

    Args:
        config: the options
        source: where the network lies
        layers: the choice of layers
        module: full name of the family's module
        packages: that compute them beside torch and transformers
    """
    return {
        **source.identity,
        "layer": config.layers if isinstance(config.layers, str) else list(config.layers),
        "n_layers": layers.to_weigh,
        "stride": config.stride,
        "output": config.output,
        "dtype": config.dtype,
        "labels_seen": config.labels_seen,
        "code": code_version(module),
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
        to_weigh: number of layers side by side in a frame that the network that reads it weighs; 1 where it takes the
            frame as it is

    Raises:
        EncoderError: the network has no such layer
    """

    def __init__(self, choice: str | tuple[int, ...], depth: int, width: int, name: str) -> None:
        last_four = tuple(range(depth - 3, depth + 1))
        named = {"last": (depth,), "mean4": last_four, "concat4": last_four, "all": tuple(range(depth + 1))}
        self.numbers = named[choice] if isinstance(choice, str) else choice
        if not set(self.numbers) <= set(range(depth + 1)):
            raise EncoderError(f"layers {list(self.numbers)}: {name} has layers 0 to {depth}")
        self._average = choice == "mean4"
        self.dim = width * (1 if self._average else len(self.numbers))
        self.to_weigh = len(self.numbers) if choice == "all" else 1

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


def reduce(frames: np.ndarray, config: PretrainedConfig) -> np.ndarray:
    """Return the frames that the options ask for: all, their mean, or means of adjacent ones.

    Args:
        frames: float ``[n_frames, dim]``; of no frame, no frame is left
        config: ``output`` and ``stride``
    """
    if config.output == "mean":
        return frames.mean(axis=0, keepdims=True) if len(frames) else frames
    if config.stride == 1 or not len(frames):
        return frames
    starts = np.arange(0, len(frames), config.stride)
    counts = np.diff(starts, append=len(frames)).astype(frames.dtype)
    means: np.ndarray = np.add.reduceat(frames, starts, axis=0) / counts[:, None]
    return means


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
    from transformers.modeling_layers import GradientCheckpointingLayer  # here, as transformers is slow to import

    kinds = (GradientCheckpointingLayer, WhisperLayer)
    layers = [each for each in network.modules() if isinstance(each, kinds)]
    if not layers:
        raise EncoderError(f"compile: true: {name} has no layers that transformers names as such; set it to false")
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=device()))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise EncoderError(f"compile: true: torch cannot compile here, set it to false; {reason}") from error
    for layer in layers:
        # Not the layer, whose hooks then stay outside.
        layer.forward = torch.compile(layer.forward, dynamic=True)  # type: ignore[method-assign]


class Settling:
    """Brings a network, before the first contents that it encodes, to the form in which it computes features.

    Args:
        config: which type, attention and compilation
        name: of the model, for messages
        network: its transformer
        cast: bring all that computes to a type
        sample: number of contents on which the cost of a smaller type is measured
    """

    def __init__(
        self,
        config: PretrainedConfig,
        name: str,
        network: nn.Module,
        cast: Callable[[torch.dtype], object],
        sample: int,
    ) -> None:
        self._config, self._name, self._network, self._cast, self._sample = config, name, network, cast, sample
        self._settled = False
        self._cost: float | None = None

    def __call__(self, contents: Iterable[T], encode: Callable[[list[T]], list[np.ndarray]]) -> float | None:
        """Settle the network, unless that was done, or there is nothing yet to settle it with.

        Args:
            contents: that it makes frames of
            encode: encode some as the network is

        Returns:
            what the type costs, as in :func:`change`; None for float32

        Raises:
            EncoderError: what the options ask for cannot be done on this machine
        """
        if not self._settled and (sample := list(islice(contents, self._sample))):
            self._cost = self._settle(partial(encode, sample))
            self._settled = True
        return self._cost

    def _settle(self, encode: Callable[[], list[np.ndarray]]) -> float | None:
        exact = encode() if self._config.dtype != "float32" else []
        self._cast(getattr(torch, self._config.dtype))
        use_attention(self._network, self._config, self._name)
        cost = change(exact, encode()) if exact else None
        if self._config.compile:
            compile_layers(self._network, self._name)
        return cost


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
            f"attention: {config.attention}: cannot be used with {name} here: {' '.join(str(error).split())}"
        ) from error


def change(exact: Iterable[np.ndarray], rounded: Iterable[np.ndarray]) -> float:
    """Return the root mean square of the features' change, relative to that of the features.

    Args:
        exact: features ``[n_frames, dim]`` of some examples in float32
        rounded: of the same examples in a smaller type
    """
    before, after = (np.concatenate(list(each)).astype(np.float64) for each in (exact, rounded))
    return float(np.sqrt(np.square(after - before).sum() / max(np.square(before).sum(), np.finfo(np.float64).tiny)))
