"""Build information from GitLab CI's variables.

Source: GitLab documentation 17, "Predefined CI/CD variables reference".
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.ci.build import Build


def build(environ: Mapping[str, str]) -> Build:
    """The build of a GitLab job: its pipeline, which all jobs share."""
    get = environ.get
    review = get("CI_MERGE_REQUEST_IID")
    # A train's commit is a merge with the merge requests in front of it.
    queued = bool(review) and get("CI_MERGE_REQUEST_EVENT_TYPE") == "merge_train"
    tag = None if review else get("CI_COMMIT_TAG")
    revision = get("CI_COMMIT_SHA")
    return Build(
        "gitlab",
        url=get("CI_JOB_URL") or get("CI_PIPELINE_URL"),
        id=get("CI_PIPELINE_ID"),
        tag=tag,
        # gitlab-ci-local leaves CI_COMMIT_BRANCH set beside a tag
        branch=None if tag or review else get("CI_COMMIT_BRANCH"),
        review=review,
        target=get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME") if review else None,
        revision=revision,
        # Both branches' revisions are set only where CI_COMMIT_SHA is a merge made for testing: in
        # merged-results pipelines and merge trains.
        head=(get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or revision) if review else None,
        base=(get("CI_MERGE_REQUEST_TARGET_BRANCH_SHA") or get("CI_MERGE_REQUEST_DIFF_BASE_SHA"))
        if review
        else None,
        queued=queued,
        repository=(review and get("CI_MERGE_REQUEST_PROJECT_PATH")) or get("CI_PROJECT_PATH"),
        api=get("CI_API_V4_URL"),
        shard=_shard(get("CI_NODE_INDEX"), get("CI_NODE_TOTAL")),
    )


def _shard(index: str | None, total: str | None) -> tuple[int, int] | None:
    if not index or not total or not index.isdecimal() or not total.isdecimal():
        return None
    return int(index), int(total)
