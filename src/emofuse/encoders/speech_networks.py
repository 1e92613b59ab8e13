"""The two kinds of speech networks of transformers, each so that a clip's frames depend on that clip alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.functional import gelu
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders.convolutions import ConvolutionStack, Filter
from emofuse.encoders.plain import WhisperEncoder
from emofuse.encoders.pretrained import bucketed, to_device
from emofuse.encoders.windows import Window

__all__ = ["CONVOLUTIONAL", "Convolutional", "Network", "Prepared", "Whisper"]

CONVOLUTIONAL = ("data2vec-audio", "hubert", "wav2vec2", "wav2vec2-conformer", "wavlm")
"""Model types, as transformers names them, that read the waveform with strided convolutions."""


@dataclass(frozen=True)
class Prepared:
    """A clip as a network reads it: float32 samples on the device, and the first convolution as it meets this clip."""

    samples: torch.Tensor
    filter: Filter | None = None


class Network(Protocol):
    """What differs between the kinds.

    Attributes:
        transformer: transformers' network
        blocks: its layers
        width: size of a hidden state
        stride: samples from frame to frame
        longest: frames that it reads at most at once, or null
    """

    transformer: Any
    blocks: nn.ModuleList
    width: int
    stride: int
    longest: int | None

    def n_frames(self, n_samples: int) -> int:
        """Frames of so many samples; 0 if they are too few."""

    def padded(self, n_frames: int) -> int:
        """Frames that the network computes for so many."""

    def prepare(self, samples: np.ndarray) -> Prepared:
        """Bring a clip of at least one frame to the form that the network reads."""

    def cast(self, dtype: torch.dtype) -> None:
        """Compute in this type from now on."""

    def __call__(self, clips: Sequence[Prepared], windows: Sequence[Window]) -> torch.Tensor:
        """Return the last hidden states ``[n, T, width]`` of windows of clips; each one's own frames come first."""


