import collections
import contextlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emofuse.core.params import ParamsError, validate
from emofuse.corpora import tables
from emofuse.corpora.base import CorpusError
from emofuse.corpora.pickles import load
from emofuse.corpora.tables import TableConfig, outline, read_table

PUBLISHED = Path(__file__).parents[3] / "shared" / "data"
PROTOCOLS = (0, 1, 2, 3, 4, 5)
IDS = ["a_0", "a_1", "b_0"]
VALUES = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])

needs_published = pytest.mark.skipif(not PUBLISHED.exists(), reason="the published files are not here")


def store(folder: Path, value: Any, protocol: int = 4, name: str = "table.pkl") -> str:
    (folder / name).write_bytes(pickle.dumps(value, protocol))
    return name


def table(folder: Path, value: Any, **options: Any) -> pl.DataFrame:
    return read_table(folder, TableConfig(path=store(folder, value), **options))


def matrix(values: pl.DataFrame) -> np.ndarray:
    return values.drop("utterance_id").to_numpy()


def check(values: pl.DataFrame) -> None:
    assert values["utterance_id"].to_list() == IDS
    assert set(values.drop("utterance_id").dtypes) == {pl.Float64}
    np.testing.assert_array_equal(matrix(values), VALUES)


# Forms


@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.parquet"])
def test_a_row_an_utterance(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame({"clip": IDS, "x": VALUES[:, 0], "note": ["?", "?", "?"], "y": VALUES[:, 1]})
    path = tmp_path / name
    if name == "table.parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="," if name == "table.csv" else "\t")
    values = read_table(tmp_path, TableConfig(path=name, key="clip", columns=("x", "y")))
    check(values)
    assert values.columns == ["utterance_id", "x", "y"]
    with pytest.raises(CorpusError, match=r"row 1: note is '\?', no finite number; name the columns"):
        read_table(tmp_path, TableConfig(path=name, key="clip"))
    with pytest.raises(CorpusError, match=r"no columns \['utterance_id', 'z'\]"):
        read_table(tmp_path, TableConfig(path=name, columns=("z",)))


def test_missing_values_are_null(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("utterance_id,x\na,1\nb,\nc,nan\n")
    assert read_table(tmp_path, TableConfig(path="t.csv"))["x"].to_list() == [1, None, None]
    values = table(tmp_path, {"a": np.array([np.nan, 1.0])})
    assert values.row(0) == ("a", None, 1.0)


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "pair.npz", ids=np.array(IDS), values=VALUES)
    check(read_table(tmp_path, TableConfig(path="pair.npz", key="ids", values="values")))
    np.savez(tmp_path / "each.npz", **dict(zip(IDS, VALUES, strict=True)))
    check(read_table(tmp_path, TableConfig(path="each.npz")))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "kind", [np.array, list, tuple, np.float32, lambda row: [np.float64(x) for x in row], np.asfortranarray]
)
def test_pickled_mapping_of_ids(tmp_path: Path, protocol: int, kind: Any) -> None:
    for mapping in (dict, collections.OrderedDict):
        name = store(tmp_path, mapping((key, kind(row)) for key, row in zip(IDS, VALUES, strict=True)), protocol)
        check(read_table(tmp_path, TableConfig(path=name)))


