"""Emotion recognition in conversation from speech and text, as a pipeline of cached, reproducible data stages."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emofuse.inference.model import Model

__all__ = ["load"]


def load(where: "str | Path") -> "Model":
    """Load a trained model, as in ``load("bundle").predict("talk.json")``.

    Args:
        where: a bundle's folder, a model's folder in a project, or an address in MLflow's registry; see
            :func:`emofuse.tracking.fetch.find`

    Raises:
        BundleError: there is no trained model, or it is damaged
    """
    # Imported here, since every stage imports this package and few load a model.
    from emofuse.tracking.fetch import load as load_model

    return load_model(where)
