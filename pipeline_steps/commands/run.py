"""`pipeline-steps run private [--release]`: the steps of a workflow, or named steps, one after the
other, here.

    pipeline-steps run private
    pipeline-steps run private --release
    pipeline-steps run public --proposal lp:~dev/charts/fix
    pipeline-steps run direct --deployment hello-team-a
    pipeline-steps run check build_image

Stops at the first step that fails (`report` still says why), and before tag_release unless
--release is given; it ends with what to do next, and the same command goes on where it stopped.
Outside CI it uses the sandbox's endpoints (pipeline-steps sandbox up) unless --channels configured;
in the sandbox no review is told and no approval is asked for.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline_steps.ci import job_log
from pipeline_steps.ci.detect import detect, system_of
from pipeline_steps.cli import boundary
from pipeline_steps.cli.command import Command, open_state_file, run_command
from pipeline_steps.cli.options import COMMON, Option
from pipeline_steps.cli.selection import selected_charts
from pipeline_steps.cli.step import STORE, Outcome, call_step, print_records
from pipeline_steps.commands import command_names, run_summary
from pipeline_steps.commands.steps import STEPS
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config, require_cluster
from pipeline_steps.deployments import place
from pipeline_steps.proposals import checking_out
from pipeline_steps.reporting.rendering import short
from pipeline_steps.sandbox.sandbox import overlay
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import progress
from pipeline_steps.toolbox.errors import (
    EvidenceError,
    MachineError,
    NotApproved,
    NotYet,
    Temporary,
    UsageError,
    worst,
)

COMMAND = Command(
    "run",
    __doc__,
    (
        Option("release", "flag", "go on with tag_release and promote", from_environment=False),
        Option(
            "channels",
            "text",
            "configured: use the configured channels outside CI, too; sandbox: the sandbox's",
        ),
        Option("cluster", "text", "the cluster to test in, or to deploy to"),
        Option(
            "proposal", "text", "of public: the merge proposal to check and test, and no release"
        ),
        Option("deployment", "text", "what to deploy: its name in `deployments`"),
        *COMMON,
    ),
    words="WORKFLOW|STEP…",
)
RELEASE = ("tag_release", "promote")
#: What waits for --release in a workflow: regenerate publishes what tag_release has tagged.
HELD_BACK = (*RELEASE, "regenerate")
BUILD = ("check", "build_image", "snapshot", "integration_test", "report")
#: The steps of each workflow. `approval` joins where production.requires names
#: one.
WORKFLOWS = {
    "private": (*BUILD, *RELEASE),
    "official": (*BUILD, "approval", *RELEASE),
    "public": (*BUILD, "tag_release", "regenerate"),
    "direct": ("check", "build_image", "deploy"),
}


def main(argv: list[str] | None = None) -> int:
    """Returns the worst exit code of its steps."""
    typed = list(sys.argv[1:] if argv is None else argv)
    return run_command(COMMAND, lambda arguments: run(arguments, typed), typed)


def run(arguments: Namespace, typed: Sequence[str]) -> int:
    """Run steps one after the other; after a failure only `report`. Returns the worst exit code.

    typed: the words and options, for the command to go on with.
    """
    # The records of all steps name the run, so that they can be told from those of other runs.
    os.environ.setdefault("PIPELINE_STEPS_RUN", f"run-{os.urandom(6).hex()}")
    plan = plan_run(arguments)
    started = time.monotonic()
    outcomes, state = run_steps(plan, arguments)
    ended = [outcome for of_step in outcomes.values() for outcome in of_step]
    code = worst([0, *(outcome.exit_code for outcome in ended)])
    if not arguments.quiet and not arguments.plan:
        charts = charts_with_content(
            outcomes, lambda: selected_charts(plan.config, state, arguments).charts
        )
        run_summary.print_chains(
            plan.config, state, charts, ended, seconds=time.monotonic() - started
        )
    if plan.merge_command and not code:
        boundary.log.info("tested; merge it with: %s", plan.merge_command)
    elif not arguments.plan and (action := next_action(code, plan.held_back, typed)):
        boundary.log.info("%s", action)
    return code


class RunPlan(NamedTuple):
    """What a run does.

    names: of its steps, in order. held_back: those among them that need --release. local: nothing
    leaves this machine. merge_command: of a proposal, for who may merge; "" without one.
    """

    config: Config
    names: Sequence[str]
    held_back: Sequence[str]
    local: bool
    merge_command: str


def plan_run(arguments: Namespace) -> RunPlan:
    """What the command line asks for. Starts the sandbox, and checks a proposal out, where that is
    asked for.
    """
    named_steps(arguments.words)  # before a sandbox is asked for: a typing error needs none
    sandboxed = use_sandbox(arguments)
    config = load(arguments.config)
    if arguments.cluster:
        require_cluster(config, arguments.cluster)
    names = steps_to_run(arguments.words, config)
    merge_command = ""
    if arguments.proposal:
        merge_command = use_proposal(arguments, config)
        config, names = load(arguments.config), list(BUILD)
    if sandboxed:
        config, names = without_approvals(config, names, arguments.words)
    if "deploy" in names:
        select_deployed_chart(arguments, config)
    # A release is public and cannot be undone: it takes a word of its own, unless a step of it was
    # named alone.
    alone = arguments.release or len(names) <= 1
    held_back = [] if alone else [name for name in names if name in HELD_BACK]
    return RunPlan(config, names, held_back, sandboxed or bool(merge_command), merge_command)


def run_steps(plan: RunPlan, arguments: Namespace) -> tuple[dict[str, list[Outcome]], State]:
    """The outcomes of the steps that were run, and the state as the last of them had it."""
    state = open_state_file(plan.config, arguments)
    outcomes: dict[str, list[Outcome]] = {}
    code = 0
    with progress.clock() as begin:
        for name in plan.names:
            if name in plan.held_back or (
                code and name != "report" and not has_tagged_charts(name, outcomes)
            ):
                continue
            if name == "promote" and "tag_release" in outcomes:
                select_tagged_charts(arguments, outcomes["tag_release"])
            # A release believes other stores.
            state = open_state_file(plan.config, arguments, name)
            begin(name)
            # With --plan nothing is recorded: the steps after it would miss records that a real run
            # has.
            planned = {step for step, ended in outcomes.items() if any(map(is_planned, ended))}
            with job_log.section(system_of(os.environ), name):
                ended = run_one_step(
                    name, plan.config, state, arguments, local=plan.local, planned=planned
                )
            outcomes.setdefault(name, []).extend(ended)
            code = worst([code, *(outcome.exit_code for outcome in ended)])
    return outcomes, state


def next_action(code: int, held_back: Sequence[str], typed: Sequence[str]) -> str:
    """What to do after a run, "" after one that has nothing left to do; every command starts where
    this run ended, as what has passed is not done again.

    code: its exit code. held_back: steps that need --release. typed: its words and options.
    """
    command = shlex.join(["pipeline-steps", "run", *typed])
    if not code:
        again = release_command(typed)
        return f"stopped before {held_back[0]}; go on with: {again}" if held_back else ""
    if code == NotApproved.exit_code:
        return f"not approved yet; go on when it is, with: {command}"
    if code == Temporary.exit_code:
        return f"a passing problem; go on with: {command}"
    return f"correct that, then go on with: {command}"


def without_approvals(
    config: Config, names: Sequence[str], words: Sequence[str]
) -> tuple[Config, list[str]]:
    """The configuration and the steps of a run in the sandbox, where nobody is asked to approve:
    nothing leaves this machine. A step that was named by itself stays.
    """
    production = config.channels.production
    needs = tuple(need for need in production.requires if not need.startswith("approval"))
    kept = [name for name in names if name != "approval" or name in words]
    if needs != production.requires or kept != list(names):
        boundary.log.info(
            "in the sandbox no approval is asked for (--channels configured asks for it)"
        )
    production = msgspec.structs.replace(production, requires=needs)
    channels = msgspec.structs.replace(config.channels, production=production)
    return msgspec.structs.replace(config, channels=channels), kept


def has_tagged_charts(name: str, outcomes: Mapping[str, Sequence[Outcome]]) -> bool:
    """Whether promote has charts to release although tag_release refused others."""
    failed = {step for step, ended in outcomes.items() if any(outcome.error for outcome in ended)}
    tagged = [outcome for outcome in outcomes.get("tag_release", ()) if not outcome.error]
    return name == "promote" and failed == {"tag_release"} and bool(tagged)


def select_tagged_charts(arguments: Namespace, tagged: Sequence[Outcome]) -> None:
    """Let promote take the charts that tag_release tagged, when it refused any."""
    if any(outcome.error for outcome in tagged):
        arguments.chart = tuple(outcome.subject for outcome in tagged if not outcome.error)
        arguments.all, arguments.since, arguments.shard = False, None, None


def select_deployed_chart(arguments: Namespace, config: Config) -> None:
    """Let the steps before `deploy` be about what it deploys, unless the command line says more.

    Raises UsageError, ConfigurationError when it is not known which deployment is meant.
    """
    chart = place.find(config, arguments.deployment, arguments.cluster).deployment.chart
    if not (arguments.chart or arguments.all or arguments.since) and "://" not in chart:
        arguments.chart = (chart,)


def use_proposal(arguments: Namespace, config: Config) -> str:
    """Go into a checkout of the proposal, as a CI that builds its review; returns the command that
    merges it. Raises UsageError, and what asking the review system and the code host raises.
    """
    if arguments.words != ["public"] or arguments.release:
        raise UsageError(
            "--proposal checks and tests a merge proposal, and releases nothing",
            advice=f"write pipeline-steps run public --proposal {arguments.proposal}",
        )
    system = checking_out.required_system(config)
    checked_out = checking_out.check_out(config, system, system.review(arguments.proposal))
    boundary.log.info("%s: %s in %s", arguments.proposal, checked_out.revision, checked_out.start)
    arguments.config = tuple(Path(file).absolute() for file in arguments.config)
    if arguments.state:
        arguments.state = Path.cwd() / arguments.state
    os.environ.update(checked_out.build)
    os.chdir(checked_out.start)
    words = ("merge", "--review", arguments.proposal, "--revision", checked_out.revision)
    return shlex.join(["pipeline-steps", *words])


def use_sandbox(arguments: Namespace) -> bool:
    """Put the sandbox's overlay last among the configuration files where it applies. Raises
    MachineError.
    """
    if arguments.channels not in (None, "configured", "sandbox"):
        raise UsageError(
            f"--channels {arguments.channels} are no channels",
            advice="write configured or sandbox",
        )
    if arguments.channels == "configured" or (
        not arguments.channels and detect(os.environ).system != "terminal"
    ):
        return False
    file = overlay()
    if file is None:
        raise MachineError(
            "no sandbox is up",
            advice="run pipeline-steps sandbox up, or give --channels configured",
        )
    # Last: of several overlays the later wins, and the sandbox must not be overridden by a site.
    if file not in arguments.config:
        arguments.config = (*arguments.config, file)
    arguments.cluster = arguments.cluster or "sandbox"
    return True


def steps_to_run(words: Sequence[str], config: Config) -> list[str]:
    """The names of the steps. Raises UsageError for an unknown one, NotYet for one that cannot be
    run yet.
    """
    names = named_steps(words)
    if (
        any(need.startswith("approval") for need in config.channels.production.requires)
        and "promote" in names
        and "approval" not in names
    ):
        # Before the tag, as a tag says that the content may be released.
        names.insert(
            names.index("tag_release") if "tag_release" in names else names.index("promote"),
            "approval",
        )
    return names


def named_steps(words: Sequence[str]) -> list[str]:
    """The steps of the workflows and steps `words`. Raises UsageError for no words or unknown ones,
    NotYet.
    """
    if not words:
        raise UsageError(
            "no workflow or step to run is given",
            advice=f"name a workflow ({', '.join(WORKFLOWS)}) or steps",
        )
    names = [name for word in words for name in WORKFLOWS.get(word, (word,))]
    step_names = {command.name for command in command_names.STEPS}
    for name in names:
        if name not in step_names:
            raise UsageError(
                f"{name} is no workflow or step", advice="pipeline-steps list shows all"
            )
        if name not in STEPS:
            raise NotYet(
                f"{name} (part of run {' '.join(words)})",
                advice="run the other steps: this version has no such one",
            )
    return names


def run_one_step(
    name: str,
    config: Config,
    state: State,
    arguments: Namespace,
    *,
    local: bool,
    planned: Collection[str],
) -> list[Outcome]:
    """Run one step for all its subjects; says, and returns, what came of each.

    local: whether nothing leaves this machine: the sandbox, or a proposal that is only tried.
    planned: steps of this run that were only planned. What lacks their records is planned, too.
    """
    step, function = STEPS[name]
    # Options that `run` and the step have in common (--cluster) are passed on; the step's other
    # options have their defaults.
    option_defaults = {option.key: option.default for option in step.options}
    step_arguments = Namespace(**{**option_defaults, **vars(arguments)})
    # Its tags stay in the checkout.
    if name == "tag_release" and local:
        step_arguments.local = True
    if name == "report" and local:
        # At a terminal there is no review to report to: the page is for whoever runs this.
        step_arguments.output = config.root / ".pipeline" / "report"
    started = time.monotonic()
    outcomes = call_step(step, function, config, state, step_arguments)
    if needed := [step_name for step_name in step.reads if step_name in planned]:
        outcomes = [plan_after(needed, outcome) for outcome in outcomes]
    line = f"%s {name:<17} {time.monotonic() - started:5.1f} s  %s"
    for outcome in outcomes:
        boundary.log.info(line, _status_mark(outcome), _summary(outcome))
        if outcome.exit_code == boundary.BUG and outcome.error is not None:
            boundary.report_error(outcome.error)
        if arguments.json:
            print_records(outcome.records)
    return outcomes


def is_planned(outcome: Outcome) -> bool:
    """Whether a step said what it would do for a subject, and did nothing."""
    return outcome.summary.startswith(f"{outcome.subject}: planned")


def _status_mark(outcome: Outcome) -> str:
    """The mark of an outcome: ✗ also for a negative report, where the step itself succeeded."""
    verdicts = {record.outputs.get("verdict") for record in outcome.records[-1:]}
    return "✗" if outcome.error or "negative" in verdicts else "✓"


def _summary(outcome: Outcome) -> str:
    """The line about an outcome, its reference as people recognize it: whole it stands at the end."""
    text = outcome.summary
    for reference in outcome.references.values():
        text = text.replace(reference, short(reference))
    return text


def plan_after(steps: Sequence[str], outcome: Outcome) -> Outcome:
    """The outcome of a planned step which found that the records of these steps are missing."""
    if not isinstance(outcome.error, EvidenceError | UsageError):
        return outcome
    note = f"{outcome.subject}: planned after {', '.join(steps)} (now: {outcome.error})"
    return Outcome(outcome.subject, (), False, None, note)


def charts_with_content(
    outcomes: Mapping[str, Sequence[Outcome]], select: Callable[[], Sequence[str]]
) -> run_summary.Charts:
    """The charts that steps were called for, with the content they recorded last.

    outcomes: by step. select: asked for the selection when steps were called only for what is made
    of charts.
    """
    subjects = {name: STEPS[name][0].subjects for name in outcomes}
    if "charts" not in subjects.values():
        return dict.fromkeys(() if set(subjects.values()) <= {"none"} else select())
    contents: dict[str, str | None] = {}
    for name, step_outcomes in outcomes.items():
        for outcome in step_outcomes if subjects[name] == "charts" else ():
            if outcome.note:
                continue
            if outcome.subject != STORE or outcome.error is None:
                recorded = [record.content for record in outcome.records if record.content]
                contents[outcome.subject] = (
                    recorded[-1] if recorded else contents.get(outcome.subject)
                )
    return contents


def release_command(words: Sequence[str]) -> str:
    """The command that was typed, with --release.

    >>> release_command(["private", "--chart", "web", "--config", "my pipeline.yaml"])
    "pipeline-steps run private --chart web --config 'my pipeline.yaml' --release"
    """
    return shlex.join(["pipeline-steps", "run", *words, "--release"])


if __name__ == "__main__":
    raise SystemExit(main())
