"""Emotion recognition in conversation from speech and text, as a pipeline of cached, reproducible data stages."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emofuse.inference.model import Model

__all__ = ["load"]


def load(where: "str | Path") -> "Model":
    """Load a trained model, as ``load("bundle").predict("talk.json")``; see :func:`emofuse.tracking.fetch.find`."""
    # Imported here, since every stage imports this package and few load a model.
    from emofuse.tracking.fetch import load as load_model

    return load_model(where)
