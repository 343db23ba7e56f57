"""What differs between two revisions, file by file, so that two such differences can be compared.

"The same lines were added and removed" holds across a clean rebase, a cherry-pick, a squash, and
another review that was merged before. Where the lines stand is not compared. Bytes are compared as
the source stores them: another line end is another line. A rename is a removed and an added file.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pipeline_steps.charts.paths import contains
from pipeline_steps.sources.source import Source, Tree
from pipeline_steps.toolbox.files import sha256

#: Pairs of equal lines above which files are not compared line by line: it could take minutes.
MOST_PAIRS = 4_000_000

#: A line with its sign: "-" removed, "+" added.
Line = tuple[Literal["-", "+"], bytes]


class FileChange(NamedTuple):
    """How one file differs. kinds: before and after, "" where there is none.

    lines: removed and added ones in their order; or, of files that are not text, what was before
    and after by digest.
    """

    kinds: tuple[str, str]
    lines: tuple[Line, ...]


def changed_paths(
    source: Source, folder: str, before: str | None, after: str, places: Iterable[str]
) -> list[str]:
    """The paths below `folder`, and below one of `places` there, that differ between two revisions.

    before: None for a revision without files.
    """
    changed: Iterable[str]
    if before is None:
        changed = source.tree(after, folder).entries()
    else:
        changed = source.changed(before, after, folder)
    return [path for path in changed if any(contains(place, path) for place in places)]


def file_changes(
    source: Source, folder: str, before: str | None, after: str, paths: Sequence[str]
) -> dict[str, FileChange]:
    """How these files differ between two revisions, by path below `folder`; before: None for a
    revision without files.
    """
    earlier = _files(source.tree(before, folder), paths) if before is not None else {}
    later = _files(source.tree(after, folder), paths)
    changes = {path: file_change(earlier.get(path), later.get(path)) for path in paths}
    return {path: change for path, change in changes.items() if change is not None}


class File(NamedTuple):
    """kind: see `source.Entry`. data: its bytes; of a nested repository its id."""

    kind: str
    data: bytes


def _files(tree: Tree, paths: Iterable[str]) -> Mapping[str, File]:
    entries = {path: tree.entries()[path] for path in paths if path in tree.entries()}
    read = tree.read([path for path, entry in entries.items() if entry.kind != "submodule"])
    return {
        path: File(entry.kind, read[path] if path in read else entry.id.encode())
        for path, entry in entries.items()
    }


def file_change(before: File | None, after: File | None) -> FileChange | None:
    """How two states of a file differ (None: it is not there); None when they do not."""
    if before == after:
        return None
    kinds = (before.kind if before else "", after.kind if after else "")
    data = (before.data if before else b"", after.data if after else b"")
    if {"link", "submodule"}.intersection(kinds):
        return FileChange(kinds, _whole(*data))
    return FileChange(kinds, changed_lines(*data))


def changed_lines(before: bytes, after: bytes) -> tuple[Line, ...]:
    """The removed and added lines, with their ends; of bytes that are no text, or of too many
    equal lines, the digests of both.

    >>> changed_lines(b"a\\nb\\nc\\n", b"a\\nB\\nc\\n")
    (('-', b'b\\n'), ('+', b'B\\n'))
    """
    if b"\0" in before or b"\0" in after:
        return _whole(before, after)
    old_lines, new_lines = _lines(before), _lines(after)
    # What most files have in common is not worth the search, and makes it slow.
    start = 0
    while start < min(len(old_lines), len(new_lines)) and old_lines[start] == new_lines[start]:
        start += 1
    end = 0
    while (
        end < min(len(old_lines), len(new_lines)) - start
        and old_lines[-1 - end] == new_lines[-1 - end]
    ):
        end += 1
    old_lines, new_lines = (
        old_lines[start : len(old_lines) - end],
        new_lines[start : len(new_lines) - end],
    )
    counts = Counter(old_lines), Counter(new_lines)
    if sum(number * counts[1][line] for line, number in counts[0].items()) > MOST_PAIRS:
        return _whole(before, after)
    changed: list[Line] = []
    for word, i, j, k, m in difflib.SequenceMatcher(
        None, old_lines, new_lines, False
    ).get_opcodes():
        if word != "equal":
            changed += [("-", line) for line in old_lines[i:j]]
            changed += [("+", line) for line in new_lines[k:m]]
    return tuple(changed)


def _lines(data: bytes) -> list[bytes]:
    # Not splitlines, which also ends lines at other characters than git.
    lines = data.split(b"\n")
    ended = [line + b"\n" for line in lines[:-1]]
    return [*ended, lines[-1]] if lines[-1] else ended


def _whole(before: bytes, after: bytes) -> tuple[Line, ...]:
    return ("-", sha256(before).encode()), ("+", sha256(after).encode())
