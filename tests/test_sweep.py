"""A sweep as docs/team.md has it: encoders side by side in DVC's queue, and the same numbers in the tracker."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run

from emofuse.tracking import TrackingConfig, sync

Dvc = Callable[..., subprocess.CompletedProcess[str]]

LAYERS = {"baseline": [2, 4, 6], "top": "last", "early": [1]}
"""Three encoders of the text: the project's own, and the two of the queue."""


@pytest.fixture(scope="module")
def project(finished: Path, dvc: Dvc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one task's text networks alone, one seed, all of it committed, and two experiments run."""
    project = tmp_path_factory.mktemp("sweep") / "project"
    shutil.copytree(finished, project, symlinks=True)
    shutil.rmtree(project / "data/models")
    (project / "mlflow.db").unlink()
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["tasks"]["demo"]["seeds"] = 1
    params |= {"pretrain": {"demo-text": params["pretrain"]["demo-text"]}, "fuse": {}}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    dvc(project, "repro")
    git = ("git", "-c", "user.name=emofuse", "-c", "user.email=emofuse@localhost")
    subprocess.run([*git, "add", "-A"], cwd=project, check=True, timeout=60)
    subprocess.run([*git, "commit", "-qm", "Baseline"], cwd=project, check=True, timeout=60)
    for name in ("top", "early"):
        value = json.dumps(LAYERS[name]).strip('"')
        dvc(project, "exp", "run", "--queue", "-n", name, "-S", f"features.demo-text.options.layers={value}")
    dvc(project, "exp", "run", "--run-all", "-j", "2")
    return project


def test_the_tracker_has_the_numbers_that_dvc_shows(project: Path, dvc: Dvc) -> None:
    shown = {(name, model): scores for name, model, scores in of_dvc(project, dvc)}
    tracked = {place(run): run.data.metrics["weighted_f1"] for run in runs(project) if "seed" not in run.data.tags}
    assert set(shown) == {(name, f"text-{level}") for name in LAYERS for level in ("utterance", "context")}
    assert tracked == shown
    assert len(set(shown.values())) > 2, "the encoders make no difference"


def test_each_run_says_its_experiment_and_its_encoder(project: Path) -> None:
    found = {place(run): run.data.tags["encoder.text"] for run in runs(project) if "seed" in run.data.tags}
    assert len(found) == 2 * len(LAYERS)
    for (name, _), encoder in found.items():
        assert f"layer {LAYERS[name]}," in encoder
    assert all(run.data.tags["emofuse.current"] == "true" for run in runs(project))
    assert not list((project / ".dvc/tmp/exps").glob("**/mlflow.db"))


def test_the_documented_comparison_has_a_row_for_each_encoder(root: Path, project: Path) -> None:
    (code,) = re.findall("```python\n(import mlflow\n.*?)```", (root / "docs/team.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", code.replace("hcam", "text-context")]
    said = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True, timeout=120).stdout
    assert sorted(re.findall("layer (.*), labels", said)) == sorted(map(str, LAYERS.values()))


def test_the_variant_that_is_kept_becomes_the_project_s_own(project: Path, dvc: Dvc, tmp_path: Path) -> None:
    scores = {(name, model): each for name, model, each in of_dvc(project, dvc)}
    copy = Path(shutil.copytree(project, tmp_path / "project", symlinks=True))
    dvc(copy, "exp", "apply", "top")
    assert "Running stage" not in dvc(copy, "repro").stdout
    sync(copy, TrackingConfig())
    now = {place(run): run for run in runs(copy) if "seed" not in run.data.tags}
    assert now["baseline", "text-context"].data.metrics["weighted_f1"] == scores["top", "text-context"]
    assert len(runs(copy)) == len(runs(project)) + 2


def of_dvc(project: Path, dvc: Dvc) -> Iterator[tuple[str, str, float]]:
    """Experiment, model and weighted F1, as `dvc exp show` has them."""
    (baseline,) = json.loads(dvc(project, "exp", "show", "--hide-workspace", "--json").stdout)
    experiments = [state for each in baseline["experiments"] for state in each["revs"]]
    for name, state in [("baseline", baseline), *((each["name"], each) for each in experiments)]:
        for model, scores in state["data"]["metrics"]["metrics/demo/scores.json"]["data"]["scores"].items():
            yield name, model, scores["weighted_f1"]["mean"]


def runs(project: Path) -> list[Run]:
    """All runs that are in the project's tracker."""
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    return list(client.search_runs([client.get_experiment_by_name("emofuse").experiment_id]))


def place(run: Run) -> tuple[str, str]:
    """Experiment and model."""
    return run.data.tags.get("emofuse.experiment", "baseline"), run.data.tags["model"]
