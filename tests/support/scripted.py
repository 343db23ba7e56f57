"""A web server that answers as a test says and remembers what it was asked: what real servers do
not do on demand.
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


#: Status, headers, body. A Content-Length header is added unless there is one; a body in pieces has
#: none, and is sent as long as somebody listens.
Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]


def forwarded(host: str) -> Callable[[Request], Answer]:
    """What a server of plain HTTP answers, asked on behalf of whoever asks."""

    def answer(request: Request) -> Answer:
        url = f"http://{host}{request.path}"
        asked = urllib.request.Request(
            url, request.body or None, dict(request.headers), method=request.method
        )
        try:
            with urllib.request.urlopen(asked) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as refused:
            return refused.code, dict(refused.headers), refused.read()

    return answer


class Scripted(NamedTuple):
    host: str
    requests: list[Request]


@contextlib.contextmanager
def scripted(answer: Callable[[Request], Answer]) -> Iterator[Scripted]:
    requests: list[Request] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle(self) -> None:
            # A client that tries TLS first is told what Go's servers say; it then asks without.
            if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
                self.connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            else:
                super().handle()

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, dict(self.headers), body)
            status, headers, data = answer(request)
            requests.append(request)
            self.send_response(status)
            length = {"Content-Length": str(len(data))} if isinstance(data, bytes) else {}
            for name, value in {**length, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if not isinstance(data, bytes):
                self.close_connection = True
                with contextlib.suppress(OSError):
                    for piece in data:
                        self.wfile.write(piece)
                return
            if self.command != "HEAD":
                self.wfile.write(data)
            if int(headers.get("Content-Length", 0)) > len(data):
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do

        def log_message(self, *args: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say what broke, but nothing of clients that were killed."""
            if not isinstance(sys.exc_info()[1], ConnectionError):
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield Scripted(f"127.0.0.1:{server.server_port}", requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
