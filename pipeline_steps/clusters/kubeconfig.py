"""A kubeconfig file read into a `Connection`: server, trust and credentials of one named context.

Static credentials are read here, because the `kubernetes` package takes a quarter of a second to import; those
that a program or an identity provider issues (`exec`, `auth-provider`) are left to it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline_steps.toolbox.errors import AccessRefused, ConfigurationError, MachineError
from pipeline_steps.toolbox.redact import register

ADVICE = "pipeline-steps doctor --for integration_test says more"


class Connection(NamedTuple):
    """How to reach one API server. kubeconfig and context are what helm is told.

    ca: PEM or None for the system's own; verify: False only when the kubeconfig says so. certificate, key: PEM.
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
    """The connection of `context`; None is allowed when the file has only one, or names its current one.

    Raises ConfigurationError for a file that is none, MachineError when there is no file.
    """
    document = _document(kubeconfig)
    name = context or document.get("current-context") or _only(document, kubeconfig)
    chosen = _named(document, "contexts", name, "context", kubeconfig)
    cluster = _named(document, "clusters", str(chosen.get("cluster")), "cluster", kubeconfig)
    user: Mapping[str, Any] = {}
    if chosen.get("user"):
        user = _named(document, "users", str(chosen["user"]), "user", kubeconfig)
    if not isinstance(cluster.get("server"), str):
        raise ConfigurationError(f"the cluster of context {name} has no server", where=str(kubeconfig))
    connection = Connection(
        kubeconfig=kubeconfig,
        context=name,
        server=cluster["server"].rstrip("/"),
        ca=_pem(cluster, "certificate-authority", kubeconfig),
        verify=not cluster.get("insecure-skip-tls-verify", False),
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
    )
    if "exec" in user or "auth-provider" in user:
        return _issued(connection)
    return connection._replace(
        certificate=_pem(user, "client-certificate", kubeconfig),
        key=_pem(user, "client-key", kubeconfig),
        token=_token(user, kubeconfig),
    )


def _document(kubeconfig: Path) -> Mapping[str, Any]:
    try:
        text = kubeconfig.read_bytes()
    except OSError as error:
        raise MachineError(f"cannot read the kubeconfig: {error.strerror}", where=str(kubeconfig), advice=ADVICE)
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the kubeconfig is not YAML: {error}", where=str(kubeconfig))
    if not isinstance(document, dict):
        raise ConfigurationError("this is no kubeconfig", where=str(kubeconfig))
    return document


def _only(document: Mapping[str, Any], kubeconfig: Path) -> str:
    names = [str(entry.get("name")) for entry in document.get("contexts") or ()]
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise ConfigurationError(
            f"the kubeconfig has several contexts or none ({listed}) and names no current one",
            where=str(kubeconfig),
            advice="name one with `context` of the cluster in pipeline.yaml",
        )
    return names[0]


def _named(document: Mapping[str, Any], kind: str, name: str, key: str, kubeconfig: Path) -> Mapping[str, Any]:
    entries = {str(entry.get("name")): entry for entry in document.get(kind) or () if isinstance(entry, dict)}
    found = entries.get(name, {}).get(key)
    if not isinstance(found, dict):
        known = ", ".join(sorted(entries)) or "none"
        raise ConfigurationError(f"no {key} {name} in the kubeconfig (there are: {known})", where=str(kubeconfig))
    return found


def _pem(entry: Mapping[str, Any], key: str, kubeconfig: Path) -> bytes | None:
    if entry.get(f"{key}-data"):
        try:
            return base64.b64decode(entry[f"{key}-data"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise ConfigurationError(f"{key}-data is not base64", where=str(kubeconfig))
    if not entry.get(key):
        return None
    return _read(kubeconfig, str(entry[key]), key)


def _token(user: Mapping[str, Any], kubeconfig: Path) -> str | None:
    if user.get("tokenFile"):
        return register(_read(kubeconfig, str(user["tokenFile"]), "tokenFile").decode().strip())
    return register(str(user["token"])) if user.get("token") else None


def _read(kubeconfig: Path, name: str, key: str) -> bytes:
    path = kubeconfig.parent / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise MachineError(f"cannot read {key} of {kubeconfig}: {error.strerror}", where=str(path), advice=ADVICE)


def _issued(connection: Connection) -> Connection:
    """The connection with credentials that an `exec` plugin or identity provider gives now."""
    from kubernetes import client, config

    given = client.Configuration()
    try:
        config.load_kube_config(  # type: ignore[no-untyped-call]
            str(connection.kubeconfig), connection.context, client_configuration=given, persist_config=False
        )
    except Exception as error:  # plugins and providers raise whatever they like
        raise AccessRefused(
            f"the kubeconfig's user of context {connection.context} gives no credentials: {error}",
            where=str(connection.kubeconfig),
            advice="run its login command, or kubectl with this context, by hand",
        ) from error
    # The key changed its name between versions of the client.
    header = given.api_key.get("BearerToken") or given.api_key.get("authorization") or ""
    scheme, _, token = str(header).rpartition(" ")
    if not (scheme and token) and not given.cert_file:
        raise AccessRefused(
            f"the kubeconfig's user of context {connection.context} gives no credentials",
            where=str(connection.kubeconfig),
            advice="run its login command, or kubectl with this context, by hand",
        )
    return connection._replace(
        certificate=Path(given.cert_file).read_bytes() if given.cert_file else None,
        key=Path(given.key_file).read_bytes() if given.key_file else None,
        token=register(token) if scheme else None,
    )
