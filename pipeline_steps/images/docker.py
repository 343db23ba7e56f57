"""Images built by the docker engine's classic builder, through the docker SDK.

It has no platforms, no secrets, no BuildKit syntax; those are refused, naming buildx. Two builds
of the same inputs have the same files, not the same digest.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline_steps.auth.credentials import login_for
from pipeline_steps.auth.reference import Reference
from pipeline_steps.images import build_errors
from pipeline_steps.images.builder import EPOCH, BuilderKind, BuildRequest, BuildResult
from pipeline_steps.images.context import write_tar
from pipeline_steps.images.dockerfile import Dockerfile
from pipeline_steps.images.ignore import FILE as IGNORE_FILE
from pipeline_steps.toolbox import scratch
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import MachineError, PipelineError, Temporary, ToolMissing
from pipeline_steps.toolbox.late_imports import LATE_IMPORT
from pipeline_steps.toolbox.proxy import proxy_for

if TYPE_CHECKING:
    import docker
    import requests

log = logging.getLogger(__name__)

#: The Dockerfile's name on its way to the engine: the ignore file leaves it out again, as `docker
#: build -f -` does.
DOCKERFILE = ".dockerfile.pipeline-steps"
DEFAULT_SOCKET = "unix:///var/run/docker.sock"


class Docker:
    """The engine that DOCKER_HOST names, or this machine's own."""

    kind: BuilderKind = "docker"

    def check_supported(
        self, dockerfile: Dockerfile, platforms: tuple[str, ...], secrets: tuple[str, ...]
    ) -> None:
        """Refuse what only BuildKit can do."""
        dockerfile.refuse_buildkit_features()
        for feature, values in (("platforms", platforms), ("secrets", secrets)):
            if values:
                raise ToolMissing(
                    f"{feature} ({', '.join(values)}) need BuildKit",
                    where=dockerfile.name,
                    advice="install docker's buildx plugin; the engine's classic builder has no "
                    "such thing",
                )

    def build(self, request: BuildRequest) -> BuildResult:
        """Build, push under the target's tag, report the digest."""
        with engine() as client:
            version = str(client.version().get("Version", ""))
            for reference in {base.reference for base in request.dockerfile.bases}:
                self._pull(
                    client,
                    reference._replace(digest=request.bases.get(str(reference), "")),
                    request,
                )
            log.info("building %s with docker %s (classic builder)", request.destination, version)
            self._build(client, request)
            if request.output_file:
                return BuildResult("", False, {"docker": version})
            return BuildResult(self._push(client, request), False, {"docker": version})

    def _pull(
        self, client: docker.DockerClient, reference: Reference, request: BuildRequest
    ) -> None:
        import docker.errors

        pinned = reference._replace(tag=None)
        with contextlib.suppress(docker.errors.ImageNotFound):
            # By digest: what the engine has needs no registry, whose rate limit a build may have
            # met.
            client.images.get(str(pinned))
            return
        events = client.api.pull(
            reference.repository,
            tag=reference.digest,
            stream=True,
            decode=True,
            auth_config=_auth(reference, request),
        )
        error = ""
        for event in events:  # to the end: the SDK returns a connection only when all was read
            error = error or str(event.get("error", ""))
        if error:
            raise build_errors.registry_error(error, where=str(reference))

    def _build(self, client: docker.DockerClient, request: BuildRequest) -> None:
        deadline = Deadline(request.timeout)
        where = request.dockerfile.name
        with tempfile.TemporaryFile(dir=scratch.home()) as tar:
            write_tar(request.context, tar, _extra_files(request), epoch=EPOCH)
            tar.seek(0)
            events = client.api.build(
                fileobj=tar,
                custom_context=True,
                dockerfile=DOCKERFILE,
                tag=str(request.destination),
                buildargs=dict(request.args),
                labels=dict(request.labels),
                target=request.build_stage or "",
                nocache=request.no_cache,
                rm=True,
                forcerm=True,
                decode=True,
                # The SDK's own is for each read; `deadline` is for the whole build.
                timeout=int(request.timeout) if request.timeout else None,
            )
            output: list[str] = []
            error = ""
            for event in events:
                error = error or str(event.get("error", ""))
                text = str(event.get("stream", ""))
                output.append(text)
                if text.strip():
                    log.info("%s", text.rstrip())
                if deadline.over:
                    raise Temporary(
                        f"the build did not finish within {request.timeout:.0f} s",
                        where=where,
                        advice="run it again, or give more with --timeout",
                    )
            if error:
                raise build_errors.build_error(error, "".join(output), where=where)

    def _push(self, client: docker.DockerClient, request: BuildRequest) -> str:
        target = request.destination
        events: Iterable[dict[str, Any]] = client.api.push(
            target.repository,
            tag=target.tag,
            stream=True,
            decode=True,
            auth_config=_auth(target, request),
        )
        digest = error = ""
        for event in events:
            error = error or str(event.get("error", ""))
            digest = (event.get("aux") or {}).get("Digest") or digest
        if error:
            raise build_errors.registry_error(error, where=str(target))
        if not digest:
            raise MachineError(
                "the docker engine reported no digest for the pushed image",
                where=str(target),
                advice="run it again; if it stays, install buildx",
            )
        return digest


