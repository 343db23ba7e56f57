"""HTTP for the clients of foreign systems: kept connections, TLS, proxies, byte caps, retries within a budget.

How one connection speaks stands in `connection`. ssl is imported where a URL asks for TLS.
What a status means is the caller's to judge (`refusal` has the usual words); logins live in the clients.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import json
import logging
import os
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

import tenacity

from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.connection import Answer, Connection, NotHttp, Slow, Tunnel, Unsendable
from pipeline_steps.toolbox.errors import AccessRefused, MachineError, PipelineError, Temporary, Unreachable
from pipeline_steps.toolbox.redact import redact

if TYPE_CHECKING:
    import ssl

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Statuses after which the same request may well succeed later; every other 4xx is final, and a full store (507).
TEMPORARY = frozenset({408, 425, 429, *range(500, 600)} - {501, 505, 507})
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
#: Seconds all tries of one request may take together, and seconds one read or write may take.
BUDGET = 120.0
TIMEOUT = 30.0
#: Seconds of the longest pause before a try that no server asked for.
LONGEST = 30.0
#: Bytes an answer kept in memory may have.
CAP = 32 * 2**20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNREACHABLE = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL})


class TryAgain(Temporary):
    """A try that failed for now. retry_after: seconds the server asked to wait, None when it did not say."""

    def __init__(self, what: str, *, where: str = "", advice: str = "", retry_after: float | None = None) -> None:
        super().__init__(what, where=where, advice=advice)
        self.retry_after = retry_after


class Response(NamedTuple):
    """An answer, read to its end. headers: names in lower case. body: empty when it went into a sink."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises MachineError naming the URL when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise MachineError(f"the answer is not JSON: {error}", where=shown(self.url)) from error


Explain = Callable[[bytes], str]
#: The error for an answer that means "not now"; None for a final one.
Later = Callable[[Response], TryAgain | None]


def excerpt(body: bytes) -> str:
    """The first words of an error's body, on one line."""
    return " ".join(body[:400].decode(errors="replace").split())[:300]


class Client:
    """Requests to any number of hosts; connections are kept per origin, threads may share it.

    ca_file: PEM trusted besides the machine's own. explain: how the system words its errors in a body. later: how it
    says "not now", where that is not by a status of TEMPORARY and Retry-After alone.
    """

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        timeout: float = TIMEOUT,
        explain: Explain = excerpt,
        later: Later | None = None,
    ) -> None:
        self._ca_file = ca_file
        self._timeout = timeout
        self._later = later or (lambda answer: temporary(answer, explain) if answer.status in TEMPORARY else None)
        self._idle: dict[str, list[Connection]] = {}
        self._lock = threading.Lock()

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
        """The final answer, whatever its status but for temporary ones.

        A single read may take the client's timeout, a whole answer twice that and a second for each SLOWEST bytes.
        body: bytes, or a file that is streamed. sink: where a good answer's body goes (emptied before each try).
        cap: bytes of the answer. budget: seconds for all tries; 0 for a single one. idempotent: may be repeated
        (None: by its method); others are tried once. Redirects are followed for GET and HEAD, without
        Authorization when they lead to another origin, never from https to http.

        Raises TryAgain (75) when the budget is used up, Unreachable, MachineError (no TLS, too big).
        """
        repeatable = method in IDEMPOTENT if idempotent is None else idempotent

        def once() -> Response:
            return self._followed(method, url, dict(headers or {}), body, sink, cap, fresh=not repeatable)

        return retrying(once, budget=budget if repeatable else 0)

    def _followed(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | Path | None,
        sink: IO[bytes] | None,
        cap: int,
        *,
        fresh: bool,
    ) -> Response:
        for _ in range(6):
            answer = self._exchange(method, url, headers, body, sink, cap, fresh=fresh)
            target = answer.headers.get("location")
            if answer.status not in _REDIRECTS or method not in ("GET", "HEAD") or not target:
                if error := self._later(answer):
                    raise error
                return answer
            after = _redirected(url, target)
            if url.startswith("https:") and not after.startswith("https:"):
                raise MachineError(f"is redirected from https to {shown(after)}", where=shown(url))
            if origin(after) != origin(url):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            url = after
        raise MachineError("is redirected again and again", where=shown(url))

    def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Path | None,
        sink: IO[bytes] | None,
        cap: int,
        *,
        fresh: bool,
    ) -> Response:
        key = origin(url)
        with translated(url):
            connection = None if fresh else self._kept(key)
            if connection is not None:
                try:
                    answer = _send(connection, method, url, headers, body)
                except (NotHttp, OSError):
                    connection.close()  # the server closed it while it was idle; says nothing about the server now
                    connection = None
                except BaseException:
                    connection.close()
                    raise
            if connection is None:
                connection = self._open(url)
                try:
                    answer = _send(connection, method, url, headers, body)
                except BaseException:
                    connection.close()
                    raise
            try:
                data = _read(answer, url, sink, cap)
            except BaseException:
                connection.close()
                raise
            if answer.kept:
                self._keep(key, connection)
            else:
                connection.close()
            return Response(method, url, answer.status, answer.headers, data)

    def _kept(self, key: str) -> Connection | None:
        with self._lock:
            idle = self._idle.get(key)
            return idle.pop() if idle else None

    def _keep(self, key: str, connection: Connection) -> None:
        with self._lock:
            self._idle.setdefault(key, []).append(connection)

    def _open(self, url: str) -> Connection:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise MachineError("is neither http nor https", where=shown(url))
        secured = trust(self._ca_file) if parts.scheme == "https" else None
        host, port = parts.hostname or "", parts.port or (443 if secured else 80)
        proxy = proxy_for(parts.scheme, parts.netloc.rpartition("@")[2])
        if proxy is None:
            return Connection(host, port, timeout=self._timeout, secured=secured)
        tunnel = Tunnel(host, port, proxy.headers) if secured else None
        return Connection(proxy.host, proxy.port, timeout=self._timeout, secured=secured, tunnel=tunnel)

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            for connection in [each for idle in self._idle.values() for each in idle]:
                connection.close()
            self._idle.clear()

    def __del__(self) -> None:
        self.close()


