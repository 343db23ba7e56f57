"""Write a tree of any source system into a folder, byte for byte, never outside of it."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from pipeline_steps.sources.source import Tree
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import ConfigurationError

_AT_ONCE = 256


def write(tree: Tree, destination: Path) -> None:
    """Write every file of `tree` into the empty folder `destination`; links last, so that none is followed.

    Raises ConfigurationError for a submodule, MachineError when the disk refuses.
    """
    entries = tree.entries()
    ordered = iter(sorted(entries.values(), key=lambda entry: entry.kind == "link"))
    while part := list(islice(ordered, _AT_ONCE)):
        for path, data in tree.read([entry.path for entry in part]).items():
            place = destination / path
            if any(name in ("", ".", "..") for name in path.split("/")):
                raise ConfigurationError(f"the hostile path {path!r} is not written", where=str(destination))
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if entries[path].kind == "link":
                    place.symlink_to(os.fsdecode(data))
                else:
                    _write(place, data, 0o755 if entries[path].kind == "executable" else 0o644)
            except OSError as error:
                raise files.failure(error, place) from error


def _write(place: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
