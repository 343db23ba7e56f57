"""The charts in the trees of many revisions, found by patterns; each Chart.yaml is read once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline_steps.charts import paths
from pipeline_steps.charts.paths import chart_yaml
from pipeline_steps.charts.read import Metadata, read_metadata
from pipeline_steps.sources.source import Node, Revisions
from pipeline_steps.toolbox.errors import ConfigurationError

#: How many Chart.yaml are kept.
_KEPT = 10_000


class Place(NamedTuple):
    """A chart's folder in a tree, "" for the tree itself. id: of the folder, see
    `source.Revisions`.
    """

    folder: str
    id: str


class Charts:
    """The charts in the trees of a source. patterns: of their folders, relative to the trees that
    are asked about.
    """

    def __init__(self, revisions: Revisions, patterns: tuple[str, ...]) -> None:
        self._revisions = revisions
        plain = [
            paths.relative_path(alternative, where="--charts")
            for pattern in patterns
            for alternative in paths.expand_braces(pattern)
        ]
        self._patterns = tuple(
            tuple(path.split("/")) if path else () for path in dict.fromkeys(plain)
        )
        self._yamls: dict[str, Node | None] = {}
        self._metadata: dict[str, Metadata | ConfigurationError] = {}

    def places(self, root: str, name: str = "") -> dict[str, Place]:
        """Folder → place of every chart below the folder with the id `root`, in the order of the
        patterns.

        name: only those whose folder is called so, which is much faster among many.
        """
        places = (
            place for pattern in self._patterns for place in self._chart_places(root, pattern, name)
        )
        return {
            place.folder: place
            for place in places
            if not name or place.folder.rpartition("/")[2] == name
        }

    def _chart_places(self, folder: str, pattern: tuple[str, ...], name: str) -> Iterator[Place]:
        if not pattern:
            if self.yaml(folder) is not None:
                yield Place("", folder)
            return
        first, rest = pattern[0], pattern[1:]
        if first == "**":
            yield from self._chart_places(folder, rest, name)
        matches = paths.glob_pattern("*" if first == "**" else first)
        exact_name = name if not rest and first != "**" else ""
        for node in self._revisions.listing(folder):
            if (
                node.kind == "folder"
                and (not exact_name or node.name == exact_name)
                and matches.fullmatch(node.name)
            ):
                for place in self._chart_places(node.id, pattern if first == "**" else rest, name):
                    yield Place(f"{node.name}/{place.folder}".rstrip("/"), place.id)

    def yaml(self, folder: str) -> Node | None:
        """The Chart.yaml of the chart whose folder has the id `folder`."""
        if folder not in self._yamls:
            if len(self._yamls) >= _KEPT:
                self._yamls.clear()
            node = next(
                (node for node in self._revisions.listing(folder) if node.name == "Chart.yaml"),
                None,
            )
            self._yamls[folder] = (
                node if node is not None and node.kind in ("file", "executable") else None
            )
        return self._yamls[folder]

    def metadata(self, place: Place) -> Metadata:
        """What the Chart.yaml of a chart says. Raises ConfigurationError when it is bad."""
        node = self.yaml(place.id)
        if node is None:
            raise ConfigurationError("Chart.yaml is missing", where=place.folder)
        metadata = self._metadata.get(node.id)
        if metadata is None:
            try:
                metadata = read_metadata(
                    self._revisions.read([node.id])[node.id], chart_yaml(place.folder)
                )
            except ConfigurationError as error:
                metadata = error
            if len(self._metadata) >= _KEPT:
                self._metadata.clear()
            self._metadata[node.id] = metadata
        if isinstance(metadata, ConfigurationError):
            raise metadata
        return metadata
