"""Which charts a step is about (design.md §2), decided once for a build and recorded, so that all its steps agree.

--chart, --all and --since say so; a tag build is about what its tag releases; a review about what it changes, with
all that stands on it; anything else about what has not passed its tests yet, and, where a release is asked for, about
what is not released yet.
"""

from __future__ import annotations

import functools
import glob
import logging
import os
import re
from argparse import Namespace
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from pipeline_steps.charts import paths
from pipeline_steps.ci.build import Build, detect
from pipeline_steps.cli.options import Shard
from pipeline_steps.config.language import Config, named, several
from pipeline_steps.release import proof
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.state.attempt import origin
from pipeline_steps.state.record import Record, fingerprint
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import clock
from pipeline_steps.toolbox.errors import EvidenceError, NotYet, UsageError
from pipeline_steps.workspace.checkout import Checkout, opened

if TYPE_CHECKING:
    from pipeline_steps.repositories.repository import Repository

STEP = "selection"
NOTHING = "no chart affected"
#: (name, version) → whether that version is in the production channel.
IsPublished = Callable[[str, str], bool]

log = logging.getLogger(__name__)


class Selection(NamedTuple):
    """The charts by name, and the rule that chose them."""

    charts: tuple[str, ...]
    reason: str


class Asked(NamedTuple):
    """What the command line says. since, tag: "" when not given. release: a step that releases, or run --release."""

    charts: tuple[str, ...] = ()
    all: bool = False
    since: str = ""
    tag: str = ""
    release: bool = False


def selected(config: Config, state: State, arguments: Namespace, *, releases: bool = False) -> tuple[str, ...]:
    """The charts for a step's command line, those of its shard only; nothing is recorded with --plan.

    releases: of a step that is about what is not released yet.
    """
    build = detect(os.environ)
    asked = Asked(
        arguments.chart,
        arguments.all,
        arguments.since or "",
        getattr(arguments, "tag", None) or "",
        releases or bool(getattr(arguments, "release", False)),
    )
    checkout = opened(config, _tagged(opened(config), asked.tag) if asked.tag else None)
    selection = select(checkout, state, asked, build, _published(config), plan=arguments.plan)
    if not selection.charts:
        log.info("%s", selection.reason)
    shard: Shard | None = arguments.shard
    return shard.part(selection.charts) if shard else selection.charts


def select(
    checkout: Checkout, state: State, asked: Asked, build: Build, published: IsPublished, *, plan: bool = False
) -> Selection:
    """The selection recorded for this revision, these modifications, arguments and build; else a new one, recorded.

    Raises UsageError, ConfigurationError for a chart that does not exist, MachineError when history is missing.
    """
    key = _key(checkout, asked, build)
    former = state.verdict(key)
    if former is not None and former.passed:
        return Selection(tuple(former.parameters["charts"]), former.reason or "")
    selection = decide(checkout, state, asked, build, published)
    if not plan:
        _record(checkout, state, asked, selection, key)
    return selection


def decide(checkout: Checkout, state: State, asked: Asked, build: Build, published: IsPublished) -> Selection:
    """The selection by the rules, nothing recorded."""
    if sum((bool(asked.charts), asked.all, bool(asked.since))) > 1:
        raise UsageError("--chart, --all and --since exclude each other")
    tag = asked.tag or build.tag
    if asked.charts:
        return Selection(tuple(dict.fromkeys(checkout.known(name) for name in asked.charts)), "asked for by --chart")
    if asked.all:
        return _selection(checkout.charts, "all charts (--all)")
    if asked.since:
        return _selection(affected(checkout, asked.since), f"changed since {asked.since}")
    if tag:
        return _of_tag(checkout, tag, published)
    if build.review:
        if not build.target:
            raise UsageError(f"the CI does not say where review {build.review} goes", advice="give --since BRANCH")
        return _selection(affected(checkout, build.target), f"changed by review {build.review} of {build.target}")
    if asked.release:
        charts = [name for name in checkout.charts if not released(checkout, name, published)]
        return _selection(charts, "content that is not released")
    state.about(checkout.contents().values())
    untested = [name for name in checkout.charts if not tested(checkout, name, state)]
    return _selection(untested, "content without a passed test")


def affected(checkout: Checkout, target: str) -> tuple[str, ...]:
    """The charts whose content differs from the merge base with `target`, in the order of the checkout."""
    base = checkout.source.base(target)
    changed = {*checkout.source.changed(base, checkout.revision, checkout.folder), *checkout.tree.modified}
    if not changed:
        return ()
    contents = checkout.contents()
    found = {name for name, chart in checkout.charts.items() if _touched(chart.places, changed)}
    if checkout.written_in in changed:
        former = opened(checkout.config, base)
        found |= {name for name in contents if name not in found and contents[name] != former.content_of(name)}
    return tuple(name for name in contents if name in found)


