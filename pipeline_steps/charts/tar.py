"""Read and write the tar streams of charts: reproducible when written, hostile ones refused when
read.

Only regular files and folders are allowed. Nothing is unpacked to disk; `archive` handles
compression and the meaning of files. Not with tarfile: its output may change between Python
versions, while the tar's digest is a chart's identity, and it reads headers of any size. Source:
POSIX.1-2024, pax (ustar and its extended headers).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

#: 1980-01-01T00:00:00Z, the earliest time that every archive format knows.
EPOCH = 315532800
BLOCK = 512
#: Limits against hostile archives: bytes, number of members, depth of folders, characters.
LARGEST_FILE = 5 * 2**20
LARGEST_TOTAL = 100 * 2**20
MOST_MEMBERS = 10_000
DEEPEST = 20
LONGEST_NAME = 1024
_ZEROS = bytes(BLOCK)
#: Keys that an extended header may set. Sizes, links and character sets could mislead readers.
_PAX_KEYS = frozenset(
    {"path", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"}
)
#: What programs keep there of their own (macOS: LIBARCHIVE.creationtime), which helm passes over.
_VENDOR_KEY = re.compile(r"(?!GNU\.sparse)[A-Z]+\.\S+")
_KINDS = {
    "1": "a hard link", "2": "a symbolic link", "3": "a device", "4": "a device", "6": "a pipe",
    "S": "a sparse file", "L": "a GNU long name", "K": "a GNU long link", "g": "a global header",
}  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

Refuse = Callable[[str], Exception]


class Member(NamedTuple):
    """A file, or a folder (`data` is None). mode: permission bits."""

    name: str
    mode: int
    data: bytes | None


def unsafe_reason(name: str) -> str | None:
    """Why a file name is not allowed in an archive, None when it is.

    >>> unsafe_reason("a/b.txt"), unsafe_reason("a/../b"), unsafe_reason("c:/x")
    (None, 'contains ..', 'is a drive of Windows')
    """
    parts = name.split("/")
    if name.startswith("/"):
        return "is absolute"
    if re.match(r"[A-Za-z]:", name) or any(re.match(r"[A-Za-z]:$", part) for part in parts):
        return "is a drive of Windows"
    if "\\" in name:
        return "contains a backslash"
    if ".." in parts:
        return "contains .."
    if "" in parts or "." in parts:
        return "has an empty part"
    if _CONTROL.search(name):
        return "contains control characters"
    if len(parts) > DEEPEST:
        return f"is deeper than {DEEPEST} folders"
    if len(name) > LONGEST_NAME or any(len(part.encode(errors="replace")) > 255 for part in parts):
        return "is too long"
    if any("\ud800" <= sign <= "\udfff" for sign in name):
        return "is not UTF-8"
    return None


def colliding_names(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that are the same on file systems that ignore case or normalise Unicode, or a file
    that is also a folder.
    """
    names_by_key: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        key = _normalised(name)
        if key in names_by_key:
            return names_by_key[key], name
        names_by_key[key] = name
        parent = key.rpartition("/")[0]
        while parent and parent not in folders:
            folders[parent] = name
            parent = parent.rpartition("/")[0]
    collision = next((key for key in names_by_key if key in folders), None)
    return (names_by_key[collision], folders[collision]) if collision is not None else None


def _normalised(name: str) -> str:
    # Fast path: almost all names are ASCII, and normalising is slow.
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def write(files: Mapping[str, bytes], executables: frozenset[str]) -> bytes:
    """The tar stream of `files`, sorted by the bytes of their names, without anything from this
    machine or time.
    """
    pieces: list[bytes] = []
    for name in sorted(files, key=str.encode):
        data = files[name]
        pieces.append(_headers(name, len(data), 0o755 if name in executables else 0o644))
        pieces.append(data)
        pieces.append(_ZEROS[: -len(data) % BLOCK])
    return b"".join((*pieces, _ZEROS, _ZEROS))


