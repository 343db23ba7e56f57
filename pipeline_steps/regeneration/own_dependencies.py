"""Dependencies on charts of the repository that is regenerated, by a URL where it is served: that
need not have the versions yet, so they are taken from this run or from the repository.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec

from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.dependencies import MissingArchive
from pipeline_steps.regeneration.open_tags import Decided
from pipeline_steps.regeneration.repackaging import PackagingTask
from pipeline_steps.regeneration.tag_versions import Unpackageable
from pipeline_steps.repositories.repository import Writable
from pipeline_steps.toolbox.worker_pool import MapTasks

log = logging.getLogger(__name__)


class OwnDependencies:
    """The charts of `repository` as dependencies of each other.

    Args:
        urls: where the repository is, or is served.
        decided: the versions of this run.
        is_published: whether the repository has a chart of a name and version.

    `planned` has the versions that a run with --plan would make, by name and version.
    """

    def __init__(
        self,
        repository: Writable,
        urls: Iterable[str],
        decided: Decided,
        is_published: Callable[[tuple[str, str]], bool],
    ) -> None:
        self._repository = repository
        self._urls = frozenset(url.rstrip("/") for url in urls)
        self._decided = decided
        self._is_published = is_published
        self.planned: dict[tuple[str, str], PackagingTask] = {}

    def includes(self, dependency: MissingArchive) -> bool:
        """Whether a dependency is named by a URL of the repository that is regenerated."""
        return dependency.repository.rstrip("/") in self._urls

    def has(self, dependency: MissingArchive) -> bool:
        """Whether this run made a chart of the name and version of a dependency, would make it, or
        the repository has it.
        """
        key = (dependency.name, dependency.version)
        return key in self.planned or key in self._decided.done or self._is_published(key)

    def with_advice(self, reason: Unpackageable) -> Unpackageable:
        """The reason, and what to do where the dependency is one of this repository's charts."""
        lacks = reason.lacks
        if lacks is None or self.includes(lacks) or not self.has(lacks):
            return reason
        text = f"{reason.refusal.reason}{self.advice(lacks)}"
        return reason._replace(refusal=msgspec.structs.replace(reason.refusal, reason=text))

    def advice(self, dependency: MissingArchive) -> str:
        """What to add to a reason where the dependency may be one of the repository's charts."""
        if self.includes(dependency):
            return ""
        return (
            f"; {self._repository.url} has a chart of this name and version; where that is the "
            f"same, give --served-at {dependency.repository}"
        )

    def supply(
        self, lacking: list[tuple[PackagingTask, Unpackageable]], map_tasks: MapTasks
    ) -> tuple[list[PackagingTask], list[tuple[PackagingTask, Unpackageable]]]:
        """What can be packaged with a dependency that this run made or the repository has, and the
        rest. Charts of one repository depend on each other by the URL where it is served, which need
        not have the versions yet. A chart of that name in any other repository is another chart.
        """
        tasks, rest = [], []
        archives: dict[tuple[str, str], bytes | None] = {}
        for task, reason in lacking:
            lacks = reason.lacks
            if lacks is None or not self.includes(lacks) or not self.has(lacks):
                rest.append((task, reason))
                continue
            key = (lacks.name, lacks.version)
            if key not in archives:
                archives[key] = self._archive(key, map_tasks)
            tgz = archives[key]
            if tgz is None:
                rest.append((task, reason))
                continue
            tasks.append(task._replace(own={**task.own, key: tgz}))
            log.info(
                "%s (%s): %s %s is taken from %s: %s",
                task.version,
                reason.tag,
                *key,
                self._repository.url,
                reason.refusal.reason,
            )
        return tasks, rest

    def _archive(self, key: tuple[str, str], map_tasks: MapTasks) -> bytes | None:
        """The archive of a version that this run made or the repository has, else None."""
        if key in self.planned:
            ((archive,),) = map_tasks([[self.planned[key]]])
            return archive.tgz if isinstance(archive, Archive) else None
        published = self._repository.find(*key)
        return published.archive.tgz if published else None
