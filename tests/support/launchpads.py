"""A double of Launchpad's web service that keeps state: people, branches, git repositories, merge
proposals with comments and votes, milestones and releases.

It is a double: Launchpad itself cannot be run here. It serves the description that launchpadlib
brings (WADL of version 1.0), with the operations of version "devel" that this lacks added in
`ADDED`, and refuses operations, parameters and values that the description does not have. Rules
that the description does not say (who may set which status, what a status records) are those of
Launchpad's own branchmergeproposal.py. The tips of branches are read from real repositories, as
Launchpad's scanner does; `scans` turns that off.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.resources
import itertools
import json
import re
import subprocess
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

T = TypeVar("T")

_DESCRIBED = "https://api.launchpad.test/1.0/"
_WADL = "{http://research.sun.com/wadl/2006/10}"
VERSION = "devel"
#: Entries on one page of a collection; Launchpad has 75.
PAGE = 3
FINAL = ("Rejected", "Merged", "Superseded")


def _operation(kind: str, name: str, verb: str, words: Sequence[str], returns: str) -> str:
    """The description of one operation. words: parameters, those with a "!" are required."""
    parameters = "".join(
        f'<wadl:param style="query" name="{word.rstrip("!")}" required="{str("!" in word).lower()}"/>'
        for word in words
    )
    answer = (
        '<wadl:response status="201"><wadl:param style="header" name="Location">'
        f'<wadl:link resource_type="{_DESCRIBED}#{returns[1:]}"/></wadl:param></wadl:response>'
        if returns.startswith("+")
        else f'<wadl:response><wadl:representation href="{_DESCRIBED}#{returns}"/></wadl:response>'
        if returns
        else ""
    )
    request = f'<wadl:param style="query" name="ws.op" required="true" fixed="{name}"/>{parameters}'
    if verb == "POST":
        request = (
            '<wadl:representation mediaType="application/x-www-form-urlencoded">'
            f"{request}</wadl:representation>"
        )
    return (
        f'<wadl:method id="{kind}-{name}" name="{verb}"><wadl:request>{request}</wadl:request>'
        f"{answer}</wadl:method>"
    )


_PROPOSE = (
    "merge_target!",
    "merge_prerequisite",
    "needs_review",
    "initial_comment",
    "commit_message",
    "reviewers",
    "review_types",
)
_FILTERS = ("status", "merged_revision_ids")
#: What version "devel" has and launchpadlib's description of 1.0 has not: type → operations. From
#: Launchpad's gitrepository.py, gitref.py and message.py.
ADDED: Mapping[str, tuple[str, ...]] = {
    "git_repositories": (
        _operation("git_repositories", "getByPath", "GET", ["path!"], "git_repository-full"),
    ),
    "git_repository": (
        _operation("git_repository", "getRefByPath", "GET", ["path!"], "git_ref-full"),
        _operation("git_repository", "isPersonTrustedReviewer", "GET", ["reviewer!"], ""),
    ),
    "git_ref": (
        _operation("git_ref", "createMergeProposal", "POST", _PROPOSE, "+branch_merge_proposal"),
        _operation(
            "git_ref",
            "getMergeProposals",
            "GET",
            ["status", "merged_revision_ids"],
            "branch_merge_proposal-page",
        ),
        _operation("git_ref", "isPersonTrustedReviewer", "GET", ["reviewer!"], ""),
    ),
    "code_review_comment": (
        _operation("code_review_comment", "editContent", "POST", ["new_content!"], ""),
        _operation("code_review_comment", "deleteContent", "POST", [], ""),
    ),
}


@functools.cache
def description() -> str:
    """The WADL with what `ADDED` has."""
    file = importlib.resources.files("launchpadlib.testing") / "launchpad-wadl.xml"
    text = file.read_text("utf-8").replace("&nbsp;", " ")
    text = re.sub(r"<!DOCTYPE.*?\]>", "", text, count=1, flags=re.DOTALL)
    for kind, operations in ADDED.items():
        start = text.index(f'<wadl:resource_type id="{kind}">')
        end = text.index("</wadl:resource_type>", start)
        text = text[:end] + "".join(operations) + text[end:]
    return text


class Operation(NamedTuple):
    """parameters: name → whether it is required, and the values that it may have, () for any."""

    verb: str
    parameters: Mapping[str, tuple[bool, tuple[str, ...]]]


@functools.cache
def operations() -> dict[tuple[str, str], Operation]:
    """(type, operation) → what the description says of it."""
    operations = {}
    for kind in ElementTree.fromstring(description()).iter(f"{_WADL}resource_type"):
        for method in kind.findall(f"{_WADL}method"):
            parameters = {}
            for parameter in method.iterfind(f"{_WADL}request//{_WADL}param"):
                values = tuple(
                    str(value.get("value")) for value in parameter.iter(f"{_WADL}option")
                )
                required = parameter.get("required") == "true"
                parameters[str(parameter.get("name"))] = (required, values)
            if "ws.op" in parameters:
                name = str(method.get("id")).partition("-")[2]
                operations[str(kind.get("id")), name] = Operation(
                    str(method.get("name")), parameters
                )
    return operations


class Refused(Exception):
    """A request that is answered with an error and a text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Call(NamedTuple):
    """A request. person: name of who sent it, "" for nobody. operation: ws.op, "" for none."""

    method: str
    path: str
    person: str
    operation: str
    arguments: Mapping[str, Any]


