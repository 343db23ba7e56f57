"""Find charts by patterns in the trees of many revisions; each Chart.yaml is parsed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline_steps.charts import paths
from pipeline_steps.charts.paths import chart_yaml
from pipeline_steps.charts.read import (
    REQUIREMENTS,
    Metadata,
    linked_file_error,
    read_metadata,
    written_name,
)
from pipeline_steps.sources.source import Node, Revisions
from pipeline_steps.toolbox.errors import ConfigurationError, PipelineError

#: How many parsed Chart.yaml files are cached.
_KEPT = 10_000
#: How many folders without a chart are remembered.
_KEPT_FOLDERS = 200_000
#: Links that one path may lead over, as in Linux.
_LINKS = 40
_FILES = ("file", "executable")


class Place(NamedTuple):
    """A chart's folder in a tree, "" for the top. id: of the folder, see `source.Revisions`."""

    folder: str
    id: str


class _Link(NamedTuple):
    """A symbolic link that the beginning of a pattern fits. rest: the parts of it that are left."""

    folder: str
    rest: tuple[str, ...]


class Charts:
    """The charts in the trees of a source. patterns: of chart folders, relative to a tree."""

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
        self._metadata: dict[tuple[str, str], Metadata | _Bad] = {}
        self._without: set[str] = set()

    def places(self, root: str, name: str = "") -> dict[str, Place]:
        """Folder → place of every chart below the folder with the id `root`, in pattern order.

        name: only charts whose folder has this name; much faster in repositories of many charts.
        """
        return self._places_and_links(root, name)[0]

    def places_and_linked(self, root: str) -> tuple[dict[str, Place], dict[str, Place]]:
        """The places of every chart, and link → place of each chart that a pattern fits by way of a
        symbolic link alone.
        """
        places, links = self._places_and_links(root)
        linked = {}
        for link in links:
            real = self._follow(root, link.folder)
            if real is None:
                continue
            for place in self._matches(real.id, link.rest, ""):
                folder = f"{real.folder}/{place.folder}".strip("/")
                if isinstance(place, Place) and folder not in places:
                    path = f"{link.folder}/{place.folder}".rstrip("/")
                    linked[path] = Place(folder, place.id)
        return places, linked

    def _places_and_links(self, root: str, name: str = "") -> tuple[dict[str, Place], list[_Link]]:
        places: dict[str, Place] = {}
        links = []
        for pattern in self._patterns:
            for match in self._matches(root, pattern, name):
                if isinstance(match, _Link):
                    links.append(match)
                elif not name or match.folder.rpartition("/")[2] == name:
                    places.setdefault(match.folder, match)
        return places, links

    def _follow(self, root: str, path: str) -> Place | None:
        """The folder that a path with links leads to; None when it is none below `root`."""
        above = [Place("", root)]
        parts, links = path.split("/")[::-1], 0
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                above.pop()
            if not above:
                return None
            node = self._revisions.child(above[-1].id, part) if part != ".." else None
            if node is not None and node.kind == "folder":
                above.append(Place(f"{above[-1].folder}/{part}".lstrip("/"), node.id))
            elif node is not None and node.kind == "link" and links < _LINKS:
                links += 1
                target = self._revisions.read([node.id])[node.id].decode(errors="surrogateescape")
                if target.startswith("/"):
                    return None
                parts += target.split("/")[::-1]
            elif part != "..":
                return None
        return above[-1]

    def _matches(self, folder: str, pattern: tuple[str, ...], name: str) -> Iterator[Place | _Link]:
        """The charts below a folder that a pattern fits, and the links that its beginning fits."""
        if not pattern:
            if self.yaml(folder) is not None:
                yield Place("", folder)
            return
        first, rest = pattern[0], pattern[1:]
        if first == "**":
            yield from self._matches(folder, rest, name)
        matches = paths.glob_pattern("*" if first == "**" else first)
        # Asking for one name reads one row of a tree; listing it makes a value for each chart there
        # is.
        exact_name = name if not rest and first != "**" else ""
        literal = exact_name or (first if not paths.is_glob(first) else "")
        for node in self._named(folder, literal):
            if not matches.fullmatch(node.name):
                continue
            if node.kind == "link":
                yield _Link(node.name, rest)
            if node.kind == "folder":
                for match in self._matches(node.id, pattern if first == "**" else rest, name):
                    yield match._replace(folder=f"{node.name}/{match.folder}".rstrip("/"))

    def _named(self, folder: str, name: str) -> Iterable[Node]:
        """What a folder holds, or only what is called `name` where one is given."""
        if not name:
            return self._revisions.listing(folder)
        node = self._revisions.child(folder, name)
        return () if node is None else (node,)

    def outside(self, root: str) -> Iterator[Place]:
        """Every chart below the folder with the id `root`, whether or not a pattern fits it.

        Not those that lie in a chart, but for one at the top of the source.
        """
        if self.yaml(root) is None:
            yield from self._below(root)
            return
        yield Place("", root)
        for node in self._revisions.listing(root):
            if node.kind == "folder" and node.name != "charts":  # the chart's own subcharts
                for place in self._below(node.id):
                    yield Place(f"{node.name}/{place.folder}".rstrip("/"), place.id)

    def _below(self, root: str) -> Iterator[Place]:
        """As `outside`. Folders without any chart are remembered, by their ids."""
        if root in self._without:
            return
        if self.yaml(root) is not None:
            yield Place("", root)
            return
        has_chart = False
        for node in self._revisions.listing(root):
            if node.kind == "folder":
                for place in self._below(node.id):
                    has_chart = True
                    yield Place(f"{node.name}/{place.folder}".rstrip("/"), place.id)
        if not has_chart:
            if len(self._without) >= _KEPT_FOLDERS:
                self._without.clear()
            self._without.add(root)

    def yaml(self, folder: str) -> Node | None:
        """The Chart.yaml of the chart whose folder has the id `folder`."""
        if folder not in self._yamls:
            if len(self._yamls) >= _KEPT:
                # All at once: simple, and rare beside what the cache saves.
                self._yamls.clear()
            node = self._revisions.child(folder, "Chart.yaml")
            is_file = node is not None and node.kind in (*_FILES, "link")
            self._yamls[folder] = node if is_file else None
        return self._yamls[folder]

    def metadata(self, place: Place) -> Metadata:
        """The parsed Chart.yaml of a chart. Raises ConfigurationError when it is invalid."""
        reading = self._read(place)
        if isinstance(reading, _Bad):
            raise reading.error.fresh()
        return reading

    def names(self, place: Place) -> tuple[str, str]:
        """Name and version as the Chart.yaml says them, however bad it is; "" for what it does
        not say.
        """
        reading = self._read(place)
        return reading.name, reading.version

    def _read(self, place: Place) -> Metadata | _Bad:
        node = self.yaml(place.id)
        if node is None:
            return _Bad(
                "",
                "",
                ConfigurationError(
                    "Chart.yaml is missing",
                    where=place.folder,
                    advice="add Chart.yaml to the folder, or leave the folder out of --charts",
                ),
            )
        beside = self._revisions.child(place.id, REQUIREMENTS)
        for each in (node, beside):
            if each is not None and each.kind == "link":
                path = f"{place.folder}/{each.name}".lstrip("/")
                return _Bad("", "", linked_file_error(path))
        ids = (node.id, beside.id if beside is not None and beside.kind in _FILES else "")
        if ids not in self._metadata:
            data = self._revisions.read(filter(None, ids))
            if len(self._metadata) >= _KEPT:
                self._metadata.clear()
            try:
                self._metadata[ids] = read_metadata(
                    data[node.id], chart_yaml(place.folder), requirements=data.get(ids[1])
                )
            except ConfigurationError as error:
                # Kept like a good one: the same bad file lies at hundreds of tags.
                self._metadata[ids] = _Bad(*written_name(data[node.id]), error.fresh())
        return self._metadata[ids]


class _Bad(NamedTuple):
    """A Chart.yaml that is refused. name, version: as written, "" where they cannot be read."""

    name: str
    version: str
    error: PipelineError
