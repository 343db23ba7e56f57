"""What GitHub's answers mean, apart from any server."""

from __future__ import annotations

import pytest

from pipeline_steps.services.github import Github, error_for, temporary_error
from pipeline_steps.toolbox.errors import AccessRefused, ConfigurationError, MachineError
from pipeline_steps.toolbox.http import Response

DATE = {"date": "Thu, 01 Jan 2026 00:00:00 GMT"}
SPENT = {**DATE, "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767225607"}


def answer(status: int, headers: dict[str, str] | None = None, message: str = "no") -> Response:
    body = f'{{"message": "{message}"}}'.encode()
    return Response("GET", "https://api.github.com/repos/me/charts", status, headers or {}, body)


@pytest.mark.parametrize(
    ("status", "headers", "message", "seconds"),
    [
        (403, SPENT, "no", 7.0),
        (429, SPENT, "no", 7.0),
        (429, {**SPENT, "retry-after": "3"}, "no", 3.0),
        (403, {"retry-after": "3"}, "no", 3.0),
        (403, {}, "You have exceeded a secondary rate limit", 60.0),
        (429, {}, "no", 60.0),
        (429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon", **DATE}, "no", 60.0),
        (502, SPENT, "no", None),
    ],
)
def test_rate_limit_gives_the_seconds_to_wait(
    status: int, headers: dict[str, str], message: str, seconds: float | None
) -> None:
    error = temporary_error(answer(status, headers, message))
    assert error is not None
    assert (error.exit_code, error.retry_after) == (75, seconds)
    assert message in str(error)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 409, 422, 501])
def test_other_statuses_are_not_retried(status: int) -> None:
    assert temporary_error(answer(status, {"x-ratelimit-remaining": "12"})) is None


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (401, AccessRefused, "set GITHUB_TOKEN"),
        (403, AccessRefused, "contents, write"),
        (404, AccessRefused, "or this login may not see it"),
        (307, MachineError, "write the new name"),
        (422, MachineError, "no"),
    ],
)
def test_errors_for_statuses_have_advice(
    status: int, kind: type[MachineError], advice: str
) -> None:
    error = error_for(answer(status))
    assert type(error) is kind
    assert advice in str(error)


@pytest.mark.parametrize(
    "url", ["http://git.example.com/api/v3", "git.example.com", "ftp://git.example.com"]
)
def test_an_api_without_tls_gets_no_token(url: str) -> None:
    with pytest.raises(ConfigurationError, match="GITHUB_API_URL"):
        Github("me/charts", {}, environ={"GITHUB_API_URL": url})


def test_a_token_of_two_lines_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Github("me/charts", {}, environ={"GITHUB_TOKEN": "two\nlines-of-it"}).require_visible()
    assert "lines-of-it" not in str(raised.value)
