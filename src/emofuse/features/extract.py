"""Extraction: a corpus through a frozen encoder, shard by shard, each shard once."""

import hashlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from emofuse import audio, encoders, schema
from emofuse.encoders import Encoder, EncoderError
from emofuse.features.shards import LAYOUT, Row, write_shard
from emofuse.files import digest
from emofuse.params import STRICT
from emofuse.process import quiet
from emofuse.sharding import shard_name, shard_of
from emofuse.store import Store, link

__all__ = ["FeatureConfig", "extract"]


@dataclass(frozen=True, config=STRICT)
class FeatureConfig:
    """Features of ``params.yaml``: one modality of one corpus.

    Attributes:
        corpus: key of the corpus
        modality: what the features stand for
        family: which family of :mod:`emofuse.encoders`
        options: the family's own options
    """

    corpus: str
    modality: Literal["audio", "text"]
    family: Literal[encoders.FAMILIES]  # type: ignore[valid-type]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config={"arbitrary_types_allowed": True})
class _Shard:
    """What one shard encodes: ids, digests of the contents (None: nothing to encode), and how to load the contents."""

    index: int
    ids: list[str]
    digests: list[str | None]
    load: Callable[[], list[Any]]


def extract(name: str, config: FeatureConfig, shards: int, corpus: Path, out: Path, store: Store) -> dict[str, int]:
    """Encode what the store does not have yet and link all shards into ``out``.

    Args:
        name: key in the parameters, for messages
        config: what to encode, and with what
        shards: number of shards, as the corpus was ingested
        corpus: the corpus's folder
        out: folder for the shards
        store: where finished shards are kept

    Returns:
        numbers of utterances: ``encoded``, ``reused`` and ``masked``

    Raises:
        EncoderError: the encoder cannot be loaded, or is of the other modality
        FeatureError: what it yields does not fit a shard
    """
    encoder = encoders.load(config.family, config.options, f"features.{name}.options")
    if encoder.modality != config.modality:
        raise EncoderError(f"features.{name}.modality: {config.modality!r}; the encoder's is {encoder.modality!r}")
    metadata = {**encoder.identity, "sample_rate": schema.SAMPLE_RATE, "schema_version": schema.SCHEMA_VERSION}
    code = digest(inspect.getsource(sys.modules[type(encoder).__module__]))
    out.mkdir(parents=True, exist_ok=True)
    counts = {"encoded": 0, "reused": 0, "masked": 0}
    plan = _plan(encoder.reads, corpus, shards)
    for stale in set(out.glob("shard-*.parquet")) - {out / shard_name(each.index, shards) for each in plan}:
        stale.unlink()
    with tqdm(total=sum(len(each.ids) for each in plan), desc=name, unit="utterance", disable=quiet()) as bar:
        for shard in plan:
            key = digest([LAYOUT, metadata, code, encoder.dim, shards, shard.index, shard.ids, shard.digests])
            file = shard_name(shard.index, shards)

            def make(folder: Path, shard: _Shard = shard, file: str = file) -> None:
                write_shard(folder / file, _encode(encoder, shard), encoder.dim, metadata)

            entry = store.ensure("features", key, make)
            link(entry, out)
            counts["reused" if entry.reused else "encoded"] += len(shard.ids)
            counts["masked"] += sum(pq.read_table(out / file, columns=["masked"])["masked"].to_pylist())
            bar.update(len(shard.ids))
    return counts


def _encode(encoder: Encoder, shard: _Shard) -> list[Row]:
    present = [index for index, each in enumerate(shard.digests) if each is not None]
    frames: dict[int, np.ndarray] = dict(zip(present, encoder.encode(shard.load()), strict=True))
    empty = np.zeros((0, encoder.dim), np.float32)
    return [
        Row(each, content, frames.get(index, empty))
        for index, (each, content) in enumerate(zip(shard.ids, shard.digests, strict=True))
    ]


def _plan(reads: str, corpus: Path, shards: int) -> list[_Shard]:
    utterances = pl.read_parquet(corpus / "utterances.parquet")
    utterances = utterances.with_columns(
        shard=pl.col("dialogue_id").map_elements(lambda each: shard_of(each, shards), return_dtype=pl.Int64)
    )
    parts = {key[0]: part for key, part in utterances.group_by("shard", maintain_order=True)}
    if reads == "audio":
        return [_audio_shard(index, parts[index], corpus, shards) for index in sorted(parts)]
    if reads == "text":
        return [_text_shard(index, parts[index]) for index in sorted(parts)]
    path = corpus / "tables" / f"{reads.removeprefix('table:')}.parquet"
    if not path.exists():
        raise FileNotFoundError(f"{path}: the corpus has no such published table")
    table = pl.read_parquet(path)
    return [_table_shard(index, parts[index], table) for index in sorted(parts)]


def _audio_shard(index: int, part: pl.DataFrame, corpus: Path, shards: int) -> _Shard:
    path = corpus / "audio" / shard_name(index, shards)
    present = part.filter(pl.col("audio_sha256").is_not_null())["utterance_id"].to_list()

    def load() -> list[np.ndarray]:
        if not present:
            return []
        table = pq.read_table(path)
        data = dict(zip(table["utterance_id"].to_pylist(), table["audio"].to_pylist(), strict=True))
        return [audio.decode(data[each]["bytes"]) for each in present]

    return _Shard(index, part["utterance_id"].to_list(), part["audio_sha256"].to_list(), load)


def _text_shard(index: int, part: pl.DataFrame) -> _Shard:
    texts = part["text"].to_list()
    digests = [hashlib.sha256(text.encode()).hexdigest() if text else None for text in texts]
    return _Shard(index, part["utterance_id"].to_list(), digests, lambda: [text for text in texts if text])


def _table_shard(index: int, part: pl.DataFrame, table: pl.DataFrame) -> _Shard:
    ids = part["utterance_id"].to_list()
    rows = part.select("utterance_id").join(table, on="utterance_id", how="inner", maintain_order="left")
    values = rows.drop("utterance_id").cast(pl.Float64).fill_null(float("nan")).to_numpy()
    contents: Sequence[np.ndarray] = list(np.ascontiguousarray(values))
    digests = (hashlib.sha256(row.tobytes()).hexdigest() for row in contents)
    known = dict(zip(rows["utterance_id"], digests, strict=True))
    return _Shard(index, ids, [known.get(each) for each in ids], lambda: list(contents))
