"""How the process of `pipeline-steps` ends."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_closed_stdout_ends_list_with_128_plus_sigpipe() -> None:
    reader, writer = os.pipe()
    os.close(reader)  # before the start: `list` ends within 30 ms
    child = subprocess.Popen([sys.executable, "-m", "pipeline_steps", "list"], stdout=writer)
    os.close(writer)
    assert child.wait(30) == 141
