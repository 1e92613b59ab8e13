"""The pipeline as a person runs it: real DVC in a copy of the project, with a small embedded corpus."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import polars as pl
import yaml

Dvc = Callable[..., subprocess.CompletedProcess[str]]
Make = Callable[[Path], Path]

METRICS = "metrics/demo/logmel+minilm"

UNIMODAL = {"audio-utterance", "text-utterance", "audio-context", "text-context"}
UNSEEDED = {"majority", "audio-linear", "text-linear", "linear"}
MODELS = UNIMODAL | UNSEEDED | {"concat", "late", "hcam", "cma", "hbaf"}


def test_repro_leaves_scores_of_every_model(finished: Path) -> None:
    scores = pl.read_csv(finished / METRICS / "scores.csv")
    assert set(scores["model"]) == MODELS | {f"{each}/ensemble" for each in MODELS - UNSEEDED}
    assert scores.filter(pl.col("metric") == "weighted_f1")["mean"].is_between(0, 1).all()
    assert {path.name for path in (finished / METRICS).iterdir()} >= {"scores.json", "pairs.csv", "table.md"}


def test_a_second_repro_does_nothing(finished: Path, dvc: Dvc, tmp_path: Path) -> None:
    project = Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))
    before = (project / "dvc.lock").read_bytes()
    assert "Running stage" not in dvc(project, "repro").stdout
    assert (project / "dvc.lock").read_bytes() == before


def test_plain_repro_fills_the_tracker(finished: Path, small: dict[str, int]) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    experiments = [each for each in client.search_experiments() if each.name == "emofuse"]
    runs = client.search_runs([experiments[0].experiment_id], max_results=1000)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == len(UNSEEDED) + len(MODELS - UNSEEDED) * small["seeds"]
    assert len(runs) - len(children) == len(MODELS)
    assert all("test/weighted_f1" in run.data.metrics for run in children)
    inputs = {run.data.tags["model"]: {each.dataset.name for each in run.inputs.dataset_inputs} for run in children}
    assert inputs["hcam"] == inputs["concat"] == {"demo/utterances", "demo/logmel", "demo/minilm"}
    assert inputs["text-context"] == {"demo/utterances", "demo/minilm"}
    registered = {model.name: list(model.aliases) for model in client.search_registered_models()}
    encoders = {name: {"audio": "logmel", "text": "minilm"}.get(name.partition("-")[0]) for name in MODELS}
    assert registered == {
        f"emofuse-demo-{encoder or 'logmel-minilm'}-{name}": ["best-on-dev"]
        for name, encoder in encoders.items()
        if name != "majority"
    }


def test_a_new_seed_trains_alone(finished: Path, small: dict[str, int], dvc: Dvc, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(finished, project, symlinks=True)
    before = entries(project, "runs")
    path = project / "params.yaml"
    seeds = small["seeds"]
    path.write_text(path.read_text().replace(f"seeds: {seeds}", f"seeds: {seeds + 1}"))
    dvc(
        project, "repro", "fuse-networks@demo-logmel-minilm-hcam", "fuse-features@demo-logmel-minilm-majority"
    )  # tests/training has it for every model
    after = entries(project, "runs")
    assert {key: after[key] for key in before} == before
    # Of HCAM and what it reads there is one run more; the majority has no seeds, so its run is the old one.
    assert len(after) == len(before) + len(UNIMODAL) + 1


def test_worse_conditions_are_asked_about_while_they_are_on_and_change_no_other_score(
    finished: Path, dvc: Dvc, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(finished, project, symlinks=True)
    path = project / "params.yaml"
    off = path.read_text()
    before = {each: each.read_bytes() for each in (project / METRICS).glob("*.*")}
    named = "audio: [noise-0]\n    text: [no-text]\n    both: [found]"
    path.write_text(off.replace("audio: []\n    text: []\n    both: []", named))
    ran = re.findall("Running stage '(.*)'", dvc(project, "repro").stdout)
    asked = {"audio-noise-0": "logmel", "text-no-text": "minilm"}
    encoded = {f"corrupt-{name}-{encoder}" for name, encoder in asked.items()}
    encoded |= {"corrupt-both-audio-found-logmel", "corrupt-both-text-found-minilm"}
    asked["both-found"] = ""
    assert {each.replace("@", "-") for each in ran} == encoded | {
        f"robustness-{name}-demo-logmel-minilm" for name in asked
    }
    for name in asked:
        found = project / METRICS / "robustness" / f"{name.partition('-')[2]}.json"
        scores = json.loads(found.read_text())["scores"]
        assert set(scores) == MODELS
        assert all(own["weighted_f1"]["mean"] is not None for own in scores.values())
    assert {each: each.read_bytes() for each in before} == before

    path.write_text(off)
    assert "Running stage" not in dvc(project, "repro").stdout


def test_a_repro_that_was_killed_twice_repeats_nothing_and_leaves_what_an_undisturbed_one_does(
    finished: Path,
    make_project: Make,
    dvc: Dvc,
    environment: dict[str, str],
    small: dict[str, int],
    tracked: tuple[str, str],
    tmp_path: Path,
) -> None:
    project = make_project(tmp_path)
    path = project / "params.yaml"
    text = path.read_text().replace(*tracked)
    for model in ("linear", "concat", "cma", "late", "hbaf"):
        text = text.replace(f"    - {model}\n", "", 1)
    path.write_text(text)
    survived: dict[str, dict[str, int]] = {}
    # DVC takes stages that do not wait for each other in any order, so that the count alone tells the moment.
    for kind, more in (("features", small["shards"] + 1), ("runs", 1)):
        kill_when(project, environment, kind, len(entries(project, kind)) + more)
        assert "score@demo-logmel-minilm" not in locked(project), "all was over before the kill"
        survived[kind] = entries(project, kind)
    dvc(project, "repro")
    for kind, before in survived.items():
        assert {key: entries(project, kind)[key] for key in before} == before
    # Each has computed everything in a place of its own, so that this holds for any two clean runs.
    own, there = locked(project), locked(finished)
    assert own.pop("score@demo-logmel-minilm") != there["score@demo-logmel-minilm"], "which is of more models"
    assert own == {name: there[name] for name in own}


def locked(project: Path) -> dict[str, Any]:
    """The stages of ``dvc.lock``."""
    return dict(yaml.safe_load((project / "dvc.lock").read_text())["stages"])


def entries(project: Path, kind: str) -> dict[str, int]:
    """Finished work by key, with the time its manifest was made (links touch only the modification time)."""
    manifests = (project / ".emofuse" / kind).glob("[!.]*/manifest.json")
    return {path.parent.name: path.stat().st_ino for path in manifests}


def kill_when(project: Path, environment: dict[str, str], kind: str, wanted: int) -> None:
    """Kill `dvc repro` with SIGKILL once so many entries are finished, and wait until its stage is gone too."""
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while len(entries(project, kind)) < wanted:
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
