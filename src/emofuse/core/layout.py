"""Folders of the outputs of stages."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Layout", "Pair"]


@dataclass(frozen=True)
class Pair:
    """The encoders of a fusion.

    Attributes:
        audio: name of the sound's encoder
        text: name of the words' encoder
    """

    audio: str
    text: str

    def __str__(self) -> str:
        return f"{self.audio}+{self.text}"

    @classmethod
    def parse(cls, name: str) -> "Pair":
        """Return the pair of a folder's name, such as ``wav2vec2-base+bert-base``.

        Raises:
            ValueError: it is none
        """
        audio, plus, text = name.partition("+")
        if not (audio and plus and text) or "+" in text:
            raise ValueError(f"{name!r}: expected the names of two encoders, such as wav2vec2-base+bert-base")
        return cls(audio, text)

    def encoder(self, modality: str) -> str:
        """Return the name of a modality's encoder."""
        return {"audio": self.audio, "text": self.text}[modality]


@dataclass(frozen=True)
class Layout:
    """The folders of a project.

    Attributes:
        root: the project's root folder
    """

    root: Path = Path()

    @property
    def data(self) -> Path:
        """The outputs of stages, tracked by DVC."""
        return self.root / "data"

    @property
    def models(self) -> Path:
        """The trained models of all tasks."""
        return self.data / "models"

    def corpus(self, corpus: str) -> Path:
        """``utterances.parquet``, ``audio/`` and ``tables/`` of a corpus."""
        return self.data / "corpora" / corpus

    def digest(self, corpus: str, encoder: str) -> Path:
        """The digest of the local folder that an encoder is loaded from, as a corpus was encoded with it."""
        return self.data / "digests" / corpus / f"{encoder}.json"

    def features(self, corpus: str, encoder: str) -> Path:
        """The feature shards of a corpus from one encoder."""
        return self.data / "features" / corpus / encoder

    def unimodal(self, task: str, encoder: str) -> Path:
        """The unimodal networks that read one encoder's features, by ``utterance`` and ``context``."""
        return self.models / task / encoder

    def fusion(self, task: str, pair: Pair) -> Path:
        """The models that read a pair of encoders, one folder per model."""
        return self.models / task / str(pair)

    def external(self, task: str, pair: Pair, name: str) -> Path:
        """External predictions in the table of a pair of encoders."""
        return self.fusion(task, pair) / "external" / name

    def scores(self, task: str, pair: Pair) -> Path:
        """The scores of each run, and the report with the corpus's words."""
        return self.data / "scores" / task / str(pair)

    def sound(self, task: str) -> Path:
        """The sound of a task's test turns, which the report plays."""
        return self.data / "sound" / task

    def metrics(self, task: str, pair: Pair) -> Path:
        """The results, tracked by git."""
        return self.root / "metrics" / task / str(pair)

    def corrupted(self, corpus: str, condition: str, encoder: str) -> Path:
        """The feature shards of test under a condition."""
        return self.data / "corrupted" / corpus / condition / encoder

    def robustness(self, task: str, pair: Pair, condition: str) -> Path:
        """The scores under a condition."""
        return self.metrics(task, pair) / "robustness" / f"{condition}.json"
