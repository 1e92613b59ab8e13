"""Kill `make repro` at random, forty times, and see that the next `make repro` heals and ends where it was going.

The project is laid out as a person's clone: what git has of this one, committed, with an environment in `.venv` that is
up to date. Its pipeline is a toy in place of the networks: two chains of stages, which sleep where the real ones train.
Each runs as those do: under DVC, in :func:`emofuse.core.process.stage`, with its work in the processes of
:mod:`emofuse.core.pool` and its results in the work store.

Each round takes a copy of a project that was never run, of one with nothing to do, or of one in which a chain has to be
run again; it starts `make repro` and kills with SIGKILL after a random time: make, DVC, the stage's process, one of its
workers, DVC between two stages, or the whole group at once. Now and then `dvc.lock` is cut off besides, as a full disk
leaves it. Then `make repro` runs undisturbed, and nothing else. The lock file has to be the one of a project that
nobody disturbed.

Usage: python benchmarks/kills.py [ROUNDS] [SEED]
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from machine import describe, table

ROOT = Path(__file__).resolve().parent.parent

TARGETS = ("make", "dvc", "stage", "worker", "between", "group")
"""What is killed; ``between`` is DVC at a moment without a stage."""

STARTS = ("fresh", "edited", "fresh", "idle")
"""The projects that rounds begin with, in turn."""

CUT_OFF = 8
"""In one of so many rounds the lock file is cut off."""

PATIENCE = 600
"""Seconds after which a run counts as hung."""

HEALED = re.compile("was left empty|was cut off")


@dataclass(frozen=True)
class Start:
    """A project that rounds begin with.

    Attributes:
        folder: it is copied
        seconds: that `make repro` takes there, undisturbed
        lock: the lock file that it ends with
    """

    folder: Path
    seconds: float
    lock: bytes


def main(rounds: int = 40, seed: int = 0) -> None:
    """Kill so many times, and print what came of it."""
    choose, found = random.Random(seed), Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory(prefix="emofuse-kills-") as folder:
        starts = make_starts(Path(folder))
        print(describe(), *(f"{name}: {each.seconds:.0f} s undisturbed" for name, each in starts.items()), sep="\n")
        seconds = {name: each.seconds for name, each in starts.items()}
        for number in range(rounds):
            name, target = STARTS[number % len(STARTS)], TARGETS[choose.randrange(len(TARGETS))]
            start = starts[name]
            hit = None
            while hit is None:  # else it had ended, and nothing was killed
                project = copy(start.folder, Path(tempfile.mkdtemp(dir=folder)) / "clone")
                after, began = choose.uniform(0.5, seconds[name]), time.monotonic()
                hit = kill(project, target, after)
                seconds[name] = seconds[name] if hit else min(seconds[name], time.monotonic() - began)
            if number % CUT_OFF == CUT_OFF - 1 and cut_off(project / "dvc.lock", choose):
                hit += ", dvc.lock cut off"
            found[name, hit] += 1
            output = make(project)
            healed = [line for line in output.splitlines() if HEALED.search(line)]
            found["", "healed"] += bool(healed)
            same = (project / "dvc.lock").read_bytes() == start.lock
            print(f"{number:>3} {name:<6} after {after:5.1f} s: {hit}; {'; '.join(healed) or 'whole'}; "
                  f"{'as undisturbed' if same else 'ANOTHER dvc.lock'}", flush=True)  # fmt: skip
            if not same:
                sys.exit("the lock file is not the one of an undisturbed run")
            shutil.rmtree(project.parent)
    healed_rounds = found.pop(("", "healed"))
    print(f"\nhealed by `make repro`: {healed_rounds} of {rounds}\n")
    print(table(["project", "killed", "rounds"], [[*key, str(count)] for key, count in sorted(found.items())]))


def make_starts(folder: Path) -> dict[str, Start]:
    """Make the projects that rounds begin with, each of which was run once to know its end."""
    fresh, finished = folder / "fresh", folder / "finished"
    make_project(fresh)
    copy(fresh, finished)
    seconds, lock = run_whole(finished)
    git(finished, "add", "-A")
    git(finished, "commit", "-qm", "Results")
    idle = copy(finished, folder / "idle-tried")
    edited = copy(finished, folder / "edited")
    (edited / "data/raw/b.txt").write_text("edited", encoding="utf-8")
    tried = copy(edited, folder / "edited-tried")
    return {
        "fresh": Start(fresh, seconds, lock),
        "idle": Start(finished, *run_whole(idle)),
        "edited": Start(edited, *run_whole(tried)),
    }


def make_project(folder: Path) -> None:
    """Write a clone of this project, with the toy in place of its pipeline."""
    listing = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in names:
        # Other corpora have copies of the graph, which the toy's is not.
        if name and (ROOT / name).is_file() and name.partition("/")[0] not in ("corpora", "docs", "tests", "dvc.lock"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    (folder / "stages/work.py").write_text(STAGE, encoding="utf-8")
    (folder / "data/raw").mkdir(parents=True)
    stages: dict[str, dict[str, object]] = {}
    for chain in "ab":
        raw = f"data/raw/{chain}.txt"
        (folder / raw).write_text(chain, encoding="utf-8")
        for before, name in ((raw, "first"), (f"data/features/{chain}/first", "second")):
            out = f"data/features/{chain}/{name}"
            program = f"python stages/work.py {chain}-{name} {before} {out}"
            stages[f"{chain}-{name}"] = {"cmd": program, "deps": [before, "stages/work.py"], "outs": [out]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "A clone")


def copy(source: Path, target: Path) -> Path:
    """Copy a project, with an environment that `make` takes for this folder's own and up to date."""
    shutil.copytree(source, target, symlinks=True)
    environment = target / ".venv"
    shutil.rmtree(environment, ignore_errors=True)
    environment.mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != ".ready":
            (environment / path.name).symlink_to(path)
    (environment / ".ready").write_text(f"{target}\n", encoding="utf-8")
    return target


