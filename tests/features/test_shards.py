"""Feature shards come back as they were, in any order of ids; a damaged or unfitting one is an error."""

import io
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emofuse.core import schema
from emofuse.core.sharding import shard_name, shard_of
from emofuse.features import shards
from emofuse.features.shards import FeatureError, FeatureStore, Row, as_stored, defects, metadata, write_shard

IDENTITY = {"id": "logmel", "revision": "1", "layer": [2, 4], "frame_rate": None, "labels_seen": False}
FINITE = st.floats(-60_000, 60_000, width=16)


def row(name: str, *frames: Sequence[float]) -> Row:
    return Row(name, f"content of {name}", np.array(frames, np.float32).reshape(-1, 2))


def write(folder: Path, *shards: Sequence[Row], dim: int = 2) -> list[Path]:
    paths = [folder / shard_name(index, len(shards)) for index in range(len(shards))]
    for path, rows in zip(paths, shards, strict=True):
        write_shard(path, rows, dim, IDENTITY)
    return paths


@st.composite
def ragged(draw: st.DrawFn) -> tuple[int, list[np.ndarray]]:
    """Sequences of any lengths, none among them, and their common frame size."""
    dim = draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))
    return dim, [draw(arrays.arrays(np.float32, (length, dim), elements=FINITE)) for length in lengths]


@settings(max_examples=40)
@given(ragged(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_any_sequences_come_back_in_any_order(given_: tuple[int, list[np.ndarray]], shards: int, order: Any) -> None:
    dim, sequences = given_
    rows = [Row(f"u{number}", None, frames) for number, frames in enumerate(sequences)]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), *(rows[start::shards] for start in range(shards)), dim=dim)
        store = FeatureStore(Path(folder))
        asked = order.sample(range(len(rows)), order.randint(0, len(rows)))
        frames = store.align([f"u{number}" for number in asked])
    assert (len(store), store.dim) == (len(rows), dim)
    assert frames.values.dtype == np.float16
    assert frames.offsets.dtype == np.int64
    assert frames.masked.tolist() == [len(sequences[number]) == 0 for number in asked]
    assert frames.offsets.tolist() == [0, *np.cumsum([max(1, len(sequences[number])) for number in asked])]
    for number, start, end in zip(asked, frames.offsets[:-1], frames.offsets[1:], strict=True):
        expected = sequences[number] if len(sequences[number]) else np.zeros((1, dim))
        np.testing.assert_array_equal(frames.values[start:end], expected.astype(np.float16))


@settings(max_examples=20)
@given(ragged())
def test_rows_that_no_shard_was_written_of_are_as_a_shard_gives_them_back(
    given_: tuple[int, list[np.ndarray]],
) -> None:
    dim, sequences = given_
    rows = [Row(f"u{number}", None, frames) for number, frames in enumerate(sequences)]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), rows, dim=dim)
        read = FeatureStore(Path(folder)).align([row.utterance_id for row in rows])
    made = as_stored(rows, dim)
    for name in ("values", "offsets", "masked"):
        np.testing.assert_array_equal(getattr(made, name), getattr(read, name))
        assert getattr(made, name).dtype == getattr(read, name).dtype


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    rows = [row("a", [1, 2], [3, 4]), row("b"), row("c", [0.1, np.nan])]
    for name in ("first", "second"):
        write_shard(tmp_path / name, rows, 2, dict(sorted(IDENTITY.items(), reverse=name == "second")))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_the_layout_is_the_design_s(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [row("a", [1, 2], [3, 4]), Row("b", None, np.zeros((0, 2)))])
    table = pq.read_table(path)
    assert table.schema.remove_metadata().equals(schema.FEATURES)
    assert table.to_pylist() == [
        {
            **{"utterance_id": "a", "content_sha256": "content of a", "masked": False, "n_frames": 2, "dim": 2},
            "frames": np.array([[1, 2], [3, 4]], "<f2").tobytes(),
        },
        {
            **{"utterance_id": "b", "content_sha256": None, "masked": True, "n_frames": 1, "dim": 2},
            "frames": bytes(4),
        },
    ]
    column = pq.ParquetFile(path).metadata.row_group(0).column(5)
    assert (column.compression, column.has_dictionary_page) == ("UNCOMPRESSED", False)
    assert metadata(tmp_path) == IDENTITY


def test_a_transposed_array_is_stored_row_by_row(tmp_path: Path) -> None:
    frames = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write(tmp_path, [Row("a", None, frames)])
    np.testing.assert_array_equal(FeatureStore(tmp_path).align(["a"]).values, frames)


