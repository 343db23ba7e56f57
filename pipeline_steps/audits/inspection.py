"""Check and repair one chart repository of any kind: the work of `audit`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Sequence
from typing import NamedTuple

from pipeline_steps.audits import indexed, records, registry
from pipeline_steps.audits.findings import ARCHIVES_AT_ONCE, Finding, count_by_kind
from pipeline_steps.config.language import Config
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.repositories.other_hosts import OtherHosts
from pipeline_steps.repositories.repository import Indexed, Repository, Rewritable
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError, MachineError, UsageError
from pipeline_steps.toolbox.wording import counted

FORMAT = 1
#: How many findings a record lists one by one; all are logged.
LISTED = 100

log = logging.getLogger("pipeline_steps.audit")


class Inspection(NamedTuple):
    """The findings of one repository. before: the index as it was read, None when it has none.
    notes: what is not wrong, and worth a line.
    """

    repository: Repository
    findings: list[Finding]
    before: bytes | None
    notes: Sequence[str] = ()

    @property
    def fixable(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.fix]


def audit_repository(
    url: str,
    config: Config,
    state: State,
    charts: tuple[str, ...],
    *,
    fix: bool,
    plan: bool,
    jobs: int | None,
) -> list[Record]:
    """The record of what is wrong with one repository; see `pipeline_steps.audit`.

    charts: names, empty for all. Raises EvidenceError while anything is wrong, and as `inspect` and
    `repair` do.
    """
    parameters = {"url": url, "charts": list(charts), "fix": fix}
    key = make_key("audit", FORMAT, parameters=parameters, content=None, consumed={})
    look = functools.partial(inspect, url, config, state, charts, jobs)
    if plan:
        _log_findings(look())
        return []
    with record_attempt(
        state, step="audit", subject="audit", key=key, parameters=parameters
    ) as attempt:
        result = look()
        _log_findings(result)
        listed = [str(finding) for finding in result.findings[:LISTED]]
        attempt.parameters.update(counts=count_by_kind(result.findings), findings=listed)
        if fix and result.fixable:
            attempt.begin({"repository": url})
            repair(result)
            repaired = [finding.fix.description for finding in result.fixable if finding.fix]
            attempt.parameters["fixed"] = repaired[:LISTED]
            log.info("%s: %s repaired", url, counted(len(result.fixable), "finding"))
            before, result = result, look()
            attempt.parameters["left"] = count_by_kind(result.findings)
            _log_new_findings(before, result)
        if result.findings:
            raise EvidenceError(
                f"{counted(len(result.findings), 'thing is', 'things are')} wrong",
                where=url,
                advice="each is listed above"
                if fix or not result.fixable
                else "--fix repairs what is marked so above",
            )
        return [attempt.passed({"repository": url})]


def _log_new_findings(before: Inspection, after: Inspection) -> None:
    """Log findings that appeared only after the repair: a new entry may have its own."""
    known_findings = {(finding.kind, finding.chart, finding.version) for finding in before.findings}
    new = [
        finding
        for finding in after.findings
        if (finding.kind, finding.chart, finding.version) not in known_findings
    ]
    if new or not after.findings:
        _log_findings(after._replace(findings=new))


def _log_findings(result: Inspection) -> None:
    """Log every finding with its repair, in the order of the charts."""
    for finding in result.findings:
        log.warning("%s", finding)
        if finding.fix:
            log.warning("    fix: %s", finding.fix.description)
    for note in result.notes:
        log.info("note: %s", note)
    if not result.findings:
        log.info("%s: nothing is wrong", result.repository.url)


def inspect(
    url: str, config: Config, state: State, charts: Collection[str], jobs: int | None
) -> Inspection:
    """Check the repository at `url`: index, archives and records against each other.

    charts: names, empty for all. Raises MachineError, Temporary or ConfigurationError when the
    repository or an evidence store cannot be read.
    """
    repository = open_repository(url, config.hosts)
    # Few: each archive is read whole, and a server may limit how many are asked for at once.
    at_once = jobs or ARCHIVES_AT_ONCE
    if not isinstance(repository, Indexed):
        recorded = records.recorded_versions(state, config, url)
        names = chart_names(repository, charts)
        findings = registry.find_problems(
            repository.url, names, recorded, config.release.withdrawn, config.hosts, at_once
        )
        return Inspection(repository, findings, None)
    # Before the records: which of them are needed is known from the digests in the index.
    before = required_index(repository)
    recorded = records.recorded_versions(state, config, url, indexed.index_digests(before, url))
    notes: list[str] = []
    findings = indexed.find_problems(
        repository,
        before,
        recorded,
        config.release.withdrawn,
        charts,
        at_once,
        notes,
        OtherHosts(config.hosts, local=repository.url.startswith(("file://", "git+file://"))),
    )
    return Inspection(repository, findings, before, notes)


def required_index(repository: Indexed) -> bytes | None:
    """The index; None where it is lost, and archives are there. Raises MachineError where there is
    no repository at all.
    """
    data = repository.index()
    if data is None and not repository.files():
        advice = "correct the URL, its folder or branch, or mount the folder"
        raise MachineError("there is no chart repository", where=repository.url, advice=advice)
    return data


def chart_names(repository: Repository, charts: Collection[str]) -> list[str]:
    """`charts`, else all charts of the repository. Raises MachineError if it cannot list them."""
    if charts:
        return sorted(charts)
    try:
        return repository.charts()
    except MachineError as error:
        advice = "name the charts: --chart NAME, once for each"
        raise type(error)(
            f"the repository cannot list its charts: {error.what}",
            where=repository.url,
            advice=advice,
        ) from error


def repair(inspection: Inspection) -> None:
    """Apply all fixes in one rewrite of the index.

    Raises:
        Conflict: the index was changed by somebody else since it was read.
        MachineError: it reads differently after the rewrite.
        UsageError: the index of this repository cannot be rewritten.
        EvidenceError: this index cannot be edited.
    """
    repository = inspection.repository
    if not isinstance(repository, Rewritable):
        problem = (
            "the index cannot be repaired from here: the repository is read-only, or its server "
            "generates the index"
        )
        raise UsageError(
            problem,
            where=repository.url,
            advice="repair what is in its storage, where it is published",
        )
    after = indexed.apply_fixes(
        inspection.before, inspection.fixable, f"{repository.url}/index.yaml"
    )
    repository.rewrite(inspection.before, after)
    # A file system, proxy or second writer may have had the last word.
    if repository.index() != after:
        raise MachineError(
            "the index reads differently from what was just written",
            where=repository.url,
            advice="run audit --fix again; somebody else may have written it meanwhile",
        )
