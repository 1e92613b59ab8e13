"""The comparison of committed results with those that were made again."""

import copy
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Change = Callable[[dict[str, Any]], None]

SCORES = "metrics/demo/a+b/scores.json"


def row(mean: float, sd: float | None = None) -> dict[str, Any]:
    return {"mean": mean, "sd": sd, "n_runs": 1 if sd is None else 4}


@pytest.fixture
def scores() -> dict[str, Any]:
    """Two models without seeds, two with, and an ensemble; seeds usually differ by two points."""
    means = {
        "majority": row(0.15),
        "linear": row(0.75),
        "hcam": row(0.80, 0.0),
        "hcam/ensemble": row(0.9),
        "cma": row(0.78, 0.0283),
    }
    metrics = ("accuracy", "weighted_f1", "dev/weighted_f1")
    features = {"audio": {"id": "a", "versions": {"torch": "2.11"}}}
    protocol = {"seeds": 4, "features": features, "provenance": {"sha256": "1"}}
    return {"protocol": protocol, "scores": {name: dict.fromkeys(metrics, own) for name, own in means.items()}}


@pytest.fixture(scope="module")
def golden(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / ".ci/golden.py"))


def move(model: str, by: float) -> Change:
    def change(scores: dict[str, Any]) -> None:
        own = scores["scores"][model]
        own["accuracy"] = own["accuracy"] | {"mean": own["accuracy"]["mean"] + by}

    return change


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (move("majority", 0.0), None),
        (move("majority", 0.0024), "majority, accuracy: +0.24 points; 0.00 are allowed"),
        (move("linear", -0.03), None),
        (move("linear", -0.032), "linear, accuracy: -3.20 points; 3.00 are allowed"),
        (move("hcam", 0.056), None),  # four times 2.0 points of all rows, by the root of a half
        (move("hcam", 0.057), "hcam, accuracy: +5.70 points; 5.66 are allowed"),
        (move("cma", -0.08), None),  # its own seeds differ by more
        (move("cma", -0.081), "cma, accuracy: -8.10 points; 8.00 are allowed"),
        (move("hcam/ensemble", 0.2), None),
        (lambda scores: scores["protocol"].update(provenance=2, cut_off={"cma": "1 of 4"}), None),
        (lambda scores: scores["protocol"]["features"]["audio"].update(versions=None), None),
        (lambda scores: scores["protocol"]["features"]["audio"].update(id="b"), "protocol.features: "),
        (lambda scores: scores["protocol"].update(seeds=3), "protocol.seeds: 3; committed is 4"),
        (lambda scores: scores["scores"].pop("cma"), "models: ['majority', 'linear', 'hcam', 'hcam/ensemble'];"),
    ],
)
def test_another_processor_may_move_scores_as_another_seed_does(
    golden: dict[str, Any], scores: dict[str, Any], change: Change, fault: str | None
) -> None:
    made = copy.deepcopy(scores)
    change(made)
    found = list(golden["within_tolerance"](scores, made))
    assert len(found) == (fault is not None), found
    assert fault is None or found[0].startswith(fault)


@pytest.fixture
def project(root: Path, scores: dict[str, Any], tmp_path: Path) -> Path:
    """A repository with results, on a kind of processor that is written down."""
    shutil.copytree(root / ".ci", tmp_path / ".ci")
    (tmp_path / SCORES).parent.mkdir(parents=True)
    (tmp_path / SCORES).write_text(json.dumps(scores))
    (tmp_path / SCORES).with_name("table.md").write_text("cma 78.0\n")
    assert run(tmp_path, "--record").returncode == 0
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "Results")):
        own = ("-c", "user.name=emofuse", "-c", "user.email=emofuse@localhost")
        subprocess.run(["git", *own, *command], cwd=tmp_path, check=True, timeout=60)
    return tmp_path


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ".ci/golden.py", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)


def test_the_same_processor_gives_every_digit_again(project: Path) -> None:
    done = run(project)
    assert (done.returncode, "comes again, compared to the digit" in done.stdout) == (0, True)
    (project / SCORES).with_name("table.md").write_text("cma 78.1\n")
    done = run(project)
    assert done.returncode == 1
    assert done.stdout.startswith("metrics/demo/a+b/table.md: not the same to the digit\nmetrics/demo: differs")


def test_on_another_processor_scores_are_compared_within_their_tolerance(project: Path, scores: dict[str, Any]) -> None:
    (project / "metrics/processor.json").write_text('{"name": "another", "torch": "DEFAULT"}')
    move("cma", 0.01)(scores)
    (project / SCORES).write_text(json.dumps(scores))
    done = run(project)
    assert (done.returncode, "comes again, compared within the tolerance" in done.stdout) == (0, True)
    move("linear", 0.1)(scores)
    (project / SCORES).write_text(json.dumps(scores))
    done = run(project)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "linear, accuracy: +10.00 points; 3.00 are allowed")
