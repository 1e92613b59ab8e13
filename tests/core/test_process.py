"""A stage runs alone, dies with its parent, and says what is wrong in one line. All with real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Start = Callable[..., subprocess.Popen[str]]

STAY = """
import os, sys, time
from pathlib import Path
from emofuse.core.process import stage
with stage(sys.argv[1]):
    Path(sys.argv[2]).write_text(str(os.getpid()))
    time.sleep(60)
"""

RUN = """
import sys
from emofuse.core import process
process._PATIENCE = 0.2
with process.stage(sys.argv[1]):
    print("ran")
"""

# Its child is the stage.
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {STAY!r}, *sys.argv[1:]])
"""

FAIL = """
import json, sys
from emofuse.core.process import stage
with stage("extract@demo"):
    raise {error}
"""


def wait_for(path: Path) -> int:
    limit = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < limit, f"{path.name} never came"
        time.sleep(0.02)
    return int(path.read_text())


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_second_process_is_refused_until_the_first_one_is_gone(tmp_path: Path, start: Start) -> None:
    first = start(STAY, tmp_path, "fuse@a", "first")
    try:
        wait_for(tmp_path / "first")
        second = start(RUN, tmp_path, "fuse@a")
        output, complaint = second.communicate(timeout=60)
        assert second.returncode == 1
        assert output == ""
        assert complaint == "fuse@a: another process is running this stage; wait for it, or end it\n"
        other = start(RUN, tmp_path, "fuse@b")
        assert other.communicate(timeout=60) == ("ran\n", "")
    finally:
        first.kill()
        first.communicate()
    third = start(RUN, tmp_path, "fuse@a")
    assert third.communicate(timeout=60) == ("ran\n", "")
    assert third.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell a process that its parent has died")
def test_a_stage_dies_with_its_parent(tmp_path: Path, start: Start) -> None:
    parent = start(PARENT, tmp_path, "fuse@a", "child")
    try:
        child = wait_for(tmp_path / "child")
        assert is_alive(child)
    finally:
        parent.kill()
        parent.wait()
    limit = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < limit:
        time.sleep(0.02)
    alive = is_alive(child)
    if alive:
        os.kill(child, signal.SIGKILL)
    parent.communicate()
    assert not alive


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("ValueError('corpora.demo.shards: 0')", "corpora.demo.shards: 0"),
        ("FileNotFoundError(2, 'No such file or directory', 'a.csv')", "[Errno 2] No such file or directory: 'a.csv'"),
        ("ValueError('one\\n\\n  two\\n')", "one; two"),
    ],
)
def test_an_error_is_one_line(tmp_path: Path, start: Start, error: str, message: str) -> None:
    process = start(FAIL.format(error=error), tmp_path)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (1, f"extract@demo: {message}\n")


def test_a_mistake_of_ours_keeps_its_traceback(tmp_path: Path, start: Start) -> None:
    process = start(FAIL.format(error="AttributeError('nothing')"), tmp_path)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint.startswith("Traceback")


def test_debugging_shows_where(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOFUSE_DEBUG", "1")
    process = start(FAIL.format(error="ValueError('here')"), tmp_path)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint.startswith("Traceback")
    assert complaint.endswith("ValueError: here\n")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not pin processes to cores")
def test_cores_are_those_that_the_process_may_use(tmp_path: Path, start: Start) -> None:
    code = """
import os
from emofuse.core.process import cores
print(cores() == len(os.sched_getaffinity(0)))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(cores())
"""
    assert start(code, tmp_path).communicate(timeout=60) == ("True\n1\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_bars_are_shown_on_a_terminal_alone(tmp_path: Path, start: Start) -> None:
    code = "from emofuse.core.process import quiet; print(quiet())"
    assert start(code, tmp_path).communicate(timeout=60)[0] == "True\n"
    _, terminal = os.openpty()
    on_terminal = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=terminal, check=True)
    os.close(terminal)
    assert on_terminal.stdout == b"False\n"


def test_a_full_disk_is_told_with_what_helps(tmp_path: Path, start: Start) -> None:
    for error in (
        "OSError(28, 'No space left on device')",
        "RuntimeError('Error while serializing: I/O error: No space left on device (os error 28)')",
    ):
        process = start(FAIL.format(error=error), tmp_path)
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 1
        assert complaint.startswith("extract@demo: [Errno 28] No space left on device: ")
        assert complaint.endswith(f"make room, such as by `emofuse store prune`, and run again: '{tmp_path}'\n")
        assert complaint.count("\n") == 1


@pytest.mark.parametrize("link", ["data", "data/features", "data/features/demo", "data/models/demo/audio", "metrics"])
def test_outs_behind_a_link_to_another_disk_are_refused_at_once(tmp_path: Path, start: Start, link: str) -> None:
    project, disk = tmp_path / "project", tmp_path / "disk"
    for each in (disk, project, (project / link).parent):
        each.mkdir(parents=True, exist_ok=True)
    (project / link).symlink_to(disk)
    process = start(RUN, project, "extract@demo")
    output, complaint = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert complaint.startswith(
        f"extract@demo: {link}: leads out of the project, and DVC refuses outs behind such a link"
    )
    assert complaint.count("\n") == 1


def test_links_that_dvc_takes_are_taken(tmp_path: Path, start: Start) -> None:
    project, disk = tmp_path / "project", tmp_path / "disk"
    for each in (disk, project / "inner", project / "data/corpora/demo", project / "data/raw"):
        each.mkdir(parents=True)
    (disk / "utterances.parquet").write_text("in the cache")
    (project / "data/features").symlink_to(project / "inner")
    (project / "data/corpora/demo/utterances.parquet").symlink_to(disk / "utterances.parquet")
    (project / "data/raw/meld").symlink_to(disk)
    assert start(RUN, project, "extract@demo").communicate(timeout=60) == ("ran\n", "")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, start: Start) -> None:
    (tmp_path / ".emofuse").write_text("in the way, as a missing permission is, which root has")
    process = start(RUN, tmp_path, "extract@demo")
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert complaint.startswith("extract@demo: [Errno ")
    assert complaint.count("\n") == 1
