"""Run brz with a command of ours in it (`brz/answers.py`), and translate its failures into our
errors.

Starting brz takes longer than most answers, so one process answers every question of a block.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.answer_pipe import AnswerPipe
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    MachineError,
    PipelineError,
    Temporary,
    Unreachable,
)
from pipeline_steps.toolbox.redact import redact

PLUGIN = Path(__file__).parent / "brz" / "answers.py"
#: No plugin of the user or the machine, no log file, and our command.
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "BRZ_LOG": os.devnull,
    "BRZ_PLUGIN_PATH": "-user:-site:-entrypoints:+core",
    "BRZ_PLUGINS_AT": f"pipeline_steps@{PLUGIN}",
    "BRZ_PROGRESS_BAR": "none",
    "PYTHONDONTWRITEBYTECODE": "1",
}
#: How a server is reached over SSH is the user's: brz reads it from its own variable.
_TUNNEL = "BRZ_SSH"
#: Reading must write nothing: brz would keep what it saw of the files.
SETTINGS = ("--no-aliases", "-Obzr.workingtree.worth_saving_limit=-1")
ADVICE = "install brz 3.3 (Debian: apt-get install brz)"
#: Seconds for an answer from here, and for one that a server has a part in.
LOCAL, REMOTE = 300.0, 3600.0
#: Bytes of its last words that are looked at.
_SAID = 2**20

_CHECK = "the repository is damaged: run brz check"
#: What breezy calls to ask somebody for a password; nobody is there.
_ASKS = "get_password"
_LOCK = "another brz writes there: run it again; run brz break-lock LOCATION where whoever had it is gone"
#: Class of breezy's error → our error and advice.
_FAILURES: dict[str, tuple[type[MachineError | Temporary], str]] = {
    "LockContention": (Temporary, _LOCK),
    "LockActive": (Temporary, _LOCK),
    "LockBroken": (Temporary, "run it again"),
    "TokenMismatch": (Temporary, "run it again"),
    "ConnectionReset": (Temporary, "run it again"),
    "ConnectionTimeout": (Temporary, "run it again"),
    "TimeoutError": (Temporary, "run it again"),
    "BrokenPipeError": (Temporary, "run it again"),
    "ConnectionResetError": (Temporary, "run it again"),
    "UnexpectedEndOfContainerError": (Temporary, "run it again"),
    "SmartProtocolError": (Temporary, "run it again"),
    "SocketConnectionError": (Unreachable, "check the address and that this machine reaches it"),
    "ConnectionError": (Unreachable, "check the address and that this machine reaches it"),
    "ConnectionRefusedError": (Unreachable, "check the address and that this machine reaches it"),
    "NotBranchError": (Unreachable, "check the address of the branch: brz info"),
    "InvalidURL": (Unreachable, "check the address of the branch: brz info"),
    "UnsupportedProtocol": (Unreachable, "check the address of the branch: brz info"),
    "BoundBranchConnectionFailure": (Unreachable, "check what brz info says of the checkout"),
    "PermissionDenied": (AccessRefused, "check the account's rights there"),
    "TransportNotPossible": (AccessRefused, "it can only be read: brz serve --allow-writes"),
    "ReadOnlyError": (AccessRefused, "it can only be read: brz serve --allow-writes"),
    "LockFailed": (AccessRefused, "check the account's rights there"),
    "UnlockableTransport": (AccessRefused, "it can only be read"),
    "NoWhoami": (MachineError, 'say who you are: BRZ_EMAIL, or brz whoami "NAME <ADDRESS>"'),
    "NoSuchRevision": (MachineError, "run brz pull"),
    "RevisionNotPresent": (MachineError, "run brz pull"),
    "GhostRevisionUnusableHere": (MachineError, "run brz pull"),
    "UnknownFormatError": (MachineError, "use a newer brz, or brz upgrade"),
    "UnsupportedFormatError": (MachineError, "use a newer brz, or brz upgrade"),
    "IncompatibleFormat": (MachineError, "use a newer brz, or brz upgrade"),
    "IncompatibleRepositories": (MachineError, "bring both to one format: brz upgrade"),
    "BzrCheckError": (MachineError, _CHECK),
    "DirstateCorrupt": (MachineError, "brz repair-workingtree"),
}
#: Errors of breezy that do not say why; ssh's words do, or those of a web server.
_VAGUE = ("ConnectionReset", "SmartProtocolError", "NotImplementedError")
_WORDS: tuple[tuple[str, type[MachineError | Temporary], str], ...] = (
    (
        rf"Permission denied|Host key verification failed|HTTP status 40[13]\b|{_ASKS}",
        AccessRefused,
        "check the login and its rights there: the SSH key that is offered (BRZ_SSH, SSH agent), or "
        "authentication.conf of brz",
    ),
    (
        r"Could not resolve hostname|Connection refused|No route to host|Network is unreachable",
        Unreachable,
        "check the address and that this machine reaches it",
    ),
)


class Answer(NamedTuple):
    """value: JSON. data: blocks of bytes."""

    value: Any
    data: list[bytes]


def _has_answer(head: Mapping[str, Any]) -> bool:
    sizes = head.get("sizes")
    return "answer" in head and isinstance(sizes, list) and all(type(n) is int for n in sizes)


class BrzError(Exception):
    """brz's own failure. name: class of the error in breezy. said: by programs that brz started.

    code, facts: of a refusal by our command, else "" and nothing.
    """

    def __init__(self, name: str, text: str, said: str = "") -> None:
        super().__init__(text)
        self.name = name
        self.said = said
        self.code: str = ""
        self.facts: dict[str, str] = {}
        if name == "Refused":
            self.code, self.facts = json.loads(text)


class Brz:
    """A running brz that answers about the branch at `location`."""

    def __init__(self, location: Path, child: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        assert child.stdin is not None, "opened as a pipe"
        self.child = child
        self._location = location
        self._stderr = stderr
        self._requests = child.stdin
        self._pipe = AnswerPipe(("brz",), child, stderr, location, self._end_failure)
        self.is_usable = True

    def ask(self, question: str, arguments: dict[str, Any], timeout: float) -> Answer:
        """Raises BrzError, Temporary, and MachineError when brz ends."""
        self.is_usable = False  # until the whole answer is read
        before = os.fstat(self._stderr.fileno()).st_size
        try:
            self._requests.write(json.dumps([question, arguments]).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError as error:
            raise self._pipe.ended() from error
        head = self._head(self._pipe.line(timeout))
        if "error" in head:
            self.is_usable = True
            raise BrzError(str(head["error"]), str(head.get("text")), self._said(before))
        data = [self._pipe.block(size, timeout) for size in head["sizes"]]
        self.is_usable = True
        return Answer(head["answer"], data)

    def _head(self, line: bytes) -> dict[str, Any]:
        """The line that an answer begins with. Raises MachineError for one that our command did not
        print: what brz's Python writes there would be taken for it.
        """
        with contextlib.suppress(ValueError, RecursionError):
            head = json.loads(line)
            if isinstance(head, dict) and ("error" in head or _has_answer(head)):
                return head
        raise MachineError(
            f"brz printed {redact(line[:80].decode(errors='replace'))!r} instead of an answer",
            where=str(self._location),
            advice=f"{ADVICE}; run it again",
        )

    def _said(self, before: int) -> str:
        """The last line on stderr after its first `before` bytes that is not of brz's traceback."""
        # Not by seeking: brz writes at the same position.
        data = os.pread(self._stderr.fileno(), _SAID, before).decode(errors="replace")
        return data.partition("Traceback (most recent call last)")[0].strip().rpartition("\n")[2]

    def _end_failure(self, completed: process.Completed) -> PipelineError:
        problem = f"brz ended with exit code {completed.code}: {completed.tail(6)}"
        return MachineError(problem, where=str(self._location), advice=ADVICE)


