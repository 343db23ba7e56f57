"""The command line every step shares: flag beats environment beats configuration beats default (design.md §2)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.toolbox.clock import seconds
from pipeline_steps.toolbox.errors import UsageError

#: These are never taken from the environment: a variable left behind must not force, repair or release, nor prove.
DANGEROUS = frozenset({"fix", "apply", "again", "release", "evidence"})


class Option(NamedTuple):
    """One option. kind: "flag", "text", "texts" (repeatable), "number", "path", "paths", "seconds",
    "word" (typed without a name, may be left out).
    """

    name: str
    kind: str
    help: str

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")


COMMON = (
    Option("config", "paths", "configuration file (repeatable, later ones win); default: the nearest pipeline.yaml"),
    Option("state", "path", "state file; default: .pipeline/state.jsonl beside pipeline.yaml"),
    Option("chart", "texts", "only this chart (repeatable)"),
    Option("all", "flag", "every chart"),
    Option("since", "text", "charts that changed since this revision, and what depends on them"),
    Option("shard", "text", "I/N: only the I-th of N parts, or auto from the CI"),
    Option("plan", "flag", "say each write (where, which digest, what it replaces); write nothing"),
    Option("again", "flag", "do it even when it is already done"),
    Option("jobs", "number", "how many at once"),
    Option("timeout", "seconds", "seconds (or 5m, 1h) for one subject"),
    Option("json", "flag", "one record a line on stdout"),
    Option("quiet", "flag", "only errors on stderr"),
    Option("verbose", "flag", "more on stderr"),
)


def parse(
    program: str, description: str, options: Sequence[Option], argv: Sequence[str], environ: Mapping[str, str]
) -> argparse.Namespace:
    """Options from `argv`, else from PIPELINE_STEPS_<OPTION>, else None (flags: False); `typed`: keys of the former.

    Exits with 2 on an unknown option, as argparse does. Raises UsageError for a value of the wrong kind.
    """
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False, formatter_class=_Help)
    for option in options:
        flag = f"--{option.name}"
        if option.kind == "word":
            parser.add_argument(option.key, nargs="?", metavar=option.name.upper(), help=option.help)
        elif option.kind == "flag":
            parser.add_argument(flag, dest=option.key, action="store_true", default=None, help=option.help)
        elif option.kind in ("texts", "paths"):
            parser.add_argument(flag, dest=option.key, action="append", metavar=_metavar(option), help=option.help)
        else:
            parser.add_argument(flag, dest=option.key, metavar=_metavar(option), help=option.help)
    arguments = parser.parse_args(argv)
    arguments.typed = frozenset(key for key, value in vars(arguments).items() if value is not None)
    for option in options:
        value = getattr(arguments, option.key)
        if value is None and option.key not in DANGEROUS and option.kind != "word":
            value = _from_environment(option, environ)
        setattr(arguments, option.key, _typed(option, value))
    return arguments


class _Help(argparse.RawDescriptionHelpFormatter):
    """Asks for the terminal's width only when there is help to show: argparse makes one of these for each option."""

    def __init__(self, prog: str) -> None:
        width = None if {"-h", "--help"}.intersection(sys.argv) else 78
        super().__init__(prog, width=width)


def _metavar(option: Option) -> str:
    return {"path": "FILE", "paths": "FILE", "number": "N", "seconds": "TIME"}.get(option.kind, "NAME")


def _from_environment(option: Option, environ: Mapping[str, str]) -> object:
    value = environ.get(f"PIPELINE_STEPS_{option.key.upper()}")
    if not value:
        return None
    if option.kind == "flag":
        return value.lower() not in ("0", "false", "no")
    separator = os.pathsep if option.kind == "paths" else ","
    return value.split(separator) if option.kind in ("texts", "paths") else value


def _typed(option: Option, value: object) -> object:
    if value is None:
        return {"flag": False, "texts": (), "paths": ()}.get(option.kind)
    if option.kind == "paths":
        return tuple(Path(str(item)) for item in value)  # type: ignore[attr-defined]
    if option.kind == "texts":
        return tuple(value)  # type: ignore[arg-type]
    if option.kind == "path":
        return Path(str(value))
    try:
        if option.kind == "number":
            return int(str(value))
        if option.kind == "seconds":
            return _seconds(str(value))
    except ValueError as error:
        raise UsageError(f"--{option.name} {value}: {error}") from error
    return value


def _seconds(value: str) -> float:
    return float(value) if value.replace(".", "", 1).isdigit() else seconds(value)
