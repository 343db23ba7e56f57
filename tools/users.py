"""Which checkouts use the engine and the node of this machine, so that none is ended under another.

There is one engine and one node a machine, and several clones may use them: the demo of one, the
tests of another. Each notes itself before it uses them, in a file below /run; the last that leaves
ends them. What somebody started by hand (`engine.py up`, `node.py up`) has no such note: it is
used and left as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.machine import locked, say

FOLDER = Path("/run/pipeline-steps/users")


class Started:
    """What a command uses of this machine, noted in a file before it is started.

    A later command can end it then. process: of a use that ends with this process; without, it
    lasts until `leave`.
    """

    def __init__(self, path: Path, *, process: int | None = None) -> None:
        self.path = path.absolute()
        self.process = process
        self.names: dict[str, str] = _json(self.path) or {}

    def note(self, name: str, value: str) -> None:
        self.names[name] = value
        self._write()

    def forget(self, name: str) -> None:
        self.names.pop(name, None)
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_name(f".{self.path.name}.new")
        aside.write_text(json.dumps(self.names, indent=2) + "\n")
        aside.replace(self.path)


def enter(
    kind: str, folder: Path, started: Started, *, running: Callable[[], bool], base: Path = FOLDER
) -> None:
    """Note that `started` uses the engine or node in `folder`, unless it was started by hand."""
    with _lock(base):
        notes = _notes(kind, base)
        if running() and not notes:
            return
        started.note(kind, str(folder))
        base.joinpath(kind).mkdir(parents=True, exist_ok=True)
        note = {"started": str(started.path), "process": started.process}
        _note_file(kind, started, base).write_text(json.dumps(note) + "\n")


def leave(kind: str, started: Started, end: Callable[[Path], None], *, base: Path = FOLDER) -> None:
    """Take the note back, and end the engine or node when nobody else uses it."""
    if kind not in started.names:
        return
    with _lock(base):
        own_note = _note_file(kind, started, base)
        other_notes = [
            note
            for path, note in _notes(kind, base).items()
            if path != own_note and _uses(kind, note)
        ]
        if other_notes:
            checkouts = ", ".join(sorted(str(note["started"]) for note in other_notes))
            say(f"{kind}: left running, it is in use (noted in {checkouts})")
        else:
            say(f"{kind}: ending it")
            end(Path(started.names[kind]))
            for path in _notes(kind, base):
                path.unlink(missing_ok=True)
        own_note.unlink(missing_ok=True)
        started.forget(kind)


def _uses(kind: str, note: dict[str, Any]) -> bool:
    """Whether a note still counts: its checkout says so, too, and its process is alive."""
    if kind not in (_json(Path(note["started"])) or {}):
        return False
    return note["process"] is None or Path(f"/proc/{note['process']}").exists()


def _notes(kind: str, base: Path) -> dict[Path, dict[str, Any]]:
    return {path: note for path in base.glob(f"{kind}/*.json") if (note := _json(path))}


def _note_file(kind: str, started: Started, base: Path) -> Path:
    return base / kind / f"{hashlib.sha256(os.fsencode(started.path)).hexdigest()[:16]}.json"


def _json(path: Path) -> dict[str, Any] | None:
    """What a file of ours says; None for one that is not there or that a killed run left damaged."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _lock(base: Path) -> Any:
    return locked(base / "lock", "engine and node")
