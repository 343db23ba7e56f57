"""Package recorded snapshots and releases again, without publishing them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import msgspec

from pipeline_steps.building import channels, image_records, packaging
from pipeline_steps.charts import archive as archives
from pipeline_steps.charts.archive import Archive, Files
from pipeline_steps.charts.rewrite import rewrite
from pipeline_steps.config.language import Config
from pipeline_steps.repositories.kinds import open_repository, open_repository_of
from pipeline_steps.reproduction.comparison import (
    Outcome,
    compared_chart_files,
    differing_inputs,
    differing_names,
    first_difference,
)
from pipeline_steps.sources.source import short_revision
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    EvidenceError,
    PipelineError,
    UsageError,
)
from pipeline_steps.toolbox.wording import counted
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout, open_checkout


def checkout_of_record(
    record: Record, config: Config, content: Callable[[Checkout], str | None]
) -> Checkout:
    """The recorded revision, or the checkout as it stands where that is what the record was made
    from.

    content: of the record's subject in a checkout. Raises EvidenceError when neither has the
    recorded content: modifications are in no record, only their names.
    """
    current = open_checkout(config)
    try:
        at = open_checkout(config, current.source.revision(record.revision or ""))
        found_content = content(at)
        if found_content == record.content:
            return at
        difference = (
            f"revision {short_revision(record.revision)} has content {str(found_content)[:19]}"
        )
    except UsageError as error:
        difference = str(error)
    except ConfigurationError as error:
        difference = f"revision {short_revision(record.revision)} cannot be read: {error}"
    with contextlib.suppress(ConfigurationError):
        # The checkout may have the very modifications that were built and never committed.
        if content(current) == record.content:
            return current
    modified = record.parameters.get("modified") or ()
    modifications_note = (
        f", made with local modifications of {', '.join(map(str, modified))}" if modified else ""
    )
    raise EvidenceError(
        f"the recorded content {str(record.content)[:19]}{modifications_note} is not here: "
        f"{difference}",
        where=str(config.root),
        advice="go to a checkout with these modifications: a record names them and does not hold "
        "them"
        if modified
        else f"fetch the recorded revision ({current.source.fetch_command}), or go to the checkout it was "
        "made in",
    )


def snapshot(record: Record, config: Config) -> Outcome:
    """Pack the recorded content with the recorded images and compare with the recorded tar.

    Raises EvidenceError when the content is not to be had.
    """
    checkout = checkout_of_record(
        record, config, lambda checkout: checkout.chart_content_if_readable(record.subject)
    )
    chart = checkout.chart(record.subject)
    files = packaging.package_files(checkout, chart)
    input_differences = differing_inputs(
        record.inputs, packaging.package_inputs(image_records.images_of(record), files)
    )
    archive = repack_snapshot(record, checkout, chart, files)
    if archive.tar_digest == record.outputs.get("tar"):
        return Outcome((f"tar {archive.tar_digest}",), tuple(input_differences))
    return _compare_archives(record, archive, config, input_differences)


def repack_snapshot(record: Record, checkout: Checkout, chart: Chart, files: Files) -> Archive:
    """Package a snapshot again, with the version and the images of its record."""
    edits = packaging.image_edits(checkout, chart, files, image_records.images_of(record))
    return rewrite(files, str(record.parameters["version"]), edits, chart.path).archive


def promote(record: Record, config: Config, records_by_id: Mapping[str, Record]) -> Outcome:
    """Derive a release from its tested snapshot again; compare its tar and each recorded change.

    records_by_id: of the state. Raises EvidenceError when the snapshot or its record is missing.
    """
    tested = used_record(record, "snapshot", records_by_id)
    checkout = checkout_of_record(
        record, config, lambda checkout: checkout.chart_content_if_readable(record.subject)
    )
    chart = checkout.chart(record.subject)
    files, notes = _tested_files(tested, checkout, chart, config)
    edits = packaging.image_edits(checkout, chart, files, image_records.images_of(record))
    rewritten = rewrite(files, str(record.parameters["version"]), edits, chart.path)
    changes = [msgspec.structs.asdict(change) for change in rewritten.changes]
    recorded = [dict(change) for change in record.parameters.get("changes", ())]
    change_differences = [str(change) for change in changes if change not in recorded]
    change_differences += [
        f"recorded, not made here: {change}" for change in recorded if change not in changes
    ]
    if rewritten.archive.tar_digest == record.outputs.get("tar"):
        equal = (
            f"tar {rewritten.archive.tar_digest}",
            *([] if change_differences else [counted(len(changes), "change")]),
        )
        return Outcome(equal, tuple(f"change {change}" for change in change_differences), notes)
    outcome = _compare_archives(record, rewritten.archive, config, [])
    return outcome._replace(notes=(*notes, *outcome.notes))


def _tested_files(
    tested: Record, checkout: Checkout, chart: Chart, config: Config
) -> tuple[Files, tuple[str, ...]]:
    """The files of the tested snapshot: the published ones, else packaged again with equal tar."""
    try:
        tgz = fetch_published(tested, config)
        return archives.unpack(tgz, tested.outputs["chart"]), ()
    except PipelineError as error:
        archive = repack_snapshot(tested, checkout, chart, packaging.package_files(checkout, chart))
        # The error of the repository is raised then: it says why the published one cannot be had.
        if archive.tar_digest != tested.outputs.get("tar"):
            raise
        note = (
            f"the tested snapshot cannot be fetched ({error}); packed again, its tar is the "
            "recorded one"
        )
        return archives.unpack(archive.tgz, chart.path), (note,)


def used_record(record: Record, step: str, records_by_id: Mapping[str, Record]) -> Record:
    """The passed record of `step` that `record` uses. Raises EvidenceError if it is not loaded."""
    for identity in record.uses:
        candidate = records_by_id.get(identity)
        if candidate is not None and candidate.step == step and candidate.passed:
            return candidate
    raise EvidenceError(
        f"{record.step} of {record.subject} uses a record of {step} that is not in this state",
        where=record.id[:19],
        advice="bring the state files of the earlier stages, too: pipeline-steps state join",
    )


def fetch_published(record: Record, config: Config) -> bytes:
    """Read the .tgz that a record names from where it was published.

    The channels may have changed since. Raises EvidenceError when the archive is missing or
    different, and the errors of its repository.
    """
    reference = record.outputs.get("chart", "")
    place = reference.rpartition("@")[0].rpartition("/")[0]
    if not place or not record.parameters.get("version"):
        raise EvidenceError(
            f"the record names no published chart: {reference!r}",
            where=record.id[:19],
            advice="name the record of a snapshot or of promote",
        )
    # References of registries and folders contain the repository. Other references are matched with
    # the configured URLs, because their paths may have several parts after the repository's.
    urls = () if reference.startswith(("oci://", "file://")) else channels.repository_urls(config)
    repository = open_repository_of(reference, urls, config.hosts) or open_repository(
        place, config.hosts
    )
    return channels.find_recorded(record, repository).archive.tgz


def _compare_archives(
    record: Record, archive: Archive, config: Config, input_differences: list[str]
) -> Outcome:
    """Compare a rebuilt archive with the published one file by file, if that can be read."""
    digests = f"tar: recorded {record.outputs.get('tar')}, here {archive.tar_digest}"
    try:
        recorded_files = archives.unpack(fetch_published(record, config), record.outputs["chart"])
    except PipelineError as error:
        note = f"the recorded archive cannot be compared file by file: {error}"
        return Outcome((), (*input_differences, digests), (note,))
    rebuilt_files = archives.unpack(archive.tgz)
    old, new = (
        compared_chart_files(recorded_files, recorded_files.executables),
        compared_chart_files(rebuilt_files, rebuilt_files.executables),
    )
    first, names = first_difference(old, new), differing_names(old, new)
    if first is None:
        note = (
            "the files are equal; order, times or owners in the tar are not: another program "
            "made one of them"
        )
        return Outcome((), (*input_differences, digests), (note,))
    further = (f"{len(names)} files differ: {', '.join(names[:10])}",) if len(names) > 1 else ()
    return Outcome((), (*input_differences, digests, str(first)), further)
