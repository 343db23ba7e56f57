"""Servers of version control systems that stay in the foreground: started, stopped, and started again
at the same port.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.support.registries import free_port, wait_for

_Daemon = TypeVar("_Daemon", bound="Daemon")


class Daemon(ABC):
    """See `checkouts.Server`. path: of its repository in the URL; folder: what it serves."""

    #: Of its process; None: that of the tests.
    environment: Mapping[str, str] | None = None

    def __init__(self, folder: Path, scheme: str, path: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}/{path}"

    @abstractmethod
    def command(self) -> list[str]:
        """What serves `folder` at `port` of the loopback."""

    def start(self) -> None:
        log = self.folder / "daemon.log"
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                self.command(), stdout=output, stderr=output, env=self.environment
            )
        wait_for("127.0.0.1", self.port, self._child, log)

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()


@contextlib.contextmanager
def running(daemon: _Daemon) -> Iterator[_Daemon]:
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()


class Line:
    """A line to a server that breaks: `url` is that of the daemon, at another port.

    limit: bytes from the server after which a connection breaks; None: never.
    """

    def __init__(self, daemon: Daemon, listener: socket.socket) -> None:
        self.limit: int | None = None
        self.url = daemon.url.replace(f":{daemon.port}/", f":{listener.getsockname()[1]}/")
        self._port = daemon.port
        self._listener = listener

    def run(self) -> None:
        with contextlib.suppress(OSError), ThreadPoolExecutor() as pool:  # closed: the test is over
            while True:
                client, _ = self._listener.accept()
                pool.submit(self._connect, client, self.limit)

    def _connect(self, client: socket.socket, limit: int | None) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            there = threading.Thread(target=_copy, args=(client, server, None))
            there.start()
            _copy(server, client, limit)
            there.join()


def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    left = 2**60 if limit is None else limit
    with contextlib.suppress(OSError):
        while left and (data := source.recv(min(left, 2**16))):
            target.sendall(data)
            left -= len(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def breaking_line(daemon: Daemon) -> Iterator[Line]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(daemon, listener)
        thread = threading.Thread(target=line.run, daemon=True)
        thread.start()
        try:
            yield line
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
