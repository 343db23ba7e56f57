"""index.yaml: a function of what was published, whatever the order; what was there stays; damage is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_steps.charts.version import newest_first
from pipeline_steps.core.errors import EvidenceError
from pipeline_steps.repositories.index import Entry, Index, entry

DIGEST = "sha256:" + "12e4" * 16


def new(name: str, version: str, **more: Any) -> dict[str, Any]:
    fields = {"apiVersion": "v2", "name": name, "version": version, **more}
    return entry(fields, DIGEST, f"{name}-{version}.tgz")


def grown(*published: tuple[str, str], start: bytes | None = None) -> bytes:
    data = start
    for name, version in published:
        data = Index(data, "index.yaml").with_entry(new(name, version))
    assert data is not None
    return data


charts = st.tuples(
    st.sampled_from(["a", "a-b", "b", "no", "123", "zz"]),
    st.builds("{}.{}.0{}".format, st.integers(0, 3), st.integers(8, 11), st.sampled_from(["", "-0.3.t0", "-rc.1"])),
)


@given(st.lists(charts, unique=True, min_size=1, max_size=12), st.randoms(), st.booleans())
def test_the_index_is_a_function_of_the_set(published: list[tuple[str, str]], random: Any, as_json: bool) -> None:
    start = b'{"apiVersion": "v1", "entries": {}, "serverInfo": {"x": 1}}' if as_json else None
    data = grown(*published, start=start)
    shuffled = list(published)
    random.shuffle(shuffled)
    assert grown(*shuffled, start=start) == data
    found = Index(data, "x").entries()
    assert list(found) == sorted({name for name, _ in published})
    for name, versions in found.items():
        mine = [version for other, version in published if other == name]
        assert [one.version for one in versions] == newest_first(mine)
        assert versions[0] == Entry(name, newest_first(mine)[0], DIGEST, (f"{name}-{versions[0].version}.tgz",), False)
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
    data = Index(OTHERS.encode(), "x").with_entry(new(name, version)).decode()
    place = OTHERS.index(before)
    assert data.startswith(OTHERS[:place])
    assert data.endswith(OTHERS[place:])
    found = Index(data.encode(), "x")
    assert found.find(name, version) == Entry(name, version, DIGEST, (f"{name}-{version}.tgz",), False)
    assert found.find("zebra", "1.0.0") == Entry("zebra", "1.0.0", "", ("z.tgz",), True)


@pytest.mark.parametrize("name", ["empty", "none"])
def test_a_chart_without_versions_gets_its_first(name: str) -> None:
    found = Index(Index(OTHERS.encode(), "x").with_entry(new(name, "1.0.0")), "x")
    assert [one.version for one in found.versions(name)] == ["1.0.0"]
    assert [one.version for one in found.versions("zebra")] == ["1.0.0"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x: not an index: it has no apiVersion"),
        (b"<html>", "x: not an index"),
        (b"apiVersion: v1\nentries: []\n", "x: entries is missing or no mapping"),
        (b"apiVersion: v1\nentries:\n  a: b\n", "x:3: the entry a is not a list"),
        (b"apiVersion: v1\nentries:\n  a:\n  - b\n", "x:4: an entry of a is not a mapping"),
        (b"apiVersion: v1\nentries:\n  a:\n  - name: b\n    version: 1.0.0\n", "x:4: an entry of a has another name"),
        (b"apiVersion: v1\nentries:\n  a:\n  - name: a\n", "x:4: an entry of a has another name or no version"),
        (
            b"apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, urls: x}]}",
            "x:2: a 1.0.0 has urls that are no list",
        ),
        (b"apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0, digest: sha512:1}]}", "which is no sha256"),
        (b"apiVersion: v1\nentries: {a: [{name: a, version: 1.0.0}, {name: a, version: 1.0.0}]}", "in the index twice"),
        (b"apiVersion: v1\nentries: {a: [], a: []}", "x:2: key 'a' is there twice"),
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
