"""Frozen transformers speech encoders: wav2vec2, HuBERT, WavLM, data2vec-audio, wav2vec2-conformer, Whisper's encoder.

A clip's features are what transformers gives for the clip alone, whatever else is in the batch:

- The strided convolutions run without padding (:mod:`emofuse.encoders.convolutions`).
- The transformer runs on clips of like length with an attention mask. Every convolution in it that pads its input (the
  positional ones, those of conformer layers) sees zeros after a clip's end, as it does when the clip is alone.
- Whisper's encoder sees the clip alone, at the network's own positions; or, as transformers runs it, 30 s of the clip
  and silence, of which the clip's frames are kept.

A clip of more than ``max_seconds`` is encoded in overlapping windows (:mod:`emofuse.encoders.windows`). Loudness and
group-norm statistics are those of the whole clip.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT
from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders.base import EncoderError
from emofuse.encoders.batches import cheapest
from emofuse.encoders.pretrained import (
    InFlight,
    Layers,
    PretrainedConfig,
    Settling,
    describe,
    device,
    one_ahead,
    record,
    reduce,
)
from emofuse.encoders.speech_networks import CONVOLUTIONAL, Convolutional, Network, Prepared, Whisper
from emofuse.encoders.weights import Source, load_extractor, load_network
from emofuse.encoders.windows import Window, cut

__all__ = ["Config", "SpeechEncoder", "batches"]

_NEEDS = ("preprocessor_config.json",)
"""What the local cache must have beside weights and configuration."""

_BATCH_SECONDS = {"cpu": 16.0, "cuda": 300.0}
"""Audio that is encoded at once: what stays near the caches of a processor, and what fills a graphics card."""

_CALL_SECONDS = {"cpu": 0.3, "cuda": 0.5}
"""Audio that could be encoded in the time that one more batch takes; measured on a processor, guessed on a card."""

_SAMPLE = 4
"""Clips on which the cost of a smaller type is measured."""


@dataclass(frozen=True, config=STRICT)
class Config(PretrainedConfig):
    """Options of the family.

    Attributes:
        max_seconds: a longer clip is encoded in windows of this length
        overlap_seconds: of neighbouring windows, at least; every frame sees half of it on either side
        padding: of Whisper: ``none``, or ``full``, to the 30 s of silence that it was trained with
    """

    max_seconds: Annotated[float, Field(ge=1)] = 30.0
    overlap_seconds: Annotated[float, Field(ge=0)] = 4.0
    padding: Literal["none", "full"] = "none"


@plain_dataclass(frozen=True)
class _Part:
    clip: int
    window: Window


class SpeechEncoder:
    """A transformers speech network in evaluation mode; see :class:`emofuse.encoders.base.Encoder`.

    Raises:
        EncoderError: the network is not there, is of another kind, or cannot do what the options ask for
    """

    reads = "audio"
    modality: Literal["audio"] = "audio"

    def __init__(self, config: Config) -> None:
        source = config.locate(_NEEDS)
        self._name, self._config = source.name, config
        self._network = _load_network(source, config)
        depth = len(self._network.blocks)
        self._layers = Layers(config.layers, depth, self._network.width, self._name)
        self._depth, self._states = depth, record(self._network.blocks, self._layers.numbers)
        self._size, self._overlap = self._window_size()
        self._device = device()
        self._settle = Settling(config, self._name, self._network.transformer, self._network.cast, _SAMPLE)
        self.dim = self._layers.dim
        self.cost: float | None = None
        self.identity: dict[str, Any] = {
            **describe(config, source, self._layers, __name__),
            "frame_rate": None if config.output == "mean" else SAMPLE_RATE / self._network.stride / config.stride,
            "max_seconds": config.max_seconds,
            "overlap_seconds": config.overlap_seconds,
            "padding": config.padding,
        }

    def encode(self, contents: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield float32 ``[n_frames, dim]`` for each clip; no frame if it is shorter than the receptive field.

        Raises:
            EncoderError: at the first clips, what the options ask for cannot be done on this machine
        """
        heard = (clip for clip in contents if self._network.n_frames(len(clip)))
        self.cost = self._settle(heard, self._encode)
        yield from self._encode(contents)

    def _encode(self, contents: Sequence[np.ndarray]) -> list[np.ndarray]:
        parts = [
            _Part(clip, window)
            for clip, samples in enumerate(contents)
            if (n_frames := self._network.n_frames(len(samples)))
            for window in cut(n_frames, self._size, self._overlap)
        ]
        kept: list[list[np.ndarray]] = [[np.zeros((0, self.dim), np.float32)] for _ in contents]
        found: dict[_Part, np.ndarray] = {}
        for batch, result in one_ahead(self._batches(contents, parts)):
            found |= zip(batch, result.fetch(), strict=True)
        for part in parts:
            kept[part.clip].append(found[part][part.window.first - part.window.start :][: part.window.kept])
        frames = [np.concatenate(each) for each in kept]
        return [reduce(each, self._config) for each in frames]

    def _batches(
        self, contents: Sequence[np.ndarray], parts: Sequence[_Part]
    ) -> Iterator[tuple[list[_Part], InFlight]]:
        lengths = np.array([self._network.padded(len(each.window)) for each in parts])
        clips: dict[int, Prepared] = {}
        for batch in batches(lengths, SAMPLE_RATE / self._network.stride, self._device.type):
            chosen = [parts[index] for index in batch]
            # The windows of a long clip are neighbours, for they are equally long: it is prepared once.
            needed = {each.clip for each in chosen}
            clips = {clip: clips.get(clip) or self._network.prepare(contents[clip]) for clip in needed}
            yield chosen, self._run([clips[each.clip] for each in chosen], [each.window for each in chosen])

    # Without the flags cuDNN would round to 10 bits in the convolutions.
    @torch.inference_mode()
    def _run(self, clips: list[Prepared], windows: list[Window]) -> InFlight:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            self._states[self._depth] = self._network(clips, windows)
        states_BTD = self._layers.combine([self._states[each] for each in self._layers.numbers])
        self._states.clear()
        return InFlight(states_BTD, [len(each) for each in windows])

    def _window_size(self) -> tuple[int, int]:
        config, network, rate = self._config, self._network, SAMPLE_RATE / self._network.stride
        size, overlap = network.n_frames(int(config.max_seconds * SAMPLE_RATE)), int(config.overlap_seconds * rate)
        if overlap >= size:
            raise EncoderError(
                f"overlap_seconds {config.overlap_seconds}: must be below max_seconds, {config.max_seconds}"
            )
        if network.longest is not None and size > network.longest:
            raise EncoderError(
                f"max_seconds {config.max_seconds}: {self._name} reads at most {network.longest / rate:g} s"
            )
        return size, overlap


def batches(lengths: np.ndarray, rate: float, kind: str) -> list[np.ndarray]:
    """Return the indices of the clips that are encoded at once.

    Args:
        lengths: ``[n]`` frames of each
        rate: frames a second
        kind: of the device
    """
    return cheapest(lengths, _BATCH_SECONDS[kind] * rate, _CALL_SECONDS[kind] * rate)


def _load_network(source: Source, config: Config) -> Network:
    network = load_network(source)
    extractor = load_extractor(source)
    kind, name = network.config.model_type, source.name
    if extractor.sampling_rate != SAMPLE_RATE:
        raise EncoderError(f"{name} reads {extractor.sampling_rate} Hz; this project's audio has {SAMPLE_RATE} Hz")
    if kind == "whisper":
        return Whisper(network.get_encoder().to(device()), extractor, config.padding == "full", config.compile)
    if config.padding == "full":
        raise EncoderError(f"padding: full: {name} is of type {kind!r}, which reads a clip of any length as it is")
    if kind in CONVOLUTIONAL:
        return Convolutional(network.to(device()), extractor, config.compile)
    raise EncoderError(f"{name} is of type {kind!r}; this family reads {', '.join([*CONVOLUTIONAL, 'whisper'])}")
