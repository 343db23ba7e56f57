"""Table of all steps and commands, so that `list` and `--help` do not import them.

A test compares it with the modules and their docstrings.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from pipeline_steps.toolbox.redact import printable


class Entry(NamedTuple):
    """A step or command. module: "" when it is not implemented yet. purpose: one line."""

    name: str
    module: str
    purpose: str


def _step(name: str, purpose: str) -> Entry:
    return Entry(name, f"pipeline_steps.{name}", purpose)


def _command(name: str, purpose: str, module: str = "") -> Entry:
    return Entry(name, f"pipeline_steps.commands.{module or name}", purpose)


def _not_yet(name: str, purpose: str) -> Entry:
    return Entry(name, "", purpose)


STEPS = (
    _step("check", "lint and render each selected chart, run your own checks"),
    _step("build_image", "build and push the images of the selected charts"),
    _step("snapshot", "package each chart with its images' digests and publish it"),
    _step("integration_test", "install and test each snapshot in a cluster"),
    _step("report", "tell the review the verdict; page and JUnit"),
    _step("approval", "pass only when this content is approved"),
    _step("merge", "merge exactly the reviewed revision"),
    _step("tag_release", "tag the tested content for release"),
    _step("promote", "release what was tested, by digest"),
    _step("regenerate", "rebuild a chart repository from the tagged sources"),
    _step("deploy", "install a chart in a namespace and watch it"),
    _step("audit", "check a whole chart repository"),
    _step("verify", "check one chart's chain of evidence"),
    _not_yet("sweep", "remove snapshots and namespaces nobody needs"),
)
COMMANDS = (
    _command("init", "write a first pipeline.yaml"),
    _command("doctor", "say what this machine lacks"),
    _command("list", "say what there is to run", "command_names"),
    _command("state", "show, verify, join, pull the records, or make a page of them"),
    _command("sandbox", "registry, repository and cluster for this machine"),
    _command("run", "the steps of a workflow, one after the other"),
    _command("bump", "raise the version of charts in place"),
    _command("record", "make any program's result a record"),
    _command("reproduce", "run a recorded stage again and compare"),
)


def find(name: str) -> Entry | None:
    """The step or command called `name`, or None."""
    return next((entry for entry in (*STEPS, *COMMANDS) if entry.name == name), None)


def listing() -> str:
    """The text of `list` and `--help`."""
    lines = []
    for title, table in (("Steps", STEPS), ("Commands", COMMANDS)):
        lines.append(f"{title}:")
        lines += [
            f"  {name:<17} {purpose}{'' if module else ' (not yet)'}"
            for name, module, purpose in table
        ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """`pipeline-steps list`: every step and command with its purpose; 2 for any word behind it."""
    if argv and argv[0] not in ("-h", "--help"):
        unknown = f"{printable(argv[0])}: list takes no arguments"
        print(f"{unknown} (charts of a checkout: check --all --plan)", file=sys.stderr)
        return 2
    print(listing())
    return 0
