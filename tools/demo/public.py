#!/usr/bin/env python3
"""`make demo-public`: a public chart repository on Launchpad, from a proposed branch to published
charts.

    python3 tools/demo/public.py up [--yes]

Needs no engine and no cluster. The branches are real ones of Bazaar, on a real `brz serve`;
Launchpad itself cannot be had, so a double of its API, which knows its description, stands for it
and ends with this command. `make demo-down` removes the rest. Exit codes: 0; 8 a step of the story
failed; 7 this machine cannot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools import environment, systems
from tools.demo import demo
from tools.machine import ends_with_exit_code, say, seconds_since
from tools.programs import debian, programs

FOLDER = demo.DEMO / "public"
PURPOSES = ("python", "sources")


def up(*, yes: bool) -> int:
    """Run the demo; returns the exit code of the story."""
    start = time.monotonic()
    install(yes=yes)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    helm = programs.get("helm4")
    path = systems.path_with(environment.VENV / "bin", helm)
    story = [str(environment.PYTHON), "-m", "tools.demo.public_story", str(FOLDER)]
    code = subprocess.run(story, cwd=environment.ROOT, env={**os.environ, "PATH": path}).returncode
    seconds = seconds_since(start)
    say(f"demo: {'done' if code == 0 else f'stopped with exit code {code}'} after {seconds}")
    if code == 0:
        say(f"The published charts: {(FOLDER / 'published').relative_to(demo.ROOT)}")
        say("make demo-down ends and removes everything but packages and the cache.")
    return code


def install(*, yes: bool) -> None:
    """Say what is missing and where it goes, ask, install. Raises Cannot."""
    packages = systems.missing_packages(list(PURPOSES))
    built = systems.missing_programs(["helm4"], kubernetes=False)
    systems.ask_to_install("make demo-public", packages, built, yes=yes)
    debian.install(list(PURPOSES), yes=True)
    systems.get(["helm4"])()
    environment.ensure()


def main(argv: list[str]) -> int:
    return demo.run_demo(argv, "From a proposed branch to published charts.", up)


if __name__ == "__main__":
    ends_with_exit_code(main)
