"""A kubeconfig file read into a `Connection`: server, trust and credentials of one named context.

Not by the `kubernetes` package's reader: that keeps keys in files until the process ends, starts
plugins with all of our environment, and asks identity providers without looking at their
certificates.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline_steps.toolbox import json_reader, process, yaml_reader
from pipeline_steps.toolbox.errors import AccessRefused, ConfigurationError, MachineError
from pipeline_steps.toolbox.redact import redact, register

#: A plugin that needs longer waits for somebody to type.
PLUGIN_SECONDS = 60.0


class Connection(NamedTuple):
    """How to reach one API server. kubeconfig and context are what helm is told.

    ca: PEM or None for the system's own; verify: False only when the kubeconfig says so.
    certificate, key: PEM.
    """

    kubeconfig: Path
    context: str
    server: str
    ca: bytes | None = None
    verify: bool = True
    server_name: str | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    token: str | None = None
    proxy: str | None = None

    def __repr__(self) -> str:
        return f"Connection({self.server}, context {self.context} of {self.kubeconfig})"


def load(kubeconfig: Path, context: str | None) -> Connection:
    """The connection of `context`; None is allowed when the file has only one, or names its current
    one.

    Raises ConfigurationError for a file that is none, MachineError when there is no file.
    """
    document = _document(kubeconfig)
    name = context or document.get("current-context") or _single_context(document, kubeconfig)
    chosen = _named_entry(document, "contexts", name, "context", kubeconfig)
    cluster = _named_entry(document, "clusters", str(chosen.get("cluster")), "cluster", kubeconfig)
    user: Mapping[str, Any] = {}
    if chosen.get("user"):
        user = _named_entry(document, "users", str(chosen["user"]), "user", kubeconfig)
    if not isinstance(cluster.get("server"), str):
        raise ConfigurationError(
            f"the cluster of context {name} has no server",
            where=str(kubeconfig),
            advice="add `server:` to its cluster, or name another context",
        )
    connection = Connection(
        kubeconfig=kubeconfig,
        context=name,
        server=cluster["server"].rstrip("/"),
        ca=_pem(cluster, "certificate-authority", kubeconfig),
        verify=not cluster.get("insecure-skip-tls-verify", False),
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
    )
    if "exec" in user:
        return _from_plugin(connection, user["exec"], cluster)
    if "auth-provider" in user:
        return connection._replace(token=_oidc_token(connection, user["auth-provider"]))
    return connection._replace(
        certificate=_pem(user, "client-certificate", kubeconfig),
        key=_pem(user, "client-key", kubeconfig),
        token=_token(user, kubeconfig),
    )


def _document(kubeconfig: Path) -> Mapping[str, Any]:
    try:
        text = kubeconfig.read_bytes()
    except OSError as error:
        raise MachineError(
            f"this account cannot read the kubeconfig: {error.strerror}",
            where=str(kubeconfig),
            advice="let this account read it, or name another kubeconfig",
        )
    try:
        document = yaml_reader.load_bounded(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigurationError(
            f"the kubeconfig is not YAML: {error}",
            where=str(kubeconfig),
            advice="write one with kubectl config view --raw",
        )
    if not isinstance(document, dict):
        raise ConfigurationError(
            "the kubeconfig is not a mapping of keys",
            where=str(kubeconfig),
            advice="write one with kubectl config view --raw",
        )
    return document


def _single_context(document: Mapping[str, Any], kubeconfig: Path) -> str:
    names = [str(entry.get("name")) for entry in document.get("contexts") or ()]
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise ConfigurationError(
            f"the kubeconfig has several contexts or none ({listed}) and names no current one",
            where=str(kubeconfig),
            advice="name one with `context` of the cluster in pipeline.yaml",
        )
    return names[0]


def _named_entry(
    document: Mapping[str, Any], kind: str, name: str, key: str, kubeconfig: Path
) -> Mapping[str, Any]:
    entries = {
        str(entry.get("name")): entry
        for entry in document.get(kind) or ()
        if isinstance(entry, dict)
    }
    entry_value = entries.get(name, {}).get(key)
    if not isinstance(entry_value, dict):
        names = ", ".join(sorted(entries)) or "none"
        raise ConfigurationError(
            f"there is no {key} {name} in the kubeconfig (there are: {names})",
            where=str(kubeconfig),
            advice="correct `context` of the cluster in pipeline.yaml, or the kubeconfig",
        )
    return entry_value


def _pem(entry: Mapping[str, Any], key: str, kubeconfig: Path) -> bytes | None:
    # What is written in the kubeconfig wins over a file that it names, as in client-go.
    if entry.get(f"{key}-data"):
        try:
            return base64.b64decode(entry[f"{key}-data"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise ConfigurationError(
                f"{key}-data is not base64",
                where=str(kubeconfig),
                advice="write one with kubectl config view --raw",
            )
    if not entry.get(key):
        return None
    return _read_file(kubeconfig, str(entry[key]), key)


def _token(user: Mapping[str, Any], kubeconfig: Path) -> str | None:
    # Before `token`, as in client-go: it is read again when the server refuses, and may be newer.
    if user.get("tokenFile"):
        return register(
            _read_file(kubeconfig, str(user["tokenFile"]), "tokenFile").decode().strip()
        )
    return register(str(user["token"])) if user.get("token") else None


def _oidc_token(connection: Connection, provider: Mapping[str, Any]) -> str:
    """The token that an identity provider (OIDC) issued last; helm and kubectl refresh it in the
    file.
    """
    token = (provider.get("config") or {}).get("id-token")
    if not token:
        raise _no_credentials(
            connection, f"its auth-provider {provider.get('name')} has no id-token"
        )
    return register(str(token))


def _read_file(kubeconfig: Path, name: str, key: str) -> bytes:
    # Relative to the kubeconfig, not to where we run, as client-go has it.
    path = kubeconfig.parent / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise MachineError(
            f"this account cannot read {key} of {kubeconfig}: {error.strerror}",
            where=str(path),
            advice="let this account read it, or correct the name in the kubeconfig",
        )


def _from_plugin(
    connection: Connection, plugin: Mapping[str, Any], cluster: Mapping[str, Any]
) -> Connection:
    """With the credentials that an `exec` plugin gives now; it is started like all our children.

    The interface: kubernetes.io/docs/reference/access-authn-authz/authentication, "client-go
    credential plugins".
    """
    command = str(plugin.get("command"))
    # A bare name is searched on PATH; one with a slash is relative to the kubeconfig, as in
    # client-go.
    if os.sep in command:
        command = str(connection.kubeconfig.parent / command)
    # A plugin that would ask for a password in a terminal must fail instead of waiting.
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = _cluster_info(connection, cluster)
    exec_credential = {
        "apiVersion": plugin.get("apiVersion"),
        "kind": "ExecCredential",
        "spec": spec,
    }
    plugin_env = {str(each["name"]): str(each["value"]) for each in plugin.get("env") or ()}
    completed = process.run(
        [command, *map(str, plugin.get("args") or ())],
        env={**plugin_env, "KUBERNETES_EXEC_INFO": json.dumps(exec_credential)},
        timeout=PLUGIN_SECONDS,
        advice=str(plugin.get("installHint") or ""),
    )
    if not completed.ok:
        ending = "does not end" if completed.code is None else f"fails with {completed.code}"
        output = redact(completed.stderr.decode(errors="replace")).strip()[-500:]
        raise _no_credentials(connection, f"{command} {ending}: {output or 'it prints nothing'}")
    try:
        status = dict(json_reader.decode(completed.stdout)["status"])
    except (ValueError, KeyError, TypeError) as error:
        raise _no_credentials(connection, f"{command} prints no ExecCredential") from error
    token, certificate, key = (
        status.get(f) for f in ("token", "clientCertificateData", "clientKeyData")
    )
    if not token and not (certificate and key):
        raise _no_credentials(connection, f"{command} prints neither token nor certificate")
    return connection._replace(
        certificate=certificate.encode() if certificate else None,
        key=key.encode() if key else None,
        token=register(token) if token else None,
    )


def _cluster_info(connection: Connection, cluster: Mapping[str, Any]) -> dict[str, Any]:
    """What a plugin with `provideClusterInfo` is told of the cluster."""
    exec_cluster = {key: cluster[key] for key in ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url")
            if key in cluster}  # fmt: skip
    if connection.ca:
        exec_cluster["certificate-authority-data"] = base64.b64encode(connection.ca).decode()
    for extension in cluster.get("extensions") or ():
        if extension.get("name") == "client.authentication.k8s.io/exec":
            exec_cluster["config"] = extension.get("extension")
    return exec_cluster


def _no_credentials(connection: Connection, reason: str) -> AccessRefused:
    return AccessRefused(
        f"the kubeconfig's user of context {connection.context} gives no credentials: {reason}",
        where=str(connection.kubeconfig),
        advice="run its login command, or kubectl with this context, by hand",
    )
