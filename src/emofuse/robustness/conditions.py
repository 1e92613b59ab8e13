"""The conditions of ``params.yaml`` under which trained models are asked about test once more: what each changes."""

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
        noise_db: power of the speech above the noise's, both over the whole clip
        seed: of the noise
    """

    noise_db: Annotated[float, Field(ge=-60, le=200)]
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class WordErrors:
    """Words that are wrong, missing or too many, as many of one kind as of another.

    Attributes:
        word_errors: word errors over words, in all transcripts together
        seed: of where they are, and of the wrong words
    """

    word_errors: Annotated[float, Field(ge=0, le=1)]
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class Found:
    """Turns as voice activity finds them in the sound of each dialogue, and words as a recogniser writes them down.

    Attributes:
        recogniser: its name, as of :func:`emofuse.inference.transcripts.recogniser`
        pause_s: seconds of silence between two turns where the corpus does not tell their times
        dialogues: so many of test are heard, spread evenly; null for all
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
