"""Subversion: a working copy, or a repository by its URL, through the `svn` programs.

The server has the history: counts, logs and tags are asked there, about a revision that stays the
same however many are committed meanwhile. Passwords come from `hosts` (never as an argument), else
svn's own store is used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

from pipeline_steps.auth.hosts import Host
from pipeline_steps.sources import svn_layout as layout
from pipeline_steps.sources import svn_program as program
from pipeline_steps.sources.source import Node, Tag, Tree, refuse_password, without_login
from pipeline_steps.sources.svn_dump import EXECUTABLE, EXTERNALS, SPECIAL
from pipeline_steps.sources.svn_layout import Place, Revision, is_below, join
from pipeline_steps.sources.svn_program import Programs
from pipeline_steps.sources.svn_repository import (
    NEWEST,
    Change,
    Facts,
    LogEntry,
    Repository,
    along,
    facts,
    origin,
)
from pipeline_steps.sources.svn_revisions import Revisions
from pipeline_steps.sources.svn_tags import Tags
from pipeline_steps.sources.svn_tree import Base, WorkingTree
from pipeline_steps.sources.tree import StoredTree, is_pipeline_output
from pipeline_steps.toolbox.errors import MachineError, UsageError

#: Log entries that are asked for beyond those that are needed: some only copied the branch.
_SPARE = 8
_VERSION = re.compile(r"([0-9]{1,18})(?::([0-9]{1,18}))?([MSP]*)")
#: Revisions in svn:mergeinfo, which whoever commits can write anything into.
_MERGED = re.compile(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\*?\s*")


class Svn:
    """The working copy with the folder `root`, of a branch or of a folder in it; see
    `source.Source`.

    A revision is the text of a `svn_layout.Revision`. tags_folder: path in the repository of the
    folder of tags, where the layout has none; "" for none.
    """

    system = "svn"
    fetch_command = "svn update"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tags_folder = ""
        self._programs = Programs(str(root), {})

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The logins for its server."""
        return self._programs.hosts

    @hosts.setter
    def hosts(self, hosts: Mapping[str, Host]) -> None:
        self._programs.hosts = hosts

    # -- the working copy ----------------------------------------------------------------------

    @functools.cached_property
    def _facts(self) -> Facts:
        return facts(_entry(self._programs.xml("info", program.local(self.root))))

    @property
    def _place(self) -> Place:
        return layout.split(self._facts.path)

    @functools.cached_property
    def _repository(self) -> Repository:
        return Repository(self._programs, self._facts.root, self._facts.uuid)

    @functools.cached_property
    def revisions(self) -> Revisions:
        """The files of its revisions."""
        return Revisions(self.root, self._repository, self._place.below)

    @functools.cached_property
    def _version(self) -> tuple[int, bool]:
        """The newest number that anything here is of, and whether all is here, and of it."""
        answer = self._programs.output("-n", str(self.root), program="svnversion").decode(
            errors="replace"
        )
        match = _VERSION.fullmatch(answer.strip())
        if match is None:
            raise MachineError(
                f"svnversion says {answer.strip()[:80]!r}",
                where=str(self.root),
                advice="see what svn status says",
            )
        oldest, newest, flags = match.groups()
        whole = newest is None and not set(flags) & {"S", "P"}
        return int(newest or oldest), whole

    @functools.cached_property
    def _own(self) -> Revision:
        number, whole = self._version
        if whole and not self._place.below:
            changed = self._facts.changed
        else:  # what a folder here says of itself may be older than what is in it
            changed = self._repository.require(self._place.branch, number).changed
        if not changed:
            raise UsageError(
                "there is no commit yet", where=str(self.root), advice="commit something first"
            )
        return self._normal(Revision(changed, self._facts.uuid, self._place.branch))

    def _normal(self, revision: Revision) -> Revision:
        """A revision of a branch; of a tag's copy the one that it copied."""
        tags = layout.split(revision.branch).tags or self.tags_folder
        if not tags or not is_below(revision.branch, tags):
            return revision
        name = layout.below(revision.branch, tags)
        tag = Tags(self._repository, tags).require_unchanged(name)
        named = layout.parse_revision(tag.revision) if tag else None
        return named or revision

    def checkout_command(self, revision: str, reference: str) -> str:
        """The working copy at the number of the revision."""
        return f"svn update -r {self._parsed(revision).number}"

    @property
    def remote_url(self) -> str:
        """The URL of the folder that is checked out."""
        return without_login(self._facts.url)

    def revision(self, name: str = "") -> str:
        """The revision of what is checked out, or what `name` is: a number, tag or branch."""
        if not name:
            return str(self._own)
        revision = None if _is_odd(name) else self._revision_by_name(name)
        if revision is None:
            raise UsageError(
                f"there is no revision {name!r} here",
                where=str(self.root),
                advice=f"run {self.fetch_command}, or correct the name: a number, a tag or a branch",
            )
        return str(revision)

    def _revision_by_name(self, name: str) -> Revision | None:
        written = layout.parse_revision(name)
        if written is not None:
            return written if written.uuid == self._facts.uuid else None
        number = layout.parse_number(name)
        if number is not None and (revision := self._at_number(number)) is not None:
            return revision
        if name == NEWEST:
            return self._newest(self._place.branch)
        tag = self._tags.require_unchanged(name)
        if tag is not None:
            return layout.parse_revision(tag.revision)
        branch = self._folder_of_branch(name)
        return self._newest(branch) if branch else None

    def _at_number(self, number: int) -> Revision | None:
        """What the branch was at a number, wherever it was then."""
        branch, newest = self._place.branch, max(number, self._version[0])
        at = self._repository.facts(branch, newest, number)
        return Revision(at.changed, at.uuid, at.path) if at and at.changed else None

    def _folder_of_branch(self, name: str) -> str | None:
        """The folder of a branch by its name: without a layout its path, where tags have a place."""
        return self._place.folder_of_branch(name) or (name if self.tags_folder else None)

    def _newest(self, branch: str) -> Revision | None:
        newest = self._repository.facts(branch, NEWEST)
        return Revision(newest.changed, newest.uuid, branch) if newest else None

    def tree(self, revision: str | None, folder: str) -> Tree:
        """The tree of `revision` below `folder`; None: the working copy with its changes."""
        if revision is not None:
            return StoredTree(self.revisions, str(self._parsed(revision)), folder)
        return WorkingTree(self.revisions, self._programs, folder, lambda: self._base(folder))

    def _base(self, folder: str) -> Base:
        number, whole = self._version
        return Base(join(self._facts.path, folder), number, str(self._own), whole)

    def is_versioned(self, path: str) -> bool:
        """Whether a file is versioned, or was added."""
        answer = self._programs.xml_if_there("info", program.local(self.root / path))
        entry = answer.find("entry") if answer is not None else None
        return entry is not None and entry.findtext("wc-info/schedule") != "delete"

    def is_tracked(self, path: str) -> bool:
        """Whether the working copy has a file from the server, or it was added."""
        parts = path.split("/")
        places = [self.root / "/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        # Those that are not versioned are left out of the answer.
        answer = self._programs.call("info", "--xml", *map(program.local, places))
        kinds = {
            entry.get("path"): entry.get("kind")
            for entry in self._programs.parsed(answer.completed.stdout, "info").iter("entry")
        }
        return str(places[-1]) in kinds or "file" in kinds.values()

    # -- branches ------------------------------------------------------------------------------

    def branch(self) -> str | None:
        """The name of the branch that is checked out: trunk, or its name in `branches`; None for
        a tag.
        """
        place = self._place
        if place.tags is None and self.tags_folder and is_below(place.branch, self.tags_folder):
            return None
        return place.name

    def tip(self, branch: str) -> str:
        """The newest revision of a branch on the server."""
        folder = None if _is_odd(branch) else self._folder_of_branch(branch)
        newest = self._newest(folder) if folder else None
        if newest is None:
            raise UsageError(
                f"the branch {branch!r} is not on the server",
                where=str(self.root),
                advice="name one of those that svn ls ^/branches shows",
            )
        return str(newest)

    def base(self, target: str) -> str:
        """The newest revision that both what is checked out and `target` come from: where one was
        copied from the other, or what was merged from there since.
        """
        folder = None if _is_odd(target) else self._folder_of_branch(target)
        target_revision = (self._newest(folder) if folder else None) or self._parsed(target)
        return str(self._common(self._own, target_revision, target))

    def _common(self, own: Revision, target_revision: Revision, target: str) -> Revision:
        lines = [(own, [own]), (target_revision, [target_revision])]
        while True:
            for ancestor in lines[0][1]:
                for other in lines[1][1]:
                    if ancestor.branch == other.branch:
                        number = min(ancestor.number, other.number)
                        base = ancestor._replace(number=number)
                        return self._with_merges(own, target_revision, base)
            steps = [self._origin(line[-1]) for _, line in lines]
            if steps == [None, None]:
                raise UsageError(
                    f"what is checked out and {target} have no common ancestor",
                    where=str(self.root),
                    advice="name a branch that this one came from: --since",
                )
            for step, (_, line) in zip(steps, lines, strict=True):
                if step is not None:
                    line.append(step)

    def _origin(self, revision: Revision) -> Revision | None:
        """What the branch of a revision was copied from; None for one that was not."""
        first = self._repository.first(revision.branch, revision.number)
        source = origin(revision.branch, first.changes) if first else None
        return Revision(source[1], revision.uuid, source[0]) if source else None

    def _with_merges(self, own: Revision, source: Revision, base: Revision) -> Revision:
        """The newest revision of `source` that `own` has merged without a gap after `base`."""
        number = base.number
        if source.branch == base.branch != own.branch:
            text = self._repository.properties(own.branch, own.number).get("svn:mergeinfo", "")
            merged = _merged(text, source.branch)
            if merged and source.number > number:
                changes = self._repository.numbers(source.branch, source.number, number + 1)
                for each in changes:
                    if not any(first <= each <= last for first, last in merged):
                        break
                    number = each
        changed = self._repository.require(base.branch, number).changed
        return base._replace(number=changed)

    # -- history -------------------------------------------------------------------------------

    def changed(self, base: str, revision: str, folder: str) -> tuple[str, ...]:
        """Paths below `folder` that differ between two revisions."""
        paths = self._different(self._parsed(base), self._parsed(revision))
        below = f"{folder}/" if folder else ""
        relative = (path[len(below) :] for path in paths if path.startswith(below))
        return tuple(sorted(path for path in relative if not is_pipeline_output(path)))

    def _different(self, base: Revision, revision: Revision) -> list[str]:
        if base == revision:
            return []
        url, inside = self._repository.url, self._place.below
        old, new = (join(each.branch, inside) for each in (base, revision))
        compared = (
            "--old", program.pegged(url, old, base.number),
            "--new", program.pegged(url, new, revision.number),
        )  # fmt: skip
        answer = self._programs.xml_if_there("diff", "--summarize", *compared, url=url)
        if answer is None:  # the folder is in one of them only
            return self._differing_trees(base, revision)
        paths = []
        for each in answer.iter("path"):
            path = self._relative(each.text or "", old, new)
            item, kind = each.get("item"), each.get("kind")
            if kind == "dir":
                # A folder's property may bring files that no folder has.
                if item != "none" or each.get("props") != "none":
                    ends = ((old, base.number), (new, revision.number))
                    if any(self._has_externals(join(end, path), at) for end, at in ends):
                        return self._differing_trees(base, revision)
            elif item != "none" or self._kind_differs(path, (old, base), (new, revision)):
                paths.append(path)
        return paths

    def _relative(self, url: str, old: str, new: str) -> str:
        path = unquote(url, errors="surrogateescape")
        root = unquote(self._repository.url, errors="surrogateescape")
        path = path[len(root) + 1 :] if path.startswith(f"{root}/") else path
        return next((layout.below(path, end) for end in (old, new) if is_below(path, end)), path)

    def _has_externals(self, path: str, number: int) -> bool:
        return EXTERNALS in self._repository.properties(path, number)

    def _kind_differs(self, path: str, *ends: tuple[str, Revision]) -> bool:
        kinds = [
            {EXECUTABLE, SPECIAL} & self._repository.properties(join(end, path), at.number).keys()
            for end, at in ends
        ]
        return kinds[0] != kinds[1]

    def _differing_trees(self, base: Revision, revision: Revision) -> list[str]:
        with self.revisions:
            self.revisions.prepare([str(base), str(revision)])
            ids = [self.revisions.folder(str(each), "") for each in (base, revision)]
            nodes = [Node("", "folder", each) if each else None for each in ids]
            return list(_differences(self.revisions, "", nodes[0], nodes[1]))

    def history(
        self, revision: str, paths: Sequence[str], limit: int, after: str = ""
    ) -> tuple[str, ...]:
        """The revisions that changed one of `paths`. One that only copied the branch is none."""
        newest = self._parsed(revision)
        oldest = self._parsed(after).number + 1 if after else 1
        distinct = tuple(dict.fromkeys("" if path == "." else path for path in paths))
        inside = tuple(join(self._place.below, path) for path in distinct)
        asked = () if "" in inside else inside
        count = limit + _SPARE
        while newest.number >= oldest:
            entries = self._repository.log(newest.branch, newest.number, oldest, count, asked)
            if entries is None:  # one of the paths is not there any more
                asked = ()
                continue
            changes = _changes_of(newest.branch, entries, inside)
            revisions = [Revision(number, newest.uuid, branch) for number, branch in changes]
            if len(revisions) >= limit or len(entries) < count:
                return tuple(str(each) for each in revisions[:limit])
            count *= 4
        return ()

    def position(self, revision: str) -> int:
        """The number of a revision."""
        return self._parsed(revision).number

    def _parsed(self, text: str) -> Revision:
        return (
            layout.parse_revision(text) or layout.parse_revision(self.revision(text)) or self._own
        )

    # -- tags ----------------------------------------------------------------------------------

    @property
    def _tags(self) -> Tags:
        return Tags(self._repository, self._place.tags or self.tags_folder or None)

    def tags(self, pattern: str = "*") -> Mapping[str, Tag]:
        """The tags on the server whose names match the shell pattern."""
        return self._tags.all(pattern)

    def create_tag(self, name: str, revision: str, message: str, *, push: bool) -> Tag:
        """Copy the branch at `revision` to `tags/NAME` on the server."""
        if not push:
            raise UsageError(
                "a Subversion tag exists on the server only, and --local forbids to push",
                where=str(self.root),
                advice="leave out --local; to `run`, give --channels configured",
            )
        return self._tags.create(name, self._parsed(revision), message)


class SvnRepository:
    """A repository by its URL; see `source.Tagged`. place: what the URL names in it. tags_folder:
    as `Svn` has it.
    """

    def __init__(self, root: Path, repository: Repository, place: Place) -> None:
        self.tags_folder = ""
        self.revisions = Revisions(root, repository, place.below)
        self._repository = repository
        self._place = place

    def tags(self, pattern: str = "*") -> Mapping[str, Tag]:
        """The tags on the server whose names match the shell pattern."""
        return Tags(self._repository, self._place.tags or self.tags_folder or None).all(pattern)


def top(marked: Path, path: Path) -> Path:
    """The folder of the branch that `path` is in, in the working copy with the top folder `marked`.

    It is `marked`, unless a whole project is checked out, with trunk and tags in it.
    """
    inside = path.relative_to(marked).as_posix()
    if inside == "." or not any(
        part in (layout.TRUNK, layout.BRANCHES, layout.TAGS) for part in path.relative_to(marked).parts
    ):  # fmt: skip
        return marked
    above = facts(_entry(Programs(str(marked), {}).xml("info", program.local(marked)))).path
    if layout.split(above).project is not None:
        return marked
    branch = layout.split(join(above, inside)).branch
    return marked / layout.below(branch, above)


def is_bare(folder: Path) -> bool:
    """Whether `folder` is a repository as svnadmin makes it."""
    return (folder / "format").is_file() and (folder / "db" / "fs-type").is_file()


def bare(folder: Path) -> SvnRepository:
    """The repository in a folder of this machine."""
    return mirror(folder.as_uri(), folder, {})


def mirror(url: str, _cache: Path, hosts: Mapping[str, Host]) -> SvnRepository:
    """The repository at a URL: of a branch or a folder in it, or of a project, for its trunk.

    Nothing is copied. Raises UsageError for a password in the URL, AccessRefused, Unreachable,
    Temporary, MachineError.
    """
    address = urlsplit(url)
    refuse_password(url, "write it into `hosts` of the configuration, as ${NAME} or file:PATH")
    if address.scheme in ("svn+http", "svn+https", "svn+file"):
        url = url.removeprefix("svn+")
    url = url.rstrip("/")
    programs = Programs(url, hosts)
    found = facts(_entry(programs.xml("info", f"{url}@{NEWEST}", url=url)))
    repository = Repository(programs, found.root, found.uuid)
    place = layout.split(found.path)
    if place.project is None and layout.TRUNK in repository.names(found.path):
        place = Place(found.path, join(found.path, layout.TRUNK), "")
    return SvnRepository(Path(url), repository, place)


def _entry(answer: Element) -> Element:
    entry = answer.find("entry")
    if entry is None:
        raise MachineError("svn info printed nothing", advice=program.ADVICE)
    return entry


def _is_odd(name: str) -> bool:
    """Whether a name cannot be one of a revision, a tag or a branch."""
    return not name or name.startswith("-") or not name.isprintable()


def _changes_of(
    branch: str, entries: list[LogEntry], paths: tuple[str, ...]
) -> Iterator[tuple[int, str]]:
    """Number and branch then of the log entries that changed one of `paths` in the branch."""
    for entry, then, _ in along(branch, entries):
        full = [join(then, path) for path in paths]
        if any(_concerns(change, then, path) for change in entry.changes for path in full):
            yield entry.number, then


def _concerns(change: Change, branch: str, path: str) -> bool:
    """Whether a change is one of a path in a branch; what happened to the branch's folder is none."""
    if is_below(branch, change.path):
        return False
    if is_below(change.path, path):
        return True
    return change.action != "M" and is_below(path, change.path)


def _merged(text: str, branch: str) -> list[tuple[int, int]]:
    """The ranges of revisions of a branch that svn:mergeinfo says were merged. What is no range
    says nothing.

    >>> _merged("/branches/x:3\\n/trunk:5-7,9*", "trunk")
    [(5, 7), (9, 9)]
    """
    for line in text.split("\n"):
        path, _, ranges = line.rpartition(":")
        if path.strip("/") == branch:
            matches = map(_MERGED.fullmatch, ranges.split(","))
            return [(int(each[1]), int(each[2] or each[1])) for each in matches if each]
    return []


def _differences(
    revisions: Revisions, path: str, left: Node | None, right: Node | None
) -> Iterator[str]:
    """Paths of files that are in one of two nodes only, or differ."""
    if left is not None and right is not None and left[1:] == right[1:]:
        return
    names = [
        {node.name: node for node in revisions.listing(each.id)}
        if each is not None and each.kind == "folder"
        else {}
        for each in (left, right)
    ]
    if any(each is not None and each.kind != "folder" for each in (left, right)):
        yield path
    for name in sorted(names[0].keys() | names[1].keys()):
        yield from _differences(revisions, join(path, name), names[0].get(name), names[1].get(name))
