"""Ragged sequences and batches: nothing lost, nothing doubled, nothing shifted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emofuse.core.schema import IGNORE
from emofuse.features.shards import Frames, Row, write_shard
from emofuse.tasks import Fold
from emofuse.training import data as data_module
from emofuse.training.data import (
    MappedSequences,
    Sequences,
    collate,
    examples,
    pooled,
    read_features,
    shuffled_batches,
    sorted_batches,
)

MakeFold = Callable[..., Fold]
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=30)
SEEDS = st.integers(0, 2**16)


def sequences_of(lengths: list[int], dim: int = 3, seed: int = 0) -> tuple[Sequences, list[np.ndarray]]:
    """Random sequences, and the same as a list of arrays."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(length, dim)).astype(np.float16) for length in lengths]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    frames = Frames(np.concatenate(parts), offsets, np.zeros(len(lengths), bool))
    return Sequences.of(frames), parts


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, seed=SEEDS, picks=st.integers(1, 8))
@example(lengths=[1, 1, 1, 1], seed=0, picks=5)
def test_padded_is_the_sequences_and_zeros(lengths: list[int], seed: int, picks: int) -> None:
    sequences, parts = sequences_of(lengths, seed=seed)
    rows = torch.from_numpy(np.random.default_rng(seed).integers(0, len(lengths), picks))
    padded_UTD, lengths_U = sequences.padded(rows)
    assert padded_UTD.dtype == torch.float32
    assert lengths_U.tolist() == [lengths[row] for row in rows]
    assert padded_UTD.shape == (picks, max(lengths_U), 3)
    for row, own_TD in zip(rows, padded_UTD, strict=True):
        np.testing.assert_array_equal(own_TD[: lengths[row]], parts[row])
        assert not own_TD[lengths[row] :].any()


def test_mapped_features_are_those_in_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [f"u{index}" for index in range(9)]
    rows = [Row(each, "0", rng.normal(size=(rng.integers(1, 6), 3))) for each in ids]
    rows[4] = Row(ids[4], None, np.zeros((0, 3)))
    for index in range(2):
        write_shard(tmp_path / f"shard-{index:05d}-of-00002.parquet", rows[index::2], 3, {"id": "random"})
    asked = [*reversed(ids[1:]), ids[3]]
    held, mapped = read_features(tmp_path, asked), read_features(tmp_path, asked, most=100)
    assert isinstance(held, Sequences)
    assert isinstance(mapped, MappedSequences)
    assert (mapped.dim, mapped.lengths.tolist()) == (held.dim, held.lengths.tolist())
    picks = torch.tensor([4, 0, 8, 2])
    for ours, theirs in zip(mapped.padded(picks), held.padded(picks), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    for deviation in (True, False):
        torch.testing.assert_close(
            pooled(mapped, deviation).values, pooled(held, deviation).values, rtol=1e-5, atol=1e-6, equal_nan=True
        )
    frames = torch.cat(list(mapped.chunks(picks.sort().values.numpy())))
    torch.testing.assert_close(frames, *held.chunks(picks.numpy()), rtol=0, atol=0, equal_nan=True)


def test_a_sequence_that_stands_for_nothing_is_missing_and_stays_by_itself() -> None:
    frames = Frames(
        np.arange(8, dtype=np.float16).reshape(4, 2), np.array([0, 2, 3, 4]), np.array([False, True, False])
    )
    padded_UTD, lengths_U = Sequences.of(frames).padded(torch.tensor([1, 2, 0]))
    assert lengths_U.tolist() == [1, 1, 2]
    assert padded_UTD[0, 0].isnan().all()
    assert padded_UTD.isnan().sum() == 2
    assert padded_UTD[1].tolist() == [[6, 7], [0, 0]]
    assert padded_UTD[2].tolist() == [[0, 1], [2, 3]]


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, deviation=st.booleans(), seed=SEEDS)
def test_pooled_is_what_numpy_gives(lengths: list[int], deviation: bool, seed: int) -> None:
    sequences, parts = sequences_of(lengths, seed=seed)
    got = pooled(sequences, deviation)
    expected = np.stack([part.astype(np.float64).mean(axis=0) for part in parts])
    if deviation:
        deviations = np.stack([part.astype(np.float64).std(axis=0) for part in parts])
        expected = np.concatenate([expected, deviations], axis=1)
    assert got.lengths.tolist() == [1] * len(lengths)
    np.testing.assert_allclose(got.values, expected, rtol=1e-5, atol=1e-6)


def test_pooling_something_missing_leaves_its_neighbours_alone() -> None:
    sequences, parts = sequences_of([2, 1, 3])
    sequences.values[2] = torch.nan
    got = pooled(sequences, deviation=True).values
    assert got[1].isnan().all()
    assert got[[0, 2]].isfinite().all()
    np.testing.assert_allclose(got[2, :3], parts[2].astype(np.float64).mean(axis=0), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, seed=SEEDS)
def test_frames_of_rows_are_those_of_the_sequences(lengths: list[int], seed: int) -> None:
    sequences, parts = sequences_of(lengths, seed=seed)
    rows = np.flatnonzero(np.random.default_rng(seed).random(len(lengths)) < 0.5)
    expected = np.concatenate([parts[row] for row in rows]) if len(rows) else np.zeros((0, 3))
    np.testing.assert_array_equal(torch.cat(list(sequences.chunks(rows))), expected)


