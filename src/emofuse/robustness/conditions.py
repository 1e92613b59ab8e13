"""The conditions of ``params.yaml`` under which trained models are asked about test once more: what each changes."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT

__all__ = ["DegradedConfig", "Noise", "WordErrors"]


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
class DegradedConfig:
    """Features of ``params.yaml`` under worse conditions than those that a model was trained with.

    Attributes:
        corpus: key of the corpus
        features: key of the features that they stand in for; the encoder is the same
        condition: what the results call it
        change: what is done to what is encoded; ``missing`` leaves nothing of it
        split: the corpus's own split that is changed; None for the whole corpus
    """

    corpus: str
    features: str
    condition: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    change: Noise | WordErrors | Literal["missing"]
    split: str | None = "test"

    def __post_init__(self) -> None:
        if self.condition in ("audio", "text"):
            raise ValueError(f"condition {self.condition!r} is the name of a modality; expected another")

    def __str__(self) -> str:
        if isinstance(self.change, Noise):
            spectrum = "noise in the long-term spectrum of the corpus's speech"
            return f"{spectrum}, {self.change.noise_db:g} dB under each clip's power; seed {self.change.seed}"
        if isinstance(self.change, WordErrors):
            errors = f"{100 * self.change.word_errors:g} % word errors: substitutions, deletions and insertions alike"
            return f"{errors}, new words as train has them; seed {self.change.seed}"
        return f"nothing of {self.features} is there"