def test_pickled_parts(tmp_path: Path) -> None:
    check(table(tmp_path, {"id": IDS, "audio": VALUES}, key="id", values="audio"))
    check(table(tmp_path, (VALUES, np.array(IDS, dtype=object), 3), key=1, values=0))
    by_dialogue = [{"a": IDS[:2], "b": IDS[2:]}, {"b": VALUES[2:], "a": list(VALUES[:2])}]
    check(table(tmp_path, by_dialogue, key=0, values=1))
    split = {"train": {"id": IDS[:2], "text": VALUES[:2]}, "test": {"id": IDS[2:], "text": VALUES[2:]}}
    check(table(tmp_path, split, key="id", values="text", sections=("train", "test")))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.array([["für", ""], ["b", "c"]]),
        np.array([b"x", b"yz"]),
        np.array([None, ["a"], np.ones(2)], dtype=object),
        np.zeros((0, 3), dtype=np.float16),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.array(2.5),
    ],
)
def test_arrays_come_back_as_they_were(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    found = np.asarray(load(tmp_path / store(tmp_path, array, protocol)))
    # numpy turns swapped bytes round when it unpickles, too.
    assert (found.dtype.newbyteorder("="), found.shape) == (array.dtype.newbyteorder("="), array.shape)
    assert all(np.array_equal(a, b) for a, b in zip(found.flat, array.flat, strict=True))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_containers_come_back_as_they_were(tmp_path: Path, protocol: int) -> None:
    value = {"set": {1, 2}, "frozen": frozenset("ab"), "none": None, 3: (True, 2.5, b"\xff", 1 << 70), "text": "für"}
    assert load(tmp_path / store(tmp_path, value, protocol)) == value
    default = collections.defaultdict(list, {"a": [1]})
    assert load(tmp_path / store(tmp_path, default, protocol)) == {"a": [1]}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("strings", ["str", object])
def test_pandas_frames(tmp_path: Path, protocol: int, strings: Any) -> None:
    pandas = pytest.importorskip("pandas")
    ids = pandas.Series(IDS, dtype=strings)
    frame = pandas.DataFrame({"utterance_id": ids, "x": VALUES[:, 0], "n": [1, 2, 3], "y": VALUES[:, 1]})
    name = store(tmp_path, frame, protocol)
    check(read_table(tmp_path, TableConfig(path=name, columns=("x", "y"))))
    name = store(tmp_path, frame.set_index("utterance_id")[["x", "y"]], protocol)
    check(read_table(tmp_path, TableConfig(path=name)))
    assert "frame of ['utterance_id', 'x', 'y']" in outline(load(tmp_path / name))


def test_frames_of_pandas_before_1_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What such a version writes; it cannot be installed beside today's."""
    pandas = pytest.importorskip("pandas")

    class Manager:
        def __getstate__(self) -> tuple[Any, ...]:
            axes = [pandas.Index(["x", "utterance_id"], dtype=object), pandas.RangeIndex(2)]
            values = (np.array([[2.0, 3.0]]), np.array([["a", "b"]], dtype=object))
            blocks = [{"values": each, "mgr_locs": slice(at, at + 1, 1)} for at, each in enumerate(values)]
            return axes, [], [], {"0.14.1": {"axes": axes, "blocks": blocks}}

    class Table:
        def __getstate__(self) -> dict[str, Any]:
            return {"_data": Manager(), "_typ": "dataframe", "_metadata": []}

    for each, module, name in (
        (Manager, "pandas.core.internals.managers", "BlockManager"),
        (Table, "pandas.core.frame", "DataFrame"),
    ):
        each.__module__, each.__name__, each.__qualname__ = module, name, name
        monkeypatch.setattr(f"{module}.{name}", each)
    values = table(tmp_path, Table())
    assert values.rows() == [("a", 2.0), ("b", 3.0)]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_torch_tensors(tmp_path: Path, protocol: int, dtype: torch.dtype) -> None:
    tensors = {key: torch.tensor(row).to(dtype) for key, row in zip(IDS, VALUES, strict=True)}
    check(table(tmp_path, tensors))
    torch.save(tensors, tmp_path / "tensors.pt")
    check(read_table(tmp_path, TableConfig(path="tensors.pt")))
    torch.save({"ids": IDS, "values": torch.tensor(VALUES)}, tmp_path / "named.pkl")
    check(read_table(tmp_path, TableConfig(path="named.pkl", key="ids", values="values")))
    view = load(tmp_path / store(tmp_path, torch.arange(6).reshape(2, 3).T[1:], protocol))
    np.testing.assert_array_equal(view, [[1, 4], [2, 5]])


# Frames, ids


def test_frames_are_pooled_without_their_padding(tmp_path: Path) -> None:
    frames = {
        "padded": np.array([[0, 0], [1, 2], [0, 0], [5, 4], [0, 0.0]]),
        "one": np.array([[7.0, 8.0]]),
        "padding": np.zeros((3, 2)),
    }
    with pytest.raises(
        CorpusError, match="padded: 5 frames of 2 values; a table has one row an utterance, so set `pool`"
    ):
        table(tmp_path, frames)
    assert table(tmp_path, frames, pool="mean").rows() == [("padded", 2.0, 2.0), ("one", 7.0, 8.0)]
    spread = table(tmp_path, {"a": frames["padded"]}, pool="mean_sd").row(0)[1:]
    assert spread == pytest.approx((2.0, 2.0, np.std([1, 0, 5]), np.std([2, 0, 4])))


def test_ids_are_renamed_whole(tmp_path: Path) -> None:
    values = {"dia0_utt1.wav": 1.0, "x$_$2": 2.0}
    rename = {r"dia(\d+)_utt(\d+)\.wav": r"test_dia\1_utt\2", r"(.+)\$_\$(\d+)": r"\1_\2"}
    assert table(tmp_path, values, rename=rename)["utterance_id"].to_list() == ["test_dia0_utt1", "x_2"]
    with pytest.raises(CorpusError, match=r"the id 'x\$_\$2' matches none of the patterns"):
        table(tmp_path, values, rename={r"dia(\d+)_utt(\d+)\.wav": "a"})
    with pytest.raises(CorpusError, match=r"2 utterance ids occur more than once|1 utterance ids occur more than once"):
        table(tmp_path, values, rename={".*": "same"})
    with pytest.raises(ParamsError, match="not a regular expression"):
        validate({"path": "x", "rename": {"(": "a"}}, TableConfig, "corpora.x.tables.y")


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (VALUES, {}, "by position one dropped utterance would shift all others.*array \\[3, 2\\]"),
        ({0: VALUES, 1: VALUES}, {}, "nothing in it names an utterance"),
        ({}, {}, "nothing in it names an utterance"),
        (({0: [0, 1]}, {0: VALUES[:2]}), {"key": 0, "values": 1}, "row 1: the id is 0, a position"),
        ((IDS, VALUES[:2]), {"key": 0, "values": 1}, "3 ids in 0, 2 rows in 1"),
        (({"a": IDS}, {"a": VALUES[:2]}), {"key": 0, "values": 1}, "dialogue 'a' has 3 ids and 2 rows"),
        (({"a": IDS}, {"b": VALUES}), {"key": 0, "values": 1}, "expected the same dialogues"),
        (({"a": IDS}, {"a": 5}), {"key": 0, "values": 1}, "int where a list or an array of rows was expected"),
        ((IDS, VALUES), {"key": 0, "values": 7}, "no part 7 in it; it is a tuple of 2"),
        ({"ids": IDS}, {"key": "ids", "values": "x"}, "no part 'x' in it"),
        ({"a": [1.0], "b": [1.0, 2.0]}, {}, "b has 2 values; expected 1, as a has"),
        ({"a": ["x"]}, {}, "a: values are a list of 1"),
        ({"a": [np.inf]}, {}, "a: a value is infinite"),
        ({"a": np.ones((2, 2, 2))}, {"pool": "mean"}, "values of the shape \\[2, 2, 2\\]"),
        ({"a": [1.0]}, {"columns": ("x",)}, "have no names, so `columns` cannot choose"),
        ({" ": [1.0]}, {}, "row 1: the id is ' '"),
        ([["a", "a"], VALUES[:2]], {"key": 0, "values": 1}, r"1 utterance ids occur more than once, such as \['a'\]"),
    ],
)
def test_what_cannot_be_joined_is_refused(tmp_path: Path, value: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        table(tmp_path, value, **options)
    assert str(tmp_path / "table.pkl") in str(error.value)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    for name in ("t.csv", "t.parquet", "t.npz", "t.pkl", "t.pt"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(CorpusError, match=f"{name}: (not a readable|not a table|empty)"):
            read_table(tmp_path, TableConfig(path=name))
    (tmp_path / "t.xlsx").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"unknown ending '.xlsx'"):
        read_table(tmp_path, TableConfig(path="t.xlsx"))
    with pytest.raises(CorpusError, match="not found; expected a published table"):
        read_table(tmp_path, TableConfig(path="absent.csv"))
    inner = tmp_path / "corpus"
    inner.mkdir()
    with pytest.raises(CorpusError, match="outside the corpus's folder"):
        read_table(inner, TableConfig(path="../t.csv"))


# Hostile pickles


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def hostile(mark: Path) -> dict[str, Any]:
    """Pickles that make the file ``mark`` when they run."""
    touch = Call(os.system, f"touch {mark}")
    held = np.empty(1, dtype=object)
    held[0] = touch
    return {
        "plain": touch,
        "nested": {"a": [1, {"b": (touch,)}]},
        "as a key's value of a good table": {"a": np.ones(2), "b": touch},
        "in an object array": held,
        "eval": Call(eval, f"open({str(mark)!r}, 'w')"),
        "open": Call(open, str(mark), "w"),
        "subprocess": Call(subprocess.check_output, ["touch", str(mark)]),
        "numpy's tester": Call(np.testing.measure, f"open({str(mark)!r}, 'w')"),
        "numpy's loader": Call(np.load, str(mark), None, True),
        "numpy writing": Call(np.ndarray.tofile, np.ones(1), str(mark)),
        "getattr": Call(getattr, "x", "upper"),
        "import": Call(__import__, "os"),
    }


HOSTILE = sorted(hostile(Path("x")))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_pickle_does_not_run(tmp_path: Path, case: str, protocol: int) -> None:
    mark = tmp_path / "ran"
    name = store(tmp_path, hostile(mark)[case], protocol)
    with pytest.raises(CorpusError, match=r"refused: it names [\w.]+\.\w+; only containers"):
        load(tmp_path / name)
    with pytest.raises(CorpusError, match="refused"):
        read_table(tmp_path, TableConfig(path=name))
    assert not mark.exists()


def test_the_refused_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=rf"it names {os.system.__module__}\.system;"):
        load(tmp_path / store(tmp_path, Call(os.system, "true")))


