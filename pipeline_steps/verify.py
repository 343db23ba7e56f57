"""Check one chart's chain of evidence by its records: what was tested is what is published.

    pipeline-steps verify oci://registry.example.com/charts/hello:1.2.3
    pipeline-steps verify oci://registry.example.com/charts/hello@sha256:7d0e…
    pipeline-steps verify file:///srv/charts/hello-1.2.3.tgz

Reads the chart, and finds by its digests the records of its release in the state and the evidence
stores: promote's changes, undone, must give the tested tar again; the tests must have passed with
that snapshot; each image must be the tested one, and its registry must have all of it: manifests,
configurations, layers, the tag. Prints each link to stdout: holds, missing or changed. Writes a
record. Changes nothing outside. Exits with 4 when a link does not hold. What was tested it knows by
records: whoever may write those may claim anything.
"""

from __future__ import annotations

import logging

from pipeline_steps.audits import chain
from pipeline_steps.audits.state_records import source_tags
from pipeline_steps.cli.options import Option
from pipeline_steps.cli.step import Step, run_step
from pipeline_steps.config.language import Config
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record, make_key
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError, UsageError

STEP = Step(
    "verify",
    __doc__,
    reuses_records=False,
    subjects="none",
    keywords=("plan",),
    options=(
        Option(
            "reference",
            "word",
            "the chart: oci://host/path/name:1.2.3, …@sha256:… or file:///…/name-1.2.3.tgz",
        ),
    ),
    doctor_needs=("production charts",),
    reads=("build_image", "snapshot", "integration_test", "promote"),
    writes=("chart", "tar"),
    needs_configuration=False,
)
FORMAT = 1

log = logging.getLogger("pipeline_steps.verify")  # __name__ is __main__ under -m


def verify(
    *, config: Config, state: State, reference: str | None = None, plan: bool = False
) -> Record | tuple[Record, ...]:
    """Check the chain of evidence of the chart that `reference` names.

    The record's parameter "links" lists the links with their status. plan: log the links, record
    nothing, return ().

    Raises:
        EvidenceError: a link is missing or changed, or the chart does not exist.
        UsageError: `reference` is not the reference of a chart.
        MachineError, Temporary: a registry or repository cannot be read.
    """
    if not reference:
        raise UsageError("no chart to verify is given", advice=chain.ADVICE)
    if plan:
        chart = chain.fetch(reference, config)
        for link in chain.links(chart, state, config.hosts, source_tags(config)):
            log.info("%s", link)
        return ()
    key = make_key("verify", FORMAT, parameters={"reference": reference}, content=None, consumed={})
    with record_attempt(
        state, step="verify", subject="verify", key=key, parameters={"reference": reference}
    ) as attempt:
        chart = chain.fetch(reference, config)
        links = chain.links(chart, state, config.hosts, source_tags(config))
        attempt.parameters["links"] = [str(link) for link in links]
        broken = [link.what for link in links if link.status != "holds"]
        is_changed = any(link.status == "changed" for link in links)
        if broken:
            problem = f"{len(broken)} of {len(links)} links do not hold: {'; '.join(broken[:3])}"
            raise EvidenceError(
                problem,
                where=chart.reference,
                advice="see who changed it, and release a higher version"
                if is_changed
                else "configure `evidence`, or fetch its records with pipeline-steps state pull",
            )
        return attempt.passed({"chart": chart.reference, "tar": chart.archive.tar_digest})


def shown(record: Record, state: State) -> str:
    """The links of the record, one per line."""
    return "".join(f"{link}\n" for link in record.parameters.get("links", []))


def main(argv: list[str] | None = None) -> int:
    return run_step(STEP, verify, argv, shown=shown)


if __name__ == "__main__":
    raise SystemExit(main())
