"""Feature tables as this field publishes them, joined by utterance id: CSV, Parquet, NPZ, pickles, torch files.

Forms that are read, and the keys of :class:`TableConfig` that say so:

========================================================  ============================================================
one row an utterance: CSV, TSV, Parquet, a pandas frame   ``key``, the column of the ids; all others are values
a mapping of ids to vectors: NPZ, pickle, torch           nothing
ids here, values in the same order there                  ``key`` and ``values``, the two names (or numbers) in the file
dialogues with lists of ids, dialogues with their values  the same
train, valid and test each in one of these forms          ``sections: [train, valid, test]``
========================================================  ============================================================

What is keyed by position alone (a bare array, dialogues by number) is refused: one dropped or moved utterance would
shift all that follow, and nothing would tell. Open such a file with :func:`emofuse.corpora.pickles.load`, give it ids
in a way that can be checked, such as by its texts, and save a CSV or Parquet, as ``docs/how-to/corpus.md`` shows.

Several frames an utterance, ``[n_frames, dim]``, are refused or pooled, as ``pool`` says, for a table has one row an
utterance; frames of zeros at either end are padding and never enter a mean, and what is padding alone has no row.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.names import composed, is_utf8
from emofuse.core.params import STRICT
from emofuse.corpora import pickles
from emofuse.corpora.base import CorpusError, regular, shown
from emofuse.corpora.folder import Folder, inside
from emofuse.corpora.rows import read_parquet, read_rows

__all__ = ["TableConfig", "numbers", "outline", "read_table"]

Name = str | int

_PICKLES = (".pickle", ".pkl", ".pt", ".pth")
_MOST_BYTES = 256_000_000
_MOST_DENSE = 100
"""A file of arrays that unpacks to more than both, bytes and times its own size, is no table of features."""

_FORMATS = (".csv", ".tsv", ".parquet", ".npz", *_PICKLES)


@dataclass(frozen=True, config=STRICT)
class TableConfig:
    r"""A published table of a corpus.

    Attributes:
        path: the file, relative to the corpus's source folder
        key: column or part with the utterance ids; a number is a position in a list or tuple, from 0
        values: column or part with the values; default: everything except the key
        sections: parts of the file to read one after the other; default: the file has one part
        columns: names of the columns to read; default: all
        rename: patterns for ids and their replacements, as ``'dia(\d+)_(\d+)': '\1_\2'``; if there are any, an id that
            matches none is an error
        pool: how to pool several frames per utterance: ``none`` makes them an error, ``mean``, or ``mean_sd`` for means
            and standard deviations
        infinite: treatment of infinite values, such as the -inf that some extractors write for silence: ``refuse`` or
            ``missing``
    """

    path: str
    key: Name = "utterance_id"
    values: Name | None = None
    sections: tuple[Name, ...] = ()
    columns: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    pool: Literal["none", "mean", "mean_sd"] = "none"
    infinite: Literal["refuse", "missing"] = "refuse"

    def __post_init__(self) -> None:
        for pattern in self.rename:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"rename: {pattern!r} is not a regular expression: {error}") from error


def read_table(source: Path, config: TableConfig) -> pl.DataFrame:
    """Read a published table.

    Args:
        source: the corpus's folder
        config: the file in it, and its form

    Returns:
        ``utterance_id`` and columns of Float64; missing values are null

    Raises:
        CorpusError: the file is missing, damaged, of no form that can be joined by utterance id, or a pickle that asks
            for more than arrays; an id is missing, doubled or not renamed; a value is no number
    """
    try:
        given = inside(source, config.path)
    except ValueError as error:
        raise CorpusError(f"{source / config.path}: outside the corpus's folder, where no change is seen") from error
    path = regular(Folder().find(given, source), "a published table")
    content = _open(path)
    parts = [(str(path), content)]
    if config.sections:
        parts = [(f"{path}: {name}", _part(content, name, str(path))) for name in config.sections]
    tables = [_rows(part, config, where) for where, part in parts]
    for (where, _), table in zip(parts, tables, strict=True):
        if table.columns != tables[0].columns:
            raise CorpusError(f"{where}: columns {table.columns[1:]}; expected {tables[0].columns[1:]}, as before it")
    table = pl.concat(tables)
    ids = [_renamed(each, config.rename, str(path)) for each in table["utterance_id"]]
    doubled = sorted({each for each, count in pl.Series(ids, dtype=pl.String).value_counts().iter_rows() if count > 1})
    if doubled:
        raise CorpusError(f"{path}: {len(doubled)} utterance ids occur more than once, such as {doubled[:3]}")
    return table.with_columns(pl.Series("utterance_id", ids, dtype=pl.String))


def outline(tree: Any, depth: int = 2) -> str:
    """Describe a nested value in one line: kinds, sizes, and the first names."""
    if isinstance(tree, pickles.Frame):
        return f"frame of {list(tree.columns())[:8]}"
    if isinstance(tree, np.ndarray):
        return f"array {list(tree.shape)} of {tree.dtype}"
    if isinstance(tree, set | frozenset):
        return f"set of {len(tree)}"
    if not isinstance(tree, Mapping | list | tuple):
        return type(tree).__name__
    kind = "mapping" if isinstance(tree, Mapping) else type(tree).__name__
    pairs = list(tree.items() if isinstance(tree, Mapping) else enumerate(tree))
    if depth == 0 or not pairs:
        return f"{kind} of {len(pairs)}"
    # The parts of a tuple differ, the entries of a long mapping are alike.
    shown = pairs[: 8 if len(pairs) <= 12 else 1]
    inner = ", ".join(f"{key!r}: {outline(value, depth - 1)}" for key, value in shown)
    return f"{kind} of {len(pairs)} ({inner}{', …' if len(pairs) > len(shown) else ''})"


def _open(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return read_rows(path, "\t" if suffix == ".tsv" else ",")
    if suffix == ".parquet":
        return read_parquet(path)
    if suffix == ".npz":
        return _arrays(path)
    if suffix in _PICKLES:
        return pickles.load(path)
    raise CorpusError(f"{path}: unknown ending {shown(suffix)}; tables are read from {', '.join(_FORMATS)}")


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(each.file_size for each in packed.infolist())
        if size > _MOST_BYTES and size > _MOST_DENSE * path.stat().st_size:
            raise ValueError(f"{path.stat().st_size:,} bytes that unpack to {size:,}; save it without compression")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy's, zipfile's, zlib's own
        hint = "; save arrays of objects as arrays of text or of numbers" if "allow_pickle" in str(error) else ""
        raise CorpusError(f"{path}: not a readable npz file: {shown(str(error), quoted=False)}{hint}") from error


def _part(tree: Any, name: Name, where: str) -> Any:
    fits = isinstance(tree, list | tuple) and isinstance(name, int) and 0 <= name < len(tree)
    if fits or (isinstance(tree, Mapping) and name in tree):
        return tree[name]
    raise CorpusError(f"{where}: no part {shown(name)} in it; it is a {outline(tree)}")


def _rows(part: Any, config: TableConfig, where: str) -> pl.DataFrame:
    if isinstance(part, pickles.Frame):
        part = _frame(part, where)
    if isinstance(part, pl.DataFrame):
        return _table(part, config, where)
    if config.values is None:
        keyed = isinstance(part, Mapping) and all(isinstance(each, str) for each in part)
        if not keyed or not part:
            raise _keyless(where, part)
        return _stack(list(part), list(part.values()), config, where)
    ids, values = (_part(part, name, where) for name in (config.key, config.values))
    if isinstance(ids, Mapping) or isinstance(values, Mapping):
        ids, values = _by_dialogue(ids, values, where)
    counts = _count(ids, where), _count(values, where)
    if counts[0] != counts[1]:
        raise CorpusError(f"{where}: {counts[0]} ids in {config.key!r}, {counts[1]} rows in {config.values!r}")
    return _stack(list(ids), list(values), config, where)


def _keyless(where: str, part: Any) -> CorpusError:
    return CorpusError(
        f"{where}: nothing in it names an utterance, so it cannot be joined by utterance id, and by position one "
        f"dropped utterance would shift all others; name the parts that hold ids and values by `key` and `values`, or "
        f"write a table with a column utterance_id. It is a {outline(part)}"
    )


def _frame(frame: pickles.Frame, where: str) -> pl.DataFrame:
    try:
        return pl.DataFrame({name: list(column) for name, column in frame.columns().items()}, strict=False)
    except Exception as error:  # whatever a forged frame holds
        raise CorpusError(f"{where}: not a readable pandas frame: {error}") from error


def _table(table: pl.DataFrame, config: TableConfig, where: str) -> pl.DataFrame:
    missing = [name for name in (config.key, *config.columns) if name not in table.columns]
    if missing:
        raise CorpusError(f"{where}: no columns {missing}; it has {table.columns[:12]}")
    names = config.columns or tuple(name for name in table.columns if name != config.key)
    ids = _ids(table[str(config.key)].to_list(), where)
    hint = "expected one" if config.columns else "name the columns to take by `columns`"
    values = numbers(table.select(names), where, hint, config.infinite)
    return values.insert_column(0, pl.Series("utterance_id", ids, dtype=pl.String))


def numbers(
    table: pl.DataFrame,
    where: str,
    hint: str = "expected one",
    infinite: Literal["refuse", "missing"] = "refuse",
) -> pl.DataFrame:
    """Return a table of numbers, or of text that says numbers, as Float64; missing values are null.

    Args:
        table: the values
        where: the file, for messages
        hint: what to do about a value that is no number
        infinite: whether an infinite value is refused or missing

    Raises:
        CorpusError: a value is no number, or infinite
    """
    columns = []
    for name in table.columns:
        try:
            values = table[name].cast(pl.Float64, strict=False)
        except pl.exceptions.PolarsError as error:
            raise CorpusError(f"{where}: {shown(name)} is a column of {table[name].dtype}; {hint}") from error
        infinities = values.is_infinite().fill_null(False)
        wrong = values.is_null() & table[name].is_not_null()
        if infinite == "refuse":
            wrong = wrong | infinities
            hint = f"{hint}; `infinite: missing` takes an infinite one as missing" if infinities.any() else hint
        if wrong.any():
            row = int(wrong.arg_true()[0])
            value = shown(table[name][row])
            raise CorpusError(f"{where}: row {row + 1}: {name} is {value}, no finite number; {hint}")
        columns.append(values.set(infinities, None).fill_nan(None))
    return pl.DataFrame(columns)


def _by_dialogue(ids: Any, values: Any, where: str) -> tuple[list[Any], list[Any]]:
    if not (isinstance(ids, Mapping) and isinstance(values, Mapping)) or ids.keys() != values.keys():
        raise CorpusError(f"{where}: ids are a {outline(ids)}, values a {outline(values)}; expected the same dialogues")
    for dialogue in ids:
        counts = _count(ids[dialogue], where), _count(values[dialogue], where)
        if counts[0] != counts[1]:
            raise CorpusError(f"{where}: dialogue {dialogue!r} has {counts[0]} ids and {counts[1]} rows")
    return [each for dialogue in ids for each in ids[dialogue]], [each for d in ids for each in values[d]]


def _count(rows: Any, where: str) -> int:
    if not isinstance(rows, list | tuple | np.ndarray) or (isinstance(rows, np.ndarray) and rows.ndim == 0):
        raise CorpusError(f"{where}: {outline(rows)} where a list or an array of rows was expected")
    return len(rows)


def _stack(ids: list[Any], values: list[Any], config: TableConfig, where: str) -> pl.DataFrame:
    names = _ids(ids, where)
    if config.columns:
        raise CorpusError(f"{where}: its values have no names, so `columns` cannot choose among them")
    vectors = [_vector(value, config, f"{where}: {name}") for name, value in zip(names, values, strict=True)]
    kept = [(name, vector) for name, vector in zip(names, vectors, strict=True) if vector is not None]
    if not kept:
        raise CorpusError(f"{where}: no values in it")
    width = len(kept[0][1])
    for name, vector in kept:
        if len(vector) != width:
            raise CorpusError(f"{where}: {name} has {len(vector)} values; expected {width}, as {kept[0][0]} has")
    matrix = np.stack([vector for _, vector in kept])
    table = pl.DataFrame(matrix, schema=[f"value_{index:04d}" for index in range(width)], orient="row").fill_nan(None)
    return table.insert_column(0, pl.Series("utterance_id", [name for name, _ in kept], dtype=pl.String))


def _ids(ids: Sequence[Any], where: str) -> list[str]:
    names = []
    for row, each in enumerate(ids, start=1):
        name = each.decode("utf-8", "replace") if isinstance(each, bytes) else each
        if isinstance(name, int | float | np.number):
            raise CorpusError(f"{where}: row {row}: the id is {name}, a position; expected the name of an utterance")
        if not isinstance(name, str) or not name.strip() or not is_utf8(name):
            raise CorpusError(f"{where}: row {row}: the id is {_shown(name)}; expected an utterance's id")
        names.append(composed(str(name).strip()))
    return names


def _shown(value: Any) -> str:
    return shown(value) if isinstance(value, str | None) else outline(value)


def _vector(value: Any, config: TableConfig, where: str) -> np.ndarray | None:
    """Return ``[n_values]``, or None for frames of padding alone, which say nothing."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise CorpusError(f"{where}: values are a {outline(value)}; expected numbers") from error
    if np.isinf(array).any():
        if config.infinite == "refuse":
            raise CorpusError(f"{where}: a value is infinite; `infinite: missing` takes it as missing")
        array = np.where(np.isinf(array), np.nan, array)
    if array.ndim < 2:
        return array.reshape(-1)
    if array.ndim > 2:
        raise CorpusError(f"{where}: values of the shape {list(array.shape)}; expected one vector, or frames of them")
    if len(array) == 1:
        return array[0]
    if config.pool == "none":
        frames = f"{len(array)} frames of {array.shape[1]} values"
        raise CorpusError(f"{where}: {frames}; a table has one row an utterance, so set `pool` to mean or mean_sd")
    spoken = np.flatnonzero(array.any(axis=1))
    if not len(spoken):
        return None
    array = array[spoken[0] : spoken[-1] + 1]
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a value that is missing in all frames
        mean, deviation = np.nanmean(array, axis=0), np.nanstd(array, axis=0)
    return mean if config.pool == "mean" else np.concatenate([mean, deviation])


def _renamed(name: str, patterns: Mapping[str, str], where: str) -> str:
    if not patterns:
        return name
    for pattern, replacement in patterns.items():
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement)
    raise CorpusError(f"{where}: the id {shown(name)} matches none of the patterns of rename, {list(patterns)}")
