"""The chain of evidence of a published chart: archive, promote, changes, snapshot, tests, images.

The chart and its images are read where they are, down to every configuration and layer; everything
else is checked by records. They come from the state and the evidence stores, found by digest; who
may write those may claim anything (docs/explanation/trust.md#what-is-not-claimed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import channels
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.edit import Change
from pipeline_steps.charts.rewrite import verify_rewrite
from pipeline_steps.charts.version import from_tag, parse
from pipeline_steps.config.language import Config
from pipeline_steps.oci.completeness import find_stored, missing_digests
from pipeline_steps.oci.registry import connect
from pipeline_steps.repositories.kinds import find_named, open_repository_of
from pipeline_steps.repositories.oci import OciRepository
from pipeline_steps.repositories.repository import Repository
from pipeline_steps.sources.source import Tag
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.state.union import superseded
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import EvidenceError, PipelineError, UsageError
from pipeline_steps.toolbox.wording import counted

Word = Literal["holds", "missing", "changed"]
ADVICE = (
    "write oci://host/path/name:1.2.3, oci://host/path/name@sha256:… or "
    "file:///folder/name-1.2.3.tgz"
)
_NOT_THERE = "correct the reference, or restore the chart"
_NOT_NAMED = "the chart is not there, or the index of its repository does not name it"
_PUBLISH_AGAIN = (
    "correct the reference, or run promote of its tag again: it publishes the same bytes"
)
_OTHER_DIGEST = "see who replaced it, or correct the digest in the reference"


class Link(NamedTuple):
    """One link of the chain: its status and what it says."""

    status: Word
    what: str

    def __str__(self) -> str:
        return f"{self.status:<8} {self.what}"


class PublishedChart(NamedTuple):
    """The published chart to verify. digests: of its archive and, in a registry, its manifest."""

    archive: Archive
    reference: str
    digests: tuple[str, ...]


def fetch(reference: str, config: Config) -> PublishedChart:
    """Read the chart that a reference names, and compare it with the digest in the reference.

    Raises:
        UsageError: this is not the reference of a chart.
        EvidenceError: the chart does not exist or has another digest.
        MachineError, Temporary: the repository cannot be read.
    """
    place, _, digest = reference.rpartition("@")
    # The "@" may belong to an account, as in git+ssh://git@host.
    if not digest.startswith("sha256:"):
        place, digest = reference, ""
    if reference.startswith("oci://"):
        return _fetch_from_registry(reference, config)
    if reference.startswith("file://"):
        path = Path(unquote(urlsplit(place).path))
        try:
            tgz = path.read_bytes()
        except FileNotFoundError:
            raise EvidenceError("the chart is not there", where=str(path), advice=_NOT_THERE)
        except OSError as error:
            raise files.unreadable(error, path) from error
        chart = _published_chart(tgz, place, digest)
        repository = open_repository_of(place, channels.repository_urls(config), config.hosts)
        if repository:
            _require_named(repository, chart, place)
        return chart
    return _fetch_from_repository(place, digest, config)


def _require_named(repository: Repository, chart: PublishedChart, place: str) -> None:
    """Raises EvidenceError unless the index of a folder names this very archive."""
    archive = chart.archive
    named = find_named(repository, archive.name, archive.version)
    if named is None:
        raise EvidenceError(_NOT_NAMED, where=place, advice=_PUBLISH_AGAIN)
    if named.archive_digest != archive.digest:
        problem = f"the index of the repository names {named.reference} for this version"
        raise EvidenceError(problem, where=place, advice="see who replaced it")


def _fetch_from_registry(reference: str, config: Config) -> PublishedChart:
    parsed = Reference.parse(reference.removeprefix("oci://"), where=reference)
    root, _, name = parsed.path.rpartition("/")
    # Helm stores the + of a version as _ in the tag (https://helm.sh/docs/topics/registries/).
    version = from_tag(parsed.tag) if parsed.tag else None
    if not root or (version is None and not parsed.digest):
        raise UsageError("this is not the reference of a chart", advice=ADVICE)
    repository = OciRepository(f"oci://{parsed.host}/{root}", config.hosts)
    published = (
        repository.find(name, version)
        if version
        else repository.find_digest(name, str(parsed.digest))
    )
    if published is None:
        raise EvidenceError("the chart is not there", where=reference, advice=_NOT_THERE)
    digest = published.reference.rpartition("@")[2]
    if parsed.digest and digest != parsed.digest:
        problem = f"the tag leads to {digest}, not to {parsed.digest}"
        raise EvidenceError(problem, where=reference, advice=_OTHER_DIGEST)
    lost = missing_digests(connect(parsed, config.hosts), parsed.path, digest)
    if lost:
        problem = f"the registry has lost {', '.join(lost)}, so that nobody can pull it"
        raise EvidenceError(
            problem,
            where=reference,
            advice="run promote of its tag again: it puts the same bytes there",
        )
    return PublishedChart(
        published.archive, published.reference, (digest, published.archive_digest)
    )


def _fetch_from_repository(place: str, digest: str, config: Config) -> PublishedChart:
    """Read a chart of a configured repository. place: the repository's URL followed by a file."""
    repository = open_repository_of(place, channels.repository_urls(config), config.hosts)
    if repository is None:
        raise UsageError(
            "this is not the reference of a chart in a repository of pipeline.yaml",
            where=place,
            advice=ADVICE,
        )
    for name, version in _possible_versions(place):
        published = find_named(repository, name, version)
        if published is not None:
            return _published_chart(published.archive.tgz, place, digest)
    raise EvidenceError(_NOT_NAMED, where=place, advice=_PUBLISH_AGAIN)


