"""The HTTP layer against a server that misbehaves on demand."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from pathlib import Path

import pytest

from pipeline_steps.toolbox import http
from pipeline_steps.toolbox.errors import AccessRefused, MachineError, Temporary, Unreachable
from tests.support.scripted import Answer, Request, scripted


def test_a_login_never_follows_to_another_origin() -> None:
    with scripted(lambda _: (200, {}, b"there")) as other:

        def answer(request: Request) -> Answer:
            target = {"/here": "/there", "/there": f"http://{other.host}/other"}[request.path]
            return 302, {"Location": target}, b""

        with scripted(answer) as first:
            got = http.Client().request(
                "GET", f"http://{first.host}/here", headers={"Authorization": "Basic x"}
            )
    assert got.body == b"there"
    assert [r.headers.get("Authorization") for r in first.requests] == ["Basic x", "Basic x"]
    assert "Authorization" not in other.requests[0].headers


def test_uploads_are_not_redirected_and_loops_end() -> None:
    with scripted(lambda _: (307, {"Location": "/again"}, b"")) as server:
        assert http.Client().request("PUT", f"http://{server.host}/", body=b"x").status == 307
        with pytest.raises(MachineError, match="redirects more than 5 times"):
            http.Client().request("GET", f"http://{server.host}/")


@pytest.mark.parametrize("target", ["https://[::1", "http://127.0.0.1:99999/x", "http://h/\u00fc"])
def test_redirects_to_invalid_urls_are_refused(target: str) -> None:
    with scripted(lambda _: (302, {"Location": target}, b"")) as server:
        with pytest.raises(MachineError, match="redirects to an invalid URL"):
            http.Client().request("GET", f"http://{server.host}/")
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_temporary_answers_are_tried_again(status: int) -> None:
    def answer(_: Request) -> Answer:
        return (
            (status, {"Retry-After": "0"}, b"") if len(server.requests) < 2 else (200, {}, b"done")
        )

    with scripted(answer) as server:
        assert http.Client().request("GET", f"http://{server.host}/").body == b"done"
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501, 507])
def test_other_statuses_are_not_retried(status: int) -> None:
    with scripted(lambda _: (status, {"Retry-After": "0"}, b"no")) as server:
        assert http.Client().request("GET", f"http://{server.host}/").status == status
    assert len(server.requests) == 1


def test_post_is_tried_once() -> None:
    with (
        scripted(lambda _: (503, {"Retry-After": "0"}, b"busy")) as server,
        pytest.raises(Temporary, match="answered 503 to POST: busy"),
    ):
        http.Client().request("POST", f"http://{server.host}/", body=b"x")
    assert len(server.requests) == 1


@pytest.mark.parametrize("wait", ["300", "86400", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_of_any_size_ends_with_the_budget(wait: str) -> None:
    with scripted(lambda _: (429, {"Retry-After": wait}, b"")) as server:
        began = time.monotonic()
        with pytest.raises(Temporary, match="answered 429") as caught:
            http.Client().request("GET", f"http://{server.host}/a?token=secret", budget=0.3)
        assert 0.25 < time.monotonic() - began < 30
    assert caught.value.exit_code == 75
    assert f"http://{server.host}/a:" in str(caught.value) and "secret" not in str(caught.value)


def test_truncated_answer_is_requested_again() -> None:
    def answer(_: Request) -> Answer:
        return (
            (200, {"Content-Length": "10"}, b"half ")
            if len(server.requests) < 1
            else (200, {}, b"whole")
        )

    sink = io.BytesIO()
    with scripted(answer) as server:
        http.Client().request("GET", f"http://{server.host}/", sink=sink)
    assert sink.getvalue() == b"whole"


def test_answers_are_capped() -> None:
    with (
        scripted(lambda _: (200, {}, b"x" * 50)) as server,
        pytest.raises(MachineError, match="more than 49 bytes"),
    ):
        http.Client().request("GET", f"http://{server.host}/", cap=49)


def test_no_answer_in_time_is_temporary_and_no_server_is_unreachable() -> None:
    def slow(_: Request) -> Answer:
        time.sleep(0.3)
        return 200, {}, b""

    with scripted(slow) as server, pytest.raises(Temporary, match="did not answer in time"):
        http.Client(timeout=0.05).request("GET", f"http://{server.host}/", budget=0.1)
    with pytest.raises(Unreachable, match="does not answer"):
        http.Client().request("GET", f"http://{server.host}/")


@pytest.mark.parametrize(
    "sent", [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"HTTP/1.1 200 OK\r\nSet: "]
)
def test_an_answer_that_trickles_for_ever_ends(sent: bytes) -> None:
    """One byte now and then is within every timeout of a single read."""

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(sent)
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        # the latter where the machine itself is slow
        slow = r"sends too slowly: \d+ bytes in|did not answer in time"
        with pytest.raises(Temporary, match=slow):
            http.Client(timeout=0.3).request("GET", url, budget=0)
        thread.join()


def test_a_connection_is_kept_and_a_closed_one_is_replaced() -> None:
    def serve() -> None:
        for answers in (2, 1):
            connection, _ = listener.accept()
            with connection:
                for _ in range(answers):
                    while not connection.recv(4096).endswith(b"\r\n\r\n"):
                        pass
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % answers)
            closed.set()

    client, closed = http.Client(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert [client.request("GET", url).body for _ in range(2)] == [b"2", b"2"]
        closed.wait()
        assert client.request("POST", url, budget=0).body == b"1"
        thread.join()


def test_a_proxy_is_used_where_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(lambda _: (200, {}, b"by proxy")) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:pw@{proxy.host}")
        monkeypatch.setenv("no_proxy", "inside.invalid")
        assert http.Client().request("GET", "http://outside.invalid/a?b").body == b"by proxy"
        with pytest.raises(
            Unreachable, match=r"inside\.invalid/: the host of the server is unknown"
        ):
            http.Client().request("GET", "http://inside.invalid/")
    assert proxy.requests[0].path == "http://outside.invalid/a?b"
    assert proxy.requests[0].headers["Proxy-Authorization"] == http.basic("me", "pw")


def test_a_direct_client_and_other_proxies_than_those_of_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:pw@proxy.example.com")
    url = "http://outside.invalid/"
    with pytest.raises(Unreachable, match="host of the server is unknown"):
        http.Client(direct=True).request("GET", url)
    with pytest.raises(
        MachineError,
        match=r"^socks5://proxy\.example\.com: the proxy is neither http nor https",
    ):
        http.Client().request("GET", url)


def test_this_machine_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example.com:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    with scripted(lambda _: (200, {}, b"direct")) as server:
        url = f"http://{server.host}/"
        assert http.Client().request("GET", url).body == b"direct"


def test_a_file_is_sent_with_its_length_anew_for_each_try(tmp_path: Path) -> None:
    def answer(request: Request) -> Answer:
        return (503, {"Retry-After": "0"}, b"") if not server.requests else (201, {}, b"")

    upload = tmp_path / "blob"
    upload.write_bytes(bytes(2**20) + b"end")
    with scripted(answer) as server:
        assert http.Client().request("PUT", f"http://{server.host}/", body=upload).status == 201
    assert [request.body for request in server.requests] == [upload.read_bytes()] * 2
    assert "Transfer-Encoding" not in server.requests[0].headers


def test_answer_during_an_upload_is_returned() -> None:
    def refuse() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(2**20):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert http.Client().request("PUT", url, body=bytes(2**24)).status == 413
        thread.join()


def test_error_for_status_has_the_class_for_the_status() -> None:
    def refused(status: int) -> int:
        return http.error_for_status(
            http.Response("GET", "https://example.com/", status, {}, b"because")
        ).exit_code

    assert [refused(status) for status in (401, 403, 404, 429, 503)] == [7, 7, 7, 75, 75]
    answer = http.Response("GET", "https://example.com/", 403, {}, b"because")
    assert isinstance(
        http.error_for_status(answer), AccessRefused
    ) and "answered 403 to GET: because" in str(http.error_for_status(answer))
