"""A loaded model says what the training stage wrote down, whatever it is loaded from and however it is asked."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from emofuse import load
from emofuse.audio.sound import AudioFile, Sound
from emofuse.encoders import EncoderError
from emofuse.inference import model as module
from emofuse.inference.bundle import Bundle, BundleError, write_bundle
from emofuse.inference.conversation import ConversationError, Turn, read_conversation
from emofuse.inference.hearing import TRANSCRIBED
from emofuse.inference.model import Model, Prediction
from emofuse.inference.models_on_disk import find
from emofuse.inference.provenance import trained_on
from emofuse.inference.whisper import PACKAGED

Project = Any
"""The class of the fixture, in ``tests/conftest.py``."""

MODELS = ("audio-utterance", "audio-context", "text-utterance", "text-context")
NOISE = Turn(Sound("noise.wav", np.random.default_rng(1).normal(0, 0.1, (1, 16_000)).astype(np.float32), 16_000))
FUSED = ("concat", "late", "hcam", "hcam/no-context", "cma", "hbaf")


def probabilities(prediction: Prediction) -> np.ndarray:
    return np.array([list(turn.probabilities.values()) for turn in prediction.turns])


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    return Model(bundle)


@pytest.mark.parametrize("name", [*MODELS, *FUSED])
def test_a_bundle_says_what_is_scored_whether_asked_for_one_conversation_or_all(
    project: Project, name: str, tmp_path: Path
) -> None:
    write_bundle(find(project.model(name)), tmp_path / "bundle")
    model = load(tmp_path / "bundle")
    folders = list(project.conversations.values())
    alone = [model.predict(folder) for folder in folders]
    expected = project.predicted(project.model(name) / f"seed-{model.manifest.seed}-fold-0")
    for predictions in (alone, model.predict_all(folders)):
        assert scored(project, model, predictions, expected) == len(expected)
    # The project's own folder, of which the bundle was made, is another way to the same.
    assert load(project.model(name)).predict(folders[0]) == alone[0]


def scored(
    project: Project, model: Model, predictions: Sequence[Prediction], expected: Mapping[str, Sequence[float]]
) -> int:
    """Hold answers against a run's predictions; return the number of turns that have one."""
    compared = 0
    for dialogue, prediction in zip(project.conversations, predictions, strict=True):
        for utterance, turn in zip(project.ids(dialogue), prediction.turns, strict=True):
            if utterance in expected:
                turn_prediction = list(turn.probabilities.values())
                np.testing.assert_allclose(turn_prediction, expected[utterance], atol=2e-5)
                assert turn.emotion == model.manifest.classes[int(np.argmax(turn_prediction))]
                compared += 1
    return compared


def test_the_seed_is_the_best_on_dev(project: Project) -> None:
    for name in FUSED:
        best = find(project.model(name)).manifest
        others = [find(path).manifest for path in project.model(name).glob("seed-*")]
        assert len(others) == best.runs == 2
        assert best.dev["weighted_f1"] == max(each.dev["weighted_f1"] for each in others)


def test_without_transcripts_the_audio_network_answers_alone(project: Project, model: Model) -> None:
    for dialogue, folder in project.conversations.items():
        turns = [replace(turn, text=None) for turn in read_conversation(folder).turns]
        prediction = model.predict(turns)
        assert (prediction.model, prediction.remark) == (
            "audio-context",
            "no transcripts: the audio network alone answers (audio-context)",
        )
        expected = project.predicted(project.model("audio-context") / f"seed-{model.manifest.seed}-fold-0")
        for utterance, turn_prediction in zip(project.ids(dialogue), probabilities(prediction), strict=True):
            if utterance in expected:
                np.testing.assert_allclose(turn_prediction, expected[utterance], atol=2e-5)


@pytest.mark.parametrize("name", ["hcam", "cma", "hbaf", "concat"])
def test_without_sound_the_text_network_answers_alone(project: Project, name: str) -> None:
    prediction = load(project.model(name)).predict([Turn(text="You are late.", speaker="Ann"), Turn(text="Sorry!")])
    assert prediction.model == "text-context"
    assert prediction.remark == "no sound: the text network alone answers (text-context)"
    assert [turn.speaker for turn in prediction.turns] == ["Ann", None]


def test_features_that_others_published_cannot_be_computed(project: Project, bundle: Bundle) -> None:
    published = replace(bundle.manifest.features["audio"], family="published", identity={"revision": "some group"})
    manifest = replace(bundle.manifest, features={**bundle.manifest.features, "audio": published})
    model = Model(replace(bundle, manifest=manifest))
    prediction = model.predict(next(iter(project.conversations.values())))
    assert prediction.model == "text-context"
    assert "values that some group published" in str(prediction.remark)


