#!/usr/bin/env python3
"""A real Gerrit on a free port of 127.0.0.1, in one folder, gone without a trace.

    python3 tools/gerrit/server.py up [--folder DIR]       # prints gerrit.json
    python3 tools/gerrit/server.py status [--folder DIR]   # 0 up, 7 not
    python3 tools/gerrit/server.py down [--folder DIR]

The site is a development site: user admin, password secret. Needs Debian's `packages gerrit`. Exit
codes: 0, 2 (command line), 7 (this machine cannot).
"""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `tools` be found beside this one
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools import processes
from tools.gerrit import build
from tools.machine import (
    FolderTool,
    ends_with_exit_code,
    free_ports,
    locked,
    need_programs,
    say,
    seconds_since,
)

KIND = "gerrit"
DEFAULT_FOLDER = Path("/var/lib/pipeline-steps/gerrit")
#: The account that a development site has, with its password.
ADMIN = ("admin", "secret")
#: Seconds until a server answers: 10 alone, three times as many beside builds.
PATIENCE = 180.0


def up(folder: Path, *, tied: bool = False) -> dict[str, Any]:
    """Start a server with an empty site; facts of it (see `start`), also in <folder>/gerrit.json.

    What a killed run left in the folder is ended and removed first. tied: the kernel ends the
    server with the thread that starts it. Raises Cannot, Misuse.
    """
    need_programs(("java", "git", "setpriv"), "Gerrit", "gerrit")
    built = build.built()
    with lock(folder):
        if (running := read(folder)) is not None:
            return running
        clear(folder)
        start_time = time.monotonic()
        folder = processes.claim(folder, KIND)
        try:
            shutil.copytree(built / "site", folder / "site")
            facts = start(folder, free_ports(1)[0], tied=tied)
        except BaseException:
            clear(folder)
            raise
        say(f"gerrit: up in {seconds_since(start_time)} ({facts['url']})")
        return facts


def start(folder: Path, port: int, *, tied: bool = False) -> dict[str, Any]:
    """Start the server of a site that is there. url (without a slash at the end), folder,
    processes.
    """
    folder = folder.resolve()
    url = f"http://127.0.0.1:{port}"
    for key in ("httpd.listenUrl", "gerrit.canonicalWebUrl"):
        build.run(["git", "config", "-f", folder / "site/etc/gerrit.config", key, f"{url}/"])
    daemons = processes.Daemons(folder)
    daemon = ["Daemon", "-d", f"{folder}/site", "--console-log", "--headless", "--disable-sshd"]
    tie = ["setpriv", "--pdeathsig", "KILL", "--"] if tied else []
    daemons.start("gerrit", [*tie, *build.java(build.built()), *daemon])
    daemons.wait("Gerrit answers", lambda: answers(port), PATIENCE)
    facts = {"folder": str(folder), "url": url, "port": port, "processes": daemons.let_go()}
    (folder / "gerrit.json").write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def stop(folder: Path) -> None:
    """End the server and keep its site, for `start`."""
    folder = folder.resolve()
    processes.end_all(folder, first=processes.of_folder(folder))


def answers(port: int) -> bool:
    """Whether a server at this port tells its version, as Gerrit does without a login."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/config/server/version")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def read(folder: Path) -> dict[str, Any] | None:
    """Facts of the server in this folder when it runs."""
    return processes.running_facts(folder.resolve() / "gerrit.json")


def clear(folder: Path) -> None:
    """End what runs of a server in this folder and remove it, folder included."""
    if processes.owned(folder.resolve(), KIND):
        stop(folder)
        processes.remove(folder.resolve())


def down(folder: Path) -> None:
    """End the server and remove its site."""
    with lock(folder):
        clear(folder)


def lock(folder: Path) -> Any:
    """One run at a time for a folder."""
    folder = folder.resolve()
    return locked(folder.with_name(f".{folder.name}.lock"), "gerrit")


def main(argv: list[str]) -> int:
    tool = FolderTool("Gerrit", "A real Gerrit in one folder.", DEFAULT_FOLDER)
    return tool.run(argv, up, down, read)


if __name__ == "__main__":
    ends_with_exit_code(main)
