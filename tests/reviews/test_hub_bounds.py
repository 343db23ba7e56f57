"""What the clients of GitHub and GitLab bear with: limits, failures, endless lists and answers,
redirects, and answers that tell secrets. Asked of a server that answers as each test says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.services import rest
from pipeline_steps.services.github import Github
from pipeline_steps.services.gitlab import Gitlab
from pipeline_steps.toolbox.errors import AccessRefused, MachineError, PipelineError, Temporary
from tests.support.scripted import Answer, Request, scripted

TOKEN = "token-of-bounds-5f1c"
#: Years from the clock here: what a server says of time holds by its own.
SKEWED = {"Date": "Sat, 01 Feb 2020 00:00:00 GMT"}
RESET = "1580515201"  # a second after SKEWED
GOOD: Answer = (200, SKEWED, b'{"name": "one"}')


class Item(msgspec.Struct):
    name: str


class Hub(NamedTuple):
    """limits: of its primary and its secondary rate limit, each over after a second."""

    client: Callable[[str, float], Github | Gitlab]
    limits: dict[str, Answer]


def github(host: str, budget: float) -> Github:
    hosts = {host: Host("ci", TOKEN, plain_http=True)}
    return Github("me/charts", hosts, api=f"http://{host}", environ={}, budget=budget)


def gitlab(host: str, budget: float) -> Gitlab:
    hosts = {host: Host("ci", TOKEN, plain_http=True)}
    return Gitlab(f"http://{host}", "me/charts", hosts, environ={}, budget=budget)


#: GitHub: "Rate limits for the REST API"; GitLab: "Rate limits", headers of answers.
HUBS = {
    "github": Hub(github, {
        "primary": (
            403, {**SKEWED, "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": RESET},
            b'{"message": "API rate limit exceeded"}',
        ),
        "secondary": (
            403, {**SKEWED, "Retry-After": "1"},
            b'{"message": "You have exceeded a secondary rate limit"}',
        ),
    }),
    "gitlab": Hub(gitlab, {
        "primary": (429, {**SKEWED, "RateLimit-Reset": RESET}, b'{"message": "Too many"}'),
        "secondary": (429, {**SKEWED, "Retry-After": "1"}, b"Retry later\n"),
    }),
}  # fmt: skip
every_hub = pytest.mark.parametrize("hub", HUBS.values(), ids=HUBS)


def first(answer: Answer, then: Answer = GOOD) -> Callable[[Request], Answer]:
    """A server that gives one answer to its first request, another to the others."""
    answers = iter([answer])
    return lambda _: next(answers, then)


@every_hub
@pytest.mark.parametrize("limit", ["primary", "secondary"])
def test_a_limit_is_waited_for_by_the_clock_of_the_server(hub: Hub, limit: str) -> None:
    with scripted(first(hub.limits[limit])) as server:
        start = time.monotonic()
        # Also for what is sent once only: a limit did nothing of it.
        assert hub.client(server.host, 10).call("POST", "/x", body={}).body == GOOD[2]
        assert 0.9 < time.monotonic() - start < 10
        assert len(server.requests) == 2
    with scripted(lambda _: hub.limits[limit]) as server:
        with pytest.raises(Temporary) as raised:
            hub.client(server.host, 0).get("/x", Item)
        assert raised.value.exit_code == 75
        assert len(server.requests) == 1


FORBIDDEN = b'{"message": "Forbidden"}'
SPENT = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": RESET}
#: What tells of a limit, each alone: (hub, answer, seconds until it ends; None where it is no limit).
TOLD: dict[str, tuple[str, Answer, float | None]] = {
    "github, nothing left": ("github", (403, {**SKEWED, **SPENT}, FORBIDDEN), 1),
    "github, how long": ("github", (403, {"Retry-After": "7"}, FORBIDDEN), 7),
    "github, in words": ("github", (403, {}, b'{"message": "secondary rate limit"}'), rest.PAUSE),
    "github, by its status": ("github", (429, {}, b""), rest.PAUSE),
    "github, no time": ("github", (429, {"X-RateLimit-Remaining": "0"}, b""), rest.PAUSE),
    "github, no right": ("github", (403, {**SPENT, "X-RateLimit-Remaining": "9"}, FORBIDDEN), None),
    "gitlab, until when": ("gitlab", (429, {**SKEWED, "RateLimit-Reset": RESET}, b""), 1),
    "gitlab, how long": ("gitlab", (429, {"Retry-After": "7"}, b""), 7),
    "gitlab, by its status": ("gitlab", (429, {}, b""), rest.PAUSE),
    "gitlab, no right": ("gitlab", (403, {}, FORBIDDEN), None),
}


@pytest.mark.parametrize("name", TOLD)
def test_each_sign_of_a_limit_is_enough(name: str) -> None:
    hub, answer, seconds = TOLD[name]
    with scripted(lambda _: answer) as server, pytest.raises(PipelineError) as raised:
        HUBS[hub].client(server.host, 0).get("/x", Item)
    if seconds is None:
        assert isinstance(raised.value, AccessRefused)
    else:
        assert isinstance(raised.value, Temporary) and raised.value.retry_after == seconds


@every_hub
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failure_of_the_server_is_tried_again_and_told(hub: Hub, status: int) -> None:
    failure: Answer = (status, {"Retry-After": "0"}, b"<html>bad gateway</html>")
    with scripted(first(failure)) as server:
        assert hub.client(server.host, 10).get("/x", Item).name == "one"
    with scripted(lambda _: failure) as server, pytest.raises(Temporary, match=str(status)):
        hub.client(server.host, 0).get("/x", Item)


@every_hub
def test_what_is_not_sure_to_be_new_is_sent_once(hub: Hub) -> None:
    with scripted(lambda _: (502, {"Retry-After": "0"}, b"")) as server:
        with pytest.raises(Temporary):
            hub.client(server.host, 10).call("POST", "/x", body={})
        assert len(server.requests) == 1


@every_hub
def test_a_list_is_read_to_its_end_and_an_endless_one_is_not(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "MOST_PAGES", 5)

    def pages(last: int) -> Callable[[Request], Answer]:
        def answer(request: Request) -> Answer:
            number = int(request.path.rpartition("page=")[2] if "&page=" in request.path else 1)
            path = request.path.partition("&page=")[0]
            link = f'<http://{request.headers["Host"]}{path}&page={number + 1}>; rel="next"'
            more = {"Link": link} if number != last else {}
            return 200, more, b'[{"name": "%d"}]' % number

        return answer

    with scripted(pages(4)) as server:
        items = hub.client(server.host, 0).pages("/x", Item)
        assert [item.name for item in items] == ["1", "2", "3", "4"]
        assert "per_page=100" in server.requests[0].path
    with scripted(pages(50)) as server:
        with pytest.raises(MachineError, match="more than 5 pages"):
            list(hub.client(server.host, 0).pages("/x", Item))
        assert len(server.requests) == 5


@every_hub
def test_an_endless_answer_is_not_read_to_its_end(hub: Hub) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 2**20

    with (
        scripted(lambda _: (200, {}, endless())) as server,
        pytest.raises(MachineError, match="has more than"),
    ):
        hub.client(server.host, 0).get("/x", Item)


@every_hub
@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[" * 100_000, b'{"name": 1}', b""])
def test_an_answer_that_is_none_of_the_api_is_told(hub: Hub, body: bytes) -> None:
    with (
        scripted(lambda _: (200, {}, body)) as server,
        pytest.raises(MachineError, match="is not what"),
    ):
        hub.client(server.host, 0).get("/x", Item)


@every_hub
def test_a_redirect_to_another_place_gets_no_token(hub: Hub) -> None:
    with scripted(lambda _: GOOD) as away:
        sent: Answer = (302, {"Location": f"http://{away.host}/y"}, b"")
        with scripted(lambda _: sent) as server:
            hub.client(server.host, 0).get("/x", Item)
            assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
            assert "Authorization" not in away.requests[0].headers
        link = f'<http://{away.host}/y>; rel="next"'
        with scripted(lambda _: (200, {"Link": link}, b"[]")) as server:
            with pytest.raises(MachineError, match="which gets no token"):
                list(hub.client(server.host, 0).pages("/x", Item))
            assert len(away.requests) == 1


@every_hub
def test_a_renamed_place_is_not_written_to(hub: Hub) -> None:
    moved: Answer = (307, {"Location": "/api/v4/y"}, b'{"message": "Temporary Redirect"}')
    with scripted(lambda _: moved) as server:
        with pytest.raises(MachineError, match="it was renamed"):
            hub.client(server.host, 0).call("POST", "/x", body={"a": "b"})
        assert len(server.requests) == 1


@every_hub
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500])
def test_the_token_is_in_no_error(hub: Hub, status: int) -> None:
    said = f'{{"message": "I was told {TOKEN}", "error": "Bearer {TOKEN}"}}'.encode()
    with scripted(lambda _: (status, {}, said)) as server:
        with pytest.raises(PipelineError) as raised:
            hub.client(server.host, 0).get(f"/x?private_token={TOKEN}", Item)
        assert isinstance(raised.value, AccessRefused) == (status in (401, 403, 404))
    assert TOKEN not in str(raised.value)
