"""The docker engine that is running here: the sandbox uses it and never starts or stops it."""

from __future__ import annotations

import os

from pipeline_steps.toolbox.errors import AccessRefused, MachineError, Unreachable

DEFAULT = "unix:///var/run/docker.sock"


def version(*, timeout: float = 10) -> str:
    """Version of the engine at DOCKER_HOST or the default socket.

    Raises Unreachable (nobody answers), AccessRefused (this account may not use it), MachineError (neither).
    """
    import docker
    from docker.errors import APIError, DockerException

    where = os.environ.get("DOCKER_HOST", DEFAULT)
    try:
        client = docker.from_env(timeout=int(timeout))
        try:
            return str(client.version()["Version"])
        finally:
            client.close()
    except APIError as error:
        raise MachineError(f"the docker engine answers {error.explanation or error}", where=where) from error
    except (DockerException, OSError) as error:
        text = str(error)
        if "PermissionError" in text or "Permission denied" in text:
            raise AccessRefused(
                "this account may not use the docker engine",
                where=where,
                advice="add it to the group docker and log in again, or set DOCKER_HOST to an engine it may use",
            ) from error
        raise Unreachable(
            "no docker engine answers",
            where=where,
            advice="start dockerd, or set DOCKER_HOST to an engine that runs; in a checkout of pipeline_steps "
            "`python3 tools/engine/engine.py up` starts one",
        ) from error
