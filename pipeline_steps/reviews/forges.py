"""What GitHub, GitLab and Gitea have in common: how a review is named, what it was merged as, and the
comment that tells the newest verdict.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

from pipeline_steps.reviews.review import REMOVED, Review, Word
from pipeline_steps.services import rest
from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import Conflict, MachineError, UsageError


class Kind(NamedTuple):
    """How a system calls its reviews, and what they belong to. path: of them in the API. sign: that
    people write before a number.
    """

    name: str
    owner: str
    path: str
    sign: str


PULL_REQUEST = Kind("pull request", "repository", "/pulls", "#")
MERGE_REQUEST = Kind("merge request", "project", "/merge_requests", "!")


def number_of(id: str, kind: Kind, pages: str) -> str:
    """The number of a review that is given as number or URL. pages: what URLs have before it.

    Raises UsageError for anything else.
    """
    number = re.fullmatch(rf"{kind.sign}?(\d{{1,10}})", id.removeprefix(pages))
    if number is None:
        raise UsageError(
            f"this is not a {kind.name} of this {kind.owner}",
            where=id,
            advice=f"give its number, or a URL like {pages}1",
        )
    return number[1]


def read(client: rest.Client, number: str, kind: Kind, pages: str) -> http.Response:
    """The server's answer about one review. Raises UsageError when it does not exist, AccessRefused
    when the login may not see it.
    """
    answer = client.call("GET", f"{kind.path}/{number}", allowed=(404,))
    if answer.status == 404:
        client.require_visible()
        raise UsageError(
            f"there is no such {kind.name}",
            where=f"{pages}{number}",
            advice=f"check its number and the {kind.owner}",
        )
    return answer


def merged_revision(
    review: Review, revision: str, kind: Kind, *, head: str, merged: str | None, is_open: bool
) -> str:
    """The revision on the target if the review is merged at `revision`, "" if it is open at it.

    head, merged, is_open: as the server says now; merged: None when it is not. Raises Conflict when
    it is at another revision, or closed.
    """
    if head != revision:
        raise Conflict(
            f"the {kind.name} is at {head[:12] or 'nothing'}, not at {revision[:12]} which was to be "
            "merged",
            where=review.url,
            advice="test and approve the new revision",
        )
    if merged is None and not is_open:
        raise Conflict(f"the {kind.name} is closed", where=review.url, advice="reopen it")
    return merged or ""


#: Word → state of a commit status on GitHub and Gitea.
STATUS_STATES: Mapping[Word, str] = {
    "positive": "success",
    "negative": "failure",
    "incomplete": "pending",
    "started": "pending",
}
_WORDS: Mapping[str, Word] = {"success": "positive", "failure": "negative", "error": "negative"}
#: Begins the description of an open status that says "started"; another one is incomplete.
STARTED = "started: "


def word_of_status(state: str, description: str | None) -> Word | None:
    """What a commit status of ours says, on GitHub and Gitea; None for a state that we never set."""
    return open_word(description) if state == "pending" else _WORDS.get(state)


def open_word(description: str | None) -> Word:
    """What a status says whose end is still to come."""
    return "started" if (description or "").startswith(STARTED) else "incomplete"


class Comment(Protocol):
    """A comment as its server describes it."""

    id: int
    body: str


AnyComment = TypeVar("AnyComment", bound=Comment)


class VerdictComments(ABC, Generic[AnyComment]):
    """The one comment on each review that tells the newest verdict; found again by its marker, among
    those of our own account. name: of the verdict.
    """

    system: ClassVar[str]
    #: How the system calls a comment.
    noun: ClassVar[str] = "comment"

    def __init__(self, name: str) -> None:
        self._marker = f"<!-- pipeline-steps: {name} -->"

    def put(self, number: str, url: str, text: str) -> tuple[AnyComment, bool]:
        """Bring the comment on a review up to date: the comment, and whether anything was written.

        number, url: of the review. Raises MachineError when the server does not show it then.
        """
        body = f"{self._marker}\n{text}".strip()
        own_comments = self._marked(number)
        if len(own_comments) == 1 and own_comments[0].body.strip() == body:
            return own_comments[0], False
        if own_comments:
            self._edit(number, own_comments[0], body)
        else:
            # A lost answer is not repeated: the next run finds the comment by its marker.
            self._create(number, body)
        shown = self._marked(number)
        if len(shown) > 1 and shown[0].body.strip() != body:
            # Another first report came between: the older comment stays, and says this.
            self._edit(number, shown[0], body)
            shown = self._marked(number)
        if not shown or shown[0].body.strip() != body:
            raise MachineError(
                f"{self.system} took the {self.noun} and does not show it",
                where=url,
                advice=REMOVED,
            )
        for comment in shown[1:]:  # of two first reports at the same time
            self._delete(number, comment)
        return shown[0], True

    def _marked(self, number: str) -> list[AnyComment]:
        """Our comments with the marker, the oldest first."""
        own_comments = self._own_comments(number)
        marked = [comment for comment in own_comments if comment.body.startswith(self._marker)]
        return sorted(marked, key=lambda comment: comment.id)

    @abstractmethod
    def _own_comments(self, number: str) -> Iterable[AnyComment]:
        """The comments on a review that the account of the token wrote."""

    @abstractmethod
    def _create(self, number: str, body: str) -> None: ...

    @abstractmethod
    def _edit(self, number: str, comment: AnyComment, body: str) -> None: ...

    @abstractmethod
    def _delete(self, number: str, comment: AnyComment) -> None: ...
