"""Which charts a step is about, decided once for a build and recorded, so that all its steps agree
(docs/explanation/selection.md).

`decide` has the rules, from top to bottom: the first that applies counts.
"""

from __future__ import annotations

import functools
import os
from argparse import Namespace
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pipeline_steps.building.channels import Channel
from pipeline_steps.charts import paths
from pipeline_steps.ci.detect import Build, detect
from pipeline_steps.cli.options import Shard
from pipeline_steps.config.language import Config
from pipeline_steps.sources.source import short_revision
from pipeline_steps.state.origin import origin
from pipeline_steps.state.record import fingerprint
from pipeline_steps.state.state import State
from pipeline_steps.testing import helm_arguments, settings
from pipeline_steps.testing.requirements import required
from pipeline_steps.toolbox import clock
from pipeline_steps.toolbox.errors import ConfigurationError, UsageError
from pipeline_steps.workspace import tags
from pipeline_steps.workspace.checkout import Checkout, open_checkout

#: The step and the subject of a selection's record.
STEP = "selection"
#: (name, version) → whether that version is in the production channel.
IsPublished = Callable[[str, str], bool]


class SelectionRequest(NamedTuple):
    """What the command line asks for. since, tag: "" when not given. release: a step that releases,
    or run --release.

    Its fields are part of a selection's record and key.
    """

    charts: tuple[str, ...] = ()
    all: bool = False
    since: str = ""
    tag: str = ""
    release: bool = False


class Selection(NamedTuple):
    """The charts by name, and the rule that chose them."""

    charts: tuple[str, ...]
    reason: str


def selected_charts(
    config: Config, state: State, arguments: Namespace, *, releases: bool = False
) -> Selection:
    """The charts for a step's command line, those of its shard only; nothing is recorded with
    --plan.

    releases: of a step that is about what is not released yet.
    """
    options = vars(arguments)  # --tag is promote's, --release is run's
    request = SelectionRequest(
        charts=arguments.chart,
        all=arguments.all,
        since=arguments.since or "",
        tag=options.get("tag") or "",
        release=releases or bool(options.get("release")),
    )
    checkout = open_checkout(config)
    if request.tag:
        checkout = open_checkout(config, tags.require_tag(checkout.source, request.tag).revision)
    selection = select(
        checkout, state, request, detect(os.environ), _in_production(config), plan=arguments.plan
    )
    shard: Shard | None = arguments.shard
    if shard is None or not selection.charts:
        return selection
    charts = shard.part(selection.charts)
    return Selection(
        charts, selection.reason if charts else f"no chart in shard {shard.number}/{shard.total}"
    )


def select(
    checkout: Checkout,
    state: State,
    request: SelectionRequest,
    build: Build,
    is_published: IsPublished,
    *,
    plan: bool = False,
) -> Selection:
    """The selection recorded for this revision, these modifications, arguments and build; else a
    new one, recorded.

    Raises UsageError, ConfigurationError for a chart that does not exist, MachineError when history
    is missing.
    """
    key = _key(checkout, request, build)
    recorded = state.verdict(key)
    if recorded is not None and recorded.passed:
        return Selection(tuple(recorded.parameters["charts"]), recorded.reason or "")
    selection = decide(checkout, state, request, build, is_published)
    if not plan:
        _record(checkout, state, request, selection, key)
    return selection


def decide(
    checkout: Checkout,
    state: State,
    request: SelectionRequest,
    build: Build,
    is_published: IsPublished,
) -> Selection:
    """The selection by the rules; nothing is recorded. Raises as `select` does."""
    if sum((bool(request.charts), request.all, bool(request.since))) > 1:
        raise UsageError("--chart, --all and --since exclude each other", advice="give one of them")
    if request.charts:
        names = dict.fromkeys(checkout.require_chart(name) for name in request.charts)
        return _selection(names, "asked for by --chart")
    if request.all:
        # Charts that cannot be read are selected as well: the step names each as failed, where
        # leaving it out would look like success.
        return _selection((*checkout.readable_charts, *checkout.unreadable), "all charts (--all)")
    if request.since:
        return _selection(affected(checkout, request.since), f"changed since {request.since}")
    tag = request.tag or build.tag
    if tag:
        return released_by_tag(checkout, tag, is_published)
    if build.review:
        # Guessing the branch would leave out charts without a word.
        if not build.target:
            raise UsageError(
                f"the CI does not say where review {build.review} goes",
                advice="give --since BRANCH",
            )
        reason = f"changed by review {build.review} of {build.target}"
        return _selection(affected(checkout, build.target), reason)
    if request.release:
        return _not_released(checkout, is_published)
    return _not_tested(checkout, state)


