"""The chain of evidence at the end of `run`: content, images, snapshot, tests, tag, production, and what to type."""

from __future__ import annotations

import sys
from datetime import datetime

from pipeline_steps.core.config import Config
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State


def charts(state: State, run: str) -> list[str]:
    """The charts that the newest selection names, else those that have records of this run."""
    selections = state.find(step="selection")
    if selections:
        return [str(name) for name in selections[-1].parameters.get("charts", ())]
    return sorted({record.subject for record in state.records() if record.run == run and record.step == "snapshot"})


def tell(config: Config, state: State, names: list[str], *, seconds: float, sandboxed: bool) -> None:
    """Print the chain of every chart as a table, where things lie, and the helm commands to copy."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False, markup=False)
    for name in names:
        found = rows(state, name)
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
    where = config.root / ".pipeline"
    console.print(f"state: {state.path}\nJUnit: {where / 'junit'}\nlogs of failures: {where / 'failures'}")
    for name in names:
        for line in commands(config, state, name):
            console.print(line, soft_wrap=True)
    console.print(f"{seconds:.1f} s in all")


def rows(state: State, name: str) -> list[tuple[str, str, str]]:
    """(what, value, time) for each link of the chart's chain that has a standing record."""
    snapshots = state.find(step="snapshot", subject=name)
    if not snapshots:
        return [("snapshot", "none", "")]
    snapshot = snapshots[-1]
    found = [("content", snapshot.content or "", "")]
    images = [record for record in state.find(step="build_image") if record.id in snapshot.uses]
    found += [(f"image {record.subject}", record.outputs.get("image", ""), lasted(record)) for record in images]
    found.append(("snapshot chart", snapshot.outputs.get("chart", ""), lasted(snapshot)))
    for record in state.find(step="integration_test", subject=name, content=snapshot.content, result=None):
        if record.result not in ("started", "interrupted"):
            words = f"{record.parameters.get('scenario', '')} {record.parameters.get('values', '') or 'default values'}"
            found.append(("test", f"{record.result}  {words.strip()}", lasted(record)))
    for title, step in (("tag", "tag_release"), ("production", "promote")):
        for record in state.find(step=step, subject=name, content=snapshot.content)[-1:]:
            found += [(f"{title} {key}" if title != key else title, value, "") for key, value in record.outputs.items()]
            found[-1] = (*found[-1][:2], lasted(record))
    return found


def commands(config: Config, state: State, name: str) -> list[str]:
    """The helm commands that get the production chart; none when there is none, or only pages serve it to helm."""
    for record in state.find(step="promote", subject=name)[-1:]:
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
            return [f"helm install {name} {reference.partition('@')[0].removeprefix('file://')}"]
    return []


def _plain(config: Config, reference: str) -> bool:
    from pipeline_steps.oci.hosts import of

    return of(config.hosts, reference.removeprefix("oci://"))[1].plain_http


def lasted(record: Record) -> str:
    """How long a record's try took, like "1.4 s"."""
    if not record.finished:
        return ""
    start, end = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (record.started, record.finished))
    return f"{(end - start).total_seconds():.1f} s"
