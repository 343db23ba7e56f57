"""What Gitea's answers mean, apart from any server."""

from __future__ import annotations

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.services.gitea import Gitea, error_for
from pipeline_steps.toolbox.errors import AccessRefused, ConfigurationError, MachineError, Temporary
from pipeline_steps.toolbox.http import Response

URL = "https://git.example.com"


def answer(status: int, body: bytes = b'{"message": "no"}') -> Response:
    return Response("GET", f"{URL}/api/v1/repos/core/charts", status, {}, body)


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (401, AccessRefused, "set GITEA_TOKEN"),
        (403, AccessRefused, "write:repository"),
        (404, AccessRefused, "or this login may not see it"),
        (409, MachineError, "no"),
        (423, MachineError, "archived"),
        (503, Temporary, "no"),
    ],
)
def test_errors_for_statuses_have_advice(status: int, kind: type[Exception], advice: str) -> None:
    error = error_for(answer(status))
    assert type(error) is kind
    assert advice in str(error)


def test_every_part_of_an_error_is_told() -> None:
    body = b'{"message": "not ready", "errors": ["one approval is missing"]}'
    assert "not ready (one approval is missing)" in str(error_for(answer(405, body)))
    assert "<html> down" in str(error_for(answer(500, b"<html>\n  down")))


@pytest.mark.parametrize(
    "url", ["http://git.example.com", "git.example.com", "ftp://a.example.com"]
)
def test_an_address_without_tls_gets_no_token(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not an https:// URL"):
        Gitea(url, "core/charts", {}, environ={})


def test_plain_http_is_used_where_hosts_says_so() -> None:
    hosts = {"git.example.com": Host(plain_http=True)}
    assert Gitea("http://git.example.com/", "core/charts", hosts).url == "http://git.example.com"


@pytest.mark.parametrize(
    "name", ["charts", "core/charts/api", "core/../admin?", "core/..", "../core", "/charts", ""]
)
def test_what_is_no_repository_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not a repository of Gitea"):
        Gitea(URL, name, {})


def test_a_token_of_two_lines_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Gitea(URL, "core/charts", {}, environ={"GITEA_TOKEN": "two\nlines-of-it"}).require_visible()
    assert "lines-of-it" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/api/v1/repos/x",
        f"{URL}/core/charts",
        f"{URL}.evil.example.com/api/v1/",
    ],
)
def test_urls_outside_the_api_get_no_token(url: str) -> None:
    with pytest.raises(MachineError, match="outside its API"):
        Gitea(URL, "core/charts", {}, environ={"GITEA_TOKEN": "t"}).call("GET", url)
