"""Segments in the formats of other programs: RTTM, SRT, WebVTT, Audacity's labels, TextGrid, WhisperX's JSON.

========================  =================================================================================
``.rttm``                 speakers; of several recordings in a file those lines that name this one
``.srt``, ``.vtt``        words; the speaker of ``[Ann]: words`` and of WebVTT's ``<v Ann>words``
``.txt``                  Audacity's label track: words; the speaker of ``[Ann]: words``
``.TextGrid``             Praat's, the long form and the short one: a tier is a speaker, its intervals the words
``.json``                 ``segments`` with ``start``, ``end``, ``text`` and ``speaker``, as of WhisperX and Whisper
========================  =================================================================================

A folder may hold a file for each of several recordings, of the same name as the recording.
"""

import html
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emofuse.corpora.base import shown

__all__ = [
    "ENDINGS",
    "MOST_BYTES",
    "Segment",
    "SegmentError",
    "clean",
    "name_beside",
    "one_each",
    "read_segments",
    "read_text",
    "segment",
]


MOST_BYTES = 2**25
"""Bytes of a text file; a day of speech has a hundredth of it."""

_FIELDS = (8, 10)
"""Of a line of RTTM, at the least and at the most; a blank in a name would move those behind it."""

_SHOWN = 3
"""Names of recordings in a message."""


class SegmentError(ValueError):
    """A file of segments cannot be read, or does not fit the recording; the message names file and place."""


@dataclass(frozen=True)
class Segment:
    """A part of a recording.

    Attributes:
        start_s: seconds
        end_s: seconds, after ``start_s``
        speaker: who speaks, if known
        text: the words, if known
    """

    start_s: float
    end_s: float
    speaker: str | None = None
    text: str | None = None


def one_each(path: Path, recordings: Sequence[Path]) -> list[Path]:
    """Return for each of several recordings its file of segments.

    Args:
        path: a folder with a file for each, of the recording's name, or an RTTM file that names each; or, for a single
            recording, any file
        recordings: the recordings

    Raises:
        SegmentError: nothing says which segments are whose
    """
    if path.is_dir():
        return [_in_folder(path, each) for each in _distinct(recordings)]
    if len(recordings) > 1:
        if path.suffix.lower() != ".rttm":
            raise SegmentError(
                f"{path}: one file of segments, but {len(recordings)} recordings; expected a folder with a file for "
                "each, of its name, or an RTTM file that names each"
            )
        named = _names(_speakers(path))
        for each in _distinct(recordings):
            if not named & _names_of(each.name):
                raise SegmentError(f"{path}: names no recording {each.stem!r}, but {_some(named)}")
    return [path] * len(recordings)


def name_beside(path: Path, recording: str) -> str | None:
    """Return the name of another recording, which alone an RTTM file names; None if it names this one, or none.

    Args:
        path: a file of segments
        recording: file name of the recording
    """
    if path.suffix.lower() != ".rttm":
        return None
    names = _names(_speakers(path))
    return None if names & _names_of(recording) or len(names) != 1 else names.pop()


