"""Strict reading of tables: CSV, TSV and Parquet; a bad row is an error that names it.

Comma- and tab-separated files are UTF-8, with or without a byte order mark, or UTF-16 with one, as spreadsheets write
them. Rows end where the format says and nowhere else: a line separator inside a cell, U+0085 or U+2028, is part of it.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from emofuse.corpora.base import CorpusError, regular, shown

__all__ = ["read_lines", "read_parquet", "read_rows"]

_POINTER = "version https://git-lfs.github.com/spec/"

_MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What messages call the marks between cells."""

_MOST_CELLS = 250_000_000
"""Cells of a Parquet file; a few bytes can say that there are more than any memory holds."""


def read_rows(path: Path, separator: str = ",", header: bool = True) -> pl.DataFrame:
    """Read a comma-separated file as text.

    Args:
        path: the file
        separator: between cells, such as a tab
        header: whether the first row has the names; otherwise they are ``column_1``, ``column_2`` …

    Returns:
        columns of text; an empty cell is null, and a blank line is no row

    Raises:
        CorpusError: the file is missing, in another encoding, or a row of it is damaged: a quote that is not closed, or
            more or fewer cells than the header has; the message names the row, 1 being the first below the header
    """
    rows = _rows(path, _text(path), separator, header)
    names = next(rows, None)
    if names is None:
        raise CorpusError(f"{path}: empty; expected a table in CSV, with a header" if header else f"{path}: empty")
    if header and len(names) == 1 and (other := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise CorpusError(
            f"{path}: the header is {shown(names[0])}, one cell; expected {_MARKS.get(separator, separator)} between "
            f"cells, not {_MARKS[other]}; save the table once more, as CSV with these"
        )
    if not header:
        rows, names = _with(names, rows), [f"column_{number}" for number in range(1, len(names) + 1)]
    cells: list[list[str | None]] = [[] for _ in names]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise CorpusError(f"{path}: row {number}: {len(row)} cells; expected {len(names)}, as the header has")
        for column, cell in zip(cells, row, strict=True):
            column.append(cell or None)
    return _table(path, names, cells)


def _table(path: Path, names: Sequence[str], cells: Sequence[Sequence[str | None]]) -> pl.DataFrame:
    # Spreadsheets leave columns without a name and without a cell.
    kept = {index: name for index, name in enumerate(names) if name or any(cells[index])}
    doubled = [name for name, count in Counter(kept.values()).items() if count > 1]
    if doubled:
        raise CorpusError(f"{path}: the column {shown(doubled[0])} occurs more than once")
    columns = {name: cells[index] for index, name in kept.items()}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))


def _with(first: list[str], others: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from others


def _rows(path: Path, text: str, separator: str, header: bool) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    number = 0 if header else 1
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            where = f"row {number}" if number else "the header"
            hint = "a quote may be missing there, or one too many; inside a quoted cell it is written twice"
            raise CorpusError(f"{path}: {where}, from line {line}: not valid CSV: {error}; {hint}") from error
        if row:
            yield row
            number += 1


def read_lines(path: Path) -> list[str]:
    """Read a text file line by line; Windows-1252, which corpora of a certain age are in, where it is no UTF-8.

    Raises:
        CorpusError: the file is missing, or no file
    """
    data = regular(path, "a text file").read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    return re.split(r"\r\n|\r|\n", text)


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a Parquet file.

    Raises:
        CorpusError: the file is missing, damaged, or says that it has more cells than any memory holds
    """
    regular(path, "a table")
    try:
        # pyarrow, since polars ends the process on some damaged files rather than raising an error.
        with pq.ParquetFile(path) as file:
            count = file.metadata.num_rows * file.metadata.num_columns
            if not 0 <= count <= _MOST_CELLS:
                raise ValueError(f"it says that it has {count:,} cells; up to {_MOST_CELLS:,} are read")
            read = file.read()
        read.validate(full=True)
        table = pl.from_arrow(read)
    except (Exception, pl.exceptions.PanicException) as error:  # pyarrow's, and polars' own of what it cannot hold
        raise CorpusError(f"{path}: not a table in PARQUET: {shown(str(error), quoted=False)}") from error
    if not isinstance(table, pl.DataFrame):
        raise CorpusError(f"{path}: not a table in PARQUET")
    return table


def _text(path: Path) -> str:
    data = regular(path, "a table").read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = data[error.start : error.start + 1].hex()
        raise CorpusError(
            f"{path}: not UTF-8: the byte {wrong} in line {line}; save the table once more, as CSV in UTF-8"
        ) from error
    if "\0" in text:
        raise CorpusError(f"{path}: line {text.count(chr(10), 0, text.index(chr(0))) + 1}: a zero byte; no text has it")
    if text.startswith(_POINTER):
        raise CorpusError(f"{path}: a pointer of Git LFS and not the table itself; `git lfs pull` fetches it")
    return text
