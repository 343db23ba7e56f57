"""What a release of a chart would be: asked by tag_release and promote, writes nothing.

It reads the tested snapshot, derives the production chart from it, compares what both render, and
sees that every name is free. Why the content may be released at all stands in `proof`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.building import production_chart, production_images, snapshot_records
from pipeline_steps.building.channels import Channel, WritableChannel
from pipeline_steps.building.production_images import ImageCopy, image_copies
from pipeline_steps.charts import compare
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.edit import Change
from pipeline_steps.charts.rewrite import replaced_values, verify_rewrite
from pipeline_steps.charts.version import is_withdrawn
from pipeline_steps.clusters.helm import RELEASE_NAME_LIMIT, Helm
from pipeline_steps.config.language import Config, Sign
from pipeline_steps.oci.copy import tag_points_to
from pipeline_steps.release.proof import Proof
from pipeline_steps.state.record import Record, fingerprint
from pipeline_steps.testing import helm_arguments, settings
from pipeline_steps.toolbox import scratch
from pipeline_steps.toolbox.errors import ChartFailed, Conflict, EvidenceError, NotYet
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout
from pipeline_steps.workspace.content import FORMAT

log = logging.getLogger(__name__)

#: Inputs of comparisons that this process has made and that held: `run` promotes right after it has
#: tagged.
_compared: set[str] = set()


class ReleaseCandidate(NamedTuple):
    """The images and the chart that promote would publish.

    snapshot: the tested snapshot from which `archive` is derived. changes: how they differ.
    """

    proof: Proof
    snapshot: Record
    copies: tuple[ImageCopy, ...]
    archive: Archive
    changes: tuple[Change, ...]


def derive_release(
    proof: Proof,
    checkout: Checkout,
    config: Config,
    production: WritableChannel,
    *,
    format: int = FORMAT,
) -> ReleaseCandidate:
    """Derive the production chart from the tested snapshot and check that it can be released.

    Args:
        production: the channel to publish to.
        format: format of the content in the release's tag; decides the names of images.

    Raises:
        EvidenceError: the snapshot is missing or changed, or tests rendered another chart.
        ChartFailed: the derived chart renders differently from the tested one.
        Conflict: the version is withdrawn, or it or an image's tag is used by other content.
        NotYet: the configuration needs something this version cannot do.
    """
    chart = proof.chart
    _refuse_unreleasable(chart, config)
    snapshot = _snapshot_in_channel(proof, config)
    tested = snapshot_records.fetch_archive(snapshot_records.snapshot_of_record(snapshot), config)
    copies = image_copies(snapshot, chart, checkout, format=format)
    images = {image.name: image.destination for image in copies}
    rewritten = production_chart.derive_production_chart(tested, snapshot, chart, checkout, images)
    # Undoing the changes must give the tested tar: nothing else came in by the way.
    verify_rewrite(rewritten.archive.tgz, rewritten.changes, snapshot.outputs["tar"], chart.path)
    tar_today = rewritten.archive.tar_digest
    if format != FORMAT:  # the tests rendered the chart with today's names of images
        names = production_images.production_image_names(checkout, chart)
        today = production_chart.derive_production_chart(tested, snapshot, chart, checkout, names)
        tar_today = today.archive.tar_digest
    _require_rendered_in_tests(proof, rewritten.archive.tar_digest, tar_today)
    release = ReleaseCandidate(proof, snapshot, copies, rewritten.archive, rewritten.changes)
    _compare_rendered(release, tested, checkout)
    for image in release.copies:
        # Asked before anything is copied: a tag with other content refuses the release as a whole.
        tag_points_to(image.destination, image.destination.digest or "", hosts=config.hosts)
    production.check_version_free(release.archive)
    return release


def _snapshot_in_channel(proof: Proof, config: Config) -> Record:
    """A tested snapshot that the configured channel has. Raises EvidenceError when it has none."""
    chart = proof.chart
    channel = Channel(config, "snapshot")
    for record in proof.snapshots:
        # Only the first repository is read by what follows; the others are its copies.
        if channel.has_complete(record, everywhere=False):
            return record
    tested = ", ".join(record.outputs["chart"] for record in proof.snapshots)
    raise EvidenceError(
        f"the snapshot channel ({channel.first.url}) does not have what was tested: {tested}",
        where=chart.path,
        advice="run build_image, snapshot and integration_test: they build and test again what is "
        "missing",
    )


def _refuse_unreleasable(chart: Chart, config: Config) -> None:
    """Refuse withdrawn versions and settings that are not supported yet."""
    if config.release.sign != Sign():
        raise NotYet("release.sign", where=config.where("release.sign"))
    if config.release.pin != "ours":
        raise NotYet("release.pin: all", where=config.where("release.pin"))
    if is_withdrawn(config.release.withdrawn, chart.name, chart.version):
        where = config.where("release.withdrawn")
        raise Conflict(
            f"{chart.name} {chart.version} is withdrawn", where=where, advice="raise the version"
        )


def _require_rendered_in_tests(proof: Proof, tar: str, tar_today: str) -> None:
    """Raises EvidenceError unless every test on a cluster rendered exactly this derived chart.

    tar: its tar digest. tar_today: of the chart with the names that its images have in a tag of
    today's format; another one for an image of several charts in a tag of format 1.
    """
    chart = proof.chart
    for record in proof.tests:
        if record.parameters.get("scenario") == settings.NO_TEST.kind:
            log.info(
                "%s: no cluster tests it (%s): what it renders is compared offline only",
                chart.name, record.parameters.get("none"),
            )  # fmt: skip
            continue
        rendered = record.outputs.get(settings.DERIVED_TAR)
        if rendered == tar_today != tar:
            raise EvidenceError(
                "the tag has no Pipeline-Format line: images of several charts get other names in "
                "its release than in the chart that the tests rendered",
                where=chart.path,
                advice='set release.image_tag: "{version}", the names that it stands for, and test '
                "again; or raise the version",
            )
        if rendered != tar:
            values = record.parameters.get("values") or ""
            scenario = f"{record.parameters.get('scenario')} {values}".rstrip()
            raise EvidenceError(
                f"the test {scenario} on {record.parameters.get('cluster')} rendered another chart "
                f"than would be released: its tar is {rendered or 'not recorded'}, here {tar}",
                where=chart.path,
                advice="run pipeline-steps integration_test --again",
            )


def _compare_rendered(release: ReleaseCandidate, tested: bytes, checkout: Checkout) -> None:
    """Render both charts with every tested values file and compare.

    Raises ChartFailed, which names template and line.
    """
    chart = release.proof.chart
    if chart.type == "library":  # helm renders none: its dependents were rendered in their tests
        log.info("%s: a library renders nothing by itself", chart.name)
        return
    helm = Helm.find()
    # Once for each values file: clusters do not change what is rendered offline.
    names = sorted({str(record.parameters.get("values", "")) for record in release.proof.tests})
    prefix = f"{chart.path}/" if chart.path else ""
    files = checkout.tree.read([f"{prefix}{name}" for name in names if name])
    values = {name: files[f"{prefix}{name}"] if name else b"" for name in names}
    arguments = helm_arguments.chart_arguments(checkout.config, chart)
    offline = helm_arguments.offline_arguments(checkout.config)
    inputs = fingerprint(
        {
            "helm": [helm.program, helm.version],
            "charts": [sha256(tested), release.archive.digest],
            "values": {name: sha256(data) for name, data in values.items()},
            "arguments": [arguments, helm_arguments.values_file_digests(checkout, arguments)],
            "offline": offline,
        }
    )
    if inputs not in _compared:
        with scratch.folder("render") as folder:
            helm_args = (
                *helm_arguments.write_values_files(checkout, arguments, folder / "arguments"),
                *offline,
            )
            _compare_with_values(helm, release, tested, values, helm_args, folder)
        _compared.add(inputs)


def _compare_with_values(
    helm: Helm,
    release: ReleaseCandidate,
    tested: bytes,
    values: Mapping[str, bytes],
    helm_args: Sequence[str],
    folder: Path,
) -> None:
    """Render both charts with each values file ("" for none) and compare. folder: for scratch."""
    chart = release.proof.chart
    for name, tgz in {"tested": tested, "released": release.archive.tgz}.items():
        (folder / f"{name}.tgz").write_bytes(tgz)
    names = list(values)
    for number, name in enumerate(names):
        (folder / f"values-{number}.yaml").write_bytes(values[name])

    def render(chart_name: str, number: int) -> str:
        return helm.template(
            folder / f"{chart_name}.tgz",
            values=[folder / f"values-{number}.yaml"] if names[number] else [],
            release=chart.name[:RELEASE_NAME_LIMIT],
            args=helm_args,
        )

    def compared(number: int) -> compare.Comparison:
        return compare.compare_renderings(
            functools.partial(render, "tested", number),
            functools.partial(render, "released", number),
            replaced_values(release.changes),
        )

    # Threads, as helm does the work in processes of its own.
    with ThreadPoolExecutor(4) as pool:
        for name, comparison in zip(names, pool.map(compared, range(len(names))), strict=True):
            if comparison.refused:
                raise ChartFailed(
                    f"with {name or 'its own values'} the release would not render as tested: "
                    + "; ".join(map(str, comparison.refused[:5])),
                    where=chart.path,
                    advice=compare.ADVICE,
                )
