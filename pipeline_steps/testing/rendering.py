"""A chart rendered on the server as it is tested and as it would be released: do they differ only
as they may?

    rendering = compared("install", tested, derived, trial)     # before the install, after its CRDs, and as an upgrade

What the server renders is never kept: it may hold secrets. Kept are digests of it, and the places
that differ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline_steps.charts import chance, compare
from pipeline_steps.clusters import crds
from pipeline_steps.clusters.helm import Helm, Target, manifests
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.toolbox.process import Completed

Verb = Literal["install", "upgrade"]


class Charts(NamedTuple):
    """What is rendered, .tgz files. replaced: texts before and after that the derived chart has
    instead.
    """

    tested: Path
    derived: Path
    replaced: tuple[tuple[str, str], ...]
    values: tuple[Path, ...]
    args: tuple[str, ...]


class Rendering(NamedTuple):
    """How the two renderings compare. refused, allowed: places, template:line, that differ.

    tested, derived: digests of what is rendered, without what is by chance and what each run is
    named anew.
    """

    verb: Verb
    tested: str
    derived: str
    refused: tuple[str, ...]
    allowed: tuple[str, ...]


class NotRendered(Exception):
    """Helm could not render a chart on the server. derived: the tested one can be rendered."""

    def __init__(self, done: Completed, *, derived: bool) -> None:
        super().__init__()
        self.done = done
        self.derived = derived


def create_definitions(helm: Helm, api: Api, charts: Charts, deadline: Deadline) -> None:
    """Make the CRDs of the chart, if it has some: without them nothing of these kinds can be
    rendered on the server.

    Raises ChartFailed when it cannot be rendered offline, and what the cluster raises.
    """
    if helm.has_crds(charts.tested):
        printed = helm.template(
            charts.tested, values=charts.values, args=(*charts.args, "--include-crds")
        )
        crds.create(api, crds.definitions(printed), deadline)


def compared(
    helm: Helm, verb: Verb, charts: Charts, target: Target, deadline: Deadline
) -> Rendering:
    """Both charts rendered on the server, under the same name in the same namespace. Raises
    NotRendered.
    """

    def render(chart: Path) -> str:
        done = helm.dry_run(
            verb,
            chart,
            target,
            values=charts.values,
            timeout=deadline.left() or 1.0,
            args=charts.args,
        )
        if not done.ok:
            raise NotRendered(done, derived=chart == charts.derived)
        return manifests(done)

    tested: Callable[[], str] = functools.partial(render, charts.tested)
    result = compare.compare_renderings(
        tested, functools.partial(render, charts.derived), charts.replaced
    )
    return Rendering(
        verb,
        _digest(result.tested, target),
        _digest(result.derived, target),
        tuple(each.place for each in result.refused),
        result.allowed,
    )


def _digest(renderings: Sequence[str], target: Target) -> str:
    text = chance.mask_random(renderings)
    return sha256(
        text.replace(target.namespace, "NAMESPACE").replace(target.release, "RELEASE").encode()
    )