def _possible_versions(place: str) -> Iterator[tuple[str, str]]:
    """Charts and versions that a path can mean: by its file name, else by its folder's name.

    The folder is a release's tag: GitHub replaces the "+" of a version in file names only.

    >>> list(_possible_versions("my-chart-1.0.0-rc.1.tgz"))
    [('my-chart', '1.0.0-rc.1')]
    >>> list(_possible_versions("web-1.0.0%2Bb.1/web-1.0.0.b.1.tgz"))
    [('web', '1.0.0+b.1')]
    """
    *_, folder, file = ("", *place.split("/"))
    for stem in (unquote(file).removesuffix(".tgz"), unquote(folder)):
        for dash in re.finditer("-", stem):
            if parse(stem[dash.end() :]):
                yield stem[: dash.start()], stem[dash.end() :]


def _published_chart(tgz: bytes, place: str, digest: str) -> PublishedChart:
    if digest and files.sha256(tgz) != digest:
        problem = f"the archive has the digest {files.sha256(tgz)}, not {digest}"
        raise EvidenceError(problem, where=place, advice=_OTHER_DIGEST)
    return PublishedChart(
        archives.open_archive(tgz, place), f"{place}@{files.sha256(tgz)}", (files.sha256(tgz),)
    )


def links(
    chart: PublishedChart,
    state: State,
    hosts: Mapping[str, Host],
    tags: Mapping[str, Tag] | None = None,
) -> list[Link]:
    """The links of `chart`'s chain; the list ends at a missing link. tags: of the source.

    Raises MachineError or Temporary when an evidence store or the registry of an image cannot be
    read.
    """
    archive = chart.archive
    state.load_evidence([archive.tar_digest, *chart.digests])
    chain_links = [
        Link(
            "holds",
            f"{archive.name} {archive.version}: {chart.reference}, tar {archive.tar_digest}",
        )
    ]
    releases = [release for release in _current_releases(state) if _is_record_of(release, archive)]
    # The tar decides, not the .tgz: the same tar may be published elsewhere, compressed otherwise.
    by_digest = [release for release in releases if _has_digest(release, chart.digests)]
    if not releases:
        return [*chain_links, _unrecorded_link(archive, state)]
    record = state.preferred(by_digest or releases)[0]
    state.load_evidence([record.content])
    note = "" if by_digest else ", published elsewhere or compressed otherwise"
    chain_links.append(Link("holds", f"{record.step} {_short_id(record)} recorded this tar{note}"))
    chain_links.append(_content_link(record))
    used = _used_records(record, state)
    chain_links += [
        Link("missing", f"{record.step} uses the record {identity[7:19]}, which is not there")
        for identity in used.missing
    ]
    if record.step == "snapshot":
        return [*chain_links, *_image_links(record, [record], state, hosts)]
    snapshots = [used_record for used_record in used.records if used_record.step == "snapshot"]
    return [
        *chain_links,
        _changes_link(record, snapshots, archive),
        *_test_links(record, used.records, snapshots, state),
        *_image_links(record, snapshots, state, hosts),
        *_other_links(used.records, state),
        *_tag_links(record, state, tags or {}),
    ]


