"""The tracker against real MLflow, with a SQLite file a test."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import polars as pl
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from emofuse.core.layout import Layout, Pair
from emofuse.core.params import ParamsError, validate
from emofuse.core.schema import MODALITIES
from emofuse.core.store import Store
from emofuse.features.shards import write_shard
from emofuse.models.registry import model
from emofuse.tracking.address import TrackingConfig, TrackingError
from emofuse.tracking.experiment import experiment_of
from emofuse.tracking.process import shown, try_sync
from emofuse.tracking.runs_in_tracker import RunsInTracker
from emofuse.tracking.runs_on_disk import Card, RunsOnDisk, opened, read_models
from emofuse.tracking.sync import Summary, sync, training_seconds
from emofuse.training.progress import Progress
from emofuse.training.runs import Run as TrainingRun

CONFIG = TrackingConfig()
CLASSES = ("angry", "happy+excited", "neutral", "sad")
SUMMARY = ("accuracy", "balanced_accuracy", "weighted_f1", "macro_f1")
PAIR = Pair("logmel", "minilm")
PARAMETERS = {"network": {"hidden": 128}, "fit": {"learning_rate": 0.0005}}
Write = Callable[..., Any]
MODELS = ("audio-context", "hcam")
SEEDS = 2
RUNS = len(MODELS) * (1 + SEEDS)
RIGHT = {"audio-context": 77, "hcam": 68}
"""Percent of dev that a model gets right."""


def run_only(root: Path, pair: Pair, task: str = "demo") -> None:
    """Have the project's parameters run one pair of encoders."""
    tree = {
        "file": "params.yaml",
        "corpus": {"name": "small"},
        "tasks": {task: {}},
        "encoders": {"logmel": {}, "minilm": {}, "bert": {}},
        "conditions": {},
        "tracking": {},
        "run": {
            "tasks": [task],
            "audio": [pair.audio],
            "text": [pair.text],
            "models": {"features": ["majority"], "networks": ["hcam"]},
        },
    }
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


def encoders(name: str, pair: Pair) -> dict[str, str]:
    return {each: pair.encoder(each) for each in model(name).modalities}


def stage(task: str, name: str, pair: Pair = PAIR) -> str:
    """What a run says of the stage that made it."""
    if len(model(name).modalities) == 1:
        return f"pretrain {task} {next(iter(encoders(name, pair).values()))}"
    base, slash, _ = name.partition("/")
    return f"{'ablate' if slash else 'fuse'} {task} {pair} {base}"


def run_folder(root: Path, task: str, name: str, seed: int, pair: Pair = PAIR) -> Path:
    modalities = model(name).modalities
    layout, run = Layout(root), f"seed-{seed}-fold-0"
    if len(modalities) == 1:
        return layout.unimodal(task, pair.encoder(modalities[0])) / name.partition("-")[2] / run
    return layout.fusion(task, pair) / ("ablations" if "/" in name else "") / name / run


def write_scores(
    root: Path,
    task: str,
    seeds: int,
    models: tuple[str, ...],
    better: float = 0.0,
    further: tuple[str, ...] = (),
    pair: Pair = PAIR,
) -> None:
    """Leave what the scoring stage leaves, with further columns if there are any."""
    scores, means = [], []
    for place, name in enumerate(models):
        for metric in (*SUMMARY, *(f"f1/{each}" for each in CLASSES), *further):
            value = 0.6 + 0.05 * place + better
            scores += [(name, seed, 0, metric, value + 0.01 * seed) for seed in range(seeds)]
            scores += [(name, 0, None, metric, 0.1)]
            means += [(name, metric, value, 0.01, value - 0.02, value + 0.02, seeds)]
        means += [(name, f"dev/{metric}", 0.99, 0.01, None, None, seeds) for metric in SUMMARY]
    folder, metrics = Layout(root).scores(task, pair), Layout(root).metrics(task, pair)
    folder.mkdir(parents=True, exist_ok=True)
    (metrics / "plots").mkdir(parents=True, exist_ok=True)
    names = ["model", "seed", "fold", "metric", "value"]
    pl.DataFrame(scores, schema=names, orient="row").write_parquet(folder / "runs.parquet")
    names = ["model", "metric", "mean", "sd", "low", "high", "n_runs"]
    pl.DataFrame(means, schema=names, orient="row").write_csv(metrics / "scores.csv")
    (metrics / "table.md").write_text(f"| Model | Weighted F1 |\n| --- | ---: |\n| hcam | {65 + 100 * better:.1f} |\n")
    (metrics / "report.html").write_text(f"<p>{better}</p>")
    for name in ("scores", "confusion-hcam", "confusion-hcam-no-contrastive", "confusion-audio-context"):
        (metrics / f"plots/{name}.svg").write_text(f"<svg>{better}</svg>")