class Entry:
    """Something with an address. kind: its type in the description."""

    kind = ""

    def __init__(self, hub: Launchpad, path: str) -> None:
        self.hub = hub
        self.path = path
        hub.entries[path] = self

    @property
    def link(self) -> str:
        return f"{self.hub.api}{quote(self.path, safe='/~+')}"

    def fields(self) -> dict[str, Any]:
        return {}

    def collections(self) -> dict[str, Sequence[Entry]]:
        """Name → entries; each has an address of its own below this one."""
        return {}

    def answer(self) -> dict[str, Any]:
        links = {f"{name}_collection_link": f"{self.link}/{name}" for name in self.collections()}
        return {
            "self_link": self.link,
            "web_link": self.link.replace(f"/{VERSION}/", "/"),
            "resource_type_link": f"{self.hub.api}#{self.kind}",
            "http_etag": '"0"',
            **links,
            **self.fields(),
        }


class Person(Entry):
    kind = "person"

    def __init__(self, hub: Launchpad, name: str, members: Sequence[Person] | None = None) -> None:
        super().__init__(hub, f"~{name}")
        self.name = name
        self.members = members

    def fields(self) -> dict[str, Any]:
        return {"name": self.name, "display_name": self.name, "is_team": self.members is not None}

    def collections(self) -> dict[str, Sequence[Entry]]:
        return {"participants": self.participants()}

    def participants(self) -> list[Person]:
        """Who belongs to a team, directly or through another team."""
        people = dict.fromkeys(self.members or ())
        for each in self.members or ():
            people.update(dict.fromkeys(each.participants()))
        return list(people)

    def has(self, person: Person) -> bool:
        return person is self or any(each.has(person) for each in self.members or ())


