"""The snapshot that later steps stand on: found by content among the records, fetched and compared by digest."""

from __future__ import annotations

from typing import NamedTuple

from pipeline_steps.building.image_records import images_of
from pipeline_steps.charts.version import from_tag
from pipeline_steps.config.language import Config, several
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.workspace.chart import Chart


class Snapshot(NamedTuple):
    """A snapshot of the chart as it stands. reference: with digest; consumed: images and dependencies by digest.

    images: image name → reference with digest.
    """

    record: Record
    reference: str
    version: str
    consumed: dict[str, str]
    images: dict[str, str]


def newest(state: State, chart: Chart) -> Snapshot:
    """The newest passed snapshot of this content. Raises EvidenceError when there is none."""
    records = state.find(step="snapshot", subject=chart.name, content=chart.content)
    if not records:
        others = state.find(step="snapshot", subject=chart.name)
        known = f"; the newest is of {str(others[-1].content)[:19]}" if others else ""
        raise EvidenceError(
            f"there is no snapshot of chart {chart.name} with this content ({chart.content[:19]}){known}",
            where=str(state.path),
            advice=f"run: pipeline-steps snapshot --chart {chart.name}",
        )
    return of(records[-1], chart)


def of(record: Record, chart: Chart) -> Snapshot:
    """What a passed snapshot record names. Raises EvidenceError when it names no chart."""
    reference = record.outputs.get("chart", "")
    version = _version(reference, chart.name)
    if version is None:
        raise EvidenceError(f"the record {record.id[:19]} of snapshot names no chart: {reference!r}")
    images = {name: str(image) for name, image in images_of(record).items()}
    return Snapshot(record, reference, version, dict(record.inputs), images)


def stood_on(record: Record, state: State) -> list[Record]:
    """The snapshot records that a record names in `uses`."""
    return [known for known in state.records() if known.step == "snapshot" and known.id in record.uses]


def stands(snapshot: Snapshot, chart: Chart, config: Config) -> bool:
    """Is it still in the snapshot channel configured now, under the reference that was recorded? Asks cheaply."""
    url = several(config.channels.snapshot.charts)[0] if config.channels.snapshot.charts else ""
    if not url or not snapshot.reference.startswith(url.rstrip("/")):
        return False
    return open_repository(url, config.hosts).standing(chart.name, snapshot.version) == snapshot.reference


def fetch(snapshot: Snapshot, chart: Chart, config: Config) -> bytes:
    """The snapshot's .tgz from the channel, the very bytes that were recorded.

    Raises EvidenceError when the channel has none or another one.
    """
    url = several(config.channels.snapshot.charts)[0] if config.channels.snapshot.charts else ""
    again = f"run: pipeline-steps snapshot --chart {chart.name}"
    if not url or not snapshot.reference.startswith(url.rstrip("/")):
        raise EvidenceError(
            f"the snapshot of {chart.name} is {snapshot.reference}, not in the snapshot channel ({url or 'none'})",
            advice=again,
        )
    repository = open_repository(url, config.hosts)
    published = repository.find(chart.name, snapshot.version)
    if published is None:
        raise EvidenceError(f"the snapshot {snapshot.reference} is gone", advice=f"{again} --again")
    if published.reference != snapshot.reference:
        raise EvidenceError(
            f"the snapshot {chart.name} {snapshot.version} is another one than recorded: "
            f"{published.reference}, recorded {snapshot.reference}",
            advice=f"{again} --again",
        )
    tar = snapshot.record.outputs.get("tar")
    if tar is not None and tar != published.tar_digest:
        raise EvidenceError(f"the snapshot's tar is {published.tar_digest}, recorded {tar}", where=snapshot.reference)
    return repository.fetch(published)


def _version(reference: str, name: str) -> str | None:
    """The version in oci://host/path/NAME:TAG@DIGEST or file:///folder/NAME-VERSION.tgz@DIGEST.

    >>> _version("oci://localhost:5000/x/web:1.2.3-0.4.tabc_b@sha256:00", "web")
    '1.2.3-0.4.tabc+b'
    >>> _version("file:///a/web-1.0.0.tgz@sha256:00", "web")
    '1.0.0'
    """
    last = reference.rpartition("@")[0].rpartition("/")[2]
    if last.startswith(f"{name}:"):
        return from_tag(last.removeprefix(f"{name}:"))
    if last.startswith(f"{name}-") and last.endswith(".tgz"):
        return last.removeprefix(f"{name}-").removesuffix(".tgz")
    return None
