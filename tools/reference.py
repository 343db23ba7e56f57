#!/usr/bin/env python3
"""Writes docs/reference from the code (`make doc`); a test says when it is out of date.

Pages for people, and for editors the JSON Schema of pipeline.yaml.

    .venv/bin/python -m tools.reference [--check]

Unlike the other tools it imports pipeline_steps, so it runs in the virtual environment.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import yaml

from pipeline_steps.cli.options import COMMON, Option
from pipeline_steps.cli.step import Step, refused_options
from pipeline_steps.commands import (
    bump,
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
from pipeline_steps.config import config_file
from pipeline_steps.config.language import TEST_DEFAULTS, ChartTests, Language
from pipeline_steps.state.record import VERDICTS, Record
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import ORDER
from tools import error_table, review_table
from tools.machine import say

COMMANDS = {
    each.COMMAND.name: each.COMMAND
    for each in (bump, doctor, init, record, reproduce, run, sandbox, state)
}
#: What a step's function is called for.
SUBJECTS = {
    "charts": "each selected chart",
    "images": "each image of the selected charts",
    "selection": "all selected charts at once",
    "none": "once, no charts are selected",
}
#: What a second run does.
RUN_AGAIN = {
    True: "answers `already done` when a passed record of the same key exists and its outputs are still there",
    False: "runs every time: its record says what was true at that moment",
}
#: Exit code → (what happened, what to do).
CODES = {
    "0": ("done, already done, or no chart is affected", "nothing"),
    "2": ("the command line or the configuration is wrong", "correct what the message names"),
    "3": ("this library has a bug", "report it with the text that is printed"),
    "4": (
        "evidence is missing, was edited, contradicts other evidence, or is no longer true",
        "run the step that the message names, or restore what was changed",
    ),
    "5": (
        "the name exists with other content, or a review has moved, conflicts or is closed",
        "raise the version, or have the newest revision reviewed; nothing was overwritten",
    ),
    "6": ("the review is not approved for this content", "ask for the approval"),
    "7": (
        "this machine or account cannot: a program, the engine, a cluster, a login, a right, the"
        " disk",
        "run `pipeline-steps doctor`; it says what is missing",
    ),
    "8": ("the chart or its image failed: check, build, install or test", "mend the chart"),
    "75": (
        "a temporary failure: a time-out, a rate limit, a server's error, the cluster's own"
        " trouble",
        "run it again",
    ),
    "128+N": ("signal N ended the process", "run it again; it goes on where it was stopped"),
}
#: Workflow of `run` → when to use it.
WORKFLOWS = {
    "private": "charts of a team, which reviews them on a server of its own; asks for approvals"
    " where `channels.production.requires` names one",
    "official": "charts that nobody releases without an approval; `approvals` must name one",
    "public": "charts that others can build again from their tags: publishes what the tags have"
    " ([Launchpad](../how-to/launchpad.md)); with `--proposal` it tries a merge proposal and"
    " releases nothing",
    "direct": "a deployment without a release ([deploy](../how-to/deploy.md))",
}
#: Result of a record → when it is written.
RESULTS = {
    "started": "before the step writes outside, with what it is about to write",
    "passed": "the step did what it is for",
    "failed": "the chart or its image failed (exit code 8)",
    "refused": "the step refused (exit codes 2, 4, 5, 6)",
    "infrastructure": "the machine, account, network or cluster failed (exit codes 3, 7, 75)",
    "interrupted": "a signal ended the step (exit code 128+N)",
}
FOLDER = Path(__file__).resolve().parents[1] / "docs/reference"
HEAD = "<!-- written by `make doc` from the code: change it there -->\n"


def pages() -> dict[str, str]:
    """File name → text of everything that is generated."""
    return {
        "steps.md": steps(),
        "commands.md": commands(),
        "exit-codes.md": exit_codes(),
        "errors.md": f"{HEAD}\n{error_table.page()}",
        "configuration.md": configuration(),
        "records.md": records(),
        "environment.md": environment(),
        "review-systems.md": f"{HEAD}\n{review_table.page()}",
        "pipeline.schema.json": json.dumps(schema(), indent=2, ensure_ascii=False, sort_keys=True)
        + "\n",
    }


def steps() -> str:
    """Each step that there is, in the order of the chain, and what is not yet there."""
    parts = [HEAD, "# Steps\n"]
    parts.append(
        "`pipeline-steps NAME` is `python -m pipeline_steps.NAME`, and one Python function "
        "of the same name.\n"
        "Every step takes the [common options](#common-options), and refuses (2) those of "
        "them that it"
        " can do nothing with.\n"
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
    parts.append(
        "Options that steps have, too, mean the same here and are not repeated"
        " ([common options](steps.md#common-options)); `--help` lists all of a command.\n"
    )
    for command in command_names.COMMANDS:
        parts.append(f"## {command.name}\n")
        if not command.module:
            parts.append(f"Not yet: {command.purpose}.\n")
            continue
        if command.name not in COMMANDS:  # list takes no options
            parts.append("`pipeline-steps list`: every step and command with its purpose.\n")
            continue
        parts.append(described(COMMANDS[command.name].documentation))
        if command.name == "run":
            parts.append(workflows())
        parts += listed(option for option in COMMANDS[command.name].options if option not in COMMON)
    return "\n".join(parts)


def workflows() -> str:
    """The steps of each workflow, and when to use it."""
    rows = []
    for name, names in run.WORKFLOWS.items():
        first, held_back = (
            [each for each in names if (each in run.HELD_BACK) == held] for held in (False, True)
        )
        cells = (f"`{name}`", ", ".join(first), ", ".join(held_back), WORKFLOWS[name])
        rows.append(f"| {' | '.join(cells)} |")
    head = "| workflow | steps | with `--release` | when to use it |\n|---|---|---|---|"
    return "\n".join([head, *rows, ""])


def exit_codes() -> str:
    rows = [f"| {code} | {meaning} | {action} |" for code, (meaning, action) in CODES.items()]
    order = ", ".join(map(str, ORDER))
    return "\n".join(
        [
            HEAD,
            "# Exit codes\n",
            "The same for every step and command. A message says what is wrong, where (file, line,"
            " key, digest) and what to do.\n",
            "| code | what happened | what to do |\n|---|---|---|",
            *rows,
            f"""
