"""Read, with a time limit, what a program that stays answers on its pipe."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import PipelineError, Temporary

_BLOCK = 2**20


class AnswerPipe:
    """The standard output of a program that `process.conversation` started.

    Args:
        argv: the program as errors name it; where: what it answers about.
        stderr: the file that gets its standard error.
        failure: the error for its end.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        child: subprocess.Popen[bytes],
        stderr: IO[bytes],
        where: Path,
        failure: Callable[[process.Completed], PipelineError],
    ) -> None:
        assert child.stdout is not None, "opened as a pipe"
        self._argv, self._child, self._stderr = argv, child, stderr
        self._where, self._failure = where, failure
        self._descriptor = child.stdout.fileno()
        # A blocking read could wait for ever on a server that the program asks.
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._data = bytearray()

    def line(self, timeout: float) -> bytes:
        """The next line, without its end.

        timeout: seconds without a byte. Raises Temporary when they pass, and what `ended` returns.
        """
        start = 0
        while (end := self._data.find(b"\n", start)) < 0:
            start = len(self._data)
            self._read(timeout)
        line = bytes(memoryview(self._data)[:end])
        del self._data[: end + 1]
        return line

    def block(self, size: int, timeout: float, *, end: bytes = b"") -> bytes:
        """The next `size` bytes; `end` follows them and is dropped. Raises as `line` does."""
        while len(self._data) < size + len(end):
            self._read(timeout)
        # Copied once, without slicing the whole buffer.
        block = bytes(memoryview(self._data)[:size])
        del self._data[: size + len(end)]
        return block

    def _read(self, timeout: float) -> None:
        if not self._poll.poll(1000 * timeout):
            raise Temporary(
                f"{' '.join(self._argv)} took too long",
                where=str(self._where),
                advice="run it again",
            )
        data = os.read(self._descriptor, _BLOCK)
        if not data:
            raise self.ended()
        self._data += data

    def ended(self) -> PipelineError:
        """The error with the program's own message, after it ended."""
        process.raise_if_stopping()  # it ended because this process was told to end
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(process.GRACE)
        self._stderr.seek(0)
        return self._failure(
            process.Completed(self._argv, self._child.returncode, b"", self._stderr.read())
        )
