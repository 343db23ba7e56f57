"""Rewrite a chart with another version and other values, with a record of each change.

Snapshots are made from the sources this way, and releases from tested snapshots. Undoing the
recorded changes must give the tested tar digest again, so the production archive and the changes
prove that nothing else changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline_steps.charts import archive, edit
from pipeline_steps.charts.archive import Archive, Files
from pipeline_steps.charts.edit import Change
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import EvidenceError


class Rewritten(NamedTuple):
    """A rewritten chart and the changes that `verify_rewrite` undoes."""

    archive: Archive
    changes: tuple[Change, ...]


def rewrite(
    files: Files, version: str, edits: Mapping[str, Mapping[str, str]], where: str = ""
) -> Rewritten:
    """The chart with another version and other values.

    Args:
        files: unpacked, or collected from a source.
        version: the new version.
        edits: file → key → value, see `edit.apply`.
        where: path of the chart, for errors.

    Raises:
        ConfigurationError: see `edit.apply`.
    """
    values: dict[str, dict[str, str]] = {"Chart.yaml": {"version": version}}
    for file, edited in edits.items():
        values.setdefault(file, {}).update(edited)
    rewritten, changes = edit.apply(files, values, where)
    return Rewritten(archive.pack(rewritten, files.executables, where), changes)


def verify_rewrite(
    production: bytes, changes: Iterable[Change], tested_digest: str, where: str = ""
) -> None:
    """Check that undoing `changes` in the production archive gives the tested tar digest.

    Raises EvidenceError.
    """
    files = archive.unpack(production, where)
    undone = archive.pack(edit.undo(files, changes), files.executables, where)
    if undone.tar_digest != tested_digest:
        problem = (
            f"undoing the recorded changes gives {undone.tar_digest}, tested was {tested_digest}"
        )
        raise EvidenceError(
            problem,
            where=where,
            advice="build it again from the tested one: this chart was not derived from it",
        )


def replaced_values(changes: Iterable[Change]) -> tuple[tuple[str, str], ...]:
    """The values before and after each change, without quotes: what may differ between
    renderings.
    """
    return tuple((_value(change.old), _value(change.new)) for change in changes)


def _value(yaml_text: str) -> str:
    # An alias has no text of its own that could appear in a rendering.
    if yaml_text.startswith("*"):
        return ""
    _, node = yaml_reader.parse(yaml_text.encode(), "")
    return node.value if isinstance(node, yaml_reader.Scalar) else ""
