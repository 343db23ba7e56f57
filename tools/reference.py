#!/usr/bin/env python3
"""Writes docs/reference from the code (`make doc`); a test says when it is out of date.

Pages for people, and for editors the JSON Schema of pipeline.yaml.

    .venv/bin/python -m tools.reference [--check]

Unlike the other tools it imports pipeline_steps, so it runs in the virtual environment.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from pipeline_steps.cli.options import COMMON, Option
from pipeline_steps.cli.step import Step
from pipeline_steps.commands import (
    command_names,
    doctor,
    init,
    record,
    reproduce,
    run,
    sandbox,
    state,
)
from pipeline_steps.commands.steps import STEPS
from pipeline_steps.config.language import Language
from pipeline_steps.toolbox import errors
from tools.machine import say

COMMANDS = {
    each.COMMAND.name: each.COMMAND
    for each in (doctor, init, record, reproduce, run, sandbox, state)
}
#: What a step's function is called for.
SUBJECTS = {
    "charts": "each selected chart",
    "images": "each image of the selected charts",
    "selection": "all selected charts at once",
    "none": "once, no charts are selected",
}
#: What a second run does.
KINDS = {
    "making": "already done when a passed record of the same key exists and its outputs still hold",
    "asking": "always done anew: its record says what was true then",
}
FOLDER = Path(__file__).resolve().parents[1] / "docs/reference"
HEAD = "<!-- written by `make doc` from the code: change it there -->\n"


def pages() -> dict[str, str]:
    """File name → text of everything that is generated."""
    return {
        "steps.md": steps(),
        "commands.md": commands(),
        "exit-codes.md": exit_codes(),
        "pipeline.schema.json": json.dumps(schema(), indent=2, ensure_ascii=False, sort_keys=True)
        + "\n",
    }


def steps() -> str:
    """Each step that there is, in the order of the chain, and what is not yet there."""
    parts = [HEAD, "# Steps\n"]
    parts.append(
        "`pipeline-steps NAME` is `python -m pipeline_steps.NAME`, and one Python function of the same name.\n"
        "Every step takes the [common options](#common-options).\n"
    )
    for command in command_names.STEPS:
        parts.append(f"## {command.name}\n")
        if not command.module:
            parts.append(f"Not yet: {command.purpose}.\n")
            continue
        step = STEPS[command.name][0]
        parts += [described(step.documentation), facts(step), *listed(step.options)]
    parts += ["## Common options\n", *listed(COMMON)]
    return "\n".join(parts)


def commands() -> str:
    parts = [HEAD, "# Commands\n"]
    for command in command_names.COMMANDS:
        parts.append(f"## {command.name}\n")
        if not command.module:
            parts.append(f"Not yet: {command.purpose}.\n")
            continue
        if command.name not in COMMANDS:  # list takes no options
            parts.append("`pipeline-steps list`: every step and command with its purpose.\n")
            continue
        parts.append(described(COMMANDS[command.name].documentation))
        parts += listed(option for option in COMMANDS[command.name].options if option not in COMMON)
    return "\n".join(parts)


def exit_codes() -> str:
    """The page of errors, as its module tells it."""
    return "\n".join([HEAD, "# Exit codes\n", described(errors.__doc__)])


def schema() -> dict[str, Any]:
    """The schema of a whole pipeline.yaml (JSON Schema 2020-12)."""
    header = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipeline.yaml",
        "description": "What pipeline_steps does with the charts and images of a repository.",
    }
    return {**header, **msgspec.json.schema(Language)}


def facts(step: Step) -> str:
    """What a step says it is, a line each."""
    lines = {
        "Called for": SUBJECTS[step.subjects],
        "Run again": KINDS[step.kind],
        "Needs": ", ".join(step.needs),
        "Reads the records of": ", ".join(step.reads),
        "Writes": ", ".join(step.writes),
        "Without a pipeline.yaml": "" if step.needs_configuration else "works",
    }
    return "".join(f"- {name}: {text}\n" for name, text in lines.items() if text)


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
    variable = f"`{option.variable}`" if option.variable else ""
    name = option.name.upper() if option.kind == "word" else f"--{option.name}"
    return f"| `{name}` | {variable} | {option.help.replace('|', chr(92) + '|')} |"


def main(argv: list[str]) -> int:
    """Write the pages; with --check only say which are out of date (exit code 1)."""
    wanted = pages()
    files = {name: FOLDER / name for name in wanted}
    stale = [
        name
        for name, file in files.items()
        if not file.exists() or file.read_text() != wanted[name]
    ]
    if "--check" not in argv:
        for name in stale:
            files[name].write_text(wanted[name])
    for name in stale:
        say(
            f"docs/reference/{name}: {'out of date, run make doc' if '--check' in argv else 'written'}"
        )
    return 1 if stale and "--check" in argv else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
