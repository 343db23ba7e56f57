"""Real git repositories in throw-away folders; no configuration of this machine reaches them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

CONFIG = """\
[user]
    name = Tester
    email = tester@example.com
[init]
    defaultBranch = main
"""


class Repo:
    """A git checkout below `folder`; `config` is the only configuration git reads besides its own."""

    def __init__(self, folder: Path, config: Path, clone: str = "") -> None:
        self.root = folder
        self.config = config
        if not config.exists():
            config.write_text(CONFIG)
        folder.mkdir(parents=True, exist_ok=True)
        self.git(*(("clone", "-q", clone, ".") if clone else ("init", "-q")))

    def git(self, *arguments: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.config.parent),
            "GIT_CONFIG_GLOBAL": str(self.config),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ALLOW_PROTOCOL": "file",
        }
        ran = subprocess.run(
            ["git", *arguments], cwd=self.root, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"git {arguments}: {ran.stderr}"
        return ran.stdout.strip()

    def put(self, path: str, text: str | bytes, *, executable: bool = False) -> Path:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)
        place.chmod(0o755 if executable else 0o644)
        return place

    def commit(self, message: str = "change") -> str:
        """Commit everything as it stands and return the id."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


def bare(folder: Path, **settings: str) -> Path:
    """A repository without a checkout, as servers have it. settings: section__name → value of its
    configuration.
    """
    folder.mkdir(parents=True)
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    commands = [
        ["init", "-q", "--bare"],
        *(["config", key.replace("__", "."), settings[key]] for key in settings),
    ]
    for command in commands:
        subprocess.run(["git", *command], cwd=folder, env=environment, check=True)
    return folder


CHART = "apiVersion: v2\nname: {name}\nversion: {version}\n"


def chart(name: str, version: str = "0.1.0", *dependencies: str, more: str = "") -> str:
    """The Chart.yaml of a chart; dependencies are names of charts in folders beside it."""
    text = CHART.format(name=name, version=version) + more
    if dependencies:
        text += "dependencies:\n"
    for dependency in dependencies:
        text += f"  - {{name: {dependency}, version: 0.1.0, repository: file://../{dependency}}}\n"
    return text
