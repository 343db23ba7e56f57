"""What an image builder is asked and what it answers, for the builders and for those who ask them.

Which builder this machine has stands in `builders`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.images.context import Context
from pipeline_steps.images.dockerfile import Dockerfile
from pipeline_steps.toolbox.errors import ConfigurationError
from pipeline_steps.toolbox.redact import register

BuilderKind = Literal["buildx", "docker"]
#: 1980-01-01T00:00:00Z, the time of everything we make: the oldest that zip and tar tools agree on.
EPOCH = 315532800


class Request(NamedTuple):
    """One image to build and push.

    target: where it goes, with its tag. bases: str(reference) → digest, for all bases of the Dockerfile.
    secrets: id → how BuildKit gets it, `env=NAME` or `src=PATH`. fresh: use no cache. timeout: seconds, None: none.
    already: asked before the target's tag is pushed: the digest it names by now, pushed by another, or None.
    to: push nothing; a BuildKit of its own writes the image into this file, as an OCI layout, an engine keeps it
    under the target's name (`docker.save` writes it).
    oci: with OCI's media types in it, where the builder has a choice; their digest is another than that of docker's.
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
    to: Path | None = None
    oci: bool = True


class Built(NamedTuple):
    """digest: of the manifest in the registry, "" when there is none (Request.to). named: the target's tag was pushed
    already (not only the digest).

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
