"""Kubeconfig files: which credentials a context has, and what is said about a bad one."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_steps.clusters.kubeconfig import load
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    MachineError,
    ToolMissing,
)


def written(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u"}},
            {"name": "two", "context": {"cluster": "c"}},
        ],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def test_embedded_and_named_files_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"CA")
    (tmp_path / "token").write_bytes(b"from a file\n")
    path = written(tmp_path, {"tokenFile": "token"}, **{"certificate-authority": "ca.pem"})
    named = load(path, "one")
    assert (named.ca, named.token, named.server) == (b"CA", "from a file", "https://127.0.0.1:6443")
    embedded = base64.b64encode(b"CA").decode()
    path = written(tmp_path, {"token": "from a file"}, **{"certificate-authority-data": embedded})
    assert load(path, "one") == named
    assert "from a file" not in repr(named)


def test_a_context_without_user_is_anonymous(tmp_path: Path) -> None:
    assert load(written(tmp_path, {"token": "secret"}), "two").token is None


def test_credentials_of_a_plugin_are_asked_for(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    answer = (
        '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
        '"status": {"token": "issued"}}'
    )
    plugin.write_text(f"#!/bin/sh\necho '{answer}'\n")
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin),
                     "interactiveMode": "Never"}}  # fmt: skip
    assert load(written(tmp_path, user), "one").token == "issued"
    plugin.write_text("#!/bin/sh\necho log in first >&2\nexit 1\n")
    with pytest.raises(
        AccessRefused, match=r"gives no credentials: .*plugin fails with 1: log in first"
    ):
        load(written(tmp_path, user), "one")
    for answer in ("no JSON", "{}", '{"status": {"clientCertificateData": "but no key"}}'):
        plugin.write_text(f"#!/bin/sh\necho '{answer}'\n")
        with pytest.raises(AccessRefused, match=r"gives no credentials: .*plugin prints n"):
            load(written(tmp_path, user), "one")
    user["exec"] |= {"command": "no-such-plugin", "installHint": "get it at example.com"}
    with pytest.raises(
        ToolMissing, match=r"no-such-plugin is not installed \(get it at example.com"
    ):
        load(written(tmp_path, user), "one")


def test_a_plugin_gets_the_cleaned_environment_and_what_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_CI", "hunter2")
    plugin = tmp_path / "bin/plugin"
    plugin.parent.mkdir()
    status = {"clientCertificateData": "CERT", "clientKeyData": "KEY"}
    plugin.write_text(f"#!/bin/sh\nenv > {tmp_path}/env\necho \"$@\" >> {tmp_path}/env\n"
                      f"echo '{json.dumps({'status': status})}'\n")  # fmt: skip
    plugin.chmod(0o755)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./bin/plugin",
            "args": ["get", "x"],
            "env": [{"name": "REGION", "value": "here"}],
            "provideClusterInfo": True,
        }
    }
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}
    cluster = {
        "certificate-authority-data": base64.b64encode(b"CA").decode(),
        "extensions": [extension],
    }
    connection = load(written(tmp_path, user, **cluster), "one")
    assert (connection.certificate, connection.key, connection.token) == (b"CERT", b"KEY", None)
    told = (tmp_path / "env").read_text()
    assert "hunter2" not in told and "REGION=here\n" in told and told.endswith("get x\n")
    info = json.loads(
        next(line for line in told.splitlines() if line.startswith("KUBERNETES_EXEC_INFO=")).split(
            "=", 1
        )[1]
    )
    assert info["spec"] == {
        "interactive": False,
        "cluster": {
            "server": "https://127.0.0.1:6443/",
            "certificate-authority-data": cluster["certificate-authority-data"],
            "config": {"audience": "a"},
        },
    }


def test_the_token_that_an_identity_provider_issued_last_is_used(tmp_path: Path) -> None:
    provider = {"name": "oidc", "config": {"id-token": "issued-token", "refresh-token": "r"}}
    assert load(written(tmp_path, {"auth-provider": provider}), "one").token == "issued-token"
    with pytest.raises(AccessRefused, match="auth-provider gcp has no id-token"):
        load(written(tmp_path, {"auth-provider": {"name": "gcp"}}), "one")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, {})
    with pytest.raises(
        ConfigurationError, match=r"no context three in the kubeconfig \(there are: one, two\)"
    ):
        load(path, "three")
    with pytest.raises(ConfigurationError, match=r"several contexts or none \(one, two\)"):
        load(path, None)
    with pytest.raises(ConfigurationError, match="certificate-authority-data is not base64"):
        load(written(tmp_path, {}, **{"certificate-authority-data": "&"}), "one")
    with pytest.raises(MachineError, match="cannot read the kubeconfig: No such file") as caught:
        load(tmp_path / "nowhere", None)
    assert caught.value.exit_code == 7
    path.write_text("a: [")
    with pytest.raises(ConfigurationError, match="is not YAML"):
        load(path, None)
