"""What tags stand for: which charts, at which version, and what a tag's text says of them (design.md §8).

A template like {name}-{version} names one chart; a shell pattern like v* stands for every chart there is then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pipeline_steps.auth.reference import DIGEST
from pipeline_steps.charts import paths
from pipeline_steps.charts.paths import chart_yaml
from pipeline_steps.charts.read import Metadata, read_metadata
from pipeline_steps.charts.version import parse as parse_version
from pipeline_steps.config.language import named
from pipeline_steps.sources.git_objects import Node, Objects
from pipeline_steps.toolbox.errors import ConfigurationError

#: Of a chart's name and of what may be a version; the shortest name is the right one, as names have no dots.
_NAME, _VERSION = r"(?P<name>[a-z0-9][-a-z0-9]*?)", r"(?P<version>[0-9]+\.[0-9]+\.[0-9]+.*)"

#: How many Chart.yaml are kept.
_KEPT = 10_000


class Said(NamedTuple):
    """What a tag's text says of one chart: its version and content, and the digests of its images by name."""

    version: str
    content: str
    images: Mapping[str, str]


def said(message: str) -> dict[str, Said]:
    """Chart name → what the lines that tag_release wrote say of it.

    >>> said("Release\\n\\nPipeline-Content: web 1.0.0 sha256:ab")["web"]
    Said(version='1.0.0', content='sha256:ab', images={})
    """
    images: dict[str, dict[str, str]] = {}
    for chart, name, digest in re.findall(rf"^Pipeline-Image: (\S+) (\S+) ({DIGEST.pattern})$", message, re.MULTILINE):
        images.setdefault(chart, {})[name] = digest
    contents = re.findall(r"^Pipeline-Content: (\S+) (\S+) (\S+)$", message, re.MULTILINE)
    return {chart: Said(version, content, images.get(chart, {})) for chart, version, content in contents}


class Names(NamedTuple):
    """Which tags are meant. template: with {name} or {version} in it, or a shell pattern."""

    template: str

    @property
    def pattern(self) -> str:
        """The shell pattern of the tags."""
        return named(self.template, "*", "*")

    @property
    def one_chart(self) -> bool:
        """Whether a tag stands for the one chart that it names."""
        return self.pattern != self.template

    def fits(self, tag: str) -> bool:
        """Whether a tag that fits the pattern is one of these."""
        return not self.one_chart or self.reading(tag) is not None

    def reading(self, tag: str) -> tuple[str, str] | None:
        """The name ("" when the template has none) and the version in a tag; None when it is of another kind.

        >>> Names("{name}-{version}").reading("my-chart-1.0.0-rc.1"), Names("v{version}").reading("v2")
        (('my-chart', '1.0.0-rc.1'), None)
        """
        expression = named(re.escape(self.template).replace(r"\{", "{").replace(r"\}", "}"), _NAME, _VERSION)
        found = re.fullmatch(expression, tag)
        if found is None:
            return None
        name, version = (found.groupdict().get(part, "") for part in ("name", "version"))
        return (name, version) if not version or parse_version(version) else None


class Place(NamedTuple):
    """A chart's folder in a tree, "" for the tree itself, with the id of its own tree."""

    folder: str
    tree: str


class Charts:
    """The charts in the trees of a repository, each Chart.yaml read once."""

    def __init__(self, objects: Objects, patterns: tuple[str, ...]) -> None:
        self._objects = objects
        plain = [paths.inside(part, where="--charts") for one in patterns for part in paths.alternatives(one)]
        self._patterns = tuple(tuple(each.split("/")) if each else () for each in dict.fromkeys(plain))
        self._metadata: dict[str, Metadata | ConfigurationError] = {}
        self._yamls: dict[str, Node | None] = {}

    def places(self, tree: str, name: str = "") -> dict[str, Place]:
        """Folder → place of every chart that fits a pattern, in the order of the patterns.

        name: only those whose folder is called so, which is much faster among many.
        """
        found = (place for pattern in self._patterns for place in self._look(tree, pattern, name))
        return {place.folder: place for place in found if not name or place.folder.rpartition("/")[2] == name}

    def _look(self, tree: str, pattern: tuple[str, ...], name: str) -> Iterator[Place]:
        if not pattern:
            if self.yaml(tree) is not None:
                yield Place("", tree)
            return
        first, rest = pattern[0], pattern[1:]
        if first == "**":
            yield from self._look(tree, rest, name)
        fitting = paths.expression("*" if first == "**" else first)
        called = name if not rest and first != "**" else ""
        for node in self._objects.listing(tree):
            if node.kind == "tree" and (not called or node.name == called) and fitting.fullmatch(node.name):
                for place in self._look(node.id, pattern if first == "**" else rest, name):
                    yield Place(f"{node.name}/{place.folder}".rstrip("/"), place.tree)

    def yaml(self, tree: str) -> Node | None:
        """The Chart.yaml of the chart whose folder is `tree`."""
        if tree not in self._yamls:
            if len(self._yamls) >= _KEPT:
                self._yamls.clear()
            found = next((node for node in self._objects.listing(tree) if node.name == "Chart.yaml"), None)
            self._yamls[tree] = found if found is not None and found.kind in ("file", "executable") else None
        return self._yamls[tree]

    def metadata(self, place: Place) -> Metadata:
        """What the Chart.yaml of a chart says. Raises ConfigurationError when it is bad."""
        node = self.yaml(place.tree)
        if node is None:
            raise ConfigurationError("Chart.yaml is missing", where=place.folder)
        found = self._metadata.get(node.id)
        if found is None:
            try:
                found = read_metadata(self._objects.blobs([node.id])[node.id], chart_yaml(place.folder))
            except ConfigurationError as error:
                found = error
            if len(self._metadata) >= _KEPT:
                self._metadata.clear()
            self._metadata[node.id] = found
        if isinstance(found, ConfigurationError):
            raise found
        return found
