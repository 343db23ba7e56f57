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
from pipeline_steps.images.builder import EPOCH, BuilderKind, Built, Request
from pipeline_steps.images.context import lay_out
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
_TROUBLE = re.compile(r"^(?:Error|ERROR):\s*(.+)", re.MULTILINE)
_NO_BUILDER = re.compile(
    r"cannot connect to the docker daemon|failed to connect|no builder .* found|error during connect"
    r"|dial unix|failed to find driver|permission denied while trying|error: desc = \"transport",
    re.IGNORECASE,
)
#: How buildx words what is the registry's: pushing, or reading the names of base images.
_REGISTRY = re.compile(
    r"failed to push|failed to resolve|failed to do request|failed to authorize|push access|pull access"
)


class Facts(NamedTuple):
    """driver: docker, docker-container, remote or kubernetes.

    buildkit: its version, the oldest of several nodes; "" when the builder does not run.
    """

    driver: str
    buildkit: str

    @property
    def own(self) -> bool:
        """A BuildKit of its own, not the engine's."""
        return self.driver != "docker"

    @property
    def reproducible(self) -> bool:
        return self.own and _numbers(self.buildkit) >= REPRODUCIBLE_SINCE


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(
        int(part) for part in re.findall(r"\d+", version.partition("+")[0].partition("-")[0])[:2]
    )


