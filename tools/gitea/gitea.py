"""A Gitea server for the demo and the tests: one folder, one process, gone with whoever started it.

    with gitea.serve() as server:
        token = server.admin_token("core")

Gitea refuses to run as root: then its account is `nobody`, and its folder lies where that account
can reach it. Of the pages only the JavaScript is missing; the API is whole.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tools import processes
from tools.gitea import build
from tools.machine import Cannot, free_ports, need_programs, say, seconds_since, wait_until

ACCOUNT = "nobody"
PREFIX = "pipeline-steps-gitea-"
#: Which process a folder belongs to; without that process, the folder is rubbish.
OWNER = "owner"
SETTINGS = """\
RUN_USER = {account}
RUN_MODE = prod
WORK_PATH = {folder}
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
DISABLE_SSH = true
STATIC_ROOT_PATH = {folder}/static
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
SQLITE_TIMEOUT = 60000
[repository]
ROOT = {folder}/repositories
DEFAULT_BRANCH = main
[security]
INSTALL_LOCK = true
SECRET_KEY = {secret}
INTERNAL_TOKEN = {internal}
[service]
DISABLE_REGISTRATION = true
[webhook]
ALLOWED_HOST_LIST = loopback
[migrations]
ALLOW_LOCALNETWORKS = true
[cron]
ENABLED = false
[log]
LEVEL = warn
ROOT_PATH = {folder}/log
"""


class Gitea:
    """A server that can be stopped and started again: same address, same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def install(self, built: Path) -> None:
        """Copy the program and its files: root's cache folder is closed to the server's account."""
        shutil.copy2(built / "gitea", self.folder / "gitea")
        shutil.copytree(built / "static", self.folder / "static")
        settings = SETTINGS.format(
            account=account(),
            folder=self.folder,
            port=self.port,
            secret=secrets.token_hex(32),
            internal=secrets.token_hex(32),
        )
        (self.folder / "app.ini").write_text(settings)
        if os.geteuid() == 0:
            self.folder.chmod(0o755)
            for path in (self.folder, self.folder / "app.ini"):
                shutil.chown(path, ACCOUNT)

    def start(self) -> None:
        """Start the server and wait until it answers. Raises Cannot with the end of its log."""
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self._process = process = subprocess.Popen(
                [*self.command("--pdeathsig", "KILL"), "web", "--config", self.settings],
                cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

        def check() -> None:
            if process.poll() is not None:
                raise Cannot(
                    f"gitea ended with {process.returncode} at start; the end of its log:\n"
                    f"{processes.last_lines(log)}"
                )

        wait_until(self._answers, "gitea answers", 60, check)

    def stop(self) -> None:
        """End the server; `start` continues with the same data."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """The process of a server that runs."""
        assert self._process is not None, "started"
        return self._process.pid

    def admin_token(self, name: str) -> str:
        """Make an administrator; a token of theirs with all rights."""
        self.admin(
            "user", "create", "--username", name, "--random-password", "--admin",
            "--email", f"{name}@example.com", "--must-change-password=false",
        )  # fmt: skip
        rights = ("--token-name", "first", "--scopes", "all", "--raw")
        return self.admin("user", "generate-access-token", "--username", name, *rights).strip()

    def admin(self, *words: str) -> str:
        """The output of `gitea admin WORDS`. Raises Cannot."""
        completed = subprocess.run(
            [*self.command(), "admin", *words, "--config", self.settings],
            cwd=self.folder, env=self._environment(), capture_output=True, text=True,
        )  # fmt: skip
        if completed.returncode:
            raise Cannot(f"gitea admin {words[0]} {words[1]} failed: {completed.stderr.strip()}")
        return completed.stdout

    @property
    def settings(self) -> str:
        """The file that each command gets as --config."""
        return str(self.folder / "app.ini")

    def command(self, *options: str) -> list[str]:
        """The program, as its own account. options: of setpriv(1)."""
        change = []
        if os.geteuid() == 0:
            change = ["--reuid", ACCOUNT, "--regid", "nogroup", "--clear-groups"]
        return ["setpriv", *options, *change, str(self.folder / "gitea")]

    def _environment(self) -> dict[str, str]:
        """Nothing of the user's git configuration or of other servers' settings."""
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self.folder)}

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


@contextlib.contextmanager
def serve() -> Iterator[Gitea]:
    """A running server with nothing in it; ended and removed with the block.

    The kernel ends it when the process that started it is killed; its folder is then removed by the
    next one. Raises Cannot.
    """
    need_programs(("git", "setpriv"), "gitea", "gitea")
    built = build.built()
    start = time.monotonic()
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    (folder / OWNER).write_text(processes.identity(os.getpid()))
    server = Gitea(folder)
    try:
        server.install(built)
        server.start()
        say(f"gitea: up in {seconds_since(start)} ({server.url})")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove folders of servers whose starter was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            owner = (folder / OWNER).read_text()
            if owner and not processes.alive(owner):  # empty: of one that starts now
                shutil.rmtree(folder)


def account() -> str:
    """The account that the server runs as."""
    if os.geteuid() == 0:
        return ACCOUNT
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
