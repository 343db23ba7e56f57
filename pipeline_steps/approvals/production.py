"""Whether production has what a tag names: its content, not only its version.

Whoever may move or set a tag could else let the list of changes that need an approval begin behind
one that nobody approved.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Mapping

from pipeline_steps.building.channels import Channel
from pipeline_steps.building.packaging import image_edits, package_files
from pipeline_steps.building.production_images import production_image_names
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts import edit
from pipeline_steps.config.language import Config
from pipeline_steps.repositories.repository import Published
from pipeline_steps.sources.source import Tag
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, UsageError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout
from pipeline_steps.workspace.tags import read_trailers

log = logging.getLogger("pipeline_steps.approval")

#: Whether a tag, and the version that it names, is in production.
IsReleased = Callable[[Tag, str], bool]


def released_versions(config: Config, name: str, state: State) -> IsReleased:
    """Asks production about the tags of a chart; a channel without charts has none.

    What it is asked raises MachineError's kinds and Temporary.
    """
    if not config.channels.production.charts:
        return lambda _tag, _version: False
    channel = functools.cache(lambda: Channel(config, "production"))

    def is_released(tag: Tag, version: str) -> bool:
        if not channel().has_version(name, version):
            return False
        reason = _difference(config, name, state, channel(), tag, version)
        if reason:
            log.warning(
                "%s: the tag %s is not taken for the last release: %s", name, tag.name, reason
            )
        return not reason

    return is_released


def _difference(
    config: Config, name: str, state: State, channel: Channel, tag: Tag, version: str
) -> str:
    """Why what production has as a version is not what the tag names; "" where it is."""
    try:
        tagged = open_checkout(config, tag.revision, entries_here=True)
        chart = tagged.chart(name)
        if chart.version != version:
            return f"its Chart.yaml says {chart.version}"
        # Before the archive is read: nearly always the last release was promoted by these records.
        tars = _promoted(tagged, name, version, state)
        if any(channel.has_recorded(record, everywhere=False) for record in tars.values()):
            return ""
        published = channel.published(name, version)
        if published is None:
            return "production has no archive of it"
        if published.tar_digest in tars or _has_files(published, tagged, chart, tag):
            return ""
    except (ConfigurationError, EvidenceError, UsageError) as error:
        return f"{error.where}: {error.what}".removeprefix(": ")
    return (
        f"no record of promote has its content, and {published.place} has other files than it names"
    )


def _promoted(tagged: Checkout, name: str, version: str, state: State) -> Mapping[str, Record]:
    """Tar digest → the passed record of promote that published it, of the content at a tag."""
    return {
        record.outputs.get("tar", ""): record
        for content in tagged.chart_contents_in_all_formats(name)
        for record in state.find(step="promote", subject=name, content=content)
        if record.parameters.get("version") == version
    }


def _has_files(published: Published, tagged: Checkout, chart: Chart, tag: Tag) -> bool:
    """Whether an archive has the files that a tag has, with the images that its text names.

    What `helm package` writes anew, and what is set to name images, is compared by its values.
    """
    files = package_files(tagged, chart)
    expected: Mapping[str, bytes] = files
    by_value = {"Chart.yaml"}
    released = read_trailers(tag).get(chart.name)
    if released and set(chart.images) <= set(released.images):
        names = production_image_names(tagged, chart, format=released.format)
        images = {
            name: reference._replace(digest=released.images[name])
            for name, reference in names.items()
        }
        edits = image_edits(tagged, chart, files, images)
        expected, _ = edit.apply(files, edits, chart.path)
        by_value |= set(edits)
    return _is_alike(archives.unpack(published.archive.tgz, published.place), expected, by_value)


def _is_alike(
    published: Mapping[str, bytes], expected: Mapping[str, bytes], by_value: Collection[str]
) -> bool:
    if published.keys() != expected.keys():
        return False
    different = [path for path in published if published[path] != expected[path]]
    return all(
        path in by_value and _value(published[path], path) == _value(expected[path], path)
        for path in different
    )


def _value(data: bytes, path: str) -> object:
    return yaml_reader.plain_value(yaml_reader.parse(data, path)[1])
