from __future__ import annotations

import subprocess
import sys

import pytest

#: Another thread holds the lock: what wants to import waits, and imports when it is released.
_PROGRAM = """
import sys, threading
from pathlib import Path
from pipeline_steps.clusters.kubeconfig import Connection
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.images import docker
from pipeline_steps.toolbox.late_imports import LATE_IMPORT

def use_docker():
    try:
        docker.engine_version()
    except Exception:  # whether there is an engine is another matter
        pass

def use_kubernetes():
    Api(Connection(Path("config"), "ci", "https://127.0.0.1:1"))

use, package = {"docker": (use_docker, "docker"), "kubernetes": (use_kubernetes, "kubernetes")}[sys.argv[1]]
with LATE_IMPORT:
    user = threading.Thread(target=use)
    user.start()
    user.join(2)
    assert package not in sys.modules, "imported beside a thread that holds the lock"
user.join()
assert package in sys.modules
"""


@pytest.mark.parametrize("library", ["docker", "kubernetes"])
def test_a_large_library_is_imported_by_one_thread_at_a_time(library: str) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", _PROGRAM, library], capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stderr
