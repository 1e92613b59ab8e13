"""Live predictions: each turn when it ends, with only earlier turns as context.

What was heard is kept and not computed again: of earlier turns the encoders' frames and the vectors of the networks
without context, and of causal networks the dialogue's state, so that a turn costs the same wherever it stands. A model
that was trained with causal context predicts live what it does for the whole recording. Networks that read a dialogue
in both directions read the vectors of all turns anew with every turn, which may change what they say of any.
"""

import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from emofuse.audio.sound import Sound
from emofuse.core.schema import SAMPLE_RATE
from emofuse.inference.graph import Kept
from emofuse.inference.hearing import Transcriber, hear
from emofuse.inference.model import Model, TurnPrediction
from emofuse.inference.recording import SPEAKER, ConversationError, Turn
from emofuse.inference.voice_activity import Span, TurnFinder
from emofuse.models.registry import model as find_model

__all__ = ["BLOCK", "Session", "as_spoken", "follow", "from_pipe"]

BLOCK = SAMPLE_RATE // 10
"""Samples that are taken at once: a tenth of a second."""


class Session:
    """A conversation that goes on.

    Args:
        model: that predicts
        transcribe: what writes down the words of turns that have none
        reads_text: whether turns may have words; by default whether something writes them down

    Raises:
        ConversationError: the model cannot answer from what there is

    Attributes:
        name: of the network that predicts
    """

    def __init__(self, model: Model, transcribe: Transcriber | None = None, reads_text: bool | None = None) -> None:
        has_text = transcribe is not None if reads_text is None else reads_text
        self.name = model.usable_network({"audio", "text"} if has_text else {"audio"})
        self._model, self._transcribe = model, transcribe
        self._frames: dict[str, list[np.ndarray]] = {each: [] for each in find_model(self.name).modalities}
        self._speakers: list[str | None] = []
        self._kept = Kept()

    def predict(self, turn: Turn) -> TurnPrediction:
        """Return the prediction for the next turn."""
        (heard,) = hear([turn], self._model.manifest.max_seconds, self._transcribe)
        if heard.is_empty:
            return self._model.turn_prediction(heard, None, self.name)
        for modality, frames in self._frames.items():
            frames.extend(self._model.encode(modality, [heard]))
        self._speakers.append(turn.speaker)
        probabilities = self._model.probabilities(self.name, self._frames, [self._speakers], self._kept)
        return self._model.turn_prediction(heard, probabilities[-1], self.name)


def follow(
    blocks: Iterable[np.ndarray], session: Session, source: str, where: str | None = None
) -> Iterator[TurnPrediction]:
    """Yield the prediction for each turn as it ends.

    Args:
        blocks: sound as it comes, float32 ``[n_samples]`` at 16 kHz
        session: that predicts
        source: name of the recording
        where: the recording, for messages; by default its name

    Raises:
        ConversationError: it ends, and nobody was heard to speak
    """
    finder, buffer, first, turns = TurnFinder(), np.zeros(0, np.float32), 0, 0
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        for span in finder.feed(block):
            turns += 1
            yield session.predict(_turn(buffer, first, span, source))
        buffer, first = buffer[finder.needed_from - first :], finder.needed_from
    seconds = (first + len(buffer)) / SAMPLE_RATE
    for span in finder.end():
        turns += 1
        yield session.predict(_turn(buffer, first, span, source))
    if not turns:
        raise ConversationError(f"{where or source}: no speech was found in its {seconds:.1f} s")


def _turn(buffer: np.ndarray, first: int, span: Span, source: str) -> Turn:
    """A turn whose sound is in the buffer, which begins with the recording's sample ``first``."""
    samples = buffer[span.start - first : span.end - first]
    sound = Sound(source, samples[None], SAMPLE_RATE)
    return Turn(sound, None, SPEAKER, span.start / SAMPLE_RATE, span.end / SAMPLE_RATE, source)


def as_spoken(samples: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a recording, float32 ``[n_samples]`` at 16 kHz, in blocks at the speed at which it was spoken."""
    began = time.monotonic()
    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK]
        time.sleep(max(0.0, began + (start + len(block)) / SAMPLE_RATE - time.monotonic()))
        yield block


def from_pipe(stream: BinaryIO) -> Iterator[np.ndarray]:
    """Yield the sound of a pipe, 16-bit little-endian samples, mono at 16 kHz, in blocks as they come.

    Raises:
        ConversationError: it is a WAV file, whose rate and channels may be others
    """
    left, is_first = b"", True
    while data := stream.read1(2 * BLOCK) if hasattr(stream, "read1") else stream.read(2 * BLOCK):
        if is_first and data.startswith(b"RIFF"):
            raise ConversationError(
                "standard input: a WAV file; expected samples alone, as of `ffmpeg -i FILE -f s16le -ar 16000 -ac 1 -`"
            )
        left, is_first = left + data, False
        whole = len(left) // 2 * 2
        yield np.frombuffer(left[:whole], "<i2").astype(np.float32) / 32_768
        left = left[whole:]
