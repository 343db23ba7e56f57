"""How a process ends: nothing that was said or promised gets lost, and nothing waits."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import atexit, sys, threading, time
from pipeline_steps.toolbox.leave import leave
atexit.register(print, "promised")
threading.Thread(target=time.sleep, args=(60,)).start()
sys.stdout.write("said ")
leave(8)
"""


def test_what_was_said_and_promised_is_done_and_no_thread_is_awaited() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (8, "said promised\n")


def test_a_reader_that_has_gone_is_told_as_shells_do() -> None:
    child = subprocess.Popen([sys.executable, "-m", "pipeline_steps", "list"], stdout=subprocess.PIPE, bufsize=0)
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait(30) == 141