def test_missing_values_stay_missing(tmp_path: Path) -> None:
    write(tmp_path, [row("a", [np.nan, 1])])
    frames = FeatureStore(tmp_path).align(["a"])
    np.testing.assert_array_equal(frames.values, [[np.nan, 1]])
    assert not frames.masked[0]


@pytest.mark.parametrize("value", [65_520.0, -1e9, np.inf])
def test_what_float16_cannot_hold_is_an_error(tmp_path: Path, value: float) -> None:
    write(tmp_path, [row("a", [1, 65_504])])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FeatureError, match=r"^b: a feature is too large for float16"):
        write(tmp_path, [row("a", [1, 2]), row("b", [1, value])])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("frames", [np.zeros((2, 3)), np.zeros((0, 3)), np.zeros(2), np.zeros((1, 1, 2))])
def test_frames_of_another_size_are_an_error(tmp_path: Path, frames: np.ndarray) -> None:
    with pytest.raises(FeatureError, match=r"^a: frames of shape .*; expected \[n_frames, 2\]"):
        write(tmp_path, [Row("a", None, frames)])


def test_a_missing_id_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, [row("a", [1, 2])], [row("b", [1, 2])])
    with pytest.raises(FeatureError, match=r"no features of 2 utterances, such as \['c', 'd'\]"):
        FeatureStore(tmp_path).align(["a", "c", "b", "d"])


def test_an_id_asked_for_twice_comes_twice(tmp_path: Path) -> None:
    write(tmp_path, [row("a", [1, 2]), row("b", [3, 4])])
    np.testing.assert_array_equal(FeatureStore(tmp_path).align(["b", "a", "b"]).values, [[3, 4], [1, 2], [3, 4]])


@pytest.mark.parametrize("shards", [[["a", "b", "a"]], [["a", "b"], ["c", "a"]]])
def test_a_doubled_id_is_an_error(tmp_path: Path, shards: list[list[str]]) -> None:
    write(tmp_path, *([row(name, [1, 2]) for name in names] for names in shards))
    with pytest.raises(FeatureError, match="1 utterance ids appear more than once"):
        FeatureStore(tmp_path)


def sealed(path: Path) -> None:
    """Give a file that was rewritten its checksums, so that what is wrong beside them is seen."""
    sink = io.BytesIO(path.read_bytes())
    shards._seal(sink, pq.read_metadata(path))
    path.write_bytes(sink.getvalue())


def rewritten(path: Path, **columns: list[Any]) -> None:
    table = pq.read_table(path)
    for name, values in columns.items():
        index = table.column_names.index(name)
        table = table.set_column(index, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=["utterance_id"])
    sealed(path)


def rewritten_by_others(path: Path, **options: Any) -> None:
    pq.write_table(pq.read_table(path), path, **options)
    sealed(path)


def without_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns("masked"), path)
    sealed(path)


def with_metadata(path: Path, value: bytes) -> None:
    """A shard that is sealed, and says nonsense of its encoder."""
    pq.write_table(pq.read_table(path).replace_schema_metadata({"emofuse": value}), path, compression="none")
    sealed(path)


