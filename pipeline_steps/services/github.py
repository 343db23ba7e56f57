"""Client for GitHub's REST API of one repository: login, paging, errors, rate limits.

The token goes only to the API's own origin and its upload host. Source: GitHub documentation, "REST
API", version 2022-11-28; the same for github.com and GitHub Enterprise.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Container, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.credentials import from_hosts
from pipeline_steps.auth.hosts import Host
from pipeline_steps.services import rest
from pipeline_steps.toolbox import http, json_reader, retry
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    MachineError,
    PipelineError,
    Temporary,
)
from pipeline_steps.toolbox.redact import beginning

T = TypeVar("T")

PUBLIC = "https://api.github.com"
VERSION = "2022-11-28"
JSON = "application/vnd.github+json"
#: A file as raw bytes, up to 100 MB; as JSON GitHub returns only the first MB.
RAW = "application/vnd.github.raw+json"
BYTES = "application/octet-stream"
#: Seconds one read or write may take.
TIMEOUT = 120.0
_TOKEN_ADVICE = "set GITHUB_TOKEN, or name a token as password in `hosts`"
#: Types of the errors of GraphQL that a rate limit has; the second one is not documented.
_LIMITED = frozenset({"RATE_LIMITED", "RATE_LIMIT"})
#: Rights as GitHub names them, like "contents=write; workflows=write".
_RIGHTS = re.compile(r"[\w=,; ]{1,200}", re.ASCII)


def error_message(body: bytes) -> str:
    """GitHub's error message with the details of each field, or the first words of another body.

    >>> errors = b'[{"field": "tag_name", "code": "already_exists"}]'
    >>> error_message(b'{"message": "Validation Failed", "errors": %s}' % errors)
    'Validation Failed (tag_name already_exists)'
    """
    with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError):
        content = json_reader.decode(body[: rest.ERROR_BYTES])
        errors = [
            error if isinstance(error, str) else _words(error)
            for error in content.get("errors") or []
        ]
        detail = f" ({'; '.join(errors)})" if errors else ""
        return beginning(f"{content['message']}{detail}", 500)
    return http.excerpt(body)


def _words(error: Mapping[str, Any]) -> str:
    return str(error.get("message") or f"{error.get('field')} {error.get('code')}")


def temporary_error(answer: http.Response) -> Temporary | None:
    """The error for "try again later", else None.

    GitHub reports rate limits with 429 or 403, and when they end, in seconds since 1970.
    """
    error = http.error_for_status(answer, error_message)
    exhausted = answer.headers.get("x-ratelimit-remaining") == "0"
    limited = exhausted or "retry-after" in answer.headers or "rate limit" in error.what
    if answer.status not in http.TEMPORARY and not (answer.status == 403 and limited):
        return None
    if answer.status in (403, 429):
        wait = _seconds_to_wait(answer.headers)
        return rest.RateLimited(error.what, where=error.where, retry_after=wait)
    pause = http.retry_after(answer.headers)
    return Temporary(error.what, where=error.where, retry_after=pause)


def _seconds_to_wait(headers: Mapping[str, str]) -> float:
    """How long a rate limit lasts, of which the headers tell."""
    pause = http.retry_after(headers)
    if pause is None and headers.get("x-ratelimit-remaining") == "0":
        pause = rest.seconds_until_reset(headers, "x-ratelimit-reset")
    return rest.PAUSE if pause is None else pause


def web_url(api: str) -> str:
    """The web address for an API's address.

    >>> web_url("https://api.github.com"), web_url("https://git.example.com/api/v3")
    ('https://github.com', 'https://git.example.com')
    """
    parts = urlsplit(api)
    return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}"


def uploads_url(api: str) -> str:
    """The address for uploads of an API, unless it takes them itself.

    >>> uploads_url("https://api.github.com")
    'https://uploads.github.com'
    """
    return web_url(api).replace("://", "://uploads.", 1)


def graphql_url(api: str) -> str:
    """The address for GraphQL of an API.

    >>> graphql_url("https://api.github.com"), graphql_url("https://git.example.com/api/v3")
    ('https://api.github.com/graphql', 'https://git.example.com/api/graphql')
    """
    return f"{api.removesuffix('/v3')}/graphql"


class Github(rest.Client):
    """Client for one repository, "owner/name"; paths are relative to it.

    The token is the password that `hosts` has for the repository or the API's host, else
    $GITHUB_TOKEN. Without a token, requests are anonymous.

    api: root of the API; "" for $GITHUB_API_URL, else that of github.com. budget: seconds for all
    tries of a request.
    """

    system = "GitHub"
    foreign = "of another host"

    def __init__(
        self,
        repository: str,
        hosts: Mapping[str, Host],
        *,
        api: str = "",
        environ: Mapping[str, str] | None = None,
        budget: float = http.BUDGET,
    ) -> None:
        variables = os.environ if environ is None else environ
        name = "review.github.api_url" if api else "GITHUB_API_URL"
        # The configuration beats the variables of the CI, which may be another GitHub's.
        api = (api or variables.get("GITHUB_API_URL") or PUBLIC).rstrip("/")
        host = api.partition("://")[2].partition("/")[0]
        _, entry = table.entry_for(hosts, host)
        if not rest.may_have_token(api, entry):
            raise ConfigurationError(
                f"{name} is not an https:// URL",
                where=http.safe_url(api),
                advice="a server without TLS needs plain_http: true in `hosts`",
            )
        self.repository = repository
        self.web = web_url(api)
        super().__init__(
            api,
            f"{api}/repos/{repository}",
            http.Client(ca_file=entry.ca_file, timeout=TIMEOUT, retryable_error=temporary_error),
            lambda: self._find_token(host, hosts, variables),
            budget,
        )

    def _is_ours(self, url: str) -> bool:
        return http.origin(url) in (http.origin(self.api), http.origin(uploads_url(self.api)))

    def _find_token(self, host: str, hosts: Mapping[str, Host], environ: Mapping[str, str]) -> str:
        page = self.web.partition("://")[2]
        login = from_hosts(page, self.repository, hosts) or from_hosts(host, self.repository, hosts)
        return rest.token(self.system, login, "GITHUB_TOKEN", environ, page)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | bytes | None = None,
        accept: str = JSON,
        allowed: Container[int] = (),
        cap: int = http.CAP,
        idempotent: bool | None = None,
        right: str = "contents, write",
    ) -> http.Response:
        """The answer to a request: 2xx, or a status in `allowed`.

        Args:
            path: relative to the repository, or a URL of the API.
            body: bytes are sent as they are, anything else as JSON.
            allowed: statuses that the caller handles.
            idempotent: whether to repeat it when the answer is lost; None decides by the method.
            right: what the token needs, for the error where GitHub does not say it.

        Raises:
            AccessRefused: 401, 403, and 404, because GitHub hides what a login may not see.
            Temporary: a rate limit, or a temporary status until the budget is used up.
            MachineError: another status.
        """
        headers = {"Accept": accept, "X-GitHub-Api-Version": VERSION}
        answer = self._send(method, path, headers, body, kind=BYTES, cap=cap, idempotent=idempotent)
        if not 200 <= answer.status < 300 and answer.status not in allowed:
            raise error_for(answer, right)
        return answer

    def graphql(
        self, query: str, variables: Mapping[str, Any], kind: type[T], *, idempotent: bool = False
    ) -> T:
        """The `data` of a GraphQL query, for what REST does not offer. idempotent: as in `call`.

        Raises MachineError with GitHub's words when it has errors, AccessRefused when the token may
        not, Temporary for a limit or a failure of GitHub.
        """
        body = {"query": query, "variables": dict(variables)}

        def ask() -> tuple[http.Response, _GraphqlAnswer]:
            url = graphql_url(self.api)
            answer = self.call("POST", url, body=body, idempotent=idempotent)
            content = decode(answer, _GraphqlAnswer)
            if content.errors or content.data is None:
                raise _graphql_error(answer, content.errors or ())
            return answer, content

        # GraphQL tells of a limit with the status 200.
        answer, content = retry.call(ask, budget=self.budget, on=(rest.RateLimited,))
        try:
            return msgspec.convert(content.data, kind)
        except msgspec.ValidationError as error:
            raise MachineError(
                f"the answer is not what GitHub documents: {error}",
                where=http.safe_url(answer.url),
                advice="check that the URL is that of a GitHub API, and its version",
            ) from error

    def get(self, path: str, kind: type[T], *, right: str = "contents, read") -> T:
        """What is at a path, as a value of `kind`."""
        return decode(self.call("GET", path, right=right), kind)

    def get_anonymously(self, url: str, *, cap: int = http.CAP) -> http.Response:
        """The answer that anybody gets at a URL: sent without the token, any status."""
        return self._client.request("GET", url, cap=cap, budget=self.budget)

    def pages(
        self,
        path: str,
        kind: type[T],
        *,
        inside: str = "",
        allowed: Container[int] = (),
        right: str = "contents, read",
    ) -> Iterator[T]:
        """The items of a list, as values of `kind`, from all its pages.

        inside: the field with the list, where an answer is an object. allowed: statuses for "there
        are none".
        """

        def ask(url: str) -> http.Response:
            return self.call("GET", url, allowed=allowed, right=right)

        for answer in rest.linked_pages(ask, path, self._root):
            yield from _items(answer, kind, inside)

    def require_token(self) -> None:
        """Raise AccessRefused where there is no token: nothing can be written without one."""
        if not self._token():
            raise AccessRefused(
                "there is no token for GitHub", where=self.web, advice=_TOKEN_ADVICE
            )


class _GraphqlError(msgspec.Struct):
    message: str = ""
    type: str = ""


class _GraphqlAnswer(msgspec.Struct):
    data: dict[str, Any] | None = None
    errors: tuple[_GraphqlError, ...] | None = None


def _graphql_error(answer: http.Response, errors: Collection[_GraphqlError]) -> PipelineError:
    """The error for an answer with errors ("Rate limits and query limits for the GraphQL API")."""
    words = "; ".join(error.message for error in errors) or "no data"
    problem = f"GitHub refuses the query: {beginning(words, 500)}"
    where = http.safe_url(answer.url)
    types = {error.type for error in errors}
    if types & _LIMITED or "rate limit" in words:
        return rest.RateLimited(problem, where=where, retry_after=_seconds_to_wait(answer.headers))
    if words.startswith("Something went wrong"):
        return Temporary(problem, where=where)
    if "FORBIDDEN" in types:
        return AccessRefused(
            problem, where=where, advice="give the token the right that GitHub names"
        )
    return MachineError(
        problem,
        where=where,
        advice="see what GitHub's words name; an older GitHub Enterprise may not offer it",
    )


def _items(answer: http.Response, kind: type[T], inside: str) -> list[T]:
    if not inside:
        return decode(answer, list[kind])  # type: ignore[valid-type]
    fields = decode(answer, dict[str, msgspec.Raw])
    return decode(answer._replace(body=bytes(fields.get(inside, b"null"))), list[kind])  # type: ignore[valid-type]


def decode(answer: http.Response, kind: type[T]) -> T:
    """The JSON of an answer as a value of `kind`. Raises MachineError when it does not match."""
    return rest.decode(answer, kind, "GitHub")


def error_for(answer: http.Response, right: str = "contents, write") -> PipelineError:
    """The error for an unexpected status.

    GitHub names the right that a fine-grained token or an app lacks in x-accepted-github-permissions
    ("Troubleshooting the REST API"); else it is `right`.
    """
    error = http.error_for_status(answer, error_message)
    if answer.status == 404:
        return rest.hidden(error, _TOKEN_ADVICE)
    if 300 <= answer.status < 400:
        return MachineError(
            error.what,
            where=error.where,
            advice="write the new name of the repository: it was renamed",
        )
    if isinstance(error, AccessRefused):
        header = answer.headers.get("x-accepted-github-permissions", "")
        rights = header.replace("=", ", ") if _RIGHTS.fullmatch(header) else right
        needs = f"give the token the right: {rights}"
        error.advice = _TOKEN_ADVICE if answer.status == 401 else needs
    return error
