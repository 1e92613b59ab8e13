"""Baseline: every utterance gets the class frequencies of the training split."""

import numpy as np

from emofuse.core.schema import IGNORE

__all__ = ["prior"]


def prior(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return class frequencies, float32 ``[C]``, of targets ``[n]``; those without a label are left out."""
    counts = np.bincount(targets[targets != IGNORE], minlength=classes)
    return (counts / counts.sum()).astype(np.float32)
