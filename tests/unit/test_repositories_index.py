"""index.yaml: a function of what was published, whatever the order; what was there stays; damage is
named.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pipeline_steps.charts.metadata import CREATED
from pipeline_steps.charts.version import newest_first
from pipeline_steps.repositories import index_blocks
from pipeline_steps.repositories.index import LARGEST, Entry, Index, new_entry_fields
from pipeline_steps.toolbox import yaml_reader
from pipeline_steps.toolbox.errors import EvidenceError
from tests.support.examples import examples

DIGEST = "sha256:" + "12e4" * 16


def new(name: str, version: str, **more: Any) -> dict[str, Any]:
    fields = {"apiVersion": "v2", "name": name, "version": version, **more}
    return new_entry_fields(fields, DIGEST, f"{name}-{version}.tgz")


def grown(*published: tuple[str, str], start: bytes | None = None) -> bytes:
    data = start
    for name, version in published:
        data = Index(data, "index.yaml").with_entries([new(name, version)])
    assert data is not None
    return data


charts = st.tuples(
    st.sampled_from(["a", "a-b", "b", "no", "123", "zz"]),
    st.builds(
        "{}.{}.0{}".format,
        st.integers(0, 3),
        st.integers(8, 11),
        st.sampled_from(["", "-0.3.t0", "-rc.1"]),
    ),
)


@settings(deadline=None)
@given(st.lists(charts, unique=True, min_size=1, max_size=12), st.randoms(), st.booleans())
def test_order_of_adding_does_not_change_the_index(
    published: list[tuple[str, str]], random: Any, as_json: bool
) -> None:
    start = b'{"apiVersion": "v1", "entries": {}, "serverInfo": {"x": 1}}' if as_json else None
    data = grown(*published, start=start)
    shuffled = list(published)
    random.shuffle(shuffled)
    assert grown(*shuffled, start=start) == data
    parsed = Index(data, "x").entries()
    assert list(parsed) == sorted({name for name, _ in published})
    for name, versions in parsed.items():
        expected_versions = [version for other, version in published if other == name]
        assert [entry_.version for entry_ in versions] == newest_first(expected_versions)
        assert versions[0] == Entry(
            name,
            newest_first(expected_versions)[0],
            DIGEST,
            (f"{name}-{versions[0].version}.tgz",),
            False,
            CREATED,
        )
    if as_json:
        assert json.loads(data)["serverInfo"] == {"x": 1}


OTHERS = """\
# kept by hand
apiVersion: v1
entries:
    hello:
    - version: 1.0.0
      name: hello
      mine: [1, 2]   # unknown to helm
      urls:
      - https://example.com/hello-1.0.0.tgz
    empty: []
    none:
    zebra:
    - {name: zebra, version: 1.0.0, urls: [z.tgz], removed: true}
