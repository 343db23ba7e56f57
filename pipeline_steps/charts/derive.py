"""The production chart out of the tested one: some values replaced, each recorded, and provably nothing else.

Undoing the changes gives the tested tar digest again; the proof needs the production archive and the changes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline_steps.charts import archive, edit
from pipeline_steps.charts.archive import Archive, Files
from pipeline_steps.charts.edit import Change
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import EvidenceError


class Derived(NamedTuple):
    """A derived chart and the changes that undo it."""

    archive: Archive
    changes: tuple[Change, ...]


def derive(files: Files, version: str, edits: Mapping[str, Mapping[str, str]], where: str = "") -> Derived:
    """The chart with another version and other values.

    files: unpacked, or gathered from a source. edits: file → key → value, see `edit.apply`.
    Raises ConfigurationError.
    """
    wanted: dict[str, dict[str, str]] = {"Chart.yaml": {"version": version}}
    for file, values in edits.items():
        wanted.setdefault(file, {}).update(values)
    edited, changes = edit.apply(files, wanted, where)
    return Derived(archive.pack(edited, files.executables, where), changes)


def prove(production: bytes, changes: Iterable[Change], tested: str, where: str = "") -> None:
    """See that undoing `changes` in the production archive gives the tested tar digest. Raises EvidenceError."""
    files = archive.unpack(production, where)
    undone = archive.pack(edit.undo(files, changes), files.executables, where)
    if undone.tar_digest != tested:
        what = f"undoing the recorded changes gives {undone.tar_digest}, tested was {tested}"
        raise EvidenceError(what, where=where, advice="this chart was not derived from the tested one")


def replaced(changes: Iterable[Change]) -> tuple[tuple[str, str], ...]:
    """The values before and after each change, without quotes: what may differ when both charts are rendered."""
    return tuple((_value(change.old), _value(change.new)) for change in changes)


def _value(written: str) -> str:
    if written.startswith("*"):
        return ""
    _, node = yaml_reader.parse(written.encode(), "")
    return node.value if isinstance(node, yaml_reader.Scalar) else ""
