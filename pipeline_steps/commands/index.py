"""Every name `pipeline-steps` knows, as a static table: `list` and `--help` import nothing else.

A test compares it with the modules and their docstrings, so it cannot drift.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """name: as typed. module: what runs it, "" when this version cannot yet. purpose: one line."""

    name: str
    module: str
    purpose: str


STEPS = (
    Command("check", "pipeline_steps.check", "lint, schema, version policy of each selected chart"),
    Command("build_image", "pipeline_steps.build_image", "build and push the images of the selected charts"),
    Command("snapshot", "pipeline_steps.snapshot", "package each chart with its images' digests and publish it"),
    Command("integration_test", "pipeline_steps.integration_test", "install and test each snapshot in a cluster"),
    Command("report", "pipeline_steps.report", "write the verdict: page and JUnit"),
    Command("approval", "", "pass only when the review is approved for this content"),
    Command("merge", "", "merge exactly the reviewed revision"),
    Command("tag_release", "pipeline_steps.tag_release", "tag the tested content for release"),
    Command("promote", "pipeline_steps.promote", "release what was tested, by digest"),
    Command("regenerate", "pipeline_steps.regenerate", "rebuild a chart repository from the tagged sources"),
    Command("deploy", "", "install a chart from the checkout and watch it"),
    Command("audit", "pipeline_steps.audit", "check a whole chart repository"),
    Command("verify", "pipeline_steps.verify", "check one chart's chain of evidence"),
    Command("sweep", "", "remove snapshots and namespaces nobody needs"),
)
COMMANDS = (
    Command("init", "pipeline_steps.commands.init", "write a first pipeline.yaml"),
    Command("doctor", "pipeline_steps.commands.doctor", "say what this machine lacks"),
    Command("list", "pipeline_steps.commands.index", "say what there is to run"),
    Command("state", "pipeline_steps.commands.state", "show, verify, join, pull the records, or make a page of them"),
    Command("sandbox", "pipeline_steps.commands.sandbox", "registry, repository and cluster for this machine"),
    Command("run", "pipeline_steps.commands.run", "the steps of a workflow, one after the other"),
    Command("bump", "", "raise the version of charts in place"),
    Command("record", "pipeline_steps.commands.record", "make any program's result a record"),
    Command("reproduce", "pipeline_steps.commands.reproduce", "run a recorded stage again and compare"),
)


def find(name: str) -> Command | None:
    """The command called `name`, or None."""
    return next((command for command in (*STEPS, *COMMANDS) if command.name == name), None)


def listing() -> str:
    """What `list` and `--help` print."""
    lines = []
    for title, table in (("Steps", STEPS), ("Commands", COMMANDS)):
        lines.append(f"{title}:")
        lines += [f"  {name:<17} {purpose}{'' if module else ' (not yet)'}" for name, module, purpose in table]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """`pipeline-steps list`: every step and command with its purpose."""
    print(listing())
    return 0
