"""The chart that promote makes of a tested snapshot.

integration_test asks the same before there is a tag, to see that the derived chart renders as the
tested one.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import image_records, packaging
from pipeline_steps.charts.archive import unpack
from pipeline_steps.charts.rewrite import Rewritten, rewrite
from pipeline_steps.state.record import Record
from pipeline_steps.workspace.chart import Chart
from pipeline_steps.workspace.checkout import Checkout


def derive_production_chart(
    tested: bytes,
    snapshot: Record,
    chart: Chart,
    checkout: Checkout,
    images: Mapping[str, Reference],
) -> Rewritten:
    """The production chart of a snapshot: its version, its appVersion where configured, its images
    replaced.

    tested: the snapshot's .tgz. images: as `production_image_names` gives them; empty: only the
    version is replaced. Raises ConfigurationError, EvidenceError when the archive is not the
    recorded one.
    """
    files = unpack(tested, snapshot.outputs["chart"])
    digests = {name: tested.digest for name, tested in image_records.images_of(snapshot).items()}
    edits = {}
    # Without images to name only the version is set, as in a chart whose images stay where they
    # are.
    if images or not digests:
        released = {name: images[name]._replace(digest=digest) for name, digest in digests.items()}
        edits = packaging.image_edits(checkout, chart, files, released)
    return rewrite(files, chart.version, edits, chart.path)
