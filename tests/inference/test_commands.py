"""``emofuse predict`` and ``emofuse export`` as a person calls them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emofuse.cli import main

Project = Any


@pytest.fixture
def talk(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conversation; the project is where the command is called."""
    monkeypatch.chdir(project.root)
    return next(iter(project.conversations.values()))


def test_without_a_name_the_best_model_on_dev_answers(
    project: Project, talk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(talk), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    records = [json.loads(path.read_text()) for path in (project.root / "data/models").rglob("record.json")]
    best = max(record["dev"]["weighted_f1"] for record in records if record["model"] != "majority")
    assert said["asked"]["dev"]["weighted_f1"] == best
    assert len(said["turns"]) == len(project.ids(talk.name))
    for turn in said["turns"]:
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


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["predict", "nowhere"], "nowhere: not found; expected a folder"),
        (["predict", "data", "--model", "data/models/demo"], "no trained runs in it"),
        (["predict", "data", "--model", "nowhere"], "nowhere: no such folder; expected a bundle"),
        (["predict", "data", "--transcribe", "some/recogniser"], "of a hub model name the revision"),
        (["export", "data/models/demo/logmel+minilm/majority", "x"], "majority says the same of every utterance"),
    ],
    ids=" ".join,
)
def test_errors_are_one_line(talk: Path, arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("emofuse: ")
    assert said.count("\n") == 1
    assert fault in said
