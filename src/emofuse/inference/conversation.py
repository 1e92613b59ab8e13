"""What a person hands in to be predicted: the turns of a conversation, from a folder, a JSON file or a CSV file.

A folder holds sound files, one a turn in the order of their names (2 before 10), each with a transcript beside it if
there is one (``03.wav``, ``03.txt``). A transcript without sound is a turn as well, if its name has a number, or if
there is no sound at all. What is in a file decides whether it is sound; what is no turn is named on standard error.

Or it holds a table ``turns.json`` or ``turns.csv``. A table has one entry a turn with the keys ``audio`` (a sound file,
relative to the table), ``text`` and ``speaker``, each of them optional::

    [{"speaker": "Ann", "audio": "01.wav", "text": "You are late."}, {"speaker": "Ben", "audio": "02.wav"}]
"""

import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass as checked_dataclass

from emofuse.audio.source import AudioFile, AudioSource
from emofuse.core.names import composed, natural
from emofuse.core.params import STRICT, ParamsError, validate
from emofuse.corpora import CorpusError
from emofuse.corpora.own import AUDIO_ENDINGS
from emofuse.corpora.rows import read_rows

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
    """Yield the turns of a folder, and name on standard error what in it is no turn."""
    turns: dict[str, dict[str, Path]] = {}
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
    heard = any("sound" in turn for turn in turns.values())
    for turn in turns.values():
        if "sound" not in turn and heard and not re.search("[0-9]", turn["text"].stem):
            left_out.append(turn["text"])
            continue
        text = _clean(_text_of(turn["text"])) if "text" in turn else None
        if "sound" in turn or text:
            yield Turn(AudioFile(turn["sound"]) if "sound" in turn else None, text)
        else:
            left_out.append(turn["text"])
    if left_out:
        names = ", ".join(os.fsencode(path.name).decode("utf-8", "backslashreplace") for path in left_out[:10])
        more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
        print(f"{folder}: no turns, left out: {names}{more}", file=sys.stderr)


def _kind(path: Path) -> Literal["sound", "text"] | None:
    """What a file is to a turn; content decides, and a file that claims to be sound is a turn whatever is in it."""
    if not path.is_file():
        return None
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return "text"
    return "sound" if suffix in AUDIO_ENDINGS or AudioFile(path).is_sound() else None


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
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError
        raise ConversationError(f"{path}: not valid JSON: {error}") from error


def _csv(path: Path) -> list[dict[str, Any]]:
    try:
        return read_rows(path).to_dicts()
    except CorpusError as error:
        raise ConversationError(str(error)) from error


def _text_of(path: Path) -> str:
    if not path.is_file():
        raise ConversationError(f"{path}: not a regular file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConversationError(f"{path}: not UTF-8: {error}") from error


def _clean(text: str | None) -> str | None:
    """A text without doubled spaces, None if nothing is left: the form that corpora are stored in."""
    return " ".join((text or "").split()) or None