Every selected chart is tried. Where several fail differently, the first of this order is the exit
code: 128+N, {order}. Code 1 is never used. A pipeline should retry 75 only: the others stay
until somebody acts.
""",
        ]
    )


def records() -> str:
    """The fields of a record, and its results."""
    hints = typing.get_type_hints(Record)
    required = {field.name for field in msgspec.structs.fields(Record) if field.required}
    fields = [
        f"| `{name}` | {json_type(hints[name])} | {'yes' if name in required else ''}"
        f" | {meaning} Example: `{example}` |"
        for name, (meaning, example) in field_docs(Record).items()
    ]
    results = [
        f"| `{result}` | {'yes' if result in VERDICTS else ''} | {meaning} |"
        for result, meaning in RESULTS.items()
    ]
    return "\n".join(
        [
            HEAD,
            "# Records\n",
            """A record is one JSON object on one line of a state file. Its `id` is the sha256 of its canonical
JSON without `id`: sorted keys, no spaces, UTF-8; objects, lists, texts, integers, booleans and
null. Records are never written again, so fields of later versions survive; a record of a newer
`schema` is refused (4). What records mean together is in [records](../explanation/records.md).
""",
            "| field | JSON | required | meaning |\n|---|---|---|---|",
            *fields,
            "\n## Results\n",
            "A verdict says something about the content; the others are attempts.\n",
            "| result | verdict | written when |\n|---|---|---|",
            *results,
            "\n## Outputs\n",
            "| step | outputs |\n|---|---|",
            *[
                f"| {name} | {outputs(step)} |"
                for name, (step, _) in STEPS.items()
                if outputs(step)
            ],
            "\nA record of `integration_test` names the digests of what was rendered:"
            " `derived.tar` and `rendered.…`\n"
            "([releases](../explanation/releases.md#what-is-compared)).\n",
        ]
    )


def outputs(step: Step) -> str:
    """The names of a step's outputs; what it writes into folders is none."""
    names = [name for name in step.writes if "/" not in name and " " not in name]
    return ", ".join(f"`{name}`" for name in names)


