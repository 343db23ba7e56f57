#!/usr/bin/env python3
"""A real Kubernetes of one node on this machine, in one folder, gone without a trace.

    python3 tools/kubernetes/node.py build                                  # once; minutes
    python3 tools/kubernetes/node.py up [--folder DIR] [--registry H:P]...  # prints node.json
    python3 tools/kubernetes/node.py status [--folder DIR]                  # 0 up, 7 not
    python3 tools/kubernetes/node.py down [--folder DIR]

`up` again is quick and adds registries (plain http) to a running node. One node a machine: services
and pods have addresses and rules of the whole machine. Needs root, and Debian's `packages
kubernetes`; works where the machine is itself a container. Exit codes: 0, 2 (command line), 7 (this
machine cannot).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools import processes
from tools.kubernetes import api, certificates, components, network
from tools.kubernetes.build import built, version
from tools.machine import (
    Cannot,
    Misuse,
    ends_with_exit_code,
    free_ports,
    locked,
    need_programs,
    need_root,
    say,
    seconds_since,
)

KIND = "node"
DEFAULT_FOLDER = Path("/var/lib/pipeline-steps/node")
#: Which folder the machine's node has, and what was there before it; written before anything is
#: changed.
RECORD = Path("/run/pipeline-steps/node.json")
PROGRAMS = ("etcd", "containerd", "ctr", "runc", "conntrack", "iptables", "ip", "openssl")


def up(folder: Path, registries: list[str]) -> dict[str, Any]:
    """Start the node unless it runs, let it pull from `registries` (host:port, plain http); facts
    of it.

    What a killed run left is ended and removed first, wherever it was. Raises Cannot (also when a
    node runs in another folder), Misuse.
    """
    need_root("a Kubernetes node")
    need_programs(PROGRAMS, "a Kubernetes node", "kubernetes")
    with lock():
        folder = folder.resolve()
        if (running := live()) is not None and running["folder"] != str(folder):
            raise Cannot(
                f"a node runs on this machine in {running['folder']}, and there can be one "
                "only: use that one, or "
                f"end it with: node.py down --folder {running['folder']}"
            )
        if running is None:
            programs = built()
            clear(folder)
            running = start(folder, programs)
        running["registries"] = components.allow_plain_http(folder, registries)
        # Replaced as a whole: others read it without the lock, and take half a file for no node.
        new_file = folder / "node.json.new"
        new_file.write_text(json.dumps(running, indent=2) + "\n")
        new_file.replace(folder / "node.json")
        return running


def start(folder: Path, programs: Path) -> dict[str, Any]:
    begin = time.monotonic()
    network.refuse_clash()
    host = network.host_address()
    folder = processes.claim(folder, KIND)
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(
        json.dumps({"folder": str(folder), "before": network.remembered()}, indent=2) + "\n"
    )
    ports = components.Ports(*free_ports(len(components.Ports._fields)))
    node = components.Layout(folder, programs, ports, host)
    daemons = processes.Daemons(folder)
    try:
        components.prepare(node)
        run(node, daemons)
        node_facts = facts(node, daemons)
    except BaseException:
        clear(folder)
        raise
    say(f"node: Kubernetes {version()} up in {seconds_since(begin)} ({folder})")
    return node_facts


def run(node: components.Layout, daemons: processes.Daemons) -> None:
    """Start all daemons and wait until pods can run, services have their addresses and names
    resolve.
    """
    components.start_store_and_api(node, daemons)
    components.start_containerd(node, daemons)
    server = api.Api(node.server, node.pki / "ca.crt", certificates.token(node.pki))
    daemons.wait("containerd listens", lambda: processes.connects(node.containerd))
    components.import_pause_image(node)
    daemons.wait("the API server is ready", lambda: server.ask("/readyz")[0] == 200)
    components.start_the_rest(node, daemons)
    for path, manifest in api.dns_service(network.DNS, node.host, node.ports.dns):
        status, answer = server.ask(path, manifest)
        if status != 201:
            raise Cannot(
                f"the API server does not take the {manifest['kind']} of the cluster's DNS: "
                f"{status} {answer}"
            )
    daemons.wait("the node is ready for pods", lambda: api.node_ready(server, components.NODE))
    name = "kubernetes.default.svc.cluster.local"
    daemons.wait(f"{name} resolves", lambda: api.resolves(network.DNS, name))


def facts(node: components.Layout, daemons: processes.Daemons) -> dict[str, Any]:
    """folder, kubeconfig, context, server, version, node, host, ports, networks, containerd
    (socket), processes.
    """
    return {
        "folder": str(node.folder),
        "kubeconfig": str(node.kubeconfig),
        "context": components.CONTEXT,
        "server": node.server,
        "version": version(),
        "node": components.NODE,
        "host": node.host,
        "ports": node.ports._asdict(),
        "pods": network.PODS,
        "services": network.SERVICES,
        "dns": network.DNS,
        "containerd": str(node.containerd),
        "registries": [],
        "processes": daemons.let_go(),
    }


def recorded() -> dict[str, Any] | None:
    """What RECORD says, or None when this machine has no node and no leftovers of one."""
    try:
        document: dict[str, Any] = json.loads(RECORD.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise Cannot(f"{RECORD} is damaged: end what runs of a node, then remove it")
    return document


def live() -> dict[str, Any] | None:
    """Facts of the machine's node when all of it runs."""
    record = recorded()
    if record is None:
        return None
    return processes.running_facts(Path(record["folder"]) / "node.json")


def clear(folder: Path) -> None:
    """End and remove what there is of a node, in `folder` and where RECORD says."""
    record = recorded()
    folders = {folder} | ({Path(record["folder"])} if record else set())
    containers: list[str] = []
    for node_folder in sorted(folders):
        processes.end_all(node_folder, first=[])
        containers += components.container_ids(node_folder)
        if processes.owned(node_folder, KIND):
            processes.remove(node_folder)
    if record:
        network.forget(record["before"], Path(record["folder"]))
        components.remove_traces(Path(record["folder"]), containers)
        RECORD.unlink()


def down(folder: Path) -> None:
    """End the node and all its pods; leaves no process, mount, interface, rule, control group or
    folder.
    """
    need_root("ending the node")
    with lock():
        record = recorded()
        if record and record["folder"] != str(folder.resolve()):
            raise Misuse(f"the node of this machine is in {record['folder']}, not in {folder}")
        clear(folder.resolve())


def lock() -> Any:
    return locked(Path("/run/pipeline-steps/node.lock"), "node")


def status(folder: Path) -> dict[str, Any]:
    document = live()
    if document is None or document["folder"] != str(folder.resolve()):
        where = f" (one runs in {document['folder']})" if document else ""
        raise Cannot(f"no node runs in {folder}{where}")
    return document


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="node.py", description="A real Kubernetes of one node.")
    parser.add_argument("verb", choices=("build", "up", "down", "status"))
    parser.add_argument(
        "--folder", type=Path, default=DEFAULT_FOLDER, help=f"default {DEFAULT_FOLDER}"
    )
    parser.add_argument(
        "--registry",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="pull from it without TLS",
    )
    arguments = parser.parse_args(argv)
    if arguments.verb == "build":
        print(built() / "node")
    elif arguments.verb == "down":
        down(arguments.folder)
    else:
        document = (
            up(arguments.folder, arguments.registry)
            if arguments.verb == "up"
            else status(arguments.folder)
        )
        print(json.dumps(document, indent=2))
    return 0


if __name__ == "__main__":
    ends_with_exit_code(main)
