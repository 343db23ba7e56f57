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
from pipeline_steps.sources.source import Reviewable
from pipeline_steps.toolbox import files
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
    # A folder of its own: the maintainer's checkout may have local changes, hooks, another
    # revision.
    folder = files.created_folder(config.root.absolute() / ".pipeline" / FOLDER)
    place = folder / re.sub(r"[^A-Za-z0-9.]+", "-", review.id)
    proposal = PROPOSALS[target.source](place, Target(target.url, target.name))
    # From the code host: what the review system says is the newest lags behind it.
    newest = proposal.check_out(source.url, source.name)
    if revision and newest != revision:
        raise Conflict(
            f"the branch {source.name} is at {newest}, not at the reviewed {revision}",
            where=review.url,
            advice="have the newest revision reviewed",
        )
    here = open_source(config.root)
    start = proposal.root / config.root.relative_to(here.root)
    # No CI built this: its variables are what a CI would have set.
    build = {REVIEW: review.id, TARGET: review.target, HEAD: newest}
    return CheckedOut(review, proposal, newest, start, build)


def configuration(config: Config, checked_out: CheckedOut) -> Config:
    """The configuration of a proposal's checkout: what decides about trust is the target's, or the
    site's; overlays are those of `config`. Raises ConfigurationError.
    """
    return _load_for_review(config, checked_out.build, checked_out.start)


def ask_by_policy_of_target(
    config: Config, review: Review, id: str
) -> tuple[Config, ReviewSystem, Review]:
    """The configuration of what is checked out, the review system that it names, and the review,
    when what decides about trust is the target's: a patch must not change the rule of its own
    approval, nor who is asked about it.

    Raises ConfigurationError when the target's review system says something else of the review.
    """
    fetch_target(config, review.target)
    build = {REVIEW: review.id, TARGET: review.target, HEAD: review.head}
    trusted = _load_for_review(config, build, config.root)
    system = required_system(trusted)
    asked = system.review(id)
    # A patch could name another server, on which its author approves it.
    if (asked.id, asked.target) != (review.id, review.target):
        raise ConfigurationError(
            f"{review.target} names a review system in which {id} goes to {asked.target}",
            where=asked.url,
            advice="check out the review's newest revision anew, and look at its `review`",
        )
    return trusted, system, asked


def fetch_target(config: Config, target: str) -> None:
    """Bring the target's newest revision here, for its policy and its versions as they are now."""
    source = open_source(config.root, config.hosts)
    if not isinstance(source, Reviewable):
        raise UsageError(
            f"{source.system} has no reviews",
            where=str(source.root),
            advice="run it in a checkout of git or Bazaar",
        )
    source.fetch_tip(target)


def _load_for_review(config: Config, build: Mapping[str, str], start: Path) -> Config:
    variables = {**os.environ, **build}
    site = variables.get(config_file.SITE_VARIABLE)
    # The site's file is loaded again by its variable; a file given twice would count as an overlay.
    overlays = [path for path in config.files[1:] if not site or path != Path(site).absolute()]
    return config_file.load(overlays, environ=variables, start=start)
