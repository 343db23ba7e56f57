"""Which source system a folder belongs to: the one table of implementations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline_steps.sources.git import Git
from pipeline_steps.sources.source import Source
from pipeline_steps.toolbox.errors import ConfigurationError, NotYet


def open_source(path: Path) -> Source:
    """The checkout that the folder `path` (absolute) belongs to: the nearest one above it.

    Raises ConfigurationError when there is none, NotYet for systems this version only recognises.
    """
    for folder in (path, *path.parents):
        for mark, implementation in SYSTEMS.items():
            if (folder / mark).exists():
                return implementation(folder)
    raise ConfigurationError(
        "no checkout of git, Bazaar or Subversion here or above",
        where=str(path),
        advice=f"looked for {', '.join(SYSTEMS)}; go into a checkout, or make one (git init)",
    )


def _git(root: Path) -> Source:
    return Git(root)


def _not_yet(system: str) -> Callable[[Path], Source]:
    def refuse(root: Path) -> Source:
        raise NotYet(f"{system} checkouts", where=str(root))

    return refuse


#: What lies in the top folder of a checkout → how it is opened.
SYSTEMS: dict[str, Callable[[Path], Source]] = {
    ".git": _git,
    ".bzr": _not_yet("Bazaar"),
    ".svn": _not_yet("Subversion"),
}
