"""How the page of `state html` looks and the few lines of script in it; texts of ours only, nothing from records."""

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #d9dde3; --text: #1b2430; --soft: #5c6878;
  --good: #17692b; --good-soft: #e3f3e7; --bad: #b3261e; --bad-soft: #fbe9e7; --odd: #8a5a00; --odd-soft: #fdf1d8;
  --link: #1f5fbf; --none: #9aa4b1 }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1b212a; --line: #323b47; --text: #e6eaf0;
  --soft: #9aa7b8; --good: #6fd08c; --good-soft: #173323; --bad: #ff8a80; --bad-soft: #40201f; --odd: #f0c060;
  --odd-soft: #3a2e14; --link: #8ab4ff; --none: #5a6675 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 84rem; padding: 1.5rem 1.25rem 4rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.25rem; margin: 0 } h3 { font-size: .95rem; margin: 0 }
h4 { font-size: .8rem; margin: 1.5rem 0 .5rem; text-transform: uppercase; letter-spacing: .06em; color: var(--soft) }
p { margin: .25rem 0 } a { color: var(--link) } .soft { color: var(--soft); font-size: .87rem }
code, pre { font: .82rem/1.45 ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace }
pre { margin: .5rem 0 0; white-space: pre-wrap; background: var(--bad-soft); border-radius: 6px; padding: .6rem .75rem;
  max-height: 24rem; overflow-y: auto } pre.plain { background: var(--page) }
section { margin: 2rem 0; background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding:
  1.25rem }
section > header { display: flex; flex-wrap: wrap; gap: .35rem .75rem; align-items: center }
.badge { display: inline-flex; gap: .35rem; align-items: center; font-size: .78rem; font-weight: 600; border-radius:
  99px;
  padding: .1rem .6rem; white-space: nowrap; color: var(--soft); background: var(--page); border: 1px solid
    var(--line) }
.badge.good { color: var(--good); background: var(--good-soft); border-color: transparent }
.badge.bad { color: var(--bad); background: var(--bad-soft); border-color: transparent }
.badge.odd { color: var(--odd); background: var(--odd-soft); border-color: transparent }
.badge svg, .stage svg.mark { width: 1em; height: 1em; flex: none }
.chain { list-style: none; margin: 1.25rem 0 0; padding: 0; display: grid; grid-template-columns: repeat(6,
  minmax(0, 1fr));
  gap: 1.4rem }
.stage { position: relative; border: 1px solid var(--line); border-top: 3px solid var(--none); border-radius: 8px;
  padding: .7rem .75rem .75rem; min-width: 0 }
.stage.good { border-top-color: var(--good) } .stage.bad { border-top-color: var(--bad) }
.stage.odd { border-top-color: var(--odd) } .stage.none { border-style: dashed; border-top-style: dashed }
.stage svg.arrow { position: absolute; left: -1.3rem; top: .95rem; width: 1.2rem; height: 1rem; color: var(--none) }
.stage h3 { display: flex; gap: .4rem; align-items: center }
.good .mark { color: var(--good) } .bad .mark { color: var(--bad) } .odd .mark { color: var(--odd) }
.none .mark { color: var(--none) }
.value { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: .1rem .5rem; align-items: center;
  margin-top: .45rem }
.value > span.label { font-size: .74rem; color: var(--soft) } .value > code { grid-column: 1 / -1 }
.value > code.label { grid-column: auto }
button { display: none; flex: none; font: inherit; font-size: .72rem; line-height: 1.3; padding: .15rem .5rem;
  color: var(--soft); background: var(--page); border: 1px solid var(--line); border-radius: 6px; cursor: pointer }
.js button { display: inline-block } button:hover, button:focus-visible { color: var(--text); border-color:
  var(--soft) }
button.done { color: var(--good); border-color: var(--good) }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .78rem }
th, td { padding: .45rem .75rem .45rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
tr:last-child td { border-bottom: 0 } .number { text-align: right; white-space: nowrap } .bar { color: var(--none) }
svg.bar { width: 6rem; height: .5rem } td.number b { color: var(--odd) }
.gates { display: flex; flex-wrap: wrap; gap: .5rem 1rem; list-style: none; margin: 0; padding: 0 }
.problem { margin-top: .75rem } .problem p { margin: 0 }
details > summary { cursor: pointer } details.older { margin-top: 1.25rem } details.record { border-top: 1px solid
  var(--line) }
details.record > summary { padding: .45rem 0; display: grid; gap: .1rem .75rem; align-items: center;
  grid-template-columns: 8rem 9rem minmax(0, 1fr) 5rem 6.5rem 9rem 6.5rem }
details.record details.record { margin-left: 1rem }
details.record > summary::marker { content: "" } details.record > summary::-webkit-details-marker { display: none }
details.record:target { outline: 2px solid var(--link); outline-offset: 2px }
dl { display: grid; grid-template-columns: 7rem minmax(0, 1fr); gap: .3rem .75rem; margin: .25rem 0 1rem }
dt { color: var(--soft); font-size: .85rem } dd { margin: 0; min-width: 0 } dd .value:first-child { margin-top: 0 }
footer { margin-top: 2rem }
@media (max-width: 62rem) {
  .chain { grid-template-columns: minmax(0, 1fr); gap: 1.3rem }
  .stage svg.arrow { left: 1rem; top: -1.25rem; transform: rotate(90deg) }
}
@media (max-width: 42rem) {
  body { padding: 1rem .75rem 3rem } section { padding: 1rem .8rem; border-radius: 10px }
  table, tbody, tr, td { display: block } thead { display: none } tr { padding: .5rem 0; border-bottom: 1px solid
    var(--line) }
  tr:last-child { border-bottom: 0 } td { border: 0; padding: .1rem 0 } td.number { text-align: left }
    td[data-name]::before {
  content: attr(data-name) " "; color: var(--soft); font-size: .78rem } svg.bar { display: none }
  details.record > summary { display: flex; flex-wrap: wrap } summary > span:nth-child(3) { order: 1; flex-basis: 100% }
  summary > span:nth-child(4), summary > span:nth-child(6), summary > code { order: 2 }
  summary > span:nth-child(5) { display: none }
  details.record details.record {
    margin-left: .4rem }
  dl { grid-template-columns: minmax(0, 1fr); gap: .1rem } dd { margin-bottom: .5rem } button { padding: .35rem .7rem }
}
@media print { body { background: none } button { display: none !important } section { break-inside: avoid } }
"""

SCRIPT = """
document.documentElement.classList.add("js");
function old(text) {
  const area = document.createElement("textarea");
  area.value = text; area.readOnly = true; document.body.append(area); area.select();
  const done = document.execCommand("copy"); area.remove(); return done;
}
async function copy(text) {
  try { await navigator.clipboard.writeText(text); return true } catch { return old(text) }
}
document.addEventListener("click", async event => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  event.preventDefault();
  const done = await copy(button.dataset.copy);
  button.textContent = done ? "Copied" : "Select it";
  button.classList.toggle("done", done);
  setTimeout(() => { button.textContent = "Copy"; button.classList.remove("done") }, 1500);
});
function open() {
  let place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (place) place.scrollIntoView();
  for (; place; place = place.parentElement) if (place.tagName === "DETAILS") place.open = true;
}
addEventListener("hashchange", open);
open();
"""
