"""A chart of a checkout as it is packed: its files, what is set in them to name its images, what
went in, and the version of its snapshot.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import image_records
from pipeline_steps.building.image_records import IMAGE
from pipeline_steps.charts import dependencies, image_references
from pipeline_steps.charts import version as versions
from pipeline_steps.charts.archive import Archive, Files
from pipeline_steps.charts.collect import collect_files
from pipeline_steps.charts.image_references import Edits
from pipeline_steps.charts.rewrite import rewrite
from pipeline_steps.ci.detect import detect
from pipeline_steps.images import value_templates
from pipeline_steps.repositories.fetch import fetcher
from pipeline_steps.state.record import fingerprint, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.workspace import tags
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

DEPENDENCY = "dependency:"
#: Part of a snapshot's key and version: raise it when the same content makes another tar.
FORMAT = 1


class ChartPackage(NamedTuple):
    """A chart with all that decides how it is packed.

    images: image name → reference with digest. uses: ids of the records that say so. inputs: name →
    digest of what went in. edits: what is set in `files`. version: of the snapshot.
    """

    chart: Chart
    images: dict[str, Reference]
    uses: tuple[str, ...]
    files: Files
    inputs: dict[str, str]
    edits: Edits
    version: str

    @property
    def key(self) -> str:
        """Key of the snapshot's record."""
        return make_key(
            "snapshot",
            FORMAT,
            parameters={"version": self.version},
            content=self.chart.content,
            consumed=self.inputs,
        )

    def pack(self) -> Archive:
        """The chart's archive. Raises ConfigurationError for what helm would not take."""
        return rewrite(self.files, self.version, self.edits, self.chart.path).archive


def read_package(checkout: Checkout, chart: Chart, state: State) -> ChartPackage:
    """The chart as it stands, with the images that are recorded for it.

    Raises EvidenceError when an image was not built, ConfigurationError.
    """
    state.load_evidence(checkout.chart_and_image_contents(chart))
    images, uses = image_records.recorded_images(checkout, chart, state)
    files = package_files(checkout, chart)
    inputs = package_inputs(images, files)
    edits = image_edits(checkout, chart, files, images)
    version = snapshot_version(checkout, chart, edits, inputs)
    return ChartPackage(chart, images, tuple(uses), files, inputs, edits, version)


def package_files(checkout: Checkout, chart: Chart) -> Files:
    """The files of the chart's package as the source stores them, dependencies from repositories
    fetched.

    Raises ConfigurationError.
    """
    entries = checkout.tree.entries()
    kinds = {path: entries[path].kind for path in chart.closure if path in entries}
    files = collect_files(chart.path, kinds, checkout.tree.read)
    return dependencies.fill(files, fetcher(checkout.config.hosts), chart.path)


def image_edits(
    checkout: Checkout, chart: Chart, files: Mapping[str, bytes], images: Mapping[str, Reference]
) -> Edits:
    """What to set in the package so that it names these images, as clusters see them. Raises
    ConfigurationError.
    """
    templates = {folder: checkout.image_values(folder) for folder in (chart.path, *chart.subcharts)}
    hosts = checkout.config.hosts
    parts = {
        name: value_templates.image_parts(reference, hosts) for name, reference in images.items()
    }
    return image_references.edits(
        files,
        chart.path,
        templates,
        lambda name, template, where: parts[name].fill(template, where=where),
    )


def package_inputs(images: Mapping[str, Reference], files: Mapping[str, bytes]) -> dict[str, str]:
    """What a package consumes, by digest: its images and the archives of its dependencies."""
    archives = {
        name: data
        for name, data in files.items()
        if name.startswith("charts/") and name.endswith(".tgz")
    }
    return {
        **{f"{IMAGE}{name}": reference.digest or "" for name, reference in images.items()},
        **{f"{DEPENDENCY}{name}": sha256(data) for name, data in archives.items()},
    }


def is_version_taken(checkout: Checkout, chart: Chart) -> bool:
    """Whether the version in Chart.yaml is tagged with other content.

    A tag whose chart cannot be read counts as other content.
    """
    tagged = tags.chart_at_tag(checkout, chart.name)
    # The tag of this very content is the release of what is checked out: it takes nothing.
    return tagged is not None and not tagged.has_content(chart.content)


def snapshot_version(
    checkout: Checkout, chart: Chart, edits: Edits, inputs: Mapping[str, str]
) -> str:
    """The version stands for all that is in the chart, so one version never means two tars
    (docs/reference/versions.md#snapshots).
    """
    return versions.snapshot(
        versions.parse_strict(chart.version, chart.path),
        # A snapshot of a version that is taken must sort above the release, else below it.
        released=is_version_taken(checkout, chart),
        count=checkout.mainline_position(chart) if on_mainline(checkout) else 0,
        # Of what goes in, not of the tar: two agents must get one version before either has packed.
        fingerprint=fingerprint([chart.content, edits, dict(inputs), FORMAT]),
        dirty=bool(chart.modified),
    )


def on_mainline(checkout: Checkout) -> bool:
    """Whether the snapshot's version contains its mainline position.

    Builds of reviews and other branches get position 0, which sorts below all others.
    """
    build = detect(os.environ)
    branch = build.branch or checkout.source.branch() or ""
    mainline = any(
        fnmatch.fnmatchcase(branch, pattern) for pattern in checkout.config.release.branches
    )
    return bool(build.tag) or (mainline and not build.review)
