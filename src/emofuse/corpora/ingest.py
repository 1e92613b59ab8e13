"""From a raw corpus to ``data/corpora/<corpus>/``: the utterance table, audio shards, published tables, and defects."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import pyarrow as pa
from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from emofuse import corpora
from emofuse.audio.clips import Clip, same_recording
from emofuse.audio.parallel import prepare_all
from emofuse.core import schema
from emofuse.core.files import replace_directory, sweep, write_json, write_row_groups, write_table
from emofuse.core.params import STRICT, Name
from emofuse.core.process import quiet
from emofuse.core.sharding import shard_name, shard_of
from emofuse.corpora import Corpus, CorpusError, Utterance
from emofuse.corpora.listing import terms_of
from emofuse.corpora.tables import TableConfig, read_table

__all__ = ["CorpusConfig", "check", "ingest", "read", "summarise", "utterance_table"]

_SHOWN = 10
"""Utterances that are printed for each kind of defect."""

_ROW_GROUP = 256
"""Clips of a row group of an audio shard: some 30 MB of speech."""


@dataclass(frozen=True, config=STRICT)
class CorpusConfig:
    """The section ``corpus`` of a corpus's file.

    Attributes:
        name: name of the corpus's folders
        reader: the reader, a module of :mod:`emofuse.corpora`
        source: the file or folder that it reads
        shards: number of files for audio and for features; a dialogue is in one file
        max_seconds: longer clips are cut there and listed
        max_defective: the stage fails if the share of utterances with a defect is larger
        options: the reader's own options
        tables: published feature tables in the source, by the name that encoders use
        terms: terms of use of the corpus and everything derived from it; null for those known of its reader
        language: what is spoken in it, such as German; predictions and model cards name it; null for unknown
    """

    name: Name
    reader: Literal[corpora.READERS]  # type: ignore[valid-type]
    source: str
    shards: Annotated[int, Field(ge=1, le=10_000)]
    max_seconds: Annotated[float, Field(gt=0, le=86_400)]
    max_defective: Annotated[float, Field(ge=0, le=1)]
    options: dict[str, Any] = field(default_factory=dict)
    tables: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], TableConfig] = field(default_factory=dict)
    terms: str | None = None
    language: str | None = None


def read(config: CorpusConfig) -> Corpus:
    """Return a corpus as its reader gives it, with its published tables, checked.

    Raises:
        CorpusError: it cannot be read, or holds what no later stage could use
    """
    corpus = corpora.read(config.reader, Path(config.source), config.options, "corpus.options")
    corpus = _with_tables(corpus, config, "corpus.tables")
    check(corpus)
    return corpus


def utterance_table(corpus: Corpus) -> pl.DataFrame:
    """Return the utterances without their sound: :data:`emofuse.core.schema.UTTERANCES`."""
    rows = [_row(each, None, {}) for each in corpus.utterances]
    return pl.DataFrame(pa.Table.from_pylist(rows, schema.UTTERANCES))


def ingest(
    config: CorpusConfig, out: Path, summary: Path, look: Callable[[pl.DataFrame, str], None] = lambda *_: None
) -> None:
    """Read a corpus and write it in the project's own form.

    Args:
        config: what to read and how
        out: folder for ``utterances.parquet``, ``audio/`` and ``tables/``
        summary: JSON file for counts and defects
        look: called with the utterances and their splits' source before any sound is decoded; what it raises stops the
            work

    Raises:
        CorpusError: the corpus or a table cannot be read, ids are doubled, or too many utterances are defective
    """
    corpus = read(config)
    look(utterance_table(corpus), corpus.split_source)
    known = [each.utterance_id for each in corpus.utterances]
    absent = {table: set(known) - set(values["utterance_id"]) for table, values in corpus.tables.items()}
    sweep(out)
    with replace_directory(out) as folder:
        clips = _write_audio(corpus.utterances, config, folder / "audio")
        rows = [_row(each, clips.get(each.utterance_id), absent) for each in corpus.utterances]
        for note in corpus.notes:
            print(f"note: {note}")
        _print_defects(rows, clips)
        _refuse_if_defective(rows, config.max_defective)
        utterances = schema.conform(pa.Table.from_pylist(rows, schema.UTTERANCES), schema.UTTERANCES, config.name)
        about = {schema.TERMS: config.terms or terms_of(config.reader), schema.SPLIT_SOURCE: corpus.split_source}
        described = utterances.replace_schema_metadata(about)
        write_table(folder / "utterances.parquet", described)
        (folder / "audio").mkdir(exist_ok=True)  # DVC looks for it, whatever the corpus has.
        (folder / "tables").mkdir()
        # Of a corpus without tables too: DVC warns of an empty folder.
        columns = {table: values.drop("utterance_id").columns for table, values in sorted(corpus.tables.items())}
        write_json(folder / "tables" / "tables.json", columns)
        for table, values in corpus.tables.items():
            ordered = pl.DataFrame({"utterance_id": known})
            kept = ordered.join(values, on="utterance_id", how="inner", maintain_order="left")
            write_table(folder / "tables" / f"{table}.parquet", kept.to_arrow())
    write_json(summary, summarise(rows, corpus, clips))


def _with_tables(corpus: Corpus, config: CorpusConfig, where: str) -> Corpus:
    both = sorted(corpus.tables.keys() & config.tables.keys())
    if both:
        raise CorpusError(f"{where}: the reader of {config.reader} finds tables of these names itself: {both}")
    found = {name: read_table(Path(config.source), each) for name, each in config.tables.items()}
    return replace(corpus, tables=corpus.tables | found)


def check(corpus: Corpus) -> None:
    """Check what every later stage takes for granted.

    Raises:
        CorpusError: the corpus is empty, an id is doubled, a dialogue's turns are not 0, 1, 2 … in order or in one
            piece, or a published table has an id twice
    """
    if not corpus.utterances:
        raise CorpusError("the corpus has no utterances")
    _refuse_doubles((each.utterance_id for each in corpus.utterances), "utterance_id")
    for table, values in corpus.tables.items():
        _refuse_doubles(values["utterance_id"], f"utterance_id of table {table!r}")
    expected: dict[str, int] = {}
    previous = None
    for each in corpus.utterances:
        if each.dialogue_id != previous and each.dialogue_id in expected:
            raise CorpusError(f"{each.utterance_id}: dialogue {each.dialogue_id} is not in one piece")
        turn = expected.get(each.dialogue_id, 0)
        if each.turn != turn:
            raise CorpusError(f"{each.utterance_id}: turn is {each.turn}; expected {turn}")
        expected[each.dialogue_id] = turn + 1
        previous = each.dialogue_id


def summarise(rows: Sequence[dict[str, Any]], corpus: Corpus, clips: dict[str, Clip]) -> dict[str, Any]:
    """Return counts by split and label, hours of audio, defects by kind, and coverage of the published tables."""
    known = {row["utterance_id"] for row in rows}
    splits: dict[str, Counter[str]] = {}
    for row in rows:
        splits.setdefault(row["split"] or "none", Counter())[row["label"] or "unlabelled"] += 1
    defects = Counter(defect for row in rows for defect in row["defects"])
    return {
        "utterances": len(rows),
        "dialogues": len({row["dialogue_id"] for row in rows}),
        "speakers": len({row["speaker"] for row in rows if row["speaker"]}),
        "hours_of_audio": round(sum(clip.n_samples for clip in clips.values()) / schema.SAMPLE_RATE / 3600, 4),
        "splits": {split: dict(sorted(labels.items())) for split, labels in sorted(splits.items())},
        "defects": dict(sorted(defects.items())),
        "tables": {table: _coverage(values, known) for table, values in sorted(corpus.tables.items())},
        "notes": list(corpus.notes),
    }


def _coverage(values: pl.DataFrame, known: set[str]) -> dict[str, int]:
    ids = set(values["utterance_id"])
    return {
        "columns": values.width - 1,
        "rows_of_known_utterances": len(ids & known),
        "rows_of_unknown_utterances": len(ids - known),
        "utterances_without_a_row": len(known - ids),
    }


def _write_audio(utterances: Sequence[Utterance], config: CorpusConfig, out: Path) -> dict[str, Clip]:
    """Write the shards, row group by row group as the clips come, and return the clips without their data.

    A recording whose segments belong to several shards is decoded with the first of them; what the others get of it
    waits on disk.
    """
    places = {each.utterance_id: shard_of(each.dialogue_id, config.shards) for each in utterances}
    with_audio = _by_recording([each for each in utterances if each.audio is not None], places)
    sources = [each.audio for _, each in with_audio if each.audio is not None]
    clips: dict[str, Clip] = {}
    with closing(prepare_all(sources, config.max_seconds)) as prepared, closing(_Waiting(out.parent)) as waiting:
        bar = tqdm(prepared, "audio", len(sources), unit="clip", disable=quiet())

        def write(shard: int, members: Iterable[_Stored]) -> None:
            stored = chain(waiting.take(shard), members)
            path = out / shard_name(shard, config.shards)
            write_row_groups(path, schema.AUDIO, _row_groups(stored), compression="none")

        def come(shard: int, members: Iterable[tuple[tuple[int, Utterance], Clip]]) -> Iterator[_Stored]:
            for (_, each), clip in members:
                clips[each.utterance_id] = replace(clip, data=None)
                if clip.data is None or each.audio is None:
                    continue
                stored = _Stored(each.utterance_id, each.audio.name, clip.data)
                if places[each.utterance_id] == shard:
                    yield stored
                else:
                    waiting.put(places[each.utterance_id], stored)

        for shard, members in groupby(zip(with_audio, bar, strict=True), key=lambda member: member[0][0]):
            write(shard, come(shard, members))
        for shard in waiting.shards():
            write(shard, ())
    return clips


def _by_recording(utterances: Sequence[Utterance], places: dict[str, int]) -> list[tuple[int, Utterance]]:
    """Return the utterances with the shard that each is decoded for, those of one recording one after the other."""
    recordings: dict[object, list[Utterance]] = {}
    for each in utterances:
        if each.audio is not None:
            recordings.setdefault(same_recording(each.audio), []).append(each)
    homes = [(min(places[each.utterance_id] for each in members), members) for members in recordings.values()]
    return [(home, each) for home, members in sorted(homes, key=lambda pair: pair[0]) for each in members]


@plain_dataclass(frozen=True)
class _Stored:
    """A row of an audio shard."""

    utterance_id: str
    name: str
    data: bytes


class _Waiting:
    """Clips that came before their shard is written, in a file that nobody sees.

    Args:
        folder: where there is room for them
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `close`)
        self._clips: dict[int, list[tuple[str, str, int, int]]] = {}

    def put(self, shard: int, clip: _Stored) -> None:
        """Keep a clip for a shard."""
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(clip.data)
        self._clips.setdefault(shard, []).append((clip.utterance_id, clip.name, place, len(clip.data)))

    def take(self, shard: int) -> Iterator[_Stored]:
        """Yield what was kept for a shard."""
        for utterance_id, name, place, size in self._clips.pop(shard, []):
            self._file.seek(place)
            yield _Stored(utterance_id, name, self._file.read(size))

    def shards(self) -> list[int]:
        """Return the shards that clips are kept for."""
        return sorted(self._clips)

    def close(self) -> None:
        """Give back the room."""
        self._file.close()


