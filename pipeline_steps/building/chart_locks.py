"""Charts with ranges of versions and no lock for them get one: what `check --fix` does, and nothing
else.
"""

from __future__ import annotations

import logging
import posixpath

from pipeline_steps.charts import lock
from pipeline_steps.charts.collect import collect_files
from pipeline_steps.charts.lock import Lock
from pipeline_steps.repositories.fetch import version_lister
from pipeline_steps.toolbox import clock, files
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger(__name__)


def missing_locks(checkout: Checkout, chart: Chart) -> dict[str, Lock]:
    """Path of each lock that the chart and its file:// subcharts need and do not have, and what
    will be in it.

    Asks their repositories. Raises ConfigurationError when nothing fits, MachineError's kinds.
    """
    entries = checkout.tree.entries()
    kinds = {path: entries[path].kind for path in chart.closure if path in entries}
    versions = version_lister(checkout.config.hosts)
    locks: dict[str, Lock] = {}
    for folder in (chart.path, *chart.subcharts):
        missing = lock.missing_lock(
            collect_files(folder, kinds, checkout.tree.read), versions, folder
        )
        if missing:
            locks[posixpath.join(folder, missing.file)] = missing
    return locks


def write_missing_locks(checkout: Checkout, chart: Chart, *, plan: bool) -> bool:
    """Say what each lock will be, and write it unless it is only planned. Returns whether anything
    was written.
    """
    locks = missing_locks(checkout, chart)
    for path, lock_file in locks.items():
        exact = ", ".join(
            f"{entry.name} {entry.version} (of {entry.range or 'any version'})"
            for entry in lock_file.entries
        )
        log.info("%s: %s %s", path, "would be written:" if plan else "is written:", exact)
        if not plan:
            # Readable for all, like the other files of a checkout.
            files.write(checkout.config.root / path, lock_file.text(clock.now()), mode=0o644)
    return bool(locks) and not plan
