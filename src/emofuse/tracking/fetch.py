"""Trained models by name: from the tracker's registry, from a run, or from a folder."""

import atexit
import shutil
import tempfile
from pathlib import Path

from emofuse.inference import models_on_disk
from emofuse.inference.bundle import Bundle, BundleError, read_bundle
from emofuse.inference.model import Model
from emofuse.tracking.address import TrackingError, database, errors_of, tracker_uri

__all__ = ["find", "load"]

_SCHEMES = ("models:/", "runs:/")


def load(where: str | Path) -> Model:
    """Load a trained model.

    Args:
        where: as in :func:`find`

    Raises:
        BundleError: there is none, or it is damaged
    """
    return Model(find(where))


def find(where: str | Path) -> Bundle:
    """Return the bundle of a trained model.

    Args:
        where: a folder, as in :func:`emofuse.inference.models_on_disk.find`, or an address that MLflow resolves, such
            as ``models:/emofuse-demo-logmel-minilm-hcam@best-on-dev``, at the tracker that MLFLOW_TRACKING_URI names,
            by default ``mlflow.db`` in this folder

    Raises:
        BundleError: there is no trained model, or no tracker
    """
    return _of_mlflow(str(where)) if str(where).startswith(_SCHEMES) else models_on_disk.find(where)


def _of_mlflow(address: str) -> Bundle:
    uri = tracker_uri(Path())
    file = database(uri)
    if file and not file.exists():
        raise BundleError(f"{address}: {file} is not there; run `emofuse track`, or set MLFLOW_TRACKING_URI")
    from mlflow.artifacts import download_artifacts

    folder = tempfile.mkdtemp(prefix="emofuse-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with errors_of(uri):
            downloaded = download_artifacts(address, dst_path=folder, tracking_uri=uri, registry_uri=uri)
    except TrackingError as error:
        raise BundleError(f"{address}: {error}") from error
    return read_bundle(Path(downloaded) / models_on_disk.BUNDLE)
