"""A recording of several people becomes turns with times, speakers and words, compared with what it was joined from."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from emofuse.audio.resample import downmix, resample
from emofuse.audio.sound import AudioFile, Sound
from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders import EncoderError
from emofuse.inference.bundle import Bundle
from emofuse.inference.conversation import ConversationError, read_conversation
from emofuse.inference.diarization import diarizer
from emofuse.inference.model import Model
from emofuse.inference.recording import ONE_SPEAKER
from emofuse.inference.segments import Segment, SegmentError
from emofuse.inference.transcripts import recogniser as load_recogniser

Project = Any
GAP_S = 0.8
CLOSE_S = 0.3
"""Seconds by which a turn that is found may begin or end beside the clip that was joined."""


def clip(path: Path) -> np.ndarray:
    samples, rate = AudioFile(path).load()
    return resample(downmix(samples)[0], rate)


def join(path: Path, clips: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Write clips one after another with silence between; return where they are, in seconds."""
    silence, parts, places, place = np.zeros(round(GAP_S * SAMPLE_RATE), np.float32), [], [], 0.0
    for each in clips:
        parts += [silence, each]
        places.append((place + GAP_S, place + GAP_S + len(each) / SAMPLE_RATE))
        place = places[-1][1]
    soundfile.write(path, np.concatenate([*parts, silence]), SAMPLE_RATE)
    return places


@pytest.fixture(scope="module")
def dialogue(project: Project) -> list[dict[str, Any]]:
    """Six turns of two synthetic voices: speaker, text and samples."""
    folder = next(iter(project.conversations.values()))
    turns = json.loads((folder / "turns.json").read_text())[:6]
    return [turn | {"samples": clip(folder / turn["audio"])} for turn in turns]


@pytest.fixture(scope="module")
def talk(dialogue: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their recording."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    join(path, [turn["samples"] for turn in dialogue])
    return path


@pytest.fixture(scope="module")
def places(dialogue: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, float]]:
    return join(tmp_path_factory.mktemp("places") / "talk.wav", [turn["samples"] for turn in dialogue])


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    return Model(bundle)


def assert_close(found: Sequence[tuple[float | None, float | None]], expected: Sequence[tuple[float, float]]) -> None:
    assert len(found) == len(expected)
    np.testing.assert_allclose(np.array(found, float), np.array(expected), atol=CLOSE_S)


def test_two_voices_are_the_turns_that_they_were_joined_from(
    talk: Path, places: list[tuple[float, float]], model: Model
) -> None:
    prediction = model.predict(str(talk))
    assert_close([(turn.start_s, turn.end_s) for turn in prediction.turns], places)
    assert {turn.speaker for turn in prediction.turns} == {"speaker"}
    assert {turn.source for turn in prediction.turns} == {"talk.wav"}
    assert [each.partition(";")[0] for each in prediction.remarks] == [ONE_SPEAKER]
    assert prediction.model == "audio-context"


def test_segments_with_words_and_speakers_give_what_the_turns_alone_would(
    talk: Path, dialogue: list[dict[str, Any]], places: list[tuple[float, float]], model: Model, project: Project
) -> None:
    """The clips were cut out again, to the sample, so the dialogue's first turns are those of its own folder."""
    segments = [
        {"start": start, "end": end, "speaker": turn["speaker"], "text": turn["text"]}
        for turn, (start, end) in zip(dialogue, places, strict=True)
    ]
    path = talk.with_name("written.json")
    path.write_text(json.dumps(segments))
    prediction = model.predict(talk, segments=path)
    folder = read_conversation(next(iter(project.conversations.values())))
    expected = model.predict(list(folder.turns[: len(dialogue)]))
    for turn, other in zip(prediction.turns, expected.turns, strict=True):
        assert (turn.speaker, turn.text) == (other.speaker, other.text)
        np.testing.assert_allclose(list(turn.probabilities.values()), list(other.probabilities.values()), atol=2e-3)
    assert prediction.remarks == ()


def test_each_channel_is_a_speaker(
    dialogue: list[dict[str, Any]], places: list[tuple[float, float]], tmp_path: Path, model: Model
) -> None:
    names = sorted({turn["speaker"] for turn in dialogue})
    sound = np.zeros((round((places[-1][1] + GAP_S) * SAMPLE_RATE), 2), np.float32)
    for turn, (start, _) in zip(dialogue, places, strict=True):
        begin = round(start * SAMPLE_RATE)
        sound[begin : begin + len(turn["samples"]), names.index(turn["speaker"])] = turn["samples"]
    soundfile.write(tmp_path / "phone.flac", sound, SAMPLE_RATE)
    prediction = model.predict(tmp_path / "phone.flac", channels=True)
    assert_close([(turn.start_s, turn.end_s) for turn in prediction.turns], places)
    expected = [f"channel {names.index(turn['speaker']) + 1}" for turn in dialogue]
    assert [turn.speaker for turn in prediction.turns] == expected
    assert prediction.remarks == ()
    soundfile.write(tmp_path / "same.wav", np.stack([sound[:, 0]] * 2, axis=1), SAMPLE_RATE)
    with pytest.raises(ConversationError, match=r"same.wav: its channels hold the same sound"):
        model.predict(tmp_path / "same.wav", channels=True)


