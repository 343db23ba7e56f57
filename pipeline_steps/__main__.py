"""`pipeline-steps NAME …` and `python -m pipeline_steps NAME …`: finds the step or command and hands over."""

from __future__ import annotations

import sys
from typing import NoReturn

from pipeline_steps.commands import table
from pipeline_steps.toolbox.leave import leave

USAGE = "usage: pipeline-steps NAME [options]   (pipeline-steps NAME --help says more)"


def main(argv: list[str] | None = None) -> int:
    """Run what the first argument names; returns its exit code, 2 when there is no such thing."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{USAGE}\n\n{table.listing()}")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from pipeline_steps import __version__

        print(__version__)
        return 0
    command = table.find(arguments[0])
    if command is None:
        return _unknown(arguments[0])
    if not command.module:
        print(f"{command.name}: not yet: this version of pipeline_steps cannot do it", file=sys.stderr)
        return 2
    import importlib

    return int(importlib.import_module(command.module).main(arguments[1:]))


def _unknown(name: str) -> int:
    import difflib

    names = [command.name for command in (*table.STEPS, *table.COMMANDS)]
    close = difflib.get_close_matches(name, names, n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    print(f"{name}: no such step or command{meant} (pipeline-steps list shows all)", file=sys.stderr)
    return 2


def entry() -> NoReturn:
    """What the installed command calls: `main`, and the end of the process."""
    import gc

    gc.set_threshold(50_000)  # what is imported stays: looking for garbage in it is lost time
    if any(step.module and [step.name] == sys.argv[1:2] for step in table.STEPS):
        from pipeline_steps.core import start

        start.prepare(sys.argv[1])
    try:
        code = main()
    except BrokenPipeError:
        code = 141  # 128 + SIGPIPE, as shells report it
    leave(code)


if __name__ == "__main__":
    entry()