def _headers(name: str, size: int, mode: int) -> bytes:
    raw = name.encode()
    prefix, short = b"", raw
    if len(raw) > 100:
        # ustar: up to 100 bytes of name, and up to 155 of prefix before a slash.
        cut = raw.find(b"/", len(raw) - 101)
        prefix, short = (raw[:cut], raw[cut + 1 :]) if 0 < cut <= 155 else (b"", raw)
    if len(short) <= 100 and raw.isascii():
        return _header(short, size, mode, b"0", prefix)
    record = _record(b"path", raw)
    plain = raw.decode().encode("ascii", "replace").replace(b"?", b"_")[-90:]
    extended = _header(b"PaxHeaders.0/" + plain[-80:], len(record), 0o644, b"x")
    return extended + record + _ZEROS[: -len(record) % BLOCK] + _header(plain, size, mode, b"0")


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    # The length of a pax record counts its own digits.
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _header(name: bytes, size: int, mode: int, kind: bytes, prefix: bytes = b"") -> bytes:
    # name, mode, uid, gid, size, mtime; the checksum is computed with blanks in its field.
    before = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"),
        mode,
        0,
        0,
        size,
        EPOCH,
    )
    after = b"%s%sustar\00000%s%07o\0%07o\0%s" % (
        kind,
        bytes(100),
        bytes(64),
        0,
        0,
        prefix.ljust(155, b"\0"),
    )
    block = (before + b" " * 8 + after).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def read(
    chunks: Iterator[bytes], refuse: Refuse, note: Callable[[str], None] = lambda _note: None
) -> Iterator[Member]:
    """The checked members of a tar stream.

    Only one member at a time is in memory.

    Args:
        chunks: the stream in pieces of any size; all of it is read.
        refuse: makes the exception from a reason, which names the member.
    """
    stream = _Stream(chunks)
    members = total = 0
    path: str | None = None
    while True:
        block = stream.take(BLOCK)
        if len(block) < BLOCK:
            raise refuse("it is cut off: the end of the archive is missing")
        # A block of zeros begins the end of the archive; a second one must follow.
        if block == _ZEROS:
            _check_end(stream, path, refuse)
            return
        members += 1
        if members > MOST_MEMBERS:
            raise refuse(f"it has more than {MOST_MEMBERS} members")
        kind, name, mode, size = _parse_header(block, refuse)
        if size > LARGEST_FILE:
            raise refuse(f"{name!r} has {size} bytes, more than {LARGEST_FILE}")
        total += size
        if total > LARGEST_TOTAL:
            raise refuse(f"its files have more than {LARGEST_TOTAL} bytes")
        data = stream.take(size)
        if len(data) < size:
            raise refuse(f"it is cut off in {name!r}")
        stream.take(-size % BLOCK)
        if kind in "xg" and path is not None:
            raise refuse(f"{name!r} is a second extended header of one file")
        if kind == "x":
            path = _pax_values(data, name, refuse, note).get("path", "")
            continue
        if kind == "g":
            # `git archive` says the commit there. Anything else would hold for all files.
            if set(_pax_values(data, name, refuse, note)) != {"comment"}:
                raise refuse(f"{name!r} is {_KINDS['g']}; only files are read")
            note("a global header has a comment, as git archive writes it")
            continue
        if path:
            name = _long_name(name, path, refuse)
        path = None
        yield _member(kind, name, mode, data, refuse)


