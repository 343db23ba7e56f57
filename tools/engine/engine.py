#!/usr/bin/env python3
"""A docker engine and a current BuildKit for this machine, in one folder, gone without a trace.

    python3 tools/engine/engine.py up [--folder DIR]       # prints engine.json
    python3 tools/engine/engine.py status [--folder DIR]   # 0 up, 7 not
    python3 tools/engine/engine.py down [--folder DIR]

The engine has no network of its own (no docker0, no iptables rules): it builds and pushes; a build
step that needs the network asks for `--network host`. The user's ~/.docker stays as it is:
engine.json has the environment under which `docker` and `docker buildx` find this engine, the
plugin and a builder for BuildKit. Needs root, and Debian's `packages engine`. Exit codes: 0, 2
(command line), 7 (this machine cannot).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools import processes
from tools.machine import (
    Cannot,
    FolderTool,
    ends_with_exit_code,
    find_program,
    locked,
    need_programs,
    need_root,
    say,
    seconds_since,
)
from tools.programs.programs import get

KIND = "engine"
DEFAULT_FOLDER = Path("/var/lib/pipeline-steps/engine")
BUILDER = "pipeline-steps"


def up(folder: Path) -> dict[str, Any]:
    """Start what does not run yet; facts of it (see `facts`), also in <folder>/engine.json.

    What a killed run left in the folder is ended and removed first. Raises Cannot, Misuse.
    """
    need_root("a docker engine")
    need_programs(("dockerd", "docker", "runc"), "a docker engine", "engine")
    with lock():
        if (running := read(folder)) is not None:
            return running
        buildkitd, buildx = get("buildkitd") / "buildkitd", get("buildx") / "docker-buildx"
        clear(folder)
        start = time.monotonic()
        folder = processes.claim(folder, KIND)
        daemons = processes.Daemons(folder)
        try:
            start_dockerd(daemons)
            start_buildkitd(daemons, buildkitd)
            client(folder, buildx)
            engine_facts = facts(folder, daemons)
        except BaseException:
            clear(folder)
            raise
        (folder / "engine.json").write_text(json.dumps(engine_facts, indent=2) + "\n")
        say(f"engine: up in {seconds_since(start)} ({folder})")
        return engine_facts


def start_dockerd(daemons: processes.Daemons) -> None:
    folder = daemons.folder
    settings = {
        "hosts": [f"unix://{folder}/docker.sock"],
        "data-root": f"{folder}/docker",
        "exec-root": f"{folder}/run",
        "pidfile": f"{folder}/docker.pid",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "userland-proxy": False,
        "exec-opts": ["native.cgroupdriver=cgroupfs"],  # systemd's would want a slice as parent
        "cgroup-parent": f"/{cgroup(folder)}",
    }
    dockerd = str(find_program("dockerd"))
    if major_version(dockerd) < 24:  # later ones make no key, and refuse the setting
        settings["deprecated-key-path"] = f"{folder}/key.json"
    (folder / "daemon.json").write_text(json.dumps(settings, indent=2))
    daemons.start("dockerd", [dockerd, "--config-file", f"{folder}/daemon.json"], sbin_too())
    daemons.wait("the docker engine answers", lambda: answers(folder / "docker.sock"))


def major_version(dockerd: str) -> int:
    """20 of "Docker version 20.10.24+dfsg1, build 297e128"."""
    output = subprocess.run([dockerd, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version (\d+)\.", output)
    if match is None:
        raise Cannot(f"{dockerd} --version says no version: {output.strip()!r}")
    return int(match[1])


def start_buildkitd(daemons: processes.Daemons, program: Path) -> None:
    folder = daemons.folder
    (folder / "buildkitd.toml").write_text(f"""\
root = "{folder}/buildkit"
[grpc]
  address = ["unix://{folder}/buildkitd.sock"]
[otel]
  socketPath = "{folder}/buildkit-otel.sock"
[cdi]
  disabled = true
[worker.containerd]
  enabled = false
[worker.oci]
  enabled = true
  binary = "runc"
  networkMode = "host"
  defaultCgroupParent = "{cgroup(folder)}"
""")
    daemons.start("buildkitd", [str(program), "--config", f"{folder}/buildkitd.toml"], sbin_too())
    daemons.wait("BuildKit answers", lambda: processes.connects(folder / "buildkitd.sock"))


def cgroup(folder: Path) -> str:
    """Name of the control group above all containers of the engine in this folder."""
    return f"pipeline-steps-engine-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def client(folder: Path, buildx: Path) -> None:
    """A docker configuration with the plugin, and a builder that is this BuildKit."""
    plugins = folder / "client/cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(buildx)
    (folder / "client/config.json").write_text("{}\n")
    (folder / "client").chmod(0o700)
    completed = subprocess.run(
        ["docker", "buildx", "create", "--name", BUILDER, "--driver", "remote", "--use", f"unix://{folder}/buildkitd.sock"],
        env={**os.environ, **environment(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    if completed.returncode:
        raise Cannot(
            f"docker buildx create failed: {completed.stderr.strip() or completed.stdout.strip()}"
        )


def environment(folder: Path) -> dict[str, str]:
    """What makes `docker` and `docker buildx` use this engine and builder."""
    return {
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_CONFIG": f"{folder}/client",
        "BUILDX_CONFIG": f"{folder}/buildx",
        "BUILDX_BUILDER": BUILDER,
    }


def facts(folder: Path, daemons: processes.Daemons) -> dict[str, Any]:
    """docker_host, buildkit (address), builder (name for buildx), environment, folder, processes."""
    return {
        "folder": str(folder),
        "docker_host": f"unix://{folder}/docker.sock",
        "buildkit": f"unix://{folder}/buildkitd.sock",
        "builder": BUILDER,
        "environment": environment(folder),
        "processes": daemons.let_go(),
    }


def sbin_too() -> dict[str, str]:
    """dockerd and buildkitd look for runc and others on PATH, which a user's may lack."""
    return {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"}


def read(folder: Path) -> dict[str, Any] | None:
    """Facts of the engine in this folder when all of it runs."""
    return processes.running_facts(folder.resolve() / "engine.json")


def clear(folder: Path) -> None:
    """End all that runs of an engine in this folder and remove it, folder included."""
    folder = folder.resolve()
    first = []
    if processes.owned(folder, KIND):
        first = [
            pid for pid in processes.of_folder(folder) if name_of(pid) in ("dockerd", "buildkitd")
        ]
    processes.end_all(folder, first=first)
    if processes.owned(folder, KIND):
        processes.remove(folder)
        processes.remove_cgroups(cgroup(folder))
        processes.remove_common_traces(
            "/opt/containerd/bin", "/opt/containerd/lib", "/run/docker/plugins", "/run/runc"
        )


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def down(folder: Path) -> None:
    """End the engine and all its builds and containers; leaves no process, mount, control group or
    folder.
    """
    need_root("ending the engine")
    with lock():
        clear(folder)


def lock() -> Any:
    """One run at a time on this machine, whatever the folder."""
    return locked(Path("/run/pipeline-steps/engine.lock"), "engine")


def answers(path: Path) -> bool:
    """Whether the docker engine at this socket says it is well."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
        connection.settimeout(5)
        question = http.client.HTTPConnection("localhost")
        question.sock = connection
        try:
            question.request("GET", "/_ping")
            return question.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def main(argv: list[str]) -> int:
    tool = FolderTool("engine", "A docker engine and BuildKit in one folder.", DEFAULT_FOLDER)
    return tool.run(argv, up, down, read)


if __name__ == "__main__":
    ends_with_exit_code(main)
