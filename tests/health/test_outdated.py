"""Encoders whose folder is not where DVC watches, and has changed, are named with what encodes anew."""

from collections.abc import Callable
from pathlib import Path

import pytest

from emofuse.cli import main
from emofuse.core.layout import Layout
from emofuse.encoders.local import folder_digest, write_digest
from emofuse.health import doctor
from emofuse.health.outdated import outdated

ENCODERS = {
    "bands": {"family": "logmel", "options": {}},
    "words": {"family": "text", "options": {"model": "data/raw/models/words", "labels_seen": False}},
    "watched": {"family": "text", "options": {"model": "data/weights/words", "labels_seen": False}},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_params: Callable[..., None]) -> Path:
    """Three corpora, encoded with networks of local folders."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/raw/models/words", "data/weights/words"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.safetensors").write_bytes(b"weights")
    write_params(tmp_path, "demo", "bands", "words", encoders=ENCODERS, conditions={})
    write_params(tmp_path, "own", "bands", "words")
    write_params(tmp_path, "other", "bands", "watched")
    for corpus, name, folder in (
        ("demo", "words", "data/raw/models/words"),
        ("own", "words", "data/raw/models/words"),
        ("other", "watched", "data/weights/words"),
    ):
        write_digest(Layout(tmp_path).digest(corpus, name), folder_digest(tmp_path / folder))
    return tmp_path


def change(project: Path) -> None:
    for folder in ("data/raw/models/words", "data/weights/words"):
        (project / folder / "model.safetensors").write_bytes(b"others")


def test_encoders_whose_files_have_changed_unseen_are_named_by_corpus(project: Path) -> None:
    assert list(outdated(project)) == []
    change(project)
    assert [(each.encoder, each.stage) for each in outdated(project)] == [
        ("words", "weights-text@words"),
        ("words", "corpora/own/dvc.yaml:weights-text@words"),
    ]
    Layout(project).digest("own", "words").unlink()  # nothing was encoded yet
    assert [each.corpus for each in outdated(project)] == ["demo"]


def test_a_folder_that_is_not_here_is_left_alone(project: Path) -> None:
    (project / "data/raw/models/words").rename(project / "elsewhere")
    assert list(outdated(project)) == []


def test_doctor_and_heal_say_which_command_encodes_anew(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project)
    first, second = (each for each in doctor._encoders(Path()) if each.part == "features")
    assert (first.state, first.mend) == ("broken", "`dvc repro -f -s weights-text@words`, then `dvc repro`")
    graph = "corpora/own/dvc.yaml"
    assert second.mend == f"`dvc repro -f -s {graph}:weights-text@words`, then `dvc repro {graph}`"
    assert main(["heal"]) == 0
    assert "data/raw/models/words has changed since demo was encoded with words" in capsys.readouterr().out


def test_heal_mends_where_the_parameters_are_wrong(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params.yaml").write_text("encoders: {words: {}")
    assert main(["heal"]) == 0
    assert "params.yaml" in capsys.readouterr().out
