"""A pool of processes that survives the death of any of them.

Each process has a pipe and a thread of its own, and shares no lock with another. So one that is killed, as for want of
memory, takes the task that it was at along and nothing else: another process takes its place for the tasks that wait.
"""

import os
import pickle
import queue
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

from emofuse.core.memory import end_quickly
from emofuse.core.process import follow_parent

__all__ = ["Pool", "WorkerError", "call_all"]

A = TypeVar("A")
R = TypeVar("R")


class WorkerError(OSError):
    """A process ended while it was at a task, or could not start."""


class Pool:
    """Processes that do what is submitted, as a context manager.

    On leaving, tasks that wait are cancelled, and those in work are finished first; when the reason is an interrupt,
    their processes are ended instead. All processes end with this one.

    Args:
        workers: number of processes; each starts with its first task
        start: called in each process before its first task
        arguments: of ``start``, one for each worker, so that they may differ
    """

    def __init__(
        self, workers: int, start: Callable[..., object] | None = None, arguments: Sequence[tuple[Any, ...]] = ()
    ) -> None:
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._workers = [_Worker(self._tasks, start, arguments[index] if arguments else ()) for index in range(workers)]

    def __enter__(self) -> "Pool":
        for each in self._workers:
            each.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(queue.Empty):
            while task := self._tasks.get_nowait():
                task.future.cancel()
        for _ in self._workers:
            self._tasks.put(None)
        if kind is not None and not issubclass(kind, Exception):
            for each in self._workers:
                each.kill()
        for each in self._workers:
            each.join()

    def submit(self, function: Callable[..., R], *arguments: Any) -> "Future[R]":
        """Call a function in one of the processes; may be called from several threads.

        What the function raises, the future does; :class:`WorkerError` where the process ended instead.

        Args:
            function: of a module, so that the process can import it
            arguments: that can be pickled
        """
        future: Future[R] = Future()
        self._tasks.put(_Task(future, function, arguments))
        return future


def call_all(
    function: Callable[[A], R],
    arguments: Sequence[A],
    workers: int,
    start: Callable[..., object] | None = None,
) -> Iterator[tuple[A, R]]:
    """Call a function for each argument in several processes; yields arguments and results as they complete.

    After the first error nothing new is begun. What is in work is finished, since it may keep its own results.

    Args:
        function: of a module, so that the processes can import it
        arguments: that can be pickled
        workers: number of processes
        start: called in each process before its first argument

    Raises:
        WorkerError: a process ended while it was at an argument
        Exception: what the function raised first
    """
    with Pool(min(workers, len(arguments)), start) as pool:
        waiting = {pool.submit(function, each): each for each in arguments}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), future.result()


class _Task:
    def __init__(self, future: "Future[Any]", function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.future, self.function, self.arguments = future, function, arguments


class _Worker(Thread):
    """The thread of a process, which starts it, hands it tasks one by one, and replaces it when it has died."""

    def __init__(
        self, tasks: "queue.SimpleQueue[_Task | None]", start: Callable[..., object] | None, arguments: tuple[Any, ...]
    ) -> None:
        super().__init__(daemon=True)
        self._tasks, self._start, self._arguments = tasks, start, arguments
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._killed = False

    def run(self) -> None:
        while (task := self._tasks.get()) is not None:
            if task.future.set_running_or_notify_cancel():
                self._do(task)
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join()

    def kill(self) -> None:
        """End the process, whatever it is at, and begin no other."""
        self._killed = True
        if self._process is not None:
            self._process.kill()

    def _do(self, task: _Task) -> None:
        try:
            if self._pipe is None:
                self._begin()
            result, error = self._ask(task)
        except Exception as problem:  # what cannot be pickled, what cannot be started
            task.future.set_exception(problem)
        else:
            task.future.set_exception(error) if error else task.future.set_result(result)

    def _begin(self) -> None:
        if self._killed:
            raise WorkerError("interrupted")
        context = get_context("spawn")
        # The system ends a process with the thread that started it, and this one stays until the last task is done.
        self._pipe, other = context.Pipe()
        process = context.Process(target=_serve, args=(other, os.getpid(), self._start, self._arguments), daemon=True)
        process.start()
        other.close()
        self._process = process
        if self._killed:  # meanwhile
            process.kill()

    def _ask(self, task: _Task) -> tuple[Any, Exception | None]:
        if self._pipe is None or self._process is None:
            raise WorkerError("no process")
        request = pickle.dumps((task.function, task.arguments))
        try:
            self._pipe.send_bytes(request)
            answer: tuple[Any, Exception | None] = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 (our own)
        except (EOFError, OSError) as error:
            process = self._process
            self._pipe.close()
            process.join()
            self._pipe = self._process = None
            raise WorkerError(_epitaph(process.exitcode)) from error
        return answer


def _epitaph(status: int | None) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        reason = "; the memory may be full" if -status == signal.SIGKILL else ""
        return f"a process that worked on it was killed by {name}{reason}"
    return f"a process that worked on it ended with status {status}"


def _serve(pipe: Connection, parent: int, start: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    """Do what comes through a pipe until its other end is closed."""
    follow_parent(parent)
    end_quickly()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # An interrupt at the keyboard is reported by whoever owns the pool.
    if start is not None:
        start(*arguments)
    while True:
        try:
            request = pipe.recv_bytes()
        except EOFError:
            return
        try:
            function, given = pickle.loads(request)  # noqa: S301 (our own)
            answer = pickle.dumps((function(*given), None))
        except Exception as error:
            answer = pickle.dumps((None, _portable(error)))
        pipe.send_bytes(answer)


def _portable(error: Exception) -> Exception:
    """An error that arrives on the other side, with where it comes from as a note."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
