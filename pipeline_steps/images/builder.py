"""What an image builder is asked and what it answers, and which one this machine has. Builders import from here.

Two kinds, and the kind is part of an image's key: buildx (the plugin is installed: it does everything) and
docker (the engine's classic builder, through the SDK: no platforms, no secrets, no BuildKit syntax).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pipeline_steps.core.errors import ConfigurationError
from pipeline_steps.images.context import Context
from pipeline_steps.images.dockerfile import Dockerfile
from pipeline_steps.oci.credentials import docker_folder
from pipeline_steps.oci.hosts import Host
from pipeline_steps.oci.reference import Reference
from pipeline_steps.toolbox.redact import register

BuilderKind = Literal["buildx", "docker"]
#: Where docker finds plugins for all accounts, below it docker/cli-plugins.
SYSTEM = ("/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec")
#: 1980-01-01T00:00:00Z, the time of everything we make: the oldest that zip and tar tools agree on.
EPOCH = 315532800


class Request(NamedTuple):
    """One image to build and push.

    target: where it goes, with its tag. bases: str(reference) → digest, for all bases of the Dockerfile.
    secrets: id → how BuildKit gets it, `env=NAME` or `src=PATH`. fresh: use no cache. timeout: seconds, None: none.
    already: asked before the target's tag is pushed: the digest it names by now, pushed by another, or None.
    """

    target: Reference
    context: Context
    dockerfile: Dockerfile
    bases: Mapping[str, str]
    hosts: Mapping[str, Host]
    stage: str | None = None
    args: Mapping[str, str] = {}
    platforms: tuple[str, ...] = ()
    secrets: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    fresh: bool = False
    timeout: float | None = None
    already: Callable[[], str | None] = lambda: None


class Built(NamedTuple):
    """digest: of the manifest in the registry. named: the target's tag was pushed already (not only the digest).

    reproducible: the same inputs give the same digest anywhere. tools: versions of what built it.
    """

    digest: str
    named: bool
    reproducible: bool
    tools: Mapping[str, str]


class Builder(Protocol):
    """kind: part of the image's key."""

    kind: BuilderKind

    def check(self, dockerfile: Dockerfile, platforms: tuple[str, ...], secrets: tuple[str, ...]) -> None:
        """Raises ToolMissing when this builder cannot build such an image; asks nobody."""

    def build(self, request: Request) -> Built:
        """Build and push. Raises ChartFailed (8) with the last lines, MachineError, AccessRefused, Unreachable."""


def kind(environ: Mapping[str, str]) -> BuilderKind:
    """What this machine builds with: buildx where its plugin is installed, else the engine's classic builder."""
    return "buildx" if plugin(environ) else "docker"


def builder(environ: Mapping[str, str]) -> Builder:
    """The builder of `kind`."""
    found = plugin(environ)
    if found:
        from pipeline_steps.images.buildx import Buildx

        return Buildx(found)
    from pipeline_steps.images.docker import Docker

    return Docker()


def plugin(environ: Mapping[str, str]) -> Path | None:
    """The buildx plugin, where docker looks for plugins (docker/cli, cli-plugins/manager); asks no program."""
    folders = [docker_folder(environ) / "cli-plugins", *(Path(top) / "docker/cli-plugins" for top in SYSTEM)]
    for folder in folders:
        file = folder / "docker-buildx"
        if file.is_file() and os.access(file, os.X_OK):
            return file
    on_path = shutil.which("docker-buildx", path=environ.get("PATH"))
    return Path(on_path) if on_path else None


def find_secrets(names: tuple[str, ...], environ: Mapping[str, str], *, where: str) -> dict[str, str]:
    """How the builder gets each build secret: the variable NAME holds it, or NAME_FILE names its file.

    NAME is the secret's id in capitals, other characters than letters and digits as _ (npm-rc: NPM_RC).
    Raises ConfigurationError naming both variables when neither is set, or the file is not there.
    """
    found = {}
    for name in names:
        variable = re.sub(r"[^A-Z0-9]", "_", name.upper())
        if variable in environ:
            register(environ[variable])
            found[name] = f"env={variable}"
        elif f"{variable}_FILE" in environ:
            file = Path(environ[f"{variable}_FILE"])
            if not file.is_file():
                raise ConfigurationError(f"{variable}_FILE names {file}, which is no file", where=where)
            found[name] = f"src={file.absolute()}"
        else:
            raise ConfigurationError(
                f"the secret {name} is not given", where=where, advice=f"set {variable}, or {variable}_FILE to its file"
            )
    return found
