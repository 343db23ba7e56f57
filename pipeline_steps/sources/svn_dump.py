"""Read what `svnrdump dump` prints: the trees of many revisions of one folder in one conversation.

Files are as the repository has them: no keyword is expanded, no line end converted. Format: notes/
dump-load-format.txt and notes/svndiff in Subversion's source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, NamedTuple, TypeAlias

from pipeline_steps.toolbox.errors import MachineError

#: Properties that say what a file or folder is; others change no content.
EXECUTABLE, SPECIAL, EXTERNALS = "svn:executable", "svn:special", "svn:externals"
#: Digits of a size; bytes of the text of one svndiff window (Subversion writes at most 100 KiB).
_MOST_DIGITS, _LARGEST_WINDOW = 19, 2**24


class StoredFile(NamedTuple):
    """A file as the repository has it. text: key of its bytes in the store."""

    executable: bool
    special: bool
    text: str


class Folder:
    """A folder that never changes: revisions share those that are equal.

    externals: the text of svn:externals. has_externals: whether it, or a folder in it, has any.
    id: once it is known; see `source.Revisions`. noted: whether its reader has stored the id.
    """

    __slots__ = ("children", "externals", "has_externals", "id", "noted")

    def __init__(self, children: dict[str, Stored], externals: str = "") -> None:
        self.children = children
        self.externals = externals
        self.has_externals: bool = bool(externals) or any(
            isinstance(child, Folder) and child.has_externals for child in children.values()
        )
        self.id = ""
        self.noted = False

    def at(self, path: str) -> Stored | None:
        """What a path names below the folder; "" is the folder itself."""
        node: Stored = self
        for name in path.split("/") if path else ():
            inner = node.children.get(name) if isinstance(node, Folder) else None
            if inner is None:
                return None
            node = inner
        return node

    def with_node(self, path: str, node: Stored | None) -> Folder:
        """The folder with something else at a path; None: without it."""
        if not path:
            return node if isinstance(node, Folder) else Folder({})
        name, _, rest = path.partition("/")
        inner = self.children.get(name)
        if rest:
            node = (inner if isinstance(inner, Folder) else Folder({})).with_node(rest, node)
        children = dict(self.children)
        if node is None:
            children.pop(name, None)
        else:
            children[name] = node
        return Folder(children, self.externals)


class ForeignExternal(NamedTuple):
    """An external whose files no revision of this repository has. definition: as written."""

    definition: str


Stored: TypeAlias = "StoredFile | Folder | ForeignExternal"


class Record(NamedTuple):
    """One record of a dump. path: relative to the repository's root; "" for that of a revision."""

    headers: Mapping[str, str]
    properties: bytes
    text: bytes

    @property
    def path(self) -> str:
        return self.headers.get("Node-path", "")


def records(stream: IO[bytes]) -> Iterator[Record]:
    """The records of revisions and nodes. Raises MachineError for what ends early."""
    while (headers := _headers(stream)) is not None:
        properties = _exactly(stream, _size(headers.get("Prop-content-length", "0")))
        text = _exactly(stream, _size(headers.get("Text-content-length", "0")))
        if "Node-path" in headers or "Revision-number" in headers:
            yield Record(headers, properties, text)


def _headers(stream: IO[bytes]) -> dict[str, str] | None:
    """The headers of the next record, None at the end."""
    headers: dict[str, str] = {}
    while line := stream.readline():
        if line == b"\n":
            if headers:
                return headers
            continue
        name, separator, value = line[:-1].decode("utf-8", "surrogateescape").partition(": ")
        if not separator or not line.endswith(b"\n"):
            raise _unreadable(f"a header is {line[:80]!r}")
        headers[name] = value
    if headers:
        raise _unreadable("it ends in the middle of a record")
    return None


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size) if size else b""
    if len(data) != size:
        raise _unreadable("it ends in the middle of a record")
    return data


def _size(written: str) -> int:
    if not written.isdecimal() or len(written) > _MOST_DIGITS:
        raise _unreadable(f"a size is {written[:80]!r}")
    return int(written)


def _unreadable(problem: str) -> MachineError:
    return MachineError(
        f"svnrdump dump printed what this version cannot read: {problem}",
        advice="run svnadmin verify: it says whether the repository is sound; if it is, report this",
    )


