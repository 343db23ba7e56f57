"""The project `charts` on a Launchpad (a double), with real code hosts: git over HTTPS, or `brz
serve`.

The team `owners` (its member is `boss`) owns the project, its branch `trunk` (`main` in git), and
reviews what goes there; `dev` has branches of its own; `ci` is in no team.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_steps.config.language import LaunchpadReview
from pipeline_steps.reviews.launchpad import Launchpad
from tests.support import bazaars, git_server, gits, launchpads
from tests.support.launchpads import Code, Proposal

USER, PASSWORD = "pusher", "canary-of-a-git-password"


class LpProject:
    """A project with the branches of one source system. Branches are called by their short names,
    "trunk" for the one that all others go to.

    folder: what belongs to it is here. code_url: where its branches are.
    """

    system = ""
    target_name = "trunk"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code_url = ""
        self.ends = contextlib.ExitStack()
        self.codes: dict[str, Code] = {}
        self._services: dict[str, Any] = {}
        self._numbers = itertools.count(1)

    def __enter__(self) -> LpProject:
        self.hub = self.ends.enter_context(launchpads.launchpad())
        for name in ("dev", "boss", "ci", "eve"):
            self.hub.new_person(name)
        owners = self.hub.new_person("owners", [self.hub.people["boss"]])
        self.hub.new_project("charts", owners)
        self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        for service in self._services.values():
            service._browser._connection.close()
        self.ends.close()

    def _begin(self) -> None:
        """Start the code host and make the branch `trunk`."""

    # -- what a system has of its own ---

    def environment(self) -> Mapping[str, str]:
        """The variables with which programs use the code host as somebody who may write there."""
        return {}

    def branch(self, name: str) -> None:
        """dev begins a branch from `trunk`."""

    def url(self, name: str) -> str:
        """The address of a branch, or of its repository."""
        raise NotImplementedError

    def identity(self, name: str) -> str:
        """A branch as people write it: lp:…"""
        raise NotImplementedError

    def tip(self, name: str) -> str:
        """Its newest revision, on the code host."""
        raise NotImplementedError

    def commit(self, name: str, files: Mapping[str, str | None], message: str = "change") -> str:
        """Push a revision that has these files (None: not any more)."""
        raise NotImplementedError

    def check_out(self, folder: Path) -> Path:
        """A checkout of `trunk` as its maintainer has it."""
        raise NotImplementedError

    def read(self, path: str, name: str = "trunk") -> str:
        """A file at the newest revision of a branch."""
        raise NotImplementedError

    def parents(self, revision: str) -> list[str]:
        """The parents of a revision of `trunk`."""
        raise NotImplementedError

    def tag(self, name: str, tag: str, revision: str) -> None:
        """Tag a revision of a branch, on the code host."""
        raise NotImplementedError

    def tags(self, name: str) -> list[str]:
        """The names of the tags of a branch, or of its repository, on the code host."""
        raise NotImplementedError

    # -- Launchpad ---

    def next_branch(self) -> str:
        """The name of a new branch of dev."""
        name = f"fix{next(self._numbers)}"
        self.branch(name)
        return name

    def propose(self, source: str, target: str = "trunk", message: str = "") -> Proposal:
        dev = self.hub.people["dev"]
        arguments = {"commit_message": message or None}
        return self.codes[source].propose(dev, self.codes[target], arguments)

    def settings(self, person: str) -> dict[str, str]:
        """`review.launchpad` with the token of a person."""
        token = self.folder / f"{person}.token"
        token.write_text(self.hub.token(self.hub.people[person]))
        token.chmod(0o600)
        return {
            "api_url": self.hub.root,
            "token_file": str(token),
            f"{self.system}_url": self.code_url,
        }

    def reviews(self, person: str) -> Launchpad:
        settings = LaunchpadReview(**self.settings(person))
        return Launchpad(settings, {}, self.url("trunk"))

    def as_person(self, person: str, proposal: Proposal) -> Any:
        """launchpadlib's object of a proposal, for what a person does there."""
        from launchpadlib.credentials import Credentials
        from launchpadlib.launchpad import Launchpad as Service

        if person not in self._services:
            credentials = Credentials.from_string(self.hub.token(self.hub.people[person]))
            self._services[person] = Service(
                credentials, None, None, service_root=self.hub.root, version=launchpads.VERSION
            )
        return self._services[person].load(proposal.link)

    def approve(self, proposal: Proposal, revision: str = "") -> None:
        """boss approves a revision, the newest when none is given."""
        tip = revision or proposal.source.tip()
        self.as_person("boss", proposal).setStatus(status="Approved", revid=tip)


