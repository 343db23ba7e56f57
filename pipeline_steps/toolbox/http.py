"""HTTP client for foreign systems, on top of urllib3.

Added to urllib3 here and in `strict_http`: limits of bytes and time, credentials that stay with
their origin, proxies from the environment, and the errors of `errors`. `retry` decides when to try
again. The caller judges a status (`error_for_status` has the usual words) and knows the logins.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import http.client
import io
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError, ProxyError

from pipeline_steps.toolbox import json_reader, retry, strict_http
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    MachineError,
    PipelineError,
    Temporary,
    Unreachable,
)
from pipeline_steps.toolbox.proxy import proxy_for
from pipeline_steps.toolbox.redact import beginning, redact

#: Statuses after which the same request may succeed later. Every other 4xx is final, and so is a
#: full store (507).
TEMPORARY = frozenset({408, 425, 429, *range(500, 600)} - {501, 505, 507})
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
#: Seconds all tries of one request may take together, and seconds one read or write may take.
BUDGET = retry.BUDGET
TIMEOUT = 30.0
#: Bytes an answer kept in memory may have.
CAP = 32 * 2**20
_BLOCK = 2**18
#: Bytes of an error body in which its first words are looked for.
_WORDS = 2**16
#: Idle connections kept for each origin.
_KEPT = 64
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOBODY_THERE = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})
#: Control characters, and what is not in Latin-1.
_UNSENDABLE = re.compile(r"[^\x09\x20-\x7e\x80-\xff]")


Failures = MutableMapping[str, PipelineError]
_failures: ContextVar[Failures | None] = ContextVar("failures", default=None)


@contextlib.contextmanager
def failing_hosts_asked_once(failures: Failures) -> Iterator[None]:
    """A block in which a host that gave no answer for the budget of a whole request is not asked
    again: each further request to it raises the same error at once. Not for threads that are
    started in it.

    failures: host and port → error. Several blocks may share them.
    """
    token = _failures.set(failures)
    try:
        yield
    finally:
        _failures.reset(token)


def asked_before(failure: PipelineError, where: str) -> PipelineError:
    """The error of a host, for another URL of it that was not asked."""
    error = failure.fresh()
    error.where = where
    error.what = f"{error.what} (asked once, and not again in this run)"
    return error


class _AskedBefore(Exception):
    """Passes the retries by."""

    def __init__(self, error: PipelineError) -> None:
        self.error = error


class Response(NamedTuple):
    """A complete answer.

    headers: lower-case names; of a repeated header the last value. body: empty when it went into a
    sink.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises MachineError naming the URL when it is not JSON."""
        try:
            return json_reader.decode(self.body)
        except ValueError as error:
            raise MachineError(
                f"the server's answer is not JSON: {error}",
                where=safe_url(self.url),
                advice="check the URL, and what a proxy on the way answers",
            ) from error


def excerpt(body: bytes) -> str:
    """The first words of an error body, on one line, without secrets."""
    return beginning(" ".join(body[:_WORDS].decode(errors="replace").split()), 300)


def error_for_status(
    answer: Response, error_message: Callable[[bytes], str] = excerpt
) -> PipelineError:
    """The error for an unexpected status.

    error_message: finds the system's own message in an error body.
    """
    message = error_message(answer.body)
    problem = redact(
        f"the server answered {answer.status} to {answer.method}{': ' if message else ''}{message}"
    )
    where = safe_url(answer.url)
    if answer.status in TEMPORARY:
        return Temporary(problem, where=where, retry_after=retry_after(answer.headers))
    if answer.status in (401, 403):
        advice = "check the credentials and their rights"
        return AccessRefused(problem, where=where, advice=advice)
    return MachineError(
        problem, where=where, advice="check the URL; the text above is the server's"
    )


def temporary_error(
    answer: Response, error_message: Callable[[bytes], str] = excerpt
) -> PipelineError | None:
    """The error for an answer with a status of TEMPORARY, else None."""
    return error_for_status(answer, error_message) if answer.status in TEMPORARY else None


class _Request(NamedTuple):
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | Path | None
    sink: IO[bytes] | None
    cap: int


class Client:
    """An HTTP client for any number of hosts. Connections are kept per origin; threads may share
    it.

    ca_file: PEM file trusted in addition to the system's authorities. timeout: seconds of one read
    or write. retryable_error: returns the error of an answer that is worth a retry, None for a
    final one.
    direct: never use a proxy.
    """

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        timeout: float = TIMEOUT,
        retryable_error: Callable[[Response], PipelineError | None] = temporary_error,
        direct: bool = False,
    ) -> None:
        self._ca_file = ca_file
        self._timeout = timeout
        self._retryable_error = retryable_error
        self._direct = direct
        self._pools: dict[tuple[str, str | None], urllib3.PoolManager] = {}

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Path | None = None,
        sink: IO[bytes] | None = None,
        cap: int = CAP,
        budget: float = BUDGET,
        idempotent: bool | None = None,
    ) -> Response:
        """The answer after redirects and retries. Its status is not judged, except for temporary
        ones.

        A single read may take the client's timeout; a whole answer twice that, plus a second for
        each SLOWEST bytes. Redirects are followed for GET and HEAD only, never from https to http,
        and without Authorization when they lead to another origin.

        Args:
            body: bytes, or the path of a file that is streamed.
            sink: a file that gets the body of a good answer; emptied before each try.
            cap: largest size of the answer in bytes.
            budget: seconds for all tries together; 0 for a single try.
            idempotent: whether the request may be repeated; None decides by the method.

        Raises:
            Temporary: the budget is used up.
            Unreachable: no connection.
            MachineError: no TLS, not HTTP, or an answer larger than `cap`.
        """
        repeatable = method in IDEMPOTENT if idempotent is None else idempotent
        request = _Request(method, url, headers or {}, body, sink, cap)
        work = functools.partial(self._follow, request)
        try:
            return retry.call(work, budget=budget if repeatable else 0)
        except _AskedBefore as known:
            raise known.error from None
        except (Unreachable, Temporary) as error:
            failures = _failures.get()
            if failures is not None:
                failures[urlsplit(error.where).netloc] = error.fresh()
            raise

    def _follow(self, request: _Request) -> Response:
        """The answer at the end of all redirects. Raises the error of an answer that is worth a
        retry.
        """
        failures = _failures.get() or {}
        for _ in range(6):
            where = safe_url(request.url)
            if failure := failures.get(urlsplit(where).netloc):
                raise _AskedBefore(asked_before(failure, where))
            answer = self._exchange(request)
            target = answer.headers.get("location")
            redirected = answer.status in _REDIRECTS and request.method in ("GET", "HEAD")
            if not redirected or not target:
                if error := self._retryable_error(answer):
                    raise error
                return answer
            with contextlib.suppress(ValueError):
                target = urljoin(request.url, target)
            if not is_valid_url(target):
                problem = f"the server redirects to an invalid URL: {target.partition('?')[0]!a}"
                advice = "correct the URL, or the server's redirect"
                raise MachineError(problem, where=safe_url(request.url), advice=advice)
            if request.url.startswith("https:") and not target.startswith("https:"):
                problem = f"the server redirects from https to {safe_url(target)}"
                advice = "have it redirect to https, or name the URL that it should redirect to"
                raise MachineError(problem, where=safe_url(request.url), advice=advice)
            # A redirect must not carry the login to another origin (RFC 9110 §15.4).
            headers = dict(request.headers)
            if origin(target) != origin(request.url):
                headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
            request = request._replace(url=target, headers=headers)
        raise MachineError(
            "the server redirects more than 5 times",
            where=safe_url(request.url),
            advice="name the URL that the redirects should end at",
        )

    def _exchange(self, request: _Request) -> Response:
        """Send one request once."""
        method, url, headers, body, sink, cap = request
        if not is_valid_url(url):
            problem = "the URL is invalid: it needs a host, and only printable ASCII without blanks"
            raise MachineError(
                f"this URL cannot be requested: {problem}",
                where=f"{safe_url(url)!a}",
                advice="correct the URL",
            )
        if any(_UNSENDABLE.search(text) for field in headers.items() for text in field):
            problem = "a header has control characters, or characters outside Latin-1"
            raise MachineError(
                f"this URL cannot be requested: {problem}",
                where=safe_url(url),
                advice="correct the login or token: it may have a line break at its end",
            )
        headers = {"User-Agent": "pipeline-steps", **headers}
        parts = urlsplit(url)
        # User and fragment are not part of a request target (RFC 9112 §3.2).
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
        with contextlib.ExitStack() as stack:
            stack.enter_context(_translated(url))
            if isinstance(body, Path):
                headers["Content-Length"] = str(body.stat().st_size)
            response = self._pool(url).request(
                method,
                urlunsplit(plain),
                headers=headers,
                body=stack.enter_context(body.open("rb")) if isinstance(body, Path) else body,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            stack.enter_context(contextlib.closing(response))
            data = _read(response, sink if response.status in (200, 206) else None, cap)
            last = {name.lower(): value for name, value in response.headers.iteritems()}
            # Repeated headers: the last one wins; none that is used here may be
            # repeated.
            return Response(method, url, response.status, last, data)

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The urllib3 pool for a URL: one per scheme and proxy."""
        key = urlsplit(url).scheme, None if self._direct else proxy_for(url, os.environ)
        # Another thread may open one at the same time: the first is used by all.
        return self._pools.get(key) or self._pools.setdefault(key, self._open(*key))

    def _open(self, scheme: str, proxy: str | None) -> urllib3.PoolManager:
        if scheme not in strict_http.POOLS:
            raise MachineError("the URL is neither http nor https", advice="correct the URL")
        if proxy and urlsplit(proxy).scheme not in strict_http.POOLS:
            raise MachineError(
                "the proxy is neither http nor https",
                where=safe_url(proxy),
                advice="correct the URL",
            )
        options: dict[str, Any] = {
            "timeout": self._timeout,
            "maxsize": _KEPT,
            "blocksize": _BLOCK,
            "ssl_context": tls_context(self._ca_file) if scheme == "https" else None,
        }
        if proxy is None:
            pool = urllib3.PoolManager(**options)
        else:
            parts = urlsplit(proxy)
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
            login = {"Proxy-Authorization": basic(user, password)} if user else None
            pool = urllib3.ProxyManager(proxy, proxy_headers=login, **options)
        pool.pool_classes_by_scheme = strict_http.POOLS
        return pool


