"""Reviews for a world: two proposed changes of its chart on Launchpad (a double that keeps state,
beside real git repositories in the world's folder), both approved: one is merged, one waits for it.

Its state goes back with the world.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.support.gits import Repo, bare
from tests.support.launchpads import Code, Launchpad, Proposal

CHART = "charts/common/Chart.yaml"
MAP = "charts/common/templates/map.yaml"
OVERLAY = """\
review:
  launchpad: {{api_url: "{api}", token_file: "{token}", git_url: "{code}/"}}
approvals: {{code: {{}}}}
"""
#: What was merged, in the checkout from the beginning.
MERGED = "refs/proposed/main"
#: What git writes of a merge that two runs have in common; %b has the approvals.
_SAME = "--format=%P %T %an %s %b"


class Proposals:
    """Proposals into `main` of the repository `url`, which begins as the checkout `source` is.

    waiting: the one to merge, as people write it.
    """

    def __init__(self, root: Path, source: Repo) -> None:
        self.hub = Launchpad()
        self.folder = root / "code"
        self.code = f"file://localhost{self.folder}"
        self.target = "~owners/charts/+git/charts"
        self.url = f"{self.code}/{self.target}"
        self.waiting = "lp:~dev/charts/+git/charts:second"
        self._kept: dict[str, list[dict[str, Any]]] = {}
        people = {name: self.hub.new_person(name) for name in ("dev", "boss", "ci")}
        self.hub.new_project("charts", self.hub.new_person("owners", [people["boss"]]))
        dev = self._working(source)
        first = self._proposal(dev, "first", CHART, source.root / CHART, ("1.0.0", "1.1.0"))
        dev.git("checkout", "-q", "main")
        dev.git("merge", "-q", "--no-ff", "-m", "first", "first")
        dev.git("push", "-q", self.url, "main")
        first.post_setStatus(people["dev"], {"status": "Merged", "revid": self.tip()})
        # No step's preparation asks a repository that belongs to another account then.
        source.git("fetch", "-q", self.url, f"main:{MERGED}")
        self._proposal(dev, "second", MAP, source.root / MAP, ("hello", "good evening"))
        shutil.rmtree(dev.root)
        token = root / "launchpad.token"
        token.write_text(self.hub.token(people["ci"]))
        token.chmod(0o600)
        overlay = OVERLAY.format(api=self.hub.root, token=token, code=self.code)
        (root / "reviews.yaml").write_text(overlay)

    def _working(self, source: Repo) -> Repo:
        """dev's checkout, and the repositories that it pushes to."""
        for owner in ("owners", "dev"):
            name = f"~{owner}/charts/+git/charts"
            folder = bare(self.folder / name)
            shutil.rmtree(folder / "hooks")
            (folder / "HEAD").write_text("ref: refs/heads/main\n")
            source.git("push", "-q", str(folder), "HEAD:refs/heads/main")
            self.hub.new_repository(name, folder)
        return Repo(source.root.parent / "dev", source.config, clone=self.url)

    def _proposal(
        self, dev: Repo, branch: str, path: str, changed: Path, words: tuple[str, str]
    ) -> Proposal:
        """An approved proposal of dev that replaces words of a file."""
        dev.git("checkout", "-q", "-b", branch)
        dev.put(path, (dev.root / path).read_text().replace(*words))
        revision = dev.commit(branch)
        dev.git("push", "-q", self.url.replace("~owners", "~dev"), branch)
        people = self.hub.people
        target = self._code(self.target, "main")
        source = self._code(self.target.replace("owners", "dev"), branch)
        proposal = source.propose(people["dev"], target, {"commit_message": f"Say {branch}"})
        proposal.post_setStatus(people["boss"], {"status": "Approved", "revid": revision})
        return proposal

    def _code(self, repository: str, branch: str) -> Code:
        ref = self.hub.entries[repository].ref(branch)  # type: ignore[attr-defined]
        assert isinstance(ref, Code)
        return ref

    def tip(self) -> str:
        """The newest revision of the target."""
        return self._git("rev-parse", "main").strip()

    def outcome(self) -> dict[str, object]:
        """What merges leave, but for their times: the target's mainline, and what the proposals
        say.
        """
        tip = self.tip()
        return {
            "mainline": self._git("log", "--first-parent", _SAME, "main"),
            "proposals": [
                (each.path, each.status, "the tip" if each.merged == tip else each.merged)
                for each in self.hub.proposals
            ],
        }

    def keep(self, name: str) -> None:
        """Remember the proposals as they are."""
        self._kept[name] = [dict(vars(each)) for each in self.hub.proposals]

    def back(self, name: str) -> None:
        """Let the proposals be what they were; steps change no list of one."""
        for proposal, kept in zip(self.hub.proposals, self._kept[name], strict=True):
            vars(proposal).update(kept)

    def _git(self, *words: str) -> str:
        repository = self.hub.entries[self.target]
        return str(repository._git(*words))  # type: ignore[attr-defined]
