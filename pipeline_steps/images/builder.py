"""What an image builder is asked and what it answers, for the builders and for those who ask them.

Which builder this machine has stands in `builders`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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


class BuildRequest(NamedTuple):
    """One image to build and push.

    Args:
        destination: where it goes, with a tag for builders that cannot push by digest alone.
        bases: str(reference) → digest, for all bases of the Dockerfile.
        build_stage: the stage of the Dockerfile to build, None for the last.
        secrets: id → how BuildKit gets it, `env=NAME` or `src=PATH`.
        no_cache: build every instruction again.
        timeout: seconds, None for no limit.
        output_file: push nothing. A BuildKit of its own writes the image into this file as an OCI
            layout; an engine keeps it under the destination's name (`docker.save_and_remove_image` writes it).
        oci_media_types: use OCI's media types where the builder has a choice; an image with
            docker's media types has another digest.
    """

    destination: Reference
    context: Context
    dockerfile: Dockerfile
    bases: Mapping[str, str]
    hosts: Mapping[str, Host]
    build_stage: str | None = None
    args: Mapping[str, str] = {}
    platforms: tuple[str, ...] = ()
    secrets: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    no_cache: bool = False
    timeout: float | None = None
    output_file: Path | None = None
    oci_media_types: bool = True


class BuildResult(NamedTuple):
    """digest: of the manifest in the registry, "" when there is none
    (BuildRequest.output_file).

    reproducible: the same inputs give the same digest anywhere. tools: versions of what built it.
    """

    digest: str
    reproducible: bool
    tools: Mapping[str, str]


class Builder(Protocol):
    """kind: part of the image's key."""

    kind: BuilderKind

    def check_supported(
        self, dockerfile: Dockerfile, platforms: tuple[str, ...], secrets: tuple[str, ...]
    ) -> None:
        """Raises ToolMissing when this builder cannot build such an image; runs no program."""

    def build(self, request: BuildRequest) -> BuildResult:
        """Build and push. Raises ChartFailed (8) with the last lines, MachineError, AccessRefused,
        Unreachable.
        """


def find_secrets(
    names: tuple[str, ...],
    declared: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    is_review: bool,
    where: str,
) -> dict[str, str]:
    """How the builder gets each build secret: as declared, else from the variable NAME or the file
    NAME_FILE names.

    declared: `secrets` of the configuration, name → "${NAME}" or "file:PATH". NAME of any other
    secret is its id in capitals, other characters than letters and digits as _ (npm-rc: NPM_RC).
    is_review: only declared ones are given, or a review could ask for any variable of the agent.
    Raises ConfigurationError naming both ways to give it when it is not given, or the file is not
    there.
    """
    return {
        name: _declared_secret(name, declared[name], environ, where)
        if name in declared
        else _undeclared_secret(name, environ, is_review=is_review, where=where)
        for name in names
    }


def _declared_secret(name: str, text: str, environ: Mapping[str, str], where: str) -> str:
    if text.startswith("file:"):
        return _secret_from_file(Path(text.removeprefix("file:")), f"secrets.{name}", where)
    variable = text.removeprefix("${").removesuffix("}")
    if variable not in environ:
        message = f"the secret {name} needs the variable {variable}, which is not set"
        raise ConfigurationError(message, where=where, advice=f"set it, or change secrets.{name}")
    return _secret_from_variable(variable, environ)


def _undeclared_secret(
    name: str, environ: Mapping[str, str], *, is_review: bool, where: str
) -> str:
    variable = re.sub(r"[^A-Z0-9]", "_", name.upper())
    if is_review:
        raise ConfigurationError(
            f"the secret {name} is not declared: builds of reviews get declared secrets only",
            where=where,
            advice=f'declare it on the target branch or in the site file: secrets: {{{name}: "${{{variable}}}"}} or '
            f'secrets: {{{name}: "file:/PATH"}}',
        )
    if variable in environ:
        return _secret_from_variable(variable, environ)
    if f"{variable}_FILE" in environ:
        return _secret_from_file(Path(environ[f"{variable}_FILE"]), f"{variable}_FILE", where)
    advice = f"set {variable}, or {variable}_FILE to its file"
    raise ConfigurationError(f"the secret {name} is not given", where=where, advice=advice)


def _secret_from_variable(name: str, environ: Mapping[str, str]) -> str:
    _register(environ[name])
    return f"env={name}"


def _secret_from_file(file: Path, setting: str, where: str) -> str:
    if not file.is_file():
        raise ConfigurationError(
            f"{setting} names {file}, which is no file",
            where=where,
            advice="correct the path in the setting",
        )
    try:
        _register(file.read_bytes().decode(errors="ignore"))
    except OSError as error:
        raise ConfigurationError(
            f"{setting} names {file}, which cannot be read: {error}",
            where=where,
            advice="give the file to this account, or run as the one that owns it",
        ) from error
    return f"src={file.absolute()}"


def _register(secret: str) -> None:
    """Whole, and line by line, as programs that print a file do."""
    # A key of several lines is printed line by line, and no line equals the whole.
    for part in {secret, *map(str.strip, secret.splitlines())}:
        register(part)
