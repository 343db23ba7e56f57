"""`pipeline-steps run private [--release]`: the steps of a workflow, or named steps, one after the other, here.

    pipeline-steps run private
    pipeline-steps run private --release
    pipeline-steps run check build_image

Stops at the first step that fails (`report` still says why), and before tag_release unless --release is given.
Outside CI it uses the sandbox's endpoints (pipeline-steps sandbox up) unless --channels configured.
"""

from __future__ import annotations

import importlib
import os
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from types import ModuleType

from pipeline_steps.ci.build import detect
from pipeline_steps.cli import boundary, step
from pipeline_steps.cli.options import COMMON, Option, parse
from pipeline_steps.cli.selection import selected
from pipeline_steps.commands import chain, index
from pipeline_steps.commands.progress import Progress
from pipeline_steps.config.language import Config
from pipeline_steps.sandbox.sandbox import overlay
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import MachineError, NotYet, UsageError, worst

OPTIONS = (
    Option("release", "flag", "go on with tag_release and promote"),
    Option("channels", "text", "configured: use the configured channels outside CI, too; sandbox: the sandbox's"),
    Option("cluster", "text", "the cluster to test in"),
    *COMMON,
)
RELEASE = ("tag_release", "promote")
BUILD = ("check", "build_image", "snapshot", "integration_test", "report")
#: The steps of each workflow (workflows.md A-D). `approval` joins where production.requires names one.
WORKFLOWS = {
    "private": (*BUILD, *RELEASE),
    "official": (*BUILD, "approval", *RELEASE),
    "public": (*BUILD, "merge", "tag_release", "regenerate"),
    "direct": ("check", "build_image", "deploy"),
}


def main(argv: list[str] | None = None) -> int:
    """Returns the worst exit code of its steps."""

    def work() -> int:
        words = list(sys.argv[1:] if argv is None else argv)
        end = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
        arguments = parse("pipeline-steps run", __doc__ or "", OPTIONS, words[end:], os.environ)
        boundary.talk(quiet=arguments.quiet, verbose=arguments.verbose)
        boundary.handle_signals()
        os.environ.setdefault("PIPELINE_STEPS_RUN", f"run-{os.urandom(6).hex()}")
        sandboxed = use_sandbox(arguments)
        config = step.configuration(arguments)
        return run(steps(words[:end], config), config, arguments, words, sandboxed=sandboxed)

    return boundary.guarded(work)


def use_sandbox(arguments: Namespace) -> bool:
    """Put the sandbox's overlay last among the configuration files where it applies. Raises MachineError."""
    if arguments.channels not in (None, "configured", "sandbox"):
        raise UsageError(f"--channels {arguments.channels}: configured or sandbox")
    if arguments.channels == "configured" or (not arguments.channels and detect(os.environ).system != "terminal"):
        return False
    found = overlay()
    if found is None:
        raise MachineError(
            "no sandbox is up", advice="pipeline-steps sandbox up, or --channels configured for the configured ones"
        )
    if found not in arguments.config:
        arguments.config = (*arguments.config, found)
    arguments.cluster = arguments.cluster or "sandbox"
    return True


def steps(words: Sequence[str], config: Config) -> list[str]:
    """The names of the steps to run. Raises UsageError for an unknown one, NotYet for one that cannot be run yet."""
    if not words:
        raise UsageError("run what?", advice=f"a workflow ({', '.join(WORKFLOWS)}) or steps by name")
    names = [name for word in words for name in WORKFLOWS.get(word, (word,))]
    if any(need.startswith("approval") for need in config.channels.production.requires) and "promote" in names:
        names.insert(names.index("tag_release") if "tag_release" in names else names.index("promote"), "approval")
    known = {command.name: command for command in index.STEPS}
    for name in names:
        if name not in known:
            raise UsageError(f"{name}: no such workflow or step", advice="pipeline-steps list shows all")
        if not known[name].module:
            raise NotYet(f"{name} (part of run {' '.join(words)})")
    return names


def run(names: Sequence[str], config: Config, arguments: Namespace, words: Sequence[str], *, sandboxed: bool) -> int:
    """Run steps one after the other; after a failure only `report`. Returns the worst exit code.

    words: what was typed after `run`, for how to go on.
    """
    state = step.state_of(config, arguments)
    codes: list[int] = []
    done: list[tuple[str, list[step.Outcome]]] = []
    started = time.monotonic()
    held_back = [name for name in names if name in RELEASE] if not arguments.release and len(names) > 1 else []
    with Progress(quiet=arguments.quiet) as progress:
        for name in names:
            if name in held_back or (worst(codes) and name != "report"):
                continue
            state = step.state_of(config, arguments, name)  # a release believes other stores
            done.append((name, one(name, config, state, arguments, progress, sandboxed=sandboxed)))
            codes.append(worst([step.code(outcome) for outcome in done[-1][1]]))
    if not arguments.quiet:
        seconds = time.monotonic() - started
        chain.tell(config, state, about(done, lambda: selected(config, state, arguments)), seconds=seconds)
    if held_back and not worst(codes):
        boundary.log.info("stopped before %s; go on with: %s", held_back[0], go_on(words))
    return worst(codes)


def one(
    name: str,
    config: Config,
    state: State,
    arguments: Namespace,
    progress: Progress,
    *,
    sandboxed: bool,
) -> list[step.Outcome]:
    """Run one step for all its subjects, with progress; returns what came of each."""
    module = step_module(name)
    given = Namespace(**vars(arguments))
    for option in step.options_of(module):
        if not hasattr(given, option.key):
            setattr(given, option.key, {"flag": False, "texts": (), "paths": ()}.get(option.kind))
    if name == "tag_release" and sandboxed:
        given.local = True
    if name == "report" and sandboxed and not given.output:
        given.output = config.root / ".pipeline" / "report"
    progress.begin(name)
    outcomes = step.call(getattr(module, name), config, state, given)
    for outcome in outcomes:
        progress.outcome(outcome)
        if step.code(outcome) == boundary.BUG and outcome.error is not None:
            boundary.tell(outcome.error)
        if given.json:
            step.print_records(outcome)
    if not outcomes:
        progress.nothing()
    return outcomes


def about(done: Sequence[tuple[str, Sequence[step.Outcome]]], chosen: Callable[[], Sequence[str]]) -> chain.Charts:
    """The charts that steps were called for, with the content they recorded last.

    done: (step, its outcomes). chosen: the selection, asked when steps were called only for what is made of charts.
    """
    of_charts = [outcomes for name, outcomes in done if step.subjects_of(step_module(name)) == "charts"]
    if not of_charts:
        return dict.fromkeys(chosen() if {"build_image", "report"} & {name for name, _ in done} else ())
    found: dict[str, str | None] = {}
    for outcome in (each for outcomes in of_charts for each in outcomes):
        if outcome.subject != step.STORE or outcome.error is None:
            contents = [record.content for record in outcome.records if record.content]
            found[outcome.subject] = contents[-1] if contents else found.get(outcome.subject)
    return found


def step_module(name: str) -> ModuleType:
    return importlib.import_module(f"pipeline_steps.{name}")


def go_on(words: Sequence[str]) -> str:
    """The command that does what was typed and releases as well.

    >>> go_on(["private", "--chart", "web", "--config", "my pipeline.yaml"])
    "pipeline-steps run private --chart web --config 'my pipeline.yaml' --release"
    """
    return shlex.join(["pipeline-steps", "run", *words, "--release"])


if __name__ == "__main__":
    raise SystemExit(main())
