"""A command on a terminal of its own, as a person starts it: what the terminal got, and answers
typed into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

#: Everything a terminal obeys instead of showing it: CSI sequences, other escapes, single control
#: codes.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b.|[\x00-\x09\x0b-\x1f\x7f]")


class Shown(NamedTuple):
    """code: exit code, below 0 for a signal. raw: all that was written to the terminal, stdout and
    stderr alike.
    """

    code: int
    raw: str

    @property
    def text(self) -> str:
        """What was shown, a line redrawn in place being as many lines."""
        return CONTROL.sub("", self.raw.replace("\r\n", "\n").replace("\r", "\n"))


def _take_terminal() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def on_terminal(
    command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str], *, answer: str = "", columns: int = 100,
    seconds: float = 600,
) -> Shown:  # fmt: skip
    """Run a command whose stdin, stdout and stderr are a terminal. answer: typed when it asks with
    "[Y/n] ".
    """
    controller, terminal = pty.openpty()
    # Who sits there is a person, also where the tests run in CI.
    person = {name: value for name, value in environment.items() if name != "CI"}
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        command, cwd=cwd, env={"TERM": "xterm-256color", **person}, stdin=terminal, stdout=terminal, stderr=terminal,
        # Ctrl-C reaches it, also where the tests run in the background of a shell.
        start_new_session=True, preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(terminal)
    read = bytearray()
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if not select.select([controller], [], [], 1)[0]:
                continue
            part = b""
            with contextlib.suppress(
                OSError
            ):  # Linux says EIO when nobody has the other end open any more
                part = os.read(controller, 65536)
            if not part:
                return Shown(process.wait(10), read.decode())
            read += part
            if answer and read.endswith(b"[Y/n] "):
                os.write(controller, answer.encode())
        raise AssertionError(f"not within {seconds:.0f} s: {read.decode(errors='replace')}")
    finally:
        process.kill()
        process.wait()
        os.close(controller)
