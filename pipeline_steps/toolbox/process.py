"""The only place that starts programs: argv list, no shell, cleaned environment, output kept.

Programs are searched in absolute entries of PATH only: an empty or relative entry means the
checkout, whose files are not ours to run. A program with a slash in its name is taken as written.

A child gets its own process group. On time-out, or when this process gets a signal to stop, the
group gets SIGTERM and two seconds later SIGKILL. Output is redacted before it enters an error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from pipeline_steps.toolbox.errors import Interrupted, ToolMissing
from pipeline_steps.toolbox.redact import LineRedactor, redact

#: What a child may see of our environment: locale, home, and what CI passes credentials with
#: (docs/reference/environment.md).
INHERITED = frozenset(
    "PATH HOME USER LOGNAME LANG TZ TMPDIR TERM SHELL XDG_RUNTIME_DIR XDG_CONFIG_HOME "
    "XDG_CACHE_HOME XDG_DATA_HOME DOCKER_HOST DOCKER_CONFIG DOCKER_CERT_PATH DOCKER_TLS_VERIFY "
    "DOCKER_CONTEXT BUILDX_CONFIG BUILDX_BUILDER HELM_REGISTRY_CONFIG HELM_REPOSITORY_CONFIG "
    "HELM_REPOSITORY_CACHE HELM_CACHE_HOME HELM_CONFIG_HOME HELM_DATA_HOME GIT_ASKPASS "
    "GIT_SSH_COMMAND GIT_CONFIG_GLOBAL SSH_AUTH_SOCK SSH_ASKPASS KUBECONFIG SSL_CERT_FILE "
    "SSL_CERT_DIR HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy "
    "all_proxy BUILD_ID JENKINS_NODE_COOKIE JENKINS_SERVER_COOKIE BRZ_EMAIL BRZ_HOME".split()
)
#: This machine, as every program reads it in NO_PROXY.
_ITSELF = "localhost,127.0.0.1,::1"
GRACE = 2.0
_TIE = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(128 + signal.SIGKILL)
os.execv(sys.argv[2], sys.argv[2:])
"""

_children: set[subprocess.Popen[bytes]] = set()
#: The signals that this process got; no program is started once there is one.
_stop_signals: list[int] = []
#: Not empty while the main thread starts a child: no signal may interrupt before the child is
#: registered.
_starting: list[None] = []


class Completed(NamedTuple):
    """The result of a program: exit code and both outputs.

    code: negative when a signal ended it, None when it timed out.
    """

    argv: tuple[str, ...]
    code: int | None
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        return self.code == 0

    def tail(self, lines: int = 20) -> str:
        """The last lines of both outputs, redacted, for an error message."""
        text = redact((self.stdout + b"\n" + self.stderr).decode(errors="replace").strip())
        return "\n".join(text.splitlines()[-lines:])


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The cleaned environment of a child plus `extra`; PATH keeps only absolute entries, and no
    proxy is asked for this machine.
    """
    inherited = {k: v for k, v in os.environ.items() if k in INHERITED or k.startswith("LC_")}
    variables = {**inherited, **(extra or {})}
    return {**variables, **_no_proxy(variables), "PATH": search_path(variables)}


def _no_proxy(variables: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY with this machine, for which git and brz would ask a proxy, unlike Go's programs; git
    also one that its configuration names (http.proxy).

    >>> _no_proxy({"http_proxy": "proxy:3128", "NO_PROXY": "a.example"})
    {'NO_PROXY': 'a.example,localhost,127.0.0.1,::1'}
    """
    # Of both spellings each program prefers one: what is not set must not hide the other.
    names = [name for name in ("NO_PROXY", "no_proxy") if name in variables]
    listed = {name: variables.get(name, "") for name in names or ("NO_PROXY", "no_proxy")}
    return {
        # curl knows "*" only where it stands alone.
        name: hosts if hosts.strip() == "*" else f"{hosts},{_ITSELF}".lstrip(",")
        for name, hosts in listed.items()
    }


def search_path(environ: Mapping[str, str]) -> str:
    """PATH without its empty and relative entries.

    >>> search_path({"PATH": ":/usr/bin:.:bin:/bin:"})
    '/usr/bin:/bin'
    """
    entries = environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if Path(entry).is_absolute())


