"""A git server over HTTPS with basic authentication: git's own `http-backend` behind Python's web
server.
"""

from __future__ import annotations

import base64
import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.registries import certificate


class Serving(NamedTuple):
    """host: 127.0.0.1:port; ca_file: its certificate; asked: the Authorization header of every
    request.
    """

    host: str
    ca_file: Path
    asked: list[str]


@contextmanager
def https(folder: Path, user: str, password: str, *, public: bool = False) -> Iterator[Serving]:
    """Serves the repositories in `folder`; `user` may read and write, nobody else anything, or only
    read where it is public.
    """
    crt, key = certificate(folder / "tls")
    asked: list[str] = []
    login = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the body of an answer follows its head at once

        def answer(self) -> None:
            body = self.body()
            asked.append(self.headers.get("Authorization", ""))
            if asked[-1] != login and not (public and "receive-pack" not in self.path):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            facts = {
                "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1", "REQUEST_METHOD": self.command, "PATH_INFO": path, "QUERY_STRING": query,
                "REMOTE_USER": user, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            completed = subprocess.run(
                ["git", "http-backend"], input=body, env=facts, capture_output=True
            )
            head, _, content = completed.stdout.partition(b"\r\n\r\n")
            fields = [line.split(": ", 1) for line in head.decode().splitlines()]
            self.send_response(
                next((int(value[:3]) for name, value in fields if name == "Status"), 200)
            )
            for name, value in fields:
                if name != "Status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        do_GET = do_POST = answer

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Serving(f"127.0.0.1:{server.server_port}", crt, asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