def _read(response: urllib3.BaseHTTPResponse, sink: IO[bytes] | None, cap: int) -> bytes:
    """Read the body into `sink`, or return it. Raises MachineError beyond `cap` bytes."""
    memory = io.BytesIO()
    output = sink or memory
    # A sink may have bytes of a previous try that was cut off.
    output.seek(0)
    output.truncate()
    total = 0
    while block := response.read1(_BLOCK):
        total += len(block)
        if total > cap:
            raise MachineError(
                f"the server's answer has more than {cap} bytes",
                advice="check that this is the right file: no larger one is read",
            )
        output.write(block)
    return memory.getvalue()


@functools.cache
def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """A TLS context that trusts the system's authorities and those in `ca_file`. Raises
    MachineError.
    """
    context = ssl.create_default_context()
    # Python before 3.11.4 takes a connection that is cut for one that TLS closed, and so a cut body
    # for a whole one.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise MachineError(
                f"the file cannot be used as ca_file: {error}",
                where=ca_file,
                advice="name a file of PEM certificates that this account may read",
            ) from error
    return context


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """Translate exceptions of urllib3 into our errors, and add the URL to each."""
    where = safe_url(url)
    try:
        yield
    except PipelineError as error:
        error.where = error.where or where
        raise
    except ValueError as error:  # its text may hold the query, and that a signature
        raise MachineError(
            "this URL cannot be requested: it is invalid",
            where=where,
            advice="correct the URL",
        ) from error
    except HTTPError as error:
        # urllib3 wraps the exception of the socket, sometimes more than once; the innermost
        # says what happened.
        cause: BaseException = error
        while isinstance(cause, HTTPError) and (cause.__cause__ or cause.__context__):
            cause = cause.__cause__ or cause.__context__ or cause
        peer = "the proxy" if isinstance(error, ProxyError) else "the server"
        raise connection_error(cause, where, peer) from error
    except OSError as error:
        problem = f"this machine cannot read the upload or write the answer: {error}"
        raise MachineError(
            problem, where=where, advice="check the file's rights and the disk's space"
        ) from error


