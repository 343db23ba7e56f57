"""`pipeline-steps NAME …` and `python -m pipeline_steps NAME …`: run the step or command NAME."""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import sys
from typing import NoReturn

from pipeline_steps import __version__
from pipeline_steps.commands import command_names
from pipeline_steps.toolbox.redact import printable

USAGE = "usage: pipeline-steps NAME [options]   (pipeline-steps NAME --help says more)"


def main(argv: list[str] | None = None) -> int:
    """Run what the first argument names; returns its exit code, 2 when there is no such thing."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{USAGE}\n\n{command_names.listing()}")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(__version__)
        return 0
    command = command_names.find(arguments[0])
    if command is None:
        return _unknown(arguments[0])
    if not command.module:
        print(
            f"{command.name}: not yet: this version of pipeline_steps cannot do it", file=sys.stderr
        )
        return 2
    return int(importlib.import_module(command.module).main(arguments[1:]))


def _unknown(name: str) -> int:
    names = [command.name for command in (*command_names.STEPS, *command_names.COMMANDS)]
    close = difflib.get_close_matches(name, names, n=1)
    suggestion = f"; did you mean {close[0]}?" if close else ""
    print(
        f"{printable(name)}: no such step or command{suggestion} (pipeline-steps list shows all)",
        file=sys.stderr,
    )
    return 2


def entry() -> NoReturn:
    """Entry point of the installed command: runs `main` and ends the process."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of stdout has closed the pipe. Python flushes stdout once more at exit; without
        # this that would fail again (https://docs.python.org/3/library/signal.html#note-on-sigpipe).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    raise SystemExit(code)


if __name__ == "__main__":
    entry()