def _unrecorded_link(archive: Archive, state: State) -> Link:
    """Of an archive whose tar no record has: another one is recorded, or none."""
    others = [
        release
        for release in _current_releases(state)
        if (release.subject, _recorded_version(release)) == (archive.name, archive.version)
    ]
    if not others:
        missing = f"no record of promote or snapshot has the tar {archive.tar_digest}"
        return Link("missing", missing)
    other = state.preferred(others)[0]
    text = (
        f"{other.step} of {archive.name} {archive.version} recorded the tar "
        f"{other.outputs.get('tar')} ({_short_id(other)})"
    )
    return Link("changed", text)


def _current_releases(state: State) -> list[Record]:
    records = state.records()
    superseded_ids = superseded(records)
    return [
        record
        for record in records
        if record.step in ("promote", "snapshot")
        and record.passed
        and record.id not in superseded_ids
    ]


def _is_record_of(record: Record, archive: Archive) -> bool:
    return record.subject == archive.name and record.outputs.get("tar") == archive.tar_digest


def _has_digest(record: Record, digests: Iterable[str]) -> bool:
    chart_digests = {
        value.rpartition("@")[2]
        for name, value in record.outputs.items()
        if name.startswith("chart")
    }
    return bool(chart_digests.intersection(digests))


def _recorded_version(record: Record) -> str:
    return str(record.parameters.get("version", ""))


def _content_link(record: Record) -> Link:
    if not record.content:
        return Link("missing", f"{record.step} names no content")
    return Link("holds", f"content {record.content} of revision {record.revision or 'unknown'}")


class _UsedRecords(NamedTuple):
    records: list[Record]
    missing: list[str]


def _used_records(record: Record, state: State) -> _UsedRecords:
    """The records named in `uses`, without intents; those not in the state come from the stores."""
    by_id = {used_record.id: used_record for used_record in state.records()}
    not_loaded = [identity for identity in record.uses if identity not in by_id]
    if not_loaded and state.stores is not None:
        by_id |= {
            used_record.id: used_record
            for _line, used_record in state.stores.fetch_by_id(not_loaded)
        }
    used_records = [by_id[identity] for identity in record.uses if identity in by_id]
    missing = [identity for identity in record.uses if identity not in by_id]
    return _UsedRecords(
        [used_record for used_record in used_records if used_record.result != "started"], missing
    )


def _changes_link(record: Record, snapshots: Sequence[Record], archive: Archive) -> Link:
    """Check that undoing the recorded changes gives the tar of one of the snapshots."""
    if not snapshots:
        return Link("missing", "promote uses no record of a snapshot")
    tars = [snapshot.outputs.get("tar", "") for snapshot in snapshots]
    number = len(record.parameters.get("changes") or [])
    prefix = f"without {counted(number, 'change')} of promote it is "
    try:
        changes = msgspec.convert(record.parameters.get("changes") or [], list[Change])
    except msgspec.ValidationError as error:
        return Link("missing", f"promote's changes cannot be read: {error}")
    for tar in dict.fromkeys(tars):
        try:
            verify_rewrite(archive.tgz, changes, tar, archive.file_name)
        except PipelineError as error:
            problem = error.what
        else:
            return Link("holds", f"{prefix}the tested tar {tar}")
    return Link("changed", problem)


