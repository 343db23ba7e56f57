"""`pipeline-steps state show | html | verify | get | join | pull`: the records of a checkout, for
people and scripts.

    pipeline-steps state show [--graph]
    pipeline-steps state html [--output FILE]
    pipeline-steps state get hello snapshot.chart
    pipeline-steps state verify
    pipeline-steps state join agent-1/state.jsonl agent-2/state.jsonl
    pipeline-steps state pull --revision HEAD

show: what was done, with its outputs or why it did not pass, in the width of the terminal, digests
by their first 12 digits (--json has them whole); --graph: a tree of what used what.
html: one page that loads nothing, by default .pipeline/state.html; the content that is checked out
comes first for each chart (with --state: the newest record); its path on stdout. Both say which of
several records the steps use with this configuration; verify says whether a channel still has them.
get: one value on stdout, of what is checked out, from the evidence stores where it was made
elsewhere. verify: ids, uses, contradictions, tags, every output that no record supersedes. join:
adds the records of other files to this checkout's, copied line by line. pull: adds what the
evidence stores have behind a commit (--revision) or an image or chart (--digest).
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from pipeline_steps.audits.state_records import source_tags, verify_records
from pipeline_steps.cli import boundary
from pipeline_steps.cli.command import (
    Command,
    configuration_if_any,
    open_state_file,
    run_command,
)
from pipeline_steps.cli.options import CONFIG, QUIET, STATE, VERBOSE, Option
from pipeline_steps.commands.state_pull import pull
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import as_tuple
from pipeline_steps.evidence.state_files import refuse_tracked, refuse_tracked_file
from pipeline_steps.evidence.trust import channel_locations
from pipeline_steps.reporting import state_page
from pipeline_steps.reporting.chains import unused_verdicts
from pipeline_steps.reporting.state_text import graph, list_records
from pipeline_steps.state import file
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import (
    EvidenceError,
    PipelineError,
    UsageError,
    worst,
)
from pipeline_steps.toolbox.redact import printable
from pipeline_steps.toolbox.wording import counted
from pipeline_steps.workspace.checkout import open_checkout

COMMAND = Command(
    "state",
    __doc__,
    (
        CONFIG,
        STATE,
        Option("shard", "shard", "I/N: the state file of that shard"),
        Option("json", "flag", "show: records as JSON lines"),
        Option("graph", "flag", "show: as a tree of what used what"),
        Option(
            "output", "path", "html: the file to write; default: state.html beside the state file"
        ),
        Option("revision", "text", "pull: the records about the contents at this revision"),
        Option(
            "digest", "text", "pull: the records behind this image, chart or content (sha256:…)"
        ),
        QUIET,
        VERBOSE,
    ),
    words="show|html|verify|get|join|pull",
)


def main(argv: list[str] | None = None) -> int:
    """Returns 0, or 4 when something recorded does not hold."""
    return run_command(COMMAND, perform, argv)


def perform(arguments: Namespace) -> int:
    """Do what the first word says, with the state that the options name."""
    verb, *words = arguments.words or [""]
    if verb not in VERBS:
        raise UsageError(
            f"state cannot {verb}" if verb else "state needs to know what to do",
            advice=f"write one of {', '.join(VERBS)}",
        )
    if arguments.state:
        path = Path.cwd() / arguments.state
        if verb != "pull" and not path.exists():
            raise UsageError(
                "there is no such state file", where=str(path), advice="correct --state"
            )
        locations = _configured_channels(arguments)
        arguments.channels_known = locations is not None
        state = State(path, channel_locations=locations or ())
        refuse_tracked(state)
    else:
        arguments.channels_known = True
        state = open_state_file(load(arguments.config), arguments, all_records=verb != "get")
    return VERBS[verb](state, words, arguments)


def _configured_channels(arguments: Namespace) -> tuple[str, ...] | None:
    """Where the channels are that are configured here; None where nothing is configured.

    Records are looked at while pipeline.yaml is being repaired, too.
    """
    try:
        config = configuration_if_any(arguments)
    except PipelineError:
        if arguments.config:
            raise
        return None
    return channel_locations(config) if config else None


def show(state: State, _words: list[str], arguments: Namespace) -> int:
    """Print every current record; superseded ones count as its attempts."""
    records = state.records()
    if arguments.json:
        for record in records:
            boundary.print_json(record)
        return 0
    if not records:
        print(f"no records yet in {state.folder}")
        return 0
    if arguments.graph:
        print(*graph(records, state.preferred), sep="\n")
    else:
        print(*list_records(records, state.preferred, _columns()), sep="\n")
    if not arguments.channels_known and any(unused_verdicts(records, state.preferred).values()):
        boundary.log.warning(state_page.WITHOUT_CHANNELS)
    return 0


def _columns() -> int | None:
    """The width of the terminal, None where the output goes elsewhere and COLUMNS says nothing."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    return None


def page(state: State, _words: list[str], arguments: Namespace) -> int:
    """Write the page and print its path. Raises MachineError when the file cannot be written."""
    target: Path = Path.cwd() / (arguments.output or state.folder / "state.html")
    beside = target.parent.resolve() == state.folder.resolve()
    title = f"Chain of evidence of {state.folder.resolve().parent.name}"
    checked_out = None if arguments.state else _checked_out(arguments)
    document = state_page.page(
        state.records(),
        title,
        files=beside,
        checked_out=checked_out,
        preferred=state.preferred,
        channels_known=arguments.channels_known,
    )
    if beside:
        file.ensure_folder(state.path)
    else:
        files.folder(target.parent, mode=0o755)
    files.write(target, document.encode(errors="replace"), mode=0o644)
    print(target)
    return 0


