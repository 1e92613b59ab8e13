"""Feature shards: this project's layout (float16 bytes, mapped) against Arrow's readers, written and read in one run.

Usage: python benchmarks/shards.py
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from machine import describe, table

from emofuse.core import schema
from emofuse.core.sharding import shard_name
from emofuse.features.reading import JoinedFeatures
from emofuse.features.shards import FeatureStore, Row, write_shard

UTTERANCES, FRAMES, DIM, REPEATS = 1000, 100, 768, 5


def main() -> None:
    """Measure and print the tables."""
    generator = np.random.default_rng(0)
    rows = [
        Row(f"u{index}", "0" * 64, generator.standard_normal((FRAMES, DIM)).astype(np.float16))
        for index in range(UTTERANCES)
    ]
    megabytes = UTTERANCES * FRAMES * DIM * 2 / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder, lists = Path(name) / "features", Path(name) / "lists.parquet"
        ours = folder / shard_name(0, 1)
        ids = [row.utterance_id for row in rows]
        writing = {
            "float16 bytes, a page a row group (this project)": seconds(lambda: write_shard(ours, rows, DIM, {})),
            "list of lists of float16": seconds(lambda: write_lists(lists, rows)),
        }
        write_utterances(Path(name), ids)
        features = JoinedFeatures(Path(name), {"audio": folder})
        room = torch.empty(FRAMES, DIM, dtype=torch.float16)
        reading = {
            "by utterance, mapped (this project)": seconds(lambda: read_utterances(features, ids, room)),
            "by dialogue, mapped (this project)": seconds(lambda: read_dialogues(features, room)),
            "all into one array (this project)": seconds(lambda: FeatureStore(folder).align(ids)),
            "the same file by pyarrow": seconds(lambda: pq.read_table(ours, memory_map=True)["frames"].nbytes),
            "list of lists of float16": seconds(lambda: read_lists(lists)),
        }
        opening = seconds(lambda: FeatureStore(folder))
    print(f"# Feature shards, {megabytes:.0f} MB of float16, median of {REPEATS}\n\n{describe()}\n")
    for title, measured in (("write", writing), ("read, every byte, from a warm page cache, one process", reading)):
        base = measured["list of lists of float16"]
        lines = [[each, f"{megabytes / taken:,.0f}", f"{base / taken:.1f}"] for each, taken in measured.items()]
        print(table([title, "MB/s", "times lists"], lines) + "\n")
    print(f"Opening the mapped shard took {opening * 1e3:.1f} ms.")


def seconds(function: Callable[[], object]) -> float:
    """Return the median wall-clock seconds of a call."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def write_utterances(folder: Path, ids: list[str]) -> None:
    """Write the corpus's utterance table: dialogues of ten turns."""
    rows = [
        dict.fromkeys(schema.UTTERANCES.names)
        | {"utterance_id": each, "dialogue_id": f"d{index // 10}", "turn": index % 10, "defects": []}
        for index, each in enumerate(ids)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema.UTTERANCES), folder / "utterances.parquet")


def read_utterances(features: JoinedFeatures, ids: list[str], room: torch.Tensor) -> None:
    """Copy every utterance to the same place, so that every byte is read."""
    for each in ids:
        room.copy_(features.utterance(each)["audio"])


def read_dialogues(features: JoinedFeatures, room: torch.Tensor) -> None:
    """Copy every utterance to the same place, dialogue by dialogue."""
    for dialogue in features.dialogues:
        for each in features.dialogue(dialogue):
            room.copy_(each["audio"])


def write_lists(path: Path, rows: list[Row]) -> None:
    """Write frames as nested lists, the obvious layout."""
    kind = pa.list_(pa.list_(pa.float16(), DIM))
    column = pa.array([list(row.frames) for row in rows], kind)
    pq.write_table(pa.table({"frames": column}), path, compression="none")


def read_lists(path: Path) -> list[np.ndarray]:
    """Read them into arrays."""
    flat = pq.read_table(path)["frames"].combine_chunks().flatten().flatten().to_numpy(zero_copy_only=False)
    return np.split(flat.reshape(-1, DIM), UTTERANCES)


if __name__ == "__main__":
    main()