def _send(
    connection: Connection, method: str, url: str, headers: Mapping[str, str], body: bytes | Path | None
) -> Answer:
    parts = urlsplit(url)
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    proxy = proxy_for("http", parts.netloc.rpartition("@")[2]) if parts.scheme == "http" else None
    if proxy:
        target, headers = urlunsplit(parts._replace(fragment="")), {**headers, **proxy.headers}
    headers = {"Host": _host(url), "User-Agent": "pipeline-steps", **headers}
    if not isinstance(body, Path):
        return connection.request(method, target, headers, body, None if body is None else len(body))
    with body.open("rb") as file:
        return connection.request(method, target, headers, file, body.stat().st_size)


def _host(url: str) -> str:
    """What the Host header says of a URL: its port only where it is not the scheme's own (RFC 9110 §7.2)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host if host.isascii() else host.encode("idna").decode()
    return name if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f"{name}:{parts.port}"


def _read(answer: Answer, url: str, sink: IO[bytes] | None, cap: int) -> bytes:
    """The body, or b"" when it went into `sink`. Raises MachineError over `cap`, Cut when it ends early."""
    into_sink = sink is not None and answer.status in (200, 206)
    blocks: list[bytes] = []
    total = 0
    if into_sink and sink is not None:
        sink.seek(0)
        sink.truncate()
    for block in answer.blocks():
        total += len(block)
        if total > cap:
            raise MachineError(f"the answer has more than {cap} bytes", where=shown(url))
        if into_sink and sink is not None:
            sink.write(block)
        else:
            blocks.append(block)
    return b"".join(blocks)


class Proxy(NamedTuple):
    host: str
    port: int
    headers: dict[str, str]


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """The proxy that the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) names for a host, if any."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    proxies = getproxies_environment()
    found = proxies.get(scheme) or proxies.get("all")
    if not found or proxy_bypass(host):
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    headers = {}
    if parts.username:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    return Proxy(parts.hostname or "", parts.port or 8080, headers)


@functools.cache
def trust(ca_file: str | None) -> ssl.SSLContext:
    """What TLS connections trust: the machine's authorities, and those of `ca_file`. Raises MachineError."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise MachineError(f"cannot be used as ca_file: {error}", where=ca_file) from error
    return context


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn what sockets, TLS and connections raise into errors of toolbox/errors, with the URL."""
    where = shown(url)
    try:
        yield
    except Slow as error:
        raise TryAgain(f"sends too slowly: {error}", where=where) from error
    except TimeoutError as error:
        raise TryAgain("no answer in time", where=where) from error
    except NotHttp as error:
        raise MachineError(f"does not speak HTTP: {error}", where=where) from error
    except Unsendable as error:
        raise MachineError(f"cannot be asked: {error}", where=where) from error
    except socket.gaierror as error:
        raise Unreachable(f"unknown host: {error.strerror}", where=where, advice="check its name and DNS") from error
    except OSError as error:
        raise _broken(error, where) from error


