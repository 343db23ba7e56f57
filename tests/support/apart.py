"""A machine within this machine: own processes, mounts, network and /run, for what may exist once a
machine.

What a test starts there dies with it, and what it leaves is exactly what is found in it afterwards.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

SETUP = """
set -e
mount --make-rprivate /
for place in /run /var/lib /var/log; do mount -t tmpfs none $place; done
mkdir -p /run/lock
ip link set lo up
ip link add outside type veth peer name beyond
ip link set beyond up
ip address add 198.51.100.2/24 dev outside
ip link set outside up
ip route add default via 198.51.100.1
"""


class Apart:
    """The machine; `address` is the one it has but loopback's (198.51.100.0/24 is for
    documentation, RFC 5737).
    """

    address = "198.51.100.2"

    def __init__(self, holder: int) -> None:
        self.holder = holder

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program there to its end."""
        enter = ["nsenter", "--target", str(self.holder), "--mount", "--net", "--pid", "--root"]
        return subprocess.run(
            [*enter, "--", *command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )

    def traces(self) -> dict[str, list[str]]:
        """What a program can leave: processes, mounts, interfaces, firewall rules, files in places
        of the system.
        """
        commands = {
            # Without the pipeline itself, whose programs ps may catch before they have arguments,
            # as [sh].
            "processes": r"ps -eo stat=,args= | grep -v '^Z' | sed 's/^[^ ]* *//'"
            r" | grep -vE '^\[?(ps|sh|sed|grep)\]?( |$)' || true",
            "mounts": "cut -d' ' -f2,3 /proc/self/mounts",
            "interfaces": "ip -o link | awk '{print $2}'",
            "rules": "(iptables-save; ip6tables-save) | grep '^-A' || true",
            "namespaces": "ip netns",
            "files": "find /run /var/lib /var/log /etc/cni /usr/libexec -xdev -not -path "
            "'/run/pipeline-steps*'",
            "settings": "sysctl -n net.ipv4.ip_forward net.ipv4.conf.all.route_localnet",
        }
        return {
            kind: sorted(self.run("sh", "-c", command).stdout.splitlines())
            for kind, command in commands.items()
        }

    def new_since(self, before: dict[str, list[str]]) -> dict[str, list[str]]:
        """What there is now and was not then. (Mounts inherited from outside may go away when they
        do there.)
        """
        after = self.traces()
        return {
            kind: new for kind in after if (new := sorted(set(after[kind]) - set(before[kind])))
        }


@contextlib.contextmanager
def machine() -> Iterator[Apart]:
    """A fresh machine. Needs root."""
    holder = subprocess.Popen(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
         f"{SETUP}\necho ready; while :; do sleep 1000; done"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stderr is not None
        assert holder.stdout.readline() == "ready\n", holder.stderr.read()
        inner = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()[0]
        yield Apart(int(inner))
    finally:
        holder.kill()
        holder.communicate()