def read_segments(path: Path, recording: str) -> list[Segment]:
    """Read a file of segments, which come back by their starts.

    Args:
        path: the file; its ending says which format it is
        recording: file name of the recording, which an RTTM file may name among others, with its ending or without

    Raises:
        SegmentError: there is no such file, it is not of its format, or has no segments
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise SegmentError(f"{path}: not known as a file of segments; expected one that ends in {', '.join(ENDINGS)}")
    found = sorted(read(path, recording), key=lambda each: (each.start_s, each.end_s))
    if not found:
        raise SegmentError(f"{path}: no segments in it")
    return found


def clean(text: str | None) -> str | None:
    """Return a text without doubled spaces, None if nothing is left: the form that corpora are stored in."""
    return " ".join((text or "").split()) or None


def read_text(path: Path, error_class: type[ValueError] = SegmentError) -> str:
    """Read a text file in UTF-8, or in UTF-16 if it begins with its mark, as Praat writes it."""
    if path.exists() and not path.is_file():
        raise error_class(f"{path}: not a regular file")
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise error_class(f"{path}: {size:,} bytes; a file of text may have {MOST_BYTES:,}")
        data = path.read_bytes()
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return data.decode(encoding)
    except OSError as error:
        raise error_class(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise error_class(f"{path}: not UTF-8: {error}") from error


def segment(where: str, start: Any, end: Any, speaker: str | None = None, text: str | None = None) -> Segment:
    """Return a segment as somebody gave it.

    Args:
        where: the file and the place in it, for the message
        start: seconds, a number or its digits
        end: seconds
        speaker: who speaks
        text: the words

    Raises:
        SegmentError: start and end are no numbers, or no part of a recording
    """
    try:
        start_s, end_s = float(start), float(end)
    except (TypeError, ValueError) as error:
        raise SegmentError(f"{where}: from {shown(start)} to {shown(end)}; expected seconds") from error
    if not (math.isfinite(start_s) and math.isfinite(end_s) and 0 <= start_s < end_s):
        raise SegmentError(f"{where}: from {start_s:g} s to {end_s:g} s; expected an end after a start")
    return Segment(start_s, end_s, clean(speaker), clean(text))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not empty, each with its place."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(path)), start=1):
        if line.strip():
            yield f"{path}: line {number}", line


def _rttm(path: Path, recording: str) -> Iterable[Segment]:
    rows = _speakers(path)
    names, own = _names(rows), _names_of(recording)
    if len(names) > 1 and not names & own:
        raise SegmentError(
            f"{path}: segments of {len(names)} recordings, none of them named {Path(recording).stem!r}: {_some(names)}"
        )
    for where, row in rows:
        if len(names) == 1 or row[1] in own:
            yield segment(where, row[3], _sum(where, row[3], row[4]), row[7])


def _speakers(path: Path) -> list[tuple[str, list[str]]]:
    """The lines of an RTTM file that say who speaks, each with its place."""
    rows = [(where, line.split()) for where, line in _lines(path) if line.split()[0] == "SPEAKER"]
    for where, row in rows:
        if not _FIELDS[0] <= len(row) <= _FIELDS[1]:
            raise SegmentError(
                f"{where}: {len(row)} fields; RTTM has {_FIELDS[0]} to {_FIELDS[1]}, without blanks in names"
            )
    return rows


def _names(rows: Iterable[tuple[str, Sequence[str]]]) -> set[str]:
    return {row[1] for _, row in rows}


def _names_of(recording: str) -> set[str]:
    """What an RTTM file may call a recording; it has no blanks in names."""
    own = {recording, Path(recording).stem}
    return own | {each.replace(" ", "_") for each in own}


def _some(names: Collection[str]) -> str:
    first = ", ".join(shown(name, quoted=False) for name in sorted(names)[:_SHOWN])
    return first + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _in_folder(folder: Path, recording: Path) -> Path:
    known = {each.lower() for each in ENDINGS}
    found = [each for each in sorted(folder.iterdir()) if each.stem == recording.stem and each.suffix.lower() in known]
    if len(found) != 1:
        named = ", ".join(each.name for each in found) or "none"
        raise SegmentError(f"{folder}: of {recording.name} expected one file of segments, {recording.stem}.*: {named}")
    return found[0]


def _distinct(recordings: Sequence[Path]) -> Sequence[Path]:
    """Refuse two recordings of one name, which segments cannot tell apart."""
    seen: dict[str, Path] = {}
    for each in recordings:
        if seen.setdefault(each.stem, each) != each:
            raise SegmentError(f"{seen[each.stem]}, {each}: of one name, by which segments are found; label them apart")
    return recordings


def _sum(where: str, start: str, duration: str) -> float:
    try:
        return float(start) + float(duration)
    except ValueError as error:
        raise SegmentError(f"{where}: from {shown(start)}, for {shown(duration)}; expected seconds") from error


_CUE = re.compile(r"\s*((?:\d+:)?\d+:\d+[.,]\d+)\s*-->\s*((?:\d+:)?\d+:\d+[.,]\d+)")
_TIMES = re.compile(r"^([ \t]*\d.*-->.*)$", re.MULTILINE)
"""Of a line with an arrow that begins otherwise, the arrow is one of the words."""

_COMMENT = re.compile(r"^[ \t]*\nNOTE\b.*(?:\n.*\S.*)*", re.MULTILINE)
_SPOKEN_AT = re.compile(r"<(?:\d+:)?\d+:\d+\.\d+>")
"""The time of a word, as in captions that YouTube has made itself."""

_VOICE = re.compile(r"<v(?:\.[^ >]*)?\s+([^>]+)>")
_NAMED = re.compile(r"\[([^\]]+)\]:\s*(.*)", re.DOTALL)


def _captions(path: Path, recording: str) -> Iterable[Segment]:
    """SRT and WebVTT: a line of times and, below it, words up to the next one."""
    del recording
    content = _COMMENT.sub("\n", re.sub(r"\r\n?", "\n", read_text(path)))
    rolling, last = _SPOKEN_AT.search(content) is not None, ""
    _, *parts = _TIMES.split(f"{content}\n\n0 -->")
    for cue, below in zip(parts[:-2:2], parts[1::2], strict=False):
        where = f"{path}: {cue.strip()}"
        times = _CUE.match(cue)
        if times is None:
            raise SegmentError(f"{where}: expected times as 00:00:01.500 --> 00:00:02.750")
        caption = _without_next_name(below)
        voice = _VOICE.search(caption)
        lines = re.sub(r"<[^>]*>|\{\\[^}]*\}", "", caption).strip().split("\n")
        if rolling:  # a line is shown once more above the next one
            again, last = lines[0] == last, lines[-1]
            lines = lines[again:]
        speaker, text = _named(html.unescape("\n".join(lines)))
        start, end = (_seconds(each) for each in times.groups())
        if clean(text) or not (rolling or start == end):  # Whisper writes moments without words
            yield segment(where, start, end, html.unescape(voice[1]) if voice else speaker, text)


def _without_next_name(below: str) -> str:
    """What is below a line of times, without the next caption's number or name, which is the line above its times."""
    *before, name = below.split("\n")[1:-1] or [""]
    is_name = name.strip().isdigit() or (before and not before[-1].strip())
    return "\n".join(before if is_name else [*before, name])


