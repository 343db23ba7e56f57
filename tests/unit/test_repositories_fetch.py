"""Reading from web repositories: logins stay at home, digests are compared, archives come from the
cache.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts.dependencies import MissingArchive
from pipeline_steps.repositories.fetch import fetcher
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    EvidenceError,
    MachineError,
)
from tests.support.charts import packed
from tests.support.registries import free_port


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, remembers what was asked with which login; `required_login`
    is the only login let in.
    """

    asked: list[tuple[str, str | None]]
    required_login: str | None

    def do_GET(self) -> None:
        login = self.headers.get("Authorization")
        self.asked.append((self.path, login))
        if self.required_login is not None and login != self.required_login:
            self.send_error(401)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Served:
    def __init__(self, folder: Path, required_login: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []
        kind = type("Handler", (_Handler,), {"asked": self.asked, "required_login": required_login})
        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(kind, directory=str(folder))
        )
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path / "served")
    yield server
    server.close()


def test_an_archive_is_fetched_once_and_asked_for_every_time(
    served: Served, tmp_path: Path
) -> None:
    chart = packed("db", "1.4.0")
    open_writable(served.folder.as_uri(), {}).publish(chart)
    dependency = MissingArchive("", "db", "1.4.0", served.url)
    for _ in range(3):
        assert fetcher({}, tmp_path / "cache")(dependency) == chart.tgz
    paths = [path for path, _ in served.asked]
    assert paths.count("/index.yaml") == 3
    assert paths.count("/db-1.4.0.tgz") == 1, "read once, then kept"
    for kept in (tmp_path / "cache").iterdir():
        kept.write_bytes(kept.read_bytes()[:-1])
    assert fetcher({}, tmp_path / "cache")(dependency) == chart.tgz, "a damaged copy is not used"


def test_missing_dependency_is_named_with_its_repository(served: Served, tmp_path: Path) -> None:
    open_writable(served.folder.as_uri(), {}).publish(packed("db", "1.4.0"))
    with pytest.raises(
        ConfigurationError,
        match=r"dependency db 2\.0\.0 is not in the repository \(take one that it has: 1\.4\.0\)",
    ):
        fetcher({}, tmp_path / "cache")(MissingArchive("", "db", "2.0.0", served.url))
    with pytest.raises(MachineError, match="answered 404"):
        open_repository(f"{served.url}/nowhere", {}).find("db", "1.4.0")


def test_another_archive_than_the_index_says_is_refused(served: Served) -> None:
    open_writable(served.folder.as_uri(), {}).publish(packed("db", "1.4.0"))
    (served.folder / "db-1.4.0.tgz").write_bytes(packed("db", "1.4.1").tgz)
    with pytest.raises(
        EvidenceError, match=r"the archive has the digest sha256:\w+, the index says sha256:"
    ):
        open_repository(served.url, {}).find("db", "1.4.0")


def test_a_login_never_goes_to_another_origin(tmp_path: Path) -> None:
    home, away = (
        Served(tmp_path / "home", required_login="Basic bWU6c2VjcmV0"),
        Served(tmp_path / "away"),
    )
    try:
        open_writable(home.folder.as_uri(), {}).publish(packed("db", "1.4.0"))
        (away.folder / "db-1.4.0.tgz").write_bytes((home.folder / "db-1.4.0.tgz").read_bytes())
        written = (home.folder / "index.yaml").read_text()
        (home.folder / "index.yaml").write_text(
            written.replace("- db-1.4.0.tgz", f"- {away.url}/db-1.4.0.tgz")
        )
        with pytest.raises(AccessRefused):
            open_repository(home.url, {}).find("db", "1.4.0")
        hosts = {home.host: Host(username="me", password="secret")}
        fetched = open_repository(home.url, hosts).find("db", "1.4.0")
        assert fetched is not None
        assert away.asked == [("/db-1.4.0.tgz", None)]
    finally:
        home.close()
        away.close()


@pytest.mark.parametrize(
    "url",
    ["https://x?a;cmd", "oci://$IFS/x", "oci://h/$(id)", "https://127.0.0.1:1/x y", "https://u:secret@127.0.0.1/x",
     "oci://h/x\nHost: y", "https://127.0.0.1/\r\nX: y", "https://u:secret@[::1", "https://127.0.0.1:99999/x",
     "https://127.0.0.1/x#y", "oci://127.0.0.1:1/../x", "https://", "oci://", "https://127.0.0.1/\U0001f600"],
)  # fmt: skip
def test_a_repository_that_cannot_be_one_is_refused_before_anything_is_asked(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        fetcher({}, tmp_path)(MissingArchive("", "db", "1.0.0", url))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "https://[::1",
        "https://127.0.0.1:99999/x",
        "https://h/\U0001f600",
        "javascript:x",
        "ftp://h/x",
        "http://other.example.com/x",
    ],
)
def test_urls_in_an_index_that_are_not_https_are_refused(served: Served, url: str) -> None:
    open_writable(served.folder.as_uri(), {}).publish(packed("db", "1.4.0"))
    index = served.folder / "index.yaml"
    index.write_text(index.read_text().replace("- db-1.4.0.tgz", f"- '{url}'"))
    with pytest.raises(EvidenceError, match="which is not https"):
        open_repository(served.url, {}).find("db", "1.4.0")
    assert [path for path, _ in served.asked] == ["/index.yaml"]


def test_plain_http_is_only_spoken_where_it_is_allowed() -> None:
    with pytest.raises(MachineError, match=r"plain HTTP is not allowed \(write plain_http: true"):
        open_repository("http://charts.example.com", {})
    open_repository("http://charts.example.com", {"charts.example.com": Host(plain_http=True)})
    with pytest.raises(MachineError):
        open_repository(f"http://127.0.0.1:{free_port()}", {}).find("a", "1.0.0")
