"""The checkout of a proposal, and its configuration as a build of the review has it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.ci.detect import HEAD, REVIEW, TARGET
from pipeline_steps.config import config_file
from pipeline_steps.config.language import Config
from pipeline_steps.reviews.kinds import open_review_system
from pipeline_steps.reviews.review import LeavesMerging, Review, ReviewSystem
from pipeline_steps.sources.kinds import PROPOSALS, open_source
from pipeline_steps.sources.proposal import Proposal, Target
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, UsageError

#: Below `.pipeline` of the checkout from which it was asked for.
FOLDER = "proposals"


class CheckedOut(NamedTuple):
    """A proposal's checkout. revision: that is checked out. start: the folder of pipeline.yaml
    there. build: variables that say which review it is, for `ci.detect`.
    """

    review: Review
    proposal: Proposal
    revision: str
    start: Path
    build: Mapping[str, str]


def required_system(config: Config) -> ReviewSystem:
    """The configured review system. Raises ConfigurationError when there is none."""
    source = open_source(config.root, config.hosts)
    system = open_review_system(config, source.remote_url)
    if system is None:
        raise ConfigurationError(
            "no review system is configured",
            where=config.where("review"),
            advice="name it, as in review: {launchpad: {}}",
        )
    return system


def check_out(
    config: Config, system: ReviewSystem, review: Review, revision: str = ""
) -> CheckedOut:
    """Check out a proposal's revision, "" for its newest one, in a folder of its own.

    Raises UsageError when the review system gives no branches; Conflict when the branch has another
    revision than the given one.
    """
    if not isinstance(system, LeavesMerging):
        raise UsageError(
            f"{system.name} has no branches of proposals to fetch",
            where=review.url,
            advice="check out the review as its page says, and run the steps there",
        )
    source, target = system.branches(review)
    folder = config.root / ".pipeline" / FOLDER / re.sub(r"[^A-Za-z0-9.]+", "-", review.id)
    proposal = PROPOSALS[target.source](folder.absolute(), Target(target.url, target.name))
    newest = proposal.check_out(source.url, source.name)
    if revision and newest != revision:
        raise Conflict(
            f"the branch {source.name} is at {newest}, not at the reviewed {revision}",
            where=review.url,
            advice="have the newest revision reviewed",
        )
    here = open_source(config.root)
    start = proposal.root / config.root.relative_to(here.root)
    build = {REVIEW: review.id, TARGET: review.target, HEAD: newest}
    return CheckedOut(review, proposal, newest, start, build)


def configuration(config: Config, checked_out: CheckedOut) -> Config:
    """The configuration of a proposal's checkout: what decides about trust is the target's, or the
    site's; overlays are those of `config`. Raises ConfigurationError.
    """
    variables = {**os.environ, **checked_out.build}
    site = variables.get(config_file.SITE_VARIABLE)
    overlays = [path for path in config.files[1:] if not site or path != Path(site).absolute()]
    return config_file.load(overlays, environ=variables, start=checked_out.start)
