"""The charts of a checkout, or of one of its revisions: which there are, what they consist of, who
depends on whom.

Nothing is written and nothing is asked from the network. What a step does with a chart does not
belong here.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import NamedTuple

from pipeline_steps.charts import paths
from pipeline_steps.charts.image_references import refuse_shared_keys
from pipeline_steps.charts.paths import chart_yaml
from pipeline_steps.charts.read import written_name
from pipeline_steps.config import entries
from pipeline_steps.config.convert import convert
from pipeline_steps.config.document import Document
from pipeline_steps.config.entries import RawEntry
from pipeline_steps.config.language import (
    ChartEntry,
    ChartTests,
    Check,
    Config,
    ImageEntry,
    merge_tests,
)
from pipeline_steps.sources import kinds
from pipeline_steps.sources.source import Source, Tree
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.yaml_reader import nearest_names
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.content import Closure, ContentReader, ImageInputs
from pipeline_steps.workspace.modifications import ConfigHistory, changed_files, modifications
from pipeline_steps.workspace.stored_config import StoredConfig

#: How many changes of pipeline.yaml are looked at for the newest that is about a chart.
MAX_CONFIG_REVISIONS = 100


log = logging.getLogger(__name__)


@functools.lru_cache  # once in a process, which may read the configuration for several steps
def _warn_of_link(link: str, folder: str) -> None:
    log.warning(
        "%s is a symbolic link, which `charts` does not follow: the chart is %s, write that",
        link,
        folder,
    )


class UnreadableChart(NamedTuple):
    """A chart that cannot be read, in its folder, and why."""

    folder: str
    error: ConfigurationError


class Checkout:
    """The checkout that `config` was read from, as it stands, or at `revision` (any name of one).

    source: its system. folder: pipeline.yaml's folder relative to the source's root, "" for the
    root itself. tree: the files below `folder`. revision: full id of what it is, or is based on. At
    a revision the charts and images are those that its own pipeline.yaml names. What `source` has
    read already is not read again. entries_here: of a revision before pipeline.yaml, the charts and
    images are those that the pipeline.yaml of the checkout names, as far as they are there.
    """

    def __init__(
        self,
        config: Config,
        revision: str | None = None,
        source: Source | None = None,
        *,
        entries_here: bool = False,
    ) -> None:
        self.config = config
        self.source: Source = source or kinds.open_source(
            config.root, config.hosts, config.release.svn_tags
        )
        below = config.root.relative_to(self.source.root).as_posix()
        self.folder = "" if below == "." else below
        self.tree: Tree = self.source.tree(revision, self.folder)
        self.revision = self.tree.revision
        self._at_revision = revision is not None
        self._entries_here = entries_here

    @property
    def has_own_config(self) -> bool:
        """Whether pipeline.yaml is there."""
        return self.config_path in self._small_files

    @property
    def charts(self) -> Mapping[str, Chart]:
        """Every chart by name, in the order of their folders; contents are computed when asked for.

        Raises ConfigurationError when a chart cannot be read.
        """
        for chart in self.unreadable.values():
            raise chart.error.fresh()
        return self.readable_charts

    @functools.cached_property
    def readable_charts(self) -> Mapping[str, Chart]:
        """Like `charts`, without those in `unreadable`."""
        return _LazyCharts(
            {
                name: functools.partial(self._read_chart, folder)
                for name, folder in self._folder_of_chart.items()
            }
        )

    def chart(self, name: str) -> Chart:
        """One chart. Raises ConfigurationError naming the nearest when there is none of that name."""
        return self.readable_charts[self.require_chart(name)]

    def require_chart(self, name: str) -> str:
        """`name`, if there is a chart of that name. Raises ConfigurationError naming the nearest."""
        if name in self.unreadable:
            raise self.unreadable[name].error.fresh()
        if name not in self._folder_of_chart:
            raise ConfigurationError(
                f"there is no chart {name!r}",
                where=self._stored_config.location("charts"),
                advice=nearest_names(name, self._folder_of_chart),
            )
        return name

    def chart_version(self, name: str) -> str:
        """The version in a chart's Chart.yaml. Raises ConfigurationError as `require_chart`."""
        return self._content_reader.metadata(
            self._folder_of_chart[self.require_chart(name)]
        ).version

    def chart_folder(self, name: str) -> str:
        """The folder of a chart. Raises ConfigurationError as `require_chart`."""
        return self._folder_of_chart[self.require_chart(name)]

    def history_paths(self, name: str) -> tuple[str, ...]:
        """`Chart.history_paths` of a chart; no file of it is read. Raises ConfigurationError when
        the places cannot be told.
        """
        return self._content_reader.chart_places(self.chart_folder(name))

    def chart_entry(self, name: str) -> ChartEntry:
        """The merged entries about a chart. Raises ConfigurationError as `require_chart`."""
        return self._chart_entry(self.chart_folder(name))

    def chart_contents(self) -> dict[str, str]:
        """The content of every chart by name; much faster than asking one by one.

        Raises ConfigurationError when a chart cannot be read.
        """
        for chart in self.unreadable.values():
            raise chart.error.fresh()
        return self.readable_contents()

    def readable_contents(self) -> dict[str, str]:
        """Like `chart_contents`, without the charts that cannot be read."""
        self._content_reader.read_ahead(self._folder_of_chart.values())
        return {chart.name: chart.content for chart in self.each_readable()}

    def each_readable(self) -> Iterator[Chart]:
        """Every chart but those that cannot be read, or whose files cannot be packed: `chart` says
        what is wrong with one.
        """
        for name in self.readable_charts:
            try:
                chart = self.readable_charts[name]
            except ConfigurationError:
                continue
            yield chart

    def chart_content_if_readable(self, name: str) -> str | None:
        """The content of a chart; None when this revision lacks the chart, or it is broken."""
        try:
            return self.chart(name).content
        except ConfigurationError:
            return None

    def chart_and_image_contents(self, chart: Chart) -> list[str]:
        """The contents of a chart and of its images: records about the chart are found by them."""
        return [chart.content, *(self.image_content(name) for name in chart.images)]

    def image_values(self, folder: str) -> Mapping[str, Mapping[str, str]]:
        """Image name → values key → template, as the entries about the chart in `folder` say."""
        images: Mapping[str, Mapping[str, str]] = self._entry(folder).get("images") or {}
        return images

    def image_entry(self, name: str) -> ImageEntry:
        """One entry of `images`, with overlays. Raises ConfigurationError naming the nearest."""
        if name not in self._stored_config.images:
            raise ConfigurationError(
                f"there is no image {name!r}",
                where=self._stored_config.location("images"),
                advice=nearest_names(name, self._stored_config.images),
            )
        return self._stored_config.images[name]

    @property
    def image_names(self) -> tuple[str, ...]:
        """The names in `images`."""
        return tuple(self._stored_config.images)

    def image_content(self, name: str) -> str:
        """The digest over the image's Dockerfile, the files of its context that .dockerignore
        leaves in, its entry.
        """
        self.image_entry(name)
        return self._content_reader.image_content(name)

    def chart_content_format_1(self, name: str) -> str:
        """The content of a chart as tags without `Pipeline-Format` have it."""
        return self._content_reader.content_format_1(
            self._content_reader.chart(self._folder_of_chart[self.require_chart(name)])
        )

    def chart_contents_in_all_formats(self, name: str) -> list[str]:
        """The content of a chart in every format that records have; none when it cannot be read."""
        try:
            return [self.chart(name).content, self.chart_content_format_1(name)]
        except ConfigurationError:
            return []

    def image_inputs(self, name: str) -> ImageInputs | None:
        """What of the source a builder gets for an image; None for one that is built elsewhere."""
        self.image_entry(name)
        return self._content_reader.image_inputs(name)

    def image_users(self, name: str) -> tuple[str, ...]:
        """Folders of the charts that use an image, those that pack such a chart among them."""
        return self._content_reader.image_users(name)

    def image_closure(self, name: str) -> Closure:
        """What an image is made of, whichever charts use it."""
        self.image_entry(name)
        return self._content_reader.image(name)

    def lists_chart(self, name: str, folder: str) -> bool:
        """Whether pipeline.yaml lists a chart of this name, or one in this folder; also where it
        cannot be read, and so cannot be known not to.
        """
        try:
            return self.has_own_config and (
                folder in self._entry_numbers or name in self._folder_of_chart
            )
        except ConfigurationError:
            return True

    def entries_text(self, name: str) -> str:
        """What pipeline.yaml says of a chart, of what it packs and of its images, and which folder
        the chart is, one value a line; "" of a chart that is not there or cannot be read.
        """
        try:
            closure = self._content_reader.chart(self.chart_folder(name))
        except ConfigurationError:
            return ""
        # The folder, too: another entry, or none but its path, makes other files the chart.
        entries_of = {
            "folder": closure.folder,
            "charts": closure.charts,
            "images": closure.images,
        }
        return json.dumps(entries_of, indent=1, sort_keys=True, default=str) + "\n"

    def mainline_position(self, chart: Chart) -> int:
        """Mainline position of the newest revision that changed the chart's closure, its entries
        among it.

        Raises MachineError when the history is not here."""
        places = [self._from_root(place) for place in chart.history_paths]
        # One is enough, and the search stops there: the whole history of a chart may be long.
        newest = next(iter(self.source.history(self.revision, places, 1)), "")
        if newest != self.revision:
            newest = (
                self._last_change_of_entries(self._content_reader.chart(chart.path), newest)
                or newest
            )
        return self.source.position(newest) if newest else 0

    def _last_change_of_entries(self, closure: Closure, after: str) -> str | None:
        """The newest revision after another that changed the entries about a closure, or which
        folder is the chart; else the oldest of MAX_CONFIG_REVISIONS.
        """
        revisions = self.source.history(
            self.revision, [self._from_root(self.config_path)], MAX_CONFIG_REVISIONS, after
        )
        # What lies before the revisions that are looked at is not known: then the oldest of them
        # counts, so that a position is never older than the last change.
        before = [*revisions[1:], "" if len(revisions) == MAX_CONFIG_REVISIONS else after]
        says_more = bool(closure.charts or closure.images)
        for revision, former in zip(revisions, before, strict=False):
            if former and self._config_history.has_same_entries(closure, former):
                continue
            # A first pipeline.yaml that only names the chart's folder makes no other one the chart.
            if former and not says_more and self._config_history.is_missing(former):
                continue
            return revision
        return None

    def _from_root(self, path: str) -> str:
        return "/".join(part for part in (self.folder, path) if part) or "."

    @functools.cached_property
    def config_path(self) -> str:
        """The path of pipeline.yaml, relative to `folder`."""
        return self.config.files[0].relative_to(self.config.root).as_posix()

    # -- what pipeline.yaml says ---

    @functools.cached_property
    def _stored_config(self) -> StoredConfig:
        data = self._small_files.get(self.config_path)
        if data is None and self._entries_here:
            data = self.source.tree(None, self.folder).read([self.config_path])[self.config_path]
        revision = self.revision if self._at_revision else ""
        return StoredConfig(self.config, self.config_path, data, revision)

    @functools.cached_property
    def _config_history(self) -> ConfigHistory:
        return ConfigHistory(
            self.source,
            self.folder,
            self.config_path,
            self._stored_config.document,
            self._chart_folders,
        )

    @property
    def own_tests_and_check(self) -> tuple[ChartTests, Check]:
        """`tests` and `check` of pipeline.yaml itself, which hold for all charts: no overlay."""
        return self._stored_config.tests_and_check

    @property
    def own_approval_rules(self) -> tuple[object, object]:
        """`approvals` and production's `requires` of pipeline.yaml itself: no overlay."""
        return self._stored_config.approval_rules

    def own_tests_of(self, name: str) -> ChartTests:
        """What pipeline.yaml itself says of the tests of a chart, in `tests` and in its entries: no
        overlay, no default. Raises ConfigurationError as `require_chart`.
        """
        folder = self.chart_folder(name)
        by_folder = entries.entries_by_folder(self._stored_config.document, self._chart_folders)
        entry = Document({**by_folder.get(folder, {}), "path": folder or "."}, {})
        return merge_tests(
            self.own_tests_and_check[0], convert(entry, ChartEntry).tests or ChartTests()
        )

    # -- which charts there are ---

    @functools.cached_property
    def _chart_folders(self) -> list[str]:
        """Every folder with a Chart.yaml, sorted."""
        return sorted(
            path.removesuffix("Chart.yaml").rstrip("/")
            for path in self._small_files
            if entries.is_chart_yaml(path)
        )

    @functools.cached_property
    def _entry_numbers(self) -> dict[str, list[int]]:
        """Folder of every chart → numbers of the entries about it."""
        numbers_of: dict[str, list[int]] = {}
        for number, entry in enumerate(self._stored_config.entries):
            where = self._stored_config.location(f"charts[{number}].path")
            try:
                folders = entries.match_chart_folders(entry["path"], self._chart_folders, where)
            except ConfigurationError:
                if self.has_own_config or not self._entries_here:
                    raise
                continue  # of a chart that is newer than the revision
            for folder in folders:
                numbers_of.setdefault(folder, []).append(number)
        if not self._at_revision:
            self._warn_of_links(numbers_of)
        return dict(sorted(numbers_of.items()))

    def _warn_of_links(self, folders: Collection[str]) -> None:
        """Warn of charts that entries fit only by a symbolic link: it is not followed. folders:
        those of the charts that entries fit.
        """
        fits = [
            paths.glob_pattern(paths.relative_path(part))
            for entry in self._stored_config.entries
            for part in paths.expand_braces(entry["path"])
        ]
        links = [
            path
            for path, entry in self.tree.entries().items()
            if entry.kind == "link" and any(one.fullmatch(path) for one in fits)
        ]
        for link, target in self.tree.read(links).items():
            above = posixpath.dirname(link)
            folder = posixpath.normpath(f"{above}/{target.decode(errors='surrogateescape')}")
            if (chart := folder.lstrip("/")) in self._chart_folders and chart not in folders:
                _warn_of_link(link, chart)

    @functools.cached_property
    def _folder_of_chart(self) -> dict[str, str]:
        """Chart name → folder."""
        return {
            self._content_reader.metadata(folder).name: folder
            for folder in self._entry_numbers
            if folder not in self._unreadable_folders
        }

    @functools.cached_property
    def unreadable(self) -> Mapping[str, UnreadableChart]:
        """The charts whose Chart.yaml, or that of a file:// subchart, is refused, or whose name
        another one has: they are no obstacle to others. By the name that is written there, else by folder.
        """
        charts: dict[str, UnreadableChart] = {}
        for folder, error in self._unreadable_folders.items():
            name, _ = written_name(self._small_files[chart_yaml(folder)])
            # By folder where the name is not its own: --chart must never mean one of two charts.
            key = folder if not name or name in charts or name in self._folder_of_chart else name
            charts[key] = UnreadableChart(folder, error)
        return charts

    @functools.cached_property
    def _unreadable_folders(self) -> dict[str, ConfigurationError]:
        errors: dict[str, ConfigurationError] = {}
        folders_of: dict[str, list[str]] = {}
        for folder in self._entry_numbers:
            try:
                self._content_reader.subcharts(folder)
            except ConfigurationError as error:
                # Kept for a whole command: its frames would hold every file that was read.
                error.__traceback__ = None
                errors[folder] = error
            else:
                folders_of.setdefault(self._content_reader.metadata(folder).name, []).append(folder)
        for name, folders in folders_of.items():
            for folder in folders if len(folders) > 1 else ():
                message = f"the chart name {name} stands for {' and '.join(folders)}"
                advice = "give all but one another name, or leave them out of `charts`"
                errors[folder] = ConfigurationError(
                    message, where=chart_yaml(folder), advice=advice
                )
        return errors

    @functools.cached_property
    def _content_reader(self) -> ContentReader:
        images = self._stored_config.document.value.get("images", {})
        return ContentReader(
            self.tree,
            self._small_files,
            entries.entries_by_folder(self._stored_config.document, self._chart_folders),
            images,
            self._stored_config.location,
        )

    @functools.cached_property
    def _small_files(self) -> dict[str, bytes]:
        """pipeline.yaml, every Chart.yaml and requirements.yaml by path, read in one go."""
        candidates = [
            e.path
            for e in self.tree.entries().values()
            if e.path == self.config_path or entries.describes_chart(e.path)
        ]
        return self.tree.read(
            [path for path in candidates if self.tree.entries()[path].kind != "submodule"]
        )

    def _entry(self, folder: str) -> RawEntry:
        """The entries about the chart in `folder`, with overlays, merged."""
        return entries.merge_entries(
            self._stored_config.entries[number] for number in self._entry_numbers.get(folder, ())
        )

    def _chart_entry(self, folder: str) -> ChartEntry:
        return convert(Document({**self._entry(folder), "path": folder or "."}, {}), ChartEntry)

    def _read_chart(self, folder: str) -> Chart:
        metadata = self._content_reader.metadata(folder)
        closure = self._content_reader.chart(folder)
        # Refused here, when the chart is read: a key that two images set would get one of them by
        # chance.
        for each in (folder, *self._content_reader.subcharts(folder)):
            refuse_shared_keys(self.image_values(each), self._location_of_images(each))
        return Chart(
            name=metadata.name,
            path=folder,
            version=metadata.version,
            app_version=metadata.app_version,
            type=metadata.type,
            entry=self._chart_entry(folder),
            subcharts=self._content_reader.subcharts(folder),
            images=self._content_reader.images(folder),
            content=self._content_reader.chart_content(folder),
            folder_digest=self._content_reader.stored_digest(folder),
            closure=closure.files,
            history_paths=closure.paths,
            modified=self._modified(metadata.name, folder, closure),
        )

    def _location_of_images(self, folder: str) -> str:
        """Where pipeline.yaml says which images the chart in `folder` has: the last entry about it
        that does.
        """
        numbers = [
            number
            for number in self._entry_numbers.get(folder, ())
            if self._stored_config.entries[number].get("images")
        ]
        return self._stored_config.location(f"charts[{numbers[-1]}].images") if numbers else folder

    @functools.cached_property
    def _base_checkout(self) -> Checkout:
        """The committed revision that this checkout is based on."""
        return Checkout(self.config, self.revision, self.source)

    def _modified(self, name: str, folder: str, closure: Closure) -> tuple[str, ...]:
        """What makes the content of a chart modified; see `modifications`."""
        stored = self._stored_config
        overlays = [stored.overlay_of_image(image) for image in self._content_reader.images(folder)]
        overlays += [
            stored.overlay_of_values(each, self.image_values(each), self._chart_folders)
            for each in (folder, *self._content_reader.subcharts(folder))
        ]
        return modifications(
            self._changed_files(closure),
            overlays,
            lambda: self._content_reader.chart_content(folder),
            lambda: self._base_checkout.chart_content_if_readable(name),
        )

    def image_modified(self, name: str) -> tuple[str, ...]:
        """What makes the content of an image modified: changed files, and an overlay's entry about
        it.
        """
        return modifications(
            self._changed_files(self.image_closure(name)),
            [self._stored_config.overlay_of_image(name)],
            lambda: self.image_content(name),
            lambda: self._base_checkout.image_content_if_readable(name),
        )

    def _changed_files(self, closure: Closure) -> tuple[str, ...]:
        return changed_files(self.tree, closure, self.config_path, self._config_history)

    def image_content_if_readable(self, name: str) -> str | None:
        """The content of an image; None when this revision lacks the image, or it is broken."""
        try:
            return self.image_content(name)
        except ConfigurationError:
            return None