def without_metadata(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    sealed(path)


def exchanged(path: Path, before: bytes, after: bytes) -> None:
    """Exchange some bytes of a file, the last ones of their kind."""
    whole = path.read_bytes()
    assert before in whole
    place = whole.rindex(before)
    path.write_bytes(whole[:place] + after + whole[place + len(before) :])


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:-20]),
            "the end of the Parquet file is missing",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[20:]), "ids or lengths differ from what was written"),
        (lambda path: path.write_bytes(b""), "not a complete feature shard: cannot mmap an empty file"),
        (lambda path: path.write_bytes(b"PAR1"), "not a complete feature shard"),
        (lambda path: pq.write_table(pq.read_table(path), path), "it has no checksums; an earlier version"),
        (lambda path: exchanged(path, b"logmel", b"lagmel"), "the footer differs from what was written"),
        (lambda path: exchanged(path, b'"id"', b'"id '), "the footer differs from what was written"),
        (lambda path: exchanged(path, b'"others"', b'"ethers"'), "ids or lengths differ from what was written"),
        (lambda path: exchanged(path, b'"frames"', b'"framed"'), "the checksums differ from what was written"),
        (lambda path: exchanged(path, b'{"footer"', b'["footer"'), "not a complete feature shard"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"of b", b"of c", 1)), "ids or lengths differ"),
        (lambda path: rewritten(path, frames=[bytes(8), bytes(6)]), "has .* bytes of frames; expected 8"),
        (lambda path: rewritten(path, frames=[bytes(8), bytes(600)]), "rows 0 to 1 have the wrong sizes"),
        (lambda path: rewritten(path, n_frames=[1, 1]), "has .* bytes of frames; expected 4"),
        (lambda path: rewritten(path, n_frames=[1, 2]), "has .* bytes of frames; expected 4"),
        (lambda path: rewritten(path, n_frames=[2, 0], frames=[bytes(8), b""]), "row 1 .* expected one frame at least"),
        (lambda path: rewritten(path, n_frames=[2, -1]), "row 1 has -4 bytes of frames; expected one frame"),
        (lambda path: rewritten(path, dim=[2, 1], n_frames=[2, 2]), r"frame sizes differ: \[1, 2\]"),
        (lambda path: rewritten_by_others(path, compression="snappy", use_dictionary=False), "the wrong layout"),
        (lambda path: rewritten_by_others(path, compression="none", use_dictionary=True), "the wrong layout"),
        (without_column, r"missing columns \['masked'\]"),
        (without_metadata, "no metadata 'emofuse'"),
        (lambda path: with_metadata(path, b"{'id': 1"), "metadata 'emofuse': Expecting property name"),
        (lambda path: with_metadata(path, b"\xff\xfe"), "metadata 'emofuse': "),
        (lambda path: with_metadata(path, b"[1]"), "metadata 'emofuse': expected a description of an encoder"),
    ],
)
def test_a_damaged_shard_is_an_error(tmp_path: Path, harm: Callable[[Path], Any], fault: str) -> None:
    _, path = write(tmp_path, [row("a", [1, 2])], [row("b", [1, 2], [3, 4]), row("c", [5, 6])])
    harm(path)
    with pytest.raises((FeatureError, schema.SchemaError), match=fault) as error:
        FeatureStore(tmp_path).align(["a", "b", "c"])
    assert str(error.value).startswith(str(tmp_path))


def everything(folder: Path) -> Any:
    """All that a shard can be asked for."""
    store = FeatureStore(folder)
    frames = {each: store[each].tobytes() for each in store.utterance_ids}
    return frames, store.dim, store.masked(store.utterance_ids).tolist(), metadata(folder), defects(folder)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of two row groups."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_GROUP_ROWS", 2)
        write(folder, [row("a", [1, 2], [3, 4]), row("b"), row("c", [5, 6])])
    return folder


@settings(max_examples=150)
@given(st.data())
def test_a_bit_that_was_turned_is_an_error_or_changes_nothing(sound: Path, data: st.DataObject) -> None:
    (path,) = sound.iterdir()
    whole = bytearray(path.read_bytes())
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    whole[place] ^= 1 << bit
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / path.name).write_bytes(whole)
        with suppress(FeatureError, schema.SchemaError):
            assert everything(Path(folder)) == everything(sound)


@pytest.mark.parametrize("reading", [lambda store: store["c"], lambda store: store.align(["a", "c"])])
def test_a_bit_that_was_turned_in_a_feature_is_an_error(
    sound: Path, tmp_path: Path, reading: Callable[[FeatureStore], Any]
) -> None:
    (path,) = sound.iterdir()
    whole, value = bytearray(path.read_bytes()), np.array([5, 6], "<f2").tobytes()
    assert whole.count(value) == 1
    whole[whole.index(value)] ^= 1
    (tmp_path / path.name).write_bytes(whole)
    store = FeatureStore(tmp_path)
    np.testing.assert_array_equal(store["a"], [[1, 2], [3, 4]])
    for _ in range(2):
        with pytest.raises(FeatureError, match="the frames of rows 2 to 2 differ from what was written"):
            reading(store)


def test_shards_of_different_encoders_are_an_error(tmp_path: Path) -> None:
    _, path = write(tmp_path, [row("a", [1, 2])], [row("b", [1, 2])])
    write_shard(path, [row("b", [1, 2])], 2, IDENTITY | {"revision": "2"})
    with pytest.raises(
        FeatureError, match=r"shard-00001-of-00002\.parquet: made by a different encoder than shard-00000"
    ):
        FeatureStore(tmp_path)


@pytest.mark.parametrize("opening", [FeatureStore, metadata])
def test_no_shards(tmp_path: Path, opening: Callable[[Path], Any]) -> None:
    with pytest.raises(FeatureError, match="no feature shards; run the extract stage"):
        opening(tmp_path)


