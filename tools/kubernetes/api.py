"""The few questions put to the node's own API server and DNS while it starts; kubectl is not needed
for them.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Api:
    """The API server at `server`, verified by the authority in `ca`."""

    def __init__(self, server: str, ca: Path, token: str) -> None:
        self.server = server
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        trust = ssl.create_default_context(cafile=str(ca))
        # the machine's proxy settings are not for its own loopback
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )

    def ask(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and answer (JSON, or text) of GET, or of POST with a body; status 0 when nobody
        answers.
        """
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.server + path, data=data, headers=self.headers)
        try:
            with self.opener.open(request, timeout=10) as response:
                status, text = response.status, response.read()
        except urllib.error.HTTPError as refusal:
            status, text = refusal.code, refusal.read()
        except OSError:
            return 0, ""
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text.decode(errors="replace")


def node_ready(api: Api, name: str) -> bool:
    """Whether pods can be scheduled: the node says Ready, its taints are gone, and pods have an
    account.
    """
    status, node = api.ask(f"/api/v1/nodes/{name}")
    if status != 200 or node["spec"].get("taints"):
        return False
    conditions = {
        condition["type"]: condition["status"] for condition in node["status"].get("conditions", [])
    }
    account, _ = api.ask("/api/v1/namespaces/default/serviceaccounts/default")
    return conditions.get("Ready") == "True" and account == 200


def dns_service(address: str, host: str, port: int) -> list[tuple[str, dict[str, Any]]]:
    """(path, object) that give the DNS server on the host a service address in the cluster."""
    ports = [
        {"name": f"dns-{kind.lower()}", "port": 53, "protocol": kind, "targetPort": port}
        for kind in ("UDP", "TCP")
    ]
    slices = [
        {"name": service_port["name"], "port": port, "protocol": service_port["protocol"]}
        for service_port in ports
    ]
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    return [
        ("/api/v1/namespaces/kube-system/services", {
            "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"clusterIP": address, "ports": ports},
        }),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": slices,
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
            "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
        }),
    ]  # fmt: skip


def resolves(server: str, name: str) -> bool:
    """Whether the DNS server answers the name with an address (RFC 1035: one question of type A
    over UDP).
    """
    number = secrets.token_bytes(2)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    question = number + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(0.5)
        try:
            connection.sendto(question, (server, 53))
            answer = connection.recv(512)
        except OSError:
            return False
    return answer[:2] == number and answer[3] & 15 == 0 and int.from_bytes(answer[6:8], "big") > 0
