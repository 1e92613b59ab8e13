"""Kill a small pipeline at random and see whether `emofuse heal` and `dvc repro` bring it to where it was going.

The pipeline is a toy of two chains of stages, which sleep where the real ones train. Each runs as those do: under DVC,
in :func:`emofuse.core.process.stage`, with its work in the processes of :mod:`emofuse.core.pool` and its results in the
work store. Each round takes a copy that was never run, starts `dvc repro`, and kills with SIGKILL after a random time:
DVC alone, the stage's process, one of its workers, or the whole group at once. A quarter of the rounds begins with a
finished project, where DVC has nothing to do but to write its own files. Then `emofuse heal` and `dvc repro` run
undisturbed, as `make repro` runs them. The lock file has to be the one of a project that nobody disturbed.

Usage: python benchmarks/kills.py [ROUNDS] [SEED]
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import yaml

TARGETS = ("dvc", "stage", "worker", "group")

PATIENCE = 120
"""Seconds after which a run counts as hung."""

ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def main(rounds: int = 40, seed: int = 0) -> None:
    """Kill so many times, and print what came of it."""
    choose, found = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="emofuse-kills-") as folder:
        fresh, finished = Path(folder) / "fresh", Path(folder) / "finished"
        make_project(fresh)
        shutil.copytree(fresh, finished, symlinks=True)
        start = time.monotonic()
        repro(finished)
        whole = time.monotonic() - start
        expected = (finished / "dvc.lock").read_bytes()
        print(f"undisturbed: {whole:.0f} s")
        for number in range(rounds):
            idle = number % 4 == 3
            project = Path(shutil.copytree(finished if idle else fresh, Path(folder) / str(number), symlinks=True))
            target = choose.choice(TARGETS)
            after = choose.uniform(0.5, 4.0 if idle else whole)
            left = kill(project, "dvc" if idle else target, after)
            healed = run(project, "emofuse", "heal").stdout.strip()
            repro(project)
            same = (project / "dvc.lock").read_bytes() == expected
            found.update([f"{'idle' if idle else target}, {left}", *(["healed"] if healed else [])])
            print(f"{number:>3} {'idle' if idle else target:<7} after {after:5.1f} s: {left}; {healed or 'whole'}; "
                  f"{'as undisturbed' if same else 'ANOTHER dvc.lock'}", flush=True)  # fmt: skip
            if not same:
                sys.exit("the lock file is not the one of an undisturbed run")
            shutil.rmtree(project)
    for what, count in sorted(found.items()):
        print(f"| {what} | {count} |")


def make_project(folder: Path) -> None:
    """Write the toy."""
    (folder / "stages").mkdir(parents=True)
    (folder / "stages/work.py").write_text(STAGE, encoding="utf-8")
    (folder / "raw").write_text("raw", encoding="utf-8")
    stages: dict[str, dict[str, object]] = {}
    for chain in "ab":
        for before, name in (("raw", "first"), (f"data/features/{chain}/first", "second")):
            out = f"data/features/{chain}/{name}"
            program = f"python stages/work.py {chain}-{name} {before} {out}"
            stages[f"{chain}-{name}"] = {"cmd": program, "deps": [before, "stages/work.py"], "outs": [out]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    (folder / ".gitignore").write_text("/data/\n", encoding="utf-8")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True)


STAGE = """
import sys, time
from hashlib import sha256
from pathlib import Path
from emofuse.core.process import stage

def work(number):
    from emofuse.core.store import Store, link
    name, before, out = sys.argv[1:]
    paths = sorted(Path(before).rglob("part*")) if Path(before).is_dir() else [Path(before)]
    key = sha256(b"".join(path.read_bytes() for path in paths) + f"{name} {number}".encode()).hexdigest()

    def make(folder):
        time.sleep(0.4)
        (folder / f"part-{number}").write_text(key * 1000)

    link(Store().ensure("runs", key, make), Path(out))

if __name__ == "__main__":
    with stage(sys.argv[1]):
        from emofuse.core.pool import call_all
        for _ in call_all(work, range(4), 2):
            pass
"""
"""A stage's program: four pieces of work by two processes."""


def kill(project: Path, target: str, after: float) -> str:
    """Start `dvc repro` and kill so many seconds later; returns what was hit."""
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=project,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(after)
        return "it had finished"
    except subprocess.TimeoutExpired:
        pass
    if target == "group":
        os.killpg(process.pid, signal.SIGKILL)
        hit = "all at once"
    else:
        hit = kill_one(process, target)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        sys.exit(f"{project}: hung after {target} was killed")
    settle(project)
    return hit


def kill_one(process: "subprocess.Popen[bytes]", target: str) -> str:
    """Kill DVC, or what runs below it."""
    below = psutil.Process(process.pid).children(recursive=True)
    stages = [each for each in below if any("stages/" in part for part in command(each)[:2])]
    workers = [each for each in below if any("spawn_main" in part for part in command(each))]
    chosen = {"stage": stages, "worker": workers}.get(target, [])
    if target != "dvc" and not chosen:
        process.kill()
        return f"between stages: no {target}, so dvc"
    victim = chosen[0] if chosen else psutil.Process(process.pid)
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        return "it had just ended"
    return target


def command(process: psutil.Process) -> list[str]:
    """The command line of a process; none of one that has ended."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def settle(project: Path) -> None:
    """Wait until nothing that was started in a project runs any more."""
    end = time.monotonic() + PATIENCE
    while any(inside(each, project) for each in psutil.process_iter()):
        if time.monotonic() > end:
            sys.exit(f"{project}: a process outlives its parent")
        time.sleep(0.1)


def inside(process: psutil.Process, folder: Path) -> bool:
    """Whether a living process works in a folder."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
        return False


def repro(project: Path) -> None:
    """Run the pipeline to its end."""
    run(project, "dvc", "repro")


def run(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command that has to succeed."""
    done = subprocess.run(
        arguments, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        sys.exit(f"{project}: {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
