"""Whether the version of a changed chart went up, as `check.version` asks for
(docs/reference/versions.md#when-a-version-must-go-up).

A version is free for a content when no tag has it with other content, no tag on the same line of
history has a higher one, and the branch that a review goes to has not taken it in the meantime.
Tags and branches are read here as last fetched; no repository is asked.
"""

from __future__ import annotations

import logging
from typing import Literal, NamedTuple

from pipeline_steps.charts.paths import chart_yaml
from pipeline_steps.charts.read import written_name
from pipeline_steps.charts.version import Version, parse
from pipeline_steps.sources.source import Source, Tree, short_revision
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError, UsageError
from pipeline_steps.workspace import tags
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout

Rule = Literal["released", "below-release", "not-raised"]
#: How many changes of a Chart.yaml are looked at for the one that set its version.
MAX_VERSION_REVISIONS = 50
#: Paths that a finding lists.
_LISTED_FILES = 10

log = logging.getLogger("pipeline_steps.check")


class ReleasedVersion(NamedTuple):
    """A version with its tag, and the revision that the tag names."""

    version: Version
    tag: str
    revision: str


class VersionFinding(NamedTuple):
    """Why a chart's version must go up. where: Chart.yaml and the line of its version."""

    rule: Rule
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text} (version: {self.rule})"


def find(checkout: Checkout, chart: Chart, target: str = "") -> VersionFinding | None:
    """The finding about a chart; None when its version is free.

    target: the branch or revision that the change goes to, "" when there is none.

    Raises:
        MachineError: the history that decides is not here (shallow clone).
        UsageError: `target` is not known here.
    """
    return (
        _released_with_other_content(checkout, chart)
        or _below_a_release(checkout, chart)
        or (_taken_by_target(checkout, chart, target) if target else None)
    )


def find_or_warn(checkout: Checkout, chart: Chart, target: str) -> VersionFinding | None:
    """Like `find`; where the history is not here, that is an error only if a version is required."""
    try:
        return find(checkout, chart, target)
    except (MachineError, UsageError) as error:
        if checkout.config.check.version == "required":
            raise
        log.warning("%s: whether its version must go up is not known: %s", chart.name, error)
        return None


def _released_with_other_content(checkout: Checkout, chart: Chart) -> VersionFinding | None:
    tagged = tags.chart_at_tag(checkout, chart.name)
    if tagged is None or tagged.has_content(chart.content):
        return None
    released = f"version {chart.version} is released (tag {tagged.tag.name} at {short_revision(tagged.tag.revision)})"
    if tagged.chart is None:
        difference = f", and cannot be compared: {tagged.reason}"
    else:
        tagged_tree = checkout.source.tree(tagged.tag.revision, checkout.folder)
        closures = {*chart.closure, *tagged.chart.closure}
        files = sorted(path for path in closures if _differs(tagged_tree, checkout.tree, path))
        more = f" and {len(files) - _LISTED_FILES} more" if len(files) > _LISTED_FILES else ""
        difference = " with other content; " + (
            f"changed since: {', '.join(files[:_LISTED_FILES])}{more}"
            if files
            else "its entries in pipeline.yaml changed since"
        )
        if tagged.older:
            difference += " (the tag is older than pipeline.yaml, whose entries here were taken)"
    return _finding("released", checkout, chart, f"{released}{difference}")


def _below_a_release(checkout: Checkout, chart: Chart) -> VersionFinding | None:
    """A hotfix is above the last release on its own line; releases elsewhere do not count."""
    version = parse(chart.version)
    higher = last_release_here(checkout, chart.name, above=version) if version else None
    if higher is None:
        return None
    text = f"version {chart.version} is below {higher.version}, released here (tag {higher.tag})"
    return _finding("below-release", checkout, chart, text)


def last_release_here(
    checkout: Checkout, chart: str, above: Version | None = None
) -> ReleasedVersion | None:
    """The highest version of a chart that a tag on this line of history has; None without any.

    above: look at higher versions only.
    """
    names = tags.TagPattern(checkout.config.release.tag)
    releases = [
        ReleasedVersion(version, name, tag.revision)
        for name, tag in checkout.source.tags(tags.tag_name(checkout.config, chart, "*")).items()
        if (version := parse(names.version(name, chart))) and (above is None or version > above)
    ]
    for release in sorted(releases, reverse=True):
        if _is_ancestor(checkout.source, release.revision):
            return release
    return None


def _taken_by_target(checkout: Checkout, chart: Chart, target: str) -> VersionFinding | None:
    """The version at the tip of the target, unless the change leaves the chart as it was."""
    source = checkout.source
    base = open_checkout(checkout.config, source.base(target))
    if base.chart_content_if_readable(chart.name) == chart.content:
        return None
    tip = open_checkout(checkout.config, newest_revision(source, target))
    try:
        target_chart = tip.chart(chart.name)
    except ConfigurationError:  # new, or unreadable there: nothing to compare with
        return None
    version, target_version = parse(chart.version), parse(target_chart.version)
    if target_chart.content == chart.content or not version or not target_version:
        return None
    if version > target_version:
        return None
    revision = _revision_that_set_version(tip, target_chart)
    text = (
        f"version {chart.version} is not above {target_chart.version} of {target}"
        f"{f' (set by {short_revision(revision)})' if revision else ''}"
    )
    return _finding("not-raised", checkout, chart, text)


def _revision_that_set_version(checkout: Checkout, chart: Chart) -> str:
    """The oldest of the newest revisions whose Chart.yaml has the chart's version."""
    path = chart_yaml(chart.path)
    from_root = "/".join(part for part in (checkout.folder, path) if part)
    oldest = ""
    for revision in checkout.source.history(checkout.revision, [from_root], MAX_VERSION_REVISIONS):
        tree = checkout.source.tree(revision, checkout.folder)
        if path not in tree.entries():
            break
        if written_name(tree.read([path])[path])[1] != chart.version:
            break
        oldest = revision
    return oldest


def newest_revision(source: Source, target: str) -> str:
    """The tip of a branch as last fetched, or the revision that `target` names. Raises UsageError."""
    try:
        return source.tip(target)
    except UsageError:  # a revision or a tag, as `--since` takes it
        return source.revision(target)


def _is_ancestor(source: Source, revision: str) -> bool:
    try:
        return source.base(revision) == revision
    except UsageError:  # no common history
        return False


def _finding(rule: Rule, checkout: Checkout, chart: Chart, text: str) -> VersionFinding:
    path = chart_yaml(chart.path)
    root = yaml_reader.parse(checkout.tree.read([path])[path], path, duplicates=True)[1]
    node = root.get("version") if isinstance(root, yaml_reader.Mapping) else None
    where = f"{path}:{node.line + 1}" if node is not None else path
    advice = f"raise it before the next release: pipeline-steps bump --chart {chart.name}"
    return VersionFinding(rule, where, f"{text}; {advice}")


def _differs(tagged_tree: Tree, current_tree: Tree, path: str) -> bool:
    old_entry, new_entry = tagged_tree.entries().get(path), current_tree.entries().get(path)
    if old_entry is None or new_entry is None or old_entry.kind != new_entry.kind:
        return old_entry is not new_entry
    return tagged_tree.digests([path]) != current_tree.digests([path])
