"""What a person hands in to be predicted: the turns of a conversation, from a folder, a JSON file or a CSV file.

A folder holds sound files, one a turn in the order of their names (2 before 10), each with a transcript beside it if
there is one (``03.wav``, ``03.txt``); or a table ``turns.json`` or ``turns.csv``. A table has one entry a turn with the
keys ``audio`` (a sound file, relative to the table), ``text`` and ``speaker``, each of them optional::

    [{"speaker": "Ann", "audio": "01.wav", "text": "You are late."}, {"speaker": "Ben", "audio": "02.wav"}]
"""

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass as checked_dataclass

from emofuse.audio.source import AudioFile, AudioSource
from emofuse.core.params import STRICT, ParamsError, validate
from emofuse.corpora.own import AUDIO_ENDINGS

__all__ = ["ConversationError", "Turn", "read_conversation"]

TABLES = ("turns.json", "turns.csv")


class ConversationError(ValueError):
    """A conversation cannot be read; the message names the file and the turn, which are counted from 1."""


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        audio: its sound, such as :class:`emofuse.audio.source.AudioFile`
        text: what is said
        speaker: who speaks
    """

    audio: AudioSource | None = None
    text: str | None = None
    speaker: str | None = None


@checked_dataclass(frozen=True, config=STRICT)
class _Entry:
    """A turn as a table has it."""

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None


def read_conversation(path: Path) -> list[Turn]:
    """Read a conversation in one of the forms of the module's docstring.

    Raises:
        ConversationError: there is no such file, it has no turns, an entry is not as described, or a turn has neither
            sound nor text
    """
    if not path.exists():
        raise ConversationError(f"{path}: not found; expected a folder, a JSON file or a CSV file of turns")
    tables = [path / name for name in TABLES if (path / name).exists()] if path.is_dir() else [path]
    if len(tables) > 1:
        raise ConversationError(f"{path}: both {TABLES[0]} and {TABLES[1]}; expected one")
    turns = list(_of_table(tables[0]) if tables else _of_files(path))
    if not turns:
        raise ConversationError(f"{path}: no turns in it; expected sound files, {TABLES[0]} or {TABLES[1]}")
    return turns


def _of_files(folder: Path) -> Iterable[Turn]:
    files = [each for each in folder.iterdir() if each.suffix.lower() in AUDIO_ENDINGS and each.name[0] != "."]
    for path in sorted(files, key=_natural):
        transcript = path.with_suffix(".txt")
        yield Turn(AudioFile(path), _clean(_text_of(transcript)) if transcript.exists() else None)


def _of_table(path: Path) -> Iterable[Turn]:
    read = {".json": _json, ".csv": _csv}.get(path.suffix.lower())
    if read is None:
        raise ConversationError(f"{path}: expected a folder, or a file that ends in .json or .csv")
    entries = read(path)
    if not isinstance(entries, list):
        raise ConversationError(f"{path}: expected a list of turns")
    for number, entry in enumerate(entries, start=1):
        yield _turn(path.parent, entry, f"{path}: turn {number}")


def _turn(folder: Path, given: Any, where: str) -> Turn:
    try:
        entry = validate(given, _Entry, where)
    except ParamsError as error:
        raise ConversationError(str(error)) from error
    audio = folder / entry.audio if entry.audio else None
    if audio is not None and not audio.is_file():
        raise ConversationError(f"{where}: {audio}: no such file")
    if audio is None and _clean(entry.text) is None:
        raise ConversationError(f"{where}: neither audio nor text")
    return Turn(AudioFile(audio) if audio else None, _clean(entry.text), _clean(entry.speaker))


def _json(path: Path) -> Any:
    try:
        return json.loads(_text_of(path))
    except json.JSONDecodeError as error:
        raise ConversationError(f"{path}: not valid JSON: {error}") from error


def _csv(path: Path) -> list[dict[str, Any]]:
    try:
        rows = csv.DictReader(_text_of(path).splitlines(keepends=True), restkey="more cells than columns", strict=True)
        return [{name: cell or None for name, cell in row.items()} for row in rows]
    except csv.Error as error:
        raise ConversationError(f"{path}: not valid CSV: {error}") from error


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConversationError(f"{path}: not UTF-8: {error}") from error


def _clean(text: str | None) -> str | None:
    """A text without doubled spaces, None if nothing is left: the form that corpora are stored in."""
    return " ".join((text or "").split()) or None


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name.lower())]