class Replay:
    """The tree of one branch, from one record of a dump to the next.

    branch: its folder, relative to the repository's root. folder: its tree now; None while there
    is none.

    Args:
        read: the bytes of a text by its key.
        keep: keeps bytes, and returns their key.
        copied: what a path named in a revision, for copies.
    """

    def __init__(
        self,
        branch: str,
        read: Callable[[str], bytes],
        keep: Callable[[bytes], str],
        copied: Callable[[str, int], Stored],
    ) -> None:
        # The root of the repository is in no record.
        self.folder: Folder | None = None if branch else Folder({})
        self._branch = branch
        self._read, self._keep, self._copied = read, keep, copied

    def apply(self, record: Record) -> None:
        """Apply a node's record to the tree. Records of folders above the branch change nothing."""
        path, headers = record.path, record.headers
        if self._branch:
            if path != self._branch and not path.startswith(f"{self._branch}/"):
                return
            path = path[len(self._branch) + 1 :]
        action = headers.get("Node-action", "")
        if action == "delete":
            self._put(path, None)
            return
        node = self.folder.at(path) if self.folder and action == "change" else None
        if "Node-copyfrom-path" in headers:
            copied_revision = _size(headers.get("Node-copyfrom-rev", ""))
            node = self._copied(headers["Node-copyfrom-path"], copied_revision)
        if action == "change" and node is None:
            raise _unreadable(f"it changes {record.path}, which does not exist")
        kind = headers.get("Node-kind") or ("dir" if isinstance(node, Folder) else "file")
        self._put(path, self._folder(record, node) if kind == "dir" else self._file(record, node))

    def _put(self, path: str, node: Stored | None) -> None:
        if not path:
            self.folder = node if isinstance(node, Folder) else None
        elif self.folder is not None:
            self.folder = self.folder.with_node(path, node)

    def _folder(self, record: Record, node: Stored | None) -> Folder:
        former = node if isinstance(node, Folder) else Folder({})
        changes = _changed_properties(record)
        if EXTERNALS not in changes:
            return former
        return Folder(former.children, changes[EXTERNALS] or "")

    def _file(self, record: Record, node: Stored | None) -> StoredFile:
        former = node if isinstance(node, StoredFile) else None
        changes = _changed_properties(record)
        text = former.text if former else ""
        if "Text-content-length" in record.headers or former is None:
            text = self._keep(self._new_text(record, former))
        return StoredFile(
            _flag(changes, EXECUTABLE, former is not None and former.executable),
            _flag(changes, SPECIAL, former is not None and former.special),
            text,
        )

    def _new_text(self, record: Record, former: StoredFile | None) -> bytes:
        if record.headers.get("Text-delta") != "true":
            return record.text
        data = apply_delta(record.text, self._read(former.text) if former else b"")
        digest = record.headers.get("Text-content-md5")
        if digest and hashlib.md5(data, usedforsecurity=False).hexdigest() != digest:
            raise _unreadable(f"{record.path} does not have the MD5 checksum that the dump gives")
        return data


def _flag(changes: Mapping[str, str | None], name: str, former: bool) -> bool:
    return changes[name] is not None if name in changes else former


def _changed_properties(record: Record) -> dict[str, str | None]:
    """Properties that a record sets; None for those that it removes."""
    if "Prop-content-length" not in record.headers:
        return {}
    changes: dict[str, str | None] = {}
    if record.headers.get("Prop-delta") != "true":  # all there are
        changes = {EXECUTABLE: None, SPECIAL: None, EXTERNALS: None}
    data, position = record.properties, 0
    while not data.startswith(b"PROPS-END", position):
        kind, name, position = _property_part(data, position)
        changes[name] = None
        if kind != "D":
            _, changes[name], position = _property_part(data, position)
    return changes


def _property_part(data: bytes, position: int) -> tuple[str, str, int]:
    """K, V or D, the name or value behind its length, and where the next part begins."""
    line, end, _ = data[position : position + _MOST_DIGITS + 3].partition(b"\n")
    kind, _, written = line.decode("utf-8", "surrogateescape").partition(" ")
    if not end:
        raise _unreadable("its properties end early")
    start = position + len(line) + 1
    stop = start + _size(written)
    return kind, data[start:stop].decode("utf-8", "surrogateescape"), stop + 1


def apply_delta(delta: bytes, base: bytes) -> bytes:
    """The bytes that an svndiff of version 0 makes of `base`.

    >>> apply_delta(b"SVN\\0" + bytes([0, 0, 4, 3, 3, 0x83, 0x41, 0x00]) + b"abc", b"")
    b'abca'
    """
    if not delta:
        return b""
    if delta[:4] != b"SVN\0":
        raise _unreadable(f"a difference begins with {delta[:4]!r}")
    result, position = bytearray(), 4
    while position < len(delta):
        numbers = []
        for _ in range(5):
            number, position = _number(delta, position)
            numbers.append(number)
        source_start, source_size, size, code_size, new_size = numbers
        if size > _LARGEST_WINDOW:
            raise _unreadable(f"a difference has a window of {size} bytes")
        code = delta[position : position + code_size]
        new = delta[position + code_size : position + code_size + new_size]
        position += code_size + new_size
        window = _window(code, new, base[source_start : source_start + source_size], size)
        if len(window) != size:
            raise _unreadable("a difference gives a text of another size")
        result += window
    return bytes(result)


def _window(code: bytes, new: bytes, source: bytes, most: int) -> bytearray:
    """The bytes that the instructions of a window produce, at most `most`."""
    target, position, new_position = bytearray(), 0, 0
    while position < len(code):
        kind, size = code[position] >> 6, code[position] & 0x3F
        position += 1
        if not size:
            size, position = _number(code, position)
        if len(target) + size > most:
            raise _unreadable("a difference gives more than it says")
        if kind == 2:
            target += new[new_position : new_position + size]
            new_position += size
            continue
        start, position = _number(code, position)
        if kind == 0:
            target += source[start : start + size]
        elif start + size <= len(target):
            target += target[start : start + size]
        elif start >= len(target):
            raise _unreadable("a difference copies what is not there yet")
        else:  # it copies what it is about to write
            for offset in range(start, start + size):
                target.append(target[offset])
    return target


def _number(data: bytes, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the highest first, and where it ends."""
    number, start = 0, position
    for byte in data[start : start + _MOST_DIGITS]:
        position += 1
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, position
    raise _unreadable("a number in a difference does not end")
