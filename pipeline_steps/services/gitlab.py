"""Client for GitLab's REST API of one project: login, paging, errors, rate limits.

The token goes only to the API's own origin. Source: GitLab documentation 18, "REST API" and "Rate
limits"; the same for gitlab.com and self-managed ones.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Container, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from pipeline_steps.auth.hosts import Host
from pipeline_steps.services import rest
from pipeline_steps.toolbox import http, json_reader
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    MachineError,
    PipelineError,
    Temporary,
)
from pipeline_steps.toolbox.redact import beginning

T = TypeVar("T")

PUBLIC = "https://gitlab.com"
#: The variable with the token where `hosts` has none. Not CI_JOB_TOKEN: it can write no notes.
VARIABLE = "GITLAB_TOKEN"
#: To what would write to a project by its former path; reading is redirected (lib/api/helpers.rb).
_MOVED = "not allowed for moved projects"
_PATH = re.compile(r"(?:(?!\.+/)[\w.-]+/)+(?!\.+$)[\w.-]+", re.ASCII)


def error_message(body: bytes) -> str:
    """GitLab's error message, or the first words of another body. A message may name fields.

    >>> error_message(b'{"message": {"name": ["is too long"]}}')
    'name: is too long'
    >>> error_message(b'{"error": "insufficient_scope", "error_description": "needs more"}')
    'needs more'
    """
    with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError):
        content = json_reader.decode(body[: rest.ERROR_BYTES])
        message = content.get("message") or content.get("error_description") or content["error"]
        if isinstance(message, dict):
            message = "; ".join(f"{name}: {_listed(words)}" for name, words in message.items())
        return beginning(_listed(message), 500)
    return http.excerpt(body)


def _listed(words: object) -> str:
    return ", ".join(map(str, words)) if isinstance(words, list) else str(words)


def temporary_error(answer: http.Response) -> Temporary | None:
    """The error for "try again later", else None. Rate limits are 429; RateLimit-Reset says when
    they end, in seconds since 1970.
    """
    if answer.status not in http.TEMPORARY:
        return None
    error = http.error_for_status(answer, error_message)
    pause = http.retry_after(answer.headers)
    if answer.status != 429:
        return Temporary(error.what, where=error.where, retry_after=pause)
    if pause is None:
        pause = rest.seconds_until_reset(answer.headers, "ratelimit-reset")
    return rest.RateLimited(error.what, where=error.where, retry_after=pause)


class Gitlab(rest.Client):
    """Client for one project, "group/name"; paths are relative to it.

    The token is the password that `hosts` has for the project or the host, else $GITLAB_TOKEN.
    Without a token, requests are anonymous.

    Args:
        url: the server's address, with the path it is served under.
        budget: seconds for all tries of a request.
    """

    system = "GitLab"

    def __init__(
        self,
        url: str,
        project: str,
        hosts: Mapping[str, Host],
        *,
        environ: Mapping[str, str] | None = None,
        budget: float = http.BUDGET,
    ) -> None:
        self.url = url.rstrip("/")
        if not _PATH.fullmatch(project):
            raise ConfigurationError(
                "this is not a project of GitLab",
                where=project,
                advice="write group/name in review.gitlab.project",
            )
        entry = rest.server_settings(self.url, hosts)
        self.project = project
        self.page = f"{self.url}/{project}"
        api = f"{self.url}/api/v4"
        variables = os.environ if environ is None else environ
        super().__init__(
            api,
            f"{api}/projects/{rest.segment(project)}",
            http.Client(ca_file=entry.ca_file, retryable_error=temporary_error),
            lambda: rest.project_token(self.system, self.url, project, VARIABLE, hosts, variables),
            budget,
        )
        self._login_once = functools.cache(lambda: self.get(f"{self.api}/user", _User).username)

    @property
    def login(self) -> str:
        """The name of the account that the token belongs to. Raises AccessRefused without one."""
        return self._login_once()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        allowed: Container[int] = (),
        idempotent: bool | None = None,
        right: str = "the scope api",
    ) -> http.Response:
        """The answer to a request: 2xx, or a status in `allowed`.

        Args:
            path: relative to the project, or a URL of this API.
            allowed: statuses that the caller handles.
            idempotent: whether to repeat it when the answer is lost; None decides by the method.
            right: what the token needs, for the error.

        Raises:
            AccessRefused: 401, 403, and 404, because GitLab hides what a login may not see.
            Temporary: a rate limit, or a temporary status until the budget is used up.
            MachineError: another status.
        """
        headers = {"Accept": "application/json"}
        answer = self._send(method, path, headers, body, idempotent=idempotent)
        if not 200 <= answer.status < 300 and (answer.status not in allowed or _has_moved(answer)):
            raise error_for(answer, right)
        return answer

    def get(self, path: str, kind: type[T], *, right: str = "the scope read_api") -> T:
        """What is at a path, as a value of `kind`."""
        return decode(self.call("GET", path, right=right), kind)

    def pages(
        self,
        path: str,
        kind: type[T],
        *,
        allowed: Container[int] = (),
        right: str = "the scope read_api",
    ) -> Iterator[T]:
        """The items of a list, as values of `kind`, from all its pages. allowed: statuses for
        "there are none".
        """

        def ask(url: str) -> http.Response:
            return self.call("GET", url, allowed=allowed, right=right)

        for answer in rest.linked_pages(ask, path, self._root):
            yield from decode(answer, list[kind])  # type: ignore[valid-type]


class _User(msgspec.Struct):
    username: str


def decode(answer: http.Response, kind: type[T]) -> T:
    """The JSON of an answer as a value of `kind`. Raises MachineError when it does not match."""
    return rest.decode(answer, kind, "GitLab")


def error_for(answer: http.Response, right: str = "the scope api") -> PipelineError:
    """The error for an unexpected status."""
    error = http.error_for_status(answer, error_message)
    token = f"set {VARIABLE}, or name a token as password in `hosts`; a job token is not enough"
    if answer.status == 404:
        return rest.hidden(error, token)
    if 300 <= answer.status < 400 or _has_moved(answer):
        return MachineError(
            error.what,
            where=error.where,
            advice="write the new path of the project: it was renamed",
        )
    if isinstance(error, AccessRefused):
        error.advice = token if answer.status == 401 else f"give the token {right}"
    return error


def _has_moved(answer: http.Response) -> bool:
    return answer.status == 405 and _MOVED in error_message(answer.body)
