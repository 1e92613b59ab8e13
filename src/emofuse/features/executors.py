"""Who encodes a shard: this process, several of this machine, or the machines of a Ray cluster. The bytes are the same.

A shard is the unit of work and encoding it has no side effect, so that a lost worker costs the time of its shards, and
two that encode the same one leave one result.
"""

import inspect
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from emofuse import encoders
from emofuse.audio.flac import decode
from emofuse.core import schema
from emofuse.core.files import digest
from emofuse.core.memory import give_memory_back
from emofuse.core.pool import Pool, WorkerError
from emofuse.core.process import cores
from emofuse.encoders import Encoder, EncoderError
from emofuse.features.contents import Shard
from emofuse.features.shards import LAYOUT, Row, pack
from emofuse.features.storage import Storage

__all__ = ["Encoded", "Executor", "ExecutorError", "Recipe", "local", "on_ray", "version"]

_AHEAD = 2
"""Shards beside those that are being encoded: one is read and decoded, one is written."""


class ExecutorError(OSError):
    """A worker or the cluster was lost; the shards that were finished are kept."""


@dataclass(frozen=True)
class Recipe:
    """How shards are encoded, in a form that travels to other processes.

    Attributes:
        family: of the encoder
        options: of the family
        where: the key of these options in the parameters, for messages
        terms: of the corpus; every shard says them
        version: of the encoder; see :func:`version`
        threads: processor threads of one encoder
    """

    family: str
    options: dict[str, Any]
    where: str
    terms: str
    version: str
    threads: int


@dataclass(frozen=True)
class Encoded:
    """A shard's bytes, and what the encoder of that process says of its ``cost``."""

    data: pa.Buffer | bytes
    cost: float | None


@dataclass(frozen=True)
class Executor:
    """Where shards are encoded.

    Attributes:
        width: how many shards it takes at once
        encode: encode the shard of that key; called from several threads
        finished: return the bytes of the shard of that key if an earlier run left them there
    """

    width: int
    encode: Callable[[str, Shard], Encoded]
    finished: Callable[[str], bytes | None] = lambda key: None


def version(encoder: Encoder, terms: str) -> str:
    """Digest of all that a shard's bytes depend on beside its contents: encoder, its code, terms, schema and layout."""
    reading = inspect.getsource(decode) if encoder.reads == "audio" else ""
    return digest([LAYOUT, _metadata(encoder, terms), encoder.dim, reading])


