"""The charts of a checkout, or of one of its revisions: which there are, what they consist of, who
depends on whom.

Nothing is written and nothing is asked from the network. What a step does with a chart does not
belong here.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import NamedTuple

import msgspec

from pipeline_steps.charts import paths
from pipeline_steps.charts.paths import chart_yaml
from pipeline_steps.charts.references import refuse_shared_keys
from pipeline_steps.config import config_file, entries
from pipeline_steps.config.convert import convert
from pipeline_steps.config.document import Document, spelled
from pipeline_steps.config.entries import Raw
from pipeline_steps.config.language import ChartEntry, Config, ImageEntry, Settings
from pipeline_steps.sources.kinds import open_source
from pipeline_steps.sources.source import Source, Tree
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.yaml_reader import nearest_names
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.content import Closure, Closures, ImageInputs

#: How many changes of pipeline.yaml are looked at for the newest that is about a chart.
LOOKED_AT = 100


class _Written(Settings, frozen=True):
    """The sections of a pipeline.yaml that a revision decides itself."""

    charts: tuple[ChartEntry, ...] = ()
    images: dict[str, ImageEntry] = msgspec.field(default_factory=dict)


class Checkout:
    """The checkout that `config` was read from, as it stands, or at `revision` (any name of one).

    source: its system. folder: pipeline.yaml's folder relative to the source's root, "" for the
    root itself. tree: the files below `folder`. revision: full id of what it is, or is based on. At
    a revision the charts and images are those that its own pipeline.yaml names. What `source` has
    read already is not read again.
    """

    def __init__(
        self, config: Config, revision: str | None = None, source: Source | None = None
    ) -> None:
        self.config = config
        self.source: Source = source or open_source(config.root)
        below = config.root.relative_to(self.source.root).as_posix()
        self.folder = "" if below == "." else below
        self.tree: Tree = self.source.tree(revision, self.folder)
        self.revision = self.tree.revision
        self._at_revision = revision is not None

    @functools.cached_property
    def charts(self) -> Mapping[str, Chart]:
        """Every chart by name, in the order of their folders; contents are computed when asked for."""
        return _Lazy(
            {name: functools.partial(self._chart, folder) for name, folder in self._folders.items()}
        )

    def chart(self, name: str) -> Chart:
        """One chart. Raises ConfigurationError naming the nearest when there is none of that name."""
        return self.charts[self.known(name)]

    def known(self, name: str) -> str:
        """`name`, if there is a chart of that name. Raises ConfigurationError naming the nearest."""
        if name not in self._folders:
            raise ConfigurationError(
                f"there is no chart {name!r}",
                where=self._where("charts"),
                advice=nearest_names(name, self._folders),
            )
        return name

    def version(self, name: str) -> str:
        """The version of a chart as in its Chart.yaml. Raises ConfigurationError as `known` does."""
        return self._closures.metadata(self._folders[self.known(name)]).version

    def contents(self) -> dict[str, str]:
        """The content of every chart by name; much faster than asking one by one."""
        self._closures.read_ahead(self._folders.values())
        return {name: chart.content for name, chart in self.charts.items()}

    def content_of(self, name: str) -> str | None:
        """The content of a chart, None when it cannot be told: an old revision may lack it, or be
        broken.
        """
        try:
            return self.chart(name).content
        except ConfigurationError:
            return None

    def contents_of(self, chart: Chart) -> list[str]:
        """The contents that records about a chart are found by: its own, and those of its images."""
        return [chart.content, *(self.image_content(name) for name in chart.images)]

    def targets(self, folder: str) -> Mapping[str, Mapping[str, str]]:
        """Image name → values key → template, as the entries about the chart in `folder` say."""
        images: Mapping[str, Mapping[str, str]] = self._entry(folder).get("images") or {}
        return images

    def image_entry(self, name: str) -> ImageEntry:
        """One entry of `images`, with overlays. Raises ConfigurationError naming the nearest."""
        if name not in self._images:
            raise ConfigurationError(
                f"there is no image {name!r}",
                where=self._where("images"),
                advice=nearest_names(name, self._images),
            )
        return self._images[name]

    @property
    def image_names(self) -> tuple[str, ...]:
        """The names in `images`."""
        return tuple(self._images)

    def image_content(self, name: str) -> str:
        """The digest over the image's Dockerfile, the files of its context that .dockerignore
        leaves in, its entry.
        """
        self.image_entry(name)
        return self._closures.image_content(name)

    def content_format_1(self, name: str) -> str:
        """The content of a chart as tags without `Pipeline-Format` have it."""
        return self._closures.content_format_1(
            self._closures.chart(self._folders[self.known(name)])
        )

    def contents_of_all_formats(self, name: str) -> list[str]:
        """The content of a chart as records of any version have it; none when it cannot be told."""
        try:
            return [self.chart(name).content, self.content_format_1(name)]
        except ConfigurationError:
            return []

    def image_content_format_1(self, name: str) -> str:
        """The content of an image as records had it before format 2."""
        return self._closures.content_format_1(self.image_closure(name))

    def image_inputs(self, name: str) -> ImageInputs | None:
        """What of the source a builder gets for an image; None for one that is built elsewhere."""
        self.image_entry(name)
        return self._closures.image_inputs(name)

    def image_users(self, name: str) -> tuple[str, ...]:
        """Folders of the charts that use an image, those that pack such a chart among them."""
        return self._closures.image_users(name)

    def image_closure(self, name: str) -> Closure:
        """What an image is made of, whichever charts use it."""
        self.image_entry(name)
        return self._closures.image(name)

    def position(self, chart: Chart) -> int:
        """Mainline position of the newest revision that changed the chart's closure, its entries
        among it.

        Raises MachineError when the history is not here."""
        places = [self._from_root(place) for place in chart.places]
        newest = next(iter(self.source.history(self.revision, places, 1)), "")
        if newest != self.revision:
            newest = self._entries_changed(self._closures.chart(chart.path), newest) or newest
        return self.source.position(newest) if newest else 0

    def _entries_changed(self, closure: Closure, after: str) -> str | None:
        """The newest revision after another that changed the entries about a closure; else the
        LOOKED_ATth.
        """
        if not closure.charts and not closure.images:
            return None
        revisions = self.source.history(
            self.revision, [self._from_root(self.written_in)], LOOKED_AT, after
        )
        before = [*revisions[1:], "" if len(revisions) == LOOKED_AT else after]
        for revision, former in zip(revisions, before, strict=False):
            if not former or not self._says_the_same(closure, self._written_at(former)):
                return revision
        return None

    def _from_root(self, path: str) -> str:
        return "/".join(part for part in (self.folder, path) if part) or "."

    @functools.cached_property
    def written_in(self) -> str:
        """Where pipeline.yaml stands, relative to `folder`."""
        return self.config.files[0].relative_to(self.config.root).as_posix()

    # -- what pipeline.yaml says ------------------------------------------------------------------------------

    @functools.cached_property
    def _own(self) -> Document:
        """charts and images of pipeline.yaml itself, as the source stores it: no overlay, nothing
        expanded.
        """
        at = f"@{self.revision[:12]}" if self._at_revision else ""
        if self.written_in not in self._texts:
            advice = "add it to the source; is it ignored?"
            raise ConfigurationError(
                "is not in the source", where=f"{self.config.files[0]}{at}", advice=advice
            )
        return config_file.entries(self._texts[self.written_in], f"{self.written_in}{at}")

    @functools.cached_property
    def _entries(self) -> list[Raw]:
        """The entries of `charts` that say which charts there are, with overlays but at a revision."""
        own: list[Raw] = self._own.value.get("charts", [])
        return own if self._at_revision else self.config.written["charts"]

    @functools.cached_property
    def _own_images(self) -> dict[str, ImageEntry]:
        """`images` of pipeline.yaml itself."""
        return convert(self._own, _Written).images

    @property
    def _images(self) -> dict[str, ImageEntry]:
        """`images` with overlays, but at a revision."""
        return self._own_images if self._at_revision else self.config.images

    def _where(self, key: str) -> str:
        if not self._at_revision:
            return self.config.where(key)
        places = {spelled(path): place.where for path, place in self._own.places.items()}
        while key and key not in places:
            key = key.rpartition(".")[0]
        return places.get(key, self.written_in)

    # -- which charts there are -------------------------------------------------------------------------------

    @functools.cached_property
    def _known(self) -> list[str]:
        """Every folder with a Chart.yaml, sorted."""
        return sorted(
            path.removesuffix("Chart.yaml").rstrip("/")
            for path in self._texts
            if entries.is_chart(path)
        )

    @functools.cached_property
    def _matched(self) -> dict[str, list[int]]:
        """Folder of every chart → numbers of the entries about it."""
        found: dict[str, list[int]] = {}
        for number, entry in enumerate(self._entries):
            for folder in entries.folders(
                entry["path"], self._known, self._where(f"charts[{number}].path")
            ):
                found.setdefault(folder, []).append(number)
        return dict(sorted(found.items()))

    @functools.cached_property
    def _folders(self) -> dict[str, str]:
        """Chart name → folder."""
        found: dict[str, str] = {}
        for folder in self._matched:
            name = self._closures.metadata(folder).name
            if name in found:
                message = f"the chart name {name} stands for {found[name]} and {folder}"
                raise ConfigurationError(
                    message, where=chart_yaml(folder), advice="give one of them another name"
                )
            found[name] = folder
        return found

    @functools.cached_property
    def _closures(self) -> Closures:
        images = self._own.value.get("images", {})
        return Closures(
            self.tree, self._texts, entries.by_folder(self._own, self._known), images, self._where
        )

    @functools.cached_property
    def _texts(self) -> dict[str, bytes]:
        """pipeline.yaml and every Chart.yaml by path, read in one go."""
        wanted = [
            e.path
            for e in self.tree.entries().values()
            if e.path == self.written_in or entries.is_chart(e.path)
        ]
        return self.tree.read(
            [path for path in wanted if self.tree.entries()[path].kind != "submodule"]
        )

    def _entry(self, folder: str) -> Raw:
        """The entries about the chart in `folder`, with overlays, merged."""
        return entries.merged(self._entries[number] for number in self._matched.get(folder, ()))

    def _chart(self, folder: str) -> Chart:
        metadata = self._closures.metadata(folder)
        closure = self._closures.chart(folder)
        for each in (folder, *self._closures.subcharts(folder)):
            refuse_shared_keys(self.targets(each), self._where_images_of(each))
        return Chart(
            name=metadata.name,
            path=folder,
            version=metadata.version,
            app_version=metadata.app_version,
            type=metadata.type,
            entry=convert(Document({**self._entry(folder), "path": folder or "."}, {}), ChartEntry),
            subcharts=self._closures.subcharts(folder),
            images=self._closures.images(folder),
            content=self._closures.chart_content(folder),
            stored=self._closures.stored_digest(folder),
            closure=closure.files,
            places=closure.places,
            modified=self._modified(metadata.name, folder, closure),
        )

    def _where_images_of(self, folder: str) -> str:
        """Where pipeline.yaml says which images the chart in `folder` has: the last entry about it
        that does.
        """
        numbers = [
            number
            for number in self._matched.get(folder, ())
            if self._entries[number].get("images")
        ]
        return self._where(f"charts[{numbers[-1]}].images") if numbers else folder

    @functools.cached_property
    def _at_head(self) -> Checkout:
        """The revision that this checkout is based on."""
        return Checkout(self.config, self.revision, self.source)

    def _modified(self, name: str, folder: str, closure: Closure) -> tuple[str, ...]:
        """The changed files that the content rests on, none of them when the revision has the same
        content; and the overlays that say something else about images or the values that name them.
        """
        changed = self._changed(closure)
        if changed and self._at_head.content_of(name) == self._closures.chart_content(folder):
            changed = ()
        overlays = [self._overlay_of_image(image) for image in self._closures.images(folder)]
        overlays += [
            self._overlay_of_values(each) for each in (folder, *self._closures.subcharts(folder))
        ]
        return tuple(dict.fromkeys((*changed, *filter(None, overlays))))

    def image_modified(self, name: str) -> tuple[str, ...]:
        """What of an image's inputs differs from the revision: changed files, and an overlay's
        entry about it.
        """
        changed = self._changed(self.image_closure(name))
        if changed and self._at_head.image_content_of(name) == self.image_content(name):
            changed = ()
        return tuple(filter(None, (*changed, self._overlay_of_image(name))))

    def image_content_of(self, name: str) -> str | None:
        """The content of an image, None when it cannot be told: a revision may lack it, or be
        broken.
        """
        try:
            return self.image_content(name)
        except ConfigurationError:
            return None

    def _overlay_of_image(self, name: str) -> str:
        """The overlay whose entry about an image is another than pipeline.yaml's, "" when there is
        none.
        """
        same = self._at_revision or self._own_images.get(name) == self._images[name]
        return "" if same else self._file_of(f"images.{name}")

    def _overlay_of_values(self, folder: str) -> str:
        """The overlay that has other values keys for the images of the chart in `folder`, "" when
        there is none.
        """
        own = entries.by_folder(self._own, self._known)[folder].get("images") or {}
        return "" if self._at_revision or own == self.targets(folder) else self._file_of("charts")

    def _file_of(self, key: str) -> str:
        """The last file but pipeline.yaml that says something below a key of the configuration."""
        below = (f"{key}.", f"{key}[")
        places = [
            place
            for name, place in self.config.places.items()
            if name == key or name.startswith(below)
        ]
        files = dict.fromkeys(place.rpartition(":")[0] for place in places)
        overlays = [file for file in files if file != self.written_in]
        return overlays[-1] if overlays else self.config.where(key)

    def _changed(self, closure: Closure) -> tuple[str, ...]:
        """What differs from the revision: files below the places, and pipeline.yaml when its
        entries do.
        """
        changed = [
            path
            for path in self.tree.modified
            if any(paths.contains(place, path) for place in closure.places)
        ]
        name = self.written_in
        if name in self.tree.modified and name not in changed:
            changed += (
                [] if self._says_the_same(closure, self._written_at(self.revision)) else [name]
            )
        return tuple(sorted(changed))

    def _says_the_same(self, closure: Closure, other: Document | None) -> bool:
        """Whether another state of pipeline.yaml has the same entries about a closure."""
        if other is None:
            return False
        theirs = entries.by_folder(other, self._known)
        charts = {folder: theirs[folder] for folder in closure.places if theirs.get(folder)}
        images = other.value.get("images", {})
        return charts == closure.charts and all(
            images.get(name) == entry for name, entry in closure.images.items()
        )

    def _written_at(self, revision: str) -> Document | None:
        """pipeline.yaml at a revision; None when it is not readable there."""
        try:
            texts = self.source.tree(revision, self.folder).read([self.written_in])
            return config_file.entries(texts[self.written_in], self.written_in)
        except ConfigurationError:
            return None


@contextlib.contextmanager
def shared() -> Iterator[None]:
    """While this lasts `opened` opens each checkout once: a step and its selection see one state of
    the source.

    What its sources keep open to be read ends with it.
    """
    with contextlib.ExitStack() as ends:
        token = _opened.set(_Opened({}, ends))
        try:
            yield
        finally:
            _opened.reset(token)


def opened(config: Config, revision: str | None = None) -> Checkout:
    """The checkout of `config`, or of one of its revisions; outside of `shared` always a new one."""
    known = _opened.get()
    if known is None:
        return Checkout(config, revision)
    place = (id(config), revision)
    if place not in known.checkouts:
        source = next(
            (each.source for each in known.checkouts.values() if each.config is config), None
        )
        if source is None:
            source = open_source(config.root)
            known.ends.enter_context(source.revisions)
        known.checkouts[place] = Checkout(config, revision, source)
    return known.checkouts[place]


class _Opened(NamedTuple):
    """The checkouts that were opened, by configuration and revision, and what ends what they keep
    open.
    """

    checkouts: dict[tuple[int, str | None], Checkout]
    ends: contextlib.ExitStack


_opened: ContextVar[_Opened | None] = ContextVar("opened", default=None)


class _Lazy(Mapping[str, Chart]):
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
