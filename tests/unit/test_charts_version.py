"""Versions: what SemVer 2 says, snapshots below their release, tags of registries."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_steps.charts import version
from pipeline_steps.charts.version import Version
from pipeline_steps.toolbox.errors import ConfigurationError

numbers = st.integers(0, 10**6)
identifiers = st.one_of(
    numbers.map(str), st.text("0ab1-", min_size=1, max_size=4).filter(lambda t: not t.isdigit())
)
versions = st.builds(
    Version,
    numbers,
    numbers,
    numbers,
    st.lists(identifiers, max_size=3).map(tuple),
    st.sampled_from(["", "a.01"]),
)
fingerprints = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)


def test_precedence_of_semver_org() -> None:
    names = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 2.0.0"
    ordered = [version.parse_strict(name) for name in names.split()]
    assert sorted(ordered, key=str) != sorted(ordered) == ordered
    assert version.parse_strict("1.0.0+a") == version.parse_strict("1.0.0+b")
    assert version.newest_first(["1.9.0", "x", "1.10.0", "1.10.0-rc.1"]) == [
        "1.10.0",
        "1.10.0-rc.1",
        "1.9.0",
        "x",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "1.2",
        "v1.2.3",
        "01.2.3",
        "1.2.3-01",
        "1.2.3-",
        "1.2.3+",
        "1.2.3-a..b",
        "1.2.3\n",
        "",
        "١.2.3",
        f"{2**64}.0.0",
    ],
)
def test_parse_returns_none_for_invalid_versions(text: str) -> None:
    assert version.parse(text) is None
    with pytest.raises(ConfigurationError, match="is not a SemVer 2 version"):
        version.parse_strict(text)


@given(versions)
def test_parsed_version_prints_the_same_text(some: Version) -> None:
    assert version.parse(str(some)) == some
    assert str(version.parse(str(some))) == str(some)


@given(versions, st.booleans(), numbers, numbers, fingerprints, st.booleans())
def test_snapshots_sort_below_their_release_and_by_count(
    chart: Version, released: bool, one: int, two: int, digest: str, dirty: bool
) -> None:
    leads_to = version.next_version(chart, released)
    low, high = sorted((one, two))
    earlier = version.snapshot(chart, released=released, count=low, fingerprint=digest, dirty=dirty)
    later = version.snapshot(chart, released=released, count=high, fingerprint=digest, dirty=False)
    assert version.parse_strict(earlier) < leads_to
    assert low == high or version.parse_strict(earlier) < version.parse_strict(later)
    assert not released or Version(*chart[:3]) < version.parse_strict(earlier)
    assert version.is_snapshot(earlier)
    assert re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", version.to_tag(earlier))


@given(versions)
def test_the_next_version_is_higher(some: Version) -> None:
    assert version.bump(some) > some
    assert version.bump(some, "minor") > some
    assert version.bump(some, "major") > some


def test_tags() -> None:
    assert version.to_tag("1.2.3+a.b") == "1.2.3_a.b"
    assert version.from_tag("1.2.3_a.b") == "1.2.3+a.b"
    assert version.from_tag("latest") is None
    with pytest.raises(ConfigurationError, match="cannot be a tag in a registry"):
        version.to_tag("1.2.3-" + "a" * 200)


def test_versions_that_differ_in_build_metadata_only() -> None:
    assert (
        version.other_build_metadata("1.0.0+a", ["0.9.0", "1.0.0", "1.0.0+a", "latest"]) == "1.0.0"
    )
    assert version.other_build_metadata("1.0.0+a", ["1.0.0+a", "1.0.1"]) is None
