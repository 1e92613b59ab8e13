r"""A corpus of your own: a table and a folder of audio, or audio files with labels in their names.

With a table, the source folder holds::

    utterances.csv       or utterances.parquet; one row an utterance
    audio/               sound files, found by the column `audio` or as audio/<utterance_id>.<ending>; what is in a file
                         decides whether it is sound, or an ending that says so, and what is none is named in a note

Links to single files are read, links to folders are refused, since DVC does not follow these.

Columns, all optional but one of the first two; an empty cell is an unknown value:

================  ==================================================================================================
``utterance_id``  unique; by default the name of the audio file, without its ending, or its path where several
                  folders have a file of that name
``audio``         the sound file, its path below the source folder, with ``/`` or, as on Windows, ``\`` between
                  folders; in a Parquet file also the sound itself, as the struct of `bytes` and `path` of Hugging
                  Face datasets
``dialogue_id``   which utterances belong together; by default each is a dialogue of its own
``turn``          whole number, the order within the dialogue, gaps allowed; by default the order of the rows
``speaker``       who speaks
``session``       recording session
``text``          the words
``start_s``       seconds from the beginning of the dialogue's recording; with ``end_s``. Where rows name one sound
                  file, each gets its segment of it; the option ``segments`` says otherwise. Where they hold the same
                  sound, the option has to say which it is
``label``         the corpus's own label; empty: unlabelled, which still serves as context
``sentiment``     a number
``split``         train, dev or test; or leave it out and let the option ``splits`` make them
================  ==================================================================================================

Without a table, the option ``names`` is a regular expression with named groups, the columns above; it must match the
whole of each sound file's path below the source folder, without its ending, with ``/`` between folders. EmoDB::

    names: wav/(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<label>[WLEAFTN])[a-z]

Files are utterances in the order of their names, where 2 comes before 10. ``docs/how-to/corpus.md`` walks through one.
"""

import hashlib
import math
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.audio.sound import AudioBytes, AudioFile, AudioSource
from emofuse.core.names import composed, natural, readable
from emofuse.core.params import STRICT
from emofuse.core.schema import SPLITS
from emofuse.corpora.base import Corpus, CorpusError, Utterance, required, shown
from emofuse.corpora.folder import Folder, inside, is_hidden, is_sound, refuse_strange_names
from emofuse.corpora.rows import read_parquet, read_rows

__all__ = ["COLUMNS", "Config", "Splits", "assign", "read", "sound_names", "table"]

COLUMNS = (
    *("utterance_id", "audio", "dialogue_id", "turn", "speaker", "session"),
    *("text", "start_s", "end_s", "label", "sentiment", "split"),
)
Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=STRICT)
class Splits:
    """How a corpus without a column ``split`` is split; whole groups, so that none is in two splits.

    Attributes:
        by: the kind of group
        dev: the groups of dev; or a share of all groups (at least one), drawn by a hash of their names
        test: the same for test; all other groups are train
        draw: each number draws other groups
    """

    by: Literal["speaker", "session", "dialogue"]
    dev: Share | tuple[str, ...]
    test: Share | tuple[str, ...]
    draw: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=STRICT)
class Config:
    """Options of a corpus of your own.

    Attributes:
        names: regular expression for the paths of sound files, if there is no table
        values: by column, the meaning of its codes; null means unknown, and a code that is not listed is an error
        ignore: columns of the table to skip; any other unknown column is an error
        splits: how to split, if there is no column ``split``
        segments: whether a row's sound is the part of its file from ``start_s`` to ``end_s``; by default this is so if
            several rows name the same file, and has to be said where they hold the same sound with other times
    """

    names: str | None = None
    values: dict[str, dict[str, str | None]] = Field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    splits: Splits | None = None
    segments: bool | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.values) - set(COLUMNS))
        if self.names is not None:
            try:
                groups = re.compile(self.names).groupindex
            except re.error as error:
                raise ValueError(f"names is not a regular expression: {error}") from error
            unknown += sorted(set(groups) - (set(COLUMNS) - {"audio"}))
        if unknown:
            raise ValueError(f"{unknown} are no columns; known are {list(COLUMNS)}")