def test_a_model_of_a_corpus_without_text_is_given_no_words(project: Project, bundle: Bundle) -> None:
    protocol = {**(bundle.manifest.protocol or {}), "modalities_absent": ["text"]}
    model = Model(replace(bundle, manifest=replace(bundle.manifest, protocol=protocol)))
    prediction = model.predict(next(iter(project.conversations.values())))
    assert prediction.model == "audio-context"
    assert str(prediction.remark).startswith("it was trained on a corpus without text: the audio network alone")
    assert not model.reads("text"), "so nothing is transcribed unless that is asked for"


def test_a_turn_that_lacks_one_of_both_is_answered_with_a_note(project: Project, model: Model, tmp_path: Path) -> None:
    turns = list(read_conversation(next(iter(project.conversations.values()))).turns[:3])
    (tmp_path / "noise.wav").write_bytes(b"not a sound")
    turns[1] = replace(turns[1], audio=AudioFile(tmp_path / "noise.wav"))
    turns[2] = replace(turns[2], text=None)
    prediction = model.predict(turns)
    assert prediction.model == "hcam"
    notes = [turn.notes for turn in prediction.turns]
    assert notes[0] == ()
    assert "noise.wav: not a sound file" in notes[1][0]
    assert notes[1][1:] == ("no sound",)
    assert notes[2] == ("no transcripts",)
    np.testing.assert_allclose(probabilities(prediction).sum(axis=1), 1, atol=1e-6)


def test_what_a_model_cannot_answer_is_said(project: Project) -> None:
    model = load(project.model("text-context"))
    turns = [replace(turn, text=None) for turn in read_conversation(next(iter(project.conversations.values()))).turns]
    with pytest.raises(ConversationError, match="text-context cannot answer: no transcripts"):
        model.predict(turns)
    with pytest.raises(ConversationError, match="without turns"):
        model.predict([])


def test_a_transcript_source_is_asked_for_what_has_no_text(project: Project, model: Model) -> None:
    turns = read_conversation(next(iter(project.conversations.values()))).turns
    whole = model.predict(turns)
    heard: list[int] = []

    def transcribe(clips: Any) -> list[str]:
        heard.extend(len(clip) for clip in clips)
        return [str(turns[1].text)]

    prediction = model.predict([turns[0], replace(turns[1], text=None), *turns[2:]], transcribe)
    assert len(heard) == 1
    assert [turn.probabilities for turn in prediction.turns] == [turn.probabilities for turn in whole.turns]


def test_a_turn_with_nothing_to_hear_or_read_has_no_emotion_and_is_no_context(model: Model) -> None:
    """Neither an all but silent clip, which a recogniser would hear words in, nor one that cannot be decoded."""
    hiss = 0.0005 * np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)
    heard: list[int] = []

    def transcribe(clips: Sequence[np.ndarray]) -> list[str]:
        heard.extend(map(len, clips))
        return ["Thank you."] * len(clips)

    words = [Turn(text="You are late.", speaker="Ann"), Turn(text="Sorry!", speaker="Ben")]
    silent = Turn(Sound("hiss.wav", hiss[None], 16_000), speaker="Ben")
    prediction = model.predict([words[0], silent, words[1]], transcribe)
    assert heard == []
    turn_prediction = prediction.turns[1]
    assert (turn_prediction.emotion, turn_prediction.probabilities) == (None, {})
    assert turn_prediction.notes[0] == "nothing to hear"
    assert [prediction.turns[0], prediction.turns[2]] == list(model.predict(words).turns)


def test_a_talk_of_nothing_is_told(model: Model) -> None:
    with pytest.raises(ConversationError, match="hcam cannot answer: no sound and no transcripts"):
        model.predict([Turn(Sound("silence.wav", np.zeros((1, 16_000), np.float32), 16_000))])


def test_words_that_the_encoder_does_not_read_are_counted(model: Model) -> None:
    long, short = model.predict([Turn(text="You are late. " * 2000), Turn(text="a" * 130)]).turns
    assert long.notes[0] == "6,000 words, cut at 128 of 8,002 tokens"
    assert not any("cut" in note for note in short.notes)


def test_every_answer_says_what_the_model_was_trained_on(model: Model) -> None:
    turn_prediction = model.predict([replace(NOISE, text="Hello.")]).trained_on
    mean = 100 * (model.manifest.scores or {})["weighted_f1"]["mean"]  # type: ignore[operator]
    assert turn_prediction.startswith("trained on demo (English, synthetic speech, not real people), weighted F1 ")
    assert f"{mean:.1f}" in turn_prediction
    bare = replace(model.manifest, protocol=None, scores=None, task="own", language=None)
    assert trained_on(bare).startswith("trained on the corpus of the task own (language unknown), weighted F1 ")
    assert trained_on(replace(bare, language="German")).startswith("trained on the corpus of the task own (German), ")