@contextlib.contextmanager
def running(location: Path) -> Iterator[Brz]:
    """A brz for the branch at `location`. Raises ToolMissing."""
    program = process.require("brz", advice=ADVICE)
    # brz looks for its Python's home beside the first `python3` on PATH; in a virtual environment
    # that has no breezy.
    path = f"{Path(program).parent}{os.pathsep}{process.search_path(os.environ)}"
    command = [program, *SETTINGS, "pipeline-steps-answer", str(location)]
    tunnel = {_TUNNEL: os.environ[_TUNNEL]} if _TUNNEL in os.environ else {}
    with (
        os.fdopen(os.memfd_create("brz"), "w+b") as stderr,
        process.conversation(
            command, env={**ENVIRONMENT, **tunnel, "PATH": path}, advice=ADVICE, stderr=stderr
        ) as child,
    ):
        yield Brz(location, child, stderr)


def failure(location: Path | str, error: BrzError) -> PipelineError:
    """Our error for one of brz."""
    where = redact(str(location))
    kind, advice = _FAILURES.get(error.name, (MachineError, ""))
    text = f"{error.name}: {error}" + (f" ({error.said})" if error.said else "")
    if error.name in _VAGUE:
        fitting = (row for row in _WORDS if re.search(row[0], text))
        _, kind, advice = next(fitting, ("", kind, advice))
    if error.name == "NotImplementedError" and _ASKS in text:
        text = "it asks for a password"
    return kind(f"brz: {redact(text)}", where=where, advice=advice)