def _checked_out(arguments: Namespace) -> dict[str, str] | None:
    """Chart → its checked-out content; None, with a warning, when the checkout cannot be read.

    The page must also work without a checkout: for records downloaded from a CI agent.
    """
    try:
        return open_checkout(load(arguments.config)).chart_contents()
    except PipelineError as error:
        boundary.log.warning("the page cannot tell what is checked out: %s", error)
        return None


def get(state: State, words: list[str], arguments: Namespace) -> int:
    """`get SUBJECT STEP.OUTPUT`: print an output of the passed record of the checked-out content.

    With --state, of the newest content in that file. Raises EvidenceError without such a record.
    """
    if len(words) != 2 or "." not in words[1]:
        raise UsageError(
            "state get needs a subject and an output",
            advice="write state get SUBJECT STEP.OUTPUT, like state get hello snapshot.chart",
        )
    subject, (name, _, output) = words[0], words[1].partition(".")
    content = None if arguments.state else _checked_out_content(subject, arguments)
    local_records = state.find(step=name, subject=subject)
    matching = [record for record in local_records if content in (None, record.content)]
    if content and not matching:  # a step that answered `already done` may have found it in a store
        matching = state.find(step=name, subject=subject, content=content)
    if local_records and not matching:
        raise EvidenceError(
            f"{name} of {subject} is recorded, but not of what is checked out "
            f"({str(content)[:19]})",
            where=str(state.path),
            advice=f"run pipeline-steps {name}, or name the file: --state {state.path}",
        )
    if not matching:
        subjects = sorted({record.subject for record in state.find(step=name)})
        raise EvidenceError(
            f"the state has no passed {name} of {subject}",
            where=str(state.folder),
            advice=f"name one that it has ({', '.join(subjects) or 'none'}), or run pipeline-steps "
            f"{name}",
        )
    preferred = state.preferred(matching)[0]
    if output not in preferred.outputs:
        raise UsageError(
            f"{name} of {subject} has no output {output}",
            advice=f"name one of {', '.join(preferred.outputs)}",
        )
    print(printable(preferred.outputs[output]))
    return 0


def _checked_out_content(subject: str, arguments: Namespace) -> str | None:
    """The checked-out content of a chart or image, None when there is none of this name.

    Raises ConfigurationError for a chart that cannot be read.
    """
    checkout = open_checkout(load(arguments.config))
    if subject in checkout.readable_charts:
        return checkout.chart(subject).content
    if subject in checkout.image_names:
        return checkout.image_content(subject)
    for unreadable in checkout.unreadable.values():  # one of them may be the chart of this name
        raise unreadable.error.fresh()
    return None


def join(state: State, words: list[str], _arguments: Namespace) -> int:
    """`join FILE…`: append the records of other files; lines are copied, so that ids stay valid."""
    if not words:
        raise UsageError(
            "state join needs the state files to join",
            advice="write state join FILE…",
        )
    known_ids = {record.id for record in file.load(state.path)}
    added = 0
    for word in words:
        if not Path(word).is_file():
            raise UsageError("the state file does not exist", where=word, advice="correct its path")
        refuse_tracked_file(Path(word))
        for line, record in file.load_lines(Path(word)):
            if record.id not in known_ids:
                file.ensure_folder(state.path)
                file.append(state.path, line)
                known_ids.add(record.id)
                added += 1
    boundary.log.info(
        "%s: %s added, %d in all", state.path, counted(added, "record"), len(known_ids)
    )
    return 0


def verify(state: State, _words: list[str], arguments: Namespace) -> int:
    """Check ids, uses, contradictions, tags and every reachable output, with the layers of images.

    Prints a line for each that does not hold, and the number of each verdict. Raises EvidenceError
    for what does not hold, else the worst error of what cannot be reached.

    What nobody can detect: a forger who recomputes ids
    (docs/explanation/trust.md#what-is-not-claimed).
    """
    config = None if arguments.state and not arguments.config else load(arguments.config)
    hosts = config.hosts if config else {}
    channels = (
        (config.channels.snapshot.charts, config.channels.production.charts) if config else ()
    )
    charts = [url for urls in channels for url in as_tuple(urls) if url]
    counts: dict[str, int] = {}
    errors: list[PipelineError] = []
    for finding in verify_records(state, hosts, charts, source_tags(config) if config else None):
        counts[finding.verdict] = counts.get(finding.verdict, 0) + 1
        errors += [finding.error] if finding.error else []
        if finding.verdict != "holds":
            print(printable(f"{finding.verdict}: {finding.what}", lines=False))
    print(
        ", ".join(f"{number} {verdict}" for verdict, number in sorted(counts.items()))
        or "nothing to verify"
    )
    if counts.keys() & {"changed", "gone", "unresolved", "truncated", "contradictory"}:
        raise EvidenceError(
            "the state has faults",
            where=str(state.folder),
            advice="correct what the lines above name, or run those steps again",
        )
    code = worst([error.exit_code for error in errors])
    # What cannot be read is not taken for whole.
    for error in errors:
        if error.exit_code == code:
            raise error.fresh()
    return 0


VERBS: dict[str, Callable[[State, list[str], Namespace], int]] = {
    "show": show,
    "html": page,
    "verify": verify,
    "get": get,
    "join": join,
    "pull": pull,
}

if __name__ == "__main__":
    raise SystemExit(main())
