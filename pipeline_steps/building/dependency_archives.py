"""Archives of dependencies compared with those that the chart's last release and snapshots used.

A repository that gives other bytes under a version it gave before has lost that version's identity:
nothing is packed with them unless somebody says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pipeline_steps.building.packaging import DEPENDENCY
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout
from pipeline_steps.workspace.tags import last_release_tag

log = logging.getLogger(__name__)


def check_archives_unchanged(
    checkout: Checkout, chart: Chart, state: State, inputs: Mapping[str, str], *, again: bool
) -> None:
    """Compare the archives among `inputs` with those of the same name that current records of the
    chart used.

    again: only warn. Raises EvidenceError naming both digests.
    """
    archives = {name: digest for name, digest in inputs.items() if name.startswith(DEPENDENCY)}
    if not archives:
        return
    _load_last_release(checkout, chart, state)
    for name, digest in archives.items():
        users = _users(state, chart, name)
        # Any former use will do: a release may go back to an archive that a snapshot has replaced.
        if not users or digest in (record.inputs[name] for record in users):
            continue
        earlier = users[0]
        message = (
            f"{name.removeprefix(DEPENDENCY)} is {digest}, the {earlier.step} of "
            f"{earlier.finished or earlier.started} used {earlier.inputs[name]} under this version"
        )
        if not again:
            advice = (
                "ask who replaced it; use another version, or take the new one with "
                "snapshot --again"
            )
            raise EvidenceError(message, where=chart.path or chart.name, advice=advice)
        log.warning("%s: %s; it is taken (--again)", chart.name, message)


def _users(state: State, chart: Chart, name: str) -> list[Record]:
    """The snapshots and releases of the chart that used an archive of this name; which counts first
    is first.
    """
    records = [
        record
        for step in ("promote", "snapshot")
        for record in state.find(step=step, subject=chart.name)
    ]
    return state.preferred(record for record in records if name in record.inputs)


def _load_last_release(checkout: Checkout, chart: Chart, state: State) -> None:
    """Records are found by content: that of the last release is asked for, where there are stores
    to ask.
    """
    if state.stores is None:
        return
    tag = last_release_tag(checkout, chart.name)
    if tag is not None:
        at_tag = open_checkout(checkout.config, tag.revision)
        state.load_evidence(at_tag.chart_contents_in_all_formats(chart.name))