@contextmanager
def local(recipe: Recipe, encoder: Encoder, workers: int) -> Iterator[Executor]:
    """Encode on this machine.

    Args:
        recipe: how to encode
        encoder: the same, loaded; a single worker is this process
        workers: encoders side by side; 0 for two on each of several GPUs, or one for every ``threads`` cores
    """
    gpus = _gpus()
    workers = workers or (1 if len(gpus) == 1 else 2 * len(gpus) or max(1, cores() // recipe.threads))
    if workers == 1:
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(recipe.threads,)) as thread:
            yield Executor(1 + _AHEAD, lambda _, shard: _encode(encoder, recipe.terms, shard, thread))
        return
    devices = [(gpus[worker % len(gpus)] if gpus else "",) for worker in range(workers)]
    with Pool(workers, _start, devices) as pool:

        def encode(_: str, shard: Shard) -> Encoded:
            try:
                return pool.submit(_encode_alone, recipe, _carrying(shard)).result()
            except WorkerError as error:
                raise ExecutorError(f"{shard.file}: {error}; finished shards are kept") from error

        yield Executor(workers + _AHEAD, encode)


@contextmanager
def on_ray(recipe: Recipe, storage: Storage) -> Iterator[Executor]:
    """Encode on a Ray cluster: that of this process, or of the variable ``RAY_ADDRESS``, or a new one on this machine.

    Ray places and repeats the work. What there is to encode travels with a task, and its result goes to the storage.

    Args:
        recipe: how to encode
        storage: that all machines of the cluster reach

    Raises:
        ExecutorError: Ray is not installed, or no machine of the cluster has the threads of one encoder
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ExecutorError("extract.executor: ray is not installed; in the checkout: pip install '.[ray]'") from error
    joined = ray.is_initialized()
    if not joined:
        ray.init(logging_level=logging.WARNING, log_to_driver=False)
    try:
        slots, gpus = _slots(ray.nodes(), recipe.threads)
        task = ray.remote(num_cpus=recipe.threads, num_gpus=gpus)(_encode_into)

        def encode(key: str, shard: Shard) -> Encoded:
            try:
                cost = ray.get(task.remote(storage.url, key, recipe, _carrying(shard)))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                raise ExecutorError(f"{shard.file}: {error}") from error
            data = storage.get(key)
            if data is None:
                raise ExecutorError(f"{storage.url}: {shard.file} is missing; can all machines reach this place?")
            return Encoded(data, cost)

        yield Executor(2 * slots + _AHEAD, encode, storage.get)
    finally:
        if not joined:
            ray.shutdown()


def _slots(nodes: Sequence[dict[str, Any]], threads: int) -> tuple[int, float]:
    """Number of shards that a cluster encodes at once, and GPUs that one takes: a half, so that none waits for data."""
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = sum(machine.get("GPU", 0) for machine in machines)
    slots = int(2 * gpus or sum(machine.get("CPU", 0) // threads for machine in machines))
    if slots == 0:
        raise ExecutorError(f"extract.threads: {threads}: no machine of the cluster has that many processor cores")
    return slots, 0.5 if gpus else 0


def _gpus() -> list[str]:
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [str(each) for each in range(count)])[:count]


def _start(device: str) -> None:
    # Before the encoder first asks for a GPU; it then sees this one alone.
    os.environ["CUDA_VISIBLE_DEVICES"] = device


_loaded: dict[str, Encoder] = {}
"""Encoders of a worker process, by version."""


def _carrying(shard: Shard) -> Shard:
    """A shard that brings its contents along, to where the corpus is not."""
    return replace(shard, source=shard.contents())


def _encode_into(url: str, key: str, recipe: Recipe, shard: Shard) -> float | None:
    encoded = _encode_alone(recipe, shard)
    Storage(url).put(key, encoded.data)
    return encoded.cost


def _encode_alone(recipe: Recipe, shard: Shard) -> Encoded:
    """Encode in a worker process, which loads the encoder once."""
    torch.set_num_threads(recipe.threads)
    if recipe.version not in _loaded:
        encoder = encoders.load(recipe.family, recipe.options, recipe.where)
        if version(encoder, recipe.terms) != recipe.version:
            raise EncoderError(
                f"{socket.gethostname()}: has another version of this package, or of the encoder's files"
            )
        _loaded[recipe.version] = encoder
    return _encode(_loaded[recipe.version], recipe.terms, shard)


def _encode(encoder: Encoder, terms: str, shard: Shard, thread: ThreadPoolExecutor | None = None) -> Encoded:
    """Encode a shard; the encoder runs in a thread of its own if there is one."""
    contents = shard.contents()
    if encoder.reads == "audio":
        contents = [decode(each) for each in contents]
    encoded = thread.submit(_listed, encoder, contents).result() if thread else _listed(encoder, contents)
    present = [index for index, each in enumerate(shard.digests) if each is not None]
    frames = dict(zip(present, encoded, strict=True))
    empty = np.zeros((0, encoder.dim), np.float32)
    rows = [
        Row(each, content, frames.get(index, empty))
        for index, (each, content) in enumerate(zip(shard.ids, shard.digests, strict=True))
    ]
    data = pack(rows, encoder.dim, _metadata(encoder, terms))
    give_memory_back()
    return Encoded(data, encoder.cost)


def _listed(encoder: Encoder, contents: Sequence[Any]) -> list[np.ndarray]:
    return list(encoder.encode(contents))


def _metadata(encoder: Encoder, terms: str) -> dict[str, Any]:
    shared = {"sample_rate": schema.SAMPLE_RATE, "schema_version": schema.SCHEMA_VERSION, schema.TERMS: terms}
    return {**encoder.identity, **shared}
