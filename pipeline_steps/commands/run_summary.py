"""The summary at the end of `run`: each chart's chain of evidence and helm commands for it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from pipeline_steps.auth.hosts import entry_for
from pipeline_steps.cli.step import Outcome
from pipeline_steps.config.language import Config
from pipeline_steps.reporting.chains import duration_text, released_snapshot
from pipeline_steps.reporting.rendering import short
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing.settings import LIBRARY
from pipeline_steps.toolbox import progress
from pipeline_steps.toolbox.redact import printable

#: The charts of a run → the content that its steps recorded, None when they recorded none.
Charts = Mapping[str, str | None]


def print_chains(
    config: Config,
    state: State,
    charts: Charts,
    outcomes: Iterable[Outcome] = (),
    *,
    seconds: float,
) -> None:
    """Print the chain of every chart, the paths of state and logs, and helm commands to copy.

    Each reference is printed whole once. outcomes: of the run's steps; references that no chain has
    are printed, too.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False, markup=False)
    above: set[str] = set()
    for name, content in charts.items():
        links = [_shortened(link, above) for link in chain_rows(state, name, content)]
        if not progress.is_watched(
            sys.stderr
        ):  # no table in logs: it would wrap digests, which are copied
            for link, value, time in links:
                console.print(
                    printable(f"{name}  {link:<18} {value}  {time}".rstrip()), soft_wrap=True
                )
            continue
        table = Table(title=name, title_justify="left", box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_column(no_wrap=True, justify="right")
        for row in links:
            table.add_row(*map(printable, row))
        console.print(table)
    for outcome in outcomes:
        for link, reference in outcome.references.items():
            if reference not in above:
                above.add(reference)
                console.print(
                    printable(f"{outcome.subject}  {link:<18} {reference}"), soft_wrap=True
                )
    failures = state.folder / "failures"
    places = f"state: {state.path}\nJUnit: {state.folder / 'junit'}"
    places += f"\nlogs of failures: {failures}" if failures.is_dir() else ""
    console.print(printable(places), soft_wrap=True)  # a path that is folded cannot be copied
    for name, content in charts.items():
        for line in helm_commands(config, state, name, content):
            console.print(printable(line), soft_wrap=True)
    console.print(f"{seconds:.1f} s in all")


def _shortened(link: tuple[str, str, str], above: set[str]) -> tuple[str, str, str]:
    """A link with its reference as people recognize it where it stands above; else that is added."""
    title, value, time = link
    if value in above:
        return title, short(value), time
    if "@" in value:
        above.add(value)
    return link


def chain_rows(state: State, name: str, content: str | None = None) -> list[tuple[str, str, str]]:
    """(link, value, time) for each link that has a current record.

    content: the chart's content; None for the one of the newest snapshot.
    """
    snapshots = _passed(state, "snapshot", name, content)
    if snapshots and content is None:
        content = snapshots[-1].content
    tests = state.find(step="integration_test", subject=name, content=content, result=None)
    tests = [test for test in tests if test.result not in ("started", "interrupted")]
    builds = state.find(step="build_image")
    of_content = [record for record in snapshots if record.content == content]
    snapshot = released_snapshot(of_content, [*builds, *tests], state.preferred)
    if snapshot is None:
        links = [*([("content", content, "")] if content else []), ("snapshot", "none", "")]
        return [*links, *_deployed(state, name, content)]
    links = [("content", content or "", "")]
    images = [record for record in builds if record.id in snapshot.uses]
    links += [
        (f"image {record.subject}", record.outputs.get("image", ""), duration_text(record))
        for record in images
    ]
    links.append(("snapshot chart", snapshot.outputs.get("chart", ""), duration_text(snapshot)))
    for record in tests:
        # A test of other images says nothing about this snapshot.
        if record.inputs == snapshot.inputs:
            values = record.parameters.get("values", "") or "default values"
            scenario = f"{record.parameters.get('scenario', '')} {values}".strip()
            links.append(("test", f"{record.result}  {scenario}", duration_text(record)))
    for title, step in (("tag", "tag_release"), ("production", "promote")):
        for record in state.preferred(
            state.find(step=step, subject=name, content=snapshot.content)
        )[:1]:
            links += [
                (f"{title} {key}" if title != key else title, value, "")
                for key, value in record.outputs.items()
            ]
            links[-1] = (*links[-1][:2], duration_text(record))
    return [*links, *_deployed(state, name, snapshot.content)]


def _deployed(state: State, name: str, content: str | None) -> list[tuple[str, str, str]]:
    """A link for each deploy of this content that counts."""
    return [
        ("deployed", record.outputs["release"], duration_text(record))
        for record in _passed(state, "deploy", name, content)
        if "release" in record.outputs
    ]


def _passed(state: State, step: str, name: str, content: str | None) -> list[Record]:
    """The loaded passed records of a content (None: of any); evidence stores are not read."""
    return [
        record
        for record in state.find(step=step, subject=name)
        if content in (None, record.content)
    ]


def helm_commands(config: Config, state: State, name: str, content: str | None = None) -> list[str]:
    """helm commands for the production chart; none without a release in a registry or a folder."""
    for record in state.preferred(_passed(state, "promote", name, content))[:1]:
        reference = record.outputs["chart"]
        version = record.parameters.get("version", "")
        host = entry_for(config.hosts, reference.removeprefix("oci://"))[1]
        plain = " --plain-http" if host.plain_http else ""
        if reference.startswith("oci://"):
            chart = reference.partition("@")[0].removesuffix(f":{str(version).replace('+', '_')}")
            install = f"helm install {name} {chart} --version {version}{plain}"
            pull = f"helm pull {chart} --version {version}{plain}"
            return [pull] if _is_library(state, record) else [pull, install]
        if reference.startswith("file://") and not _is_library(state, record):
            return [
                shlex.join(
                    ["helm", "install", name, unquote(urlsplit(reference.partition("@")[0]).path)]
                )
            ]
    return []


def _is_library(state: State, released: Record) -> bool:
    """Whether helm cannot install the chart of a release, because it is of `type: library`."""
    tests = state.find(step="integration_test", subject=released.subject, content=released.content)
    return any(test.parameters.get("none") == LIBRARY for test in tests)
