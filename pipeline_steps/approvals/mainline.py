"""The changes of the mainline that a release of a chart brings, each of which must be approved.

They begin after the chart's last release, or before the first one with the change that brought the
chart into pipeline.yaml. A tag alone is no release: whoever may push tags could end the list with
one. So the last release is the highest version below this one of which production has what the tag
names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from pipeline_steps.approvals.changes import changed_paths
from pipeline_steps.charts.version import parse as parse_version
from pipeline_steps.config.language import Config
from pipeline_steps.sources.source import Reviewable, Tag
from pipeline_steps.toolbox.errors import ConfigurationError, UsageError
from pipeline_steps.workspace import tags
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout

#: Mainline revisions that are looked at.
MOST_REVISIONS = 100_000


class Change(NamedTuple):
    """A mainline revision that changed what a chart is made of.

    before: its mainline parent, None for the first revision. paths: what it changed, relative to
    pipeline.yaml's folder; pipeline.yaml itself where it says something else about the chart.
    """

    revision: str
    before: str | None
    paths: tuple[str, ...]


class Mainline(NamedTuple):
    """revisions: of the mainline since the last release that changed anything, newest first.
    changes: those that are about the chart, newest first. places: where its files are, or were.
    """

    revisions: tuple[str, ...]
    changes: tuple[Change, ...]
    places: tuple[str, ...]


def last_release(
    checkout: Checkout, chart: Chart, is_released: Callable[[Tag, str], bool]
) -> Tag | None:
    """The tag of the chart's highest version below its own that is in production; None without.

    is_released: whether production has what a tag names, as the version in its name.
    """
    names = tags.TagPattern(checkout.config.release.tag)
    own = parse_version(chart.version)
    found = checkout.source.tags(tags.tag_name(checkout.config, chart.name, "*"))
    texts = {tag: names.version(tag, chart.name) for tag in found}
    versions = {tag: parse_version(text) for tag, text in texts.items()}
    below = [
        (version, tag) for tag, version in versions.items() if version and own and version < own
    ]
    # One after the other: the highest nearly always is there, and each one is a request.
    for _, tag in sorted(below, reverse=True):
        if is_released(found[tag], texts[tag]):
            return found[tag]
    return None


def mainline(checkout: Checkout, chart: Chart, former: Tag | None) -> Mainline:
    """What the mainline that leads to the checked-out revision changed of a chart.

    former: the tag of the last release, None before the first.

    Raises:
        UsageError: the source has no reviews.
        MachineError: the history is not here (shallow clone).
    """
    source = reviewable(checkout)
    after = former.revision if former else ""
    revisions = source.history(checkout.revision, ["."], MOST_REVISIONS, after)
    places = set(chart.history_paths) | _places_at(checkout.config, former, chart.name)
    # A chart was elsewhere before it was moved: what was changed there is part of it, too.
    while True:
        changes, earlier = _changes(checkout, chart, places, after, ends=former is None)
        if earlier <= places:
            return Mainline(revisions, tuple(changes), tuple(sorted(places)))
        places |= earlier


def reviewable(checkout: Checkout) -> Reviewable:
    """The source of a checkout. Raises UsageError for one without reviews: Subversion."""
    if not isinstance(checkout.source, Reviewable):
        raise UsageError(
            f"{checkout.source.system} has no reviews, so nothing can be approved",
            where=str(checkout.config.root),
            advice="take approval.NAME out of channels.production.requires and review.requires",
        )
    return checkout.source


def _places_at(config: Config, tag: Tag | None, name: str) -> set[str]:
    """Where the files of a chart are at a tag, as far as it can be read there."""
    if tag is None:
        return set()
    try:
        return set(open_checkout(config, tag.revision, entries_here=True).chart(name).history_paths)
    except (ConfigurationError, UsageError):
        return set()


def _changes(
    checkout: Checkout, chart: Chart, places: Iterable[str], after: str, *, ends: bool
) -> tuple[list[Change], set[str]]:
    """The changes below `places` after a revision, newest first, and the places of the chart before
    each of them. ends: with the one that brings the chart into pipeline.yaml.
    """
    source = reviewable(checkout)
    paths = {_from_root(checkout, path) for path in (*places, checkout.config_path)}
    changes: list[Change] = []
    earlier: set[str] = set()
    for revision in source.history(checkout.revision, sorted(paths), MOST_REVISIONS, after):
        before = next(iter(source.parents(revision)), None)
        former = open_checkout(checkout.config, before) if before else None
        change = _change(checkout, chart.name, revision, former, places)
        if change.paths:
            changes.append(change)
        if former and former.lists_chart(chart.name, chart.path):
            earlier |= _history_paths(former, chart.name)
        elif ends:
            break
    return changes, earlier


def _change(
    checkout: Checkout, name: str, revision: str, former: Checkout | None, places: Iterable[str]
) -> Change:
    before = former.revision if former else None
    changed = changed_paths(checkout.source, checkout.folder, before, revision, places)
    paths = [path for path in changed if path != checkout.config_path]
    entries = former.entries_text(name) if former else ""
    if open_checkout(checkout.config, revision).entries_text(name) != entries:
        paths.append(checkout.config_path)
    return Change(revision, before, tuple(paths))


def _history_paths(checkout: Checkout, name: str) -> set[str]:
    try:
        return set(checkout.chart(name).history_paths)
    except ConfigurationError:
        return set()


def _from_root(checkout: Checkout, path: str) -> str:
    return "/".join(part for part in (checkout.folder, path) if part) or "."
