"""Frames of turns that are in memory, as networks read those of a corpus: each turn's by itself, so none is copied."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from emofuse.training.data import MappedSequences

__all__ = ["TurnFrames"]


class TurnFrames(MappedSequences):
    """One modality's frames of some turns.

    Args:
        turns: of each turn its frames, float16 ``[n_frames, dim]`` as shards have them; none where there is nothing
        n_layers: of the encoder, side by side in a frame
    """

    def __init__(self, turns: Sequence[np.ndarray], n_layers: int = 1) -> None:
        self._turns = turns
        self.dim, self.n_layers = turns[0].shape[1], n_layers
        self.lengths = torch.tensor([max(1, len(each)) for each in turns])

    def _frames(self, row: int) -> Tensor:
        frames = self._turns[row]
        return torch.from_numpy(frames).float() if len(frames) else torch.full((1, self.dim), torch.nan)
