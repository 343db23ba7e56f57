"""Images built by docker's buildx plugin, with whatever builder is current ($BUILDX_BUILDER, or the
engine's).

A BuildKit of its own (container, remote or kubernetes driver) from 0.13 on gives the same digest
for the same inputs anywhere, and the manifest is pushed by digest. The engine's BuildKit (docker
driver) can neither; it pushes the target's tag. The caller gives the image its name.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.reference import Reference
from pipeline_steps.images import build_errors
from pipeline_steps.images.builder import EPOCH, BuilderKind, BuildRequest, BuildResult
from pipeline_steps.images.context import write_folder
from pipeline_steps.images.docker_config import docker_config
from pipeline_steps.images.dockerfile import Dockerfile
from pipeline_steps.oci.registry import speaks_http
from pipeline_steps.toolbox import process, scratch
from pipeline_steps.toolbox.errors import MachineError, PipelineError, Temporary
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.toolbox.redact import redact

log = logging.getLogger(__name__)

#: The first BuildKit that rewrites the times inside layers (moby/buildkit v0.13.0,
#: "rewrite-timestamp").
REPRODUCIBLE_SINCE = (0, 13)
_VERSION = re.compile(r"^\s*buildkit(?: version)?:\s*v?(\S+)", re.IGNORECASE | re.MULTILINE)
_DRIVER = re.compile(r"^Driver:[ \t]*(\S+)", re.MULTILINE)
_ERROR_LINE = re.compile(r"^(?:Error|ERROR):\s*(.+)", re.MULTILINE)
_BUILDER_ERROR = re.compile(
    r"cannot connect to the docker daemon|failed to connect|no builder .* found"
    r"|error during connect"
    r"|dial unix|failed to find driver|permission denied while trying|error: desc = \"transport",
    re.IGNORECASE,
)
#: How buildx words what is the registry's: pushing, or reading the names of base images.
_REGISTRY_ERROR = re.compile(
    r"failed to push|failed to resolve|failed to do request|failed to authorize|push access"
    r"|pull access"
)


class CurrentBuilder(NamedTuple):
    """driver: docker, docker-container, remote or kubernetes.

    buildkit: its version, the oldest of several nodes; "" when the builder does not run.
    """

    driver: str
    buildkit: str

    @property
    def own_buildkit(self) -> bool:
        """A BuildKit of its own, not the engine's."""
        return self.driver != "docker"

    @property
    def reproducible(self) -> bool:
        return self.own_buildkit and _version_numbers(self.buildkit) >= REPRODUCIBLE_SINCE


def _version_numbers(version: str) -> tuple[int, ...]:
    return tuple(
        int(part) for part in re.findall(r"\d+", version.partition("+")[0].partition("-")[0])[:2]
    )


