"""Input of a prediction: a recording, or the turns of a conversation.

- A recording is a sound file, in which the turns are found; see :mod:`emofuse.inference.recording`.
- A folder holds sound files, one a turn in the order of their names (2 before 10), each with a transcript beside it if
  there is one (``03.wav``, ``03.txt``). A transcript without sound is a turn as well, if its name has a number, or if
  there is no sound at all. What is in a file decides whether it is sound; what is no turn is named in a remark. Or the
  folder holds a table ``turns.json`` or ``turns.csv``.
- A table, a JSON or CSV file, has one entry a turn with the keys ``audio`` (a sound file, relative to the table),
  ``text``, ``speaker``, ``start_s`` and ``end_s``, each of them optional. A turn with times and a sound file has that
  part of it::

      [{"speaker": "Ann", "audio": "01.wav", "text": "You are late."}, {"speaker": "Ben", "audio": "02.wav"}]

- ``-`` is a JSON table on standard input, whose sound files are relative to the working folder.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from emofuse.audio.recordings import MOST_HOURS, MOST_SAMPLES
from emofuse.audio.sound import AudioFile, AudioSource, Sound
from emofuse.core.names import composed, natural, readable
from emofuse.core.params import STRICT, ParamsError, validate
from emofuse.corpora import CorpusError
from emofuse.corpora.folder import is_sound
from emofuse.corpora.rows import read_rows
from emofuse.inference.recording import Conversation, ConversationError, Turn, cut, read_mono, read_recording
from emofuse.inference.segments import MOST_BYTES, clean, read_text

if TYPE_CHECKING:
    from emofuse.inference.recording import Segments

__all__ = ["Conversation", "ConversationError", "Turn", "place", "read_conversation"]

STANDARD_INPUT = Path("-")

TABLES = ("turns.json", "turns.csv")

MOST_TURNS = 10_000
"""Turns of a conversation: those of half a day of quick talk."""

MOST_TEXT = 100_000
"""Characters of a turn's text: hours of speech, of which an encoder reads the first minutes."""

_NAMED = 10
"""Files that are named of those which are no turns."""


@checked_dataclass(frozen=True, config=STRICT)
class _Entry:
    """A turn as a table has it."""

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None
    start_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    end_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


def read_conversation(path: Path, segments: "Segments | None" = None, channels: bool = False) -> Conversation:
    """Read a conversation in one of the forms of the module's docstring.

    Args:
        path: a sound file, a folder, a table, or ``-``
        segments: of a recording, where its turns are: a file that says so, or a folder with one of the recording's
            name, see :mod:`emofuse.inference.segments`, a list, or a diarizer that finds them
        channels: whether each channel of a recording is a speaker

    Raises:
        ConversationError: there is no such file, it has no turns, an entry is not as described, or a turn has neither
            sound nor text
        SegmentError: the file of segments cannot be read, or is of another recording
        OSError: a recording cannot be decoded
    """
    if path != STANDARD_INPUT and not path.exists():
        raise ConversationError(f"{path}: not found; expected a sound file, a folder, a JSON file or a CSV file")
    if path != STANDARD_INPUT and not path.is_dir() and path.suffix.lower() not in _TABLES:
        return read_recording(AudioFile(path), str(path), segments, channels)
    if segments or channels:
        raise ConversationError(f"{place(path)}: its turns are given; segments and channels apply to a recording alone")
    conversation = _of_folder(path) if path.is_dir() else _of_table(path, readable(path.name))
    if not conversation.turns:
        raise ConversationError(f"{place(path)}: no turns in it; expected sound files, {TABLES[0]} or {TABLES[1]}")
    return conversation


def place(path: Path) -> str:
    """Return what messages call a conversation: its path, or ``standard input``."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def _refuse_many(count: int, where: str) -> None:
    if count > MOST_TURNS:
        raise ConversationError(f"{where}: {count:,} turns; a conversation may have {MOST_TURNS:,}")


def _words(text: str | None, where: str) -> str | None:
    """A turn's text, or None if there are no words in it."""
    text = clean(text)
    if text is not None and len(text) > MOST_TEXT:
        raise ConversationError(f"{where}: {len(text):,} characters of text; a turn may have {MOST_TEXT:,}")
    return text


def _of_folder(folder: Path) -> Conversation:
    tables = [folder / name for name in TABLES if (folder / name).exists()]
    if len(tables) > 1:
        raise ConversationError(f"{folder}: both {TABLES[0]} and {TABLES[1]}; expected one")
    return _of_table(tables[0], readable(folder.name)) if tables else _of_files(folder)


