"""Charts with ranges of versions and no lock for them get one: what `check --fix` does, and nothing
else.
"""

from __future__ import annotations

import functools
import logging
import posixpath

from pipeline_steps.charts import lock
from pipeline_steps.charts.collect import collect_files
from pipeline_steps.charts.lock import Lock
from pipeline_steps.charts.read import Dependency
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.toolbox import clock, files
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

log = logging.getLogger(__name__)


def lacking(checkout: Checkout, chart: Chart) -> dict[str, Lock]:
    """Path of each lock that the chart and its file:// subcharts need and do not have, and what
    will be in it.

    Asks their repositories. Raises ConfigurationError when nothing fits, MachineError's kinds.
    """
    entries = checkout.tree.entries()
    kinds = {path: entries[path].kind for path in chart.closure if path in entries}
    repository = functools.cache(lambda url: open_repository(url, checkout.config.hosts))

    def versions(dependency: Dependency) -> list[str]:
        return repository(dependency.repository.rstrip("/")).versions(dependency.name)

    found: dict[str, Lock] = {}
    for folder in (chart.path, *chart.subcharts):
        needed = lock.missing_lock(
            collect_files(folder, kinds, checkout.tree.read), versions, folder
        )
        if needed:
            found[posixpath.join(folder, needed.file)] = needed
    return found


def fix(checkout: Checkout, chart: Chart, *, plan: bool) -> bool:
    """Say what each lock will be, and write it unless it is only planned. Returns whether anything
    was written.
    """
    needed = lacking(checkout, chart)
    for path, made in needed.items():
        exact = ", ".join(
            f"{one.name} {one.version} (of {one.range or 'any version'})" for one in made.entries
        )
        log.info("%s: %s %s", path, "would be written:" if plan else "is written:", exact)
        if not plan:
            files.write(checkout.config.root / path, made.text(clock.now()), mode=0o644)
    return bool(needed) and not plan
