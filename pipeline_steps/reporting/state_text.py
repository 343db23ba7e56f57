"""Records as plain text: a list, and a tree of the records that each record uses."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from pipeline_steps.reporting.chains import Order, duration_text, unused_verdicts
from pipeline_steps.reporting.rendering import short, utc
from pipeline_steps.state import union
from pipeline_steps.state.record import Record
from pipeline_steps.state.union import count_attempts, superseded
from pipeline_steps.toolbox.redact import printable

_HEAD = ("step", "subject", "result", "id", "finished (UTC)")
_DIGEST, _FIRST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}"), r"\1"


def list_records(
    records: Iterable[Record], preferred: Order = union.preferred, width: int | None = None
) -> Iterator[str]:
    """Every current record as a line, followed by its outputs or by the reason of its failure.

    preferred: `State`'s; it says which of several records of a key steps use. width: columns to
    wrap lines at; a name is never cut, and nothing is left out but the ends of digests.
    """
    all_records = list(records)
    replaced, answered = superseded(all_records), _answered_intents(all_records)
    unused = unused_verdicts(all_records, preferred)
    shown = [
        record for record in all_records if record.id not in replaced and record.id not in answered
    ]
    tries: dict[str, list[Record]] = {}
    for record in all_records:
        tries.setdefault(record.key, []).append(record)
    rows = [_HEAD, *map(_cells, shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    if width is not None:  # a long name makes its own row wide, and not all others
        widths[1] = max(len(_HEAD[1]), min(widths[1], width - sum(widths) + widths[1] - 8))
    heads = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    yield from _wrapped(heads[0], width, "")
    for record, head in zip(shown, heads[1:], strict=True):
        tried = count_attempts(tries[record.key])
        remarks = [f"{tried} attempts"] if tried > 1 else []
        remarks += [_unused(unused[record.id])] if record.id in unused else []
        yield from _wrapped("  ".join([head, *remarks]), width, "")
        details = record.reason or "\n".join(
            f"{name}: {_DIGEST.sub(_FIRST, value)}" for name, value in record.outputs.items()
        )
        for line in details.splitlines():
            yield from _wrapped(printable(line, lines=False), width, "    ")


def _wrapped(line: str, width: int | None, indent: str) -> list[str]:
    """The line, in several where it is wider; a word that is wider alone stays whole."""
    if width is None or len(indent) + len(line) <= width:
        return [f"{indent}{line}"]
    return textwrap.wrap(
        line,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _unused(counting: str) -> str:
    return (
        f"not used: {counting[7:19]} counts"
        if counting
        else "contradicted by another of its key: none counts"
    )


def _cells(record: Record) -> tuple[str, ...]:
    cells = (
        record.step,
        record.subject,
        record.result,
        record.id[7:19],
        utc(record.finished or "").removesuffix(" UTC"),
    )
    return tuple(printable(cell, lines=False) for cell in cells)


def graph(records: Iterable[Record], preferred: Order = union.preferred) -> Iterator[str]:
    """A tree of the records, newest first, with used records below; repeated ones are not unfolded.

    Intents with an outcome are left out. Superseded records are marked, and those that steps do not
    use: see `list_records`.
    """
    all_records = list(records)
    answered = _answered_intents(all_records)
    uses = {
        record.id: [identity for identity in record.uses if identity not in answered]
        for record in all_records
        if record.id not in answered
    }
    by_id = {record.id: record for record in all_records}
    marks = {
        **{
            identity: _unused(counts)
            for identity, counts in unused_verdicts(all_records, preferred).items()
        },
        **dict.fromkeys(superseded(all_records), "superseded"),
    }
    used = {identity for identities in uses.values() for identity in identities}
    seen: set[str] = set()
    for record in reversed(all_records):
        if record.id in uses and record.id not in used:
            yield from _tree(record.id, "", "", uses, by_id, marks, seen)


def _answered_intents(records: Sequence[Record]) -> set[str]:
    """The ids of intents that have an outcome."""
    intents = {record.id for record in records if record.result == "started"}
    return {
        used for record in records if record.result != "started" for used in record.uses
    } & intents


def _tree(
    identity: str,
    first: str,
    below: str,
    uses: dict[str, list[str]],
    by_id: dict[str, Record],
    marks: dict[str, str],
    seen: set[str],
) -> Iterator[str]:
    record = by_id.get(identity)
    if record is None:
        yield printable(f"{first}{identity[7:19]} is not here", lines=False)
        return
    again = identity in seen
    above = " (above)" if again and uses[identity] else ""
    yield f"{first}{_line(record, marks.get(identity, ''))}{above}"
    if again:
        return
    # Each record unfolds once: snapshots are used by dozens of tests, and trees would grow with
    # them.
    seen.add(identity)
    children = uses[identity]
    for number, child in enumerate(children, 1):
        last = number == len(children)
        branch, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield from _tree(child, f"{below}{branch}", f"{below}{rest}", uses, by_id, marks, seen)


def _line(record: Record, mark: str) -> str:
    parameters = (record.parameters.get(name) for name in ("scenario", "values", "cluster"))
    details = [value for value in parameters if isinstance(value, str)]
    names = ("chart", "image", "tag", "release")
    output = next((record.outputs[name] for name in names if name in record.outputs), "")
    note = (record.reason or "").partition("\n")[0] or short(output)
    parts = [
        record.step,
        record.subject,
        *details,
        record.result,
        duration_text(record),
        record.id[7:19],
        note,
    ]
    line = " ".join(part for part in parts if part) + (f" ({mark})" if mark else "")
    return printable(line, lines=False)
