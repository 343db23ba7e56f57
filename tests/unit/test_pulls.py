"""What a cluster pulls for what was pushed, and the login in its pull secret: one answer for charts and tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.images import reference
from pipeline_steps.testing import pulls

DIGEST = f"sha256:{'a' * 64}"
WEB = f"r.example.com/prod/team/web:1@{DIGEST}"
MIRROR = Host(pull_as="mirror.example.com/p")
PUSHER, PULLER = Host(username="push", password="push-secret"), Host(username="pull", password="pull-secret")


@pytest.fixture(autouse=True)
def no_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HELM_REGISTRY_CONFIG", str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("hosts", "pulled", "login"),
    [
        ({"r.example.com/prod": PUSHER}, "r.example.com/prod/team/web", "push"),
        ({"r.example.com/prod": MIRROR, "r.example.com/prod/team": PUSHER}, "mirror.example.com/p/team/web", None),
        (
            {"r.example.com/prod": MIRROR, "r.example.com/prod/team": PUSHER, "mirror.example.com": PULLER},
            "mirror.example.com/p/team/web",
            "pull",
        ),
        ({"r.example.com": PUSHER, "r.example.com/prod": MIRROR}, "mirror.example.com/p/team/web", None),
        (
            {"r.example.com": PUSHER, "r.example.com/prod": MIRROR, "mirror.example.com/p/team": PULLER},
            "mirror.example.com/p/team/web",
            "pull",
        ),
        ({"r.example.com/prod/": Host(pull_as="mirror.example.com/p/")}, "mirror.example.com/p/team/web", None),
        (
            {"r.example.com": MIRROR, "r.example.com/prod/team": Host(pull_as="near.example.com")},
            "near.example.com/web",
            None,
        ),
    ],
)
def test_the_pull_secret_is_for_the_host_that_the_chart_names(
    hosts: dict[str, Host], pulled: str, login: str | None
) -> None:
    assert reference.of(Reference.parse(WEB), hosts).reference == f"{pulled}:1@{DIGEST}"
    secret = pulls.credentials([WEB], hosts)
    expected = {pulled.partition("/")[0]: login} if login else {}
    assert {host: user for host, (user, _password) in secret.items()} == expected


def test_two_logins_of_one_host_are_both_in_the_pull_secret() -> None:
    hosts = {"r.example.com/a": PUSHER, "r.example.com/b": PULLER}
    secret = pulls.credentials([f"r.example.com/a/x@{DIGEST}", f"r.example.com/b/y@{DIGEST}"], hosts)
    # The kubelet takes the longest name that an image begins with; other images of that host get the first login.
    assert secret == {"r.example.com": ("push", "push-secret"), "r.example.com/b/y": ("pull", "pull-secret")}


def test_an_image_is_recognised_by_the_repository_that_clusters_pull_from() -> None:
    hosts = {"r.example.com/prod": MIRROR}
    assert pulls.named(WEB, "image: mirror.example.com/p/team/web:latest", hosts)
    assert not pulls.named(WEB, "image: mirror.example.com/p/team/webby:latest", hosts)