def write_lock(root: Path, corpus: str = "68ca") -> None:
    """Write what DVC writes: the digests of what stages made, and of what they depend on."""
    table = {"path": "data/corpora/small/utterances.parquet", "hash": "md5", "md5": corpus}
    stages = {"ingest": {"cmd": "python stages/ingest.py", "outs": [table]}}
    for encoder in PAIR.audio, PAIR.text:
        made = {"path": f"data/features/small/{encoder}", "hash": "md5", "md5": f"{encoder}.dir"}
        stages[f"extract-{encoder}"] = {"cmd": "python stages/extract.py", "deps": [table], "outs": [made]}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture(scope="session")
def write_run(leave_run: Write) -> Write:
    """Write a run of a network that gets so many percent of each class of dev right."""

    def write(root: Path, task: str, name: str, seed: int, right: int | None = None, pair: Pair = PAIR) -> None:
        percent = RIGHT.get(name, 60) if right is None else right
        history = [
            {
                "epoch": n,
                "loss": 1.4 / n**0.5 + 0.02 * seed,
                "dev_accuracy": 0.5,
                "dev_weighted_f1": 0.4 + 0.03 * n + percent / 1000,
            }
            for n in range(1, 9)
        ]
        of = {"task": task, "encoders": encoders(name, pair), "stage": stage(task, name, pair)}
        folder = run_folder(root, task, name, seed, pair)
        leave_run(folder, name, seed, percent, **of, parameters=PARAMETERS, history=history)

    return write


@pytest.fixture(scope="session")
def write_project(write_run: Write) -> Write:
    """Leave on disk what the stages leave for a task, with made-up numbers."""

    def write(
        root: Path, task: str = "demo", seeds: int = SEEDS, models: tuple[str, ...] = MODELS, pair: Pair = PAIR
    ) -> Path:
        for name in models:
            for seed in range(seeds):
                write_run(root, task, name, seed, pair=pair)
        write_lock(root)
        write_scores(root, task, seeds, models, pair=pair)
        identity = {"id": "logmel", "revision": "1", "layer": "40 bands", "labels_seen": False}
        for modality in MODALITIES:
            folder = Layout(root).features("small", pair.encoder(modality))
            folder.mkdir(parents=True, exist_ok=True)
            write_shard(folder / "shard-00000-of-00001.parquet", [], 1, identity)
        (root / "data/corpora/small").mkdir(parents=True, exist_ok=True)
        (root / "data/corpora/small/utterances.parquet").touch()
        run_only(root, pair, task)
        return root

    return write


@pytest.fixture(scope="session")
def two_writers(tmp_path_factory: pytest.TempPathFactory, write_project: Write) -> tuple[Path, list[str]]:
    """A project that two processes logged at once, into a database that neither found there; and what they printed."""
    root = write_project(tmp_path_factory.mktemp("two"), seeds=1)
    command = [sys.executable, "-m", "emofuse.tracking", str(root), "first"]
    writers = [subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    output = [writer.communicate(timeout=300) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], output
    return root, [out for out, _ in output]


@pytest.fixture(scope="session")
def logged(two_writers: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory, write_project: Write) -> Path:
    """A project whose runs are in the tracker, to look at only."""
    root = tmp_path_factory.mktemp("logged")
    shutil.copy(two_writers[0] / "mlflow.db", root / "mlflow.db")
    assert counts(sync(write_project(root), CONFIG)) == (RUNS, 0, 0)
    return root


@pytest.fixture
def project(tmp_path: Path, two_writers: tuple[Path, list[str]], logged: Path) -> Path:
    """A project with trained models and a database, which takes MLflow seconds to make, without its experiment."""
    shutil.copytree(logged, tmp_path, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"), dirs_exist_ok=True)
    shutil.copy(two_writers[0] / "mlflow.db", tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def synced(project: Path, logged: Path, copy_tracker: Callable[[Path, Path], None]) -> Path:
    """The same project, whose runs are in the tracker."""
    copy_tracker(logged, project)
    return project


def all_runs(root: Path, experiment: str = "emofuse") -> list[Run]:
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], max_results=1000))


def by_name(root: Path) -> dict[str, Run]:
    """The current runs by name."""
    runs = [run for run in all_runs(root) if run.data.tags["emofuse.current"] == "true"]
    result = {run.info.run_name: run for run in runs}
    assert len(result) == len(runs)
    return result


def history(root: Path, run: Run, metric: str) -> list[tuple[int, float]]:
    client = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]


def artifacts(root: Path, run: Run) -> set[str]:
    folder = root / "mlartifacts" / run.info.run_id / "artifacts"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def counts(summary: Summary) -> tuple[int, int, int]:
    return len(summary.added), len(summary.updated), len(summary.unchanged)


