"""Build information from the variables of Jenkins and its plugins.

Source: Jenkins core, branch-api, git, gerrit-trigger and gerrit-code-review plugins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline_steps.ci.build import Build

_TAGS, _HEADS = "refs/tags/", "refs/heads/"


def build(environ: Mapping[str, str]) -> Build:
    """The build of a Jenkins run, with all its stages and agents."""
    get = environ.get
    job = f"jenkins-{get('JOB_NAME', '')}-{get('BUILD_NUMBER', '')}".replace("/", "-")
    build = Build(
        "jenkins",
        url=get("BUILD_URL"),
        id=get("BUILD_TAG") or job,
        revision=get("GIT_COMMIT") or get("SVN_REVISION"),
    )
    if get("GERRIT_EVENT_TYPE") or get("GERRIT_REFNAME") or get("GERRIT_CHANGE_NUMBER"):
        return _gerrit_trigger(build, environ)
    if get("GERRIT_API_URL") and (
        change := re.fullmatch(r"\d{2}/(\d+)/\d+", get("BRANCH_NAME", ""))
    ):
        # Set by the plugins gerrit-code-review and multibranch.
        return build._replace(review=change[1], head=build.revision)
    if get("TAG_NAME"):
        return build._replace(tag=get("TAG_NAME"))
    if get("CHANGE_ID"):
        return build._replace(review=get("CHANGE_ID"), target=get("CHANGE_TARGET"))
    if get("BRANCH_NAME"):
        return build._replace(branch=get("BRANCH_NAME"))
    return _ref(
        build,
        get("GIT_LOCAL_BRANCH") or re.sub(r"^(refs/remotes/)?origin/", "", get("GIT_BRANCH", "")),
    )


def _gerrit_trigger(build: Build, environ: Mapping[str, str]) -> Build:
    get = environ.get
    new_revision = get("GERRIT_NEWREV", "")
    # The event ref-updated has no GERRIT_BRANCH; newrev is a tag object, or zeros when deleted.
    if get("GERRIT_REFNAME"):
        revision = new_revision if new_revision.strip("0") else None
        return _ref(
            build._replace(revision=revision),
            get("GERRIT_REFNAME", "") if revision or not new_revision else "",
        )
    if get("GERRIT_EVENT_TYPE") == "change-merged":
        return build._replace(branch=get("GERRIT_BRANCH"), revision=new_revision or build.revision)
    patch_set = get("GERRIT_PATCHSET_REVISION")
    return build._replace(
        review=get("GERRIT_CHANGE_NUMBER"),
        target=get("GERRIT_BRANCH"),
        revision=patch_set,
        head=patch_set,
    )


def _ref(build: Build, ref: str) -> Build:
    """The build of a tag or branch, by its ref; other refs (refs/meta/config) are neither."""
    if ref.startswith(_TAGS):
        return build._replace(tag=ref.removeprefix(_TAGS))
    branch = ref.removeprefix(_HEADS)
    return (
        build._replace(branch=branch)
        if branch and branch != "detached" and not branch.startswith("refs/")
        else build
    )
