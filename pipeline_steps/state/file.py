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
    return [record for _line, record in lines(path)]


def lines(path: Path) -> list[tuple[bytes, Record]]:
    """Like `load`, each record with its line as written: what copies records copies lines."""
    whole, rest = _split(path)
    if rest:
        log.warning(
            "%s: the last line is torn (%d bytes of a killed run), dropped", path, len(rest)
        )
    return [
        (line, decode(line, where=f"{path}:{number}"))
        for number, line in enumerate(whole, 1)
        if line
    ]


def torn(path: Path) -> int:
    """How many bytes at the end of `path` are no whole line, and belong to no record."""
    return len(_split(path)[1])


def _split(path: Path) -> tuple[list[bytes], bytes]:
    """The whole lines of `path`, and the rest, which its writer did not end."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], b""
    except OSError as error:
        raise MachineError(f"cannot read: {error.strerror}", where=str(path)) from error
    *whole, rest = data.split(b"\n")
    if (
        not rest and whole and b"\0" in whole[-1]
    ):  # a power cut left its length, but not all of its bytes
        rest = whole.pop()
    return whole, rest


def append(path: Path, line: bytes) -> None:
    """Add the line of a record. Raises MachineError, and the file is then as it was."""
    dropped = files.append(path, line)
    if dropped:
        log.warning("%s: dropped a torn last line (%d bytes of a killed run)", path, dropped)


def folder(path: Path) -> Path:
    """The folder that holds the state file `path`, made when missing, ignored by every source
    system.

    Raises EvidenceError when its name is a symbolic link: what steps write would land elsewhere.
    """
    home = path.parent
    if home.is_symlink():
        raise EvidenceError(
            "is a symbolic link", where=str(home), advice="remove it, or name another with --state"
        )
    files.folder(home)
    if home.name == ".pipeline" and not (home / ".gitignore").exists():
        files.write(home / ".gitignore", b"*\n", mode=0o644)
    return home
