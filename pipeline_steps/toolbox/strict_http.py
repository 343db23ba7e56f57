"""urllib3 connections that refuse an answer without a certain end, or beyond a limit.

urllib3 and http.client read leniently: of two lengths they take one, a header that they cannot
parse ends all headers, and a byte now and then may come for ever. Errors raised here do not name
the URL; `http` adds it.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.response import assert_header_parsing

from pipeline_steps.toolbox.errors import MachineError, Temporary

#: Bytes a second an answer must bring on average after twice the timeout of one read.
SLOWEST = 16 * 1024
#: Bytes of headers, of trailers, or of whatever else comes before the next byte of a body.
LARGEST_HEAD = 256 * 1024


def is_cut(error: ssl.SSLError) -> bool:
    """Whether TLS reports that the connection ended without close_notify.

    Python before 3.11.4 has no exception class of its own for this error of OpenSSL 3.
    """
    return isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"


class BoundedReader(io.RawIOBase):
    """A socket's bytes, with a minimum speed and a maximum size of headers.

    head: bytes since the start of the answer, or since the last body bytes. ended: the peer closed.
    """

    def __init__(self, file: io.RawIOBase, timeout: float) -> None:
        self._file = file
        self._began, self._patience, self._received = time.monotonic(), 2 * timeout, 0
        self.head, self.ended = 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        elapsed = time.monotonic() - self._began
        if elapsed > self._patience + self._received / SLOWEST:
            raise Temporary(
                f"the server sends too slowly: {self._received} bytes in {elapsed:.0f} s"
            )
        if self.head > LARGEST_HEAD:
            raise MachineError(
                f"the server does not speak HTTP: {self.head} bytes of headers or trailers",
                advice="correct host and port: something else answers there",
            )
        try:
            count = self._file.readinto(buffer) or 0
        except ssl.SSLError as error:
            if not is_cut(error):
                raise
            raise ConnectionResetError("TLS was cut without its end") from error
        self.ended = not count
        self._received += count
        self.head += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class StrictResponse(http.client.HTTPResponse):
    """An answer whose end is certain (RFC 9112 §6.3, §9.8)."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        if isinstance(sock, ssl.SSLSocket):
            # A body without a length would pass as whole wherever the connection is cut.
            sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        self._reader = BoundedReader(self.fp.detach(), sock.gettimeout() or 0)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        if self._reader.ended:  # http.client takes that for the end of the headers
            raise http.client.IncompleteRead(b"")
        assert_header_parsing(self.msg)
        # RFC 9112 §6.3: several lengths, or a length with Transfer-Encoding, may be request
        # smuggling.
        lengths = set(self.headers.get_all("content-length", []))
        encodings = [value.lower() for value in self.headers.get_all("transfer-encoding", [])]
        if encodings and (lengths or encodings != ["chunked"]):
            raise http.client.HTTPException(f"Transfer-Encoding {encodings}, lengths {lengths}")
        if len(lengths) > 1 or not all(re.fullmatch("[0-9]+", length) for length in lengths):
            raise http.client.HTTPException(f"Content-Length {sorted(lengths)}")
        # RFC 9112 §5.2: servers must not fold header lines.
        if any("\n" in value for value in self.headers.values()):
            raise http.client.HTTPException("folded headers")
        # http.client skips 100 itself; urllib3 would return another 1xx as the final
        # answer.
        if self.status < 200:
            raise http.client.HTTPException(f"status {self.status}")

    def read1(self, n: int = -1) -> bytes:
        data = super().read1(n)
        self._reader.head = 0
        return data


class _Connection(HTTPConnection):
    response_class = StrictResponse


class _SecureConnection(HTTPSConnection):
    response_class = StrictResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


#: By scheme, for `urllib3.PoolManager.pool_classes_by_scheme`.
POOLS = {"http": _Pool, "https": _SecurePool}
