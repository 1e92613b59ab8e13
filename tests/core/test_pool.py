"""Of several processes any may be killed: its task alone is lost, and nobody waits for ever. With real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from emofuse.core.files import DiskFullError
from emofuse.core.pool import Pool, WorkerError, call_all

Start = Callable[..., subprocess.Popen[str]]

KILLED = "a process that worked on it was killed by SIGKILL; the memory may be full"

OWNER = """
import os, sys, time
from pathlib import Path
from emofuse.core.pool import Pool
if __name__ == "__main__":
    with Pool(1) as pool:
        Path("worker").write_text(str(pool.submit(os.getpid).result()))
        pool.submit(time.sleep, 60).result()
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_results_and_errors_come_back() -> None:
    with Pool(2) as pool:
        futures = [pool.submit(divmod, 7, each) for each in (1, 2, 0)]
        assert [each.result(60) for each in futures[:2]] == [(7, 0), (3, 1)]
        with pytest.raises(ZeroDivisionError) as error:
            futures[2].result(60)
        assert "Traceback" in error.value.__notes__[0]
        with pytest.raises(TypeError, match="pickle"):
            pool.submit(len, threading.Lock()).result(60)
        with pytest.raises(TypeError, match="pickle"):
            pool.submit(threading.Lock).result(60)
        assert pool.submit(len, bytes(10_000_000)).result(60) == 10_000_000


def test_an_error_keeps_its_kind_and_what_it_says(tmp_path: Path) -> None:
    with Pool(1) as pool, pytest.raises(FileNotFoundError, match="nowhere") as error:
        pool.submit(os.listdir, str(tmp_path / "nowhere")).result(60)
    assert error.value.filename == str(tmp_path / "nowhere")
    with Pool(1) as pool:
        assert isinstance(pool.submit(DiskFullError.at, tmp_path).result(60), DiskFullError)


def test_a_killed_process_loses_its_own_task_and_is_replaced() -> None:
    with Pool(2) as pool:
        slow = pool.submit(time.sleep, 1.0)
        killed = pool.submit(signal.raise_signal, signal.SIGKILL)
        after = [pool.submit(abs, each) for each in range(4)]
        with pytest.raises(WorkerError) as error:
            killed.result(60)
        assert str(error.value) == KILLED
        assert slow.result(60) is None
        assert [each.result(60) for each in after] == [0, 1, 2, 3]


def test_a_process_that_ends_by_itself_is_told_by_its_status() -> None:
    with Pool(1) as pool:
        with pytest.raises(WorkerError, match="a process that worked on it ended with status 3"):
            pool.submit(os._exit, 3).result(60)
        assert pool.submit(abs, -1).result(60) == 1


def test_a_process_that_cannot_start_is_an_error_of_each_task() -> None:
    with Pool(1, os._exit, [(5,)]) as pool:
        for _ in range(2):
            with pytest.raises(WorkerError, match="status 5"):
                pool.submit(abs, -1).result(60)


def test_each_process_starts_with_its_own_arguments(tmp_path: Path) -> None:
    with Pool(1, os.chdir, [(tmp_path,)]) as pool:
        assert pool.submit(os.getcwd).result(60) == str(tmp_path)
        with pytest.raises(WorkerError):
            pool.submit(signal.raise_signal, signal.SIGKILL).result(60)
        assert pool.submit(os.getcwd).result(60) == str(tmp_path)


def test_leaving_finishes_what_is_in_work_and_cancels_the_rest(tmp_path: Path) -> None:
    with Pool(1) as pool:
        pool.submit(abs, -1).result(60)
        futures = [pool.submit(time.sleep, 0.3), *(pool.submit(os.mkdir, tmp_path / str(n)) for n in range(3))]
        while not futures[0].running():
            time.sleep(0.01)
    assert futures[0].done()
    assert not futures[0].cancelled()
    assert all(each.cancelled() for each in futures[1:])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_waits_for_nobody() -> None:
    started = time.monotonic()

    def interrupt(pool: Pool) -> Future[None]:
        future = pool.submit(time.sleep, 600)
        while not future.running():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Pool(1) as pool:
        interrupt(pool)
    assert time.monotonic() - started < 300


def test_all_arguments_are_done_and_told_as_they_complete() -> None:
    assert sorted(call_all(abs, [-3, 2, -1], 2)) == [(-3, 3), (-1, 1), (2, 2)]
    assert list(call_all(abs, [], 2)) == []


def test_after_an_error_what_is_in_work_is_finished_and_nothing_new_begun(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    places = [tmp_path / str(number) for number in range(50)]
    with pytest.raises(FileExistsError):
        list(call_all(os.mkdir, places, 1))
    assert 1 <= len(list(tmp_path.iterdir())) < 50


def test_a_killed_process_is_one_error_and_the_end() -> None:
    found = []
    with pytest.raises(WorkerError, match=KILLED):  # noqa: PT012 (what came before it is looked at)
        for number, _ in call_all(signal.raise_signal, [0, signal.SIGKILL, *[0] * 50], 1):
            found.append(number)
    assert found == [0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell a process that its parent has died")
def test_processes_die_with_the_one_that_they_work_for(tmp_path: Path, start: Start) -> None:
    (tmp_path / "owner.py").write_text(OWNER)
    owner = start("import runpy; runpy.run_path('owner.py', run_name='__main__')", tmp_path)
    limit = time.monotonic() + 30
    while not ((tmp_path / "worker").exists() and (tmp_path / "worker").read_text()):
        assert time.monotonic() < limit, owner.communicate()
        time.sleep(0.02)
    worker = int((tmp_path / "worker").read_text())
    assert is_alive(worker)
    owner.kill()
    owner.communicate()
    limit = time.monotonic() + 10
    while is_alive(worker) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not is_alive(worker)
