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
        said = capsys.readouterr().out
        assert all(f"{each}: 3 trained, 0 reused" in said for each in ("pretrain-audio", "fuse-cma"))
        outs.append(own.outs())
    assert outs[0] == outs[1]
    assert len(outs[0]) == 3 * (2 * 5 + 4)

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

    def start(count: int, *rest: Any, **options: Any) -> None:
        asked.append(count)
        raise InterruptedError

    monkeypatch.setattr(runs, "ProcessPoolExecutor", start)
    monkeypatch.setattr(runs, "cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(InterruptedError):
        run_all("here", bool, list(range(40)))
    assert asked == [expected]


def test_an_error_in_one_run_reaches_the_caller_and_the_others_are_kept(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(FileNotFoundError, match="absent"):
        run_all("here", os.mkdir, [tmp_path / "absent" / "below", made], workers=1)  # type: ignore[arg-type]
    assert made.is_dir()


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not done():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


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
    assert len(after) == 2 * seeds
    assert before.items() <= after.items()
    assert not list(project.store.root.glob("runs/.*~"))

    clean = project.copy(tmp_path / "clean")
    clean.pretrain("audio", stage="pretrain tiny ears")
    assert clean.outs() == project.outs()


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
