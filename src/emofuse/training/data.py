"""A fold and its features as tensors, and the batches that are cut from them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from emofuse.core.schema import SPLITS, Split
from emofuse.features.shards import FeatureStore, Frames
from emofuse.models.parts.base import Batch, Unit
from emofuse.tasks import Fold

__all__ = [
    "Inputs",
    "MappedSequences",
    "Sequences",
    "batches",
    "collate",
    "examples",
    "longest",
    "pooled",
    "read_features",
    "shuffled_batches",
    "single_frames",
    "sorted_batches",
]

MOST_BYTES = 2**30
"""Features that each training run holds in memory at most; more stay in the shards and in the system's page cache."""

_POOL = 16
"""Batches that are sorted by length together: enough to spare padding, few enough to stay random."""

_POOLS = 8
"""An epoch of fewer batches than would fill so many pools has smaller ones, or its batches would always be the same."""

MOST_FRAMES = 2**16
"""Frames of a padded batch at most: what 32 utterances of 40 s at 50 frames a second come to."""


@dataclass(frozen=True)
class Sequences:
    """One modality's ragged sequences, in the order of the fold's utterances.

    Attributes:
        values: ``[total, D]``; a missing sequence is one frame of NaN
        offsets: int64 ``[n + 1]``
        n_layers: of the encoder, side by side in a frame, for the network to weigh; 1 where it takes the frame as it is
    """

    values: Tensor
    offsets: Tensor
    n_layers: int = 1

    @classmethod
    def of(cls, frames: Frames, n_layers: int = 1) -> "Sequences":
        """Take frames from a feature store; masked ones become missing values."""
        values = torch.from_numpy(frames.values)
        starts = torch.from_numpy(frames.offsets[:-1][frames.masked])
        values[starts] = torch.nan
        return cls(values, torch.from_numpy(frames.offsets), n_layers)

    @property
    def dim(self) -> int:
        """Size D of a frame."""
        return self.values.shape[1]

    @property
    def lengths(self) -> Tensor:
        """Frames of each sequence, int64 ``[n]``."""
        return self.offsets.diff()

    def chunks(self, rows: np.ndarray) -> Iterator[Tensor]:
        """Yield all frames of some sequences back to back, float32 ``[N, D]``; here in one piece."""
        chosen = torch.zeros(len(self.offsets) - 1, dtype=torch.bool)
        chosen[torch.from_numpy(rows)] = True
        yield self.values[chosen.repeat_interleave(self.lengths)].float()

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return some sequences as float32 ``[U, T, D]``, zero after their ends, and their lengths ``[U]``."""
        lengths_U = self.lengths[rows]
        if lengths_U.numel() and int(lengths_U.max()) == 1:
            return self.values[self.offsets[rows], None].float(), lengths_U  # vectors: nothing to cut, nothing to pad
        spans = zip(self.offsets[rows].tolist(), lengths_U.tolist(), strict=True)
        parts = [self.values[start : start + length] for start, length in spans]
        return nn.utils.rnn.pad_sequence(parts, batch_first=True).float(), lengths_U


class MappedSequences:
    """The same for a corpus that memory would not hold: frames stay in the mapped shards until a batch needs them.

    Args:
        store: the shards
        utterance_ids: of the fold

    Attributes:
        dim: size D of a frame
        lengths: frames of each sequence, int64 ``[n]``
        n_layers: as in :class:`Sequences`
    """

    def __init__(self, store: FeatureStore, utterance_ids: Sequence[str]) -> None:
        self._store, self._ids = store, utterance_ids
        self._masked = store.masked(utterance_ids)
        self.dim, self.n_layers = store.dim, store.n_layers
        self.lengths = torch.from_numpy(store.lengths(utterance_ids))

    def chunks(self, rows: np.ndarray) -> Iterator[Tensor]:
        """Yield all frames of some sequences, float32 ``[N, D]``, a sequence at a time."""
        for row in rows:
            yield self._frames(int(row))

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return some sequences as float32 ``[U, T, D]``, zero after their ends, and their lengths ``[U]``."""
        parts = [self._frames(row) for row in rows.tolist()]
        return nn.utils.rnn.pad_sequence(parts, batch_first=True), self.lengths[rows]

    def _frames(self, row: int) -> Tensor:
        frames_TD = torch.from_numpy(self._store[self._ids[row]]).float()
        return torch.full_like(frames_TD, torch.nan) if self._masked[row] else frames_TD


Inputs = Mapping[str, Sequences | MappedSequences]
"""What a network reads, by modality."""


def read_features(folder: Path, utterance_ids: Sequence[str], most: int = MOST_BYTES) -> Sequences | MappedSequences:
    """Return the features of a fold: in memory if they are ``most`` bytes or fewer, else mapped."""
    store = FeatureStore(folder)
    if 2 * store.dim * int(store.lengths(utterance_ids).sum()) <= most:
        return Sequences.of(store.align(utterance_ids), store.n_layers)
    return MappedSequences(store, utterance_ids)


def single_frames(vectors_ND: Tensor, n_layers: int = 1) -> Sequences:
    """Take utterance vectors ``[n, D]``, with the given number of layers side by side, as sequences of one frame."""
    return Sequences(vectors_ND, torch.arange(len(vectors_ND) + 1), n_layers)


