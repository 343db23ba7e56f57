"""Which image builder this machine has.

Two kinds, and the kind is part of an image's key: buildx (the plugin is installed: it does
everything) and docker (the engine's classic builder, through the SDK: no platforms, no secrets, no
BuildKit syntax).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline_steps.auth.credentials import docker_folder
from pipeline_steps.images.builder import Builder, BuilderKind
from pipeline_steps.images.buildx import Buildx
from pipeline_steps.images.docker import Docker
from pipeline_steps.toolbox import process

#: Where docker finds plugins for all accounts, below it docker/cli-plugins.
SYSTEM = ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")


def kind(environ: Mapping[str, str]) -> BuilderKind:
    """What this machine builds with: buildx where its plugin is installed, else the engine's
    classic builder.
    """
    return "buildx" if plugin(environ) else "docker"


def builder(environ: Mapping[str, str]) -> Builder:
    """The builder of `kind`."""
    found = plugin(environ)
    if found:
        return Buildx(found)
    return Docker()


def plugin(environ: Mapping[str, str]) -> Path | None:
    """The buildx plugin, where docker looks for plugins (docker/cli, cli-plugins/manager); asks no
    program.
    """
    folders = [
        docker_folder(environ) / "cli-plugins",
        *(Path(top) / "docker/cli-plugins" for top in SYSTEM),
    ]
    for folder in folders:
        file = folder / "docker-buildx"
        if file.is_file() and os.access(file, os.X_OK):
            return file
    on_path = process.which("docker-buildx", environ)
    return Path(on_path) if on_path else None
