"""A step's function becomes a process: options, configuration, state, selection, one call per subject, exit code.

A step module says `main(argv) -> int` with one call of `main` here; everything it does itself is in its function.
Besides it may say OPTIONS, what its command line has more than others, and SUBJECTS, what it is called for:
"charts" (each selected one; what holds when it says nothing), "images" (those of the selected charts) or "none"
(called once, without a subject); and OPTIONAL, that it can do without a pipeline.yaml.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import msgspec

from pipeline_steps.ci.build import detect
from pipeline_steps.cli import boundary
from pipeline_steps.cli.options import COMMON, Option, parse
from pipeline_steps.cli.selection import selected, shard
from pipeline_steps.config.config_file import is_above, load
from pipeline_steps.config.language import Config
from pipeline_steps.evidence import trust
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import FILE, FOLDER, State
from pipeline_steps.toolbox import files, scratch
from pipeline_steps.toolbox.errors import Interrupted, PipelineError, UsageError, worst
from pipeline_steps.workspace.checkout import opened, shared

Subjects = Literal["charts", "images", "none"]
StepFunction = Callable[..., "Record | Iterable[Record]"]
#: The subject of the outcome that says the evidence store could not be given what it lacks.
STORE = "evidence"


class Outcome(NamedTuple):
    """What one call of a step's function came to. fresh: records it added; none of them means already done."""

    subject: str
    records: tuple[Record, ...]
    fresh: bool
    error: BaseException | None

    @property
    def words(self) -> str:
        """The outcome for a person, one line."""
        if self.error is not None:
            bug = "" if isinstance(self.error, PipelineError) else f"{type(self.error).__name__}: "
            return f"{self.subject}: {bug}{self.error}"
        if not self.records:
            return f"{self.subject}: planned"
        if not self.fresh:
            return f"{self.subject}: already done"
        last = self.records[-1]
        told = next((last.outputs[name] for name in ("chart", "image", "tag") if name in last.outputs), "")
        several = f" ({len(self.records)} records)" if len(self.records) > 1 else ""
        return f"{self.subject}: {last.result}{several} {told}".rstrip()


def main(
    function: StepFunction, argv: Sequence[str] | None, *, shown: Callable[[Record, State], str] | None = None
) -> int:
    """Run a step as a process: returns the exit code of design.md §16, prints talk to stderr, records to stdout.

    shown: what a person asked for, of a record; it is printed to stdout where --json does not print the record.
    """
    module = sys.modules[function.__module__]

    def work() -> int:
        given = sys.argv[1:] if argv is None else argv
        options = (*options_of(module), *COMMON)
        arguments = parse(
            f"pipeline-steps {function.__name__}", (module.__doc__ or "").strip(), options, given, os.environ
        )
        boundary.talk(quiet=arguments.quiet, verbose=arguments.verbose)
        boundary.handle_signals()
        _refuse_vain(function, arguments)
        scratch.sweep()
        config = configuration(arguments, optional=getattr(module, "OPTIONAL", False))
        state = state_of(config, arguments, function.__name__)
        outcomes = call(function, config, state, arguments)
        for outcome in outcomes:
            tell(outcome, arguments)
            if shown is not None and not arguments.json:
                print("".join(shown(record, state) for record in outcome.records), end="", flush=True)
        return worst([code(outcome) for outcome in outcomes])

    return boundary.guarded(work)


def options_of(module: ModuleType) -> tuple[Option, ...]:
    """What the step in `module` takes beside the common options."""
    return tuple(getattr(module, "OPTIONS", ()))


def subjects_of(module: ModuleType) -> Subjects:
    """What the step in `module` is called for."""
    subjects: Subjects = getattr(module, "SUBJECTS", "charts")
    return subjects


def configuration(arguments: Namespace, *, optional: bool = False) -> Config:
    """The configuration that the options name, or the nearest pipeline.yaml.

    optional: where there is none, one that says nothing, of the working directory.
    """
    if optional and not arguments.config and not is_above(Path.cwd()):
        return Config(charts=(), root=Path.cwd())
    return load(arguments.config, environ=os.environ, start=Path.cwd())


def state_of(config: Config, arguments: Namespace, step: str = "") -> State:
    """The state file that the options name: --state, a shard's own, or .pipeline/state.jsonl, with its stores.

    Raises ConfigurationError, UsageError.
    """
    shard = None if arguments.state else shard_of(arguments)
    name = FILE if shard is None else f"state.{shard[0]}-of-{shard[1]}.jsonl"
    path = Path.cwd() / arguments.state if arguments.state else config.root / FOLDER / name
    return state_for(config, step, path, plan=getattr(arguments, "plan", False))


