"""Which kind of repository a URL means. The only place that knows all kinds by name."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import unquote, urlsplit

from pipeline_steps.auth.hosts import Host
from pipeline_steps.repositories.chartmuseum import ChartmuseumRepository
from pipeline_steps.repositories.directory import DirectoryRepository
from pipeline_steps.repositories.git_pages import BRANCH, GitPagesRepository
from pipeline_steps.repositories.github_releases import SCHEME, GithubReleasesRepository
from pipeline_steps.repositories.https import HttpsRepository
from pipeline_steps.repositories.oci import OciRepository
from pipeline_steps.repositories.repository import Indexed, Published, Repository, Writable
from pipeline_steps.toolbox.errors import ConfigurationError

_Hosts = Mapping[str, Host]
#: What a URL begins with → the kind of repository, which charts can be published into.
_WRITABLE: Mapping[str, Callable[[str, _Hosts], Writable]] = {
    "oci://": OciRepository,
    "file://": DirectoryRepository,
    "git+ssh://": GitPagesRepository,
    "git+https://": GitPagesRepository,
    "git+file://": GitPagesRepository,
    "chartmuseum+https://": ChartmuseumRepository,
    "chartmuseum+http://": ChartmuseumRepository,
    "github-releases:": GithubReleasesRepository,
}
#: The same for kinds that are only read.
_READABLE: Mapping[str, Callable[[str, _Hosts], Repository]] = {
    "https://": HttpsRepository,
    "http://": HttpsRepository,
}
#: Ports that URLs need not write.
_PORTS = {"https": 443, "http": 80, "ssh": 22, "oci": 443}
_WRITABLE_URLS = (
    "oci://host/path, file:///folder, git+https://host/path#branch, github-releases:owner/repo or "
    "chartmuseum+https://host"
)


def open_repository(url: str, hosts: _Hosts) -> Repository:
    """The repository at `url`; no request is sent yet.

    Raises ConfigurationError when it is not the URL of a repository.
    """
    for prefix, kind in {**_WRITABLE, **_READABLE}.items():
        if url.startswith(prefix):
            return kind(url, hosts)
    advice = f"write {_WRITABLE_URLS}; or https://host/path, which is only read"
    raise ConfigurationError("this is not the URL of a chart repository", where=url, advice=advice)


def open_writable(url: str, hosts: _Hosts) -> Writable:
    """The repository at `url`, to publish into; no request is sent yet.

    Raises ConfigurationError when it is not the URL of a repository, or of one that is read only.
    """
    repository = open_repository(url, hosts)
    if isinstance(repository, Writable):
        return repository
    problem = "charts cannot be published there, the repository is only read"
    raise ConfigurationError(problem, where=repository.url, advice=f"name one of {_WRITABLE_URLS}")


def open_repository_of(reference: str, urls: Iterable[str], hosts: _Hosts) -> Repository | None:
    """The repository among `urls` that contains `reference`, the one with the longest URL; or None.

    URLs match as written in the configuration, or as the repository normalises them.
    """
    opened = {url: open_repository(url, hosts) for url in urls}
    repository_of_prefix = {
        prefix: repository for url, repository in opened.items() for prefix in (url, repository.url)
    }
    prefixes = [
        prefix for prefix in repository_of_prefix if reference.startswith(f"{prefix.rstrip('/')}/")
    ]
    # The longest, as one repository may lie below another (oci://host/charts and
    # oci://host/charts/dev).
    return repository_of_prefix[max(prefixes, key=len)] if prefixes else None


def find_named(repository: Repository, name: str, version: str) -> Published | None:
    """A version as `Repository.find` has it, None also where only the storage has it and the index
    does not name it: helm then finds no such version.
    """
    published = repository.find(name, version)
    if published and isinstance(repository, Indexed) and version not in repository.versions(name):
        return None
    return published


def repository_identity(url: str) -> tuple[object, ...]:
    """The identity of the repository at a URL: equal for two URLs of one repository, however they
    are written. Aliases of a host and redirects of a server are not followed.

    >>> repository_identity("file://localhost/srv/./charts/") == repository_identity("file:///srv/charts")
    True
    >>> repository_identity("git+ssh://git@Example.com/o/Repo.git") == repository_identity(
    ...     "git+ssh://example.com:22/o/repo#gh-pages"
    ... )
    True
    """
    if url.startswith(SCHEME):  # GitHub's names ignore case
        return SCHEME, url.removeprefix(SCHEME).casefold()
    kind = next((kind for kind in ("git", "chartmuseum") if url.startswith(f"{kind}+")), "")
    try:
        parts = urlsplit(url.removeprefix(f"{kind}+"))
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # not a URL: open_repository refuses it
        return (url,)
    path = posixpath.normpath(f"/{unquote(parts.path).strip('/')}")
    if parts.scheme == "file":
        host, path = None, os.path.realpath(path)
    if kind != "git":
        return kind, parts.scheme, host, port, path
    # Servers serve a repository with and without .git, and most of them ignore case.
    path = path.removesuffix(".git").rstrip("/")
    return kind, host, port, path.casefold() if host else path, parts.fragment or BRANCH
