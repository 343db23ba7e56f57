"""One chart repository looked at as a whole, and repaired as far as that needs no guess: what
`audit` does.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from pipeline_steps.audits import indexed, records, registry
from pipeline_steps.audits.findings import ARCHIVES_AT_ONCE, Finding
from pipeline_steps.config.language import Config
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.repositories.repository import Indexed, Repository, Rewritable
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import MachineError, UsageError


class Inspection(NamedTuple):
    """What was found. before: the index that was looked at, None where there is none."""

    repository: Repository
    findings: list[Finding]
    before: bytes | None

    @property
    def fixable(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.fix]


def inspect(
    url: str, config: Config, state: State, charts: Collection[str], jobs: int | None
) -> Inspection:
    """Read everything in the repository at `url` and compare it with itself and with the records.

    charts: names, none for all. Raises MachineError's kinds, Temporary, ConfigurationError.
    """
    repository = open_repository(url, config.hosts)
    at_once = jobs or ARCHIVES_AT_ONCE
    if not isinstance(repository, Indexed):
        recorded = records.recorded_versions(state, config, url)
        names = chart_names(repository, charts)
        findings = registry.find_problems(
            repository.url, names, recorded, config.release.withdrawn, config.hosts, at_once
        )
        return Inspection(repository, findings, None)
    before = repository.index()
    recorded = records.recorded_versions(state, config, url, indexed.index_digests(before, url))
    findings = indexed.find_problems(
        repository, before, recorded, config.release.withdrawn, charts, at_once
    )
    return Inspection(repository, findings, before)


def chart_names(repository: Repository, charts: Collection[str]) -> list[str]:
    """These charts, or all of the repository. Raises MachineError where it does not list them."""
    if charts:
        return sorted(charts)
    try:
        return repository.charts()
    except MachineError as error:
        advice = "name the charts: --chart NAME, once for each"
        raise type(error)(
            f"it does not say which charts it has: {error.what}",
            where=repository.url,
            advice=advice,
        ) from error


def repair(inspection: Inspection) -> None:
    """Carry out the fixes, all in one rewrite of the index.

    Raises Conflict when the index is another one by now, MachineError when it reads differently
    afterwards, UsageError where indexes cannot be rewritten, EvidenceError where nothing can be put
    into this one.
    """
    repository = inspection.repository
    if not isinstance(repository, Rewritable):
        what = "its index cannot be repaired from here: it is only read, or its server makes it from the charts it has"
        raise UsageError(
            what,
            where=repository.url,
            advice="repair what is in its storage, where it is published",
        )
    after = indexed.apply_fixes(
        inspection.before, inspection.fixable, f"{repository.url}/index.yaml"
    )
    repository.rewrite(inspection.before, after)
    if repository.index() != after:
        raise MachineError(
            "the index reads differently from what was just written", where=repository.url
        )