def test_two_writers_at_once_make_one_database_and_no_double(two_writers: tuple[Path, list[str]]) -> None:
    root, output = two_writers
    n_runs = 2 * len(MODELS)
    assert sorted(line.split(" in ")[0] for line in output) == [
        f"tracking: 0 runs added, 0 updated, {n_runs} unchanged",
        f"tracking: {n_runs} runs added, 0 updated, 0 unchanged",
    ]
    runs = all_runs(root, "first")
    assert len(runs) == len({run.data.tags["emofuse.key"] for run in runs}) == n_runs


def test_a_run_has_what_the_record_and_the_scores_say(logged: Path) -> None:
    runs = by_name(logged)
    run, parent = runs["demo/logmel+minilm/hcam/seed-1-fold-0"], runs["demo/logmel+minilm/hcam"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"network.hidden": "128", "fit.learning_rate": "0.0005"}
    classes = ("f1/angry", "f1/happy_excited", "f1/neutral", "f1/sad")
    names = {f"test/{name}" for name in (*SUMMARY, *classes)} | {f"dev/{name}" for name in SUMMARY}
    curves = {"curves/loss", "curves/dev_accuracy", "curves/dev_weighted_f1"}
    assert set(run.data.metrics) == names | curves | {"n_parameters", "best_epoch"}
    assert run.data.metrics["test/weighted_f1"] == pytest.approx(0.66)
    assert run.data.metrics["dev/weighted_f1"] == pytest.approx(0.68)
    tags = run.data.tags
    assert tags["mlflow.parentRunId"] == parent.info.run_id
    assert [tags[name] for name in ("task", "encoders", "model", "seed", "fold")] == [
        *("demo", "logmel+minilm", "hcam", "1", "0")
    ]
    assert tags["mlflow.source.name"] == "fuse demo logmel+minilm hcam"
    assert tags["encoder.audio"] == tags["encoder.text"] == "logmel@1, layer 40 bands, labels unseen"
    assert artifacts(logged, run) == {"record.json", "predictions.parquet"}


def test_learning_curves_have_one_point_an_epoch(logged: Path) -> None:
    run = by_name(logged)["demo/logmel/audio-context/seed-0-fold-0"]
    record = json.loads((run_folder(logged, "demo", "audio-context", 0) / "record.json").read_text())
    for name in ("loss", "dev_accuracy", "dev_weighted_f1"):
        assert history(logged, run, f"curves/{name}") == [(epoch["epoch"], epoch[name]) for epoch in record["history"]]


def test_a_unimodal_run_names_one_encoder(logged: Path) -> None:
    tags = by_name(logged)["demo/logmel/audio-context/seed-0-fold-0"].data.tags
    assert [name for name in tags if name.startswith("encoder.")] == ["encoder.audio"]


