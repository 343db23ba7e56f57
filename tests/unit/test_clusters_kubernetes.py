"""What the client makes of an API server that breaks off, forgets, redirects or is none; the server
is scripted here.

With a real one: tests/systems/test_cluster.py. tests/systems/test_kubernetes_package.py runs both
with every version of the `kubernetes` package that setup.cfg allows.
"""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from pipeline_steps.clusters import diagnosis, kubeconfig, namespaces
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.clusters.watch import Watcher
from pipeline_steps.toolbox.errors import AccessRefused, Conflict, MachineError, Temporary
from tests.support.registries import certificate, free_port

TOKEN = "token-of-this-test"
GONE = {
    "type": "ERROR",
    "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"},
}


class Asked(NamedTuple):
    """One request. query: its parameters, in lower case: packages write True and true."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class Server:
    """An API server whose every answer a test gives: (status, body), or lines of a stream that
    breaks off.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.answers: Callable[[Asked], tuple[int, Any]] = lambda asked: (200, {})
        self.headers: dict[str, str] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                parts = urlsplit(self.path)
                query = {key: values[0].lower() for key, values in parse_qs(parts.query).items()}
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = Asked(self.command, parts.path, query, dict(self.headers))
                outer.asked.append(asked)
                status, body = outer.answers(asked)
                self.send_response(status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                if isinstance(body, list):
                    self._stream(body)
                else:
                    data = body if isinstance(body, bytes) else json.dumps(body).encode()
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def _stream(self, lines: list[Any]) -> None:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for line in lines:
                    data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.close_connection = True  # without the last chunk: as when the server dies

            do_GET = do_POST = do_DELETE = do_PATCH = answer

            def log_message(self, *args: Any) -> None:
                """Not on stderr."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    yield it
    it.close()


@pytest.fixture
def api(server: Server, tmp_path: Path) -> Api:
    return connect(server.url, tmp_path)


def connect(url: str, folder: Path, user: dict[str, Any] | None = None, **cluster: Any) -> Api:
    (folder / "token").write_text(TOKEN)
    document = {
        "clusters": [{"name": "c", "cluster": {"server": url, **cluster}}],
        "users": [{"name": "u", "user": user or {"tokenFile": "token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(document))
    return Api(kubeconfig.load(folder / "kubeconfig", None))


def pod(name: str, version: int = 1, **status: Any) -> dict[str, Any]:
    meta = {
        "name": name,
        "uid": name,
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-02T03:04:05Z",
    }
    container = {"name": "c", "image": "example.com/c:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": [container]},
        "status": status,
    }


def listed(version: int, *items: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": str(version)},
        "items": list(items),
    }


def watches(server: Server) -> list[dict[str, str]]:
    return [each.query for each in server.asked if "watch" in each.query]


def wait_for(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_a_watch_goes_on_where_it_broke_off(server: Server, api: Api) -> None:
    """From the version of the last event, also of one that only says the version; no second list."""
    streams = [
        [{"type": "ADDED", "object": pod("a", 6)}],
        [{"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "8"}}}],
        [{"type": "DELETED", "object": pod("b", 9)}, b'{"type": "ADD'],
    ]

    def answers(asked: Asked) -> tuple[int, Any]:
        if "watch" not in asked.query:
            return 200, listed(5, pod("before"))
        return 200, streams.pop(0) if streams else [b"\n"]

    server.answers = answers
    watcher = Watcher(api, "n", seconds=60)
    wait_for(lambda: len(watches(server)) > 3)
    assert [each["resourceVersion"] for each in watches(server)[:4]] == ["5", "6", "8", "9"]
    assert {each["allowWatchBookmarks"] for each in watches(server)} == {"true"}
    assert len([each for each in server.asked if "watch" not in each.query]) == 1
    watcher.stop()
    assert sorted(each["metadata"]["name"] for each in watcher.pods) == ["a", "b"]


def test_a_watch_that_is_too_old_lists_again(server: Server, api: Api) -> None:
    lists = [listed(5), listed(20, pod("missed", 15))]

    def answers(asked: Asked) -> tuple[int, Any]:
        if "watch" not in asked.query:
            return 200, lists.pop(0) if len(lists) > 1 else lists[0]
        return 200, [GONE] if asked.query["resourceVersion"] == "5" else [
            {"type": "ADDED", "object": pod("new", 21)}
        ]

    server.answers = answers
    watcher = Watcher(api, "n", seconds=60)
    wait_for(lambda: len(watcher.pods) == 2)
    watcher.stop()
    assert sorted(each["metadata"]["name"] for each in watcher.pods) == ["missed", "new"]


def test_pods_of_a_newer_cluster_are_kept_as_they_are(server: Server, api: Api) -> None:
    """What the package cannot read into its models is taken from lists."""
    odd = pod("odd", 7, phase=["not", "a", "string"], newField={"x": 1})
    odd["spec"]["containers"] = "none"
    shown = {"watch": [{"type": "ADDED", "object": odd}], "list": [listed(5), listed(9, odd)]}
    server.answers = lambda asked: (
        (200, shown["watch"])
        if "watch" in asked.query
        else (200, shown["list"].pop(0) if len(shown["list"]) > 1 else shown["list"][0])
    )
    watcher = Watcher(api, "n", seconds=60)
    wait_for(lambda: watcher.pods)
    watcher.stop()
    assert watcher.pods == [odd]


def test_a_watch_without_the_right_to_it_leaves_the_last_look(server: Server, api: Api) -> None:
    refused = {"kind": "Status", "message": "pods is forbidden"}
    server.answers = lambda asked: (403, refused) if "watch" in asked.query else (200, listed(5))
    watcher = Watcher(api, "n", seconds=60)
    wait_for(lambda: watches(server))
    server.answers = lambda asked: (200, listed(9, pod("late", 8)))
    watcher.stop()
    assert [each["metadata"]["name"] for each in watcher.pods] == ["late"]
    time.sleep(0.7)
    assert len(watches(server)) == 1


def test_a_log_keeps_its_end_in_bounded_memory_and_once_only(server: Server, api: Api) -> None:
    """Without a line end, with bytes that are no text; read again from its beginning when the
    server dies.
    """
    status = {
        "name": "c",
        "state": {"running": {}},
        "image": "c",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
    }
    running = pod("a", 6, containerStatuses=[status])
    running["spec"]["restartPolicy"] = "Never"
    reads: list[Asked] = []

    def answers(asked: Asked) -> tuple[int, Any]:
        if asked.path.endswith("/log"):
            reads.append(asked)
            return 200, [b'{"a": 1}\xff', *[b"x" * 2**16] * (20 if len(reads) == 2 else 1), b"end"]
        return 200, [{"type": "ADDED", "object": running}] if "watch" in asked.query else listed(5)

    server.answers = answers
    watcher = Watcher(api, "n", seconds=60)
    wait_for(lambda: len(reads) > 2)
    watcher.stop()
    log = watcher.logged("a", "c") or b""
    assert log.endswith(b"end") and log.count(b"end") == 1
    assert len(log) == 2**20 or log.startswith(b'{"a": 1}\xff')
    assert reads[0].query == {"container": "c", "follow": "true"}


def test_a_log_that_happens_to_be_json_stays_as_it_is(server: Server, api: Api) -> None:
    server.answers = lambda asked: (200, b'{"level": "info"}\n')
    watcher = Watcher(api, "n", seconds=60)
    assert diagnosis.container_log(api, "n", watcher, "p", "c") == '{"level": "info"}\n'
    asked = next(each.query for each in server.asked if each.path.endswith("/log"))
    assert asked == {
        "container": "c",
        "tailLines": "5000",
        "limitBytes": str(1 << 20),
        "previous": "false",
    }
    server.answers = lambda asked: (404, {"message": 'pods "p" not found'})
    assert diagnosis.container_log(api, "n", watcher, "p", "c") == ""
    watcher.stop()


def test_lists_come_page_by_page_and_only_the_newest_events_are_kept(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(asked: Asked) -> tuple[int, Any]:
        if not asked.path.endswith("/events"):
            return 200, listed(5)
        page = int(asked.query.get("continue", "0"))
        times = [f"2026-01-01T00:00:0{number}Z" for number in (3, 1, 2)]
        items = [{"lastTimestamp": when, "message": f"{page} {when[-2]}"} for when in times]
        return 200, {"metadata": {"continue": str(page + 1)} if page < 2 else {}, "items": items}

    server.answers = answers
    watcher = Watcher(api, "n", seconds=60)
    monkeypatch.setattr(diagnosis, "LAST_EVENTS", 4)
    seen = diagnosis.observe(api, "n", watcher, phase="install", helm_error="")
    assert [event["message"] for event in seen.events] == ["0 2", "0 3", "1 3", "2 3"]
    asked = [each.query for each in server.asked if each.path.endswith("/events")]
    assert [each.get("continue") for each in asked] == [None, "1", "2"]
    assert {each["limit"] for each in asked} == {"250"}


def test_passing_trouble_is_waited_out_where_that_does_no_harm(server: Server, api: Api) -> None:
    trouble = [503, 429, 500]
    server.answers = lambda asked: (
        (trouble.pop(), {"message": "busy"}) if trouble else (200, {"kind": "Namespace"})
    )
    assert api.ask(api.core.read_namespace, "n") == {"kind": "Namespace"}
    assert len(server.asked) == 4
    server.headers = {"Retry-After": "2"}
    trouble = [429]
    start = time.monotonic()
    assert api.ask(api.core.read_namespace, "n") == {"kind": "Namespace"}
    assert time.monotonic() - start > 1.9, "as long as the server asks"
    server.asked.clear()
    server.answers = lambda asked: (503, {"message": "busy"})
    with pytest.raises(Temporary, match="503: busy"):
        namespaces.create(api, "n", owner="me", chart="c", build=None, expires_after=60)
    assert len(server.asked) == 1, "creating is not repeated"
    with pytest.raises(Temporary, match="503: busy"):
        namespaces.request_deletion(api, "n")
    assert len(server.asked) == 2, "there is no time for that"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (
            409,
            {"message": 'namespaces "n" already exists'},
            Conflict,
            'namespaces "n" already exists',
        ),
        (
            403,
            {"message": "namespaces is forbidden"},
            AccessRefused,
            "answered 403: namespaces is forbidden",
        ),
        (422, {"message": "invalid label"}, MachineError, "422: invalid label"),
        (404, {"message": "not found"}, MachineError, "404: not found"),
        (502, b"<html>bad gateway</html>", Temporary, "502: <html>bad gateway"),
        (200, b"<html>hello</html>", MachineError, "does not answer like a Kubernetes API server"),
        (403, b"<html>caf\xe9</html>", MachineError, ""),
    ],
)
def test_refusals_are_told_apart(
    server: Server, api: Api, status: int, body: object, kind: type[Exception], words: str
) -> None:
    server.answers = lambda asked: (status, body)
    with pytest.raises(kind) as caught:
        namespaces.create(api, "n", owner="me", chart="c", build=None, expires_after=60)
    assert words in str(caught.value) and TOKEN not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_credentials_that_ran_out_are_read_again(server: Server, api: Api, tmp_path: Path) -> None:
    server.answers = lambda asked: (
        (200, {}) if asked.headers["authorization"] == "Bearer new-token" else (401, {})
    )
    with pytest.raises(AccessRefused, match="401"):
        api.ask(api.core.read_namespace, "n")
    (tmp_path / "token").write_text("new-token")
    assert api.ask(api.core.read_namespace, "n") == {}
    assert [each.headers["authorization"].split()[1] for each in server.asked] == [
        TOKEN,
        TOKEN,
        TOKEN,
        "new-token",
    ]


def test_a_redirect_is_not_followed(server: Server, api: Api) -> None:
    server.headers = {"Location": f"http://127.0.0.1:{free_port()}/"}
    server.answers = lambda asked: (302, {"message": "elsewhere"})
    with pytest.raises(MachineError, match="302: elsewhere"):
        api.ask(api.core.read_namespace, "n")
    assert len(server.asked) == 1


def test_a_server_that_dies_was_there(server: Server, api: Api) -> None:
    server.answers = lambda asked: (200, [b'{"half'])
    with pytest.raises(Temporary, match="does not answer any more"):
        namespaces.create(api, "n", owner="me", chart="c", build=None, expires_after=60)


def test_certificates_and_keys_count_and_stay_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, our_key = certificate(tmp_path / "server", "127.0.0.2")
    theirs, their_key = certificate(tmp_path / "client")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ours, our_key)
    tls.load_verify_locations(theirs)
    tls.verify_mode = ssl.CERT_REQUIRED
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    encoded = {name: base64.b64encode(file.read_bytes()).decode() for name, file in
               (("client-certificate-data", theirs), ("client-key-data", their_key))}  # fmt: skip
    trusted = {"certificate-authority": str(ours)}
    server = Server(tls)
    try:
        api = connect(server.url, tmp_path, encoded, **trusted, **{"tls-server-name": "127.0.0.2"})
        assert list((tmp_path / "tmp").iterdir()) == []
        assert api.ask(api.core.read_namespace, "n") == {}
        assert connect(
            server.url, tmp_path, encoded, **{"insecure-skip-tls-verify": True}
        ).version()
        with pytest.raises(MachineError, match="certificate of the API server is not trusted"):
            connect(server.url, tmp_path, encoded, **trusted).version()
        with pytest.raises(MachineError, match="certificate of the API server is not trusted"):
            connect(server.url, tmp_path, encoded, **{"tls-server-name": "127.0.0.2"}).version()
        assert len(server.asked) == 2
        assert list((tmp_path / "tmp").iterdir()) == []
    finally:
        server.close()
    encoded["client-key-data"] = base64.b64encode(b"no key").decode()
    with pytest.raises(MachineError, match="unusable certificate"):
        connect(server.url, tmp_path, encoded)
