"""Feature shards: this project's layout (float16 bytes) against lists of float16, written and read in one run.

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
from machine import describe, table

from emofuse.features.shards import FeatureStore, Row, write_shard

UTTERANCES, FRAMES, DIM, REPEATS = 1000, 100, 768, 5


def main() -> None:
    """Measure and print the table."""
    generator = np.random.default_rng(0)
    rows = [
        Row(f"u{index}", "0" * 64, generator.standard_normal((FRAMES, DIM)).astype(np.float16))
        for index in range(UTTERANCES)
    ]
    megabytes = UTTERANCES * FRAMES * DIM * 2 / 1e6
    with tempfile.TemporaryDirectory() as name:
        ours, lists = Path(name) / "shard-00000-of-00001.parquet", Path(name) / "lists.parquet"
        ids = [row.utterance_id for row in rows]
        measured = {
            "float16 bytes, one column (this project)": (
                seconds(lambda: write_shard(ours, rows, DIM, {})),
                seconds(lambda: FeatureStore(ours.parent).align(ids)),
            ),
            "list of lists of float16": (
                seconds(lambda: write_lists(lists, rows)),
                seconds(lambda: read_lists(lists)),
            ),
        }
    base = measured["list of lists of float16"]
    lines = [
        [layout, f"{megabytes / w:,.0f}", f"{base[0] / w:.1f}", f"{megabytes / r:,.0f}", f"{base[1] / r:.1f}"]
        for layout, (w, r) in measured.items()
    ]
    print(f"# Feature shards, {megabytes:.0f} MB of float16, median of {REPEATS}\n\n{describe()}\n")
    print(table(["layout", "write MB/s", "times lists", "read into one array MB/s", "times lists"], lines))


def seconds(function: Callable[[], object]) -> float:
    """Return the median wall-clock seconds of a call."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


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
