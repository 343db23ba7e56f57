"""Which files belong to a chart's archive: its folder as helm reads it, with file:// dependencies
copied into charts/.

Works on a listing and a function that reads files; knows neither the disk nor the source system.
"""

from __future__ import annotations

import functools
import logging
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline_steps.charts import ignore
from pipeline_steps.charts.archive import Files, metadata_of
from pipeline_steps.charts.paths import chart_yaml, paths_below, relative_path
from pipeline_steps.charts.read import REQUIREMENTS, Metadata
from pipeline_steps.toolbox.errors import ConfigurationError

log = logging.getLogger(__name__)

ReadFiles = Callable[[Iterable[str]], Mapping[str, bytes]]
_MOST_LINKS = 40


class PackedFile(NamedTuple):
    """Source of a file in an archive: its path in the tree with links followed, and its x bit."""

    source: str
    executable: bool


def packed_files(
    folder: str, kinds: Mapping[str, str], read_files: ReadFiles
) -> dict[str, PackedFile]:
    """The source of every file that the chart in `folder` is packed from: path in the archive →
    source.

    file:// subcharts become folders below charts/, at all levels, each with its own .helmignore.
    Only Chart.yaml, .helmignore and link targets are read. Arguments and errors as for
    `collect_files`.
    """
    return dict(sorted(_Collector(kinds, read_files).chart_files(folder).items()))


def collect_files(folder: str, kinds: Mapping[str, str], read_files: ReadFiles) -> Files:
    """The files of the chart in `folder`, with its file:// subcharts below charts/.

    Args:
        folder: of the chart, relative to pipeline.yaml.
        kinds: path → "file", "executable" or "link" of all files the chart may use. Symbolic links
            are followed only among these.
        read_files: returns the bytes of files, the targets of links, for many paths at once.

    Raises:
        ConfigurationError: naming the file.
    """
    packed = packed_files(folder, kinds, read_files)
    data = read_files(sorted({file.source for file in packed.values()}))
    files = {name: data[file.source] for name, file in packed.items()}
    return Files(files, (name for name, file in packed.items() if file.executable))


@functools.lru_cache  # once, though content and package are both collected
def _note_copies(folder: str, name: str, copies: Sequence[str], subchart_folder: str) -> None:
    place = f"{folder}/" if folder else ""
    what = f"{place}{copies[0]}" + (f" and {len(copies) - 1} more" if len(copies) > 1 else "")
    log.info(
        "%s: left out, for the dependency %s is taken from %s", what, name, subchart_folder or "."
    )