def test_the_hostile_pickles_are_hostile(tmp_path: Path) -> None:
    """With pickle itself they run, so the tests above test something."""
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(hostile(mark)["in an object array"]))  # noqa: S301
    assert mark.exists()


def test_pandas_gadgets_are_refused(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    mark = tmp_path / "ran"
    for gadget in (
        Call(pandas.eval, f"@__import__('os').system('touch {mark}')"),
        Call(pandas.read_pickle, str(mark)),
        Call(pandas.io.common.get_handle, str(mark), "w"),
    ):
        with pytest.raises(CorpusError, match=r"refused: it names pandas\."):
            load(tmp_path / store(tmp_path, {"frame": gadget}))
    frame = pandas.DataFrame({"utterance_id": np.array(["a"], object), "x": np.array([None], object)})
    frame.loc[0, "x"] = Call(os.system, f"touch {mark}")
    with pytest.raises(CorpusError, match=r"refused: it names posix\.system"):
        load(tmp_path / store(tmp_path, frame.astype(object)))
    assert not mark.exists()


def test_hostile_arrays_and_tensor_files(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    np.savez(tmp_path / "t.npz", a=hostile(mark)["in an object array"])
    with pytest.raises(CorpusError, match=r"allow_pickle=False; save arrays of objects as arrays of text"):
        read_table(tmp_path, TableConfig(path="t.npz"))
    torch.save({"a": Call(os.system, f"touch {mark}")}, tmp_path / "t.pt")
    with pytest.raises(CorpusError, match=r"t.pt: refused: it names posix\.system"):
        read_table(tmp_path, TableConfig(path="t.pt"))
    # A tensor inside a plain pickle holds a file of torch.save.
    inner = Call(torch.storage._load_from_bytes, (tmp_path / "t.pt").read_bytes())
    with pytest.raises(CorpusError, match=r"table.pkl: refused: it names posix\.system"):
        load(tmp_path / store(tmp_path, inner))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        # Forged parts: each would make numpy read memory that is not the array's.
        (b"(K\x01K\x09\x85" + b"DTYPE(f8)" + b"\x89C\x04aaaat", "array of 9 values of float64 in 4 bytes"),
        (b"(K\x01K\x01\x85" + b"DTYPE(O8)" + b"\x89C\x08aaaaaaaat", "array of 1 objects without as many"),
        (b"(K\x01K\x02\x85" + b"DTYPE(O8)" + b"\x89]K\x01at", "array of 2 objects without as many"),
        (b"(K\x01J\xff\xff\xff\xff\x85" + b"DTYPE(f8)" + b"\x89C\x00t", "array of the shape"),
        (b"(K\x01K\x01\x85" + b"DTYPE(V8)" + b"\x89C\x08aaaaaaaat", "array of type 'V8'"),
        (b"(K\x01K\x01\x85N\x89C\x08aaaaaaaat", "an array without a type"),
    ],
)
def test_forged_arrays_are_refused(tmp_path: Path, body: bytes, message: str) -> None:
    for code in (b"f8", b"O8", b"V8"):
        dtype = (
            b"cnumpy\ndtype\nX\x02\x00\x00\x00" + code + b"\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNK\x08K\x08K\x00tb"
        )
        body = body.replace(b"DTYPE(" + code + b")", dtype)
    head = b"\x80\x04cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    (tmp_path / "t.pkl").write_bytes(head + body + b"b.")
    with pytest.raises(CorpusError, match=message):
        load(tmp_path / "t.pkl")