def connection_error(cause: BaseException, where: str, peer: str = "the server") -> PipelineError:
    """The error for an exception of sockets, TLS or http.client. peer: "the server" or "the
    proxy", the subject of the text.
    """
    if isinstance(cause, ssl.SSLCertVerificationError):
        problem = f"the certificate of {peer} is not trusted: {cause.verify_message}"
        advice = "name the authority's PEM file as ca_file in `hosts`"
        return MachineError(problem, where=where, advice=advice)
    if isinstance(cause, ssl.SSLError):
        problem = f"{peer} opens no TLS connection: {cause.reason or cause}"
        advice = (
            "the server seems to speak plain HTTP: set plain_http: true for it in `hosts`"
            if "VERSION" in str(cause)
            else "check host and port, and which versions of TLS the server speaks"
        )
        return MachineError(problem, where=where, advice=advice)
    if isinstance(cause, socket.gaierror):
        problem = f"the host of {peer} is unknown: {cause.strerror}"
        return Unreachable(problem, where=where, advice="check its name and DNS")
    if isinstance(cause, TimeoutError):
        return Temporary(f"{peer} did not answer in time", where=where)
    if isinstance(cause, OSError) and cause.errno in _NOBODY_THERE:
        problem = f"{peer} does not answer: {cause.strerror}"
        return Unreachable(problem, where=where, advice="check that it runs, and the port")
    if isinstance(cause, (ConnectionError, http.client.IncompleteRead)):
        problem = f"the connection to {peer} broke: {str(cause) or type(cause).__name__}"
        return Temporary(problem, where=where)
    if isinstance(cause, OSError):
        problem = f"the connection to {peer} failed: {cause.strerror or cause}"
        return MachineError(problem, where=where, advice="check the network of this machine")
    return MachineError(
        f"{peer} does not speak HTTP: {beginning(str(cause), 200)}",
        where=where,
        advice="correct host and port: something else answers there",
    )


