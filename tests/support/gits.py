"""Real git repositories in throw-away folders; no configuration of this machine reaches them."""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support import daemons
from tests.support.checkouts import Checkout, WorkingFiles

#: These live for seconds: maintenance would only be two more processes for each commit and fetch.
CONFIG = """\
[user]
    name = Tester
    email = tester@example.com
[init]
    defaultBranch = main
[maintenance]
    auto = false
"""


class Repo(WorkingFiles):
    """A git checkout below `folder`; `config` is the only configuration git reads besides its own.

    See `checkouts.Checkout`.
    """

    tags_on_server = False
    takes_control_characters = True

    def __init__(self, folder: Path, config: Path, clone: str = "") -> None:
        self.root = folder
        self.config = config
        self.branch_name = "main"
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
            "GIT_ALLOW_PROTOCOL": "file:git:http",
        }
        ran = subprocess.run(
            ["git", *arguments], cwd=self.root, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"git {arguments}: {ran.stderr}"
        return ran.stdout.strip()

    def commit(self, message: str = "change") -> str:
        """Commit everything as it stands and return the id."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def set_executable(self, path: str, executable: bool) -> None:
        (self.root / path).chmod(0o755 if executable else 0o644)

    def ignore(self, pattern: str) -> None:
        with (self.root / ".gitignore").open("a") as file:
            file.write(f"{pattern}\n")

    def tag(self, name: str, revision: str) -> None:
        self.git("tag", name, revision)
        if self.git("remote"):
            self.git("push", "-q", "origin", f"refs/tags/{name}")

    def branch(self, name: str) -> Repo:
        other = Repo(self.root.with_name(f"{self.root.name}-{name}"), self.config, str(self.root))
        other.git("checkout", "-q", "-b", name)
        other.branch_name = name
        return other

    def merge(self, branch: Checkout) -> str:
        self.git("fetch", "-q", str(branch.root), branch.branch_name)
        self.git("merge", "-q", "--no-ff", "-m", "merge", "FETCH_HEAD")
        return self.git("rev-parse", "HEAD")

    def push(self) -> None:
        self.git("push", "-q", "origin", f"HEAD:refs/heads/{self.branch_name}")


def environment(folder: Path) -> dict[str, str]:
    config = folder / "gitconfig"
    config.write_text(CONFIG)
    return {"GIT_CONFIG_GLOBAL": str(config)}


def checkout(folder: Path) -> Repo:
    return Repo(folder / "checkout", folder / "gitconfig")


class Daemon(daemons.Daemon):
    """git's own server, which anybody may push to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "git", "repository.git")

    def checkout(self, folder: Path) -> Repo:
        return Repo(folder, self.folder / "gitconfig", clone=self.url)

    def command(self) -> list[str]:
        # Not `git daemon`, which would leave its child behind when it is ended.
        programs = subprocess.check_output(["git", "--exec-path"], text=True).strip()
        command = [f"{programs}/git-daemon", "--export-all", "--enable=receive-pack", "--reuseaddr"]
        where = ["--listen=127.0.0.1", f"--port={self.port}", f"--base-path={self.folder}"]
        return [*command, *where]


def server(folder: Path) -> AbstractContextManager[Daemon]:
    repository = bare(folder / "repository.git")
    (repository / "HEAD").write_text("ref: refs/heads/main\n")
    return daemons.running(Daemon(folder))


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
