"""Jenkins' variables: its own, of multibranch projects, of the git plugin, of the two Gerrit
plugins.

Source: Jenkins core, branch-api, git, gerrit-trigger and gerrit-code-review plugins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline_steps.ci.facts import Build

_TAGS, _HEADS = "refs/tags/", "refs/heads/"


def build(environ: Mapping[str, str]) -> Build:
    """The build of a Jenkins run, all its stages and agents together."""
    said = environ.get
    job = f"jenkins-{said('JOB_NAME', '')}-{said('BUILD_NUMBER', '')}".replace("/", "-")
    build = Build(
        "jenkins",
        url=said("BUILD_URL"),
        id=said("BUILD_TAG") or job,
        revision=said("GIT_COMMIT") or said("SVN_REVISION"),
    )
    if said("GERRIT_EVENT_TYPE") or said("GERRIT_REFNAME") or said("GERRIT_CHANGE_NUMBER"):
        return _gerrit_trigger(build, environ)
    if said("GERRIT_API_URL") and (
        change := re.fullmatch(r"\d{2}/(\d+)/\d+", said("BRANCH_NAME", ""))
    ):
        return build._replace(
            review=change[1], head=build.revision
        )  # gerrit-code-review, multibranch
    if said("TAG_NAME"):
        return build._replace(tag=said("TAG_NAME"))
    if said("CHANGE_ID"):
        return build._replace(review=said("CHANGE_ID"), target=said("CHANGE_TARGET"))
    if said("BRANCH_NAME"):
        return build._replace(branch=said("BRANCH_NAME"))
    return _ref(
        build,
        said("GIT_LOCAL_BRANCH") or re.sub(r"^(refs/remotes/)?origin/", "", said("GIT_BRANCH", "")),
    )


def _gerrit_trigger(build: Build, environ: Mapping[str, str]) -> Build:
    said = environ.get
    new = said("GERRIT_NEWREV", "")
    if said(
        "GERRIT_REFNAME"
    ):  # ref-updated has no GERRIT_BRANCH; newrev is a tag object, or zeros when deleted
        revision = new if new.strip("0") else None
        return _ref(
            build._replace(revision=revision),
            said("GERRIT_REFNAME", "") if revision or not new else "",
        )
    if said("GERRIT_EVENT_TYPE") == "change-merged":
        return build._replace(branch=said("GERRIT_BRANCH"), revision=new or build.revision)
    patch_set = said("GERRIT_PATCHSET_REVISION")
    return build._replace(
        review=said("GERRIT_CHANGE_NUMBER"),
        target=said("GERRIT_BRANCH"),
        revision=patch_set,
        head=patch_set,
    )


def _ref(build: Build, ref: str) -> Build:
    """The build of a tag or branch by its ref; other refs (refs/meta/config) are neither."""
    if ref.startswith(_TAGS):
        return build._replace(tag=ref.removeprefix(_TAGS))
    branch = ref.removeprefix(_HEADS)
    return (
        build._replace(branch=branch)
        if branch and branch != "detached" and not branch.startswith("refs/")
        else build
    )