def tested(checkout: Checkout, name: str, state: State) -> bool:
    """Has every scenario that a release of the chart would need passed, with images that stand?"""
    try:
        return bool(proof.candidates(checkout, checkout.chart(name), checkout.config, state))
    except (EvidenceError, NotYet):
        return False


def released(checkout: Checkout, name: str, published: IsPublished) -> bool:
    """Is the chart's version tagged with this content and published?"""
    version = checkout.version(name)
    revision = _tagged(checkout, named(checkout.config.release.tag, name, version), known=False)
    if not revision or opened(checkout.config, revision).content_of(name) != checkout.content_of(name):
        return False
    return published(name, version)


def _selection(charts: Iterable[str], reason: str) -> Selection:
    names = tuple(charts)
    return Selection(names, reason if names else NOTHING)


def _of_tag(checkout: Checkout, tag: str, published: IsPublished) -> Selection:
    """What a tag releases: the charts it names, or all there that are not released yet."""
    commit = _tagged(checkout, tag, known=False)
    if commit not in ("", checkout.revision):
        message = f"the tag {tag} names {commit[:12]}, checked out is {checkout.revision[:12]}"
        raise UsageError(message, advice=f"check out {tag}")
    versions = {name: checkout.version(name) for name in checkout.charts}
    template = checkout.config.release.tag
    charts = [name for name, version in versions.items() if named(template, name, version) == tag]
    if charts:
        return Selection(tuple(charts), f"released by the tag {tag}")
    for name, version in versions.items():
        before, _, after = named(template, name, "\0").partition("\0")
        if "{name}" in template and re.fullmatch(rf"{re.escape(before)}\d+\.\d+\.\d+.*{re.escape(after)}", tag):
            message = f"the tag {tag} names the chart {name}, whose version there is {version}"
            raise UsageError(message, advice="tag the revision with that version, or correct Chart.yaml")
    missing = [name for name, version in versions.items() if not published(name, version)]
    return _selection(missing, f"not yet published at the tag {tag}")


def _tagged(checkout: Checkout, tag: str, *, known: bool = True) -> str:
    """The revision of a tag; "" when it is not known here and need not be (a CI may fetch just its commit)."""
    found = checkout.source.tags(glob.escape(tag)).get(tag)
    if found is None and known:
        raise UsageError(f"there is no tag {tag!r} here", advice="git fetch --tags origin, or correct it")
    return found.revision if found else ""


def _touched(places: Iterable[str], changed: set[str]) -> bool:
    return any(paths.holds(place, path) for place in places for path in changed)


def _key(checkout: Checkout, asked: Asked, build: Build) -> str:
    """Revision, modifications, arguments and build; local changes by size and time: they are read again elsewhere."""
    modified = []
    for path in checkout.tree.modified:
        place = checkout.config.root / path
        stat = place.lstat() if place.is_symlink() or place.exists() else None
        modified.append([path, stat.st_size if stat else -1, stat.st_mtime_ns if stat else -1])
    return fingerprint(
        {
            "step": STEP,
            "format": 1,
            "revision": checkout.revision,
            "modified": modified,
            "asked": asked._asdict(),
            "build": [build.system, build.id, build.tag, build.review, build.target],
        }
    )


def _record(checkout: Checkout, state: State, asked: Asked, selection: Selection, key: str) -> Record:
    now = clock.now()
    parameters = {"charts": list(selection.charts), "asked": {k: v for k, v in asked._asdict().items() if v}}
    return state.add(
        {
            "step": STEP,
            "subject": STEP,
            "key": key,
            "revision": checkout.revision,
            "parameters": parameters,
            "outputs": {name: checkout.charts[name].content for name in selection.charts},
            "result": "passed",
            "reason": selection.reason,
            "started": now,
            "finished": now,
            **origin(),
        }
    )


def _published(config: Config) -> IsPublished:
    """Whether the authoritative production repository, opened once, has a version; asked from the network."""

    @functools.cache
    def repository() -> Repository:
        urls = several(config.channels.production.charts)
        if not urls:
            raise UsageError(
                "a global tag releases what is not published yet, but there is no production channel",
                where=config.where("channels"),
                advice="name it in channels.production.charts, or give --chart",
            )
        return open_repository(urls[0], config.hosts)

    return lambda name, version: repository().standing(name, version) is not None
