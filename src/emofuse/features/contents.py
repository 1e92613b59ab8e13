"""What an extraction encodes: a corpus in shards, each the unit of all work, from the utterance table."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from emofuse.core.schema import MODALITIES, SAMPLE_RATE, TERMS
from emofuse.core.sharding import shard_name, shard_of

__all__ = ["Shard", "list_shards", "terms"]


@dataclass(frozen=True)
class Shard:
    """Part of a corpus: whole dialogues, encoded as one and written as one file.

    Attributes:
        file: name of that file
        ids: of its utterances
        digests: of their contents, None where there is nothing to encode
        seconds: of speech in all of them together, as far as they are known
        source: the corpus's audio shard; or the texts or rows of values themselves, of those with a digest
    """

    file: str
    ids: list[str]
    digests: list[str | None]
    seconds: float
    source: Path | list[Any]

    @property
    def present(self) -> list[str]:
        """The ids of the utterances that have something to encode."""
        return [each for each, digest in zip(self.ids, self.digests, strict=True) if digest is not None]

    def contents(self) -> list[Any]:
        """Return what there is to encode, in the order of ``ids``: encoded audio files, texts, or rows of values."""
        if isinstance(self.source, list):
            return self.source
        if not self.present:
            return []
        table = pq.read_table(self.source)
        data = dict(zip(table["utterance_id"].to_pylist(), table["audio"].to_pylist(), strict=True))
        return [data[each]["bytes"] for each in self.present]


def list_shards(reads: str, corpus: Path, n_shards: int) -> list[Shard]:
    """Return the shards of a corpus that are not empty, in order.

    Args:
        reads: what the encoder reads; see :class:`emofuse.encoders.base.Encoder`
        corpus: the corpus's folder
        n_shards: number of shards, as the corpus was ingested

    Raises:
        FileNotFoundError: the corpus has no such published table
    """
    utterances = pl.read_parquet(corpus / "utterances.parquet")
    places = [shard_of(each, n_shards) for each in utterances["dialogue_id"]]
    parts = utterances.with_columns(shard=pl.Series(places, dtype=pl.Int64)).partition_by("shard", as_dict=True)
    table = None if reads in MODALITIES else _table(reads, corpus)
    result = []
    for (index,), part in sorted(parts.items()):
        file = shard_name(index, n_shards)
        digests, source = _contents(reads, part, corpus / "audio" / file, table)
        seconds = sum(part["n_samples"].drop_nulls().to_list()) / SAMPLE_RATE
        result.append(Shard(file, part["utterance_id"].to_list(), digests, seconds, source))
    return result


def terms(corpus: Path) -> str:
    """Return whose terms a corpus falls under, as the ingest stage wrote it down; empty if it did not."""
    metadata = pq.read_schema(corpus / "utterances.parquet").metadata or {}
    return str(metadata.get(TERMS.encode(), b"").decode())


def _contents(
    reads: str, part: pl.DataFrame, sound: Path, table: pl.DataFrame | None
) -> tuple[list[str | None], Path | list[Any]]:
    if table is not None:
        return _values(part, table)
    if reads == "audio":
        return part["audio_sha256"].to_list(), sound
    texts = part["text"].to_list()
    digests = [hashlib.sha256(text.encode()).hexdigest() if text else None for text in texts]
    return digests, [text for text in texts if text]


def _table(reads: str, corpus: Path) -> pl.DataFrame:
    path = corpus / "tables" / f"{reads.removeprefix('table:')}.parquet"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: the corpus has no such published table; put it into the corpus's folder, or choose a family of "
            "encoders that reads the sound"
        )
    return pl.read_parquet(path)


def _values(part: pl.DataFrame, table: pl.DataFrame) -> tuple[list[str | None], list[np.ndarray]]:
    rows = part.select("utterance_id").join(table, on="utterance_id", how="inner", maintain_order="left")
    values = rows.drop("utterance_id").cast(pl.Float64).fill_null(float("nan")).to_numpy()
    contents = list(np.ascontiguousarray(values))
    digests = (hashlib.sha256(row.tobytes()).hexdigest() for row in contents)
    known = dict(zip(rows["utterance_id"], digests, strict=True))
    return [known.get(each) for each in part["utterance_id"]], contents