class GitProject(LpProject):
    """Two repositories: the project's own, and dev's copy."""

    system = "git"
    target_name = "main"

    def _begin(self) -> None:
        code, config = self.folder / "code", self.folder / "gitconfig"
        hosted = {"http__receivepack": "true", "uploadpack__allowAnySHA1InWant": "true"}
        for name in ("owners", "dev"):
            gits.bare(code / f"~{name}/charts/+git/charts", **hosted)
        serving = self.ends.enter_context(git_server.https(code, USER, PASSWORD, public=True))
        self.code_url = f"https://{serving.host}/"
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        config.write_text(
            f'{gits.CONFIG}[http "{self.code_url}"]\n    sslCAInfo = {serving.ca_file}\n'
            f"    extraHeader = Authorization: Basic {login}\n"
        )
        self.repositories = {
            "owners": self.hub.new_repository(
                "~owners/charts/+git/charts", code / "~owners/charts/+git/charts", short="charts"
            ),
            "dev": self.hub.new_repository(
                "~dev/charts/+git/charts", code / "~dev/charts/+git/charts"
            ),
        }
        (code / "~owners/charts/+git/charts/HEAD").write_text("ref: refs/heads/main\n")
        self._git("init", "-q", "work")
        self.commit("trunk", {})
        self._remember("trunk")

    def environment(self) -> Mapping[str, str]:
        return {"GIT_CONFIG_GLOBAL": str(self.folder / "gitconfig"), "GIT_CONFIG_NOSYSTEM": "1"}

    def branch(self, name: str) -> None:
        self._git("fetch", "-q", self._folder("trunk"), self._ref("trunk"), below="work")
        self._push(name, self.tip("trunk"))
        self._remember(name)

    def _remember(self, name: str) -> None:
        ref = self.repositories[self._owner(name)].ref(self._ref(name))
        assert ref is not None
        self.codes[name] = ref

    @staticmethod
    def _owner(name: str) -> str:
        return "owners" if name in ("trunk", "stable") else "dev"

    @staticmethod
    def _ref(name: str) -> str:
        return f"refs/heads/{'main' if name == 'trunk' else name}"

    def _git(self, *words: str, below: str = "", feed: str | None = None) -> str:
        ran = subprocess.run(
            ["git", *words],
            cwd=self.folder / below,
            input=feed,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), **self.environment()},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, f"git {words}: {ran.stderr}"
        return ran.stdout.strip()

    def _folder(self, name: str) -> str:
        return str(self.folder / f"code/~{self._owner(name)}/charts/+git/charts")

    def _push(self, name: str, revision: str) -> None:
        self._git("push", "-q", self._folder(name), f"{revision}:{self._ref(name)}", below="work")

    def url(self, name: str) -> str:
        return f"{self.code_url}~{self._owner(name)}/charts/+git/charts"

    def identity(self, name: str) -> str:
        return f"lp:~{self._owner(name)}/charts/+git/charts:{self._ref(name)}"

    def tip(self, name: str) -> str:
        tips = self._git(
            "for-each-ref", "--format=%(objectname)", self._ref(name), below=self._folder(name)
        )
        return tips

    def commit(self, name: str, files: Mapping[str, str | None], message: str = "change") -> str:
        work, tip = self.folder / "work", self.tip(name)
        if tip:
            self._git("fetch", "-q", self._folder(name), self._ref(name), below="work")
            self._git("checkout", "-q", "--detach", "FETCH_HEAD", below="work")
        write(work, files)
        self._git("add", "-A", below="work")
        self._git("commit", "-q", "--allow-empty", "-m", message, below="work")
        revision = self._git("rev-parse", "HEAD", below="work")
        self._push(name, revision)
        return revision

    def check_out(self, folder: Path) -> Path:
        self._git("clone", "-q", self.url("trunk"), str(folder))
        return folder

    def read(self, path: str, name: str = "trunk") -> str:
        return self._git("show", f"{self._ref(name)}:{path}", below=self._folder(name))

    def parents(self, revision: str) -> list[str]:
        shown = self._git("rev-list", "--parents", "-1", revision, below=self._folder("trunk"))
        return shown.split()[1:]

    def tag(self, name: str, tag: str, revision: str) -> None:
        self._git("tag", tag, revision, below=self._folder(name))

    def tags(self, name: str) -> list[str]:
        return self._git("tag", below=self._folder(name)).split()


