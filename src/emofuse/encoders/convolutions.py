"""The strided convolutions of the wav2vec2 kind, over clips that stand back to back on one time line.

transformers pads the clips of a batch to one length first. That is work for nothing, and where the first convolution is
group-normalised the padding changes the statistics and with them every frame. Here a clip starts at a multiple of the
stack's stride. None of the convolutions pads, so a clip's frames read that clip alone, and the frames that reach into
the next clip are left out at the end. Two facts make it fast:

- With channels last, a convolution of kernel K and stride s is ceil(K / s) matrix products on views of its input: the
  s·C numbers of a stride lie side by side.
- A group is one channel, normalised after a filter that is linear in the waveform. With m and S the mean and the
  covariance of the waveform's windows of K samples, the output w·x + c of a filter has mean w·m + c and variance
  wᵀ S w. So the statistics of all channels follow from a K-by-K matrix, and the norm is folded into the filter.

Shape suffixes: T frames, C channels, K samples of the first kernel.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["ConvolutionStack", "Filter"]


@dataclass(frozen=True)
class Filter:
    """The first convolution as it meets one clip: ``weight_KC`` and ``bias_C``, float64."""

    weight_KC: torch.Tensor
    bias_C: torch.Tensor


class ConvolutionStack:
    """A transformers feature encoder of the wav2vec2 kind, applied without padding.

    Args:
        extractor: the network's ``feature_extractor``, in float32: ``conv_layers`` of ``conv``, ``activation`` and
            maybe a ``layer_norm``
        dtype: to compute in; the norms are those of ``extractor``, which is brought to this type by its owner

    Attributes:
        stride: samples from frame to frame
        receptive_field: samples that a frame reads
    """

    def __init__(self, extractor: Any, dtype: torch.dtype) -> None:
        self._layers = list(extractor.conv_layers)
        self._dtype = dtype
        convolutions = [layer.conv for layer in self._layers]
        self._strides = [each.stride[0] for each in convolutions]
        self._kernels = [each.kernel_size[0] for each in convolutions]
        # Kernel positions one after the other, as the samples of a stride lie in memory: [K·C_in, C_out].
        weights = [each.weight.detach().permute(2, 1, 0).flatten(0, 1).contiguous() for each in convolutions]
        biases = [
            weight.new_zeros(weight.shape[1]) if each.bias is None else each.bias.detach()
            for weight, each in zip(weights, convolutions, strict=True)
        ]
        self._filter = Filter(weights[0].double(), biases[0].double())
        norm = getattr(self._layers[0], "layer_norm", None)
        self._norm = copy.deepcopy(norm).double() if isinstance(norm, nn.GroupNorm) else None
        self._weights = [each.to(dtype) for each in weights[1:]]
        self._biases = [each.to(dtype) for each in biases[1:]]
        self.stride = math.prod(self._strides)
        reaches = ((kernel - 1) * math.prod(self._strides[:depth]) for depth, kernel in enumerate(self._kernels))
        self.receptive_field = 1 + sum(reaches)

    def n_frames(self, n_samples: int) -> int:
        """Frames of so many samples; 0 if there is not one."""
        return max(0, (n_samples - self.receptive_field) // self.stride + 1)

    def filter(self, samples: torch.Tensor) -> Filter:
        """Return the first convolution for a clip: with the clip's group norm folded in, if the network has one.

        Args:
            samples: float32 ``[n_samples]``, at least :attr:`receptive_field`
        """
        norm = self._norm
        if norm is None:
            return self._filter
        windows_TK = samples.double().unfold(0, self._kernels[0], self._strides[0])
        mean_K, covariance_KK = windows_TK.mean(dim=0), torch.cov(windows_TK.T, correction=0)
        weight_KC = self._filter.weight_KC
        variance_C = (weight_KC * (covariance_KK @ weight_KC)).sum(dim=0)
        folded_KC = weight_KC * (norm.weight / torch.sqrt(variance_C + norm.eps))
        # The convolution's own bias moves its output and the mean alike: it is gone.
        return Filter(folded_KC, norm.bias - mean_K @ folded_KC)

    def __call__(self, clips: Sequence[torch.Tensor], filters: Sequence[Filter]) -> torch.Tensor:
        """Return the frames of all clips back to back, ``[total, C]``.

        Args:
            clips: float32 ``[n_samples]`` each, at least :attr:`receptive_field`
            filters: of :meth:`filter`, one a clip
        """
        slots = [math.ceil(len(clip) / self.stride) for clip in clips]
        starts = [sum(slots[:index]) for index in range(len(slots) + 1)]
        frames_TC = self._first(clips, filters, [each * self.stride for each in starts])
        deeper = zip(self._layers[1:], self._weights, self._biases, self._strides[1:], strict=True)
        for layer, weight, bias, stride in deeper:
            frames_TC = _finish(layer, _convolve(frames_TC, weight, bias, stride))
        spans = zip(starts, (self.n_frames(len(clip)) for clip in clips), strict=False)
        return torch.cat([frames_TC[start : start + count] for start, count in spans])

    def _first(self, clips: Sequence[torch.Tensor], filters: Sequence[Filter], starts: list[int]) -> torch.Tensor:
        kernel, stride = self._kernels[0], self._strides[0]
        line = clips[0].new_zeros(starts[-1] + kernel, dtype=self._dtype)
        for start, clip in zip(starts, clips, strict=False):
            line[start : start + len(clip)] = clip
        windows_TK = line.unfold(0, kernel, stride)
        frames_TC = line.new_empty(starts[-1] // stride, len(filters[0].bias_C))
        for start, stop, each in zip(starts, starts[1:], filters, strict=False):
            rows = slice(start // stride, stop // stride)
            weight_KC, bias_C = each.weight_KC.to(line.dtype), each.bias_C.to(line.dtype)
            torch.addmm(bias_C, windows_TK[rows], weight_KC, out=frames_TC[rows])
        return _finish(self._layers[0], frames_TC)


def _convolve(frames_TC: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: int) -> torch.Tensor:
    """Convolve ``[T, C_in]`` to ``[T // stride, C_out]``; the last frames read less than a kernel and mean nothing."""
    blocks_TC = frames_TC.view(len(frames_TC) // stride, -1)
    first, *others = weight.split(blocks_TC.shape[1])
    result_TC = torch.addmm(bias, blocks_TC[:, : len(first)], first)
    for shift, each in enumerate(others, start=1):
        result_TC[:-shift].addmm_(blocks_TC[shift:, : len(each)], each)
    return result_TC


def _finish(layer: Any, frames_TC: torch.Tensor) -> torch.Tensor:
    norm = getattr(layer, "layer_norm", None)
    return layer.activation(norm(frames_TC) if isinstance(norm, nn.LayerNorm) else frames_TC)
