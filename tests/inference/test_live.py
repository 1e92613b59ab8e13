"""Answers come turn by turn; of a causal model they are those of the whole recording, and nothing is heard twice."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from emofuse.audio.sound import AudioFile
from emofuse.cli import main
from emofuse.core.schema import SAMPLE_RATE
from emofuse.inference import graph as graph_module
from emofuse.inference.bundle import Bundle, read_json
from emofuse.inference.live import BLOCK, Session, as_spoken, follow, from_pipe
from emofuse.inference.model import Model, TurnPrediction
from emofuse.inference.models_on_disk import find
from emofuse.inference.recording import ONE_SPEAKER, ConversationError
from emofuse.inference.turn_frames import TurnFrames

Project = Any


@pytest.fixture(scope="module")
def talk(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of five utterances."""
    folder = next(iter(project.conversations.values()))
    files = sorted(folder.glob("*.flac"), key=lambda each: int(each.stem))[:5]
    silence = np.zeros(round(0.7 * SAMPLE_RATE), np.float32)
    parts = [part for file in files for part in (silence, AudioFile(file).load()[0][0])]
    path = tmp_path_factory.mktemp("live") / "talk.wav"
    soundfile.write(path, np.concatenate([*parts, silence]), SAMPLE_RATE)
    return path


@pytest.fixture(scope="module")
def causal(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """A model whose networks are causal, with seeded random weights."""
    root = tmp_path_factory.mktemp("causal")

    def make(name: str) -> Model:
        bundle = find(project.model(name))
        torch.manual_seed(0)
        folders = {network: _causal(folder, root / name / network) for network, folder in bundle.folders.items()}
        return Model(Bundle(bundle.manifest, folders))

    return make


def _causal(folder: Path, out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    config = read_json(folder / "config.json")
    if "causal" in config:
        config["causal"] = True
    (out / "config.json").write_text(json.dumps(config))
    if config["reads"] != "probabilities":
        network = graph_module._build(config, "test")
        weights = {name: each.contiguous() for name, each in network.state_dict().items()}
        save_file(weights, out / "model.safetensors")
    return out


def write_down(clips: Sequence[np.ndarray]) -> list[str]:
    """Words that hang on the clip alone; of the third turn there are none."""
    return ["" if len(clip) % 7 == 3 else f"It took {len(clip)} of them." for clip in clips]


def blocks(path: Path, size: int = BLOCK) -> Iterator[np.ndarray]:
    samples = AudioFile(path).load()[0][0]
    return (samples[start : start + size] for start in range(0, len(samples), size))


def assert_same(live: Sequence[TurnPrediction], whole: Sequence[TurnPrediction]) -> None:
    assert len(live) == len(whole) > 3
    for one, other in zip(live, whole, strict=True):
        for name in ("start_s", "end_s", "speaker", "text", "source", "notes", "emotion"):
            assert getattr(one, name) == getattr(other, name)
        np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=2e-5)


@pytest.mark.parametrize("name", ["hcam", "hcam/no-context", "concat", "cma", "hbaf", "late", "audio-context"])
def test_a_causal_model_answers_live_as_of_the_whole(name: str, causal: Callable[[str], Model], talk: Path) -> None:
    model = causal(name)
    assert model.is_causal
    whole = model.predict(talk, write_down)
    live = [*follow(blocks(talk), Session(model, write_down), "talk.wav")]
    assert_same(live, whole.turns)
    assert len({tuple(turn.probabilities.values()) for turn in live}) == len(live)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_pipe_without_speech_is_told(
    form: tuple[str, ...], project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bytes(2 * 3 * SAMPLE_RATE))))
    asked = ["predict", "-", "--live", "--transcribe", "none", "--model", str(project.model("hcam"))]
    assert main([*asked, *form]) == 1
    assert capsys.readouterr().err == "emofuse: standard input: no speech was found in its 3.0 s\n"


def test_without_words_the_audio_network_follows(causal: Callable[[str], Model], talk: Path) -> None:
    model = causal("hcam")
    session = Session(model)
    assert session.name == "audio-context"
    assert_same([*follow(blocks(talk, 5000), session, "talk.wav")], model.predict(talk).turns)


