"""Bazaar through brz (Breezy 3.3 or newer): checkouts, branches without a working tree, and tags of
remote ones.

`bzr_revisions` reads files of revisions, `bzr_tree` the working tree, `bzr_program` runs brz.
"""

from __future__ import annotations

import fnmatch
import functools
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_steps.auth.hosts import Host
from pipeline_steps.sources import bzr_program as program
from pipeline_steps.sources.bzr_program import BrzError
from pipeline_steps.sources.bzr_revisions import Inventories
from pipeline_steps.sources.bzr_tree import CheckoutTree
from pipeline_steps.sources.source import Node, Tag, Tree, refuse_password, without_login
from pipeline_steps.sources.tree import StoredTree, is_added_or_stored, is_pipeline_output
from pipeline_steps.toolbox import clock, files
from pipeline_steps.toolbox.errors import (
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    UsageError,
)

_TAG_MOVED = "a tag is never moved: raise the version, or tag that revision"
#: The time of a tag whose revision is not here; nothing can be read of it.
_NO_TIME = "1970-01-01T00:00:00Z"


class Bazaar:
    """The checkout, or the branch without one, with the top folder `root`; see `source.Source`.

    A revision is a revision id. Whoever names one may use a tag or a revno, too.
    """

    system = "bzr"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hosts: Mapping[str, Host] = {}  # brz has a store of its own
        self.revisions = Inventories(root)

    @functools.cached_property
    def _head(self) -> dict[str, Any]:
        head: dict[str, Any] = self.revisions.ask("head").value
        return head

    @property
    def fetch_command(self) -> str:
        """The command for the newest history."""
        return "brz update" if self._head["bound"] else "brz pull"

    def checkout_command(self, revision: str, reference: str) -> str:
        """A branch of its own, from where this one came."""
        origin = self.remote_url or "."
        return shlex.join(["brz", "branch", "-r", f"revid:{revision}", origin, "under-test"])

    @property
    def remote_url(self) -> str:
        """The URL of the branch that this one is bound to, else of its parent."""
        return without_login(str(self._head["remote"]))

    def revision(self, name: str = "") -> str:
        """The revision id of what is checked out, or of a tag, a revision id or a revno."""
        if not name:
            if not self._head["revision"]:
                raise UsageError(
                    "there is no revision yet",
                    where=str(self.root),
                    advice="commit something first",
                )
            return str(self._head["revision"])
        resolved = None if _is_strange(name) else self.revisions.ask("resolve", name=name).value
        if not resolved:
            advice = f"run {self.fetch_command}, or correct the name"
            raise UsageError(
                f"there is no revision {name!r} here", where=str(self.root), advice=advice
            )
        return str(resolved)

    def tree(self, revision: str | None, folder: str) -> Tree:
        """The tree of `revision` below `folder`; None: the working tree with its uncommitted
        changes.
        """
        if revision is not None:
            return StoredTree(self.revisions, self.revision(revision), folder)
        self.revision()  # there is one
        checked_out, changes = self.revisions.ask("changes").value
        return CheckoutTree(self.revisions, checked_out, folder, changes)

    def is_versioned(self, path: str) -> bool:
        """Whether a file is versioned."""
        return bool(self.revisions.ask("is_versioned", path=path).value)

    def is_tracked(self, path: str) -> bool:
        """Whether a file is in the revision that is checked out, or added."""
        return is_added_or_stored(self, path)

    def branch(self) -> str | None:
        """The branch's own name, or its nick: what its folder is called, or the one it is bound to."""
        return str(self._head["branch"]) or None

    def tip(self, branch: str) -> str:
        """The newest revision of a branch: of the parent when it is called so, else of one beside
        this one. It is copied here, because `brz pull` would not do it where this branch has others.
        """
        newest = self.revisions.ask("tip", timeout=program.REMOTE, name=branch).value
        if not newest:
            raise self._no_branch(branch)
        return str(newest)

    def base(self, target: str) -> str:
        """The common ancestor of what is checked out and a branch (see `tip`) or a revision."""
        ancestor = "" if _is_strange(target) else self.revisions.ask("base", name=target).value
        if ancestor == "":
            raise self._no_branch(target)
        if ancestor is None:
            raise UsageError(
                f"what is checked out and {target} have no common ancestor",
                where=str(self.root),
                advice="name a branch that this one came from: --since",
            )
        return str(ancestor)

    def common_ancestor(self, one: str, other: str) -> str | None:
        """The newest revision that leads to both; None without any."""
        answer = self.revisions.ask(
            "common_ancestor", one=self.revision(one), other=self.revision(other)
        )
        return None if answer.value is None else str(answer.value)

    def parents(self, revision: str) -> tuple[str, ...]:
        """The parents, the left-hand one first, as far as they are here."""
        return tuple(self.revisions.ask("parents", revision=self.revision(revision)).value)

    def fetch_revision(self, revision: str, reference: str) -> None:
        """Copy a revision and what leads to it from the branch at the URL `reference`."""
        if self.revisions.ask("has_revision", revision=revision).value:
            return
        try:
            answer = self.revisions.call(
                "fetch_revision", timeout=program.REMOTE, url=reference, revision=revision
            )
        except BrzError as error:
            raise program.failure(reference, error) from error
        if not answer.value:
            advice = "it was removed there: approve the revision that is there now"
            raise UsageError(
                f"the revision {revision} is not in {reference}",
                where=str(self.root),
                advice=advice,
            )

    def subjects(self, revisions: Sequence[str]) -> list[str]:
        """The first line of each message."""
        return list(self.revisions.ask("subjects", revisions=list(revisions)).value)

    def fetch_tip(self, branch: str) -> str:
        """Copy the newest revision of the parent."""
        revision = self.tip(branch)
        self.fetch_revision(revision, self.remote_url)
        return revision

    def _no_branch(self, name: str) -> UsageError:
        advice = (
            "give its URL, or name the parent (brz info), a colocated branch or a folder beside this "
            "one"
        )
        return UsageError(
            f"the branch or revision {name!r} is not here", where=str(self.root), advice=advice
        )

    def changed(self, base: str, revision: str, folder: str) -> tuple[str, ...]:
        """Paths below `folder`, relative to it, that differ between two revisions."""
        ids = [self.revision(each) for each in (base, revision)]
        with self.revisions:
            self.revisions.prepare(ids)
            old_folder, new_folder = (self.revisions.folder(each, folder) for each in ids)
            paths = self._differing(old_folder, new_folder, "")
        return tuple(sorted(path for path in paths if not is_pipeline_output(path)))

    def _differing(self, left: str | None, right: str | None, prefix: str) -> list[str]:
        """The paths of files that only one of two folders has, or both differently."""
        if left == right:
            return []
        nodes = [self._nodes(each) for each in (left, right)]
        paths: list[str] = []
        for name in nodes[0].keys() | nodes[1].keys():
            pair = [each.get(name) for each in nodes]
            if pair[0] == pair[1]:
                continue
            folders = [each.id if each and each.kind == "folder" else None for each in pair]
            paths += self._differing(folders[0], folders[1], f"{prefix}{name}/")
            if any(each and each.kind != "folder" for each in pair):
                paths.append(f"{prefix}{name}")
        return paths

    def _nodes(self, folder: str | None) -> dict[str, Node]:
        return {node.name: node for node in self.revisions.listing(folder)} if folder else {}

    def history(
        self, revision: str, paths: Sequence[str], limit: int, after: str = ""
    ) -> tuple[str, ...]:
        """The left-hand revisions that changed one of `paths`; a merge counts as the changes it
        brought.
        """
        newest = self.revision(revision)
        answer = self.revisions.ask(
            "history", revision=newest, paths=list(paths), limit=limit, after=after
        )
        return tuple(answer.value)

    def position(self, revision: str) -> int:
        """The left-hand revno."""
        answer = self.revisions.ask("position", revision=self.revision(revision))
        return int(answer.value)

    def tags(self, pattern: str = "*") -> Mapping[str, Tag]:
        """The tags of the branch whose names match the shell pattern."""
        rows = self.revisions.ask("tags").value
        return {
            name: _tag(name, *row)
            for name, row in sorted(rows.items())
            if fnmatch.fnmatchcase(name, pattern)
        }

    def create_tag(self, name: str, revision: str, message: str, *, push: bool) -> Tag:
        """Create a tag that names an unchanged commit after `revision`, which has the message; the
        same tag again is success.

        The commit becomes a part of the branch, else no `brz branch` would copy it. push: both come
        into the branch that this one is bound to, else its parent, first.
        """
        if not name or _is_strange(name) or ".." in name:
            raise UsageError(
                f"{name!r} cannot be the name of a tag",
                where=str(self.root),
                advice="correct release.tag",
            )
        facts = {"name": name, "revision": self.revision(revision), "message": message or name}
        try:
            row = self.revisions.call("create_tag", timeout=program.REMOTE, push=push, **facts)
        except BrzError as error:
            raise self._refusal(error, name, facts["revision"]) from error
        finally:
            self.__dict__.pop("_head", None)
        return _tag(name, *row.value)

    def _refusal(self, error: BrzError, name: str, revision: str) -> PipelineError:
        """Our error for a tag that could not be set."""
        where, facts = str(self.root), error.facts
        url = facts.get("url", "")
        if error.code == "Bound":
            problem = f"the tag {name} cannot be set here alone: the branch is {url}"
            return UsageError(problem, where=where, advice="push it, or run brz unbind")
        if error.code == "NoParent":
            problem = f"there is nowhere to push the tag {name} to: the branch has no parent"
            return UsageError(problem, where=where, advice="run brz push --remember LOCATION")
        if error.code == "Unpushed":
            problem = f"the revision {revision} is not in {url}"
            return UsageError(problem, where=where, advice="push it (brz push), then tag it")
        if error.code == "Taken":
            problem = (
                f"the tag {name} exists in {url} and names {facts['revision']}, not {revision}"
            )
            return Conflict(problem, where=where, advice=_TAG_MOVED)
        if error.code == "Moved":
            problem = (
                f"the tag {name} names {facts['here']} here and {facts['revision']} in {url}: "
                "somebody moved it"
            )
            advice = "find out who did and why; brz pull --overwrite-tags takes the one there"
            return EvidenceError(problem, where=where, advice=advice)
        if error.code == "Dangling":
            problem = f"the tag {name} in {url} names {facts['revision']}, which is in no branch"
            return EvidenceError(
                problem, where=where, advice=f"run brz tag --delete {name} -d {url}"
            )
        if error.code:
            return MachineError(
                f"brz set the tag {name}, but {url} does not have it",
                where=where,
                advice="run it again; somebody may have deleted it",
            )
        return program.failure(self.root, error)


