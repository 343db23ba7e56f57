"""What tags stand for: which charts, at which version, and what a tag's text says of them
(docs/reference/versions.md#tags-of-the-source).

A template like {name}-{version} (`release.tag`) names one chart; any other tag stands for every
chart there is then.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from typing import NamedTuple

from pipeline_steps.auth.reference import DIGEST
from pipeline_steps.charts.version import parse as parse_version
from pipeline_steps.config.language import Config, fill_name_template
from pipeline_steps.sources.source import Source, Tag
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, UsageError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout
from pipeline_steps.workspace.content import FORMAT, FORMAT_1

#: Of a chart's name and of what may be a version; the shortest name is the right one, as names have
#: no dots.
_NAME, _VERSION = r"[a-z0-9][-a-z0-9]*?", r"[0-9]+\.[0-9]+\.[0-9]+.*"
#: What may be meant as a version.
_LOOSE_VERSION = r"[vV]?[0-9].*"


# -- what a tag's text says ---


class TaggedRelease(NamedTuple):
    """What a tag's text says of one chart: its version and content, and the digests of its images
    by name.

    format: of the content, and of the names that its images have in production
    (`building.production_images.image_tag`).
    """

    version: str
    content: str
    images: Mapping[str, str]
    format: int = FORMAT


def write_trailers(chart: str, released: TaggedRelease) -> str:
    """The lines of a tag's text about a chart, which `read_trailers` reads."""
    # Tags of the first format have no such line, and theirs must come out the same.
    lines = [] if released.format == FORMAT_1 else [f"Pipeline-Format: {released.format}"]
    lines += [f"Pipeline-Content: {chart} {released.version} {released.content}"]
    lines += [
        f"Pipeline-Image: {chart} {image} {digest}" for image, digest in released.images.items()
    ]
    return "\n".join(lines)


def read_trailers(tag: Tag) -> dict[str, TaggedRelease]:
    """Chart name → what the lines that tag_release wrote say of it; nothing for a tag without such
    lines.

    Raises EvidenceError for a format that this version does not know.

    >>> read_trailers(Tag("web-1.0.0", "", "Release\\n\\nPipeline-Content: web 1.0.0 sha256:ab", ""))["web"]
    TaggedRelease(version='1.0.0', content='sha256:ab', images={}, format=1)
    """
    format_line = re.search(r"^Pipeline-Format: (.*)$", tag.message, re.MULTILINE)
    formats = {str(format): format for format in (FORMAT_1, FORMAT)}
    if format_line and format_line[1] not in formats:
        message = (
            f"the tag's text has Pipeline-Format: {format_line[1]}, this version knows "
            f"{' and '.join(formats)}"
        )
        raise EvidenceError(message, where=f"tag {tag.name}", advice="use a newer pipeline_steps")
    # Versions that wrote no such line knew no other format.
    format = formats[format_line[1]] if format_line else FORMAT_1
    image, content = (
        rf"^Pipeline-Image: (\S+) (\S+) ({DIGEST.pattern})$",
        r"^Pipeline-Content: (\S+) (\S+) (\S+)$",
    )
    images: dict[str, dict[str, str]] = {}
    for chart, name, digest in re.findall(image, tag.message, re.MULTILINE):
        images.setdefault(chart, {})[name] = digest
    contents = re.findall(content, tag.message, re.MULTILINE)
    return {
        chart: TaggedRelease(version, digest, images.get(chart, {}), format)
        for chart, version, digest in contents
    }


# -- what a tag's name says ---


