"""Real Bazaar branches in throw-away folders; no configuration of this machine reaches them."""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from tests.support import daemons
from tests.support.checkouts import Checkout, WorkingFiles

ADDRESS = "Tester <tester@example.com>"


class Branch(WorkingFiles):
    """A Bazaar branch with its working tree in `folder`; see `checkouts.Checkout`.

    home: the folder of the only configuration that brz reads besides the branch's own.
    """

    tags_on_server = False
    takes_control_characters = True

    def __init__(self, folder: Path, home: Path, source: str = "") -> None:
        self.root = folder
        self.branch_name = folder.name
        self.home = home
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = ["branch", source, str(folder)] if source else ["init", str(folder)]
        brz(folder.parent, home, *command)

    def brz(self, *arguments: str, code: int = 0) -> str:
        return brz(self.root, self.home, *arguments, code=code)

    def set_executable(self, path: str, executable: bool) -> None:
        (self.root / path).chmod(0o755 if executable else 0o644)

    def ignore(self, pattern: str) -> None:
        with (self.root / ".bzrignore").open("a") as file:
            file.write(f"{pattern}\n")

    def commit(self, message: str = "change") -> str:
        """Commit everything as it stands and return the revision id."""
        self.brz("add", "-q")
        self.brz("commit", "-q", "--unchanged", "-m", message)
        return self.tip()

    def tip(self) -> str:
        return self.brz("revision-info").split()[1]

    def tag(self, name: str, revision: str) -> None:
        self.brz("tag", "-q", "-r", f"revid:{revision}", name)
        if "parent branch:" in self.brz("info"):
            self.push()

    def branch(self, name: str) -> Branch:
        return Branch(self.root.with_name(name), self.home, str(self.root))

    def merge(self, branch: Checkout) -> str:
        self.brz("merge", "-q", str(branch.root))
        return self.commit("merge")

    def push(self) -> None:
        self.brz("push", "-q", ":parent")


def brz(folder: Path, home: Path, *arguments: str, code: int = 0) -> str:
    # In front, because brz looks for its Python beside the first python3 on PATH.
    variables = {"PATH": f"/usr/bin:{os.environ['PATH']}", "HOME": str(home), "LC_ALL": "C.UTF-8"}
    ran = subprocess.run(
        ["brz", *arguments],
        cwd=folder,
        env={**variables, **environment(home)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == code, f"brz {arguments}: {ran.returncode} {ran.stdout}{ran.stderr}"
    return ran.stdout.strip()


def environment(folder: Path) -> dict[str, str]:
    return {"BRZ_HOME": str(folder), "BRZ_EMAIL": ADDRESS, "BRZ_LOG": os.devnull}


def checkout(folder: Path) -> Branch:
    return Branch(folder / "trunk", folder)


class Serve(daemons.Daemon):
    """brz's own server, which anybody may push to. options: of `brz serve`."""

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        super().__init__(folder, "bzr", "trunk")
        self._options = options
        path = {"PATH": f"/usr/bin:{os.environ['PATH']}"}
        self.environment = {**os.environ, **path, **environment(folder)}

    def checkout(self, folder: Path) -> Branch:
        return Branch(folder, self.folder, self.url)

    def command(self) -> list[str]:
        where = [f"--directory={self.folder}", "--listen=127.0.0.1", f"--port={self.port}"]
        return ["brz", "serve", *self._options, *where]


def server(folder: Path, *options: str) -> AbstractContextManager[Serve]:
    """options: of `brz serve`, instead of --allow-writes; "--read-only" for none."""
    folder.mkdir(parents=True)
    brz(folder, folder, "init", "-q", "--no-tree", str(folder / "trunk"))
    write_options = tuple(option for option in options if option != "--read-only")
    return daemons.running(Serve(folder, write_options if options else ("--allow-writes",)))
