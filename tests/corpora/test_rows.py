"""Tables of text are read as they are meant, or refused by row."""

import contextlib
import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.corpora.base import CorpusError, shown
from emofuse.corpora.rows import read_lines, read_parquet, read_rows


def write(folder: Path, data: bytes | str, name: str = "t.csv") -> Path:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder / name


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1, max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
def test_cells_come_back_whatever_is_in_them(tmp_path: Path, rows: list[list[str]], end: str) -> None:
    """Line separators of Unicode, quotes and line ends in quoted cells are part of them."""
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [["a", "b"], *rows]]
    found = read_rows(write(tmp_path, end.join(quoted) + end))
    assert found.columns == ["a", "b"]
    assert found.rows() == [tuple(cell or None for cell in row) for row in rows]


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"])
def test_only_line_ends_end_a_row(tmp_path: Path, sign: str) -> None:
    assert read_rows(write(tmp_path, f"a,b\n1,x{sign}y\n2,z\n")).rows() == [("1", f"x{sign}y"), ("2", "z")]
    assert read_lines(write(tmp_path, f"x{sign}y\r\nz")) == [f"x{sign}y", "z"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_spreadsheets_are_read(tmp_path: Path, encoding: str) -> None:
    assert read_rows(write(tmp_path, "a,für\n1,ü\n".encode(encoding))).rows(named=True) == [{"a": "1", "für": "ü"}]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ('a,b\n1,x\n2,"He said\n3,"z"\n4,y\n', r"row 2, from line 3: not valid CSV: .*; a quote may be missing"),
        ('a,b\n1,x\n2,"well" he said\n', r"row 2, from line 3: not valid CSV"),
        ('a,b\n1,"x\n2,y\n', r"row 1, from line 2: not valid CSV: unexpected end of data"),
        ('a,"b\n', "the header, from line 1: not valid CSV"),
        ("a,b\n\n1,x\n2\n", "row 2: 1 cells; expected 2, as the header has"),
        ("a,b\n1,x,y\n", "row 1: 3 cells; expected 2"),
        ("a,a\n1,2\n", "the column 'a' occurs more than once"),
        (b"a\nf\xfcr\n", "not UTF-8: the byte fc in line 2; save the table once more, as CSV in UTF-8"),
        (b"a\n1\n\0\n", "line 3: a zero byte"),
        ("", "empty; expected a table in CSV, with a header"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS and not the table itself"),
        ("a,b\n1," + '"' + "x" * 200_000, "row 1, from line 2: not valid CSV: field larger than field limit"),
    ],
)
def test_a_damaged_table_is_refused_by_row(tmp_path: Path, data: bytes | str, fault: str) -> None:
    with pytest.raises(CorpusError, match=rf"t\.csv: {fault}"):
        read_rows(write(tmp_path, data))


def test_what_spreadsheets_add_is_no_column_and_no_row(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, "a,b,,\n\n1,2,,\n\r\n")).to_dicts() == [{"a": "1", "b": "2"}]
    assert read_rows(write(tmp_path, ",b\n7,2\n")).to_dicts() == [{"": "7", "b": "2"}]
    assert read_rows(write(tmp_path, "1,2\n"), header=False).to_dicts() == [{"column_1": "1", "column_2": "2"}]


def test_damaged_parquet_files_are_refused_and_shortened(tmp_path: Path) -> None:
    pl.DataFrame({"a": ["x" * 50] * 100, "b": range(100)}).write_parquet(tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    assert read_parquet(tmp_path / "t.parquet").height == 100
    for place in range(0, len(data), max(1, len(data) // 60)):
        write(tmp_path, data[:place] + b"\xff" + data[place + 1 :], "t.parquet")
        with contextlib.suppress(CorpusError):
            read_parquet(tmp_path / "t.parquet")
    pl.DataFrame({"name": ["x"]}).write_parquet(tmp_path / "n.parquet")
    broken = (tmp_path / "n.parquet").read_bytes().replace(b"name", b"n\xff\xfee")
    with pytest.raises(CorpusError, match=r"n\.parquet: not a table in PARQUET: "):
        read_parquet(write(tmp_path, broken, "n.parquet"))
    with pytest.raises(CorpusError, match=r"t\.parquet: not a table in PARQUET: .{10,100}$"):
        read_parquet(write(tmp_path, data[:-5], "t.parquet"))


@pytest.mark.parametrize("read", [read_rows, read_lines, read_parquet])
def test_named_pipes_and_folders_are_refused_and_waited_for_by_nobody(tmp_path: Path, read: object) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(CorpusError, match="not a regular file"):
            read(path)  # type: ignore[operator]


def test_values_are_shortened_for_messages() -> None:
    assert shown("short") == "'short'"
    assert shown(b"\xff" * 60_000) == repr(b"\xff" * 60_000)[:80] + "… (240,003 characters)"
    assert shown("two\nlines", quoted=False) == "two lines"
