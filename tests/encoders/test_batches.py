"""Batches by budget: every example once, the least cost, next to no padding on real lengths."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.encoders.batches import cheapest
from emofuse.encoders.speech import batches as speech_batches

MELD = Path(__file__).parents[3] / "shared" / "data" / "meld"


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(1, 500), st.integers(0, 50))
def test_batches_hold_every_example_once_and_keep_the_budget(lengths: list[int], budget: int, call: int) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    batches = cheapest(sizes, budget, call)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * sizes[batch].max() <= budget


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(1, 40), st.integers(0, 20))
def test_no_other_way_to_cut_the_sorted_lengths_costs_less(lengths: list[int], budget: int, call: int) -> None:
    sizes = np.array(lengths)
    order = np.argsort(-sizes, kind="stable")
    ways = [
        np.split(order, [place + 1 for place in places])
        for count in range(len(order))
        for places in combinations(range(len(order) - 1), count)
    ]
    allowed = [way for way in ways if all(len(each) == 1 or len(each) * sizes[each].max() <= budget for each in way)]
    assert cost(cheapest(sizes, budget, call), sizes, call) == min(cost(way, sizes, call) for way in allowed)


def cost(batches: Sequence[np.ndarray], sizes: np.ndarray, call: int) -> int:
    return sum(call + len(batch) * sizes[batch].max() for batch in batches)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_padding_on_the_lengths_of_meld(kind: str) -> None:
    """Shards of 400 clips; beside them batches of 16 in the corpus's order."""
    tables = sorted(MELD.glob("meld_*_audio_features.csv"))
    if not tables:
        pytest.skip(f"{MELD} has no published prosody")
    seconds = pl.concat([pl.read_csv(each, columns=["duration"]) for each in tables])["duration"].to_numpy()
    frames = np.floor(50 * np.minimum(seconds, 30)).astype(int)
    shards = np.array_split(np.arange(len(frames)), len(frames) // 400)
    ours = [shard[batch] for shard in shards for batch in speech_batches(frames[shard], 50, kind)]
    assert 1 - frames.sum() / cost(ours, frames, 0) < 0.02  # the share of padding
    in_order = [np.arange(start, min(start + 16, len(frames))) for start in range(0, len(frames), 16)]
    assert 1 - frames.sum() / cost(in_order, frames, 0) > 0.5
