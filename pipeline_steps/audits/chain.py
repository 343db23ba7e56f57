"""One chart's chain of evidence, link by link: archive, promote, changes undone, tested snapshot,
tests, images.

Checked by records: nothing is asked of registries but the chart itself. Records come from the state
and the evidence stores, found by the digests of the chart; who may write those may claim anything
(docs/explanation/trust.md#what-is-not-claimed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import channels
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.edit import Change
from pipeline_steps.charts.rewrite import verify_rewrite
from pipeline_steps.charts.version import from_tag, parse
from pipeline_steps.config.language import Config
from pipeline_steps.oci.registry import connect
from pipeline_steps.oci.whole import missing_digests
from pipeline_steps.repositories.kinds import open_repository_of
from pipeline_steps.repositories.oci import OciRepository
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.state.union import superseded
from pipeline_steps.toolbox.errors import EvidenceError, MachineError, PipelineError, UsageError
from pipeline_steps.toolbox.files import sha256

Word = Literal["holds", "missing", "changed"]
ADVICE = "write oci://host/path/name:1.2.3, oci://host/path/name@sha256:… or file:///folder/name-1.2.3.tgz"


class Link(NamedTuple):
    """One link of the chain."""

    word: Word
    what: str

    def __str__(self) -> str:
        return f"{self.word:<8} {self.what}"


class Chart(NamedTuple):
    """The chart to verify as it is published now. digests: of its archive, and of its manifest in a
    registry.
    """

    archive: Archive
    reference: str
    digests: tuple[str, ...]


def fetch(reference: str, config: Config) -> Chart:
    """The chart that a reference names, compared with the digest in it.

    Raises UsageError, EvidenceError when it is not there or has another digest, MachineError's
    kinds, Temporary.
    """
    place, _, digest = reference.rpartition("@")
    if not digest.startswith(
        "sha256:"
    ):  # what is before an @ may be an account, as in git+ssh://git@host
        place, digest = reference, ""
    if reference.startswith("oci://"):
        return _of_registry(reference, config)
    if reference.startswith("file://"):
        path = Path(unquote(urlsplit(place).path))
        try:
            tgz = path.read_bytes()
        except FileNotFoundError:
            raise EvidenceError("the chart is not there", where=str(path))
        except OSError as error:
            raise MachineError(f"cannot be read: {error.strerror}", where=str(path)) from error
        return _whole(tgz, place, digest)
    return _of_repository(place, digest, config)


def _of_registry(reference: str, config: Config) -> Chart:
    it = Reference.parse(reference.removeprefix("oci://"), where=reference)
    root, _, name = it.path.rpartition("/")
    version = from_tag(it.tag) if it.tag else None
    if not root or (version is None and not it.digest):
        raise UsageError("not the reference of a chart", advice=ADVICE)
    repository = OciRepository(f"oci://{it.host}/{root}", config.hosts)
    published = (
        repository.find(name, version) if version else repository.find_digest(name, str(it.digest))
    )
    if published is None:
        raise EvidenceError("the chart is not there", where=reference)
    digest = published.reference.rpartition("@")[2]
    if it.digest and digest != it.digest:
        raise EvidenceError(f"the tag leads to {digest}, not to {it.digest}", where=reference)
    lost = missing_digests(connect(it, config.hosts), it.path, digest)
    if lost:
        what = f"the registry has lost {', '.join(lost)}, so that nobody can pull it"
        raise EvidenceError(
            what, where=reference, advice="restore it there; promote gives back archives only"
        )
    return Chart(published.archive, published.reference, (digest, published.archive_digest))


def _of_repository(place: str, digest: str, config: Config) -> Chart:
    """A chart of a configured repository of another kind: its URL, as written or as it calls
    itself, then a file.
    """
    repository = open_repository_of(place, channels.configured(config), config.hosts)
    if repository is None:
        raise UsageError(
            "not the reference of a chart in a repository of pipeline.yaml",
            where=place,
            advice=ADVICE,
        )
    for name, version in _readings(place):
        published = repository.find(name, version)
        if published is not None:
            return _whole(published.archive.tgz, place, digest)
    raise EvidenceError("the chart is not there", where=place)


def _readings(place: str) -> Iterator[tuple[str, str]]:
    """Names and versions that a file can stand for, by its name, else by its folder's: a release's
    tag, where GitHub stores another letter for + in the file's name.

    >>> list(_readings("my-chart-1.0.0-rc.1.tgz")), list(_readings("web-1.0.0%2Bb.1/web-1.0.0.b.1.tgz"))
    ([('my-chart', '1.0.0-rc.1')], [('web', '1.0.0+b.1')])
    """
    *_, folder, file = ("", *place.split("/"))
    for stem in (unquote(file).removesuffix(".tgz"), unquote(folder)):
        for dash in re.finditer("-", stem):
            if parse(stem[dash.end() :]):
                yield stem[: dash.start()], stem[dash.end() :]


def _whole(tgz: bytes, place: str, digest: str) -> Chart:
    if digest and sha256(tgz) != digest:
        raise EvidenceError(f"the archive has the digest {sha256(tgz)}, not {digest}", where=place)
    return Chart(archives.open_archive(tgz, place), f"{place}@{sha256(tgz)}", (sha256(tgz),))


def links(chart: Chart, state: State) -> list[Link]:
    """The chain of `chart`; it ends where a link is missing. Raises MachineError's kinds,
    Temporary.
    """
    it = chart.archive
    state.load_evidence([it.tar_digest, *chart.digests])
    found = [Link("holds", f"{it.name} {it.version}: {chart.reference}, tar {it.tar_digest}")]
    made = [one for one in _standing(state) if _is_of(one, it)]
    named = [one for one in made if _names(one, chart.digests)]
    if not made:
        others = [
            one for one in _standing(state) if (one.subject, _version(one)) == (it.name, it.version)
        ]
        if others:
            what = f"{others[-1].step} of {it.name} {it.version} recorded the tar {others[-1].outputs.get('tar')}"
            return [*found, Link("changed", f"{what} ({_id(others[-1])})")]
        return [
            *found,
            Link("missing", f"no record of promote or snapshot has the tar {it.tar_digest}"),
        ]
    record = state.preferred(named or made)[0]
    state.load_evidence([record.content])
    told = "" if named else ", published elsewhere or compressed otherwise"
    found.append(Link("holds", f"{record.step} {_id(record)} recorded this tar{told}"))
    found.append(_content(record))
    used = _used(record, state)
    found += [
        Link("missing", f"{record.step} uses the record {one[7:19]}, which is not there")
        for one in used.missing
    ]
    if record.step == "snapshot":
        return [*found, *_images(record, [record], state)]
    snapshots = [one for one in used.records if one.step == "snapshot"]
    return [
        *found, _undone(record, snapshots, it), *_tests(record, used.records, snapshots, state),
        *_images(record, snapshots, state), *_others(used.records),
    ]  # fmt: skip


def _standing(state: State) -> list[Record]:
    records = state.records()
    gone = superseded(records)
    return [
        one
        for one in records
        if one.step in ("promote", "snapshot") and one.passed and one.id not in gone
    ]


def _is_of(record: Record, it: Archive) -> bool:
    return record.subject == it.name and record.outputs.get("tar") == it.tar_digest


def _names(record: Record, digests: Iterable[str]) -> bool:
    mine = {
        value.rpartition("@")[2]
        for name, value in record.outputs.items()
        if name.startswith("chart")
    }
    return bool(mine.intersection(digests))


def _version(record: Record) -> str:
    return str(record.parameters.get("version", ""))


def _content(record: Record) -> Link:
    if not record.content:
        return Link("missing", f"{record.step} names no content")
    return Link("holds", f"content {record.content} of revision {record.revision or 'unknown'}")


class _Used(NamedTuple):
    records: list[Record]
    missing: list[str]


def _used(record: Record, state: State) -> _Used:
    """The records that one names in `uses`, its own intents left out."""
    known = {one.id: one for one in state.records()}
    away = [identity for identity in record.uses if identity not in known]
    if away and state.stores is not None:
        known |= {one.id: one for _line, one in state.stores.fetch_by_id(away)}
    there = [known[identity] for identity in record.uses if identity in known]
    missing = [identity for identity in record.uses if identity not in known]
    return _Used([one for one in there if one.result != "started"], missing)


def _undone(record: Record, snapshots: Sequence[Record], it: Archive) -> Link:
    """Do the recorded changes, undone, give a tar that a snapshot has?"""
    if not snapshots:
        return Link("missing", "promote uses no record of a snapshot")
    tars = [one.outputs.get("tar", "") for one in snapshots]
    what = f"the {len(record.parameters.get('changes') or [])} changes of promote, undone, give "
    try:
        changes = msgspec.convert(record.parameters.get("changes") or [], list[Change])
    except msgspec.ValidationError as error:
        return Link("missing", f"promote's changes cannot be read: {error}")
    for tar in dict.fromkeys(tars):
        try:
            verify_rewrite(it.tgz, changes, tar, it.file_name)
        except PipelineError as error:
            problem = error.what
        else:
            return Link("holds", f"{what}the tested tar {tar}")
    return Link("changed", problem)


def _tests(
    record: Record, used: Sequence[Record], snapshots: Sequence[Record], state: State
) -> Iterator[Link]:
    """Passed tests that used one of the snapshots, which no later record contradicts."""
    tests = [one for one in used if one.step == "integration_test"]
    if not tests:
        yield Link("missing", "promote uses no record of a test")
    ids = {one.id for one in snapshots}
    for test in tests:
        said = test.parameters
        name = str(said.get("values") or said.get("none") or "the chart's own values")
        what = f"test {_id(test)}: {name}{f' on {cluster}' if (cluster := said.get('cluster')) else ''}"
        current = state.resolve(test.key).current
        if not test.passed or any(not one.passed for one in current):
            yield Link("changed", f"{what}: {test.result}, or contradicted by now")
        elif test.content != record.content or test.inputs != record.inputs:
            yield Link("changed", f"{what}: it is about other content or images")
        elif not ids.intersection(test.uses):
            yield Link("missing", f"{what}: it does not name the snapshot")
        else:
            yield Link("holds", what)


def _images(record: Record, snapshots: Sequence[Record], state: State) -> Iterator[Link]:
    """Every image by digest: the same in production as tested, and built by a recorded build."""
    if not snapshots:
        return
    built = [
        one
        for snapshot in snapshots
        for one in _used(snapshot, state).records
        if one.step == "build_image"
    ]
    for name, reference in record.outputs.items():
        if not name.startswith("image:"):
            continue
        digest = reference.rpartition("@")[2]
        tested = {one.inputs.get(name) for one in snapshots}
        by = [
            one
            for one in built
            if one.passed and one.outputs.get("image", "").endswith(f"@{digest}")
        ]
        if tested != {digest}:
            yield Link(
                "changed", f"{name} is {digest}, tested was {', '.join(sorted(map(str, tested)))}"
            )
        elif not by:
            yield Link("missing", f"{name} {digest}: no record of its build")
        else:
            yield Link("holds", f"{name} {digest}, build_image {_id(by[-1])}")


def _others(used: Iterable[Record]) -> Iterator[Link]:
    """The other required steps: check, programs, approvals."""
    for one in used:
        if one.step not in ("snapshot", "integration_test", "build_image"):
            yield Link("holds" if one.passed else "changed", f"{one.step} {_id(one)}: {one.result}")


def _id(record: Record) -> str:
    return record.id[7:19]
