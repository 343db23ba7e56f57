"""Read and extend a branch of a remote git repository without a checkout, in a temporary bare
repository.

Adding is a compare-and-swap: a commit on top of the tip that was read, pushed without force, so
that a later publisher's push is rejected. Only the newest commit is fetched; and only the files
that are read, if the server supports partial clones (`uploadpack.allowFilter`).
"""

from __future__ import annotations

import functools
import hashlib
import re
import secrets
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pipeline_steps.auth.credentials import Login
from pipeline_steps.sources import git_program as program
from pipeline_steps.sources.git_objects import Objects
from pipeline_steps.toolbox import process, scratch
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
)

_TIP = "refs/tip"
#: Not "origin", for which the account's git configuration may have settings.
_REMOTE = "pages"
_FETCH = ("--quiet", "--no-tags", "--no-write-fetch-head", "--filter=blob:none")
#: Largest list of all files in bytes: twelve nested folders with ten links to the next one each
#: name 10^12 files in a tiny repository.
LISTING = 16 * 2**20
#: Bytes of a file that git unpacks in memory; more than an
#: archive may have.
_IN_MEMORY = 32 * 2**20
#: A try that others were faster than is repeated within this many times what it took. Where many
#: publish from one busy machine, all of them read at once, one is first, and pauses much shorter
#: than a try have all of them read at once again.
_SPREAD = 4.0
#: Who commits when this account's git has no user.name and user.email.
NOBODY = "pipeline-steps <pipeline-steps@localhost>"
#: git's messages, from client or server, when another push came first.
_PUSHED_FIRST = re.compile(
    r"fetch first|non-fast-forward|cannot lock ref|failed to update ref|incorrect old value|reference already exists"
    r"|shallow update not allowed"  # the branch was removed meanwhile
)
#: The credential helper reads the login from the environment, so that no argument and no file has
#: it.
_HELPER = '!f() { test $1 != get || printf \'username=%s\\npassword=%s\\n\' "$LOGIN_USERNAME" "$LOGIN_PASSWORD"; }; f'


class Tip(NamedTuple):
    """The newest commit. files: path → object id of each file, including links."""

    commit: str
    files: Mapping[str, str]


