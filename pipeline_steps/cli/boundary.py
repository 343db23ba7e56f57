"""The error boundary: a process ends with an exit code of toolbox/errors and a message for a
person, or as a bug.

Also the place of signals: SIGTERM, SIGINT and SIGHUP become Interrupted in the main thread,
children are ended, and the process is out within four seconds, because CI systems wait five before
they give up on it.
"""

from __future__ import annotations

import _thread
import contextlib
import io
import json
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

import msgspec

from pipeline_steps import __version__
from pipeline_steps.ci import job_log
from pipeline_steps.ci.build import System
from pipeline_steps.ci.detect import system_of
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import Interrupted, PipelineError
from pipeline_steps.toolbox.files import disk_failure
from pipeline_steps.toolbox.redact import printable

log = logging.getLogger("pipeline_steps")

#: Seconds after a signal at which the process ends whatever it is doing.
DEADLINE = 3.8
BUG = 3
#: Set once our children have ended after a signal: who ends earlier would leave those that ignore
#: SIGTERM.
_children_ended: list[threading.Event] = []


def run_main(work: Callable[[], int]) -> int:
    """Run `work` and turn every ending into an exit code; errors are reported on stderr."""
    # Foreign libraries start programs, too (credential helpers, plugins of kubeconfig), never those
    # of a checkout.
    os.environ["PATH"] = process.search_path(os.environ)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale that has no such characters
    try:
        code = work()
        process.raise_if_stopping()  # a signal may have been raised where exceptions are swallowed
        return code
    except BrokenPipeError:
        # The reader of our stdout has gone: nothing is wrong here, but nothing more can be said
        # either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    except BaseException as error:
        return report_error(error)
    finally:
        for ended in _children_ended:
            ended.wait()


def report_error(error: BaseException, *, subject: str = "") -> int:
    """Say on stderr what went wrong, with a traceback when it is a bug; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted(signal.SIGINT)
    error = interruption(error) or disk_failure(error) or error
    if isinstance(error, PipelineError):
        name = f"{subject}: " if subject else ""
        log.error("%s", f"{name}{error}")
        return error.exit_code
    report = "".join(traceback.format_exception(error))
    print(
        printable(
            f"{report}\nThis is a bug in pipeline_steps {__version__} (Python "
            f"{platform.python_version()}): please report it with the lines above."
        ),
        file=sys.stderr,
    )
    return BUG


def interruption(error: BaseException) -> Interrupted | None:
    """The signal to stop, when this process got one and `error` is nobody's refusal: what breaks in
    a library that a signal interrupts, as `threading` at the start of a thread, is no bug.
    """
    try:
        process.raise_if_stopping()
    except Interrupted as stopped:
        return None if isinstance(error, PipelineError) else stopped
    return None


def handle_signals() -> None:
    """Make SIGTERM, SIGINT and SIGHUP raise Interrupted in the main thread, and end the process in
    any case.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A second one would interrupt what cleans up after the first.
        signal.signal(other, signal.SIG_IGN)
    # Before anything else: no thread may start one more child that nobody ends.
    may_raise = process.begin_stopping(number)
    # In a thread, as children get two seconds to end and the main thread must unwind meanwhile. Of
    # _thread: the signal may have come while the main thread starts a thread, and then holds a lock
    # that every threading.Thread needs to start.
    ended = threading.Event()
    _children_ended.append(ended)
    _thread.start_new_thread(_stop_children, (ended,))
    _thread.start_new_thread(_exit_at_deadline, (128 + number,))
    if may_raise:
        raise Interrupted(number)


def _stop_children(ended: threading.Event) -> None:
    try:
        process.stop_all()
    finally:
        ended.set()


def _exit_at_deadline(code: int) -> None:
    time.sleep(DEADLINE)
    # Not sys.exit: neither a hanging thread nor an exit handler may hold the process.
    os._exit(code)


def setup_logging(*, quiet: bool = False, verbose: bool = False) -> None:
    """Send the library's log to stderr, printable; results of steps go to stdout, never through the
    log.
    """
    logger = logging.getLogger("pipeline_steps")
    handler = _Stderr()
    handler.setFormatter(_Printable(system_of(os.environ)))
    # Replaced, not added: `run` sets this up for each of its steps.
    logger.handlers[:] = [handler]
    # A program that calls steps may have handlers at the root, which would print each line again.
    logger.propagate = False
    logger.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)


@contextlib.contextmanager
def warnings_only() -> Iterator[None]:
    """Within it, the library's log has warnings and errors only."""
    logger = logging.getLogger("pipeline_steps")
    before = logger.level
    logger.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(before)


def print_json(value: object) -> None:
    """One JSON object on a line of stdout, in ASCII: whole in every locale, and no terminal obeys it."""
    line = json.dumps(msgspec.to_builtins(value), separators=(",", ":"))
    print(line.replace("\x7f", "\\u007f"), flush=True)


class _Stderr(logging.Handler):
    """Writes to what stderr is at the time: a program that calls a step as a function may replace
    it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


class _Printable(logging.Formatter):
    def __init__(self, reader: System) -> None:
        super().__init__("%(message)s")
        self._reader = reader

    def format(self, record: logging.LogRecord) -> str:
        return job_log.harmless(self._reader, printable(super().format(record)))
