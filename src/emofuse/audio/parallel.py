"""Conversion of many clips on all cores: in order, with read-ahead, surviving a crashed decoder."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from itertools import groupby, islice
from typing import TYPE_CHECKING

from emofuse.audio.clips import Clip, prepare_recording, same_recording
from emofuse.core.pool import Pool, WorkerError
from emofuse.core.process import cores

if TYPE_CHECKING:
    from emofuse.audio.sound import AudioSource

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
    the memory and end the process that reads it. Those that it was given together are then read again one by one, and
    the clips of one that does it again have no sound and the defect ``audio_unreadable``.

    Args:
        sources: where the sound comes from
        max_seconds: a longer clip is cut there

    Raises:
        OSError: no process can be started
    """
    left = (list(members) for _, members in groupby(sources, same_recording))
    in_work: deque[tuple[list[_Recording], Future[list[Clip]]]] = deque()
    with Pool(cores(), _start) as pool:
        while True:
            while (len(in_work) < cores() or _clips(in_work) < _AHEAD * cores()) and (chunk := _chunk(left)):
                in_work.append((chunk, pool.submit(_prepare, chunk, max_seconds)))
            if not in_work:
                return
            chunk, future = in_work.popleft()
            try:
                clips = future.result()
            except WorkerError:
                wait([each for _, each in in_work])  # What reads beside may be what took the memory.
                yield from _one_by_one(chunk, max_seconds)
            else:
                yield from clips


def _chunk(left: Iterator[_Recording]) -> list[_Recording]:
    chunk: list[_Recording] = []
    while sum(map(len, chunk)) < _CHUNK and (more := list(islice(left, 1))):
        chunk += more
    return chunk


def _clips(in_work: Iterable[tuple[list[_Recording], object]]) -> int:
    return sum(len(recording) for chunk, _ in in_work for recording in chunk)


def _one_by_one(recordings: Iterable[_Recording], max_seconds: float) -> Iterator[Clip]:
    with Pool(1, _start) as pool:
        for recording in recordings:
            _wait_for(pool)
            try:
                clips = pool.submit(_prepare, [recording], max_seconds).result()
            except WorkerError:
                clips = [_unreadable(each) for each in recording]
            yield from clips


def _unreadable(source: "AudioSource") -> Clip:
    reason = f"{source.name}: ended the process that decoded it; the memory may be full"
    return Clip(None, None, 0, ("audio_unreadable",), reason)


def _wait_for(pool: Pool) -> None:
    """Wait until the pool's process has started, so that no file is blamed where none can."""
    try:
        pool.submit(os.getpid).result()
    except WorkerError as error:
        raise OSError("processes that decode sound end as they start; the memory may be full") from error


def _start() -> None:
    """Make torch, if a clip needs it, compute with one thread.

    Torch takes seconds to import, and the last bits of a result depend on the number of its threads.
    """
    os.environ["OMP_NUM_THREADS"] = "1"


def _prepare(recordings: Sequence[_Recording], max_seconds: float) -> list[Clip]:
    return [clip for each in recordings for clip in prepare_recording(each, max_seconds)]