def test_turns_may_overlap_and_be_many(talk: Path, model: Model) -> None:
    """As a diarizer has them: 2,000 turns, each half over the next, of two speakers."""
    step = (soundfile.info(talk).duration - 0.3) / 2000
    starts = (index * step for index in range(2000))
    named = zip(starts, 1000 * "ab", strict=True)
    lines = [f"SPEAKER talk 1 {start:.4f} 0.2 <NA> <NA> {who} <NA> <NA>" for start, who in named]
    path = talk.with_name("many.rttm")
    path.write_text("\n".join(lines))
    prediction = model.predict(talk, segments=path)
    assert len(prediction.turns) == 2000
    assert sum(turn.emotion is not None for turn in prediction.turns) > 1000
    assert [turn.speaker for turn in prediction.turns[:4]] == ["a", "b", "a", "b"]


WORDS = [
    "Why do all you’re coffee mugs have numbers on the bottom?",
    "You guys feel safe.",
    "Okay, I’m sorry.",
    "Hey!",
]
"""What MELD's transcripts say of the four clips; the third one goes on for longer than its transcript."""


def plain(text: str) -> list[str]:
    return ["".join(sign for sign in word if sign.isalpha()) for word in text.lower().replace("you’re", "your").split()]


def test_four_clips_of_meld_have_their_times_and_words(shared: Path, tmp_path: Path, model: Model) -> None:
    clips = [clip(path) for path in sorted((shared / "meld_clips").glob("*.wav"))]
    places = join(tmp_path / "meld.wav", clips)
    recognise = load_recogniser(str(shared / "models/whisper-tiny.en"))
    prediction = model.predict(tmp_path / "meld.wav", recognise)
    assert len(prediction.turns) == len(clips)
    for turn, (start, end), words in zip(prediction.turns, places, WORDS, strict=True):
        # Cut for television: laughter and silence stand before and after the words.
        assert start - CLOSE_S < (turn.start_s or 0) < (turn.end_s or 0) < end + CLOSE_S
        found = set(plain(words))
        assert len(found & set(plain(turn.text or ""))) >= len(found) / 2, turn.text
    assert prediction.model == "hcam"


def test_clips_of_emodb_are_turns(shared: Path, tmp_path: Path) -> None:
    """One of the nine is spoken so slowly that a pause in it is as long as one between speakers: it is two turns."""
    paths = sorted((shared / "emodb/wav").glob("*.wav"))[::60]
    places = join(tmp_path / "emodb.wav", [clip(path) for path in paths])
    found = [(turn.start_s or 0, turn.end_s or 0) for turn in read_conversation(tmp_path / "emodb.wav").turns]
    of_clips = [[each for each in found if each[0] < end and each[1] > start] for start, end in places]
    assert sorted(map(len, of_clips)) == [1] * 8 + [2]
    assert len(found) == 10
    assert_close([(turns[0][0], turns[-1][1]) for turns in of_clips], places)


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        (np.zeros(0), "no samples in it"),
        (np.zeros(60 * SAMPLE_RATE), "no speech was found in its 60.0 s"),
        (np.full(SAMPLE_RATE, np.nan), "a sample is not a finite number"),
        (0.3 * np.sin(np.arange(20 * SAMPLE_RATE) / 10), "no speech was found in its 20.0 s"),
    ],
    ids=["no samples", "silence", "not a number", "a tone"],
)
def test_what_has_no_turns_is_one_line(samples: np.ndarray, fault: str, tmp_path: Path) -> None:
    path = write(tmp_path / "talk.wav", samples.astype(np.float32))
    with pytest.raises(ConversationError) as caught:
        read_conversation(path)
    assert str(caught.value) == f"{path}: {fault}"