def which(program: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Absolute path of `program` on PATH (of `environ`, else ours), or None."""
    for folder in search_path(os.environ if environ is None else environ).split(os.pathsep):
        file = Path(folder) / program
        # One that may not be entered is passed over.
        if folder and os.access(file, os.X_OK) and file.is_file():
            return str(file)
    return None


def require(program: str, *, advice: str = "") -> str:
    """Absolute path of `program` on PATH. Raises ToolMissing."""
    path = which(program)
    if not path:
        raise ToolMissing(
            f"{program} is not installed or not on PATH", advice=advice or f"install {program}"
        )
    return path


def with_program_path(
    argv: Sequence[str], environ: Mapping[str, str], *, advice: str = ""
) -> list[str]:
    """`argv` with the program's absolute path, looked up on the PATH of `environ`. Raises
    ToolMissing.
    """
    program = argv[0] if os.sep in argv[0] else which(argv[0], environ)
    if program is None:
        raise ToolMissing(f"{argv[0]} is not installed", advice=advice or f"install {argv[0]}")
    return [program, *argv[1:]]


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout: float | None = None,
    advice: str = "",
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program to its end. The caller judges a failing exit code.

    Args:
        env: added to the cleaned environment.
        timeout: seconds until the process group is ended; `code` is then None.
        on_line: called in another thread with each redacted line of standard error.

    Raises:
        ToolMissing: the program does not exist.
        Interrupted: `stop_all` was called, in whichever thread.
    """
    with start_process(argv, cwd=cwd, env=env, feed=stdin is not None, advice=advice) as child:
        return child.completed(stdin, timeout=timeout, on_line=on_line)


class RunningProcess(NamedTuple):
    """A program that runs while its starter does something else."""

    argv: tuple[str, ...]
    child: subprocess.Popen[bytes]

    def completed(
        self,
        stdin: bytes | None = None,
        *,
        timeout: float | None = None,
        on_line: Callable[[str], None] | None = None,
        max_output: int | None = None,
        give_up: Callable[[], bool] | None = None,
    ) -> Completed:
        """Wait until the program ends; see `run`.

        Args:
            max_output: bytes of standard output that are expected. Reading stops after that, so
                that a longer `stdout` tells the caller that there was more.
            give_up: called about once a second; when it returns True, the program is ended as at a
                time-out.
        """
        listener = _StderrReader(self.child, on_line) if on_line else None
        reader = None if max_output is None else _StdoutReader(self.child, max_output)
        try:
            stdout, stderr = _communicate(self.child, stdin, timeout, give_up)
            raise_if_stopping()
            code: int | None = self.child.returncode
        except subprocess.TimeoutExpired:
            stop(self.child)
            stdout, stderr = self.child.communicate()
            code = None
        return Completed(
            self.argv,
            code,
            reader.all() if reader else stdout,
            listener.all() if listener else stderr,
        )


def _communicate(
    child: subprocess.Popen[bytes],
    stdin: bytes | None,
    timeout: float | None,
    give_up: Callable[[], bool] | None,
) -> tuple[bytes, bytes]:
    """Both outputs of a child. Raises TimeoutExpired at the deadline, or when `give_up` returns
    True.
    """
    if give_up is None:
        return child.communicate(stdin, timeout=timeout)
    deadline = time.monotonic() + timeout if timeout is not None else float("inf")
    while True:
        left = deadline - time.monotonic()
        try:
            return child.communicate(stdin, timeout=max(0.0, min(1.0, left)))
        except subprocess.TimeoutExpired:
            if left <= 1.0 or give_up():
                raise
        stdin = None  # written by the first call; communicate keeps the output so far


@contextlib.contextmanager
def start_process(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    feed: bool = False,
    advice: str = "",
    tied: bool = False,
) -> Iterator[RunningProcess]:
    """Start a program; its process group is ended with the block if it still runs.

    feed: `completed` will give it standard input. tied: the kernel ends the program when the thread
    that started it is killed, too (Linux). Raises what `run` raises.
    """
    raise_if_stopping()
    command = [os.fspath(part) for part in argv]
    variables = environment(env)
    try:
        started = with_program_path(command, variables, advice=advice)
        child = _start(_tied(started) if tied else started, cwd, variables, feed)
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise
        raise ToolMissing(
            f"{command[0]} is not installed", advice=advice or f"install {command[0]}"
        ) from error
    try:
        raise_if_stopping()
        yield RunningProcess(tuple(command), child)
    finally:
        if child.returncode is None:
            _close_and_stop(child)
        _children.discard(child)


def _tied(command: list[str]) -> list[str]:
    """A command that the kernel kills with the thread that starts it (prctl(2), PR_SET_PDEATHSIG).

    By a small program in between: code of ours between fork and exec may lock up where there are
    threads. It ends by itself when its parent has died before it could ask.
    """
    return [sys.executable, "-ISc", _TIE, str(os.getpid()), *command]


@contextlib.contextmanager
def conversation(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    advice: str = "",
    stderr: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that answers requests on its pipes until the block ends, which ends its process
    group.

    Args:
        env: added to the cleaned environment.
        stderr: a file for standard error. None: a pipe, which the caller must read when the program
            may write more than a pipe holds.

    Raises:
        ToolMissing: the program does not exist.
        Interrupted: `stop_all` was called.
    """
    raise_if_stopping()
    variables = environment(env)
    child = _start(with_program_path(argv, variables, advice=advice), cwd, variables, True, stderr)
    try:
        yield child
    finally:
        _close_and_stop(child)
        _children.discard(child)


def _close_and_stop(child: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a child that nobody reads any more, and end it."""
    for stream in (child.stdin, child.stdout, child.stderr):
        with contextlib.suppress(OSError):
            if stream:
                stream.close()
    stop(child)


def _start(
    command: list[str],
    cwd: Path | None,
    env: Mapping[str, str],
    feed: bool,
    stderr: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child and register it for `stop_all`.

    No signal handler may raise between these two steps; see `begin_stopping`.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread:
        _starting.append(None)
    try:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr or subprocess.PIPE,
            # A session of its own has its own process group, so that one signal ends
            # grandchildren, too.
            start_new_session=True,
        )
        _children.add(child)
        return child
    finally:
        if in_main_thread:
            _starting.clear()


class _StderrReader:
    """Reads a child's standard error line by line in a thread, instead of `communicate`."""

    def __init__(self, child: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
        stream, child.stderr = child.stderr, None
        self._lines: list[bytes] = []

        def read_lines() -> None:
            assert stream is not None, "opened as a pipe"
            redactor = LineRedactor()
            with stream:
                for line in stream:
                    self._lines.append(line)
                    for shown in redactor.feed(line.decode(errors="replace").rstrip()):
                        on_line(shown)
            for shown in redactor.end():
                on_line(shown)

        self._thread = threading.Thread(target=read_lines, daemon=True)
        self._thread.start()

    def all(self) -> bytes:
        """Everything the child wrote, once it has closed its standard error."""
        self._thread.join()
        return b"".join(self._lines)


class _StdoutReader:
    """Reads a child's standard output in a thread, instead of `communicate`, up to `max_output`
    bytes.
    """

    def __init__(self, child: subprocess.Popen[bytes], max_output: int) -> None:
        stream, child.stdout = child.stdout, None
        self._output = bytearray()

        def read_blocks() -> None:
            assert stream is not None, "opened as a pipe"
            with stream:  # whoever goes on printing is ended by its closed pipe
                while len(self._output) <= max_output and (
                    block := os.read(stream.fileno(), 2**18)
                ):
                    self._output += block

        self._thread = threading.Thread(target=read_blocks, daemon=True)
        self._thread.start()

    def all(self) -> bytes:
        """The bytes read, once the child has closed its standard output or exceeded the limit."""
        self._thread.join()
        return bytes(self._output)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the process group of `child`: SIGTERM, and SIGKILL after GRACE seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE)


def is_stopping() -> bool:
    """Whether this process got a signal to stop; threads then end their work."""
    return bool(_stop_signals)


def raise_if_stopping() -> None:
    """Raise Interrupted when this process got a signal to stop."""
    if _stop_signals:
        raise Interrupted(_stop_signals[0])


def begin_stopping(number: int) -> bool:
    """Start no more programs from now on. A signal handler calls this first.

    number: of the signal, for Interrupted. Returns whether the handler may raise Interrupted at
    once. It must not while the main thread starts a child: `start_process` raises it then, once the
    child is registered and can be ended.
    """
    _stop_signals.append(number)
    return not _starting


def stop_all() -> None:
    """End all running children, after `begin_stopping`. A step has four seconds for this."""
    children = list(_children)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
    end = time.monotonic() + GRACE
    while any(child.poll() is None for child in children) and time.monotonic() < end:
        time.sleep(0.02)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
