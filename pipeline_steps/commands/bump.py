"""`pipeline-steps bump --chart hello`: raises the version of charts in place.

    pipeline-steps bump --affected --part minor -m "Serve the page over TLS"

Raises the version of the charts named by --chart, or with --affected of those whose content changed
since the branch that the change goes to (--since, the CI's review, else the first of
`release.branches`). Charts that pack one of them by file:// get a patch, their dependency on it the
new version, their Chart.lock is written anew. A version that is already above everything taken
stays: the same command again changes nothing. Only these files are written; every other byte of
them stays. Prints each chart with its version on stdout.
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Sequence
from typing import get_args

from pipeline_steps.charts.paths import is_glob
from pipeline_steps.charts.version import Part
from pipeline_steps.ci.detect import detect
from pipeline_steps.cli import selection
from pipeline_steps.cli.command import Command, run_command
from pipeline_steps.cli.options import CONFIG, QUIET, VERBOSE, Option
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.release.version_bump import VersionBump, plan_bump
from pipeline_steps.repositories.fetch import version_lister
from pipeline_steps.testing.version_policy import newest_revision
from pipeline_steps.toolbox import clock, files
from pipeline_steps.toolbox.errors import UsageError
from pipeline_steps.workspace.checkout import Checkout, open_checkout

COMMAND = Command(
    "bump",
    __doc__,
    (
        Option("chart", "texts", "the chart to raise (repeatable)"),
        Option("affected", "flag", "every chart whose content changed", from_environment=False),
        Option("since", "text", "the branch or revision that versions must be above"),
        Option("part", "text", "major, minor or patch (default)"),
        Option("message", "text", "why: becomes the annotation artifacthub.io/changes", short="m"),
        Option("plan", "flag", "print what would change; write nothing"),
        CONFIG,
        QUIET,
        VERBOSE,
    ),
)
log = logging.getLogger("pipeline_steps.commands.bump")  # __name__ is __main__ under -m


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, also when nothing had to be raised."""
    return run_command(COMMAND, run_bump, argv)


def run_bump(arguments: Namespace) -> int:
    """Raise what the options name, and print the versions."""
    raised = bump(
        arguments.chart,
        config=load(arguments.config),
        affected=arguments.affected,
        since=arguments.since or "",
        part=arguments.part or "patch",
        message=arguments.message or "",
        plan=arguments.plan,
    )
    for version in raised.versions:
        if version.changed:
            log.info("%s: version %s becomes %s", version.chart, version.before, version.after)
        else:
            log.info("%s: version %s is free already", version.chart, version.after)
        print(version.chart, version.after)
    for path in raised.files:
        log.info("%s %s", path, "would be written" if arguments.plan else "written")
    return 0


def bump(
    charts: Sequence[str] = (),
    *,
    config: Config,
    affected: bool = False,
    since: str = "",
    part: str = "patch",
    message: str = "",
    plan: bool = False,
) -> VersionBump:
    """Raise the versions of `charts`, or of all that changed, in the working tree.

    Args:
        charts: names. Not together with `affected`.
        since: the branch or revision that versions must be above; "" for that of the CI's review,
            else the first of release.branches that is known here.
        part: "major", "minor" or "patch".
        message: why, for the annotation artifacthub.io/changes.
        plan: write nothing.

    Raises:
        UsageError: neither charts nor `affected`, or no such part or branch.
        ConfigurationError: as `plan_bump`.
    """
    if bool(charts) == affected:
        raise UsageError(
            "bump does not know which charts to raise",
            advice="give --chart NAME or --affected, one of them",
        )
    parts: tuple[Part, ...] = get_args(Part)
    raised_part = next((each for each in parts if each == part), None)
    if raised_part is None:
        raise UsageError(
            f"--part {part} is no part of a version",
            advice="write major, minor or patch",
        )
    checkout = open_checkout(config)
    target = since or detect(os.environ).target or _release_branch(checkout)
    names = [checkout.require_chart(name) for name in charts]
    if affected:
        names = _changed_charts(checkout, target)
    raised = plan_bump(
        checkout,
        names,
        part=raised_part,
        # What the release branch itself has and did not release is not taken.
        target="" if target == checkout.source.branch() else target,
        message=message,
        versions=version_lister(config.hosts),
        generated=clock.now(),
    )
    if not plan:
        for path, data in raised.files.items():
            files.write(config.root / path, data, mode=0o644)
    return raised


def _changed_charts(checkout: Checkout, target: str) -> list[str]:
    """The affected charts whose content changed; tests and lints alone ask for no version."""
    if not target:
        branches = ", ".join(checkout.config.release.branches)
        advice = f"give --since BRANCH; of release.branches ({branches}) none is known here"
        raise UsageError("bump --affected does not know what to compare with", advice=advice)
    base = open_checkout(checkout.config, checkout.source.base(target))
    return [
        name
        for name in selection.affected(checkout, target)
        if name not in checkout.unreadable
        and base.chart_content_if_readable(name) != checkout.chart(name).content
    ]


def _release_branch(checkout: Checkout) -> str:
    """The first of release.branches that is known here, "" for none."""
    for branch in checkout.config.release.branches:
        if not is_glob(branch):
            try:
                newest_revision(checkout.source, branch)
            except UsageError:
                continue
            return branch
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
