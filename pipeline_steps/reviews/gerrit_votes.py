"""The votes on a change of Gerrit that an approval names: those of a label with one value, or those
of a submit requirement's expression. Which of them count is decided in `approvals`.
"""

from __future__ import annotations

import re

from pipeline_steps.config.language import Approval
from pipeline_steps.reviews.gerrit_changes import Change, newest_votes, rfc3339
from pipeline_steps.reviews.review import Vote
from pipeline_steps.toolbox.errors import ConfigurationError

_FULFILLED = ("SATISFIED", "OVERRIDDEN")
_CONDITION = re.compile(r"label:([A-Za-z0-9-]+)=(MAX|\+?\d+)(?:,.*)?")


def votes(change: Change, approval: Approval) -> tuple[Vote, ...]:
    """The votes that count for an approval: of a label, or of what fulfils a submit requirement.

    Raises ConfigurationError for a condition, a label or a requirement that does not exist.
    """
    kind, _, name = approval.gerrit.partition(":")
    if kind == "submit_requirement":
        return _votes_of_requirement(change, name)
    condition = _CONDITION.fullmatch(approval.gerrit)
    if condition is None or "," in approval.gerrit:
        raise ConfigurationError(
            f"{approval.gerrit!r} is no vote of Gerrit",
            where="approvals: gerrit",
            advice="write label:NAME=MAX, label:NAME=+N or submit_requirement:NAME",
        )
    return _votes_of_label(change, condition[1], condition[2])


def _votes_of_label(change: Change, name: str, value: str) -> tuple[Vote, ...]:
    name_and_label = change.label(name)
    if name_and_label is None:
        raise ConfigurationError(
            f"the project {change.project} has no label {name}",
            where="approvals: gerrit",
            advice=f"name one of those that it has: {', '.join(sorted(change.labels)) or 'none'}",
        )
    label = name_and_label[1]
    approving_value = label.highest if value == "MAX" else int(value)
    head = change.patch_sets[change.head].number
    votes = []
    newest = newest_votes(change, name)
    for cast in newest.values():
        shown = label.shown.get(cast.account.id)
        # A vote on the newest patch set that is not shown there was taken away; one on an
        # earlier one that shows another vote now was replaced.
        is_valid = shown.value == cast.value if shown else cast.number != head
        if cast.value == approving_value and is_valid:
            reason = f"{cast.proxy.name} gave it in this name" if cast.proxy else ""
            revision, date = change.revision_of(cast.number), rfc3339(cast.date)
            votes.append(Vote(cast.account.name, revision, "approve", date, reason))
    for account, vote in label.shown.items():
        cast_vote = newest.get(account)
        is_from_message = cast_vote is not None and cast_vote.value == vote.value
        revision = change.revision_of(cast_vote.number) if cast_vote and is_from_message else ""
        # A vote that came with a push, or whose message was deleted, rejects all the same.
        if vote.value == label.lowest < 0:
            votes.append(Vote(vote.name, revision, "reject", rfc3339(vote.date)))
        elif vote.value == approving_value and not is_from_message:
            reason = "Gerrit does not say on which patch set it was given"
            votes.append(Vote(vote.name, "", "approve", rfc3339(vote.date), reason))
    return tuple(votes)


def _votes_of_requirement(change: Change, name: str) -> tuple[Vote, ...]:
    """The votes that a submit requirement's expression counts; one in the requirement's own
    name when it is fulfilled by something else.
    """
    requirements = [
        each for each in change.submit_requirements if each.name.lower() == name.lower()
    ]
    if not requirements:
        raise ConfigurationError(
            f"the project {change.project} has no submit requirement {name}",
            where="approvals: gerrit",
            advice="name one of those that it has: "
            + (", ".join(sorted(each.name for each in change.submit_requirements)) or "none"),
        )
    requirement = requirements[0]
    unfulfilled = (
        ""
        if requirement.status in _FULFILLED
        else f"the submit requirement {requirement.name} is {requirement.status.lower()}"
    )
    results = (
        requirement.submittability_expression_result,
        requirement.override_expression_result,
    )
    conditions = [
        match
        for result in results
        for atom in result.passing_atoms
        if (match := _CONDITION.fullmatch(atom)) and change.label(match[1])
    ]
    votes = [
        vote._replace(reason=unfulfilled or vote.reason)
        for condition in conditions
        for vote in _votes_of_label(change, condition[1], condition[2])
    ]
    if not votes and not unfulfilled:
        votes = [Vote(f"submit_requirement:{requirement.name}", change.head, "approve", "")]
    return tuple(dict.fromkeys(votes))
