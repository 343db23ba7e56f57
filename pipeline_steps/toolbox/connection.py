"""One connection to a server of HTTP/1.1 (RFC 9112): a request goes out, its answer comes in pieces.

What is written here is sockets and framing of requests; answers are read by httptools, the parser of Node. It stands
on that and not on http.client, whose import alone (email, ssl) takes as long as a step that has nothing to do may
take for all it does. Which connection, how often, and what a status means do not belong here.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, NamedTuple

import httptools

if TYPE_CHECKING:
    import ssl

#: Bytes a second an answer must bring on average once it is slow: who sends one byte a second would hold us for ever.
SLOWEST = 16 * 1024
#: Bytes that status line and headers of an answer may have.
_HEAD = 256 * 1024
_BLOCK = 2**18
_BREAKING = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: Methods whose requests say that they have no body (RFC 9110 §8.6).
_WITH_BODY = frozenset({"PUT", "POST", "PATCH"})


class NotHttp(Exception):
    """What came is no answer of HTTP."""


class Unsendable(ValueError):
    """A request that would break out of its lines."""


class Cut(ConnectionError):
    """The connection ended within an answer, or before one."""


class Slow(TimeoutError):
    """An answer that comes, but would never end."""


class Tunnel(NamedTuple):
    """What a proxy is asked to connect to, and the headers it wants."""

    host: str
    port: int
    headers: Mapping[str, str]


class Answer:
    """An answer whose headers are here; `blocks` reads the rest. headers: names in lower case, the last of a name.

    It is the protocol of httptools' parser: the methods on_… are what that calls.
    """

    def __init__(self, connection: socket.socket, method: str, timeout: float) -> None:
        self._socket, self._method = connection, method
        self._began, self._patience, self._received = time.monotonic(), 2 * timeout, 0
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._ready = self._complete = self._more = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self._idle = 0  # bytes since the last of a body
        while not self._ready:
            self._receive()

    @property
    def kept(self) -> bool:
        """May the connection serve another request? True only when the answer was read to its end."""
        return self._complete and not self._more and self._alive

    def blocks(self) -> Iterator[bytes]:
        """The body as it comes. Raises Cut when it ends early, Slow, NotHttp, TimeoutError."""
        while True:
            if self._pieces:
                data = b"".join(self._pieces)
                self._pieces.clear()
                yield data
            if self._complete:
                return
            self._receive()

    def _receive(self) -> None:
        taken = time.monotonic() - self._began
        if taken > self._patience + self._received / SLOWEST:
            raise Slow(f"{self._received} bytes in {taken:.0f} s")
        data = self._socket.recv(_BLOCK)
        self._received += len(data)
        if not data:
            if not self._ready or self._framed:
                raise Cut("the answer was cut" if self._received else "the server closed it without an answer")
            self._complete = True  # an answer that says no length ends with its connection
            return
        self._idle += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:  # a signal's exception, raised in a method below
            raise error.__context__ or error
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                raise NotHttp(str(error) or type(error).__name__) from error
            self._more = True
        if self._idle > _HEAD and not self._complete:
            raise NotHttp(f"more than {_HEAD} bytes of headers or trailers")

    @property
    def _framed(self) -> bool:
        chunked = self.headers.get("transfer-encoding", "").lower().endswith("chunked")
        return chunked or "content-length" in self.headers

    # -- what the parser calls ---------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._more = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._ready:  # what follows a body in chunks says nothing that anybody here asks for
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._complete or 100 <= status < 200:
            return
        self.status, self._ready = status, True
        self._alive = self._parser.should_keep_alive()
        self._complete = self._method == "HEAD"  # its headers are about a body that does not come

    def on_body(self, body: bytes) -> None:
        self._idle = 0
        if self._complete:
            self._more = True
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._ready:
            self._complete = True
        else:
            self.headers.clear()  # 100 Continue and its like: the answer itself is still to come


class Connection:
    """A connection that is opened by its first request. secured: what TLS trusts, None for a plain one.

    Its methods raise what sockets and TLS raise, and Cut, Slow, NotHttp.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        secured: ssl.SSLContext | None = None,
        tunnel: Tunnel | None = None,
    ) -> None:
        self._address, self._timeout, self._secured, self._tunnel = (host, port), timeout, secured, tunnel
        self._socket: socket.socket | None = None

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None, length: int | None
    ) -> Answer:
        """The answer to one request, its headers read. target: as in the request line. length: of a body, in bytes."""
        connection = self._socket or self._open()
        said = {"Accept-Encoding": "identity", **headers}
        if length is not None or method in _WITH_BODY:
            said["Content-Length"] = str(length or 0)
        head = _head(method, target, said)
        try:
            if body is None or isinstance(body, bytes):
                connection.sendall(head + (body or b""))
            else:
                connection.sendall(head)
                while block := body.read(_BLOCK):
                    connection.sendall(block)
        except (BrokenPipeError, ConnectionResetError) as error:
            # A server that refuses an upload may answer and close before it has read all of it.
            try:
                return Answer(connection, method, self._timeout)
            except (NotHttp, OSError):
                raise error from None
        return Answer(connection, method, self._timeout)

    def close(self) -> None:
        """End it; it can be used again and opens anew."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> socket.socket:
        host, port = self._address
        connection = _connected(host, port, self._timeout)
        try:
            if self._tunnel:
                host = self._tunnel.host
                _dig(connection, self._tunnel, self._timeout)
            if self._secured:
                connection = self._secured.wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise
        self._socket = connection
        return connection


def _connected(host: str, port: int, timeout: float) -> socket.socket:
    # Names in ASCII go as bytes: for a str the codec of international names is imported, which takes 2 ms.
    name = host.encode() if host.isascii() else host
    connection = socket.create_connection((name, port), timeout)  # type: ignore[arg-type]  # getaddrinfo takes bytes
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _dig(connection: socket.socket, tunnel: Tunnel, timeout: float) -> None:
    """Have a proxy connect us through (RFC 9110 §9.3.6)."""
    host = f"[{tunnel.host}]" if ":" in tunnel.host else tunnel.host
    target = f"{host}:{tunnel.port}"
    connection.sendall(_head("CONNECT", target, {"Host": target, **tunnel.headers}))
    # Read like an answer to HEAD: what a proxy that connects sends after its headers is the other side's.
    answer = Answer(connection, "HEAD", timeout)
    if not 200 <= answer.status < 300:
        raise OSError(f"the proxy answered {answer.status}")


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Request line and headers. Raises Unsendable."""
    if not target.isascii() or any(character <= " " or character == "\x7f" for character in target):
        path = target.partition("?")[0]  # what follows may be a signature
        raise Unsendable(f"{path!a} holds blanks, control characters or others that are not ASCII")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any(_BREAKING.search(line) for line in lines):
        raise Unsendable("a header holds control characters")
    try:
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError as error:
        raise Unsendable("a header holds characters that HTTP has no bytes for") from error
