"""A pool of Python processes, each of which makes one worker and gives it task after task.

    with worker_pool(Repackager, settings, 4) as map_tasks:
        for result in map_tasks(tasks): ...

What a task raises is raised where its result is taken. A worker ends with the process that started
it, however that ends, and with the block.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import MachineError

MapTasks = Callable[[Iterable[Any]], Iterator[Any]]
_Settings = TypeVar("_Settings")
_SAFE_PATH = "PYTHONSAFEPATH"


class Worker(Protocol):
    """Answers tasks, one at a time; tasks and results can be pickled."""

    def __call__(self, task: Any, /) -> Any: ...

    def close(self) -> None:
        """Called when the worker does its work in this process, and there is no more of it."""


@contextlib.contextmanager
def worker_pool(
    make_worker: Callable[[_Settings], Worker], settings: _Settings, processes: int
) -> Iterator[MapTasks]:
    """A function that yields the results of tasks in their order, at most 2 x `processes` of them
    at once.

    Args:
        make_worker: a class or a function at the top level of its module; called with `settings` in
            each process.
        processes: with 1, the work is done in this process. So it is before Python 3.11, whose
            workers would import modules from the working directory.

    Raises:
        MachineError: a worker was killed.
    """
    if processes <= 1 or not hasattr(sys.flags, "safe_path"):
        with contextlib.closing(make_worker(settings)) as worker:
            yield lambda tasks: map(worker, tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    # The kernel closes our end when this process dies, even by SIGKILL, and the workers notice.
    lifeline, our_end = spawn.Pipe(duplex=False)
    with _safe_path(), lifeline, our_end:
        pool = ProcessPoolExecutor(
            processes, spawn, _start_worker, (lifeline, make_worker, settings)
        )
        try:
            yield lambda tasks: _in_order(pool, tasks, 2 * processes)
        except BrokenProcessPool as error:
            # Whoever signals all processes of a build may not have come to this one yet.
            time.sleep(0.5)
            process.raise_if_stopping()
            problem = "a worker process was killed, probably by the kernel because memory ran out"
            raise MachineError(
                problem, advice="run it again with fewer --jobs, or give it more memory"
            ) from error
        finally:
            # Python before 3.11.5 waits until tasks are read that nobody is left to read
            # (python/cpython#94777). Closed before the workers end: then a thread of the pool closes
            # it, too, and when both do so at once, that thread can wait for ever.
            pool._call_queue._reader.close()  # type: ignore[attr-defined]
            our_end.close()
            pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, tasks: Iterable[Any], ahead: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    for task in tasks:
        waiting.append(pool.submit(_run_task, task))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Keep Python processes that are started here from importing modules of the working directory,
    which may be a checkout.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


# In a worker process:

_worker: Callable[[], Worker]


def _start_worker(
    lifeline: Connection, make: Callable[[_Settings], Worker], settings: _Settings
) -> None:
    global _worker
    os.setsid()  # Ctrl-C in a terminal is for the process that started this one
    threading.Thread(target=_exit_with_starter, args=(lifeline,), daemon=True).start()
    # Made by the first task, whose result can be what it raises.
    _worker = functools.cache(lambda: make(settings))


def _exit_with_starter(lifeline: Connection) -> None:
    """End this process when the other end of `lifeline` is closed."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)


def _run_task(task: Any) -> Any:
    return _worker()(task)
