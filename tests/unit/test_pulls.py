"""What a cluster pulls for what was pushed, and the login in its pull secret: one answer for charts
and tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.auth.hosts import Host, Pull
from pipeline_steps.auth.reference import Reference
from pipeline_steps.config.language import Channels, ChartTests, Config, SnapshotChannel
from pipeline_steps.images import value_templates
from pipeline_steps.testing import pulls

DIGEST = f"sha256:{'a' * 64}"
WEB = f"r.example.com/prod/team/web:1@{DIGEST}"
MIRROR = Host(pull_as="mirror.example.com/p")
PUSHER, PULLER = (
    Host(username="push", password="push-secret"),
    Host(username="pull", password="pull-secret"),
)


@pytest.fixture(autouse=True)
def no_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HELM_REGISTRY_CONFIG", str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("hosts", "pulled", "login"),
    [
        ({"r.example.com/prod": PUSHER}, "r.example.com/prod/team/web", "push"),
        (
            {"r.example.com/prod": MIRROR, "r.example.com/prod/team": PUSHER},
            "mirror.example.com/p/team/web",
            None,
        ),
        (
            {
                "r.example.com/prod": MIRROR,
                "r.example.com/prod/team": PUSHER,
                "mirror.example.com": PULLER,
            },
            "mirror.example.com/p/team/web",
            "pull",
        ),
        (
            {"r.example.com": PUSHER, "r.example.com/prod": MIRROR},
            "mirror.example.com/p/team/web",
            None,
        ),
        (
            {
                "r.example.com": PUSHER,
                "r.example.com/prod": MIRROR,
                "mirror.example.com/p/team": PULLER,
            },
            "mirror.example.com/p/team/web",
            "pull",
        ),
        (
            {"r.example.com/prod/": Host(pull_as="mirror.example.com/p/")},
            "mirror.example.com/p/team/web",
            None,
        ),
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
    assert (
        value_templates.image_parts(Reference.parse(WEB), hosts).reference == f"{pulled}:1@{DIGEST}"
    )
    secret = pulls.pull_credentials([WEB], hosts)
    expected = {pulled.partition("/")[0]: login} if login else {}
    assert {host: user for host, (user, _password) in secret.items()} == expected


READER = Pull("read", "read-secret")


@pytest.mark.parametrize(
    ("hosts", "secret"),
    [
        (
            {"r.example.com/prod": Host("push", "push-secret", pull=READER)},
            {"r.example.com": ("read", "read-secret")},
        ),
        (
            {
                "r.example.com/prod": Host(
                    "push", "push-secret", pull_as="mirror.example.com/p", pull=READER
                )
            },
            {"mirror.example.com": ("read", "read-secret")},
        ),
        (
            {
                "r.example.com/prod": Host(
                    "push", "push-secret", pull_as="mirror.example.com/p", pull=READER
                ),
                "mirror.example.com": Host(
                    "other", "other-secret", pull=Pull("near", "near-secret")
                ),
            },
            {"mirror.example.com": ("near", "near-secret")},
        ),
        # What is said for a wider prefix holds where a longer one says nothing about pulls.
        (
            {"r.example.com": Host(pull=READER), "r.example.com/prod": Host("push", "push-secret")},
            {"r.example.com": ("read", "read-secret")},
        ),
    ],
)
def test_the_pull_secret_holds_the_login_that_only_reads(
    hosts: dict[str, Host], secret: dict[str, tuple[str, str]]
) -> None:
    assert pulls.pull_credentials([WEB], hosts) == secret


@pytest.mark.parametrize(
    ("hosts", "tests", "is_told"),
    [
        ({}, ChartTests(), False),
        ({"r.example.com/prod": PUSHER}, ChartTests(), True),
        ({"r.example.com": PUSHER}, ChartTests(), True),
        ({"r.example.com/prod": PUSHER}, ChartTests(pull_secret=False), False),
        ({"r.example.com/prod": Host("push", "push-secret", pull=READER)}, ChartTests(), False),
        (
            {"r.example.com/prod": Host("push", "push-secret", pull_as="mirror.example.com")},
            ChartTests(),
            False,
        ),
    ],
)
def test_push_login_in_the_pull_secret_is_warned_about(
    hosts: dict[str, Host], tests: ChartTests, is_told: bool, tmp_path: Path
) -> None:
    channels = Channels(snapshot=SnapshotChannel(images="r.example.com/prod"))
    config = Config(charts=(), root=tmp_path, hosts=hosts, tests=tests, channels=channels)
    warning = pulls.push_login_warning(config)
    expected = 'can read the login that pushes to r.example.com/prod: name one that only reads in hosts."r.exa'
    assert (expected in warning) == is_told and bool(warning) == is_told


def test_two_logins_of_one_host_are_both_in_the_pull_secret() -> None:
    hosts = {"r.example.com/a": PUSHER, "r.example.com/b": PULLER}
    secret = pulls.pull_credentials(
        [f"r.example.com/a/x@{DIGEST}", f"r.example.com/b/y@{DIGEST}"], hosts
    )
    # The kubelet takes the longest name that an image begins with; other images of that host get
    # the first login.
    assert secret == {
        "r.example.com": ("push", "push-secret"),
        "r.example.com/b/y": ("pull", "pull-secret"),
    }


def test_an_image_is_recognised_by_the_repository_that_clusters_pull_from() -> None:
    hosts = {"r.example.com/prod": MIRROR}
    assert pulls.manifests_name_image(WEB, "image: mirror.example.com/p/team/web:latest", hosts)
    assert not pulls.manifests_name_image(
        WEB, "image: mirror.example.com/p/team/webby:latest", hosts
    )
