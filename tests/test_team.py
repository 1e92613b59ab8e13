"""A team around a real S3 server on loopback: what one computes, the others have; and what goes wrong heals."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pyarrow.parquet as pq
import pytest
import requests
import yaml

Dvc = Callable[..., subprocess.CompletedProcess[str]]

BUCKET = "team"
TEXT = "data/features/demo/minilm"
PLACE = "demo/logmel+minilm"
GIT = ("git", "-c", "user.name=emofuse", "-c", "user.email=emofuse@localhost")


class Remote:
    """An S3 server with one bucket."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = boto3.client("s3", endpoint_url=url)
        self._client.create_bucket(Bucket=BUCKET)

    def objects(self) -> set[str]:
        """The MD5 of every object in DVC's layout; those of folders end with ``.dir``."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return {"".join(key.split("/")[-2:]) for key in keys if "/files/md5/" in key}

    def ask_for_credentials(self, asks: bool) -> None:
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"0" if asks else b"inf", timeout=10).raise_for_status()


@pytest.fixture(scope="module")
def remote(s3_server: str) -> Iterator[Remote]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Remote(s3_server)


def git(project: Path, *arguments: str) -> None:
    subprocess.run([*GIT, *arguments], cwd=project, check=True, capture_output=True, timeout=60)


def clone(source: Path, target: Path) -> Path:
    subprocess.run(["git", "clone", "-q", source, target], check=True, timeout=60)
    return target


def cached(project: Path, out: str) -> set[str]:
    """The MD5 of a locked out and, if it is a folder, of the files in it."""
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    (md5,) = {each["md5"] for stage in lock["stages"].values() for each in stage["outs"] if each["path"] == out}
    path = object_of(project, md5)
    return {md5, *(each["md5"] for each in json.loads(path.read_text()))} if md5.endswith(".dir") else {md5}


def object_of(project: Path, md5: str) -> Path:
    return project / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


@pytest.fixture(scope="module")
def interrupted(
    finished: Path, remote: Remote, dvc: Dvc, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, set[str]]:
    """The repository of the member who has the corpus, whose push was killed half-way; and what the others lack."""
    project = tmp_path_factory.mktemp("team") / "first"
    shutil.copytree(finished, project, symlinks=True)
    dvc(project, "remote", "add", "-d", "team", f"s3://{BUCKET}/emofuse")
    dvc(project, "remote", "modify", "team", "endpointurl", remote.url)
    git(project, "add", "-A")
    git(project, "commit", "-qm", "Results")
    kill_push_when(project, lambda: len(remote.objects()) >= 5)
    return project, not_in_remote(clone(project, project.parent / "member"), dvc)


@pytest.fixture(scope="module")
def first(interrupted: tuple[Path, set[str]], remote: Remote, dvc: Dvc) -> Path:
    """The same repository, after a second push that went through."""
    project, _ = interrupted
    survived = remote.objects()
    dvc(project, "push", "--run-cache")
    assert survived < remote.objects()
    return project


def not_in_remote(project: Path, dvc: Dvc) -> set[str]:
    """The outputs that a member is reminded were not pushed."""
    return set(json.loads(dvc(project, "data", "status", "--not-in-remote", "--json").stdout).get("not_in_remote", []))


def kill_push_when(project: Path, reached: Callable[[], bool]) -> None:
    push = subprocess.Popen(
        [sys.executable, "-m", "dvc", "push", "-j", "1"],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not reached():
        assert push.poll() is None, "dvc push ended before the moment came"
        assert time.monotonic() < deadline
    push.send_signal(signal.SIGKILL)
    push.wait()


@pytest.fixture
def member(first: Path, tmp_path: Path) -> Path:
    """A fresh clone of another member, who has neither the corpus nor anything that was made of it."""
    return clone(first, tmp_path / "member")


def test_the_speech_stays_here_and_all_else_is_shared(first: Path, remote: Remote) -> None:
    there = remote.objects()
    hcam = f"data/models/{PLACE}/hcam"
    shared = [TEXT, "data/features/demo/logmel", hcam, "data/corpora/demo/utterances.parquet"]
    assert all(cached(first, out) <= there for out in shared)
    assert not cached(first, "data/corpora/demo/audio") & there


def test_what_an_interrupted_push_left_out_is_named_and_the_next_push_heals(
    interrupted: tuple[Path, set[str]], first: Path, member: Path, dvc: Dvc
) -> None:
    _, lacking = interrupted
    assert lacking & {f"data/models/{PLACE}/hcam/", f"data/scores/{PLACE}/", f"{TEXT}/"}
    assert "data/corpora/demo/audio/" not in lacking
    assert not not_in_remote(member, dvc)


def test_a_member_recomputes_nothing_and_fills_a_tracker(member: Path, first: Path, dvc: Dvc) -> None:
    dvc(member, "pull", "--run-cache", "--allow-missing")
    assert not (member / "data/corpora/demo/audio").exists()
    assert "Running stage" not in dvc(member, "repro", "--allow-missing").stdout
    assert not (member / ".emofuse").exists()
    git(member, "diff", "--exit-code")
    output = subprocess.run(
        [sys.executable, "-m", "emofuse.cli", "track"],
        cwd=member,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    trained = len(list((first / "data/models").rglob("record.json")))
    rows = pl.read_csv(first / "metrics" / PLACE / "scores.csv")
    models = rows.filter(~pl.col("model").str.ends_with("/ensemble"))["model"].n_unique()
    assert f"tracking: {trained + models} runs added" in output.stdout
    assert f"{models - 1} models registered in" in output.stdout  # all but the majority


def test_a_change_runs_its_own_stages_on_what_was_pulled(member: Path, dvc: Dvc) -> None:
    path = member / "params.yaml"
    path.write_text(path.read_text().replace("resamples: 200", "resamples: 50"))
    dvc(member, "pull", "--allow-missing")
    output = dvc(member, "repro", "--allow-missing").stdout
    assert re.findall("Running stage '(.*)'", output) == ["score@demo-logmel-minilm"]


def test_another_repository_takes_the_features_alone(first: Path, member: Path, dvc: Dvc, tmp_path: Path) -> None:
    dvc(tmp_path, "get", str(member), TEXT, "-o", "once")  # the member has no cache: this is the remote's
    git(tmp_path, "init", "-q")
    dvc(tmp_path, "init", "-q")
    dvc(tmp_path, "import", str(first), TEXT, "-o", "text")
    taken = {"".join(path.parts[-2:]) for path in (tmp_path / ".dvc/cache/files/md5").rglob("*") if path.is_file()}
    assert taken == cached(first, TEXT)
    for path in (tmp_path / "text").glob("*.parquet"):
        assert (tmp_path / "once" / path.name).read_bytes() == path.read_bytes()
    table = pl.read_parquet(tmp_path / "text/*.parquet")
    utterances = pl.read_parquet(first / "data/corpora/demo/utterances.parquet")
    assert set(table["utterance_id"]) == set(utterances["utterance_id"])
    output: dict[str, Any] = json.loads(pq.read_schema(next((tmp_path / "text").iterdir())).metadata[b"emofuse"])
    assert output["terms"] == "this project's own, MIT"


def test_a_remote_over_ssh_takes_and_gives(
    first: Path, member: Path, ssh: Callable[..., str], dvc: Dvc, tmp_path: Path
) -> None:
    for project in (first, member):
        dvc(project, "remote", "add", "--local", "ssh", ssh(tmp_path / "remote"))
    dvc(first, "push", "-r", "ssh", TEXT)
    dvc(member, "pull", "-r", "ssh", TEXT)
    assert {path.name for path in (member / TEXT).iterdir()} == {path.name for path in (first / TEXT).iterdir()}


def test_a_remote_that_is_down_is_named_and_the_next_pull_heals(member: Path, dvc: Dvc) -> None:
    with socket.socket() as nobody:  # bound, so that nobody else takes it, and not listening
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        dvc(member, "remote", "modify", "--local", "team", "endpointurl", address)
        output = dvc(member, "pull", TEXT, fails=True).stderr
    assert f'Could not connect to the endpoint URL: "{address}' in output
    dvc(member, "remote", "modify", "--local", "team", "endpointurl", "--unset")
    dvc(member, "pull", TEXT)
    assert list((member / TEXT).glob("*.parquet"))


def test_a_bad_credential_is_said_and_the_next_pull_heals(member: Path, remote: Remote, dvc: Dvc) -> None:
    remote.ask_for_credentials(True)
    try:
        output = dvc(member, "pull", TEXT, fails=True).stderr
    finally:
        remote.ask_for_credentials(False)
    assert "failed to connect to s3" in output
    assert "Forbidden" in output
    dvc(member, "pull", TEXT)
    assert list((member / TEXT).glob("*.parquet"))


def test_a_damaged_cache_file_is_named_and_the_next_pull_heals(member: Path, first: Path, dvc: Dvc) -> None:
    dvc(member, "pull", TEXT, "data/corpora/demo/utterances.parquet")
    whole = {path.name: path.read_bytes() for path in (member / TEXT).iterdir()}
    damaged = object_of(member, next(each for each in cached(first, TEXT) if not each.endswith(".dir")))
    damage(damaged)
    shutil.rmtree(member / TEXT)
    dvc(member, "pull", TEXT)  # DVC trusts what is write-protected
    stage = [sys.executable, "stages/pretrain.py", "params.yaml", "demo", "text", "minilm"]
    done = subprocess.run(stage, cwd=member, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    (output,) = done.stderr.splitlines()
    assert re.search(r"^pretrain demo minilm: data/.*/shard-\d+-of-\d+\.parquet: not a complete feature shard", output)
    assert re.search(
        rf"; {TEXT}/shard-\d+-of-\d+\.parquet: was damaged in DVC's cache and has been removed; `dvc pull`", output
    )
    dvc(member, "pull", TEXT)
    assert {path.name: path.read_bytes() for path in (member / TEXT).iterdir()} == whole


def damage(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    path.chmod(0o444)
