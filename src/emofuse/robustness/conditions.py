"""The conditions in ``params.yaml`` under which trained models are tested again."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT, Params, ParamsError

__all__ = ["MEASURED", "Change", "Found", "Noise", "WordErrors", "read_condition"]

MEASURED = "words.json"
"""File beside the features of changed words: the word error rate that was measured, and how many turns were found."""


@dataclass(frozen=True, config=STRICT)
class Noise:
    """Noise in the long-term spectrum of the corpus's speech, added to each clip.

    Attributes:
        noise_db: signal-to-noise ratio over the whole clip, in dB
        seed: seed of the noise
    """

    noise_db: Annotated[float, Field(ge=-60, le=200)]
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class WordErrors:
    """Substituted, missing and inserted words, in equal shares.

    Attributes:
        word_errors: word error rate over all transcripts
        seed: seed of the places and the wrong words
        dialogues: number of test dialogues to use, spread evenly; null for all
    """

    word_errors: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0)]
    dialogues: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True, config=STRICT)
class Found:
    """Turns found by voice activity detection in the sound of each dialogue, transcribed by a recogniser.

    Attributes:
        recogniser: name of the recogniser, as for :func:`emofuse.inference.transcripts.recogniser`
        pause_s: seconds of silence between two turns if the corpus has no times
        dialogues: number of test dialogues to use, spread evenly; null for all
    """

    recogniser: Annotated[str, Field(min_length=1)]
    pause_s: Annotated[float, Field(ge=0, le=60)]
    dialogues: Annotated[int, Field(ge=1)] | None = None


Change = Noise | WordErrors | Found | Literal["missing"]
"""What is done to what is encoded; ``missing`` leaves nothing of it."""


def read_condition(params: Params, name: str, modality: str) -> Change:
    """Return a condition of the parameters.

    Args:
        params: of any corpus
        name: of the condition
        modality: that it is to change, or ``both``

    Raises:
        ParamsError: there is no such condition, or it changes another modality
    """
    change: Change = params.get(f"conditions.{name}", Change)  # type: ignore[arg-type]
    changed = {Noise: "audio", WordErrors: "text", Found: "both"}.get(type(change), modality)
    if changed != modality:
        raise ParamsError(
            f"{params.path}: run.conditions.{modality}: {name!r} changes {changed}; name it under {changed}"
        )
    return change
