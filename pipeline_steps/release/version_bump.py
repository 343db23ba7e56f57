"""What raising the versions of charts changes: Chart.yaml of each and of those that pack it, and
their locks. Decided here, written by the command `bump`.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline_steps.charts import edit, lock, ranges
from pipeline_steps.charts.collect import collect_files
from pipeline_steps.charts.lock import Versions
from pipeline_steps.charts.paths import chart_yaml, relative_path
from pipeline_steps.charts.read import Dependency, read_dependencies
from pipeline_steps.charts.version import Part, Version, bump, parse, parse_strict
from pipeline_steps.testing.version_policy import last_release_here, newest_revision
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace import tags
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout

#: Artifact Hub's annotation for the changes of a version: a text that holds a YAML list.
#: Source: artifacthub.io/docs/topics/annotations/helm.
CHANGES = "artifacthub.io/changes"


class RaisedVersion(NamedTuple):
    """A chart, its version as it is and as it will be: equal when it is free already."""

    chart: str
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


class VersionBump(NamedTuple):
    """versions: of the charts in their order. files: path in the checkout → its new bytes."""

    versions: tuple[RaisedVersion, ...]
    files: Mapping[str, bytes]


def plan_bump(
    checkout: Checkout,
    charts: Iterable[str],
    *,
    part: Part,
    target: str,
    message: str,
    versions: Versions,
    generated: str,
) -> VersionBump:
    """The bump of `charts` by `part`, and of what packs them by a patch.

    A version is raised from the last one that is taken: by a tag on this line of history, or by the
    tip of the target. One that is as high already stays, so the same bump again changes nothing.

    Args:
        target: the branch or revision that the change goes to, "" for none.
        message: for the annotation artifacthub.io/changes of what is raised; "" leaves it.
        versions: the versions of a dependency in its repository, newest first.
        generated: RFC 3339, for locks.

    Raises:
        ConfigurationError: a chart cannot be read, a dependent's range excludes the new version, or
            no version fits a dependency.
        UsageError: there is no such target.
    """
    parts: dict[str, Part] = dict.fromkeys(charts, part)
    for chart in checkout.each_readable():
        packs_raised = any(checkout.chart(raised).path in chart.subcharts for raised in charts)
        if packs_raised:
            # Its content changes with the packed chart, and one version must not mean two contents.
            parts.setdefault(chart.name, "patch")
    raised = [
        RaisedVersion(name, checkout.chart_version(name), _next(checkout, name, step, target))
        for name, step in parts.items()
    ]
    files = {}
    after = {checkout.chart(each.chart).path: each.after for each in raised}
    for each in raised:
        files.update(_edited(checkout, checkout.chart(each.chart), each, after, message))
    files.update(
        _outdated_locks(checkout, [each.chart for each in raised], files, versions, generated)
    )
    return VersionBump(tuple(raised), files)


def _next(checkout: Checkout, name: str, part: Part, target: str) -> str:
    """The chart's own version when it is high enough and free, else the next that is."""
    text = checkout.chart_version(name)
    version = parse_strict(text, chart_yaml(checkout.chart(name).path))
    taken_versions = _taken_versions(checkout, name, target)
    if not taken_versions:
        return text
    next_version = bump(max(taken_versions), part)
    if version >= next_version and _is_free(checkout, name, text):
        return text
    # Never below what people wrote, also where that is a pre-release.
    next_version = max(next_version, Version(*version[:3]))
    while not _is_free(checkout, name, str(next_version)):
        next_version = bump(next_version)
    return str(next_version)


def _taken_versions(checkout: Checkout, name: str, target: str) -> list[Version]:
    versions = []
    if last := last_release_here(checkout, name):
        versions.append(last.version)
    if target:
        # The target may have raised it since this branch began.
        tip = open_checkout(checkout.config, newest_revision(checkout.source, target))
        if name in tip.readable_charts and (version := parse(tip.chart_version(name))):
            versions.append(version)
    return versions


def _is_free(checkout: Checkout, name: str, version: str) -> bool:
    """Whether no tag has the version; one of this very content is this version's own."""
    tag = tags.find_tag(checkout.source, tags.tag_name(checkout.config, name, version))
    if tag is None:
        return True
    if version != checkout.chart_version(name):
        return False
    tagged = tags.chart_at_tag(checkout, name)
    return tagged is not None and tagged.has_content(checkout.chart(name).content)