serverInfo: {}
"""


@pytest.mark.parametrize(
    ("name", "version", "before"),
    [
        ("hello", "1.1.0", "    - version: 1.0.0\n"), ("hello", "0.9.0", "    empty: []\n"),
        ("ant", "1.0.0", "    hello:\n"),
        ("yak", "1.0.0", "    zebra:\n"),
        ("zoo", "1.0.0", "serverInfo: {}\n"), ("zebra", "2.0.0", "    - {name: zebra"),
    ],
)  # fmt: skip
def test_everything_else_stays_byte_for_byte(name: str, version: str, before: str) -> None:
    data = Index(OTHERS.encode(), "x").with_entries([new(name, version)]).decode()
    place = OTHERS.index(before)
    assert data.startswith(OTHERS[:place])
    assert data.endswith(OTHERS[place:])
    parsed = Index(data.encode(), "x")
    assert parsed.find(name, version) == Entry(
        name, version, DIGEST, (f"{name}-{version}.tgz",), False, CREATED
    )
    assert parsed.find("zebra", "1.0.0") == Entry("zebra", "1.0.0", "", ("z.tgz",), True)


@pytest.mark.parametrize("name", ["empty", "none"])
def test_a_chart_without_versions_gets_its_first(name: str) -> None:
    parsed = Index(Index(OTHERS.encode(), "x").with_entries([new(name, "1.0.0")]), "x")
    assert [entry_.version for entry_ in parsed.versions(name)] == ["1.0.0"]
    assert [entry_.version for entry_ in parsed.versions("zebra")] == ["1.0.0"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x: the file is no index: it has no apiVersion"),
        (b"<html>", "x: the file is no index"),
        (b"apiVersion: v1\nentries: []\n", "x:2: the index has no mapping `entries`"),
        (b"apiVersion: v1\nentries:\n  a: b\n", "x:3: the entry a is not a list"),
        (b"apiVersion: v1\nentries:\n  a:\n  - b\n", "x:4: an entry of a is not a mapping"),
        (
            b"apiVersion: v1\nentries:\n  a:\n  - name: b\n    version: 1.0.0\n",
            "x:4: an entry of a has another name",
        ),
        (
            b"apiVersion: v1\nentries:\n  a:\n  - name: a\n",
            "x:4: an entry of a has another name or no version",
        ),
        (
            b"apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, urls: x}]}",
            "x:2: a 1.0.0 has urls that are no list",
        ),
        (
            b"apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, digest: sha512:1}]}",
            "which is no sha256",
        ),
        (
            b"apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0}, {name: a, version: 1.0.0}]}",
            "in the index twice",
        ),
        (b"apiVersion: v1\nentries: {a: [], a: []}", "x:2: the key 'a' occurs twice"),
        (b"apiVersion: v1\nentries: &e {a: *e}", "the alias *e is not read here"),
    ],
)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError) as raised:
        Index(data, "x").entries()
    assert message in str(raised.value)


def test_an_entry_is_never_replaced() -> None:
    with pytest.raises(EvidenceError, match=r"a 1\.0\.0 is in the index already"):
        grown(("a", "1.0.0"), ("a", "1.0.0"))


def test_many_entries_at_once_are_the_same_as_one_by_one() -> None:
    published = [
        (name, f"1.{number}.0")
        for name in ("b", "hello", "zebra", "empty")
        for number in (0, 2, 10)
    ]
    for start in (None, OTHERS.encode(), b'{"apiVersion": "v1", "entries": {"b": []}}'):
        new_ones = [
            entry_
            for entry_ in published
            if start is None or Index(start, "x").find(*entry_) is None
        ]
        at_once = Index(start, "x").with_entries([new(*entry_) for entry_ in new_ones])
        assert at_once == grown(*new_ones, start=start)
    assert Index(at_once, "x").with_entries([]) == at_once
    with pytest.raises(EvidenceError, match=r"b 9\.0\.0 is in the index already"):
        Index(at_once, "x").with_entries([new("b", "9.0.0"), new("b", "9.0.0")])


BLOCKS = """\
apiVersion: v1
entries:
  alpha:
  - annotations:
      changes: |
        - kind: "added
          it's: [1] and {two
    created: "2024-01-02T03:04:05Z"
    description: a long text that is
      folded, isn't it
    icon: "https://example.com/a \\
      b"
    name: alpha
    urls:
    - alpha-1.0.0.tgz
    version: 1.0.0
  - {name: alpha, version: 0.9.0,
     urls: ["a, ] b"]}
  # a comment
  "beta":
  - description: 'it''s: "folded
      here'
    name: beta
    keywords: [a, "b", 'c d', ünïcode]
    version: 1.0.0
  c-3:
    - name: c-3
      version: 1.0.0
