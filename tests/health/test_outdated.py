"""Features of a local folder whose files have changed since are named, with what makes them anew."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emofuse.cli import main
from emofuse.encoders.sources import locate
from emofuse.features.shards import Row, write_shard
from emofuse.health import doctor
from emofuse.health.outdated import outdated

ENCODERS = {
    "bands": {"family": "logmel", "options": {}},
    "words": {"family": "text", "options": {"model": "data/raw/models/words", "labels_seen": False}},
}
CONDITIONS = {"words-20": {"word_errors": 0.2, "seed": 0}}

MADE = ("data/features/demo/words", "data/features/own/words", "data/corrupted/own/words-20/words")


def write_features(project: Path) -> None:
    """Write features as of what the folder holds now, and of log-mel bands, which come from no folder."""
    model = project / "data/raw/models/words"
    identity = locate(str(model)).identity | {"layer": "last", "labels_seen": False}
    for folder in MADE:
        write_shard(project / folder / "shard-00000-of-00001.parquet", [Row("a", "0", np.ones((1, 2)))], 2, identity)
    bands = project / "data/features/demo/bands"
    write_shard(bands / "shard-00000-of-00001.parquet", [Row("a", "0", np.ones((1, 2)))], 2, {"id": "logmel"})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_params: Callable[..., None]) -> Path:
    """Two corpora, both encoded with a network of a local folder."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "data/raw/models/words"
    model.mkdir(parents=True)
    write_params(tmp_path, "demo", "bands", "words", encoders=ENCODERS, conditions=CONDITIONS)
    write_params(tmp_path, "own", "bands", "words", worse=["words-20"])
    (model / "config.json").write_text('{"model_type": "bert"}')
    (model / "vocab.txt").write_text("[PAD]\na\n")
    (model / "model.safetensors").write_bytes(b"weights")
    write_features(tmp_path)
    return tmp_path


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": lambda model: (model / "model.safetensors").write_bytes(b"others"),
    "vocabulary": lambda model: (model / "vocab.txt").write_text("[PAD]\nb\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_features_of_files_that_have_changed_are_named_by_stage(project: Path, change: str) -> None:
    assert list(outdated(project)) == []
    CHANGES[change](project / "data/raw/models/words")
    found = list(outdated(project))
    assert [(str(each.folder.relative_to(project)), each.stage) for each in found] == [
        (MADE[0], "extract-text@words"),
        (MADE[1], "corpora/own/dvc.yaml:extract-text@words"),
        (MADE[2], "corpora/own/dvc.yaml:corrupt-text@words-20-words"),
    ]
    write_features(project)
    assert list(outdated(project)) == []


def test_features_that_came_without_their_folder_or_are_not_there_are_left_alone(project: Path) -> None:
    model = project / "data/raw/models/words"
    (model / "model.safetensors").unlink()  # reported once, for the encoder
    assert list(outdated(project)) == []
    model.rename(project / "elsewhere")
    assert list(outdated(project)) == []


def test_doctor_and_heal_say_which_command_encodes_anew(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CHANGES["weights"](project / "data/raw/models/words")
    first, second, _ = (each for each in doctor._encoders(Path()) if each.part == "features")
    assert (first.state, first.mend) == ("broken", "`dvc repro -f -s extract-text@words`, then `dvc repro`")
    graph = "corpora/own/dvc.yaml"
    assert second.mend == f"`dvc repro -f -s {graph}:extract-text@words`, then `dvc repro {graph}`"
    assert main(["heal"]) == 0
    assert "made before the files in data/raw/models/words changed" in capsys.readouterr().out


def test_heal_mends_where_the_parameters_are_wrong(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params.yaml").write_text("encoders: {words: {}")
    assert main(["heal"]) == 0
    assert "params.yaml" in capsys.readouterr().out