def _row_groups(clips: Iterable[_Stored]) -> Iterator[pa.Table]:
    rows: list[dict[str, Any]] = []
    for clip in clips:
        rows.append({"utterance_id": clip.utterance_id, "audio": {"bytes": clip.data, "path": clip.name}})
        if len(rows) == _ROW_GROUP:
            yield pa.Table.from_pylist(rows, schema.AUDIO)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, schema.AUDIO)


def _row(utterance: Utterance, clip: Clip | None, absent: dict[str, set[str]]) -> dict[str, Any]:
    row = {name: getattr(utterance, name, None) for name in schema.UTTERANCES.names}
    missing = tuple(f"{table}_missing" for table, ids in absent.items() if utterance.utterance_id in ids)
    row["defects"] = [*utterance.defects, *(clip.defects if clip else ()), *missing]
    row["audio_sha256"] = clip.sha256 if clip else None
    row["n_samples"] = clip.n_samples if clip else None
    return row


def _refuse_doubles(ids: Iterable[str], what: str) -> None:
    doubled = [each for each, count in Counter(ids).items() if count > 1]
    if doubled:
        raise CorpusError(f"{what}: {len(doubled)} ids occur more than once, such as {doubled[:3]}")


def _print_defects(rows: Sequence[dict[str, Any]], clips: dict[str, Clip]) -> None:
    """Say what is wrong, kind by kind; the whole list is the column ``defects``."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        clip = clips.get(row["utterance_id"])
        for defect in row["defects"]:
            reason = f": {clip.reason}" if clip and clip.reason and defect in clip.defects else ""
            kinds.setdefault(defect, []).append(f"  {row['utterance_id']}{reason}")
    print(f"{len(rows):,} utterances, {sum(bool(row['defects']) for row in rows):,} with a defect")
    for defect, lines in sorted(kinds.items()):
        more = [f"  and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
        print(f"{defect}: {len(lines):,}", *lines[:_SHOWN], *more, sep="\n")


def _refuse_if_defective(rows: Sequence[dict[str, Any]], limit: float) -> None:
    defective = [row for row in rows if row["defects"]]
    if len(defective) > limit * len(rows):
        examples = ", ".join(f"{row['utterance_id']} ({'; '.join(row['defects'])})" for row in defective[:5])
        share = f"{len(defective)} of {len(rows)} utterances have a defect"
        raise CorpusError(f"{share}, more than max_defective {limit} allows: {examples}")
