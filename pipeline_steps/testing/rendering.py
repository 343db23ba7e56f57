"""Render the tested and the derived production chart on the server and compare the results.

    create_crds(helm, api, charts, deadline)
    before = compare_on_server(helm, "install", charts, target, deadline)
    ...                                                        # helm install of the tested chart
    upgrade = compare_on_server(helm, "upgrade", charts, target, deadline)

Renderings may contain secrets, so only their digests and the places that differ are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline_steps.charts import compare, random_values
from pipeline_steps.clusters import crds
from pipeline_steps.clusters.helm import Helm, Target, manifests
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.toolbox.process import Completed

Verb = Literal["install", "upgrade"]


class ChartPair(NamedTuple):
    """The two charts to render (.tgz) and helm's input for both.

    replaced: (text in the tested chart, text in the derived chart) for each intended change.
    offline_args: more for a rendering without the cluster.
    """

    tested: Path
    derived: Path
    replaced: tuple[tuple[str, str], ...]
    values: tuple[Path, ...]
    args: tuple[str, ...]
    offline_args: tuple[str, ...] = ()


class Rendering(NamedTuple):
    """The result of comparing two renderings.

    tested, derived: digests of the renderings, with random values, namespace and release name
    masked. refused, allowed: places (template:line) that differ.
    """

    verb: Verb
    tested: str
    derived: str
    refused: tuple[str, ...]
    allowed: tuple[str, ...]


class NotRendered(Exception):
    """Helm could not render a chart on the server. derived: only the derived chart failed."""

    def __init__(self, dry_run: Completed, *, derived: bool) -> None:
        super().__init__()
        self.dry_run = dry_run
        self.derived = derived


def create_crds(helm: Helm, api: Api, charts: ChartPair, deadline: Deadline) -> None:
    """Create the chart's CRDs: without them the server refuses to render resources of their kinds.

    Raises ChartFailed when the chart cannot be rendered offline, and the errors of the cluster.
    """
    printed = helm.template(
        charts.tested,
        values=charts.values,
        args=(*charts.args, *charts.offline_args, "--include-crds"),
    )
    crds.create_missing(api, crds.definitions(printed), deadline)


def compare_on_server(
    helm: Helm, verb: Verb, charts: ChartPair, target: Target, deadline: Deadline
) -> Rendering:
    """Render both charts on the server (`helm --dry-run=server`) as the same release.

    Raises NotRendered.
    """

    def render(chart: Path) -> str:
        dry_run = helm.dry_run(
            verb,
            chart,
            target,
            values=charts.values,
            timeout=deadline.left() or 1.0,
            args=charts.args,
        )
        if not dry_run.ok:
            raise NotRendered(dry_run, derived=chart == charts.derived)
        return manifests(dry_run)

    # Called several times: only a second rendering of the same chart shows what is random in it.
    render_tested: Callable[[], str] = functools.partial(render, charts.tested)
    result = compare.compare_renderings(
        render_tested, functools.partial(render, charts.derived), charts.replaced
    )
    return Rendering(
        verb,
        _digest(result.tested, target),
        _digest(result.derived, target),
        tuple(difference.place for difference in result.refused),
        result.allowed,
    )


def _digest(renderings: Sequence[str], target: Target) -> str:
    # Fresh namespaces and release names differ in every run; equal renderings need equal digests.
    text = random_values.mask_random(renderings)
    return sha256(
        text.replace(target.namespace, "NAMESPACE").replace(target.release, "RELEASE").encode()
    )