def save_and_remove_image(reference: Reference, file: Path) -> None:
    """Write an image that the engine has to a file, as `docker save` does, and remove its tag.

    Raises MachineError without an engine, or when it has no such image.
    """
    with engine() as client:
        try:
            with file.open("wb") as sink:
                for block in client.images.get(str(reference)).save():
                    sink.write(block)
        finally:
            # Named only for this: left there, it would fill the engine with one image a
            # reproduction.
            client.images.remove(str(reference))


def _extra_files(request: BuildRequest) -> dict[str, bytes]:
    """The Dockerfile under a name of its own, and an ignore file that makes the engine take both
    out again.
    """
    has_ignore_file = any(each.path == IGNORE_FILE for each in request.context.inputs)
    rules = (
        request.context.read(IGNORE_FILE).rstrip(b"\n") + b"\n"
        if has_ignore_file
        else f"{IGNORE_FILE}\n".encode()
    )
    return {
        DOCKERFILE: request.dockerfile.pin_bases(request.bases).encode(),
        IGNORE_FILE: rules + f"{DOCKERFILE}\n".encode(),
    }


def _auth(reference: Reference, request: BuildRequest) -> dict[str, str] | None:
    login = login_for(reference.host, reference.path, request.hosts)
    if login is None:
        return None
    if login.identity_token:
        return {"identitytoken": login.identity_token}
    return {"username": login.username, "password": login.password}


def engine_version() -> str:
    """The engine's version, asked with a short timeout. Raises as `engine`."""
    with engine(seconds=10) as client:
        return str(client.version()["Version"])


@contextlib.contextmanager
def engine(*, seconds: int = 60) -> Iterator[docker.DockerClient]:
    """The engine, connected; what the SDK and its HTTP library raise inside is translated.

    seconds: that one answer may take.

    Raises MachineError naming DOCKER_HOST or the socket when there is none, or it must not be used.
    """
    with LATE_IMPORT:
        import docker
        import docker.errors
        import requests  # what the SDK asks the engine with

    _check_socket()
    client = None
    try:
        client = _client(seconds)
        yield client
    except docker.errors.APIError as error:
        raise _api_error(error) from error
    except requests.exceptions.Timeout as error:
        raise Temporary(
            "the docker engine did not answer in time",
            where=_engine_address(),
            advice="run it again, or restart it",
        ) from error
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise _no_engine(error) from error
    finally:
        if client is not None:
            client.close()


def _client(seconds: int) -> docker.DockerClient:
    """The SDK's client with the proxies of docker's own programs: none for this machine, and
    NO_PROXY as Go reads it.
    """
    import docker

    class Engine(docker.APIClient):
        def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            url = str(request.url)
            proxy = proxy_for(url, os.environ)
            options["proxies"] = {urlsplit(url).scheme: proxy} if proxy else {}
            return super().send(request, **options)

    class Client(docker.DockerClient):
        def __init__(self, **options: Any) -> None:
            self.api = Engine(**options)

    return Client.from_env(timeout=seconds)


def _engine_address() -> str:
    host = os.environ.get("DOCKER_HOST")
    return f"DOCKER_HOST={host}" if host else DEFAULT_SOCKET


def _check_socket() -> None:
    """Connect to the engine's socket once: the SDK's own error is unclear, and leaks a socket."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET
    if not host.startswith("unix://"):
        return
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(host.removeprefix("unix://"))
    except PermissionError as error:
        raise MachineError(
            "this account may not use the docker engine",
            where=_engine_address(),
            advice="add it to the group of the socket (usually docker), or name another engine "
            "in DOCKER_HOST",
        ) from error
    except OSError as error:
        raise _no_engine(error.strerror or str(error)) from error


def _no_engine(reason: object) -> MachineError:
    return MachineError(
        f"no docker engine answers: {reason}",
        where=_engine_address(),
        advice="start it, or name a running one in DOCKER_HOST; in a checkout of pipeline_steps "
        "`python3 tools/engine/engine.py up` starts one",
    )


def _api_error(error: Any) -> PipelineError:
    """An answer of the engine that is an error in itself; a Dockerfile it cannot read is the
    chart's fault.
    """
    message = str(error.explanation or error)
    if error.is_client_error() and "ockerfile" in message:
        return build_errors.build_error(message, "", where="Dockerfile")
    return MachineError(
        f"the docker engine answers: {message}",
        where=_engine_address(),
        advice="look at the engine: docker info",
    )
