"""Feature shards: Parquet files of float16 frames, written by content and read by utterance id.

A row group holds its frames in one page, uncompressed, so that they lie in the file as they lie in memory: reading maps
the file and hands out views. The position of a row follows from the lengths of the rows, and is checked against the
length that Parquet writes in front of it.

Between the last page and the footer, where Parquet's readers do not look, there are checksums of all that is in the
file: a CRC-32 of each row group's frames, which is as fast as they are read, and digests of the footer and of all other
pages. These two are compared before a shard is parsed, and frames when one of their row group is first asked for, so
that a bit that a disk has turned is an error and never another feature.
"""

import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emofuse.core import schema
from emofuse.core.files import replace_file, write_json

__all__ = [
    "LAYOUT",
    "FeatureError",
    "FeatureStore",
    "Frames",
    "Row",
    "as_stored",
    "cut",
    "defects",
    "is_empty",
    "metadata",
    "pack",
    "write_cut",
    "write_shard",
]

LAYOUT = 3
"""Version of the layout inside the file; part of the work store's keys."""

_GROUP_ROWS = 256
_GROUP_BYTES = 1 << 26
_PAGE_BYTES = 1 << 30
"""More than a row group holds, so that it is one page; Parquet's own limit is twice this."""
_PREFIX = 4
"""Bytes of a value's length, which Parquet writes in front of it."""
_METADATA = "emofuse"
_CUT = "cut.json"
"""Beside the shards, where there is something to say: the ids of the utterances of which the encoder read a part."""
_SEAL = b"emofuse1"
"""Stands behind the checksums and their length."""
_LENGTH = 4
"""Bytes of the footer's and of the checksums' length."""
_TAIL = _LENGTH + len(b"PAR1")
"""Bytes behind the footer."""


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
        masked: bool ``[n]``, utterances without features
    """

    values: np.ndarray
    offsets: np.ndarray
    masked: np.ndarray


def write_shard(path: Path, rows: Sequence[Row], dim: int, identity: dict[str, Any]) -> None:
    """Write one shard atomically; the arguments and errors are those of :func:`pack`."""
    data = pack(rows, dim, identity)
    with replace_file(path) as temporary:
        temporary.write_bytes(data)


def pack(rows: Sequence[Row], dim: int, identity: dict[str, Any]) -> pa.Buffer:
    """Return the bytes of one shard; equal rows and identity give equal bytes.

    Args:
        rows: at least none; a row without frames is written as one masked zero frame
        dim: size of a frame
        identity: of the encoder, JSON-able

    Raises:
        FeatureError: a frame has another size, or a value is too large for float16
    """
    described = schema.FEATURES.with_metadata({_METADATA: json.dumps(identity, sort_keys=True)})
    small = [name for name in schema.FEATURES.names if name != "frames"]
    sink = io.BytesIO()
    written: list[pq.FileMetaData] = []
    with pq.ParquetWriter(
        sink,
        described,
        compression="none",
        use_dictionary=False,
        write_statistics=small,
        data_page_size=_PAGE_BYTES,
        metadata_collector=written,
    ) as writer:
        for group in _groups(rows, dim):
            writer.write_table(_table(group, dim, described))
    _seal(sink, written[0])
    return pa.py_buffer(sink.getbuffer())


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
        FeatureError: there are no shards, or the first one is damaged
    """
    return _Shard(_paths(folder)[0]).identity


def defects(folder: Path) -> dict[str, list[str]]:
    """Return the ids of the masked utterances by what is wrong with them.

    ``nothing_to_encode``: the corpus has no sound, text or values; ``too_short``: the encoder made no frame of them.

    Raises:
        FeatureError: there are no shards, or they are damaged
    """
    rows = pa.concat_tables([_Shard(path).index for path in _paths(folder)]).to_pylist()
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["masked"]:
            kind = "too_short" if row["content_sha256"] else "nothing_to_encode"
            found.setdefault(kind, []).append(row["utterance_id"])
    return found


def is_empty(folder: Path) -> bool:
    """Whether the encoder read nothing of any utterance; errors are those of :func:`defects`."""
    return all(masked for path in _paths(folder) for masked in _Shard(path).index["masked"].to_pylist())


def write_cut(folder: Path, utterance_ids: Sequence[str]) -> None:
    """Write down of which utterances the encoder read the beginning alone; no file says that it read all whole."""
    if utterance_ids:
        write_json(folder / _CUT, list(utterance_ids))
    else:
        (folder / _CUT).unlink(missing_ok=True)


