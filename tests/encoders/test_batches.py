"""Batches by budget: every example once, next to no padding on real lengths."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.encoders.batches import by_budget, padding_share

MELD = Path(__file__).parents[3] / "shared" / "data" / "meld"


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(1, 500))
def test_batches_hold_every_text_once_and_keep_the_budget(lengths: list[int], budget: int) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    batches = list(by_budget(sizes, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * sizes[batch].max() <= budget


def test_padding_on_the_lengths_of_meld() -> None:
    """A shard of an eighth of the corpus, 16 s a batch; beside it batches of 16 in the corpus's order."""
    tables = sorted(MELD.glob("meld_*_audio_features.csv"))
    if not tables:
        pytest.skip(f"{MELD} has no published prosody")
    seconds = pl.concat([pl.read_csv(each, columns=["duration"]) for each in tables])["duration"].to_numpy()
    frames = np.floor(50 * np.minimum(seconds, 30)).astype(int)[: len(seconds) // 8]
    assert len(frames) > 1_500
    assert padding_share(frames, list(by_budget(frames, 16 * 50))) < 0.02
    in_order = [np.arange(start, min(start + 16, len(frames))) for start in range(0, len(frames), 16)]
    assert padding_share(frames, in_order) > 0.5