def _of_files(folder: Path) -> Conversation:
    files, left_out = _sorted_out(folder)
    _refuse_many(len(files), str(folder))
    heard = any("sound" in each for each in files)
    turns = []
    for each in files:
        if "sound" not in each and heard and not re.search("[0-9]", each["text"].stem):
            left_out.append(each["text"])
            continue
        text = _words(read_text(each["text"], ConversationError), str(each["text"])) if "text" in each else None
        if "sound" in each or text:
            sound = AudioFile(each["sound"]) if "sound" in each else None
            turns.append(Turn(sound, text, source=readable((each.get("sound") or each["text"]).name)))
        else:
            left_out.append(each["text"])
    return Conversation(readable(folder.name), tuple(turns), (_left_out(left_out),) if left_out else ())


_Files = dict[Literal["sound", "text"], Path]
"""The files of a turn."""


def _sorted_out(folder: Path) -> tuple[list[_Files], list[Path]]:
    """The files of each turn, and those that are no turn's."""
    turns: dict[str, _Files] = {}
    left_out = []
    for path in sorted(folder.iterdir(), key=lambda path: natural(composed(path.name))):
        if path.name.startswith("."):
            continue
        kind = _kind(path)
        if kind is None:
            left_out.append(path)
            continue
        turn = turns.setdefault(composed(path.stem), {})
        if kind in turn:
            raise ConversationError(
                f"{path}: {turn[kind].name} is the {kind} of that turn as well; expected one of them"
            )
        turn[kind] = path
    return list(turns.values()), left_out


def _kind(path: Path) -> Literal["sound", "text"] | None:
    """What a file is to a turn."""
    if not path.is_file():
        return None
    if is_sound(path):
        return "sound"
    return "text" if path.suffix.lower() == ".txt" else None


def _left_out(paths: Sequence[Path]) -> str:
    names = ", ".join(readable(path.name) for path in paths[:_NAMED])
    return f"not turns, left out: {names}" + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")


def _of_table(path: Path, name: str) -> Conversation:
    where = place(path)
    entries = _stdin() if path == STANDARD_INPUT else _TABLES[path.suffix.lower()](path)
    if not isinstance(entries, list):
        raise ConversationError(f"{where}: expected a list of turns")
    _refuse_many(len(entries), where)
    recordings: dict[Path, tuple[Sound, tuple[str, ...]]] = {}
    turns = [
        _turn(path.parent, entry, f"{where}: turn {number}", recordings)
        for number, entry in enumerate(entries, start=1)
    ]
    return Conversation(name, tuple(turns), tuple(each for _, remarks in recordings.values() for each in remarks))


def _turn(folder: Path, given: Any, where: str, recordings: dict[Path, tuple[Sound, tuple[str, ...]]]) -> Turn:
    try:
        entry = validate(given, _Entry, where)
    except ParamsError as error:
        raise ConversationError(str(error)) from error
    path = folder / entry.audio if entry.audio else None
    if path is not None and not path.is_file():
        raise ConversationError(f"{where}: {path}: no such file")
    text, speaker = _words(entry.text, where), _words(entry.speaker, where)
    if path is None and text is None:
        raise ConversationError(f"{where}: neither audio nor text")
    if (entry.start_s is None) != (entry.end_s is None):
        raise ConversationError(f"{where}: expected both start_s and end_s, or neither")
    sound: AudioSource | None = AudioFile(path) if path else None
    if path is not None and entry.start_s is not None and entry.end_s is not None:
        if path not in recordings:
            recordings[path] = read_mono(AudioFile(path), str(path))
            if sum(each.samples.size for each, _ in recordings.values()) > MOST_SAMPLES:
                raise ConversationError(f"{where}: with it there are over {MOST_HOURS} h of sound; predict in parts")
        sound = cut(recordings[path][0], entry.start_s, entry.end_s, where)
    turn = Turn(sound, text, speaker, source=readable(path.name) if path else None)
    return replace(turn, start_s=entry.start_s, end_s=entry.end_s)


def _stdin() -> Any:
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConversationError(f"{place(STANDARD_INPUT)}: over {MOST_BYTES:,} bytes; a table may have these")
    return _parsed(data, place(STANDARD_INPUT))


def _json(path: Path) -> Any:
    return _parsed(read_text(path, ConversationError), str(path))


def _parsed(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise ConversationError(f"{where}: not UTF-8: {error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError
        raise ConversationError(f"{where}: not valid JSON: {error}") from error


def _csv(path: Path) -> list[dict[str, Any]]:
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise ConversationError(f"{path}: {path.stat().st_size:,} bytes; a table may have {MOST_BYTES:,}")
    try:
        rows = read_rows(path).to_dicts()
    except CorpusError as error:
        raise ConversationError(str(error)) from error
    return [{name: _cell(name, cell) for name, cell in row.items()} for row in rows]


def _cell(name: str, cell: str | None) -> float | str | None:
    if name not in ("start_s", "end_s") or cell is None:
        return cell
    try:
        return float(cell)
    except ValueError:
        return cell


_TABLES = {".json": _json, ".csv": _csv}
