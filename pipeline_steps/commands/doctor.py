"""`pipeline-steps doctor [--for STEP]`: what this machine and account lack, and what to do about
it.

    pipeline-steps doctor
    pipeline-steps doctor --for integration_test
    pipeline-steps doctor --config pipeline.yaml --config "$(pipeline-steps sandbox up)"

Asks for each thing the step needs (all steps without --for): programs, docker engine, registries
and chart repositories of the channels with their logins, the review system, clusters, a state
folder that can be written. Writes nothing. Exits with 7 when something needed is missing, with 2
when the configuration is what is wrong.
"""

from __future__ import annotations

import difflib
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline_steps.cli import boundary
from pipeline_steps.cli.command import Command, configuration_if_any, run_command
from pipeline_steps.cli.options import CONFIG, QUIET, VERBOSE, Option
from pipeline_steps.commands.probes import (
    NEEDED_BY_ALL_STEPS,
    OPTIONAL,
    PROBES,
    WITHOUT_CONFIGURATION,
)
from pipeline_steps.commands.steps import STEPS
from pipeline_steps.config.language import Config
from pipeline_steps.toolbox.errors import PipelineError, ToolMissing, UsageError, worst
from pipeline_steps.toolbox.redact import printable

COMMAND = Command(
    "doctor",
    __doc__,
    (
        Option("for", "text", "only what this step needs"),
        CONFIG,
        Option("json", "flag", "one answer a line as JSON"),
        QUIET,
        VERBOSE,
    ),
)


class Answer(NamedTuple):
    """The result of one probe. code: 0, or the exit code of its error.

    needed: False for optional things: steps work without them.
    """

    name: str
    code: int
    words: str
    needed: bool

    @property
    def mark(self) -> str:
        return "ok" if not self.code else "NOT" if self.needed else "no"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, 7 when something needed is missing, 2 for the configuration."""
    return run_command(COMMAND, doctor, argv)


def doctor(arguments: Namespace) -> int:
    """Run the probes of everything that is needed, and print each answer."""
    config = configuration_if_any(arguments)
    answers = run_probes(needed_probes(arguments.for_, configured=config is not None), config)
    report(answers, as_json=arguments.json)
    if config is None:
        boundary.log.info(
            "no pipeline.yaml here: channels, clusters and the state folder were not asked"
        )
    return worst([answer.code for answer in answers if answer.needed])


def needed_probes(name: str | None, *, configured: bool) -> tuple[str, ...]:
    """Names of the probes for a step (None: for all steps), in the order of PROBES.

    Raises UsageError for an unknown step.
    """
    if name and name not in STEPS:
        close = difflib.get_close_matches(name, STEPS, n=1)
        raise UsageError(
            f"--for {name} is no step", advice=f"did you mean {(close or list(STEPS))[0]}?"
        )
    steps = [STEPS[name]] if name else STEPS.values()
    needed = {
        *NEEDED_BY_ALL_STEPS,
        *(need for step, _function in steps for need in step.doctor_needs),
    }
    return tuple(
        probe
        for probe in PROBES
        if probe in needed and (configured or probe in WITHOUT_CONFIGURATION)
    )


def run_probes(names: Sequence[str], config: Config | None) -> list[Answer]:
    """Run all probes at the same time."""
    # All at once: each waits for another host, and dead hosts take their whole timeout.
    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(lambda name: _answer(name, config), names))


def _answer(name: str, config: Config | None) -> Answer:
    try:
        return Answer(name, 0, PROBES[name](config), True)
    except PipelineError as error:
        words = " | ".join(line.strip() for line in str(error).splitlines() if line.strip())
        return Answer(
            name, error.exit_code, words, name not in OPTIONAL or not isinstance(error, ToolMissing)
        )


def report(answers: Sequence[Answer], *, as_json: bool) -> None:
    """Print each answer as a line on stdout."""
    if as_json:
        for answer in answers:
            boundary.print_json(answer._asdict())
        return
    for answer in answers:
        print(printable(f"{answer.mark:3} {answer.name:18} {answer.words}"))


if __name__ == "__main__":
    raise SystemExit(main())
