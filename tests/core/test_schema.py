"""A table that does not keep its schema's promise is refused, with the source and the column in the message."""

import pyarrow as pa
import pytest

from emofuse.core import schema
from emofuse.core.schema import SchemaError, conform

SMALL = pa.schema([pa.field("name", pa.string(), nullable=False), pa.field("count", pa.int32())])


def test_columns_are_cast_and_put_in_order_and_metadata_stays() -> None:
    table = pa.table({"count": pa.array([1, None], pa.int64()), "name": ["a", "b"]}, metadata={"key": "value"})
    result = conform(table, SMALL, "here")
    assert result.schema.remove_metadata().equals(SMALL)
    assert result.to_pydict() == {"name": ["a", "b"], "count": [1, None]}
    assert result.schema.metadata == {b"key": b"value"}


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (pa.table({"name": ["a"]}), "missing columns ['count']"),
        (pa.table({"name": ["a"], "count": [1], "more": [1]}), "unknown columns ['more']"),
        (pa.table({"name": ["a", None], "count": [1, 2]}), "name"),
        (pa.table({"name": ["a"], "count": ["many"]}), "many"),
        (pa.table({"name": ["a"], "count": [2**31]}), "2147483648"),
        (pa.table({"name": ["a"], "count": [[1]]}), "list"),
        (pa.table([pa.array(["a"]), pa.array([1]), pa.array([2])], names=["name", "count", "count"]), "count"),
    ],
)
def test_another_table_is_refused(table: pa.Table, fault: str) -> None:
    with pytest.raises(SchemaError, match=r"^data/x\.parquet: ") as error:
        conform(table, SMALL, "data/x.parquet")
    assert fault in str(error.value)


def test_declared_columns_are_those_of_the_design() -> None:
    assert schema.UTTERANCES.names == [
        *("utterance_id", "dialogue_id", "turn", "speaker", "session", "text", "start_s", "end_s"),
        *("label", "sentiment", "split", "audio_sha256", "n_samples", "defects"),
    ]
    assert schema.FEATURES.field("frames").type == pa.large_binary()
    assert not {"target", "label"} & set(schema.PREDICTIONS.names)