def json_type(kind: Any) -> str:
    """A type in the words of JSON."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if k is types.NoneType else json_type(k) for k in arguments)
    if origin is Literal:
        return "string"
    names = {tuple: "list of strings", dict: "object", str: "string", int: "integer"}
    return names[origin or kind]


def environment() -> str:
    """The variables that programs get, and those that this library reads."""
    return "\n".join(
        [
            HEAD,
            "# Environment\n",
            """## What is read

Every option of a step or command can be set by the variable that its table names
([steps](steps.md), [commands](commands.md)); the option wins over the variable. Options that force,
repair, release or prove have none. `PIPELINE_STEPS_SITE` names the site file
([configuration](../explanation/configuration.md)), `PIPELINE_STEPS_RUN` what the field `run` of
records says. `PIPELINE_STEPS_REVIEW`, `PIPELINE_STEPS_TARGET` and `PIPELINE_STEPS_HEAD` name a review,
the branch that it goes to and its newest revision, where the CI knows nothing of it
([how-to](../how-to/launchpad.md)).

A variable of these that is set and empty is as one that is not set: CI systems set it so for a
parameter without a value. `PIPELINE_STEPS_CONFIG` may name several files, with `:` between them as in
PATH; an empty name among them is refused.

## What programs get

helm, git, docker and the like are started without a shell, by absolute entries of PATH only, and
see only these variables, all `LC_*`, and what the step itself sets for them. git also gets
`GIT_CONFIG_COUNT`, `GIT_CONFIG_KEY_n` and `GIT_CONFIG_VALUE_n`, brz `BRZ_SSH`, svn `SVN_SSH`:
""",
            "\n".join(f"- `{name}`" for name in sorted(process.INHERITED)),
            "",
        ]
    )


class Key(NamedTuple):
    """One key of pipeline.yaml. path: as people write it, like charts[].tests; example: as YAML."""

    path: str
    kind: Any
    default: Any
    meaning: str
    example: str


def field_docs(kind: type) -> dict[str, tuple[str, str]]:
    """Field → (meaning, example): the text that stands below it in the class."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        match (field, text):
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(str(doc))):
                meaning, _, example = " ".join(doc.split()).partition(" Example: ")
                docs[name] = (meaning, example.strip("`"))
    return docs


def keys(kind: type[msgspec.Struct], above: str = "") -> Iterator[Key]:
    """Every key of a type, and of the types in it, but for tests of single charts."""
    docs, hints = field_docs(kind), typing.get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        path = f"{above}.{field.encode_name}".removeprefix(".")
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if kind is ChartTests:
            default = getattr(TEST_DEFAULTS, field.name)
        yield Key(path, hints[field.name], default, *docs[field.name])
        for inner, addition in structs(hints[field.name]):
            if not (inner is ChartTests and above):
                yield from keys(inner, path + addition)


