"""Run svn, svnmucc and svnrdump, and translate their failures into our errors."""

from __future__ import annotations

import contextlib
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote, urlsplit

from pipeline_steps.auth import credentials
from pipeline_steps.auth.credentials import Login
from pipeline_steps.auth.hosts import Host, entry_for
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    MachineError,
    PipelineError,
    Temporary,
    Unreachable,
)
from pipeline_steps.toolbox.redact import redact

#: English messages; names are UTF-8 on every machine.
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "LANGUAGE": "en"}
#: What the user's own configuration may say otherwise, and no answer may depend on: ignored files
#: are those of the project.
SETTINGS = ("--non-interactive", "--config-option", "config:miscellany:global-ignores=")
#: How a server is reached over SSH is the user's: svn reads it from its own variable.
_TUNNEL = "SVN_SSH"
_NUMBER = re.compile(r"[0-9]{1,18}")
ADVICE = "install subversion 1.10 or newer (Debian: subversion)"
#: Seconds for one call.
LONGEST = 300.0

_FAILURES: tuple[tuple[str, type[MachineError | Temporary], str], ...] = (
    (
        r"E170001|E215004|E220001|E220004|E175013|E230001|Authentication failed|Authorization failed"
        r"|Permission denied \(|Host key verification failed",
        AccessRefused,
        "check the login (`hosts` of the configuration, else what svn keeps in ~/.subversion) and "
        "its rights",
    ),
    (
        r"E000111|E000113|E000101|E670002|Connection refused|Unknown hostname|No route to host",
        Unreachable,
        "check the address (svn info) and that this machine reaches it",
    ),
    (
        r"E210002|E210005|E000104|E000110|E000032|E120106|E120108|E175012|E175002.* 5\d\d"
        r"|timed out|Connection reset|closed unexpectedly",
        Temporary,
        "run it again",
    ),
    (
        r"E155004|E155009|E155037|E200033|E155016|database is locked|svn cleanup",
        Temporary,
        "another svn works in this checkout, or was killed: run it again, or run svn cleanup",
    ),
    (r"E155036", MachineError, "svn upgrade"),
    (r"E165001", AccessRefused, "a hook of the repository refuses it: its message says why"),
    (r"E180001|E170000", Unreachable, "check the address: svn info URL"),
    (r"E135000|E200009.*newline", MachineError, "correct the line ends of the file and commit it"),
)


class NotThere(MachineError):
    """A path or revision does not exist."""


class Answer(NamedTuple):
    """What a call printed. missing: whether it named a path or revision that does not exist."""

    completed: process.Completed

    @property
    def missing(self) -> bool:
        """The path or revision does not exist: nothing else went wrong."""
        return not self.completed.ok and bool(
            re.search(rb"E160013|E160006|E145000|E200005|E200009|E155010|W155010|E195012|W160013|E160005|E170000",
                      self.completed.stderr)
            and not re.search(rb"E170001|E170013|E210002", self.completed.stderr)
        )  # fmt: skip


