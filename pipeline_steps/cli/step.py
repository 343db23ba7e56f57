"""What a step is, in one value, and how its function becomes a process.

A step module has one `STEP = Step(…)`, one function of the same name, and a `main` that calls
`run_step` with both. `run_step` reads options, configuration and state, asks which charts are
selected, calls the function once for each subject, and turns what came of it into an exit code.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline_steps.cli import boundary
from pipeline_steps.cli.command import (
    Command,
    configuration_if_any,
    open_state_file,
    run_command,
)
from pipeline_steps.cli.options import COMMON, Option
from pipeline_steps.cli.selection import Selection, selected_charts
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config, require_cluster
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import clock, files, junit
from pipeline_steps.toolbox.errors import (
    ChartFailed,
    ConfigurationError,
    Conflict,
    EvidenceError,
    Interrupted,
    NotApproved,
    PipelineError,
    UsageError,
    worst,
)
from pipeline_steps.toolbox.redact import printable
from pipeline_steps.workspace.checkout import open_checkout, share_checkouts

StepFunction = Callable[..., "Record | Iterable[Record]"]
#: What `doctor` can ask for, beside what every step needs.
Need = Literal[
    "helm",
    "engine",
    "buildx",
    "cluster",
    "snapshot images",
    "snapshot charts",
    "production images",
    "production charts",
    "review system",
    "review verdict",
    "review approvals",
    "review merge",
    "review release",
]
#: Options that say which charts are selected.
SELECTING = ("chart", "all", "since", "shard")
#: The subject of the outcome that says the evidence store could not be given what it lacks.
STORE = "evidence"
#: Exit codes that say something of the chart, not of the machine or the call.
VERDICT_CODES = frozenset(
    error.exit_code for error in (EvidenceError, Conflict, NotApproved, ChartFailed)
)


class Step(NamedTuple):
    """What a step is: read by `run_step`, `doctor` and the generated reference.

    documentation: the docstring of its module, for --help.
    reuses_records: whether it does nothing when a passed record of the same key exists and its
        outputs are still there. Other steps run every time: their records say what was true then.
    subjects: what its function is called for: each selected chart, each image of these charts, once
        for the whole selection (given as `charts`), or once without a selection.
    keywords: the common options that its function takes, besides `config`, `state` and `options`.
    doctor_needs: what the machine and the account must have, besides what every step needs.
    reads: the steps whose records it reads.
    writes: the names of its outputs, and the folders it writes to.
    releases: whether the selection is what is not released yet, instead of what is not tested yet.
    checks_all_first: with several subjects, plan each before the first is written, so that a
        subject that must be refused is known before anything is public.
    takes_unreadable: its function, called for the selection, gets the names of selected charts that
        cannot be read as `unreadable`.
    whole: the option with which its function is called once, with all selected charts as `charts`.
    unselected: the option with which it is about no chart of the checkout, and called once.
    needs_configuration: False when it works without a pipeline.yaml.
    """

    name: str
    documentation: str | None
    reuses_records: bool
    subjects: Literal["charts", "images", "selection", "none"]
    keywords: tuple[
        Literal["chart", "since", "shard", "plan", "again", "jobs", "timeout"], ...
    ] = ()
    options: tuple[Option, ...] = ()
    doctor_needs: tuple[Need, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    releases: bool = False
    checks_all_first: bool = False
    needs_configuration: bool = True
    takes_unreadable: bool = False
    whole: str = ""
    unselected: str = ""


class Outcome(NamedTuple):
    """What one call of a step's function came to.

    fresh: whether it added records; none of them means already done. note: why the step was called
    for nothing at all.
    """

    subject: str
    records: tuple[Record, ...]
    fresh: bool
    error: BaseException | None
    note: str = ""

    @property
    def summary(self) -> str:
        """The outcome for a person, one line."""
        if self.error is not None:
            bug = "" if isinstance(self.error, PipelineError) else f"{type(self.error).__name__}: "
            return f"{self.subject}: {bug}{self.error}"
        if self.note:
            return self.note
        if not self.records:
            return f"{self.subject}: planned"
        if not self.fresh:
            return f"{self.subject}: already done ({self.records[-1].finished})"
        last = self.records[-1]
        # Of `report`: its verdict matters more than that the report was written.
        if "verdict" in last.outputs:
            return f"{self.subject}: {last.outputs['verdict']}"
        names = ("chart", "image", "tag", "release")
        output = next((last.outputs[name] for name in names if name in last.outputs), "")
        count = f" ({len(self.records)} records)" if len(self.records) > 1 else ""
        return f"{self.subject}: {last.result}{count} {output}".rstrip()

    @property
    def references(self) -> dict[str, str]:
        """Name → reference of what was published or tagged now, the one in `summary` first."""
        if not self.fresh or self.error or self.note or not self.records:
            return {}
        outputs = self.records[-1].outputs
        first = [name for name in ("chart", "image", "tag") if name in outputs][:1]
        names = [*first, *(name for name in outputs if name not in first)]
        return {name: outputs[name] for name in names if "@" in outputs[name]}

    @property
    def exit_code(self) -> int:
        """That of its error; an error that is none of ours is a bug."""
        if isinstance(self.error, PipelineError):
            return self.error.exit_code
        return 0 if self.error is None else boundary.BUG


def run_step(
    step: Step,
    function: StepFunction,
    argv: Sequence[str] | None,
    *,
    shown: Callable[[Record, State], str] | None = None,
) -> int:
    """Run a step as a process: returns the exit code (docs/reference/exit-codes.md); log on stderr,
    records with --json on stdout.

    shown: what a person asked for, of a record; it is printed to stdout where --json does not print
    the record.
    """

    def work(arguments: Namespace) -> int:
        _refuse_unused(step, arguments)
        config = _configuration(step, arguments)
        state = open_state_file(config, arguments, step.name)
        outcomes = call_step(step, function, config, state, arguments)
        for outcome in outcomes:
            report_outcome(outcome, as_json=arguments.json)
            if shown is not None and not arguments.json:
                texts = "".join(shown(record, state) for record in outcome.records)
                print(printable(texts), end="", flush=True)
        return worst([outcome.exit_code for outcome in outcomes])

    command = Command(step.name, step.documentation, (*step.options, *COMMON))
    return run_command(command, work, argv)


def call_step(
    step: Step, function: StepFunction, config: Config, state: State, arguments: Namespace
) -> list[Outcome]:
    """Call a step's function for every subject; every subject is tried, whatever happens to the
    others.
    """
    whole = bool(step.whole and getattr(arguments, step.whole))
    if whole:
        step = step._replace(subjects="selection", checks_all_first=False)
    if step.unselected and getattr(arguments, step.unselected):
        step = step._replace(subjects="none")
    options = (*step.keywords, *(option.key for option in step.options))
    keywords = {
        "config": config,
        "state": state,
        **{key: getattr(arguments, key) for key in options},
    }
    # Whatever is selected: a test that is not needed would not ask for the cluster.
    if keywords.get("cluster"):
        require_cluster(config, keywords["cluster"])
    with share_checkouts():
        selection, unreadable = Selection((), ""), list[Outcome]()
        if step.subjects != "none":
            selection = selected_charts(config, state, arguments, releases=step.releases)
        if step.subjects in ("selection", "images"):
            selection, unreadable = _without_unreadable(config, selection)
        if step.subjects == "selection":
            keywords["charts"] = selection.charts
            if step.takes_unreadable:
                keywords["unreadable"] = tuple(outcome.subject for outcome in unreadable)
        if whole and unreadable:
            outcomes = []  # what is public for all charts must not be written without some of them
        elif step.subjects in ("selection", "none"):
            outcomes = [_call(step.name, function, (), keywords)]
        else:
            charts = selection.charts
            subjects = charts if step.subjects == "charts" else _images(config, charts)
            outcomes = _call_each(step, function, subjects, keywords)
            if not subjects:
                note = "no image in the selected charts" if charts else selection.reason
                outcomes = [Outcome("", (), False, None, note)]
        # After the others: what can be done is done, and the exit code is still that of the worst.
        outcomes += unreadable
    # --plan writes nothing: no report, and nothing that the evidence store lacks.
    if arguments.plan:
        return outcomes
    if step.releases:
        _write_junit(step, outcomes, state)
    return [*outcomes, *_replicate(state)]


def _without_unreadable(config: Config, selection: Selection) -> tuple[Selection, list[Outcome]]:
    """The selection without charts that cannot be read, and an outcome for each of these."""
    outcomes = []
    for name in selection.charts:
        try:
            open_checkout(config).chart(name)
        except ConfigurationError as error:
            outcomes.append(Outcome(name, (), False, error))
    unreadable = {outcome.subject for outcome in outcomes}
    charts = tuple(name for name in selection.charts if name not in unreadable)
    return selection._replace(charts=charts), outcomes


def _call_each(
    step: Step, function: StepFunction, subjects: Sequence[str], keywords: dict[str, Any]
) -> list[Outcome]:
    """One outcome for each subject, in their order."""
    outcomes: dict[str, Outcome] = {}
    if step.checks_all_first and len(subjects) > 1 and not keywords["plan"]:
        with boundary.warnings_only():  # nobody asked for a plan; what is done is told below
            planned = [
                _call(each, function, (each,), {**keywords, "plan": True}) for each in subjects
            ]
        outcomes = {each.subject: each for each in planned if each.error is not None}
    for subject in subjects:
        if subject not in outcomes:
            outcomes[subject] = _call(subject, function, (subject,), keywords)
    return [outcomes[subject] for subject in subjects]


def _write_junit(step: Step, outcomes: Iterable[Outcome], state: State) -> None:
    """A report of each release that was tried, beside those of the tests: CI shows them together."""
    for outcome in outcomes:
        if outcome.note:
            continue
        case = junit.Case(outcome.subject)
        if outcome.error is not None:
            verdict = outcome.exit_code in VERDICT_CODES
            case = case._replace(outcome="failure" if verdict else "error", text=outcome.summary)
        path = state.folder / "junit" / f"{step.name}-{outcome.subject}.xml"
        junit.write(path, step.name, (case,), started=clock.now(), properties={}, durable=False)


def report_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """One line to stderr for a person; with --json the records to stdout."""
    if outcome.error is not None:
        boundary.report_error(outcome.error, subject=outcome.subject)
    else:
        boundary.log.info("%s", outcome.summary)
        for name, reference in list(outcome.references.items())[1:]:
            boundary.log.info("%s: %s %s", outcome.subject, name, reference)
    if as_json:
        print_records(outcome.records)


def print_records(records: Iterable[Record]) -> None:
    """The records on stdout, one JSON object a line."""
    for record in records:
        boundary.print_json(record)


def _refuse_unused(step: Step, arguments: Namespace) -> None:
    """Raises UsageError for an option that was typed and that this step can do nothing with.

    In the environment options are for all steps of a pipeline; and whoever does one thing after the
    other keeps --jobs.
    """
    for name in refused_options(step):
        if name in arguments.typed:
            raise UsageError(f"--{name}: {step.name} can do nothing with it", advice="leave it out")


def refused_options(step: Step) -> tuple[str, ...]:
    """The common options that a step can do nothing with."""
    usable: set[str] = set(step.keywords)
    if step.subjects != "none":
        usable.update(SELECTING)
    return tuple(name for name in (*SELECTING, "timeout") if name not in usable)


def _configuration(step: Step, arguments: Namespace) -> Config:
    """The configuration; of a step that can do without, one that says nothing where there is none."""
    if step.needs_configuration:
        return load(arguments.config)
    return configuration_if_any(arguments) or Config(charts=(), root=Path.cwd())


def _images(config: Config, charts: Iterable[str]) -> tuple[str, ...]:
    """The names of the images of these charts, each once; says which no chart has at all."""
    checkout = open_checkout(config)
    mapped = {name for entry in config.charts for name in (*(entry.images or ()),)}
    for name in sorted(set(checkout.image_names) - mapped):
        boundary.log.warning(
            "%s: no chart uses the image %s: map it to values keys in charts[].images",
            config.where(f"images.{name}"),
            name,
        )
    return tuple(dict.fromkeys(image for chart in charts for image in checkout.chart(chart).images))


def _call(
    name: str, function: StepFunction, subject: tuple[str, ...], keywords: dict[str, Any]
) -> Outcome:
    state: State = keywords["state"]
    before = len(state.added)
    try:
        returned = function(*subject, **keywords)
        records = (returned,) if isinstance(returned, Record) else tuple(returned or ())
        added = {record.id for record in state.added[before:]}
        return Outcome(name, records, any(record.id in added for record in records), None)
    except (Interrupted, BrokenPipeError):  # this process has to end
        raise
    # a bug met in one chart, reported with its traceback, says nothing about the others
    except Exception as error:
        if stopped := boundary.interruption(error):
            raise stopped from error
        return Outcome(name, tuple(state.added[before:]), True, files.disk_failure(error) or error)


def _replicate(state: State) -> list[Outcome]:
    """Give the evidence store what a run before could not: an outcome only when that fails."""
    try:
        state.flush()
    except (Interrupted, BrokenPipeError):
        raise
    except Exception as error:
        return [Outcome(STORE, (), False, error)]
    return []