def cut(folder: Path) -> list[str]:
    """Return the ids of the utterances of which the encoder read the beginning alone.

    Raises:
        FeatureError: what was written down of them is damaged
    """
    try:
        found = json.loads((folder / _CUT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise FeatureError(f"{folder / _CUT}: damaged: {error}; run the extract stage") from error
    return [str(each) for each in found]


class FeatureStore:
    """The shards of one modality of one corpus, mapped into memory, by utterance id.

    Args:
        folder: where the extraction wrote them

    Attributes:
        dim: size of a frame
        n_layers: of the encoder, side by side in a frame, for the network that reads it to weigh; 1 for other features
        utterance_ids: of all rows, shard by shard

    Raises:
        FeatureError: there are no shards, they disagree, an id is doubled, or a row's size is wrong
    """

    def __init__(self, folder: Path) -> None:
        paths = _paths(folder)
        shards = [_Shard(path) for path in paths]
        for shard, path in zip(shards, paths, strict=True):
            if shard.identity != shards[0].identity:
                raise FeatureError(f"{path}: made by a different encoder than {paths[0].name}; run the extract stage")
        index = pa.concat_tables([shard.index for shard in shards])
        self.dim = _one(set(index["dim"].unique().to_pylist()), folder)
        self.n_layers: int = shards[0].identity.get("n_layers", 1)
        self.utterance_ids: list[str] = index["utterance_id"].to_pylist()
        self._rows = {each: row for row, each in enumerate(self.utterance_ids)}
        if len(self._rows) != len(self.utterance_ids):
            doubled = len(self.utterance_ids) - len(self._rows)
            raise FeatureError(f"{folder}: {doubled} utterance ids appear more than once")
        self._lengths = index["n_frames"].to_numpy()
        self._masked = index["masked"].to_numpy()
        self._starts = np.concatenate([shard.starts for shard in shards])
        self._shards = np.repeat(np.arange(len(shards)), [len(shard.starts) for shard in shards])
        self._groups = np.concatenate([shard.groups for shard in shards])
        self._files = shards
        self._folder = folder

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self._rows

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        """Return the frames of an utterance without copying: float16 ``[n_frames, dim]``.

        What is written into them stays in this process, and off the file.

        Raises:
            FeatureError: the utterance has no features, or they are not where the file says
        """
        return self._view(self._find([utterance_id])[0])

    def masked(self, utterance_ids: Sequence[str]) -> np.ndarray:
        """Return for each utterance whether it has no features: bool ``[n]``.

        Raises:
            FeatureError: an utterance has no features
        """
        found: np.ndarray = self._masked[self._find(utterance_ids)]
        return found

    def lengths(self, utterance_ids: Sequence[str]) -> np.ndarray:
        """Return the number of frames of each utterance: int64 ``[n]``.

        Raises:
            FeatureError: an utterance has no features
        """
        found: np.ndarray = self._lengths[self._find(utterance_ids)].astype(np.int64)
        return found

    def align(self, utterance_ids: Sequence[str]) -> Frames:
        """Return a copy of the sequences of these utterances, in this order.

        Raises:
            FeatureError: an utterance has no features, or they are not where the file says
        """
        rows = self._find(utterance_ids)
        offsets = np.concatenate([[0], np.cumsum(self._lengths[rows], dtype=np.int64)])
        values = np.empty((int(offsets[-1]), self.dim), np.float16)
        for index, row in enumerate(rows):
            values[offsets[index] : offsets[index + 1]] = self._view(row)
        return Frames(values, offsets, self._masked[rows])

    def _find(self, utterance_ids: Sequence[str]) -> np.ndarray:
        missing = [each for each in utterance_ids if each not in self._rows]
        if missing:
            raise FeatureError(f"{self._folder}: no features of {len(missing)} utterances, such as {missing[:3]}")
        return np.array([self._rows[each] for each in utterance_ids], dtype=np.int64)

    def _view(self, row: int) -> np.ndarray:
        data, start, length = self._files[self._shards[row]].bytes, int(self._starts[row]), int(self._lengths[row])
        size = int.from_bytes(data[start - _PREFIX : start].tobytes(), "little")
        if size != 2 * length * self.dim:
            raise FeatureError(
                f"{self._folder}: {self.utterance_ids[row]} has {size} bytes of frames; "
                f"expected {2 * length * self.dim}: the shard is damaged, run the extract stage"
            )
        self._files[self._shards[row]].check(self._groups[row])
        return np.ndarray((length, self.dim), "<f2", data, start)


class _Shard:
    """One file, mapped.

    Attributes:
        identity: what it says of its encoder
        index: for each row its id, digest, mask and lengths
        bytes: the whole file
        starts: for each row where its frames start
        groups: for each row the number of its row group
    """

    def __init__(self, path: Path) -> None:
        try:
            # Private: views can be written to, and the file never changes.
            self.bytes = np.memmap(path, np.uint8, mode="c")
            sums = _checksums(self.bytes)
            with pq.ParquetFile(path) as file:
                self._chunks = _chunks(file.metadata)
                if _digest_of(self.bytes, self._chunks.others) != sums.get("others"):
                    raise ValueError("ids or lengths differ from what was written")
                self._sums = sums.get("frames", ())
                if len(self._sums) != len(self._chunks.frames):
                    raise ValueError("the checksums differ from what was written")
                small = [name for name in file.schema_arrow.names if name != "frames"]
                table, groups, described = file.read(columns=small), file.metadata, file.schema_arrow
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FeatureError(f"{path}: not a complete feature shard: {error}; run the extract stage") from error
        self.identity = _identity(described, path)
        self.index = schema.conform(table, _INDEX, str(path))
        sizes = 2 * self.index["n_frames"].to_numpy().astype(np.int64) * self.index["dim"].to_numpy()
        if (sizes < 2).any():
            row = int(np.argmax(sizes < 2))
            raise FeatureError(f"{path}: row {row} has {sizes[row]} bytes of frames; expected one frame at least")
        self.starts = np.concatenate([np.zeros(0, np.int64), *_starts(groups, sizes, path)])
        counts = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
        self.groups = np.repeat(np.arange(len(counts)), counts)
        self._path = path
        self._checked = np.zeros(len(counts), bool)

    def check(self, group: int) -> None:
        """Compare the frames of a row group with their checksum, once.

        Raises:
            FeatureError: they are not those that were written
        """
        if self._checked[group]:
            return
        if zlib.crc32(self.bytes[self._chunks.frames[group]].data) != self._sums[group]:
            rows = np.flatnonzero(self.groups == group)
            raise FeatureError(
                f"{self._path}: the frames of rows {rows[0]} to {rows[-1]} differ from what was written: the shard "
                "is damaged, run the extract stage"
            )
        self._checked[group] = True


@dataclass(frozen=True)
class _Chunks:
    """Where a file has the frames of each row group, and the other columns of all of them."""

    frames: list[slice]
    others: list[slice]


def _chunks(file: pq.FileMetaData) -> _Chunks:
    frames: list[slice] = []
    others: list[slice] = []
    for number in range(file.num_row_groups):
        group = file.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            start = column.dictionary_page_offset or column.data_page_offset
            place = slice(start, start + column.total_compressed_size)
            (frames if column.path_in_schema == "frames" else others).append(place)
    return _Chunks(frames, others)


def _seal(sink: io.BytesIO, file: pq.FileMetaData) -> None:
    """Write the checksums of a Parquet file into it, in front of its footer."""
    data, chunks = sink.getbuffer(), _chunks(file)
    start = _footer(data)
    footer = bytes(data[start:])
    sums = {
        "footer": sha256(footer).hexdigest(),
        "others": _digest_of(data, chunks.others),
        "frames": [zlib.crc32(data[each]) for each in chunks.frames],
    }
    data.release()
    encoded = json.dumps(sums).encode()
    sink.seek(start)
    sink.write(encoded + len(encoded).to_bytes(_LENGTH, "little") + _SEAL + footer)


def _checksums(data: np.ndarray) -> dict[str, Any]:
    """Return a shard's checksums, of which the footer's has been compared.

    Raises:
        ValueError: it has none, or the footer is not the one that was written
    """
    start = _footer(data)
    end = start - len(_SEAL)
    if data[max(end, 0) : start].tobytes() != _SEAL:
        raise ValueError("it has no checksums; an earlier version or another program wrote it")
    length = int.from_bytes(data[end - _LENGTH : end].tobytes(), "little")
    sums = json.loads(data[max(end - _LENGTH - length, 0) : end - _LENGTH].tobytes())
    if not isinstance(sums, dict) or sums.get("footer") != sha256(data[start:].data).hexdigest():
        raise ValueError("the footer differs from what was written")
    return sums


def _footer(data: Any) -> int:
    """Where a Parquet file's footer starts."""
    start = len(data) - _TAIL - int.from_bytes(bytes(data[-_TAIL:-_LENGTH]), "little")
    if bytes(data[-_LENGTH:]) != b"PAR1" or start < 0:
        raise ValueError("the end of the Parquet file is missing")
    return start


def _digest_of(data: Any, places: Sequence[slice]) -> str:
    found = sha256()
    for each in places:
        found.update(data[each])
    return found.hexdigest()


_INDEX = pa.schema([each for each in schema.FEATURES if each.name != "frames"])


def _starts(file: pq.FileMetaData, sizes: np.ndarray, path: Path) -> Iterator[np.ndarray]:
    """Yield for each row group the positions of its rows' frames, counted back from the end of its one page."""
    first = 0
    for number in range(file.num_row_groups):
        group = file.row_group(number)
        column = group.column(group.num_columns - 1)
        steps = np.cumsum(sizes[first : first + group.num_rows] + _PREFIX)
        header = column.total_compressed_size - int(steps[-1])
        plain = column.path_in_schema == "frames" and column.compression == "UNCOMPRESSED"
        if not plain or column.has_dictionary_page or not 0 < header < _PREFIX * 64:
            raise FeatureError(
                f"{path}: the frames of rows {first} to {first + group.num_rows - 1} have the wrong sizes or the wrong "
                "layout; run the extract stage"
            )
        yield column.data_page_offset + header + steps - sizes[first : first + group.num_rows]
        first += group.num_rows


def _paths(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("shard-*.parquet"))
    if not paths:
        raise FeatureError(f"{folder}: no feature shards; run the extract stage")
    return paths


def _groups(rows: Sequence[Row], dim: int) -> Iterator[Sequence[Row]]:
    """Cut rows into row groups, with a maximum number of rows and, except for a single row, of bytes."""
    start = size = 0
    for end, row in enumerate(rows):
        more = 2 * dim * len(row.frames)
        if end - start == _GROUP_ROWS or (end > start and size + more > _GROUP_BYTES):
            yield rows[start:end]
            start, size = end, 0
        size += more
    if start < len(rows):
        yield rows[start:]


def _table(rows: Sequence[Row], dim: int, described: pa.Schema) -> pa.Table:
    frames = [_stored(row, dim) for row in rows]
    offsets = np.cumsum([0, *(each.nbytes for each in frames)], dtype=np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.concatenate(frames))]
    columns = {
        "utterance_id": [row.utterance_id for row in rows],
        "content_sha256": [row.content_sha256 for row in rows],
        "masked": [len(row.frames) == 0 for row in rows],
        "n_frames": [len(each) for each in frames],
        "dim": [dim] * len(rows),
        "frames": pa.Array.from_buffers(pa.large_binary(), len(rows), buffers),
    }
    return pa.table(columns, schema=described)


def _stored(row: Row, dim: int) -> np.ndarray:
    """Frames in the form of a shard, float16 ``[n_frames, dim]``; one of zeros where there are none."""
    if row.frames.shape[1:] != (dim,):
        raise FeatureError(f"{row.utterance_id}: frames of shape {row.frames.shape}; expected [n_frames, {dim}]")
    with np.errstate(over="ignore"):
        frames = row.frames.astype("<f2", order="C") if len(row.frames) else np.zeros((1, dim), "<f2")
    if np.isinf(frames).any():
        raise FeatureError(f"{row.utterance_id}: a feature is too large for float16 (65,504)")
    return frames


def _identity(described: pa.Schema, path: Path) -> dict[str, Any]:
    found = (described.metadata or {}).get(_METADATA.encode())
    if found is None:
        raise FeatureError(f"{path}: no metadata {_METADATA!r}; the extract stage writes it")
    try:
        identity = json.loads(found)
    except ValueError as error:
        raise FeatureError(f"{path}: metadata {_METADATA!r}: {error}; run the extract stage") from error
    if not isinstance(identity, dict):
        raise FeatureError(
            f"{path}: metadata {_METADATA!r}: expected a description of an encoder; run the extract stage"
        )
    return identity


def _one(values: set[int], folder: Path) -> int:
    if len(values) != 1:
        raise FeatureError(f"{folder}: the shards' frame sizes differ: {sorted(values)}")
    return values.pop()