@given(
    st.sampled_from([-1, 0, 1, 3, 2**40, 2**62]),
    st.sampled_from([-5, 0, 1, 3, 2**62]),
    st.lists(st.none() | st.binary(max_size=40), max_size=4),
)
def test_forged_arrow_columns_are_errors(
    tmp_path_factory: pytest.TempPathFactory, length: int, offset: int, buffers: list[bytes | None]
) -> None:
    """With pyarrow's own function such parts end the process."""
    pyarrow = pytest.importorskip("pyarrow")
    parts = (pyarrow.large_string(), length, 0, offset, [each and Call(pyarrow.py_buffer, each) for each in buffers])
    forged = Call(pyarrow.lib._restore_array, (*parts, [], None))
    path = tmp_path_factory.getbasetemp() / "arrow.pkl"
    path.write_bytes(pickle.dumps(forged, 4))
    with contextlib.suppress(CorpusError):
        assert len(load(path)) == length


def test_columns_of_text_with_holes(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": pandas.array(["für", None, "", "b"], dtype="str")})
    found = load(tmp_path / store(tmp_path, frame)).columns()["text"]
    assert list(found) == ["für", None, "", "b"]
    assert list(load(tmp_path / store(tmp_path, frame[1:])).columns()["text"]) == [None, "", "b"]


def test_a_pickle_cannot_change_the_reader(tmp_path: Path) -> None:
    for name in (b"cnumpy\ndtype\n", b"cpandas\nDataFrame\n", b"c__builtin__\nset\n"):
        for state in (b"}X\x05\x00\x00\x00_makeNs", b"N}X\x0c\x00\x00\x00__setstate__Ns\x86"):
            (tmp_path / "t.pkl").write_bytes(b"\x80\x02" + name + state + b"b.")
            with pytest.raises(CorpusError, match="not a readable pickle"):
                load(tmp_path / "t.pkl")
    check(table(tmp_path, dict(zip(IDS, VALUES, strict=True))))


@given(st.binary(max_size=60), st.integers(0, 200), st.sampled_from([0, 2, 4]))
def test_damaged_pickles_are_errors(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, kind: int) -> None:
    whole = pickle.dumps({"a": np.ones(3), "b": [1, "x", {2.5}]}, kind)
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    with contextlib.suppress(CorpusError):
        load(path)


def test_reading_needs_no_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    name = store(tmp_path, pandas.DataFrame({"utterance_id": ["a"], "x": [1.0]}))
    code = f"""
import sys
sys.modules["pandas"] = None
from pathlib import Path
from emofuse.corpora.tables import TableConfig, read_table
print(read_table(Path({str(tmp_path)!r}), TableConfig(path={name!r})).rows())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[('a', 1.0)]\n"


# Pickles without end


def fans_out(levels: int, width: int = 10) -> Any:
    tree: Any = [1.0] * width
    for _ in range(levels):
        tree = [tree] * width
    return tree


@pytest.mark.parametrize("kind", ["list", "mapping", "tuple", "array"])
def test_a_pickle_that_fans_out_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    tree = fans_out(12)
    held = np.empty(2, dtype=object)  # numpy itself would walk through the tree to find a shape
    held[0] = tree
    name = store(tmp_path, {"list": tree, "mapping": {"a": tree}, "tuple": (tree, 1), "array": held}[kind])
    assert (tmp_path / name).stat().st_size < 2_000
    with pytest.raises(CorpusError, match=r"refused: it has more than 100,000,000 values or 64 levels"):
        load(tmp_path / name)


def test_shared_parts_are_read(tmp_path: Path) -> None:
    assert load(tmp_path / store(tmp_path, fans_out(2))) == fans_out(2)


def test_a_pickle_that_contains_itself_or_is_deep_is_refused(tmp_path: Path) -> None:
    ring: list[Any] = []
    ring.append({"a": ring})
    with pytest.raises(CorpusError, match="refused: it contains itself"):
        load(tmp_path / store(tmp_path, ring))
    (tmp_path / "deep.pkl").write_bytes(b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b".")
    with pytest.raises(CorpusError, match="refused: it is nested more than 64 levels deep"):
        load(tmp_path / "deep.pkl")
    # To hash it would end the process.
    (tmp_path / "key.pkl").write_bytes(b"\x80\x04}N" + b"\x85" * 200_000 + b"Ns.")
    with pytest.raises(CorpusError, match="a nested tuple as a key"):
        load(tmp_path / "key.pkl")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"\x80\x05\x96" + (1 << 36).to_bytes(8, "little") + b".", "a value of 68,719,476,736 bytes in a file of"),
        (b"\x80\x04\x8e" + (1 << 36).to_bytes(8, "little") + b".", "a value of 68,719,476,736 bytes in a file of"),
        (
            b"\x80\x04c__builtin__\nbytearray\n\x94B" + (1 << 16).to_bytes(4, "little") + b"x" * (1 << 16)
            + b"\x94" + b"h\x00h\x01\x85R" * 5_000 + b".",
            "refused: it makes many times more of its values than it holds",
        ),
    ],
)  # fmt: skip
def test_a_pickle_gets_no_more_memory_than_it_has_bytes(tmp_path: Path, body: bytes, fault: str) -> None:
    (tmp_path / "t.pkl").write_bytes(body)
    with pytest.raises(CorpusError, match=fault):
        load(tmp_path / "t.pkl")


def test_numbers_of_values_ask_for_no_room(tmp_path: Path) -> None:
    """The unpickler in C makes room for four thousand million values here."""
    (tmp_path / "t.pkl").write_bytes(b"\x80\x02K\x07r\xff\xff\xff\x7f.")
    assert load(tmp_path / "t.pkl") == 7


def test_a_tensor_that_shows_one_value_again_and_again_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(1 << 31)}, tmp_path / "t.pt")
    with pytest.raises(CorpusError, match="a tensor of 2,147,483,648 values in 4 bytes"):
        load(tmp_path / "t.pt")
    shared = torch.ones(3)
    torch.save([shared] * 3, tmp_path / "t.pt")
    first, *others = load(tmp_path / "t.pt")
    assert all(each is first for each in others)


def test_files_of_torch_before_1_6_are_read(tmp_path: Path) -> None:
    tensors = {key: torch.tensor(row) for key, row in zip(IDS, VALUES, strict=True)}
    torch.save(tensors, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    check(read_table(tmp_path, TableConfig(path="old.pt")))
    torch.save({"a": Call(os.system, "true")}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CorpusError, match=r"old\.pt: refused: it names posix\.system"):
        load(tmp_path / "old.pt")


def test_arrays_that_unpack_to_far_more_than_they_are_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_MOST_BYTES", 1_000_000)
    np.savez_compressed(tmp_path / "t.npz", a=np.zeros(1_000_000))
    with pytest.raises(CorpusError, match=r"not a readable npz file: .* bytes that unpack to 8,000,"):
        read_table(tmp_path, TableConfig(path="t.npz"))


# Infinite values


def test_infinite_values_are_refused_or_missing(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("utterance_id,x\na,1\nb,-inf\n")
    with pytest.raises(CorpusError, match=r"row 2: x is '-inf', no finite number; .*`infinite: missing`"):
        read_table(tmp_path, TableConfig(path="t.csv"))
    assert read_table(tmp_path, TableConfig(path="t.csv", infinite="missing"))["x"].to_list() == [1, None]
    frames = {"a": np.array([[1.0, -np.inf], [3.0, -np.inf]]), "b": np.array([[-np.inf, 2.0], [4.0, 6.0]])}
    with pytest.raises(CorpusError, match="a: a value is infinite; `infinite: missing` takes it as missing"):
        table(tmp_path, frames, pool="mean")
    pooled = table(tmp_path, frames, pool="mean_sd", infinite="missing")
    assert pooled.rows() == [("a", 2.0, None, 1.0, None), ("b", 4.0, 4.0, 0.0, 2.0)]


# Real ones


@needs_published
def test_the_published_pickles() -> None:
    mosi = pl.read_csv(PUBLISHED / "mosi" / "mosi_utterances.csv")
    folder = PUBLISHED / "published_pickles"
    gcnet = read_table(folder, TableConfig(path="gcnet_cmumosi_labels_text.pkl", key=0, values=1))
    joined = mosi.join(gcnet, on="utterance_id", how="full", coalesce=True)
    assert joined.height == 2199
    assert joined["value_0000"].to_list() == joined["sentiment"].to_list()
    with pytest.raises(CorpusError, match=r"cannot be joined by utterance id.*array \[62, 63, 73\] of float64"):
        read_table(folder, TableConfig(path="bclstm_cmumosi_audio.pickle"))
    with pytest.raises(CorpusError, match=r"cannot be joined by utterance id.*mapping of 1432"):
        read_table(folder, TableConfig(path="cosmic_meld_labels_text.pkl"))
    table = read_table(PUBLISHED / "mosi", TableConfig(path="mosi_audio_opensmile73.csv"))
    assert table.shape == (2199, 74)
