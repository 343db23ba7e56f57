"""What the clients of GitHub, GitLab and Gitea have in common: the token, the address that may get
it, pages, the time of a rate limit, answers as values. Their own files have paths, headers, words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote, urljoin, urlsplit

from pipeline_steps.auth.credentials import Login
from pipeline_steps.auth.hosts import Host
from pipeline_steps.toolbox import http, json_reader
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError
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
    found = login.password if login else register(environ.get(variable, "").strip())
    if found and not _TOKEN.fullmatch(found):
        raise ConfigurationError(
            f"the token for {system} has characters that no token has",
            where=where,
            advice=f"write it again into `hosts` or {variable}, without quotes and line breaks",
        )
    return found


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
                f"more than {MOST_PAGES} pages are not read", where=http.safe_url(url)
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
            f"not the answer {system} documents: {error}",
            where=http.safe_url(answer.url),
            advice=f"check that the URL is that of a {system} API, and its version",
        ) from error