def read(source: Path, config: Config) -> Corpus:
    """Read the corpus.

    Args:
        source: the folder of the module's docstring
        config: how to read it

    Raises:
        CorpusError: a file, a column or a value is not what the module's docstring says; the message names the file,
            the row (1 is the first below the header), the column and the value
    """
    required(source, "the folder of a corpus of your own")
    if config.names is not None:
        utterances, notes = _from_names(source, config)
    else:
        utterances, notes = _from_table(source, config)
    if not utterances:
        raise CorpusError(f"{source}: no utterances in it")
    _refuse_doubles(utterances, source)
    if config.splits is not None:
        utterances = split(utterances, config.splits, str(source))
    return Corpus(utterances, notes=notes, split_source=_split_source(utterances, config))


def _split_source(utterances: Sequence[Utterance], config: Config) -> str:
    """Who made the split and how, in words; never an official one, since nobody published the corpus in this form."""
    if config.splits is not None:
        parts = [(name, getattr(config.splits, name)) for name in ("dev", "test")]
        chosen = [
            f"{name} {each:.0%} of them, drawn" if isinstance(each, float) else f"{name} {' '.join(each)}"
            for name, each in parts
        ]
        draw = f", draw {config.splits.draw}" if config.splits.draw else ""
        return f"made here by {config.splits.by}: {', '.join(chosen)}{draw}"
    if all(each.split is None for each in utterances):
        return ""
    where = "names of the sound files" if config.names is not None else "column `split` of the corpus's table"
    return f"read from the {where}; their origin is unknown"


def split(utterances: Sequence[Utterance], splits: Splits, where: str) -> list[Utterance]:
    """Give every utterance a split, whole groups at a time.

    Raises:
        CorpusError: an utterance has a split already, or no group; a group is unknown; a dialogue falls into two splits
    """
    groups: dict[str, str] = {}
    for each in utterances:
        if each.split is not None:
            raise CorpusError(f"{where}: {each.utterance_id} has the split {each.split}; drop the column or the option")
        group = each.dialogue_id if splits.by == "dialogue" else getattr(each, splits.by)
        if group is None:
            raise CorpusError(f"{where}: {each.utterance_id} has no {splits.by}, by which the corpus is split")
        groups[each.utterance_id] = group
    chosen = assign(sorted(set(groups.values())), splits, where)
    result = [replace(each, split=chosen[groups[each.utterance_id]]) for each in utterances]
    first: dict[str, Utterance] = {}
    for each in result:
        other = first.setdefault(each.dialogue_id, each)
        if other.split != each.split:
            both = f"{other.utterance_id} ({other.split}) and {each.utterance_id} ({each.split})"
            raise CorpusError(f"{where}: dialogue {each.dialogue_id} is split by its {splits.by}s: {both}")
    return result


def assign(groups: Sequence[str], splits: Splits, where: str) -> dict[str, str]:
    """Return the split of each group.

    Args:
        groups: the names of all, sorted
        splits: how they are split
        where: the corpus's folder, for messages

    Raises:
        CorpusError: a group is unknown or named twice, or a split would be empty
    """
    chosen: dict[str, str] = {}
    wanted = {"test": splits.test, "dev": splits.dev}
    for name, names in wanted.items():
        if isinstance(names, tuple):
            wrong = sorted((set(names) - set(groups)) | (set(names) & set(chosen)))
            if wrong:
                fault = f"splits.{name} names the {splits.by}s {wrong}, which are not there or taken"
                raise CorpusError(f"{where}: {fault}; there are {groups[:20]}")
            chosen |= dict.fromkeys(names, name)
    # An order that no machine and no naming scheme bends: speakers are often numbered by sex.
    salt = f"{splits.draw} " if splits.draw else ""
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{salt}{group}".encode()).digest())
    for name, share in wanted.items():
        if isinstance(share, float):
            free = [group for group in order if group not in chosen]
            chosen |= dict.fromkeys(free[: max(1, int(share * len(groups)))], name)
    sizes = Counter(chosen.values())
    if not sizes["dev"] or not sizes["test"] or len(chosen) == len(groups):
        counted = f"{len(groups)} {splits.by}s give {sizes['dev']} to dev and {sizes['test']} to test"
        raise CorpusError(f"{where}: {counted}; expected at least one in each and one for train")
    return dict.fromkeys(groups, "train") | chosen


