"""Ask the repositories of dependencies, each one that fails once a process."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts.dependencies import Fetch, MissingArchive
from pipeline_steps.repositories.fetch import fetcher
from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    Interrupted,
    PipelineError,
    Temporary,
    Unreachable,
)


class DependencyRepositories:
    """What earlier runs lacked of other repositories, asked for again."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._fetch = without_repeated_failures(fetcher(dict(hosts)))
        self._given: set[str] = set()

    def failure(self, dependency: MissingArchive) -> PipelineError | None:
        """Why the repository does not give a dependency. None when it does, or has given another one
        that was lacking: then whoever packages asks for all of them.
        """
        if dependency.repository in self._given:
            return None
        try:
            self._fetch(dependency)
        except Interrupted:
            raise
        except PipelineError as error:
            return error.fresh()
        self._given.add(dependency.repository)
        return None


def without_repeated_failures(fetch: Fetch) -> Fetch:
    """`fetch`, but a host that does not answer is not asked again, nor a repository that refuses.
    A repository may name other hosts for its archives.
    """
    failures: dict[str, PipelineError] = {}

    def fetch_once(dependency: MissingArchive) -> bytes:
        repository = dependency.repository
        host = urlsplit(repository).netloc or repository
        if repository.startswith("oci://"):  # each chart is a repository with rights of its own
            repository = f"{repository.rstrip('/')}/{dependency.name}"
        for place in (host, repository):
            if place in failures:
                raise http.asked_before(failures[place], repository)
        try:
            with http.failing_hosts_asked_once(failures):
                return fetch(dependency)
        except (Unreachable, Temporary) as error:
            # One time-out for a host that is gone, not one for each of hundreds of versions.
            failures.setdefault(urlsplit(error.where).netloc or host, error.fresh())
            raise
        except AccessRefused as error:
            failures[repository] = error.fresh()
            raise

    return fetch_once