class Programs:
    """Subversion's programs, with the logins that `hosts` of the configuration has for a server.

    hosts: may be given later; until then svn's own logins are used (~/.subversion).
    """

    def __init__(self, where: str, hosts: Mapping[str, Host]) -> None:
        self.where = where
        self.hosts = hosts

    def output(self, *arguments: str, url: str = "", program: str = "svn") -> bytes:
        """Standard output. Any failure raises our error for it.

        url: of the server that is asked; "" for what svn reads in the checkout alone.
        """
        answer = self.call(*arguments, url=url, program=program)
        if not answer.completed.ok:
            raise self.failure(answer.completed)
        return answer.completed.stdout

    def call(self, *arguments: str, url: str = "", program: str = "svn") -> Answer:
        """Run a program to its end. A missing path or revision is the caller's to judge.

        Raises ToolMissing, Temporary at a time-out, AccessRefused, Unreachable.
        """
        options, password = ([], b"") if program == "svnversion" else self._login(url)
        with process.start_process(
            [program, *options, *arguments], env=environment(), feed=True, advice=ADVICE
        ) as child:
            completed = child.completed(password, timeout=LONGEST)
        completed = completed._replace(argv=(program, *arguments))
        if completed.code is None:
            raise Temporary(
                f"{program} {arguments[0]} took too long", where=self.where, advice="run it again"
            )
        answer = Answer(completed)
        if not completed.ok and not answer.missing:
            raise self.failure(completed)
        return answer

    def xml(self, command: str, *arguments: str, url: str = "") -> ElementTree.Element:
        """The answer of `svn COMMAND --xml`. Any failure raises our error for it."""
        return self.parsed(self.output(command, "--xml", *arguments, url=url), command)

    def xml_if_there(
        self, command: str, *arguments: str, url: str = ""
    ) -> ElementTree.Element | None:
        """Like `xml`; None when a path or revision does not exist."""
        answer = self.call(command, "--xml", *arguments, url=url)
        return None if answer.missing else self.parsed(answer.completed.stdout, command)

    def parsed(self, data: bytes, command: str) -> ElementTree.Element:
        """What `svn COMMAND --xml` printed. Raises MachineError."""
        try:
            return ElementTree.fromstring(data)
        except ElementTree.ParseError as error:
            raise MachineError(
                f"svn {command} printed no valid XML: {error}", where=self.where, advice=ADVICE
            ) from error

    @contextlib.contextmanager
    def stream(self, *arguments: str, url: str, program: str) -> Iterator[IO[bytes]]:
        """Standard output of a program while it runs; its failure is raised at the block's end."""
        options, password = self._login(url)
        with (
            os.fdopen(os.memfd_create("svn"), "w+b") as stderr,
            process.conversation(
                [program, *options, *arguments], env=environment(), advice=ADVICE, stderr=stderr
            ) as child,
        ):
            assert child.stdin is not None and child.stdout is not None, "opened as pipes"
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(password)
                child.stdin.close()
            try:
                yield child.stdout
            finally:
                code = child.wait(LONGEST) if not child.stdout.read(1) else 0
                process.raise_if_stopping()
                stderr.seek(0)
                completed = process.Completed((program, *arguments), code, b"", stderr.read())
                if code and Answer(completed).missing:
                    raise NotThere(
                        f"{program} found no {arguments[-1]}",
                        where=self.where,
                        advice="correct the path or the revision; svn ls shows what there is",
                    )
                if code:
                    raise self.failure(completed)

    def _login(self, url: str) -> tuple[list[str], bytes]:
        """Options for the login at a URL, and what svn reads of it from its standard input."""
        options = [*SETTINGS]
        address = urlsplit(url)
        if not address.hostname:
            return options, b""
        options.append("--no-auth-cache")
        host = address.netloc.rpartition("@")[2]
        path = address.path.strip("/")
        ca_file = entry_for(self.hosts, f"{host}/{path}")[1].ca_file
        if ca_file:
            options += ["--config-option", f"servers:global:ssl-authority-files={ca_file}"]
        login: Login | None = credentials.from_hosts(host, path, self.hosts)
        if login is None:
            return options, b""
        # Never as an argument: every account of the machine sees the arguments of a process.
        options += ["--username", login.username, "--password-from-stdin"]
        return options, f"{login.password}\n".encode()

    def failure(self, completed: process.Completed) -> PipelineError:
        """The error for a failed call: svn's message, and what to do about it."""
        output_tail = completed._replace(stdout=b"").tail(6)
        command = " ".join(completed.argv[:2]) if completed.argv[0] == "svn" else completed.argv[0]
        problem = f"{command} failed with exit code {completed.code}: {output_tail}"
        for pattern, error, advice in _FAILURES:
            if re.search(pattern, output_tail):
                return error(problem, where=self.where, advice=advice)
        return MachineError(
            problem, where=self.where, advice="correct what svn names, and run it again"
        )


def number(text: str) -> int:
    """The number of a revision that svn printed. Raises MachineError for anything else."""
    if not _NUMBER.fullmatch(text):
        raise MachineError(
            f"svn printed {redact(text)[:80]!r} instead of the number of a revision",
            advice=f"{ADVICE}; see whether a program of that name stands before it on PATH",
        )
    return int(text)


def environment() -> dict[str, str]:
    """The variables that svn gets beside the cleaned environment of every program."""
    tunnel = os.environ.get(_TUNNEL)
    return {**ENVIRONMENT, **({_TUNNEL: tunnel} if tunnel else {})}


def local(path: Path | str) -> str:
    """A path as an argument: what follows an "@" would be taken for a revision."""
    text = str(path)
    return f"{text}@" if "@" in text else text


def joined(url: str, path: str) -> str:
    """The URL of a path below another URL."""
    quoted = quote(path.encode("utf-8", "surrogateescape"), safe="/")
    return f"{url}/{quoted}" if path else url


def pegged(url: str, path: str, revision: int | str) -> str:
    """A path as it is named in a revision, as svn takes it (`URL@REVISION`)."""
    return f"{joined(url, path)}@{revision}"
