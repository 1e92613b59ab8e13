"""What a person hands in to be predicted: a recording, or the turns of a conversation.

- A recording is a sound file, in which the turns are found; see :mod:`emofuse.inference.recording`.
- A folder holds sound files, one a turn in the order of their names (2 before 10), each with a transcript beside it if
  there is one (``03.wav``, ``03.txt``); a numbered transcript alone is a turn, too. Or it holds a table ``turns.json``
  or ``turns.csv``.
- A table, a JSON or CSV file, has one entry a turn with the keys ``audio`` (a sound file, relative to the table),
  ``text``, ``speaker``, ``start_s`` and ``end_s``, each of them optional. A turn with times and a sound file has that
  part of it::

      [{"speaker": "Ann", "audio": "01.wav", "text": "You are late."}, {"speaker": "Ben", "audio": "02.wav"}]

- ``-`` is a JSON table on standard input, whose sound files are relative to the working folder.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from emofuse.audio.clips import AudioFile, Sound
from emofuse.audio.source import AudioSource
from emofuse.core.params import STRICT, ParamsError, validate
from emofuse.corpora.own import AUDIO_ENDINGS
from emofuse.inference.recording import Conversation, ConversationError, Turn, cut, read_mono, read_recording
from emofuse.inference.segments import clean, read_text

if TYPE_CHECKING:
    from emofuse.inference.diarization import Diarizer

__all__ = ["Conversation", "ConversationError", "Turn", "read_conversation"]

STANDARD_INPUT = Path("-")

TABLES = ("turns.json", "turns.csv")

_SOUNDS = {*AUDIO_ENDINGS, ".3gp", ".aifc", ".amr", ".au", ".caf", ".mka", ".mov", ".oga", ".spx", ".w64", ".wma"}
"""Endings of sound files in a folder, where not every file is one; what is in them the decoders find out."""


@checked_dataclass(frozen=True, config=STRICT)
class _Entry:
    """A turn as a table has it."""

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None
    start_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    end_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


def read_conversation(path: Path, segments: "Path | Diarizer | None" = None, channels: bool = False) -> Conversation:
    """Read a conversation in one of the forms of the module's docstring.

    Args:
        path: a sound file, a folder, a table, or ``-``
        segments: of a recording, a file that says where its turns are, see :mod:`emofuse.inference.segments`, or a
            diarizer that finds them
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
        return read_recording(path, segments, channels)
    if segments or channels:
        raise ConversationError(f"{path}: its turns are told; segments and channels are asked of a recording alone")
    conversation = _of_folder(path) if path.is_dir() else Conversation(path.name, tuple(_of_table(path)))
    if not conversation.turns:
        raise ConversationError(f"{path}: no turns in it; expected sound files, {TABLES[0]} or {TABLES[1]}")
    return conversation


def _of_folder(folder: Path) -> Conversation:
    tables = [folder / name for name in TABLES if (folder / name).exists()]
    if len(tables) > 1:
        raise ConversationError(f"{folder}: both {TABLES[0]} and {TABLES[1]}; expected one")
    if tables:
        return Conversation(folder.name, tuple(_of_table(tables[0])))
    files = sorted((each for each in folder.iterdir() if each.is_file() and each.name[0] != "."), key=_natural)
    sounds = [each for each in files if each.suffix.lower() in _SOUNDS]
    texts = {each.stem: each for each in files if each.suffix.lower() == ".txt"}
    alone = [each for stem, each in texts.items() if stem not in {sound.stem for sound in sounds} and _numbered(each)]
    turns = tuple(_of_files(sorted([*sounds, *alone], key=_natural), texts))
    read = {*sounds, *alone, *(texts[each.stem] for each in sounds if each.stem in texts)}
    left = [each.name for each in files if each not in read]
    remark = f"{len(left)} {'file is' if len(left) == 1 else 'files are'} no turn: {', '.join(left[:5])}"
    return Conversation(folder.name, turns, (remark + (" …" if len(left) > 5 else ""),) if left else ())


def _of_files(files: Iterable[Path], texts: dict[str, Path]) -> Iterator[Turn]:
    for path in files:
        text = clean(read_text(texts[path.stem], ConversationError)) if path.stem in texts else None
        sound = AudioFile(path) if path.suffix.lower() in _SOUNDS else None
        yield Turn(sound, text, source=path.name)


def _numbered(path: Path) -> bool:
    """Whether a text is a turn's and not, say, notes on the whole."""
    return any(each.isdigit() for each in path.stem)


def _of_table(path: Path) -> Iterator[Turn]:
    entries = _stdin() if path == STANDARD_INPUT else _TABLES[path.suffix.lower()](path)
    if not isinstance(entries, list):
        raise ConversationError(f"{path}: expected a list of turns")
    recordings: dict[Path, Sound] = {}
    for number, entry in enumerate(entries, start=1):
        yield _turn(path.parent, entry, f"{path}: turn {number}", recordings)


def _turn(folder: Path, given: Any, where: str, recordings: dict[Path, Sound]) -> Turn:
    try:
        entry = validate(given, _Entry, where)
    except ParamsError as error:
        raise ConversationError(str(error)) from error
    path = folder / entry.audio if entry.audio else None
    if path is not None and not path.is_file():
        raise ConversationError(f"{where}: {path}: no such file")
    if path is None and clean(entry.text) is None:
        raise ConversationError(f"{where}: neither audio nor text")
    if (entry.start_s is None) != (entry.end_s is None):
        raise ConversationError(f"{where}: expected both start_s and end_s, or neither")
    sound: AudioSource | None = AudioFile(path) if path else None
    if path is not None and entry.start_s is not None and entry.end_s is not None:
        if path not in recordings:
            recordings[path] = read_mono(path)
        sound = cut(recordings[path], entry.start_s, entry.end_s, where)
    turn = Turn(sound, clean(entry.text), clean(entry.speaker), source=path.name if path else None)
    return replace(turn, start_s=entry.start_s, end_s=entry.end_s)


def _stdin() -> Any:
    return _parsed(sys.stdin.buffer.read(), "standard input")


def _json(path: Path) -> Any:
    return _parsed(read_text(path, ConversationError), str(path))


def _parsed(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise ConversationError(f"{where}: not UTF-8: {error}") from error
    except json.JSONDecodeError as error:
        raise ConversationError(f"{where}: not valid JSON: {error}") from error


def _csv(path: Path) -> list[dict[str, Any]]:
    text = read_text(path, ConversationError)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restkey="more cells than columns", strict=True))
        return [{name: _cell(name, cell) for name, cell in row.items()} for row in rows]
    except csv.Error as error:
        raise ConversationError(f"{path}: not valid CSV: {error}") from error


def _cell(name: str, cell: Any) -> Any:
    if name not in ("start_s", "end_s"):
        return cell or None
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


_TABLES = {".json": _json, ".csv": _csv}


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name.lower())]
