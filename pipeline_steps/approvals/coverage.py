"""Which approvals cover a change: those of a revision whose content is the same, or whose review
added and removed the same lines.

So an approval survives a clean rebase, a cherry-pick, a squash and another review that was merged
before, and none of these with other lines in it (docs/explanation/releases.md#approvals).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline_steps.approvals.changes import (
    File,
    FileChange,
    changed_paths,
    file_change,
    file_changes,
)
from pipeline_steps.approvals.mainline import Change, reviewable
from pipeline_steps.charts.paths import contains
from pipeline_steps.reviews.review import Review, ReviewSystem
from pipeline_steps.toolbox.errors import UsageError
from pipeline_steps.workspace.checkout import Checkout, open_checkout

#: Commits of one review that are looked at for where it begins on the mainline.
MOST_COMMITS = 200


class Range(NamedTuple):
    """Consecutive revisions: after `before` (None: from the first one) up to `end`."""

    before: str | None
    end: str


class Coverage:
    """Compares revisions by what they are to one chart.

    places: folders and files of the chart, relative to pipeline.yaml's folder.
    """

    def __init__(
        self, checkout: Checkout, name: str, system: ReviewSystem, places: Sequence[str]
    ) -> None:
        self._checkout = checkout
        self._name = name
        self._system = system
        self._source = reviewable(checkout)
        self._places = tuple(places)
        self._differences: dict[Range, dict[str, FileChange]] = {}
        self._checkouts: dict[str, Checkout] = {}

    def covers(self, review: Review, revision: str, merged: Range, mainline: str = "") -> bool:
        """Whether who approved `revision` of a review approved all that `merged` has.

        mainline: the revision that it was proposed to, which may have it already; default: the end
        of `merged`. A revision that can no longer be fetched covers nothing.
        """
        if not self.fetch(review, revision):
            return False
        proposed = self.proposed(review, revision, mainline or merged.end)
        if proposed is None:
            return False
        # What came before the proposal was not shown to who approved it.
        if self.is_ancestor(proposed.before, merged.before) and self._has_same_end(
            Range(proposed.before, revision), merged
        ):
            return True
        return not self._adds_paths(merged) and self.is_same(proposed, merged)

    def is_ancestor(self, revision: str | None, other: str | None) -> bool:
        """Whether a revision is the other or an ancestor of it; None is before the first one."""
        if revision is None or revision == other:
            return True
        return other is not None and self._source.common_ancestor(revision, other) == revision

    def fetch(self, review: Review, revision: str) -> bool:
        """Fetch a revision of a review; False when no server has it any more."""
        try:
            reference = self._system.fetch_reference(review, revision)
            self._source.fetch_revision(revision, reference)
        except UsageError:
            return False
        return True

    def is_same(self, left: Range, right: Range) -> bool:
        """Whether two ranges change the chart, and add and remove the same lines in each file."""
        difference = self._difference(left)
        return bool(difference) and difference == self._difference(right)

    def changes_chart(self, between: Range) -> bool:
        """Whether a range changes anything that the chart is made of."""
        return bool(self._difference(between))

    def has_same_content(self, revision: str, other_revision: str) -> bool:
        """Whether the chart can be read in both revisions and is the same."""
        content = self._content(revision)
        return content is not None and content == self._content(other_revision)

    def proposed(self, review: Review, revision: str, mainline: str) -> Range | None:
        """What a revision of a review proposes to a mainline, which may have it already; None when
        they have nothing in common.
        """
        source = self._source
        first_parent = next(iter(source.parents(revision)), None)
        if self._system.abilities.single_commits:
            return Range(first_parent, revision)
        if revision == mainline:  # it became the mainline's own; where it begins, git cannot tell
            base_is_known = review.base and revision == review.head
            return Range(review.base if base_is_known else first_parent, revision)
        base = source.common_ancestor(revision, mainline)
        if base == revision:  # merged: what was there before
            parents = source.parents(mainline)
            base = source.common_ancestor(revision, parents[0]) if parents else None
        return None if base is None else Range(base, revision)

    def extended(self, review: Review, merged: Range) -> Range:
        """The whole range that a review merged: `merged`, and the commits before it where all
        together add and remove the lines of its head. A rebase merge has several commits, of which
        some systems name only the last.
        """
        if not self.fetch(review, review.head):
            return merged
        proposed = self.proposed(review, review.head, merged.end)
        if proposed is None or proposed.before is None or self.is_same(proposed, merged):
            return merged
        if review.head == merged.end:
            return proposed if self.is_ancestor(proposed.before, merged.before) else merged
        commits = self._source.position(review.head) - self._source.position(proposed.before)
        longer = merged
        for _ in range(min(commits, MOST_COMMITS) - 1):
            if longer.before is None:
                break
            longer = Range(next(iter(self._source.parents(longer.before)), None), merged.end)
            if self.is_same(proposed, longer):
                return longer
        return merged

    def merged_commits(self, change: Change) -> tuple[Change, ...] | None:
        """The commits that a merge brought to the mainline, where each is a review of its own. A
        change that is no merge is the only one; None when the merge itself has other lines than its
        commits, or more than MOST_COMMITS.
        """
        parents = self._source.parents(change.revision)
        if not self._system.abilities.single_commits or len(parents) < 2:
            return (change,)
        mainline, tip = parents[:2]
        if not self._is_clean_merge(change.revision, mainline, tip):
            return None
        commits = self._commits(tip, mainline)
        return None if commits is None else tuple(commit for commit in commits if commit.paths)

    def _commits(self, tip: str, mainline: str) -> list[Change] | None:
        """The ancestors of `tip` that are none of `mainline`, newest first, without clean merges,
        whose commits are among them. None for more than MOST_COMMITS.
        """
        commits: list[Change] = []
        looked_at: set[str] = set()
        left = [tip]
        while left:
            revision = left.pop()
            # By ancestry: a branch that took the mainline in between has the mainline's own, too.
            if revision in looked_at or self.is_ancestor(revision, mainline):
                continue
            if len(looked_at) == MOST_COMMITS:
                return None
            looked_at.add(revision)
            parents = self._source.parents(revision)
            left += reversed(parents)
            if len(parents) == 2 and self._is_clean_merge(revision, *parents):
                continue
            before = parents[0] if parents else None
            commits.append(
                Change(revision, before, tuple(self._difference(Range(before, revision))))
            )
        return commits

    def _is_clean_merge(self, merge: str, mainline: str, tip: str) -> bool:
        """Whether a merge has no other lines than what it merged into `mainline`."""
        proposed = Range(self._source.common_ancestor(mainline, tip), tip)
        merged = Range(mainline, merge)
        return self._has_same_end(proposed, merged) or (
            not self._adds_paths(merged) and self.is_same(proposed, merged)
        )

    def _has_same_end(self, proposed: Range, merged: Range) -> bool:
        """Whether the chart ends as proposed, and nothing of it that was there before was lost.

        Equal ends alone would let a merge throw away what others brought in between.
        """
        if proposed.end != merged.end and not self.has_same_content(proposed.end, merged.end):
            return False
        if merged.before is None or self.is_ancestor(merged.before, proposed.end):
            return True
        return proposed.before is not None and not self._difference(
            Range(proposed.before, merged.before)
        )

    def _adds_paths(self, between: Range) -> bool:
        """Whether a range brings the chart, or adds folders or files that it is made of.

        What lies there was no part of the chart before, so nobody was asked about its changes: only
        who saw all of it approves it.
        """
        if between.before is None:
            return True
        before = self._history_paths(between.before)
        return not all(
            any(contains(place, path) for place in before)
            for path in self._history_paths(between.end)
        )

    def _difference(self, between: Range) -> dict[str, FileChange]:
        """What differs of the chart by path, pipeline.yaml by what it says of the chart."""
        if between not in self._differences:
            self._differences[between] = self._compare(between)
        return self._differences[between]

    def _compare(self, between: Range) -> dict[str, FileChange]:
        folder, config_path = self._checkout.folder, self._checkout.config_path
        places = {*self._places, *self._history_paths(between.end)}
        changed = changed_paths(self._source, folder, between.before, between.end, places)
        paths = [path for path in changed if path != config_path]
        difference = file_changes(self._source, folder, between.before, between.end, paths)
        texts = [
            "" if revision is None else self._at(revision).entries_text(self._name)
            for revision in between
        ]
        entries = file_change(*(File("file", text.encode()) for text in texts))
        return {**difference, config_path: entries} if entries else difference

    def _content(self, revision: str) -> str | None:
        return self._at(revision).chart_content_if_readable(self._name)

    def _history_paths(self, revision: str) -> tuple[str, ...]:
        content = self._content(revision)
        return self._at(revision).chart(self._name).history_paths if content else ()

    def _at(self, revision: str) -> Checkout:
        if revision not in self._checkouts:
            self._checkouts[revision] = open_checkout(self._checkout.config, revision)
        return self._checkouts[revision]
