"""Where a trained model is found: a bundle, a project's model folder, or MLflow's registry."""

import atexit
import shutil
import tempfile
from pathlib import Path

from emofuse.inference.bundle import MANIFEST, Bundle, BundleError, read_bundle
from emofuse.inference.model import Model
from emofuse.inference.project import best_models, bundle_of_model
from emofuse.tracking.address import TrackingError, database, errors_of, tracker_uri

__all__ = ["BUNDLE", "best_of_project", "find", "load"]

BUNDLE = Path("artifacts/bundle")
"""Where the bundle lies in an MLflow model's folder."""

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
        where: a bundle's folder; a model's folder in a project, such as ``data/models/demo/logmel+minilm/hcam``; or
            an address that MLflow resolves, such as ``models:/emofuse-demo-logmel-minilm-hcam@best-on-dev``, at the
            tracker that MLFLOW_TRACKING_URI names, by default ``mlflow.db`` in this folder

    Raises:
        BundleError: there is no trained model
    """
    if str(where).startswith(_SCHEMES):
        return _of_mlflow(str(where))
    folder = Path(where)
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; expected a bundle, a model's folder, or models:/<name>@<alias>")
    for place in (folder, folder / BUNDLE):
        if (place / MANIFEST).exists():
            return read_bundle(place)
    return bundle_of_model(folder)


def best_of_project() -> Path:
    """Return the folder of the model that is best on dev, in a project with one trained task.

    Raises:
        BundleError: nothing is trained, or several tasks are
    """
    folders = best_models()
    if not folders:
        raise BundleError("data/models: no trained model; run `dvc repro` or `dvc pull`, or name one with --model")
    if len(folders) > 1:
        raise BundleError(
            f"several tasks are trained; name a model with --model, such as {' or '.join(map(str, folders))}"
        )
    return folders[0]


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
    return read_bundle(Path(downloaded) / BUNDLE)
