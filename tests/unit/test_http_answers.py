"""Answers as they come over a socket, byte by byte: what is read as whole, and what is refused."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import MachineError, Temporary, Unreachable
from tests.support.registries import certificate
from tests.support.scripted import scripted

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@contextlib.contextmanager
def server(
    *answers: bytes, end: bool = True, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a server that gives an answer to each request on its one connection, and the
    requests as they came.

    end: the connection is closed after the last answer; with `tls` without saying so
    (close_notify).
    """
    requests: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        if not end:
            listener.close()  # whoever comes next is refused
        if tls:
            connection = tls.wrap_socket(connection, server_side=True)
        with connection, contextlib.suppress(OSError):
            for answer in answers:
                request = b""
                while not request.endswith(b"\r\n\r\n") and (block := connection.recv(4096)):
                    request += block
                requests.append(request)
                step = (
                    1 if len(answer) < 1000 else 4096
                )  # a byte a packet: nothing may depend on where packets end
                for start in range(0, len(answer), step):
                    connection.sendall(answer[start : start + step])
            if not end:
                connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}", requests
        finally:
            thread.join()


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
        (OK + b"\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (
            b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
            b"hello",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_bodies_of_every_framing_are_read(sent: bytes, body: bytes) -> None:
    with server(sent) as (url, _):
        answer = http.Client().request("GET", url)
    assert answer.body == body
    assert answer.status in (200, 204) and not {"x", "trailer"} & set(answer.headers)


@pytest.mark.parametrize(
    "sent",
    [
        OK + b"Content-Length: 5\r\n\r\nhell",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"zz\r\n",
        OK + b"Content-Le",
        OK,
        b"HTTP/1.1 200",
        b"",
    ],
)
def test_a_cut_answer_is_never_taken_as_whole(sent: bytes) -> None:
    sink = io.BytesIO()
    with (
        server(sent) as (url, _),
        pytest.raises(Temporary, match="the connection to the server broke"),
    ):
        http.Client().request("GET", url, sink=sink, budget=0)


@pytest.mark.parametrize("sent", [OK + b"\r\nhell", OK + b"Content-Length: 5\r\n\r\nhell", OK, b""])
def test_an_answer_that_is_cut_within_tls_is_never_taken_as_whole(
    sent: bytes, tmp_path: Path
) -> None:
    trusted, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, key)
    client = http.Client(ca_file=str(trusted))
    with (
        server(sent, tls=context) as (url, _),
        pytest.raises(Temporary, match="the connection to the server broke"),
    ):
        client.request("GET", url, budget=0)


@pytest.mark.parametrize(
    "sent",
    [
        b"220 mail.example.com ESMTP\r\n",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 5, 5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nX\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"A\0: b\r\n\r\n",
        OK + b"A: b\r\n c\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_invalid_or_ambiguous_answers_are_refused(sent: bytes) -> None:
    with (
        server(sent) as (url, _),
        pytest.raises(MachineError, match=f"^{url}/?: the server does not speak HTTP: "),
    ):
        http.Client().request("GET", url)


@pytest.mark.parametrize(
    ("begin", "line"),
    [
        (OK, b"A: " + b"b" * 60_000 + b"\r\n"),
        (OK, b"A: b\r\n"),
        (OK + b"A: ", b"b" * 4096),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + b"2\r\nab\r\n0\r\nX: ", b"A: b\r\n"),
        (CHUNKED, b"0" * 4096),
    ],
    ids=["long", "many", "one", "continue", "trailers", "chunk size"],
)
def test_endless_headers_are_refused(begin: bytes, line: bytes) -> None:
    endless = begin + line * (900_000 // len(line))
    with server(endless) as (url, _), pytest.raises(MachineError, match="does not speak HTTP: "):
        http.Client().request("GET", url)


def test_many_small_chunks_are_one_body() -> None:
    with server(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n") as (url, _):
        assert http.Client().request("GET", url).body == b"x" * 100_000


def test_bytes_after_an_answer_are_not_used_as_the_next_one() -> None:
    more = OK + b"Content-Length: 2\r\n\r\nab" + OK + b"Content-Length: 4\r\n\r\nevil"
    with server(more, end=False) as (url, requests):
        client = http.Client()
        assert client.request("GET", f"{url}/?a=b").body == b"ab"
        assert requests[0].split(b"\r\n")[0] == b"GET /?a=b HTTP/1.1"
        assert b"Host: " + url.removeprefix("http://").encode() in requests[0].split(b"\r\n")
        # The old connection gives no other answer, and breaks where it was still asked.
        with pytest.raises((Temporary, Unreachable)):
            client.request("GET", url, budget=0)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/a b", {}),
        ("/\r\nX: y", {}),
        ("/\u00fc", {}),
        ("/", {"A": "b\r\nC: d"}),
        ("/", {"A": "b\r\n c"}),
        ("/", {"A": "\u20ac"}),
        ("/", {"A\n": "b"}),
    ],
)
def test_control_characters_in_url_or_header_are_refused(
    path: str, headers: dict[str, str]
) -> None:
    with (
        scripted(lambda _: (200, {}, b"")) as other,
        pytest.raises(MachineError, match="cannot be requested"),
    ):
        http.Client().request("GET", f"http://{other.host}{path}", headers=headers)
    assert other.requests == []


def test_a_proxy_that_does_not_connect_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(b"HTTP/1.1 407 Authenticate\r\n\r\n") as (proxy, requests):
        monkeypatch.setenv("https_proxy", proxy.replace("//", "//me:pw@"))
        with pytest.raises(
            MachineError, match=r"^https://example.com/: .*the proxy.*407 Authenticate"
        ):
            http.Client().request("GET", "https://example.com/")
    assert requests[0].startswith(b"CONNECT example.com:443 HTTP/1.")
    assert f"Proxy-Authorization: {http.basic('me', 'pw')}".encode() in requests[0].split(b"\r\n")
