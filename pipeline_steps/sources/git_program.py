"""Run the git program, and translate its failures into our errors."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    MachineError,
    PipelineError,
    Temporary,
    Unreachable,
)
from pipeline_steps.toolbox.redact import redact

#: English messages, no prompts, no locks for reading commands, and no patterns in path
#: arguments.
ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
#: What the user's own configuration may say otherwise, and no answer may depend on: ignored files
#: are those of the project, no daemon says what changed, mixed line ends are no failure, a copy of
#: the index is written whole, messages are UTF-8, and a bare repository, which whoever calls names,
#: is read. How the checkout was written (core.autocrlf, core.eol) stays: it
#: says what `git add` would store.
SETTINGS = (
    "-c", "core.excludesFile=", "-c", "core.fsmonitor=", "-c", "core.safecrlf=false",
    "-c", "core.splitIndex=false", "-c", "i18n.commitEncoding=UTF-8",
    "-c", "i18n.logOutputEncoding=UTF-8", "-c", "safe.bareRepository=all",
)  # fmt: skip
#: Settings that a CI gives to git in its environment, such as safe.directory and logins: for git
#: only, no other program sees them.
_CONFIG_VARIABLE = re.compile(r"GIT_CONFIG_(COUNT|(KEY|VALUE)_[0-9]+)")
ADVICE = "install git 2.30 or newer"
_OBJECT_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_NUMBER = re.compile(r"-?[0-9]{1,18}")
#: Seconds for a call that only reads the repository, and for one that talks to a server.
LOCAL, REMOTE = 300.0, 300.0
#: Seconds for fetching a whole repository, which does not go on where it was stopped.
WHOLE = 3600.0

# git has one exit code (128) for all of these, so its English words decide. The order matters: of
# several that fit the first counts.
_FAILURES: tuple[tuple[str, type[MachineError | Temporary], str], ...] = (
    (
        r"Authentication failed|could not read (Username|Password)|terminal prompts disabled|Permission denied"
        r"|Host key verification failed|error: 40[13]|returned error: 40[13]|access denied|prohibited|not permitted"
        r"|Permission to .* denied|marked as read only|have permission|Unable to negotiate with|no matching host key"
        r"|Too many authentication failures",
        AccessRefused,
        "check the credentials git uses for this remote (credential helper, GIT_ASKPASS, SSH "
        "agent) and their rights",
    ),
    (
        r"fatal: '[^/:']+' does not appear to be a git repository",
        Unreachable,
        "the checkout has no remote of this name: git remote add NAME URL, or let tag_release tag "
        "here alone, --local",
    ),
    (
        r"Could not resolve host|Connection refused|No route to host|Network is unreachable"
        r"|does not appear to be a git repository|Repository not found|repository '.*' not found|Failed to connect",
        Unreachable,
        "check the remote's address and that this machine reaches it",
    ),
    (
        r"bad line length character",
        MachineError,
        "the server's login shell writes text of its own: make it silent where no terminal asks",
    ),
    (
        # Before those of a broken connection, with which a server ends that cannot read its own
        # files. "possible repository corruption" alone it also says where its process was killed.
        r"bad ((tree|commit|blob|tag) )?object|missing blob|unable to read (tree|[0-9a-f]{40})"
        r"|object file \S+ is empty|(?<!possible repository )corrupt",
        MachineError,
        "the repository is damaged, the server's where git says so: git fsck in it names the "
        "objects to restore from another clone",
    ),
    (
        r"remote unpack failed|unpacker error|fsck error",
        MachineError,
        "one side refuses the objects or cannot store them: see its words, its disk and rights, "
        "and fsckObjects in its configuration",
    ),
    (
        r"timed out|Connection reset|early EOF|remote end hung up|returned error: (429|5\d\d)"
        r"|expected flush|unexpected disconnect|protocol error|Connection( to \S+)? closed|Broken pipe"
        r"|\A(Cloning into .*\n|warning: .*\n)*fatal: Could not read from remote repository",
        Temporary,
        "run it again",
    ),
    (
        # Beside other words than those above it is how each refusal of a server behind ssh ends.
        r"Could not read from remote repository",
        AccessRefused,
        "check the remote's address, and that the SSH key git uses there may do this",
    ),
    (
        r"tell me who you are|empty ident name",
        MachineError,
        "set user.name and user.email with git config",
    ),
    (
        r"index\.lock|cannot lock ref|Unable to create .*\.lock|Another git process",
        Temporary,
        "another git runs there: run it again, or remove the lock file where there is none",
    ),
)


def environment() -> dict[str, str]:
    """The variables that git gets beside the cleaned environment of every program."""
    settings = {
        name: value for name, value in os.environ.items() if _CONFIG_VARIABLE.fullmatch(name)
    }
    return {**settings, **ENVIRONMENT}


def call(
    root: Path, *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None, remote: bool = False,
    timeout: float | None = None, max_output: int | None = None,
) -> process.Completed:  # fmt: skip
    """Run git in `root`. The caller judges a failing exit code.

    Args:
        remote: whether git talks to a server.
        timeout: seconds, instead of LOCAL or REMOTE.
        max_output: bytes of output; see `process.RunningProcess.completed`.

    Raises:
        ToolMissing: git is not installed.
        Temporary: time-out.
        MachineError: git refuses the repository itself.
    """
    variables = {**environment(), **(env or {})}
    with process.start_process(
        ["git", *SETTINGS, *arguments],
        cwd=root,
        env=variables,
        feed=stdin is not None,
        advice=ADVICE,
    ) as child:
        completed = child.completed(
            stdin, timeout=timeout or (REMOTE if remote else LOCAL), max_output=max_output
        )
    completed = completed._replace(argv=("git", *arguments))
    if completed.code is None:
        raise Temporary(
            f"git {completed.argv[1]} took too long", where=str(root), advice="run it again"
        )
    # Here and not by callers, for whom code 128 means "no such revision".
    if _is_refused(completed):
        raise failure(root, completed)
    return completed


def _is_refused(completed: process.Completed) -> bool:
    return completed.code == 128 and b"dubious ownership" in completed.stderr


def output(
    root: Path,
    *arguments: str,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    remote: bool = False,
) -> bytes:
    """Standard output of git. Any failure raises our error for it."""
    completed = call(root, *arguments, stdin=stdin, env=env, remote=remote)
    if not completed.ok:
        raise failure(root, completed)
    return completed.stdout


def failure(root: Path, completed: process.Completed) -> PipelineError:
    """The error for a failed call: git's message, and what to do about it."""
    if _is_refused(completed):
        return MachineError(
            "git refuses this repository because another account owns it",
            where=str(root),
            advice=f"run git config --global --add safe.directory {root}",
        )
    # Before it come progress and hints; tail also redacts URLs with logins.
    output_tail = completed.tail(12)  # GitLab refuses in nine
    problem = f"git {completed.argv[1]} failed with exit code {completed.code}: {output_tail}"
    for pattern, error, advice in _FAILURES:
        if re.search(pattern, output_tail, re.IGNORECASE):
            return error(problem, where=str(root), advice=advice)
    if completed.code == -signal.SIGPIPE:  # it has no words for a server that goes while it writes
        return Temporary(problem, where=str(root), advice="run it again")
    return MachineError(problem, where=str(root), advice="correct what git names, and run it again")


