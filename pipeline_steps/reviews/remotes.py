"""What the URL of a checkout's remote says about the project."""

from __future__ import annotations

from collections.abc import Container
from urllib.parse import urlsplit

from pipeline_steps.toolbox.errors import ConfigurationError

#: Hosts of public servers in remotes: the second is for SSH where port 22 is closed.
ON_GITHUB = ("github.com", "ssh.github.com")
ON_GITLAB = ("gitlab.com", "altssh.gitlab.com")


def project_path(remote: str, server: str = "") -> str:
    """The path of the project on its server, "" for a remote that is no server's.

    server: its URL; remotes by HTTP have the path in it that the server is served under.

    >>> project_path("https://git.example.com/team/charts.git")
    'team/charts'
    >>> project_path("git@git.example.com:group/team/charts.git"), project_path("/srv/charts")
    ('group/team/charts', '')
    >>> project_path("https://example.com/gitlab/team/charts.git", "https://example.com/gitlab/")
    'team/charts'
    """
    path = _split(remote)[1].strip("/").removesuffix(".git")
    if remote.startswith(("https://", "http://")):
        path = path.removeprefix(f"{urlsplit(server).path.strip('/')}/")
    return path


def require_public(remote: str, hosts: Container[str], where: str, key: str) -> None:
    """Raise ConfigurationError where the remote is on another server than the public one, which is
    asked unless `where` names one in `key`: it would get the token, and its project of the same
    path be written to.

    >>> require_public("git@github.com:team/charts.git", ON_GITHUB, "review.github", "api_url")
    """
    host, path = _split(remote)
    if path and host not in hosts:
        raise ConfigurationError(
            f"the checkout's remote is on {host}, and {where} does not say that it is a server of "
            "its own",
            where=where,
            advice=f"write {key}: and its URL",
        )


def _split(remote: str) -> tuple[str, str]:
    """The host without port, and the path; both "" for a remote that is no server's."""
    if "://" in remote:
        parts = urlsplit(remote)
        return (parts.hostname or "", parts.path) if parts.netloc else ("", "")
    host, colon, path = remote.partition(":")  # scp's way: host:path
    if "/" in host or not colon:
        return "", ""
    return host.rpartition("@")[2].lower(), path