def structs(kind: Any) -> Iterator[tuple[type[msgspec.Struct], str]]:
    """The types of keys within a type, and what a path has for an element: [] of a list, .NAME."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind, ""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    addition = {tuple: "[]", dict: ".NAME"}.get(origin, "") if origin else ""
    if origin is not Literal:
        for argument in arguments:
            yield from ((inner, addition + more) for inner, more in structs(argument))


def configuration() -> str:
    """Every key of pipeline.yaml, a table for each section."""
    parts = [
        HEAD,
        "# Configuration\n",
        "Every key of pipeline.yaml. `charts` is required; a small repository writes `charts` and"
        " `channels`. An unknown key is\nrefused (2) with file, line and the nearest known one."
        " How files and entries overlap is said, with an example, in\n"
        "[configuration](../explanation/configuration.md). Editors read"
        " [pipeline.schema.json](pipeline.schema.json).\n\n"
        "*No effect yet*: this version accepts the key and warns. *Not yet*: a step that would need"
        " it refuses it (2).\n",
    ]
    sections: dict[str, list[Key]] = {}
    for key in keys(Language):
        sections.setdefault(re.split(r"[.\[]", key.path)[0], []).append(key)
    for name, section in sections.items():
        parts += [f"## {name}\n", owner(name), "| key | type | default | meaning |"]
        parts += ["|---|---|---|---|", *map(key_row, section), ""]
    return "\n".join(parts)


def owner(section: str) -> str:
    """Who may set a section, and whether variables are expanded in it."""
    text = "Set by: pipeline.yaml of the checkout, and `--config` overlays over it."
    if section in config_file.TRUSTED_SECTIONS:
        text = (
            "Set by: pipeline.yaml; the site file, which replaces the section whole; `--config`"
            " overlays over both.\nIn a build of a review the target branch's pipeline.yaml counts"
            " instead of the checkout's, and no overlay that\nthe source stores may have it."
        )
    if section in config_file.EXPANDED_SECTIONS:
        text += " `${NAME}` and `${NAME:-default}` are expanded."
    return f"{text}\n"


def key_row(key: Key) -> str:
    example = f" Example: `{key.example}`"
    cells = (f"`{key.path}`", type_name(key.kind), default_text(key), key.meaning + example)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def default_text(key: Key) -> str:
    """A default as it is written in YAML; nothing where it is empty or that of the keys below."""
    if key.default is msgspec.NODEFAULT:
        return "required"
    if key.default in (None, (), {}, "") or isinstance(key.default, msgspec.Struct):
        return ""
    if key.meaning.startswith("Not yet"):
        return ""
    built = msgspec.to_builtins(key.default)
    return f"`{built if isinstance(built, str) else json.dumps(built)}`"


def type_name(kind: Any) -> str:
    """A type in the words of YAML."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_name(part) for part in arguments if part is not types.NoneType)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return "list" if arguments[0] is str else "list of mappings"
    if origin is dict or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return "mapping"
    return {str: "text", int: "whole number", bool: "true or false"}[kind]


def schema() -> dict[str, Any]:
    """The schema of a whole pipeline.yaml (JSON Schema 2020-12), with the reference's words."""
    header = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipeline.yaml",
        "description": "What pipeline_steps does with the charts and images of a repository.",
    }
    generated = {**header, **msgspec.json.schema(Language)}
    kinds: set[type[msgspec.Struct]] = {Language, *all_structs(Language)}
    for kind in kinds:
        properties = generated["$defs"][kind.__name__]["properties"]
        for name, (meaning, example) in field_docs(kind).items():
            (value,) = yaml.safe_load(example).values()
            set_by = f" {' '.join(owner(name).split())}" if kind is Language else ""
            properties[name] |= {"description": meaning + set_by, "examples": [value]}
    return generated


def all_structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    for inner, _ in structs(kind):
        yield inner
        for hint in typing.get_type_hints(inner).values():
            yield from all_structs(hint)


def facts(step: Step) -> str:
    """What a step says it is, a line each."""
    lines = {
        "Works on": SUBJECTS[step.subjects],
        "Run again": RUN_AGAIN[step.reuses_records],
        "Needs": ", ".join(step.doctor_needs),
        "Reads the records of": ", ".join(step.reads),
        "Writes": ", ".join(step.writes),
        "Refuses": ", ".join(f"`--{name}`" for name in refused_options(step)),
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
    short = f"-{option.short}, " if option.short else ""
    name = option.name.upper() if option.kind == "word" else f"{short}--{option.name}"
    return f"| `{name}` | {variable} | {option.help.replace('|', chr(92) + '|')} |"


def main(argv: list[str]) -> int:
    """Write the pages; with --check only say which are out of date (exit code 1)."""
    expected = pages()
    files = {name: FOLDER / name for name in expected}
    stale = [
        name
        for name, file in files.items()
        if not file.exists() or file.read_text() != expected[name]
    ]
    if "--check" not in argv:
        for name in stale:
            files[name].write_text(expected[name])
    for name in stale:
        say(
            f"docs/reference/{name}: "
            f"{'out of date, run make doc' if '--check' in argv else 'written'}"
        )
    return 1 if stale and "--check" in argv else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
