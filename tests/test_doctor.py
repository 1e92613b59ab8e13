"""The doctor finds what works, what is missing and what is broken, and says how to mend it."""

import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emofuse import doctor
from emofuse.cli import main
from emofuse.doctor import Finding

PARAMS = """
features:
  toy-audio: {corpus: toy, modality: audio, family: logmel}
  toy-text: {corpus: toy, modality: text, family: text, options: {model: some/model, revision: "0000"}}
"""


def write_remote(folder: Path, url: str) -> None:
    """Make a folder a DVC repository with that remote."""
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc/config").write_text(f"[core]\n    no_scm = True\n['remote \"team\"']\n    url = {url}\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a remote, and an encoder that is not there."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    write_remote(tmp_path, str(tmp_path / "shared"))
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make packages say that they are of other versions."""

    def change(**numbers: str) -> None:
        monkeypatch.setattr(doctor, "version", numbers.__getitem__)

    return change


def test_a_project_is_examined_and_the_exit_status_says_how(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 1
    said = capsys.readouterr()
    found = {line.split()[1]: line for line in said.out.splitlines()}
    assert set(found) == {"python", "torch", "gpu", "decoders", "encoder", "remote", "tracker"}
    assert "hf download ID --revision REVISION" in found["encoder"]
    assert found["remote"].startswith("works")
    assert "`dvc push` fills it" in found["remote"]
    assert "made when first needed" in found["tracker"]
    broken = [line for line in said.out.splitlines() if line.startswith("broken")]
    assert [line.split()[2] for line in broken] == ["toy-text:"]
    assert said.err == "emofuse: 1 thing does not work; see above\n"


@pytest.mark.parametrize(
    ("torch_version", "torchaudio_version", "state"),
    [
        ("2.11.0", "2.11.0", "works"),
        ("2.11.0+cpu", "2.11.0", "works"),
        ("2.11.1+cu130", "2.11.0+cu130", "works"),
        ("2.11.0+cpu", "2.11.0+cu130", "broken"),
        ("2.10.0", "2.11.0", "broken"),
    ],
)
def test_a_pair_of_torch_and_torchaudio(
    versions: Callable[..., None], torch_version: str, torchaudio_version: str, state: str
) -> None:
    versions(torch=torch_version, torchaudio=torchaudio_version)
    found = doctor._torch()
    assert found.state == state
    assert (found.mend != "") == (state == "broken")


def test_a_torchaudio_that_cannot_be_imported_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        if name == "torchaudio":
            raise OSError("libcudart.so.13: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    found = doctor._torch()
    assert found.state == "broken"
    assert found.what.endswith("libcudart.so.13: cannot open shared object file")
    assert "one build, CPU or CUDA" in found.mend


def test_a_driver_that_torch_does_not_see_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert doctor._gpu().state == "broken"
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert doctor._gpu().state == "absent"


def test_another_python_first_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/elsewhere/python")
    found = doctor._python()
    assert found.state == "broken"
    assert f'export PATH="{Path(sys.executable).parent}:$PATH"' in found.mend


def test_a_tracker_that_is_down_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://someone:secret@127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        found = doctor._tracker(tmp_path)  # nobody listens
        assert found.state == "broken"
        assert "secret" not in str(found)
        taken.listen()
        assert doctor._tracker(tmp_path).state == "works"


def test_a_remote_that_cannot_be_reached_is_recognised(project: Path) -> None:
    write_remote(project, "s3://nowhere/features")
    (found,) = doctor._remotes(project)
    assert found.state == "broken"
    assert found.what.startswith("team, s3://nowhere/features: ")


def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE", 0.01)
    waiting = threading.Event()
    with pytest.raises(TimeoutError, match="no answer in"):
        doctor._in_time(waiting.wait)
    waiting.set()


def test_a_finding_is_one_line() -> None:
    assert str(Finding("torch", "broken", "2.0", "mend it")) == "broken  torch        2.0; mend it"
