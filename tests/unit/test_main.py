"""How the process of `pipeline-steps` ends."""

from __future__ import annotations

import subprocess
import sys


def test_a_closed_stdout_ends_list_with_128_plus_sigpipe() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "pipeline_steps", "list"], stdout=subprocess.PIPE, bufsize=0
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait(30) == 141
