"""A trained model that a person can ask: sound and words of a conversation in, emotions with probabilities out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emofuse import encoders
from emofuse.audio.clips import prepare
from emofuse.audio.flac import decode
from emofuse.core.schema import IGNORE, SAMPLE_RATE
from emofuse.encoders import Encoder
from emofuse.features.shards import Row, as_stored
from emofuse.inference.bundle import Bundle, BundleError
from emofuse.inference.conversation import ConversationError, Turn, read_conversation
from emofuse.inference.graph import Graph
from emofuse.models.registry import MODALITIES, unimodal
from emofuse.models.registry import model as find_model
from emofuse.tasks import Fold
from emofuse.training.data import Sequences

__all__ = ["Answer", "Emotion", "Model", "Transcriber"]

Transcriber = Callable[[Sequence[np.ndarray]], Sequence[str]]
"""Clips, float32 ``[n_samples]`` at 16 kHz, to what is said in each."""

_MAY_DIFFER = ("code", "versions")
"""Of an encoder's identity: another version changes the last bits, and a bundle outlives many of them."""

_AT_ONCE = {"audio": 30 * SAMPLE_RATE, "text": 8_000}
"""Samples and characters that are encoded before others have their turn: a few seconds of a processor."""

_NOTHING = {"audio": "sound", "text": "transcripts"}


@dataclass(frozen=True)
class Emotion:
    """What the model says of a turn.

    Attributes:
        speaker: as given
        text: as given, or transcribed
        emotion: the likeliest class
        probabilities: of every class, by name
        notes: what is wrong with the turn's sound, or missing of it
    """

    speaker: str | None
    text: str | None
    emotion: str
    probabilities: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What the model says of a conversation.

    Attributes:
        model: name of the network that answered
        remark: why it is not the model that was asked for, or None
        turns: turn by turn
    """

    model: str
    remark: str | None
    turns: tuple[Emotion, ...]


@dataclass(frozen=True)
class _Heard:
    """A turn with its sound as training had it: stored form, cut at the corpus's limit."""

    turn: Turn
    samples: np.ndarray | None
    text: str | None
    notes: tuple[str, ...]

    def content(self, modality: str) -> Any:
        return self.samples if modality == "audio" else self.text


