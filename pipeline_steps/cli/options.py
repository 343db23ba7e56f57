"""The command line every step shares: a flag beats the environment, which beats the default."""

from __future__ import annotations

import argparse
import keyword
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from pipeline_steps.ci.detect import Build, detect
from pipeline_steps.toolbox.clock import DURATION_ADVICE, seconds
from pipeline_steps.toolbox.errors import UsageError
from pipeline_steps.toolbox.redact import printable

#: texts, paths: repeatable. word: typed without a name, may be left out.
Kind = Literal["flag", "text", "texts", "number", "path", "paths", "seconds", "shard", "word"]
REPEATABLE = frozenset({"texts", "paths"})
#: What --help calls the value of an option, by kind; others have a NAME.
_VALUES = {"path": "FILE", "paths": "FILE", "number": "N", "seconds": "TIME", "shard": "I/N"}


class Option(NamedTuple):
    """One option of a command line.

    from_environment: may a variable set it? Never what forces, repairs, releases or proves: a
    variable that was left behind must not do that.
    short: one letter that stands for the name, "" for none. value: what --help calls its value,
    "" for the word of its kind.
    """

    name: str
    kind: Kind
    help: str
    from_environment: bool = True
    short: str = ""
    value: str = ""

    @property
    def key(self) -> str:
        """Its name as a keyword of a Python function: `from` is `from_` there."""
        name = self.name.replace("-", "_")
        return f"{name}_" if keyword.iskeyword(name) else name

    @property
    def variable(self) -> str:
        """The environment variable that sets it; "" when none does."""
        if not self.from_environment or self.kind == "word":
            return ""
        return f"PIPELINE_STEPS_{self.name.replace('-', '_').upper()}"

    @property
    def default(self) -> object:
        """Its value when nothing sets it."""
        if self.kind in REPEATABLE:
            return ()
        return False if self.kind == "flag" else None


class Shard(NamedTuple):
    """One of `total` parts of a build that run at the same time; number: from 1."""

    number: int
    total: int

    def part(self, names: Sequence[str]) -> tuple[str, ...]:
        """This shard's part of `names`; the parts of all shards together are all names.

        >>> Shard(1, 2).part("abcde"), Shard(2, 2).part("abcde")
        (('a', 'c', 'e'), ('b', 'd'))
        """
        return tuple(names[self.number - 1 :: self.total])


CONFIG = Option(
    "config",
    "paths",
    "configuration file (repeatable, later ones win); default: the nearest pipeline.yaml",
)
STATE = Option("state", "path", "state file; default: .pipeline/state.jsonl beside pipeline.yaml")
QUIET = Option("quiet", "flag", "only errors on stderr")
VERBOSE = Option("verbose", "flag", "more on stderr")
#: What every step takes. A step that can do nothing with one of them refuses it when it is typed.
COMMON = (
    CONFIG,
    STATE,
    Option("chart", "texts", "only this chart (repeatable)"),
    Option("all", "flag", "every chart"),
    Option("since", "text", "charts that changed since this revision, and what depends on them"),
    Option("shard", "shard", "I/N: only the I-th of N parts, or auto from the CI"),
    Option("plan", "flag", "say each write (where, which digest, what it replaces); write nothing"),
    Option("again", "flag", "do it even when it is already done", from_environment=False),
    Option("jobs", "number", "how many at once"),
    Option("timeout", "seconds", "seconds (or 5m, 1h) for one subject"),
    Option("json", "flag", "one record a line on stdout"),
    QUIET,
    VERBOSE,
)


def parse(
    program: str,
    description: str,
    options: Sequence[Option],
    argv: Sequence[str],
    environ: Mapping[str, str],
) -> argparse.Namespace:
    """Options from `argv`, else from PIPELINE_STEPS_<OPTION>, else their defaults; `typed`: keys of
    the former.

    Exits with 2 on an unknown option, as argparse does. Raises UsageError for a value of the wrong
    kind.
    """
    parser = _Parser(
        prog=program,
        description=description,
        # What an abbreviation means would change with the next option.
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option in options:
        _add_option(parser, option)
    arguments = parser.parse_args(argv)
    arguments.typed = frozenset(key for key, value in vars(arguments).items() if value is not None)
    for option in options:
        value = getattr(arguments, option.key)
        if value is None:
            value = _from_environment(option, environ)
        converted = option.default if value is None else _converted(option, value, environ)
        setattr(arguments, option.key, converted)
    return arguments


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exits with 2; what was typed may come from anybody who names a branch."""
        super().error(printable(message))


class _Once(argparse.Action):
    """One value. A second one would silently win over the first."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        if before is not None and before != values:
            parser.error(f"{option_string} is given twice: {before} and {values}")
        setattr(namespace, self.dest, values)


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    if option.kind == "word":
        parser.add_argument(option.key, nargs="?", metavar=option.name.upper(), help=option.help)
        return
    flags = [*([f"-{option.short}"] if option.short else []), f"--{option.name}"]
    if option.kind == "flag":
        parser.add_argument(
            # None: only so is a flag that was not typed known, for which the environment is asked.
            *flags,
            dest=option.key,
            action="store_true",
            default=None,
            help=option.help,
        )
        return
    action: Any = "append" if option.kind in REPEATABLE else _Once
    metavar = option.value or _VALUES.get(option.kind, "NAME")
    parser.add_argument(*flags, dest=option.key, action=action, metavar=metavar, help=option.help)


def _from_environment(option: Option, environ: Mapping[str, str]) -> str | bool | list[str] | None:
    value = environ.get(option.variable)
    # CI systems set the variable of a parameter without a value to the empty text.
    if not value:
        return None
    if option.kind == "flag":
        return value.lower() not in ("0", "false", "no")
    if option.kind in REPEATABLE:
        # As in PATH: names of files may have commas.
        return value.split(os.pathsep if option.kind == "paths" else ",")
    return value


def _converted(option: Option, value: str | bool | list[str], environ: Mapping[str, str]) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return tuple(Path(item) if option.kind == "paths" else item for item in value)
    try:
        if option.kind == "number":
            return int(value)
        if option.kind == "seconds":
            return float(value) if value.replace(".", "", 1).isdecimal() else seconds(value)
    except ValueError as error:
        raise UsageError(
            f"--{option.name} {value} is wrong: {error}",
            advice="write a whole number" if option.kind == "number" else DURATION_ADVICE,
        ) from error
    if option.kind == "shard":
        return parse_shard(value, detect(environ))
    return Path(value) if option.kind == "path" else value


def parse_shard(text: str, build: Build) -> Shard:
    """The shard that --shard names. Raises UsageError.

    >>> parse_shard("2/4", Build("terminal"))
    Shard(number=2, total=4)
    """
    if text == "auto":
        if build.shard is None:
            raise UsageError(
                "--shard auto: this build does not say its shard", advice="give --shard I/N"
            )
        return Shard(*build.shard)
    numbers = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise UsageError(
            f"--shard {text!r} is not I/N with I from 1 to N",
            advice="write for example --shard 1/4",
        )
    return Shard(int(numbers[1]), int(numbers[2]))