class Code(Entry):
    """A branch of Bazaar or of git: what can be merged, and into which.

    reviewer: who is trusted to review what goes into it.
    """

    owner: Person
    reviewer: Person

    def tip(self) -> str:
        raise NotImplementedError

    def landing_targets(self) -> list[Proposal]:
        return [each for each in self.hub.proposals if each.source is self]

    def landing_candidates(self) -> list[Proposal]:
        return [
            each for each in self.hub.proposals if each.target is self and each.status not in FINAL
        ]

    def get_isPersonTrustedReviewer(self, person: Person, arguments: Mapping[str, Any]) -> bool:
        return self.trusts(self.hub.person(arguments["reviewer"]))

    def trusts(self, person: Person) -> bool:
        return self.reviewer.has(person) or self.owner.has(person)

    def get_getMergeProposals(
        self, person: Person, arguments: Mapping[str, Any]
    ) -> Sequence[Entry]:
        """Those that go here; the open ones unless other statuses are asked for."""
        statuses = arguments.get("status") or ("Work in progress", "Needs review", "Approved")
        return [
            each for each in self.hub.proposals if each.target is self and each.status in statuses
        ]

    def propose(self, person: Person, target: Code, arguments: Mapping[str, Any]) -> Proposal:
        if any(
            each.source is self and each.target is target and each.status not in FINAL
            for each in self.hub.proposals
        ):
            raise Refused(400, "There is already a branch merge proposal registered")
        status = "Needs review" if arguments.get("needs_review", True) else "Work in progress"
        proposal = Proposal(self.hub, person, self, target, status)
        proposal.commit_message = arguments.get("commit_message")
        proposal.description = arguments.get("initial_comment")
        self.hub.proposals.append(proposal)
        for reviewer in arguments.get("reviewers") or [target.reviewer.link]:
            proposal.votes.append(Vote(proposal, self.hub.person(reviewer)))
        return proposal


class Branch(Code):
    """A branch of Bazaar. folder: the real one."""

    kind = "branch"

    def __init__(self, hub: Launchpad, name: str, folder: Path, reviewer: Person | None) -> None:
        super().__init__(hub, name)
        self.folder = folder
        self.owner = hub.people[name.partition("/")[0][1:]]
        self.reviewer = reviewer or self.owner
        self._scanned = ""

    def tip(self) -> str:
        if self.hub.scans or not self._scanned:
            last = (self.folder / ".bzr/branch/last-revision").read_text()
            self._scanned = last.split()[1]
        return self._scanned

    def fields(self) -> dict[str, Any]:
        revision = self.tip()
        return {
            "unique_name": self.path,
            "name": self.path.rpartition("/")[2],
            "bzr_identity": f"lp:{self.path}",
            "owner_link": self.owner.link,
            "reviewer_link": self.reviewer.link,
            "last_scanned_id": None if revision == "null:" else revision,
            "lifecycle_status": "Development",
        }

    def collections(self) -> dict[str, Sequence[Entry]]:
        return {
            "landing_targets": self.landing_targets(),
            "landing_candidates": self.landing_candidates(),
        }

    def post_createMergeProposal(self, person: Person, arguments: Mapping[str, Any]) -> Entry:
        target = self.hub.entry(arguments["target_branch"], Branch)
        return self.propose(person, target, arguments)


class GitRepository(Entry):
    """folder: the real one, bare. short: the path by which it is its project's own, if it is."""

    kind = "git_repository"

    def __init__(
        self, hub: Launchpad, name: str, folder: Path, reviewer: Person | None, short: str
    ) -> None:
        super().__init__(hub, name)
        self.folder = folder
        self.owner = hub.people[name.partition("/")[0][1:]]
        self.reviewer = reviewer or self.owner
        self.short = short

    def fields(self) -> dict[str, Any]:
        return {
            "unique_name": self.path,
            "name": self.path.rpartition("/")[2],
            "git_identity": f"lp:{self.short or self.path}",
            "git_https_url": f"{self.hub.code}/{self.path}",
            "git_ssh_url": f"{self.hub.code}/{self.path}",
            "default_branch": self._git("symbolic-ref", "HEAD"),
            "owner_link": self.owner.link,
            "reviewer_link": self.reviewer.link,
        }

    def _git(self, *words: str) -> str:
        # Whoever owns the files: faults run with those of another account.
        command = ["git", "-c", "safe.directory=*", "-C", str(self.folder), *words]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    def commit(self, ref: str) -> str:
        return self._git("rev-parse", "-q", "--verify", ref)

    def ref(self, path: str) -> GitRef | None:
        if not path.startswith("refs/"):
            path = f"refs/heads/{path}"
        entry = self.hub.entries.get(f"{self.path}/+ref/{path}")
        if isinstance(entry, GitRef):
            return entry
        return GitRef(self, path) if self.commit(path) else None

    def get_getRefByPath(self, person: Person, arguments: Mapping[str, Any]) -> Entry | None:
        return self.ref(arguments["path"])

    def get_isPersonTrustedReviewer(self, person: Person, arguments: Mapping[str, Any]) -> bool:
        someone = self.hub.person(arguments["reviewer"])
        return self.reviewer.has(someone) or self.owner.has(someone)