class _Stream:
    """Reads a given number of bytes from chunks of any size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.piece = b""
        self.at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        blocks = [self.piece[self.at : self.at + size]]
        self.at += size
        missing = size - len(blocks[0])
        while missing:
            self.piece, self.at = next(self.chunks, b""), missing
            if not self.piece:
                break
            blocks.append(self.piece[:missing])
            missing -= len(blocks[-1])
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def rest(self) -> Iterator[bytes]:
        """All remaining bytes, in chunks."""
        yield self.piece[self.at :]
        yield from self.chunks


def _check_end(stream: _Stream, path: str | None, refuse: Refuse) -> None:
    if path is not None:
        raise refuse("it ends after an extended header")
    last = stream.take(BLOCK)
    if len(last) < BLOCK:
        raise refuse("it is cut off: the end of the archive is missing")
    if last != _ZEROS or not all(piece.count(b"\0") == len(piece) for piece in stream.rest()):
        raise refuse("data follows the end of the archive")


def _parse_header(block: bytes, refuse: Refuse) -> tuple[str, str, int, int]:
    name = _text(block[:100])
    kind = chr(block[156]) if block[156] else "0"
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{_text(block[345:500])}/{name}"
    # Sum of all bytes, with the checksum field counted as eight blanks.
    stored = _octal(block[148:156], f"the checksum of {name!r}", refuse)
    if stored != sum(block) - sum(block[148:156]) + 8 * 32:
        raise refuse(f"the header of {name!r} is damaged: its checksum is wrong")
    if kind not in "05xg":
        raise refuse(
            f"{name!r} is {_KINDS.get(kind, f'of the unknown kind {kind!r}')}; only files are read"
        )
    if block[257:265] not in (b"ustar\00000", b"ustar  \0") and block[257:265] != bytes(8):
        raise refuse(f"the header of {name!r} is of an unknown format")
    mode = _octal(block[100:108], f"the mode of {name!r}", refuse)
    size = _octal(block[124:136], f"the size of {name!r}", refuse)
    if mode & 0o7000 and kind not in "xg":
        raise refuse(f"{name!r} has the mode {mode:o}: setuid, setgid and sticky bits are not read")
    if kind == "5" and size:
        raise refuse(f"the folder {name!r} has a size")
    return kind, name, mode & 0o777, size


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")


def _octal(field: bytes, field_name: str, refuse: Refuse) -> int:
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise refuse(f"{field_name} is not an octal number")
    return int(digits or b"0", 8)


def _pax_values(
    data: bytes, name: str, refuse: Refuse, note: Callable[[str], None]
) -> dict[str, str]:
    """What an extended header sets, of which the path is read."""
    values: dict[str, str] = {}
    rest = data
    while rest:
        number, space, _ = rest.partition(b" ")
        length = int(number) if re.fullmatch(rb"[1-9][0-9]{0,6}", number) else 0
        record = rest[len(number) + 1 : length]
        key, equals, value = record[:-1].partition(b"=")
        if not space or length > len(rest) or not record.endswith(b"\n") or not equals:
            raise refuse(f"the extended header {name!r} is damaged")
        key_text = key.decode(errors="replace")
        vendor = _VENDOR_KEY.fullmatch(key_text)
        if vendor:
            note(f"an extended header sets {key_text}")
        if not (key_text in _PAX_KEYS or vendor) or key_text in values:
            raise refuse(f"the extended header {name!r} sets {key_text!r}, which is not read")
        values[key_text] = value.decode(errors="surrogateescape")
        rest = rest[length:]
    return values


def _long_name(name: str, path: str, refuse: Refuse) -> str:
    """The name from an extended header.

    Refused when an ordinary header could hold the name: readers with and without pax support would
    see two different archives.
    """
    if path.isascii() and len(path) <= 100 and path != name:
        raise refuse(
            f"an extended header calls {name!r} {path!r}: readers would disagree about its name"
        )
    return path


def _member(kind: str, name: str, mode: int, data: bytes, refuse: Refuse) -> Member:
    plain = name.removesuffix("/") if kind == "5" else name
    if not plain:
        raise refuse("a member has no name")
    why = unsafe_reason(plain)
    if why:
        raise refuse(f"the name {_printable(name)} {why}")
    return Member(plain, mode, None if kind == "5" else data)


def _printable(name: str) -> str:
    text = name if len(name) <= 120 else f"{name[:117]}..."
    return ascii(text)
