"""Keys and certificates of the node, made with openssl: one authority, what servers show, what the
API server shows.

A throw-away node has throw-away keys: they live in its folder and die with it.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from pathlib import Path

from tools.machine import Cannot

DAYS = "3650"


def make(folder: Path, names: list[str]) -> None:
    """Fill `folder`: ca, serving (for `names`, like "IP:10.96.0.1"), kubelet-client, accounts,
    tokens.csv.
    """
    folder.mkdir(mode=0o700)
    key(folder / "ca.key")
    openssl(
        folder, "req", "-x509", "-new", "-key", "ca.key", "-out", "ca.crt", "-days", DAYS,
        "-subj", "/CN=node-authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    issue(
        folder,
        "serving",
        "/CN=node",
        ["subjectAltName=" + ",".join(names), "extendedKeyUsage=serverAuth"],
    )
    issue(
        folder,
        "kubelet-client",
        "/O=system:masters/CN=kube-apiserver",
        ["extendedKeyUsage=clientAuth"],
    )
    key(folder / "accounts.key")
    openssl(folder, "pkey", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")
    (folder / "tokens.csv").write_text(f"{secrets.token_hex(20)},admin,admin,system:masters\n")


def token(folder: Path) -> str:
    """The administrator's token, out of tokens.csv."""
    return (folder / "tokens.csv").read_text().partition(",")[0]


def issue(folder: Path, name: str, subject: str, extensions: list[str]) -> None:
    """<name>.key and <name>.crt, signed by the authority."""
    key(folder / f"{name}.key")
    openssl(folder, "req", "-new", "-key", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
    (folder / f"{name}.ext").write_text(
        "\n".join(["keyUsage=critical,digitalSignature", *extensions]) + "\n"
    )
    openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-out", f"{name}.crt", "-days", DAYS, "-extfile", f"{name}.ext",
    )  # fmt: skip


def key(path: Path) -> None:
    openssl(path.parent, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path.name)


def openssl(folder: Path, *arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"}
    completed = subprocess.run(
        ["openssl", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    if completed.returncode:
        raise Cannot(f"openssl {arguments[0]} failed: {completed.stderr.strip()}")


def kubeconfig(folder: Path, server: str, context: str) -> str:
    """A kubeconfig that verifies the server by the authority and logs in with the token."""
    authority = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
    return f"""\
apiVersion: v1
kind: Config
clusters:
- name: {context}
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: {context}
  user:
    token: {token(folder)}
contexts:
- name: {context}
  context:
    cluster: {context}
    user: {context}
current-context: {context}
"""
