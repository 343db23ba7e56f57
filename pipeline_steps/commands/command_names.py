"""Table of all steps and commands, so that `list` and `--help` do not import them.

A test compares it with the modules and their docstrings.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A step or command. module: "" when it is not implemented yet. purpose: one line."""

    name: str
    module: str
    purpose: str


STEPS = (
    Entry(
        "check", "pipeline_steps.check", "lint and render each selected chart, run your own checks"
    ),
    Entry(
        "build_image",
        "pipeline_steps.build_image",
        "build and push the images of the selected charts",
    ),
    Entry(
        "snapshot",
        "pipeline_steps.snapshot",
        "package each chart with its images' digests and publish it",
    ),
    Entry(
        "integration_test",
        "pipeline_steps.integration_test",
        "install and test each snapshot in a cluster",
    ),
    Entry("report", "pipeline_steps.report", "write the verdict: page and JUnit"),
    Entry("approval", "", "pass only when the review is approved for this content"),
    Entry("merge", "", "merge exactly the reviewed revision"),
    Entry("tag_release", "pipeline_steps.tag_release", "tag the tested content for release"),
    Entry("promote", "pipeline_steps.promote", "release what was tested, by digest"),
    Entry(
        "regenerate",
        "pipeline_steps.regenerate",
        "rebuild a chart repository from the tagged sources",
    ),
    Entry("deploy", "pipeline_steps.deploy", "install a chart in a namespace and watch it"),
    Entry("audit", "pipeline_steps.audit", "check a whole chart repository"),
    Entry("verify", "pipeline_steps.verify", "check one chart's chain of evidence"),
    Entry("sweep", "", "remove snapshots and namespaces nobody needs"),
)
COMMANDS = (
    Entry("init", "pipeline_steps.commands.init", "write a first pipeline.yaml"),
    Entry("doctor", "pipeline_steps.commands.doctor", "say what this machine lacks"),
    Entry("list", "pipeline_steps.commands.command_names", "say what there is to run"),
    Entry(
        "state",
        "pipeline_steps.commands.state",
        "show, verify, join, pull the records, or make a page of them",
    ),
    Entry(
        "sandbox",
        "pipeline_steps.commands.sandbox",
        "registry, repository and cluster for this machine",
    ),
    Entry("run", "pipeline_steps.commands.run", "the steps of a workflow, one after the other"),
    Entry("bump", "pipeline_steps.commands.bump", "raise the version of charts in place"),
    Entry("record", "pipeline_steps.commands.record", "make any program's result a record"),
    Entry(
        "reproduce", "pipeline_steps.commands.reproduce", "run a recorded stage again and compare"
    ),
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
    """`pipeline-steps list`: every step and command with its purpose."""
    print(listing())
    return 0
