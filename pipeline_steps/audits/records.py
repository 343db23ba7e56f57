"""Records about the charts in a repository: which digests promote and snapshot published.

They are loaded by the contents that tags name, and by the digests in the repository's index.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline_steps.config.language import Config
from pipeline_steps.sources.kinds import open_source
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.state.union import superseded
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.workspace.tags import read_trailers

#: Steps whose outputs are charts in repositories.
PUBLISHING = ("promote", "snapshot")


class RecordedVersion(NamedTuple):
    """A version as it was published. digest: of the archive or, in a registry, of the manifest."""

    record: Record
    digest: str
    tar: str


def matches_record(recorded: Iterable[RecordedVersion], digest: str, tar: str) -> bool:
    """Whether one of the records has this digest or this tar.

    A chart is identified by its tar: the same tar compressed differently is the same chart.
    digest: of the archive or manifest. tar: "" when the archive cannot be read.
    """
    return any(version.digest == digest or (tar and version.tar == tar) for version in recorded)


RecordedVersions = dict[tuple[str, str], list[RecordedVersion]]


def recorded_versions(
    state: State, config: Config, url: str, digests: Iterable[str] = ()
) -> RecordedVersions:
    """(chart, version) → its current records for this repository.

    digests: of archives or manifests in the repository. A record with one of them counts wherever
    it was published. Raises MachineError or Temporary when an evidence store cannot be read.
    """
    known_digests = set(digests)
    if state.stores is not None:
        state.load_evidence([*sorted(known_digests), *_contents_of_tags(config)])
    records = [record for record in state.records() if record.step in PUBLISHING]
    superseded_ids = superseded(records)
    recorded: RecordedVersions = {}
    for record in records:
        if record.passed and record.id not in superseded_ids:
            for name, value in record.outputs.items():
                reference, _, digest = value.rpartition("@")
                if name.startswith("chart") and (
                    # By digest as well: a chart that was copied here is recorded under the address
                    # it came from.
                    reference.startswith(f"{url.rstrip('/')}/") or digest in known_digests
                ):
                    version = str(record.parameters.get("version", ""))
                    recorded_version = RecordedVersion(
                        record, digest, record.outputs.get("tar", "")
                    )
                    recorded.setdefault((record.subject, version), []).append(recorded_version)
    return recorded


def _contents_of_tags(config: Config) -> list[str]:
    """The contents that the tags of the source name; none without a source."""
    try:
        tags = open_source(config.root, config.hosts, config.release.svn_tags).tags("*")
    except ConfigurationError:
        return []
    return [released.content for tag in tags.values() for released in read_trailers(tag).values()]