def git(project: Path, *arguments: str) -> None:
    """Run git as nobody in particular."""
    who = ["-c", "user.name=emofuse", "-c", "user.email=emofuse@localhost"]
    subprocess.run(["git", *who, *arguments], cwd=project, check=True, stdout=subprocess.DEVNULL)


def run_whole(project: Path) -> tuple[float, bytes]:
    """Run `make repro`; return how long it took, and the lock file."""
    start = time.monotonic()
    make(project)
    return time.monotonic() - start, (project / "dvc.lock").read_bytes()


def environment(project: Path) -> dict[str, str]:
    """Of a person in a clone, whose code is the one that runs."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(project / "src"),
        "DVC_NO_ANALYTICS": "1",
    }


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


def kill(project: Path, target: str, after: float) -> str | None:
    """Start `make repro` and kill so many seconds later; returns what was hit, or None if it had ended."""
    process = subprocess.Popen(
        ["make", "repro"],
        cwd=project,
        env=environment(project),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(after)
        return None
    except subprocess.TimeoutExpired:
        pass
    if target == "group":
        os.killpg(process.pid, signal.SIGKILL)
        hit: str | None = "all at once"
    else:
        hit = kill_one(process, target)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        sys.exit(f"{project}: hung after {target} was killed")
    settle(project)
    return hit


def kill_one(process: "subprocess.Popen[bytes]", target: str) -> str | None:
    """Kill make, or what runs below it."""
    if target == "between":
        wait_for_a_gap(process)
    found = below(process)
    if process.poll() is not None or not found["make"]:
        return None
    victim = (found["dvc"] if target == "between" else found[target]) or found["dvc"]
    if not victim:  # `emofuse heal` or `emofuse leaderboard` is at work
        victim = found["make"]
        target = "make, before or after dvc"
    elif target == "between":
        target = "dvc while a stage ran" if found["stage"] else "dvc between stages"
    elif target in ("stage", "worker") and not found[target]:
        target = "dvc between stages"
    try:
        victim[0].kill()
    except psutil.NoSuchProcess:
        return None
    return target


def wait_for_a_gap(process: "subprocess.Popen[bytes]") -> None:
    """Wait until DVC is between two stages, or all has ended."""
    while process.poll() is None:
        found = below(process)
        if found["dvc"] and not found["stage"]:
            return
        time.sleep(0.01)


def below(process: "subprocess.Popen[bytes]") -> dict[str, list[psutil.Process]]:
    """What runs of a `make repro`, by what it is."""
    try:
        top = psutil.Process(process.pid)
        every = [(each, command(each)) for each in top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return {target: [] for target in TARGETS}
    signs = {"dvc": r"python\S* \S*dvc repro", "stage": r"^\S*python\S* stages/", "worker": "spawn_main"}
    found = {name: [each for each, line in every if re.search(sign, line)] for name, sign in signs.items()}
    return found | {"make": [top]}


def command(process: psutil.Process) -> str:
    """The command line of a process; none of one that has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def cut_off(path: Path, choose: random.Random) -> bool:
    """Leave of a lock file what a full disk does."""
    if not path.exists():
        return False
    data = path.read_bytes()
    path.write_bytes(data[: choose.choice((0, choose.randrange(len(data) or 1)))])
    return True


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


def make(project: Path) -> str:
    """Run `make repro` to its end, which has to be a good one; returns what it says."""
    done = subprocess.run(
        ["make", "repro"],
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{project}: make repro: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
