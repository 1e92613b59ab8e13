"""What a killed DVC leaves broken is healed, nothing else is touched, and nothing while a DVC is at work on it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.lock import make_lock

from emofuse.cli import main
from emofuse.core.dvc_cache import find_damaged
from emofuse.core.dvc_state import find_broken, heal
from emofuse.health import doctor

Dvc = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]

GRAPH = """
stages:
  make:
    cmd: echo made >> log && cp in out
    deps: [in]
    outs: [out]
"""


@pytest.fixture(scope="module")
def made(dvc: Dvc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two graphs, the root's and a corpus's, that was run once and not committed."""
    project = tmp_path_factory.mktemp("made")
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    dvc(project, "init", "-q")
    (project / "corpora/own").mkdir(parents=True)
    for folder in (project, project / "corpora/own"):
        (folder / "in").write_text(f"of {folder.name}")  # or DVC would take one for the other
        (folder / "dvc.yaml").write_text(GRAPH)
    dvc(project, "repro", "-q", "-P")
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project", symlinks=True))


def commit(project: Path) -> None:
    who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    subprocess.run(["git", *who, "commit", "-qm", "Run"], cwd=project, check=True)


LOCKS = ("dvc.lock", "corpora/own/dvc.lock")


@pytest.mark.parametrize("left", ["", '{"write": {'])
def test_a_broken_rwlock_is_removed_and_dvc_goes_on(project: Path, dvc: Dvc, left: str) -> None:
    rwlock = project / ".dvc/tmp/rwlock"
    rwlock.write_text(left)
    dvc(project, "repro", fails=True)
    assert find_broken(project) == [rwlock]
    (line,) = heal(project)
    assert line == f"{rwlock}: was left empty by a killed DVC process; removed"
    assert "up to date" in dvc(project, "repro").stdout


def cut(left: str, whole: bytes) -> bytes:
    """What a killed DVC left of a lock file: nothing, or what it had written so far."""
    return {
        "nothing": b"",
        "half an out": whole[: whole.index(b"outs") + 6],
        "no command": whole[: whole.index(b"cmd")],
    }[left]


@pytest.mark.parametrize(
    ("name", "left", "committed"),
    [(LOCKS[0], "nothing", True), (LOCKS[0], "half an out", False), (LOCKS[1], "no command", False)],
)
def test_a_broken_lock_file_is_restored_and_nothing_is_made_again(
    project: Path, dvc: Dvc, name: str, left: str, committed: bool
) -> None:
    if committed:
        commit(project)
    before = (project / name).read_bytes()
    (project / name).write_bytes(cut(left, before))
    dvc(project, "status", "-q", name.replace("lock", "yaml"), fails=True)
    assert find_broken(project) == [project / name]
    (line,) = heal(project)
    assert ("restored from git" if committed else "removed") in line
    dvc(project, "repro", "-P")
    assert (project / name).read_bytes() == before
    assert [(project / name).with_name("log").read_text() for name in LOCKS] == ["made\n", "made\n"]


def test_a_lock_file_of_a_checkout_that_somebody_else_owns_is_restored_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(project)
    before = (project / "dvc.lock").read_bytes()
    (project / "dvc.lock").write_text("")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert "restored from git" in heal(project)[0]
    assert (project / "dvc.lock").read_bytes() == before


def test_a_committed_lock_file_that_is_broken_too_is_removed(project: Path, dvc: Dvc) -> None:
    (project / "dvc.lock").write_text("")
    commit(project)
    assert "removed" in heal(project)[0]
    assert not (project / "dvc.lock").exists()
    dvc(project, "repro")


def test_a_lock_file_in_the_middle_of_a_merge_is_left_to_its_owner(project: Path) -> None:
    """The two sides have stages of two people; whichever is taken drops the other's."""
    commit(project)
    path = project / "dvc.lock"
    ours = path.read_text()
    merging = f"<<<<<<< HEAD\n{ours}=======\n{ours.replace('made', 'kept')}>>>>>>> theirs\n"
    path.write_text(merging)
    assert heal(project) == []
    assert path.read_text() == merging


def test_what_is_whole_is_left_alone(project: Path) -> None:
    (project / ".dvc/tmp/rwlock").write_text(json.dumps({"read": {}, "write": {}}))
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*") if path.is_file()}
    assert find_broken(project) == []
    assert heal(project) == []
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*") if path.is_file()} == before


def test_a_folder_without_dvc_is_left_alone(tmp_path: Path) -> None:
    assert heal(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("broken", "lock"), [(".dvc/tmp/rwlock", "rwlock.lock"), ("dvc.lock", "lock")])
def test_nothing_is_done_while_a_dvc_is_at_work(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str, lock: str
) -> None:
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.1)
    (project / broken).write_text("")
    with make_lock(str(project / ".dvc/tmp" / lock), tmp_dir=str(project / ".dvc/tmp")):
        assert heal(project) == []
        assert (project / broken).read_text() == ""
        monkeypatch.chdir(project)
        assert main(["heal"]) == 1
        assert capsys.readouterr().err == (
            f"emofuse: {broken}: broken, but a DVC process holds the lock; end it and run this again\n"
        )
    assert main(["heal"]) == 0


def test_the_doctor_and_the_search_for_damage_do_not_fall_over_it(project: Path) -> None:
    (project / "dvc.lock").write_text("")
    with pytest.raises(ValueError, match=r"dvc.lock: not a lock file of DVC, .*; `emofuse heal`"):
        find_damaged(project)
    found = list(doctor._state(project))
    assert [(each.part, each.state) for each in found] == [("dvc", "works")]
    assert "was cut off" in found[0].what
    assert find_broken(project) == []


def test_a_stage_heals_before_it_runs(project: Path, start: Start) -> None:
    (project / ".dvc/tmp/rwlock").write_text("")
    code = "from emofuse.core.process import stage\nwith stage('extract@a'): print('ran')"
    output, complaint = start(code, project).communicate(timeout=60)
    assert output == "ran\n"
    assert "rwlock: was left empty" in complaint
    assert find_broken(project) == []


def test_a_sound_project_imports_nothing_of_dvc(project: Path, start: Start) -> None:
    code = "import sys; from pathlib import Path; from emofuse.core.dvc_state import heal; heal(Path())"
    output, _ = start(f"{code}; print([each for each in sys.modules if each.startswith('dvc')])", project).communicate()
    assert output == "[]\n"