@settings(max_examples=80, deadline=None)
@given(lengths=LENGTHS, size=st.integers(1, 7), seed=SEEDS)
def test_batches_hold_every_example_once(lengths: list[int], size: int, seed: int) -> None:
    items = [np.array([row]) for row in range(len(lengths))]
    kinds = {
        "sorted": sorted_batches(items, np.array(lengths), size),
        "shuffled": shuffled_batches(items, np.array(lengths), size, np.random.default_rng(seed)),
    }
    for name, iterator in kinds.items():
        batches = list(iterator)
        assert sorted(int(rows[0]) for batch in batches for rows in batch) == list(range(len(lengths))), name
        assert all(1 <= len(batch) <= size for batch in batches), name
        if name == "sorted":
            assert len(batches) == -(-len(lengths) // size)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12), size=st.integers(1, 4), seed=SEEDS)
def test_batches_of_dialogues_keep_them_whole(sizes: list[int], size: int, seed: int) -> None:
    ends = np.cumsum(sizes)
    items = [np.arange(end - length, end) for end, length in zip(ends, sizes, strict=True)]
    batches = list(shuffled_batches(items, np.ones(sum(sizes), int), size, np.random.default_rng(seed)))
    assert all(len(batch) == 1 or sum(map(len, batch)) <= size for batch in batches)
    got = sorted((rows.tolist() for batch in batches for rows in batch), key=lambda rows: rows[0])
    assert got == [rows.tolist() for rows in items]


def test_the_seed_decides_the_order_and_each_epoch_has_another() -> None:
    items, lengths = [np.array([row]) for row in range(200)], np.random.default_rng(0).integers(1, 50, 200)

    def epochs(seed: int) -> list[list[list[int]]]:
        generator = np.random.default_rng(seed)
        return [
            [[int(rows[0]) for rows in batch] for batch in shuffled_batches(items, lengths, 4, generator)]
            for _ in range(2)
        ]

    assert epochs(0) == epochs(0)
    assert epochs(0)[0] != epochs(0)[1]
    assert epochs(0)[0] != epochs(1)[0]


def test_batches_are_of_similar_lengths() -> None:
    """Padding, the share of a batch that is no frame, stays small although lengths differ fiftyfold."""
    lengths = np.random.default_rng(0).integers(1, 51, 640)
    items = [np.array([row]) for row in range(640)]
    for batches in (
        sorted_batches(items, lengths, 8),
        shuffled_batches(items, lengths, 8, np.random.default_rng(0)),
    ):
        sizes = [lengths[np.concatenate(batch)] for batch in batches]
        assert sum(own.max() * len(own) for own in sizes) < 1.1 * lengths.sum()


def test_examples_are_labelled_utterances_or_whole_dialogues(make_fold: MakeFold) -> None:
    fold = make_fold([[0, IGNORE], [IGNORE, IGNORE], [1, 0], [0]], ["train", "train", "dev", "test"])
    assert [rows.tolist() for rows in examples(fold, "utterance", "train")] == [[0]]
    assert [rows.tolist() for rows in examples(fold, "dialogue", "train")] == [[0, 1]]
    assert [rows.tolist() for rows in examples(fold, "utterance", "dev")] == [[4], [5]]
    assert [rows.tolist() for rows in examples(fold, "dialogue", "test")] == [[6]]
    assert [rows.tolist() for rows in examples(fold, "utterance")] == [[row] for row in range(7)]
    assert [rows.tolist() for rows in examples(fold, "dialogue")] == [[0, 1], [2, 3], [4, 5], [6]]


@pytest.mark.parametrize("unit", ["utterance", "dialogue"])
@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), seed=SEEDS)
def test_collate_keeps_features_targets_and_places_together(
    make_fold: MakeFold, unit: str, sizes: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    targets = [rng.integers(-1, 3, size).tolist() for size in sizes]
    fold = make_fold(targets, ["train"] * len(sizes), "abc")
    inputs = {
        name: sequences_of(rng.integers(1, 5, sum(sizes)).tolist(), dim) for name, dim in (("audio", 3), ("text", 2))
    }
    items = examples(fold, unit)  # type: ignore[arg-type]
    chosen = [items[index] for index in rng.permutation(len(items))[: rng.integers(1, len(items) + 1)]]
    rows, batch = collate(chosen, {name: sequences for name, (sequences, _) in inputs.items()}, fold)
    assert rows.tolist() == np.concatenate(chosen).tolist()
    for place, row in enumerate(rows.tolist()):
        assert batch.targets_U[place] == fold.targets[row]
        assert batch.speakers_U[place] == fold.speakers[row]
        for name, (_, parts) in inputs.items():
            np.testing.assert_array_equal(batch.frames[name][place, : batch.lengths[name][place]], parts[row])
    for places_L, item in zip(batch.places_BL, chosen, strict=True):
        assert rows[places_L[places_L >= 0]].tolist() == item.tolist()
        assert (places_L[len(item) :] == -1).all()


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30), size=st.integers(1, 8), most=st.integers(1, 40))
def test_a_batch_is_never_padded_beyond_its_budget(lengths: list[int], size: int, most: int) -> None:
    items = [np.array([row]) for row in range(len(lengths))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_module, "MOST_FRAMES", most)
        batches = list(sorted_batches(items, np.array(lengths), size))
    assert sorted(int(rows[0]) for batch in batches for rows in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[int(rows[0])] for rows in batch)
        assert len(batch) == 1 or (padded <= most and len(batch) <= size)


def test_few_dialogues_come_in_other_company_each_time() -> None:
    """Sorted by length as a whole, as few as these would always make the same batches."""
    sizes = np.arange(10, 62)
    starts = np.cumsum(sizes) - sizes
    items = [np.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    first, second = (
        {frozenset(int(rows[0]) for rows in batch) for batch in shuffled_batches(items, np.ones(3000, int), 128, each)}
        for each in (np.random.default_rng(0), np.random.default_rng(1))
    )
    assert len(first & second) < 0.1 * len(first)
