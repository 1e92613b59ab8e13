"""A trained model: sound and words of a conversation in, emotions with probabilities out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emofuse import encoders
from emofuse.core.memory import collector_paused, give_memory_back
from emofuse.core.schema import IGNORE, MODALITIES, SAMPLE_RATE
from emofuse.encoders import Encoder
from emofuse.features.shards import Row, as_stored
from emofuse.inference.bundle import Bundle, BundleError
from emofuse.inference.conversation import Conversation, ConversationError, Turn, read_conversation
from emofuse.inference.graph import Graph, Kept
from emofuse.inference.hearing import Heard, Transcriber, hear, remarks_on
from emofuse.inference.provenance import trained_on
from emofuse.inference.turn_frames import TurnFrames
from emofuse.models.registry import model as find_model
from emofuse.models.registry import unimodal
from emofuse.tasks import Fold

if TYPE_CHECKING:
    from emofuse.inference.recording import Segments

__all__ = ["Model", "Prediction", "Transcriber", "TurnPrediction", "in_parts"]

_MAY_DIFFER = ("code", "versions")
"""Of an encoder's identity: another version changes the last bits, and a bundle outlives many of them."""

_AT_ONCE = {"audio": 30 * SAMPLE_RATE, "text": 8_000}
"""Samples and characters that are encoded before others have their turn: a few seconds of a processor."""

_TURNS = 8
"""Size of a batch of turns; the networks read four times as many at once, each as long as the longest."""

_NOTHING = {"audio": "sound", "text": "transcripts"}


@dataclass(frozen=True)
class TurnPrediction:
    """The prediction for a turn.

    Attributes:
        speaker: as given
        text: as given, or transcribed
        emotion: the likeliest class; None where there is nothing to hear and nothing to read
        probabilities: of every class, by name; none without an emotion
        notes: what is wrong with the turn's sound or words, or missing of them
        start_s: where the turn begins in a recording, in seconds
        end_s: where it ends there
        source: name of the file that it is from
    """

    speaker: str | None
    text: str | None
    emotion: str | None
    probabilities: dict[str, float]
    notes: tuple[str, ...]
    start_s: float | None = None
    end_s: float | None = None
    source: str | None = None


@dataclass(frozen=True)
class Prediction:
    """The predictions for a conversation.

    Attributes:
        model: name of the network that predicted
        remark: why it is not the model that was asked for, or None
        turns: turn by turn
        name: of the conversation's file or folder
        remarks: further remarks on the conversation as a whole
        trained_on: what the model was trained on, and how well the network that predicted does there
    """

    model: str
    remark: str | None
    turns: tuple[TurnPrediction, ...]
    name: str | None = None
    remarks: tuple[str, ...] = ()
    trained_on: str = ""


