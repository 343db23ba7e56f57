"""Check charts in a registry: each tag must lead to a complete chart, and to the recorded one.

Findings here have no fix: a registry has no index to rewrite, and nothing published is removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from pipeline_steps.audits.findings import (
    ArchiveFacts,
    ArchiveReading,
    Finding,
    Kind,
    RefusedArchive,
    ambiguous_versions,
    differing_fields,
    map_concurrently,
    missing_provenance,
    read_archive,
)
from pipeline_steps.audits.records import RecordedVersions, matches_record
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.version import from_tag
from pipeline_steps.oci import claim
from pipeline_steps.oci.manifest import Manifest
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.repositories.oci import CONFIG, CONTENT, PROVENANCE
from pipeline_steps.toolbox.errors import MachineError, Temporary

#: Tags of signatures and other referrers in registries without the referrers API
#: (OCI Distribution Specification 1.1, "Referrers Tag Schema").
_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}(\.\w+)?")


class InspectedTag(NamedTuple):
    """A tag and its chart. archive: None without a complete chart; `reason` says why.

    config: the configuration of its manifest. unreachable: the registry did not give it.
    """

    version: str
    reference: str
    digest: str
    archive: ArchiveReading | None
    signed: bool
    config: Mapping[str, Any] | None
    reason: str = ""
    unreachable: bool = False


def find_problems(
    url: str,
    charts: Collection[str],
    recorded: RecordedVersions,
    withdrawn: Collection[str],
    hosts: Mapping[str, Host],
    jobs: int,
) -> list[Finding]:
    """Check every tag of the charts.

    Args:
        recorded: what is recorded about the versions.
        withdrawn: NAME-VERSION.
        jobs: archives to read at once.

    Raises:
        MachineError, Temporary: nothing in the registry can be read.
    """
    problems: list[Finding] = []
    failures: list[MachineError | Temporary] = []
    for chart in charts:
        place = Reference.parse(f"{url.removeprefix('oci://')}/{chart}", where=url)
        try:
            problems += _find_problems(chart, place, recorded, withdrawn, hosts, jobs)
        except (MachineError, Temporary) as error:
            failures.append(error)
            where = f"oci://{place}"
            problems.append(Finding("cannot be reached", chart, "", str(error), where))
    if failures and len(failures) == len(charts):
        raise failures[0]
    return problems


def _find_problems(
    chart: str,
    place: Reference,
    recorded: RecordedVersions,
    withdrawn: Collection[str],
    hosts: Mapping[str, Host],
    jobs: int,
) -> list[Finding]:
    """Check every tag of one chart. Raises MachineError, Temporary: its tags cannot be listed."""
    problems: list[Finding] = []
    registry = connect(place, hosts)
    tags = registry.tags(place.path)
    if not tags:
        text = "the registry has no tag of it"
        problems.append(Finding("missing file", chart, "", text, f"oci://{place}"))
    versions = {tag: version for tag in tags if (version := from_tag(tag))}
    inspect_tag = partial(_inspect_tag, registry, place, versions)
    inspected = list(map_concurrently(inspect_tag, sorted(versions), jobs))
    problems += _chart_findings(chart, inspected, recorded)
    problems += [
        Finding(
            "withdrawn version",
            chart,
            inspected_tag.version,
            "it is withdrawn: remove its tag",
            inspected_tag.reference,
        )
        for inspected_tag in inspected
        if f"{chart}-{inspected_tag.version}" in withdrawn
    ]
    problems += _other_tags(chart, tags, versions, place)
    return problems


def _inspect_tag(
    registry: Registry, place: Reference, versions: Mapping[str, str], tag: str
) -> InspectedTag:
    """A tag and its chart; one whose manifest or layer cannot be had is `unreachable`."""
    try:
        return _read_tag(registry, place, versions[tag], tag)
    except (MachineError, Temporary) as error:
        reference = f"oci://{place}:{tag}"
        reason = str(error)
        return InspectedTag(versions[tag], reference, "", None, False, None, reason, True)


def _read_tag(registry: Registry, place: Reference, version: str, tag: str) -> InspectedTag:
    manifest = registry.manifest(place.path, tag)
    if manifest is None:
        return InspectedTag(
            version,
            f"oci://{place}:{tag}",
            "",
            None,
            False,
            None,
            "the tag is listed and leads nowhere",
        )
    reference = f"oci://{place}:{tag}@{manifest.digest}"
    try:
        layers = [blob for blob in manifest.blobs if blob.media_type == CONTENT]
    except MachineError as error:
        return InspectedTag(version, reference, manifest.digest, None, False, None, error.what)
    signed = any(blob.media_type == PROVENANCE for blob in manifest.blobs)
    # A chart has exactly one content layer, and at most one provenance layer
    # (https://helm.sh/docs/topics/registries/#helm-chart-manifest).
    if len(layers) != 1:
        why = "it is not a helm chart: it has no chart layer, or several"
        return InspectedTag(
            version, reference, manifest.digest, RefusedArchive("", why), signed, None
        )
    tgz = registry.blob(place.path, layers[0].digest, cap=archives.LARGEST)
    if tgz is None:
        why = f"the registry has lost the layer {layers[0].digest}"
        return InspectedTag(version, reference, manifest.digest, None, signed, None, why)
    seen = read_archive(tgz, reference)
    return InspectedTag(
        version, reference, manifest.digest, seen, signed, _config(registry, place, manifest)
    )


def _config(registry: Registry, place: Reference, manifest: Manifest) -> Mapping[str, Any] | None:
    """The manifest's configuration, a copy of Chart.yaml; None when it is missing or no object."""
    digest = next((blob.digest for blob in manifest.blobs if blob.media_type == CONFIG), None)
    data = registry.blob(place.path, digest) if digest else None
    try:
        config = json.loads(data) if data is not None else None
    # A missing or odd configuration is found by comparing fields: none of them is equal then.
    except (ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def _chart_findings(
    chart: str, inspected: Collection[InspectedTag], recorded: RecordedVersions
) -> Iterator[Finding]:
    for tag in inspected:
        yield from _tag_findings(chart, tag, recorded)
    places = {tag.version: tag.reference for tag in inspected}
    yield from ambiguous_versions(chart, places)
    signed = {tag.version: tag.signed for tag in inspected if isinstance(tag.archive, ArchiveFacts)}
    yield from missing_provenance(chart, signed, places)


def _tag_findings(
    chart: str, tag: InspectedTag, all_recorded: RecordedVersions
) -> Iterator[Finding]:
    recorded = all_recorded.get((chart, tag.version), [])
    tar = tag.archive.tar if isinstance(tag.archive, ArchiveFacts) else ""
    if recorded and tag.digest and not matches_record(recorded, tag.digest, tar):
        text = (
            f"the tag leads to {tag.digest}, recorded is {recorded[-1].digest} "
            f"({recorded[-1].record.id[7:19]})"
        )
        yield Finding("changed since recorded", chart, tag.version, text, tag.reference)
    if tag.archive is None:
        kind: Kind = "cannot be reached" if tag.unreachable else "missing file"
        yield Finding(kind, chart, tag.version, tag.reason, tag.reference)
    elif isinstance(tag.archive, RefusedArchive):
        yield Finding("archive refused", chart, tag.version, tag.archive.reason, tag.reference)
    elif (tag.archive.name, tag.archive.version) != (chart, tag.version):
        text = f"the tag holds the chart {tag.archive.name} {tag.archive.version}"
        yield Finding("other chart", chart, tag.version, text, tag.reference)
    else:
        fields = differing_fields(tag.config or {}, tag.archive)
        if fields:
            text = (
                f"its Chart.yaml has another {', '.join(fields)} than its manifest's configuration"
            )
            yield Finding("entry disagrees", chart, tag.version, text, tag.reference)


def _other_tags(
    chart: str, tags: Collection[str], versions: Collection[str], place: Reference
) -> Iterator[Finding]:
    """Findings for other tags: abandoned claims of versions, and tags that helm does not list."""
    prefixes = tuple(claim.claim_prefix(tag) for tag in versions)
    for tag in sorted(tags):
        # Signatures lie beside the chart under such tags, and are nobody's finding.
        if tag in versions or _REFERRERS.fullmatch(tag):
            continue
        where = f"oci://{place}:{tag}"
        if not tag.startswith("claim-"):
            yield Finding("non-SemVer version", chart, tag, "helm does not list such a tag", where)
        # A claim whose version is published has done its work, and stays (`oci.claim`).
        elif not tag.startswith(prefixes):
            text = (
                "a publisher claimed this version and did not name it; publish the same content "
                "again"
            )
            yield Finding(
                "stale claim",
                chart,
                tag,
                f"{text}, or remove the tag when nobody is at work",
                where,
            )
