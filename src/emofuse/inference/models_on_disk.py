"""Trained models on disk: a bundle, a project's model folder, or an MLflow model."""

from pathlib import Path

from emofuse.inference.bundle import MANIFEST, Bundle, BundleError, read_bundle
from emofuse.inference.project import best_models, bundle_of_model

__all__ = ["BUNDLE", "best_of_project", "find"]

BUNDLE = Path("artifacts/bundle")
"""Where the bundle lies in an MLflow model's folder."""


def find(where: str | Path) -> Bundle:
    """Return the bundle of a trained model.

    Args:
        where: a bundle's folder, a model's folder in a project, such as ``data/models/demo/logmel+minilm/hcam``, or
            the folder of an MLflow model

    Raises:
        BundleError: there is no trained model
    """
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
