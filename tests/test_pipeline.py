"""The pipeline as a person runs it: real DVC in a copy of the project, with a small embedded corpus."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import polars as pl
import pytest
import yaml

ROOT = Path(__file__).parents[1]
SEEDS, DIALOGUES, SHARDS = 2, 24, 12
MODELS = {"majority", "audio-utterance", "text-utterance", "audio-context", "text-context", "concat", "late", "hcam"}


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": path, "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | own


def dvc(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["dvc", *arguments], cwd=project, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_project(folder: Path) -> Path:
    """Copy what git would: the project as a fresh clone, with few dialogues, seeds and epochs."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(folder / "metrics", ignore_errors=True)
    shrink(folder / "params.yaml")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def shrink(path: Path) -> None:
    params = yaml.safe_load(path.read_text())
    demo = params["corpora"]["demo"]
    demo["shards"], demo["options"]["dialogues"] = SHARDS, DIALOGUES
    params["tasks"]["demo"]["seeds"] = SEEDS
    for section in ("corpora", "features", "tasks", "pretrain", "fuse"):
        params[section] = {key: value for key, value in params[section].items() if key.startswith("demo")}
    shorten(params["models"])
    params["scoring"]["resamples"] = 200
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def shorten(tree: dict) -> None:
    for key, value in tree.items():
        if key == "fit":
            tree[key] = value | {"epochs": 1}
        elif isinstance(value, dict):
            shorten(value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after one plain `dvc repro`."""
    project = make_project(tmp_path_factory.mktemp("finished"))
    dvc(project, "repro")
    return project


def test_repro_leaves_scores_of_every_model(finished: Path) -> None:
    scores = pl.read_csv(finished / "metrics/demo/scores.csv")
    assert set(scores["model"]) == MODELS
    assert scores.filter(pl.col("metric") == "weighted_f1")["mean"].is_between(0, 1).all()
    assert {path.name for path in (finished / "metrics/demo").iterdir()} >= {"scores.json", "pairs.csv", "table.md"}


def test_a_second_repro_does_nothing(finished: Path) -> None:
    before = (finished / "dvc.lock").read_bytes()
    assert "Running stage" not in dvc(finished, "repro")
    assert (finished / "dvc.lock").read_bytes() == before


def test_plain_repro_fills_the_tracker(finished: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    experiments = [each for each in client.search_experiments() if each.name == "emofuse"]
    runs = client.search_runs([experiments[0].experiment_id], max_results=1000)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 1 + (len(MODELS) - 1) * SEEDS
    assert len(runs) - len(children) == len(MODELS)
    assert all("weighted_f1" in run.data.metrics for run in children)


def test_two_clean_runs_give_the_same_lock(finished: Path, tmp_path: Path) -> None:
    other = make_project(tmp_path)
    dvc(other, "repro")
    assert (other / "dvc.lock").read_text() == (finished / "dvc.lock").read_text()


def test_a_new_seed_trains_alone(finished: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(finished, project, symlinks=True)
    before = entries(project, "runs")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["tasks"]["demo"]["seeds"] = SEEDS + 1
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    dvc(project, "repro")
    after = entries(project, "runs")
    assert {key: after[key] for key in before} == before
    # Of seven seeded models each has one run more; the majority has no seeds, so its run is the old one.
    assert len(after) == len(before) + len(MODELS) - 1


@pytest.mark.parametrize(("kind", "stage"), [("features", "extract@demo-text"), ("runs", "pretrain@demo-audio")])
def test_a_killed_repro_goes_on_without_repeating(finished: Path, tmp_path: Path, kind: str, stage: str) -> None:
    project = make_project(tmp_path)
    wanted = SHARDS + 1 if kind == "features" else 1
    kill_when(project, lambda: len(entries(project, kind)) >= wanted)
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    assert stage not in lock["stages"], "the stage was over before the kill"
    survived = entries(project, kind)
    dvc(project, "repro")
    assert {key: entries(project, kind)[key] for key in survived} == survived
    assert (project / "dvc.lock").read_text() == (finished / "dvc.lock").read_text()


def entries(project: Path, kind: str) -> dict[str, int]:
    """Finished work by key, with the time its manifest was made (links touch only the modification time)."""
    manifests = (project / ".emofuse" / kind).glob("[!.]*/manifest.json")
    return {path.parent.name: path.stat().st_ino for path in manifests}


def kill_when(project: Path, reached: Callable[[], bool]) -> None:
    """Kill `dvc repro` with SIGKILL at the given moment, and wait until its stage is gone too."""
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=project, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, "dvc repro ended before the moment came"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(stages_running_in(project)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stages_running_in(project: Path) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").resolve() == project.resolve() and b"stages/" in (path / "cmdline").read_bytes():
                yield int(path.name)
        except OSError:
            continue
