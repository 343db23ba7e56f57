"""Which kind of repository a URL means: the only place that knows all of them by name."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.auth.hosts import Host
from pipeline_steps.repositories.chartmuseum import ChartmuseumRepository
from pipeline_steps.repositories.directory import DirectoryRepository
from pipeline_steps.repositories.git_pages import GitPagesRepository
from pipeline_steps.repositories.github_releases import GithubReleasesRepository
from pipeline_steps.repositories.https import HttpsRepository
from pipeline_steps.repositories.oci import OciRepository
from pipeline_steps.repositories.repository import Repository
from pipeline_steps.toolbox.errors import ConfigurationError

_KNOWN = (
    "oci://host/path, file:///folder, git+https://host/path#branch, github-releases:owner/repo, "
    "chartmuseum+https://host or, to read only, https://host/path"
)


def open_repository(url: str, hosts: Mapping[str, Host]) -> Repository:
    """The repository behind `url`; nothing is asked from it yet.

    Raises ConfigurationError for anything else.
    """
    if url.startswith("oci://"):
        return OciRepository(url, hosts)
    if url.startswith("file://"):
        return DirectoryRepository(url)
    if url.startswith(("git+ssh://", "git+https://", "git+file://")):
        return GitPagesRepository(url, hosts)
    if url.startswith(("chartmuseum+https://", "chartmuseum+http://")):
        return ChartmuseumRepository(url, hosts)
    if url.startswith("github-releases:"):
        return GithubReleasesRepository(url, hosts)
    if url.startswith(("https://", "http://")):
        return HttpsRepository(url, hosts)
    raise ConfigurationError("not the URL of a chart repository", where=url, advice=f"write {_KNOWN}")
