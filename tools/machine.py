"""What all tools share: words for the person watching, refusals, a cache folder, locks, free ports,
waiting.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn


class Cannot(Exception):
    """This machine cannot (exit code 7): what is wrong, then what to do."""

    exit_code = 7


class Misuse(Exception):
    """The command line is wrong (exit code 2)."""

    exit_code = 2


def say(text: str) -> None:
    """Talk goes to stderr, a line at a time; results go to stdout."""
    print(text, file=sys.stderr, flush=True)


def agreed(question: str) -> bool:
    """Ask the person at the terminal. Return alone means yes; the end of input (Ctrl-D) is no
    answer: it means no.
    """
    print(f"{question} [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return bool(answer) and answer.strip().lower() in ("", "y", "yes")


def ends_with_exit_code(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a command line and leave with its code; refusals are one line on stderr, never a
    traceback.
    """
    try:
        raise SystemExit(main(sys.argv[1:]))
    except (Cannot, Misuse) as refusal:
        say(f"{Path(sys.argv[0]).name}: {refusal}")
        raise SystemExit(refusal.exit_code) from None
    except KeyboardInterrupt:
        say(f"{Path(sys.argv[0]).name}: interrupted")
        raise SystemExit(130) from None


class FolderTool(NamedTuple):
    """A tool that runs one real system in one folder. system: its name, for people."""

    system: str
    description: str
    default_folder: Path

    def run(
        self,
        argv: list[str],
        up: Callable[[Path], dict[str, Any]],
        down: Callable[[Path], None],
        read: Callable[[Path], dict[str, Any] | None],
    ) -> int:
        """Do what the command line says; facts of what runs go to stdout as JSON.

        read: the facts, None when it does not run. Raises Cannot for the status of nothing.
        """
        parser = argparse.ArgumentParser(description=self.description)
        parser.add_argument("verb", choices=("up", "down", "status"))
        parser.add_argument(
            "--folder",
            type=Path,
            default=self.default_folder,
            help=f"default {self.default_folder}",
        )
        arguments = parser.parse_args(argv)
        if arguments.verb == "down":
            down(arguments.folder)
            return 0
        facts = up(arguments.folder) if arguments.verb == "up" else read(arguments.folder)
        if facts is None:
            raise Cannot(f"no {self.system} runs in {arguments.folder}")
        print(json.dumps(facts, indent=2))
        return 0


def seconds_since(start: float) -> str:
    """Time since `start` (time.monotonic()) for people: 4.2 s, 3 min 20 s."""
    elapsed = time.monotonic() - start
    return f"{elapsed:.1f} s" if elapsed < 60 else f"{int(elapsed) // 60} min {int(elapsed) % 60} s"


def cache() -> Path:
    """Where things fetched or built once are kept between checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "pipeline-steps"


def need_root(purpose: str) -> None:
    if os.geteuid() != 0:
        raise Cannot(f"{purpose} needs root: run the same command with sudo, or as root")


def need_programs(names: tuple[str, ...], component: str, purpose: str) -> None:
    """Refuse with all missing programs at once; purpose: the one of programs.py packages that has
    them.
    """
    missing = [name for name in names if find_program(name) is None]
    if missing:
        raise Cannot(
            f"{component} needs {', '.join(missing)}: python3 tools/programs/programs.py "
            f"packages {purpose}"
        )


def find_program(name: str) -> str | None:
    """Full path of a program; the sbin folders count even where a user's PATH lacks them."""
    return shutil.which(
        name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    )


@contextlib.contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock file; a second run waits and says for whom. The file stays, only the lock counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{doing}: another run is at it, waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def installed_at_once(target: Path) -> Iterator[Path]:
    """A folder to fill that becomes `target` when the block ends well, and is removed when it does
    not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield aside
        aside.chmod(0o755)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


_reserved: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, and that no other call gets while this process lives: whoever
    takes one binds it later, may end and come back, or wants nobody there.

    Below 30000: from there Kubernetes takes ports for services, and the system ports for outgoing
    connections.
    """
    ports: list[int] = []
    reservations = _reservations()
    # Not in the order of others, whatever seeds their `random`.
    for port in random.SystemRandom().sample(range(20000, 30000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            if port not in _reserved:
                # Of this process: a fork has none, and it ends with the process.
                fcntl.lockf(reservations, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
                _reserved.add(port)
                ports.append(port)
        if len(ports) == count:
            return ports
    raise Cannot(f"no {count} free ports between 20000 and 30000")


@functools.cache
def _reservations() -> int:
    """A file of this account, open: byte N is locked by the process that `free_ports` gave port N."""
    root = os.geteuid() == 0
    folder = Path("/run/pipeline-steps" if root else tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("ports.lock" if root else f"pipeline-steps-ports-{os.geteuid()}.lock")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def wait_until(
    ready: Callable[[], bool], what: str, seconds: float, still_alive: Callable[[], None]
) -> None:
    """Ask `ready` until it says yes. `still_alive` raises when waiting makes no sense any more.

    Raises Cannot when `seconds` are over.
    """
    end = time.monotonic() + seconds
    pause = 0.02
    while not ready():
        still_alive()
        if time.monotonic() > end:
            raise Cannot(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)
