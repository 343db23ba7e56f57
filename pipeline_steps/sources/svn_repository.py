"""What a Subversion server says of paths and revisions: facts, logs, names in a folder."""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

from pipeline_steps.sources import svn_program as program
from pipeline_steps.sources.svn_layout import is_below, join
from pipeline_steps.sources.svn_program import Programs
from pipeline_steps.toolbox.errors import MachineError

#: The newest revision, as svn names it.
NEWEST = "HEAD"


class Facts(NamedTuple):
    """What `svn info` says. path: relative to the repository's root. revision: that was asked.

    changed: the newest revision up to it that changed the path, or something below.
    """

    url: str
    root: str
    uuid: str
    path: str
    kind: str
    revision: int
    changed: int


class Change(NamedTuple):
    """A path that a revision changed. action: A, M, D or R. source: copied from (path, number)."""

    path: str
    action: str
    kind: str
    source: tuple[str, int] | None


class LogEntry(NamedTuple):
    """A revision. date: RFC 3339 with microseconds, "" when the server hides it."""

    number: int
    date: str
    message: str
    changes: tuple[Change, ...]


class Repository:
    """A repository by the URL of its root. Every answer is about a given revision or NEWEST."""

    def __init__(self, programs: Programs, url: str, uuid: str) -> None:
        self.programs = programs
        self.url = url
        self.uuid = uuid
        #: Warnings that were given: once is enough.
        self.warned: set[str] = set()

    def facts(self, path: str, revision: int | str, at: int | str = "") -> Facts | None:
        """What `path`, as it is named in `revision`, is in it; None when it does not exist.

        at: another revision, to which its history is followed; its path there may be another.
        """
        operative = ["-r", str(at)] if at != "" else []
        target = program.pegged(self.url, path, revision)
        answer = self.programs.xml_if_there("info", *operative, target, url=self.url)
        entry = answer.find("entry") if answer is not None else None
        return None if entry is None else facts(entry)

    def require(self, path: str, revision: int | str) -> Facts:
        """Like `facts`. Raises MachineError when it does not exist."""
        path_facts = self.facts(path, revision)
        if path_facts is None:
            raise MachineError(
                f"the repository has no {path or 'root'} at revision {revision}",
                where=self.url,
                advice="run svn info URL: it says what is there",
            )
        return path_facts

    @functools.cached_property
    def newest(self) -> int:
        """The newest revision, when it was first asked for."""
        return self.require("", NEWEST).revision

    def log(
        self, path: str, newest: int, oldest: int, limit: int = 0, below: tuple[str, ...] = ()
    ) -> list[LogEntry] | None:
        """Revisions that changed a path (as named in `newest`), or what is `below` it; newest
        first.

        Copies are followed. None when one of the paths does not exist in `newest`.
        """
        options = ["-v", "-r", f"{newest}:{oldest}", *(["--limit", str(limit)] if limit else [])]
        # In what follows a URL svn reads no peg revision: an "@" is part of the name.
        target = [program.pegged(self.url, path, newest), *(["--", *below] if below else [])]
        answer = self.programs.xml_if_there("log", *options, *target, url=self.url)
        return None if answer is None else [_log_entry(each) for each in answer.iter("logentry")]

    def first(self, path: str, newest: int) -> LogEntry | None:
        """The revision that made a path which exists in `newest`, under this name."""
        target = program.pegged(self.url, path, newest)
        options = ("-v", "--stop-on-copy", "--limit", "1", "-r", f"1:{newest}")
        answer = self.programs.xml_if_there("log", *options, target, url=self.url)
        entry = answer.find("logentry") if answer is not None else None
        return None if entry is None else _log_entry(entry)

    def numbers(self, path: str, newest: int, oldest: int) -> list[int]:
        """The numbers that changed a path (as named in `newest`), oldest first."""
        target = program.pegged(self.url, path, newest)
        options = ("-q", "-r", f"{oldest}:{newest}")
        answer = self.programs.xml_if_there("log", *options, target, url=self.url)
        entries = answer.iter("logentry") if answer is not None else ()
        return sorted(program.number(entry.get("revision", "0")) for entry in entries)

    def names(self, path: str) -> list[str]:
        """The names in a folder, now; none when it does not exist."""
        target = program.pegged(self.url, path, NEWEST)
        answer = self.programs.xml_if_there("list", target, url=self.url)
        return [] if answer is None else [name.text or "" for name in answer.iter("name")]

    def files(self, path: str, revision: int) -> dict[str, tuple[str, int]]:
        """Path below `path` → kind, and the revision that changed it last; recursively.

        Nothing when the path does not exist.
        """
        target = program.pegged(self.url, path, revision)
        answer = self.programs.xml_if_there("list", "-R", target, url=self.url)
        if answer is None:
            return {}
        return {
            entry.findtext("name", ""): (entry.get("kind", ""), _number(entry.find("commit")))
            for entry in answer.iter("entry")
        }

    def properties(self, path: str, revision: int) -> dict[str, str]:
        """The properties of a path; none when it does not exist."""
        target = program.pegged(self.url, path, revision)
        answer = self.programs.xml_if_there("proplist", "-v", target, url=self.url)
        return {} if answer is None else properties(answer)


def facts(entry: ElementTree.Element) -> Facts:
    """One `entry` of `svn info --xml`."""
    repository = entry.find("repository")  # one step each: paths like "a/b" take five times as long
    return Facts(
        entry.findtext("url", ""),
        "" if repository is None else repository.findtext("root", ""),
        "" if repository is None else repository.findtext("uuid", ""),
        unquote(entry.findtext("relative-url", "^/"), errors="surrogateescape")[2:],
        entry.get("kind", ""),
        program.number(entry.get("revision", "0")),
        _number(entry.find("commit")),
    )


def properties(element: ElementTree.Element) -> dict[str, str]:
    """The properties in a `target` of `svn proplist -v --xml`."""
    return {each.get("name", ""): each.text or "" for each in element.iter("property")}


def _number(commit: ElementTree.Element | None) -> int:
    return 0 if commit is None else program.number(commit.get("revision", "0"))


def _log_entry(entry: ElementTree.Element) -> LogEntry:
    return LogEntry(
        program.number(entry.get("revision", "0")),
        entry.findtext("date", ""),
        entry.findtext("msg", ""),
        tuple(_change(path) for path in entry.iter("path")),
    )


def _change(path: ElementTree.Element) -> Change:
    copied = path.get("copyfrom-path")
    source = (
        (copied[1:], program.number(path.get("copyfrom-rev", "0"))) if copied is not None else None
    )
    return Change((path.text or "")[1:], path.get("action", ""), path.get("kind", ""), source)


def origin(path: str, changes: tuple[Change, ...]) -> tuple[str, int] | None:
    """Where a path was before a revision that copied it, or a folder above it; None: no copy."""
    for change in changes:
        if change.source and is_below(path, change.path):
            return join(change.source[0], path[len(change.path) + 1 :]), change.source[1]
    return None


def along(path: str, entries: list[LogEntry]) -> Iterator[tuple[LogEntry, str, bool]]:
    """Each entry of a path's log (newest first), the path's name then, and whether the entry only
    copied it: then nothing below it changed.
    """
    for entry in entries:
        before = origin(path, entry.changes)
        inside = [change for change in entry.changes if is_below(change.path, path)]
        copied = before is not None and all(change.path == path for change in inside)
        yield entry, path, copied
        if before is not None:
            path = before[0]
