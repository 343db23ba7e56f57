"""Which review system is configured. The only place that knows all of them by name."""

from __future__ import annotations

import os

from pipeline_steps.ci.detect import detect
from pipeline_steps.config.language import Config
from pipeline_steps.reviews.review import ProjectReleases, PublishesReleases, ReviewSystem
from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import ConfigurationError

SYSTEMS = ("gerrit", "gitea", "github", "gitlab", "launchpad")


def configured_system(config: Config) -> str | None:
    """The name of the review system in `review`, None for none. Raises ConfigurationError for two."""
    names = [name for name in SYSTEMS if getattr(config.review, name) is not None]
    if len(names) > 1:
        raise ConfigurationError(
            f"there are {len(names)} review systems: {', '.join(names)}",
            where=config.where("review"),
            advice="keep one",
        )
    return names[0] if names else None


def open_review_system(config: Config, remote: str) -> ReviewSystem | None:
    """The configured review system, None for none; no request is sent yet.

    remote: the URL that the checkout came from, for the name of the project; "" when unknown. The
    clients are imported here, as only steps that ask a review need one.

    Raises ConfigurationError when the project cannot be told, or an approval excludes the uploader
    and the system does not say who that is.
    """
    name = configured_system(config)
    if name is None:
        return None
    openers = {
        "gerrit": _gerrit,
        "gitea": _gitea,
        "github": _github,
        "gitlab": _gitlab,
        "launchpad": _launchpad,
    }
    system = openers[name](config, remote)
    _refuse_unknown_uploader(config, system)
    return system


def open_releasing_system(config: Config, remote: str) -> PublishesReleases | None:
    """The configured review system if its server shows tags as releases with files, else None.

    Raises as `open_review_system`.
    """
    if configured_system(config) not in ("gitea", "github"):
        return None
    system = open_review_system(config, remote)
    assert isinstance(system, PublishesReleases), "both do"
    return system


def open_project_releases(config: Config, remote: str) -> ProjectReleases | None:
    """The configured review system if its server has releases of whole projects, else None.

    Raises as `open_review_system`.
    """
    if configured_system(config) != "launchpad":
        return None
    system = open_review_system(config, remote)
    assert isinstance(system, ProjectReleases), "Launchpad does"
    return system


def _refuse_unknown_uploader(config: Config, system: ReviewSystem) -> None:
    """Refuse a rule that could not be kept: it would hold off nobody, and say nothing of it."""
    if system.abilities.tells_uploader:
        return
    for name, approval in config.approvals.items():
        if "uploader" in approval.not_by:
            raise ConfigurationError(
                f"{system.name} does not say who pushed a revision: not_by: uploader cannot be kept",
                where=config.where(f"approvals.{name}.not_by"),
                advice="take uploader out of it (author excludes whoever proposed the review), or"
                " name accounts or group:NAME",
            )


def _gerrit(config: Config, remote: str) -> ReviewSystem:
    from pipeline_steps.reviews import gerrit

    settings = config.review.gerrit
    assert settings is not None, "the caller looked"
    build = detect(os.environ)
    of_build = build.repository if build.system == "jenkins" else None
    project = settings.project or of_build or gerrit.project_of(remote, settings.url)
    if not project:
        raise ConfigurationError(
            f"the project on {http.safe_url(settings.url)} is not known",
            where=config.where("review.gerrit"),
            advice="name it in review.gerrit.project",
        )
    return gerrit.GerritReviews(settings, project, config.hosts)


def _gitea(config: Config, remote: str) -> ReviewSystem:
    from pipeline_steps.reviews import gitea

    settings = config.review.gitea
    assert settings is not None, "the caller looked"
    build = detect(os.environ)
    of_build = build.repository if build.system == "gitea_actions" else None
    repository = settings.repository or of_build or gitea.repository_of(remote)
    if not repository:
        raise ConfigurationError(
            f"the repository on {http.safe_url(settings.url)} is not known",
            where=config.where("review.gitea"),
            advice="name it in review.gitea.repository",
        )
    return gitea.GiteaReviews(settings, repository, config.hosts)


def _launchpad(config: Config, remote: str) -> ReviewSystem:
    from pipeline_steps.reviews import launchpad

    settings = config.review.launchpad
    assert settings is not None, "the caller looked"
    return launchpad.Launchpad(settings, config.hosts, remote)


def _github(config: Config, remote: str) -> ReviewSystem:
    from pipeline_steps.reviews.github import GithubReviews

    settings = config.review.github
    assert settings is not None, "the caller looked"
    return GithubReviews(settings, config.hosts, remote)


def _gitlab(config: Config, remote: str) -> ReviewSystem:
    from pipeline_steps.reviews.gitlab import GitlabReviews

    settings = config.review.gitlab
    assert settings is not None, "the caller looked"
    return GitlabReviews(settings, config.hosts, remote)
