"""The result of every corpus reader: utterances, sources of sound, and published feature tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from emofuse.audio.sound import AudioSource

__all__ = ["Corpus", "CorpusError", "Utterance", "regular", "required", "shown"]

_SHOWN = 80
"""Characters of a value that an error quotes; a cell may hold a whole sound file."""


class CorpusError(ValueError):
    """A corpus folder does not hold what its reader expects; the message names the file and the row."""


@dataclass(frozen=True)
class Utterance:
    """One turn of a dialogue as the corpus gives it; fields as in :data:`emofuse.core.schema.UTTERANCES`.

    Attributes:
        defects: what the reader found wrong, as short codes such as ``text_empty``
        audio: the utterance's sound, or None where the corpus has none
    """

    utterance_id: str
    dialogue_id: str
    turn: int
    speaker: str | None
    text: str | None
    label: str | None
    split: str | None = None
    session: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    sentiment: float | None = None
    defects: tuple[str, ...] = ()
    audio: "AudioSource | None" = None


@dataclass(frozen=True)
class Corpus:
    """A corpus in memory: rows and references to audio, not the audio itself.

    Attributes:
        utterances: every utterance, unlabelled ones too, dialogue by dialogue in the order of the turns
        tables: published feature tables by name, each with a column ``utterance_id`` and numeric columns
        notes: what was found that concerns no single utterance, one sentence each
        split_source: who made the split of the utterances and how, for the protocol; empty where they have none
    """

    utterances: Sequence[Utterance]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    notes: Sequence[str] = ()
    split_source: str = ""


def required(path: Path, what: str) -> Path:
    """Return ``path`` if it exists.

    Raises:
        CorpusError: it does not; the message says what was expected there
    """
    if not path.exists():
        raise CorpusError(f"{path}: not found; expected {what}")
    return path


def regular(path: Path, what: str) -> Path:
    """Return ``path`` if it is a file that has an end.

    Raises:
        CorpusError: it is missing, a folder, or a named pipe, which a reader would wait for
    """
    if not required(path, what).is_file():
        raise CorpusError(f"{path}: not a regular file; expected {what}")
    return path


def shown(value: object, quoted: bool = True) -> str:
    """Return a value for a message, shortened.

    Args:
        value: whatever a corpus holds
        quoted: as Python writes it; otherwise as it is, on one line
    """
    text = repr(value) if quoted else " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"
