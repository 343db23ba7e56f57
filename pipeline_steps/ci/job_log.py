"""What the log of a CI job understands besides text: sections that fold, and findings at a line of a
file.

Sources: GitHub documentation, "Workflow commands for GitHub Actions", which Gitea's runner follows;
GitLab documentation 17, "Custom collapsible sections". Jenkins and terminals have neither.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator

from pipeline_steps.ci.build import System
from pipeline_steps.toolbox.redact import printable

_ACTIONS = ("github_actions", "gitea_actions")
#: What a runner of Actions obeys: a line that begins with ::, and ##[ anywhere in a line.
_COMMAND = re.compile(r"^(?=\s*::)", re.MULTILINE)


def annotation(system: System, path: str, line: int, message: str) -> str:
    """The line of a log that shows an error at its file and line; "" where there is no such thing.

    path: from the top of the source.
    """
    if system not in _ACTIONS:
        return ""
    return f"::error file={_property(path)},line={line}::{_data(message)}"


@contextlib.contextmanager
def section(system: System, name: str) -> Iterator[None]:
    """A part of the log on stderr that a reader can fold, where there is such a thing.

    name: letters, digits, _ and - only.
    """
    start, end = section_lines(system, name, int(time.time()))
    if start:
        print(start, file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if end:
            _, end = section_lines(system, name, int(time.time()))
            print(end, file=sys.stderr, flush=True)


def section_lines(system: System, name: str, seconds: int) -> tuple[str, str]:
    """The lines before and after a section at a time since 1970; "" for none."""
    if system in _ACTIONS:
        return f"::group::{name}", "::endgroup::"
    if system == "gitlab":
        start = f"\x1b[0Ksection_start:{seconds}:{name}\r\x1b[0K{name}"
        return start, f"\x1b[0Ksection_end:{seconds}:{name}\r\x1b[0K"
    return "", ""


def harmless(system: System, text: str) -> str:
    """`text` without what the CI would obey: the log also has words of charts and programs.

    >>> harmless("github_actions", "a::b\\n ::set-output name=x::y\\nz ##[add-path]/tmp")
    'a::b\\n| ::set-output name=x::y\\nz # #[add-path]/tmp'
    """
    if system not in _ACTIONS:
        return text
    return _COMMAND.sub("|", text).replace("##[", "# #[")


def _data(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
