"""Turns processed as in training: sound in the stored form, cut at the limit of the corpus, and words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emofuse.audio.clips import prepare
from emofuse.audio.flac import decode
from emofuse.audio.recordings import MOST_HOURS, MOST_SAMPLES
from emofuse.audio.sound import AudioSource, Sound
from emofuse.inference.recording import ConversationError, Turn

__all__ = ["TRANSCRIBED", "Heard", "Transcriber", "hear", "remarks_on", "transcribed_by"]

_BY = "missing words transcribed by"

TRANSCRIBED = f"{_BY} Whisper tiny.en, which is for English only and makes errors"
"""The remark on a conversation with words of the packaged recogniser."""

Transcriber = Callable[[Sequence[np.ndarray]], Sequence[str]]
"""Clips, float32 ``[n_samples]`` at 16 kHz, to the words of each. May have a ``name``, which remarks give."""

_QUIET = 1e-3
"""Largest sample of a clip in which there is nothing to hear: 60 dB below full scale, as hiss is."""


@dataclass(frozen=True)
class Heard:
    """A turn as the encoders read it.

    Attributes:
        turn: as given
        samples: float32 ``[n_samples]`` at 16 kHz, or None
        text: as given, or written down; or None
        notes: what is wrong with its sound
    """

    turn: Turn
    samples: np.ndarray | None
    text: str | None
    notes: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hear and nothing to read."""
        return self.samples is None and self.text is None

    @property
    def is_transcribed(self) -> bool:
        """Whether its words were written down here."""
        return self.text is not None and self.turn.text is None

    def content(self, modality: str) -> Any:
        """What the encoder of a modality reads."""
        return self.samples if modality == "audio" else self.text


def hear(turns: Sequence[Turn], max_seconds: float, transcribe: Transcriber | None) -> list[Heard]:
    """Bring turns to the form that the corpus's were in.

    Args:
        turns: of one conversation
        max_seconds: a longer clip is cut there
        transcribe: what writes down the words of turns without any; without it they have none

    Raises:
        ConversationError: there is more sound than is heard of a conversation
    """
    heard, samples = [], 0
    for number, turn in enumerate(turns, start=1):
        heard.append(_heard(turn, max_seconds))
        samples += 0 if heard[-1].samples is None else len(heard[-1].samples)
        if samples > MOST_SAMPLES:
            raise ConversationError(f"turn {number}: with it there are over {MOST_HOURS} h of sound; predict in parts")
    wordless = [index for index, each in enumerate(heard) if each.text is None and each.samples is not None]
    if transcribe and wordless:
        texts = transcribe([heard[index].samples for index in wordless])  # type: ignore[misc]
        for index, text in zip(wordless, texts, strict=True):
            each = heard[index]
            heard[index] = Heard(each.turn, each.samples, text.strip() or None, each.notes)
    return heard


def remarks_on(given: Sequence[str], heard: Sequence[Heard], transcribe: Transcriber | None) -> tuple[str, ...]:
    """Return a conversation's remarks, with the one on the words that a recogniser wrote, if it wrote any.

    Args:
        given: remarks on the conversation
        heard: its turns
        transcribe: the recogniser
    """
    if transcribe is None or not any(each.is_transcribed for each in heard):
        return tuple(given)
    return (*given, transcribed_by(transcribe))


def transcribed_by(transcribe: Transcriber) -> str:
    """Return the remark on a conversation with words of a recogniser, which it names."""
    from emofuse.inference.whisper import PACKAGED  # here, since nobody else needs what it imports

    name = getattr(transcribe, "name", None)
    if name == PACKAGED:
        return TRANSCRIBED
    return f"{_BY} {name or 'a recogniser'}, which makes errors"


def _shared(source: AudioSource, samples: np.ndarray) -> np.ndarray:
    """The samples as the source has them already, if it does, so that an hour is in memory once."""
    own = source.samples[0] if isinstance(source, Sound) and len(source.samples) == 1 else None
    return samples if own is None or not np.array_equal(own, samples) else own


def _heard(turn: Turn, max_seconds: float) -> Heard:
    if turn.audio is None:
        return Heard(turn, None, turn.text, ())
    clip = prepare(turn.audio, max_seconds)
    samples = _shared(turn.audio, decode(clip.data)) if clip.data else None
    notes = (clip.reason,) if clip.reason else ()
    # With words beside it, silence is what training had of such turns, too. Without, a model would make up an emotion.
    if samples is not None and turn.text is None and np.abs(samples).max(initial=0) < _QUIET:
        return Heard(turn, None, None, (*notes, "nothing to hear"))
    return Heard(turn, samples, turn.text, notes)
