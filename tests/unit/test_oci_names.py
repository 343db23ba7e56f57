"""Names and logins: parsed at the edge, refused with the part that is wrong."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pipeline_steps.auth.credentials import login_for
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("r.example.com/a", ("r.example.com", "a", None, None)),
        ("r.example.com:5000/a/b__c:1.0-x", ("r.example.com:5000", "a/b__c", "1.0-x", None)),
        (f"r.example.com/a@{D}", ("r.example.com", "a", None, D)),
        (f"[::1]:5000/a:t@{D}", ("[::1]:5000", "a", "t", D)),
    ],
)
def test_parts_of_a_reference(text: str, parts: tuple[str | None, ...]) -> None:
    assert Reference.parse(text) == parts and str(Reference.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("busybox", "no host"),
        ("r.example.com/", "'' is not a path"),
        ("r.example.com/Upper", "'Upper' is not a path"),
        ("r.example.com/a//b", "'a//b' is not a path"),
        ("r.example.com/../etc", "is not a path"),
        ("r.example.com/a:-x", "'-x' is not a tag"),
        ("r.example.com/a:" + "x" * 129, "is not a tag"),
        ("r.example.com/a@sha256:abc", "'sha256:abc' is not a digest"),
        ("r.example.com/a\n", "is not a path"),
        ("--help/x", "no host"),
    ],
)
def test_invalid_references_are_refused(text: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong) as caught:
        Reference.parse(text, where="pipeline.yaml:3")
    assert str(caught.value).startswith("pipeline.yaml:3: ") and repr(text)[1:-1] in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("team/web:1", "docker.io/team/web:1"),
        ("docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("localhost/web", "localhost/web"),
        ("registry:5000/web", "registry:5000/web"),
    ],
)
def test_familiar_names_are_completed_as_docker_does(text: str, whole: str) -> None:
    assert str(Reference.familiar(text)) == whole


def test_the_longest_prefix_gives_the_login(tmp_path: Path) -> None:
    hosts = {
        "r.example.com": Host("all", "pw-of-all"),
        "r.example.com/prod": Host("prod", "pw-of-prod"),
    }
    hosts["r.example.com/prod/trust"] = Host(ca_file="x")
    logins = [
        login_for("r.example.com", path, hosts, {})
        for path in ("snap/web", "prod/web", "prod/trust/x")
    ]
    assert [login.username for login in logins if login] == ["all", "prod", "prod"]
    with pytest.raises(
        ConfigurationError, match=r"hosts\.r\.example\.com.*both username and password"
    ):
        login_for("r.example.com", "x", {"r.example.com": Host("ci")}, {})
    with pytest.raises(ConfigurationError, match="cannot read the password"):
        login_for("r.example.com", "x", {"r.example.com": Host("ci", f"file:{tmp_path}/none")}, {})


def test_docker_config_with_urls_prefixes_and_errors(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)}

    def stored(content: object) -> None:
        (tmp_path / "config.json").write_text(json.dumps(content))

    def auth(text: str) -> dict[str, str]:
        return {"auth": base64.b64encode(text.encode()).decode()}

    hub = "https://index.docker.io/v1/"
    team = {"r.example.com/team": auth("team:pwpw"), "r.example.com": {}}
    stored({"auths": {hub: auth("hubber:pw:with:colons"), **team}})
    assert login_for("docker.io", "library/busybox", {}, environ) == (
        "hubber",
        "pw:with:colons",
        "",
    )
    found = login_for("r.example.com", "team/web", {}, environ)
    assert found and found.username == "team" and "pwpw" not in repr(found)
    assert login_for("r.example.com", "teams/web", {}, environ) is None
    stored({"auths": {"r.example.com": {"auth": "no base64"}}})
    with pytest.raises(MachineError, match=r"auths\.r\.example\.com: auth is not base64"):
        login_for("r.example.com", "x", {}, environ)
    nowhere = {**environ, "HOME": "/dev/null", "DOCKER_CONFIG": "/dev/null"}
    assert login_for("r.example.com", "x", {}, nowhere) is None
    for damaged in ("{", "[]", '{"auths": ' + "[" * 20_000):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(MachineError, match=r"config\.json: the file is not a JSON object"):
            login_for("r.example.com", "x", {}, environ)
