"""Clips come in the order of their sources, few ahead of who takes them, and nothing that dies takes others along."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import pytest

from emofuse.audio import parallel as decoding
from emofuse.audio.clips import prepare
from emofuse.audio.parallel import prepare_all
from emofuse.audio.sound import Sound


@dataclass(frozen=True)
class Deadly:
    """A file whose decoder is killed, as for want of memory."""

    name: str

    def load(self) -> tuple[np.ndarray, int]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def sounds(count: int) -> list[Sound]:
    return [Sound(f"{n}.wav", np.full((1, 1_600 + n), 0.5, np.float32), 16_000) for n in range(count)]


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "cores", lambda: 1)
    monkeypatch.setattr(decoding, "_AHEAD", 16)


def test_what_kills_its_process_is_named_and_takes_nothing_along() -> None:
    whole = sounds(40)
    sources = [*whole[:10], Deadly("first.mp4"), *whole[10:12], Deadly("second.mp4"), *whole[12:]]
    clips = list(prepare_all(sources, 40.0))
    died = [clip for clip in clips if clip.defects]
    assert [clip for clip in clips if not clip.defects] == [prepare(each, 40.0) for each in whole]
    assert [clips.index(clip) for clip in died] == [10, 13]
    assert {clip.defects for clip in died} == {("audio_unreadable",)}
    ended = "ended the process that decoded it; the memory may be full"
    assert [clip.reason for clip in died] == [f"first.mp4: {ended}", f"second.mp4: {ended}"]


@pytest.mark.usefixtures("one_core")
def test_few_clips_are_ahead_of_who_takes_them() -> None:
    taken: list[str] = []

    def watched() -> Iterator[Sound]:
        for each in sounds(60):
            taken.append(each.name)
            yield each

    prepared = prepare_all(watched(), 40.0)
    assert taken == []
    next(prepared)
    assert len(taken) == 2 * 8 + 1  # one more, to see whether it is of the same recording
    assert [clip.n_samples for clip in islice(prepared, 8)] == list(range(1_601, 1_609))
    assert len(taken) == 3 * 8 + 1
    prepared.close()
    assert len(taken) == 3 * 8 + 1


@pytest.mark.usefixtures("one_core")
def test_processes_that_cannot_start_are_no_fault_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_start", partial(os._exit, 5))
    with pytest.raises(OSError, match="end as they start"):
        list(prepare_all(sounds(1), 40.0))