generated: "x"
serverInfo: {a: b}
"""
FRAGMENTS = (
    "\" | ' | [ | ] | { | } | : |- |#| #|||>|&a |*a|!x |? |\t| |\n|\n  |\n    |: \"|: '|- [| {|\\|''|\r\n|\u2028|\x85|"
    "---\n|...\n|entries:\n|  d:\n|\n# c\n|: |\n|: >-\n||2\n|,|é|\ufeff|\n   x|\n- |"
    "\n  b:\n  - name: b\n    version: 1.0.0\n"
).split("|")  # fmt: skip
places = st.integers(0, len(BLOCKS))
lines = st.integers(0, BLOCKS.count("\n") - 1)
edits = st.one_of(
    st.tuples(st.just("put"), places, st.sampled_from([*FRAGMENTS, "|"])),
    st.tuples(st.just("cut"), places, st.integers(1, 4)),
    st.tuples(st.just("copy"), lines, lines),
    st.tuples(st.just("indent"), lines, st.integers(0, 5)),
)


def edited(how: tuple[str, int, Any], text: str) -> str:
    """A text with one accident in it."""
    kind, place, more = how
    if kind == "put":
        return f"{text[:place]}{more}{text[place:]}"
    if kind == "cut":
        return text[:place] + text[place + more :]
    all_lines = text.splitlines(keepends=True)
    line = all_lines[place % len(all_lines)]
    if kind == "copy":
        all_lines.insert(more, line)
    else:
        all_lines[place % len(all_lines)] = " " * more + line.lstrip(" ")
    return "".join(all_lines)


def plainly(data: bytes) -> dict[str, Any] | None:
    """What a YAML reader finds below `entries`, None when it is no index to it."""
    try:
        _, root = yaml_reader.parse(data, "x", error=EvidenceError)
    except EvidenceError:
        return None
    charts = (
        root.get("entries")
        if isinstance(root, yaml_reader.Mapping) and root.get("apiVersion")
        else None
    )
    return yaml_reader.plain_value(charts) if isinstance(charts, yaml_reader.Mapping) else None


def listed_versions(data: bytes, name: str) -> list[str] | None:
    """The versions of a chart, None when they are refused."""
    try:
        return [entry_.version for entry_ in Index(data, "x").versions(name)]
    except EvidenceError:
        return None


@settings(max_examples=examples(1000), suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(edits, max_size=5))
def test_blocks_are_the_charts_that_parsing_finds(how: list[tuple[str, int, Any]]) -> None:
    text = BLOCKS
    for entry_ in how:
        text = edited(entry_, text)
    data = text.encode()
    blocks, charts = index_blocks.find(data), plainly(data)
    event(f"recognised: {blocks is not None}, an index: {charts is not None}")
    if blocks is None or charts is None:
        return
    assert list(blocks.charts) == list(charts)
    for name, entries in charts.items():
        parsed = listed_versions(data, name)
        if parsed is None:  # only for a reason
            versions = [
                entry_.get("version") if isinstance(entry_, dict) else None for entry_ in entries
            ]
            assert (
                not isinstance(entries, list)
                or len(set(versions)) < len(versions)
                or not all(isinstance(version, str) for version in versions)
                or any(
                    entry_.get("name") != name or not _listed(entry_.get("urls"))
                    for entry_ in entries
                )
            )
            continue
        assert parsed == [entry_["version"] for entry_ in entries or []]
        try:
            more = plainly(Index(data, "x").with_entries([new(name, "0.9.5")]))
        except EvidenceError:
            continue
        assert more is not None
        assert [entry_ for entry_ in more[name] if entry_["version"] != "0.9.5"] == (entries or [])
        assert {key: more[key] for key in more if key != name} == {
            key: charts[key] for key in charts if key != name
        }


def test_chart_like_line_in_a_quoted_text_is_no_chart() -> None:
    """Wherever it is put: between quotation marks and brackets YAML does not mind where lines
    begin.
    """
    hidden = 0
    for place in range(len(BLOCKS)):
        data = f"{BLOCKS[:place]}\n  b:\n  - name: b\n    version: 1.0.0\n{BLOCKS[place:]}".encode()
        blocks, charts = index_blocks.find(data), plainly(data)
        assert blocks is None or charts is None or list(blocks.charts) == list(charts), (
            data.decode()
        )
        hidden += charts is not None and "b" not in charts
    assert hidden > 50


def _listed(urls: Any) -> bool:
    return not urls or (isinstance(urls, list) and all(isinstance(url, str) for url in urls))


GOOD = "apiVersion: v1\nentries:\n  good:\n  - name: good\n    version: 1.0.0\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("  bad:\n  - name: bad\n    version: 1.0.0\n    name: good\n", "x:9: the key 'name' occurs twice"),
        ("  bad:\n  - &a {name: bad, version: 1.0.0}\n  - *a\n", "x:8: the alias *a is not read here"),
        ("  bad:\n  - name: bad\n    version: !!python/object:os.system 1\n", "x:8: the tag tag:yaml.org,2002:python"),
        ("  bad:\n  - name: bad\n    a: " + "[" * 60 + "]" * 60 + "\n", "x:8: nested deeper than 50 levels"),
        ("  bad:\n  - name: bad\n    version: [1]\n", "x:7: an entry of bad has another name or no version"),
        ("  bad:\n    - name: bad\n    - name: bad\n", "x:7: an entry of bad has another name or no version"),
        ("  bad:\n    name: bad\n", "x:7: the entry bad is not a list"),
        ("  bad:\n  - just a text\n", "x:7: an entry of bad is not a mapping"),
        (2 * "  bad:\n  - name: bad\n    version: 1.0.0\n", "x:9: the key 'bad' occurs twice"),
        (
            "  bad:\n" + 2 * "  - name: bad\n    version: 1.0.0\n", "x:9: bad 1.0.0 is in the index twice",
        ),
    ],
)  # fmt: skip
def test_damage_is_reported_only_for_requested_charts(lines: str, message: str) -> None:
    data = (GOOD + lines).encode()
    with pytest.raises(EvidenceError) as raised:
        Index(data, "x").versions("bad")
    assert message in str(raised.value)
    if "'bad'" not in message and "nested" not in message:  # what others damaged stops nobody
        assert [entry_.version for entry_ in Index(data, "x").versions("good")] == ["1.0.0"]
        more = Index(data, "x").with_entries([new("good", "1.1.0")])
        assert more.endswith(lines.encode())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#" * (LARGEST + 1), f"more than {LARGEST} are not read"),
        (b"apiVersion: v1\nentries: " + b"[" * 10**6, "nested deeper than 50 levels"),
        (
            b"a: &a [1,1]\n" + b"".join(b"b%d: &b%d [*a,*a]\n" % (n, n) for n in range(99)),
            "the alias *a is not read",
        ),
        (b"\xff\xfe" + "apiVersion: v1\n".encode("utf-16-le"), "not UTF-8 text"),
    ],
    ids=["huge", "deep", "bomb", "utf-16"],
)
def test_an_index_that_is_an_attack_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(EvidenceError) as raised:
        Index(data, "x")
    assert message in str(raised.value)


def test_index_written_by_helm_is_recognised_as_blocks() -> None:
    """So that nobody waits for a parse of 20 MB without our noticing it."""
    blocks = index_blocks.find(BLOCKS.encode())
    assert blocks is not None
    assert {name: len(block.items) for name, block in blocks.charts.items()} == {
        "alpha": 2,
        "beta": 1,
        "c-3": 0,
    }
    assert index_blocks.find(grown(("a", "1.0.0"), ("no", "1.0.0"))) is not None


@pytest.mark.parametrize(
    "text",
    [
        BLOCKS.replace("\n", "\r\n"), "---\n" + BLOCKS, "\ufeff" + BLOCKS, "# c\n\n" + BLOCKS, BLOCKS.rstrip("\n"),
        BLOCKS.replace("entries:", "entries: # all"), BLOCKS.replace("entries:\n", "\nentries:\n\n  # all\n"),
        BLOCKS.replace("folded", "fol\u2028         ded"),
        '"generated": x\n' + BLOCKS.replace('generated: "x"\n', ""),
    ],
    ids=["crlf", "marker", "bom", "comment", "no line end", "comment behind", "spaced", "u2028", "quoted key"],
)  # fmt: skip
def test_all_styles_of_an_index_give_the_same_entries(text: str) -> None:
    parsed = Index(text.encode(), "x")
    assert {name: [entry_.version for entry_ in versions] for name, versions in parsed.entries().items()} == {
        "alpha": ["1.0.0", "0.9.0"], "beta": ["1.0.0"], "c-3": ["1.0.0"],
    }  # fmt: skip
    again = Index(
        parsed.with_entries([new("beta", "1.0.1"), new("new", "1.0.0"), new("c-3", "0.1.0")]), "x"
    ).entries()
    assert {name: [entry_.version for entry_ in versions] for name, versions in again.items()} == {
        "alpha": ["1.0.0", "0.9.0"], "beta": ["1.0.1", "1.0.0"], "c-3": ["1.0.0", "0.1.0"], "new": ["1.0.0"],
    }  # fmt: skip
