"""The built-in corpus: scripted conversations of two people, spoken by espeak-ng.

A dialogue has one topic and follows one emotional arc; emotions last a few turns and pass from one speaker to the
other. What tells the emotion of a turn changes from turn to turn:

* the voice: neutral wording, spoken faster, higher, livelier or louder than the speaker's own manner
* the wording: a telling sentence, spoken flatly
* the turn before: a short reply, spoken flatly, that takes over the emotion it answers

So neither modality is enough alone, and context helps. Voices of train, dev and test are different ones.
Nothing in the corpus says which of the three it is. The tables are in :mod:`emofuse.corpora.demo.grammar`.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT
from emofuse.corpora.base import Corpus, Utterance
from emofuse.corpora.demo.grammar import (
    ARCS,
    CLEAR,
    DAYS,
    DELIVERIES,
    PEOPLE,
    PLAIN,
    REPLIES,
    TIMES,
    TOPICS,
    VOICES,
    Arc,
    Topic,
    Voice,
)
from emofuse.corpora.demo.voice import Speech

__all__ = ["Config", "read"]

# Dialogue by dialogue, so that one more dialogue leaves the earlier ones as they are: of 20, 12 train, 3 dev, 5 test.
_SPLITS = (
    *("train", "test", "dev", "train", "train", "test", "train", "train", "train", "test"),
    *("dev", "train", "train", "test", "train", "train", "dev", "test", "train", "train"),
)

_VOICE_SHARE = 0.52
"""Of emotional turns that are no replies, how many carry the emotion in the voice; in the others it is the wording."""

_REPLY_SHARE = 0.25
"""Of turns that could be a reply, how many are."""

_UNLABELLED_SHARE = 0.03

_Cue = Literal["voice", "wording", "reply"]


@dataclass(frozen=True, config=STRICT)
class Config:
    """Size of the demo corpus.

    Attributes:
        seed: seed of the corpus; equal seeds give equal rows and equal sound
        dialogues: number of conversations, about ten turns each; at least 4, so that every split has one
    """

    seed: int = Field(default=0, ge=0)
    dialogues: int = Field(default=120, ge=4, le=999)


def read(source: Path, config: Config) -> Corpus:
    """Write the script of the corpus; the sound is made when an utterance's audio is loaded.

    About 60 % of the dialogues are ``train``, 15 % ``dev`` and 25 % ``test``. Labels are ``neutral``, ``happy``,
    ``sad`` and ``angry``; a few utterances have none. Speakers are named by their voice.

    Args:
        source: the grammar and the synthesizer, named in the parameters so that DVC sees them change; imported here
        config: seed and size
    """
    del source
    utterances = [utterance for index in range(config.dialogues) for utterance in _dialogue(config.seed, index)]
    return Corpus(utterances, split_source="made with the corpus: dialogues are dealt, voices belong to one split")


def _dialogue(seed: int, index: int) -> Iterator[Utterance]:
    rng = random.Random(f"demo/{seed}/{index}")
    split = _SPLITS[index % len(_SPLITS)]
    voices = rng.sample(VOICES[split], 2)
    # Arcs are dealt, not drawn, so that the labels are balanced in every split; the shift deals each split all of them.
    emotions = _emotions(rng, ARCS[(index + index // len(_SPLITS)) % len(ARCS)])
    cues = _cues(rng, emotions)
    texts = _texts(rng, emotions, cues)
    for turn, (emotion, cue, text) in enumerate(zip(emotions, cues, texts, strict=True)):
        utterance_id = f"demo_d{index:03d}_t{turn:02d}"
        voice = voices[turn % 2]
        yield Utterance(
            utterance_id=utterance_id,
            dialogue_id=f"demo_d{index:03d}",
            turn=turn,
            speaker=voice.name,
            text=text,
            label=None if rng.random() < _UNLABELLED_SHARE else emotion,
            split=split,
            audio=_speech(rng, f"{utterance_id}.wav", text, voice, emotion if cue == "voice" else "neutral"),
        )


def _emotions(rng: random.Random, arc: Arc) -> list[str]:
    emotions: list[str] = []
    for stage in arc:
        shared = stage[0] == stage[1]
        for _ in range(rng.randint(2, 4) if shared else 2):
            emotions.append(stage[len(emotions) % 2])
    return emotions


def _cues(rng: random.Random, emotions: list[str]) -> list[_Cue]:
    cues: list[_Cue] = []
    for turn, emotion in enumerate(emotions):
        # A reply repeats the emotion before it, and what it replies to must tell that emotion.
        could_reply = turn > 0 and emotion == emotions[turn - 1] and cues[-1] != "reply"
        if could_reply and rng.random() < _REPLY_SHARE:
            cues.append("reply")
        else:
            cues.append("voice" if rng.random() < _VOICE_SHARE else "wording")
    return cues


def _texts(rng: random.Random, emotions: list[str], cues: list[_Cue]) -> list[str]:
    topic = rng.choice(TOPICS)
    decks = {name: rng.sample(lines, len(lines)) for name, lines in {"plain": PLAIN, "reply": REPLIES, **CLEAR}.items()}
    texts = []
    for emotion, cue in zip(emotions, cues, strict=True):
        wording = emotion if cue == "wording" and emotion in CLEAR else "plain"
        texts.append(_fill(rng, decks["reply" if cue == "reply" else wording].pop(), topic))
    return texts


def _fill(rng: random.Random, template: str, topic: Topic) -> str:
    return template.format(
        thing=rng.choice(topic.things),
        place=rng.choice(topic.places),
        person=rng.choice(PEOPLE),
        day=rng.choice(DAYS),
        time=rng.choice(TIMES),
    )


def _speech(rng: random.Random, name: str, text: str, voice: Voice, emotion: str) -> Speech:
    delivery = DELIVERIES[emotion]
    strength = rng.uniform(0.75, 1.2)
    rate = voice.rate * (1 + strength * (delivery.rate - 1)) * rng.gauss(1, 0.03)
    volume = voice.volume * (1 + strength * (delivery.volume - 1)) * rng.gauss(1, 0.07)
    pitch = voice.pitch + strength * delivery.pitch + rng.gauss(0, 3)
    pitch_range = min(max(50 + strength * delivery.range + rng.gauss(0, 6), 0), 99)
    return Speech(text, voice.name, round(rate), round(pitch), round(pitch_range), round(volume), name)
