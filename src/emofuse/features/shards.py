"""Feature shards: Parquet files of float16 frames, written by content and read by utterance id."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emofuse import schema
from emofuse.files import write_table

__all__ = ["FeatureError", "FeatureStore", "Frames", "Row", "as_stored", "metadata", "write_shard"]

_ROW_GROUP = 256
_METADATA = "emofuse"


class FeatureError(ValueError):
    """Feature shards are damaged, or do not fit the utterances that they are asked for."""


@dataclass(frozen=True)
class Row:
    """Features of one utterance.

    Attributes:
        utterance_id: its id
        content_sha256: digest of what was encoded, or None if there was nothing to encode
        frames: float ``[n_frames, dim]``; with no frame the row is masked
    """

    utterance_id: str
    content_sha256: str | None
    frames: np.ndarray


@dataclass(frozen=True)
class Frames:
    """Ragged sequences back to back.

    Attributes:
        values: float16 ``[total, dim]``
        offsets: int64 ``[n + 1]``, so that sequence i is ``values[offsets[i]:offsets[i + 1]]``
        masked: bool ``[n]``, sequences that stand for nothing
    """

    values: np.ndarray
    offsets: np.ndarray
    masked: np.ndarray


def write_shard(path: Path, rows: Sequence[Row], dim: int, identity: dict[str, Any]) -> None:
    """Write one shard atomically; equal rows and identity give equal bytes.

    Args:
        path: the file
        rows: at least none; a row without frames is written as one masked zero frame
        dim: size of a frame
        identity: of the encoder, JSON-able

    Raises:
        FeatureError: a frame has another size, or a value is too large for float16
    """
    records = [_record(row, dim) for row in rows]
    described = schema.FEATURES.with_metadata({_METADATA: json.dumps(identity, sort_keys=True)})
    table = pa.Table.from_pylist(records, schema.FEATURES).cast(described)
    write_table(path, table, compression="none", use_dictionary=False, row_group_size=_ROW_GROUP)


def as_stored(rows: Sequence[Row], dim: int) -> Frames:
    """Return rows as a shard would give them back, without writing one.

    Args:
        rows: at least one
        dim: size of a frame

    Raises:
        FeatureError: a frame has another size, or a value is too large for float16
    """
    frames = [_stored(row, dim) for row in rows]
    offsets = np.cumsum([0, *(len(each) for each in frames)], dtype=np.int64)
    return Frames(np.concatenate(frames), offsets, np.array([len(row.frames) == 0 for row in rows]))


def metadata(folder: Path) -> dict[str, Any]:
    """Return what the shards of a folder say of their encoder.

    Raises:
        FeatureError: there are no shards
    """
    path = next(iter(sorted(folder.glob("shard-*.parquet"))), None)
    if path is None:
        raise FeatureError(f"{folder}: no feature shards; run the extract stage")
    return _identity(path)


class FeatureStore:
    """The shards of one modality of one corpus, by utterance id.

    Args:
        folder: where the extraction wrote them

    Raises:
        FeatureError: there are no shards, they disagree, an id is doubled, or a row's size is wrong
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("shard-*.parquet"))
        if not paths:
            raise FeatureError(f"{folder}: no feature shards; run the extract stage")
        tables = [_read(path) for path in paths]
        first = metadata(folder)
        for path in paths:
            if _identity(path) != first:
                raise FeatureError(f"{path}: made by another encoder than {paths[0].name}; run the extract stage")
        table = pa.concat_tables(tables)
        self.dim = _one(set(table.column("dim").unique().to_pylist()), folder)
        self._ids = {each: row for row, each in enumerate(table.column("utterance_id").to_pylist())}
        if len(self._ids) != table.num_rows:
            raise FeatureError(f"{folder}: {table.num_rows - len(self._ids)} utterance ids stand more than once")
        self._lengths = table.column("n_frames").to_numpy()
        self._masked = table.column("masked").to_numpy()
        self._frames = table.column("frames")
        self._folder = folder

    def __len__(self) -> int:
        return len(self._ids)

    def align(self, utterance_ids: Sequence[str]) -> Frames:
        """Return the sequences of these utterances, in this order.

        Raises:
            FeatureError: an utterance has no features
        """
        missing = [each for each in utterance_ids if each not in self._ids]
        if missing:
            raise FeatureError(f"{self._folder}: no features of {len(missing)} utterances, such as {missing[:3]}")
        rows = np.array([self._ids[each] for each in utterance_ids], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(self._lengths[rows], dtype=np.int64)])
        values = np.empty((int(offsets[-1]), self.dim), np.float16)
        for index, row in enumerate(rows):
            buffer = self._frames[row].as_buffer()
            values[offsets[index] : offsets[index + 1]] = np.frombuffer(buffer, "<f2").reshape(-1, self.dim)
        return Frames(values, offsets, self._masked[rows])


def _stored(row: Row, dim: int) -> np.ndarray:
    """Frames in the form of a shard, float16 ``[n_frames, dim]``; one of zeros where there are none."""
    if row.frames.shape[1:] != (dim,):
        raise FeatureError(f"{row.utterance_id}: frames of shape {row.frames.shape}; expected [n_frames, {dim}]")
    with np.errstate(over="ignore"):
        frames = row.frames.astype("<f2") if len(row.frames) else np.zeros((1, dim), "<f2")
    if np.isinf(frames).any():
        raise FeatureError(f"{row.utterance_id}: a feature is too large for float16 (65,504)")
    return frames


def _record(row: Row, dim: int) -> dict[str, Any]:
    frames = _stored(row, dim)
    return {
        "utterance_id": row.utterance_id,
        "content_sha256": row.content_sha256,
        "masked": len(row.frames) == 0,
        "n_frames": len(frames),
        "dim": dim,
        "frames": np.ascontiguousarray(frames).tobytes(),
    }


def _read(path: Path) -> pa.Table:
    try:
        table = schema.conform(pq.read_table(path, memory_map=True), schema.FEATURES, str(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise FeatureError(f"{path}: not a whole Parquet file: {error}") from error
    sizes = pc.binary_length(table.column("frames")).to_numpy()
    n_frames = table.column("n_frames").to_numpy().astype(np.int64)
    expected = 2 * n_frames * table.column("dim").to_numpy()
    wrong = np.flatnonzero((sizes != expected) | (n_frames < 1))
    if wrong.size:
        row = int(wrong[0])
        raise FeatureError(
            f"{path}: row {row} has {sizes[row]} bytes of frames; expected {expected[row]}, of one frame at least"
        )
    return table


def _identity(path: Path) -> dict[str, Any]:
    described = pq.read_schema(path).metadata or {}
    if _METADATA.encode() not in described:
        raise FeatureError(f"{path}: no metadata {_METADATA!r}; the extract stage writes it")
    found: dict[str, Any] = json.loads(described[_METADATA.encode()])
    return found


def _one(values: set[int], folder: Path) -> int:
    if len(values) != 1:
        raise FeatureError(f"{folder}: the shards' frame sizes differ: {sorted(values)}")
    return values.pop()
