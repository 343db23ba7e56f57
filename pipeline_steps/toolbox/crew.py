"""Work shared among Python processes of our own, each of which makes one worker and gives it task after task.

    with crew("pipeline_steps.regeneration.repackaging:Remaker", settings, 4) as each:
        for result in each(tasks): ...

Tasks and results are pickled between processes that run the same program, over pipes that nobody else has. A worker
ends when its pipe does, so none outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
import queue
import struct
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from pipeline_steps.toolbox import process

Each = Callable[[Iterable[Any]], Iterator[Any]]
_LENGTH = struct.Struct(">Q")


@contextlib.contextmanager
def crew(maker: str, settings: object, number: int) -> Iterator[Each]:
    """A function that gives the results of tasks, in their order; a few are under way at a time.

    maker: "module:NAME", called with `settings` in each process; what it returns is called with each task, and its
    `close` at the end. number: of processes; with one, all is done in this process.
    """
    with contextlib.ExitStack() as stack:
        if number <= 1:
            worker = stack.enter_context(contextlib.closing(_made(maker, settings)))
            yield lambda tasks: map(worker, tasks)
            return
        command = [sys.executable, "-m", __name__]
        where = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        # Started in the root folder: `-m` looks for modules where it is started.
        started = (process.conversation(command, cwd=Path("/"), env=where) for _ in range(number))
        children = [stack.enter_context(each) for each in started]
        for child in children:
            _send(child.stdin, (maker, settings))
        idle: queue.Queue[subprocess.Popen[bytes]] = queue.Queue()
        for child in children:
            idle.put(child)
        pool = stack.enter_context(ThreadPoolExecutor(number))
        for child in children:  # they end before the threads that wait for them are joined
            stack.callback(process.stop, child)
        yield lambda tasks: _shared(pool, idle, tasks, number)


def _shared(
    pool: ThreadPoolExecutor, idle: queue.Queue[subprocess.Popen[bytes]], tasks: Iterable[Any], number: int
) -> Iterator[Any]:
    def ask(task: Any) -> Any:
        child = idle.get()
        try:
            _send(child.stdin, task)
            good, answer = _received(child.stdout)
        except (EOFError, BrokenPipeError):
            process.go_on()  # it was ended because we are
            good, answer = False, child.stderr.read().decode(errors="replace") if child.stderr else ""
        finally:
            idle.put(child)
        if not good:
            raise RuntimeError(f"in a worker:\n{answer}")
        return answer

    waiting: deque[Future[Any]] = deque()
    for task in tasks:
        waiting.append(pool.submit(ask, task))
        if len(waiting) > 2 * number:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _send(stream: Any, value: object) -> None:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _received(stream: Any) -> Any:
    head = stream.read(_LENGTH.size)
    data = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if not data:
        raise EOFError
    return pickle.loads(data)


def _made(maker: str, settings: object) -> Any:
    module, _, name = maker.partition(":")
    return getattr(importlib.import_module(module), name)(settings)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer tasks until there are no more; the first message says who does the work."""
    with contextlib.suppress(EOFError), contextlib.closing(_made(*_received(requests))) as worker:
        while True:
            task = _received(requests)
            try:
                answer = (True, worker(task))
            except Exception:  # told where the work was asked for
                answer = (False, traceback.format_exc())
            _send(answers, answer)


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout.buffer, sys.stderr  # what a library prints is no answer
    _serve(sys.stdin.buffer, answers)
