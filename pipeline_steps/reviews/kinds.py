"""Which review system is configured. The only place that knows all of them by name."""

from __future__ import annotations

from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import Config
from pipeline_steps.reviews.review import ReviewSystem
from pipeline_steps.toolbox.errors import ConfigurationError, NotYet

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

    Raises ConfigurationError when the project cannot be told.
    """
    hosts: dict[str, Host] = dict(config.hosts)
    del hosts, remote
    name = configured_system(config)
    if name is None:
        return None
    raise NotYet(f"reviews on {name}", where=config.where(f"review.{name}"))
