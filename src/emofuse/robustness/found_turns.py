"""Automatic segmentation and transcription of a corpus, aligned with its utterances by time.

The clips of a dialogue are joined to one recording: at their times, where the corpus tells these, with no more than two
seconds between them; otherwise with a pause of a length that is given. Voice activity finds the turns in it, and a
recogniser writes down the words of each. A found turn belongs to the utterance that it overlaps most; an utterance
has the sound and the words of all turns that belong to it. One to which none belongs has those of the turn that
overlaps it most, which is somebody else's too, since labels stay with utterances; or nothing, where nobody was heard.

The word error rate is the edit distance between the words of a whole dialogue, as corpus and recogniser have them one
after another, over the number of the corpus's, both of all dialogues together. Case and punctuation do not count, since
many transcripts have none; "7" for "seven" is an error.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from torchaudio.functional import edit_distance

from emofuse.core.files import digest, file_digest
from emofuse.core.imports import closure, code_of
from emofuse.core.process import computing_alone
from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders.weights import model_folder
from emofuse.inference.voice_activity import Span, find_turns

__all__ = ["Aligned", "Dialogue", "align", "find", "identity", "join", "word_error_rate", "write_down"]

_LONGEST_PAUSE_S = 2.0
"""Seconds between two clips at most; a corpus's times may have minutes between scenes."""

_PACKAGES = ("ctranslate2", "silero-vad", "torch", "transformers")


@dataclass(frozen=True)
class Dialogue:
    """A recording that was joined from clips.

    Attributes:
        samples: float32 ``[n_samples]`` at 16 kHz
        places: of each utterance that has sound where it is, in order
    """

    samples: np.ndarray
    places: dict[str, Span]


@dataclass(frozen=True)
class Aligned:
    """The turns of a dialogue that an utterance has, by their number; its sound goes from the first to the last.

    Attributes:
        turns: in order; one at least
        shared: whether they are another utterance's, too
    """

    turns: tuple[int, ...]
    shared: bool = False


def join(
    clips: Mapping[str, np.ndarray], times: Mapping[str, tuple[float | None, float | None]], pause_s: float
) -> Dialogue:
    """Join the clips of a dialogue to a recording.

    Args:
        clips: by utterance in their order, float32 ``[n_samples]`` at 16 kHz
        times: start and end of each in seconds, as the corpus tells them, or None
        pause_s: between two clips without times
    """
    parts: list[np.ndarray] = []
    places: dict[str, Span] = {}
    end, before = 0, None
    for name, clip in clips.items():
        start_s, end_s = times[name]
        pause = pause_s if start_s is None or before is None else min(max(start_s - before, 0.0), _LONGEST_PAUSE_S)
        silence = np.zeros(round(pause * SAMPLE_RATE) if places else 0, np.float32)
        places[name] = Span(end + len(silence), end + len(silence) + len(clip))
        parts += [silence, clip]
        end, before = places[name].end, end_s
    return Dialogue(np.concatenate(parts), places)


def find(dialogue: Dialogue) -> list[Span]:
    """Return the turns that voice activity finds."""
    with computing_alone():  # the number of threads changes the last bits
        return find_turns(dialogue.samples)


def write_down(
    dialogues: Sequence[tuple[Dialogue, Sequence[Span]]], recognise: Callable[[Sequence[np.ndarray]], Sequence[str]]
) -> list[list[str]]:
    """Return the words of each turn of each dialogue.

    Args:
        dialogues: with their turns
        recognise: clips to words
    """
    clips = [dialogue.samples[span.start : span.end] for dialogue, spans in dialogues for span in spans]
    with computing_alone():
        texts = iter(recognise(clips) if clips else ())
    return [[" ".join(next(texts).split()) for _ in spans] for _, spans in dialogues]


def align(places: Mapping[str, Span], turns: Sequence[Span]) -> dict[str, Aligned]:
    """Return for each utterance the turns that it has; what nobody was heard in is left out.

    Args:
        places: of the utterances
        turns: that were found
    """
    names = list(places)
    overlaps = np.array([[_overlap(places[name], turn) for turn in turns] for name in names]).reshape(len(names), -1)
    owners = overlaps.argmax(axis=0) if len(turns) else np.zeros(0, int)
    heard = overlaps.max(axis=0, initial=0) > 0
    found: dict[str, Aligned] = {}
    for row, name in enumerate(names):
        own = np.flatnonzero((owners == row) & heard)
        if len(own):
            found[name] = Aligned(tuple(own.tolist()))
        elif overlaps[row].max(initial=0) > 0:
            found[name] = Aligned((int(overlaps[row].argmax()),), shared=True)
    return found


def _overlap(first: Span, second: Span) -> int:
    return max(0, min(first.end, second.end) - max(first.start, second.start))


def identity(name: str) -> dict[str, Any]:
    """Return what the words of a recogniser depend on: its files, the code, and the packages that run it.

    Args:
        name: as of :func:`emofuse.inference.transcripts.recogniser`
    """
    folder = model_folder(name)
    files = {} if folder is None else {each.name: file_digest(each) for each in folder.iterdir() if each.is_file()}
    modules = closure("inference.transcripts", "robustness.found_turns")
    code = digest({each: code_of(each) for each in modules})
    return {"name": name, "files": files, "code": code, "versions": {each: version(each) for each in _PACKAGES}}


def word_error_rate(truth: Sequence[str | None], transcripts: Sequence[str | None]) -> float | None:
    """Return the edit distance over the number of words of ``truth``; None where there are none.

    Args:
        truth: texts of a corpus
        transcripts: texts in place of them, one each
    """
    pairs = [(_words(first), _words(second)) for first, second in zip(truth, transcripts, strict=True)]
    total = sum(len(first) for first, _ in pairs)
    return round(sum(edit_distance(first, second) for first, second in pairs) / total, 6) if total else None


def _words(text: str | None) -> list[str]:
    return re.findall(r"\w+(?:'\w+)*", (text or "").casefold().replace("’", "'"))
