"""Client for the REST API of Gitea and Forgejo, of one repository: login, paging, errors.

The token goes only to the API's own origin. Source: Gitea 1.26, "API Usage" and the Swagger
description of /api/v1; Forgejo serves the same paths.
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
)
from pipeline_steps.toolbox.redact import beginning

T = TypeVar("T")

#: The variable with the token where `hosts` has none.
VARIABLE = "GITEA_TOKEN"
#: Items of a page: what servers give at most unless they are configured otherwise
#: (app.ini, [api] MAX_RESPONSE_ITEMS).
_PER_PAGE = 50
_NAME = re.compile(r"(?!\.+/)[\w.-]+/(?!\.+$)[\w.-]+", re.ASCII)


def error_message(body: bytes) -> str:
    """Gitea's error message, or the first words of another body.

    >>> error_message(b'{"message": "head out of date", "url": "https://git.example.com/api/swagger"}')
    'head out of date'
    """
    with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError):
        content = json_reader.decode(body[: rest.ERROR_BYTES])
        detail = "; ".join(str(error) for error in content.get("errors") or [])
        return beginning(f"{content['message']}{f' ({detail})' if detail else ''}", 500)
    return http.excerpt(body)


class Gitea(rest.Client):
    """Client for one repository, "owner/name"; paths are relative to it.

    The token is the password that `hosts` has for the repository or the host, else $GITEA_TOKEN.
    Without a token, requests are anonymous.

    Args:
        url: the server's address, with the path it is served under; `api` is that of its API.
        budget: seconds for all tries of a request.
    """

    system = "Gitea"
    scheme = "token"

    def __init__(
        self,
        url: str,
        repository: str,
        hosts: Mapping[str, Host],
        *,
        environ: Mapping[str, str] | None = None,
        budget: float = http.BUDGET,
    ) -> None:
        self.url = url.rstrip("/")
        if not _NAME.fullmatch(repository):
            raise ConfigurationError(
                "this is not a repository of Gitea", where=repository, advice="write owner/name"
            )
        entry = rest.server_settings(self.url, hosts)
        self.repository = repository
        api = f"{self.url}/api/v1"
        retryable_error = functools.partial(http.temporary_error, error_message=error_message)
        variables = os.environ if environ is None else environ
        super().__init__(
            api,
            f"{api}/repos/{repository}",
            http.Client(ca_file=entry.ca_file, retryable_error=retryable_error),
            lambda: rest.project_token(
                self.system, self.url, repository, VARIABLE, hosts, variables
            ),
            budget,
        )
        self._login_once = functools.cache(lambda: self.get(f"{self.api}/user", _User).login)

    def _is_ours(self, url: str) -> bool:
        in_api = url.startswith((f"{self.api}/", f"{self.url}/attachments/"))
        return in_api and http.origin(url) == http.origin(self.api)

    @property
    def login(self) -> str:
        """The name of the account that the token belongs to. Raises AccessRefused without one."""
        return self._login_once()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | bytes | None = None,
        kind: str = "application/json",
        allowed: Container[int] = (),
        idempotent: bool | None = None,
    ) -> http.Response:
        """The answer to a request: 2xx, or a status in `allowed`.

        Args:
            path: relative to the repository, or a URL of this API or of an attachment.
            body: bytes of the type `kind` are sent as they are, anything else as JSON.
            allowed: statuses that the caller handles.
            idempotent: whether to repeat it when the answer is lost; None decides by the method.

        Raises:
            AccessRefused: 401, 403, and 404, because Gitea hides what a login may not see.
            Temporary: a temporary status until the budget is used up.
            MachineError: another status.
        """
        headers = {"Accept": "application/json"}
        answer = self._send(method, path, headers, body, kind=kind, idempotent=idempotent)
        if not 200 <= answer.status < 300 and answer.status not in allowed:
            raise error_for(answer)
        return answer

    def get(self, path: str, kind: type[T]) -> T:
        """The JSON of a path as a value of `kind`. Raises like `call`."""
        return decode(self.call("GET", path), kind)

    def pages(self, path: str, kind: type[T]) -> Iterator[T]:
        """The items of a list, as values of `kind`, from all its pages.

        Pages are counted, links not followed: those name the server as it knows itself, which
        behind a proxy is another address.
        """
        separator = "&" if "?" in path else "?"
        items = 0
        before = b""
        for page in range(1, rest.MOST_PAGES + 1):
            answer = self.call("GET", f"{path}{separator}limit={_PER_PAGE}&page={page}")
            page_items = decode(answer, list[kind])  # type: ignore[valid-type]
            # Some lists come as one page whatever is asked, and may not say how long they are.
            if not page_items or answer.body == before:
                return
            yield from page_items
            items += len(page_items)
            before = answer.body
            total = http.number(answer.headers, "x-total-count")
            if total is not None and items >= total:
                return
        raise MachineError(
            f"the list has more than {rest.MOST_PAGES} pages, and no more are read",
            where=http.safe_url(answer.url),
            advice="Gitea does not say where the list ends: look at its version",
        )


class _User(msgspec.Struct):
    login: str


def decode(answer: http.Response, kind: type[T]) -> T:
    """The JSON of an answer as a value of `kind`. Raises MachineError when it does not match."""
    return rest.decode(answer, kind, "Gitea")


def error_for(answer: http.Response) -> PipelineError:
    """The error for an unexpected status."""
    error = http.error_for_status(answer, error_message)
    token = f"set {VARIABLE}, or name a token as password in `hosts`"
    if answer.status == 404:
        return rest.hidden(error, token)
    if answer.status == 423:
        error.advice = "the repository is archived: nothing can be written to it"
    if isinstance(error, AccessRefused):
        error.advice = (
            token
            if answer.status == 401
            else "the token needs the rights write:repository, write:issue and read:user, its "
            "account write access to the repository"
        )
    return error
