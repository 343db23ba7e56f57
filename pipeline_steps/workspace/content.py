"""The content of charts and images: what is packed or built, before edits, and the digest over it
(docs/explanation/content.md).

Same files, same content: in every source system, on every machine, before and after a rebase or
merge. Where a content was seen (revision) and how it is released (channels, overlays) is not part
of it. Equal contents and equal consumed digests give equal tars but for the version; what only
tests and lints read is part of their keys instead.

The closure of a chart is wider: every tracked file below the places that the content is made from,
before .helmignore and .dockerignore. Selection, counts and history look at it.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from pipeline_steps.charts import paths
from pipeline_steps.charts.collect import PackedFile, packed_files
from pipeline_steps.charts.ignore import FILE as HELMIGNORE
from pipeline_steps.charts.read import (
    REQUIREMENTS,
    Metadata,
    linked_file_error,
    read_metadata,
)
from pipeline_steps.config.language import ImageEntry
from pipeline_steps.images.ignore import FILE as DOCKERIGNORE
from pipeline_steps.images.ignore import IgnoreRules, not_ignored
from pipeline_steps.images.ignore import parse as parse_dockerignore
from pipeline_steps.sources.source import Tree
from pipeline_steps.toolbox import files, yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError

Entries = Mapping[str, Mapping[str, Any]]

#: What the content's digest says first. Tags without `Pipeline-Format` are of FORMAT_1; see
#: `content_format_1`.
FORMAT_1, FORMAT = 1, 2

_MODES = {False: "0644", True: "0755"}


class Closure(NamedTuple):
    """The files a content is made of, the paths that hold them, and the entries about it.

    charts: folder → merged entry without its path. images: name → entry. folder: the chart's own,
    None of an image.
    """

    files: tuple[str, ...]
    paths: tuple[str, ...]
    charts: Entries
    images: Entries
    folder: str | None = None


class ImageInputs(NamedTuple):
    """What of a tree a builder gets. files: path in the context -> path in the tree, as `ignored`
    leaves them in. ignore_file: where these rules are from, "" for none.
    """

    context: str
    dockerfile: str
    ignore_file: str
    files: Mapping[str, str]
    ignored: IgnoreRules


class ContentReader:
    """The closures and contents of one tree; every digest is read once.

    Args:
        texts: every Chart.yaml and requirements.yaml by path.
        charts: folder → the merged entries about the chart there.
        images: `images` as pipeline.yaml of that tree has it, nothing expanded.
        where: key path (like "images.backend.context") → file and line, for errors.
    """

    def __init__(
        self,
        tree: Tree,
        texts: Mapping[str, bytes],
        charts: Entries,
        images: Entries,
        where: Callable[[str], str],
    ) -> None:
        self._tree = tree
        self._texts = texts
        self._charts = charts
        self._images = images
        self._where = where
        self._paths = list(tree.entries())
        self._metadata: dict[str, Metadata] = {}
        self._digests: dict[str, str] = {}
        self._packed: dict[str, dict[str, PackedFile]] = {}
        self._small: dict[str, bytes] = {}

    def metadata(self, folder: str) -> Metadata:
        """Chart.yaml of the chart in `folder`, which must have one. Raises ConfigurationError when
        it is bad.
        """
        if folder not in self._metadata:
            path = paths.chart_yaml(folder)
            beside = posixpath.join(folder, REQUIREMENTS)
            for file in (path, beside):
                entry = self._tree.entries().get(file)
                if entry is not None and entry.kind == "link":
                    raise linked_file_error(file)
            self._metadata[folder] = read_metadata(
                self._texts[path], path, requirements=self._texts.get(beside)
            )
        return self._metadata[folder]

    def has_chart(self, folder: str) -> bool:
        """Whether there is a Chart.yaml in `folder`."""
        return paths.chart_yaml(folder) in self._texts

    def subcharts(self, folder: str, above: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Folders of the file:// dependencies of the chart in `folder` and of theirs, each once."""
        folders: dict[str, None] = {}
        for dependency in self.metadata(folder).dependencies:
            if not dependency.local:
                continue
            where = paths.chart_yaml(folder)
            target = paths.relative_path(dependency.folder, base=folder, where=where)
            # Before going on: charts that lead to each other would be walked for ever.
            if target in (*above, folder):
                raise ConfigurationError(
                    f"the dependency {dependency.name} leads back to {target}",
                    where=where,
                    advice="remove one of the dependencies in this circle",
                )
            if not self.has_chart(target):
                message = (
                    f"the dependency {dependency.name} needs {paths.chart_yaml(target)}, "
                    "which the source does not have"
                )
                raise ConfigurationError(
                    message, where=where, advice="correct its repository, or add the chart"
                )
            folders.update(dict.fromkeys((target, *self.subcharts(target, (*above, folder)))))
        return tuple(folders)

    def images(self, folder: str) -> tuple[str, ...]:
        """Names of the images of the chart in `folder` and of its file:// subcharts, sorted.

        Raises ConfigurationError for a name that `images` does not have.
        """
        names = {
            name
            for f in (folder, *self.subcharts(folder))
            for name in self._charts.get(f, {}).get("images", {})
        }
        for name in sorted(names - set(self._images)):
            advice = (
                yaml_reader.nearest_names(name, self._images)
                or f"add {name}: {{context: …}} or {name}: {{existing: …}}"
            )
            message = f"the chart {folder} uses the image {name}, which is not in images"
            raise ConfigurationError(message, where=self._where("images"), advice=advice)
        return tuple(sorted(names))

    def image_users(self, name: str) -> tuple[str, ...]:
        """Folders of the charts that use an image, those that pack such a chart among them;
        unreadable ones are not.
        """
        users = []
        for folder in self._charts:
            with contextlib.suppress(ConfigurationError):
                # Entries may be about folders that this revision does not have.
                if self.has_chart(folder) and name in self.images(folder):
                    users.append(folder)
        return tuple(users)

    def chart(self, folder: str) -> Closure:
        """The closure of the chart in `folder`."""
        folders = (folder, *self.subcharts(folder))
        charts = {f: self._charts[f] for f in folders if self._charts.get(f)}
        images = {name: self._images[name] for name in self.images(folder)}
        closure = self._closure(self.chart_places(folder), charts, images)
        return closure._replace(folder=folder)

    def chart_places(self, folder: str) -> tuple[str, ...]:
        """The folders and files that hold the closure of the chart in `folder`, sorted."""
        folders = (folder, *self.subcharts(folder))
        places = {*folders, *self._extra(*folders)}
        for name in self.images(folder):
            places.update(self._places(name))
        return tuple(sorted(places))

    def image(self, name: str) -> Closure:
        """The closure of an image: its Dockerfile, the files of its context, its entry."""
        return self._closure(self._places(name), {}, {name: self._images[name]})

    def read_ahead(self, folders: Iterable[str]) -> None:
        """Read the digests for the contents of several charts at once; bad ones are passed over."""
        paths: set[str] = set()
        for folder in folders:
            with contextlib.suppress(ConfigurationError):
                paths.update(self.chart(folder).files)
        self._read_digests(paths)

    def packed_files(self, folder: str) -> dict[str, PackedFile]:
        """Path in the archive -> source of every file that the chart in `folder` is packed from."""
        if folder not in self._packed:
            closure = self.chart(folder).files
            kinds = {path: self._tree.entries()[path].kind for path in closure}
            self._packed[folder] = packed_files(folder, kinds, self._read)
        return self._packed[folder]

    def chart_content(self, folder: str) -> str:
        """The content of the chart in `folder`: "sha256:" + 64 hex digits."""
        packed = self.packed_files(folder)
        extra = self._files_below(self._extra(folder, *self.subcharts(folder)))
        self._read_digests({*(file.source for file in packed.values()), *extra})
        return _digest_of(
            {
                "format": FORMAT,
                "files": [
                    [path, _MODES[file.executable], self._digests[file.source]]
                    for path, file in packed.items()
                ],
                "paths": self._listed(extra),
                "images": {name: self.image_content(name) for name in self.images(folder)},
                "values": dict(self._values(folder)),
            }
        )

    def image_content(self, name: str) -> str:
        """The content of an image: its Dockerfile, the tracked files of its context that
        .dockerignore leaves in, the sources of what is generated for it, and its entry. Of one that
        is built elsewhere, the entry alone."""
        fields: dict[str, Any] = {"format": FORMAT, "entry": _without_defaults(self._images[name])}
        if inputs := self.image_inputs(name):
            sources = self._files_below(self._generated_from(name))
            self._read_digests({inputs.dockerfile, *inputs.files.values(), *sources})
            fields["dockerfile"] = self._digests[inputs.dockerfile]
            fields["files"] = self._listed(inputs.files)
            fields["generated_from"] = self._listed(sources)
        return _digest_of(fields)

    def image_inputs(self, name: str) -> ImageInputs | None:
        """What of the source a builder gets for an image; None for one that is built elsewhere."""
        entry = self._images[name]
        if entry.get("context") is None:
            return None
        context, dockerfile, *_ = self._places(name)
        prefix = f"{context}/" if context else ""
        below = {
            path.removeprefix(prefix): path for path in paths.paths_below(self._paths, context)
        }
        ignore_file = self._ignore_file(context, dockerfile)
        ignored = (
            parse_dockerignore(self._read([ignore_file])[ignore_file], ignore_file)
            if ignore_file
            else IgnoreRules()
        )
        return ImageInputs(
            context,
            dockerfile,
            ignore_file,
            {path: below[path] for path in not_ignored(below, ignored)},
            ignored,
        )

    def _ignore_file(self, context: str, dockerfile: str) -> str:
        """The file whose rules hold for a build, "" for none: NAME.dockerignore beside the
        Dockerfile wins over the context's own.

        Source: Docker documentation, "Build context", "Filename and location".
        """
        places = (f"{dockerfile}{DOCKERIGNORE}", posixpath.join(context, DOCKERIGNORE))
        return next((path for path in places if path in self._tree.entries()), "")

    def _generated_from(self, name: str) -> list[str]:
        """Places of the sources that an image's generated files are made from, none of them empty."""
        entry = self._images[name]
        where = self._where(f"images.{name}.generated")
        context = paths.relative_path(entry["context"], where=where)
        sources = [source for sources in entry.get("generated", {}).values() for source in sources]
        return [place for source in sources for place in self._resolve_path(source, context, where)]

    def stored_digest(self, folder: str) -> str:
        """The digest over every tracked file below a chart's folder, ignored ones too: lints and
        tests read them. A submodule that .helmignore leaves out counts by its commit.
        """
        prefix = f"{folder}/" if folder else ""
        files = {path.removeprefix(prefix): path for path in paths.paths_below(self._paths, folder)}
        entries = self._tree.entries()
        submodules = {path for path in files.values() if entries[path].kind == "submodule"}
        # A submodule has no bytes here; its commit is all that can change.
        self._digests.update({path: entries[path].id for path in submodules})
        self._read_digests(files.values())
        return _digest_of({"format": FORMAT, "files": self._listed(files)})

    def _values(self, folder: str, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Folder in the archive -> which image sets which values key of the chart there."""
        if images := self._charts.get(folder, {}).get("images"):
            yield prefix, {name: keys for name, keys in images.items() if keys}
        for dependency in self.metadata(folder).dependencies:
            if dependency.local:
                inner = paths.relative_path(
                    dependency.folder, base=folder, where=paths.chart_yaml(folder)
                )
                yield from self._values(inner, f"{prefix}charts/{dependency.name}/")

    def _listed(self, files: Mapping[str, str]) -> list[list[str]]:
        entries = self._tree.entries()
        return [
            [path, entries[source].kind, self._digests[source]]
            for path, source in sorted(files.items())
        ]

    def _files_below(self, places: Iterable[str]) -> dict[str, str]:
        files_found = {path for place in places for path in paths.paths_below(self._paths, place)}
        return {
            path: path
            for path in (
                *files_found,
                *(place for place in places if place in self._tree.entries()),
            )
        }

    def _read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Small files, each read once; links and .helmignore files of the tree are read together."""
        requested = list(names)
        if not self._small:
            small = {path for path, entry in self._tree.entries().items() if entry.kind == "link"}
            small |= {path for path in self._paths if posixpath.basename(path) == HELMIGNORE}
            self._small.update(
                {**self._texts, **self._tree.read(sorted(small - self._texts.keys()))}
            )
        self._small.update(self._tree.read([path for path in requested if path not in self._small]))
        return {path: self._small[path] for path in requested}

    def _read_digests(self, files: Iterable[str]) -> None:
        self._digests.update(
            self._tree.digests(sorted({path for path in files if path not in self._digests}))
        )

    def content_format_1(self, closure: Closure) -> str:
        """The content as tags without `Pipeline-Format` have it: every file and entry of the
        closure.
        """
        entries = self._tree.entries()
        self._read_digests(closure.files)
        fields = {
            "charts": closure.charts,
            "files": [[path, entries[path].kind, self._digests[path]] for path in closure.files],
            "images": closure.images,
        }
        return _digest_of(fields)

    def _extra(self, *folders: str) -> list[str]:
        """Places of the extra `paths` of charts: folders, files or globs, none of them empty."""
        patterns = [
            path for folder in folders for path in self._charts.get(folder, {}).get("paths") or ()
        ]
        return [
            place
            for path in patterns
            for place in self._resolve_path(path, "", self._where("charts"))
        ]

    def _resolve_path(self, path: str, base: str, where: str) -> list[str]:
        """The files and folders of the source that a path or glob of pipeline.yaml matches.

        Raises ConfigurationError when it matches nothing.
        """
        matches: list[str] = []
        for pattern in paths.expand_braces(paths.relative_path(path, base=base, where=where)):
            expression = paths.glob_pattern(pattern)
            files_here = [file for file in self._paths if expression.fullmatch(file)]
            is_folder = not paths.is_glob(pattern) and bool(paths.paths_below(self._paths, pattern))
            if not files_here and not is_folder:
                raise ConfigurationError(
                    f"no file of the source fits the path {path!r}",
                    where=where,
                    advice="correct the path, or remove it",
                )
            matches += [*files_here, pattern] if is_folder else files_here
        return matches

    def _places(self, name: str) -> list[str]:
        """The context, the Dockerfile and the sources of what is generated for an image that is
        built here.
        """
        entry = self._images[name]
        if entry.get("context") is None:
            return []
        where = self._where(f"images.{name}.context")
        context = paths.relative_path(entry["context"], where=where)
        dockerfile = paths.relative_path(
            entry.get("dockerfile", "Dockerfile"), base=context, where=where
        )
        if not paths.paths_below(self._paths, context):
            message = (
                f"the image {name} has the context {entry['context']!r}, but the source "
                "has no file there"
            )
            raise ConfigurationError(
                message, where=where, advice="correct the path, or add the files to the source"
            )
        if dockerfile not in self._tree.entries():
            message = f"the image {name} needs {dockerfile}, which is not in the source"
            raise ConfigurationError(
                message,
                where=where,
                advice="add it; `dockerfile` is relative to the context, and ignored files do not count",
            )
        return [context, dockerfile, *self._generated_from(name)]

    def _closure(self, places: Iterable[str], charts: Entries, images: Entries) -> Closure:
        unique_paths = tuple(sorted(set(places)))
        entries = self._tree.entries()
        files_found = {
            path for place in unique_paths for path in paths.paths_below(self._paths, place)
        }
        files_found.update(place for place in unique_paths if place in entries)
        return Closure(tuple(sorted(files_found)), unique_paths, charts, images)


# Without this, writing a default down would change the content and build the image again.
def _without_defaults(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of `images` as it is resolved: keys that say what holds anyhow are left out, and
    paths have one spelling.
    """
    plain = ImageEntry()
    # By JSON, where the default () and a written [] are the same.
    defaults = {
        name: msgspec.json.decode(msgspec.json.encode(getattr(plain, name)))
        for name in ImageEntry.__struct_fields__
    }
    resolved = {
        key: posixpath.normpath(value) if key in ("context", "dockerfile") and value else value
        for key, value in entry.items()
    }
    return {
        key: value
        for key, value in resolved.items()
        if key not in defaults or value != defaults[key]
    }


def _digest_of(fields: Mapping[str, Any]) -> str:
    """sha256 of canonical JSON. Raises ConfigurationError for a file name that is not UTF-8."""
    try:
        text = json.dumps(
            fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    except UnicodeEncodeError as error:
        names = {str(part) for part in fields.get("files", ()) for part in part}
        # Bytes that are not UTF-8 are surrogates in file names of Python (PEP 383).
        name = next((name for name in sorted(names) if re.search("[\ud800-\udfff]", name)), "")
        raise ConfigurationError(
            f"the file name {name!r} is not UTF-8", advice="rename it"
        ) from error
    return files.sha256(text)