def _not_released(checkout: Checkout, is_published: IsPublished) -> Selection:
    charts = [
        name for name in checkout.readable_charts if not is_released(checkout, name, is_published)
    ]
    charts += checkout.unreadable
    if not charts:
        return Selection((), "already done: every chart is released as it is checked out")
    return Selection(tuple(charts), "content that is not released")


def _not_tested(checkout: Checkout, state: State) -> Selection:
    checkout.readable_contents()  # the digests of all charts in one go
    state.load_evidence(
        content
        for chart in checkout.each_readable()
        for content in checkout.chart_and_image_contents(chart)
    )
    charts = [name for name in checkout.readable_charts if not has_passed(checkout, name, state)]
    charts += checkout.unreadable
    if not charts:
        return Selection((), _already_passed(checkout, state))
    return Selection(tuple(charts), "content without a passed test")


def _already_passed(checkout: Checkout, state: State) -> str:
    """Why no chart is left to test: all have passed, and when the last of them did."""
    contents = {chart.content for chart in checkout.each_readable()}
    finished = sorted(
        record.finished
        for record in state.records()
        if record.passed and record.content in contents and record.finished
    )
    last = f", the last at {finished[-1]}" if finished else ""
    return f"already done: every chart has passed as it is checked out{last} (--all takes them all)"


def _selection(charts: Iterable[str], reason: str) -> Selection:
    names = tuple(charts)
    return Selection(names, reason if names else "no chart affected")


def affected(checkout: Checkout, target: str) -> tuple[str, ...]:
    """The charts that changed since the merge base with `target`, or that stand on what did, in
    their order.
    """
    base = checkout.source.base(target)
    changed = {
        # Between revisions; what is changed and not committed comes from the checkout.
        *checkout.source.changed(base, checkout.revision, checkout.folder),
        *checkout.tree.modified,
    }
    if not changed:
        return ()
    # Nothing is read of the charts that nobody touched: there may be a thousand.
    charts = {
        name for name in checkout.readable_charts if _is_changed(checkout, base, name, changed)
    }
    # Entries of pipeline.yaml say what is packed and tested, too.
    if checkout.config_path in changed:
        before = open_checkout(checkout.config, base)
        every = _common_settings_differ(checkout, before)
        charts |= {
            name
            for name in checkout.readable_charts
            if name not in charts and (every or _entries_differ(checkout, before, name))
        }
    unreadable = [
        name
        for name, chart in checkout.unreadable.items()
        if any(paths.contains(chart.folder, path) for path in changed)
        or _was_readable(checkout, base, name)
    ]
    return (*(name for name in checkout.readable_charts if name in charts), *unreadable)


def _is_changed(checkout: Checkout, base: str, name: str, changed: set[str]) -> bool:
    """Whether one of these paths is in a chart's closure, or a values file that it is tested with.

    base: the revision since which they changed.
    """
    try:
        places = checkout.history_paths(name)
        values = helm_arguments.values_files(
            helm_arguments.entry_arguments(checkout.config, name, checkout.chart_entry(name))
        )
    except ConfigurationError:  # what the chart is made of cannot be told; the step names it
        if _was_readable(checkout, base, name):
            return True
        places, values = (checkout.chart_folder(name),), ()
    return not changed.isdisjoint(values) or any(
        paths.contains(place, path) for place in places for path in changed
    )


def _was_readable(checkout: Checkout, base: str, name: str) -> bool:
    """Whether a chart that cannot be read here could be at another revision: what it needs was
    removed since, which may lie outside of its folder.
    """
    try:
        return bool(open_checkout(checkout.config, base).history_paths(name))
    except ConfigurationError:
        return False