def test_an_hour_of_silence_is_one_line_and_two_words_in_it_are_found(
    dialogue: list[dict[str, Any]], tmp_path: Path
) -> None:
    rate, seconds = 8_000, 3_600
    hour = np.zeros(rate * seconds, np.int16)
    path = tmp_path / "hour.flac"
    soundfile.write(path, hour, rate)
    with pytest.raises(ConversationError, match=r"^\S*hour.flac: no speech was found in its 3600.0 s$"):
        read_conversation(path)
    spoken = [np.rint(32_000 * each["samples"][::2]).astype(np.int16) for each in dialogue[:2]]
    starts = (1_000.0, seconds - 10.0)
    for start, samples in zip(starts, spoken, strict=True):
        hour[round(start * rate) : round(start * rate) + len(samples)] = samples
    soundfile.write(path, hour, rate)
    turns = read_conversation(path).turns
    places = [(start, start + len(samples) / rate) for start, samples in zip(starts, spoken, strict=True)]
    assert_close([(turn.start_s, turn.end_s) for turn in turns], places)


def test_what_is_no_sound_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_text("hello")
    with pytest.raises(OSError, match=r"talk.txt: not a sound file that can be decoded"):
        read_conversation(tmp_path / "talk.txt")
    path = write(tmp_path / "mono.wav", np.ones(SAMPLE_RATE, np.float32))
    with pytest.raises(ConversationError, match=r"mono.wav: one channel; expected a channel for each speaker"):
        read_conversation(path, channels=True)


def test_the_segments_of_another_recording_are_refused(talk: Path) -> None:
    path = talk.with_name("other.rttm")
    path.write_text("SPEAKER x 1 0.5 1.0 <NA> <NA> ann <NA> <NA>\nSPEAKER x 1 100 1 <NA> <NA> ann <NA> <NA>\n")
    with pytest.raises(SegmentError, match=r"other.rttm: segment 2 is from 100 s to 101 s, but the sound ends at .* s"):
        read_conversation(talk, path)
    with pytest.raises(ConversationError, match="apply to a recording alone"):
        read_conversation(talk.parent, path)


def test_segments_that_name_another_recording_are_told(talk: Path) -> None:
    """Some programs call every recording alike, so that these may be right."""
    path = talk.with_name("named.rttm")
    line = "SPEAKER {} 1 0.5 1.0 <NA> <NA> ann <NA> <NA>\n"
    for name in ("talk", "talk.wav"):
        path.write_text(line.format(name))
        assert read_conversation(talk, path).remarks == ()
    path.write_text(line.format("meeting"))
    (remark,) = read_conversation(talk, path).remarks
    assert remark == f"{path} names the recording meeting and not talk; is it of another recording?"


def test_a_recording_s_segments_are_found_in_a_folder(talk: Path) -> None:
    folder = talk.with_name("segments")
    folder.mkdir()
    (folder / "other.txt").write_text("0.5\t1.5\tOther.\n")
    with pytest.raises(SegmentError, match=r"segments: of talk.wav expected one file of segments, talk\.\*: none"):
        read_conversation(talk, folder)
    (folder / "talk.txt").write_text("0.5\t1.5\t[Ann]: Hello.\n")
    assert [turn.text for turn in read_conversation(talk, folder).turns] == ["Hello."]
    (folder / "talk.rttm").touch()
    with pytest.raises(SegmentError, match=r"talk\.\*: talk.rttm, talk.txt"):
        read_conversation(talk, folder)


def test_segments_may_be_a_list(talk: Path, model: Model) -> None:
    prediction = model.predict(talk, segments=[Segment(2.0, 3.0, "Ben"), Segment(0.5, 1.5, "Ann", "Hello.")])
    assert [(turn.start_s, turn.speaker, turn.text) for turn in prediction.turns] == [
        (0.5, "Ann", "Hello."),
        (2.0, "Ben", None),
    ]
    with pytest.raises(SegmentError, match=r"segment 1 is from 2 s to 300 s, but the sound ends at"):
        model.predict(talk, segments=[Segment(2.0, 300.0)])


@pytest.mark.parametrize("channels", [False, True])
def test_a_damaged_recording_is_answered_and_told(talk: Path, channels: bool, tmp_path: Path, model: Model) -> None:
    """A recorder that stopped without warning leaves a length of zero, or one that it did not come to."""
    samples, rate = soundfile.read(talk, dtype="int16")
    whole = tmp_path / "whole.wav"
    soundfile.write(whole, np.stack([samples, np.roll(samples, 40_000)], axis=1) if channels else samples, rate)
    expected = model.predict(whole, channels=channels)
    data = whole.read_bytes()
    size = int.from_bytes(data[40:44], "little")
    for length, words in ((0, "its header says that it has no samples"), (size + 4, "cut off: by its headers")):
        damaged = tmp_path / "talk.wav"
        damaged.write_bytes(data[:40] + length.to_bytes(4, "little") + data[44:])
        found = model.predict(damaged, channels=channels)
        assert found.remarks[0].startswith(f"talk.wav: {words}")
        assert found.remarks[1:] == expected.remarks
        assert [turn.probabilities for turn in found.turns] == [turn.probabilities for turn in expected.turns]