def pooled(sequences: Sequences | MappedSequences, deviation: bool) -> Sequences:
    """Return each sequence's mean over its frames.

    Args:
        sequences: one modality's
        deviation: whether the standard deviation stands beside it, which says nothing where all have one frame; of
            several layers, beside each one's mean
    """
    layers = sequences.n_layers
    if isinstance(sequences, MappedSequences):
        rows = np.arange(len(sequences.lengths))
        parts = (Sequences(each, torch.tensor([0, len(each)]), layers) for each in sequences.chunks(rows))
        return single_frames(torch.cat([pooled(part, deviation).values for part in parts]), layers)
    lengths_N = sequences.lengths
    owner = torch.arange(len(lengths_N)).repeat_interleave(lengths_N)
    values = sequences.values.float()
    totals_ND = torch.zeros(len(lengths_N), sequences.dim).index_add_(0, owner, values)
    mean_ND = totals_ND / lengths_N[:, None]
    if not deviation:
        return single_frames(mean_ND, layers)
    squares_ND = torch.zeros_like(mean_ND).index_add_(0, owner, (values - mean_ND[owner]).square())
    deviation_ND = (squares_ND / lengths_N[:, None]).sqrt()
    beside = [each.unflatten(1, (layers, -1)) for each in (mean_ND, deviation_ND)]
    return single_frames(torch.cat(beside, dim=2).flatten(1), layers)


def examples(fold: Fold, unit: Unit, split: Split | None = None) -> list[np.ndarray]:
    """Return examples as arrays of utterance numbers: single utterances, or whole dialogues.

    Args:
        fold: the utterances
        unit: what an example is
        split: those of this split that have a label (inside a dialogue the others are context); None for all there are
    """
    chosen = np.ones(len(fold.splits), bool) if split is None else fold.scored & (fold.splits == SPLITS.index(split))
    if unit == "utterance":
        return [np.array([row]) for row in np.flatnonzero(chosen)]
    dialogues = (np.arange(start, end) for start, end in zip(fold.dialogues[:-1], fold.dialogues[1:], strict=True))
    return [rows for rows in dialogues if chosen[rows].any()]


def longest(inputs: Inputs) -> np.ndarray:
    """Return the frames of each utterance, ``[n]``, in the modality that has most of it."""
    lengths: np.ndarray = torch.stack([each.lengths for each in inputs.values()]).amax(dim=0).numpy()
    return lengths


def batches(items: Sequence[np.ndarray], inputs: Inputs, fold: Fold, size: int) -> Iterator[tuple[Tensor, Batch]]:
    """Yield the batches of examples for evaluation, as :func:`collate` does; ``size`` is as in sorted_batches."""
    for chosen in sorted_batches(items, longest(inputs), size):
        yield collate(chosen, inputs, fold)


def sorted_batches(items: Sequence[np.ndarray], lengths: np.ndarray, size: int) -> Iterator[list[np.ndarray]]:
    """Yield batches, longest examples first, for evaluation.

    Args:
        items: examples, arrays of utterance numbers
        lengths: ``[n]`` frames of each utterance
        size: utterances in a batch at most, except that an example is never cut; fewer where they would be padded to
            more than :data:`MOST_FRAMES` frames
    """
    batch: list[np.ndarray] = []
    for rows in sorted(items, key=lambda rows: (-lengths[rows].max(), -len(rows))):
        count = len(rows) + sum(map(len, batch))
        if batch and (count > size or count * lengths[batch[0]].max() > MOST_FRAMES):
            yield batch
            batch = []
        batch.append(rows)
    if batch:
        yield batch


def shuffled_batches(
    items: Sequence[np.ndarray], lengths: np.ndarray, size: int, generator: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """Yield every example once in random batches of similar lengths, for one epoch of training."""
    order = generator.permutation(len(items))
    count = sum(map(len, items)) / size
    pool = math.ceil(len(items) / count * min(_POOL, max(1.0, count / _POOLS)))
    found = []
    for start in range(0, len(order), pool):
        found += list(sorted_batches([items[index] for index in order[start : start + pool]], lengths, size))
    for index in generator.permutation(len(found)):
        yield found[index]


def collate(items: Sequence[np.ndarray], inputs: Inputs, fold: Fold) -> tuple[Tensor, Batch]:
    """Make a batch of examples.

    Returns:
        the utterance number of each of its U utterances, and the batch
    """
    rows = torch.from_numpy(np.concatenate(items))
    sizes = [len(each) for each in items]
    places_BL = torch.full((len(items), max(sizes)), -1)
    start = 0
    for index, size in enumerate(sizes):
        places_BL[index, :size] = torch.arange(start, start + size)
        start += size
    padded = {name: sequences.padded(rows) for name, sequences in inputs.items()}
    return rows, Batch(
        frames={name: frames for name, (frames, _) in padded.items()},
        lengths={name: lengths for name, (_, lengths) in padded.items()},
        places_BL=places_BL,
        speakers_U=torch.from_numpy(fold.speakers)[rows],
        targets_U=torch.from_numpy(fold.targets)[rows],
    )
