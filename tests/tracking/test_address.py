"""The tracker is where its address says, whatever the project's folder is called, and its errors are one line."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from sqlalchemy.exc import OperationalError

from emofuse.tracking.address import TrackingError, client_of, database, errors_of, tracker_uri
from emofuse.tracking.runs_in_tracker import tags_of_machine


@pytest.fixture(autouse=True)
def no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(NAMES.filter(lambda name: name not in (".", "..")))
def test_the_database_of_any_folder_is_in_that_folder(name: str) -> None:
    folder = Path("/somewhere") / name
    assert database(tracker_uri(folder)) == folder / "mlflow.db"


def test_mlflow_writes_there_and_nowhere_else(tmp_path: Path) -> None:
    name = "a#b 100%20sure? ünïcode"
    project = tmp_path / name
    project.mkdir()
    uri = tracker_uri(project)
    client_of(uri).search_experiments()
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert {each.name for each in project.iterdir()} <= {"mlflow.db", "mlflow.db-lock"}
    assert (project / "mlflow.db").stat().st_size > 0


@pytest.mark.parametrize(
    ("given_", "file"),
    [
        ("sqlite:///runs.db", "runs.db"),
        ("sqlite:///my%20runs.db?timeout=5", "my runs.db"),
        ("sqlite:////elsewhere/runs.db", "/elsewhere/runs.db"),
    ],
)
def test_an_address_that_was_given_keeps_its_meaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_: str, file: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given_)
    uri = tracker_uri(tmp_path)
    assert database(uri) == tmp_path / file
    assert uri.partition("?")[2] == given_.partition("?")[2]


def test_a_database_that_cannot_be_written_is_one_line_without_hints(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = tracker_uri(tmp_path)
    MlflowClient(plain, plain).search_experiments()
    uri = f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true"
    capfd.readouterr()
    with pytest.raises(TrackingError) as error, errors_of(uri):
        MlflowClient(uri, uri).create_experiment("emofuse", artifact_location=tmp_path.as_uri())
    assert str(error.value) == (
        f"tracker {uri}: attempt to write a readonly database; its file and its folder have to be writable, or name "
        "another in MLFLOW_TRACKING_URI"
    )
    assert capfd.readouterr().err == ""


def test_what_a_driver_says_is_told_without_its_name() -> None:
    cause = sqlite3.OperationalError("no such table: runs")
    with (
        pytest.raises(TrackingError, match=r"^tracker sqlite:///x.db: no such table: runs$"),
        errors_of("sqlite:///x.db"),
    ):
        raise OperationalError("SELECT 1", {}, cause)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, env=os.environ)
    return tmp_path


def test_the_commit_is_known_in_a_checkout_that_somebody_else_owns(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = tags_of_machine(repository)["mlflow.source.git.commit"]
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    refused = subprocess.run(["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert "dubious ownership" in refused.stderr
    assert tags_of_machine(repository)["mlflow.source.git.commit"] == commit