def object_id(data: bytes) -> str:
    """The git object id of a file with these bytes.

    >>> object_id(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class GitBranch:
    """`branch` of the repository `remote`, a URL as git reads it. Threads may share it.

    where: named in errors. login: for https, in the place of what git's own stores know;
    login_error: why there is none, raised where one is needed; ca_file:
    PEM. Everything that talks to the server raises Temporary for what is temporary.
    """

    def __init__(
        self,
        remote: str,
        branch: str,
        *,
        where: str,
        login: Login | None = None,
        login_error: PipelineError | None = None,
        ca_file: str | None = None,
    ) -> None:
        self.remote = remote
        self.branch = branch
        self.where = where
        self._login = login
        self._login_error = login_error
        self._ca_file = ca_file
        self._last: Tip | None = None
        self._began = time.monotonic()
        self._lock = threading.RLock()

    @functools.cached_property
    def _root(self) -> Path:
        home = scratch.Scratch("git")
        weakref.finalize(self, home.remove)
        program.output(
            home.path, "init", "--quiet", "--bare", "--object-format=sha1", "--template="
        )
        # A file and not -c options: arguments are visible to all accounts in /proc.
        with (home.path / "config").open("a") as config:
            config.write(self._config())
        return home.path

    def _config(self) -> str:
        """Configuration of the temporary repository; it overrides the account's."""
        lines = [
            "[core]",
            # Not the account's hooks. No fsync: a temporary repository is worth nothing after a
            # power cut. No maintenance: it would go on in the background while the folder is
            # removed.
            "hooksPath = /dev/null",
            "fsync = none",
            f"bigFileThreshold = {_IN_MEMORY}",
        ]
        lines += ["[gc]", "auto = 0", "[maintenance]", "auto = false"]
        lines += [f'[remote "{_REMOTE}"]', f"url = {_quoted(self.remote)}"]
        origin = _quoted("{0.scheme}://{0.netloc}".format(urlsplit(self.remote)))
        if self._ca_file:
            lines += [
                f"[http {origin}]",
                f"sslCAInfo = {_quoted(str(Path(self._ca_file).absolute()))}",
            ]
        if self._login:
            # The empty helper drops those of the account, which might store the login.
            lines += [f"[credential {origin}]", "helper =", f"helper = {_quoted(_HELPER)}"]
        return "".join(f"{line}\n" for line in lines)

    @functools.cached_property
    def _environment(self) -> Mapping[str, str]:
        login = (
            {"LOGIN_USERNAME": self._login.username, "LOGIN_PASSWORD": self._login.password}
            if self._login
            else {}
        )
        return {"GIT_DIR": str(self._root), **login}

    def _call(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        remote: bool = False,
        max_output: int | None = None,
    ) -> process.Completed:
        try:
            return program.call(
                self._root,
                *arguments,
                stdin=stdin,
                env=self._environment,
                remote=remote,
                max_output=max_output,
            )
        except Temporary as error:
            error.where = self.where
            raise

    def _output(self, *arguments: str, stdin: bytes | None = None, remote: bool = False) -> bytes:
        completed = self._call(*arguments, stdin=stdin, remote=remote)
        if not completed.ok:
            raise self._failure(completed)
        return completed.stdout

    def _failure(self, completed: process.Completed) -> PipelineError:
        error = program.failure(self._root, completed)
        error.where = self.where
        if self._login_error and isinstance(error, AccessRefused):
            return self._login_error
        return error

    def tip(self) -> Tip | None:
        """Fetch the newest commit; None when the repository does not have the branch."""
        with self._lock:
            self._began = time.monotonic()
            ref = f"refs/heads/{self.branch}"
            fetched = self._call(
                "fetch", *_FETCH, "--depth=1", _REMOTE, f"+{ref}:{_TIP}", remote=True
            )
            messages = fetched.stderr.decode(errors="replace").lower().split("\n")
            # Exit code 128 as for every failure; a whole line is compared, as a server may send any
            # text.
            if f"fatal: couldn't find remote ref {ref}".lower() in messages:
                return None
            if not fetched.ok:
                raise self._failure(fetched)
            # Fetched into a ref of our own: FETCH_HEAD would be shared with other
            # threads.
            commit = self._output("rev-parse", _TIP).decode().strip()
            if self._last is None or self._last.commit != commit:
                self._last = Tip(commit, self._files(commit))
            return self._last

    def _files(self, commit: str) -> dict[str, str]:
        listed = self._call("ls-tree", "-r", "-z", "--full-tree", commit, max_output=LISTING)
        if len(listed.stdout) > LISTING:
            raise EvidenceError(
                f"the list of files of the branch has more than {LISTING} bytes",
                where=self.where,
                advice="remove files from the branch that are no charts, or name another branch in the URL",
            )
        if not listed.ok:
            raise self._failure(listed)
        split = (line.partition("\t") for line in program.nul_separated(listed.stdout))
        return {
            path: facts.split(" ")[2] for facts, _, path in split if facts.split(" ")[1] == "blob"
        }

    def read(self, identity: str, cap: int) -> bytes:
        """The bytes of a file by object id. Raises EvidenceError when it is larger than `cap`
        bytes.
        """
        with self._lock:
            (size,) = self._sizes([identity])
            if size > cap:
                raise EvidenceError(
                    f"a file of the branch has {size} bytes, more than {cap}",
                    where=self.where,
                    advice="remove it from the branch; archives of charts are smaller",
                )
            with Objects(self._root, self._environment) as objects:
                return objects.read([identity])[identity]

    def sizes(self, tip: Tip) -> dict[str, int]:
        """Path → bytes of each file. Fetches all files of the tip."""
        with self._lock:
            self._fetch_all(tip)
            return dict(zip(tip.files, self._sizes(tip.files.values()), strict=True))

    def _sizes(self, identities: Iterable[str]) -> list[int]:
        request = "".join(f"{identity}\n" for identity in identities).encode()
        lines = (
            self._output("cat-file", "--batch-check=%(objectsize)", stdin=request, remote=True)
            .decode()
            .split("\n")
        )
        missing_line = next((line for line in lines[:-1] if not line.isdigit()), None)
        if missing_line:
            raise MachineError(
                f"the server does not give a file of the branch: {missing_line}",
                where=self.where,
                advice="fetch the whole branch once: git fetch, or clone it again",
            )
        return [int(line) for line in lines[:-1]]

    def _fetch_all(self, tip: Tip) -> None:
        """Fetch all missing files at once; git itself would fetch them one by one."""
        listed = self._output(
            # A "?" marks what a partial clone has not fetched yet.
            "rev-list",
            "--objects",
            "--missing=print",
            "--no-object-names",
            tip.commit,
        ).decode()
        missing = [line.removeprefix("?") for line in listed.splitlines() if line.startswith("?")]
        if missing:
            # With the usual negotiation git would find that it has the commit, and request nothing.
            fetch = ["-c", "fetch.negotiationAlgorithm=noop", "fetch", *_FETCH]
            request = "".join(f"{identity}\n" for identity in missing).encode()
            self._output(*fetch, _REMOTE, "--stdin", stdin=request, remote=True)

    def commit(self, parent: Tip | None, files: Mapping[str, bytes | None], message: str) -> str:
        """Create a commit (locally only) that changes `files` on top of `parent`.

        files: path → bytes, None to delete it.
        """
        with self._lock:
            parts = [
                # A ref of its own: fast-import refuses to move one backwards, and threads share the
                # repository.
                f"commit refs/made/{secrets.token_hex(8)}\nmark :1\n"
                f"committer {self._committer} now\n".encode()
            ]
            parts += [
                _data(message.encode()),
                f"from {parent.commit}\n".encode() if parent else b"",
            ]
            for path, data in files.items():
                name = program.quoted_lines([path])
                parts += (
                    [b"D " + name] if data is None else [b"M 100644 inline " + name, _data(data)]
                )
            stream = b"".join((*parts, b"get-mark :1\ndone\n"))
            # --done makes git fail when the stream is cut off.
            options = ["--quiet", "--done", "--date-format=now"]
            return self._output("fast-import", *options, stdin=stream).decode().strip()

    @functools.cached_property
    def _committer(self) -> str:
        settings = program.nul_separated(
            self._call("config", "--null", "--get-regexp", r"^user\.(name|email)$").stdout
        )
        user = {
            # These end a name or an address in the stream of fast-import.
            key: re.sub(r"[<>\n]", "", value)
            for key, _, value in (text.partition("\n") for text in settings)
        }
        if user.get("user.name") and user.get("user.email"):
            return f"{user['user.name']} <{user['user.email']}>"
        return NOBODY

    def push(self, commit: str) -> None:
        """Make `commit` the newest. Raises Temporary when another one is that by now, to be tried
        again from `tip` on; AccessRefused.
        """
        if self._login_error:
            raise self._login_error
        with self._lock:
            pushed = self._call(
                "push", "--porcelain", _REMOTE, f"{commit}:refs/heads/{self.branch}", remote=True
            )
            if pushed.ok:
                return
            # --porcelain writes to stdout a line for each ref, for machines; stderr holds what
            # server hooks say.
            refused = re.search(
                r"^!\t.*\[(?:remote )?rejected\] \((.*)\)$", pushed.stdout.decode(), re.MULTILINE
            )
            if refused and _PUSHED_FIRST.search(refused[1]):
                raise Temporary(
                    f"the branch was changed meanwhile ({refused[1]})",
                    where=self.where,
                    spread=_SPREAD * (time.monotonic() - self._began),
                )
            if refused and "unpack" not in refused[1]:
                advice = "check what this account may push, and the rules of the branch"
                raise AccessRefused(
                    f"the server refuses the push: {pushed.tail(6)}",
                    where=self.where,
                    advice=advice,
                )
            raise self._failure(pushed)


def _quoted(value: str) -> str:
    """A value in git's configuration syntax."""
    return '"{}"'.format(value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))


def _data(data: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(data), data)
