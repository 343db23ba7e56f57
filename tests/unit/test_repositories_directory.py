"""Charts in a folder: the index is a function of what was published, however it came there; groups;
what was left.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories.directory import DirectoryRepository
from pipeline_steps.repositories.repository import Publication, Published
from pipeline_steps.toolbox.errors import Conflict, EvidenceError
from tests.support.charts import packed
from tests.support.examples import examples

CHARTS = {
    (name, version): packed(name, version)
    for name in ("a", "a-b", "b")
    for version in ("0.9.0", "0.10.0", "1.0.0-rc.1", "1.0.0", "1.0.1-0.3.t0")
}


def publication(name: str, version: str) -> Publication:
    return Publication(CHARTS[name, version], created=f"2026-01-{len(version):02}T00:00:00Z")


def repository(folder: Path) -> DirectoryRepository:
    return DirectoryRepository(folder.as_uri())


@settings(max_examples=examples(15), deadline=None)
@given(
    st.lists(st.sampled_from(sorted(CHARTS)), unique=True, min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_publishing_in_any_order_writes_the_index_that_regenerating_writes(
    versions: list[tuple[str, str]], size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one_by_one, in_groups, sorted_at_once = (
            repository(Path(folder) / name) for name in ("1", "2", "3")
        )
        for version in versions:
            one_by_one.publish(*publication(*version))
        for number in range(0, len(versions), size):
            list(
                in_groups.publish_all(
                    publication(*version) for version in versions[number : number + size]
                )
            )
        list(sorted_at_once.publish_all(publication(*version) for version in sorted(versions)))
        assert one_by_one.index() == in_groups.index() == sorted_at_once.index()
        again = sorted_at_once.publish_all(publication(*version) for version in versions)
        assert all(isinstance(one, Published) for one in again)
        assert sorted_at_once.index() == one_by_one.index()


def test_each_publication_of_a_group_has_its_outcome(tmp_path: Path) -> None:
    mine = repository(tmp_path)
    charts = [
        packed(), packed(more="description: other\n"), packed(version="1.0.0+twin"), packed("api"),
        Archive("bad", "1.0.0", "sha256:" + "0" * 64, b"no archive"), packed(version="1.1.0"),
    ]  # fmt: skip
    outcomes = list(mine.publish_all(Publication(chart, b"signed") for chart in charts))
    assert [type(one) for one in outcomes] == [
        Published,
        Conflict,
        Conflict,
        Published,
        EvidenceError,
        Published,
    ]
    assert mine.versions("hello") == ["1.1.0", "1.0.0"]
    assert mine.charts() == ["api", "hello"]
    assert sorted(mine.files()) == [
        "api-1.0.0.tgz", "api-1.0.0.tgz.prov", "hello-1.0.0.tgz", "hello-1.0.0.tgz.prov", "hello-1.1.0.tgz",
        "hello-1.1.0.tgz.prov",
    ]  # fmt: skip


def test_versions_published_meanwhile_are_kept(tmp_path: Path) -> None:
    first, second = repository(tmp_path), repository(tmp_path)
    first.publish(packed())
    second.publish(packed(version="1.0.1"))
    with pytest.raises(Conflict):
        first.publish(packed(version="1.0.1", more="description: other\n"))
    assert first.versions("hello") == second.versions("hello") == ["1.0.1", "1.0.0"]


def test_a_left_provenance_is_never_published_with_another_archive(tmp_path: Path) -> None:
    """A publisher killed after its .prov and before its archive has published nothing."""
    (tmp_path / "hello-1.0.0.tgz.prov").write_bytes(b"of another content")
    published = repository(tmp_path).publish(packed())
    assert repository(tmp_path).provenance(published) is None
    left = packed(version="1.0.1")
    (tmp_path / left.file_name).write_bytes(left.tgz)
    assert (
        repository(tmp_path).provenance(repository(tmp_path).publish(left, b"signed")) == b"signed"
    )