class _Collector:
    def __init__(self, kinds: Mapping[str, str], read_files: ReadFiles) -> None:
        self.kinds = kinds
        self.paths = sorted(kinds)
        self.read_files = read_files
        links = [path for path in self.paths if kinds[path] == "link"]
        self.links = {
            path: target.decode(errors="surrogateescape")
            for path, target in read_files(links).items()
        }

    def chart_files(self, folder: str) -> dict[str, PackedFile]:
        rules = self.rules(folder)
        self.check_needed_files(folder, rules)
        files = {
            name: PackedFile(path, self.kinds[path] == "executable")
            for name, path in self.walk(folder, rules)
            if not _left_out_by_helm(name)
        }
        packed: set[tuple[str, str]] = set()  # one folder for a chart, however many aliases it has
        for dependency in self.metadata(files, folder).dependencies:
            if dependency.local and (dependency.folder, dependency.name) not in packed:
                packed.add((dependency.folder, dependency.name))
                subchart_folder = relative_path(
                    dependency.folder, base=folder, where=chart_yaml(folder)
                )
                subchart = self.chart_files(subchart_folder)
                name = self.metadata(subchart, subchart_folder).name
                if name != dependency.name:
                    problem = (
                        f"the dependency {dependency.name} is in {subchart_folder}, where the "
                        f"chart is called {name}"
                    )
                    raise ConfigurationError(
                        problem, where=chart_yaml(folder), advice="correct its name"
                    )
                # `helm dependency update` leaves a copy in charts/, which may be
                # outdated.
                copies = tuple(path for path in files if _is_vendored_copy(path, name))
                if copies:
                    _note_copies(folder, name, copies, subchart_folder)
                for path in copies:
                    del files[path]
                files.update({f"charts/{name}/{path}": file for path, file in subchart.items()})
        return files

    def metadata(self, files: Mapping[str, PackedFile], folder: str) -> Metadata:
        """The parsed Chart.yaml among `files`. Raises ConfigurationError, also when there is
        none.
        """
        names = ("Chart.yaml", REQUIREMENTS)
        sources = {name: files[name].source for name in names if name in files}
        data = self.read_files(list(sources.values()))
        return metadata_of({name: data[source] for name, source in sources.items()}, folder)

    def check_needed_files(self, folder: str, rules: ignore.Rules) -> None:
        """Name the pattern where .helmignore leaves out what the chart needs: elsewhere it would
        only be called missing. Raises ConfigurationError for Chart.yaml.
        """
        prefix = f"{folder}/" if folder else ""
        rule = rules.reason("Chart.yaml") if f"{prefix}Chart.yaml" in self.kinds else None
        if rule:
            raise ConfigurationError(
                "Chart.yaml is left out of the package by this pattern of .helmignore",
                where=rule.written,
                advice="remove the pattern, or make it narrower",
            )
        for path in paths_below(self.paths, f"{prefix}charts"):
            name = path.removeprefix(prefix)
            if name.count("/") == 1 and name.endswith(".tgz") and (rule := rules.reason(name)):
                log.warning("%s: left out of the package by %s", path, rule.written)

    def rules(self, folder: str) -> ignore.Rules:
        file = posixpath.join(folder, ignore.FILE)
        target = self.resolve_links(file) if file in self.kinds else None
        return ignore.parse(self.read_files([target])[target] if target else b"", file)

    def walk(self, folder: str, rules: ignore.Rules) -> Iterable[tuple[str, str]]:
        """Name in the chart and path in the tree of every file that helm would pack."""
        prefix = f"{folder}/" if folder else ""
        for path in paths_below(self.paths, folder):
            yield from self.walk_path(path.removeprefix(prefix), path, rules, ())

    def walk_path(
        self, name: str, path: str, rules: ignore.Rules, outer_links: tuple[str, ...]
    ) -> Iterable[tuple[str, str]]:
        if self.kinds[path] != "link":
            # A checkout has a submodule as a folder, and so helm compares it with patterns.
            is_folder = self.kinds[path] == "submodule"
            if not rules.left_out(name) and not (is_folder and rules.ignored(name, folder=True)):
                yield name, path
            return
        if rules.left_out(name) or rules.ignored(name, folder=True):
            return
        target = self.resolve_links(path)
        if target in self.kinds:
            if not rules.left_out(name):
                yield name, target
            return
        if target in outer_links or len(outer_links) > _MOST_LINKS or path.startswith(f"{target}/"):
            raise ConfigurationError(
                "the symbolic link points to one of its own parent folders",
                where=path,
                advice="remove it",
            )
        for inner in paths_below(self.paths, target):
            yield from self.walk_path(
                f"{name}{inner.removeprefix(target)}", inner, rules, (*outer_links, target)
            )

    def resolve_links(self, path: str) -> str:
        """The path in the tree that `path` leads to when all symbolic links on the way are
        followed.
        """
        parts_left, resolved = path.split("/"), ""
        # Bounds loops of links: Linux follows 40 of them, and each may add parts.
        for _ in range(_MOST_LINKS * 25):
            if not parts_left:
                if resolved in self.kinds or paths_below(self.paths, resolved):
                    return resolved
                raise ConfigurationError(
                    f"the symbolic link points to {resolved}, which is not in the chart's files",
                    where=path,
                    advice="correct it, or add what it names to `paths` of the chart",
                )
            part, *parts_left = parts_left
            candidate = posixpath.normpath(posixpath.join(resolved, part))
            if candidate == ".." or candidate.startswith(("../", "/")):
                break
            candidate = "" if candidate == "." else candidate
            if candidate in self.links:
                target = self.links[candidate]
                if target.startswith("/"):
                    break
                parts_left = [*target.split("/"), *parts_left]
            else:
                resolved = candidate
        advice = "copy the file: a chart must not depend on the machine it is packed on"
        raise ConfigurationError(
            "the symbolic link points outside the checkout", where=path, advice=advice
        )


def _left_out_by_helm(name: str) -> bool:
    """Whether helm leaves the file out of a package: names in charts/ that begin with _ or .
    (loader.LoadFiles).
    """
    return name.startswith(("charts/_", "charts/.")) and not name.endswith(".prov")


def _is_vendored_copy(path: str, name: str) -> bool:
    """Whether `path` belongs to a vendored copy of the subchart `name`: its folder, or helm's
    archive.
    """
    if path.startswith(f"charts/{name}/"):
        return True
    file = path.removeprefix("charts/")
    is_archive = (
        file != path and "/" not in file and file.startswith(f"{name}-") and file.endswith(".tgz")
    )
    return is_archive and file[len(name) + 1 :][:1].isdigit()
