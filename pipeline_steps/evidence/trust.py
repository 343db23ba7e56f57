"""Which evidence stores a step reads and writes (docs/explanation/trust.md#whose-records-count).

Ordinary builds read and write `evidence`. A release (the build of a tag; tag_release, promote,
audit and verify anywhere) trusts only the stores of `channels.production.evidence`, which are the
same when nothing else is said.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.ci.detect import detect
from pipeline_steps.config.language import Config, as_tuple
from pipeline_steps.evidence.kinds import open_store
from pipeline_steps.evidence.state_files import refuse_leftovers, refuse_tracked
from pipeline_steps.evidence.store import Store
from pipeline_steps.evidence.stores import Stores
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.state.origin import is_of_this_build
from pipeline_steps.state.state import FILE, FOLDER, State
from pipeline_steps.toolbox.errors import ConfigurationError

#: Steps that make the checks of a release, or ask about one, wherever they run.
RELEASING = frozenset({"tag_release", "promote", "audit", "verify"})
#: Those of them that people run who may not write to a store: their records stay in the state file.
READ_ONLY = frozenset({"audit", "verify"})


class StoreUrls(NamedTuple):
    """read: the stores whose records count. write: where new records go, "" for nowhere."""

    read: tuple[str, ...]
    write: str


def store_urls(config: Config, step: str, *, is_tag_build: bool) -> StoreUrls:
    """The evidence stores that a step reads and writes.

    The build of a tag writes to `evidence` when releases trust that store, else to the first one
    that they trust: a release must find the records again.
    """
    build_store, trusted = config.evidence or "", config.channels.production.evidence or ()
    if not is_tag_build and step not in RELEASING:
        return StoreUrls((build_store,) if build_store else (), build_store)
    write = build_store
    # A release finds only records in stores that it trusts.
    if trusted and (not build_store or (is_tag_build and build_store not in trusted)):
        write = trusted[0]
    return StoreUrls(trusted, write)


def open_stores_for(config: Config, step: str, *, write: bool) -> Stores | None:
    """The evidence stores of a step, None when there are none. write: False to read only.

    Raises ConfigurationError.
    """
    trusted = store_urls(config, step, is_tag_build=bool(detect(os.environ).tag))
    if not write or step in READ_ONLY:
        trusted = trusted._replace(write="")
    return open_stores(config, trusted) if any(trusted) else None


def open_all_read_stores(config: Config) -> Stores:
    """Every store that this build may read, for reading only.

    Raises ConfigurationError when there is none.
    """
    trusted = config.channels.production.evidence or ()
    read_urls = tuple(
        dict.fromkeys(
            (*store_urls(config, "", is_tag_build=bool(detect(os.environ).tag)).read, *trusted)
        )
    )
    if not read_urls:
        raise ConfigurationError(
            "there is no evidence store",
            where=config.where("evidence"),
            advice="name one with `evidence: oci://host/path` or `evidence: file:///folder`",
        )
    return open_stores(config, StoreUrls(read_urls, ""))


def open_stores(config: Config, urls: StoreUrls) -> Stores:
    """The stores behind these URLs; nothing is asked from them yet. Raises ConfigurationError."""
    where = config.where("evidence")
    by_url: dict[str, Store] = {
        url: open_store(url, config.hosts, where=where) for url in {*urls.read, urls.write} - {""}
    }
    return Stores([by_url[url] for url in urls.read], by_url.get(urls.write))


def open_state(
    config: Config,
    step: str = "",
    path: Path | None = None,
    *,
    write: bool = True,
    all_records: bool = False,
) -> State:
    """The state of a checkout with the evidence stores of `step`, as a step's function takes it.

    The build of a tag, and a CI build that writes to a store which releases trust, take records of
    other builds from the stores alone: a state file left in the workspace must not reach a release.

    Args:
        path: another state file than .pipeline/state.jsonl.
        write: whether records may be written to the stores.
        all_records: use every record of the files, for commands that show them.

    Raises:
        ConfigurationError: a setting is wrong, or the source tracks the state file.
        EvidenceError: a tag is built without a store, and there are records of other builds.
    """
    build = detect(os.environ)
    trusted = store_urls(config, step, is_tag_build=bool(build.tag))
    releases = bool(build.tag) or trusted.write in (config.channels.production.evidence or ())
    # At a terminal there is no build to tell records by, and a person knows the workspace.
    only_own = build.system != "terminal" and any(trusted.read) and releases and not all_records
    accepts = is_of_this_build if only_own else (lambda _record: True)
    state = State(
        path or config.root / FOLDER / FILE,
        open_stores_for(config, step, write=write),
        accepts,
        channel_locations(config),
    )
    # After opening: which files there are is the state's to say; none of them has been read yet.
    refuse_tracked(state)
    if build.tag and not trusted.read and not all_records:
        refuse_leftovers(state)
    return state


def channel_locations(config: Config) -> tuple[str, ...]:
    """Where the channels configured now keep charts and images, as it is written, and as the
    references of charts have it.
    """
    channels = (config.channels.snapshot, config.channels.production)
    charts = [url for channel in channels for url in as_tuple(channel.charts or ()) if url]
    images = [channel.images for channel in channels if channel.images]
    in_references = []
    for url in charts:
        with contextlib.suppress(ConfigurationError):  # told by the step that publishes there
            in_references.append(open_repository(url, config.hosts).url)
    return tuple(dict.fromkeys((*charts, *images, *in_references)))
