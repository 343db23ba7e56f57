"""The proof that a chart's content may be released: the records that fulfil its requirements.

`testing.requirements` decides what is required, which records fulfil it, and which of several image
sets counts. The network is asked for evidence, and by `require_approvals` for what people say now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pipeline_steps.approvals.requiring import require_for_release, required_names
from pipeline_steps.building import image_records
from pipeline_steps.charts.paths import contains
from pipeline_steps.config.language import Config
from pipeline_steps.sources.source import short_revision
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing import settings
from pipeline_steps.testing.requirements import (
    APPROVAL,
    STEP_NAMES,
    ImageSet,
    Required,
    Requirement,
    required,
)
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, UsageError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout

#: How many tested contents are compared to name the nearest.
MAX_COMPARED = 50


class Proof(NamedTuple):
    """The records on which a release is based.

    snapshots: of what was tested; they differ only in version and place.
    tests: of every required scenario.
    requirements: of the other required steps. approvals: as they were asked for now.
    consumed: name → digest of the images and dependencies that were tested.
    """

    chart: Chart
    snapshots: tuple[Record, ...]
    tests: tuple[Record, ...]
    requirements: tuple[Record, ...]
    consumed: Mapping[str, str]
    approvals: tuple[Record, ...] = ()

    @property
    def uses(self) -> list[str]:
        """Ids of all records on which the release is based."""
        return list(
            dict.fromkeys(
                record.id
                for record in (*self.snapshots, *self.tests, *self.requirements, *self.approvals)
            )
        )


def require_releasable(
    checkout: Checkout, name: str, config: Config, state: State, *, record: bool
) -> Proof:
    """The whole proof that the chart's content in `checkout` may be released, approvals included.

    record: whether the answers about approvals are recorded. Raises as `require_proof` and
    `require_approvals`.
    """
    proof = require_proof(checkout, name, config, state)
    return require_approvals(proof, checkout, config, state, record=record)


def require_proof(checkout: Checkout, name: str, config: Config, state: State) -> Proof:
    """The proof that the chart's content in `checkout` may be released, but for its approvals: see
    `require_approvals`.

    Raises EvidenceError when something required is missing, contradictory or marked as modified.
    """
    chart = checkout.chart(name)
    if modified := settings.local_modifications(checkout, name):
        raise EvidenceError(
            f"chart {name} has local modifications: {', '.join(modified[:5])}",
            where=chart.path,
            advice="commit and test them, or undo them",
        )
    names = [name for name in config.channels.production.requires if not name.startswith(APPROVAL)]
    requirements = required(checkout, chart, config, state, (*names, settings.STEP))
    for requirement in requirements.of_content:
        _require_passed(requirement, chart)
    usable = [images for images in requirements.image_sets if not images.obstacle]
    # Of all usable sets, before one is chosen: choosing another must not hide a contradiction.
    for requirement in (
        image_requirement for images in usable for image_requirement in images.requirements
    ):
        _refuse_contradiction(requirement)
    passed = [images for images in usable if images.passed]
    if not passed:
        raise _missing_test_error(requirements, checkout, config, state)
    # A library renders nothing by itself: the charts that pack it are its test.
    for requirement in requirements.of_dependents:
        _require_dependent_passed(requirement, chart)
    return _proof(chart, requirements, passed[0])


def require_approvals(
    proof: Proof, checkout: Checkout, config: Config, state: State, *, record: bool
) -> Proof:
    """The proof with the approvals that production requires, asked for now: one can be withdrawn,
    so no record is enough. record: whether the answers are recorded.

    Raises NotApproved, and what asking the review system may raise.
    """
    names = required_names(config.channels.production.requires)
    approvals = require_for_release(checkout, proof.chart, config, state, names, record=record)
    return proof._replace(approvals=approvals)


def _proof(chart: Chart, needs: Required, images: ImageSet) -> Proof:
    records = [
        (requirement.step, record)
        for requirement in images.requirements
        for record in requirement.records
    ]
    tests = tuple(record for step, record in records if step == settings.STEP)
    # The snapshots that were tested. With tests.none there is no test: then the preferred snapshot.
    # By id: snapshots of one content differ in version, and only the tested one may be released.
    used = {identity for test in tests for identity in test.uses}
    tested = tuple(snapshot for snapshot in images.snapshots if snapshot.id in used)
    other_records = [record for requirement in needs.of_content for record in requirement.records]
    other_records += [record for step, record in records if step != settings.STEP]
    other_records += [
        record for requirement in needs.of_dependents for record in requirement.records
    ]
    snapshots = tested or images.snapshots[:1]
    return Proof(chart, snapshots, tests, tuple(other_records), dict(snapshots[0].inputs))


def _require_passed(requirement: Requirement, chart: Chart) -> None:
    """Raises EvidenceError unless the requirement has passed."""
    name = requirement.name
    _refuse_contradiction(requirement)
    if requirement.passed:
        return
    if requirement.outcome == "failed":
        raise EvidenceError(
            f"{name} of {chart.name} {requirement.records[-1].result}: {requirement.reason}",
            advice="correct the chart, then run pipeline-steps "
            f"{name if name in STEP_NAMES else 'record'} again",
        )
    step_arguments, program_arguments = (
        f"{name} --chart {chart.name}",
        f"record --name {name} --subject {chart.name} -- PROGRAM",
    )
    raise EvidenceError(
        f"no record of {name} for content {chart.content[:19]} of {chart.name}, which "
        "production requires",
        advice=f"run pipeline-steps {step_arguments if name in STEP_NAMES else program_arguments}",
    )


def _require_dependent_passed(requirement: Requirement, library: Chart) -> None:
    """Raises EvidenceError unless the chart that tests the library has passed."""
    _refuse_contradiction(requirement)
    if not requirement.passed:
        raise EvidenceError(
            f"the library {library.name} cannot be released: {requirement.name}: "
            f"{requirement.reason or requirement.outcome}",
            where=library.path,
            advice="test the charts that depend on it, or say in tests.none why it needs no test",
        )


def _refuse_contradiction(requirement: Requirement) -> None:
    """Raises EvidenceError when current records of a key contradict each other."""
    if requirement.outcome != "contradictory":
        return
    records = requirement.records
    results = ", ".join(
        f"{record.result} {record.id[7:19]} ({record.finished})" for record in records
    )
    raise EvidenceError(
        f"the current records of {records[0].step} of {records[0].subject} contradict each other: "
        f"{results}",
        advice="run it again: the new record replaces them",
    )


def _missing_test_error(
    needs: Required, checkout: Checkout, config: Config, state: State
) -> EvidenceError:
    """The error that says which test is missing or failed, or which content was tested instead."""
    chart, current = needs.chart, needs.current
    problem = f"no passed test of content {chart.content[:19]} of {chart.name}"
    if current is None:
        return _nearest_tested_error(problem, chart, checkout, config, state)
    if current.obstacle:
        return EvidenceError(
            f"{problem} that can be released: {current.obstacle}",
            advice="run build_image, snapshot and integration_test; tests that passed with the "
            "same "
            "content and images are not run again",
        )
    failed = [
        requirement for requirement in current.requirements if requirement.outcome == "failed"
    ]
    if failed:
        return EvidenceError(
            f"{problem}: {failed[-1].reason}", advice="correct the chart and test it again"
        )
    missing = ", ".join(
        requirement.name for requirement in current.requirements if not requirement.passed
    )
    return EvidenceError(
        f"{problem} with the current images: {missing or 'no cluster is configured'}",
        advice="run integration_test; pipeline-steps state show lists what passed",
    )


def _nearest_tested_error(
    problem: str, chart: Chart, checkout: Checkout, config: Config, state: State
) -> EvidenceError:
    tests = state.find(step=settings.STEP, subject=chart.name)
    other_tests = [record for record in tests if record.content not in (None, chart.content)]
    if not other_tests:
        return EvidenceError(problem, advice="run build_image, snapshot and integration_test first")
    # One record of each content is asked; which one, no file's order says.
    candidates = {record.content: record for record in reversed(state.preferred(other_tests))}
    changed = {
        content: _changed_files(checkout, chart, record, config)
        # Each comparison reads a revision, and a message is not worth minutes.
        for content, record in sorted(candidates.items())[:MAX_COMPARED]
    }
    content = min(changed, key=lambda content: _distance(changed[content]))
    nearest, files = candidates[content], changed[content]
    differs = f", which differs in {', '.join(files[:5])}" if files else ""
    return EvidenceError(
        f"{problem}; the nearest tested content is {str(nearest.content)[:19]} of revision "
        f"{short_revision(nearest.revision)}{differs}",
        advice="test this content, or release the tested one",
    )


def _distance(changed: list[str] | None) -> float:
    return float("inf") if changed is None else len(changed)


def _changed_files(
    checkout: Checkout, chart: Chart, record: Record, config: Config
) -> list[str] | None:
    """The files of a chart that differ between a record's revision and the checkout; None where the
    record is not of its revision alone, or that is not here.
    """
    # A modified content has files that no revision has.
    if image_records.is_modified(record) or not record.revision:
        return None
    try:
        other_checkout = open_checkout(config, revision=record.revision)
        changed = checkout.source.changed(
            other_checkout.revision, checkout.revision, checkout.folder
        )
    except (ConfigurationError, UsageError):
        return None
    places = chart.history_paths
    return [path for path in changed if any(contains(place, path) for place in places)]
