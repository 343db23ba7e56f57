"""Which records in state files count for a build: never what the source tracks, and not what is
left of other builds.

Whoever may push could commit records, and a workspace may hold those of another build: neither is
evidence of what is built here (docs/decisions/0018).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline_steps.sources.kinds import open_source
from pipeline_steps.sources.source import Source
from pipeline_steps.state.origin import is_of_this_build
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from pipeline_steps.toolbox.wording import counted


def refuse_tracked(state: State) -> None:
    """Raises ConfigurationError for a state file, or a link to one, that the source stores at what
    is checked out, or would store with the next commit.

    Where there is no checkout nothing is tracked. Nothing is asked about files that are not there.
    """
    for path in state.state_files():
        if path.exists():
            refuse_tracked_file(path)


def refuse_tracked_file(path: Path) -> None:
    """As `refuse_tracked`, of one file that is there."""
    for place in _names_of_file(path):
        source = _source_if_any(place.parent)
        if source is not None and source.is_tracked(place.relative_to(source.root).as_posix()):
            raise ConfigurationError(
                "the source tracks this state file: evidence is never part of what it is about",
                where=str(path),
                advice=f"remove it from {source.system}, or name another file with --state",
            )


def _names_of_file(path: Path) -> Iterator[Path]:
    """Where a file is by its name, and behind links."""
    as_named, real = path.parent.absolute() / path.name, path.resolve()
    yield as_named
    if real != as_named:
        yield real


def _source_if_any(folder: Path) -> Source | None:
    try:
        return open_source(folder)
    except ConfigurationError:
        return None


def refuse_leftovers(state: State) -> None:
    """Raises EvidenceError when state files hold records of other builds than this one."""
    foreign_records = [record for record in state.records() if not is_of_this_build(record)]
    if foreign_records:
        first = foreign_records[0]
        raise EvidenceError(
            f"{counted(len(foreign_records), 'record here is', 'records here are')} not of this "
            f"build, like {first.id[7:19]} of "
            f"{first.step} {first.subject}",
            where=str(state.folder),
            advice="a tag is built in a clean workspace, or with an evidence store: see "
            "docs/how-to/evidence.md",
        )
