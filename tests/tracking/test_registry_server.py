"""The tracker as a team has it: MLflow's server with PostgreSQL behind it, and two machines that write at once."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from emofuse.tracking.address import TrackingConfig
from emofuse.tracking.fetch import find, load
from emofuse.tracking.sync import sync

Project = Any
CONFIG = TrackingConfig()
STARTED = 300
"""Seconds that a server has to start; it ends by itself after some minutes, whatever becomes of the tests."""
LIMIT = ("timeout", "900")
NETWORKS = 13
"""Models that are registered: six unimodal ones, linear, late, concat, hcam with an ablation, cma, hbaf."""


def wait_for(ready: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + STARTED
    while not ready():
        assert process.poll() is None, f"{process.args} ended"
        assert time.monotonic() < end, f"{process.args} did not start in {STARTED} s"
        time.sleep(0.2)


def programs() -> Path:
    """Folder of PostgreSQL's programs, which Debian keeps out of PATH."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")), shutil.which("postgres")]
    if found == [None]:
        pytest.skip("needs PostgreSQL: no program `postgres` here")
    return Path(str(found[0])).parent


def owner() -> dict[str, Any]:
    """Whose processes the database's are: it refuses to run as root."""
    if os.getuid():
        return {}
    names = {each.pw_name for each in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Address of an empty PostgreSQL database; its one door is a socket in a folder that is only its owner's."""
    path, who = programs(), owner()
    folder = Path(tempfile.mkdtemp(prefix="emofuse-"))  # Not below pytest's own, which the owner may not enter.
    if who:
        os.chown(folder, who["user"], who["group"])
    create = [path / "initdb", "-D", folder / "data", "-U", "emofuse", "-A", "trust", "--locale=C", "-E", "UTF8", "-N"]
    subprocess.run(create, cwd=folder, check=True, stdout=subprocess.DEVNULL, **who)
    serve = [*LIMIT, path / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-F"]
    process = subprocess.Popen(serve, cwd=folder, stderr=subprocess.DEVNULL, **who)
    try:
        ask = [path / "pg_isready", "-q", "-h", folder]
        wait_for(lambda: subprocess.run(ask).returncode == 0, process)
        yield f"postgresql://emofuse@/postgres?host={folder}"
    finally:
        process.send_signal(signal.SIGINT)  # which does not wait for clients; `timeout` hands it on
        process.wait()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a tracking server."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    artifacts = tmp_path_factory.mktemp("artifacts")
    program = Path(sys.executable).with_name("mlflow")
    command = [*LIMIT, program, "server", "--backend-store-uri", database, "--artifacts-destination", artifacts]
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env={name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | own,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(port), process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def written(server: str, project: Project, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What two processes printed that knew nothing of each other and logged at once; a third came after them."""
    writers = []
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        root = shutil.copytree(project.root, folder / "project", ignore=shutil.ignore_patterns("conversations"))
        environment = os.environ | {"MLFLOW_TRACKING_URI": server, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "emofuse.tracking", root, CONFIG.experiment]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        writers.append(subprocess.Popen(command, env=environment, **pipes))
    printed = [writer.communicate(timeout=400) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], printed
    subprocess.run(command, env=environment, check=True, timeout=400)
    return [out for out, _ in printed]


def runs_of(client: MlflowClient) -> list[Run]:
    found = client.get_experiment_by_name(CONFIG.experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id], max_results=1000))


def test_two_machines_at_once_leave_each_result_once_after_the_next_look(server: str, written: list[str]) -> None:
    client = MlflowClient(server)
    runs = runs_of(client)
    by_key = {run.data.tags["emofuse.key"]: run for run in runs}
    assert len(by_key) == len(runs)
    assert {(run.info.status, run.data.tags["emofuse.current"]) for run in runs} == {("FINISHED", "true")}
    parents = {run.info.run_id: run.info.run_name for run in runs if "seed" not in run.data.tags}
    for run in runs:
        if "seed" in run.data.tags:
            assert run.info.run_name.startswith(f"{parents[run.data.tags['mlflow.parentRunId']]}/seed-")
            assert len(client.get_metric_history(run.info.run_id, "dev/weighted_f1")) == 1
            assert {each.path for each in client.list_artifacts(run.info.run_id)} >= {"record.json"}
    assert sum(int(line.split()[1]) for line in written) >= len(runs)


def test_each_model_is_registered_once_with_the_best_on_dev(server: str, written: list[str]) -> None:
    client = MlflowClient(server)
    runs = {run.info.run_id: run for run in runs_of(client)}
    models = client.search_registered_models()
    assert len(models) == NETWORKS
    for model in models:
        (version,) = client.search_model_versions(f"name = '{model.name}'")
        assert model.aliases == {"best-on-dev": version.version}
        model_of = {name: version.tags[name] for name in ("task", "model")}
        siblings = [
            run for run in runs.values() if "seed" in run.data.tags and model_of.items() <= run.data.tags.items()
        ]
        best = max(siblings, key=lambda run: (run.data.metrics["dev/weighted_f1"], -int(run.data.tags["seed"])))
        assert version.run_id == best.info.run_id


def test_a_fourth_finds_nothing_to_do_and_can_predict(
    server: str, written: list[str], project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.chdir(tmp_path)  # which has no project
    summary = sync(project.root, CONFIG)
    assert (summary.added, summary.updated, summary.registered, summary.refused) == ((), (), (), ())
    assert len(summary.unchanged) == len(runs_of(MlflowClient(server)))
    where = "models:/emofuse-demo-logmel-minilm-hcam@best-on-dev"
    assert find(where).manifest == find(project.model("hcam")).manifest
    conversation = next(iter(project.conversations.values()))
    assert load(where).predict(conversation) == load(project.model("hcam")).predict(conversation)
