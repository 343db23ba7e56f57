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
        repository=get("GERRIT_PROJECT"),
        api=get("GERRIT_API_URL"),
    )
    if get("GERRIT_EVENT_TYPE"):
        return _gerrit_trigger(build, environ)
    if get("GERRIT_API_URL") or get("GERRIT_CHANGE_NUMBER"):
        return _gerrit_code_review(build, environ)
    if get("GERRIT_REFNAME"):
        return _gerrit_trigger(build, environ)
    return _multibranch(build, environ) or _ref(
        build,
        get("GIT_LOCAL_BRANCH") or re.sub(r"^(refs/remotes/)?origin/", "", get("GIT_BRANCH", "")),
    )


def _multibranch(build: Build, environ: Mapping[str, str]) -> Build | None:
    """The build of a multibranch job; None for another kind of job."""
    get = environ.get
    if get("TAG_NAME"):
        return build._replace(tag=get("TAG_NAME"))
    if get("CHANGE_ID"):
        return build._replace(review=get("CHANGE_ID"), target=get("CHANGE_TARGET"))
    if get("BRANCH_NAME"):
        return build._replace(branch=get("BRANCH_NAME"))
    return None


def _gerrit_trigger(build: Build, environ: Mapping[str, str]) -> Build:
    """A build that the plugin gerrit-trigger started, for a change, a branch or a tag."""
    get = environ.get
    new_revision = get("GERRIT_NEWREV", "")
    # The event ref-updated has no GERRIT_BRANCH; newrev is a tag object, or zeros when deleted.
    if get("GERRIT_REFNAME") and not get("GERRIT_CHANGE_NUMBER"):
        revision = new_revision if new_revision.strip("0") else None
        return _ref(
            build._replace(revision=revision),
            get("GERRIT_REFNAME", "") if revision or not new_revision else "",
        )
    if get("GERRIT_EVENT_TYPE") == "change-merged":
        return build._replace(branch=get("GERRIT_BRANCH"), revision=new_revision or build.revision)
    return _patch_set(build, environ)


def _gerrit_code_review(build: Build, environ: Mapping[str, str]) -> Build:
    """A build of the multibranch plugin gerrit-code-review.

    Its branches are named nn/NUMBER/PATCHSET. It tells of the change in the variables of
    gerrit-trigger, among them GERRIT_REFNAME, a refs/changes/ name; when it could not read the
    change, only the branch's name tells which it is.
    """
    if environ.get("GERRIT_CHANGE_NUMBER"):
        return _patch_set(build, environ)
    change = re.fullmatch(r"\d{2}/(\d+)/\d+", environ.get("BRANCH_NAME", ""))
    if change:
        return build._replace(review=change[1], head=build.revision)
    return _multibranch(build, environ) or build


def _patch_set(build: Build, environ: Mapping[str, str]) -> Build:
    patch_set = environ.get("GERRIT_PATCHSET_REVISION") or build.revision
    return build._replace(
        review=environ.get("GERRIT_CHANGE_NUMBER"),
        target=environ.get("GERRIT_BRANCH"),
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
