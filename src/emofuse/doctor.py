"""Whether the installation works, part by part, and how to mend what does not."""

import importlib
import io
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

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
    yield from (_python(), _torch(), _gpu(), _decoders())
    yield from _encoders(root)
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
    mend = "install both of one version and one build, CPU or CUDA; `make setup` does"
    try:
        for name in pair:
            importlib.import_module(name)
    except (ImportError, OSError) as error:
        return Finding("torch", "broken", f"{what}: {_first_line(error)}", mend)
    # An index's own build has no name in its version.
    if len({number for number, _ in builds}) > 1 or len({build for _, build in builds if build}) > 1:
        return Finding("torch", "broken", f"{what} are no pair", mend)
    return Finding("torch", "works", what)


def _gpu() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("gpu", "broken", f"torch: {_first_line(error)}")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding("gpu", "works", ", ".join(names))
    if shutil.which("nvidia-smi"):
        mend = f"the driver must serve CUDA {torch.version.cuda}, or install a build of torch for it"
        return Finding("gpu", "broken", "there is a driver, but torch sees no GPU", mend)
    return Finding("gpu", "absent", "none; everything runs on the processor")


def _decoders() -> Finding:
    try:
        import av
        import numpy as np
        import soundfile

        from emofuse.audio import read_sound

        for form in ("WAV", "FLAC", "OGG", "MP3"):
            buffer = io.BytesIO()
            soundfile.write(buffer, np.zeros(1600, np.float32), 16_000, format=form)
            read_sound(buffer.getvalue(), form)
    except (ImportError, OSError) as error:
        return Finding("decoders", "broken", _first_line(error), "run `make setup`")
    return Finding("decoders", "works", f"wav, flac, ogg, mp3 (libsndfile {soundfile.__libsndfile_version__}), "
                   f"mp4 and others (PyAV {av.__version__})")  # fmt: skip


def _encoders(root: Path) -> Iterator[Finding]:
    from emofuse.features.extract import FeatureConfig
    from emofuse.params import Params, ParamsError

    try:
        entries = Params.load(root / "params.yaml").get("features", dict[str, FeatureConfig])
    except ParamsError as error:
        yield Finding("params", "broken", _first_line(error))
        return
    for name, config in entries.items():
        yield _encoder(name, config)


def _encoder(name: str, config: Any) -> Finding:
    from emofuse import encoders

    options = config.options | ({"local_files_only": True} if "revision" in config.options else {})
    try:
        identity = encoders.load(config.family, options, f"features.{name}.options").identity
    except ValueError as error:
        mend = "a hub model is fetched with `hf download ID --revision REVISION`" if "revision" in options else ""
        return Finding("encoder", "broken", f"{name}: {_first_line(error)}", mend)
    return Finding("encoder", "works", f"{name}: {identity['id']} at {identity['revision']}")


def _remotes(root: Path) -> Iterator[Finding]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except DvcException as error:
        yield Finding("dvc", "broken", _first_line(error))
        return
    remotes = repo.config["remote"]
    if not remotes:
        yield Finding("remote", "absent", "none; features and models stay on this machine",
                      "`dvc remote add --default NAME URL` shares them")  # fmt: skip
    for name in remotes:
        yield _remote(repo, name)


def _remote(repo: Any, name: str) -> Finding:
    url = _public(repo.config["remote"][name]["url"])

    def look() -> bool:
        store = repo.cloud.get_remote(name)
        return bool(store.fs.exists(store.path))

    try:
        there = _in_time(look)
    except Exception as error:  # a library's own for each kind of remote
        mend = "see address and credentials with `dvc remote list` and `dvc config --list`"
        return Finding("remote", "broken", f"{name}, {url}: {_first_line(error)}", mend)
    return Finding("remote", "works", f"{name}, {url}{'' if there else ', empty; `dvc push` fills it'}")


def _tracker(root: Path) -> Finding:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        database = root / "mlflow.db"
        there = "" if database.exists() else ", made when first needed"
        return Finding("tracker", "works", f"{database}{there}")
    address = urlsplit(uri)
    if address.scheme not in ("http", "https"):
        return Finding("tracker", "works", _public(uri))
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=_PATIENCE).close()
    except OSError as error:
        mend = "start it, or unset MLFLOW_TRACKING_URI; results wait on disk for `emofuse track`"
        return Finding("tracker", "broken", f"{_public(uri)}: {_first_line(error)}", mend)
    return Finding("tracker", "works", _public(uri))


def _in_time(function: Callable[[], bool]) -> bool:
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(function).result(timeout=_PATIENCE)
    except TooLate as error:
        raise TimeoutError(f"no answer in {_PATIENCE:g} s") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _public(url: str) -> str:
    """An address without user name and password."""
    before, separator, after = url.partition("://")
    return f"{before}{separator}{after.rpartition('@')[2]}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
