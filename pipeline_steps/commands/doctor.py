"""`pipeline-steps doctor [--for STEP]`: what this machine and account lack, and what to do about it.

    pipeline-steps doctor
    pipeline-steps doctor --for integration_test
    pipeline-steps doctor --config pipeline.yaml --config "$(pipeline-steps sandbox up)"

Asks for each thing the step needs (all steps without --for): programs, docker engine, registries and chart
repositories of the channels with their logins, clusters, a state folder that can be written. Writes nothing.
Exits with 7 when something needed is missing, with 2 when the configuration is what is wrong.
"""

from __future__ import annotations

import difflib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline_steps.cli import boundary
from pipeline_steps.cli.options import Option, parse
from pipeline_steps.commands.probes import NEEDS, OF_MACHINE, OPTIONAL, PROBES
from pipeline_steps.config.config_file import NAME, load
from pipeline_steps.config.language import Config
from pipeline_steps.toolbox.errors import PipelineError, ToolMissing, UsageError, worst
from pipeline_steps.toolbox.redact import redact

OPTIONS = (
    Option("for", "text", "only what this step needs"),
    Option("config", "paths", "configuration file (repeatable, later ones win); default: the nearest pipeline.yaml"),
    Option("json", "flag", "one answer a line as JSON"),
    Option("quiet", "flag", "only errors on stderr"),
    Option("verbose", "flag", "more on stderr"),
)


class Answer(NamedTuple):
    """name: the need. code: 0, or the exit code of its error. needed: False where steps go another way."""

    name: str
    code: int
    words: str
    needed: bool

    @property
    def mark(self) -> str:
        return "ok" if not self.code else "NOT" if self.needed else "no"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 7 when something needed is missing, 2 for the configuration."""

    def work() -> int:
        given = sys.argv[1:] if argv is None else argv
        arguments = parse("pipeline-steps doctor", __doc__ or "", OPTIONS, given, os.environ)
        boundary.talk(quiet=arguments.quiet, verbose=arguments.verbose)
        config = _configuration(arguments)
        answers = ask(needs(getattr(arguments, "for"), configured=config is not None), config)
        tell(answers, as_json=arguments.json)
        if config is None:
            boundary.log.info("no pipeline.yaml here: channels, clusters and the state folder were not asked")
        return worst([answer.code for answer in answers if answer.needed])

    return boundary.guarded(work)


def needs(step: str | None, *, configured: bool) -> tuple[str, ...]:
    """What to ask, in the order of PROBES. Raises UsageError for a step that is not there."""
    if step and step not in NEEDS:
        close = difflib.get_close_matches(step, NEEDS, n=1)
        raise UsageError(f"--for {step}: no such step", advice=f"did you mean {(close or list(NEEDS))[0]}?")
    wanted = set(NEEDS[step]) if step else {need for every in NEEDS.values() for need in every}
    return tuple(name for name in PROBES if name in wanted and (configured or name in OF_MACHINE))


def ask(names: Sequence[str], config: Config | None) -> list[Answer]:
    """All answers, asked at once."""
    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(lambda name: _one(name, config), names))


def _one(name: str, config: Config | None) -> Answer:
    try:
        return Answer(name, 0, PROBES[name](config), True)
    except PipelineError as error:
        words = " | ".join(line.strip() for line in redact(str(error)).splitlines() if line.strip())
        return Answer(name, error.exit_code, words, name not in OPTIONAL or not isinstance(error, ToolMissing))


def tell(answers: Sequence[Answer], *, as_json: bool) -> None:
    """One line an answer on stdout."""
    if as_json:
        for answer in answers:
            print(msgspec.json.encode(answer._asdict()).decode())
        return
    for answer in answers:
        print(f"{answer.mark:3} {answer.name:18} {answer.words}")


def _configuration(arguments: Namespace) -> Config | None:
    """The configuration, or None where there is none and none was asked for."""
    here = Path.cwd()
    if not arguments.config and not any((folder / NAME).exists() for folder in (here, *here.parents)):
        return None
    return load(arguments.config, environ=os.environ, start=Path.cwd())


if __name__ == "__main__":
    raise SystemExit(main())
