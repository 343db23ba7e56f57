"""A chart repository made anew from tags: what is missing, who makes it, what came of each version.

Published archives win: a version that is there keeps its bytes, whatever its tag would give today.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline_steps.building import image_records
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.archive import Archive
from pipeline_steps.config.language import Config
from pipeline_steps.regeneration.filling import Report, Standing, Wanted, adopt, emptied, index_of
from pipeline_steps.regeneration.ledger import Kept, Ledger
from pipeline_steps.regeneration.repackaging import Remaker, Settings, Unfit, Version
from pipeline_steps.repositories.fetch import cache_folder
from pipeline_steps.repositories.repository import Indexed, Publication, Published, Writable
from pipeline_steps.sources.kinds import open_tagged
from pipeline_steps.sources.source import Tag
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import progress
from pipeline_steps.toolbox.errors import Conflict, EvidenceError, PipelineError, UsageError
from pipeline_steps.toolbox.worker_pool import MapTasks, worker_pool
from pipeline_steps.workspace.tags import Released, TagNames

log = logging.getLogger(__name__)

#: Raise it when the same tag gives other archives than before: what was remembered is then looked
#: at again.
FORMAT = 1
#: Tags and versions that a worker gets at once; fewer versions than this are made in this process.
_TAGS, _VERSIONS = 64, 16


class Looked(NamedTuple):
    """A tag and the versions it stands for. whole: none of them was unfit."""

    tag: Tag
    versions: tuple[Version, ...]
    whole: bool


class Regeneration:
    """One run over the tags of a source into one repository."""

    def __init__(
        self,
        settings: Settings,
        repository: Writable,
        wanted: Wanted,
        *,
        state: State,
        jobs: int | None,
        plan: bool,
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._wanted = wanted
        self._state = state
        self._jobs = jobs or len(os.sched_getaffinity(0))
        self._plan = plan
        self._ledger = Ledger(
            state.folder, [FORMAT, repository.url, *_plain(settings), *_plain(wanted)]
        )
        self._done: dict[tuple[str, str], Kept] = {}
        self.report = Report.empty()

    def run(self, tags: Iterable[Tag], *, again: bool = False) -> Report:
        """Look at every tag that is not done, make what it stands for, publish what is missing.

        again: at all of them. What cannot be made is in the report. Raises MachineError's kinds,
        Temporary.
        """
        known = None if again else self._ledger.same(index_of(self._repository))
        new = None
        try:
            self._there = Standing(self._repository, known)
        except EvidenceError as error:
            new = emptied(self._repository, error, again=again and not self._plan)
            self._there = Standing(new)
        names = TagNames(self._settings.tags)
        meant = sorted(
            (tag for tag in tags if names.fits(tag.name)), key=lambda tag: (tag.created, tag.name)
        )
        open_tags = [tag for tag in meant if again or not self._stands(tag)]
        if open_tags and known:  # what others published meanwhile counts, too
            self._there = Standing(self._repository)
        by_name = sorted(open_tags, key=lambda tag: (names.reading(tag.name) or ("",))[0])
        few = len(open_tags) < _VERSIONS
        with worker_pool(Remaker, self._settings, 1 if few else self._jobs) as map_tasks:
            looked = self._looked(map_tasks, by_name)
            versions = self._versions(looked)
            try:
                self._publish(map_tasks, versions, looked)
            finally:
                if not self._plan:
                    self._ledger.write()
        if new is not None:
            adopt(new, self._wanted, self.report)
        if not self._plan:
            self._ledger.keep_index(index_of(self._repository))
        return self.report

    def _stands(self, tag: Tag) -> bool:
        """Is all that a tag stood for still in the repository, as it was?"""
        done = self._ledger.of(tag)
        if done is None or any(
            self._there.digest(kept.name, kept.version) not in ("", kept.archive)
            for kept in done.versions
        ):
            return False
        for kept in done.versions:
            if (kept.name, kept.version) not in self._done:
                self._told(kept, tag.name, new=False)
        return True

    # -- which versions ---------------------------------------------------------------------------------------

    def _looked(self, map_tasks: MapTasks, tags: list[Tag]) -> list[Looked]:
        """The tags with what they stand for, oldest first; what cannot be packaged is told."""
        found: list[Looked] = []
        with progress.counter("tags read", len(tags)) as advance:
            for tag, result in _one_by_one(map_tasks, tags, _TAGS):
                advance()
                unfit = [one for one in result if isinstance(one, Unfit)]
                for one in unfit:
                    self._failed(one)
                found.append(
                    Looked(
                        tag,
                        tuple(one for one in result if isinstance(one, Version)),
                        whole=not unfit,
                    )
                )
        return sorted(found, key=lambda looked: (looked.tag.created, looked.tag.name))

    def _versions(self, looked: list[Looked]) -> list[Version]:
        """The versions to make; of several tags of one the oldest counts."""
        found: dict[tuple[str, str], Version] = {}
        for one in (one for each in looked for one in each.versions):
            key = (one.name, one.version)
            if not self._wanted.here(*key) or key in self._done:
                continue
            first = found.setdefault(key, one)
            if first.trees != one.trees:
                self.report.differs.append(
                    f"{one} at {one.tag.name} has other files than at {first.tag.name}"
                )
        for key, one in list(found.items()):
            if self._wanted.gone(*key):
                name = "-".join(key)
                cure = f"audit --fix takes {name} out of the index where release.withdrawn has it by that name"
                there = "" if self._there.digest(*key) is None else f", and still published: {cure}"
                self.report.withdrawn.append(f"{one} is withdrawn{there}")
                del found[key]
        return self._with_images(
            sorted(found.values(), key=lambda one: (one.name, one.tag.created))
        )

    def _with_images(self, versions: list[Version]) -> list[Version]:
        """The versions with the images that records know and tags do not name."""
        contents = {content for one in versions for content, _format in one.contents}
        self._state.load_evidence(contents)
        recorded: dict[tuple[str, str | None, str], dict[str, str]] = {}
        for record in self._state.find(step="promote") if contents else ():
            images = {
                name: str(image.digest) for name, image in image_records.images_of(record).items()
            }
            recorded[record.subject, record.content, str(record.parameters.get("version"))] = images
        return [_with_recorded_images(one, recorded) for one in versions]

    # -- making and publishing --------------------------------------------------------------------------------

    def _publish(self, map_tasks: MapTasks, versions: list[Version], looked: list[Looked]) -> None:
        waiting = _Waiting(looked, self._wanted, self._ledger, self._done)
        keys = ((version.name, version.version) for version in versions)
        missing = {
            key for key in keys if self._there.digest(*key) is None
        }  # asked before they are there
        sent: deque[tuple[Version, Archive]] = deque()

        def publications() -> Iterator[Publication]:
            for version, made in _one_by_one(map_tasks, versions, _VERSIONS):
                if isinstance(made, Unfit):
                    self._unmade(version, made)
                    waiting.done((version.name, version.version))
                    advance()
                elif self._plan:
                    self._planned(version, made)
                    advance()
                else:
                    sent.append((version, made))
                    yield Publication(made, created=version.tag.created)

        with progress.counter("versions", len(versions)) as advance:
            for outcome in self._repository.publish_all(publications()):
                version, made = sent.popleft()
                self._outcome(
                    version, made, outcome, new=(version.name, version.version) in missing
                )
                waiting.done((version.name, version.version))
                advance()
        waiting.rest()

    def _outcome(
        self, version: Version, made: Archive, outcome: Published | PipelineError, *, new: bool
    ) -> None:
        if isinstance(outcome, Conflict):
            outcome = self._theirs(version, made, new=new) or outcome
        if isinstance(outcome, Published):
            theirs = (outcome.tar_digest, outcome.archive_digest)
            self._told(
                Kept(version.name, version.version, made.tar_digest, *theirs),
                version.tag.name,
                new=new,
            )
        else:
            self._failed(Unfit(str(version), version.tag.name, str(outcome)))

    def _theirs(self, version: Version, made: Archive, *, new: bool) -> Published | None:
        """What is published under a version that was made otherwise; None when nothing is.

        An archive whose entry the index has lost gets it again.
        """
        repository = self._repository
        try:
            left = (
                repository.read(made.file_name) if new and isinstance(repository, Indexed) else None
            )
            if left is not None:
                theirs = archives.open_archive(left, made.file_name)
                return repository.publish(theirs, created=version.tag.created)
            return repository.find(version.name, version.version)
        except Conflict:
            return None

    def _told(self, kept: Kept, tag: str, *, new: bool) -> None:
        self._done[kept.name, kept.version] = kept
        told = f"{kept.name} {kept.version}"
        if not kept.ours:
            self.report.unmade.append(
                f"{told} ({tag}): could not be made again when it was looked at"
            )
        elif kept.ours != kept.theirs:
            self.report.differs.append(
                f"{told}: {tag} gives the tar {kept.ours}, published is {kept.theirs}"
            )
        else:
            (self.report.published if new else self.report.kept).append(told)

    def _unmade(self, version: Version, why: Unfit) -> None:
        """A version that cannot be packaged: what is published stays, what is missing is a failure."""
        there = self._there.digest(version.name, version.version)
        if there is None:
            self._failed(why)
            return
        self._done[version.name, version.version] = Kept(
            version.name, version.version, "", "", there
        )
        self.report.unmade.append(f"{why.what} ({why.tag}): {why.reason}")

    def _failed(self, one: Unfit) -> None:
        self.report.failed.append(f"{one.what} ({one.tag}): {one.reason}")

    def _planned(self, version: Version, made: Archive) -> None:
        there = self._there.digest(version.name, version.version)
        said = (
            "would be published, replacing nothing"
            if there is None
            else f"is there ({there or 'digest not asked'})"
        )
        (self.report.published if there is None else self.report.kept).append(str(version))
        log.info("%s (tar %s) %s: %s", made.file_name, made.tar_digest, said, self._repository.url)


class _Waiting:
    """Tags whose versions are not all done; those that are go into the ledger."""

    def __init__(
        self,
        looked: Iterable[Looked],
        wanted: Wanted,
        ledger: Ledger,
        done: Mapping[tuple[str, str], Kept],
    ) -> None:
        self._ledger = ledger
        self._done = done
        self._open: dict[str, tuple[Tag, list[tuple[str, str]]]] = {}
        self._tags: dict[tuple[str, str], list[str]] = {}
        for tag, versions, whole in looked:
            keys = [(one.name, one.version) for one in versions]
            meant = [key for key in keys if wanted.here(*key) and not wanted.gone(*key)]
            if whole:
                self._open[tag.name] = (tag, meant)
            for key in meant:
                self._tags.setdefault(key, []).append(tag.name)

    def done(self, key: tuple[str, str]) -> None:
        """A version has its outcome."""
        for name in self._tags.get(key, ()):
            self._close(name)

    def rest(self) -> None:
        """All have their outcome: what stood already, or stands for nothing, is done, too."""
        for name in list(self._open):
            self._close(name)

    def _close(self, name: str) -> None:
        tag, keys = self._open.get(name, (None, []))
        if tag is not None and all(key in self._done for key in keys):
            del self._open[name]
            self._ledger.add(tag, tuple(self._done[key] for key in keys))


def regenerate(
    repository: Writable,
    config: Config,
    wanted: Wanted,
    *,
    source: str | None,
    patterns: Sequence[str],
    tags: str | None,
    state: State,
    jobs: int | None,
    plan: bool,
    again: bool,
) -> Report:
    """See the step of this name; source, patterns, tags default to what the configuration says.

    Raises UsageError when that says nothing, NotYet for sources of other systems, MachineError's
    kinds, Temporary.
    """
    if source is None and not config.files:
        raise UsageError(
            "regenerate from which source?", advice="give --source PATH or URL of a repository"
        )
    repo, folder = open_tagged(source or str(config.root), cache_folder())
    meant = tuple(patterns) or tuple(entry.path for entry in config.charts)
    if not meant:
        raise UsageError("where are the charts?", advice="give --charts PATTERN, like 'charts/*'")
    elsewhere = state.stores is not None or any(
        record.step == "promote" for record in state.records()
    )
    settings = Settings(
        revisions=repo.revisions,
        folder=folder,
        patterns=meant,
        tags=tags or config.release.tag,
        written_in=config.files[0].name if config.files else "pipeline.yaml",
        snapshots=config.channels.snapshot.images or "",
        images=config.channels.production.images or "",
        image_tag=config.release.image_tag,
        hosts=dict(config.hosts),
        evidence=elsewhere,
    )
    run = Regeneration(settings, repository, wanted, state=state, jobs=jobs, plan=plan)
    return run.run(repo.tags(TagNames(settings.tags).pattern).values(), again=again)


def _with_recorded_images(
    version: Version, recorded: Mapping[tuple[str, str | None, str], Mapping[str, str]]
) -> Version:
    """The version with the images of the promote record of one of its contents, if there is one."""
    for content, format in version.contents:
        images = recorded.get((version.name, content, version.version))
        if images is not None:
            return version._replace(released=Released(version.version, content, images, format))
    return version


def _plain(value: Settings | Wanted) -> list[object]:
    """What decides what a tag gives, as plain values; logins do not."""
    if isinstance(value, Wanted):
        return [sorted(value.withdrawn), list(value.charts), list(value.shard or ())]
    seen = {name: host.pull_as for name, host in sorted(value.hosts.items()) if host.pull_as}
    texts = [
        value.folder,
        value.tags,
        value.written_in,
        value.snapshots,
        value.images,
        value.image_tag or "",
    ]
    return [str(value.revisions.root), *texts, list(value.patterns), seen, value.evidence]


def _one_by_one(map_tasks: MapTasks, items: list[Any], at_once: int) -> Iterator[tuple[Any, Any]]:
    """Each item with its result, asked for in parts."""
    parts = [items[start : start + at_once] for start in range(0, len(items), at_once)]
    for part, results in zip(parts, map_tasks(parts), strict=True):
        yield from zip(part, results, strict=True)