class GitRef(Code):
    kind = "git_ref"

    def __init__(self, repository: GitRepository, ref: str) -> None:
        super().__init__(repository.hub, f"{repository.path}/+ref/{ref}")
        self.repository = repository
        self.ref = ref
        self.owner, self.reviewer = repository.owner, repository.reviewer
        self._scanned = ""

    def tip(self) -> str:
        if self.hub.scans or not self._scanned:
            self._scanned = self.repository.commit(self.ref)
        return self._scanned

    def fields(self) -> dict[str, Any]:
        return {
            "path": self.ref,
            "commit_sha1": self.tip(),
            "repository_link": self.repository.link,
        }

    def collections(self) -> dict[str, Sequence[Entry]]:
        return {
            "landing_targets": self.landing_targets(),
            "landing_candidates": self.landing_candidates(),
        }

    def post_createMergeProposal(self, person: Person, arguments: Mapping[str, Any]) -> Entry:
        return self.propose(person, self.hub.entry(arguments["merge_target"], GitRef), arguments)


class Proposal(Entry):
    """A merge proposal. status: queue_status."""

    kind = "branch_merge_proposal"

    def __init__(
        self, hub: Launchpad, registrant: Person, source: Code, target: Code, status: str
    ) -> None:
        above = source.repository.path if isinstance(source, GitRef) else source.path
        super().__init__(hub, f"{above}/+merge/{next(hub.numbers)}")
        self.registrant, self.source, self.target, self.status = registrant, source, target, status
        self.created = _now()
        self.reviewed: str | None = None
        self.reviewer: Person | None = None
        self.date_reviewed: str | None = None
        self.merged: str | None = None
        self.commit_message: str | None = None
        self.description: str | None = None
        self.comments: list[Comment] = []
        self.votes: list[Vote] = []

    def fields(self) -> dict[str, Any]:
        code: dict[str, Any] = {}
        for role, branch in (("source", self.source), ("target", self.target)):
            is_git = isinstance(branch, GitRef)
            code[f"{role}_branch_link"] = None if is_git else branch.link
            code[f"{role}_git_path"] = branch.ref if isinstance(branch, GitRef) else None
            code[f"{role}_git_repository_link"] = (
                branch.repository.link if isinstance(branch, GitRef) else None
            )
        return {
            **code,
            "queue_status": self.status,
            "reviewed_revid": self.reviewed,
            "date_reviewed": self.date_reviewed,
            "date_created": self.created,
            "reviewer_link": self.reviewer.link if self.reviewer else None,
            "registrant_link": self.registrant.link,
            "merged_revision_id": self.merged,
            "merged_revno": None,
            "commit_message": self.commit_message,
            "description": self.description,
            "prerequisite_branch_link": None,
            "prerequisite_git_repository_link": None,
            "prerequisite_git_path": None,
        }

    def collections(self) -> dict[str, Sequence[Entry]]:
        return {"all_comments": self.comments, "votes": self.votes}

    def post_setStatus(self, person: Person, arguments: Mapping[str, Any]) -> None:
        """As BranchMergeProposal.setStatus: a final status may be left, an approval takes trust."""
        status, revision = arguments["status"], arguments.get("revid")
        if status in ("Approved", "Rejected"):
            if not self.target.trusts(person):
                raise Refused(401, "UserNotBranchReviewer")
            self.reviewer, self.reviewed, self.date_reviewed = person, revision, _now()
        elif status == "Merged":
            self.merged = revision
        elif status == "Work in progress":
            self.reviewer = self.reviewed = self.date_reviewed = None
        elif status != "Needs review":
            raise Refused(500, f"AssertionError: Unexpected queue status: {status}")
        self.status = status

    def post_createComment(self, person: Person, arguments: Mapping[str, Any]) -> Entry:
        comment = Comment(self, person, arguments)
        self.comments.append(comment)
        if comment.vote:
            vote = next((each for each in self.votes if each.reviewer is person), None)
            if vote is None:
                vote = Vote(self, person)
                self.votes.append(vote)
            vote.comment, vote.kind_of_review = comment, comment.review_type
        return comment

    def get_getComment(self, person: Person, arguments: Mapping[str, Any]) -> Entry | None:
        return next((each for each in self.comments if each.number == arguments["id"]), None)


