"""What a chart needs in charts/: found, fetched by lock, or refused with the command that mends it."""

from __future__ import annotations

import hashlib

import pytest

from pipeline_steps.charts import archive, dependencies, ranges
from pipeline_steps.charts.archive import Files
from pipeline_steps.charts.dependencies import MissingArchive
from pipeline_steps.charts.version import parse_strict
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from tests.support.charts import files, packed

URL = "oci://example.com/charts"


def chart(
    version: str = "^1.0.0",
    repository: str = URL,
    lock: str = "",
    name: str = "db",
    **others: bytes,
) -> Files:
    more = f"dependencies:\n- {{name: {name}, version: '{version}', repository: '{repository}'}}\n"
    locked = (
        {
            "Chart.lock": f"dependencies:\n- name: db\n  repository: {URL}\n  version: {lock}\n".encode()
        }
        if lock
        else {}
    )
    added = {key.replace("__", "/"): data for key, data in others.items()}
    return Files({**files(more=more), **locked, **added}, {"values.yaml"})


def test_a_locked_dependency_is_fetched_into_charts() -> None:
    asked: list[MissingArchive] = []

    def fetch(missing_archive: MissingArchive) -> bytes:
        asked.append(missing_archive)
        return packed("db", "1.2.0").tgz

    filled = dependencies.fill(chart(lock="1.2.0"), fetch, "hello")
    assert asked == [MissingArchive("", "db", "1.2.0", URL)]
    assert filled["charts/db-1.2.0.tgz"] == packed("db", "1.2.0").tgz
    assert filled.executables == {"values.yaml"}
    assert dependencies.missing_archives(filled) == ()
    assert archive.unpack(archive.pack(filled).tgz).keys() == filled.keys()


def test_missing_archives_of_exact_versions_and_of_subcharts() -> None:
    inner = {f"charts/common/{path}": data for path, data in chart("1.0.0").items()}
    inner["charts/common/Chart.yaml"] = inner["charts/common/Chart.yaml"].replace(
        b"name: hello", b"name: common"
    )
    assert dependencies.missing_archives({**files(), **inner}) == (
        MissingArchive("charts/common/", "db", "1.0.0", URL),
    )
    assert (
        dependencies.missing_archives({**files(), **inner})[0].place
        == "charts/common/charts/db-1.0.0.tgz"
    )


def test_two_aliases_of_one_chart_are_locked_in_order() -> None:
    more = f"dependencies:\n- {{name: db, version: '>=1.0.0', repository: '{URL}'}}\n"
    more += f"- {{name: db, version: ~1.2.0, repository: '{URL}', alias: old}}\n"
    lock = "dependencies:\n" + "".join(
        f"- {{name: db, repository: '{URL}', version: {v}}}\n" for v in ("1.9.0", "1.2.0")
    )
    source = {**files(more=more), "Chart.lock": lock.encode()}
    assert [one.version for one in dependencies.missing_archives(source)] == ["1.9.0", "1.2.0"]
    there = {f"charts/db-{v}.tgz": packed("db", v).tgz for v in ("1.9.0", "1.2.0")}
    assert dependencies.missing_archives({**source, **there}) == ()


def test_vendored_charts_are_not_fetched() -> None:
    vendored = {"charts/db-1.2.0.tgz": packed("db", "1.2.0").tgz}
    assert dependencies.missing_archives({**chart(), **vendored}) == ()
    assert dependencies.missing_archives({**chart(lock="1.2.0"), **vendored}) == ()
    assert dependencies.missing_archives({**chart(repository=""), **vendored}) == ()


