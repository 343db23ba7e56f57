"""Tags of a Subversion project: copies of a branch's folder in `tags`, read from one log.

Nothing keeps people from committing into such a copy, or from copying onto it: svn then puts the
copy inside, and says that all is well.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from pipeline_steps.sources import svn_layout as layout
from pipeline_steps.sources import svn_program as program
from pipeline_steps.sources.source import Tag
from pipeline_steps.sources.svn_layout import Revision, is_below, join
from pipeline_steps.sources.svn_repository import Change, LogEntry, Repository, along
from pipeline_steps.toolbox import files, scratch
from pipeline_steps.toolbox.errors import (
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
    UsageError,
)

log = logging.getLogger(__name__)

#: Names that svn or its layout would take for something else.
_IMPOSSIBLE = ("", ".", "..")


class SvnTag(NamedTuple):
    """A tag as the log tells it.

    created: the number that made it. source: what it copied, (branch, number); None where it is no
    copy of a branch. changed: the newest number that changed something in it afterwards, 0 for none.
    """

    created: int
    date: str
    message: str
    source: tuple[str, int] | None
    changed: int = 0


class Tags:
    """The tags of a project. folder: its `tags`, else that of `release.svn_tags`; None for a
    repository without a layout, of which the configuration does not say it.
    """

    def __init__(self, repository: Repository, folder: str | None) -> None:
        self._repository = repository
        self._folder = folder

    def all(self, pattern: str = "*") -> dict[str, Tag]:
        """Tags by name, those whose name fits the shell pattern, as the server has them now.

        A tag that was changed after it was made names what is in it now, and is warned of.
        """
        stored_tags = {
            name: tag for name, tag in self._read().items() if fnmatchcase(name, pattern)
        }
        revisions = self._revisions(stored_tags)
        for name, tag in stored_tags.items():
            if tag.changed and name not in self._repository.warned:
                self._repository.warned.add(name)
                log.warning("%s", _moved(name, tag))
        return {
            name: Tag(name, str(revisions[name]), tag.message, _rfc3339(tag.date))
            for name, tag in sorted(stored_tags.items())
        }

    def require_unchanged(self, name: str) -> Tag | None:
        """The tag of exactly that name. Raises EvidenceError when it was changed after it was
        made.
        """
        tag = self._read().get(name)
        if tag is None:
            return None
        if tag.changed:
            raise EvidenceError(
                _moved(name, tag),
                where=self._repository.url,
                advice=f"svn log -v -r {tag.changed} {self._repository.url} says what; a tag is "
                "never moved: release under another version",
            )
        revision = self._revisions({name: tag})[name]
        return Tag(name, str(revision), tag.message, _rfc3339(tag.date))

    # -- reading -------------------------------------------------------------------------------

    def _read(self) -> dict[str, SvnTag]:
        if self._folder is None:
            return {}
        newest = self._repository.require("", "HEAD").revision
        entries = self._repository.log(self._folder, newest, 1)
        if entries is None:  # nobody made the folder yet
            return {}
        reading = _Reading()
        for entry, folder, _ in reversed(list(along(self._folder, entries))):
            for change in sorted(entry.changes, key=_order):
                if change.path != folder and is_below(change.path, folder):
                    reading.take(entry, folder, layout.below(change.path, folder), change)
        return reading.tags()

    def _revisions(self, tags: Mapping[str, SvnTag]) -> dict[str, Revision]:
        """What each tag names: of a pure copy the newest change of its source then."""
        numbers: dict[str, list[int]] = {}
        for tag in tags.values():
            if tag.source is not None and not tag.changed:
                numbers.setdefault(tag.source[0], []).append(tag.source[1])
        changes = {branch: self._changes(branch, each) for branch, each in numbers.items()}
        return {name: self._revision(name, tag, changes) for name, tag in tags.items()}

    def _revision(self, name: str, tag: SvnTag, changes: Mapping[str, list[int]]) -> Revision:
        uuid = self._repository.uuid
        if tag.source is None or tag.changed:
            return Revision(tag.changed or tag.created, uuid, join(self._folder or "", name))
        branch, number = tag.source
        place = bisect.bisect_right(changes[branch], number)
        changed = changes[branch][place - 1] if place else 0
        if not changed:
            changed = self._repository.require(branch, number).changed
        return Revision(changed, uuid, branch)

    def _changes(self, branch: str, numbers: list[int]) -> list[int]:
        """The numbers, sorted, that changed a branch between the first and the last of some."""
        if len(set(numbers)) == 1:
            return []
        return self._repository.numbers(branch, max(numbers), min(numbers))

    # -- creating ------------------------------------------------------------------------------

    def create(self, name: str, revision: Revision, message: str) -> Tag:
        """Copy a branch at a revision to `tags/NAME`; the same tag again is success.

        Raises Conflict when the name exists with another revision, UsageError for an impossible
        name, and where there is no folder for tags, or it is in the branch.
        """
        self._require_possible(name)
        if self._folder is None:
            raise UsageError(
                "there is no place for tags: no folder above is called trunk, branches or tags",
                where=self._repository.url,
                advice="name their folder in release.svn_tags of pipeline.yaml, or move what is "
                "here into trunk (svn move), and make tags beside it (svn mkdir)",
            )
        if is_below(self._folder, revision.branch):
            raise UsageError(
                f"the tags' folder {self._folder} is in what would be tagged, "
                f"{revision.branch or 'the whole repository'}: each tag would have all others in it",
                where=self._repository.url,
                advice="check out a folder beside it, or name another one in release.svn_tags",
            )
        existing = self.require_unchanged(name)
        if existing is None and self._exists(name):
            existing = self.require_unchanged(name)  # somebody else may have made it since
            if existing is None:
                raise Conflict(
                    f"the name {name} exists among the tags, and is no tag",
                    where=self._repository.url,
                    advice="a tag is never moved: raise the version, or choose another name",
                )
        if existing is None:
            failure = self._copy(name, revision, message)
            existing = self.require_unchanged(name)
            if existing is None:
                raise failure or MachineError(
                    f"svnmucc copied to {name}, but the server does not have the tag",
                    where=self._repository.url,
                    advice="run it again; a hook of the server may refuse tags",
                )
        self._refuse_other(existing, revision)
        return existing

    def _require_possible(self, name: str) -> None:
        parts = name.split("/")
        if any(part in _IMPOSSIBLE for part in parts) or name.startswith("-") or not all(
            character.isprintable() for character in name
        ):  # fmt: skip
            raise UsageError(
                f"{name!r} cannot be the name of a tag",
                where=self._repository.url,
                advice="correct release.tag",
            )

    def _exists(self, name: str) -> bool:
        """Whether the name is taken now, by a tag or by a folder of tags."""
        return self._repository.facts(join(self._folder or "", name), "HEAD") is not None

    def _copy(self, name: str, revision: Revision, message: str) -> PipelineError | None:
        """Make the copy in one commit, with the folders above it. Returns what went wrong."""
        url, path = self._repository.url, join(self._folder or "", name)
        parts = path.split("/")
        above = ["/".join(parts[:end]) for end in range(1, len(parts))]
        missing = [each for each in above if self._repository.facts(each, "HEAD") is None]
        actions = [word for each in missing for word in ("mkdir", program.joined(url, each))]
        source = program.joined(url, revision.branch)
        actions += ["cp", str(revision.number), source, program.joined(url, path)]
        with scratch.folder("tag") as folder_of_text:
            text = folder_of_text / "message"
            files.write(text, (message or name).encode("utf-8", "surrogateescape"), durable=False)
            try:
                # Not `svn copy`, which puts the copy inside of one that exists.
                self._repository.programs.output(
                    "-F", str(text), *actions, url=url, program="svnmucc"
                )
            except (MachineError, Temporary) as error:
                return error
        return None

    def _refuse_other(self, tag: Tag, revision: Revision) -> None:
        if tag.revision == str(revision):
            return
        existing = layout.parse_revision(tag.revision)
        shown = f"{existing.branch}@{existing.number}" if existing else tag.revision
        raise Conflict(
            f"the tag {tag.name} exists on the server and names {shown}, not "
            f"{revision.branch}@{revision.number}",
            where=self._repository.url,
            advice="a tag is never moved: raise the version, or tag that revision",
        )


def _at_or_above(path: str) -> Iterator[str]:
    """The folders above a path, the topmost first, and itself.

    >>> list(_at_or_above("a/b/c"))
    ['a', 'a/b', 'a/b/c']
    """
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts) + 1))


class _Reading:
    """Tags while the log is read, oldest revision first."""

    def __init__(self) -> None:
        self._tags: dict[str, SvnTag] = {}
        #: All that ever had a name, oldest first: what is copied may be gone.
        self._former: dict[str, list[SvnTag]] = {}
        #: Folders that are no copies: of tags, or tags that were made file by file.
        self._folders: dict[str, SvnTag] = {}

    def take(self, entry: LogEntry, tags: str, path: str, change: Change) -> None:
        """Take one changed path. tags: what the folder of tags was called then. path: below it."""
        above = next((name for name in _at_or_above(path) if name in self._tags), None)
        if above is not None and path != above:
            self._note_change(above, entry)
            return
        if change.action in ("D", "R"):
            self._tags = {name: tag for name, tag in self._tags.items() if not is_below(name, path)}
            self._folders.pop(path, None)
        if change.action not in ("A", "R"):
            return
        tag = SvnTag(entry.number, entry.date, entry.message, change.source)
        if change.source is not None and not layout.split(change.source[0]).below:
            self._set(path, self._resolved(tag, tags))
            for end in range(1, path.count("/") + 1):  # what is above is a folder of tags
                self._folders.pop("/".join(path.split("/")[:end]), None)
        elif "/" not in path:
            if change.kind != "file":
                self._folders[path] = tag._replace(source=None)
        elif (first := path.partition("/")[0]) in self._folders and change.kind == "file":
            self._set(first, self._folders.pop(first)._replace(created=entry.number))

    def _set(self, name: str, tag: SvnTag) -> None:
        self._tags[name] = tag
        self._former.setdefault(name, []).append(tag)

    def _note_change(self, name: str, entry: LogEntry) -> None:
        tag = self._tags[name]
        if entry.number == tag.created:  # a copy of a working copy: of several revisions
            tag = tag._replace(source=None)
        else:
            tag = tag._replace(changed=entry.number)
        self._tags[name] = self._former[name][-1] = tag

    def _resolved(self, tag: SvnTag, tags: str) -> SvnTag:
        """A copy of a tag names what that one names, if it is a pure one."""
        if tag.source is None:
            return tag
        branch = layout.split(tag.source[0]).branch
        tags = layout.split(branch).tags or tags
        name = layout.below(branch, tags) if is_below(branch, tags) else ""
        then = [each for each in self._former.get(name, ()) if each.created <= tag.source[1]]
        if then and then[-1].source is not None and not then[-1].changed:
            return tag._replace(source=then[-1].source)
        return tag

    def tags(self) -> dict[str, SvnTag]:
        return self._tags


def _order(change: Change) -> tuple[str, bool]:
    """Folders before what is in them; a removal before what takes its place."""
    return change.path, change.action != "D"


def _moved(name: str, tag: SvnTag) -> str:
    return f"the tag {name}, made in revision {tag.created}, was changed in {tag.changed}"


def _rfc3339(date: str) -> str:
    return f"{date[:19]}Z" if date else ""
