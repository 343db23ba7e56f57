"""Gerrit's API as no real server gives it on demand: answers that pass, pages, foreign answers. The
server is a double; tests/reviews/test_gerrit.py asks a real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.services.gerrit import Gerrit
from pipeline_steps.toolbox.errors import AccessRefused, MachineError, PipelineError, Temporary
from tests.support.scripted import Answer, Request, scripted

PREFIX = b")]}'\n"


def always(answer: Answer) -> Callable[[Request], Answer]:
    return lambda request: answer


def ask(answer: Answer, method: str = "GET") -> Any:
    with scripted(always(answer)) as server:
        hosts = {server.host: Host(username="ci", password="secret-77")}
        return Gerrit(f"http://{server.host}/review/", hosts).call(method, "/x", body={})


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (500, Temporary),
        (502, Temporary),
        (503, Temporary),
        (429, Temporary),
        (401, AccessRefused),
        (403, AccessRefused),
        (400, MachineError),
        (404, MachineError),
        (412, MachineError),
    ],
)
def test_a_status_is_the_error_that_it_means(status: int, error: type[PipelineError]) -> None:
    with pytest.raises(error, match="some words") as caught:
        ask((status, {}, b"some words"), "POST")
    assert type(caught.value) is error
    assert "secret-77" not in str(caught.value)


def test_requests_carry_login_and_type_below_the_path() -> None:
    with scripted(always((200, {}, PREFIX + b"{}"))) as server:
        hosts = {f"{server.host}/review": Host(username="ci", password="secret-77")}
        Gerrit(f"http://{server.host}/review/", hosts).call("POST", "/changes/1", body={"a": "ü"})
    [request] = server.requests
    assert request.path == "/review/a/changes/1"
    assert request.headers["Authorization"].startswith("Basic ")
    assert request.headers["Content-Type"].startswith("application/json")
    assert json.loads(request.body) == {"a": "ü"}


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"{}", PREFIX + b"[1", PREFIX + b"[]"])
def test_what_is_not_gerrits_answer_is_told(body: bytes) -> None:
    with scripted(always((200, {}, body))) as server, pytest.raises(MachineError, match="answer"):
        Gerrit(f"http://{server.host}", {}).get("/x", dict[str, str])


def test_all_pages_are_read() -> None:
    def answer(request: Request) -> Answer:
        start = int(request.path.partition("&S=")[2].partition("&")[0])
        numbers = list(range(start, min(start + 100, 250)))
        return 200, {}, PREFIX + json.dumps(numbers).encode()

    with scripted(answer) as server:
        found = list(Gerrit(f"http://{server.host}", {}).changes('project:"a b"', "", int))
    assert found == list(range(250))
    assert server.requests[0].path.startswith("/changes/?q=project%3A%22a%20b%22&n=100&S=0")