def table(source: Path) -> tuple[Path, pl.DataFrame]:
    """Return a corpus's table as it is, and its file.

    Raises:
        CorpusError: there is none, or it cannot be read
    """
    path = _table_path(source)
    return path, read_rows(path) if path.suffix == ".csv" else read_parquet(path)


def _from_names(source: Path, config: Config) -> tuple[list[Utterance], list[str]]:
    pattern = re.compile(config.names or "")
    tables = [path for path in _tables(source) if path.exists()]
    if tables:
        raise CorpusError(f"{tables[0]}: a table, but the option `names` says that there is none")
    rows = []
    files, notes = _audio_files(source)
    for path in files:
        name = composed(path.relative_to(source).with_suffix("").as_posix())
        match = pattern.fullmatch(name)
        if match is None:
            raise CorpusError(f"{path}: {name!r} does not match the option names, {config.names!r}")
        rows.append((str(path), {**match.groupdict(), "audio": path.relative_to(source).as_posix()}))
    ids = _default_ids(row["audio"] for _, row in rows)
    return list(_utterances(_Sounds(source, None, False, ids), rows, config)), notes


def _from_table(source: Path, config: Config) -> tuple[list[Utterance], list[str]]:
    path, found = table(source)
    unknown = [name for name in found.columns if name not in COLUMNS and name not in config.ignore]
    if unknown:
        allowed = f"known are {list(COLUMNS)}; list columns to skip in the option `ignore`"
        raise CorpusError(f"{path}: unknown columns {shown(unknown)}; {allowed}")
    if not {"utterance_id", "audio"} & set(found.columns):
        columns = shown(found.columns)
        raise CorpusError(f"{path}: neither a column utterance_id nor a column audio; columns are {columns}")
    rows = [
        (f"{path}: row {number}", _slashed(row, source))
        for number, row in enumerate(found.iter_rows(named=True), start=1)
    ]
    names = _names(row.get("audio") for _, row in rows)
    shared = frozenset(name for name, count in Counter(names).items() if count > 1)
    if shared and "utterance_id" not in found.columns:
        raise CorpusError(f"{path}: several rows name {min(shared)}; expected a column utterance_id to tell them apart")
    cut = bool(shared) if config.segments is None else config.segments
    if config.segments is None:
        _refuse_unclear(rows)
    sounds, notes = _found(source / "audio", "audio" in found.columns)
    utterances = list(_utterances(_Sounds(source, sounds, cut, _default_ids(names), shared), rows, config))
    if cut and shared:
        notes.append(f"sound files that several rows name, which each have their segment of it: {len(shared)}")
    spare = sorted(set(sounds or ()) - {each.utterance_id for each in utterances})
    if spare:
        notes.append(f"sound in audio/ that belongs to no utterance: {len(spare)} files, such as {spare[0]}")
    return utterances, notes


def _slashed(row: Mapping[str, Any], source: Path) -> Mapping[str, Any]:
    """The row, whose path of a sound file may be one of Windows."""
    sound = row.get("audio")
    name = sound.get("path") if isinstance(sound, Mapping) else sound
    if not isinstance(name, str) or "\\" not in name or (source / name).exists():
        return row
    name = name.replace("\\", "/")
    return {**row, "audio": {**sound, "path": name} if isinstance(sound, Mapping) else name}


def _names(cells: Iterable[Any]) -> list[str]:
    """The sound files that rows name, in one spelling."""
    names = (each.get("path") if isinstance(each, Mapping) and not each.get("bytes") else each for each in cells)
    return [_normalised(each) for each in names if isinstance(each, str) and each.strip()]


