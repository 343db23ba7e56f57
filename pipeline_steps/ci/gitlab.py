"""GitLab CI. Source: GitLab's predefined variables reference, 17.x (contracts.md §7.1)."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.ci.build import Build


def build(environ: Mapping[str, str]) -> Build | None:
    """The build, or None outside GitLab CI. gitlab-ci-local sets GITLAB_CI=false, so its presence counts."""
    if "GITLAB_CI" not in environ:
        return None
    review = environ.get("CI_MERGE_REQUEST_IID")
    index, total = environ.get("CI_NODE_INDEX", ""), environ.get("CI_NODE_TOTAL", "")
    return Build(
        "gitlab",
        url=environ.get("CI_PIPELINE_URL", ""),
        id=f"gitlab-{environ.get('CI_PROJECT_ID', '')}-{environ.get('CI_PIPELINE_ID', '')}",
        tag=environ.get("CI_COMMIT_TAG") or None,
        branch=None if review or environ.get("CI_COMMIT_TAG") else environ.get("CI_COMMIT_BRANCH") or None,
        review=review,
        target=environ.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME") if review else None,
        # In merged-results pipelines CI_COMMIT_SHA is a commit GitLab made; the reviewed one has its own variable.
        revision=environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or environ.get("CI_COMMIT_SHA"),
        shard=(int(index), int(total)) if index.isdigit() and total.isdigit() else None,
    )
