"""`pipeline-steps reproduce STEP/SUBJECT | ID`: repeat a recorded step, publish nothing, compare.

    pipeline-steps reproduce snapshot/hello
    pipeline-steps reproduce integration_test/hello --state https://ci.example.com/…/state.jsonl --keep
    pipeline-steps reproduce 2f811e24f293 --state downloads/.pipeline

Started in a checkout; reads the recorded revision, not what lies there. STEP/SUBJECT is the verdict
that counts for what is checked out, else for what was recorded last; ID is the beginning of an id. Ends
with 0 when every output is equal, with 4 naming the first file and byte that differs and the likely
cause. A test is equal when it ends as recorded; --keep leaves its namespace when it fails, and
prints how to look into it.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from pipeline_steps.auth.credentials import from_hosts
from pipeline_steps.auth.hosts import entry_for
from pipeline_steps.cli import boundary
from pipeline_steps.cli.command import Command, run_command
from pipeline_steps.cli.options import CONFIG, QUIET, VERBOSE, Option
from pipeline_steps.commands import state_pull
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.evidence.kinds import open_store
from pipeline_steps.evidence.state_files import refuse_tracked
from pipeline_steps.evidence.stores import Stores
from pipeline_steps.evidence.trust import channel_locations
from pipeline_steps.reproduction import rebuilding, repacking, retesting
from pipeline_steps.reproduction.comparison import Outcome
from pipeline_steps.sources.source import short_revision
from pipeline_steps.state import union
from pipeline_steps.state.record import VERDICTS, Record
from pipeline_steps.state.state import FILE, FOLDER, State
from pipeline_steps.toolbox import http, scratch
from pipeline_steps.toolbox.errors import EvidenceError, PipelineError, UsageError
from pipeline_steps.toolbox.redact import printable
from pipeline_steps.workspace.checkout import open_checkout

COMMAND = Command(
    "reproduce",
    __doc__,
    (
        CONFIG,
        Option(
            "state",
            "text",
            "state file, its folder or its URL, or an evidence store; default: this checkout's",
        ),
        Option("last-failed", "flag", "a failed record, though another verdict supersedes it"),
        Option("keep", "flag", "a test that fails again: leave its namespace, print kubectl lines"),
        Option(
            "cluster",
            "text",
            "the cluster of the configuration to test on; default: the recorded one",
        ),
        Option("timeout", "seconds", "seconds (or 5m, 1h) for a build or a scenario"),
        QUIET,
        VERBOSE,
    ),
    words="STEP/SUBJECT|ID",
)
LARGEST_STATE = 2**30
#: Why the other steps cannot be reproduced.
NOT_REPRODUCED = {
    "selection": "it says what was asked, and makes nothing",
    "check": "run pipeline-steps check at the revision: it publishes nothing",
    "report": "it told a review what other records say",
    "tag_release": "a tag is only a name: reproduce the promote or the snapshot it stands on",
    **dict.fromkeys(
        ("approval", "merge", "deploy", "audit", "verify", "sweep"),
        "it asks the world as it is now",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Returns 0 when equal, 4 when something differs or is missing, 2, 7, 8, 75 as steps do."""
    return run_command(COMMAND, reproduce, argv)


def reproduce(arguments: Namespace) -> int:
    """Find the record, repeat its step and report what differs."""
    if len(arguments.words) != 1:
        raise UsageError(
            "reproduce needs one record",
            advice="give STEP/SUBJECT like snapshot/hello, or a record's id",
        )
    config = load(arguments.config)
    (name,) = arguments.words
    with _open_state(config, arguments.state, name) as state:
        record = find_record(
            state, name, last_failed=arguments.last_failed, contents=_checked_out(config)
        )
        return report(record, perform(record, config, state, arguments))


@contextmanager
def _open_state(config: Config, location: str | None, name: str) -> Iterator[State]:
    """Open the state of --state: file, folder, URL or evidence store; default: the checkout's."""
    if not location:
        yield _open_file(config.root / FOLDER / FILE, config)
        return
    if re.match(r"https?://", location):
        with scratch.folder("state") as folder:
            _fetch(location, folder / FILE, config)
            yield State(folder / FILE, channel_locations=channel_locations(config))
        return
    path = Path.cwd() / (
        unquote(location.removeprefix("file://")) if location.startswith("file://") else location
    )
    if path.is_dir() and any(path.glob("state*.jsonl")):
        yield _open_file(path / FILE, config)
        return
    if location.startswith("oci://") or (location.startswith("file://") and path.is_dir()):
        with scratch.folder("state") as folder:
            state = State(folder / FILE, channel_locations=channel_locations(config))
            yield _state_of_store(location, state, config, name)
        return
    if not path.is_file():
        raise UsageError("the state file does not exist", where=str(path), advice="correct --state")
    yield _open_file(path, config)


def _open_file(path: Path, config: Config) -> State:
    state = State(path, channel_locations=channel_locations(config))
    refuse_tracked(state)
    return state


def _state_of_store(url: str, state: State, config: Config, name: str) -> State:
    """Read an evidence store's records about the checked-out charts, or about a record's content.

    Raises UsageError for an abbreviated id: a store finds records by content or whole id.
    """
    stores = Stores([open_store(url, config.hosts)], None)
    if "/" in name:
        contents = state_pull.contents(config, open_checkout(config).revision)
    else:
        digits = name.removeprefix("sha256:")
        if len(digits) != 64:
            advice = "give all 64 digits, or STEP/SUBJECT in a checkout of the revision"
            raise UsageError(
                f"{name}: a store does not find records by a part of their id",
                where=url,
                advice=advice,
            )
        contents = [
            str(record.content)
            for _line, record in stores.fetch_by_id([f"sha256:{digits}"])
            if record.content
        ]
    state_pull.append_missing(state, state_pull.fetch_records(stores, contents)[0])
    state.refresh()
    return state