def object_ids(root: Path, data: bytes) -> list[str]:
    """The ids of objects that git printed, with blanks or line ends between them. Raises
    MachineError for anything else.
    """
    ids = data.decode("ascii", "replace").split()
    for identity in ids:
        if not _OBJECT_ID.fullmatch(identity):
            raise unexpected_answer(root, identity, "the id of an object")
    return ids


def object_id(root: Path, data: bytes) -> str:
    """The one id, or the first of several. Raises MachineError also when there is none."""
    if ids := object_ids(root, data):
        return ids[0]
    raise unexpected_answer(root, "", "the id of an object")


def number(root: Path, text: str) -> int:
    """A count, or seconds, that git printed. Raises MachineError for anything else."""
    if not _NUMBER.fullmatch(text):
        raise unexpected_answer(root, text, "a number")
    return int(text)


def path(root: Path, data: bytes) -> Path:
    """The path that git printed, below `root` unless it is absolute. Raises MachineError."""
    name = os.fsdecode(data.removesuffix(b"\n"))
    if not name or "\0" in name:
        raise unexpected_answer(root, name, "a path")
    return root / name


def unexpected_answer(root: Path, printed: str, wanted: str) -> MachineError:
    """The error for what no git prints. wanted: what should have been there."""
    return MachineError(
        f"git printed {redact(printed)[:80]!r} instead of {wanted}",
        where=str(root),
        advice=f"{ADVICE}; see whether a program of that name stands before it on PATH",
    )


def nul_separated(data: bytes) -> list[str]:
    """Names that end with NUL; bytes that are not UTF-8 become surrogates."""
    return [name.decode("utf-8", "surrogateescape") for name in data.split(b"\0") if name]


def pairs(data: bytes, separator: str) -> list[tuple[str, str]]:
    """The two parts of each line that has a separator. A line ends at LF alone, as names of
    references may have other separators of lines, like U+2028.
    """
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    parted = (line.partition(separator) for line in lines)
    return [(first, second) for first, found, second in parted if found]


def quoted_lines(names: Iterable[str]) -> bytes:
    """One name per line, quoted as git reads them from --stdin-paths; names may contain line
    ends.
    """
    lines = []
    for name in names:
        escaped = (
            name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        )
        lines.append(f'"{escaped}"\n'.encode("utf-8", "surrogateescape"))
    return b"".join(lines)
