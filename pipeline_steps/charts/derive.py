"""A chart with other image references and another version: the snapshot from the source, production from the snapshot.

Only single values are replaced, each change is kept, and undoing them gives the former tar again: that proof is
what says that production is what was tested, and it needs no snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from pipeline_steps.charts import edit
from pipeline_steps.charts.archive import Archive, Files, pack
from pipeline_steps.charts.edit import Change
from pipeline_steps.core.errors import EvidenceError

APP_VERSION = "Chart.appVersion"
METADATA = "Chart.yaml"
VALUES = "values.yaml"

#: File in the chart → key → text.
Edits = dict[str, dict[str, str]]
#: (image name, template) → the text for a values key.
Fill = Callable[[str, str], str]


class Part(NamedTuple):
    """A chart in a package: folder "" for the chart itself, charts/NAME/ for a file:// subchart.

    images: image name → key of values.yaml (or Chart.appVersion) → template, as pipeline.yaml has them.
    """

    folder: str
    images: Mapping[str, Mapping[str, str]]


class Derived(NamedTuple):
    """What was made, and how it differs from what it was made of."""

    archive: Archive
    changes: tuple[Change, ...]


def edits(parts: Iterable[Part], fill: Fill, version: str) -> Edits:
    """What is to be set: the version of the chart itself, and the image references of all its parts.

    >>> edits([Part("", {"web": {"image.tag": "{tag}"}})], lambda image, template: "k-1", "1.2.3")
    {'Chart.yaml': {'version': '1.2.3'}, 'values.yaml': {'image.tag': 'k-1'}}
    """
    found: Edits = {METADATA: {"version": version}}
    for part in parts:
        for image, keys in part.images.items():
            for key, template in keys.items():
                file = METADATA if key == APP_VERSION else VALUES
                name = "appVersion" if key == APP_VERSION else key
                found.setdefault(f"{part.folder}{file}", {})[name] = fill(image, template)
    return found


def derive(files: Files, wanted: Edits, where: str = "") -> Derived:
    """`files` with the edits made, packed. where: the chart's path, for errors.

    Raises ConfigurationError for a file or key that is not there.
    """
    changed, changes = edit.apply(files, wanted, where)
    return Derived(pack(changed, files.executables, where), changes)


def prove(derived: Files, changes: Iterable[Change], tar_digest: str, where: str = "") -> None:
    """Check that `derived` with its changes undone is the chart of `tar_digest`, byte for byte.

    Raises EvidenceError when it is not.
    """
    undone = pack(edit.undo(derived, changes), derived.executables, where)
    if undone.tar_digest != tar_digest:
        raise EvidenceError(
            f"undoing its changes gives {undone.tar_digest}, tested was {tar_digest}",
            where=where,
            advice="this chart does not come from the tested one; promote it from there",
        )
