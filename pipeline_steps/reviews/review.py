"""The interface to review systems, the same for all of them.

Revisions are those of the source, in full. Accounts are what people write into `approvals.X.by`:
login names, never display names, which anybody can choose. What a system cannot do is declared in
its `Abilities`, and refused by name where it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from pipeline_steps.charts.archive import Archive
from pipeline_steps.config.language import Approval
from pipeline_steps.sources.source import Tag
from pipeline_steps.toolbox.errors import Conflict

#: What to do when a system took something and does not show it.
REMOVED = "another account or program may have removed it: run the step again"
#: What an account writes.
Purpose = Literal["verdict", "merge"]
WRITES: Mapping[Purpose, str] = {"verdict": "set verdicts", "merge": "merge"}
State = Literal["open", "draft", "merged", "closed"]
#: started, incomplete: shown as pending where the system has that, else as a message; never as a
#: state that a required check takes for success.
Word = Literal["positive", "negative", "incomplete", "started"]


class Abilities(NamedTuple):
    """What a review system can do.

    longest_text: characters of a verdict's text that it takes, 4000 or more.
    tells_uploader: it says which account pushed a revision; else `Review.uploader` is the author.
    folds: its Markdown knows <details>, which hides what is long.
    single_commits: a review is one commit, and each commit of a chain has its own; else all that
        its branch has and the target has not.
    """

    longest_text: int
    tells_uploader: bool
    folds: bool = False
    single_commits: bool = False


class Review(NamedTuple):
    """A review as the server describes it now.

    id: names it uniquely to its system (Gerrit: project~branch~number; GitHub, Gitea: number;
        GitLab: iid; Launchpad: path of the merge proposal).
    url: of its page. author: account of who wrote it. uploader: account that pushed `head`, the
        author where the system does not say.
    target: the branch it goes to, by its plain name (git: without refs/heads/).
    head: the newest revision proposed for it.
    revisions: all heads it has had, oldest first, as far as the system keeps them; without those
        that the system made itself while merging.
    merged: the revision on the target that brought it there; "" unless the state is merged.
    base: the revision of the target that the head's changes begin after, when it was merged; ""
        where the system does not say.
    """

    system: str
    id: str
    url: str
    title: str
    author: str
    uploader: str
    target: str
    head: str
    revisions: tuple[str, ...]
    state: State
    merged: str = ""
    base: str = ""


class Finding(NamedTuple):
    """A problem at a line of a file; path relative to the top of the source, line from 1."""

    path: str
    line: int
    message: str


class Verdict(NamedTuple):
    """What a review is told.

    revision: the review's own revision that the verdict is about, or the commit that a merge queue
        made of it, which is none of `Review.revisions` and gets a verdict, but no comment.
    summary: one line of at most 140 characters. text: Markdown, at most `Abilities.longest_text`.
    url: of the CI build, "" outside of CI.
    """

    revision: str
    word: Word
    summary: str
    text: str
    url: str = ""
    findings: tuple[Finding, ...] = ()


class Delivery(NamedTuple):
    """What came of a verdict: what the server shows now, read back.

    outcome: "set"; "unchanged" if it was there already; "message" if only a message could be left
        (work in progress, a word without a state); "superseded" if the review has a newer revision,
        "closed" if it is merged or abandoned; nothing was written.
    url: of the verdict or the review. reason: why it is only a message, superseded or closed; else "".
    """

    outcome: Literal["set", "unchanged", "message", "superseded", "closed"]
    url: str
    reason: str = ""


class Vote(NamedTuple):
    """What one person says of one revision, the newest word of that person.

    account: see above. revision: on which it was given, never one to which the system copied it;
        "" where the system does not say. given: RFC 3339, UTC.
    word: "reject" blocks. reason: why the vote cannot count though it approves (no right to
        approve, dismissed, stale), else "".
    """

    account: str
    revision: str
    word: Literal["approve", "reject"]
    given: str
    reason: str = ""


class Branch(NamedTuple):
    """A branch on a server. source: "git" or "bzr". url: of the repository (git) or of the branch.
    name: as `Review.target` has it.
    """

    source: str
    url: str
    name: str


class ReviewSystem(Protocol):
    """The reviews of one project on one server. Making one sends no request.

    All methods raise Temporary, Unreachable and AccessRefused, which name the missing right.
    """

    name: str
    abilities: Abilities

    def review(self, id: str) -> Review:
        """The review of this id, as the CI or a person gives it (number, URL).

        Raises UsageError when it does not exist or is invisible to the account.
        """

    def reviews_of(self, revision: str) -> tuple[Review, ...]:
        """Reviews that have or had `revision` as a head, or that brought it to the mainline: a merge
        commit belongs to the review it merged. Newest first; () for none.
        """

    def fetch_reference(self, review: Review, revision: str) -> str:
        """The reference from which the source's remote gives `revision` of a review; the revision
        itself where servers give any.
        """

    def deliver(self, review: Review, verdict: Verdict) -> Delivery:
        """Set the verdict on exactly its revision, keep the comment up to date, and read it back.

        The same verdict again changes nothing. Raises MachineError when the system took the request
        and does not show the verdict (an unknown label, say).
        """

    def verdict(self, review: Review, revision: str) -> Word | None:
        """The verdict that this account has set on a revision; None for none."""

    def votes(self, review: Review, approval: Approval) -> tuple[Vote, ...]:
        """What people say of the revisions of a review, by the vote that `approval` names."""

    def members(self, group: str) -> frozenset[str]:
        """Accounts of a group or team. Raises AccessRefused naming the right to read it, UsageError
        when it does not exist.
        """

    def merge(self, review: Review, revision: str, message: str) -> str:
        """Merge exactly `revision`, and return the revision on the target.

        A review that is merged at this revision is success. message: of the merge, where the system
        takes one.

        Raises:
            Conflict: the review has a newer head, or conflicts with the target.
            NotApproved: the system's own rules are not fulfilled; its words.
            UsageError: the system does not merge (`LeavesMerging`).
        """


@runtime_checkable
class LeavesMerging(ReviewSystem, Protocol):
    """A review system that does not merge: the step `merge` does, in a checkout."""

    def negative_verdicts(self, review: Review, revision: str) -> tuple[str, ...]:
        """The accounts whose newest verdict, made by `report`, says negative of the revision."""

    def branches(self, review: Review) -> tuple[Branch, Branch]:
        """Where the proposed code is, and where it goes to."""

    def commit_message(self, review: Review) -> str:
        """The message that the review has for its merge, "" for none."""

    def require_login(self) -> None:
        """Raise AccessRefused where there is no login, before anything is pushed."""

    def set_merged(self, review: Review, merged: str) -> None:
        """Mark the review as merged by the revision `merged` on its target; again is success."""


@runtime_checkable
class PublishesReleases(ReviewSystem, Protocol):
    """A review system whose server shows a tag as a release with files."""

    def promotes_here(self, url: str) -> bool:
        """Whether publishing into the chart repository `url` makes the very release of a tag."""

    def require_release_access(self) -> None:
        """Raise AccessRefused where the account may make no release, as far as the system tells."""

    def publish_release_of(self, tag: Tag, archive: Archive) -> str:
        """The page of the release of a tag that the server has, made or completed with the chart.

        Raises UsageError when the server does not have the tag, Conflict when the release has
        another chart of this name.
        """


def require_same_commit(tag: Tag, commit: str, page: str) -> None:
    """Raise Conflict where a tag of this name names another commit in the repository of `page`:
    the checkout is of another repository.
    """
    if commit != tag.revision:
        raise Conflict(
            f"the tag {tag.name} names {commit[:12]} there, and {tag.revision[:12]} in the checkout",
            where=page,
            advice="name in review.*.repository the repository that the tag is pushed to",
        )


@runtime_checkable
class ProjectReleases(ReviewSystem, Protocol):
    """A review system whose server has releases of a project as a whole, each in a milestone."""

    def publish_project_release(self, name: str, notes: str) -> str:
        """Make the release `name`, with a milestone of that name in the series of the project's
        development; its page. What is there already stays.

        Raises UsageError when the checkout is of no project there.
        """


@runtime_checkable
class TellsAccess(Protocol):
    """A review system that says what its account may do before anything is written."""

    def access(self, purpose: Purpose = "verdict") -> str:
        """What the account may do, as far as the system tells. Raises AccessRefused naming the right
        that a verdict, or merging, needs and the account lacks.
        """

    def require_approval_access(self, approval: Approval) -> None:
        """Raise AccessRefused naming the right that reading the votes of an approval needs and the
        token lacks.
        """
