"""The revisions of a release with the notes of their deploys, and what follows from them, without
the cluster: which deploy made a revision, how to repair a release after a deploy that was killed,
which revision to roll back to.
"""

# Without annotations as texts (PEP 563): msgspec would compile each of them at every start.
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from pipeline_steps.clusters.releases import Release

#: The label of a revision that names the deploy which made it.
LABEL = "pipeline-steps/deploy"
#: States of a release while helm works on it, or after helm was killed.
BUSY = frozenset({"pending-install", "pending-upgrade", "pending-rollback", "uninstalling"})
#: The description that helm gives a revision that `helm rollback` made (pkg/action/rollback.go).
_ROLLBACK = re.compile(r"Rollback to ([0-9]+)")


class DeployNotes(msgspec.Struct, frozen=True, kw_only=True):
    """What a deploy writes beside the revision that it makes (not the chart's NOTES.txt). Times are
    RFC 3339 of its own clock.

    by: account and host. source: system and revision of the chart, or its reference in a
    repository; then `content` and `revision` are "". tar: digest of the archive's tar. inputs: name →
    digest of what else decides what is installed.
    """

    id: str
    deployment: str
    by: str
    started: str
    chart: str
    version: str
    tar: str
    source: str
    content: str = ""
    revision: str = ""
    modified: tuple[str, ...] = ()
    diff: str = ""
    images: dict[str, str] = {}
    inputs: dict[str, str] = {}
    build: str = ""
    result: Literal["started", "passed", "failed"] = "started"
    reason: str = ""
    finished: str = ""


class Revision(NamedTuple):
    """A revision of the release. notes: of the deploy that made it, of the revision that it goes
    back to where it is a rollback; None where it was made by hand. origin: the number of that
    revision, else its own.
    """

    release: Release
    notes: DeployNotes | None
    origin: int

    @property
    def number(self) -> int:
        return self.release.revision

    @property
    def is_good(self) -> bool:
        """Whether it was deployed and has not failed its tests."""
        deployed = self.release.status in ("deployed", "superseded")
        return deployed and (self.notes is None or self.notes.result == "passed")

    def __str__(self) -> str:
        """The revision for people.

        >>> str(Revision(Release(3, "deployed", "web", "1.0.0", "", "", {}, ""), None, 3))
        'revision 3 (web 1.0.0, by hand)'
        """
        source = self.notes.source if self.notes else "by hand"
        return f"revision {self.number} ({self.release.chart} {self.release.version}, {source})"


class Repair(NamedTuple):
    """How to repair a release whose helm was killed. revision: to roll back to; None: uninstall,
    because nothing was ever deployed. status: that helm left.
    """

    revision: int | None
    status: str


def with_notes(releases: Sequence[Release], notes: Mapping[int, DeployNotes]) -> list[Revision]:
    """The revisions with their notes, oldest first. notes: by number of the revision."""
    revisions: dict[int, Revision] = {}
    for release in releases:
        own = notes.get(release.revision)
        rollback = _ROLLBACK.fullmatch(release.description)
        earlier = revisions.get(int(rollback[1])) if rollback else None
        if own and release.labels.get(LABEL) == own.id:
            revisions[release.revision] = Revision(release, own, release.revision)
        elif earlier:
            revisions[release.revision] = Revision(release, earlier.notes, earlier.origin)
        else:
            revisions[release.revision] = Revision(release, None, release.revision)
    return list(revisions.values())


def was_left_by_deploy(revisions: Sequence[Revision], *, unfinished: bool) -> bool:
    """Whether a deploy that was killed left this release busy, and not somebody's own helm. Call it
    with the lease held: no deploy is running then.

    A deploy's install or upgrade has its notes. A rollback or uninstall has none of its own:
    unfinished, whether the lease says that its former holder did not finish, decides.
    """
    last = revisions[-1]
    if last.release.status in ("pending-install", "pending-upgrade"):
        return last.notes is not None and last.origin == last.number
    return unfinished


def plan_repair(revisions: Sequence[Revision]) -> Repair | None:
    """How to repair a busy release before helm can change it again; None when it is not busy.

    A first install that is pending is uninstalled; else the last deployed revision is what to go
    back to. A helm that dies between two writes leaves none: then it is the last superseded one.
    """
    if not revisions or revisions[-1].release.status not in BUSY:
        return None
    last = revisions[-1].release
    if last.status in ("uninstalling", "pending-install"):
        return Repair(None, last.status)
    for status in ("deployed", "superseded", "failed"):
        for revision in reversed(revisions[:-1]):
            if revision.release.status == status:
                return Repair(revision.number, last.status)
    return Repair(None, last.status)


def next_number(revisions: Sequence[Revision]) -> int:
    """The number that helm gives the next revision."""
    return revisions[-1].number + 1 if revisions else 1


def last_good(revisions: Iterable[Revision]) -> Revision | None:
    """The newest good revision, to go back to when what comes after it fails."""
    return next((each for each in reversed(list(revisions)) if each.is_good), None)


def running(revisions: Sequence[Revision]) -> Revision | None:
    """What runs now: the last revision that was deployed, whether it is good or not."""
    deployed = ("deployed", "superseded")
    return next((each for each in reversed(revisions) if each.release.status in deployed), None)


def previous_good(revisions: Sequence[Revision]) -> Revision | None:
    """The good revision before what runs now; `deploy --undo` twice goes back two deploys.

    A rollback stands for the revision that it went back to.
    """
    now = running(revisions)
    return last_good(each for each in revisions if each.number < now.origin) if now else None


def find_unchanged(
    revisions: Sequence[Revision], tar: str, inputs: Mapping[str, str]
) -> Revision | None:
    """The last revision, if it is good and was made of the same tar and inputs; else None."""
    if not revisions:
        return None
    last = revisions[-1]
    same = last.notes and (last.notes.tar, last.notes.inputs) == (tar, dict(inputs))
    return last if same and last.is_good and last.release.status == "deployed" else None
