"""Jenkins: its core and git variables, multibranch jobs, and the Gerrit Trigger plugin.

Source: Jenkins' "Building a software project", Branch API and Gerrit Trigger documentation (contracts.md §1.9, §6.1).
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.ci.build import Build

TAGS = "refs/tags/"


def build(environ: Mapping[str, str]) -> Build | None:
    """The build, or None outside Jenkins. JENKINS_URL is only set where the root URL is configured."""
    if not (environ.get("JENKINS_URL") or environ.get("BUILD_TAG", "").startswith("jenkins-")):
        return None
    reference = environ.get("GERRIT_REFNAME", "")
    tag = environ.get("TAG_NAME") or (reference[len(TAGS) :] if reference.startswith(TAGS) else None)
    review = environ.get("GERRIT_CHANGE_NUMBER") or environ.get("CHANGE_ID")
    branch = environ.get("BRANCH_NAME") or environ.get("GERRIT_BRANCH") or environ.get("GIT_BRANCH")
    return Build(
        "jenkins",
        url=environ.get("BUILD_URL", ""),
        id=environ.get("BUILD_TAG", ""),
        tag=tag,
        # With a tag BRANCH_NAME is the tag, with a review the name of the review.
        branch=None if tag or review else (branch or "").removeprefix("origin/") or None,
        review=review,
        target=(environ.get("GERRIT_BRANCH") or environ.get("CHANGE_TARGET")) if review else None,
        revision=environ.get("GERRIT_PATCHSET_REVISION") or environ.get("GIT_COMMIT"),
    )