def _broken(error: OSError, where: str) -> PipelineError:
    """The error for a connection that failed, or that TLS refused."""
    if type(error).__module__ == "ssl":  # loaded by whoever raised it
        if isinstance(error, ssl.SSLCertVerificationError):
            what, advice = error.verify_message, "name the authority's PEM file as ca_file in `hosts`"
            return MachineError(f"its certificate is not trusted: {what}", where=where, advice=advice)
        if isinstance(error, ssl.SSLError):
            plain = "it seems to speak plain HTTP: plain_http: true in `hosts`" if "VERSION" in str(error) else ""
            return MachineError(f"no TLS connection: {error.reason or error}", where=where, advice=plain)
    if error.errno in _UNREACHABLE:
        return Unreachable(
            f"does not answer: {error.strerror}", where=where, advice="is it running, is the port right?"
        )
    if isinstance(error, ConnectionError):
        return TryAgain(f"the connection broke: {error or type(error).__name__}", where=where)
    return MachineError(f"the connection failed: {error.strerror or error}", where=where)


def retrying(work: Callable[[], T], *, budget: float = BUDGET, longest: float = LONGEST) -> T:
    """What `work` returns; it is called again while it raises TryAgain and the budget of seconds lasts.

    Waits as long as the server asks, of any size but never beyond the budget, else exponentially with full
    jitter, up to `longest` seconds. The last TryAgain leaves when the budget is used up.
    """
    deadline = Deadline(budget)
    try:
        return work()
    except TryAgain as error:
        if not budget:
            raise
        failures = iter([error])  # tenacity costs 50 ms to import: only the second try pays for it

    def again() -> T:
        for failure in failures:
            raise failure
        return work()

    def wait(state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after if isinstance(failure, TryAgain) else None
        pause = random.uniform(0, min(longest, 0.5 * 2**state.attempt_number)) if asked is None else asked
        return min(pause, deadline.left() or 0.0)

    def tell(state: tenacity.RetryCallState) -> None:
        pause = state.next_action.sleep if state.next_action else 0.0
        log.info(
            "%s; next try in %.1f s (%.0f of %.0f s left)",
            state.outcome.exception() if state.outcome else "", pause, deadline.left(), budget,
        )  # fmt: skip

    loop = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TryAgain),
        stop=lambda _: deadline.over,
        wait=wait,
        before_sleep=tell,
        reraise=True,
    )
    return loop(again)


def temporary(answer: Response, explain: Explain = excerpt) -> TryAgain:
    """The error for an answer with a status of TEMPORARY."""
    words = explain(answer.body)
    return TryAgain(
        redact(f"{answer.method} answered {answer.status}{': ' if words else ''}{words}"),
        where=shown(answer.url),
        retry_after=retry_after(answer.headers),
    )


def refusal(answer: Response, explain: Explain = excerpt) -> PipelineError:
    """The error for an answer the caller did not expect: AccessRefused, Temporary, else MachineError."""
    if answer.status in TEMPORARY:
        return temporary(answer, explain)
    words = explain(answer.body)
    what = redact(f"{answer.method} answered {answer.status}{': ' if words else ''}{words}")
    if answer.status in (401, 403):
        return AccessRefused(what, where=shown(answer.url), advice="check the credentials and their rights")
    return MachineError(what, where=shown(answer.url))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a Retry-After header asks to wait (RFC 9110 §10.2.3), by the server's own Date; None without one.

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
        then = parsedate_to_datetime(text)
        now = parsedate_to_datetime(headers["date"]) if "date" in headers else datetime.now(timezone.utc)
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):
        return None


def origin(url: str) -> str:
    """Scheme, host and port of a URL, the default port filled in.

    >>> origin("https://example.com/a"), origin("http://me@example.com:81/")
    ('https://example.com:443', 'http://example.com:81')
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'http': 80, 'https': 443}.get(parts.scheme)}"


def _redirected(url: str, target: str) -> str:
    """Where a Location header leads from `url`. Raises MachineError when no request can be sent there."""
    try:
        after = urljoin(url, target)
        if urlsplit(after).hostname and urlsplit(after).port != 0 and after.isascii() and after.isprintable():
            return after
    except ValueError:
        pass
    raise MachineError(f"is redirected to what is no URL: {target.partition('?')[0]!a}", where=shown(url))


def shown(url: str) -> str:
    """A URL as it may be shown: no user, no query (signed locations carry secrets there).

    >>> shown("https://me:pw@example.com/v2/?sig=abc")
    'https://example.com/v2/'
    """
    parts = urlsplit(url)
    return redact(urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")))


def basic(username: str, password: str) -> str:
    """The value of an Authorization header for a name and a password."""
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"
