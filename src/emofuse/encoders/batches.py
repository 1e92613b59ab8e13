"""Batches of equal effort: examples of like length together, so that next to nothing is computed on padding."""

from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["by_budget", "padding_share"]


def by_budget(lengths: np.ndarray, budget: float) -> Iterator[np.ndarray]:
    """Yield batches of indices, longest first, whose padded size is at most ``budget`` (one index at least).

    Args:
        lengths: ``[n]`` sizes of the examples
        budget: sum of the padded sizes of a batch
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, int(budget // max(1, lengths[order[start]])))
        yield order[start : start + count]
        start += count


def padding_share(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Share of the padded size of all batches that is padding.

    Args:
        lengths: ``[n]`` sizes of the examples
        batches: their indices, batch by batch
    """
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    return 1 - sum(lengths[batch].sum() for batch in batches) / padded
