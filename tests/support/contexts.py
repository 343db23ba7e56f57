"""Contexts of images out of plain folders, for tests of builders that need no source system."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline_steps.images.context import Context, Input, InputKind
from pipeline_steps.images.ignore import FILE, IgnoreRules, not_ignored, parse
from pipeline_steps.toolbox.files import sha256


def context_of(folder: Path, dockerfile: Path | None = None) -> Context:
    """Everything in `folder` that its .dockerignore (or that of the Dockerfile) leaves in; read
    again at each build.
    """
    own_ignore = (dockerfile or folder / "Dockerfile").with_name(
        f"{(dockerfile or folder / 'Dockerfile').name}{FILE}"
    )
    rules = next(
        (
            parse(file.read_bytes(), str(file))
            for file in (own_ignore, folder / FILE)
            if file.is_file()
        ),
        IgnoreRules(),
    )
    paths = (place for place in folder.rglob("*") if place.is_symlink() or place.is_file())
    names = not_ignored((place.relative_to(folder).as_posix() for place in paths), rules)
    return Context(
        tuple(sorted(_input(folder, name) for name in names)),
        lambda path: data(folder / path),
        str(folder),
    )


def data(place: Path) -> bytes:
    """The bytes of a file, the target of a link."""
    return os.fsencode(place.readlink()) if place.is_symlink() else place.read_bytes()


def _input(folder: Path, name: str) -> Input:
    place = folder / name
    kind: InputKind = (
        "link" if place.is_symlink() else "executable" if os.access(place, os.X_OK) else "file"
    )
    return Input(name, kind, sha256(data(place)))