def test_the_score_is_that_of_the_network_that_answers(model: Model) -> None:
    manifest = model.manifest
    whole, alone = manifest.scores or {}, manifest.scores_alone
    assert set(alone) == {"audio-context", "text-context"}
    for turns, network in (([Turn(text="Hello.")], "text-context"), ([NOISE], "audio-context")):
        found = model.predict(turns)
        assert found.model == network
        mean = 100 * alone[network]["weighted_f1"]["mean"]  # type: ignore[operator]
        assert re.search(rf"weighted F1 {mean:.1f} \(.*\) on its test for {network} alone; not", found.trained_on)
    # Of a bundle that does not have them, nobody takes the whole model's for it.
    mean = 100 * whole["weighted_f1"]["mean"]  # type: ignore[operator]
    unknown = trained_on(replace(manifest, scores_alone={}), "text-context")
    assert re.search(
        rf"weighted F1 {mean:.1f} \(.*\) on its test for the whole model, and not known for text-context", unknown
    )


def test_words_that_were_written_down_are_told_with_the_recogniser_s_name(model: Model) -> None:
    """Whoever asks: a function has no name, one of the package's recognisers has."""

    class Recogniser:
        name = "models/german"

        def __call__(self, clips: Sequence[np.ndarray]) -> list[str]:
            return ["Guten Tag."] * len(clips)

    found = model.predict([NOISE], Recogniser())
    assert found.remarks == ("missing words transcribed by models/german, which makes errors",)
    assert "on its test, with the corpus's own transcripts; not" in found.trained_on
    assert model.predict([NOISE], lambda clips: ["Hello."]).remarks == (
        "missing words transcribed by a recogniser, which makes errors",
    )
    Recogniser.name = PACKAGED
    assert model.predict([NOISE], Recogniser()).remarks == (TRANSCRIBED,)
    # Where nothing lacks words, or no words are heard, nothing is told.
    for turns, words in (([Turn(text="Hello.")], "x"), ([NOISE], "")):
        prediction = model.predict(turns, lambda clips, words=words: [words] * len(clips))  # type: ignore[misc]
        assert prediction.remarks == ()
        assert "corpus's own" not in prediction.trained_on


def test_another_encoder_than_the_model_s_is_refused(project: Project, bundle: Bundle) -> None:
    features = dict(bundle.manifest.features)
    features["audio"] = replace(features["audio"], options=features["audio"].options | {"n_mels": 20})
    model = Model(replace(bundle, manifest=replace(bundle.manifest, features=features)))
    with pytest.raises(BundleError, match=r"the audio encoder here is not the model's: layer '20 bands"):
        model.predict(next(iter(project.conversations.values())))


def test_an_encoder_that_is_not_there_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    features = dict(bundle.manifest.features)
    features["text"] = replace(
        features["text"], options={"model": "some/model", "revision": "0" * 40, "labels_seen": False}
    )
    model = Model(replace(bundle, manifest=replace(bundle.manifest, features=features)))
    with pytest.raises(EncoderError, match="some/model"):
        model.load_encoders()


def test_a_model_that_says_the_same_of_everything_is_refused(project: Project) -> None:
    with pytest.raises(BundleError, match="majority predicts the same for every utterance"):
        find(project.model("majority"))


def test_a_large_request_does_not_keep_others_waiting_to_its_end(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small one comes while the first part of the large one is encoded, and is the next."""
    model, order = Model(bundle), []
    model.load_encoders()
    began, asked = Event(), Event()
    encoder = model._encoders["text"]
    encode = type(encoder).encode

    def slow(self: Any, contents: Sequence[str]) -> Any:
        order.append("small" if contents == ["Small."] else "large")
        if len(order) == 1:
            began.set()
            assert asked.wait(60)
        return encode(self, contents)

    submit = model._encoding.submit

    def watched(function: Any, *values: Any) -> Any:
        done = submit(function, *values)
        if values[-1] == "text" and began.is_set():
            asked.set()
        return done

    monkeypatch.setattr(type(encoder), "encode", slow)
    monkeypatch.setattr(model._encoding, "submit", watched)
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(model.predict, [Turn(text="You are late. " * 200) for _ in range(20)])
        assert began.wait(60)
        small = pool.submit(model.predict, [Turn(text="Small.")])
        assert len(small.result(60).turns) == 1
        assert len(large.result(60).turns) == 20
    assert order.index("small") < 3 < len(order)


def test_parts_say_what_the_whole_does(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [Turn(text=f"You are {number} minutes late, and I {'do not ' * number}mind.") for number in range(12)]
    whole = probabilities(Model(bundle).predict(turns))
    monkeypatch.setitem(module._AT_ONCE, "text", 100)
    np.testing.assert_allclose(probabilities(Model(bundle).predict(turns)), whole, atol=2e-5)