class BazaarProject(LpProject):
    """A branch of the project, and others of dev."""

    system = "bzr"

    def _begin(self) -> None:
        code = self.folder / "code"
        server = self.ends.enter_context(bazaars.server(code))
        self._committed: dict[str, str] = {}
        self.code_url = server.url.removesuffix("trunk")
        self._brz("init", "-q", "--create-prefix", "--no-tree", str(self._folder("trunk")))
        self.commit("trunk", {})
        self._remember("trunk")

    def environment(self) -> Mapping[str, str]:
        return bazaars.environment(self.folder)

    def _brz(self, *words: str) -> str:
        return bazaars.brz(self.folder, self.folder, *words)

    def _path(self, name: str) -> str:
        return f"~{'owners' if name in ('trunk', 'stable') else 'dev'}/charts/{name}"

    def _folder(self, name: str) -> Path:
        return self.folder / "code" / self._path(name)

    def _remember(self, name: str) -> None:
        self.codes[name] = self.hub.new_branch(self._path(name), self._folder(name))

    def branch(self, name: str) -> None:
        self._folder(name).parent.mkdir(parents=True, exist_ok=True)
        self._brz("branch", "-q", "--no-tree", str(self._folder("trunk")), str(self._folder(name)))
        self._remember(name)

    def url(self, name: str) -> str:
        return f"{self.code_url}{self._path(name)}"

    def identity(self, name: str) -> str:
        return f"lp:{self._path(name)}"

    def tip(self, name: str) -> str:
        return (self._folder(name) / ".bzr/branch/last-revision").read_text().split()[1]

    def commit(self, name: str, files: Mapping[str, str | None], message: str = "change") -> str:
        work = self.folder / f"work-{name}"
        if not work.exists():
            self._brz("checkout", "-q", "--lightweight", str(self._folder(name)), str(work))
        elif self._committed.get(name) != self.tip(name):
            bazaars.brz(work, self.folder, "update", "-q")
        write(work, files)
        if files:
            bazaars.brz(work, self.folder, "add", "-q")
        bazaars.brz(work, self.folder, "commit", "-q", "--unchanged", "-m", message)
        self._committed[name] = self.tip(name)
        return self._committed[name]

    def check_out(self, folder: Path) -> Path:
        self._brz("branch", "-q", self.url("trunk"), str(folder))
        return folder

    def read(self, path: str, name: str = "trunk") -> str:
        return self._brz("cat", "-d", str(self._folder(name)), path)

    def parents(self, revision: str) -> list[str]:
        shown = self._brz(
            "log", "-r", f"revid:{revision}", "--show-ids", "-n1", str(self._folder("trunk"))
        )
        return [line.split(": ")[1] for line in shown.splitlines() if line.startswith("parent:")]

    def tag(self, name: str, tag: str, revision: str) -> None:
        self._brz("tag", "-q", "-d", str(self._folder(name)), "-r", f"revid:{revision}", tag)

    def tags(self, name: str) -> list[str]:
        shown = self._brz("tags", "-d", str(self._folder(name)))
        return [line.split()[0] for line in shown.splitlines()]


def write(folder: Path, files: Mapping[str, str | None]) -> None:
    for path, text in files.items():
        place = folder / path
        if text is None:
            place.unlink()
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


SYSTEMS: dict[str, type[LpProject]] = {"git": GitProject, "bzr": BazaarProject}
