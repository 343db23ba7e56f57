"""The content of charts and images: which files make them, and the digest over these (design.md §1).

Same files, same content: in every source system, on every machine, before and after a rebase or merge. Where a
content was seen (revision) and how it is released (channels, overlays) is not part of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pipeline_steps.charts import paths
from pipeline_steps.charts.read import Metadata, read_metadata
from pipeline_steps.sources.source import Tree
from pipeline_steps.toolbox import files, yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError

Entries = Mapping[str, Mapping[str, Any]]


class Closure(NamedTuple):
    """What a content is made of: files, the places that hold them, and the entries of pipeline.yaml by name.

    charts: folder → merged entry without its path; images: name → entry.
    """

    files: tuple[str, ...]
    places: tuple[str, ...]
    charts: Entries
    images: Entries


class Closures:
    """The closures of one tree; every digest is read once.

    texts: every Chart.yaml by path. charts: folder → the entries about it, merged; images: as pipeline.yaml of that
    tree says, nothing expanded. where: key path (like "images.backend.context") → file and line, for errors.
    """

    def __init__(
        self, tree: Tree, texts: Mapping[str, bytes], charts: Entries, images: Entries, where: Callable[[str], str]
    ) -> None:
        self._tree = tree
        self._texts = texts
        self._charts = charts
        self._images = images
        self._where = where
        self._paths = list(tree.entries())
        self._metadata: dict[str, Metadata] = {}
        self._digests: dict[str, str] = {}

    def metadata(self, folder: str) -> Metadata:
        """Chart.yaml of the chart in `folder`, which must have one. Raises ConfigurationError when it is bad."""
        if folder not in self._metadata:
            path = paths.chart_yaml(folder)
            self._metadata[folder] = read_metadata(self._texts[path], path)
        return self._metadata[folder]

    def has_chart(self, folder: str) -> bool:
        """Whether there is a Chart.yaml in `folder`."""
        return paths.chart_yaml(folder) in self._texts

    def subcharts(self, folder: str, above: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Folders of the file:// dependencies of the chart in `folder` and of theirs, each once."""
        found: dict[str, None] = {}
        for dependency in self.metadata(folder).dependencies:
            if not dependency.local:
                continue
            where = paths.chart_yaml(folder)
            target = paths.inside(dependency.folder, base=folder, where=where)
            if target in (*above, folder):
                raise ConfigurationError(f"the dependency {dependency.name} leads back to {target}", where=where)
            if not self.has_chart(target):
                message = (
                    f"the dependency {dependency.name} needs {paths.chart_yaml(target)}, which the source does not have"
                )
                raise ConfigurationError(message, where=where, advice="correct its repository, or add the chart")
            found.update(dict.fromkeys((target, *self.subcharts(target, (*above, folder)))))
        return tuple(found)

    def images(self, folder: str) -> tuple[str, ...]:
        """Names of the images of the chart in `folder` and of its file:// subcharts, sorted.

        Raises ConfigurationError for a name that `images` does not have.
        """
        names = {name for f in (folder, *self.subcharts(folder)) for name in self._charts.get(f, {}).get("images", {})}
        for name in sorted(names - set(self._images)):
            advice = yaml_reader.nearest(name, self._images) or f"add {name}: {{context: …}} or {name}: {{existing: …}}"
            message = f"the chart {folder} uses the image {name}, which is not in images"
            raise ConfigurationError(message, where=self._where("images"), advice=advice)
        return tuple(sorted(names))

    def chart(self, folder: str) -> Closure:
        """The closure of the chart in `folder`."""
        folders = (folder, *self.subcharts(folder))
        images = self.images(folder)
        places = list(folders)
        for f in folders:
            places += self._extra(f)
        for name in images:
            places += self._places(name)
        charts = {f: self._charts[f] for f in folders if self._charts.get(f)}
        return self._closure(places, charts, {name: self._images[name] for name in images})

    def image(self, name: str) -> Closure:
        """The closure of an image: its Dockerfile, the files of its context, its entry."""
        return self._closure(self._places(name), {}, {name: self._images[name]})

    def read_ahead(self, folders: Iterable[str]) -> None:
        """Read the digests for the contents of several charts at once."""
        self._read({path for folder in folders for path in self.chart(folder).files})

    def _read(self, files: Iterable[str]) -> None:
        self._digests.update(self._tree.digests(sorted(path for path in files if path not in self._digests)))

    def content(self, closure: Closure) -> str:
        """The digest that stands for everything in the closure."""
        entries = self._tree.entries()
        self._read(closure.files)
        what = {
            "charts": closure.charts,
            "files": [[path, entries[path].kind, self._digests[path]] for path in closure.files],
            "images": closure.images,
        }
        try:
            text = json.dumps(what, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            name = next(path for path in closure.files if not _is_unicode(path))
            raise ConfigurationError(f"the file name {name!r} is not UTF-8", advice="rename it") from error
        return files.sha256(text)

    def _extra(self, folder: str) -> list[str]:
        """Places of the extra `paths` of a chart: folders, files or globs, none of them empty."""
        found = []
        for written in self._charts.get(folder, {}).get("paths", ()):
            where = self._where("charts")
            for pattern in paths.alternatives(paths.inside(written, where=where)):
                places = [p for p in self._paths if paths.expression(pattern).fullmatch(p)]
                places += [] if paths.is_glob(pattern) or not paths.below(self._paths, pattern) else [pattern]
                if not places:
                    advice = "correct the path, or remove it"
                    raise ConfigurationError(
                        f"no file of the source fits the path {written!r}", where=where, advice=advice
                    )
                found += places
        return found

    def _places(self, name: str) -> list[str]:
        """The context and the Dockerfile of an image that is built here."""
        entry = self._images[name]
        if entry.get("context") is None:
            return []
        where = self._where(f"images.{name}.context")
        context = paths.inside(entry["context"], where=where)
        dockerfile = paths.inside(entry.get("dockerfile", "Dockerfile"), base=context, where=where)
        if not paths.below(self._paths, context):
            message = f"the image {name} has the context {entry['context']!r}, but the source has no file there"
            raise ConfigurationError(message, where=where, advice="correct the path, or add the files to the source")
        if dockerfile not in self._tree.entries():
            message = f"the image {name} needs {dockerfile}, which is not in the source"
            raise ConfigurationError(
                message, where=where, advice="dockerfile is relative to the context; is it ignored?"
            )
        return [context, dockerfile]

    def _closure(self, places: Iterable[str], charts: Entries, images: Entries) -> Closure:
        kept = tuple(sorted(set(places)))
        known = self._tree.entries()
        found = {path for place in kept for path in paths.below(self._paths, place)}
        found.update(place for place in kept if place in known)
        return Closure(tuple(sorted(found)), kept, charts, images)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)
