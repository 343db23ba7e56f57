"""What a tag stands for: the chart versions that it names, and what they are packaged from."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts import paths
from pipeline_steps.charts.dependencies import MissingArchive
from pipeline_steps.charts.paths import chart_yaml
from pipeline_steps.config import config_file, entries
from pipeline_steps.config.language import fill_name_template
from pipeline_steps.regeneration.charts import Charts, Place
from pipeline_steps.regeneration.ledger import Refusal
from pipeline_steps.sources.source import Entry, Revisions, Tag, short_revision
from pipeline_steps.sources.tree import StoredTree, node_at
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    EvidenceError,
    Interrupted,
    PipelineError,
)
from pipeline_steps.workspace.content import FORMAT, FORMAT_1, ContentReader
from pipeline_steps.workspace.tags import TaggedRelease, TagPattern, read_trailers

#: Charts that are named in the reason for a tag that fits none of them.
_SHOWN = 5


class Settings(NamedTuple):
    """What a worker needs to know.

    revisions: of the source.
    folder: base of the patterns and of pipeline.yaml, "" for the top of the source.
    patterns: of chart folders. tags: template or shell pattern of the tags.
    config_path: path of pipeline.yaml below `folder`.
    snapshots, images: `channels.*.images`, "" when not set.
    evidence: whether records may have image digests that tags do not name.
    charts: names, () for all.
    """

    revisions: Revisions
    folder: str
    patterns: tuple[str, ...]
    tags: str
    config_path: str = "pipeline.yaml"
    snapshots: str = ""
    images: str = ""
    image_tag: str | None = None
    hosts: Mapping[str, Host] = {}
    evidence: bool = False
    charts: tuple[str, ...] = ()


class Version(NamedTuple):
    """A chart version that a tag names.

    trees: ids of the folders it is packaged from; equal ids mean equal files.
    released: content and images from the tag or from records; None: packaged as stored.
    contents: (content, format) by which records are found, if the tag does not name images.
    """

    name: str
    version: str
    tag: Tag
    folder: str
    trees: tuple[str, ...]
    released: TaggedRelease | None = None
    contents: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Unpackageable(NamedTuple):
    """A chart version, or what a tag seems to name, that cannot be packaged, and the reason.

    lasting: decided by the sources alone, so the same tag gives the same refusal again.
    lacks: the dependency that its repository did not give.
    """

    tag: str
    refusal: Refusal
    lasting: bool
    lacks: MissingArchive | None = None


class TagReader:
    """Reads tags; `settings.revisions` is open meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._revisions = settings.revisions
        self._charts = Charts(self._revisions, settings.patterns)
        self._names = TagPattern(settings.tags)

    def versions_of_tag(self, tag: Tag) -> list[Version | Unpackageable]:
        """The versions that a tag names; an Unpackageable for a tag that names no chart."""
        try:
            return list(self._versions_of_tag(tag))
        except Interrupted:
            raise
        except PipelineError as error:
            return [
                Unpackageable(tag.name, Refusal(tag.name, "", "", str(error)), is_lasting(error))
            ]

    def _versions_of_tag(self, tag: Tag) -> Iterator[Version | Unpackageable]:
        root = self.root(tag)
        if not self._names.names_one_chart:
            yield from self._every_chart(tag, root)
            return
        reading = self._names.parse(tag.name)
        if reading and reading[0]:  # most charts are in a folder of their name: look there first
            near = self._named(tag, root, self._selected(self._charts.places(root, reading[0])))
            if any(isinstance(item, Version) for item in near):
                yield from near
                return
        places, linked = self._charts.places_and_linked(root)
        named_versions = self._named(tag, root, self._selected(places))
        named_links = [
            self._linked(tag, link, place)
            for link, place in self._selected(linked).items()
            if fill_name_template(self._names.template, *self._charts.names(place)) == tag.name
        ]
        yield from [*named_versions, *named_links] or self._no_chart(tag, root, places)

    def _selected(self, places: Mapping[str, Place]) -> Mapping[str, Place]:
        """Those of the charts that were asked for."""
        if not self._settings.charts:
            return places
        return {folder: place for folder, place in places.items() if self._is_selected(place)}

    def _is_selected(self, place: Place) -> bool:
        charts = self._settings.charts
        return not charts or self._chart_name(place) in charts

    def _chart_name(self, place: Place) -> str:
        """The name in Chart.yaml, or the folder's where it says none."""
        return self._charts.names(place)[0] or _last(place.folder)

    def _every_chart(self, tag: Tag, root: str) -> Iterator[Version | Unpackageable]:
        """Every chart there is at a tag that names none in particular."""
        places, linked = self._charts.places_and_linked(root)
        readable = []
        for place in self._selected(places).values():
            try:
                self._charts.metadata(place)
            except ConfigurationError as error:
                yield self._refused(tag, place, problem_at_tag(error))
            else:
                readable.append(place)
        yield from self._versions(tag, root, readable)
        for link, place in self._selected(linked).items():
            yield self._linked(tag, link, place)
        if not places and not linked:
            yield from self._no_chart(tag, root, places)

    def _named(
        self, tag: Tag, root: str, places: Mapping[str, Place]
    ) -> list[Version | Unpackageable]:
        """The chart that the name of a tag stands for; of one that cannot be read, why."""
        template = self._names.template
        readable: list[Place] = []
        items: list[Version | Unpackageable] = []
        for place in places.values():
            name, version = self._charts.names(place)
            unknown = not name or not version
            if unknown and self._may_be_named(tag, place):
                pass
            elif fill_name_template(template, name, version) != tag.name:
                continue
            try:
                self._charts.metadata(place)
            except ConfigurationError as error:
                items.append(self._refused(tag, place, problem_at_tag(error)))
            else:
                readable.append(place)
        return [*items, *self._versions(tag, root, readable)]

    def _may_be_named(self, tag: Tag, place: Place) -> bool:
        """Whether a tag may be about a chart whose Chart.yaml does not say its name or version."""
        loose = self._names.parse_loosely(tag.name)
        return loose is not None and loose[0] in ("", self._chart_name(place))

    def _linked(self, tag: Tag, link: str, place: Place) -> Unpackageable:
        """A chart that a pattern fits by way of a link alone, which a checkout passes over, too."""
        reason = (
            f"{link} is a symbolic link, which --charts does not follow: the chart is "
            f"{place.folder}, give a pattern that fits it"
        )
        return self._refused(tag, place, reason)

    def _refused(self, tag: Tag, place: Place, reason: str) -> Unpackageable:
        name, version = self._chart_name(place), self._charts.names(place)[1]
        subject = f"{name} {version}".rstrip()
        return Unpackageable(tag.name, Refusal(subject, name, version, reason), lasting=True)

    def _no_chart(
        self, tag: Tag, root: str, places: Mapping[str, Place]
    ) -> Iterator[Unpackageable]:
        """Why a tag stands for none of the charts that are there. A failure where it names a chart
        that is there, or one that no pattern fits.
        """
        loose = self._names.parse_loosely(tag.name) or ("", "")
        existing = [
            place
            for place in places.values()
            if not loose[0] or loose[0] in (self._chart_name(place), _last(place.folder))
        ]
        if existing and self._names.names_one_chart:
            details = [self._other_version(place) for place in existing if self._is_selected(place)]
            more = f", and so on ({len(details)} charts)" if len(details) > _SHOWN else ""
            reason = f"{', '.join(details[:_SHOWN])}{more}"
            failure = self._names.has_version(tag.name)
            if len(details) > 1 and not failure:  # a tag of another kind
                reason = f"it names none of the {len(details)} charts there; {details[0]}"
            if details:
                yield self._unmatched(tag, loose, reason, failure=failure)
            return
        outside = [place for place in self._charts.outside(root) if self._is_selected(place)]
        for place in outside:
            name, version = self._charts.names(place)
            exact = (
                self._names.names_one_chart
                and fill_name_template(self._names.template, name, version) == tag.name
            )
            if exact or (loose[0] and loose[0] == name and self._names.has_version(tag.name)):
                reason = f"{chart_yaml(place.folder)} is there, and no pattern of --charts fits it"
                yield self._unmatched(tag, loose, reason, failure=True)
                return
        reason = f"there is no chart {loose[0]}".rstrip()
        if outside and not loose[0]:
            reason += f" but {outside[0].folder or '.'}, which no pattern of --charts fits"
        if not (loose[0] and self._settings.charts) or loose[0] in self._settings.charts:
            yield self._unmatched(tag, loose, reason, failure=False)

    def _other_version(self, place: Place) -> str:
        """The version of a chart, and what tag would name it."""
        name, version = self._chart_name(place), self._charts.names(place)[1]
        if not version:
            return f"the version of {name} there is not written"
        tag = fill_name_template(self._names.template, name, version)
        return f"the version of {name} there is {version} (its tag would be {tag})"

    def _unmatched(
        self, tag: Tag, loose: tuple[str, str], reason: str, *, failure: bool
    ) -> Unpackageable:
        subject = " ".join(loose).strip() if failure and all(loose) else tag.name
        refusal = Refusal(subject, *loose, reason, no_chart=not failure)
        return Unpackageable(tag.name, refusal, lasting=True)

    def _versions(
        self, tag: Tag, root: str, places: Iterable[Place]
    ) -> Iterator[Version | Unpackageable]:
        """The versions of readable charts; two of one name must have the same files."""
        released = read_trailers(tag)
        by_name: dict[str, Version] = {}
        for place in places:
            metadata = self._charts.metadata(place)
            trees = tuple(self._trees(root, place))
            version = Version(
                metadata.name,
                metadata.version,
                tag,
                place.folder,
                trees,
                released.get(metadata.name),
            )
            same_name = by_name.setdefault(version.name, version)
            # Equal folders are no contradiction: a chart may be copied into two places.
            if same_name.trees != version.trees:
                text = (
                    f"{version.name} is in {same_name.folder} and in {version.folder}, which differ"
                )
                refusal = Refusal(str(version), version.name, version.version, text)
                yield Unpackageable(tag.name, refusal, lasting=True)
                by_name[version.name] = same_name._replace(trees=())
        yield from (self._with_content(version) for version in by_name.values() if version.trees)

    def root(self, tag: Tag) -> str:
        """The id of the folder that the patterns are relative to. Raises ConfigurationError."""
        root = self._revisions.folder(tag.revision, self._settings.folder)
        if root is None:
            raise ConfigurationError(
                f"the revision of the tag has no folder {self._settings.folder} yet",
                where=tag.name,
                advice="correct --charts, or leave this tag out with --tags",
            )
        return root

    def _trees(self, root: str, place: Place) -> Iterator[str]:
        yield place.id
        # Errors are reported when the version is packaged.
        with contextlib.suppress(ConfigurationError):
            for subchart in self.subcharts(root, place):
                yield subchart.id

    def subcharts(self, root: str, place: Place, above: tuple[str, ...] = ()) -> Iterator[Place]:
        """The places of all existing file:// dependencies of a chart, recursively."""
        for dependency in self._charts.metadata(place).dependencies:
            if not dependency.local:
                continue
            where = chart_yaml(place.folder)
            folder = paths.relative_path(dependency.folder, base=place.folder, where=where)
            if folder in (*above, place.folder):
                raise ConfigurationError(
                    f"the dependency {dependency.name} leads back to {folder}",
                    where=where,
                    advice="remove one of the dependencies in this circle",
                )
            node = node_at(self._revisions, root, folder)
            if node is not None and node.kind == "folder":
                yield (subchart := Place(folder, node.id))
                yield from self.subcharts(root, subchart, (*above, place.folder))

    def _with_content(self, version: Version) -> Version:
        """The version with its contents, if records may have images that its tag does not name."""
        if version.released is not None or not self._settings.evidence:
            return version
        with contextlib.suppress(ConfigurationError):
            closures = self.closures(version)
            if closures.images(version.folder):
                format_1 = closures.content_format_1(closures.chart(version.folder))
                return version._replace(
                    contents=(
                        (closures.chart_content(version.folder), FORMAT),
                        (format_1, FORMAT_1),
                    )
                )
        return version

    def closures(self, version: Version) -> ContentReader:
        """The closures of the tree at the version's tag, as its own pipeline.yaml has them."""
        return self._closures_at(version.tag.revision)

    @functools.lru_cache(maxsize=4)  # noqa: B019  (it lives as long as its process)
    def _closures_at(self, revision: str) -> ContentReader:
        tree = StoredTree(self._revisions, revision, self._settings.folder)
        config_path = self._settings.config_path
        if config_path not in tree.entries():
            raise ConfigurationError(
                f"the revision has no {config_path}, which says what the chart consists of",
                where=short_revision(revision),
                advice="name the file that it had then with --config",
            )
        texts = tree.read(
            [path for path, entry in tree.entries().items() if _is_text(path, entry, config_path)]
        )
        config = config_file.parse_charts_and_images(
            texts[config_path], f"{config_path}@{short_revision(revision)}"
        )
        chart_folders = sorted(
            path.removesuffix("Chart.yaml").rstrip("/")
            for path in texts
            if entries.is_chart_yaml(path)
        )
        images = config.value.get("images", {})
        return ContentReader(
            tree,
            texts,
            entries.entries_by_folder(config, chart_folders),
            images,
            lambda key: config_path,
        )


def _last(folder: str) -> str:
    return folder.rpartition("/")[2]


def is_lasting(error: PipelineError) -> bool:
    """Whether an error is about what the sources say, not about this machine or others."""
    return isinstance(error, (ConfigurationError, EvidenceError))


def problem_at_tag(error: PipelineError) -> str:
    """An error without advice to edit the chart: nobody can mend what a tag has."""
    if not isinstance(error, ConfigurationError):
        return str(error)
    return f"{error.where}: {error.what}".removeprefix(": ")


def _is_text(path: str, entry: Entry, config_path: str) -> bool:
    return entry.kind != "submodule" and (path == config_path or entries.describes_chart(path))