def _default_ids(names: Iterable[str]) -> dict[str, str]:
    """Ids by the names of sound files: those without folder and ending, with the folder where they are not unique."""
    paths = {name: posixpath.splitext(name)[0] for name in map(_normalised, names)}
    counts = Counter(map(posixpath.basename, paths.values()))
    return {name: base if counts[base := posixpath.basename(path)] == 1 else path for name, path in paths.items()}


def _normalised(name: str) -> str:
    """A path such that ``audio/a.wav``, ``./audio/a.wav`` and ``audio//a.wav`` are one."""
    return posixpath.normpath(composed(name.strip()))


def _refuse_unclear(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuse rows with one sound and different times: clips may be alike, or be one recording that is to be cut."""
    first: dict[bytes, tuple[str, Any]] = {}
    for where, row in rows:
        data = row["audio"].get("bytes") if isinstance(row.get("audio"), Mapping) else None
        times = (row.get("start_s"), row.get("end_s"))
        if not isinstance(data, bytes) or times == (None, None):
            continue
        before, others = first.setdefault(data, (where, times))
        if times != others:
            raise CorpusError(
                f"{where}: audio is the same sound as that of {before.rpartition(': ')[2]}, with other times; expected "
                "the option segments, true to cut it at start_s and end_s, or false to take the whole"
            )


def _table_path(source: Path) -> Path:
    paths = [path for path in _tables(source) if path.exists()]
    if len(paths) != 1:
        fault = (
            "both utterances.csv and utterances.parquet" if paths else "neither utterances.csv nor utterances.parquet"
        )
        raise CorpusError(f"{source}: {fault}; expected one, or the option `names` for sound files without a table")
    return paths[0]


def _audio_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the sound files of a folder in the order of their names, and notes of what is left out of it.

    Raises:
        CorpusError: a name is no UTF-8
    """
    refuse_strange_names(folder)
    there = [path for path in sorted(folder.rglob("*")) if not path.is_dir() and not is_hidden(path, folder)]
    sounds, left_out = [], defaultdict[str, list[Path]](list)
    for path in there:
        reason = _unread(path)
        if reason is None:
            sounds.append(path)
        elif path not in _tables(folder):
            left_out[reason].append(path)
    notes = [
        f"{reason}: {len(paths)}, such as {readable(paths[0].relative_to(folder))}"
        for reason, paths in left_out.items()
    ]
    return sorted(sounds, key=lambda path: natural(composed(path.relative_to(folder).as_posix()))), notes


def _unread(path: Path) -> str | None:
    """Why a file is none of a corpus's sound files, or None if it is one."""
    if not path.is_file():
        return "links that lead nowhere, pipes and the like, which are not read"
    return None if is_sound(path) else "files without sound, which are no utterances"


def _tables(folder: Path) -> list[Path]:
    return [folder / "utterances.csv", folder / "utterances.parquet"]


def sound_names(source: Path) -> list[str]:
    """Return the paths of the sound files below a corpus's folder, without endings, as the option ``names`` sees them.

    Raises:
        CorpusError: there is no such folder, or a name in it is no UTF-8
    """
    required(source, "the folder of a corpus of your own")
    return [composed(path.relative_to(source).with_suffix("").as_posix()) for path in _audio_files(source)[0]]


def _found(folder: Path, named: bool) -> tuple[dict[str, Path] | None, list[str]]:
    """Return the files of the folder of sound by utterance id, or None if there is none, or if the table names them."""
    if named or not folder.is_dir():
        return None, []
    found: dict[str, Path] = {}
    files, notes = _audio_files(folder)
    for path in files:
        name = composed(path.relative_to(folder).with_suffix("").as_posix())
        if name in found:
            raise CorpusError(f"{path}: {found[name].name} exists too; name the one to read in a column `audio`")
        found[name] = path
    return found, notes


def _utterances(
    sounds: "_Sounds", rows: Sequence[tuple[str, Mapping[str, Any]]], config: Config
) -> Iterator[Utterance]:
    """Yield the rows as utterances, dialogue by dialogue in the order of the turns.

    Args:
        sounds: where their sound is
        rows: each with its file and number, for messages
        config: the options
    """
    dialogues: dict[str, list[tuple[int, Utterance, str]]] = {}
    for where, raw in rows:
        row = _Row(where, raw, config.values)
        utterance = _utterance(sounds, row)
        members = dialogues.setdefault(utterance.dialogue_id, [])
        members.append((row.whole("turn") if "turn" in raw else len(members), utterance, where))
    for members in dialogues.values():
        members.sort(key=lambda member: member[0])
        for position, (turn, utterance, where) in enumerate(members):
            if position and turn == members[position - 1][0]:
                other = members[position - 1][1].utterance_id
                raise CorpusError(f"{where}: turn is {turn}, which {other} of dialogue {utterance.dialogue_id} is too")
            yield replace(utterance, turn=position)


def _utterance(sounds: "_Sounds", row: "_Row") -> Utterance:
    utterance_id = row.text("utterance_id") or sounds.default_id(row)
    if utterance_id is None:
        raise row.fault("utterance_id", "an id, or a file in the column audio")
    dialogue_id = row.text("dialogue_id") if row.has("dialogue_id") else utterance_id
    if dialogue_id is None:
        raise row.fault("dialogue_id", "the dialogue's id; leave the column out if there are no dialogues")
    start, end, audio = sounds.of(row, utterance_id)
    split = row.text("split")
    if row.has("split") and split not in SPLITS:
        raise row.fault("split", "train, dev or test")
    text = row.text("text")
    defects = [
        *(["text_empty"] if row.has("text") and text is None else []),
        *(["audio_missing"] if row.has("audio") and audio is None else []),
    ]
    return Utterance(
        utterance_id=utterance_id,
        dialogue_id=dialogue_id,
        turn=0,
        speaker=row.text("speaker"),
        session=row.text("session"),
        text=text,
        start_s=start,
        end_s=end,
        label=row.text("label"),
        sentiment=row.number("sentiment"),
        split=split,
        defects=tuple(defects),
        audio=audio,
    )


class _Sounds:
    """Where the sound of each row is.

    Args:
        source: the corpus's folder
        found: sound files by utterance id, or None if they are not found by it
        cut: whether a row's sound is a segment of its file
        ids: default ids by the files' names
        shared: the files that several rows name
    """

    def __init__(
        self,
        source: Path,
        found: Mapping[str, Path] | None,
        cut: bool,
        ids: Mapping[str, str],
        shared: frozenset[str] = frozenset(),
    ) -> None:
        self._source, self._found, self._cut, self._ids, self._shared = source, found, cut, ids, shared
        self._folder = Folder()
        self._sounds: dict[bytes, bytes] = {}

    def default_id(self, row: "_Row") -> str | None:
        """The id of a row that gives none; None if it has no sound file either."""
        name, _ = row.sound()
        return self._ids.get(_normalised(name), Path(name).stem) if name else None

    def of(self, row: "_Row", utterance_id: str) -> tuple[float | None, float | None, AudioSource | None]:
        """Return the start and the end of a row, and its sound."""
        start, end = row.number("start_s"), row.number("end_s")
        name, data = row.sound()
        has_sound = name is not None or data is not None
        if not (self._cut and has_sound and self._is_cut(row, name if data is None else None, start, end)):
            _check_times(row, start, end)
            return start, end, self._source_of(row, name, data, utterance_id, None, None)
        # A segment that is none becomes a defect, when it is cut.
        valid = start is not None and end is not None and 0 <= start <= end
        source = self._source_of(row, name, data, utterance_id, start, end)
        return start if valid else None, end if valid else None, source

    def _source_of(
        self,
        row: "_Row",
        name: str | None,
        data: bytes | None,
        utterance_id: str,
        start: float | None,
        end: float | None,
    ) -> AudioSource | None:
        if data is not None:
            # One object for rows with the same sound, which goes to the process that decodes it once.
            return AudioBytes(name or utterance_id, self._sounds.setdefault(data, data), start, end)
        path = self._path(row, name) if name else self._by_id(row, utterance_id)
        return AudioFile(path, start, end) if path else None

    def _is_cut(self, row: "_Row", name: str | None, start: float | None, end: float | None) -> bool:
        """Whether a row has a segment of its sound.

        Args:
            row: the row
            name: of its sound file; None if the row holds the sound itself
            start: of the segment
            end: of the segment
        """
        shared = name is not None and _normalised(name) in self._shared
        if (start is None) == (end is None) and (start is not None or not shared):
            return start is not None
        expected = "a number of seconds, since other rows name the same file" if shared else "a number"
        raise row.fault("start_s" if start is None else "end_s", expected)

    def _path(self, row: "_Row", name: str) -> Path:
        try:
            return self._folder.find(inside(self._source, name), self._source)
        except ValueError:
            raise row.fault("audio", f"the path of a file below {self._source}, relative to it") from None

    def _by_id(self, row: "_Row", utterance_id: str) -> Path | None:
        if self._found is None:
            return None
        try:
            # Where it is not found it is searched for, and then reported missing.
            absent = inside(self._source / "audio", f"{utterance_id}.wav")
        except ValueError:
            raise row.fault("utterance_id", f"a name for a file below {self._source / 'audio'}") from None
        return self._found.get(utterance_id, absent)


def _check_times(row: "_Row", start: float | None, end: float | None) -> None:
    if start is not None and start < 0:
        raise row.fault("start_s", "0 or more seconds")
    if start is not None and end is not None and end < start:
        raise row.fault("end_s", f"no less than start_s, {start}")


class _Row:
    """The cells of one row, each read as what its column holds.

    Args:
        where: file and row, for messages
        cells: as text (CSV) or typed (Parquet)
        meanings: by column, what codes mean
    """

    def __init__(self, where: str, cells: Mapping[str, Any], meanings: Mapping[str, Mapping[str, str | None]]) -> None:
        self._where, self._cells, self._meanings = where, cells, meanings

    def has(self, column: str) -> bool:
        """Whether there is such a column."""
        return column in self._cells

    def text(self, column: str) -> str | None:
        """Text, None if empty; whole numbers of a Parquet file count as text."""
        value = self._cells.get(column)
        if not isinstance(value, str | int | None) or isinstance(value, bool):
            raise self.fault(column, "text")
        text = "" if value is None else composed(str(value).strip())
        if column == "text":
            text = " ".join(text.split())
        meanings = self._meanings.get(column)
        if not text or meanings is None:
            return text or None
        if text not in meanings:
            raise self.fault(column, f"one of {sorted(meanings)}, which the option `values` lists")
        return meanings[text]

    def whole(self, column: str) -> int:
        """A whole number, 0 or more."""
        value = self.number(column)
        if value is None or value < 0 or value != int(value):
            raise self.fault(column, "a whole number, 0 or more")
        return int(value)

    def number(self, column: str) -> float | None:
        """A finite number."""
        value = self._cells.get(column)
        if value is None or isinstance(value, str):
            value = self.text(column)
            if value is None:
                return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or isinstance(value, bool):
            raise self.fault(column, "a finite number")
        return number

    def fault(self, column: str, expected: str) -> CorpusError:
        """Return the error to raise for this cell."""
        return CorpusError(f"{self._where}: {column} is {shown(self._cells.get(column))}; expected {expected}")

    def sound(self) -> tuple[str | None, bytes | None]:
        """The name of the sound file, and its bytes where the table holds them."""
        value = self._cells.get("audio")
        if not isinstance(value, Mapping):
            return self.text("audio"), None
        name, data = value.get("path"), value.get("bytes")
        if not isinstance(name, str | None) or not isinstance(data, bytes | None) or value.keys() - {"path", "bytes"}:
            raise self.fault("audio", "a file's name, or a struct of its bytes and path")
        return (composed(name.strip()) or None) if name else None, data


def _refuse_doubles(utterances: Sequence[Utterance], source: Path) -> None:
    doubled = [name for name, count in Counter(each.utterance_id for each in utterances).items() if count > 1]
    if doubled:
        raise CorpusError(f"{source}: {len(doubled)} utterance ids occur more than once, such as {doubled[:3]}")
