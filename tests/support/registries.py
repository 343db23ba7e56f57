"""Real registries in throw-away folders: open, with htpasswd, with tokens; ended by their own
process id.

The token server is a double: distribution's own `docker_auth` cannot be had as a package. It signs
real tokens, and the real registry checks them.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tools.machine import free_ports


class Running(NamedTuple):
    """A registry that answers. host: 127.0.0.1:port; folder: its storage."""

    host: str
    folder: Path


@contextlib.contextmanager
def registry(
    folder: Path, *, auth: str = "", tls: tuple[Path, Path] | None = None, access_log: bool = False
) -> Iterator[Running]:
    """Debian's docker-registry. auth: the YAML of its `auth` section; tls: certificate and key
    files.

    access_log: a line for every request in the file `log` of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    http_section = f"http: {{addr: '{host}', secret: throw-away"
    http_section += f", tls: {{certificate: '{tls[0]}', key: '{tls[1]}'}}}}" if tls else "}"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: "
        f"{str(not access_log).lower()}}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder}/data'}}, delete: {{enabled: true}}}}\n"
        f"{http_section}\n{auth}"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=log, stderr=log
        )
    try:
        address, _, port = host.partition(":")
        wait_for(address, int(port), process, folder / "log")
        yield Running(host, folder)
    finally:
        process.terminate()
        process.wait()


def htpasswd(folder: Path, user: str, password: str) -> str:
    """An `auth` section for one user."""
    folder.mkdir(parents=True, exist_ok=True)
    completed = subprocess.run(
        ["htpasswd", "-niB", user], input=password.encode(), capture_output=True, check=True
    )
    (folder / "htpasswd").write_bytes(completed.stdout)
    return f"auth: {{htpasswd: {{realm: test, path: '{folder}/htpasswd'}}}}\n"


def certificate(folder: Path, name: str = "127.0.0.1") -> tuple[Path, Path]:
    """A self-signed certificate for an address, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    crt, key = folder / "crt.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
         "-addext", f"subjectAltName=IP:{name}", "-keyout", str(key), "-out", str(crt)],
        capture_output=True, check=True,
    )  # fmt: skip
    return crt, key


class TokenServer:
    """Gives tokens for the scopes a user may have; `asked` lists every request's scopes, `lifetime`
    is in seconds.
    """

    def __init__(self, folder: Path, users: dict[str, str]) -> None:
        self.crt, self.key = certificate(folder)
        self.users = users
        self.lifetime = 300
        self.asked: list[list[str]] = []
        self.identity = "identity-token-of-ci"
        self.readable_by_anyone: set[str] = set()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fields = parse_qs(urlsplit(self.path).query)
                header = self.headers.get("Authorization", "")
                user, _, password = (
                    base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
                )
                owner.answer(
                    self, fields, user if owner.users.get(user) == password else None, bool(header)
                )

            def do_POST(self) -> None:
                fields = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                good = fields.get("refresh_token") == [owner.identity]
                owner.answer(
                    self,
                    {**fields, "scope": fields["scope"][0].split()},
                    "ci" if good else None,
                    True,
                )

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.realm = f"http://127.0.0.1:{self.server.server_port}/token"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    @property
    def auth(self) -> str:
        """The `auth` section of the registry that believes this server."""
        certificates = f"rootcertbundle: '{self.crt}'"
        return (
            f"auth: {{token: {{realm: '{self.realm}', service: test, issuer: test, "
            f"{certificates}}}}}\n"
        )

    def answer(
        self, handler: Any, fields: dict[str, list[str]], user: str | None, claimed: bool
    ) -> None:
        scopes = fields.get("scope", [])
        self.asked.append(scopes)
        if claimed and user is None:
            body, status = b'{"errors": [{"code": "UNAUTHORIZED"}]}', 401
        else:
            body, status = json.dumps({"token": self.token(user, scopes)}).encode(), 200
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def token(self, user: str | None, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = (
                actions.split(",") if user else ["pull"] if name in self.readable_by_anyone else []
            )
            access.append({"type": kind, "name": name, "actions": allowed})
        issued = int(time.time())
        claims = {"iss": "test", "sub": user or "", "aud": "test", "exp": issued + self.lifetime, "nbf": issued - 10,
                  "iat": issued, "jti": str(time.monotonic_ns()), "access": access}  # fmt: skip
        der = "".join(line for line in self.crt.read_text().splitlines() if "-----" not in line)
        parts = [
            _url64(json.dumps(part).encode())
            for part in ({"typ": "JWT", "alg": "RS256", "x5c": [der]}, claims)
        ]
        signed = ".".join(parts).encode()
        completed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.key)],
            input=signed,
            capture_output=True,
            check=True,
        )
        return f"{signed.decode()}.{_url64(completed.stdout)}"

    def __enter__(self) -> TokenServer:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def free_port() -> int:
    """A port nobody listens on, and that no outgoing connection gets before somebody does."""
    return free_ports(1)[0]


def wait_for(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60  # beside other lanes, not alone
    while time.monotonic() < end:
        assert process.poll() is None, f"the registry ended: {log.read_text()}"
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"the registry does not answer: {log.read_text()}")


def fetch(url: str) -> bytes:
    """The bytes behind a URL, by a client that is not ours."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())
