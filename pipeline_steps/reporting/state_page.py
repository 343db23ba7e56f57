"""The page of `state html`: records -> one HTML document that loads nothing, for people, on any screen.

Every text of a record is hostile until it is escaped (`_h`); a policy in the page forbids every script and style but
ours, by their hashes. What is said about the records stands in `chains`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from pipeline_steps.reporting.chains import Chain, Tried, chains, duration, lasted, seconds, short, tried
from pipeline_steps.reporting.state_page_look import SCRIPT, STYLE
from pipeline_steps.state.record import Record
from pipeline_steps.toolbox.redact import redact

#: Result or state of a chain -> how it is coloured and marked.
KINDS = {
    **dict.fromkeys(("passed", "released", "tested"), "good"),
    **dict.fromkeys(("failed", "refused", "contradictory"), "bad"),
    **dict.fromkeys(("infrastructure", "interrupted", "unfinished", "incomplete"), "odd"),
}
_PATHS = {
    "good": '<path d="M3 8.5l3.2 3.2L13 5" fill="none" stroke="currentColor" stroke-width="2"/>',
    "bad": '<path d="M4 4l8 8M12 4l-8 8" fill="none" stroke="currentColor" stroke-width="2"/>',
    "odd": '<path d="M8 3v6M8 11.5v1.5" fill="none" stroke="currentColor" stroke-width="2"/>',
    "none": '<circle cx="8" cy="8" r="4.5" fill="none" stroke="currentColor" stroke-width="1.5"/>',
}
_ARROW = (
    '<svg class="arrow" viewBox="0 0 20 16" aria-hidden="true"><path d="M1 8h16M12 3l5 5-5 5" fill="none" '
    'stroke="currentColor" stroke-width="1.5"/></svg>'
)


def page(records: Iterable[Record], title: str, *, files: bool = False) -> str:
    """The document. title: of what state this is. files: evidence lies beside the page and is linked."""
    known = list(records)
    everything = tried(known)
    found: dict[str, list[Chain]] = {}
    for chain in chains(known):
        found.setdefault(chain.chart, []).append(chain)
    longest = max((seconds(one.record) or 0.0 for one in everything), default=0.0)
    body = [_head(known, everything, title)]
    body += [_chart(of_chart, longest) for of_chart in found.values()]
    if everything:
        rows = "".join(_record(one.record, one, longest, files=files) for one in reversed(everything))
        body.append(f"<section><header><h2>All records</h2>{_count(known)}</header>{rows}</section>")
    return document(title, "\n".join(body))


def document(title: str, body: str) -> str:
    """The whole page around `body`, which is HTML."""
    policy = f"default-src 'none'; img-src data:; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; base-uri 'none'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,"><title>{_h(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n<script>{SCRIPT}</script></body></html>\n"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _head(records: Sequence[Record], everything: Sequence[Tried], title: str) -> str:
    if not records:
        return f"<header><h1>{_h(title)}</h1><p>No records yet.</p></header>"
    ends = sorted(record.finished or record.started for record in records)
    bad = sum(KINDS.get(one.word) == "bad" for one in everything)
    told = badge("failed", f"{bad} failed") if bad else badge("passed", "nothing failed")
    return (
        f'<header><h1>{_h(title)}</h1><p class="soft">{_time(ends[0])} to {_time(ends[-1])} · '
        f"{len(everything)} pieces of work · {told}</p></header>"
    )


def _count(records: Sequence[Record]) -> str:
    return f'<span class="soft">{len(records)} records; what was superseded is folded away</span>'


# -- the chain of a chart ---------------------------------------------------------------------------------------


def _chart(of_chart: Sequence[Chain], longest: float) -> str:
    newest, *older = of_chart
    parts = [f"<section><header><h2>{_h(newest.chart)}</h2>{badge(newest.word)}</header>", _chain(newest, longest)]
    for chain in older:
        parts.append(
            f'<details class="older"><summary>Earlier content <code>{_h(short(chain.content))}</code> '
            f"{badge(chain.word)}</summary>{_chain(chain, longest)}</details>"
        )
    return "".join([*parts, "</section>"])


def _chain(chain: Chain, longest: float) -> str:
    stages = [
        _stage("Content", None, [("content", chain.content), ("revision", chain.revision)]),
        *(_images(chain)),
        _stage("Snapshot", chain.snapshot, _outputs(chain.snapshot, ("chart", "tar"))),
        _tests_stage(chain),
        _stage("Tag", chain.tag, _outputs(chain.tag, ("tag",))),
        _stage("Production", chain.production, _outputs(chain.production, ("chart", "tar"))),
    ]
    first, *rest = stages
    arrows = "".join(f"{stage.removesuffix('</li>')}{_ARROW}</li>" for stage in rest)
    parts = [f'<ol class="chain">{first}{arrows}</ol>', *_problems(chain)]
    if chain.tests:
        head = "<th>result</th><th>values</th><th>cluster</th><th>attempts</th><th>duration</th><th></th>"
        rows = "".join(_test(one, longest) for one in chain.tests)
        parts.append(f"<h4>Tests</h4><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
    if chain.gates:
        gates = "".join(f"<li>{_link(one)} {badge(one.word)} {_attempts(one)}</li>" for one in chain.gates)
        parts.append(f'<h4>Beside the chain</h4><ul class="gates">{gates}</ul>')
    return "".join(parts)


def _images(chain: Chain) -> Iterator[str]:
    """One stage for all images of a snapshot: what failed first, its values of all."""
    if not chain.images:
        yield _stage("Images", None, [], none="none recorded")
        return
    worst = next((one for one in chain.images if one.word != "passed"), chain.images[-1])
    values = [(one.record.subject, one.record.outputs.get("image", "")) for one in chain.images]
    yield _stage("Image" if len(values) == 1 else f"{len(values)} images", worst, values, of=chain.images)


def _tests_stage(chain: Chain) -> str:
    if not chain.tests:
        return _stage("Tests", None, [], none="not tested")
    worst = next((one for one in chain.tests if one.word != "passed"), chain.tests[-1])
    passed = sum(one.word == "passed" for one in chain.tests)
    ran = {value for one in chain.tests for name, value in one.record.outputs.items() if name.startswith("ran.")}
    values = [("image that ran", value) for value in sorted(ran)]
    return _stage(f"Tests {passed}/{len(chain.tests)}", worst, values, of=chain.tests)


def _stage(
    name: str,
    one: Tried | None,
    values: Sequence[tuple[str, str]],
    *,
    of: Sequence[Tried] = (),
    none: str = "not yet",
) -> str:
    values = [(label, value) for label, value in values if value]
    kind = KINDS.get(one.word, "odd") if one else "good" if values else "none"
    told = none if one is None and not values else ""
    if one:
        several = of or (one,)
        time = sum(seconds(each.record) or 0.0 for each in several)
        tries = sum(each.attempts for each in several)
        more = f" · <b>{tries} attempts</b>" if tries > len(several) else ""
        told = f"{_h(one.word)}{f' · {duration(time)}' if one.record.finished else ''}{more}"
    shown = "".join(labelled(label, value) for label, value in values)
    return f'<li class="stage {kind}"><h3>{_mark(kind)}{_h(name)}</h3><p class="soft">{told}</p>{shown}</li>'


def _outputs(one: Tried | None, names: Sequence[str]) -> list[tuple[str, str]]:
    if one is None:
        return []
    outputs = one.record.outputs
    more = [name for name in outputs if name.startswith("chart-")]
    return [(name, outputs[name]) for name in (*names, *more) if name in outputs]


def _problems(chain: Chain) -> Iterator[str]:
    """Why something did not pass, in full words, where everybody sees it."""
    every = (*chain.gates, *chain.images, chain.snapshot, *chain.tests, chain.tag, chain.production)
    for one in every:
        if one and one.record.reason and one.word != "passed":
            yield f'<div class="problem"><p>{badge(one.word)} {_link(one)}</p><pre>{_h(one.record.reason)}</pre></div>'


def _test(one: Tried, longest: float) -> str:
    said = one.record.parameters
    values = str(said.get("values") or said.get("none") or "the chart's own")
    cells = (
        f"<td>{badge(one.word)}</td>",
        f'<td><a href="#{_anchor(one.record)}">{_h(values)}</a></td>',
        f'<td data-name="cluster">{_h(str(said.get("cluster") or "none"))}</td>',
        f'<td data-name="attempts">{_attempts(one)}</td>',
        f'<td class="number" data-name="duration">{_h(lasted(one.record))}</td>',
        f"<td>{_bar(one.record, longest)}</td>",
    )
    return f"<tr>{''.join(cells)}</tr>"


# -- single records ---------------------------------------------------------------------------------------------


def _record(record: Record, one: Tried | None, longest: float, *, files: bool) -> str:
    """A record folded to one line; `one` when it is what stands of its key, with the earlier ones inside."""
    word = one.word if one else record.result
    summary = (
        f"<span>{badge(word)}</span><span>{_h(record.step)}</span><span>{_h(_name(record))}</span>"
        f'<span class="number">{_h(lasted(record))}</span><span>{_bar(record, longest)}</span>'
        f'<span class="soft">{_attempts(one) if one else ""}</span><code>{_h(record.id[7:19])}</code>'
    )
    inside = [f"<dl>{''.join(_fields(record, files=files))}</dl>"]
    if record.reason and word != "passed":
        inside.insert(0, f"<pre>{_h(record.reason)}</pre>")
    if one and one.earlier:
        older = "".join(_record(each, None, longest, files=files) for each in reversed(one.earlier))
        inside.append(f"<details><summary>{len(one.earlier)} earlier, superseded or tried</summary>{older}</details>")
    head = f'<details class="record" id="{_anchor(record)}"><summary>{summary}</summary>'
    return f"{head}{''.join(inside)}</details>"


def _fields(record: Record, *, files: bool) -> Iterator[str]:
    named = (("id", record.id), ("key", record.key), ("content", record.content), ("revision", record.revision))
    for name, value in named:
        if value:
            yield f"<dt>{name}</dt><dd>{_copied(value, value)}</dd>"
    if record.reason and record.result == "passed":
        yield f"<dt>reason</dt><dd>{_h(record.reason)}</dd>"
    for title, table in (("inputs", record.inputs), ("outputs", record.outputs)):
        if table:
            rows = "".join(labelled(name, value, full=True) for name, value in table.items())
            yield f"<dt>{title}</dt><dd>{rows}</dd>"
    for title, identities in (("uses", record.uses), ("supersedes", record.supersedes)):
        if identities:
            links = ", ".join(f'<a href="#r-{_h(each[7:])}"><code>{_h(each[7:19])}</code></a>' for each in identities)
            yield f"<dt>{title}</dt><dd>{links}</dd>"
    if record.evidence:
        rows = "".join(labelled("file", name, copied=digest, files=files) for name, digest in record.evidence.items())
        yield f"<dt>evidence</dt><dd>{rows}</dd>"
    if record.parameters:
        text = json.dumps(record.parameters, indent=1, ensure_ascii=False)
        yield f'<dt>parameters</dt><dd><pre class="plain">{_h(text)}</pre></dd>'
    yield f"<dt>when, where</dt><dd>{_where(record)}</dd>"


def _where(record: Record) -> str:
    """Times, person, build, run and tools in one sentence."""
    parts = [f"{_time(record.started)} to {_time(record.finished)}" if record.finished else _time(record.started)]
    parts += [_h(f"by {record.actor}")] if record.actor else []
    ci = record.ci or {}
    url = str(ci.get("url", ""))
    if re.fullmatch(r"https?://\S+", url):
        parts.append(f'<a href="{_h(url)}" rel="noreferrer">{_h(ci.get("system", "build"))}</a>')
    elif ci:
        parts.append(_h(" ".join(map(str, ci.values()))))
    parts += [_h(f"run {record.run}")] if record.run else []
    parts += [_h(f"{name} {version}") for name, version in sorted(record.tools.items())]
    return " · ".join(parts)


def _name(record: Record) -> str:
    said = record.parameters
    more = " ".join(str(said[key]) for key in ("values", "cluster") if said.get(key)) if "scenario" in said else ""
    return f"{record.subject} {more}".strip()


# -- small parts ------------------------------------------------------------------------------------------------


def labelled(label: str, value: str, *, full: bool = False, copied: str = "", files: bool = False) -> str:
    shown = _h(value if full or copied else short(value))
    if files and copied:
        shown = f'<a href="./{_h(quote(value))}">{shown}</a>'
    head = f'<span class="label">{_h(label)}</span>{_button(copied or value)}'
    return f'<div class="value">{head}<code title="{_h(value)}">{shown}</code></div>'


def _copied(shown: str, copied: str) -> str:
    return f'<div class="value"><code class="label">{_h(shown)}</code>{_button(copied)}</div>'


def _button(text: str) -> str:
    return f'<button type="button" data-copy="{_h(text)}" aria-label="Copy {_h(short(text))}">Copy</button>'


def badge(word: str, text: str = "") -> str:
    kind = KINDS.get(word, "odd")
    return f'<span class="badge {kind}">{_mark(kind)}{_h(text or word)}</span>'


def _mark(kind: str) -> str:
    return f'<svg class="mark" viewBox="0 0 16 16" aria-hidden="true">{_PATHS[kind]}</svg>'


def _bar(record: Record, longest: float) -> str:
    part = (seconds(record) or 0.0) / longest if longest else 0.0
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{max(1.0, 100 * part):.1f}" height="8" rx="2" fill="currentColor"/></svg>'
    )


def _attempts(one: Tried) -> str:
    return f"<b>{one.attempts} attempts</b>" if one.attempts > 1 else "1 attempt"


def _link(one: Tried) -> str:
    return f'<a href="#{_anchor(one.record)}">{_h(one.record.step)} {_h(_name(one.record))}</a>'


def _anchor(record: Record) -> str:
    return f"r-{_h(record.id[7:])}"


def _time(text: str) -> str:
    return _h(re.sub(r"T(\d\d:\d\d:\d\d)(\.\d+)?Z$", r" \1 UTC", text))


def _h(text: str) -> str:
    return html.escape(redact(text))
