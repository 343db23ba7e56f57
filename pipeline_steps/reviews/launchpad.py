"""Merge proposals on Launchpad, of git repositories and of Bazaar branches; see `review`.

The one word that Launchpad ties to a revision is the status Approved (`reviewed_revid`), given by
one reviewer of the target; votes alone say nothing of a revision. Launchpad merges nothing here:
`merge` does it in a checkout. Its rules: Launchpad's branchmergeproposal.py and the WADL of
launchpadlib.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import Approval, LaunchpadReview
from pipeline_steps.reviews.launchpad_verdicts import KIND, OPEN, Verdicts, scanned_tip
from pipeline_steps.reviews.review import (
    Abilities,
    Branch,
    Delivery,
    Review,
    State,
    Verdict,
    Vote,
    Word,
)
from pipeline_steps.services.launchpad import Launchpad as Service
from pipeline_steps.toolbox.errors import AccessRefused, MachineError, UsageError
from pipeline_steps.toolbox.wording import counted

_STATES: dict[str, State] = {
    "Work in progress": "draft",
    "Merged": "merged",
    "Rejected": "closed",
    "Superseded": "closed",
}
_REJECTIONS = ("Disapprove", "Needs Fixing", "Needs Resubmitting")
#: What each way of writing a proposal down has before its path.
_PATH = re.compile(r"(?P<path>(?:~|\+source/).+/\+merge/[0-9]+)/?")
_HEADS = "refs/heads/"


class Launchpad:
    """The proposals into one branch, or git repository, of Launchpad.

    remote: the address that the checkout came from; proposals into it are looked through by
    `reviews_of`.
    """

    name = "launchpad"
    abilities = Abilities(
        longest_text=20_000,
        tells_uploader=False,
    )

    def __init__(self, settings: LaunchpadReview, hosts: Mapping[str, Host], remote: str) -> None:
        address = urlsplit(settings.api_url)
        _, entry = table.entry_for(hosts, address.netloc)
        self._settings = settings
        self._remote = remote
        self._service = Service(settings.api_url, settings.token_file, plain_http=entry.plain_http)
        self._verdicts = Verdicts(self._service)

    # -- which reviews there are ---

    def review(self, id: str) -> Review:
        """The proposal of a path (~dev/charts/fix/+merge/12) or an address of one, or the one that
        a branch (lp:~dev/charts/fix, lp:~dev/charts:fix for git) is proposed by.
        """
        proposal = self._proposal(id)
        with self._errors(id):
            return self._described(proposal)

    def reviews_of(self, revision: str) -> tuple[Review, ...]:
        """Open proposals with this newest revision, and those that were approved or merged at it."""
        with self._errors(self._remote):
            target = self._target()
            proposals = target.getMergeProposals(status=[*OPEN, "Merged"]) if target else ()
            reviews = [
                review
                for proposal in proposals
                if revision in (review := self._described(proposal)).revisions
                or revision == review.merged
            ]
        return tuple(sorted(reviews, key=lambda review: _number(review.id), reverse=True))

    def fetch_reference(self, review: Review, revision: str) -> str:
        """Of Bazaar the proposed branch; of git the branch where it is in the target's repository,
        else the revision itself, which the target has after the merge.
        """
        source, target = self.branches(review)
        if source.source == "bzr":
            return source.url
        return f"{_HEADS}{source.name}" if source.url == target.url else revision

    def branches(self, review: Review) -> tuple[Branch, Branch]:
        """Where the proposed code is, and where it goes to."""
        proposal = self._proposal(review.id)
        with self._errors(review.id):
            return self._branch(proposal, "source"), self._branch(proposal, "target")

    def commit_message(self, review: Review) -> str:
        """The message that the proposal has for its merge, "" for none."""
        proposal = self._proposal(review.id)
        with self._errors(review.id):
            return str(proposal.commit_message or "")

    def _branch(self, proposal: Any, role: str) -> Branch:
        repository = getattr(proposal, f"{role}_git_repository")
        if repository is not None:
            ref = str(getattr(proposal, f"{role}_git_path"))
            root = self._settings.git_url.rstrip("/")
            return Branch("git", f"{root}/{repository.unique_name}", ref.removeprefix(_HEADS))
        branch = getattr(proposal, f"{role}_branch")
        name = str(branch.unique_name)
        root = self._settings.bzr_url.rstrip("/")
        return Branch("bzr", f"{root}/{name}", name.rpartition("/")[2])

    def _proposal(self, id: str) -> Any:
        """launchpadlib's object. Raises UsageError."""
        service = self._service.service
        path = _path(id)
        with self._errors(id):
            path_of_proposal = _PATH.fullmatch(path)
            if path_of_proposal:
                return self._loaded(path_of_proposal["path"], id)
            targets = [each for each in self._proposed_by(service, path) if each]
            is_open = [each for each in targets if each.queue_status in OPEN]
            if len(is_open) == 1 or len(targets) == 1:
                return (is_open or targets)[0]
        if not targets:
            raise UsageError(
                "there is no merge proposal of this branch, or this account may not see it",
                where=id,
                advice="propose it for merging, or give the proposal's address",
            )
        raise UsageError(
            f"{counted(len(targets), 'merge proposal is', 'merge proposals are')} of this branch, "
            f"{len(is_open)} of them open",
            where=id,
            advice=f"give one: {', '.join(sorted(_path(each.self_link) for each in targets))}",
        )

    def _loaded(self, path: str, id: str) -> Any:
        try:
            with self._service.errors(id):
                # load() quotes nothing, and asks for the address at once.
                return self._service.service.load(path.replace(" ", "%20"))
        except AccessRefused as error:
            raise UsageError(
                "there is no such merge proposal, or this account may not see it",
                where=id,
                advice=str(error.advice),
            ) from error

    def _proposed_by(self, service: Any, path: str) -> Iterator[Any]:
        """The proposals that a branch of Bazaar, or of git, is the source of."""
        if "/+git/" in path or ":" in path:
            repository_path, _, ref = path.partition(":")
            repository = service.git_repositories.getByPath(path=repository_path)
            ref = ref or (repository.default_branch if repository else "")
            source = repository.getRefByPath(path=ref) if repository and ref else None
        else:
            source = service.branches.getByUrl(url=f"lp:{path}")
        if source is not None:
            yield from source.landing_targets

    def _target(self) -> Any:
        """The branch, or git ref, that the checkout came from; None when it is not Launchpad's."""
        service = self._service.service
        for system, root in (("git", self._settings.git_url), ("bzr", self._settings.bzr_url)):
            path = _below(self._remote, root)
            if path and system == "git":
                repository = service.git_repositories.getByPath(path=path.removesuffix(".git"))
                default = repository and repository.default_branch
                return repository.getRefByPath(path=default) if default else None
            if path:
                return service.branches.getByUrl(url=f"lp:{path}")
        return None

    def publish_project_release(self, name: str, notes: str) -> str:
        """See `ProjectReleases`."""
        project_name = self._project()
        if not project_name:
            raise UsageError(
                "the checkout comes from no project on Launchpad",
                where=self._remote,
                advice="check it out from review.launchpad.git_url or bzr_url",
            )
        self._service.require_token()
        with self._service.errors(project_name):
            project = self._service.service.projects[project_name]
            milestone = project.getMilestone(name=name)
            if milestone is None:
                milestone = project.development_focus.newMilestone(name=name, summary=notes)
            release = milestone.release
            if release is None:
                now = datetime.now(timezone.utc)
                release = milestone.createProductRelease(date_released=now, release_notes=notes)
            return str(release.web_link)

    def _project(self) -> str:
        """The name of the project that the checkout's branch belongs to, "" for none."""
        with self._errors(self._remote):
            target = self._target()
            if target is None:
                return ""
            repository = getattr(target, "repository", None)
            path = str((repository if repository is not None else target).unique_name)
        return path.split("/")[1]

    def _described(self, proposal: Any) -> Review:
        is_git = proposal.source_git_repository is not None
        status, head = str(proposal.queue_status), scanned_tip(proposal)
        reviewed = str(proposal.reviewed_revid or "")
        target = (
            str(proposal.target_git_path).removeprefix(_HEADS)
            if is_git
            else str(proposal.target_branch.name)
        )
        author = str(proposal.registrant.name)
        merged = str(proposal.merged_revision_id or "") if status == "Merged" else ""
        return Review(
            system=self.name,
            id=_path(proposal.self_link),
            url=str(proposal.web_link),
            title=_title(proposal),
            author=author,
            uploader=author,
            target=target,
            head=head or reviewed,
            revisions=tuple(dict.fromkeys(each for each in (reviewed, head) if each)),
            state=_STATES.get(status, "open"),
            merged=merged,
        )

    # -- verdicts ---

    def deliver(self, review: Review, verdict: Verdict) -> Delivery:
        """See ReviewSystem."""
        self._service.require_token()
        proposal = self._proposal(review.id)
        with self._errors(review.id):
            return self._verdicts.deliver(proposal, review.url, verdict)

    def verdict(self, review: Review, revision: str) -> Word | None:
        """See ReviewSystem."""
        self._service.require_token()
        proposal = self._proposal(review.id)
        with self._errors(review.id):
            return self._verdicts.word(proposal, revision)

    def negative_verdicts(self, review: Review, revision: str) -> tuple[str, ...]:
        """The accounts whose newest verdict says negative of the revision; anybody may read it.

        A person who writes such a comment can refuse, as by a vote of another kind.
        """
        proposal = self._proposal(review.id)
        with self._errors(review.id):
            return self._verdicts.negative(proposal, revision)

    # -- approvals ---

    def votes(self, review: Review, approval: Approval) -> tuple[Vote, ...]:
        """The status Approved with its revision, and the votes of people, which have none."""
        proposal = self._proposal(review.id)
        newest: dict[str, Vote] = {}
        with self._errors(review.id):
            for each in proposal.votes:
                if vote := _vote(each):
                    newest[vote.account] = vote
            status, reviewer = str(proposal.queue_status), proposal.reviewer
            if reviewer is not None and status in ("Approved", "Merged", "Rejected"):
                account, revision = str(reviewer.name), str(proposal.reviewed_revid or "")
                date = _time(proposal.date_reviewed)
                former = newest.get(account)
                if former is None or former.word == "approve" or former.given <= date:
                    reason = "" if revision else _NO_REVISION
                    approval_vote = Vote(account, revision, "approve", date, reason)
                    rejection = Vote(account, revision, "reject", date)
                    newest[account] = rejection if status == "Rejected" else approval_vote
        return tuple(newest.values())

    def members(self, group: str) -> frozenset[str]:
        """Everybody in a team, also through other teams."""
        with self._errors(f"~{group}"):
            try:
                team = self._service.service.people[group]
                is_team = bool(team.is_team)
            except KeyError:
                is_team = False
            if not is_team:
                raise UsageError(
                    "there is no such team on Launchpad",
                    where=f"~{group}",
                    advice="check the name in `approvals`: group:TEAM",
                )
            return frozenset(str(each.name) for each in team.participants if not each.is_team)

    # -- merging ---

    def merge(self, review: Review, revision: str, message: str) -> str:
        """Launchpad does not merge: see `set_merged`."""
        raise UsageError(
            "Launchpad does not merge proposals",
            where=review.url,
            advice="run pipeline-steps merge",
        )

    def require_login(self) -> None:
        """Raise AccessRefused without a token that Launchpad takes."""
        self._service.require_token()
        with self._errors(""):
            _ = self._service.service.me.name

    def set_merged(self, review: Review, merged: str) -> None:
        """Mark the proposal as merged by the revision `merged` on its target; again is success.

        Launchpad may do it itself, after it has scanned the target.
        """
        self._service.require_token()
        proposal = self._proposal(review.id)
        with self._errors(review.id):
            if str(proposal.queue_status) != "Merged":
                proposal.setStatus(status="Merged", revid=merged)
                proposal.lp_refresh()
            if str(proposal.queue_status) != "Merged":
                raise MachineError(
                    f"Launchpad still shows the proposal as {proposal.queue_status}",
                    where=review.url,
                    advice="run merge again: it merges nothing twice, and marks the proposal",
                )

    def _errors(self, where: str) -> Any:
        return self._service.errors(where or self._settings.api_url)


