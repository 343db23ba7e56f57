"""One connection, against servers that send what the test says, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.connection import Answer, Connection, Cut, NotHttp, Tunnel, Unsendable
from pipeline_steps.toolbox.errors import Interrupted, MachineError, Temporary

OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def server(*answers: bytes, end: bool = True) -> Iterator[tuple[int, list[bytes]]]:
    """A port whose one connection gets an answer for each request without a body; and the requests as they came."""
    requests: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            for answer in answers:
                request = b""
                while not request.endswith(b"\r\n\r\n") and (block := connection.recv(4096)):
                    request += block
                requests.append(request)
                step = 1 if len(answer) < 1000 else 4096  # a byte a packet: nothing may depend on where packets end
                for start in range(0, len(answer), step):
                    connection.sendall(answer[start : start + step])
            if not end:
                connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], requests
        finally:
            thread.join()


@contextlib.contextmanager
def connected(port: int, tunnel: Tunnel | None = None) -> Iterator[Connection]:
    with contextlib.closing(Connection("127.0.0.1", port, timeout=5, tunnel=tunnel)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
        (OK + b"\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_bodies_of_every_framing_are_read(sent: bytes, body: bytes) -> None:
    with server(sent) as (port, _), connected(port) as connection:
        answer = connection.request("GET", "/", {}, None, None)
        assert b"".join(answer.blocks()) == body
        assert answer.status in (200, 204) and not {"x", "trailer"} & set(answer.headers)


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"Content-Length: 5\r\n\r\nhell",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"Content-Le",
        b"",
    ],
)
def test_a_cut_answer_is_never_taken_as_whole(sent: bytes) -> None:
    with server(sent) as (port, _), connected(port) as connection, pytest.raises(Cut):
        list(connection.request("GET", "/", {}, None, None).blocks())


@pytest.mark.parametrize(
    "sent",
    [
        b"220 mail.example.com ESMTP\r\n",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"A\0: b\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_is_no_answer_or_two_at_once_is_refused(sent: bytes) -> None:
    with server(sent) as (port, _), connected(port) as connection, pytest.raises(NotHttp):
        list(connection.request("GET", "/", {}, None, None).blocks())
    with server(sent) as (port, _), pytest.raises(MachineError, match="does not speak HTTP"):
        http.Client().request("GET", f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("begin", [b"", b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: "])
def test_headers_and_trailers_without_end_are_refused(begin: bytes) -> None:
    endless = OK + begin + b"A: b\r\n" * 150_000
    with server(endless) as (port, _), pytest.raises(MachineError, match="262144 bytes of headers"):
        http.Client().request("GET", f"http://127.0.0.1:{port}/")


def test_small_chunks_are_read_together() -> None:
    many = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    with server(many) as (port, _), connected(port) as connection:
        blocks = list(connection.request("GET", "/", {}, None, None).blocks())
        assert b"".join(blocks) == b"x" * 100_000 and len(blocks) < 1000


def test_a_signal_while_an_answer_is_read_is_that_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser turns what its callbacks raise into an error of its own."""

    def interrupted(self: Answer, body: bytes) -> None:
        raise Interrupted(15)

    monkeypatch.setattr(Answer, "on_body", interrupted)
    with server(OK + b"Content-Length: 5\r\n\r\nhello") as (port, _), pytest.raises(Interrupted):
        http.Client().request("GET", f"http://127.0.0.1:{port}/")


def test_a_connection_that_said_more_than_its_answer_is_not_used_again() -> None:
    more = OK + b"Content-Length: 2\r\n\r\nab"
    with server(more, more, end=False) as (port, requests):
        client = http.Client(timeout=0.3)
        for method in ("GET", "HEAD"):
            client.request(method, f"http://127.0.0.1:{port}/?a=b")
        assert [request.split(b"\r\n")[0] for request in requests] == [b"GET /?a=b HTTP/1.1", b"HEAD /?a=b HTTP/1.1"]
        assert b"Host: 127.0.0.1:%d" % port in requests[0].split(b"\r\n")
        # What came after the headers of the answer to HEAD is not taken for the next answer: a new connection is made.
        with pytest.raises(Temporary, match="no answer in time"):
            client.request("GET", f"http://127.0.0.1:{port}/", budget=0)
        client.close()


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/a b", {}), ("/\r\nX: y", {}), ("/\u00fc", {}), ("/", {"A": "b\r\nC: d"}), ("/", {"A": "\u20ac"})],
)
def test_nothing_breaks_out_of_a_request(target: str, headers: dict[str, str]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        connected(listener.getsockname()[1]) as connection,
        pytest.raises(Unsendable),
    ):
        connection.request("GET", target, headers, None, None)


def test_a_proxy_that_does_not_connect_is_named() -> None:
    tunnel = Tunnel("example.com", 443, {"Proxy-Authorization": "Basic x"})
    with (
        server(b"HTTP/1.1 407 Authenticate\r\n\r\n") as (port, requests),
        connected(port, tunnel) as connection,
        pytest.raises(OSError, match="the proxy answered 407"),
    ):
        connection.request("GET", "/", {}, None, None)
    assert requests == [
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nProxy-Authorization: Basic x\r\n\r\n"
    ]