def inputs(run: Run) -> set[tuple[str, str]]:
    return {(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs}


def test_what_went_in_is_named_without_a_copy_of_it(logged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = by_name(logged)
    text = ("small/minilm", "minilm.dir")
    whole = {("small/utterances", "68ca"), ("small/logmel", "logmel.dir"), text}
    assert inputs(runs["demo/logmel+minilm/hcam/seed-1-fold-0"]) == inputs(runs["demo/logmel+minilm/hcam"]) == whole
    run = runs["demo/logmel/audio-context/seed-0-fold-0"]
    assert inputs(run) == inputs(runs["demo/logmel/audio-context"]) == whole - {text}
    monkeypatch.chdir(logged)
    found = {each.dataset.name: Path(mlflow.data.get_source(each).load()) for each in run.inputs.dataset_inputs}
    data = logged / "data"
    assert found == {
        "small/utterances": data / "corpora/small/utterances.parquet",
        "small/logmel": data / "features/small/logmel",
    }


def test_other_data_with_an_equal_result_are_a_further_input(synced: Path) -> None:
    write_lock(synced, corpus="77ff")
    assert counts(sync(synced, CONFIG)) == (0, RUNS, 0)
    run = by_name(synced)["demo/logmel+minilm/hcam/seed-0-fold-0"]
    assert {digest for name, digest in inputs(run) if name == "small/utterances"} == {"68ca", "77ff"}
    assert counts(sync(synced, CONFIG)) == (0, 0, RUNS)


def test_an_ablation_is_a_model_of_its_own(project: Path, write_project: Write) -> None:
    write_project(project, task="other", seeds=1, models=("hcam/no-contrastive",))
    assert "other/logmel+minilm/hcam/no-contrastive/seed-0-fold-0" in sync(project, CONFIG).added
    run = by_name(project)["other/logmel+minilm/hcam/no-contrastive"]
    pictures = {"plots/scores.svg", "plots/confusion-hcam-no-contrastive.svg"}
    assert artifacts(project, run) == {"report.html", "table.md"} | pictures


def test_the_parent_has_the_means_and_the_pictures(logged: Path) -> None:
    parent = by_name(logged)["demo/logmel+minilm/hcam"]
    metrics = parent.data.metrics
    assert metrics["test/weighted_f1"] == pytest.approx(0.65)
    assert (metrics["dev/weighted_f1"], metrics["dev/weighted_f1_sd"]) == pytest.approx((0.68, 0.0))
    assert "seed" not in parent.data.tags
    assert artifacts(logged, parent) == {"report.html", "table.md", "plots/scores.svg", "plots/confusion-hcam.svg"}


def test_nothing_is_logged_twice(synced: Path) -> None:
    assert counts(sync(synced, CONFIG)) == (0, 0, RUNS)
    assert len(all_runs(synced)) == RUNS


def test_a_changed_score_updates_the_same_run(synced: Path) -> None:
    before = by_name(synced)
    table = synced / "mlartifacts" / before["demo/logmel+minilm/hcam"].info.run_id / "artifacts/table.md"
    shown = table.read_text()
    write_scores(synced, "demo", SEEDS, MODELS, better=-0.1)
    assert counts(sync(synced, CONFIG)) == (0, RUNS, 0)
    after = by_name(synced)
    assert {name: run.info.run_id for name, run in after.items()} == {n: r.info.run_id for n, r in before.items()}
    assert after["demo/logmel+minilm/hcam/seed-0-fold-0"].data.metrics["test/weighted_f1"] == pytest.approx(0.55)
    assert after["demo/logmel+minilm/hcam"].data.metrics["test/weighted_f1"] == pytest.approx(0.55)
    assert table.read_text() != shown
    assert len(history(synced, after["demo/logmel+minilm/hcam/seed-0-fold-0"], "curves/loss")) == 8
    assert counts(sync(synced, CONFIG)) == (0, 0, RUNS)


def test_a_column_that_was_switched_off_is_no_number_any_more(project: Path) -> None:
    """MLflow deletes no metric. What a person has logged to a run stays."""
    column = "test/best_on_test_epoch/weighted_f1"
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    shown = []
    for further in (("best_on_test_epoch/weighted_f1",), (), (), ("best_on_test_epoch/weighted_f1",)):
        write_scores(project, "demo", SEEDS, MODELS, further=further)
        done = counts(sync(project, CONFIG))
        runs = by_name(project)
        values = [
            runs[name].data.metrics[column]
            for name in ("demo/logmel+minilm/hcam", "demo/logmel+minilm/hcam/seed-1-fold-0")
        ]
        shown.append((*done, values == pytest.approx([0.65, 0.66]), bool(np.isnan(values).all())))
        client.log_metric(runs["demo/logmel+minilm/hcam"].info.run_id, "by/hand", 1.0)
    assert shown == [
        (RUNS, 0, 0, True, False),
        (0, RUNS, 0, False, True),
        (0, 0, RUNS, False, True),
        (0, RUNS, 0, True, False),
    ]
    assert by_name(project)["demo/logmel+minilm/hcam"].data.metrics["by/hand"] == 1.0
    shutil.rmtree(project / "data/scores")
    shutil.rmtree(project / "metrics")
    sync(project, CONFIG)
    assert by_name(project)["demo/logmel+minilm/hcam"].data.metrics[column] == pytest.approx(0.65)


def test_a_model_trained_again_is_a_new_run_and_the_old_one_stays(synced: Path, write_run: Write) -> None:
    old = by_name(synced)["demo/logmel+minilm/hcam/seed-0-fold-0"]
    write_run(synced, "demo", "hcam", 0, right=84)
    summary = sync(synced, CONFIG)
    assert summary.added == ("demo/logmel+minilm/hcam/seed-0-fold-0",)
    assert summary.updated == ("demo/logmel+minilm/hcam",)  # its mean on dev
    means = by_name(synced)["demo/logmel+minilm/hcam"].data.metrics
    assert (means["dev/accuracy"], means["dev/accuracy_sd"]) == pytest.approx((0.76, 0.16 / 2**0.5))
    new = by_name(synced)["demo/logmel+minilm/hcam/seed-0-fold-0"]
    assert new.info.run_id != old.info.run_id
    retired = [run for run in all_runs(synced) if run.data.tags["emofuse.current"] == "false"]
    assert [run.info.run_id for run in retired] == [old.info.run_id]

    write_run(synced, "demo", "hcam", 0)
    assert counts(sync(synced, CONFIG))[0] == 0
    assert by_name(synced)["demo/logmel+minilm/hcam/seed-0-fold-0"].info.run_id == old.info.run_id


def test_times_are_those_of_training_where_the_work_store_has_them_and_stay(project: Path) -> None:
    """They are of the store of the machine that trained a run; who synchronizes later changes nothing."""
    record = run_folder(project, "demo", "hcam", 0) / "record.json"

    def train(folder: Path) -> None:
        time.sleep(0.2)
        shutil.copy(record, folder)

    assert training_seconds(project, CONFIG) == {}
    entry = Store(project / ".emofuse").ensure("runs", "abc", train)
    sync(project, CONFIG)
    first = training_seconds(project, CONFIG)
    assert first == {("demo", "logmel+minilm", "hcam"): pytest.approx(entry.seconds, abs=0.002)}
    runs = by_name(project)
    run, parent = runs["demo/logmel+minilm/hcam/seed-0-fold-0"].info, runs["demo/logmel+minilm/hcam"].info
    assert (parent.start_time, parent.end_time) == (run.start_time, run.end_time)
    assert runs["demo/logmel+minilm/hcam/seed-1-fold-0"].info.end_time is None
    shutil.rmtree(entry.path)
    assert counts(sync(project, CONFIG)) == (0, 0, RUNS)
    assert training_seconds(project, CONFIG) == first


def test_a_new_seed_adds_its_own_runs_alone(synced: Path, write_project: Write) -> None:
    write_project(synced, seeds=SEEDS + 1)
    assert set(sync(synced, CONFIG).added) == {
        "demo/logmel/audio-context/seed-2-fold-0",
        "demo/logmel+minilm/hcam/seed-2-fold-0",
    }
    assert len(all_runs(synced)) == RUNS + len(MODELS)


@contextmanager
def experiment(project: Path, name: str = "wide") -> Iterator[pytest.MonkeyPatch]:
    """The environment in which DVC runs an experiment: in a copy of the project, which is gone afterwards."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DVC_ROOT", str(project))
        environment.setenv("DVC_EXP_NAME", name)
        yield environment


def test_an_experiment_of_dvc_logs_what_differs_beside_the_project_in_the_project_s_tracker(
    synced: Path, tmp_path: Path, write_project: Write, write_run: Write
) -> None:
    copy = write_project(tmp_path / "copy")
    for seed in range(SEEDS):
        write_run(copy, "demo", "hcam", seed, right=84)
    write_scores(copy, "demo", SEEDS, MODELS, better=0.1)
    with experiment(synced) as environment:
        assert counts(sync(copy, CONFIG)) == (1 + SEEDS, 0, 0)
        environment.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        environment.chdir(copy)
        assert counts(sync(Path(), CONFIG)) == (0, 0, 1 + SEEDS)
    assert not (copy / "mlflow.db").exists()
    assert counts(sync(synced, CONFIG)) == (0, 0, RUNS)
    runs = by_name(synced)
    assert len(runs) == RUNS + 1 + SEEDS
    assert runs["demo/logmel+minilm/hcam"].data.metrics["test/weighted_f1"] == pytest.approx(0.65)
    metrics = runs["wide: demo/logmel+minilm/hcam"].data.metrics
    assert (metrics["test/weighted_f1"], metrics["dev/weighted_f1"]) == pytest.approx((0.75, 0.84))
    tags = runs["wide: demo/logmel+minilm/hcam/seed-0-fold-0"].data.tags
    assert tags["emofuse.experiment"] == "wide"
    assert tags["mlflow.parentRunId"] == runs["wide: demo/logmel+minilm/hcam"].info.run_id


def test_a_seed_that_an_experiment_adds_is_logged_alone_under_the_mean_of_all(
    synced: Path, tmp_path: Path, write_project: Write, write_run: Write
) -> None:
    copy = write_project(tmp_path / "copy")
    write_run(copy, "demo", "hcam", SEEDS, right=86)
    with experiment(synced):
        assert sync(copy, CONFIG).added == (
            "wide: demo/logmel+minilm/hcam",
            f"wide: demo/logmel+minilm/hcam/seed-{SEEDS}-fold-0",
        )
    means = by_name(synced)["wide: demo/logmel+minilm/hcam"].data.metrics
    assert means["dev/weighted_f1"] == pytest.approx((2 * 0.68 + 0.86) / 3)


def test_an_experiment_logs_what_the_project_no_longer_is(
    project: Path, tmp_path: Path, write_project: Write, write_run: Write
) -> None:
    """A value that the project had before is in its runs, but no longer among the current ones."""
    write_run(project, "demo", "hcam", 0, right=84)
    sync(project, CONFIG)
    write_run(project, "demo", "hcam", 0)
    sync(project, CONFIG)
    copy = write_project(tmp_path / "copy")
    with experiment(project, "same"):
        assert counts(sync(copy, CONFIG)) == (0, 0, 0)
    write_run(copy, "demo", "hcam", 0, right=84)
    for name in ("back", "back-again"):  # another experiment's runs are not the project's own
        with experiment(project, name):
            assert sync(copy, CONFIG).added == (
                f"{name}: demo/logmel+minilm/hcam",
                f"{name}: demo/logmel+minilm/hcam/seed-0-fold-0",
            )


def test_an_experiment_is_logged_whole_where_the_project_is_not(project: Path) -> None:
    with experiment(project):
        assert counts(sync(project, CONFIG)) == (RUNS, 0, 0)
    assert counts(sync(project, CONFIG)) == (RUNS, 0, 0)


def test_a_model_that_reads_no_encoder_is_logged_once_for_all_pairs(project: Path, write_project: Write) -> None:
    other = Pair("logmel", "bert")
    for pair in (PAIR, other):
        write_project(project, seeds=1, models=("majority",), pair=pair)
    run_only(project, PAIR)
    assert counts(sync(project, CONFIG)) == (RUNS + 2, 0, 0)
    assert counts(sync(project, CONFIG)) == (0, 0, RUNS + 2)
    run = by_name(project)["demo/labels/majority/seed-0-fold-0"]
    assert (run.data.tags["encoders"], run.data.tags["mlflow.source.name"]) == (
        "labels",
        "fuse demo logmel+minilm majority",
    )
    shutil.rmtree(Layout(project).fusion("demo", PAIR) / "majority")
    sync(project, CONFIG)  # from the other pair
    again = by_name(project)["demo/labels/majority/seed-0-fold-0"]
    assert again.info.run_id == run.info.run_id
    assert again.data.tags["mlflow.source.name"] == "fuse demo logmel+bert majority"


def test_scores_are_of_a_pair_that_is_run(project: Path) -> None:
    """The results of a pair that is run no longer stay on disk, and may be of a network that was replaced since."""
    left = Pair("logmel", "bert")
    write_scores(project, "demo", SEEDS, MODELS, better=-0.3, pair=left)
    sync(project, CONFIG)
    name = "demo/logmel/audio-context"
    shown = [by_name(project)[each].data.metrics["test/weighted_f1"] for each in (name, f"{name}/seed-0-fold-0")]
    assert shown == pytest.approx([0.6, 0.6])
    run_only(project, left)
    sync(project, CONFIG)
    assert by_name(project)[name].data.metrics["test/weighted_f1"] == pytest.approx(0.3)


def test_a_project_without_dvc_and_without_scores_is_shown_too(project: Path, write_project: Write) -> None:
    (project / "dvc.lock").unlink()
    shutil.rmtree(project / "data/scores")
    shutil.rmtree(project / "metrics")
    sync(project, CONFIG)
    run = by_name(project)["demo/logmel+minilm/hcam/seed-0-fold-0"]
    assert "test/weighted_f1" not in run.data.metrics
    assert by_name(project)["demo/logmel+minilm/hcam"].data.metrics["dev/weighted_f1"] == pytest.approx(0.68)
    assert not inputs(run)
    assert artifacts(project, run) == {"record.json", "predictions.parquet"}

    write_project(project)
    assert counts(sync(project, CONFIG)) == (0, RUNS, 0)
    assert by_name(project)["demo/logmel+minilm/hcam/seed-0-fold-0"].data.metrics["test/weighted_f1"] == pytest.approx(
        0.65
    )


KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from emofuse.tracking.address import TrackingConfig
from emofuse.tracking.sync import sync

log, calls = MlflowClient.log_artifacts, []

def log_and_die(*arguments):
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    log(*arguments)

MlflowClient.log_artifacts = log_and_die
sync(Path(sys.argv[1]), TrackingConfig())
"""


def test_what_a_killed_process_left_is_completed(project: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(project)], capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = {run.info.run_id: run.info.status for run in all_runs(project)}
    assert sorted(before.values()) == ["FINISHED"] * 4 + ["RUNNING"]
    assert counts(sync(project, CONFIG)) == (RUNS - 5, 1, 4)
    after = {run.info.run_id: run.info.status for run in all_runs(project)}
    assert before.keys() <= after.keys()
    assert set(after.values()) == {"FINISHED"}
    for each in by_name(project).values():
        assert len(history(project, each, "test/weighted_f1")) == 1
        assert len(history(project, each, "curves/loss")) == (8 if "seed" in each.data.tags else 0)
        assert artifacts(project, each)


def test_a_deleted_parent_returns_with_its_children_under_it(synced: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{synced / 'mlflow.db'}")
    client.delete_run(by_name(synced)["demo/logmel+minilm/hcam"].info.run_id)
    assert counts(sync(synced, CONFIG)) == (1, SEEDS, RUNS - 1 - SEEDS)
    runs = by_name(synced)
    assert (
        runs["demo/logmel+minilm/hcam/seed-0-fold-0"].data.tags["mlflow.parentRunId"]
        == runs["demo/logmel+minilm/hcam"].info.run_id
    )


def test_the_git_commit_is_a_tag_of_new_runs(project: Path) -> None:
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    sync(project, CONFIG)
    tags = by_name(project)["demo/logmel+minilm/hcam/seed-0-fold-0"].data.tags
    assert tags["mlflow.source.git.commit"] == commit
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "second"], check=True)
    assert counts(sync(project, CONFIG)) == (0, 0, RUNS)


def test_the_environment_chooses_another_tracker_and_experiment(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("a folder")
    (project / "mlflow.db").rename(other / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    assert counts(sync(project, CONFIG)) == (RUNS, 0, 0)
    assert len(all_runs(other, "theirs")) == RUNS
    assert (other / "mlartifacts").is_dir()
    assert not (project / "mlflow.db").exists()


def test_nothing_trained_makes_no_database(tmp_path: Path) -> None:
    assert counts(sync(tmp_path, CONFIG)) == (0, 0, 0)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_deleted_experiment_is_said_to_be_deleted(synced: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{synced / 'mlflow.db'}")
    client.delete_experiment(client.get_experiment_by_name("emofuse").experiment_id)
    with pytest.raises(TrackingError, match="'emofuse' was deleted; restore it with `mlflow experiments restore"):
        sync(synced, CONFIG)


def test_a_damaged_record_is_named(project: Path) -> None:
    path = run_folder(project, "demo", "hcam", 1) / "record.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=r"hcam/seed-1-fold-0/record\.json: not a run's record"):
        sync(project, CONFIG)


def test_a_damaged_lock_file_is_named(project: Path) -> None:
    (project / "dvc.lock").write_text("stages: [")
    with pytest.raises(ValueError, match=r"dvc\.lock: not a lock file of DVC"):
        sync(project, CONFIG)


def begin(folder: Path, project: Path, seed: int) -> Progress:
    """What a run of HCAM writes of itself before its first epoch."""
    out = run_folder(project, "demo", "hcam", seed)
    run = TrainingRun("demo", "hcam", encoders("hcam", PAIR), stage("demo", "hcam"), seed, 0)
    return Progress(folder, run, PARAMETERS, out.relative_to(project))


def wait_for(project: Path, name: str, ready: Callable[[Run], bool]) -> Run:
    deadline = time.monotonic() + 120
    while True:
        found = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}").get_experiment_by_name("emofuse")
        runs = {run.info.run_name: run for run in all_runs(project)} if found else {}
        if name in runs and ready(runs[name]):
            return runs[name]
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_run_is_shown_while_it_trains(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, loss = "demo/logmel+minilm/hcam/seed-0-fold-0", "curves/loss"
    out = run_folder(project, "demo", "hcam", 0)
    epochs = json.loads((out / "record.json").read_text())["history"]
    shutil.move(out.parent, tmp_path / "later")
    monkeypatch.chdir(project)
    with shown() as folder:
        first, _ = begin(folder, project, 0), begin(folder, project, 1)
        first(epochs[0])
        run = wait_for(project, name, lambda run: loss in run.data.metrics)
        assert run.info.status == "RUNNING"
        assert run.data.tags["mlflow.parentRunId"] in {each.info.run_id for each in all_runs(project)}
        for epoch in epochs[1:]:
            first(epoch)
        wait_for(project, name, lambda run: run.data.metrics[loss] == epochs[-1]["loss"])
        shutil.move(tmp_path / "later/seed-0-fold-0", out)
        finished = wait_for(project, name, lambda run: run.info.status == "FINISHED")
    assert (finished.info.run_id, finished.data.metrics["dev/weighted_f1"]) == (run.info.run_id, pytest.approx(0.68))
    assert history(project, finished, loss) == [(epoch["epoch"], epoch["loss"]) for epoch in epochs]
    assert wait_for(project, name.replace("seed-0", "seed-1"), lambda _: True).info.status == "FAILED"
    means = wait_for(project, "demo/logmel+minilm/hcam", lambda run: run.info.status == "FINISHED")
    assert means.data.metrics["dev/weighted_f1"] == pytest.approx(0.68)

    shutil.move(tmp_path / "later/seed-1-fold-0", out.parent)
    sync(project, CONFIG)
    runs = by_name(project)
    assert len(all_runs(project)) == len(runs) == RUNS
    assert (runs[name].info.run_id, runs[name].info.end_time) == (run.info.run_id, finished.info.end_time)
    assert runs[name].data.metrics["test/weighted_f1"] == pytest.approx(0.65)
    assert len(history(project, runs[name], loss)) == len(epochs)
    assert counts(sync(project, CONFIG)) == (0, 0, RUNS)


@pytest.fixture
def live(synced: Path) -> RunsInTracker:
    """The tracker as the process sees it that shows runs while they train."""
    client = mlflow.MlflowClient(f"sqlite:///{synced / 'mlflow.db'}")
    return RunsInTracker(client, client.get_experiment_by_name("emofuse").experiment_id, synced)


def in_training(live: RunsInTracker, project: Path) -> tuple[Card, Run]:
    record = json.loads((run_folder(project, "demo", "hcam", 0) / "record.json").read_text())
    card, parent = opened(record)
    return parent, live.create(card, parent, (time.time(),) * 2)


def test_what_a_killed_process_was_showing_goes_with_the_next_look(project: Path, live: RunsInTracker) -> None:
    in_training(live, project)
    assert counts(sync(project, CONFIG)) == (0, 0, RUNS)
    assert len(all_runs(project)) == len(by_name(project)) == RUNS


def test_an_equal_result_trained_again_stays_one_run(project: Path, live: RunsInTracker) -> None:
    before = {run.info.run_id for run in all_runs(project)}
    parent, run = in_training(live, project)
    card = RunsOnDisk(project, "demo").run(run_folder(project, "demo", "hcam", 0))
    live.finish(run, card, parent)
    assert {run.info.run_id for run in all_runs(project)} == before


def test_of_two_machines_the_younger_run_goes_at_the_next_look(project: Path, live: RunsInTracker) -> None:
    before = {run.info.run_id for run in all_runs(project)}
    for run in all_runs(project):
        live._client.create_run(run.info.experiment_id, run_name=run.info.run_name, tags=run.data.tags)
    assert len(all_runs(project)) == 2 * RUNS
    assert counts(sync(project, CONFIG)) == (0, 0, RUNS)
    assert {run.info.run_id for run in all_runs(project)} == before


def test_a_run_that_two_machines_complete_at_once_has_each_value_once(project: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.create_experiment("emofuse", (project / "mlartifacts").as_uri())
    model = next(each for each in read_models(project) if each.parent.tags["model"] == "hcam")
    card = model.runs[0]
    one = RunsInTracker(client, experiment, project)
    one.create(card, model.parent, card.times)
    two = RunsInTracker(client, experiment, project)
    for machine in (one, two):
        time.sleep(0.01)  # Values have their times in milliseconds.
        machine.show_run(card, model.parent)
    (run,) = (each for each in all_runs(project) if "seed" in each.data.tags)
    assert {name: len(history(project, run, name)) for name in card.metrics} == dict.fromkeys(card.metrics, 1)
    assert len(history(project, run, "curves/loss")) == 8


def test_a_stage_with_tracking_off_starts_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("tracking: {}", "tracking: {enabled: false}"))
    with shown() as folder:
        assert folder is None


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_a_tracker_that_is_down_is_one_line_without_the_password(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{closed_port()}")
    start = time.perf_counter()
    with pytest.raises(TrackingError) as caught:
        sync(project, CONFIG)
    assert time.perf_counter() - start < 60
    assert str(caught.value).startswith("tracker http://***@127.0.0.1")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stage_goes_on_when_the_tracker_is_down(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port()}")
    try_sync(project, CONFIG)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("tracking: incomplete, `emofuse track` catches up (tracker http://127.0.0.1")


def test_a_stage_waits_for_a_silent_tracker_no_longer_than_it_is_told(
    project: Path, silent_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_port}")
    start = time.perf_counter()
    try_sync(project, TrackingConfig(timeout_s=2.0))
    assert time.perf_counter() - start < 30
    assert capsys.readouterr().out == "tracking: incomplete, `emofuse track` catches up (not done after 2 s)\n"


@pytest.mark.parametrize("port", ["silent", "closed"])
def test_training_waits_for_no_tracker(
    project: Path, silent_port: int, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = silent_port if port == "silent" else closed_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{chosen}")
    monkeypatch.chdir(project)
    start = time.perf_counter()
    with shown() as folder:
        begin(folder, project, 0)
        time.sleep(3)
    assert time.perf_counter() - start < 3 + 3


def test_a_stage_says_what_it_added(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try_sync(project, TrackingConfig(timeout_s=300.0))
    assert capsys.readouterr().out.startswith(f"tracking: {RUNS} runs added, 0 updated, 0 unchanged in sqlite:////")
    assert len(all_runs(project)) == RUNS


def test_a_stage_with_tracking_off_says_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try_sync(project, TrackingConfig(enabled=False))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("section", [{"experiment": ""}, {"timeout_s": 0}, {"uri": "x"}, {"enabled": "yes"}])
def test_a_bad_section_is_refused(section: dict[str, object]) -> None:
    with pytest.raises(ParamsError, match=f"params.yaml: tracking.{next(iter(section))}"):
        validate(section, TrackingConfig, "params.yaml: tracking")


def test_a_view_that_another_machine_sets_at_the_same_moment_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    real = MlflowClient.set_experiment_tag

    def refused(self: MlflowClient, experiment: str, key: str, value: str) -> None:
        real(self, experiment, key, value)  # the other machine's row
        raise MlflowException("UNIQUE constraint failed: experiment_tags")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refused)
    found = client.get_experiment(experiment_of(client, uri, TrackingConfig()))
    assert any(key.startswith("mlflow.sharedViewState.") for key in found.tags)