@pytest.mark.parametrize(
    ("files_", "message"),
    [
        (chart(), "hello/Chart.lock: the dependency db ^1.0.0 is a range without a lock (run pipeline-steps check"),
        (chart(lock="2.0.0"), "hello/Chart.lock: the lock has db 2.0.0, Chart.yaml needs ^1.0.0"),
        (chart(repository="https://other", lock="1.0.0"), "does not belong to Chart.yaml"),
        (chart(repository=""), "hello/Chart.yaml: the dependency db has no repository and is not in charts/"),
        (chart("1.0.0", "@stable"), "the repository '@stable', which is not a URL"),
        (chart(charts__db__tgz=b""), "range without a lock"),
        (chart("?"), "is a range without a lock"),
        (
            Files({**chart(lock="1.2.0"), "charts/db-1.1.0.tgz": packed("db", "1.1.0").tgz}),
            "charts/ has db 1.1.0, the lock has 1.2.0",
        ),
        (
            Files({**chart(), "charts/db/Chart.yaml": files("db", "2.0.0")["Chart.yaml"]}),
            "is there as 2.0.0, which does not fit",
        ),
        (Files({**chart(), "charts/db-1.0.0.tgz": b"x"}), "hello/charts/db-1.0.0.tgz: this archive is refused"),
    ],
)  # fmt: skip
def test_dependencies_that_do_not_match_are_refused(files_: Files, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        dependencies.missing_archives(files_, "hello")
    assert message in str(raised.value)


def test_fetched_archive_of_another_version_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"db 1\.2\.0 holds the chart db 1\.3\.0"):
        dependencies.fill(chart(lock="1.2.0"), lambda missing_archive: packed("db", "1.3.0").tgz)
    with pytest.raises(EvidenceError, match="not a gzip file"):
        dependencies.fill(chart(lock="1.2.0"), lambda missing_archive: b"<html>")


@pytest.mark.parametrize("vendored", [False, True], ids=["fetched", "vendored"])
@pytest.mark.parametrize("matches", [True, False], ids=["as locked", "replaced"])
def test_an_archive_has_the_digest_that_the_lock_says(vendored: bool, matches: bool) -> None:
    """Locks with a digest for each dependency, helm/helm#32243: a replaced archive was packed."""
    tgz = packed("db", "1.2.0").tgz
    digest = hashlib.sha256(tgz if matches else b"what was there before").hexdigest()
    package = chart(lock=f"1.2.0\n  digest: sha256:{digest}")
    if vendored:
        package = Files({**package, "charts/db-1.2.0.tgz": tgz})
    if matches:
        assert (
            dependencies.fill(package, lambda _missing: tgz, "hello")["charts/db-1.2.0.tgz"] == tgz
        )
        return
    with pytest.raises(EvidenceError, match=f"the lock has sha256:{digest} for this archive"):
        dependencies.fill(package, lambda _missing: tgz, "hello")


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("1.2.3", "1.2.3", "1.2.4"), ("=1.2.3", "1.2.3", "1.2.2"), ("1.2", "1.2.9", "1.3.0"), ("1.x", "1.9.9", "2.0.0"),
        ("*", "9.9.9", "1.0.0-rc.1"), ("", "0.0.1", "1.0.0-rc.1"), ("^1.2.3", "1.9.0", "2.0.0"),
        ("^0.2.3", "0.2.9", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"), ("^0", "0.9.0", "1.0.0"), ("~1.2.3", "1.2.9", "1.3.0"), ("~1", "1.9.0", "2.0.0"),
        (">=1.2 <2", "1.2.0", "2.0.0"), (">= 1.2, < 2", "1.9.0", "1.1.9"), (">1.2", "1.3.0", "1.2.9"),
        ("<=1.2", "1.2.9", "1.3.0"),
        ("!=1.2.3", "1.2.4", "1.2.3"), ("1.0 - 1.4", "1.4.9", "1.5.0"), ("1.x || 3.x", "3.1.0", "2.0.0"),
        (">=1.0.0-0", "1.1.0-rc.1", "0.9.0"), ("^1.0.0-0", "1.9.0-rc.1", "2.0.0-rc.1"),
        ("~1.2.0-beta", "1.2.0-rc", "1.2.0-alpha"),
    ],
)  # fmt: skip
def test_ranges(text: str, inside: str, outside: str) -> None:
    assert ranges.is_in_range(parse_strict(inside), text)
    assert not ranges.is_in_range(parse_strict(outside), text)


def test_invalid_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'nope' is not a version or range"):
        ranges.is_in_range(parse_strict("1.0.0"), "nope")
