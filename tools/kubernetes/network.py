"""The node's traces in the network of the host: its address, what it would clash with, and taking
it all back.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import re
import subprocess
from pathlib import Path

from tools.machine import Cannot, find_program

#: Name of the pods' network, and what its rules and cached results are known by.
NAME = "pipeline-steps"
PODS = "10.213.0.0/16"
SERVICES = "10.96.0.0/16"
DNS = "10.96.0.10"
API = "10.96.0.1"
#: A kernel without IPv6 has no rules for it.
TABLES = ("iptables", "ip6tables") if Path("/proc/sys/net/ipv6").exists() else ("iptables",)
#: Settings of the kernel that a node changes.
SETTINGS = (
    "net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/ipv6/conf/all/forwarding",
    "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
)  # fmt: skip


def host_address() -> str:
    """An address of this machine that pods can reach: the one of the default route, else any but
    loopback's.
    """
    # 192.0.2.1 is nobody's (RFC 5737); asking for the route to it sends nothing
    route = run("ip", "-4", "-o", "route", "get", "192.0.2.1")
    match = re.search(r"\bsrc ([0-9.]+)", route)
    if match:
        return match[1]
    for link in json.loads(run("ip", "-j", "-4", "address") or "[]"):
        for address in link.get("addr_info", []):
            if address.get("scope") == "global":
                return str(address["local"])
    raise Cannot(
        "this machine has no network address but loopback's, and pods cannot reach that one"
    )


def refuse_clash() -> None:
    """Refuse when another Kubernetes keeps rules on this machine, or another network has the node's
    addresses.
    """
    for table in TABLES:
        if re.search(r"^:KUBE-SERVICES ", rules(table), re.MULTILINE):
            raise Cannot(
                f"another Kubernetes node runs on this machine ({table} has a chain KUBE-SERVICES)"
            )
    own_networks = [ipaddress.ip_network(PODS), ipaddress.ip_network(SERVICES)]
    for route in json.loads(run("ip", "-j", "-4", "route") or "[]"):
        if route["dst"] == "default":
            continue
        destination = ipaddress.ip_network(route["dst"])
        for network in own_networks:
            if destination.overlaps(network):
                raise Cannot(
                    f"{network}, which the node needs, is in use here: route to {destination} by "
                    f"{route.get('dev')}"
                )


def remembered() -> dict[str, object]:
    """What `forget` needs to know of the time before: kernel settings, and chains of other users of
    CNI plugins.
    """
    settings = {
        name: Path("/proc/sys", name).read_text().strip()
        for name in SETTINGS
        if Path("/proc/sys", name).exists()
    }
    chains = sorted(
        {
            chain
            for table in TABLES
            for chain in re.findall(r"^:(CNI-\S+)", rules(table), re.MULTILINE)
        }
    )
    return {"settings": settings, "chains": chains}


def forget(before: dict[str, object], folder: Path) -> None:
    """Take back the rules, cached results and kernel settings of the node in `folder`; nothing of
    it may run now.
    """
    chains = before.get("chains", [])
    assert isinstance(chains, list), "as remembered"
    for table in TABLES:
        orders = removal(rules(table), frozenset(chains))
        if orders:
            completed = subprocess.run(
                [full_path(f"{table}-restore"), "--noflush"],
                input=orders,
                capture_output=True,
                text=True,
            )
            if completed.returncode:
                raise Cannot(
                    f"{table}-restore cannot take back the node's rules: "
                    f"{completed.stderr.strip()}\n{orders}"
                )
    for path in Path("/var/lib/cni/results").glob("*"):
        if f'"{folder}/' in path.read_text(
            errors="replace"
        ):  # it names the network namespace, which lies there
            path.unlink(missing_ok=True)
    settings = before.get("settings", {})
    assert isinstance(settings, dict), "as remembered"
    for name, value in settings.items():
        path = Path("/proc/sys", name)
        with contextlib.suppress(
            OSError
        ):  # a setting this machine does not let us change has not changed
            if path.read_text().strip() != value:
                path.write_text(value)


def removal(saved: str, other_interfaces: frozenset[str]) -> str:
    """Orders for `iptables-restore --noflush` that remove what the node added to the rules in
    `saved`.

    Chains KUBE-* and CNI-* are the node's, but for `others`; elsewhere those rules that lead there
    or speak of its network. Rules of anybody else are not touched, not even rewritten. Empty when
    there is nothing to remove.
    """
    orders: list[str] = []
    for table, body in re.findall(r"^\*(\S+)\n(.*?)^COMMIT$", saved, re.MULTILINE | re.DOTALL):
        names = re.findall(r"^:(\S+)", body, re.MULTILINE)
        own_rules = [
            name
            for name in names
            if name.startswith(("KUBE-", "CNI-")) and name not in other_interfaces
        ]
        part = ["-D" + rule[2:] for rule in body.splitlines() if added(rule, own_rules)]
        part += [f"-F {name}" for name in own_rules] + [f"-X {name}" for name in own_rules]
        if part:
            orders += [f"*{table}", *part, "COMMIT"]
    return "\n".join(orders) + "\n" if orders else ""


def added(rule: str, own_rules: list[str]) -> bool:
    """Whether a rule in a chain that is not ours is the node's: it leads into `own_rules`, or speaks of
    its pods.
    """
    words = rule.split()
    if words[:1] != ["-A"] or words[1] in own_rules:
        return False
    leads = any(
        word in ("-j", "-g") and target in own_rules for word, target in itertools.pairwise(words)
    )
    return leads or PODS.partition("0.0/")[0] in rule or f'name: \\"{NAME}\\"' in rule


def rules(table: str) -> str:
    """All rules of a family, as <table>-save prints them. Raises Cannot when it cannot tell."""
    completed = subprocess.run([full_path(f"{table}-save")], capture_output=True, text=True)
    if completed.returncode:
        raise Cannot(
            f"{table}-save failed, so the node's rules cannot be told from others: "
            f"{completed.stderr.strip()}"
        )
    return completed.stdout


def run(*command: str) -> str:
    """Output of ip; empty when there is no such route."""
    return subprocess.run(
        [full_path(command[0]), *command[1:]], capture_output=True, text=True
    ).stdout


def full_path(program: str) -> str:
    """Where a program is; PATH may lack the sbin folders."""
    path = find_program(program)
    if path is None:
        raise Cannot(f"no {program}: python3 tools/programs/programs.py packages kubernetes")
    return path
