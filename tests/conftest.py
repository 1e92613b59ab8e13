"""Fixtures that several folders of tests share."""

import asyncio
import csv
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Set before torch is there. What tests compute is so little that threads wait for each other longer than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

# The fixtures that properties use here hold no state; times on a busy machine say nothing.
settings.register_profile("emofuse", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("emofuse")

TRANSCRIPT = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
PROSODY = (
    "filename,duration,avg_intensity,intensity_variation,avg_pitch,pitch_std,pitch_range,articulation_rate,mean_hnr"
)

TESTS = Path(__file__).parent

PIPELINE = ("test_pipeline.py", "test_graph.py", "test_dvc_views.py", "test_sweep.py", "test_team.py")
"""Tests of the pipeline as a whole, which begin with the project ``finished``."""

SMALL = {"dialogues": 24, "shards": 12, "seeds": 2}
"""Size of the embedded corpus and its task where a test runs the pipeline as a whole."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: item.path.name not in PIPELINE)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several workers run, give tests to one that share what takes long to set up: a folder's, or a file's."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = Path(nodeid.partition("::")[0])
            folder = path.parent.name
            return "pipeline" if path.name in PIPELINE else path.name if folder == TESTS.name else folder

    config.option.loadscopereorder = False
    return Scheduler(config, log)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def small() -> dict[str, int]:
    """Dialogues, shards and seeds of what ``make_project`` makes."""
    return SMALL


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment in which a person runs DVC: this Python's programs first, no tracker elsewhere."""
    return _environment()


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": path, "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | own


@pytest.fixture(scope="session")
def dvc() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run DVC to its end: ``dvc(project, arguments...)``, with ``fails=True`` where it must fail.

    Stages run the code of the project, as in a checkout that was set up; ``folder`` is one below it to call DVC in.
    """

    def run(project: Path, *arguments: str, fails: bool = False, folder: str = "") -> subprocess.CompletedProcess[str]:
        own = _environment() | {"PYTHONPATH": str(project / "src")}
        done = subprocess.run(
            ["dvc", *arguments], cwd=project / folder, env=own, capture_output=True, text=True, timeout=600
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def make_project(root: Path) -> Callable[[Path], Path]:
    """Copy into a folder what git would: the project as a fresh clone, with few dialogues, seeds and epochs."""

    def make(folder: Path) -> Path:
        listing = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        names = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
        for name in filter(None, names):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name, follow_symlinks=False)
        for lock in (folder / "dvc.lock", *folder.glob("corpora/*/dvc.lock")):
            lock.unlink(missing_ok=True)
        shutil.rmtree(folder / "metrics", ignore_errors=True)
        _shrink(folder / "params.yaml")
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        return folder

    return make


@pytest.fixture(scope="session")
def finished(
    make_project: Callable[[Path], Path],
    dvc: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A project after one plain `dvc repro`, to look at and to copy."""
    project = make_project(tmp_path_factory.mktemp("finished"))
    dvc(project, "repro")
    return project


_SHRUNK = (
    (r"dialogues: \d+", f"dialogues: {SMALL['dialogues']}"),
    (r"(?<=\n  )shards: \d+", f"shards: {SMALL['shards']}"),
    (r"seeds: \d+", f"seeds: {SMALL['seeds']}"),
    (r"epochs: \d+", "epochs: 1"),
    (r"resamples: \d+", "resamples: 200"),
)


def _shrink(path: Path) -> None:
    """Make the demo small in the file's text, whose comments stay."""
    text = path.read_text(encoding="utf-8")
    for pattern, small in _SHRUNK:
        text, count = re.subn(pattern, small, text)
        assert count, f"nothing in {path.name} is like {pattern}"
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Address of a test's folder on an SSH server, ``ssh(folder)``; it asks another ``user`` for a password."""
    import asyncssh

    base = tmp_path_factory.getbasetemp()

    class Door(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return username != "guest"

        def password_auth_supported(self) -> bool:
            return True

    async def listen() -> asyncssh.SSHAcceptor:
        key = asyncssh.generate_private_key("ssh-ed25519")
        files = {"sftp_factory": lambda channel: asyncssh.SFTPServer(channel, chroot=bytes(base))}
        return await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], server_factory=Door, **files)

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(timeout=60)
    place = f"127.0.0.1:{server.get_port()}"
    yield lambda folder, user="guest": f"ssh://{user}@{place}/{folder.relative_to(base)}"
    loop.call_soon_threadsafe(server.close)


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Address of an S3 server of a module's own, without a bucket, and in the environment who may ask it."""
    from moto.server import ThreadedMotoServer  # here, for few tests need it and it is slow to import

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)  # a thread that ends with this process at the latest
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # one line a request otherwise
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start Python code as a process of its own: ``start(code, folder, arguments...)``."""

    def run(code: str, folder: Path, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


@pytest.fixture(scope="session")
def meld_row() -> Callable[..., dict[str, str]]:
    """One row of a MELD transcript: ``meld_row(dialogue, utterance, text, **other columns)``."""

    def make(dialogue: int, utterance: int, text: str, **columns: str) -> dict[str, str]:
        usual = ["1", text, "Ross", "joy", "positive", str(dialogue), str(utterance), "1", "2"]
        times = ["00:00:01,500", "00:00:02,750"]
        return dict(zip(TRANSCRIPT.split(","), [*usual, *times], strict=True)) | columns

    return make


@pytest.fixture(scope="session")
def write_meld() -> Callable[..., Path]:
    """Write a folder as MELD ships it: ``write_meld(folder, transcripts by split, prosody by split or None)``."""

    def write(
        folder: Path,
        transcripts: Mapping[str, Sequence[Mapping[str, str]]],
        prosody: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for split, rows in transcripts.items():
            lines = [list(row.values()) for row in rows]
            _write_csv(folder / f"{split}_sent_emo.csv", TRANSCRIPT.split(","), lines)
        for split, clips in (prosody or {}).items():
            lines = [[f"{clip}.wav", *values] for clip, values in clips.items()]
            _write_csv(folder / f"meld_{split}_audio_features.csv", PROSODY.split(","), lines)
        return folder

    return write


def _write_csv(path: Path, header: list[str], lines: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *lines])
