"""One state file: a record a line; appended under a lock, in one write, fsynced."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline_steps.state.record import Record, decode
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import EvidenceError, MachineError

log = logging.getLogger(__name__)


def load(path: Path) -> list[Record]:
    """The records of `path`, none when there is no such file; a torn last line is dropped with a
    notice.

    Raises EvidenceError naming file and line when a line is no record, edited or of a newer schema.
    """
    return [record for _line, record in load_lines(path)]


def load_lines(path: Path) -> list[tuple[bytes, Record]]:
    """Like `load`, each record with its line as written: what copies records copies lines."""
    complete, torn = _split_lines(path)
    if torn:
        log.warning(
            "%s: the last line is torn (%d bytes of a killed run), dropped", path, len(torn)
        )
    return [
        (line, decode(line, where=f"{path}:{number}"))
        for number, line in enumerate(complete, 1)
        if line
    ]


def torn_bytes(path: Path) -> int:
    """How many bytes at the end of `path` are no whole line, and belong to no record."""
    return len(_split_lines(path)[1])


def _split_lines(path: Path) -> tuple[list[bytes], bytes]:
    """The whole lines of `path`, and the rest, which its writer did not end."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], b""
    except OSError as error:
        raise MachineError(f"cannot read: {error.strerror}", where=str(path)) from error
    *complete, torn = data.split(b"\n")
    if (
        not torn and complete and b"\0" in complete[-1]
    ):  # a power cut left its length, but not all of its bytes
        torn = complete.pop()
    return complete, torn


def append(path: Path, line: bytes) -> None:
    """Add the line of a record. Raises MachineError, and the file is then as it was."""
    torn = files.append(path, line)
    if torn:
        log.warning("%s: dropped a torn last line (%d bytes of a killed run)", path, torn)


def ensure_folder(path: Path) -> Path:
    """The folder that holds the state file `path`, made when missing, ignored by every source
    system.

    Raises EvidenceError when its name is a symbolic link: what steps write would land elsewhere.
    """
    folder = path.parent
    if folder.is_symlink():
        raise EvidenceError(
            "is a symbolic link",
            where=str(folder),
            advice="remove it, or name another with --state",
        )
    files.folder(folder)
    if folder.name == ".pipeline" and not (folder / ".gitignore").exists():
        files.write(folder / ".gitignore", b"*\n", mode=0o644)
    return folder
