"""The git program: one call, or one that is begun ahead, and its failures in our words.

What is asked ahead stands here, everything else in `git` and `git_tree`, and who reads an answer, too.
"""

from __future__ import annotations

import atexit
import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import AccessRefused, MachineError, PipelineError, Temporary, Unreachable

#: Asked in plain English, never at a terminal, without locks for what only reads, names never as patterns.
ENVIRONMENT = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}
ADVICE = "install git 2.30 or newer"
#: Seconds for a call that only reads the repository, and for one that talks to a server.
LOCAL, REMOTE = 300.0, 300.0
#: Seconds for fetching a whole repository, which does not go on where it was stopped.
WHOLE = 3600.0

#: HEAD, and what differs from it, whole or below the folder that is added; read by `git_tree.head` and `changes`.
STATUS = (
    "status", "--porcelain=v2", "--branch", "--no-ahead-behind", "-z", "--no-renames", "--untracked-files=all",
    "--ignore-submodules=none", "--",
)  # fmt: skip
_FIELDS = "%(refname:strip=2)%00%(objectname)%00%(objecttype)%00%(*objectname)%00%(creatordate:unix)%00%(contents)%00"
#: Six fields for each tag, each ended by NUL.
TAGS = ("for-each-ref", f"--format={_FIELDS}", "refs/tags")

_FAILURES: tuple[tuple[str, type[MachineError | Temporary], str], ...] = (
    (
        r"Authentication failed|could not read (Username|Password)|terminal prompts disabled|Permission denied"
        r"|Host key verification failed|error: 40[13]|returned error: 40[13]|access denied|prohibited|not permitted",
        AccessRefused,
        "check the credentials git uses for this remote (credential helper, GIT_ASKPASS, SSH agent) and their rights",
    ),
    (
        r"Could not resolve host|Connection refused|No route to host|Network is unreachable"
        r"|does not appear to be a git repository|Repository not found|repository '.*' not found|Failed to connect",
        Unreachable,
        "check the remote's address and that this machine reaches it",
    ),
    (
        r"timed out|Connection reset|early EOF|remote end hung up|returned error: (429|5\d\d)",
        Temporary,
        "run again",
    ),
    (r"tell me who you are|empty ident name", MachineError, "set user.name and user.email with git config"),
    (r"index\.lock|cannot lock ref|Unable to create .*\.lock", Temporary, "another git runs here: run again"),
    (r"bad object|missing blob|unable to read tree|corrupt", MachineError, "the repository is damaged: git fsck"),
)


class Asked(NamedTuple):
    """A call of git in `root` that was begun."""

    root: Path
    begun: process.Begun

    def completed(
        self, stdin: bytes | None = None, timeout: float = LOCAL, most: int | None = None
    ) -> process.Completed:
        """What it left; see `call`."""
        completed = self.begun.completed(stdin, timeout=timeout, most=most)
        if completed.code is None:
            raise Temporary(f"git {completed.argv[1]} took too long", where=str(self.root), advice="run again")
        if completed.code == 128 and b"dubious ownership" in completed.stderr:
            raise MachineError(
                "git refuses this repository because another account owns it",
                where=str(self.root),
                advice=f"git config --global --add safe.directory {self.root}",
            )
        return completed

    def output(self) -> bytes:
        """What it prints; see `output`."""
        return _judged(self.root, self.completed())


#: What `ahead` began and nobody asked for yet, and what ends it.
_ahead: dict[tuple[Path, tuple[str, ...]], tuple[Asked, contextlib.ExitStack]] = {}


def ahead(root: Path, *arguments: str) -> None:
    """Start git now for the first `begun` of the same words, which takes this answer. Raises ToolMissing."""
    forget(root, *arguments)  # an answer that nobody took is of another time
    ends = contextlib.ExitStack()
    _ahead[root, arguments] = ends.enter_context(begun(root, *arguments)), ends


def forget(root: Path, *arguments: str) -> None:
    """End what `ahead` began, if nobody has taken its answer."""
    if (root, arguments) in _ahead:
        _ahead.pop((root, arguments))[1].close()


@atexit.register
def _in_vain() -> None:
    while _ahead:
        _ahead.popitem()[1][1].close()


@contextlib.contextmanager
def begun(root: Path, *arguments: str, feed: bool = False, env: Mapping[str, str] | None = None) -> Iterator[Asked]:
    """Start git in `root`, to wait for it later, inside of the block. feed: with standard input. Raises ToolMissing."""
    known = None if feed or env else _ahead.pop((root, arguments), None)
    if known is not None:
        asked, ends = known
        with ends:
            yield asked
        return
    variables = {**ENVIRONMENT, **(env or {})}
    with process.begun(["git", *arguments], cwd=root, env=variables, feed=feed, advice=ADVICE) as child:
        yield Asked(root, child)


def call(
    root: Path, *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None, remote: bool = False,
    timeout: float | None = None, most: int | None = None,
) -> process.Completed:  # fmt: skip
    """Run git in `root`; a failing exit code is the caller's to judge. remote: it talks to a server.

    timeout: seconds, instead of the usual ones. most: bytes of output; see `process.Begun.completed`.

    Raises ToolMissing, Temporary on time-out, MachineError when git refuses the repository itself.
    """
    with begun(root, *arguments, feed=stdin is not None, env=env) as asked:
        return asked.completed(stdin, timeout or (REMOTE if remote else LOCAL), most)


def output(
    root: Path, *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None, remote: bool = False
) -> bytes:
    """What git prints; any failure is an error in our words."""
    return _judged(root, call(root, *arguments, stdin=stdin, env=env, remote=remote))


def _judged(root: Path, completed: process.Completed) -> bytes:
    if not completed.ok:
        raise failure(root, completed)
    return completed.stdout


def failure(root: Path, completed: process.Completed) -> PipelineError:
    """The error for a failed call: what git said, and what to do about it."""
    said = completed.tail(6)
    what = f"git {completed.argv[1]} failed with exit code {completed.code}: {said}"
    for pattern, error, advice in _FAILURES:
        if re.search(pattern, said, re.IGNORECASE):
            return error(what, where=str(root), advice=advice)
    return MachineError(what, where=str(root))


def texts(data: bytes) -> list[str]:
    """NUL-ended names; bytes that are not UTF-8 survive as surrogates."""
    return [name.decode("utf-8", "surrogateescape") for name in data.split(b"\0") if name]


def quoted(names: Iterable[str]) -> bytes:
    """Names one a line, quoted as git reads them from --stdin-paths, line ends inside included."""
    lines = []
    for name in names:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f'"{escaped}"\n'.encode("utf-8", "surrogateescape"))
    return b"".join(lines)