def state_for(config: Config, step: str = "", path: Path | None = None, *, plan: bool = False) -> State:
    """The state of a checkout with the evidence stores that count for `step`: what a step's function is given.

    path: another state file than .pipeline/state.jsonl. plan: write no store. Raises ConfigurationError.
    """
    elsewhere = None
    if config.evidence or config.channels.production.evidence:
        elsewhere = trust.stores(config, step, write=not plan)
    return State(path or config.root / FOLDER / FILE, elsewhere)


def shard_of(arguments: Namespace) -> tuple[int, int] | None:
    """(I, N) of --shard I/N, 1-based; `auto` asks the CI. Raises UsageError."""
    text = arguments.shard
    if not text:
        return None
    return shard(text, detect(os.environ))


def call(function: StepFunction, config: Config, state: State, arguments: Namespace) -> list[Outcome]:
    """Call the step's function for every selected subject; every subject is tried, whatever happens to others."""
    module = sys.modules[function.__module__]
    subjects = subjects_of(module)
    accepted = function.__annotations__  # every parameter has one; inspect takes long to load
    common = ("plan", "again", "jobs", "timeout", "shard", *(["chart"] if subjects == "none" else []))
    given = {name: getattr(arguments, name) for name in common if name in accepted}
    given.update({option.key: getattr(arguments, option.key) for option in options_of(module)})
    keywords = {"config": config, "state": state, **given}
    if "charts" in accepted and "charts" not in given:  # a step that is called once for all of them
        keywords["charts"] = _selected(config, state, arguments, "charts", function.__name__)
    with shared():
        names = ("",) if subjects == "none" else _selected(config, state, arguments, subjects, function.__name__)
        outcomes = [_once(function, (name,) if name else (), name, keywords) for name in names]
    return outcomes if arguments.plan else [*outcomes, *_settled(state)]


def _refuse_vain(function: StepFunction, arguments: Namespace) -> None:
    """Raises UsageError for an option that was typed and that this step can do nothing with.

    In the environment options are for all steps of a pipeline; and whoever does one thing after the other keeps --jobs.
    """
    module, able = sys.modules[function.__module__], set(function.__annotations__)
    own = {option.key for option in options_of(module)}
    if subjects_of(module) != "none" or "charts" in able - own:
        able.update(("chart", "all", "since", "shard"))
    for name in ("chart", "all", "since", "shard", "timeout"):
        if name in arguments.typed and name not in able:
            raise UsageError(f"--{name}: {function.__name__} can do nothing with it", advice="leave it out")


def _settled(state: State) -> list[Outcome]:
    """The outcome of giving the evidence store what a run before could not, if that fails."""
    try:
        state.flush()
    except (Interrupted, BrokenPipeError):
        raise
    except Exception as error:
        return [Outcome(STORE, (), False, error)]
    return []


def _selected(config: Config, state: State, arguments: Namespace, subjects: Subjects, step: str) -> tuple[str, ...]:
    charts = selected(config, state, arguments, step=step)
    if subjects == "charts":
        return charts
    checkout = opened(config)
    return tuple(dict.fromkeys(image for chart in charts for image in checkout.images_of(chart)))


def _once(function: StepFunction, positional: tuple[str, ...], subject: str, keywords: dict[str, Any]) -> Outcome:
    state: State = keywords["state"]
    before = len(state.added)
    name = subject or function.__name__
    try:
        returned = function(*positional, **keywords)
        records = (returned,) if isinstance(returned, Record) else tuple(returned or ())
        fresh = {record.id for record in state.added[before:]}
        return Outcome(name, records, any(record.id in fresh for record in records), None)
    except (Interrupted, BrokenPipeError):  # this process has to end
        raise
    except Exception as error:  # a bug met in one chart, told with its traceback, says nothing about the others
        return Outcome(name, tuple(state.added[before:]), True, files.disk_failure(error) or error)


def tell(outcome: Outcome, arguments: Namespace) -> None:
    """One line to stderr for a person; with --json the records to stdout."""
    if outcome.error is not None:
        boundary.tell(outcome.error, subject=outcome.subject)
    else:
        boundary.log.info("%s", outcome.words)
    if arguments.json:
        print_records(outcome)


def print_records(outcome: Outcome) -> None:
    """The records of an outcome on stdout, one JSON object a line."""
    for record in outcome.records:
        print(msgspec.json.encode(record).decode(), flush=True)


def code(outcome: Outcome) -> int:
    """The exit code of one outcome: of its error, which is ours when it is not an expected one."""
    if isinstance(outcome.error, PipelineError):
        return outcome.error.exit_code
    return 0 if outcome.error is None else boundary.BUG
