"""Detect the CI system and its build from environment variables.

The only place that knows all systems. Nothing here asks a server or the source system.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.ci import github_actions, gitlab, jenkins
from pipeline_steps.ci.build import Build

__all__ = ["Build", "detect"]


def detect(environ: Mapping[str, str]) -> Build:
    """The build that `environ` describes. Empty variables count as unset."""
    variables = {name: value for name, value in environ.items() if value}
    # Gitea Actions, and Forgejo's, set the variables of GitHub Actions as well.
    if variables.get("GITHUB_ACTIONS") == "true":
        return github_actions.build(variables)
    if "GITLAB_CI" in environ:  # gitlab-ci-local sets it to "false"
        return gitlab.build(variables)
    if "JENKINS_URL" in variables or variables.get("BUILD_TAG", "").startswith("jenkins-"):
        return jenkins.build(variables)
    # A person's shell: tag, branch and revision come from the checkout and the options.
    return Build("terminal")
