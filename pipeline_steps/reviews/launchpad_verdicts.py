"""Verdicts on Launchpad: a comment with a vote, which says in its last line of which revision.

One that a newer revision overtook is withdrawn. Texts can be edited, votes cannot: where the vote
changes, a new comment has it, and the former one says so.
"""

from __future__ import annotations

import re
from typing import Any

from pipeline_steps.reviews.review import REMOVED, Delivery, Verdict, Word
from pipeline_steps.services.launchpad import Launchpad as Service
from pipeline_steps.toolbox.errors import MachineError

#: The kind of review by which Launchpad tells our vote from those of people, and the subject.
KIND = "pipeline-steps"
OPEN = ("Work in progress", "Needs review", "Approved")
_VOTES: dict[Word, str] = {"positive": "Approve", "negative": "Needs Fixing"}
_WITHDRAWN = "Abstain"
_LAST_LINE = re.compile(
    rf"^{KIND}: (?P<word>positive|negative|incomplete|started|overtaken) for (?P<revision>\S+)$",
    re.MULTILINE,
)


def scanned_tip(proposal: Any) -> str:
    """The newest revision of the source that Launchpad has scanned, "" when it is gone."""
    repository = proposal.source_git_repository
    if repository is None:
        branch = proposal.source_branch
        return str(branch.last_scanned_id or "") if branch is not None else ""
    ref = repository.getRefByPath(path=proposal.source_git_path)
    return str(ref.commit_sha1) if ref is not None else ""


class Verdicts:
    """The verdicts on the proposals that `service` shows; a proposal is launchpadlib's own."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def deliver(self, proposal: Any, url: str, verdict: Verdict) -> Delivery:
        """Leave the verdict on a proposal; url: of its page. Raises MachineError when it is not
        shown then.
        """
        if refusal := self._overtaken(proposal, verdict.revision):
            return refusal
        status = str(proposal.queue_status)
        vote = _VOTES.get(verdict.word) if status in OPEN[1:] else None
        content = _content(verdict)
        changed = self._write(proposal, content, vote)
        proposal.lp_refresh()
        if refusal := self._overtaken(proposal, verdict.revision):
            self._withdraw(proposal, verdict.revision)
            return refusal
        if not self._has(proposal, content, vote):
            raise MachineError(
                "Launchpad took the verdict and does not show it",
                where=url,
                advice=REMOVED,
            )
        reason = "" if vote else _reason_without_vote(verdict.word, status)
        if not changed:
            return Delivery("unchanged", url, reason)
        return Delivery("message" if reason else "set", url, reason)

    def word(self, proposal: Any, revision: str) -> Word | None:
        """The verdict in this account's last comment, if it is about the revision."""
        own = self._own_comments(proposal)
        last_line = _LAST_LINE.search(str(own[-1].content)) if own else None
        if (
            last_line is None
            or last_line["revision"] != revision
            or last_line["word"] == "overtaken"
        ):
            return None
        word: Word = last_line["word"]  # type: ignore[assignment]  # as the pattern says
        return word

    def negative(self, proposal: Any, revision: str) -> tuple[str, ...]:
        """See `Launchpad.negative_verdicts`."""
        newest: dict[str, re.Match[str]] = {}
        for comment in proposal.all_comments:
            if last_line := _LAST_LINE.search(str(comment.content)):
                newest[str(comment.author.name)] = last_line
        negative = {"word": "negative", "revision": revision}
        return tuple(
            sorted(name for name, last_line in newest.items() if last_line.groupdict() == negative)
        )

    def _overtaken(self, proposal: Any, revision: str) -> Delivery | None:
        tip = scanned_tip(proposal)
        if tip == revision:
            return None
        reason = (
            f"the newest revision that Launchpad shows is {tip or 'none'}; where it has not scanned "
            f"{revision} yet, run it again"
        )
        return Delivery("superseded", str(proposal.web_link), reason)

    def _write(self, proposal: Any, content: str, vote: str | None) -> bool:
        """Whether anything had to be written for one comment to have this text and vote."""
        own = self._own_comments(proposal)
        last = own[-1] if own else None
        if vote is None and last is not None and last.vote in _VOTES.values():
            vote = _WITHDRAWN  # a comment without a vote would leave the former one
        if last is not None and _is_shown(last.vote, vote):
            if _same(last.content, content):
                return False
            last.editContent(new_content=content)
            return True
        options = {"vote": vote, "review_type": KIND} if vote else {}
        proposal.createComment(subject=KIND, content=content, **options)
        if last is not None:
            self._mark_overtaken(last, "a newer comment has the verdict")
        return True

    def _withdraw(self, proposal: Any, revision: str) -> None:
        """The source moved while the verdict was written: it must not stand for the new revision."""
        why = f"The branch has a newer revision than {revision}; this verdict is withdrawn."
        line = f"{KIND}: overtaken for {revision}"
        last = self._own_comments(proposal)[-1]
        if last.vote:
            proposal.createComment(
                subject=KIND, content=f"{why}\n\n{line}", vote=_WITHDRAWN, review_type=KIND
            )
        self._mark_overtaken(last, why)

    @staticmethod
    def _mark_overtaken(comment: Any, why: str) -> None:
        last_line = _LAST_LINE.search(str(comment.content))
        revision = last_line["revision"] if last_line else "?"
        comment.editContent(new_content=f"{why}\n\n{KIND}: overtaken for {revision}")

    def _has(self, proposal: Any, content: str, vote: str | None) -> bool:
        own = self._own_comments(proposal)
        return bool(own) and _same(own[-1].content, content) and _is_shown(own[-1].vote, vote)

    def _own_comments(self, proposal: Any) -> list[Any]:
        """This account's comments with a verdict, oldest first."""
        me = str(self._service.service.me.name)
        return [
            comment
            for comment in proposal.all_comments
            if _LAST_LINE.search(str(comment.content)) and str(comment.author.name) == me
        ]


def _content(verdict: Verdict) -> str:
    page = f"\n\n{verdict.url}" if verdict.url else ""
    findings = "".join(f"\n{each.path}:{each.line}: {each.message}" for each in verdict.findings)
    last = f"{KIND}: {verdict.word} for {verdict.revision}"
    return f"{verdict.summary}\n\n{verdict.text.strip()}{findings}{page}\n\n{last}"


def _same(shown: Any, sent: str) -> bool:
    """Launchpad may strip ends of texts and change line ends."""
    return str(shown).split() == sent.split()


def _is_shown(shown: Any, vote: str | None) -> bool:
    """Whether a comment's vote says what it should: a withdrawn one says nothing."""
    return bool(shown == vote if vote else shown in (None, _WITHDRAWN))


def _reason_without_vote(word: Word, status: str) -> str:
    if word in _VOTES:
        return f"the proposal is {status.lower()}: its comment has no vote"
    return f"Launchpad has no vote for {word}"
