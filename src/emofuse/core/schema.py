"""The Arrow schemas of every table that a stage writes, the one place where columns are declared.

And the names that all parts share: splits and modalities.
"""

from typing import Literal

import pyarrow as pa

__all__ = [
    "AUDIO",
    "AUDIO_STRUCT",
    "FEATURES",
    "IGNORE",
    "MODALITIES",
    "PREDICTIONS",
    "SAMPLE_RATE",
    "SCHEMA_VERSION",
    "SPLITS",
    "SPLIT_SOURCE",
    "TERMS",
    "UTTERANCES",
    "SchemaError",
    "Split",
    "conform",
]

SCHEMA_VERSION = 1
"""Raised when a column changes meaning; part of every work-store key, so older entries are never reused."""

SAMPLE_RATE = 16_000
"""Hz of all stored audio, which is mono."""

MODALITIES = ("audio", "text")
"""What a turn consists of, in the order of every pair of encoders."""

Split = Literal["train", "dev", "test"]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
"""In the order of their numbers wherever a split is a number."""

IGNORE = -1
"""Target of an utterance whose label is not given: unlabelled, outside the label map, or of the test split."""

TERMS = "terms"
"""Metadata key of the utterance table: whose terms the corpus, and all that is made of it, falls under."""

SPLIT_SOURCE = "split_source"
"""Metadata key of the utterance table: who made the column ``split`` and how, in words; empty where there is none."""

UTTERANCES = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("dialogue_id", pa.string(), nullable=False),
        pa.field("turn", pa.int32(), nullable=False),
        pa.field("speaker", pa.string()),
        pa.field("session", pa.string()),
        pa.field("text", pa.string()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("label", pa.string()),
        pa.field("sentiment", pa.float64()),
        pa.field("split", pa.string()),
        pa.field("audio_sha256", pa.string()),
        pa.field("n_samples", pa.int64()),
        pa.field("defects", pa.list_(pa.string()), nullable=False),
    ]
)
"""One row an utterance, dialogue by dialogue, in the order of the turns."""

AUDIO_STRUCT = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""The audio struct of Hugging Face datasets: an encoded file (here FLAC) and its name."""

AUDIO = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("audio", AUDIO_STRUCT, nullable=False),
    ]
)

FEATURES = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string()),
        pa.field("masked", pa.bool_(), nullable=False),
        pa.field("n_frames", pa.int32(), nullable=False),
        pa.field("dim", pa.int32(), nullable=False),
        pa.field("frames", pa.large_binary(), nullable=False),
    ]
)
"""``frames`` is little-endian float16, row-major ``[n_frames, dim]``; a masked row is one zero frame, for nothing."""

PREDICTIONS = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("seed", pa.int32(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("probabilities", pa.list_(pa.float32()), nullable=False),
    ]
)
"""Probabilities of one run; the metadata key ``classes`` holds the class order as a JSON list. No targets."""


class SchemaError(ValueError):
    """A table does not have the columns that its schema promises."""


def conform(table: pa.Table, schema: pa.Schema, source: str) -> pa.Table:
    """Cast a table to a schema, in the schema's column order, keeping the table's own metadata.

    Args:
        table: any table with at least the schema's columns of castable types
        schema: one of this module's schemas
        source: the file or step that the table came from, for the message

    Raises:
        SchemaError: a column is missing, unknown, of another type, or null where that is not allowed
    """
    missing = [name for name in schema.names if name not in table.column_names]
    unknown = [name for name in table.column_names if name not in schema.names]
    if missing or unknown:
        raise SchemaError(f"{source}: missing columns {missing}, unknown columns {unknown}; expected {schema.names}")
    try:
        cast = table.select(schema.names).cast(schema.with_metadata(table.schema.metadata))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, ValueError) as error:
        raise SchemaError(f"{source}: {error}") from error
    for field in schema:
        if not field.nullable and cast.column(field.name).null_count:
            raise SchemaError(f"{source}: column {field.name!r} has nulls; none are allowed")
    return cast