@contextlib.contextmanager
def share_checkouts() -> Iterator[None]:
    """Inside this block `open_checkout` opens each checkout once.

    A step and its selection then see one state of the source. The processes that read the source
    end with the block.
    """
    token = _shared_checkouts.set({})
    try:
        with kinds.share_sources():
            yield
    finally:
        _shared_checkouts.reset(token)


def open_checkout(
    config: Config, revision: str | None = None, *, entries_here: bool = False
) -> Checkout:
    """The checkout of `config`, or one of its revisions; outside `share_checkouts` a new one.

    entries_here: see `Checkout`.
    """
    checkouts = _shared_checkouts.get()
    if checkouts is None:
        return Checkout(config, revision, entries_here=entries_here)
    cache_key = (id(config), revision, entries_here)
    if cache_key not in checkouts:
        checkouts[cache_key] = Checkout(config, revision, entries_here=entries_here)
    return checkouts[cache_key]


#: The checkouts that were opened, by configuration and revision.
_shared_checkouts: ContextVar[dict[tuple[int, str | None, bool], Checkout] | None] = ContextVar(
    "shared_checkouts", default=None
)


class _LazyCharts(Mapping[str, Chart]):
    """Charts by name, each made when it is asked for."""

    def __init__(self, make: Mapping[str, Callable[[], Chart]]) -> None:
        self._make = make
        self._made: dict[str, Chart] = {}

    def __getitem__(self, name: str) -> Chart:
        if name not in self._made:
            self._made[name] = self._make[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)
