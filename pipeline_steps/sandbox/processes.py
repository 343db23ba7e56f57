"""The sandbox's processes: registry (on one or two addresses) and web server.

The registry is Debian's docker-registry over a folder of the sandbox. Each process is started once,
recognised by later commands, and ended by `down`.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from pipeline_steps.sandbox import ledger, web
from pipeline_steps.sandbox.ledger import Ledger
from pipeline_steps.toolbox import daemon, files, http, process
from pipeline_steps.toolbox.errors import MachineError, PipelineError, ToolMissing

log = logging.getLogger(__name__)
LOOPBACK = "127.0.0.1"
REGISTRY, WEB, NODE_REGISTRY = "registry", "web", "registry-for-nodes"
_REGISTRY_PROGRAM = "docker-registry"
_REGISTRY_CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
  maintenance: {{readonly: {{enabled: {readonly}}}}}
http: {{addr: "{address}:{port}"}}
"""
#: Seconds until a process that was started answers, and that one answer may take.
PATIENCE, ANSWER_SECONDS = 10.0, 2.0


def choose_ports(state: Ledger) -> Ledger:
    """Assign ports to registry and web server: the previous one while it is ours or free, else
    another.
    """
    ports: dict[str, int] = {}
    for name in (REGISTRY, WEB):
        former, started = state.ports.get(name), state.daemons.get(name)
        is_ours = started is not None and daemon.alive(started)
        keep = former is not None and former not in ports.values() and (is_ours or _is_free(former))
        ports[name] = former if keep and former is not None else _any_port(ports.values())
    return replace(state, ports=ports)


def start_registry(folder: Path, state: Ledger) -> Ledger:
    """Ensure that the registry runs. Raises ToolMissing, MachineError."""

    def configure(port: int) -> None:
        _configure_registry(folder, REGISTRY, LOOPBACK, port)

    return _start_on_free_port(folder, state, REGISTRY, configure)


def start_web(folder: Path, state: Ledger) -> Ledger:
    """Ensure that the static chart repository is served. Raises MachineError."""

    def configure(port: int) -> None:
        settings = msgspec.json.encode({"folder": str(folder / "charts"), "port": port})
        files.write(folder / "web.json", settings)

    return _start_on_free_port(folder, state, WEB, configure)


def start_node_registry(folder: Path, state: Ledger) -> Ledger:
    """Serve the registry's images also at the address that the cluster's nodes use, if there is
    one.
    """
    if state.cluster is None or not state.cluster.pull_from:
        return end(folder, state, NODE_REGISTRY)
    _configure_registry(
        folder, NODE_REGISTRY, state.cluster.pull_from, state.ports[REGISTRY], readonly=True
    )
    return _ensure_started(folder, state, NODE_REGISTRY)


def end(folder: Path, state: Ledger, name: str) -> Ledger:
    """End the recorded process, and processes with the same command line that a killed run did not
    record.
    """
    recorded = state.daemons.get(name)
    for started in (*([recorded] if recorded else ()), *daemon.find(_command(folder, name))):
        daemon.stop(started)
    return ledger.write(
        folder, replace(state, daemons={k: v for k, v in state.daemons.items() if k != name})
    )


def is_answering(state: Ledger, name: str) -> bool:
    """Whether the service itself, not another server, answers at its address."""
    host, port = address(state, name)
    method, path = ("HEAD", "/") if name == WEB else ("GET", "/v2/")
    try:
        client = http.Client(timeout=ANSWER_SECONDS, direct=True)
        answer = client.request(method, f"http://{host}:{port}{path}", budget=0)
    except PipelineError:
        return False
    if name == WEB:
        return answer.headers.get("server", "").startswith(web.SERVER)
    api = answer.headers.get("docker-distribution-api-version")
    return answer.status == 200 and api == "registry/2.0"


def address(state: Ledger, name: str) -> tuple[str, int]:
    """Host and port of the service."""
    if name == NODE_REGISTRY and state.cluster is not None:
        return state.cluster.pull_from, state.ports[REGISTRY]
    return LOOPBACK, state.ports[name]


def _command(folder: Path, name: str) -> list[str]:
    if name == WEB:
        return web.command(folder / "web.json")
    return [_REGISTRY_PROGRAM, "serve", str(folder / f"{name}.yml")]


def _configure_registry(
    folder: Path, name: str, address: str, port: int, *, readonly: bool = False
) -> None:
    """Write the configuration `name`. Raises ToolMissing when docker-registry is not installed.

    readonly: for a second address of the same images, for a cluster that sees this machine there.
    """
    if process.which(_REGISTRY_PROGRAM) is None:
        raise ToolMissing(
            f"{_REGISTRY_PROGRAM} is not installed: the sandbox's registry is this program",
            advice=f"apt-get install {_REGISTRY_PROGRAM}, or whatever package of your system brings it",
        )
    text = _REGISTRY_CONFIG.format(
        data=json.dumps(str(folder / "registry")),
        readonly=str(readonly).lower(),
        address=address,
        port=port,
    )
    files.write(folder / f"{name}.yml", text.encode())


def _start_on_free_port(
    folder: Path, state: Ledger, name: str, configure: Callable[[int], None]
) -> Ledger:
    """Ensure that it runs; on another port when another program took the chosen one meanwhile."""
    for tries_left in (2, 1, 0):
        configure(state.ports[name])
        try:
            return _ensure_started(folder, state, name)
        except MachineError:
            if not tries_left or _is_free(state.ports[name]):
                raise
        ports = {**state.ports, name: _any_port(state.ports.values())}
        state = ledger.write(folder, replace(ledger.read(folder), ports=ports))
    raise AssertionError("the last try returns or raises")


def _ensure_started(folder: Path, state: Ledger, name: str) -> Ledger:
    """Use the running process, or end leftovers of a killed run and start a new one."""
    former = state.daemons.get(name)
    if former is not None and daemon.alive(former) and is_answering(state, name):
        return state
    state = end(folder, state, name)
    output = folder / f"{name}.log"
    started = daemon.start(_command(folder, name), cwd=folder, log=output)
    state = ledger.write(folder, replace(state, daemons={**state.daemons, name: started}))
    deadline = time.monotonic() + PATIENCE
    while not is_answering(state, name):
        if not daemon.alive(started) or time.monotonic() > deadline:
            daemon.stop(started)
            output_tail = output.read_text(errors="replace").strip()[-800:]
            raise MachineError(
                f"the sandbox's {name} does not start: {output_tail or 'it says nothing'}",
                where=str(output),
                advice="correct what it names, then run sandbox up again",
            )
        time.sleep(0.02)
    log.info("%s: %s:%d", name, *address(state, name))
    return state


def _is_free(port: int) -> bool:
    """Whether no process listens on the port."""
    with socket.socket() as listener:
        # Without it, a port in TIME_WAIT of an ended server would count as used.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _any_port(excluded: Iterable[int]) -> int:
    """A free port that is not in `excluded`."""
    while True:
        with socket.socket() as listener:
            listener.bind((LOOPBACK, 0))
            port = int(listener.getsockname()[1])
        if port not in set(excluded):
            return port
