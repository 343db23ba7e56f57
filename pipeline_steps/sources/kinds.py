"""Which version control system a folder or URL belongs to: the one table of implementations."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pipeline_steps.auth.hosts import Host
from pipeline_steps.sources import bzr, bzr_proposal, git, git_proposal, svn
from pipeline_steps.sources.proposal import Proposal, Target
from pipeline_steps.sources.source import Source, Tagged
from pipeline_steps.toolbox.errors import ConfigurationError, MachineError, UsageError

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://.+|[^/:@\s-][^/:@\s]*@[^/:\s]+:.+|(lp):.+")


class System(NamedTuple):
    """How a system is recognised and opened.

    name: as people write it.
    mark: path that every top folder of a checkout has, and no other folder.
    schemes: URL schemes (before any "+") that only this system uses.
    program, package: what is run, and Debian's package of it.
    is_bare: whether a folder is a repository without a checkout, which `bare` opens.
    mirror: opens a repository by URL; with a cache folder, and the logins of the configuration.
    top: the checkout's top folder for a folder in it, below the one with the mark.
    """

    name: str
    mark: str
    schemes: tuple[str, ...]
    program: str
    package: str
    checkout: Callable[[Path], Source]
    is_bare: Callable[[Path], bool]
    bare: Callable[[Path], Tagged]
    mirror: Callable[[str, Path, Mapping[str, Host]], Tagged]
    top: Callable[[Path, Path], Path] = lambda marked, _folder: marked


def open_source(
    path: Path, hosts: Mapping[str, Host] | None = None, svn_tags: str | None = None
) -> Source:
    """The checkout that contains the folder `path` (absolute); of checkouts in each other the
    innermost.

    Within `share_sources` the same one every time. hosts: logins for its server. svn_tags: as
    `release.svn_tags` has it. Raises ConfigurationError when there is none, or a folder is one of
    two systems.
    """
    for folder in (path, *path.parents):
        system = _system_of(folder)
        if system is not None:
            sources, top = _shared_sources.get(), system.top(folder, path)
            source = sources.open(system, top) if sources else system.checkout(top)
            if hosts is not None:
                source.hosts = hosts
            _set_tags_folder(source, svn_tags)
            return source
    raise ConfigurationError(
        "there is no checkout of git, Bazaar or Subversion here or above",
        where=str(path),
        advice=f"looked for {', '.join(_marks(SYSTEMS.values()))}; go into a checkout, or make one",
    )


def _set_tags_folder(source: Tagged, svn_tags: str | None) -> None:
    if svn_tags is None or not isinstance(source, (svn.Svn, svn.SvnRepository)):
        return
    folder = svn_tags.strip("/")
    if folder and not {"", ".", ".."}.isdisjoint(folder.split("/")):
        raise ConfigurationError(
            f"release.svn_tags, {svn_tags!r}, is no path of a folder in the repository",
            advice="write it from the repository's root, like releases or charts/releases",
        )
    source.tags_folder = folder


def _system_of(folder: Path) -> System | None:
    """The system whose checkout has the top folder `folder`."""
    systems = [system for system in SYSTEMS.values() if (folder / system.mark).exists()]
    if len(systems) > 1:
        # Which of them has the files that count is not ours to guess.
        raise ConfigurationError(
            f"the folder is a checkout of {' and of '.join(system.name for system in systems)} at once",
            where=str(folder),
            advice=f"move aside all of {', '.join(_marks(systems))} but one, or use two folders",
        )
    return systems[0] if systems else None


def _marks(systems: Iterable[System]) -> list[str]:
    return [system.mark.partition("/")[0] for system in systems]


@contextlib.contextmanager
def share_sources() -> Iterator[None]:
    """While this lasts `open_source` opens each checkout once, and what its source keeps open to be
    read stays open. Within another `share_sources` it changes nothing.
    """
    if _shared_sources.get():
        yield
        return
    with contextlib.ExitStack() as ends:
        token = _shared_sources.set(_SharedSources({}, ends))
        try:
            yield
        finally:
            _shared_sources.reset(token)


class _SharedSources(NamedTuple):
    """Sources by the top folders of their checkouts, and what ends what they keep open."""

    by_top: dict[Path, Source]
    ends: contextlib.ExitStack

    def open(self, system: System, top: Path) -> Source:
        if top not in self.by_top:
            self.by_top[top] = system.checkout(top)
            self.ends.enter_context(self.by_top[top].revisions)
        return self.by_top[top]


_shared_sources: ContextVar[_SharedSources | None] = ContextVar("shared_sources", default=None)


def is_top(folder: Path) -> bool:
    """Whether `folder` is the top folder of a checkout."""
    return _system_of(folder) is not None


def is_url(text: str) -> bool:
    """Whether `text` is a URL (https://…, ssh://…, user@host:path) and not a path."""
    return _URL.fullmatch(text) is not None


def open_tagged(
    name: str,
    cache: Path | None,
    hosts: Mapping[str, Host] | None = None,
    svn_tags: str | None = None,
) -> tuple[Tagged, str]:
    """The repository that a URL or a path (of a checkout, a folder in it, or a repository without
    one) names.

    cache: a folder that may be lost, for what is fetched from a URL; None: there is none. Returns the folder in it that
    the path leads to, too, "" for its top. Raises UsageError, ConfigurationError, and what
    asking the URL raises.
    """
    url = _URL.fullmatch(name)
    if url:
        kind = _kind_of_url(name, (url[1] or url[2] or "").partition("+")[0])
        if cache is None:
            raise MachineError(
                "there is no place to fetch the repository to: this account has no home",
                where=name,
                advice="set HOME or XDG_CACHE_HOME",
            )
        mirror = SYSTEMS[kind].mirror(name, cache / kind, hosts or {})
        _set_tags_folder(mirror, svn_tags)
        return mirror, ""
    place = Path(name).resolve()
    if not place.is_dir():
        advice = "name a checkout, a repository's folder or a URL"
        raise UsageError("there is no such folder", where=name, advice=advice)
    for system in SYSTEMS.values():
        if system.is_bare(place):
            bare = system.bare(place)
            _set_tags_folder(bare, svn_tags)
            return bare, ""
    source = open_source(place, hosts, svn_tags)
    folder = place.relative_to(source.root).as_posix()
    return source, "" if folder == "." else folder


def _kind_of_url(url: str, scheme: str) -> str:
    """The system of a URL: by its scheme, else by the repository in a local folder, else git."""
    for kind, system in SYSTEMS.items():
        if scheme in system.schemes:
            return kind
        place = Path(unquote(urlsplit(url).path)) if scheme == "file" else None
        if place and any(system.is_bare(folder) for folder in (place, *place.parents)):
            return kind
    return "git"


#: `source.Source.system` → how it is opened. A URL whose scheme is nobody's own is git's.
SYSTEMS: dict[str, System] = {
    "git": System("git", ".git", (), "git", "git", git.Git, git.is_bare, git.Git, git.mirror),
    "bzr": System(
        "Bazaar", ".bzr/checkout", ("bzr", "lp"), "brz", "brz",
        bzr.Bazaar, bzr.is_bare, bzr.Bazaar, bzr.mirror,
    ),
    "svn": System(
        "Subversion", ".svn", ("svn",), "svn", "subversion",
        svn.Svn, svn.is_bare, svn.bare, svn.mirror, svn.top,
    ),
}  # fmt: skip

#: `source.Source.system` → how proposals are checked out and merged; Subversion has none.
PROPOSALS: dict[str, Callable[[Path, Target], Proposal]] = {
    "git": git_proposal.GitProposal,
    "bzr": bzr_proposal.BazaarProposal,
}
