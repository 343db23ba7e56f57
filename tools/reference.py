#!/usr/bin/env python3
"""Writes docs/reference/steps.md and commands.md from the code (`make doc`); a test says when they are out of date.

    .venv/bin/python -m tools.reference [--check]

Unlike the other tools it imports pipeline_steps, so it runs in the virtual environment.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline_steps.cli.options import COMMON, DANGEROUS, Option
from pipeline_steps.commands import index
from pipeline_steps.toolbox import errors
from tools.machine import say

FOLDER = Path(__file__).resolve().parents[1] / "docs/reference"
HEAD = "<!-- written by `make doc` from the code: change it there -->\n"


def pages() -> dict[str, str]:
    """File name → text of every generated page."""
    return {"steps.md": steps(), "commands.md": commands(), "exit-codes.md": exit_codes()}


def steps() -> str:
    """Each step that there is, in the order of the chain, and what is not yet there."""
    parts = [HEAD, "# Steps\n"]
    parts.append(
        "`pipeline-steps NAME` is `python -m pipeline_steps.NAME`, and one Python function of the same name.\n"
        "Every step takes the [common options](#common-options).\n"
    )
    for command in index.STEPS:
        parts.append(f"## {command.name}\n")
        if not command.module:
            parts.append(f"Not yet: {command.purpose}.\n")
            continue
        module = importlib.import_module(command.module)
        parts.append(described(module.__doc__))
        parts.append(f"Needs: {', '.join(module.NEEDS)}. Writes: {', '.join(module.WRITES)}.\n")
        parts += listed(own(module))
    parts += ["## Common options\n", *listed(COMMON)]
    return "\n".join(parts)


def commands() -> str:
    parts = [HEAD, "# Commands\n"]
    for command in index.COMMANDS:
        parts.append(f"## {command.name}\n")
        if not command.module:
            parts.append(f"Not yet: {command.purpose}.\n")
            continue
        module = importlib.import_module(command.module)
        if module is index:
            parts.append("`pipeline-steps list`: every step and command with its purpose.\n")
            continue
        parts.append(described(module.__doc__))
        parts += listed(option for option in own(module) if option not in COMMON)
    return "\n".join(parts)


def exit_codes() -> str:
    """The page of errors, as its module tells it."""
    return "\n".join([HEAD, "# Exit codes\n", described(errors.__doc__)])


def own(module: object) -> Iterable[Option]:
    """The options of a module itself."""
    found: Iterable[Option] = getattr(module, "OPTIONS", ())
    return found


def described(doc: str | None) -> str:
    """A docstring as Markdown: indented parts become code."""
    lines: list[str] = []
    code = False
    for line in inspect.cleandoc(doc or "").splitlines():
        indented = line.startswith("    ")
        if indented and not code:
            lines.append("```sh")
        if code and not indented and line:
            while lines[-1] == "":
                lines.pop()
            lines += ["```", ""]
        code = indented or (code and not line)
        lines.append(line.removeprefix("    ") if code else line)
    return "\n".join([*lines, *(["```"] if code else [])]) + "\n"


def listed(options: Iterable[Option]) -> list[str]:
    """A table of options, or nothing."""
    rows = [row(option) for option in options]
    return ["| option | environment | |\n|---|---|---|\n" + "\n".join(rows) + "\n"] if rows else []


def row(option: Option) -> str:
    word = option.kind == "word"
    variable = "" if word or option.key in DANGEROUS else f"`PIPELINE_STEPS_{option.key.upper()}`"
    name = option.name.upper() if word else f"--{option.name}"
    return f"| `{name}` | {variable} | {option.help.replace('|', chr(92) + '|')} |"


def main(argv: list[str]) -> int:
    """Write the pages; with --check only say which are out of date (exit code 1)."""
    wanted = pages()
    files = {name: FOLDER / name for name in wanted}
    stale = [name for name, file in files.items() if not file.exists() or file.read_text() != wanted[name]]
    if "--check" not in argv:
        for name in stale:
            files[name].write_text(wanted[name])
    for name in stale:
        say(f"docs/reference/{name}: {'out of date, run make doc' if '--check' in argv else 'written'}")
    return 1 if stale and "--check" in argv else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