class Buildx:
    """plugin: the docker-buildx program; it is called directly, so no docker command is needed."""

    kind: BuilderKind = "buildx"

    def __init__(self, plugin: Path) -> None:
        self._plugin = plugin

    def check_supported(
        self, dockerfile: Dockerfile, platforms: tuple[str, ...], secrets: tuple[str, ...]
    ) -> None:
        """Everything can be built here."""

    def inspect_builder(self, env: Mapping[str, str], *, start: bool = True) -> CurrentBuilder:
        """The current builder. start: start it if it is not running. Raises MachineError."""
        options = ["--bootstrap"] if start else []
        # A builder in a container pulls its image at the first start, which takes a minute or two.
        completed = process.run([self._plugin, "inspect", *options], env=env, timeout=180)
        text = (completed.stdout + completed.stderr).decode(errors="replace")
        versions, driver, error_line = (
            _VERSION.findall(text),
            _DRIVER.search(text),
            _ERROR_LINE.search(text),
        )
        if not completed.ok or not driver or (not versions and (start or error_line)):
            raise self._builder_error(redact(error_line[1]) if error_line else completed.tail(5))
        return CurrentBuilder(driver[1], min(versions, key=_version_numbers, default=""))

    def build(self, request: BuildRequest) -> BuildResult:
        """Build and push; by digest alone where the builder can, else under the target's tag."""
        where = request.dockerfile.name
        references = [request.destination, *(base.reference for base in request.dockerfile.bases)]
        with (
            scratch.folder("build") as folder,
            docker_config(references, request.hosts, os.environ) as login,
        ):
            builder = self.inspect_builder(login)
            self._prepare(request, folder)
            log.info(
                "building %s with BuildKit %s (%s)",
                request.destination,
                builder.buildkit,
                builder.driver,
            )
            completed = self._run(request, folder, builder, login)
            if completed.code is None:
                raise Temporary(
                    f"the build did not finish within {request.timeout:.0f} s\n{completed.tail()}",
                    where=where,
                    advice="run it again, or give more with --timeout",
                )
            if not completed.ok:
                raise self._build_failure(completed.stderr.decode(errors="replace"), request)
            return self._result(folder, builder, request)

    def _run(
        self, request: BuildRequest, folder: Path, builder: CurrentBuilder, login: Mapping[str, str]
    ) -> process.Completed:
        """Run buildx, and again when the registry lost blobs: the builder has all layers still."""
        for is_last_try in (False, False, True):
            completed = process.run(
                self._command(request, folder, builder),
                env={**login, **self._variables(request)},
                timeout=request.timeout,
                on_line=log.info,
            )
            message = _error_message(completed.stderr.decode(errors="replace"))
            if is_last_try or completed.ok or not build_errors.has_lost_blobs(message):
                break
            log.info(
                "%s: the registry lost blobs that it had acknowledged; pushing again",
                request.destination,
            )
        return completed

    def _prepare(self, request: BuildRequest, folder: Path) -> None:
        write_folder(request.context, _make_folder(folder / _context_name(request)), epoch=EPOCH)
        dockerfile = _make_folder(folder / "dockerfile") / "Dockerfile"
        dockerfile.write_text(request.dockerfile.pin_bases(request.bases))
        # What the ignore file leaves out is left out already: this one wins over it and leaves out
        # nothing.
        dockerfile.with_name("Dockerfile.dockerignore").write_text(
            "# the context holds nothing but inputs\n"
        )

    def _command(self, request: BuildRequest, folder: Path, builder: CurrentBuilder) -> list[str]:
        # Attestations hold times and ids of the build: with them no two builds have one digest.
        options = ["--progress=plain", "--provenance=false", "--sbom=false"]
        options += [
            f"--output={output_option(request, builder)}",
            f"--metadata-file={folder / 'metadata.json'}",
        ]
        options += [f"--file={folder / 'dockerfile' / 'Dockerfile'}"]
        options += [f"--build-arg={key}={value}" for key, value in sorted(request.args.items())]
        options += [f"--label={key}={value}" for key, value in sorted(request.labels.items())]
        options += [
            f"--secret=id={name},{source}" for name, source in sorted(request.secrets.items())
        ]
        if request.build_stage:
            options.append(f"--target={request.build_stage}")
        if request.platforms:
            options.append(f"--platform={','.join(request.platforms)}")
        if request.no_cache:
            options.append("--no-cache")
        return [str(self._plugin), "build", *options, str(folder / _context_name(request))]

    def _variables(self, request: BuildRequest) -> dict[str, str]:
        names = [
            source.removeprefix("env=")
            for source in request.secrets.values()
            if source.startswith("env=")
        ]
        # Secrets by variable, never in the command line, which every account can read in /proc.
        return {"SOURCE_DATE_EPOCH": str(EPOCH), **{name: os.environ[name] for name in names}}

    def _result(self, folder: Path, builder: CurrentBuilder, request: BuildRequest) -> BuildResult:
        metadata = json.loads((folder / "metadata.json").read_bytes())
        digest = (
            ""
            if request.output_file and not builder.own_buildkit
            else metadata.get("containerimage.digest")
        )
        if not isinstance(digest, str):
            raise MachineError(
                "buildx reports no digest of what it pushed", advice="use a newer buildx"
            )
        version = (
            process.run([self._plugin, "version"], timeout=30)
            .stdout.decode(errors="replace")
            .split()
        )
        tools = {
            "buildkit": builder.buildkit,
            "buildx": version[1].lstrip("v") if len(version) > 1 else "unknown",
        }
        return BuildResult(digest, builder.reproducible, tools)

    def _build_failure(self, output: str, request: BuildRequest) -> PipelineError:
        message = _error_message(output) or "buildx ended without a word"
        if (
            _BUILDER_ERROR.search(message)
            and "did not complete" not in message
            and not _REGISTRY_ERROR.search(message)
        ):
            return self._builder_error(message)
        if _REGISTRY_ERROR.search(message) and "did not complete successfully" not in message:
            return build_errors.registry_error(message, where=str(request.destination))
        return build_errors.build_error(message, output, where=request.dockerfile.name)

    def _builder_error(self, reason: str) -> MachineError:
        builder = os.environ.get("BUILDX_BUILDER") or "current"
        engine = os.environ.get("DOCKER_HOST") or "/var/run/docker.sock"
        return MachineError(
            f"buildx cannot use its builder: {reason}",
            where=f"builder {builder}, engine {engine}",
            advice="see docker buildx ls; name a running one in BUILDX_BUILDER, or start the "
            "engine",
        )


def _error_message(output: str) -> str:
    """What buildx says in its last ERROR line, with the registry's errors that it lists below; ""
    when it says nothing.
    """
    # buildx prints its own error last; steps before it may print lines that look the same.
    lines = output.splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith("ERROR:")]
    if not errors:
        return ""
    first = lines[errors[-1]].removeprefix("ERROR:").strip()
    below = lines[errors[-1] + 1 :] if first.endswith("errors:") else []
    return "\n".join([first, *filter(None, map(str.strip, below))])


def _context_name(request: BuildRequest) -> str:
    """A name of its own for each context. BuildKit keeps what was sent under the folder's name and
    asks only for files whose size or time is another: with one name for all, a change that keeps
    the size would not arrive."""
    return f"context-{sha256(json.dumps(request.context.as_lists()).encode()).removeprefix('sha256:')[:24]}"


def output_option(request: BuildRequest, builder: CurrentBuilder) -> str:
    """The value of buildx's --output for this builder."""
    destination: Reference = request.destination
    timestamps = ",rewrite-timestamp=true" if builder.reproducible else ""
    if request.output_file:
        if not builder.own_buildkit:
            return f"type=image,name={destination},push=false"
        return f"type=oci,dest={request.output_file},oci-mediatypes={str(request.oci_media_types).lower()}{timestamps}"
    if not builder.own_buildkit:
        return f"type=image,name={destination},push=true"
    parts = [
        "type=image",
        f"name={destination.repository}",
        "push=true",
        # No tag yet: the caller gives the image its name (`images.existing.tag_image`).
        "push-by-digest=true",
        "name-canonical=true",
    ]
    if builder.reproducible:
        parts.append("rewrite-timestamp=true")
    _, entry = table.entry_for(request.hosts, destination.repository)
    if speaks_http(destination.host, entry):
        parts.append("registry.insecure=true")
    return ",".join(parts)


def _make_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder
