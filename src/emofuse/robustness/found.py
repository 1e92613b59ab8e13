"""Words that are found in place of a corpus's own: voice activity says whether anybody speaks, a recogniser what.

The word error rate is the edit distance between the words over the number of the corpus's, both of all utterances
together. Case and punctuation do not count, since many transcripts have none; "7" for "seven" is an error.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from torchaudio.functional import edit_distance

from emofuse.core.files import digest, file_digest
from emofuse.core.imports import closure, source_of
from emofuse.core.process import computing_alone
from emofuse.encoders.sources import model_folder
from emofuse.inference.voice_activity import find_turns

__all__ = ["identity", "word_error_rate", "write_down"]

_PACKAGES = ("silero-vad", "torch", "transformers")


def write_down(
    clips: Iterable[tuple[str, np.ndarray]], recognise: Callable[[Sequence[np.ndarray]], Sequence[str]]
) -> dict[str, str | None]:
    """Return by id the words recognised in clips; None where nobody speaks, or nothing is understood.

    Args:
        clips: ids and samples, float32 ``[n_samples]`` at 16 kHz
        recognise: clips to words
    """
    transcripts: dict[str, str | None] = {}
    with computing_alone():  # the number of threads changes the last bits, and with them a word now and then
        for name, samples in clips:
            # In silence and music recognisers write sentences that were frequent in their training.
            heard = recognise([samples])[0] if find_turns(samples) else ""
            transcripts[name] = " ".join(heard.split()) or None
    return transcripts


def identity(name: str) -> dict[str, Any]:
    """Return what the words of a recogniser depend on: its files, the code, and the packages that run it.

    Args:
        name: as of :class:`emofuse.inference.transcripts.Recogniser`
    """
    folder = model_folder(name)
    files = {} if folder is None else {each.name: file_digest(each) for each in folder.iterdir() if each.is_file()}
    modules = closure("inference.transcripts", "robustness.found")
    code = digest({each: source_of(each).read_text(encoding="utf-8") for each in modules})
    return {"name": name, "files": files, "code": code, "versions": {each: version(each) for each in _PACKAGES}}


def word_error_rate(truth: Sequence[str | None], transcripts: Sequence[str | None]) -> float | None:
    """Return the edit distance over the number of words of ``truth``; None where there are none.

    Args:
        truth: texts of a corpus
        transcripts: texts in place of them, one each
    """
    pairs = [(_words(first), _words(second)) for first, second in zip(truth, transcripts, strict=True)]
    total = sum(len(first) for first, _ in pairs)
    return sum(edit_distance(first, second) for first, second in pairs) / total if total else None


def _words(text: str | None) -> list[str]:
    return re.findall(r"\w+(?:'\w+)*", (text or "").casefold().replace("’", "'"))
