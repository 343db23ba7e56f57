"""One command line: options are parsed, logging and signals set up, the work is done, and every
ending is an exit code.

Steps (`step.py`) and the commands of `commands/` start here. What a command does does not belong
here.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.cli import boundary
from pipeline_steps.cli.options import Option, parse
from pipeline_steps.config.config_file import has_pipeline_yaml, load
from pipeline_steps.config.language import Config
from pipeline_steps.evidence.trust import open_state
from pipeline_steps.state.state import FILE, FOLDER, State
from pipeline_steps.toolbox import scratch
from pipeline_steps.workspace.checkout import share_checkouts


class Command(NamedTuple):
    """name: what is typed after `pipeline-steps`. documentation: the docstring of its module, for
    --help.

    words: what may stand before the options, as --help shows it (`up|status|down`); "" for nothing.
    """

    name: str
    documentation: str | None
    options: tuple[Option, ...]
    words: str = ""


def run_command(
    command: Command, work: Callable[[Namespace], int], argv: Sequence[str] | None
) -> int:
    """Run `work` with the options of `argv` (None: of this process); returns the exit code.

    `arguments.words` are the words before the first option, of a command that takes any.
    """

    def parse_and_work() -> int:
        typed = list(sys.argv[1:] if argv is None else argv)
        words, options = leading_words(typed) if command.words else ([], typed)
        arguments = parse(
            f"pipeline-steps {command.name} {command.words}".rstrip(),
            (command.documentation or "").strip(),
            command.options,
            options,
            os.environ,
        )
        arguments.words = words
        boundary.setup_logging(quiet=arguments.quiet, verbose=arguments.verbose)
        boundary.handle_signals()
        scratch.sweep()  # what a killed process left may hold logins
        with share_checkouts():
            return work(arguments)

    return boundary.run_main(parse_and_work)


def leading_words(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the first option, and the rest.

    >>> leading_words(["get", "hello", "--json", "x"])
    (['get', 'hello'], ['--json', 'x'])
    """
    end = next((n for n, word in enumerate(argv) if word.startswith("-")), len(argv))
    return list(argv[:end]), list(argv[end:])


def configuration_if_any(arguments: Namespace) -> Config | None:
    """The configuration that --config names, or the nearest pipeline.yaml; None where there is none
    of both.
    """
    if not arguments.config and not has_pipeline_yaml(Path.cwd()):
        return None
    return load(arguments.config)


def open_state_file(
    config: Config, arguments: Namespace, step: str = "", *, all_records: bool = False
) -> State:
    """The state file that the options name: --state, a shard's own, or .pipeline/state.jsonl.

    The evidence stores that count for `step` belong to it. all_records: see `open_state`. Raises
    ConfigurationError.
    """
    path = config.root / FOLDER / FILE
    if arguments.state:
        path = Path.cwd() / arguments.state
    # Shards may run at the same time in one workspace: each appends to a file of its own, and
    # `State` reads the union of all.
    elif arguments.shard:
        path = path.with_name(f"state.{arguments.shard.number}-of-{arguments.shard.total}.jsonl")
    return open_state(
        config, step, path, write=not getattr(arguments, "plan", False), all_records=all_records
    )
