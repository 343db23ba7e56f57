"""Release what was tested: its images by digest, its chart with nothing but version and references replaced.

    python -m pipeline_steps.promote --tag hello-1.4.0
    pipeline-steps promote --plan

Reads the tag (--tag, else the CI's, else the one tag_release recorded here), the content of its charts and the
records of that content; nothing is built or tested here. Writes a record with each change and every digest. Changes
outside: images copied to `channels.production.images`, then one version in each of `channels.production.charts`.
"""

from __future__ import annotations

import glob
import logging
import os
from pathlib import Path
from typing import Any

import msgspec

from pipeline_steps.ci.build import detect
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config, several
from pipeline_steps.oci.copy import copy, standing
from pipeline_steps.release import derivation, publishing
from pipeline_steps.release import proof as evidence
from pipeline_steps.release.image_copies import ImageCopy, image_copies
from pipeline_steps.sources.source import Tag
from pipeline_steps.state.attempt import attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError, NotYet, UsageError
from pipeline_steps.workspace.checkout import Checkout, opened

STEP = Step(
    "promote",
    __doc__,
    kind="making",
    subjects="charts",
    keywords=("plan", "again"),
    options=(
        Option("tag", "text", "the tag to release; default: the CI's, else the one tag_release recorded here"),
        Option("apply", "path", "carry out exactly this plan (not yet)", from_environment=False),
    ),
    needs=("helm", "snapshot images", "snapshot charts", "production images", "production charts"),
    reads=("build_image", "snapshot", "integration_test", "tag_release"),
    writes=("chart", "tar", "image:NAME"),
    releases=True,
)
FORMAT = 1

log = logging.getLogger("pipeline_steps.promote")  # __name__ is __main__ under -m


def promote(
    chart: str,
    *,
    config: Config,
    state: State,
    tag: str | None = None,
    plan: bool = False,
    again: bool = False,
    apply: Path | None = None,
) -> Record | tuple[Record, ...]:
    """Release `chart` as it stands at `tag`; the former record when all it published still stands.

    Returns () when only planned. Raises EvidenceError (no test of this content), NotApproved, Conflict (the version
    or an image's tag is taken by other content), ChartFailed (it would not render as tested).
    """
    if apply:
        raise NotYet("promote --apply")
    here = opened(config)
    unchanged(here, chart)
    named = tagged(here, tag or tag_here(here, chart, state))
    checkout = opened(config, revision=named.revision)
    proof = evidence.require_proof(checkout, chart, config, state)
    moves = image_copies(proof, config)
    parameters = {
        "version": proof.chart.version, "images": [str(move.target) for move in moves],
        "charts": list(several(config.channels.production.charts)),
    }  # fmt: skip
    key = make_key("promote", FORMAT, parameters=parameters, content=proof.chart.content, consumed=proof.consumed)
    former = None if again else state.verdict(key)
    if former and former.passed and stands(former, moves, config):
        return former
    made = derivation.prepare(proof, checkout, config)
    repositories = publishing.repositories(config, "production")
    if plan:
        for move in moves:
            there = standing(move.target, move.target.digest or "", hosts=config.hosts)
            log.info(
                "%s %s", move.target, "is there" if there else f"would be copied from {move.source}, replacing nothing"
            )
        return publishing.plan(repositories, made.archive)
    changes: list[dict[str, Any]] = [msgspec.structs.asdict(change) for change in made.changes]
    names = {f"image:{move.name}": str(move.target) for move in moves}
    with attempt(
        state, step="promote", subject=chart, key=key, content=proof.chart.content, revision=checkout.revision,
        parameters={**parameters, "changes": changes}, inputs=proof.consumed, uses=proof.uses,
    ) as trial:  # fmt: skip
        trial.begin({"chart": repositories[0].url, "tar": made.archive.tar_digest, **names})
        for move in moves:
            copy(move.source, move.target, hosts=config.hosts)
            log.info("%s", move.target)
        return trial.passed({**publishing.publish(repositories, made.archive, named.created), **names})


def tag_here(checkout: Checkout, chart: str, state: State) -> str:
    """The CI's tag, else the tag that tag_release recorded for the content that is checked out.

    Raises UsageError without one.
    """
    tag = detect(os.environ).tag
    if tag:
        return tag
    records = state.find(step="tag_release", subject=chart, content=checkout.chart(chart).content)
    if not records:
        raise UsageError("promote which tag?", where=chart, advice="give --tag NAME, or run tag_release first")
    return str(records[-1].parameters["tag"])


def tagged(checkout: Checkout, tag: str) -> Tag:
    """The tag of that name; branches and abbreviations are no tags. Raises UsageError."""
    known = checkout.source.tags(glob.escape(tag)).get(tag)
    if known is None:
        raise UsageError(f"there is no tag {tag!r} here", advice="git fetch --tags origin, or correct it")
    return known


def unchanged(checkout: Checkout, chart: str) -> None:
    """Raises EvidenceError when the chart has local modifications: what lies here is not what is released."""
    try:
        modified = checkout.chart(chart).modified
    except ConfigurationError:  # the tag's charts count; this one may be gone or renamed since
        return
    if modified:
        raise EvidenceError(
            f"chart {chart} has local modifications: {', '.join(modified[:5])}",
            where=str(checkout.config.root),
            advice="commit or undo them: only what is in the source is released",
        )


def stands(record: Record, moves: tuple[ImageCopy, ...], config: Config) -> bool:
    """Does everything that the record published still stand where it was put?"""
    if not all(standing(move.target, move.target.digest or "", hosts=config.hosts) for move in moves):
        return False
    name, number = record.subject, str(record.parameters["version"])
    repositories = publishing.repositories(config, "production")
    return all(
        repository.standing(name, number) == record.outputs.get(publishing.output(n))
        for n, repository in enumerate(repositories)
    )


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, promote, argv)


if __name__ == "__main__":
    raise SystemExit(main())
