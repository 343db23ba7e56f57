"""One state file: one record per line, appended under a lock, in one write, then fsynced."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline_steps.state.record import Record, decode
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import EvidenceError

log = logging.getLogger(__name__)


def load(path: Path) -> list[Record]:
    """The records of `path`, none when there is no such file; an incomplete last line is dropped.

    Raises EvidenceError with file and line when a line is no record, was edited or is of a newer
    schema.
    """
    return [record for _line, record in load_lines(path)]


def load_lines(path: Path) -> list[tuple[bytes, Record]]:
    """Like `load`, each record with its line as written: copying records means copying lines."""
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
    """How many bytes at the end of `path` form no complete line, and so belong to no record."""
    return len(_split_lines(path)[1])


def _split_lines(path: Path) -> tuple[list[bytes], bytes]:
    """The complete lines of `path`, and the bytes after the last of them."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], b""
    except OSError as error:
        raise files.unreadable(error, path) from error
    # Lines are split at \n alone: splitlines would split at other separators inside of texts.
    *complete, torn = data.split(b"\n")
    # A power cut left its length, but not all of its bytes.
    if not torn and complete and b"\0" in complete[-1]:
        torn = complete.pop()
    return complete, torn


def append(path: Path, line: bytes) -> None:
    """Append the line of a record. Raises MachineError, and the file is then unchanged."""
    torn = files.append(path, line)
    if torn:
        log.warning("%s: dropped a torn last line (%d bytes of a killed run)", path, torn)


def ensure_folder(path: Path) -> Path:
    """Create the folder of the state file `path` if it is missing, and return it.

    Version control systems ignore it. Raises EvidenceError when it is a symbolic link: what steps
    write would land elsewhere.
    """
    folder = path.parent
    if folder.is_symlink():
        raise EvidenceError(
            "the folder is a symbolic link",
            where=str(folder),
            advice="remove it, or name another with --state",
        )
    files.folder(folder)
    if folder.name == ".pipeline" and not (folder / ".gitignore").exists():
        # Only in the folder of that name: with --state it may be one that the source stores.
        files.write(folder / ".gitignore", b"*\n", mode=0o644)
    return folder
