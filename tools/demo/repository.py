"""The demo's git repository: made once from the example, then the user's to change."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tools.machine import Cannot, say

IGNORED = shutil.ignore_patterns(".pipeline", "__pycache__")


def ensure(target: Path, example: Path) -> None:
    """Make `target` a repository with one commit on main, unless it is one already. Raises Cannot.

    The image's one foreign program is committed there too: a clone of the repository can build the
    image.
    """
    if (target / ".git").exists():
        say(f"repository: {target} as it is")
        return
    aside = target.with_name(f".{target.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(example, aside, symlinks=True, ignore=IGNORED)
    run([str(aside / "prepare")], aside)
    git(aside, "init", "--quiet", "--initial-branch=main")
    git(aside, "config", "user.name", "Demo")
    git(aside, "config", "user.email", "demo@example.com")
    git(aside, "add", "--force", "--all")
    git(aside, "commit", "--quiet", "--message", "Add hello, a chart with an image of its own")
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    say(f"repository: {target} made from {example.name}")


def git(folder: Path, *words: str) -> str:
    """Run git there, without the user's and the CI's own settings. Raises Cannot."""
    return run(["git", *words], folder)


def run(command: list[str], folder: Path) -> str:
    """Run a program that must succeed; returns its stdout. Raises Cannot."""
    git_variables = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    completed = subprocess.run(
        command, cwd=folder, env={**clean, **git_variables}, capture_output=True, text=True
    )
    if completed.returncode:
        raise Cannot(
            f"{' '.join(command[:2])} failed: "
            f"{completed.stderr.strip() or completed.stdout.strip()}"
        )
    return completed.stdout
