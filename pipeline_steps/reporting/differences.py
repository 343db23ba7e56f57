"""The differences between the renderings of a snapshot and of what is published, for people."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import image_records, snapshot_records
from pipeline_steps.building.channels import Channel
from pipeline_steps.charts import diff
from pipeline_steps.charts.archive import Archive
from pipeline_steps.clusters.helm import RELEASE_NAME_LIMIT, Helm
from pipeline_steps.config.language import Config
from pipeline_steps.reporting.verdict import ChartVerdict
from pipeline_steps.state.state import State
from pipeline_steps.testing import helm_arguments, scenario, settings
from pipeline_steps.toolbox import files, scratch
from pipeline_steps.toolbox.errors import ChartFailed
from pipeline_steps.toolbox.wording import counted
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout

FOLDER = "diff"

log = logging.getLogger("pipeline_steps.snapshot")


class Baseline(NamedTuple):
    """The published chart to compare with.

    description: for people. tgz: None when nothing is published. images: as far as recorded.
    """

    description: str
    version: str
    tgz: bytes | None
    images: Mapping[str, Reference]


def write_diff(
    checkout: Checkout,
    chart: Chart,
    config: Config,
    state: State,
    archive: Archive,
    images: Mapping[str, Reference],
) -> Path:
    """Write the diff of `archive` below the state's folder; returns its path.

    Raises ChartFailed when the chart cannot be rendered, EvidenceError, MachineError's kinds,
    Temporary.
    """
    base = baseline(chart, config, state)
    text = f"{archive.name} {archive.version}, compared with {base.description}\n"
    text += _rendered_differences(checkout, chart, config, archive, images, base)
    path = state.folder / FOLDER / f"{chart.name}.diff"
    files.created_folder(path.parent)
    files.write(path, text.encode(), mode=0o644)
    log.info("%s", text.rstrip("\n"))
    return path


def read_diffs(verdicts: Iterable[ChartVerdict], state: State) -> dict[str, str]:
    """Chart name → the diff that `write_diff` left, if it is about the verdict's snapshot."""
    texts: dict[str, str] = {}
    for chart_verdict in verdicts:
        path = state.folder / FOLDER / f"{chart_verdict.chart.name}.diff"
        if chart_verdict.snapshot and path.is_file():
            text = path.read_text(errors="replace")
            about = text.partition(",")[0].rpartition(" ")[2]
            if about and about in chart_verdict.snapshot:
                texts[chart_verdict.chart.name] = text
    return texts


def baseline(chart: Chart, config: Config, state: State) -> Baseline:
    """The newest version in production, else the newest snapshot of other content, else nothing."""
    published = (
        Channel(config, "production").newest(chart.name)
        if config.channels.production.charts
        else None
    )
    if published:
        records = state.find(step="promote", subject=chart.name)
        matching = [
            record for record in records if record.outputs.get("tar") == published.tar_digest
        ]
        description = f"{chart.name} {published.version} in production"
        images = image_records.images_of(state.preferred(matching)[0]) if matching else {}
        return Baseline(description, published.version, published.archive.tgz, images)
    other_snapshots = [
        snapshot_record
        for snapshot_record in state.find(step="snapshot", subject=chart.name)
        if snapshot_record.content != chart.content
    ]
    if other_snapshots:
        newest = snapshot_records.newest(other_snapshots, state)
        snapshot = snapshot_records.snapshot_of_record(newest)
        description = f"the snapshot {snapshot.version}, as nothing is in production"
        tgz = snapshot_records.fetch_archive(snapshot, config)
        return Baseline(description, snapshot.version, tgz, image_records.images_of(newest))
    return Baseline(
        "nothing: no version is in production, and there is no other snapshot", "", None, {}
    )


def _rendered_differences(
    checkout: Checkout,
    chart: Chart,
    config: Config,
    archive: Archive,
    images: Mapping[str, Reference],
    base: Baseline,
) -> str:
    """The differences with each test values file, or with the chart's own values without any."""
    pattern = settings.values_pattern(config, chart)
    planned = scenario.plan_scenarios(settings.chart_files(checkout, chart), pattern, ("",))
    names = sorted({planned_scenario.values for planned_scenario in planned}) or [""]
    prefix = f"{chart.path}/" if chart.path else ""
    # Images of equal digest and the chart's version differ in every snapshot: hide them.
    data = checkout.tree.read([f"{prefix}{name}" for name in names if name])
    aliases_of_sides = (
        _aliases(base.images, images, chart.name, base.version),
        _aliases(images, images, chart.name, archive.version),
    )
    names_by_text: dict[str, list[str]] = {}
    helm = Helm.find()
    with scratch.folder("diff") as folder:
        arguments = helm_arguments.chart_arguments(config, chart)
        args = (
            *helm_arguments.write_values_files(checkout, arguments, folder / "arguments"),
            *helm_arguments.offline_arguments(config),
        )
        for name in names:
            values = []
            if name:
                (folder / "values.yaml").write_bytes(data[f"{prefix}{name}"])
                values = [folder / "values.yaml"]
            sides = [
                diff.Side(*_templates(helm, folder, chart, tgz, values, args), aliases)
                for tgz, aliases in zip((base.tgz, archive.tgz), aliases_of_sides, strict=True)
            ]
            names_by_text.setdefault(_diff_text(diff.differences(*sides)), []).append(
                name or "its own values"
            )
    return "\n".join(f"\nWith {', '.join(names)}: {text}" for text, names in names_by_text.items())


def _templates(
    helm: Helm,
    folder: Path,
    chart: Chart,
    tgz: bytes | None,
    values: list[Path],
    args: tuple[str, ...],
) -> tuple[str, str]:
    """The chart rendered twice, so that random values can be left out; "" without a chart."""
    if tgz is None:
        return "", ""
    (folder / "chart.tgz").write_bytes(tgz)
    try:
        first, again = (
            helm.template(
                folder / "chart.tgz",
                values=values,
                release=chart.name[:RELEASE_NAME_LIMIT],
                args=args,
            )
            for _ in range(2)
        )
    except ChartFailed as error:
        # An older version may not render with the values of today: that is a difference to show, no
        # failure.
        first = again = f"# Source: helm\n{error.what}\n"
    return first, again


def _diff_text(differences: list[diff.Difference]) -> str:
    if not differences:
        return "nothing else is rendered\n"
    parts = [
        f"--- {difference.name} ({difference.word})\n{difference.text}\n"
        for difference in differences
    ]
    return f"{counted(len(differences), 'resource differs', 'resources differ')}\n" + "".join(parts)


def _aliases(
    images: Mapping[str, Reference], other_images: Mapping[str, Reference], name: str, version: str
) -> dict[str, str]:
    """Texts of one side that must not count as differences, and what to replace them with.

    These are references of images whose digest is equal on both sides, and the chart's name with
    its version.
    """
    aliases = {f"{name}-{version}": f"{name}-VERSION"} if version else {}
    for image, reference in images.items():
        if image in other_images and other_images[image].digest == reference.digest:
            tagged = f"{reference.repository}:{reference.tag}"
            by_digest = f"{reference.repository}@{reference.digest}"
            aliases |= dict.fromkeys(
                (str(reference), tagged, by_digest), f"{image}@{reference.digest}"
            )
    return aliases
