"""What the URL of a checkout's remote says about the project."""

from __future__ import annotations

from urllib.parse import urlsplit


def project_path(remote: str) -> str:
    """The path of the project on its server, "" for a remote that is no server's.

    >>> project_path("https://git.example.com/team/charts.git")
    'team/charts'
    >>> project_path("git@git.example.com:group/team/charts.git"), project_path("/srv/charts")
    ('group/team/charts', '')
    """
    if "://" in remote:
        parts = urlsplit(remote)
        path = parts.path if parts.netloc else ""
    else:  # scp's way: host:path
        host, _, path = remote.partition(":")
        if "/" in host:
            return ""
    return path.strip("/").removesuffix(".git")
