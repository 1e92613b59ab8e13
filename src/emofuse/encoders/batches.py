"""Batches of like length, so that next to nothing is computed on padding."""

from itertools import pairwise

import numpy as np

__all__ = ["cheapest"]


def cheapest(lengths: np.ndarray, budget: float, call: float) -> list[np.ndarray]:
    """Return batches of indices, longest first, that together cost least: their padded sizes, and a price for each.

    Every example is in one batch, and a batch's padded size is at most ``budget`` (one index at least). With lengths in
    order, the best last cut before each place follows from those before it.

    Args:
        lengths: ``[n]`` sizes of the examples
        budget: padded size of a batch, at most
        call: what a batch costs beside its padded size, in the same unit
    """
    order = np.argsort(-lengths, kind="stable")
    costs = np.full(len(order) + 1, np.inf)
    costs[0] = 0
    cuts = np.zeros(len(order) + 1, dtype=np.int64)
    for start, longest in enumerate(lengths[order]):
        most = max(1, int(budget // max(1, longest)))
        ends = np.arange(start + 1, min(start + most, len(order)) + 1)
        reached = costs[start] + call + longest * (ends - start)
        better = ends[reached < costs[ends]]
        costs[better], cuts[better] = reached[better - start - 1], start
    places = [len(order)]
    while places[-1]:
        places.append(int(cuts[places[-1]]))
    return [order[start:end] for start, end in pairwise(reversed(places))]