class Model:
    """A trained model with its frozen encoders, each loaded when it is first needed. May be used by several threads.

    Args:
        bundle: what it is loaded from
        between: called before each part of a request is encoded, in the thread that asked; what it raises ends that
            request

    Raises:
        BundleError: a network is missing or damaged

    Attributes:
        manifest: task, classes, seed, encoders, protocol and scores
    """

    def __init__(self, bundle: Bundle, between: Callable[[], None] = lambda: None) -> None:
        self.manifest = bundle.manifest
        self._between = between
        self._graph = Graph(bundle.folders, _TURNS)
        self._encoders: dict[str, Encoder] = {}
        # Tokenizers keep state, so one thread encodes. It takes the parts of all requests in the order in which they
        # come, so that a large one does not keep others waiting.
        self._encoding = ThreadPoolExecutor(1, "encoding")

    def __str__(self) -> str:
        manifest = self.manifest
        choice = f"best of {manifest.runs} runs on dev, " if manifest.runs > 1 else ""
        return (
            f"{manifest.task}/{manifest.model}, seed {manifest.seed}, fold {manifest.fold} "
            f"({choice}weighted F1 {100 * manifest.dev['weighted_f1']:.1f} there)"
        )

    def load_encoders(self) -> None:
        """Load all encoders now, which otherwise happens when each is first needed.

        Raises:
            EncoderError: an encoder is not there
            BundleError: it is not the one that the model was trained with
        """
        for modality in self.manifest.features:
            self._encoding.submit(self._encoder, modality).result()

    def predict(
        self,
        conversation: str | Path | Conversation | Sequence[Turn],
        transcribe: Transcriber | None = None,
        segments: "str | Segments | None" = None,
        channels: bool = False,
    ) -> Prediction:
        """Return the emotions of a conversation's turns.

        Args:
            conversation: a recording, or the turns, or a folder or file with them; see
                :mod:`emofuse.inference.conversation`
            transcribe: what gives turns without a text one, such as :func:`emofuse.inference.transcripts.recogniser`;
                without it they have none
            segments: of a recording, where its turns are: a file that says so, a list of
                :class:`emofuse.inference.segments.Segment`, or what finds them
            channels: whether each channel of a recording is a speaker

        Raises:
            ConversationError: it cannot be read, or has nothing that the model could answer from
            SegmentError: the file of segments cannot be read, or is of another recording
            EncoderError: an encoder is not there, or not the one that the model was trained with
            OSError: a recording cannot be decoded
        """
        if isinstance(conversation, str | Path):
            where = Path(segments) if isinstance(segments, str) else segments
            conversation = read_conversation(Path(conversation), where, channels)
        return self.predict_all([conversation], transcribe)[0]

    def predict_all(
        self,
        conversations: Sequence[str | Path | Conversation | Sequence[Turn]],
        transcribe: Transcriber | None = None,
    ) -> list[Prediction]:
        """Return the emotions of several conversations, each of which is a context of its own.

        Args:
            conversations: as in :meth:`predict`
            transcribe: as in :meth:`predict`
        """
        given = [_conversation(each) for each in conversations]
        heard = [hear(each.turns, self.manifest.max_seconds, transcribe) for each in given]
        full = [[each for each in turns if not each.is_empty] for turns in heard]
        networks = [self.usable_network({each for each in MODALITIES if _has(each, turns)}) for turns in full]
        predictions: dict[int, Prediction] = {}
        for name in dict.fromkeys(networks):
            chosen = [index for index, each in enumerate(networks) if each == name]
            probabilities = self._probabilities(name, [full[index] for index in chosen])
            for index, rows in zip(chosen, probabilities, strict=True):
                predictions[index] = self._prediction(name, given[index], heard[index], rows, transcribe)
        return [predictions[index] for index in range(len(heard))]

    @property
    def is_causal(self) -> bool:
        """Whether the turns before are all the context that the model has."""
        return self._graph.is_causal

    def reads(self, modality: str) -> bool:
        """Whether the model answers from this modality of a new conversation."""
        return modality in find_model(self.manifest.model).modalities and not self.manifest.unread(modality)

    def usable_network(self, there: set[str]) -> str:
        """Return the name of the model that can predict: the whole one, or the network of the modality that is there.

        Args:
            there: modalities of which a conversation has something

        Raises:
            ConversationError: none can
        """
        reads = find_model(self.manifest.model).modalities
        found = tuple(each for each in reads if self.reads(each) and each in there)
        if found == reads:
            return self.manifest.model
        alone = unimodal(found[0], "context").name if found else ""
        if alone not in self._graph:
            reasons = [self._missing(each) for each in reads if each not in found]
            raise ConversationError(f"{self.manifest.model} cannot answer: {' and '.join(reasons)}")
        return alone

    def remark(self, name: str) -> str | None:
        """Say why a network answers that is not the model which was asked for; None if it is."""
        if name == self.manifest.model:
            return None
        (reads,) = find_model(name).modalities
        (absent,) = set(MODALITIES) - {reads}
        return f"{self._missing(absent)}: the {reads} network alone answers ({name})"

    def trained_on(self, name: str, found: bool, transcribed: bool) -> str:
        """Return what the model was trained on and how well the network that answers does there, in a line.

        Args:
            name: of the network that answers
            found: whether turns are found, where the corpus's were given
            transcribed: whether words are a recogniser's
        """
        read = transcribed and "text" in find_model(name).modalities
        unlike = (*(["turns"] if found else []), *(["transcripts"] if read else []))
        return trained_on(self.manifest, name, unlike)

    def encode(self, modality: str, turns: Sequence[Heard]) -> list[np.ndarray]:
        """Return the frames of turns, float16 ``[n_frames, dim]`` as shards have them; none where there is nothing."""
        contents = [each.content(modality) for each in turns]
        present = [index for index, each in enumerate(contents) if each is not None]
        encoder = self._encoding.submit(self._encoder, modality).result()
        encoded: dict[int, np.ndarray] = {}
        parts = list(in_parts(present, [len(contents[index]) for index in present], _AT_ONCE[modality]))
        for part in parts:
            self._between()
            frames = self._encoding.submit(_encoded, encoder, [contents[index] for index in part]).result()
            encoded |= zip(part, frames, strict=True)
            if len(parts) > 1:
                give_memory_back()
        nothing = np.zeros((0, encoder.dim), np.float16)
        return [encoded.get(index, nothing) for index in range(len(contents))]

    def probabilities(
        self,
        name: str,
        frames: Mapping[str, Sequence[np.ndarray]],
        speakers: Sequence[Sequence[str | None]],
        kept: Kept | None = None,
    ) -> np.ndarray:
        """Return the probabilities of turns, float32 ``[n, C]``.

        Args:
            name: of the network that answers
            frames: of each modality that it reads those of each turn
            speakers: of each conversation those of its turns
            kept: outputs of networks without context for the first turns; see :meth:`emofuse.inference.graph.Graph`
        """
        inputs = {modality: TurnFrames(each, self._layers(modality)) for modality, each in frames.items()}
        return self._graph.probabilities(name, inputs, _fold(speakers, self.manifest.classes), kept)

    def turn_prediction(self, heard: Heard, row: np.ndarray | None, name: str) -> TurnPrediction:
        """Return the prediction for a turn.

        Args:
            heard: the turn
            row: its probabilities, float32 ``[C]``, or None where there is nothing to answer from
            name: of the network that answered
        """
        turn, probabilities, emotion = heard.turn, {}, None
        absent: list[str] = []
        if row is not None:
            absent = [f"no {_NOTHING[each]}" for each in find_model(name).modalities if heard.content(each) is None]
            probabilities = dict(zip(self.manifest.classes, row.tolist(), strict=True))
            emotion = self.manifest.classes[int(row.argmax())]
        notes = (*heard.notes, *self._cut_words(heard.text, name), *absent)
        return TurnPrediction(
            turn.speaker, heard.text, emotion, probabilities, notes, turn.start_s, turn.end_s, turn.source
        )

    def _missing(self, modality: str) -> str:
        return self.manifest.unread(modality) or f"no {_NOTHING[modality]}"

    def _probabilities(self, name: str, conversations: Sequence[Sequence[Heard]]) -> Iterator[np.ndarray]:
        """Probabilities of each conversation's turns."""
        turns = [turn for each in conversations for turn in each]
        frames = {each: self.encode(each, turns) for each in find_model(name).modalities}
        speakers = [[each.turn.speaker for each in turns] for turns in conversations]
        rows = self.probabilities(name, frames, speakers)
        ends = np.cumsum([0, *map(len, conversations)])
        return (rows[start:end] for start, end in pairwise(ends))

    def _prediction(
        self,
        name: str,
        given: Conversation,
        heard: Sequence[Heard],
        probabilities: np.ndarray,
        transcribe: Transcriber | None,
    ) -> Prediction:
        rows = iter(probabilities)
        turns = tuple(self.turn_prediction(each, None if each.is_empty else next(rows), name) for each in heard)
        remarks = remarks_on(given.remarks, heard, transcribe)
        origin = self.trained_on(name, given.is_found, any(each.is_transcribed for each in heard))
        return Prediction(name, self.remark(name), turns, given.name or None, remarks, origin)

    def _cut_words(self, text: str | None, name: str) -> list[str]:
        """A remark on a text that is longer than its encoder reads."""
        if text is None or "text" not in find_model(name).modalities:
            return []
        encoder = self._encoders["text"]
        most = encoder.identity.get("max_tokens")
        # A token has one letter at least, so that most texts need not be counted.
        if most is None or len(text) <= most:
            return []
        tokens: int = self._encoding.submit(encoder.count_tokens, text).result()  # type: ignore[attr-defined]
        if tokens <= most:
            return []
        return [f"{len(text.split()):,} words, cut at {most} of {tokens:,} tokens"]

    def _layers(self, modality: str) -> int:
        n_layers: int = self._encoders[modality].identity.get("n_layers", 1)
        return n_layers

    def _encoder(self, modality: str) -> Encoder:
        if modality not in self._encoders:
            features = self.manifest.features[modality]  # type: ignore[index]
            with collector_paused():  # for the imports of its family
                encoder = encoders.load(features.family, features.options, f"the bundle's {modality} encoder")
            _check_identity(modality, encoder.identity, features.identity)
            self._encoders[modality] = encoder
        return self._encoders[modality]


