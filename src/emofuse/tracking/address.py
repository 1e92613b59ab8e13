"""Where the tracker is: MLflow's address of it, and errors in one line that names it."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

__all__ = ["TrackingError", "database", "errors_of", "public", "tracker_uri"]

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
    path = str((home / unquote(given)).resolve())
    escaped = path.replace("%", "%25").replace("?", "%3F")
    return f"{_SQLITE if escaped == path else _ESCAPED}{escaped}{mark}{query}"


def database(uri: str) -> Path | None:
    """The file of a SQLite tracker, None for another."""
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

    log = logging.getLogger("mlflow.store.db.utils")
    log.addFilter(_silence)  # It logs whole statements with hints of SQLAlchemy's; what counts is raised too.
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrackingError(public(f"tracker {uri}: {_plain(first, database(uri))}")) from error
    finally:
        log.removeFilter(_silence)


def _silence(_: logging.LogRecord) -> bool:
    return False


def _plain(message: str, file: Path | None) -> str:
    """What a driver says, without the driver's name, and what helps where a database cannot be written."""
    message = re.sub(r"^\((sqlite3|psycopg\w*)\.\w+\) ", "", message)
    if file and ("readonly database" in message or "unable to open database" in message):
        return f"{message}; its file and its folder have to be writable, or name another in MLFLOW_TRACKING_URI"
    return message