def _fetch(url: str, target: Path, config: Config) -> None:
    """Download a state file with the login and CA file of `hosts`.

    Raises AccessRefused, Unreachable.
    """
    place = url.partition("://")[2]
    entry = entry_for(config.hosts, place)[1]
    host, _, path = place.partition("/")
    login = from_hosts(host, path, config.hosts)
    headers = {"Authorization": http.basic(login.username, login.password)} if login else {}
    with target.open("wb") as sink:
        answer = http.Client(ca_file=entry.ca_file).request(
            "GET", url, headers=headers, sink=sink, cap=LARGEST_STATE
        )
    if answer.status != 200:
        raise http.error_for_status(answer)


def _checked_out(config: Config) -> frozenset[str]:
    """The contents of the charts and images that are checked out; none where that cannot be told,
    as in a checkout that is being repaired: then it decides nothing.
    """
    try:
        checkout = open_checkout(config)
        images = [checkout.image_content(name) for name in checkout.image_names]
        return frozenset([*checkout.chart_contents().values(), *images])
    except PipelineError as error:
        boundary.log.debug("what is checked out cannot be told: %s", error)
        return frozenset()


def find_record(
    state: State, name: str, *, last_failed: bool, contents: Collection[str] = ()
) -> Record:
    """The record that `name` stands for: STEP/SUBJECT, or the beginning of an id.

    Of STEP/SUBJECT the verdict (or failure) that nothing supersedes: of what is checked out
    (contents) where that is recorded, else of the content that was recorded last; of several the
    one that counts first for every step. Raises UsageError, EvidenceError when there is none or the
    id is not unique.
    """
    records = state.records()
    step, slash, subject = name.partition("/")
    if not slash:
        digits = name.removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-f]{4,64}", digits):
            raise UsageError(
                f"{name} names no record",
                advice="write STEP/SUBJECT like snapshot/hello, or four or more digits of an id",
            )
        matching = [
            record for record in records if record.id.removeprefix("sha256:").startswith(digits)
        ]
        if len(matching) != 1:
            listed = ", ".join(record.id[7:19] for record in matching) or "none"
            raise EvidenceError(
                f"{len(matching)} records begin with {digits}: {listed}",
                advice="give more digits: pipeline-steps state show --graph lists them",
            )
        return matching[0]
    results = ("failed",) if last_failed else tuple(VERDICTS)
    superseded_ids = union.superseded(records)
    matching_records = [
        record
        for record in records
        if (record.step, record.subject) == (step, subject)
        and record.result in results
        and (last_failed or record.id not in superseded_ids)
    ]
    if not matching_records:
        available = sorted(
            {f"{record.step}/{record.subject} ({record.result})" for record in records}
        )
        raise EvidenceError(
            f"there is no {'failed ' if last_failed else ''}record of {name}",
            advice=f"name one of those that exist: {', '.join(available) or 'none'}",
        )
    of_checkout = [record for record in matching_records if record.content in contents]
    # Nothing orders contents that are not checked out: the file's last one is what was done last.
    last_content = matching_records[-1].content
    of_last = [record for record in matching_records if record.content == last_content]
    return state.preferred(of_checkout or of_last)[0]


def perform(record: Record, config: Config, state: State, arguments: Namespace) -> Outcome:
    """Repeat the step of `record`. Raises UsageError for a step that cannot be reproduced."""
    boundary.log.info(
        "%s of %s, record %s, %s", record.step, record.subject, record.id[7:19], record.result
    )
    by_id = {other.id: other for other in state.records()}
    if record.step == "integration_test":
        return retesting.integration_test(
            record,
            config,
            by_id,
            cluster=arguments.cluster,
            keep=arguments.keep,
            timeout=arguments.timeout,
        )
    if arguments.keep or arguments.cluster:
        raise UsageError(
            f"--keep and --cluster are for integration_test, not for {record.step}",
            advice="leave them out",
        )
    if record.step not in ("snapshot", "promote", "build_image"):
        reason = NOT_REPRODUCED.get(
            record.step, "its program is not ours: run it again as its parameters say"
        )
        raise UsageError(
            f"{record.step} is not reproduced: {reason}",
            advice="name the record of a build, a snapshot, a test or a release",
        )
    if not record.passed:
        raise UsageError(
            f"this {record.step} {record.result}, there is no output to compare: "
            f"{record.reason or 'no reason given'}",
            advice=f"run pipeline-steps {record.step} at revision {short_revision(record.revision)}",
        )
    if record.step == "build_image":
        return rebuilding.build_image(record, config, timeout=arguments.timeout)
    return (
        repacking.snapshot(record, config)
        if record.step == "snapshot"
        else repacking.promote(record, config, by_id)
    )


def report(record: Record, outcome: Outcome) -> int:
    """Print what is equal and what differs; returns 0. Raises EvidenceError for differences."""
    for note in outcome.notes:
        boundary.log.info("%s", note)
    for line in outcome.equal:
        print(printable(f"equal: {line}"))
    for line in outcome.differences:
        print(printable(f"differs: {line}"))
    if outcome.differences:
        raise EvidenceError(
            f"{record.step} of {record.subject} is not reproduced: {outcome.differences[-1]}",
            where=record.id[:19],
            advice="the lines above say what differs: find out what changed since the record was made",
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