class Buildx:
    """plugin: the docker-buildx program; it is called directly, so no docker command is needed."""

    kind: BuilderKind = "buildx"

    def __init__(self, plugin: Path, environ: Mapping[str, str] | None = None) -> None:
        self._plugin = plugin
        self._environ = os.environ if environ is None else environ

    def check(
        self, dockerfile: Dockerfile, platforms: tuple[str, ...], secrets: tuple[str, ...]
    ) -> None:
        """Everything can be built here."""

    def facts(self, env: Mapping[str, str], *, start: bool = True) -> Facts:
        """What the current builder is. start: start it when it is not running. Raises MachineError."""
        options = ["--bootstrap"] if start else []
        done = process.run([self._plugin, "inspect", *options], env=env, timeout=180)
        text = (done.stdout + done.stderr).decode(errors="replace")
        versions, driver, trouble = (
            _VERSION.findall(text),
            _DRIVER.search(text),
            _TROUBLE.search(text),
        )
        if not done.ok or not driver or (not versions and (start or trouble)):
            raise self._unusable(redact(trouble[1]) if trouble else done.tail(5))
        return Facts(driver[1], min(versions, key=_numbers, default=""))

    def build(self, request: Request) -> Built:
        """Build and push; by digest alone where the builder can, else under the target's tag."""
        where = request.dockerfile.name
        wanted = [request.target, *(base.reference for base in request.dockerfile.bases)]
        with (
            scratch.folder("build") as folder,
            docker_config(wanted, request.hosts, self._environ) as login,
        ):
            facts = self.facts(login)
            self._prepare(request, folder)
            log.info(
                "building %s with BuildKit %s (%s)", request.target, facts.buildkit, facts.driver
            )
            done = process.run(
                self._command(request, folder, facts),
                env={**login, **self._variables(request)},
                timeout=request.timeout,
                on_line=log.info,
            )
            if done.code is None:
                raise Temporary(
                    f"the build was not done within {request.timeout:.0f} s\n{done.tail()}",
                    where=where,
                )
            if not done.ok:
                raise self._failure(done.stderr.decode(errors="replace"), request)
            return self._result(folder, facts, request)

    def _prepare(self, request: Request, folder: Path) -> None:
        lay_out(request.context, _made(folder / _context_name(request)), epoch=EPOCH)
        dockerfile = _made(folder / "dockerfile") / "Dockerfile"
        dockerfile.write_text(request.dockerfile.pinned(request.bases))
        # What the ignore file leaves out is left out already: this one wins over it and leaves out
        # nothing.
        dockerfile.with_name("Dockerfile.dockerignore").write_text(
            "# the context holds nothing but inputs\n"
        )

    def _command(self, request: Request, folder: Path, facts: Facts) -> list[str]:
        options = ["--progress=plain", "--provenance=false", "--sbom=false"]
        options += [
            f"--output={output(request, facts)}",
            f"--metadata-file={folder / 'metadata.json'}",
        ]
        options += [f"--file={folder / 'dockerfile' / 'Dockerfile'}"]
        options += [f"--build-arg={key}={value}" for key, value in sorted(request.args.items())]
        options += [f"--label={key}={value}" for key, value in sorted(request.labels.items())]
        options += [
            f"--secret=id={name},{source}" for name, source in sorted(request.secrets.items())
        ]
        if request.stage:
            options.append(f"--target={request.stage}")
        if request.platforms:
            options.append(f"--platform={','.join(request.platforms)}")
        if request.fresh:
            options.append("--no-cache")
        return [str(self._plugin), "build", *options, str(folder / _context_name(request))]

    def _variables(self, request: Request) -> dict[str, str]:
        names = [
            source.removeprefix("env=")
            for source in request.secrets.values()
            if source.startswith("env=")
        ]
        return {"SOURCE_DATE_EPOCH": str(EPOCH), **{name: self._environ[name] for name in names}}

    def _result(self, folder: Path, facts: Facts, request: Request) -> Built:
        metadata = json.loads((folder / "metadata.json").read_bytes())
        digest = "" if request.to and not facts.own else metadata.get("containerimage.digest")
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
            "buildkit": facts.buildkit,
            "buildx": version[1].lstrip("v") if len(version) > 1 else "unknown",
        }
        return Built(digest, facts.reproducible, tools)

    def _failure(self, output: str, request: Request) -> PipelineError:
        errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
        message = (
            errors[-1].removeprefix("ERROR:").strip() if errors else "buildx ended without a word"
        )
        if (
            _NO_BUILDER.search(message)
            and "did not complete" not in message
            and not _REGISTRY.search(message)
        ):
            return self._unusable(message)
        if _REGISTRY.search(message) and "did not complete successfully" not in message:
            return build_errors.of_registry(message, where=str(request.target))
        return build_errors.of_build(message, output, where=request.dockerfile.name)

    def _unusable(self, words: str) -> MachineError:
        builder = self._environ.get("BUILDX_BUILDER") or "current"
        engine = self._environ.get("DOCKER_HOST") or "/var/run/docker.sock"
        return MachineError(
            f"buildx cannot use its builder: {words}",
            where=f"builder {builder}, engine {engine}",
            advice="see docker buildx ls; name a running one in BUILDX_BUILDER, or start the engine",
        )


def _context_name(request: Request) -> str:
    """A name of its own for each context. BuildKit keeps what was sent under the folder's name and
    asks only for files whose size or time is another: with one name for all, a change that keeps
    the size would not arrive."""
    return f"context-{sha256(json.dumps(request.context.content()).encode()).removeprefix('sha256:')[:24]}"


def output(request: Request, facts: Facts) -> str:
    """The value of buildx's --output for this builder."""
    target: Reference = request.target
    rewritten = ",rewrite-timestamp=true" if facts.reproducible else ""
    if request.to:
        if not facts.own:
            return f"type=image,name={target},push=false"
        return f"type=oci,dest={request.to},oci-mediatypes={str(request.oci).lower()}{rewritten}"
    if not facts.own:
        return f"type=image,name={target},push=true"
    parts = [
        "type=image",
        f"name={target.repository}",
        "push=true",
        "push-by-digest=true",
        "name-canonical=true",
    ]
    if facts.reproducible:
        parts.append("rewrite-timestamp=true")
    _, entry = table.entry_for(request.hosts, target.repository)
    if speaks_http(target.host, entry):
        parts.append("registry.insecure=true")
    return ",".join(parts)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
