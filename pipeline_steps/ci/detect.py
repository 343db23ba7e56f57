"""Detect the CI system and its build from environment variables.

The only place that knows all systems. Nothing here asks a server or the source system.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.ci import github_actions, gitlab, jenkins
from pipeline_steps.ci.build import Build, System

__all__ = ["Build", "detect", "system_of"]


#: Of a review that the CI knows nothing of, as Launchpad's: its id, the branch that it goes to, the
#: revision that verdicts are about.
REVIEW, TARGET, HEAD = (
    "PIPELINE_STEPS_REVIEW",
    "PIPELINE_STEPS_TARGET",
    "PIPELINE_STEPS_HEAD",
)


def detect(environ: Mapping[str, str]) -> Build:
    """The build that `environ` describes. Empty variables count as unset."""
    variables = {name: value for name, value in environ.items() if value}
    kind = system_of(environ)
    # A person's shell: tag, branch and revision come from the checkout and the options.
    build = _BUILDS[kind](variables) if kind in _BUILDS else Build("terminal")
    if build.review or not variables.get(REVIEW):
        return build
    return build._replace(
        branch=None,
        review=variables[REVIEW],
        target=variables.get(TARGET),
        head=variables.get(HEAD),
    )


def system_of(environ: Mapping[str, str]) -> System:
    """The CI system that `environ` is of; reads no file."""
    # Gitea Actions, and Forgejo's, set the variables of GitHub Actions as well.
    if environ.get("GITHUB_ACTIONS") == "true":
        return "gitea_actions" if environ.get("GITEA_ACTIONS") == "true" else "github_actions"
    if "GITLAB_CI" in environ:  # gitlab-ci-local sets it to "false"
        return "gitlab"
    if environ.get("JENKINS_URL") or environ.get("BUILD_TAG", "").startswith("jenkins-"):
        return "jenkins"
    return "terminal"


_BUILDS = {
    "github_actions": github_actions.build,
    "gitea_actions": github_actions.build,
    "gitlab": gitlab.build,
    "jenkins": jenkins.build,
}