def _seconds(clock: str) -> float:
    """Seconds of ``01:02:03,500`` or ``02:03.500``."""
    return sum(float(part) * 60**place for place, part in enumerate(reversed(clock.replace(",", ".").split(":"))))


def _named(text: str) -> tuple[str | None, str]:
    found = _NAMED.match(text.strip())
    return (found[1], found[2]) if found else (None, text)


def _labels(path: Path, recording: str) -> Iterable[Segment]:
    del recording
    for where, line in _lines(path):
        if line.startswith("\\"):  # the frequencies of the label above
            continue
        start, _, rest = line.partition("\t")
        end, _, label = rest.partition("\t")
        speaker, text = _named(label)
        yield segment(where, start, end, speaker, text)


_TOKEN = re.compile(r'(?<!\S)("(?:[^"]|"")*"|<[a-z]+>|[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?!\S)')
"""What counts in a TextGrid: strings, flags and numbers that stand free; all other words of the long form do not."""


_TEXT_FILES = (['"ooTextFile"'], ['"ooTextFile short"'])
"""What a TextGrid begins with; the second one is the short form of older versions."""


def _text_grid(path: Path, recording: str) -> Iterable[Segment]:
    del recording
    tokens = _TOKEN.findall(read_text(path))
    if tokens[:1] not in _TEXT_FILES or tokens[1:2] + tokens[4:5] != ['"TextGrid"', "<exists>"]:
        raise SegmentError(f"{path}: not a TextGrid that Praat has written as text")
    try:
        return [segment(*each) for each in _intervals(path, iter(tokens[5:])) if each[-1].strip()]
    except SegmentError:
        raise
    except (StopIteration, ValueError) as error:
        raise SegmentError(f"{path}: cut off, or not a TextGrid that Praat has written as text") from error


def _intervals(path: Path, tokens: Iterator[str]) -> list[tuple[str, str, str, str, str]]:
    """Place, start, end, tier and text of every interval."""
    found = []
    for _ in range(int(next(tokens))):
        kind, name = _unquoted(next(tokens)), _unquoted(next(tokens))
        _, _, size = next(tokens), next(tokens), int(next(tokens))
        for number in range(1, size + 1):
            if kind == "IntervalTier":
                where = f"{path}: tier {name}: interval {number}"
                found.append((where, next(tokens), next(tokens), name, _unquoted(next(tokens))))
            else:  # points in time
                next(tokens)
                next(tokens)
    return found


def _unquoted(token: str) -> str:
    if token[:1] != '"':
        raise ValueError(f"{token}: expected a string")
    return token[1:-1].replace('""', '"')


def _whisper_json(path: Path, recording: str) -> Iterable[Segment]:
    del recording
    try:
        found = json.loads(read_text(path))
    except SegmentError:
        raise
    except (ValueError, RecursionError) as error:
        raise SegmentError(f"{path}: not valid JSON: {error}") from error
    rows = found.get("segments") if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SegmentError(f"{path}: expected segments, a list of objects with start, end, text and speaker")
    for number, row in enumerate(rows, start=1):
        where = f"{path}: segment {number}"
        for key in ("speaker", "text"):
            if not isinstance(row.get(key), str | None):
                raise SegmentError(f"{where}: {key}: {shown(row[key])}; expected a string")
        start, end, text = row.get("start"), row.get("end"), row.get("text")
        if start is None or start != end or clean(text):  # Whisper writes moments without words
            yield segment(where, start, end, row.get("speaker"), text)


_READERS: dict[str, Callable[[Path, str], Iterable[Segment]]] = {
    ".rttm": _rttm,
    ".srt": _captions,
    ".vtt": _captions,
    ".txt": _labels,
    ".textgrid": _text_grid,
    ".json": _whisper_json,
}

ENDINGS = (".rttm", ".srt", ".vtt", ".txt", ".TextGrid", ".json")
"""Of files with segments."""