class Comment(Entry):
    kind = "code_review_comment"

    def __init__(self, proposal: Proposal, author: Person, arguments: Mapping[str, Any]) -> None:
        self.number = next(proposal.hub.numbers)
        super().__init__(proposal.hub, f"{proposal.path}/comments/{self.number}")
        self.proposal, self.author = proposal, author
        self.content: str = arguments.get("content") or ""
        self.subject: str = arguments.get("subject") or f"Re: {proposal.path}"
        self.vote: str | None = arguments.get("vote")
        self.created = _now()
        self.edited: str | None = None
        self.review_type: str | None = arguments.get("review_type")

    def fields(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "author_link": self.author.link,
            "owner_link": self.author.link,
            "branch_merge_proposal_link": self.proposal.link,
            "content": self.content,
            "message_body": self.content,
            "title": self.subject,
            "vote": self.vote,
            "vote_tag": self.review_type,
            "date_created": self.created,
            "date_deleted": None,
            "date_last_edited": self.edited,
        }

    def post_editContent(self, person: Person, arguments: Mapping[str, Any]) -> None:
        self._require_author(person)
        self.content = arguments["new_content"]
        self.edited = _now()

    def post_deleteContent(self, person: Person, arguments: Mapping[str, Any]) -> None:
        self._require_author(person)
        self.content = ""

    def _require_author(self, person: Person) -> None:
        if person is not self.author:
            raise Refused(401, "(<CodeReviewComment>, 'editContent', 'launchpad.Edit')")


class Vote(Entry):
    kind = "code_review_vote_reference"

    def __init__(self, proposal: Proposal, reviewer: Person) -> None:
        super().__init__(proposal.hub, f"{proposal.path}/+review/{next(proposal.hub.numbers)}")
        self.proposal, self.reviewer = proposal, reviewer
        self.comment: Comment | None = None
        self.kind_of_review: str | None = None

    def fields(self) -> dict[str, Any]:
        return {
            "branch_merge_proposal_link": self.proposal.link,
            "comment_link": self.comment.link if self.comment else None,
            "is_pending": self.comment is None,
            "registrant_link": self.proposal.registrant.link,
            "review_type": self.kind_of_review,
            "reviewer_link": self.reviewer.link,
        }


class Project(Entry):
    kind = "project"

    def __init__(self, hub: Launchpad, name: str, owner: Person) -> None:
        super().__init__(hub, name)
        self.name, self.owner = name, owner
        self.milestones: list[Milestone] = []
        self.series: list[Series] = []

    def fields(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "owner_link": self.owner.link,
            "development_focus_link": self.series[0].link,
        }

    def collections(self) -> dict[str, Sequence[Entry]]:
        return {"series": self.series, "all_milestones": self.milestones}

    def get_getSeries(self, person: Person, arguments: Mapping[str, Any]) -> Entry | None:
        return next((each for each in self.series if each.name == arguments["name"]), None)

    def get_getMilestone(self, person: Person, arguments: Mapping[str, Any]) -> Entry | None:
        return next((each for each in self.milestones if each.name == arguments["name"]), None)

    def get_getRelease(self, person: Person, arguments: Mapping[str, Any]) -> Entry | None:
        milestone = self.get_getMilestone(person, {"name": arguments["version"]})
        return milestone.release if isinstance(milestone, Milestone) else None