def test_a_segment_that_is_rounded_past_the_end_is_cut_there(talk: Path) -> None:
    seconds = soundfile.info(talk).duration
    path = talk.with_name("rounded.txt")
    path.write_text(f"1.0\t{seconds + 0.2:.2f}\tHello.\n")
    conversation = read_conversation(talk, path)
    (turn,) = conversation.turns
    assert turn.end_s == pytest.approx(seconds)
    assert [each.partition(";")[0] for each in conversation.remarks] == [ONE_SPEAKER]


def pyannote(load: Callable[..., Any]) -> dict[str, ModuleType]:
    package, audio = ModuleType("pyannote"), ModuleType("pyannote.audio")
    audio.Pipeline = SimpleNamespace(from_pretrained=load)  # type: ignore[attr-defined]
    return {"pyannote": package, "pyannote.audio": audio}


class Annotation:
    """What a pipeline of pyannote.audio answers with."""

    def itertracks(self, yield_label: bool) -> list[tuple[Any, str, str]]:
        return [
            (SimpleNamespace(start=2.0, end=3.0), "A", "B"),
            (SimpleNamespace(start=-0.1, end=1.5), "B", "A"),
            (SimpleNamespace(start=4.0, end=900.0), "C", "B"),
            (SimpleNamespace(start=900.0, end=901.0), "D", "C"),
        ]


@pytest.mark.parametrize("version", [3, 4])
def test_a_diarizer_tells_who_speaks(
    version: int, talk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last window may reach beyond the sound, and what it prints is no prediction."""
    monkeypatch.delenv("PYANNOTE_METRICS_ENABLED", raising=False)
    asked: list[Any] = []

    def pipeline(file: dict[str, Any]) -> Any:
        print("It takes a while.")
        asked.append((tuple(file["waveform"].shape), file["sample_rate"], file["uri"]))
        return Annotation() if version == 3 else SimpleNamespace(speaker_diarization=Annotation())

    def load(name: str, revision: str | None = None) -> Any:
        asked.append((name, revision))
        return pipeline

    for name, module in pyannote(load).items():
        monkeypatch.setitem(sys.modules, name, module)
    conversation = read_conversation(talk, diarizer("some/pipeline@abc"))
    info = soundfile.info(talk)
    assert asked == [("some/pipeline", "abc"), ((1, info.frames), SAMPLE_RATE, "talk.wav")]
    expected = [(0, 1.5, "A"), (2, 3, "B"), (4, info.duration, "B")]
    assert [(turn.start_s, turn.end_s, turn.speaker) for turn in conversation.turns] == expected
    assert conversation.remarks == ()
    assert capsys.readouterr() == ("", "It takes a while.\n")
    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0", "its makers are not told of every use"


def test_a_diarizer_is_a_folder_or_a_pinned_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, revision: str | None = None) -> Any:
        if name == "some/pipeline":
            raise KeyError("pipeline")
        asked.append((name, revision))
        return lambda _: Annotation()

    asked: list[Any] = []
    for name, module in pyannote(load).items():
        monkeypatch.setitem(sys.modules, name, module)
    folder = tmp_path / "ours@work"
    folder.mkdir()
    diarizer(str(folder))
    assert asked == [(str(folder), None)]
    with pytest.raises(EncoderError, match="of the hub name the revision, ID@REVISION"):
        diarizer("some/pipeline")
    with pytest.raises(EncoderError, match=r"^diarizer some/pipeline@abc: 'pipeline'$"):
        diarizer("some/pipeline@abc")


def test_without_its_package_a_diarizer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyannote.audio", None)
    with pytest.raises(EncoderError, match=r"diarizer some/pipeline: needs pyannote.audio; `pip install"):
        diarizer("some/pipeline")
    for name, module in pyannote(lambda *_, **__: None).items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(EncoderError, match="accept its terms on the hub"):
        diarizer("some/pipeline@abc")


def test_a_part_of_sound_keeps_what_it_was(tmp_path: Path) -> None:
    """Diarizers get the same samples as the turns."""
    found = []

    def all_of_it(sound: Sound) -> list[Segment]:
        found.append(sound)
        return [Segment(0.25, 0.5, "A", "Hello.")]

    tone = np.sin(np.arange(SAMPLE_RATE) / 9).astype(np.float32)
    conversation = read_conversation(write(tmp_path / "talk.wav", tone), all_of_it)
    (turn,) = conversation.turns
    assert turn.audio is not None
    np.testing.assert_array_equal(turn.audio.load()[0], found[0].samples[:, 4000:8000])