class Convolutional:
    """A network that reads the waveform with strided convolutions; see :class:`Network`.

    Args:
        network: of one of the types :data:`CONVOLUTIONAL`, in float32 on its device
        extractor: its feature extractor, which says whether clips are normalised
        compiled: whether its layers will be compiled, and want lengths of :func:`.pretrained.bucketed`
    """

    longest: int | None = None

    def __init__(self, network: Any, extractor: Any, compiled: bool) -> None:
        self.width = network.config.hidden_size
        self.blocks = network.encoder.layers
        self.transformer, self._extractor, self._compiled = network, extractor, compiled
        self._mask_BT: torch.Tensor | None = None
        for module in network.encoder.modules():
            if is_parametrized(module, "weight"):  # a weight norm, which would be computed anew for every batch
                remove_parametrizations(module, "weight")
            if isinstance(module, nn.Conv1d) and module.padding != (0,):
                module.register_forward_pre_hook(self._hide_padding)
        self.cast(torch.float32)
        self.stride = self._stack.stride

    def n_frames(self, n_samples: int) -> int:
        """Frames of so many samples; 0 if they are too few."""
        return self._stack.n_frames(n_samples)

    def padded(self, n_frames: int) -> int:
        """The frames themselves, or those of their bucket."""
        return bucketed(n_frames) if self._compiled else n_frames

    def prepare(self, samples: np.ndarray) -> Prepared:
        """Normalise a clip where the network wants that, and fit the first convolution to it."""
        (values,) = self._extractor([samples], sampling_rate=SAMPLE_RATE)["input_values"]
        signal = to_device(torch.from_numpy(np.asarray(values, np.float32)), self.transformer.device)
        return Prepared(signal, self._stack.filter(signal))

    def cast(self, dtype: torch.dtype) -> None:
        """Compute in this type from now on; the first call must find the weights in float32."""
        self._stack = ConvolutionStack(self.transformer.feature_extractor, dtype)
        self.transformer.to(dtype)

    def __call__(self, clips: Sequence[Prepared], windows: Sequence[Window]) -> torch.Tensor:
        """Return ``[n, T, width]``, T that of the longest window, or of its bucket."""
        stack, lengths = self._stack, [len(each) for each in windows]
        reach = stack.receptive_field - stack.stride
        signals = [
            clip.samples[each.start * stack.stride : each.stop * stack.stride + reach]
            for clip, each in zip(clips, windows, strict=True)
        ]
        filters = [clip.filter for clip in clips if clip.filter is not None]
        # A processor is fastest on what fits its caches, a graphics card on everything at once.
        step = 1 if signals[0].device.type == "cpu" else len(signals)
        parts = [stack(signals[at : at + step], filters[at : at + step]) for at in range(0, len(signals), step)]
        projected: Any = self.transformer.feature_projection(torch.cat(parts))
        frames_TC = projected[0] if isinstance(projected, tuple) else projected
        padded_BTC = frames_TC.new_zeros(len(lengths), self.padded(max(lengths)), frames_TC.shape[-1])
        for room, frames in zip(padded_BTC, frames_TC.split(lengths), strict=True):
            room[: len(frames)] = frames
        self._mask_BT = _mask(lengths, padded_BTC.shape[1], padded_BTC.device)
        states: torch.Tensor = self.transformer.encoder(padded_BTC, attention_mask=self._mask_BT).last_hidden_state
        return states

    def _hide_padding(self, _module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        if self._mask_BT is None:
            return None
        return (inputs[0] * self._mask_BT[:, None],)


class Whisper:
    """Whisper's encoder; see :class:`Network`.

    Without the padding it reads a clip's own frames, at the network's own positions. The convolutions read the silence
    that follows, as they do with it; attention sees the clip alone.

    Args:
        network: a Whisper encoder, in float32 on its device
        extractor: its feature extractor
        full: whether clips are padded to 30 s, as transformers does
        compiled: whether its layers will be compiled, and want lengths of :func:`.pretrained.bucketed`
    """

    def __init__(self, network: Any, extractor: Any, full: bool, compiled: bool) -> None:
        self.width = network.config.d_model
        self.blocks = network.layers
        self._positions: int = network.config.max_source_positions
        self.longest: int | None = self._positions
        self.stride = extractor.n_samples // self._positions
        self.transformer, self._extractor, self._full, self._compiled = network, extractor, full, compiled

    def n_frames(self, n_samples: int) -> int:
        """Frames that a clip reaches into; 0 if it is shorter than the spectrogram's window."""
        return 0 if n_samples < self._extractor.n_fft else math.ceil(n_samples / self.stride)

    def padded(self, n_frames: int) -> int:
        """Those of 30 s; or the frames themselves, or those of their bucket."""
        if self._full:
            return self._positions
        return min(bucketed(n_frames), self._positions) if self._compiled else n_frames

    def prepare(self, samples: np.ndarray) -> Prepared:
        """Leave a clip as it is."""
        return Prepared(torch.from_numpy(samples))

    def cast(self, dtype: torch.dtype) -> None:
        """Compute in this type from now on."""
        self.transformer.to(dtype)

    def __call__(self, clips: Sequence[Prepared], windows: Sequence[Window]) -> torch.Tensor:
        """Return ``[n, T, width]``, T the frames of 30 s, or of the longest window or its bucket."""
        signals = [
            clip.samples[each.start * self.stride : each.stop * self.stride].numpy()
            for clip, each in zip(clips, windows, strict=True)
        ]
        network, lengths = self.transformer, [len(each) for each in windows]
        size = self.padded(max(lengths))
        mel_BMT = to_device(self._spectrogram(signals, size), network.device).to(network.dtype)
        if self._full:
            full_BTC: torch.Tensor = network(mel_BMT)[0]
            return full_BTC
        embedded_BTC = gelu(network.conv2(gelu(network.conv1(mel_BMT))))[..., :size].mT
        states_BTC: torch.Tensor = embedded_BTC + network.embed_positions.weight[:size]
        mask_BT = _mask(lengths, size, network.device)
        mask = self._attended(states_BTC, mask_BT)
        for block in self.blocks:
            states_BTC = block(states_BTC, mask)
        normed_BTC: torch.Tensor = network.layer_norm(states_BTC)
        return normed_BTC

    def _attended(self, states_BTC: torch.Tensor, mask_BT: torch.Tensor | None) -> torch.Tensor | None:
        """A mask as the layers take it."""
        if isinstance(self.transformer, WhisperEncoder):
            return None if mask_BT is None else mask_BT[:, None, None, :]
        from transformers.masking_utils import create_bidirectional_mask  # here, as it is slow to import

        found: Any = create_bidirectional_mask(
            self.transformer.config, inputs_embeds=states_BTC, attention_mask=mask_BT
        )
        return found

    def _spectrogram(self, signals: Sequence[np.ndarray], size: int) -> torch.Tensor:
        """Return ``[n, bands, 2 size + 1]``: the last frame reads a step beyond its own two, unless 30 s end there."""
        steps = min(2 * size + 1, 2 * self._positions)
        options = {"padding": "max_length", "max_length": steps * self._extractor.hop_length, "truncation": False}
        found: torch.Tensor = self._extractor(signals, sampling_rate=SAMPLE_RATE, return_tensors="pt", **options)[
            "input_features"
        ]
        return found


def _mask(lengths: Sequence[int], size: int, device: torch.device) -> torch.Tensor | None:
    if min(lengths) == size:
        return None  # Attention without a mask is faster.
    return to_device(torch.arange(size)[None, :] < torch.tensor(lengths)[:, None], device)