class Series(Entry):
    kind = "project_series"

    def __init__(self, project: Project, name: str) -> None:
        super().__init__(project.hub, f"{project.path}/{name}")
        self.project, self.name = project, name
        project.series.append(self)

    def fields(self) -> dict[str, Any]:
        return {"name": self.name, "project_link": self.project.link, "active": True}

    def post_newMilestone(self, person: Person, arguments: Mapping[str, Any]) -> Entry:
        if not self.project.owner.has(person):
            raise Refused(401, "(<ProductSeries>, 'newMilestone', 'launchpad.Edit')")
        if any(each.name == arguments["name"] for each in self.project.milestones):
            raise Refused(400, f"name: The name {arguments['name']} is already used by a milestone")
        return Milestone(self, arguments)


class Milestone(Entry):
    kind = "milestone"

    def __init__(self, series: Series, arguments: Mapping[str, Any]) -> None:
        super().__init__(series.hub, f"{series.project.path}/+milestone/{arguments['name']}")
        self.series, self.name = series, arguments["name"]
        self.summary = arguments.get("summary")
        self.release: Release | None = None
        series.project.milestones.append(self)

    def fields(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "summary": self.summary,
            "is_active": self.release is None,
            "release_link": self.release.link if self.release else None,
            "target_link": self.series.project.link,
            "series_target_link": self.series.link,
        }

    def post_createProductRelease(self, person: Person, arguments: Mapping[str, Any]) -> Entry:
        if self.release is not None:
            raise Refused(400, "A milestone can only have one ProductRelease.")
        self.release = Release(self, arguments)
        return self.release


class Release(Entry):
    kind = "project_release"

    def __init__(self, milestone: Milestone, arguments: Mapping[str, Any]) -> None:
        super().__init__(milestone.hub, f"{milestone.series.path}/{milestone.name}")
        self.milestone = milestone
        self.notes = arguments.get("release_notes")
        self.changelog = arguments.get("changelog")
        self.released = arguments["date_released"]

    def fields(self) -> dict[str, Any]:
        return {
            "version": self.milestone.name,
            "milestone_link": self.milestone.link,
            "release_notes": self.notes,
            "changelog": self.changelog,
            "date_released": self.released,
        }


class Set(Entry):
    """A collection at the top, with its operations: `branches`, `git_repositories`."""

    def __init__(self, hub: Launchpad, kind: str) -> None:
        super().__init__(hub, kind)
        self.kind = kind

    def get_getByUrl(self, person: Person, arguments: Mapping[str, Any]) -> Entry | None:
        return self._branch(str(arguments["url"]).removeprefix("lp:"))

    def get_getByUniqueName(self, person: Person, arguments: Mapping[str, Any]) -> Entry | None:
        return self._branch(arguments["unique_name"])

    def _branch(self, name: str) -> Entry | None:
        branch = self.hub.entries.get(self.hub.development_branches.get(name, name))
        return branch if isinstance(branch, Branch) else None

    def get_getByPath(self, person: Person, arguments: Mapping[str, Any]) -> Entry | None:
        for each in list(self.hub.entries.values()):
            if isinstance(each, GitRepository) and arguments["path"] in (each.path, each.short):
                return each
        return None


