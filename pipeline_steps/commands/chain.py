"""The chain of evidence at the end of `run`: content, images, snapshot, tests, tag, production, and what to type."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import unquote, urlsplit

from pipeline_steps.auth.hosts import of
from pipeline_steps.config.language import Config
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State

#: What a run was about: the charts → the content that its steps recorded, None when they recorded none.
Charts = Mapping[str, str | None]


def tell(config: Config, state: State, charts: Charts, *, seconds: float) -> None:
    """Print the chain of every chart as a table, where things lie, and the helm commands to copy."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False, markup=False)
    for name, content in charts.items():
        found = rows(state, name, content)
        if not sys.stderr.isatty():  # logs get whole lines: digests in them must be there to copy
            for what, value, time in found:
                console.print(f"{name}  {what:<18} {value}  {time}".rstrip(), soft_wrap=True)
            continue
        table = Table(title=name, title_justify="left", box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_column(no_wrap=True, justify="right")
        for row in found:
            table.add_row(*row)
        console.print(table)
    places = f"state: {state.path}\nJUnit: {state.folder / 'junit'}\nlogs of failures: {state.folder / 'failures'}"
    console.print(places, soft_wrap=True)  # a path that is folded cannot be copied
    for name, content in charts.items():
        for line in commands(config, state, name, content):
            console.print(line, soft_wrap=True)
    console.print(f"{seconds:.1f} s in all")


def rows(state: State, name: str, content: str | None = None) -> list[tuple[str, str, str]]:
    """(what, value, time) for each link of the chain of a content, else the newest, that has a standing record."""
    snapshots = _of(state, "snapshot", name, content)
    if not snapshots:
        return [*([("content", content, "")] if content else []), ("snapshot", "none", "")]
    snapshot = snapshots[-1]
    found = [("content", snapshot.content or "", "")]
    images = [record for record in state.find(step="build_image") if record.id in snapshot.uses]
    found += [(f"image {record.subject}", record.outputs.get("image", ""), lasted(record)) for record in images]
    found.append(("snapshot chart", snapshot.outputs.get("chart", ""), lasted(snapshot)))
    for record in state.find(step="integration_test", subject=name, content=snapshot.content, result=None):
        # A test of other images says nothing about this snapshot.
        if record.result not in ("started", "interrupted") and record.inputs == snapshot.inputs:
            words = f"{record.parameters.get('scenario', '')} {record.parameters.get('values', '') or 'default values'}"
            found.append(("test", f"{record.result}  {words.strip()}", lasted(record)))
    for title, step in (("tag", "tag_release"), ("production", "promote")):
        for record in state.find(step=step, subject=name, content=snapshot.content)[-1:]:
            found += [(f"{title} {key}" if title != key else title, value, "") for key, value in record.outputs.items()]
            found[-1] = (*found[-1][:2], lasted(record))
    return found


def _of(state: State, step: str, name: str, content: str | None) -> list[Record]:
    """What passed here about the content, None: any; the evidence stores are not asked for it."""
    return [record for record in state.find(step=step, subject=name) if content in (None, record.content)]


def commands(config: Config, state: State, name: str, content: str | None = None) -> list[str]:
    """The helm commands that get the production chart; none when there is none, or only pages serve it to helm."""
    for record in _of(state, "promote", name, content)[-1:]:
        reference = record.outputs["chart"]
        version = record.parameters.get("version", "")
        plain = " --plain-http" if _plain(config, reference) else ""
        if reference.startswith("oci://"):
            chart = reference.partition("@")[0].removesuffix(f":{str(version).replace('+', '_')}")
            return [
                f"helm pull {chart} --version {version}{plain}",
                f"helm install {name} {chart} --version {version}{plain}",
            ]
        if reference.startswith("file://"):
            return [shlex.join(["helm", "install", name, unquote(urlsplit(reference.partition("@")[0]).path)])]
    return []


def _plain(config: Config, reference: str) -> bool:
    return of(config.hosts, reference.removeprefix("oci://"))[1].plain_http


def lasted(record: Record) -> str:
    """How long a record's try took, like "1.4 s"."""
    if not record.finished:
        return ""
    start, end = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (record.started, record.finished))
    return f"{(end - start).total_seconds():.1f} s"
