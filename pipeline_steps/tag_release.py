"""Tag the tested content of each selected chart for release.

    python -m pipeline_steps.tag_release --chart hello
    pipeline-steps tag_release --local
    pipeline-steps tag_release --global 2026.11

First makes all of promote's checks without writing anything, so that no tag is published that
promote would refuse. Reads the records of the chart's content. Writes a record with the tag.
Changes outside: one annotated tag, named by `release.tag`, in the checkout and (without --local)
where it came from; a tag is never moved. On Gitea and GitHub the tag becomes a release that has the
chart, unless `promote` publishes it there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.building.production_images import ImageCopy
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.release import derivation, global_tag
from pipeline_steps.release.proof import require_approvals, require_proof
from pipeline_steps.reviews.kinds import open_releasing_system
from pipeline_steps.reviews.review import PublishesReleases
from pipeline_steps.sources.source import short_revision
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import Conflict
from pipeline_steps.workspace import tags
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout

STEP = Step(
    "tag_release",
    __doc__,
    reuses_records=True,
    subjects="charts",
    keywords=("plan", "again"),
    options=(
        Option("global", "text", "one tag of this name over all charts"),
        Option("local", "flag", "set the tag in this checkout only, push nothing"),
    ),
    doctor_needs=(
        "review release",
        "helm",
        "snapshot images",
        "snapshot charts",
        "production images",
        "production charts",
    ),
    reads=("build_image", "snapshot", "integration_test"),
    writes=("tag",),
    releases=True,
    checks_all_first=True,
    whole="global_",
)
FORMAT = 1

log = logging.getLogger("pipeline_steps.tag_release")  # __name__ is __main__ under -m


def tag_release(
    name: str = "",
    *,
    config: Config,
    state: State,
    plan: bool = False,
    again: bool = False,
    local: bool = False,
    global_: str | None = None,
    charts: tuple[str, ...] = (),
) -> Record | tuple[Record, ...]:
    """Tag the chart `name` at the revision that is checked out.

    Args:
        plan: log what would be tagged; returns ().
        again: record even if a passed record exists.
        local: set the tag in this checkout only.
        global_: the name of one tag over all of `charts` (and name is not given).

    Returns:
        The new record, or the earlier one when the tag exists with this content.

    Raises:
        EvidenceError, NotApproved, ChartFailed: promote would refuse for this reason.
        Conflict: promote would refuse, or the tag exists with other content.
    """
    if global_:
        return tag_all(global_, charts, config=config, state=state, plan=plan, local=local)
    production = WritableChannel(config, "production")
    checkout = open_checkout(config)
    releases = None if local else open_releases(config, checkout)
    proof = require_proof(checkout, name, config, state)
    proof = require_approvals(proof, checkout, config, state, record=not plan)
    chart = proof.chart
    tag_name = tags.tag_name(config, name, chart.version)
    # `local` is in the key: a record of a local tag must not count when it has to be pushed.
    parameters = {"tag": tag_name, "local": local}
    key = make_key("tag_release", FORMAT, parameters=parameters, content=chart.content, consumed={})
    # Asked even where a record says so: a tag can be removed, and a record cannot know.
    tagged = tagged_revision(checkout, chart)
    verdict = None if again else state.verdict(key)
    if verdict and verdict.passed and tagged:
        return verdict
    # A tag is public and cannot be taken back: make all of promote's checks before it is set.
    # Refuses what promote would refuse.
    release = derivation.derive_release(proof, checkout, config, production)
    # The tag's own where it is there: another revision may have the same content.
    revision = tagged or checkout.revision
    if plan:
        would = "is there" if tagged else "would be set, replacing nothing"
        log.info("tag %s at %s %s", tag_name, revision, would)
        return ()
    if releases:
        releases.require_release_access()
    with record_attempt(
        state,
        step="tag_release",
        subject=name,
        key=key,
        content=chart.content,
        revision=revision,
        parameters=parameters,
        uses=proof.uses,
    ) as attempt:
        attempt.begin({"tag": f"{tag_name}@{revision}"})
        tag = checkout.source.create_tag(
            tag_name, revision, tag_message(chart, release.copies), push=not local
        )
        outputs = {"tag": f"{tag.name}@{tag.revision}"}
        if releases:
            outputs["page"] = releases.publish_release_of(tag, release.archive)
        return attempt.passed(outputs)


def open_releases(config: Config, checkout: Checkout) -> PublishesReleases | None:
    """Where a pushed tag becomes a release; None where it does not, or promote makes that very
    release: its index is read before the images are in production otherwise.
    """
    system = open_releasing_system(config, checkout.source.remote_url)
    promoted = as_tuple(config.channels.production.charts)
    return None if system is None or any(map(system.promotes_here, promoted)) else system


def tag_all(
    name: str, charts: tuple[str, ...], *, config: Config, state: State, plan: bool, local: bool
) -> Record | tuple[Record, ...]:
    """One tag of this name over all charts, and a release on Launchpad where reviews are there.

    Raises as `tag_release`, for the first of the charts that cannot be released; then nothing is
    tagged.
    """
    checkout = open_checkout(config)
    checked = global_tag.check_charts(charts, checkout, config, state, record=not plan)
    contents = {each.name: each.content for each in checked}
    parameters = {"tag": name, "local": local, "charts": contents}
    key = make_key("tag_release", FORMAT, parameters=parameters, content=None, consumed={})
    if plan:
        log.info("tag %s at %s over %s", name, checkout.revision, ", ".join(contents) or "nothing")
        return ()
    notes = global_tag.notes(name, checked, checkout)
    with record_attempt(
        state,
        step="tag_release",
        subject=name,
        key=key,
        revision=checkout.revision,
        parameters=parameters,
        uses=dict.fromkeys(use for each in checked for use in each.uses),
    ) as attempt:
        attempt.begin({"tag": f"{name}@{checkout.revision}"})
        text = global_tag.message(name, checked)
        tag = checkout.source.create_tag(name, checkout.revision, text, push=not local)
        outputs = {"tag": f"{tag.name}@{tag.revision}"}
        if config.review.launchpad and not local:
            from pipeline_steps.reviews import launchpad_releases

            outputs["page"] = launchpad_releases.make_release(
                config.review.launchpad, config.hosts, checkout.source.remote_url, name, notes
            )
        return attempt.passed(outputs)


def tagged_revision(checkout: Checkout, chart: Chart) -> str | None:
    """The revision of the version's tag if it has the chart's content, None without such a tag.

    Raises Conflict when the tag exists with other content.
    """
    at_tag = tags.chart_at_tag(checkout, chart.name)
    if at_tag is None:
        return None
    tag = at_tag.tag
    if not at_tag.has_content(chart.content):
        content = (
            at_tag.chart.content if at_tag.chart else f"no chart that can be read ({at_tag.reason})"
        )
        raise Conflict(
            f"tag {tag.name} exists at {short_revision(tag.revision)} with other content (there "
            f"{content}, here {chart.content})",
            where=chart.path,
            advice="raise the version in Chart.yaml: a tag is never moved",
        )
    if at_tag.older:
        raise Conflict(
            f"tag {tag.name} exists at {short_revision(tag.revision)}, which is older than pipeline.yaml: "
            "promote cannot release from it",
            where=chart.path,
            advice="raise the version in Chart.yaml: a tag is never moved",
        )
    return tag.revision


def tag_message(chart: Chart, images: Iterable[ImageCopy]) -> str:
    """The tag's text: what it says to regenerate, long after the records are gone
    (docs/reference/versions.md#tags-of-the-source)."""
    digests = {image.name: str(image.source.digest) for image in images}
    trailers = tags.write_trailers(
        chart.name, tags.TaggedRelease(chart.version, chart.content, digests)
    )
    return f"Release {chart.name} {chart.version}\n\n{trailers}"


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, tag_release, argv)


if __name__ == "__main__":
    raise SystemExit(main())
