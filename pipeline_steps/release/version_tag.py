"""The tag of one version: which one promote releases, what it stands for, and its text."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from pipeline_steps.building.production_images import ImageCopy
from pipeline_steps.ci.detect import detect
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.release.proof import Proof
from pipeline_steps.reviews.kinds import open_releasing_system
from pipeline_steps.reviews.review import PublishesReleases
from pipeline_steps.sources.source import Tag, short_revision
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.record import make_key
from pipeline_steps.state.state import State
from pipeline_steps.testing import settings
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError, UsageError
from pipeline_steps.workspace import tags
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout

#: Part of the key of every record of tag_release.
FORMAT = 1


class VersionTag(NamedTuple):
    """The tag of a version that is proven. parameters, key: of the record that it is set."""

    name: str
    proof: Proof
    parameters: dict[str, Any]
    key: str

    def attempt(self, revision: str, state: State) -> AbstractContextManager[Attempt]:
        """The record of setting it at a revision."""
        chart = self.proof.chart
        return record_attempt(
            state,
            step="tag_release",
            subject=chart.name,
            key=self.key,
            content=chart.content,
            revision=revision,
            parameters=self.parameters,
            uses=self.proof.uses,
        )


def plan_tag(proof: Proof, config: Config, *, local: bool) -> VersionTag:
    """The tag that `release.tag` names for a proven chart. local: set in the checkout only."""
    chart = proof.chart
    name = tags.tag_name(config, chart.name, chart.version)
    # `local` is in the key: a record of a local tag must not count when it has to be pushed.
    parameters = {"tag": name, "local": local}
    key = make_key("tag_release", FORMAT, parameters=parameters, content=chart.content, consumed={})
    return VersionTag(name, proof, parameters, key)


def open_at_tag(name: str, tag: str | None, config: Config, state: State) -> tuple[Checkout, Tag]:
    """The revision that a tag releases, and the tag; tag: its name, None for `default_tag`.

    Raises UsageError without such a tag, EvidenceError when the chart `name` is modified here.
    """
    checkout = open_checkout(config)
    # Here, though the tag's revision is released: who runs promote in a changed checkout believes
    # that the change goes out.
    refuse_modified(checkout, name)
    release_tag = tags.require_tag(checkout.source, tag or default_tag(checkout, name, state))
    return open_checkout(config, revision=release_tag.revision), release_tag


def default_tag(checkout: Checkout, name: str, state: State) -> str:
    """The tag of the CI build, else the tag recorded by tag_release for the checked-out content.

    Raises UsageError when there is neither.
    """
    tag = detect(os.environ).tag
    if tag:
        return tag
    records = state.find(step="tag_release", subject=name, content=checkout.chart(name).content)
    if not records:
        raise UsageError(
            f"no tag to promote {name} from: none is given, CI builds none, and tag_release recorded "
            "none",
            advice="give --tag NAME, or run tag_release first",
        )
    return str(state.preferred(records)[0].parameters["tag"])


def refuse_modified(checkout: Checkout, name: str) -> None:
    """Raises EvidenceError when the chart has local modifications: they would not be released."""
    try:
        modified = settings.local_modifications(checkout, name)
    except ConfigurationError:  # the chart was removed or renamed after the tag was made
        return
    if modified:
        raise EvidenceError(
            f"chart {name} has local modifications: {', '.join(modified[:5])}",
            where=str(checkout.config.root),
            advice="commit or undo them: only what is in the source is released",
        )


def tagged_revision(checkout: Checkout, chart: Chart) -> str | None:
    """The revision of the version's tag if it has the chart's content, None without such a tag.

    Raises Conflict when the tag exists with other content.
    """
    at_tag = tags.chart_at_tag(checkout, chart.name)
    if at_tag is None:
        return None
    tag = at_tag.tag
    exists = f"tag {tag.name} exists at {short_revision(tag.revision)}"
    if not at_tag.has_content(chart.content):
        content = (
            at_tag.chart.content if at_tag.chart else f"no chart that can be read ({at_tag.reason})"
        )
        problem = f"{exists} with other content (there {content}, here {chart.content})"
    elif at_tag.older:
        problem = f"{exists}, which is older than pipeline.yaml: promote cannot release from it"
    else:
        return tag.revision
    raise Conflict(
        problem,
        where=chart.path,
        advice="raise the version in Chart.yaml: a tag is never moved",
    )


def message(chart: Chart, images: Iterable[ImageCopy]) -> str:
    """The tag's text: what it says to regenerate, long after the records are gone
    (docs/reference/versions.md#tags-of-the-source)."""
    digests = {image.name: str(image.source.digest) for image in images}
    trailers = tags.write_trailers(
        chart.name, tags.TaggedRelease(chart.version, chart.content, digests)
    )
    return f"Release {chart.name} {chart.version}\n\n{trailers}"


def open_releases(config: Config, checkout: Checkout) -> PublishesReleases | None:
    """Where a pushed tag becomes a release; None where it does not, or promote makes that very
    release: its index is read before the images are in production otherwise.
    """
    system = open_releasing_system(config, checkout.source.remote_url)
    promoted = as_tuple(config.channels.production.charts)
    return None if system is None or any(map(system.promotes_here, promoted)) else system
