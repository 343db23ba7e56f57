"""What the clients of GitHub, GitLab and Gitea have in common: the token, the address that may get
it, requests, pages, the time of a rate limit, answers as values. Their own files have paths, headers,
words.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Container, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from pipeline_steps.auth import hosts as table
from pipeline_steps.auth.credentials import Login, from_hosts
from pipeline_steps.auth.hosts import Host
from pipeline_steps.toolbox import http, json_reader, retry
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    MachineError,
    PipelineError,
    Temporary,
)
from pipeline_steps.toolbox.proxy import is_loopback
from pipeline_steps.toolbox.redact import register

T = TypeVar("T")

#: Pages of a list that are read at most.
MOST_PAGES = 1000
#: Bytes of an error's body that are understood.
ERROR_BYTES = 64 * 1024
#: Seconds to wait after a limit that does not say how long it lasts.
PAUSE = 60.0
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*rel="next"')
#: Characters of a token; a line break would split the header.
_TOKEN = re.compile(r"[\x21-\x7e]+")


class RateLimited(Temporary):
    """A rate limit: what it refuses was not done, and may be sent again whatever it is."""


def may_have_token(url: str, host: Host) -> bool:
    """Whether a token may be sent to `url`: over https, or where `host` or the loopback interface
    makes plain http no risk.

    >>> [may_have_token(url, Host()) for url in ("https://a.example.com", "http://127.0.0.1:80/x",
    ...     "http://a.example.com", "http://127.0.0.1.example.com")]
    [True, True, False, False]
    """
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and (host.plain_http or is_loopback(parts.hostname or ""))
    )


def token(
    system: str, login: Login | None, variable: str, environ: Mapping[str, str], where: str
) -> str:
    """The token for a server: the password of `hosts`, else of a variable; "" for none.

    Raises ConfigurationError when it has characters that no token has.
    """
    secret = login.password if login else register(environ.get(variable, "").strip())
    if secret and not _TOKEN.fullmatch(secret):
        raise ConfigurationError(
            f"the token for {system} has characters that no token has",
            where=where,
            advice=f"write it again into `hosts` or {variable}, without quotes and line breaks",
        )
    return secret


def server_settings(url: str, hosts: Mapping[str, Host]) -> Host:
    """What `hosts` says of the server at `url`. Raises ConfigurationError where a token would be
    read on the way.
    """
    _, entry = table.entry_for(hosts, url.partition("://")[2])
    if not may_have_token(url, entry):
        raise ConfigurationError(
            "this is not an https:// URL, and anybody on the way could read the token",
            where=http.safe_url(url),
            advice="write https://, or plain_http: true for its host in `hosts`",
        )
    return entry


def project_token(
    system: str,
    url: str,
    project: str,
    variable: str,
    hosts: Mapping[str, Host],
    environ: Mapping[str, str],
) -> str:
    """The token for a project of the server at `url`: the password that `hosts` has for the project
    or the host, else `variable`; "" for none.
    """
    place = url.partition("://")[2]
    host, _, path = place.partition("/")
    login = from_hosts(host, f"{path}/{project}".lstrip("/"), hosts)
    return token(system, login, variable, environ, place)


class Client:
    """A client for one project of a server; a subclass has the paths, headers and errors of `system`.

    Args:
        api: the address of the API. root: of the project in it; paths are relative to it.
        find_token: asked once, when the first request is sent; "" for anonymous requests.
        budget: seconds for all tries of a request.
    """

    system: ClassVar[str]
    #: The scheme of the Authorization header.
    scheme: ClassVar[str] = "Bearer"
    #: Which URLs get no token, in words.
    foreign: ClassVar[str] = "outside its API"

    def __init__(
        self,
        api: str,
        root: str,
        client: http.Client,
        find_token: Callable[[], str],
        budget: float,
    ) -> None:
        self.api = api
        self.budget = budget
        self._root = root
        self._client = client
        self._token = functools.cache(find_token)
        # Asked once per client, and only after a 404.
        self._project_once = functools.cache(lambda: self.call("GET", ""))

    def call(self, method: str, path: str, *, allowed: Container[int] = ()) -> http.Response:
        """The answer to a request: 2xx, or a status in `allowed`; errors are raised."""
        raise NotImplementedError

    def require_visible(self) -> None:
        """Raise AccessRefused unless the project is visible: only then does 404 mean absent."""
        self._project_once()

    def _is_ours(self, url: str) -> bool:
        """Whether the token may be sent to a URL that an answer names."""
        return url.startswith(f"{self.api}/") and http.origin(url) == http.origin(self.api)

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | bytes | None,
        *,
        kind: str = "application/json",
        cap: int = http.CAP,
        idempotent: bool | None = None,
    ) -> http.Response:
        """The answer to a request with the token, whatever its status.

        path: relative to the project, or a URL of the API. body: bytes of the type `kind` are sent
        as they are, anything else as JSON. Raises MachineError for a URL elsewhere.
        """
        url = path if "://" in path else f"{self._root}{path}"
        # Links come from answers; a manipulated one must not get the token.
        if not self._is_ours(url):
            problem = f"{self.system} names a URL {self.foreign}, which gets no token"
            raise MachineError(
                f"{problem}: {http.safe_url(url)}",
                where=self._root,
                advice=f"check the address that {self.system} gives for itself, and proxies before it",
            )
        sent = dict(headers)
        if secret := self._token():
            sent["Authorization"] = f"{self.scheme} {secret}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = kind if isinstance(body, bytes) else "application/json"
        request = functools.partial(
            self._client.request,
            method,
            url,
            headers=sent,
            body=data,
            cap=cap,
            budget=self.budget,
            idempotent=idempotent,
        )
        return retry.call(request, budget=self.budget, on=(RateLimited,))


def hidden(error: PipelineError, token_advice: str) -> AccessRefused:
    """The error for 404, with which these servers hide what a login may not see."""
    advice = f"it does not exist, or this login may not see it: {token_advice}"
    return AccessRefused(error.what, where=error.where, advice=advice)


def linked_pages(
    ask: Callable[[str], http.Response], path: str, root: str
) -> Iterator[http.Response]:
    """The answers for all pages of a list, by the links in their headers; up to an answer that is
    not 2xx.

    ask: (URL) → answer. path: relative to `root`, or a URL. Raises MachineError for more than
    MOST_PAGES.
    """
    separator = "&" if "?" in path else "?"
    url = f"{'' if '://' in path else root}{path}{separator}per_page=100"
    visited: set[str] = set()
    while url not in visited:
        visited.add(url)
        if len(visited) > MOST_PAGES:
            raise MachineError(
                f"the list has more than {MOST_PAGES} pages, and no more are read",
                where=http.safe_url(url),
                advice="remove what nobody needs from that list, or look at what answers there",
            )
        answer = ask(url)
        if not 200 <= answer.status < 300:
            return
        yield answer
        next_link = _NEXT.search(answer.headers.get("link", ""))
        if next_link:
            url = urljoin(url, next_link[1])


def seconds_until_reset(headers: Mapping[str, str], name: str) -> float:
    """Seconds until a rate limit is reset, by the server's own clock; PAUSE where it does not say.

    name: of the header with the time, in seconds since 1970.

    >>> date = "Thu, 01 Jan 2026 00:00:00 GMT"
    >>> seconds_until_reset({"ratelimit-reset": "1767225607", "date": date}, "ratelimit-reset")
    7.0
    """
    try:
        then = float(headers[name])
        return max(0.0, then - parsedate_to_datetime(headers["date"]).timestamp())
    except (KeyError, ValueError, TypeError):
        return PAUSE


def segment(text: str) -> str:
    """A text as one segment of a path, or as a value of a query.

    >>> segment("group/a b")
    'group%2Fa%20b'
    """
    return quote(text, safe="")


def decode(answer: http.Response, kind: type[T], system: str) -> T:
    """The JSON of an answer as a value of `kind`. Raises MachineError when it does not match."""
    try:
        return json_reader.decode_as(kind, answer.body)
    except ValueError as error:
        raise MachineError(
            f"the answer is not what {system} documents: {error}",
            where=http.safe_url(answer.url),
            advice=f"check that the URL is that of a {system} API, and its version",
        ) from error
