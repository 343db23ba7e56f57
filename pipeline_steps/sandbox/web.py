"""A static chart repository over HTTP: serves the files of one folder on 127.0.0.1.

Runs as a program of its own (`python -I web.py SETTINGS`), so it imports only the standard library.
SETTINGS is a JSON file with `folder` and `port`, so that the command line stays the same when the
port changes.
"""

from __future__ import annotations

import functools
import http.server
import json
import sys
from pathlib import Path
from typing import Any

ADDRESS = "127.0.0.1"
SERVER = "pipeline-steps-sandbox"


def command(settings: Path) -> list[str]:
    """The command for a settings file."""
    return [sys.executable, "-I", str(Path(__file__).resolve()), str(settings)]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files without caching, because the index changes."""

    server_version = SERVER

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def serve(settings: Path) -> None:
    """Serve until the process is ended."""
    configuration: dict[str, Any] = json.loads(settings.read_text())
    handler = functools.partial(Handler, directory=configuration["folder"])
    # Threads, because helm and browsers keep connections open.
    with http.server.ThreadingHTTPServer((ADDRESS, configuration["port"]), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