def test_frames_are_mapped_and_not_copied(tmp_path: Path) -> None:
    _, path = write(tmp_path, [row("a", [1, 2])], [row("b", [3, 4], [5, 6])])
    store, data = FeatureStore(tmp_path), path.read_bytes()
    assert store["b"].dtype == np.float16
    np.testing.assert_array_equal(store["b"], [[3, 4], [5, 6]])
    assert np.shares_memory(store["b"], store["b"])
    store["b"][1] = np.nan
    np.testing.assert_array_equal(store["b"], [[3, 4], [np.nan, np.nan]])
    assert path.read_bytes() == data
    np.testing.assert_array_equal(FeatureStore(tmp_path)["b"], [[3, 4], [5, 6]])


def test_ids_are_known_and_strangers_refused(tmp_path: Path) -> None:
    write(tmp_path, [row("a", [1, 2]), row("b")], [row("c")])
    store = FeatureStore(tmp_path)
    assert store.utterance_ids == ["a", "b", "c"]
    assert "c" in store
    assert "d" not in store
    assert store.masked(["c", "a"]).tolist() == [True, False]
    for ask in (lambda: store["d"], lambda: store.masked(["a", "d"])):
        with pytest.raises(FeatureError, match=r"no features of 1 utterances, such as \['d'\]"):
            ask()


@pytest.mark.parametrize("limit", ["_GROUP_ROWS", "_GROUP_BYTES"])
def test_row_groups_are_cut_by_rows_and_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(shards, limit, {"_GROUP_ROWS": 3, "_GROUP_BYTES": 40}[limit])
    lengths = [1, 4, 30, 1, 1, 0, 9, 1, 1, 1, 1]
    rows = [Row(f"u{number}", None, np.full((each, 2), number)) for number, each in enumerate(lengths)]
    (path,) = write(tmp_path, rows)
    groups = [pq.read_metadata(path).row_group(each).num_rows for each in range(pq.read_metadata(path).num_row_groups)]
    assert groups == {"_GROUP_ROWS": [3, 3, 3, 2], "_GROUP_BYTES": [2, 1, 3, 2, 3]}[limit]
    store = FeatureStore(tmp_path)
    for number, each in enumerate(lengths):
        expected = np.full((each, 2), number) if each else np.zeros((1, 2))
        np.testing.assert_array_equal(store[f"u{number}"], expected)


def test_a_row_group_of_many_megabytes_is_one_page(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [Row(f"u{number}", None, generator.random((500, 768))) for number in range(20)]
    write(tmp_path, rows, dim=768)
    store = FeatureStore(tmp_path)
    for each in rows:
        np.testing.assert_array_equal(store[each.utterance_id], each.frames.astype(np.float16))


READERS = {
    "polars.read_parquet": lambda files, _: polars.read_parquet(files).to_dicts(),
    "pandas.read_parquet": lambda files, _: pandas.read_parquet(Path(files).parent).to_dict("records"),
    "datasets.load_dataset": lambda files, cache: list(
        datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_others_open_shards_with_one_line(
    tmp_path: Path, reader: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)  # Otherwise it counts its users over the network.
    write(tmp_path / "shards", [row("a", [1, 2], [3, 4])], [row("b", [5, 6])])
    rows = READERS[reader](f"{tmp_path}/shards/*.parquet", str(tmp_path / "cache"))
    frames = {
        each["utterance_id"]: np.frombuffer(each["frames"], "<f2").reshape(each["n_frames"], each["dim"]).tolist()
        for each in rows
    }
    assert frames == {"a": [[1, 2], [3, 4]], "b": [[5, 6]]}
    assert reader in (root / "docs/how-to/team.md").read_text(encoding="utf-8")


@given(st.text(), st.integers(1, 64))
def test_a_dialogue_has_one_fixed_shard(dialogue: str, shards: int) -> None:
    assert 0 <= shard_of(dialogue, shards) < shards
    assert shard_of(dialogue, shards) == shard_of(dialogue, shards)


def test_shards_are_fixed_for_ever_and_even() -> None:
    assert [shard_of(each, 8) for each in ("train_dia0", "dev_dia0", "demo_d000")] == [0, 5, 3]
    counts = np.bincount([shard_of(f"d{number}", 8) for number in range(4_000)], minlength=8)
    assert (np.abs(counts - 500) < 100).all()
    assert shard_name(3, 16) == "shard-00003-of-00016.parquet"
