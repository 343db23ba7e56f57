"""`pipeline-steps record --name scan --subject hello -- PROGRAM`: any program's result as a record.

    pipeline-steps record --name scan --subject hello --evidence scan.json -- trivy image -o scan.json …

Runs the program here with your environment and records for the chart's content: passed when it ends
with 0, else failed, and then this ends with 8. With `channels.production.requires: [scan]` promote
requires that it passed. A later run for the same content replaces the former result. --evidence:
files that the program writes, kept by digest.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from pipeline_steps.cli.command import Command, open_state_file, run_command
from pipeline_steps.cli.options import CONFIG, QUIET, STATE, VERBOSE, Option
from pipeline_steps.cli.selection import STEP as SELECTION
from pipeline_steps.cli.step import print_records
from pipeline_steps.commands import command_names
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.evidence.store import STEP
from pipeline_steps.state import file
from pipeline_steps.state.attempt import Attempt, record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing import requirements
from pipeline_steps.toolbox import files, process
from pipeline_steps.toolbox.errors import ChartFailed, EvidenceError, UsageError
from pipeline_steps.toolbox.process import Completed
from pipeline_steps.workspace.checkout import open_checkout

COMMAND = Command(
    "record",
    __doc__,
    (
        Option("name", "text", "what to call it, as in channels.production.requires"),
        Option("subject", "text", "the chart it is about"),
        Option(
            "evidence",
            "paths",
            "a file the program writes (repeatable); never taken from the environment",
            from_environment=False,
        ),
        CONFIG,
        STATE,
        Option("shard", "shard", "I/N: the state file of that shard"),
        Option("timeout", "seconds", "seconds (or 5m, 1h) for the program"),
        Option("json", "flag", "the record as a line on stdout"),
        QUIET,
        VERBOSE,
    ),
)
#: Names of steps and commands: a program's record must not look like one of theirs.
RESERVED_NAMES = frozenset(
    {SELECTION, *(command.name for command in (*command_names.STEPS, *command_names.COMMANDS))}
)

log = logging.getLogger("pipeline_steps.commands.record")  # __name__ is __main__ under -m


def main(argv: list[str] | None = None) -> int:
    """Returns 0 when the program passed, 8 when it failed."""
    words = list(sys.argv[1:] if argv is None else argv)
    # Split by hand: argparse would take the program's own options for ours.
    end = words.index("--") if "--" in words else len(words)
    program = words[end + 1 :]
    return run_command(COMMAND, lambda arguments: run_and_record(program, arguments), words[:end])


def run_and_record(program: Sequence[str], arguments: Namespace) -> int:
    """Run `program` and record its result in the state that the options name."""
    config = load(arguments.config)
    state = open_state_file(config, arguments)
    try:
        added = record(
            arguments.name,
            arguments.subject,
            program,
            config=config,
            state=state,
            evidence=arguments.evidence,
            timeout=arguments.timeout,
        )
    finally:
        if arguments.json:
            print_records(state.added[-1:])
    log.info("%s: %s: %s", arguments.subject, arguments.name, added.result)
    state.flush()
    return 0


def record(
    name: str | None,
    subject: str | None,
    program: Sequence[str],
    *,
    config: Config,
    state: State,
    evidence: Sequence[Path] = (),
    timeout: float | None = None,
) -> Record:
    """Run `program` and record its result under `name` for the content of the chart `subject`.

    Args:
        program: the program and its arguments.
        evidence: files that the program writes, relative to the working directory.
        timeout: seconds.

    Raises:
        ChartFailed: the program failed.
        EvidenceError: the program passed, but did not write an evidence file.
        UsageError, ToolMissing.
    """
    _check_arguments(name, subject, program)
    checkout = open_checkout(config)
    chart = checkout.chart(subject or "")
    key = requirements.record_key(str(name), chart)
    parameters = {"program": list(program), "modified": list(chart.modified)}
    with record_attempt(
        state,
        step=str(name),
        subject=chart.name,
        key=key,
        content=chart.content,
        revision=checkout.revision,
        parameters=parameters,
    ) as attempt:
        completed = _run(program, timeout)
        # Kept even when the program failed: its report says why.
        missing = [
            str(path)
            for path in evidence
            if not _keep_evidence(attempt, state, path, f"{name}-{chart.name}")
        ]
        _require_success(completed, missing, program[0], f"{name} of {chart.name}")
        return attempt.passed({})


def _check_arguments(name: str | None, subject: str | None, program: Sequence[str]) -> None:
    """Raises UsageError when an argument is missing or the name is not allowed."""
    if not name or not subject or not program:
        raise UsageError(
            "record needs a name, a chart and a program",
            advice="write record --name NAME --subject CHART [--evidence FILE] -- PROGRAM [ARGUMENT…]",
        )
    if not STEP.fullmatch(name):
        raise UsageError(
            f"--name {name!r} cannot be the name of a record",
            advice="use lower-case letters, digits, . _ and -, at most 60",
        )
    if name in RESERVED_NAMES or name.startswith("approval."):
        raise UsageError(
            f"--name {name} is the name of records that steps write", advice="choose another name"
        )


def _run(program: Sequence[str], timeout: float | None) -> Completed:
    completed = process.run(
        program, cwd=Path.cwd(), env=os.environ, timeout=timeout, on_line=log.info
    )
    for line in completed.stdout.decode(errors="replace").splitlines():
        log.info("%s", line)
    return completed


def _require_success(
    completed: Completed, missing: Sequence[str], program: str, where: str
) -> None:
    """Raises ChartFailed when the program failed, EvidenceError when it did not write files."""
    if not completed.ok:
        ending = (
            "took too long and was stopped"
            if completed.code is None
            else f"ended with exit code {completed.code}"
        )
        raise ChartFailed(
            f"{where}: {program} {ending}\n{completed.tail(20)}".rstrip(),
            advice="correct the chart, or the program, and run it again",
        )
    if missing:
        raise EvidenceError(
            f"{program} passed and did not write {', '.join(missing)}",
            where=where,
            advice="correct --evidence",
        )


def _keep_evidence(attempt: Attempt, state: State, path: Path, prefix: str) -> bool:
    """Copy an evidence file beside the state file; False when the file does not exist."""
    try:
        data = (Path.cwd() / path).read_bytes()
    except OSError:
        return False
    home = files.created_folder(file.ensure_folder(state.path) / "evidence")
    # With its digest: the file of the next run must not replace what a record names.
    place = home / f"{prefix}-{files.sha256(data)[7:19]}-{path.name}"
    files.write(place, data)
    attempt.attach(place)
    return True


if __name__ == "__main__":
    raise SystemExit(main())