def _edited(
    checkout: Checkout,
    chart: Chart,
    raised: RaisedVersion,
    after: Mapping[str, str],
    message: str,
) -> dict[str, bytes]:
    """The chart's changed files. after: folder of each raised chart → its new version."""
    path = chart_yaml(chart.path)
    requirements = posixpath.join(chart.path, "requirements.yaml")
    present = [file for file in (path, requirements) if file in checkout.tree.entries()]
    files = checkout.tree.read(present)
    changed = dict(files)
    if raised.changed:
        changed[path] = _set(files[path], {"version": raised.after}, path)
        if message:
            changed[path] = with_changes(changed[path], message, path)
    for file in present:
        dependencies = read_dependencies(files[file], file)
        values = {
            f"dependencies[{number}].version": version
            for number, dependency in enumerate(dependencies)
            if (version := _dependency_version(dependency, chart.path, after, file))
        }
        changed[file] = _set(changed[file], values, file)
    return {file: data for file, data in changed.items() if data != files[file]}


def _set(data: bytes, values: Mapping[str, str], file: str) -> bytes:
    return edit.replace(data, values, file=file, where=file)[0]


def _dependency_version(
    dependency: Dependency, folder: str, after: Mapping[str, str], file: str
) -> str:
    """What `version` of a dependency becomes; "" when it stays as it is."""
    if not dependency.local:
        return ""
    version = after.get(relative_path(dependency.folder, base=folder, where=file))
    if version is None or not dependency.version:
        return ""
    if not ranges.is_range(dependency.version):
        return version if version != dependency.version else ""
    if not ranges.is_in_range(parse_strict(version, file), dependency.version, file):
        problem = (
            f"the dependency {dependency.name} {dependency.version} excludes the new version "
            f"{version}"
        )
        raise ConfigurationError(problem, where=file, advice="change the range, then bump again")
    return ""


def _outdated_locks(
    checkout: Checkout,
    charts: Iterable[str],
    edited: Mapping[str, bytes],
    versions: Versions,
    generated: str,
) -> dict[str, bytes]:
    """The locks that do not match the edited files, as helm writes them."""
    entries = checkout.tree.entries()

    def read(paths: Iterable[str]) -> dict[str, bytes]:
        requested = list(paths)
        stored = checkout.tree.read([path for path in requested if path not in edited])
        return {**stored, **{path: edited[path] for path in requested if path in edited}}

    locks = {}
    for name in charts:
        chart = checkout.chart(name)
        kinds = {path: entries[path].kind for path in chart.closure if path in entries}
        lock_of = lock.outdated_lock(collect_files(chart.path, kinds, read), versions, chart.path)
        if lock_of:
            locks[posixpath.join(chart.path, lock_of.file)] = lock_of.text(generated)
    return locks


def with_changes(data: bytes, message: str, where: str) -> bytes:
    r"""A Chart.yaml whose annotation artifacthub.io/changes is a list of this one change.

    Every other byte stays. Raises ConfigurationError where `annotations` is not a block mapping.

    >>> with_changes(b"name: web\nannotations:\n  a: b\n", "Fix it", "")
    b'name: web\nannotations:\n  artifacthub.io/changes: |\n    - "Fix it"\n  a: b\n'
    >>> with_changes(b"name: web", "Fix it", "")
    b'name: web\nannotations:\n  artifacthub.io/changes: |\n    - "Fix it"\n'
    """
    text = data.decode()
    entry = f"  {CHANGES}: |\n    - {json.dumps(message, ensure_ascii=False)}\n"
    header = re.search(r"^annotations:[ \t]*(#.*)?\r?$", text, re.MULTILINE)
    if header is None and re.search(r"^[\"']?annotations", text, re.MULTILINE):
        advice = f"write annotations with one key a line, or leave -m out and write {CHANGES}"
        raise ConfigurationError("annotations is not a block of keys", where=where, advice=advice)
    if header is None:
        end = "" if text.endswith("\n") or not text else "\n"
        return f"{text}{end}annotations:\n{entry}".encode()
    start = header.end() + 1
    before, after = text[: header.end()] + "\n", text[start:]
    indent = re.match(r"(?:[ \t]*(?:#.*)?\r?\n)*([ ]+)\S", after)
    spaces = indent[1] if indent else "  "
    entry = f"{spaces}{CHANGES}: |\n{spaces}  - {json.dumps(message, ensure_ascii=False)}\n"
    former = re.compile(
        rf"^{spaces}[\"']?{re.escape(CHANGES)}[\"']?:.*\n(?:(?:{spaces}[ ]+.*|[ \t]*)\n)*",
        re.MULTILINE,
    )
    return (before + entry + former.sub("", after, count=1)).encode()
