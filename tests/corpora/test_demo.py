import hashlib
import os
import pickle
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from emofuse.core.schema import SPLITS
from emofuse.corpora.base import Corpus, Utterance
from emofuse.corpora.demo.grammar import CLEAR, PLAIN, REPLIES, VOICES
from emofuse.corpora.demo.reader import Config, read
from emofuse.corpora.demo.voice import Speech

LABELS = ("neutral", "happy", "sad", "angry")
# The reader does not open it: the script is written from tables.
SOURCE = Path("src/emofuse/corpora/demo/grammar.py")


@pytest.fixture(scope="module")
def utterances() -> Sequence[Utterance]:
    return read(SOURCE, Config()).utterances


@pytest.fixture(scope="module")
def sounds(utterances: Sequence[Utterance]) -> list[tuple[Utterance, np.ndarray, int]]:
    return [(utterance, *speech(utterance).load()) for utterance in utterances[::10]]


def speech(utterance: Utterance) -> Speech:
    assert isinstance(utterance.audio, Speech)
    return utterance.audio


def dialogues(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    found = defaultdict(list)
    for utterance in utterances:
        found[utterance.dialogue_id].append(utterance)
    return found


def digest(corpus: Corpus) -> str:
    rows = repr(list(corpus.utterances)).encode()
    first = b"".join(speech(utterance).load()[0].tobytes() for utterance in corpus.utterances[:10])
    return hashlib.sha256(rows + first).hexdigest()


def variant(voice: str) -> str:
    return voice.partition("+")[2]


def fits(text: str, templates: Sequence[str]) -> bool:
    patterns = (".+".join(map(re.escape, re.split(r"\{\w+\}", template))) for template in templates)
    return any(re.fullmatch(pattern, text) for pattern in patterns)


def test_equal_seeds_give_equal_rows_and_sound():
    assert digest(read(SOURCE, Config(seed=3, dialogues=5))) == digest(read(SOURCE, Config(seed=3, dialogues=5)))


def test_processes_agree():
    config = Config(seed=3, dialogues=5)
    script = (
        "import pickle, sys\n"
        "from emofuse.corpora.demo.reader import Config, read\n"
        f"sys.stdout.buffer.write(pickle.dumps(read(None, {config!r})))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert digest(pickle.loads(run.stdout)) == digest(read(SOURCE, config))  # noqa: S301


def test_other_seed_gives_another_corpus():
    texts = [{utterance.text for utterance in read(SOURCE, Config(seed=seed)).utterances} for seed in (0, 1)]
    assert len(texts[0] & texts[1]) < 0.5 * len(texts[0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), count=st.integers(4, 40))
def test_every_corpus_is_sound(seed: int, count: int):
    utterances = read(SOURCE, Config(seed=seed, dialogues=count)).utterances
    found = dialogues(utterances)
    assert len({utterance.utterance_id for utterance in utterances}) == len(utterances)
    assert list(found) == [f"demo_d{index:03d}" for index in range(count)]
    assert {utterance.split for utterance in utterances} == set(SPLITS)
    for dialogue_id, turns in found.items():
        assert [turn.utterance_id for turn in turns] == [f"{dialogue_id}_t{number:02d}" for number in range(len(turns))]
        assert [turn.turn for turn in turns] == list(range(len(turns)))
        assert len({turn.split for turn in turns}) == 1
        assert len({turn.speaker for turn in turns[:2]}) == 2
        assert all(turn.speaker == turns[turn.turn % 2].speaker for turn in turns)
        assert all(turn.label in {None, *LABELS} for turn in turns)


@given(seed=st.integers(0, 2**40), count=st.integers(4, 30))
@settings(max_examples=10, deadline=None)
def test_more_dialogues_leave_the_earlier_as_they_are(seed: int, count: int):
    few = read(SOURCE, Config(seed=seed, dialogues=count)).utterances
    many = read(SOURCE, Config(seed=seed, dialogues=count + 7)).utterances
    assert many[: len(few)] == few


def test_size(utterances: Sequence[Utterance]):
    found = dialogues(utterances)
    splits = Counter(turns[0].split for turns in found.values())
    assert splits == {"train": 72, "dev": 18, "test": 30}
    assert all(6 <= len(turns) <= 16 for turns in found.values())
    assert 1_050 < len(utterances) < 1_300


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_balanced_in_every_split(seed: int):
    utterances = read(SOURCE, Config(seed=seed)).utterances
    for split in SPLITS:
        labels = [utterance.label for utterance in utterances if utterance.split == split and utterance.label]
        assert all(0.15 < labels.count(label) / len(labels) < 0.40 for label in LABELS)


def test_few_are_unlabelled(utterances: Sequence[Utterance]):
    assert 0.01 < np.mean([utterance.label is None for utterance in utterances]) < 0.06


def test_no_voice_is_in_two_splits(utterances: Sequence[Utterance]):
    speakers = {split: {u.speaker for u in utterances if u.split == split} for split in SPLITS}
    variants = {split: {variant(voice.name) for voice in VOICES[split]} for split in SPLITS}
    for split in SPLITS:
        assert speakers[split] <= {voice.name for voice in VOICES[split]}
        assert len(variants[split]) == len(VOICES[split])
    assert len(set.union(*variants.values())) == sum(map(len, variants.values()))


def test_speakers_are_the_voices_that_are_heard(utterances: Sequence[Utterance]):
    assert all(speech(utterance).voice == utterance.speaker for utterance in utterances)


@pytest.mark.parametrize("voice", [voice for split in SPLITS for voice in VOICES[split]], ids=lambda voice: voice.name)
def test_every_voice_speaks(voice):
    samples, rate = Speech(
        "The soup is in the kitchen.", voice.name, voice.rate, voice.pitch, 50, voice.volume, "a"
    ).load()
    assert samples.shape[1] > rate / 2
    # Voices are equally loud when calm, else loudness would tell the speaker more than the emotion.
    assert 20 * np.log10(np.std(samples)) == pytest.approx(-29, abs=2.5)


def test_no_column_tells_the_cue(utterances: Sequence[Utterance]):
    for each in utterances:
        assert (each.session, each.start_s, each.end_s, each.sentiment, each.defects) == (None, None, None, None, ())
        assert speech(each).name == f"{each.utterance_id}.wav"
        assert speech(each).text == each.text


def test_emotions_last(utterances: Sequence[Utterance]):
    pairs = [pair for turns in dialogues(utterances).values() for pair in pairwise(turn.label for turn in turns)]
    assert 0.55 < np.mean([a == b for a, b in pairs if a and b]) < 0.8


def test_wording_alone_is_ambiguous(utterances: Sequence[Utterance]):
    labels = defaultdict(set)
    for utterance in utterances:
        labels[utterance.text].add(utterance.label)
    assert sum(len(found - {None}) > 1 and fits(text, PLAIN) for text, found in labels.items()) > 20
    for line in (PLAIN, REPLIES):
        assert {u.label for u in utterances if fits(u.text, line)} >= set(LABELS)


def test_telling_wording_tells_the_truth_in_a_flat_voice(utterances: Sequence[Utterance]):
    for label, lines in CLEAR.items():
        told = [utterance for utterance in utterances if fits(utterance.text, lines)]
        assert len(told) > 50
        assert {utterance.label for utterance in told} <= {label, None}
        assert np.mean([abs(speech(utterance).range - 50) < 20 for utterance in told]) > 0.98


def test_replies_take_over_the_emotion_before_them(utterances: Sequence[Utterance]):
    for turns in dialogues(utterances).values():
        for before, turn in pairwise(turns):
            if fits(turn.text, REPLIES):
                assert not fits(before.text, REPLIES)
                assert turn.label == before.label or None in (turn.label, before.label)


def test_most_of_test_is_not_word_for_word_in_train(utterances: Sequence[Utterance]):
    train, test = ([u.text for u in utterances if u.split == split] for split in ("train", "test"))
    assert np.mean([text in set(train) for text in test]) < 0.4


def test_no_sentence_is_shouted_or_unfinished(utterances: Sequence[Utterance]):
    for utterance in utterances:
        assert re.fullmatch(r"[A-Z][A-Za-zé ,]*[.?]", utterance.text)


def test_sound_is_audible_short_and_unclipped(sounds: list[tuple[Utterance, np.ndarray, int]]):
    for utterance, samples, rate in sounds:
        assert 0.5 <= samples.shape[1] / rate <= 4.0, utterance
        assert 0.02 < np.abs(samples).max() < 1.0, utterance
    assert 1.3 < np.mean([samples.shape[1] / rate for _, samples, rate in sounds]) < 2.0


def test_emotion_is_heard(sounds: list[tuple[Utterance, np.ndarray, int]]):
    heard = defaultdict(list)
    for utterance, samples, _ in sounds:
        if fits(utterance.text, PLAIN):
            heard[utterance.label].append(20 * np.log10(np.std(samples)))
    median = {label: float(np.median(levels)) for label, levels in heard.items()}
    assert median["sad"] + 2 < median["neutral"] < median["angry"] - 2


@pytest.mark.parametrize("bad", [{"dialogues": 3}, {"dialogues": 1_000}, {"seed": -1}, {"voices": 4}, {"seed": "a"}])
def test_bad_config_is_an_error(bad: dict[str, object]):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Config(**bad)
