"""What pipeline.yaml says of charts and images: as a tree stores it, and with the overlays over it.

In the checkout overlays (`--config`, the site file) count; at a revision only what its own
pipeline.yaml says. Contents are made from the stored file alone, so that no overlay changes them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import msgspec

from pipeline_steps.config import config_file, entries
from pipeline_steps.config.convert import convert
from pipeline_steps.config.document import Document, format_key
from pipeline_steps.config.entries import RawEntry
from pipeline_steps.config.language import (
    ChartEntry,
    ChartTests,
    Check,
    Config,
    ImageEntry,
    Settings,
)
from pipeline_steps.sources.source import short_revision
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.content import Closure


class _StoredSections(Settings, frozen=True):
    """The sections of a pipeline.yaml that a revision decides itself."""

    charts: tuple[ChartEntry, ...] = ()
    images: dict[str, ImageEntry] = msgspec.field(default_factory=dict)


class StoredConfig:
    """The pipeline.yaml of one tree, beside the configuration of the checkout.

    Args:
        config: of the checkout, with overlays.
        path: of pipeline.yaml in the tree.
        data: its bytes there, None when the tree does not have it.
        revision: of the tree; "" for the checkout as it stands.
    """

    def __init__(self, config: Config, path: str, data: bytes | None, revision: str) -> None:
        self.config = config
        self._path = path
        self._data = data
        self._revision = revision

    @functools.cached_property
    def document(self) -> Document:
        """charts and images as the tree stores them: no overlay, nothing expanded."""
        at = f"@{short_revision(self._revision)}" if self._revision else ""
        if self._data is None:
            advice = "add it to the source; an ignored file is not in it"
            raise ConfigurationError(
                "the file is not in the source", where=f"{self.config.files[0]}{at}", advice=advice
            )
        return config_file.parse_charts_and_images(self._data, f"{self._path}{at}")

    @property
    def tests_and_check(self) -> tuple[ChartTests, Check]:
        """`tests` and `check` as the tree stores them, which hold for all charts."""
        return config_file.parse_tests_and_check(self._data or b"", self._path)

    @property
    def approval_rules(self) -> tuple[object, object]:
        """`approvals` and production's `requires` as the tree stores them."""
        return config_file.parse_approval_rules(self._data or b"", self._path)

    @functools.cached_property
    def entries(self) -> list[RawEntry]:
        """The entries of `charts`: with overlays, but at a revision its own."""
        # At a revision overlays do not count: they are of today, and may name charts that it does
        # not have.
        stored: list[RawEntry] = self.document.value.get("charts", [])
        return stored if self._revision else self.config.raw["charts"]

    @functools.cached_property
    def _stored_images(self) -> dict[str, ImageEntry]:
        return convert(self.document, _StoredSections).images

    @property
    def images(self) -> dict[str, ImageEntry]:
        """`images` with overlays, but at a revision its own."""
        return self._stored_images if self._revision else self.config.images

    def location(self, key: str) -> str:
        """File and line of a key, or of the nearest one above it."""
        if not self._revision:
            return self.config.where(key)
        places = {format_key(path): place.where for path, place in self.document.locations.items()}
        while key and key not in places:
            key = key.rpartition(".")[0]
        return places.get(key, self._path)

    def overlay_of_image(self, name: str) -> str:
        """The overlay whose entry about an image is another than pipeline.yaml's; "" for none."""
        same = self._revision or self._stored_images.get(name) == self.images[name]
        return "" if same else self._last_file_about(f"images.{name}")

    def overlay_of_values(
        self,
        folder: str,
        values: Mapping[str, Mapping[str, str]],
        chart_folders: Sequence[str],
    ) -> str:
        """The overlay that has other values keys for the images of the chart in `folder`; "" for
        none. values: the keys that count, with overlays.
        """
        by_folder = entries.entries_by_folder(self.document, chart_folders)
        # Compared as written: an overlay that says the same again changes nothing.
        stored = by_folder[folder].get("images") or {}
        return "" if self._revision or stored == values else self._last_file_about("charts")

    def _last_file_about(self, key: str) -> str:
        """The last file but pipeline.yaml that says something below a key of the configuration."""
        below = (f"{key}.", f"{key}[")
        places = [
            place
            for name, place in self.config.locations.items()
            if name == key or name.startswith(below)
        ]
        files = dict.fromkeys(place.rpartition(":")[0] for place in places)
        # The last one wins, so it is the one to name.
        overlays = [file for file in files if file != self._path]
        return overlays[-1] if overlays else self.config.where(key)


def has_same_entries(
    closure: Closure, here: Document, document: Document | None, chart_folders: Sequence[str]
) -> bool:
    """Whether another state of pipeline.yaml has the same entries about a closure as the one here;
    None: it cannot be read.
    """
    # Unreadable there is not the same: a change must not hide behind an error.
    if document is None:
        return False
    # An entry may have no key but its path: which folder is the chart is all that it says.
    folder = closure.folder
    if folder is not None and entries.lists_folder(here, folder) != entries.lists_folder(
        document, folder
    ):
        return False
    by_folder = entries.entries_by_folder(document, chart_folders)
    charts = {folder: by_folder[folder] for folder in closure.paths if by_folder.get(folder)}
    images = document.value.get("images", {})
    return charts == closure.charts and all(
        images.get(name) == entry for name, entry in closure.images.items()
    )
