"""Git LFS: read the files that pointers in the repository refer to, from the local LFS store.

Nothing is fetched. A pointer never passes as the file itself: a chart or image would contain three
lines of text instead. Source: git-lfs, docs/spec.md, "The Pointer" and "Intro"; objects are at <git
dir>/lfs/objects/OID[0:2]/OID[2:4]/OID.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import EvidenceError, MachineError

#: A pointer is smaller than this many bytes.
LARGEST_POINTER = 1024
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*"
    rb"oid sha256:(?P<oid>[0-9a-f]{64})\nsize (?P<size>[0-9]+)\n"
)


class Pointer(NamedTuple):
    """A parsed pointer. oid: sha256 of the file's bytes, 64 hex digits. size: in bytes."""

    oid: str
    size: int


def pointer(data: bytes) -> Pointer | None:
    """The pointer in the bytes of a blob, None for any other file.

    >>> oid = b"oid sha256:" + b"a" * 64
    >>> lines = (b"version https://git-lfs.github.com/spec/v1", oid, b"size 5")
    >>> pointer(b"\\n".join((*lines, b""))).size
    5
    >>> pointer(b"just a file") is None
    True
    """
    match = _POINTER.fullmatch(data) if len(data) < LARGEST_POINTER else None
    return Pointer(match["oid"].decode(), int(match["size"])) if match else None


def read_object(store: Path, lfs_pointer: Pointer, blob: str) -> bytes:
    """The bytes of the file that a pointer refers to.

    Args:
        store: folder of LFS objects.
        blob: id of the pointer, for errors.

    Raises:
        MachineError: the object is not here.
        EvidenceError: the object has another digest.
    """
    path = store / lfs_pointer.oid[:2] / lfs_pointer.oid[2:4] / lfs_pointer.oid
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MachineError(
            f"the Git LFS object sha256:{lfs_pointer.oid} ({lfs_pointer.size} bytes) of blob "
            f"{blob} is not here",
            advice=(
                "run git lfs pull (a CI's checkout has an option for it: lfs: true, "
                "GIT_LFS_SKIP_SMUDGE: 0)"
            ),
        ) from error
    except OSError as error:
        raise files.unreadable(error, path) from error
    if files.sha256(data) != f"sha256:{lfs_pointer.oid}":
        raise EvidenceError(
            "the file is not the Git LFS object of its name",
            where=str(path),
            advice="run git lfs fsck: it says which objects are damaged",
        )
    return data