def _common_settings_differ(checkout: Checkout, before: Checkout) -> bool:
    """Whether the sections `tests` and `check`, which hold for all charts, change the keys of tests
    or checks.
    """
    if before.config_path not in before.tree.entries():
        return True
    tests, check = checkout.own_tests_and_check
    tests_before, check_before = before.own_tests_and_check
    return check != check_before or settings.settings_in_keys(tests) != settings.settings_in_keys(
        tests_before
    )


def _entries_differ(checkout: Checkout, before: Checkout, name: str) -> bool:
    """Whether what pipeline.yaml says of a chart changes its content, or the key of one of its
    tests; its files are the same.
    """
    if before.entries_text(name) == checkout.entries_text(name):
        return False
    content = checkout.chart_content_if_readable(name)
    if before.chart_content_if_readable(name) != content:
        return True
    if content is None:
        return False
    entries = (before.chart_entry(name), checkout.chart_entry(name))
    keys_before, keys = (settings.settings_in_keys(entry.tests) for entry in entries)
    return keys_before != keys


def released_by_tag(checkout: Checkout, tag: str, is_published: IsPublished) -> Selection:
    """The charts that the tag names; of a tag that names none, all there that are not published
    yet.

    Raises UsageError when another revision is checked out, or when the chart that the tag names has
    another version.
    """
    # None is no error: a CI may fetch just the revision that it builds, without tags.
    existing_tag = tags.find_tag(checkout.source, tag)
    if existing_tag is not None and existing_tag.revision != checkout.revision:
        message = (
            f"the tag {tag} names {short_revision(existing_tag.revision)}, checked out is "
            f"{short_revision(checkout.revision)}"
        )
        raise UsageError(message, advice=f"check out {tag}")
    names = tags.TagPattern(checkout.config.release.tag)
    charts = tags.charts_named(checkout, tag)
    if not charts and "{name}" in names.template:
        charts = tuple(name for name in checkout.unreadable if names.version(tag, name))
    if charts:
        return _selection(charts, f"released by the tag {tag}")
    missing = [
        name
        for name in checkout.readable_charts
        if not is_published(name, checkout.chart_version(name))
    ]
    missing += checkout.unreadable
    return _selection(missing, f"not yet published at the tag {tag}")


def is_released(checkout: Checkout, name: str, is_published: IsPublished) -> bool:
    """Is the chart's version tagged with this content, and published?"""
    tagged = tags.chart_at_tag(checkout, name)
    if tagged is None or not tagged.has_content(checkout.chart_content_if_readable(name)):
        return False
    return is_published(name, checkout.chart_version(name))


def has_passed(checkout: Checkout, name: str, state: State) -> bool:
    """Has all passed that a release of the chart requires?

    Approvals are left out: no step of a build makes them.
    """
    config = checkout.config
    needs = (
        need for need in config.channels.production.requires if not need.startswith("approval")
    )
    try:
        return required(
            checkout, checkout.chart(name), config, state, (*needs, settings.STEP)
        ).passed
    except ConfigurationError:  # not built yet, or a chart that cannot be read: the step says it
        return False


def _in_production(config: Config) -> IsPublished:
    """Asks the production channel, which is opened once and only when it is asked."""
    channel = functools.cache(lambda: Channel(config, "production"))
    return lambda name, version: channel().has_version(name, version)


def _key(checkout: Checkout, request: SelectionRequest, build: Build) -> str:
    """Revision, modifications, arguments and build; local changes by size and time: they are read
    again elsewhere.
    """
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
            "asked": request._asdict(),
            "build": [build.system, build.id, build.tag, build.review, build.target],
        }
    )


def _record(
    checkout: Checkout, state: State, request: SelectionRequest, selection: Selection, key: str
) -> None:
    time = clock.now()
    arguments = {name: value for name, value in request._asdict().items() if value}
    state.add(
        {
            "step": STEP,
            "subject": STEP,
            "key": key,
            "revision": checkout.revision,
            "parameters": {"charts": list(selection.charts), "asked": arguments},
            "outputs": {
                name: content
                for name in selection.charts
                if (content := checkout.chart_content_if_readable(name))
            },
            "result": "passed",
            "reason": selection.reason,
            "started": time,
            "finished": time,
            **origin(),
        }
    )
