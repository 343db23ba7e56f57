"""One tag over all charts of a checkout: every chart is checked before it is set."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.config.language import Config
from pipeline_steps.release import derivation
from pipeline_steps.release.proof import require_releasable
from pipeline_steps.release.version_tag import FORMAT
from pipeline_steps.reviews.kinds import open_project_releases
from pipeline_steps.sources.source import Reviewable
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import Conflict, PipelineError, worst
from pipeline_steps.workspace import tags
from pipeline_steps.workspace.checkout import Checkout, open_checkout
from pipeline_steps.workspace.content import FORMAT_1

log = logging.getLogger("pipeline_steps.tag_release")

#: Changes that the notes of a release list.
MOST_CHANGES = 100


class Checked(NamedTuple):
    """A chart that the tag names. released: None when an earlier tag says what it is, and it is
    published. uses: the records that prove it.
    """

    name: str
    version: str
    content: str
    released: tags.TaggedRelease | None
    uses: tuple[str, ...]


def tag_all(
    name: str, charts: tuple[str, ...], *, config: Config, state: State, plan: bool, local: bool
) -> Record | tuple[Record, ...]:
    """Set one tag of this name over all charts, and make a release on Launchpad where reviews are
    there; the record of it, () when only planned.

    Raises as tag_release, for the first of the charts that cannot be released; then nothing is
    tagged.
    """
    checkout = open_checkout(config)
    checked = check_charts(charts, checkout, config, state, record=not plan)
    contents = {each.name: each.content for each in checked}
    parameters = {"tag": name, "local": local, "charts": contents}
    key = make_key("tag_release", FORMAT, parameters=parameters, content=None, consumed={})
    if plan:
        log.info("tag %s at %s over %s", name, checkout.revision, ", ".join(contents) or "nothing")
        return ()
    release_notes = notes(name, checked, checkout)
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
        text = message(name, checked)
        tag = checkout.source.create_tag(name, checkout.revision, text, push=not local)
        outputs = {"tag": f"{tag.name}@{tag.revision}"}
        releases = None if local else open_project_releases(config, checkout.source.remote_url)
        if releases:
            outputs["page"] = releases.publish_project_release(name, release_notes)
        return attempt.passed(outputs)


def check_charts(
    charts: Iterable[str], checkout: Checkout, config: Config, state: State, *, record: bool
) -> list[Checked]:
    """Make promote's checks for every chart. Raises the worst error, after all are told."""
    production = WritableChannel(config, "production")
    checked, errors = [], list[PipelineError]()
    for name in charts:
        try:
            checked.append(_check(name, checkout, config, state, production, record=record))
        except PipelineError as error:
            log.error("%s: %s", name, error)
            errors.append(error)
    if errors:
        code = worst([error.exit_code for error in errors])
        raise next(error for error in errors if error.exit_code == code)
    return checked


def _check(
    name: str,
    checkout: Checkout,
    config: Config,
    state: State,
    production: WritableChannel,
    *,
    record: bool,
) -> Checked:
    chart = checkout.chart(name)
    if _is_released(checkout, name, production):
        return Checked(name, chart.version, chart.content, None, ())
    proof = require_releasable(checkout, name, config, state, record=record)
    release = derivation.derive_release(proof, checkout, config, production)
    digests = {image.name: str(image.source.digest) for image in release.copies}
    released = tags.TaggedRelease(chart.version, chart.content, digests)
    return Checked(name, chart.version, chart.content, released, tuple(proof.uses))


def _is_released(checkout: Checkout, name: str, production: WritableChannel) -> bool:
    """Whether a tag says that the chart's version has this content, and it is published.

    Raises Conflict when a tag says that the version has other content.
    """
    config, chart, found = checkout.config, checkout.chart(name), False
    for tag in checkout.source.tags().values():
        said = tags.read_trailers(tag).get(name)
        if said is None or said.version != chart.version:
            continue
        content: str | None = said.content
        if said.format == FORMAT_1:  # another digest of the same: told anew, of what was tagged
            content = open_checkout(config, tag.revision).chart_content_if_readable(name)
        if content != chart.content:
            raise Conflict(
                f"the tag {tag.name} has version {chart.version} with other content (there "
                f"{content}, here {chart.content})",
                where=chart.path,
                advice=f"run pipeline-steps bump --chart {name}",
            )
        found = True
    return found and production.has_version(name, chart.version)


def message(name: str, checked: Iterable[Checked]) -> str:
    """The tag's text, with the lines that regenerate reads of each chart."""
    lines = [tags.write_trailers(each.name, each.released) for each in checked if each.released]
    # The format is that of all; it is written once.
    unique = dict.fromkeys(line for block in lines for line in block.splitlines())
    return "\n".join([f"Release {name}", "", *unique]).rstrip() + "\n"


def notes(name: str, checked: Iterable[Checked], checkout: Checkout) -> str:
    """What people read of the release: its charts, and what was committed since the last one."""
    charts = [
        f"{each.name} {each.version}{'' if each.released else ' (unchanged)'}" for each in checked
    ]
    since, subjects = _changes(name, checkout)
    title = f"Changes since {since}:" if since else "Changes:"
    return "\n".join(["Charts:", *charts, "", title, *subjects]).rstrip() + "\n"


def _changes(name: str, checkout: Checkout) -> tuple[str, list[str]]:
    """The last tag over all charts, "" for none, and what was committed after it, newest first."""
    source = checkout.source
    pattern = tags.TagPattern(checkout.config.release.tag)
    earlier = [
        tag
        for tag in source.tags().values()
        if tag.name != name and tags.read_trailers(tag) and pattern.parse(tag.name) is None
    ]
    # By the time in the tag: names of tags over all charts have no order.
    last = max(earlier, key=lambda tag: (tag.created, tag.name), default=None)
    after = last.revision if last else ""
    revisions = source.history(checkout.revision, [], MOST_CHANGES, after)
    subjects = source.subjects(revisions) if isinstance(source, Reviewable) else []
    return (last.name if last else ""), [f"- {subject}" for subject in subjects]