def _is_strange(name: str) -> bool:
    """Whether a name cannot be one of a tag, a branch or a revision."""
    return name.startswith("-") or re.search(r"[\x00-\x1f\x7f]", name) is not None


def _tag(name: str, revision: str, message: str, seconds: int | None) -> Tag:
    return Tag(name, revision, message, _NO_TIME if seconds is None else clock.rfc3339(seconds))


def is_bare(folder: Path) -> bool:
    """Whether `folder` is a branch without a working tree."""
    return (folder / ".bzr" / "branch").is_dir() and not (folder / ".bzr" / "checkout").exists()


def mirror(url: str, cache: Path, _hosts: Mapping[str, Host]) -> Bazaar:
    """A copy of the branch at `url` with the revisions of all its tags, updated now, in the folder
    `cache`.

    Raises UsageError for a password in the URL, AccessRefused, Unreachable, Temporary.
    """
    refuse_password(url, "leave it to brz: authentication.conf or an SSH agent")
    repository = files.folder(cache / f"{files.sha256(url.encode())[7:23]}.bzr")
    branch = Bazaar(repository / "branch")
    with files.locked(repository / "pipeline-steps.lock"):
        try:
            branch.revisions.call("mirror", timeout=program.REMOTE, url=url)
        except BrzError as error:
            raise program.failure(url, error) from error
    return branch
