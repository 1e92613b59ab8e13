"""Where results come from: the same of equal inputs, another of others, and the commit that has them."""

import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from emofuse.reporting.printed import commit_of
from emofuse.reporting.provenance import provenance, provenance_lines


@pytest.fixture
def run(tmp_path: Path, leave_run: Callable[..., Path]) -> Path:
    (tmp_path / "utterances.parquet").write_bytes(b"two")
    return leave_run(tmp_path / "run", "hcam")


def test_digests_follow_what_was_scored(run: Path, leave_run: Callable[..., Path]) -> None:
    before = provenance(run.parent / "utterances.parquet", [run])
    assert provenance(run.parent / "utterances.parquet", [run]) == before
    leave_run(run, "hcam", right=70)
    after = provenance(run.parent / "utterances.parquet", [run])
    changed = {name for name, value in before["sha256"].items() if after["sha256"][name] != value}
    assert changed == {"predictions"}
    assert after["versions"] == before["versions"]


def test_a_tag_in_git_changes_no_result(run: Path) -> None:
    found = provenance(run.parent / "utterances.parquet", [run])
    assert set(found["versions"]) == {"python", "numpy", "polars"}
    assert version("emofuse") not in str(found)


def test_lines_name_versions_and_digests(run: Path) -> None:
    found = provenance(run.parent / "utterances.parquet", [run])
    made = {"versions": {"torch": "2.11"}, "weights": "ab" * 32}
    lines = dict(provenance_lines({"provenance": found, "features": {"audio": made, "text": {}}}))
    assert lines["Features, audio"] == "torch 2.11"
    assert lines["Weights, audio, SHA-256"] == "ab" * 8
    assert lines["Predictions, SHA-256"] == found["sha256"]["predictions"]
    assert "Features, text" not in lines


def test_the_commit_is_the_one_that_has_the_file_as_it_is(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    path = tmp_path / "scores.json"
    path.write_text("{}")
    assert commit_of(path) is None  # no repository
    git("init", "-q")
    assert commit_of(path) is None  # not committed
    git("add", "-A")
    git("commit", "-qm", "results")
    committed = git("rev-parse", "HEAD")
    git("commit", "-q", "--allow-empty", "-m", "something else")
    assert commit_of(path) == committed
    path.write_text("{1}")
    assert commit_of(path) is None
