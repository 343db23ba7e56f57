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
SYSTEM_PLUGIN_FOLDERS = ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")


def builder_kind(environ: Mapping[str, str]) -> BuilderKind:
    """What this machine builds with: buildx where its plugin is installed, else the engine's
    classic builder.
    """
    return "buildx" if find_buildx_plugin(environ) else "docker"


def make_builder(environ: Mapping[str, str]) -> Builder:
    """The builder that `builder_kind` names."""
    buildx_plugin = find_buildx_plugin(environ)
    if buildx_plugin:
        return Buildx(buildx_plugin)
    return Docker()


def find_buildx_plugin(environ: Mapping[str, str]) -> Path | None:
    """The buildx plugin, where docker looks for plugins (docker/cli, cli-plugins/manager); asks no
    program.
    """
    folders = [
        docker_folder(environ) / "cli-plugins",
        *(Path(top) / "docker/cli-plugins" for top in SYSTEM_PLUGIN_FOLDERS),
    ]
    for folder in folders:
        file = folder / "docker-buildx"
        if file.is_file() and os.access(file, os.X_OK):
            return file
    on_path = process.which("docker-buildx", environ)
    return Path(on_path) if on_path else None
