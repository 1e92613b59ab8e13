"""Many sources of sound to the stored form on all cores: in order, some ahead of what is taken, whatever dies of it."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import chain, groupby, islice
from multiprocessing import get_context
from typing import TYPE_CHECKING

from emofuse.audio.clips import Clip, prepare_recording, same_recording
from emofuse.core.process import cores, follow_parent

if TYPE_CHECKING:
    from emofuse.audio.source import AudioSource

__all__ = ["prepare_all"]

_CHUNK = 8
"""Clips that a process takes at once: fewer, and it would wait for the next ones more than it works.

All segments of one recording are taken together, however many they are."""

_AHEAD = 128
"""Clips for each core that may be decoded before anybody asks for them, so that none waits while a shard is written.

Ten seconds of speech take some 150 kB, so these hold 20 MB a core."""

_Recording = list["AudioSource"]


def prepare_all(sources: Iterable["AudioSource"], max_seconds: float) -> Generator[Clip, None, None]:
    """Yield what :func:`emofuse.audio.clips.prepare` makes of each source, in their order.

    Segments of one recording that follow each other are decoded together. A file may be too much for a decoder or for
    the memory and end the process that reads it. Those that were in work then are read again one by one, and the clips
    of one that does it again have no sound and the defect ``audio_unreadable``.

    Args:
        sources: where the sound comes from
        max_seconds: a longer clip is cut there

    Raises:
        OSError: no process can be started
    """
    left = (list(members) for _, members in groupby(sources, same_recording))
    in_work: deque[list[_Recording]] = deque()
    while True:
        try:
            yield from _in_parallel(left, in_work, max_seconds)
            return
        except BrokenExecutor:
            yield from _one_by_one(chain.from_iterable(in_work), max_seconds)
            in_work.clear()


def _in_parallel(left: Iterator[_Recording], in_work: deque[list[_Recording]], max_seconds: float) -> Iterator[Clip]:
    """Yield clips in order; ``in_work`` holds the recordings that were taken and whose clips were not yielded."""
    futures: deque[Future[list[Clip]]] = deque()
    with _pool(cores()) as pool:
        while True:
            while (len(futures) < cores() or _clips(in_work) < _AHEAD * cores()) and (chunk := _chunk(left)):
                in_work.append(chunk)
                futures.append(pool.submit(_prepare, chunk, max_seconds))
            if not futures:
                return
            clips = futures.popleft().result()
            in_work.popleft()
            yield from clips


def _chunk(left: Iterator[_Recording]) -> list[_Recording]:
    chunk: list[_Recording] = []
    while sum(map(len, chunk)) < _CHUNK and (more := list(islice(left, 1))):
        chunk += more
    return chunk


def _clips(chunks: Iterable[list[_Recording]]) -> int:
    return sum(len(each) for each in chain.from_iterable(chunks))


def _one_by_one(recordings: Iterable[_Recording], max_seconds: float) -> Iterator[Clip]:
    left = deque(recordings)
    while left:
        with _pool(1) as pool:
            _wait_for(pool)
            while left:
                recording = left.popleft()
                try:
                    clips = pool.submit(_prepare, [recording], max_seconds).result()
                except BrokenExecutor:
                    for source in recording:
                        reason = f"{source.name}: ended the process that decoded it; the memory may be full"
                        yield Clip(None, None, 0, ("audio_unreadable",), reason)
                    break
                yield from clips


def _wait_for(pool: ProcessPoolExecutor) -> None:
    """Wait until a process of the pool has started, so that no file is blamed where none can."""
    try:
        pool.submit(os.getpid).result()
    except BrokenExecutor as error:
        raise OSError("processes that decode sound end as they start; the memory may be full") from error


@contextmanager
def _pool(size: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(size, get_context("spawn"), initializer=_start, initargs=(os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start(parent: int) -> None:
    """Make a process of a pool die with its parent, and torch, if a clip needs it, compute with one thread.

    Torch takes seconds to import, and the last bits of a result depend on the number of its threads.
    """
    follow_parent(parent)
    os.environ["OMP_NUM_THREADS"] = "1"


def _prepare(recordings: Sequence[_Recording], max_seconds: float) -> list[Clip]:
    return [clip for each in recordings for clip in prepare_recording(each, max_seconds)]
