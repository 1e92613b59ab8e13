"""Baseline: late fusion, the weighted mean of the modalities' probabilities, with weights chosen on dev."""

from collections.abc import Callable, Mapping

import numpy as np

from emofuse.models.parts.mixture import choose_weights, combine

__all__ = ["mix"]


def mix(
    probabilities: Mapping[str, np.ndarray], dev_score: Callable[[np.ndarray], float]
) -> tuple[np.ndarray, dict[str, float]]:
    """Return the mixture that scores best on dev, float32 ``[n, C]``, and its weights.

    Args:
        probabilities: by modality, ``[n, C]``
        dev_score: scores a mixture ``[n, C]`` by what dev says of it
    """
    weights = choose_weights(probabilities, dev_score)
    return combine(probabilities, weights), weights
