"""Client for Gerrit's REST API: login, the prefix of its answers, paging, errors.

Source: Gerrit documentation, "REST API", version 3.10; what it leaves open was observed on that
version.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Container, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.credentials import Login, from_hosts
from pipeline_steps.auth.hosts import Host
from pipeline_steps.services import rest
from pipeline_steps.toolbox import http, json_reader
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    MachineError,
    PipelineError,
    Temporary,
    Unreachable,
)
from pipeline_steps.toolbox.redact import beginning

T = TypeVar("T")

#: What Gerrit writes before its JSON, so that no page can run it as a script ("Output Format").
_PREFIX = b")]}'"
#: Entries of a page, and entries of a list that are read at most.
_PAGE, _MOST = 100, 10_000
#: Seconds one read or write may take: a submit waits for hooks and for other submits.
TIMEOUT = 120.0


class Gerrit:
    """Client for one server. The login is that of `hosts` for the server; without one, requests
    are anonymous, and anonymous ones only read.

    Requests are tried once: what may be repeated, and after looking again at what, its caller
    knows.

    url: of the server, with the path it is served below.
    """

    def __init__(self, url: str, hosts: Mapping[str, Host]) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self.host = parts.netloc
        self._path = parts.path.strip("/")
        _, entry = table.entry_for(hosts, f"{self.host}/{self._path}")
        if not http.is_valid_url(self.url) or not rest.may_have_token(self.url, entry):
            raise ConfigurationError(
                "this is not an https:// URL of a Gerrit server",
                where=http.safe_url(self.url),
                advice="a server without TLS needs plain_http: true in `hosts`",
            )
        self._client = http.Client(
            ca_file=entry.ca_file, timeout=TIMEOUT, retryable_error=lambda _: None
        )
        # Read when it is needed: steps that ask no review run where its variables are not set.
        self._login = functools.cache(lambda: from_hosts(self.host, self._path, hosts))
        self._has_answered = False

    @property
    def login(self) -> Login | None:
        """The account that requests are sent by."""
        return self._login()

    @property
    def account(self) -> str:
        """The account's name for messages."""
        return self.login.username if self.login else "an anonymous visitor"

    @property
    def _no_login(self) -> str:
        return f"name a login for {self.host} in `hosts`"

    def call(
        self, method: str, path: str, *, body: Any = None, allowed: Container[int] = ()
    ) -> http.Response:
        """The answer to a request: 2xx, or a status in `allowed`.

        Args:
            path: below the server's URL, each of its parts quoted.
            body: sent as JSON.
            allowed: statuses that the caller handles.

        Raises:
            AccessRefused: 401, 403, or a request that writes without a login.
            Temporary: a status that may pass, a time-out, or a server that goes down meanwhile.
            Unreachable: nobody answers.
            MachineError: another status.
        """
        headers = {"Accept": "application/json"}
        if self.login is not None:
            headers["Authorization"] = http.basic(self.login.username, self.login.password)
        elif method != "GET":
            raise AccessRefused(
                "Gerrit takes no changes without a login", where=self.url, advice=self._no_login
            )
        data = None
        if body is not None:
            # Every other type is answered with 200, and not done.
            headers["Content-Type"] = "application/json; charset=UTF-8"
            data = json.dumps(body).encode()
        # Without /a a login is not looked at ("Authentication").
        url = f"{self.url}{'/a' if self.login else ''}{path}"
        answer = self._request(method, url, headers, data)
        if not 200 <= answer.status < 300 and answer.status not in allowed:
            raise self._error(answer)
        return answer

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | None
    ) -> http.Response:
        try:
            answer = self._client.request(method, url, headers=headers, body=data, budget=0)
        except Unreachable as error:
            if not self._has_answered:
                raise
            raise Temporary(
                "Gerrit does not answer any more: it may be restarting",
                where=error.where,
                advice="wait until Gerrit answers, and run it again",
            ) from error
        self._has_answered = True
        return answer

    def _error(self, answer: http.Response) -> PipelineError:
        error = http.error_for_status(answer)
        if answer.status == 401:
            error.advice = (
                f"{self.account} or its password is wrong: Gerrit wants the HTTP password from "
                f"the account's settings, in `hosts` for {self.host}"
            )
        elif answer.status == 403:
            rights = f"{self.account} has no right to do this"
            error.advice = rights if self.login else self._no_login
        return error

    def get(self, path: str, kind: type[T]) -> T:
        """The JSON that a request reads, as a value of `kind`. Raises what `call` raises."""
        return decode(self.call("GET", path), kind)

    def find(self, path: str, kind: type[T]) -> T | None:
        """Like `get`, None for what does not exist or is invisible to the account."""
        answer = self.call("GET", path, allowed=(404,))
        return None if answer.status == 404 else decode(answer, kind)

    def changes(self, query: str, options: str, kind: type[T]) -> Iterator[T]:
        """The changes that a query finds, newest first, from all pages. options: like
        "&o=MESSAGES".
        """
        for start in range(0, _MOST, _PAGE):
            path = f"/changes/?q={quote(query, safe='')}&n={_PAGE}&S={start}{options}"
            page = self.get(path, list[kind])  # type: ignore[valid-type]
            yield from page
            if len(page) < _PAGE:
                return
        raise MachineError(
            f"more than {_MOST} changes fit the query, and no more are read: {query}",
            where=self.url,
            advice="abandon or merge changes there that nobody needs",
        )


def decode(answer: http.Response, kind: type[T]) -> T:
    """The JSON of an answer as a value of `kind`. Raises MachineError when it does not match."""
    where = http.safe_url(answer.url)
    if not answer.body.startswith(_PREFIX):
        raise MachineError(
            "the answer is not Gerrit's", where=where, advice="check `review.gerrit.url`"
        )
    try:
        return json_reader.decode_as(kind, answer.body.removeprefix(_PREFIX))
    except ValueError as error:
        raise MachineError(
            f"the answer is not what Gerrit documents: {error}",
            where=where,
            advice="check `review.gerrit.url` and Gerrit's version",
        ) from error


def words(answer: http.Response) -> str:
    """Gerrit's own words in an error: plain text, or the error in JSON."""
    body = answer.body.removeprefix(_PREFIX)
    text = " ".join(body.decode(errors="replace").split())
    try:
        content = json_reader.decode(body)
    except ValueError:
        return beginning(text, 500)
    return beginning(str(content.get("error", text) if isinstance(content, dict) else text), 500)
