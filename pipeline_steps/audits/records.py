"""What the records say of the charts in a repository: which digests promote and snapshot put there,
and the record.

Found by the contents that tags name, and by the digests that the repository itself says.
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


class Recorded(NamedTuple):
    """A version as a record says it was published. digest: of the reference (archive, or manifest
    in a registry).
    """

    record: Record
    digest: str
    tar: str


def tells(recorded: Iterable[Recorded], digest: str, tar: str) -> bool:
    """Is one of these what is there? The tar is a chart's identity: the same in other bytes is no
    other chart.

    digest: of the archive, or the manifest; tar: "" where the archive cannot be read.
    """
    return any(one.digest == digest or (tar and one.tar == tar) for one in recorded)


Known = dict[tuple[str, str], list[Recorded]]


def known(state: State, config: Config, url: str, digests: Iterable[str] = ()) -> Known:
    """(chart, version) → what was recorded of it at this repository, by records that nothing
    supersedes.

    digests: of archives or manifests, as the repository says them; with one of these a record
    counts wherever it was published. Raises what asking the evidence stores raises.
    """
    asked = set(digests)
    if state.stores is not None:
        state.load_evidence([*sorted(asked), *_contents(config)])
    records = [record for record in state.records() if record.step in PUBLISHING]
    gone = superseded(records)
    found: Known = {}
    for record in records:
        if record.passed and record.id not in gone:
            for name, value in record.outputs.items():
                reference, _, digest = value.rpartition("@")
                if name.startswith("chart") and (
                    reference.startswith(f"{url.rstrip('/')}/") or digest in asked
                ):
                    version = str(record.parameters.get("version", ""))
                    one = Recorded(record, digest, record.outputs.get("tar", ""))
                    found.setdefault((record.subject, version), []).append(one)
    return found


def _contents(config: Config) -> list[str]:
    """The contents that the tags of the source name, if there is one here."""
    try:
        tags = open_source(config.root).tags("*")
    except ConfigurationError:
        return []
    return [released.content for tag in tags.values() for released in read_trailers(tag).values()]
