"""The environment of a project that has a tracker of its own."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "model_versions": ("source", "storage_location"),
}
"""Columns in which MLflow keeps where files are, by table."""


@pytest.fixture(scope="session", autouse=True)
def _own_tracker() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def copy_tracker() -> Callable[[Path, Path], None]:
    """Copy the SQLite tracker of one project into another, with its files: ``copy_tracker(source, target)``."""

    def copy(source: Path, target: Path) -> None:
        shutil.copytree(source / "mlartifacts", target / "mlartifacts")
        shutil.copy2(source / "mlflow.db", target / "mlflow.db")
        with closing(sqlite3.connect(target / "mlflow.db")) as database, database:
            for table, columns in ADDRESSES.items():
                for each in columns:
                    moved = f"UPDATE {table} SET {each} = replace({each}, ?, ?)"  # noqa: S608 (the names are above)
                    database.execute(moved, (f"{source}/", f"{target}/"))
        utils._artifact_repos_cache.clear()  # in which MLflow remembers where a run's files are

    return copy