def test_a_model_of_both_directions_sees_the_past_alone_and_says_so(
    project: Project, talk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model(find(project.model("hcam")))
    assert not model.is_causal
    live = [*follow(blocks(talk), Session(model), "talk.wav")]
    whole = model.predict(talk).turns
    # The last turn has no turns after it.
    np.testing.assert_allclose(list(live[-1].probabilities.values()), list(whole[-1].probabilities.values()), atol=2e-5)
    assert live[0].probabilities != whole[0].probabilities
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert main(["predict", str(talk), "--live", "--transcribe", "none", "--model", str(project.model("hcam"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("with later turns as context" in line for line in lines)
    assert len([line for line in lines if line[:1].isdigit()]) == len(whole)


def test_earlier_turns_are_neither_encoded_nor_read_frame_by_frame_again(
    causal: Callable[[str], Model], talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = causal("hcam")
    asked: list[int] = []
    infer = graph_module.infer

    def counted(network: Any, inputs: Any, fold: Any, items: Sequence[Any], batch: int) -> Any:
        if network.unit == "utterance":
            asked.append(len(items))
        return infer(network, inputs, fold, items, batch)

    encoded: list[int] = []
    encode = Model.encode
    monkeypatch.setattr(graph_module, "infer", counted)

    def encode_counted(self: Model, modality: str, turns: Sequence[Any]) -> list[np.ndarray]:
        encoded.append(len(turns))
        return encode(self, modality, turns)

    monkeypatch.setattr(Model, "encode", encode_counted)
    turns = [*follow(blocks(talk), Session(model, write_down), "talk.wav")]
    assert asked == [1] * 2 * len(turns)
    assert encoded == [1] * 2 * len(turns)


@pytest.mark.parametrize("name", ["hcam", "concat", "hbaf", "audio-context"])
def test_of_a_causal_model_the_dialogue_s_state_is_kept(
    name: str, causal: Callable[[str], Model], talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever came before, a turn is all that is read."""
    read: list[int] = []
    infer = graph_module.infer

    def counted(network: Any, inputs: Any, fold: Any, items: Sequence[Any], batch: int) -> Any:
        read.extend(map(len, items))
        return infer(network, inputs, fold, items, batch)

    monkeypatch.setattr(graph_module, "infer", counted)
    model = causal(name)
    turns = [*follow(blocks(talk), Session(model, write_down), "talk.wav")]
    assert len(turns) > 3
    assert set(read) == {1}
    assert len(read) % len(turns) == 0


def test_frames_of_earlier_turns_are_neither_copied_nor_averaged_again(
    causal: Callable[[str], Model], talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an hour they are tens of megabytes."""
    model = causal("concat")
    read: list[int] = []
    frames = TurnFrames._frames

    def counted(self: TurnFrames, row: int) -> torch.Tensor:
        read.append(row)
        return frames(self, row)

    monkeypatch.setattr(TurnFrames, "_frames", counted)
    turns = [*follow(blocks(talk), Session(model, write_down), "talk.wav")]
    assert sorted(read) == sorted([*range(len(turns))] * 2)


def test_a_pipe_of_samples_is_an_object_a_line(
    project: Project, talk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, _ = soundfile.read(talk, dtype="int16")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(samples.astype("<i2").tobytes())))
    assert (
        main(["predict", "-", "--live", "--json", "--transcribe", "none", "--model", str(project.model("hcam"))]) == 0
    )
    output = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    whole = Model(find(project.model("hcam"))).predict(talk).turns
    assert [turn["start_s"] for turn in output] == [turn.start_s for turn in whole]
    assert [turn["turn"] for turn in output] == list(range(1, len(whole) + 1))
    for turn in output:
        assert turn["model"] == "audio-context"
        assert turn["trained_on"].startswith("trained on demo (English, synthetic speech, not real people), ")
        assert "no transcripts: the audio network alone answers" in turn["remark"]
        assert ONE_SPEAKER in turn["remark"]


def test_a_damaged_file_is_followed_and_that_is_said(
    project: Project, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = talk.read_bytes()
    (tmp_path / "talk.wav").write_bytes(data[:40] + bytes(4) + data[44:])
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    command = ["predict", str(tmp_path / "talk.wav"), "--live", "--transcribe", "none"]
    assert main([*command, "--model", str(project.model("hcam"))]) == 0
    assert "talk.wav: its header says that it has no samples, but" in capsys.readouterr().out


def test_bytes_of_a_pipe_may_come_in_any_portions() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.portions = [b"\x00", b"\x40\x00", b"\xc0\x00\x20\x00"]

        def read(self, size: int = -1) -> bytes:
            return self.portions.pop(0) if self.portions else b""

    found = np.concatenate([*from_pipe(Pipe())])  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, np.array([0.5, -0.5, 0.25], np.float32))


def test_a_pipe_with_a_wav_file_is_refused(talk: Path) -> None:
    """Its samples would be read at a rate that may be another."""
    with pytest.raises(ConversationError, match="standard input: a WAV file; expected samples alone"):
        next(from_pipe(io.BytesIO(talk.read_bytes())))


def test_a_file_comes_at_the_speed_of_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    came = [(clock[0], len(block)) for block in as_spoken(np.zeros(SAMPLE_RATE + 10, np.float32))]
    assert sum(size for _, size in came) == SAMPLE_RATE + 10
    np.testing.assert_allclose([when for when, _ in came], [*np.arange(1, 11) / 10, 1 + 10 / SAMPLE_RATE])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["talk.wav", "--live", "--channels"], "--live follows one recording"),
        (["talk.wav", "talk.wav", "--live"], "--live follows one recording"),
        (["talk.wav", "--live", "--srt"], "--live prints one line per turn"),
    ],
)
def test_what_live_cannot_do_is_told(
    arguments: list[str], fault: str, project: Project, talk: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(project.root)
    asked = [str(talk) if each == "talk.wav" else each for each in arguments]
    assert main(["predict", *asked]) == 1
    assert fault in capsys.readouterr().err