class Launchpad:
    """The service. Addresses: `api` with the version, `root` without; `code` is the prefix of the
    URLs of git repositories.

    fault: asked before each request is answered; what it returns, a status and a text, takes the
    place of the answer, and None as the status breaks the connection. calls: every request that
    is not about the description. scans: whether tips are those of the repositories now.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.people: dict[str, Person] = {}
        self.tokens: dict[str, Person] = {}
        self.proposals: list[Proposal] = []
        self.development_branches: dict[str, str] = {}
        self.calls: list[Call] = []
        self.scans = True
        self.fault: Callable[[Call], tuple[int | None, str] | None] = lambda _: None
        self.numbers = itertools.count(1)
        self.code = ""
        self._lock = threading.RLock()
        self._server = _server(self)
        self.root = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self.api = f"{self.root}{VERSION}/"
        for kind in ("branches", "git_repositories"):
            Set(self, kind)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- what tests make ---

    def new_person(self, name: str, members: Sequence[Person] | None = None) -> Person:
        """A person, or a team with these members."""
        self.people[name] = Person(self, name, members)
        return self.people[name]

    def token(self, person: Person) -> str:
        """The text of a credentials file with which somebody is this person."""
        key, secret = f"key-of-{person.name}", f"secret-of-{person.name}"
        self.tokens[f"{key}&{secret}"] = person
        return (
            "[1]\nconsumer_key = pipeline-steps\nconsumer_secret = \n"
            f"access_token = {key}\naccess_secret = {secret}\n"
        )

    def new_branch(self, name: str, folder: Path, reviewer: Person | None = None) -> Branch:
        """A branch of Bazaar, "~owner/project/name"."""
        return Branch(self, name, folder, reviewer)

    def new_repository(
        self, name: str, folder: Path, reviewer: Person | None = None, short: str = ""
    ) -> GitRepository:
        """A git repository, "~owner/project/+git/name"."""
        return GitRepository(self, name, folder, reviewer, short)

    def new_project(self, name: str, owner: Person) -> Project:
        """A project with the series "trunk"."""
        project = Project(self, name, owner)
        Series(project, "trunk")
        return project

    # -- what requests ask ---

    def person(self, link: str) -> Person:
        return self.entry(link, Person)

    def entry(self, link: str, kind: type[T]) -> T:
        entry = self.entries.get(unquote(str(link).removeprefix(self.api)))
        if not isinstance(entry, kind):
            raise Refused(400, f"{link}: no such {kind.__name__}")
        return entry

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int | None, str, bytes]:
        """Status, media type (or the Location of what was made), and the body."""
        address = urlsplit(target)
        path = unquote(address.path).removeprefix(f"/{VERSION}/")
        if "wadl" in headers.get("accept", ""):
            wadl = description().replace(_DESCRIBED, self.api)
            return 200, "application/vnd.sun.wadl+xml", wadl.encode()
        query = parse_qs(address.query if method == "GET" else body.decode(), strict_parsing=False)
        arguments = {name: _decoded(values[-1]) for name, values in query.items()}
        operation = str(arguments.pop("ws.op", ""))
        with self._lock:
            try:
                person = self._person(headers.get("authorization", ""))
                name = person.name if person else ""
                call = Call(method, path, name, operation, arguments)
                self.calls.append(call)
                if fault := self.fault(call):
                    return fault[0], "text/plain", fault[1].encode()
                return self._answer(call, person)
            except Refused as refused:
                return refused.status, "text/plain", str(refused).encode()

    def _person(self, header: str) -> Person | None:
        values = {
            key: unquote(value) for key, value in re.findall(r'(oauth_\w+)="([^"]*)"', header)
        }
        key = values.get("oauth_token")
        if not key:
            return None  # an anonymous visitor
        secret = values.get("oauth_signature", "").partition("&")[2]
        if f"{key}&{secret}" not in self.tokens:
            raise Refused(401, f"Unknown access token ({key}).")
        return self.tokens[f"{key}&{secret}"]

    def _answer(self, call: Call, person: Person | None) -> tuple[int, str, bytes]:
        if not call.path:
            return _json(self._service_root(person))
        entry = self.entries.get(call.path)
        if entry is None and not call.operation:
            return _json(self._collection(call))
        if entry is None:
            raise Refused(404, f"Object: <Launchpad>, name: {call.path!r}")
        if not call.operation:
            return _json(entry.answer())
        self._require_described(entry, call)
        if call.method == "POST" and person is None:
            raise Refused(401, "Anonymous access: log in")
        function = getattr(entry, f"{call.method.lower()}_{call.operation}", None)
        assert function, f"the double has no {entry.kind}.{call.operation}"
        result = function(person, call.arguments)
        if call.method == "POST" and isinstance(result, Entry):
            return 201, result.link, b""
        if isinstance(result, Entry):
            return _json(result.answer())
        if isinstance(result, list):
            return _json(self._page(result, call, entry.link))
        return _json(result)

    def _service_root(self, person: Person | None) -> dict[str, Any]:
        names = ("branches", "git_repositories", "people", "projects")
        links = {f"{name}_collection_link": f"{self.api}{name}" for name in names}
        me = {"me_link": person.link} if person else {}
        return {"resource_type_link": f"{self.api}#service-root", **links, **me}

    def _collection(self, call: Call) -> dict[str, Any]:
        above, _, name = call.path.rpartition("/")
        entry = self.entries.get(above)
        entries = entry.collections().get(name) if entry else None
        if entries is None:
            raise Refused(404, f"Object: <Launchpad>, name: {call.path!r}")
        return self._page(entries, call, f"{self.api}{quote(call.path, safe='/~+')}")

    def _page(self, entries: Sequence[Entry], call: Call, address: str) -> dict[str, Any]:
        start, size = (
            int(call.arguments.get(f"ws.{n}", d)) for n, d in (("start", 0), ("size", PAGE))
        )
        page = entries[start : start + size]
        kind = entries[0].kind if entries else "branch_merge_proposal"
        more = start + size < len(entries)
        asked = {name: json.dumps(value) for name, value in call.arguments.items()}
        asked |= {"ws.start": str(start + size), "ws.size": str(size)}
        if call.operation:
            asked["ws.op"] = call.operation
        following = {"next_collection_link": f"{address}?{urlencode(asked)}"}
        return {
            "resource_type_link": f"{self.api}#{kind}-page-resource",
            "total_size": len(entries),
            "start": start,
            "entries": [each.answer() for each in page],
            **(following if more else {}),
        }

    def _require_described(self, entry: Entry, call: Call) -> None:
        described = operations().get((entry.kind, call.operation))
        if described is None or described.verb != call.method:
            raise Refused(400, f"No such operation: {call.operation}")
        for name, value in call.arguments.items():
            if name.startswith("ws."):
                continue
            if name not in described.parameters:
                raise Refused(400, f"{name}: unknown parameter of {call.operation}")
            values = described.parameters[name][1]
            if values and value not in values and value is not None:
                raise Refused(400, f"{name}: Invalid value {value!r}")
        for name, (required, _) in described.parameters.items():
            if required and name != "ws.op" and call.arguments.get(name) in (None, ""):
                raise Refused(400, f"{name}: Required input is missing.")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()


def _decoded(text: str) -> Any:
    """A parameter: JSON, or as it stands when it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(value: Any) -> tuple[int, str, bytes]:
    return 200, "application/json", json.dumps(value).encode()


def _server(hub: Launchpad) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, data = hub.answer(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                body,
            )
            if status is None:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response_only(status)
            self.send_header("Location" if status == 201 else "Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do

        def log_message(self, *args: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a connection that was broken on purpose

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    return server


@contextlib.contextmanager
def launchpad() -> Iterator[Launchpad]:
    """A Launchpad on a free port of this machine."""
    hub = Launchpad()
    try:
        yield hub
    finally:
        hub.close()
