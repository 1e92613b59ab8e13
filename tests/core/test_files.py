"""A writer that fails or is killed leaves the old file whole and nothing of its own."""

import errno
import hashlib
import json
import random
import re
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from emofuse.core.files import (
    DamagedError,
    DiskFullError,
    checked,
    digest,
    file_digest,
    is_disk_full,
    replace_directory,
    replace_file,
    sweep,
    write_digests,
    write_json,
    write_row_groups,
    write_table,
    write_text,
)

TABLE = pa.table({"a": [1, 2]})


def interrupted(path: Path) -> None:
    with replace_file(path) as temporary:
        temporary.write_text("half of")
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (interrupted, KeyboardInterrupt),
        (lambda path: write_text(path, "\ud800"), UnicodeEncodeError),
        (lambda path: write_json(path, {"value": float("nan")}), ValueError),
        (lambda path: write_json(path, {"value": object()}), TypeError),
        (lambda path: write_table(path, TABLE, compression="none", row_group_size="many"), TypeError),
    ],
)
@pytest.mark.parametrize("before", ["old", None])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, write: Callable[[Path], None], error: type[BaseException], before: str | None
) -> None:
    path = tmp_path / "table"
    if before:
        path.write_text(before)
    with pytest.raises(error):
        write(path)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == ({"table": before} if before else {})


@pytest.mark.parametrize("write", [replace_file, replace_directory])
def test_until_the_end_the_old_one_is_there(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    path = tmp_path / "out"
    with write(path) as first:
        part = first / "part" if first.is_dir() else first
        part.write_text("old")
    with write(path) as second:
        (second / "part" if second.is_dir() else second).write_text("new")
        assert (path / "part" if path.is_dir() else path).read_text() == "old"
    assert (path / "part" if path.is_dir() else path).read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with replace_directory(out) as folder:
        write_text(folder / "deep" / "er" / "a.txt", "old")
    with pytest.raises(ValueError, match="JSON"), replace_directory(out) as folder:
        write_json(folder / "b.json", float("nan"))
    assert sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file()) == [
        "out/deep/er/a.txt"
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_new_folder_keeps_nothing_of_the_old_one(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        with replace_directory(tmp_path / "out") as folder:
            write_text(folder / name, name)
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["b.txt"]


KILLED = """
import os, signal, sys
from pathlib import Path
from emofuse.core.files import replace_directory, replace_file
with replace_file(Path("file")) as file, replace_directory(Path("folder")) as folder:
    file.write_text("half of")
    (folder / "a.txt").write_text("half of")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_the_old_ones(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    write_text(tmp_path / "file", "old")
    write_text(tmp_path / "folder" / "a.txt", "old")
    write_text(tmp_path / "folders" / "a.txt", "another")
    assert start(KILLED, tmp_path).wait() == -signal.SIGKILL
    assert (tmp_path / "file").read_text() == "old\n"
    assert {each.name: each.read_text() for each in (tmp_path / "folder").iterdir()} == {"a.txt": "old\n"}
    leftovers = [each for each in tmp_path.iterdir() if each.is_dir() and each.name.startswith(".")]
    assert len(leftovers) == 1
    sweep(tmp_path / "folder")
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_dir()) == ["folder", "folders"]


def test_text_ends_with_one_newline(tmp_path: Path) -> None:
    for text in ("é", "é\n"):
        write_text(tmp_path / "a.txt", text)
        assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()


def test_tables_come_back_and_are_readable_by_others(tmp_path: Path) -> None:
    write_table(tmp_path / "deep" / "a.parquet", TABLE)
    assert pq.read_table(tmp_path / "deep" / "a.parquet").equals(TABLE)
    assert (tmp_path / "deep" / "a.parquet").stat().st_mode & 0o777 == 0o644


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, list):
        return [shuffled(each, order) for each in value]
    if isinstance(value, dict):
        return {key: shuffled(value[key], order) for key in order.sample(list(value), len(value))}
    return value


@given(VALUES, st.randoms(use_true_random=False))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: Any, order: random.Random) -> None:
    assert digest(value) == digest(shuffled(value, order))


@given(VALUES, VALUES)
def test_digests_differ_where_values_do(first: Any, second: Any) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (digest(first) == digest(second)) == same


@given(st.lists(st.integers(), min_size=2, unique=True))
def test_a_digest_depends_on_the_order_of_a_list(value: list[int]) -> None:
    assert digest(value) != digest(value[::-1])


def test_a_file_s_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = random.Random(0).randbytes(100_000)
    (tmp_path / "a").write_bytes(data)
    assert file_digest(tmp_path / "a") == hashlib.sha256(data).hexdigest()


@given(st.integers(0, 10), st.integers(1, 4))
def test_row_groups_that_come_one_by_one_are_those_of_a_whole_table(tmp_path: Path, rows: int, size: int) -> None:
    table = pa.table({"a": list(range(rows))}, pa.schema([("a", pa.int64())]))
    groups = (table.slice(start, size) for start in range(0, rows, size))
    write_row_groups(tmp_path / "streamed.parquet", table.schema, groups, compression="none")
    found = pq.ParquetFile(tmp_path / "streamed.parquet")
    assert found.num_row_groups == -(-rows // size)
    assert found.read().equals(table)
    if rows:
        write_table(tmp_path / "whole.parquet", table, compression="none", row_group_size=size)
        assert file_digest(tmp_path / "streamed.parquet") == file_digest(tmp_path / "whole.parquet")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_told_with_the_file_and_what_helps(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_text("more than there is room for")

    with pytest.raises(DiskFullError) as error, replace_file(tmp_path / "table") as temporary:
        write(temporary)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / "table")
    assert re.search(
        r"No space left on device: .* free; finished work is kept: make room, such as by", str(error.value)
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("a table of 28 rows"), False),
    ],
)
def test_whoever_says_that_a_disk_is_full_is_understood(error: Exception, full: bool) -> None:
    assert is_disk_full(error) is full


def test_a_file_that_changed_since_it_was_noted_is_damaged(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"first")
    assert checked(tmp_path / "one") == tmp_path / "one"  # nothing is noted of it
    write_digests(tmp_path)
    assert checked(tmp_path / "one") == tmp_path / "one"
    (tmp_path / "one").write_bytes(b"other")
    with pytest.raises(DamagedError, match="one: damaged since it was written; remove it"):
        checked(tmp_path / "one")
    assert checked(tmp_path / "two") == tmp_path / "two"