class Model:
    """A trained model with its frozen encoders, each loaded when it is first needed. May be used by several threads.

    Args:
        bundle: what it is loaded from

    Raises:
        BundleError: a network is missing or damaged

    Attributes:
        manifest: task, classes, seed, encoders, protocol and scores
    """

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self._graph = Graph(bundle.folders)
        self._encoders: dict[str, Encoder] = {}
        # Tokenizers keep state, so one thread encodes. It takes the parts of all requests in the order in which they
        # come, so that a large one does not keep others waiting.
        self._encoding = ThreadPoolExecutor(1, "encoding")

    def __str__(self) -> str:
        said = self.manifest
        choice = f"best of {said.runs} runs on dev, " if said.runs > 1 else ""
        return (
            f"{said.task}/{said.model}, seed {said.seed}, fold {said.fold} "
            f"({choice}weighted F1 {100 * said.dev['weighted_f1']:.1f} there)"
        )

    def load_encoders(self) -> None:
        """Load all encoders now, which otherwise happens when each is first needed.

        Raises:
            EncoderError: an encoder is not there
            BundleError: it is not the one that the model was trained with
        """
        for modality in self.manifest.features:
            self._encoding.submit(self._encoder, modality).result()

    def predict(self, conversation: str | Path | Sequence[Turn], transcribe: Transcriber | None = None) -> Answer:
        """Return the emotions of a conversation's turns.

        Args:
            conversation: the turns, or a folder or file with them; see :mod:`emofuse.inference.conversation`
            transcribe: what gives turns without a text one; without it they have none

        Raises:
            ConversationError: it cannot be read, or has nothing that the model could answer from
            EncoderError: an encoder is not there, or not the one that the model was trained with
        """
        return self.predict_all([conversation], transcribe)[0]

    def predict_all(
        self, conversations: Sequence[str | Path | Sequence[Turn]], transcribe: Transcriber | None = None
    ) -> list[Answer]:
        """Return the emotions of several conversations, each of which is a context of its own.

        Args:
            conversations: as in :meth:`predict`
            transcribe: as in :meth:`predict`
        """
        heard = [self._hear(_turns(each), transcribe) for each in conversations]
        answering = [self._answering(turns) for turns in heard]
        answers: dict[int, Answer] = {}
        for name in dict.fromkeys(answering):
            chosen = [index for index, each in enumerate(answering) if each == name]
            answers |= dict(zip(chosen, self._answer(name, [heard[index] for index in chosen]), strict=True))
        return [answers[index] for index in range(len(heard))]

    def _hear(self, turns: Sequence[Turn], transcribe: Transcriber | None) -> list[_Heard]:
        clips = [prepare(turn.audio, self.manifest.max_seconds) if turn.audio else None for turn in turns]
        samples = [decode(clip.data) if clip and clip.data else None for clip in clips]
        texts = [turn.text for turn in turns]
        silent = [index for index, text in enumerate(texts) if text is None and samples[index] is not None]
        if transcribe and silent:
            for index, text in zip(silent, transcribe([samples[index] for index in silent]), strict=True):  # type: ignore[misc]
                texts[index] = text.strip() or None
        notes = [(clip.reason,) if clip and clip.reason else () for clip in clips]
        return [_Heard(*each) for each in zip(turns, samples, texts, notes, strict=True)]

    def _answering(self, turns: Sequence[_Heard]) -> str:
        """Name of the model that can answer: the whole one, or the network of the modality that is there."""
        reads = find_model(self.manifest.model).modalities
        there = tuple(
            each for each in reads if self._encodes(each) and any(turn.content(each) is not None for turn in turns)
        )
        if there == reads:
            return self.manifest.model
        alone = unimodal(there[0], "context").name if there else ""
        if alone not in self._graph:
            reasons = [self._missing(each) for each in reads if each not in there]
            raise ConversationError(f"{self.manifest.model} cannot answer: {' and '.join(reasons)}")
        return alone

    def _missing(self, modality: str) -> str:
        if self._encodes(modality):
            return f"no {_NOTHING[modality]}"
        source = self.manifest.features[modality].identity.get("revision")  # type: ignore[index]
        return f"its {modality} features are values that {source} published, which cannot be computed from a recording"

    def _encodes(self, modality: str) -> bool:
        return self.manifest.features[modality].family != "published"  # type: ignore[index]

    def _answer(self, name: str, conversations: Sequence[Sequence[_Heard]]) -> list[Answer]:
        turns = [turn for each in conversations for turn in each]
        reads = find_model(name).modalities
        frames = {each: self._encode(each, [turn.content(each) for turn in turns]) for each in reads}
        fold = _fold(conversations, self.manifest.classes)
        probabilities = self._graph.probabilities(name, frames, fold)
        remark = None
        if name != self.manifest.model:
            (absent,) = set(MODALITIES) - set(reads)
            remark = f"{self._missing(absent)}: the {reads[0]} network alone answers ({name})"
        return [
            Answer(name, remark, tuple(map(self._emotion, each, probabilities[start:end], [reads] * len(each))))
            for each, start, end in zip(conversations, fold.dialogues[:-1], fold.dialogues[1:], strict=True)
        ]

    def _emotion(self, heard: _Heard, posterior: np.ndarray, reads: Sequence[str]) -> Emotion:
        absent = [f"no {_NOTHING[each]}" for each in reads if heard.content(each) is None]
        probabilities = dict(zip(self.manifest.classes, posterior.tolist(), strict=True))
        emotion = self.manifest.classes[int(posterior.argmax())]
        return Emotion(heard.turn.speaker, heard.text, emotion, probabilities, (*heard.notes, *absent))

    def _encode(self, modality: str, contents: Sequence[Any]) -> Sequences:
        present = [index for index, each in enumerate(contents) if each is not None]
        encoder = self._encoding.submit(self._encoder, modality).result()
        encoded: dict[int, np.ndarray] = {}
        for part in _parts(present, [len(contents[index]) for index in present], _AT_ONCE[modality]):
            frames = self._encoding.submit(_listed, encoder, [contents[index] for index in part]).result()
            encoded |= zip(part, frames, strict=True)
        nothing = np.zeros((0, encoder.dim), np.float32)
        rows = [Row(f"turn {index + 1}", None, encoded.get(index, nothing)) for index in range(len(contents))]
        return Sequences.of(as_stored(rows, encoder.dim), encoder.identity.get("n_layers", 1))

    def _encoder(self, modality: str) -> Encoder:
        if modality not in self._encoders:
            features = self.manifest.features[modality]  # type: ignore[index]
            encoder = encoders.load(features.family, features.options, f"the bundle's {modality} encoder")
            _check_identity(modality, encoder.identity, features.identity)
            self._encoders[modality] = encoder
        return self._encoders[modality]


def _parts(indices: Sequence[int], sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Cut indices into parts of this size at most, or of one index."""
    part: list[int] = []
    total = 0
    for index, size in zip(indices, sizes, strict=True):
        if part and total + size > most:
            yield part
            part, total = [], 0
        part.append(index)
        total += size
    if part:
        yield part


def _listed(encoder: Encoder, contents: Sequence[Any]) -> list[np.ndarray]:
    return list(encoder.encode(contents))


def _turns(conversation: str | Path | Sequence[Turn]) -> Sequence[Turn]:
    if isinstance(conversation, str | Path):
        return read_conversation(Path(conversation))
    if not conversation:
        raise ConversationError("a conversation without turns")
    return conversation


def _fold(conversations: Sequence[Sequence[_Heard]], classes: tuple[str, ...]) -> Fold:
    """The turns as training sees a corpus, without labels."""
    turns = [turn for each in conversations for turn in each]
    speakers: dict[str | None, int] = {None: -1}
    for each in turns:
        speakers.setdefault(each.turn.speaker, len(speakers) - 1)
    count = len(turns)
    return Fold(
        utterance_ids=tuple(map(str, range(count))),
        dialogues=np.cumsum([0, *map(len, conversations)]),
        speakers=np.array([speakers[each.turn.speaker] for each in turns]),
        splits=np.zeros(count, np.int64),
        targets=np.full(count, IGNORE),
        scored=np.zeros(count, bool),
        classes=classes,
        context="both",
    )


def _check_identity(modality: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse another encoder than the one of the training features: of another revision, layer or kind."""
    asked = {name: value for name, value in found.items() if name not in _MAY_DIFFER}
    wrong = [
        f"{name} {value!r}; expected {expected.get(name)!r}"
        for name, value in asked.items()
        if expected.get(name) != value
    ]
    if wrong:
        raise BundleError(f"the {modality} encoder here is not the model's: {', '.join(wrong)}")
