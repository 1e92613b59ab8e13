"""The weighted mean of probabilities: late fusion, and HCAM's test-time ensembling."""

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np

__all__ = ["STEPS", "choose_weights", "combine"]

STEPS = 10
"""The weights are multiples of one tenth that add up to one: our reading, no source of HCAM gives a grid."""


def combine(probabilities: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Return the weighted mean of probabilities ``[n, C]`` as float32."""
    total = sum(weights[name] * each.astype(np.float64) for name, each in probabilities.items())
    return np.asarray(total, dtype=np.float32)


def choose_weights(
    probabilities: Mapping[str, np.ndarray], dev_score: Callable[[np.ndarray], float]
) -> dict[str, float]:
    """Return the weights whose mixture scores best; of equals, those nearest to equal weights.

    Args:
        probabilities: by name, ``[n, C]``
        dev_score: scores a mixture ``[n, C]`` by what dev says of it
    """
    names = list(probabilities)
    grid = [counts for counts in product(range(STEPS + 1), repeat=len(names)) if sum(counts) == STEPS]
    grid.sort(key=lambda counts: sum((count - STEPS / len(names)) ** 2 for count in counts))
    mixtures = [{name: count / STEPS for name, count in zip(names, counts, strict=True)} for counts in grid]
    return max(mixtures, key=lambda weights: dev_score(combine(probabilities, weights)))