def in_parts(indices: Sequence[int], sizes: Sequence[int], most: int) -> Iterator[list[int]]:
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


def _encoded(encoder: Encoder, contents: Sequence[Any]) -> list[np.ndarray]:
    """Frames as they would be read back from shards; still none where there are none."""
    frames = enumerate(encoder.encode(contents), start=1)
    stored = as_stored([Row(f"turn {number}", None, each) for number, each in frames], encoder.dim)
    spans = zip(pairwise(stored.offsets.tolist()), stored.masked.tolist(), strict=True)
    return [stored.values[start:start] if masked else stored.values[start:end] for (start, end), masked in spans]


def _conversation(given: str | Path | Conversation | Sequence[Turn]) -> Conversation:
    if isinstance(given, str | Path):
        return read_conversation(Path(given))
    conversation = given if isinstance(given, Conversation) else Conversation("", tuple(given))
    if not conversation.turns:
        raise ConversationError("a conversation without turns")
    return conversation


def _has(modality: str, turns: Sequence[Heard]) -> bool:
    return any(each.content(modality) is not None for each in turns)


def _fold(conversations: Sequence[Sequence[str | None]], classes: tuple[str, ...]) -> Fold:
    """The turns as training sees a corpus, without labels; of each conversation the speakers are given."""
    turns = [speaker for each in conversations for speaker in each]
    numbers: dict[str | None, int] = {None: -1}
    for speaker in turns:
        numbers.setdefault(speaker, len(numbers) - 1)
    count = len(turns)
    return Fold(
        utterance_ids=tuple(map(str, range(count))),
        dialogues=np.cumsum([0, *map(len, conversations)]),
        speakers=np.array([numbers[speaker] for speaker in turns]),
        splits=np.zeros(count, np.int64),
        targets=np.full(count, IGNORE),
        scored=np.zeros(count, bool),
        classes=classes,
        context="full",
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
