"""The graph of records as plain text: who used whom, as a tree below each record that nobody used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pipeline_steps.reporting.chains import lasted, short
from pipeline_steps.state.record import Record
from pipeline_steps.state.union import superseded


def lines(records: Iterable[Record]) -> Iterator[str]:
    """One line a record, newest first; what a record uses stands below it, shown in full only the first time.

    Intents that have an outcome are left out. Records that were superseded are marked.
    """
    known = list(records)
    uses, by_id, gone = _uses(known), {record.id: record for record in known}, superseded(known)
    used = {identity for identities in uses.values() for identity in identities}
    seen: set[str] = set()
    for record in reversed(known):
        if record.id in uses and record.id not in used:
            yield from _tree(record.id, "", "", uses, by_id, gone, seen)


def _uses(records: Sequence[Record]) -> dict[str, list[str]]:
    """Id → ids used, without intents that were answered."""
    results = {record.id: record.result for record in records}
    answered = {used for record in records for used in record.uses if results.get(used) == "started" != record.result}
    return {
        record.id: [used for used in record.uses if used not in answered]
        for record in records
        if record.id not in answered
    }


def _tree(
    identity: str,
    first: str,
    below: str,
    uses: dict[str, list[str]],
    by_id: dict[str, Record],
    gone: set[str],
    seen: set[str],
) -> Iterator[str]:
    record = by_id.get(identity)
    if record is None:
        yield f"{first}{identity[7:19]} is not here"
        return
    again = identity in seen
    yield f"{first}{_words(record, superseded=identity in gone)}{' (above)' if again and uses[identity] else ''}"
    if again:
        return
    seen.add(identity)
    children = uses[identity]
    for number, child in enumerate(children, 1):
        last = number == len(children)
        branch, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield from _tree(child, f"{below}{branch}", f"{below}{rest}", uses, by_id, gone, seen)


def _words(record: Record, *, superseded: bool) -> str:
    more = [
        str(record.parameters[name])
        for name in ("scenario", "values", "cluster")
        if isinstance(record.parameters.get(name), str)
    ]
    told = next((record.outputs[name] for name in ("chart", "image", "tag") if name in record.outputs), "")
    reason = (record.reason or "").partition("\n")[0]
    parts = [record.step, record.subject, *more, record.result, lasted(record), record.id[7:19], reason or short(told)]
    words = " ".join(part for part in parts if part) + (" (superseded)" if superseded else "")
    return "".join(sign if sign.isprintable() else "?" for sign in words)  # nothing that a terminal would obey
