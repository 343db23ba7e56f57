"""Fetch archives of dependencies, with a cache by digest on this machine; list their versions.

The repository is asked every time for the digest of a version; only the bytes come from the cache.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts.dependencies import Fetch, MissingArchive
from pipeline_steps.charts.lock import Versions
from pipeline_steps.charts.read import Dependency
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError

log = logging.getLogger(__name__)


def fetcher(hosts: Mapping[str, Host], cache: Path | None = None) -> Fetch:
    """What `dependencies.fill` calls. cache: a folder, by default one of this user's."""
    user_cache = cache_folder()
    folder = cache or (user_cache and user_cache / "charts")
    repository = functools.cache(lambda url: open_repository(url, hosts))

    def fetch(dependency: MissingArchive) -> bytes:
        source = repository(dependency.repository)
        reference = source.resolve(dependency.name, dependency.version)
        if reference is None:
            raise ConfigurationError(
                f"the dependency {dependency.name} {dependency.version} is not in the repository",
                where=dependency.repository,
                advice=(
                    "take one that it has: "
                    f"{', '.join(source.versions(dependency.name)[:5]) or 'no version of it'}"
                ),
            )
        # By the whole reference, URL and digest: no repository can place bytes for another.
        cached = folder and folder / files.sha256(reference.encode()).removeprefix("sha256:")
        tgz = _read(cached, reference) if cached else None
        if tgz is None:
            published = source.find(dependency.name, dependency.version)
            if published is None or published.reference != reference:
                raise ConfigurationError(
                    "the repository changed the dependency while it was read",
                    where=reference,
                    advice="run it again",
                )
            tgz = published.archive.tgz
            log.info("%s: fetched", reference)
            if cached:
                _keep(cached, tgz)
        return tgz

    return fetch


def version_lister(hosts: Mapping[str, Host]) -> Versions:
    """A function that gives the versions of a dependency that its repository has, newest first."""
    repository = functools.cache(lambda url: open_repository(url, hosts))

    def versions(dependency: Dependency) -> list[str]:
        return repository(dependency.repository.rstrip("/")).versions(dependency.name)

    return versions


def _read(path: Path, reference: str) -> bytes | None:
    """An archive from the cache, None when it is missing or damaged."""
    try:
        digest, _, tgz = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    # Compared at every use: other programs of this account can write there.
    if files.sha256(tgz) != digest.decode(errors="replace"):
        log.warning("%s: its copy in the cache is damaged, it is fetched again", reference)
        return None
    return tgz


def _keep(path: Path, tgz: bytes) -> None:
    try:
        files.folder(path.parent)
        files.write(path, files.sha256(tgz).encode() + b"\n" + tgz)
    except MachineError as error:  # in containers, HOME is often / and not one's own
        log.debug("nothing is cached: %s", error)


def cache_folder() -> Path | None:
    """Where this user's programs may keep what can be fetched again; None without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "pipeline-steps"
    except RuntimeError:  # neither HOME nor an entry for this uid in the user database
        return None
