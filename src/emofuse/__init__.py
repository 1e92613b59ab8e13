"""Emotion recognition in conversation from speech and text, as a pipeline of cached, reproducible data stages."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emofuse.inference import Model

__all__ = ["load"]


def load(where: "str | Path") -> "Model":
    """Load a trained model; see :func:`emofuse.inference.load`. ``load("bundle").predict("conversation.json")``."""
    # Imported here, since every stage imports this package and few load a model.
    from emofuse.inference import load as load_model

    return load_model(where)