class TagPattern(NamedTuple):
    """Which tags are meant. template: with {name} or {version} in it, or a shell pattern."""

    template: str

    @property
    def glob(self) -> str:
        """The shell pattern of the tags."""
        return fill_name_template(self.template, "*", "*")

    @property
    def names_one_chart(self) -> bool:
        """Whether a tag stands for the one chart that it names."""
        return self.glob != self.template

    def matches(self, tag: str) -> bool:
        """Whether a tag that fits the pattern is one of these."""
        return not self.names_one_chart or self.parse(tag) is not None

    def parse(self, tag: str) -> tuple[str, str] | None:
        """The name ("" when the template has none) and the version in a tag; None when it is of
        another kind.

        >>> TagPattern("{name}-{version}").parse("my-chart-1.0.0-rc.1"), TagPattern("v{version}").parse("v2")
        (('my-chart', '1.0.0-rc.1'), None)
        """
        match = self._match(tag, _NAME)
        if match is None:
            return None
        name, version = (match.groupdict().get(part, "") for part in ("name", "version"))
        return (name, version) if not version or parse_version(version) else None

    def parse_loosely(self, tag: str) -> tuple[str, str] | None:
        """Like `parse`, also of what only resembles a version; None for a shell pattern.

        >>> TagPattern("{name}-{version}").parse_loosely("web-v1.0"), TagPattern("v{version}").parse_loosely("v2")
        (('web', 'v1.0'), ('', '2'))
        """
        if not self.names_one_chart:
            return None
        match = self._match(tag, _NAME, f"[vV]?{_VERSION}")
        match = match or self._match(tag, _NAME, _LOOSE_VERSION)
        if match is None:
            return None
        name, version = (match.groupdict().get(part, "") for part in ("name", "version"))
        return name, version

    def has_version(self, tag: str) -> bool:
        """Whether a tag has three numbers where the template has the version, valid or not."""
        match = self._match(tag, _NAME, f"[vV]?{_VERSION}")
        return match is not None and bool(match.groupdict().get("version"))

    def may_name(self, tag: str, chart: str) -> bool:
        """Whether a tag may be about a chart, by its name alone."""
        return not self.names_one_chart or bool(self._match(tag, re.escape(chart), _LOOSE_VERSION))

    def version(self, tag: str, chart: str) -> str:
        """What stands for a version in a tag of that chart, "" when it is no such tag.

        >>> TagPattern("{name}-{version}").version("web-2-1.0.0", "web-2")
        '1.0.0'
        """
        match = self._match(tag, re.escape(chart))
        return match.groupdict().get("version", "") if match else ""

    def _match(self, tag: str, name: str, version: str = _VERSION) -> re.Match[str] | None:
        expression = re.escape(self.template)
        for part, pattern in (("name", name), ("version", version)):
            written = re.escape(f"{{{part}}}")
            # A template may name a part twice, as {name}/{name}-{version}: both must be equal.
            expression = expression.replace(written, f"(?P<{part}>{pattern})", 1).replace(
                written, f"(?P={part})"
            )
        return re.fullmatch(expression, tag)


def tag_name(config: Config, chart: str, version: str) -> str:
    """What `release.tag` calls a version of a chart."""
    return fill_name_template(config.release.tag, chart, version)


def charts_named(checkout: Checkout, tag: str) -> tuple[str, ...]:
    """The charts of a checkout whose version the tag `tag` names; () for a tag that is about no
    chart in particular.

    Raises UsageError for one that names a chart here at another version.
    """
    versions = {chart: checkout.chart_version(chart) for chart in checkout.readable_charts}
    charts = [
        chart
        for chart, version in versions.items()
        if tag_name(checkout.config, chart, version) == tag
    ]
    names = TagPattern(checkout.config.release.tag)
    for chart, version in versions.items():
        if not charts and "{name}" in names.template and names.version(tag, chart):
            message = f"the tag {tag} names the chart {chart}, whose version there is {version}"
            raise UsageError(
                message, advice="tag the revision with that version, or correct Chart.yaml"
            )
    return tuple(charts)


# -- which tags there are, and what is at them ---


def find_tag(source: Source, name: str) -> Tag | None:
    """The tag of exactly that name, None when it is not known here; branches and abbreviations are
    no tags.
    """
    # Tags are asked for by shell pattern, and a name may have [ or * in it.
    return source.tags(glob.escape(name)).get(name)


def require_tag(source: Source, name: str) -> Tag:
    """The tag of exactly that name. Raises UsageError when it is not known here."""
    tag = find_tag(source, name)
    if tag is None:
        raise UsageError(
            f"there is no tag {name!r} here",
            advice=f"run {source.fetch_command}, or correct the name",
        )
    return tag


class TaggedChart(NamedTuple):
    """A version's tag, and the chart as it stands there: None where it cannot be read, for
    `reason`. older: than pipeline.yaml; the chart is read by the entries that are here.
    """

    tag: Tag
    chart: Chart | None
    reason: str = ""
    older: bool = False

    def has_content(self, content: str | None) -> bool:
        """Whether the chart has this content at the tag; None: one that cannot be told."""
        return self.chart is not None and self.chart.content == content


def chart_at_tag(checkout: Checkout, chart: str) -> TaggedChart | None:
    """What the tag of the version that a chart's Chart.yaml says stands for; None when there is no
    such tag here.
    """
    tag = find_tag(checkout.source, tag_name(checkout.config, chart, checkout.chart_version(chart)))
    if tag is None:
        return None
    older = False
    try:
        # What is at hand already: opening a revision reads its whole tree.
        if tag.revision == checkout.revision and not checkout.chart(chart).modified:
            return TaggedChart(tag, checkout.chart(chart))
        there = open_checkout(checkout.config, tag.revision, entries_here=True)
        older = not there.has_own_config
        return TaggedChart(tag, there.chart(chart), older=older)
    except (ConfigurationError, UsageError) as error:
        # Without its advice: nobody can mend what a tag has.
        return TaggedChart(tag, None, f"{error.where}: {error.what}".removeprefix(": "), older)


def last_release_tag(checkout: Checkout, chart: str) -> Tag | None:
    """The chart's tag of the highest version, named as `release.tag` says; None without any."""
    names = TagPattern(checkout.config.release.tag)
    tags = {
        version: tag
        for name, tag in checkout.source.tags(tag_name(checkout.config, chart, "*")).items()
        if (version := parse_version(names.version(name, chart)))
    }
    return tags[max(tags)] if tags else None
