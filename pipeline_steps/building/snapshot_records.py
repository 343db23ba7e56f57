"""The snapshot that later steps stand on: found by content among the records, fetched and compared
by digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline_steps.building import channels
from pipeline_steps.building.channels import Channel
from pipeline_steps.building.image_records import images_of
from pipeline_steps.charts import version as versions
from pipeline_steps.config.language import Config
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.workspace.chart import Chart


class Snapshot(NamedTuple):
    """A snapshot of the chart as it stands. reference: with digest; consumed: images and
    dependencies by digest.

    images: image name → reference with digest.
    """

    record: Record
    reference: str
    version: str
    consumed: dict[str, str]
    images: dict[str, str]


def find_snapshot(state: State, chart: Chart) -> Snapshot:
    """The passed snapshot of this content that counts first. Raises EvidenceError when there is
    none.
    """
    # By content and not by revision: a rebase or an amended message keeps its snapshot.
    records = state.preferred(
        state.find(step="snapshot", subject=chart.name, content=chart.content)
    )
    if not records:
        others = state.find(step="snapshot", subject=chart.name)
        newest_of = str(newest(others, state).content)[:19] if others else ""
        hint = f"; one is recorded of {newest_of}" if others else ""
        raise EvidenceError(
            f"there is no snapshot of chart {chart.name} with this content "
            f"({chart.content[:19]}){hint}",
            where=str(state.path),
            advice=f"run pipeline-steps snapshot --chart {chart.name}",
        )
    return snapshot_of_record(records[0])


def newest(records: Sequence[Record], state: State) -> Record:
    """The snapshot with the highest version, which says how far along the mainline it was made; of
    several with one version the one that counts first.
    """
    in_order = state.preferred(records)
    return max(
        in_order, key=lambda record: versions.sort_key(str(record.parameters.get("version")))
    )


def snapshot_of_record(record: Record) -> Snapshot:
    """What a passed snapshot record names. Raises EvidenceError when it names no chart."""
    reference, version = record.outputs.get("chart"), record.parameters.get("version")
    # Records come from stores that others may write, too.
    if not reference or not version:
        raise EvidenceError(
            f"the record {record.id[:19]} of snapshot names no chart: {reference!r}",
            advice=f"run pipeline-steps snapshot --chart {record.subject} --again",
        )
    images = {name: str(image) for name, image in images_of(record).items()}
    return Snapshot(record, reference, str(version), dict(record.inputs), images)


def used_snapshots(record: Record, state: State) -> list[Record]:
    """The snapshot records that a record names in `uses`."""
    return [
        candidate
        for candidate in state.records()
        if candidate.step == "snapshot" and candidate.id in record.uses
    ]


def fetch_archive(snapshot: Snapshot, config: Config) -> bytes:
    """The snapshot's .tgz from the channel, the very bytes that were recorded.

    Raises EvidenceError when the channel has none or another one.
    """
    published = channels.find_recorded(snapshot.record, Channel(config, "snapshot").first)
    # With the same tar the .tgz may differ: tests must run with the very bytes that are recorded.
    if published.reference != snapshot.reference:
        raise EvidenceError(
            f"the snapshot {published.name} {published.version} is another one than recorded: "
            f"{published.reference}, recorded {snapshot.reference}",
            advice=f"run pipeline-steps snapshot --chart {published.name} --again",
        )
    return published.archive.tgz
