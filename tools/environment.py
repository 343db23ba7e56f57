#!/usr/bin/env python3
"""The checkout's virtual environment: made once, made again when the pinned requirements change.

    python3 tools/environment.py     # prints the path of its python

`.venv` holds the exact versions of requirements/test.txt and this checkout itself (editable, entry
point included).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from tools.machine import Cannot, ends_with_exit_code, locked, say, seconds_since

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
STAMP = VENV / "made-from"
OLDEST = (3, 10)
#: What the environment was made from; a change of any makes it anew.
SOURCES = ("requirements/run.txt", "requirements/test.txt", "setup.cfg", "pyproject.toml")


def ensure() -> Path:
    """The python of an environment that has what the requirements say. Raises Cannot."""
    if sys.version_info < OLDEST:
        raise Cannot(
            f"Python {sys.version.split()[0]} is too old: {'.'.join(map(str, OLDEST))} or "
            "newer is needed"
        )
    with locked(ROOT / ".venv.lock", "virtual environment"):
        if is_stale():
            start = time.monotonic()
            say("virtual environment: installing pinned packages (PyPI) into .venv")
            if not PYTHON.exists():
                run([sys.executable, "-m", "venv", str(VENV)])
            pip("--requirement", str(ROOT / "requirements/test.txt"))
            # A line in a .pth file instead of an import hook, which every start of a step would pay
            # for.
            compat = ("--config-settings", "editable_mode=compat")
            pip("--no-deps", "--no-build-isolation", *compat, "--editable", str(ROOT))
            STAMP.write_text(fingerprint())
            say(f"virtual environment: ready in {seconds_since(start)}")
    return PYTHON


def is_stale() -> bool:
    """Whether the environment is missing or made from something else."""
    return not (PYTHON.exists() and STAMP.exists() and STAMP.read_text() == fingerprint())


def fingerprint() -> str:
    """Digest of everything the environment is made from."""
    return hashlib.sha256(b"\0".join((ROOT / name).read_bytes() for name in SOURCES)).hexdigest()


def pip(*words: str) -> None:
    run([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words])


def run(command: list[str]) -> None:
    """Run a command that must succeed. Raises Cannot with what it said."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    completed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if completed.returncode:
        output = (completed.stdout + completed.stderr).strip()[-2000:]
        advice = (
            "\npython3 tools/programs/programs.py packages python" if "ensurepip" in output else ""
        )
        raise Cannot(f"{' '.join(command)} failed:\n{output}{advice}")


def main(argv: list[str]) -> int:
    print(ensure())
    return 0


if __name__ == "__main__":
    ends_with_exit_code(main)
