"""The tracker's address and client, and its errors in one line."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

from filelock import FileLock
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["TrackingConfig", "TrackingError", "alone", "database", "errors_of", "public", "tracker", "tracker_uri"]

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""MLflow's own variables that differ from its defaults here, unless the environment has them."""

_SQLITE = "sqlite:///"

_ESCAPED = "sqlite+pysqlite:///"
"""The same with its driver. Of the short form MLflow takes an escaped path for a plain one, and makes its folder."""


@dataclass(frozen=True, config=STRICT)
class TrackingConfig:
    """Logging to MLflow."""

    experiment: Annotated[str, Field(min_length=1)] = "emofuse"
    """Name of the MLflow experiment; the environment variable MLFLOW_EXPERIMENT_NAME overrides it."""

    enabled: bool = True
    """Whether stages log to the tracker; ``emofuse track`` always does."""

    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Longest time in seconds that the scoring stage waits for the tracker; training stages never wait."""

    @property
    def name(self) -> str:
        """The experiment's name, of the environment if that has one."""
        return os.environ.get("MLFLOW_EXPERIMENT_NAME") or self.experiment


class TrackingError(RuntimeError):
    """The tracker cannot be reached or does not take the runs; one line, which names the tracker."""


def tracker_uri(root: Path) -> str:
    """Return MLflow's address of a project's tracker; MLflow's own variables are set on the way.

    A SQLite file without a leading slash, ``sqlite:///mlflow.db``, is in the project's root. In an address ``%`` and
    ``?`` have a meaning of their own, so those in the path of the root are escaped.

    Args:
        root: the project's root folder
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    # DVC runs queued experiments in copies of the project, and says where the project itself is.
    home = Path(os.environ.get("DVC_ROOT", root))
    if not uri.startswith(_SQLITE):
        return uri
    given, mark, query = uri.removeprefix(_SQLITE).partition("?")
    return f"{_sqlite((home / unquote(given)).resolve())}{mark}{query}"


@contextmanager
def tracker(root: Path) -> "Iterator[tuple[MlflowClient, str]]":
    """Give the client of a project's tracker and its address; what the tracker raises becomes a :class:`TrackingError`.

    Args:
        root: the project's root folder
    """
    uri = tracker_uri(root)
    with errors_of(uri):
        yield client_of(uri), uri


def _sqlite(path: Path) -> str:
    escaped = str(path).replace("%", "%25").replace("?", "%3F")
    return f"{_SQLITE if escaped == str(path) else _ESCAPED}{escaped}"


def client_of(uri: str) -> "MlflowClient":
    """Return MLflow's client of a tracker; the file of a SQLite tracker is made first, whole or not at all."""
    from mlflow import MlflowClient

    file = database(uri)
    if file and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # MLflow makes one table after the other, and refuses a database that it finds half-made.
        with alone(uri), tempfile.TemporaryDirectory(prefix=f"{file.name}-", dir=file.parent) as folder:
            if not file.exists():
                MlflowClient(_sqlite(Path(folder) / file.name)).search_experiments()
                (Path(folder) / file.name).replace(file)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def alone(uri: str) -> AbstractContextManager[object]:
    """Return the lock of a SQLite tracker; others have none, and what two write at once is there twice for a while."""
    file = database(uri)
    return FileLock(file.with_name(f"{file.name}-lock")) if file else nullcontext()


def database(uri: str) -> Path | None:
    """The file of a SQLite tracker, None for another."""
    plain = uri.removeprefix(_SQLITE)
    if plain.startswith("/") and not set(plain) & set("%?"):  # SQLAlchemy takes a while to import
        return Path(plain).resolve()
    from sqlalchemy.engine import make_url

    path = make_url(uri).database if uri.startswith(("sqlite:", "sqlite+")) else None
    return Path(path).resolve() if path else None


def public(text: str) -> str:
    """An address, or a message with addresses in it, without user names and passwords."""
    return re.sub(r"://[^/\s]*@", "://***@", text)


@contextmanager
def errors_of(uri: str) -> Iterator[None]:
    """Turn what the tracker raises into a :class:`TrackingError`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # It logs whole statements with hints of SQLAlchemy's; what counts is raised too.
    logging.getLogger("mlflow.store.db.utils").disabled = True
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = re.sub(r"^\((sqlite3|psycopg\w*)\.\w+\) ", "", first)
        if database(uri) and ("readonly database" in message or "unable to open database" in message):
            message += "; its file and its folder have to be writable, or name another in MLFLOW_TRACKING_URI"
        raise TrackingError(public(f"tracker {uri}: {message}")) from error
