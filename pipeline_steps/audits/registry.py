"""Charts in a registry: does every tag lead to the chart that it names, whole, and to the one that
was recorded?

A registry has no index that could be rewritten, and nothing published is ever removed: nothing here
has a fix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from pipeline_steps.audits import faults
from pipeline_steps.audits.faults import Facts, Finding, Refused, Seen
from pipeline_steps.audits.records import Known, tells
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.version import from_tag
from pipeline_steps.oci import claim
from pipeline_steps.oci.manifest import Manifest
from pipeline_steps.oci.registry import Registry, connect
from pipeline_steps.repositories.oci import CONFIG, CONTENT, PROVENANCE
from pipeline_steps.toolbox.errors import MachineError

#: Tags that signatures and other referrers have where a registry has no API for them.
_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}(\.\w+)?")


class Tagged(NamedTuple):
    """What a tag leads to. seen None: not to a whole chart, why says it. config: of its manifest."""

    version: str
    reference: str
    digest: str
    seen: Seen | None
    signed: bool
    config: Mapping[str, Any] | None
    why: str = ""


def findings(
    url: str,
    charts: Collection[str],
    known: Known,
    withdrawn: Collection[str],
    hosts: Mapping[str, Host],
    jobs: int,
) -> list[Finding]:
    """What is wrong with these charts. withdrawn: NAME-VERSION. Raises MachineError's kinds,
    Temporary.
    """
    found: list[Finding] = []
    for chart in charts:
        place = Reference.parse(f"{url.removeprefix('oci://')}/{chart}", where=url)
        registry = connect(place, hosts)
        tags = registry.tags(place.path)
        if not tags:
            found.append(
                Finding(
                    "missing file", chart, "", "the registry has no tag of it", f"oci://{place}"
                )
            )
        versions = {tag: version for tag in tags if (version := from_tag(tag))}
        look = partial(_look, registry, place, versions)
        looked = list(faults.many(look, sorted(versions), jobs))
        found += _judged(chart, looked, known)
        found += [
            Finding(
                "withdrawn version",
                chart,
                one.version,
                "it is withdrawn: remove its tag",
                one.reference,
            )
            for one in looked
            if f"{chart}-{one.version}" in withdrawn
        ]
        found += _others(chart, tags, versions, place)
    return found


def _look(registry: Registry, place: Reference, versions: Mapping[str, str], tag: str) -> Tagged:
    version = versions[tag]
    manifest = registry.manifest(place.path, tag)
    if manifest is None:
        return Tagged(
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
        return Tagged(version, reference, manifest.digest, None, False, None, error.what)
    signed = any(blob.media_type == PROVENANCE for blob in manifest.blobs)
    if len(layers) != 1:
        why = "it is not a helm chart: it has no chart layer, or several"
        return Tagged(version, reference, manifest.digest, Refused("", why), signed, None)
    tgz = registry.blob(place.path, layers[0].digest, cap=archives.LARGEST)
    if tgz is None:
        why = f"the registry has lost the layer {layers[0].digest}"
        return Tagged(version, reference, manifest.digest, None, signed, None, why)
    seen = faults.seen(tgz, reference)
    return Tagged(
        version, reference, manifest.digest, seen, signed, _config(registry, place, manifest)
    )


def _config(registry: Registry, place: Reference, manifest: Manifest) -> Mapping[str, Any] | None:
    """The manifest's configuration, in which tools read what a chart is; None when there is no such
    thing.
    """
    digest = next((blob.digest for blob in manifest.blobs if blob.media_type == CONFIG), None)
    data = registry.blob(place.path, digest) if digest else None
    try:
        found = json.loads(data) if data is not None else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _judged(chart: str, looked: Collection[Tagged], known: Known) -> Iterator[Finding]:
    for one in looked:
        yield from _tag(chart, one, known)
    places = {one.version: one.reference for one in looked}
    yield from faults.versions_that_mislead(chart, places)
    signed = {one.version: one.signed for one in looked if isinstance(one.seen, Facts)}
    yield from faults.without_provenance(chart, signed, places)


def _tag(chart: str, one: Tagged, known: Known) -> Iterator[Finding]:
    recorded = known.get((chart, one.version), [])
    tar = one.seen.tar if isinstance(one.seen, Facts) else ""
    if recorded and one.digest and not tells(recorded, one.digest, tar):
        what = f"the tag leads to {one.digest}, recorded is {recorded[-1].digest} ({recorded[-1].record.id[7:19]})"
        yield Finding("changed since recorded", chart, one.version, what, one.reference)
    if one.seen is None:
        yield Finding("missing file", chart, one.version, one.why, one.reference)
    elif isinstance(one.seen, Refused):
        yield Finding("archive refused", chart, one.version, one.seen.reason, one.reference)
    elif (one.seen.name, one.seen.version) != (chart, one.version):
        what = f"the tag holds the chart {one.seen.name} {one.seen.version}"
        yield Finding("other chart", chart, one.version, what, one.reference)
    else:
        fields = faults.disagreements(one.config or {}, one.seen)
        if fields:
            what = (
                f"its Chart.yaml has another {', '.join(fields)} than its manifest's configuration"
            )
            yield Finding("entry disagrees", chart, one.version, what, one.reference)


def _others(
    chart: str, tags: Collection[str], versions: Collection[str], place: Reference
) -> Iterator[Finding]:
    """Tags that are no version: claims of versions that were never named, and what helm does not
    list.
    """
    prefixes = tuple(claim.claim_prefix(tag) for tag in versions)
    for tag in sorted(tags):
        if tag in versions or _REFERRERS.fullmatch(tag):
            continue
        where = f"oci://{place}:{tag}"
        if not tag.startswith("claim-"):
            yield Finding("non-SemVer version", chart, tag, "helm does not list such a tag", where)
        elif not tag.startswith(prefixes):
            what = "a publisher claimed this version and did not name it; publish the same content again"
            yield Finding(
                "stale claim",
                chart,
                tag,
                f"{what}, or remove the tag when nobody is at work",
                where,
            )