_NO_REVISION = (
    "Launchpad does not say of which revision: the status Approved of the proposal does, when its "
    "page or setStatus(revid=…) sets it"
)


def _path(id: str) -> str:
    """The path of a proposal or branch in any way to write it.

    >>> _path("https://code.launchpad.net/~dev/charts/fix/+merge/12")
    '~dev/charts/fix/+merge/12'
    >>> _path("https://api.launchpad.net/devel/~dev/charts/+git/charts/+merge/12")
    '~dev/charts/+git/charts/+merge/12'
    >>> _path("lp:~dev/charts/fix"), _path("~dev/charts/+git/charts:fix")
    ('~dev/charts/fix', '~dev/charts/+git/charts:fix')
    """
    path = unquote(urlsplit(id).path) if "://" in id else id.removeprefix("lp:")
    path = path.strip("/")
    return path.removeprefix("devel/") if "://" in id else path


def _below(remote: str, root: str) -> str:
    """The path of an address below a root, whoever logs in there; "" when it is elsewhere.

    >>> _below("git+ssh://me@git.launchpad.net/~a/c/+git/c", "https://git.launchpad.net/")
    '~a/c/+git/c'
    >>> _below("lp:~a/c/trunk", "bzr+ssh://bazaar.launchpad.net/")
    '~a/c/trunk'
    """
    if remote.startswith("lp:"):
        return remote.removeprefix("lp:").strip("/")
    address, server = urlsplit(remote), urlsplit(root)
    if not address.hostname or (address.hostname, address.port) != (server.hostname, server.port):
        return ""
    prefix = f"{server.path.rstrip('/')}/"
    return unquote(address.path).removeprefix(prefix).strip("/")


def _number(id: str) -> int:
    return int(id.rpartition("/")[2])


def _title(proposal: Any) -> str:
    """The first line that says what it is about; Launchpad keeps no title of its own."""
    text = str(proposal.commit_message or proposal.description or "").strip()
    return text.splitlines()[0][:200] if text else _path(proposal.self_link)


def _vote(reference: Any) -> Vote | None:
    """What a person says; None for nothing yet, neither yes nor no, and our own verdicts."""
    if reference.is_pending or str(reference.review_type or "") == KIND:
        return None
    comment = reference.comment
    opinion, date = str(comment.vote), _time(comment.date_created)
    account = str(reference.reviewer.name)
    if opinion in _REJECTIONS:
        return Vote(account, "", "reject", date)
    return Vote(account, "", "approve", date, _NO_REVISION) if opinion == "Approve" else None


def _time(moment: Any) -> str:
    """RFC 3339, of a time that launchpadlib has parsed."""
    text = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return str(text).replace("+00:00", "Z")