def _test_links(
    record: Record, used: Sequence[Record], snapshots: Sequence[Record], state: State
) -> Iterator[Link]:
    """Check that tests of one of the snapshots passed and are not contradicted by now."""
    tests = [test_record for test_record in used if test_record.step == "integration_test"]
    if not tests:
        yield Link("missing", "promote uses no record of a test")
    ids = {snapshot.id for snapshot in snapshots}
    for test in tests:
        parameters = test.parameters
        name = str(parameters.get("values") or parameters.get("none") or "the chart's own values")
        cluster = parameters.get("cluster")
        title = f"test {_short_id(test)}: {name}{f' on {cluster}' if cluster else ''}"
        if not test.passed or _contradicted(test, state):
            yield Link("changed", f"{title}: {test.result}, or contradicted by now")
        elif test.content != record.content or test.inputs != record.inputs:
            yield Link("changed", f"{title}: it is about other content or images")
        elif not ids.intersection(test.uses):
            yield Link("missing", f"{title}: it does not name the snapshot")
        else:
            yield Link("holds", title)


def _contradicted(record: Record, state: State) -> bool:
    """Whether a later or another verdict of its key, looked at now, has not passed."""
    return any(not other.passed for other in state.resolve(record.key).current)


def _image_links(
    record: Record, snapshots: Sequence[Record], state: State, hosts: Mapping[str, Host]
) -> Iterator[Link]:
    """Check that every image has the digest that was tested, that its build is recorded, and that
    its registry has all of it.
    """
    if not snapshots:
        return
    all_builds = [
        used_record
        for snapshot in snapshots
        for used_record in _used_records(snapshot, state).records
        if used_record.step == "build_image"
    ]
    for name, reference in record.outputs.items():
        if not name.startswith("image:"):
            continue
        digest = reference.rpartition("@")[2]
        tested = {snapshot.inputs.get(name) for snapshot in snapshots}
        builds = [
            build
            for build in all_builds
            if build.passed and build.outputs.get("image", "").endswith(f"@{digest}")
        ]
        # A set: every snapshot that was tested must have had this very digest.
        if tested != {digest}:
            yield Link(
                "changed", f"{name} is {digest}, tested was {', '.join(sorted(map(str, tested)))}"
            )
        elif not builds:
            yield Link("missing", f"{name} {digest}: no record of its build")
        else:
            build = state.preferred(builds)[0]
            yield Link("holds", f"{name} {digest}, build_image {_short_id(build)}")
            yield _registry_link(name, reference, hosts)


def _registry_link(name: str, reference: str, hosts: Mapping[str, Host]) -> Link:
    """Whether the image can be pulled: manifests, configurations, layers, and its tag."""
    image = Reference.parse(reference, where=reference)
    stored = find_stored(connect(image, hosts), image)
    if stored.lost:
        lost = ", ".join(stored.lost)
        return Link("missing", f"{name} {reference}: the registry has lost {lost}")
    # The digest alone can still be pulled, but registries collect what no tag names.
    if image.tag and stored.tagged is None:
        return Link("missing", f"{name} {reference}: the tag is gone, the digest is there")
    if image.tag and stored.tagged != image.digest:
        return Link("changed", f"{name} {reference}: the tag leads to {stored.tagged}")
    return Link("holds", f"{name} {reference}: complete in its registry")


def _other_links(used: Iterable[Record], state: State) -> Iterator[Link]:
    """The other required steps: check, programs, approvals."""
    for record in used:
        if record.step in ("snapshot", "integration_test", "build_image"):
            continue
        title = f"{record.step} {_short_id(record)}: {record.result}"
        # People may take a vote back once its change is released: that contradicts nothing.
        if record.step != "approval" and _contradicted(record, state):
            yield Link("changed", f"{title}, or contradicted by now")
        else:
            yield Link("holds" if record.passed else "changed", title)


def _tag_links(record: Record, state: State, tags: Mapping[str, Tag]) -> Iterator[Link]:
    """Check that the tags of the release, where they are in the source here, were not moved."""
    tagged = state.find(step="tag_release", subject=record.subject, content=record.content)
    for value in dict.fromkeys(each.outputs.get("tag", "") for each in tagged):
        name, _, revision = value.rpartition("@")
        if name not in tags:  # not fetched, as in most builds: `state verify` tells it
            continue
        if tags[name].revision == revision:
            yield Link("holds", f"tag {name} leads to {revision}")
        else:
            yield Link("changed", f"tag {name} leads to {tags[name].revision}, set at {revision}")


def _short_id(record: Record) -> str:
    return record.id[7:19]