def number(headers: Mapping[str, str], name: str) -> int | None:
    """The number that a header has; None where it has none.

    >>> [number({"content-length": text}, "content-length") for text in ("12", "²", "9" * 30, "")]
    [12, None, None, None]
    """
    text = headers.get(name, "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks to wait, by the server's own Date (RFC 9110 §10.2.3).

    >>> retry_after({"retry-after": "3600"}), retry_after({"retry-after": "soon"})
    (3600.0, None)
    >>> date = "Sat, 31 Jan 2026 10:00:{:02} GMT"
    >>> retry_after({"retry-after": date.format(9), "date": date.format(2)})
    7.0
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = headers.get("date")
        server_time = parsedate_to_datetime(date) if date else datetime.now(timezone.utc)
        return max(0.0, (parsedate_to_datetime(text) - server_time).total_seconds())
    except (ValueError, TypeError):
        return None


def origin(url: str) -> str:
    """Scheme, host and port of a URL, the default port filled in.

    >>> origin("https://example.com/a"), origin("http://me@example.com:81/")
    ('https://example.com:443', 'http://example.com:81')
    """
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def is_valid_url(url: str) -> bool:
    """Whether a URL has a host, a valid port and only characters that a request line can carry."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return has_host and url.isascii() and url.isprintable() and " " not in url


def safe_url(url: str) -> str:
    """The URL without user and query, for messages: signed locations carry secrets there.

    >>> safe_url("https://me:pw@example.com/v2/?sig=abc")
    'https://example.com/v2/'
    """
    parts = urlsplit(url)
    return redact(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))


def basic(username: str, password: str) -> str:
    """The value of an Authorization header for a name and a password."""
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"
