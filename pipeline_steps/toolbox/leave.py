"""The end of a process, without taking the interpreter apart: that would take as long as all that a small step does.

What must happen at an exit happens: functions of `atexit` run, both outputs are written out. Threads still running
end with the process; whoever starts some waits for them.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process with an exit code; 141 (128 + SIGPIPE) when the reader of its output has gone."""
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 141
    os._exit(code)
