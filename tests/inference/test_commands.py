"""``emofuse predict`` and ``emofuse export`` as a person calls them."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emofuse.cli import main
from emofuse.inference.conversation import read_conversation
from emofuse.inference.hearing import TRANSCRIBED
from emofuse.inference.whisper import PACKAGED

Project = Any
TURNS = "a folder of turns"


@pytest.fixture
def talk(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conversation; the project is where the command is called."""
    monkeypatch.chdir(project.root)
    return next(iter(project.conversations.values()))


def test_without_a_name_the_best_model_on_dev_answers(
    project: Project, talk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(talk), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    records = [json.loads(path.read_text()) for path in (project.root / "data/models").rglob("record.json")]
    best = max(record["dev"]["weighted_f1"] for record in records if record["model"] != "majority")
    assert output["requested"]["dev"]["weighted_f1"] == best
    assert len(output["turns"]) == len(project.ids(talk.name))
    for turn in output["turns"]:
        assert turn["emotion"] == max(turn["probabilities"], key=turn["probabilities"].get)
        assert sum(turn["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_bundle_is_used_where_there_is_neither_dvc_nor_mlflow(
    talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "data/models/demo/logmel+minilm/hcam", str(tmp_path / "bundle")]) == 0
    assert "demo/hcam, seed" in capsys.readouterr().out
    assert main(["predict", str(talk), "--model", "data/models/demo/logmel+minilm/hcam", "--html"]) == 0
    expected = capsys.readouterr().out
    code = "import sys; sys.modules.update(dvc=None, mlflow=None); import emofuse.cli; emofuse.cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "predict", str(talk), "--model", str(tmp_path / "bundle"), "--html"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == expected


def test_the_python_call_is_three_lines(talk: Path) -> None:
    import emofuse

    model = emofuse.load("data/models/demo/logmel+minilm/hcam")
    for turn in model.predict(talk).turns:
        assert turn.probabilities[turn.emotion] == max(turn.probabilities.values())


def test_a_recording_is_answered_in_every_form(
    talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a person has it: one file with two speakers in it, and a file that says where they speak."""
    files = sorted(talk.glob("*.flac"), key=lambda each: int(each.stem))[:3]
    clips = [soundfile.read(each, dtype="float32")[0] for each in files]
    soundfile.write(tmp_path / "my talk.wav", np.concatenate(clips), 16_000)
    ends = np.cumsum([0, *map(len, clips)]) / 16_000
    spoken = zip(ends[:-1], ends[1:], "ABA", strict=True)
    labels = "\n".join(f"{start:.3f}\t{end:.3f}\t[{who}]: Hello." for start, end, who in spoken)
    (tmp_path / "talk.txt").write_text(labels)
    monkeypatch.chdir(tmp_path)
    model = talk.parents[1] / "data/models/demo/logmel+minilm/hcam"
    command = ["predict", "my talk.wav", "--segments", "talk.txt", "--model", str(model)]

    def output(*form: str) -> str:
        assert main([*command, *form]) == 0
        return capsys.readouterr().out

    found = json.loads(output("--json"))
    for turn, start, who in zip(found["turns"], ends, "ABA", strict=False):
        assert (turn["speaker"], turn["text"], turn["source"]) == (who, "Hello.", "my talk.wav")
        assert turn["start_s"] == pytest.approx(start, abs=1e-3)
    asked = found["requested"]
    assert (asked["corpus"], asked["language"], asked["synthetic_speech"]) == ("demo", "English", True)
    assert output().splitlines()[1].startswith("trained on demo (English, synthetic speech, not real people)")
    trained = found["trained_on"]
    table = list(csv.DictReader(io.StringIO(output("--csv"), newline="")))
    assert [(row["model"], row["trained_on"]) for row in table] == [("hcam", trained)] * 3
    captions = output("--srt").split("\n\n")
    assert len(captions) == 1 + 3
    assert "demo/hcam, seed" in captions[0]
    assert trained in captions[0]
    assert "data:audio/flac" in output("--html")
    assert 'src="my%20talk.wav"' in output("--html", "--link")
    shutil.copy("my talk.wav", "other.wav")
    (tmp_path / "segments").mkdir()
    for name, shown in (("my talk", labels), ("other", labels.partition("\n")[0])):
        (tmp_path / "segments" / f"{name}.txt").write_text(shown)
    command[1:4] = ["my talk.wav", "other.wav", "--segments", "segments"]
    assert [(each["name"], len(each["turns"])) for each in json.loads(output("--json"))] == [
        ("my talk.wav", 3),
        ("other.wav", 1),
    ]
    command[4] = "talk.txt"
    assert main(command) == 1
    assert "talk.txt: one file of segments, but 2 recordings" in capsys.readouterr().err


def test_turns_that_lack_words_beside_others_get_them(
    talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a file of segments has them, in which somebody wrote down some of the turns."""
    heard: list[int] = []

    def recogniser(name: str | None = None) -> Any:
        assert name is None

        def write_down(clips: Any) -> list[str]:
            heard.extend(map(len, clips))
            return ["I heard that."] * len(clips)

        write_down.name = PACKAGED  # type: ignore[attr-defined]
        return write_down

    monkeypatch.setattr("emofuse.inference.transcripts.recogniser", recogniser)
    tone = 0.3 * np.sin(np.arange(48_000) / 9)
    soundfile.write(tmp_path / "talk.wav", tone, 16_000)
    (tmp_path / "talk.txt").write_text("0\t1\t[Ann]: Hello.\n1\t2.5\t[Ben]:\n")
    model = talk.parents[1] / "data/models/demo/logmel+minilm/hcam"
    command = ["predict", str(tmp_path / "talk.wav"), "--segments", str(tmp_path / "talk.txt"), "--model", str(model)]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [turn["text"] for turn in found["turns"]] == ["Hello.", "I heard that."]
    assert heard == [24_000]
    assert found["remarks"] == [f"{TRANSCRIBED}; --transcribe names another recogniser, or none"]
    assert "on its test, with the corpus's own transcripts; not" in found["trained_on"]


def test_the_words_of_a_recording_are_written_down_and_that_is_said(
    talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing but the file: turns by voice activity, words by the recogniser of the package."""
    turns = json.loads((talk / "turns.json").read_text())[:8]
    clips = [soundfile.read(talk / turn["audio"], dtype="float32")[0] for turn in turns]
    pause = np.zeros(12_800, np.float32)
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.concatenate([part for clip in clips for part in (pause, clip)]), 16_000)
    command = ["predict", str(path), "--model", str(talk.parents[1] / "data/models/demo/logmel+minilm/hcam")]
    assert main([*command, "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["model"] == "hcam"
    assert len(output["turns"]) == len(turns)
    expected, found = (
        {word for each in spoken for word in re.findall(r"[a-z']+", each["text"].lower())}
        for spoken in (turns, output["turns"])
    )
    # A small recogniser and a synthesizer: most words are found, and by no means all.
    assert len(expected & found) >= len(expected) / 2, (expected, found)
    assert sum("transcribed by Whisper tiny.en" in each for each in output["remarks"]) == 1
    assert "on its test, with the corpus's own turns and transcripts; not" in output["trained_on"]
    assert main([*command, "--transcribe", "none", "--csv"]) == 0
    out, error = capsys.readouterr()
    assert len(out.splitlines()) == 1 + len(turns)
    assert "the audio network alone answers" in error
    assert "transcribed by" not in error
    assert "on its test for audio-context alone, with the corpus's own turns; not" in error
    assert main([*command, "--transcribe", PACKAGED, "--srt"]) == 0
    assert TRANSCRIBED in capsys.readouterr().err.splitlines()


def test_one_of_several_that_cannot_be_read_leaves_the_others(
    talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a day's calls, in one of which nobody speaks."""
    turns = tmp_path / "turns.json"
    turns.write_text('[{"text": "You are late."}]')
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    (tmp_path / "notes.wav").write_text("Hello.")
    named = [str(tmp_path / name) for name in ("silence.wav", "turns.json", "notes.wav")]
    command = ["predict", *named, "--model", str(talk.parents[1] / "data/models/demo/logmel+minilm/hcam")]
    for form in ("--json", "--csv", "--html"):
        assert main([*command, form]) == 1
        out, error = capsys.readouterr()
        assert "You are late." in out
        lines = [line for line in error.splitlines() if line.startswith("emofuse: ")]
        assert len(lines) == 3
        assert "silence.wav: no speech was found in its 1.0 s" in lines[0]
        assert "notes.wav: not a sound file" in lines[1]
        assert lines[2] == "emofuse: 2 of 3 could not be predicted; see above"
        if form == "--json":
            assert [each["name"] for each in json.loads(out)] == ["turns.json"]
    assert main([command[0], named[0], named[2], *command[4:]]) == 1
    assert capsys.readouterr().out == ""


def test_one_recording_after_the_other_is_in_memory(
    talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds: list[weakref.ref[Any]] = []

    def read(*arguments: Any) -> Any:
        assert not any(each() for each in sounds)
        conversation = read_conversation(*arguments)
        sounds.append(weakref.ref(conversation.sound))
        return conversation

    monkeypatch.setattr("emofuse.inference.command.read_conversation", read)
    (clip, *_) = talk.glob("*.flac")
    (tmp_path / "talk.txt").write_text("0\t0.5\tHello.\n")
    recordings = [tmp_path / name / f"{name}.flac" for name in "abc"]
    for each in recordings:
        each.parent.mkdir()
        shutil.copy(clip, each)
        shutil.copy(tmp_path / "talk.txt", tmp_path / f"{each.stem}.txt")
    model = talk.parents[1] / "data/models/demo/logmel+minilm/hcam"
    assert main(["predict", *map(str, recordings), "--segments", str(tmp_path), "--model", str(model)]) == 0
    assert len(sounds) == 3
    assert capsys.readouterr().out.count("Hello.") == 3


def test_sound_alone_is_answered_without_what_is_for_text_or_training(talk: Path, tmp_path: Path) -> None:
    """What is slow to import, and is not needed, would be half of the time until the answer."""
    (sound, *_) = talk.glob("*.flac")
    (tmp_path / "turns.json").write_text(json.dumps([{"audio": str(sound)}]))
    code = "import sys; import emofuse.cli; emofuse.cli.main(sys.argv[1:]); print(*sys.modules)"
    model = "data/models/demo/logmel+minilm/hcam"
    command = [sys.executable, "-c", code, "predict", str(tmp_path / "turns.json"), "--model", model]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the audio network alone answers" in done.stdout
    imported = set(done.stdout.splitlines()[-1].split())
    assert "torch" in imported
    assert not imported & {"transformers", "mlflow", "dvc", "matplotlib", "sklearn", "jinja2", "silero_vad"}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["predict", "nowhere"], "nowhere: not found; expected a sound file"),
        (["predict", "params.yaml"], "params.yaml: not a sound file that can be decoded"),
        (["predict", "data", "--model", "data/models/demo"], "no trained runs in it"),
        (["predict", "data", "--model", "nowhere"], "nowhere: no such folder; expected a bundle"),
        (["predict", "data", "--transcribe", "some/recogniser"], "of a hub model name the revision"),
        (["predict", "data", "--link"], "--link only goes with --html"),
        (["predict", "a.wav", "b.wav", "--srt"], "captions are for a single recording; there are 2"),
        (["predict", TURNS, "--html", "--link"], "turns is none: its turns are cut"),
        (["export", "data/models/demo/logmel+minilm/majority", "x"], "majority predicts the same for every utterance"),
    ],
    ids=" ".join,
)
def test_errors_are_one_line(
    talk: Path, tmp_path: Path, arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = tmp_path / "turns"
    turns.mkdir()
    (turns / "01.txt").write_text("You are late.")
    assert main([str(turns) if each == TURNS else each for each in arguments]) == 1
    output = capsys.readouterr().err
    assert output.startswith("emofuse: ")
    assert output.count("\n") == 1
    assert fault in output
