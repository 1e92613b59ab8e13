"""What DVC itself shows of results."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Dvc = Callable[..., subprocess.CompletedProcess[str]]


METRICS = "metrics/demo/logmel+minilm"


@pytest.fixture(scope="module")
def project(finished: Path, dvc: Dvc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph and the results of the demo in a repository of their own, without data."""
    folder = tmp_path_factory.mktemp("views")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(finished / name, folder)
    shutil.copytree(finished / "metrics", folder / "metrics")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    dvc(folder, "init", "-q")
    shutil.copytree(finished / ".dvc/plots", folder / ".dvc/plots")
    for command in (["add", "-A"], ["commit", "-q", "-m", "results"]):
        subprocess.run([*git, *command], check=True)
    return folder


def test_metrics_diff_names_the_model_and_the_score_that_changed(project: Path, dvc: Dvc) -> None:
    path = project / METRICS / "dev.json"
    before = path.read_text()
    written = json.loads(before)
    written["hcam"]["dev/weighted_f1"] += 0.25
    path.write_text(json.dumps(written))
    found = json.loads(dvc(project, "metrics", "diff", "--json").stdout)
    path.write_text(before)
    assert list(found) == [f"{METRICS}/dev.json"]
    (changed,) = found[f"{METRICS}/dev.json"].items()
    assert changed[0] == "hcam.dev/weighted_f1"
    assert changed[1]["diff"] == pytest.approx(0.25)


def test_plots_show_has_every_picture_and_the_learning_curves(project: Path, dvc: Dvc) -> None:
    dvc(project, "plots", "show", "--out", "page")
    page = (project / "page/index.html").read_text()
    pictures = sorted((project / METRICS / "plots").glob("*.svg"))
    assert "scores.svg" in [path.name for path in pictures]
    for path in pictures:
        (shown,) = (project / "page/static").glob(f"*_{path.name}")
        assert shown.read_bytes() == path.read_bytes()
        assert shown.name in page
    rows = (project / METRICS / "learning.csv").read_text().splitlines()[1:]
    assert page.count('"dev_weighted_f1": "') == len(rows)
    assert '"facet": {"field": "model"' in page
    assert "DVC_METRIC" not in page
