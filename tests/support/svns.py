"""Real Subversion repositories, working copies and servers in throw-away folders."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

from tests.support import daemons
from tests.support.checkouts import Checkout, WorkingFiles

LAYOUT = ("trunk", "branches", "tags")
_ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


def svn(*arguments: str, cwd: Path | None = None, program: str = "svn") -> str:
    """Standard output of a program of Subversion, which must succeed."""
    options = [] if program in ("svnadmin", "svnversion") else ["--non-interactive"]
    environment = {**_ENVIRONMENT, "HOME": os.environ.get("HOME", "/")}
    environment["SVN_SSH"] = os.environ.get("SVN_SSH", "ssh")
    ran = subprocess.run(
        [program, *options, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, f"{program} {arguments}: {ran.stderr}"
    return ran.stdout.strip()


def repository(folder: Path, project: str = "") -> str:
    """The URL of a new repository, with `trunk`, `branches` and `tags` of a project in it."""
    svn("create", str(folder), program="svnadmin")
    url = folder.as_uri()
    svn("mkdir", "-q", "--parents", "-m", "layout", *(f"{url}/{project}{name}" for name in LAYOUT))
    return url


class WorkingCopy(WorkingFiles):
    """A working copy of `url`, a branch's; see `checkouts.Checkout`.

    After a commit its folder is of an older revision than its files, as svn leaves it.
    """

    tags_on_server = True
    takes_control_characters = False

    def __init__(self, folder: Path, url: str) -> None:
        self.root = folder
        self.url = url
        svn("checkout", "-q", url, str(folder))
        self.uuid = self.info("repos-uuid")
        self.repository = self.info("repos-root-url")
        self.branch_path = self.info("relative-url").removeprefix("^/")
        self.branch_name = self.branch_path.split("/")[-1]
        above = re.split(r"(?:^|(?<=/))(?:trunk|branches)(?:/|$)", self.branch_path)[0]
        self.project = url.removesuffix(self.branch_path) + above

    def svn(self, *arguments: str) -> str:
        return svn(*arguments, cwd=self.root)

    def info(self, item: str) -> str:
        return self.svn("info", "--show-item", item, str(self.root))

    def set_executable(self, path: str, executable: bool) -> None:
        place = local(self.root / path)
        if executable:
            self.svn("propset", "-q", "svn:executable", "*", place)
        else:
            self.svn("propdel", "-q", "svn:executable", place)

    def ignore(self, pattern: str) -> None:
        name = "svn:global-ignores"
        before = self.svn("propget", name, ".") if name in self.svn("proplist", ".") else ""
        self.svn("propset", "-q", name, f"{before}\n{pattern}".strip(), ".")

    def commit(self, message: str = "change") -> str:
        """Commit everything as it stands, also nothing. Returns the revision's id."""
        for line in self.svn("status").splitlines():
            if line.startswith(("!", "~")):  # missing, or of another kind now
                self.svn("rm", "-q", "--keep-local", local(self.root / line[8:]))
        self.svn("add", "-q", "--force", ".")
        changes = self.svn("status", "-q")
        if not changes or changes.startswith(" M      .\n") or changes == "M      .":
            self.svn("update", "-q")  # svn takes no change of a folder that is older than its files
        if not changes:
            self.svn("propset", "-q", "test:number", self.info("revision"), ".")
        output = self.svn("commit", "-m", message)
        match = re.search(r"Committed revision ([0-9]+)", output)
        assert match, output
        return self.id(int(match[1]))

    def id(self, number: int) -> str:
        return f"r{number}:{self.branch_path}:{self.uuid}"

    def tag(self, name: str, revision: str) -> None:
        number, branch = revision.rpartition(":")[0].removeprefix("r").split(":", 1)
        url = f"{self.repository}/{quote(branch)}"
        svn("copy", "-q", "-m", "", f"{url}@{number}", self.tag_url(name))

    def tag_url(self, name: str) -> str:
        return f"{self.project.rstrip('/')}/tags/{quote(name)}"

    def branch(self, name: str) -> WorkingCopy:
        url = f"{self.project.rstrip('/')}/branches/{name}"
        svn("copy", "-q", "-m", "branch", self.url, url)
        return WorkingCopy(self.root.with_name(f"{self.root.name}-{name}"), url)

    def merge(self, branch: Checkout) -> str:
        assert isinstance(branch, WorkingCopy)
        self.svn("update", "-q")
        self.svn("merge", "-q", branch.url)
        return self.commit("merge")

    def push(self) -> None:
        """A commit is on the server already."""


def local(path: Path) -> str:
    return f"{path}@" if "@" in str(path) else str(path)


def environment(_folder: Path) -> dict[str, str]:
    return {}


def checkout(folder: Path) -> WorkingCopy:
    return WorkingCopy(folder / "checkout", f"{repository(folder / 'svn-repository')}/trunk")


def tunnel(folder: Path) -> dict[str, str]:
    """The variables under which svn+ssh:// leads to a `svnserve` of this machine, without SSH."""
    script = folder / "tunnel"
    script.write_text("#!/bin/sh\nexec svnserve --tunnel\n")
    script.chmod(0o755)
    return {"SVN_SSH": str(script)}


def tunnelled(folder: Path) -> WorkingCopy:
    """Like `checkout`, through svnserve."""
    url = repository(folder / "svn-repository").replace("file://", "svn+ssh://localhost")
    return WorkingCopy(folder / "checkout", f"{url}/trunk")


class Svnserve(daemons.Daemon):
    """Subversion's own server. login: who may read and write, a name and a password; None:
    everybody.
    """

    def __init__(self, folder: Path, login: tuple[str, str] | None = None) -> None:
        super().__init__(folder, "svn", "repository")
        self.repository = folder / "repository"
        repository(self.repository)
        conf = self.repository / "conf"
        if login:
            (conf / "passwd").write_text(f"[users]\n{login[0]} = {login[1]}\n")
            access = "anon-access = none\nauth-access = write\npassword-db = passwd\n"
        else:
            access = "anon-access = write\n"
        (conf / "svnserve.conf").write_text(f"[general]\n{access}")

    def checkout(self, folder: Path) -> WorkingCopy:
        return WorkingCopy(folder, f"{self.url}/trunk")

    def command(self) -> list[str]:
        where = ["--listen-host", "127.0.0.1", "--listen-port", str(self.port)]
        return ["svnserve", "-d", "--foreground", "-r", str(self.folder), *where]


def server(folder: Path, login: tuple[str, str] | None = None) -> AbstractContextManager[Svnserve]:
    folder.mkdir(parents=True)
    return daemons.running(Svnserve(folder, login))
