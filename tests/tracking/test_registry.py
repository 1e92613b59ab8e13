"""The tracker's registry of trained models: the networks that the real stages made, in a SQLite tracker a test."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from emofuse.inference.bundle import BundleError
from emofuse.inference.requests import COLUMNS
from emofuse.tracking.address import TrackingConfig, TrackingError
from emofuse.tracking.fetch import find, load
from emofuse.tracking.registry import best_on_dev
from emofuse.tracking.runs_on_disk import Model, read_models
from emofuse.tracking.sync import Summary, sync

Project = Any
CONFIG = TrackingConfig()
HCAM = "emofuse-demo-logmel-minilm-hcam"
NAMES = {
    *(HCAM, f"{HCAM}-no-context"),
    *("emofuse-demo-logmel-audio-utterance", "emofuse-demo-logmel-audio-context"),
    *("emofuse-demo-minilm-text-utterance", "emofuse-demo-minilm-text-context"),
    *("emofuse-demo-logmel-audio-linear", "emofuse-demo-minilm-text-linear"),
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new tracker's database, which takes MLflow seconds to make."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def trained(project: Project, empty: Path, tmp_path: Path) -> Path:
    """A project with HCAM, its ablation, what it reads from, and the majority, to write into."""
    copy_models(project, tmp_path)
    shutil.copy2(empty, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture(scope="module")
def first(project: Project, empty: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """Such a project that is in the tracker, to look at only, and what was done to bring it there."""
    root = tmp_path_factory.mktemp("first")
    copy_models(project, root)
    shutil.copy2(empty, root / "mlflow.db")
    return root, sync(root, CONFIG)


@pytest.fixture
def registered(
    project: Project, first: tuple[Path, Summary], copy_tracker: Callable[[Path, Path], None], tmp_path: Path
) -> Path:
    """The same, to write into."""
    copy_models(project, tmp_path)
    copy_tracker(first[0], tmp_path)
    return tmp_path


def copy_models(project: Project, root: Path) -> None:
    fused = (f"logmel+minilm/{name}" for name in ("ablations", "hcam", "majority"))
    models = (f"data/models/demo/{name}" for name in ("logmel", "minilm", *fused))
    for name in ("params.yaml", "metrics", *models):
        copy = shutil.copy2 if (project.root / name).is_file() else shutil.copytree
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        copy(project.root / name, root / name)


def client(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def versions(root: Path, name: str = HCAM) -> dict[int, ModelVersion]:
    return {int(each.version): each for each in client(root).search_model_versions(f"name = '{name}'")}


def best(root: Path, name: str = HCAM) -> ModelVersion:
    return client(root).get_model_version_by_alias(name, "best-on-dev")


def run_of(root: Path, version: ModelVersion) -> Run:
    return client(root).get_run(version.run_id)


def set_dev(root: Path, seed: int, weighted_f1: float) -> None:
    """Make a run of HCAM as good on dev as a test needs it."""
    path = root / f"data/models/demo/logmel+minilm/hcam/seed-{seed}-fold-0/record.json"
    record = json.loads(path.read_text())
    record["dev"]["weighted_f1"] = weighted_f1
    path.write_text(json.dumps(record))


def test_every_network_is_registered_and_predicts(
    first: tuple[Path, Summary], project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, summary = first
    assert set(summary.registered) == NAMES
    assert summary.refused == ()
    assert str(summary).startswith("tracking: 24 runs added, 0 updated, 0 unchanged, 8 models registered in sqlite:")
    monkeypatch.chdir(trained)
    registered, conversation = f"models:/{HCAM}@best-on-dev", next(iter(project.conversations.values()))
    assert find(registered).manifest == find(trained / "data/models/demo/logmel+minilm/hcam").manifest
    expected = load(trained / "data/models/demo/logmel+minilm/hcam").predict(conversation)
    assert load(registered).predict(conversation) == expected
    served = mlflow.pyfunc.load_model(f"{trained}/mlartifacts/{best(trained).run_id}/artifacts/model")
    (prediction,) = served.predict([{"text": "You are late.", "speaker": "Ann"}])
    signature = served.metadata.signature
    assert signature.inputs.input_names() == list(COLUMNS)
    assert signature.outputs.input_names() == list(prediction)


def test_a_version_says_which_run_it_is(trained: Path) -> None:
    set_dev(trained, 0, 0.5)
    set_dev(trained, 1, 0.7)
    sync(trained, CONFIG)
    version = best(trained)
    assert run_of(trained, version).info.run_name == "demo/logmel+minilm/hcam/seed-1-fold-0"
    assert [version.tags[name] for name in ("task", "encoders", "model", "seed", "fold")] == [
        *("demo", "logmel+minilm", "hcam", "1", "0")
    ]
    assert (version.tags["run"], version.tags["dev/weighted_f1"]) == ("demo/logmel+minilm/hcam/seed-1-fold-0", "0.7000")


def test_nothing_is_registered_twice(registered: Path) -> None:
    written = best(registered).last_updated_timestamp
    summary = sync(registered, CONFIG)
    assert (summary.added, summary.updated, summary.registered) == ((), (), ())
    assert list(versions(registered)) == [1]
    assert best(registered).last_updated_timestamp == written


def test_of_two_machines_the_second_version_goes_at_the_next_look(registered: Path) -> None:
    first = best(registered)
    double = client(registered).create_model_version(HCAM, first.source, first.run_id, tags=first.tags)
    client(registered).set_registered_model_alias(HCAM, "best-on-dev", double.version)
    assert sync(registered, CONFIG).registered == (HCAM,)
    assert (best(registered).version, list(versions(registered))) == (first.version, [int(first.version)])


def test_a_new_seed_that_is_better_on_dev_gets_the_alias(trained: Path) -> None:
    runs = trained / "data/models/demo/logmel+minilm/hcam"
    later = trained / "later"
    shutil.move(runs / "seed-1-fold-0", later)
    set_dev(trained, 0, 0.5)
    sync(trained, CONFIG)
    assert best(trained).tags["seed"] == "0"

    shutil.move(later, runs / "seed-1-fold-0")
    set_dev(trained, 1, 0.4)
    assert sync(trained, CONFIG).registered == (HCAM,)  # of two runs now, which its card says
    assert (best(trained).version, list(versions(trained))) == (1, [1])
    set_dev(trained, 1, 0.6)
    assert sync(trained, CONFIG).registered == (HCAM,)
    assert (best(trained).version, best(trained).tags["seed"]) == (2, "1")
    set_dev(trained, 1, 0.4)
    assert sync(trained, CONFIG).registered == (HCAM,)
    assert (best(trained).version, sorted(versions(trained))) == (1, [1, 2])


def test_other_scores_change_the_card_and_not_the_version(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {path.name: path.read_text() for path in (trained / "metrics/demo/logmel+minilm").glob("scores.*")}
    for name in scores:
        (trained / "metrics/demo/logmel+minilm" / name).unlink()
    sync(trained, CONFIG)
    monkeypatch.chdir(trained)
    assert find(f"models:/{HCAM}@best-on-dev").manifest.scores is None
    for name, text in scores.items():
        (trained / "metrics/demo/logmel+minilm" / name).write_text(text)
    assert set(sync(trained, CONFIG).registered) == NAMES
    manifest = find(f"models:/{HCAM}@best-on-dev").manifest
    assert manifest == find(trained / "data/models/demo/logmel+minilm/hcam").manifest
    assert manifest.scores is not None
    assert list(versions(trained)) == [1]


def test_a_version_whose_run_was_deleted_returns_with_it(registered: Path) -> None:
    deleted = best(registered).run_id
    client(registered).delete_run(deleted)
    assert sync(registered, CONFIG).registered == (HCAM,)
    (version,) = versions(registered).values()
    assert version.run_id != deleted
    assert best(registered).version == version.version


def test_what_lacks_a_network_that_it_reads_from_is_said_and_the_rest_is_registered(trained: Path) -> None:
    """Where single outs were pulled."""
    shutil.rmtree(trained / "data/models/demo/logmel")
    summary = sync(trained, CONFIG)
    assert set(summary.registered) == {name for name in NAMES if name.startswith("emofuse-demo-minilm-")}
    assert [line.partition(": ")[0] for line in summary.refused] == [
        "demo/logmel+minilm/hcam",
        "demo/logmel+minilm/hcam/no-context",
    ]
    assert "logmel/context/seed-" in summary.refused[0]
    assert "3 models registered, 2 models not registered in" in str(summary)


def test_an_experiment_of_dvc_is_not_registered(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "wide")
    assert sync(trained, CONFIG).registered == ()
    assert list(client(trained).search_registered_models()) == []
    monkeypatch.delenv("DVC_EXP_NAME")
    assert set(sync(trained, CONFIG).registered) == NAMES


def test_a_tracker_that_goes_away_while_it_registers_costs_nothing_but_the_next_call(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise MlflowException("connection lost\nmore of it")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_model_version", gone)
        with pytest.raises(TrackingError, match=r"^tracker sqlite:.*: connection lost$"):
            sync(trained, CONFIG)
    summary = sync(trained, CONFIG)
    assert (summary.added, summary.updated, set(summary.registered)) == ((), (), NAMES)
    assert list(versions(trained)) == [1]


def test_of_equal_runs_the_lowest_seed_is_the_best(trained: Path) -> None:
    models = trained / "data/models/demo"
    for old, seed in ((0, 10), (1, 2)):
        for runs in (models / "logmel+minilm/hcam", *models.glob("logmel/*"), *models.glob("minilm/*")):
            if (runs / f"seed-{old}-fold-0").exists():  # a linear baseline has one seed
                shutil.move(runs / f"seed-{old}-fold-0", runs / f"seed-{seed}-fold-0")
        record = models / f"logmel+minilm/hcam/seed-{seed}-fold-0/record.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"seed": seed}))
        set_dev(trained, seed, 0.5)
    hcam: Model = next(model for model in read_models(trained) if model.folder.name == "hcam")
    assert best_on_dev(hcam).tags["seed"] == "2"
    assert find(models / "logmel+minilm/hcam").manifest.seed == 2


def test_a_tracker_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"mlflow\.db is not there; run `emofuse track`, or set MLFLOW_TRACKING_URI"):
        find(f"models:/{HCAM}@best-on-dev")
    assert not list(tmp_path.iterdir())


def test_a_registry_that_is_down_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(BundleError, match=r"tracker http://\*\*\*@127.0.0.1") as caught:
            find(f"models:/{HCAM}@best-on-dev")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
