"""A sweep over encoders in DVC's queue, and the same numbers in the tracker."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from emofuse.tracking.address import TrackingConfig
from emofuse.tracking.sync import sync

Dvc = Callable[..., subprocess.CompletedProcess[str]]

ENCODERS = {
    "baseline": ("logmel", "logmel"),
    "prosody": ("prosody", "prosody"),
    "wav2vec2": ("wav2vec2-base", "folder:wav2vec2-base"),
}
"""Three encoders of the sound, the project's own and the two of the queue: name in the catalogue, and identity."""

LEVELS = ("linear", "utterance", "context")
"""Of the audio models."""

QUEUE = """
dvc exp run --queue -n prosody -S 'run.audio=[prosody]'
dvc exp run --queue -n wav2vec2 -S 'run.audio=[wav2vec2-base]' -S encoders.wav2vec2-base.options.layers=last \\
    -S encoders.wav2vec2-base.options.model=$PWD/data/raw/models/wav2vec2-base \\
    -S encoders.wav2vec2-base.options.revision=null
dvc queue start
"""


@pytest.fixture(scope="module")
def project(
    finished: Path,
    dvc: Dvc,
    environment: dict[str, str],
    save_wav2vec2: Callable[..., None],
    tracked: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """A project with the unimodal networks and the majority alone, one seed, committed, and two experiments run."""
    project = tmp_path_factory.mktemp("sweep") / "project"
    shutil.copytree(finished, project, symlinks=True)
    for folder in ("data/models", "data/scores", "metrics/demo", "corpora"):
        shutil.rmtree(project / folder)
    (project / "mlflow.db").unlink()
    path = project / "params.yaml"
    text = path.read_text().replace("seeds: 2", "seeds: 1").replace(*tracked)
    for model in ("linear", "concat", "cma", "late", "hcam", "hbaf"):
        text = text.replace(f"    - {model}\n", "", 1)
    path.write_text(text.replace("    networks:  #", "    networks: []  #"))
    dvc(project, "repro")
    git = ("git", "-c", "user.name=emofuse", "-c", "user.email=emofuse@localhost")
    subprocess.run([*git, "add", "-A"], cwd=project, check=True, timeout=60)
    subprocess.run([*git, "commit", "-qm", "Baseline"], cwd=project, check=True, timeout=60)
    save_wav2vec2(project / "data/raw/models/wav2vec2-base")
    in_shell(QUEUE, project, environment)
    wait_for(project, set(ENCODERS) - {"baseline"})
    subprocess.run(["git", "diff", "--exit-code"], cwd=project, check=True, timeout=60)
    yield project
    dvc(project, "queue", "stop")


def in_shell(script: str, project: Path, environment: dict[str, str]) -> str:
    """What a script of the documentation prints."""
    shell = ["bash", "-euc", script]
    done = subprocess.run(shell, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(project: Path, names: set[str]) -> None:
    """Wait until the queue's worker has brought experiments to their end."""
    deadline = time.monotonic() + 600
    done: set[str] = set()
    while not names <= done:
        assert time.monotonic() < deadline, f"only {done} were run"
        time.sleep(0.5)
        refs = ["git", "for-each-ref", "--format=%(refname:lstrip=-1)", "refs/exps"]
        done = set(subprocess.run(refs, cwd=project, capture_output=True, text=True, check=True).stdout.split())


def test_the_tracker_has_the_numbers_that_dvc_shows(project: Path, dvc: Dvc) -> None:
    shown = {(name, model): score for name, model, score in of_dvc(project, dvc)}
    tracked = {place(run): round(run.data.metrics["dev/weighted_f1"], 6) for run in audio_runs(project)}
    assert set(shown) == {(name, f"audio-{level}") for name in ENCODERS for level in LEVELS}
    assert tracked == shown
    assert len(set(shown.values())) > 2, "the encoders make no difference"


def test_each_run_says_its_experiment_and_its_encoder(project: Path) -> None:
    found = {place(run): run.data.tags for run in audio_runs(project)}
    assert len(found) == len(LEVELS) * len(ENCODERS)
    for (name, _), tags in found.items():
        encoder, identity = ENCODERS[name]
        assert tags["encoders"] == encoder
        assert tags["encoder.audio"].startswith(identity)
    assert all(run.data.tags["emofuse.current"] == "true" for run in runs(project))
    assert not list((project / ".dvc/tmp/exps").glob("**/mlflow.db"))


def test_the_documented_comparison_has_a_row_for_each_encoder(root: Path, project: Path) -> None:
    (code,) = re.findall("```python\n(import mlflow\n.*?)```", (root / "docs/how-to/sweeps.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", code.replace("hcam", "audio-context")]
    output = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True, timeout=120).stdout
    for _, name in ENCODERS.values():
        assert len(re.findall(f"^{name}@", output, re.MULTILINE)) == 1


def test_the_variant_that_is_kept_becomes_the_project_s_own(project: Path, dvc: Dvc, tmp_path: Path) -> None:
    scores = {(name, model): each for name, model, each in of_dvc(project, dvc)}
    before = {run.info.run_id for run in runs(project)}
    copy = Path(shutil.copytree(project, tmp_path / "project", symlinks=True))
    dvc(copy, "exp", "apply", "prosody")
    assert "Running stage" not in dvc(copy, "repro").stdout
    sync(copy, TrackingConfig())
    new = [run for run in runs(copy) if run.info.run_id not in before]
    assert {(*place(run), run.data.tags["encoders"]) for run in new} == {
        ("baseline", f"audio-{level}", "prosody") for level in LEVELS
    }
    (trained,) = (run for run in new if "seed" in run.data.tags and run.data.tags["model"] == "audio-context")
    assert round(trained.data.metrics["dev/weighted_f1"], 6) == scores["prosody", "audio-context"]


def of_dvc(project: Path, dvc: Dvc) -> Iterator[tuple[str, str, float]]:
    """Experiment, audio network and weighted F1 on dev, as `dvc exp show` has them."""
    (baseline,) = json.loads(dvc(project, "exp", "show", "--hide-workspace", "--json").stdout)
    experiments = [state for each in baseline["experiments"] for state in each["revs"]]
    for name, state in [("baseline", baseline), *((each["name"], each) for each in experiments)]:
        metrics = state["data"]["metrics"]
        (file,) = (each for each in metrics if each.endswith("dev.json"))
        assert file == f"metrics/demo/{ENCODERS[name][0]}+minilm/dev.json"
        for model, scores in metrics[file]["data"].items():
            if model.startswith("audio-"):
                yield name, model, scores["dev/weighted_f1"]


def audio_runs(project: Path) -> list[Run]:
    """The trained audio networks that are in the project's tracker."""
    return [run for run in runs(project) if "seed" in run.data.tags and run.data.tags["model"].startswith("audio-")]


def runs(project: Path) -> list[Run]:
    """All runs that are in the project's tracker."""
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    return list(client.search_runs([client.get_experiment_by_name("emofuse").experiment_id]))


def place(run: Run) -> tuple[str, str]:
    """Experiment and model."""
    return run.data.tags.get("emofuse.experiment", "baseline"), run.data.tags["model"]
