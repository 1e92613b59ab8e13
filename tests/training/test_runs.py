"""Runs side by side in processes: equal bytes, nothing lost to a kill, nobody left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from emofuse.training import runs
from emofuse.training.runs import run_all

Project = Any
"""The class of the fixtures, in ``conftest.py``."""

ROOT = Path(__file__).resolve().parents[2]

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by /proc")


def test_the_number_of_workers_and_the_runs_beside_change_no_byte(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project.tree["tasks"]["tiny"]["seeds"] = 3
    outs = []
    for workers in (1, 2):
        own = project.copy(tmp_path / f"workers-{workers}")
        own.run_all = partial(run_all, workers=workers)
        own.pretrain("audio")
        own.fuse("cma")
        output = capsys.readouterr().out
        assert all(f"{each}: 3 trained, 0 reused" in output for each in ("pretrain-audio", "fuse-cma"))
        outs.append(own.outs())
    assert outs[0] == outs[1]
    assert len(outs[0]) == 3 * (2 * 6 + 5)

    alone = project.copy(tmp_path / "alone")
    alone.tree["tasks"]["tiny"]["seeds"] = 1
    alone.pretrain("audio")
    alone.fuse("cma")
    assert alone.outs().items() < outs[0].items()


@pytest.mark.parametrize(("gpus", "cores", "expected"), [(0, 64, 40), (1, 64, 8), (2, 64, 16), (1, 4, 4)])
def test_as_many_runs_go_side_by_side_as_the_machine_serves(
    monkeypatch: pytest.MonkeyPatch, gpus: int, cores: int, expected: int
) -> None:
    asked = []

    def start(function: Any, arguments: Any, workers: int, *rest: Any) -> None:
        asked.append(workers)
        raise InterruptedError

    monkeypatch.setattr(runs, "call_all", start)
    monkeypatch.setattr(runs, "cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(InterruptedError):
        run_all("here", bool, list(range(40)))
    assert asked == [expected]


def test_an_error_in_one_run_reaches_the_caller_and_nothing_new_is_begun(tmp_path: Path) -> None:
    made, late = tmp_path / "made", [tmp_path / str(number) for number in range(50)]
    commands = [["mkdir", str(made)], ["false"], *(["mkdir", str(each)] for each in late)]
    with pytest.raises(subprocess.CalledProcessError, match="false"):
        run_all("here", subprocess.check_call, commands, workers=1)
    assert made.is_dir()
    assert not late[-1].exists()


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not done():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Of all threads, since each process of a pool is started by one of its own."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(each) for listed in threads for each in listed.read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def start(project: Project, workers: int) -> subprocess.Popen[str]:
    """Start the real stage on so many cores at most."""
    (project.root / "params.yaml").write_text(yaml.safe_dump(project.tree))
    cores = sorted(os.sched_getaffinity(0))[:workers]
    return subprocess.Popen(
        [sys.executable, ROOT / "stages" / "pretrain.py", "params.yaml", "tiny", "audio", project.pair.audio],
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )


def finished(project: Project) -> dict[tuple[str, int], int]:
    """When the weights of each finished run were written, by model and seed."""
    configs = [path.parent / "config.json" for path in project.store.root.glob("runs/[!.]*/manifest.json")]
    runs = {each: json.loads(each.read_text()) for each in configs}
    return {
        (run["model"], run["seed"]): path.with_name("model.safetensors").stat().st_mtime_ns
        for path, run in runs.items()
    }


@linux
def test_a_killed_stage_goes_on_where_it_stopped(project: Project, tmp_path: Path) -> None:
    project.tree["tasks"]["tiny"]["seeds"] = seeds = 3
    for level in ("utterance", "context"):
        project.tree["models"]["audio"][level]["fit"] |= {"epochs": 15, "patience": 15}
    stage = start(project, workers=2)
    wait_until(lambda: stage.poll() is not None or bool(finished(project)))
    workers = children(stage.pid)
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    wait_until(lambda: not any(map(is_alive, workers)))
    before = finished(project)
    assert 0 < len(before) < 2 * seeds
    whole = sum(("audio-utterance", seed) in before and ("audio-context", seed) in before for seed in range(seeds))

    output, _ = start(project, workers=1).communicate()
    (counts,) = re.findall(r"^pretrain tiny ears: (\d+) trained, (\d+) reused$", output, re.MULTILINE)
    assert counts == (str(seeds - whole), str(whole))
    after = finished(project)
    assert len(after) == 2 * seeds + 1  # and the linear baseline, which has no seeds
    assert before.items() <= after.items()
    assert not list(project.store.root.glob("runs/.*~"))

    assert project.copy(tmp_path / "clean").stage_of("audio").outs() == project.outs()


@linux
def test_a_killed_worker_ends_the_stage_with_one_line_and_what_others_finish_is_kept(project: Project) -> None:
    project.tree["tasks"]["tiny"]["seeds"] = seeds = 3
    for level in ("utterance", "context"):
        project.tree["models"]["audio"][level]["fit"] |= {"epochs": 15, "patience": 15}
    stage = start(project, workers=2)
    wait_until(lambda: stage.poll() is not None or bool(finished(project)))
    workers = [each for each in children(stage.pid) if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)
    _, error = stage.communicate()
    assert stage.returncode == 1
    assert error.splitlines() == [
        "pretrain tiny ears: a training run: a process that worked on it was killed by SIGKILL; the memory may be "
        "full; finished runs are kept"
    ]
    before = finished(project)
    whole = sum(("audio-utterance", seed) in before and ("audio-context", seed) in before for seed in range(seeds))
    assert whole > 0

    assert project.stage_of("audio").counts == (seeds - whole, whole)
    assert before.items() <= finished(project).items()


@linux
def test_a_worker_whose_parent_died_while_it_started_ends_too(project: Project) -> None:
    stage = start(project, workers=1)
    wait_until(lambda: stage.poll() is not None or len(children(stage.pid)) >= 2)
    time.sleep(0.2)  # The worker now has all it needs from its parent, and is importing.
    workers = children(stage.pid)
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    assert len(workers) >= 2
    try:
        wait_until(lambda: not any(map(is_alive, workers)))
    finally:
        for pid in filter(is_alive, workers):
            os.kill(pid, signal.SIGKILL)
    assert project.keys() == set()
