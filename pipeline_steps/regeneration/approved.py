"""Approvals of versions that a regeneration would release: those that production lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline_steps.approvals.requiring import (
    require_for_release,
    required_names,
    review_system,
)
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.regeneration.tag_versions import Version
from pipeline_steps.repositories.kinds import repository_identity
from pipeline_steps.state.state import State
from pipeline_steps.testing.requirements import APPROVAL, approval_rule
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    EvidenceError,
    NotApproved,
    UsageError,
)
from pipeline_steps.workspace.checkout import open_checkout

#: Why a version may not be released, "" where it may.
Refuse = Callable[[Version], str]


def refuse_unapproved(
    urls: Sequence[str], config: Config, state: State, *, source: str | None, plan: bool
) -> Refuse | None:
    """Asks for the approvals that production requires, as promote does at a tag; None where these
    repositories are not production's, or it requires none.

    The answers are recorded, but with `plan`. Raises UsageError for a source that is not the
    checkout of pipeline.yaml: its reviews are not known; ConfigurationError or UsageError where
    nothing could be approved, whatever the tag. The refusals raise what `require_for_release`
    does, but for NotApproved and what is wrong with a tag alone.
    """
    production = config.channels.production
    names = required_names(production.requires)
    production_repositories = {repository_identity(url) for url in as_tuple(production.charts)}
    if not names or production_repositories.isdisjoint(map(repository_identity, urls)):
        return None
    if source is not None:
        raise UsageError(
            f"production requires {', '.join(APPROVAL + name for name in names)}, which can be asked "
            "for in the checkout of pipeline.yaml only",
            where=f"--source {source}",
            advice="leave --source away there, or fill another repository (--to)",
        )
    # Now: at a tag such an error would look like one of the tag.
    review_system(config, open_checkout(config), names[0])
    for name in names:
        approval_rule(config, name)

    def refuse(version: Version) -> str:
        try:
            there = open_checkout(config, version.tag.revision)
            chart = there.chart(version.name)
            # `charts` of today finds what is packaged, and may find another chart of this name.
            if (chart.path, chart.version) != (version.folder, version.version):
                return (
                    f"{version} of {version.folder or '.'} would be packaged, and pipeline.yaml at "
                    f"the tag has {chart.name} {chart.version} in {chart.path or '.'}: only that "
                    "can be approved; correct --charts, or release it with a new version"
                )
            require_for_release(there, chart, config, state, names, record=not plan)
        except (NotApproved, ConfigurationError, EvidenceError, UsageError) as error:
            return str(error)
        return ""

    return refuse
