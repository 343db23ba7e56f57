"""Servers of version control systems that stay in the foreground: started, stopped, and started again
at the same port.
"""

from __future__ import annotations

import contextlib
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
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
