"""Logins for programs that only know docker's configuration: a folder of their own, removed
afterwards.

Passwords never stand in an argv; the folder is 0700, its file 0600. It is made only when the
configuration has a login for one of the registries: otherwise docker's own configuration is as
good.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline_steps.auth.credentials import (
    Login,
    docker_folder,
    from_hosts,
    login_for,
    read_credential_file,
)
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import DOCKER_HUB, Reference
from pipeline_steps.toolbox import files, scratch
from pipeline_steps.toolbox.redact import register

_HUB = "https://index.docker.io/v1/"


@contextlib.contextmanager
def docker_config(
    references: Iterable[Reference], hosts: Mapping[str, Host], environ: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """Variables under which docker and its plugins log in as the configuration says; {} when it
    says nothing.

    references: what will be pulled and pushed; of two logins for one host the first one's counts,
    because docker knows one a host.
    """
    all_references = list(references)
    if not any(from_hosts(reference.host, reference.path, hosts) for reference in all_references):
        yield {}
        return
    home = docker_folder(environ)
    with scratch.folder("docker") as folder:
        if home.is_dir():
            for entry in home.iterdir():  # plugins, contexts and their TLS keys stay where they are
                if entry.name != "config.json":
                    (folder / entry.name).symlink_to(entry.absolute())
        config = {
            k: v
            for k, v in read_credential_file(home / "config.json").items()
            # A credential helper would win over the logins written below.
            if k not in ("credsStore", "credHelpers")
        }
        config["auths"] = _auths(all_references, hosts, environ)
        files.write(folder / "config.json", json.dumps(config).encode(), mode=0o600)
        yield {
            "DOCKER_CONFIG": str(folder),
            "BUILDX_CONFIG": environ.get("BUILDX_CONFIG") or str(home / "buildx"),
        }


def _auths(
    references: list[Reference], hosts: Mapping[str, Host], environ: Mapping[str, str]
) -> dict[str, Any]:
    auths: dict[str, Any] = {}
    for reference in references:
        # docker keeps the login of Docker Hub under this URL, not under a host.
        key = _HUB if reference.host == DOCKER_HUB else reference.host
        login = None if key in auths else login_for(reference.host, reference.path, hosts, environ)
        if login:
            auths[key] = _auth_entry(login)
    return auths


def _auth_entry(login: Login) -> dict[str, str]:
    if login.identity_token:
        return {
            # What docker itself writes beside an identity token.
            "auth": _base64(f"{login.username or '<token>'}:"),
            "identitytoken": login.identity_token,
        }
    return {"auth": register(_base64(f"{login.username}:{login.password}"))}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
