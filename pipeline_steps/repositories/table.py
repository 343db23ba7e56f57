"""Which kind of repository a URL means: the only place that knows all of them by name."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.core.errors import ConfigurationError
from pipeline_steps.oci.hosts import Host
from pipeline_steps.repositories.repository import Repository

_KNOWN = (
    "oci://host/path, file:///folder, git+https://host/path#branch, github-releases:owner/repo, "
    "chartmuseum+https://host or, to read only, https://host/path"
)


def open_repository(url: str, hosts: Mapping[str, Host]) -> Repository:
    """The repository behind `url`; nothing is asked from it yet.

    Raises ConfigurationError for anything else.
    """
    if url.startswith("oci://"):
        from pipeline_steps.repositories.oci import OciRepository

        return OciRepository(url, hosts)
    if url.startswith("file://"):
        from pipeline_steps.repositories.directory import DirectoryRepository

        return DirectoryRepository(url)
    if url.startswith(("git+ssh://", "git+https://", "git+file://")):
        from pipeline_steps.repositories.git_pages import GitPagesRepository

        return GitPagesRepository(url, hosts)
    if url.startswith(("chartmuseum+https://", "chartmuseum+http://")):
        from pipeline_steps.repositories.chartmuseum import ChartmuseumRepository

        return ChartmuseumRepository(url, hosts)
    if url.startswith("github-releases:"):
        from pipeline_steps.repositories.github_releases import GithubReleasesRepository

        return GithubReleasesRepository(url, hosts)
    if url.startswith(("https://", "http://")):
        from pipeline_steps.repositories.https import HttpsRepository

        return HttpsRepository(url, hosts)
    raise ConfigurationError("not the URL of a chart repository", where=url, advice=f"write {_KNOWN}")
