"""Rebuild a chart repository from tags: read tags, package missing versions in workers, publish.

A published archive is never replaced, whatever its tag would give today.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline_steps.building import image_records
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.archive import Archive
from pipeline_steps.ci.detect import detect
from pipeline_steps.config.language import Config
from pipeline_steps.regeneration.approved import Refuse
from pipeline_steps.regeneration.dependency_repositories import DependencyRepositories
from pipeline_steps.regeneration.ledger import DoneTag, KeptVersion, Ledger, Refusal, Waiting
from pipeline_steps.regeneration.open_tags import Decided, OpenTags, TagVersions
from pipeline_steps.regeneration.own_dependencies import OwnDependencies
from pipeline_steps.regeneration.repackaging import PackagingTask, Repackager
from pipeline_steps.regeneration.repository_contents import (
    Report,
    RepositoryContents,
    VersionFilter,
    add_unlisted_archives,
    read_index,
    with_empty_index,
    with_lost_index,
)
from pipeline_steps.regeneration.tag_versions import (
    Settings,
    Unpackageable,
    Version,
    problem_at_tag,
)
from pipeline_steps.repositories.fetch import cache_folder
from pipeline_steps.repositories.repository import Indexed, Publication, Published, Writable
from pipeline_steps.sources.kinds import open_tagged
from pipeline_steps.sources.source import RemoteTags, Tag, Tagged, without_login
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import progress
from pipeline_steps.toolbox.errors import (
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    UsageError,
)
from pipeline_steps.toolbox.worker_pool import MapTasks, worker_pool
from pipeline_steps.workspace.tags import TaggedRelease, TagPattern

log = logging.getLogger(__name__)

#: Increase when the same tag gives other archives than before: the ledger is then ignored.
FORMAT = 4
#: Tags and versions per task of a worker. Fewer versions than this are packaged in this process.
_TAGS, _VERSIONS = 64, 16
#: Tags that are shown as examples of those there are.
_SHOWN = 3


class Regeneration:
    """One run over the tags of a source into one repository."""

    def __init__(
        self,
        settings: Settings,
        repository: Writable,
        version_filter: VersionFilter,
        *,
        state: State,
        own_urls: Sequence[str],
        refuse: Refuse | None,
        jobs: int | None,
        plan: bool,
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._wanted = version_filter
        self._refuse = refuse
        self._state = state
        # The CPUs of this process: containers often have fewer than the machine.
        self._jobs = jobs or len(os.sched_getaffinity(0))
        self._plan = plan
        self._ledger = Ledger(
            state.folder,
            [FORMAT, repository.url, *_plain_values(settings), *_plain_values(version_filter)],
        )
        self._decided = Decided()
        self._dependencies = DependencyRepositories(settings.hosts)
        self._own_dependencies = OwnDependencies(
            repository, own_urls, self._decided, self._is_published
        )
        self.report = Report.empty()

    def run(self, tags: Iterable[Tag], *, again: bool = False) -> Report:
        """Read every tag that is not finished, package its versions, publish what is missing.

        again: read all tags. Versions that cannot be packaged are in the report. Raises
        MachineError or Temporary when the repository or the source cannot be used.
        """
        unchanged = (
            None if again else self._ledger.versions_if_unchanged(read_index(self._repository))
        )
        self._index_is_unchanged = unchanged is not None
        rebuilt = None
        try:
            self._published = RepositoryContents(self._repository, unchanged)
        except EvidenceError as error:
            rebuilt = with_empty_index(self._repository, error, again=again and not self._plan)
            self._published = RepositoryContents(rebuilt)
        if rebuilt is None and not self._plan:
            rebuilt = with_lost_index(self._repository)
        names = TagPattern(self._settings.tags)
        matching_tags = sorted(tags, key=lambda tag: (tag.created, tag.name))
        open_tags = matching_tags if again else self._open_tags(matching_tags)
        if open_tags and unchanged:  # read again: others may have published meanwhile
            self._published = RepositoryContents(self._repository)
        # Tags of one chart together: a worker then reads most folders from its cache.
        by_name = sorted(open_tags, key=lambda tag: (names.parse_loosely(tag.name) or ("",))[0])
        # Starting workers takes longer than packaging a handful of charts.
        few = len(open_tags) < _VERSIONS
        with self._settings.revisions:
            with contextlib.suppress(MachineError):  # what lacks is told of the tag that needs it
                self._settings.revisions.preload_for_workers(tag.revision for tag in open_tags)
            with worker_pool(Repackager, self._settings, 1 if few else self._jobs) as map_tasks:
                looked = self._read_tags(map_tasks, by_name)
                versions = self._without_refused(self._select_versions(looked))
                try:
                    self._publish(map_tasks, versions, looked)
                finally:
                    if not self._plan:
                        self._ledger.write()
        if rebuilt is not None:
            add_unlisted_archives(rebuilt, self._wanted, self.report)
        if not self._plan:
            # Last: the ledger may only speak of an index that has all that was published.
            self._ledger.keep_index(read_index(self._repository))
        return self.report

    # -- what earlier runs know ----------------------------------------------------------------

    def _open_tags(self, tags: list[Tag]) -> list[Tag]:
        """The tags to read. What is known of the others goes into the report. tags: oldest first."""
        finished: dict[str, DoneTag] = {}
        failures: dict[Waiting, PipelineError] = {}
        older: set[tuple[str, str]] = set()
        for tag in tags:
            done_tag = self._ledger.of(tag)
            if done_tag is None:
                continue
            has_older = older.issuperset(done_tag.decided_elsewhere)
            if has_older and self._is_unchanged(done_tag, failures):
                finished[tag.name] = done_tag
            older.update(done_tag.keys())
        if len(finished) < len(tags):  # what is made now may be what charts of the repository lack
            finished = {
                name: done_tag
                for name, done_tag in finished.items()
                if not any(
                    map(
                        self._own_dependencies.includes,
                        (each.dependency for each in done_tag.waiting),
                    )
                )
            }
        for name, done_tag in finished.items():
            self._note_finished(name, done_tag, failures)
        return [tag for tag in tags if tag.name not in finished]

    def _is_unchanged(self, done_tag: DoneTag, failures: dict[Waiting, PipelineError]) -> bool:
        """Whether all versions of a finished tag are still published with the same digest, and what
        waits for a dependency has to wait on. failures: gets the reasons.
        """
        if any(
            self._published.digest(kept_version.name, kept_version.version)
            not in ("", kept_version.archive)
            for kept_version in done_tag.versions
        ):
            return False
        for waiting in done_tag.waiting:
            # Approvals are asked for before a version is packaged, and may be taken back.
            if self._refuse or self._is_published((waiting.name, waiting.version)):
                return False
            if self._own_dependencies.includes(waiting.dependency) and self._had(waiting):
                return False
            failure = self._dependencies.failure(waiting.dependency)
            if failure is None:
                return False
            failures[waiting] = failure
        return True

    def _note_finished(
        self, tag: str, done_tag: DoneTag, failures: Mapping[Waiting, PipelineError]
    ) -> None:
        for kept_version in done_tag.versions:
            if (kept_version.name, kept_version.version) not in self._decided.done:
                self._note_version(kept_version, tag, new=False)
        for refusal in done_tag.refusals:
            self._note_refusal(tag, refusal)
        for refusal in done_tag.unmakeable:
            key = (refusal.name, refusal.version)
            if key not in self._decided.unmakeable and key not in self._decided.done:
                self._decided.unmakeable[key] = refusal
                self._note_refusal(tag, refusal)
        for waiting in done_tag.waiting:
            key = (waiting.name, waiting.version)
            if key not in self._decided.waiting and key not in self._decided.done:
                self._decided.waiting[key] = waiting
                reason = problem_at_tag(failures[waiting])
                if self._had(waiting):
                    reason += self._own_dependencies.advice(waiting.dependency)
                self._note_refusal(tag, Refusal(" ".join(key), *key, reason))

    def _is_published(self, key: tuple[str, str]) -> bool:
        """Whether the repository has a chart of a name and version."""
        return self._published.digest(*key) is not None

    def _had(self, waiting: Waiting) -> bool:
        """Whether the repository has a chart of the name and version that is waited for."""
        if self._index_is_unchanged:
            return waiting.in_repository
        return self._own_dependencies.has(waiting.dependency)

    # -- which versions ------------------------------------------------------------------------

    def _read_tags(self, map_tasks: MapTasks, tags: list[Tag]) -> list[TagVersions]:
        """Read the tags, oldest first; versions that cannot be packaged go into the report."""
        tags_read: list[TagVersions] = []
        with progress.counter("tags read", len(tags)) as advance:
            for tag, result in _map_in_batches(map_tasks, tags, _TAGS):
                advance()
                unpackageable = [item for item in result if isinstance(item, Unpackageable)]
                for item in unpackageable:
                    self._note_refusal(tag.name, item.refusal)
                versions = tuple(item for item in result if isinstance(item, Version))
                refusals = tuple(item.refusal for item in unpackageable)
                lasting = all(item.lasting for item in unpackageable)
                tags_read.append(TagVersions(tag, versions, refusals, lasting))
        return sorted(tags_read, key=lambda looked: (looked.tag.created, looked.tag.name))

    def _select_versions(self, looked: list[TagVersions]) -> list[Version]:
        """The versions to package; if several tags name one version, the oldest tag counts."""
        selected: dict[tuple[str, str], Version] = {}
        for version in (version for tag_versions in looked for version in tag_versions.versions):
            key = (version.name, version.version)
            if key in self._decided or not self._wanted.includes(*key):
                continue
            oldest = selected.setdefault(key, version)
            if oldest.trees != version.trees:
                self.report.differs.append(
                    f"{version} at {version.tag.name} has other files than at {oldest.tag.name}"
                )
        for key, version in list(selected.items()):
            if self._wanted.is_withdrawn(*key):
                name = "-".join(key)
                advice = (
                    f"audit --fix takes {name} out of the index where release.withdrawn has it "
                    "by that name"
                )
                note = "" if not self._is_published(key) else f", and still published: {advice}"
                self.report.withdrawn.append(f"{version} is withdrawn{note}")
                del selected[key]
        return self._with_images(
            sorted(selected.values(), key=lambda version: (version.name, version.tag.created))
        )

    def _without_refused(self, versions: list[Version]) -> list[Version]:
        """The versions, without those that are missing and may not be released."""
        if self._refuse is None:
            return versions
        repository = self._repository
        # Also what only its index has lost is published.
        archives_there = set(repository.files() or ()) if isinstance(repository, Indexed) else set()
        allowed = []
        for version in versions:
            is_there = (
                self._is_published((version.name, version.version))
                or f"{version.name}-{version.version}.tgz" in archives_there
            )
            reason = "" if is_there else self._refuse(version)
            if reason:
                self.report.unapproved.append(f"{version} ({version.tag.name}): {reason}")
            else:
                allowed.append(version)
        return allowed

    def _with_images(self, versions: list[Version]) -> list[Version]:
        """The versions, with image digests from records where their tags do not have them."""
        contents = {content for version in versions for content, _format in version.contents}
        self._state.load_evidence(contents)
        recorded: dict[tuple[str, str | None, str], dict[str, str]] = {}
        for record in self._state.find(step="promote") if contents else ():
            images = {
                name: str(image.digest) for name, image in image_records.images_of(record).items()
            }
            recorded[record.subject, record.content, str(record.parameters.get("version"))] = images
        return [_with_recorded_images(version, recorded) for version in versions]

    # -- making and publishing -----------------------------------------------------------------

    def _publish(
        self, map_tasks: MapTasks, versions: list[Version], looked: list[TagVersions]
    ) -> None:
        tags = {(version.name, version.version): version.tag.name for version in versions}
        open_tags = OpenTags(looked, self._wanted, self._ledger, self._decided, tags)
        keys = ((version.name, version.version) for version in versions)
        # Asked before they are there.
        missing = {key for key in keys if not self._is_published(key)}
        in_progress: deque[tuple[Version, Archive]] = deque()
        lacking: list[tuple[PackagingTask, Unpackageable]] = []

        def publications(tasks: list[PackagingTask]) -> Iterator[Publication]:
            for task, archive in _map_in_batches(map_tasks, tasks, _VERSIONS):
                if isinstance(archive, Unpackageable):
                    lacking.append((task, archive))
                elif self._plan:
                    self._own_dependencies.planned[task.version.name, task.version.version] = task
                    self._note_plan(task.version, archive)
                    advance()
                else:
                    in_progress.append((task.version, archive))
                    yield Publication(archive, created=task.version.tag.created)

        tasks = [PackagingTask(version) for version in versions]
        with progress.counter("versions", len(versions)) as advance:
            while tasks:
                for outcome in self._repository.publish_all(publications(tasks)):
                    version, archive = in_progress.popleft()
                    self._note_outcome(
                        version, archive, outcome, new=(version.name, version.version) in missing
                    )
                    open_tags.version_done((version.name, version.version))
                    advance()
                tasks, lacking = self._own_dependencies.supply(lacking, map_tasks)
            for task, reason in lacking:
                self._note_not_remade(task.version, self._own_dependencies.with_advice(reason))
                open_tags.version_done((task.version.name, task.version.version))
                advance()
        open_tags.close_remaining()

    def _note_outcome(
        self, version: Version, archive: Archive, outcome: Published | PipelineError, *, new: bool
    ) -> None:
        if isinstance(outcome, Conflict):
            outcome = self._published_version(version, archive, new=new) or outcome
        if isinstance(outcome, Published):
            published_digests = (outcome.tar_digest, outcome.archive_digest)
            self._note_version(
                KeptVersion(version.name, version.version, archive.tar_digest, *published_digests),
                version.tag.name,
                new=new,
            )
        else:
            self.report.failed.append(f"{version} ({version.tag.name}): {outcome}")

    def _published_version(
        self, version: Version, archive: Archive, *, new: bool
    ) -> Published | None:
        """The published archive of a version that conflicts with the packaged one.

        An archive that the index has lost is added again. None when there is none after all.
        """
        repository = self._repository
        try:
            unlisted = (
                repository.read(archive.file_name)
                if new and isinstance(repository, Indexed)
                else None
            )
            if unlisted is not None:
                published = archives.open_archive(unlisted, archive.file_name)
                return repository.publish(published, created=version.tag.created)
            return repository.find(version.name, version.version)
        except Conflict:
            return None

    def _note_version(self, kept_version: KeptVersion, tag: str, *, new: bool) -> None:
        self._decided.done[kept_version.name, kept_version.version] = kept_version
        name_and_version = f"{kept_version.name} {kept_version.version}"
        if not kept_version.packaged_tar:
            self.report.unmade.append(
                f"{name_and_version} ({tag}): could not be made again when it was looked at"
            )
        elif kept_version.packaged_tar != kept_version.published_tar:
            self.report.differs.append(
                f"{name_and_version}: {tag} gives the tar {kept_version.packaged_tar}, published "
                f"is {kept_version.published_tar}"
            )
        else:
            (self.report.published if new else self.report.kept).append(name_and_version)

    def _note_not_remade(self, version: Version, reason: Unpackageable) -> None:
        """Report a version that cannot be packaged: a failure only if it is not published."""
        key = (version.name, version.version)
        published_digest = self._published.digest(*key)
        if published_digest is not None:
            self._decided.done[key] = KeptVersion(*key, "", "", published_digest)
        elif reason.lasting:
            self._decided.unmakeable[key] = reason.refusal
        elif reason.lacks and not version.released and not version.contents:
            self._decided.waiting[key] = Waiting(
                *key, reason.lacks, self._own_dependencies.has(reason.lacks)
            )
        self._note_refusal(reason.tag, reason.refusal)

    def _note_refusal(self, tag: str, refusal: Refusal) -> None:
        """Report what cannot be made: a failure, unless the version is published or withdrawn."""
        key = (refusal.name, refusal.version)
        line = f"{refusal.subject} ({tag}): {refusal.reason}"
        if refusal.no_chart:
            self.report.without_chart.append(f"{tag}: {refusal.reason}")
        elif all(key) and self._wanted.is_withdrawn(*key):
            self.report.withdrawn.append(f"{line}; it is withdrawn")
        elif all(key) and self._is_published(key):
            self.report.unmade.append(line)
        else:
            self.report.failed.append(line)

    def _note_plan(self, version: Version, archive: Archive) -> None:
        published_digest = self._published.digest(version.name, version.version)
        description = (
            "would be published, replacing nothing"
            if published_digest is None
            else f"is there ({published_digest or 'digest not asked'})"
        )
        (self.report.published if published_digest is None else self.report.kept).append(
            str(version)
        )
        log.info(
            "%s (tar %s) %s: %s",
            archive.file_name,
            archive.tar_digest,
            description,
            self._repository.url,
        )


def regenerate(
    repository: Writable,
    config: Config,
    version_filter: VersionFilter,
    *,
    source: str | None,
    patterns: Sequence[str],
    tags: str | None,
    own_urls: Sequence[str],
    refuse: Refuse | None,
    state: State,
    jobs: int | None,
    plan: bool,
    again: bool,
) -> Report:
    """See `pipeline_steps.regenerate`; source, patterns and tags default to the configuration.

    own_urls: where the repository is, or is served. refuse: asked about each version that is
    missing there; None allows all.

    Raises:
        UsageError: neither the arguments nor the configuration name a source or charts.
        MachineError, Temporary: the source or the repository cannot be used.
    """
    if source is None and not config.files:
        raise UsageError(
            "no source to regenerate from: there is no pipeline.yaml here",
            advice="give --source PATH or URL of a repository",
        )
    repo, folder = open_tagged(
        source or str(config.root), cache_folder(), config.hosts, config.release.svn_tags
    )
    may_have_records = state.stores is not None or any(
        record.step == "promote" for record in state.records()
    )
    settings = _settings(config, repo, folder, patterns, tags)._replace(
        evidence=may_have_records, charts=version_filter.charts
    )
    run = Regeneration(
        settings,
        repository,
        version_filter,
        state=state,
        own_urls=own_urls,
        refuse=refuse,
        jobs=jobs,
        plan=plan,
    )
    where = without_login(source) if source else str(config.root)
    return run.run(_fitting_tags(repo, settings, where), again=again)


def _settings(
    config: Config, repo: Tagged, folder: str, patterns: Sequence[str], tags: str | None
) -> Settings:
    """What of the configuration decides what a tag gives. Raises UsageError without any charts."""
    patterns = tuple(patterns) or tuple(entry.path for entry in config.charts)
    if not patterns:
        raise UsageError(
            "no charts are configured", advice="give --charts PATTERN, like 'charts/*'"
        )
    return Settings(
        revisions=repo.revisions,
        folder=folder,
        patterns=patterns,
        tags=tags or config.release.tag,
        config_path=config.files[0].name if config.files else "pipeline.yaml",
        snapshots=config.channels.snapshot.images or "",
        images=config.channels.production.images or "",
        image_tag=config.release.image_tag,
        hosts=dict(config.hosts),
    )


def _fitting_tags(repo: Tagged, settings: Settings, where: str) -> list[Tag]:
    """The tags that are meant. Raises UsageError when there are none. where: the source, in it."""
    names = TagPattern(settings.tags)
    tags = list(repo.tags(names.glob).values())
    if settings.charts:
        tags = [tag for tag in tags if any(names.may_name(tag.name, c) for c in settings.charts)]
    if tags:
        built = detect(os.environ).tag
        return [_with_text(repo, tag) if tag.name == built else tag for tag in tags]
    problem = f"no tag fits {settings.tags}"
    if settings.charts:
        problem += f" with the chart {' or '.join(settings.charts)}"
    other_tags = list(repo.tags())[-_SHOWN:]
    advice = (
        f"there are tags like {', '.join(other_tags)}"
        if other_tags
        else "the source has no tags here"
    )
    raise UsageError(problem, where=where, advice=f"{advice}; correct --tags")


def _with_text(repo: Tagged, tag: Tag) -> Tag:
    """The tag that CI builds, of which its checkout may have the commit only."""
    return repo.remote_tag(tag) if not tag.message and isinstance(repo, RemoteTags) else tag


def _with_recorded_images(
    version: Version, recorded: Mapping[tuple[str, str | None, str], Mapping[str, str]]
) -> Version:
    """The version, with the images in a promote record of one of its contents if there is one."""
    for content, format in version.contents:
        images = recorded.get((version.name, content, version.version))
        if images is not None:
            return version._replace(
                released=TaggedRelease(version.version, content, images, format)
            )
    return version


def _plain_values(value: Settings | VersionFilter) -> list[object]:
    """The settings that decide what a tag gives, as plain values, without logins."""
    if isinstance(value, VersionFilter):
        return [sorted(value.withdrawn), list(value.charts), list(value.shard or ())]
    pull_hosts = {name: host.pull_as for name, host in sorted(value.hosts.items()) if host.pull_as}
    strings = [
        value.folder,
        value.tags,
        value.config_path,
        value.snapshots,
        value.images,
        value.image_tag or "",
    ]
    return [str(value.revisions.root), *strings, list(value.patterns), pull_hosts, value.evidence]


def _map_in_batches(
    map_tasks: MapTasks, items: list[Any], at_once: int
) -> Iterator[tuple[Any, Any]]:
    """Each item with its result; the workers get batches of `at_once` items."""
    parts = [items[start : start + at_once] for start in range(0, len(items), at_once)]
    for part, results in zip(parts, map_tasks(parts), strict=True):
        yield from zip(part, results, strict=True)
