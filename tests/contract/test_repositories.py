"""What every chart repository promises, asked of every implementation, the registry being a real
one.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline_steps.charts import archive
from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.repositories.oci import OciRepository, build_push
from pipeline_steps.repositories.repository import Indexed, Publication, Rewritable, Writable
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError, Unreachable
from pipeline_steps.toolbox.files import sha256
from tests.support.chartmuseum import chartmuseum
from tests.support.charts import packed, signed
from tests.support.github import Github, github
from tests.support.gits import bare
from tests.support.registries import free_port, registry
from tests.support.scripted import Request, forwarded, scripted


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


@pytest.fixture(scope="module")
def museum() -> Iterator[str]:
    with chartmuseum(depth=1) as running:
        yield running.url


@pytest.fixture(scope="module")
def hub() -> Iterator[Github]:
    with github() as running:
        yield running
        assert running.wrong == []


@pytest.fixture(params=["oci", "file", "git", "chartmuseum", "github"])
def repository(
    request: pytest.FixtureRequest,
    host: str,
    museum: str,
    hub: Github,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Writable:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    if request.param == "github":
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        hub.repository(place := f"o/r{abs(hash(str(tmp_path)))}")
        return open_writable(f"github-releases:{place}", {})
    return empty(request.param, museum if request.param == "chartmuseum" else host, tmp_path)


def paths(requests: Iterable[Request]) -> list[str]:
    return [request.path.partition("?")[0] for request in requests]


def empty(kind: str, host: str, folder: Path) -> Writable:
    """A repository of its own for each folder, without a chart. host: of the registry or URL of the
    museum.
    """
    if kind == "chartmuseum":
        return open_writable(f"{host}/r{abs(hash(str(folder)))}", {})
    if kind == "oci":
        return open_writable(f"oci://{host}/r{abs(hash(str(folder)))}/charts", {})
    if kind == "git":
        return open_writable(f"git+{bare(folder / 'pages.git').as_uri()}#gh-pages", {})
    return open_writable((folder / "c").as_uri(), {})


def squeezed(one: Archive) -> Archive:
    """The same tar in other bytes."""
    return Archive(
        one.name, one.version, one.tar_digest, gzip.compress(gzip.decompress(one.tgz), 1)
    )


def test_published_chart_is_found_with_reference_and_digest(repository: Writable) -> None:
    chart = packed()
    assert repository.find("hello", "1.0.0") is None
    assert repository.resolve("hello", "1.0.0") is None
    assert repository.versions("hello") == []
    published = repository.publish(chart, signed(chart))
    assert published.tar_digest == chart.tar_digest
    assert published.archive_digest == chart.digest
    assert published.reference.startswith(repository.url)
    assert published.archive == chart
    assert repository.find("hello", "1.0.0") == published
    assert repository.resolve("hello", "1.0.0") == published.reference
    assert repository.find("hello", "1.0.1") is None
    assert repository.find("other", "1.0.0") is None


def test_provenance_travels_with_its_chart(repository: Writable) -> None:
    with_it, without = packed(), packed(version="1.0.1")
    assert repository.provenance(repository.publish(with_it, signed(with_it))) == signed(with_it)
    assert repository.provenance(repository.publish(without)) is None


def test_charts_lists_all_names_sorted(repository: Writable) -> None:
    assert repository.charts() == []
    for name in ("web", "api"):
        repository.publish(packed(name))
    assert repository.charts() == ["api", "web"]


def test_many_at_once_each_with_its_own_outcome(repository: Writable) -> None:
    first = repository.publish(packed())
    taken = packed(more="description: other\n")
    more = [
        Publication(packed(version=f"1.0.{number}"), created="2026-01-02T03:04:05Z")
        for number in (1, 2)
    ]
    outcomes = list(
        repository.publish_all([more[0], Publication(packed()), Publication(taken), more[1]])
    )
    assert outcomes[1] == first
    assert isinstance(outcomes[2], Conflict)
    assert repository.versions("hello") == ["1.0.2", "1.0.1", "1.0.0"]
    assert [repository.find("hello", version) for version in ("1.0.1", "1.0.2")] == [
        outcomes[0],
        outcomes[3],
    ]


def test_the_same_tar_again_keeps_the_bytes_published_first(repository: Writable) -> None:
    chart = packed()
    first = repository.publish(chart)
    assert repository.publish(chart) == first
    again = squeezed(chart)
    assert again.digest != chart.digest
    assert repository.publish(again) == first
    assert repository.find("hello", "1.0.0") == first
    assert first.archive.tgz == chart.tgz


def test_another_tar_is_refused_naming_both(repository: Writable) -> None:
    first = repository.publish(packed())
    other = packed(more="description: other\n")
    with pytest.raises(Conflict) as raised:
        repository.publish(other)
    assert first.tar_digest in str(raised.value)
    assert other.tar_digest in str(raised.value)
    assert repository.find("hello", "1.0.0") == first


def test_versions_that_differ_in_build_metadata_only_are_refused(repository: Writable) -> None:
    plus = repository.publish(packed(version="1.0.0+b.1"))
    assert repository.find("hello", "1.0.0+b.1") == plus
    with pytest.raises(
        Conflict, match=r"differs from the published 1\.0\.0\+b\.1 only in build metadata"
    ):
        repository.publish(packed(version="1.0.0"))
    assert repository.versions("hello") == ["1.0.0+b.1"]


def test_two_versions_that_helm_takes_for_one_are_never_both_there(repository: Writable) -> None:
    """Acceptance test A4: `helm repo index --merge` drops one of them without a word."""
    first = repository.publish(packed(version="1.0.0+a"))
    with pytest.raises(
        Conflict, match=r"1\.0\.0\+b differs from the published 1\.0\.0\+a only in build metadata"
    ):
        repository.publish(packed(version="1.0.0+b"))
    assert repository.versions("hello") == ["1.0.0+a"]
    assert repository.find("hello", "1.0.0+a") == first


def test_a_pre_release_is_one_entry_however_often_it_is_published(repository: Writable) -> None:
    """Acceptance test A3: helm/chart-releaser#533, which splits names at the last dash and adds it
    each time.
    """
    chart = packed("foo", "1.0.0-rc.1")
    published = [repository.publish(chart) for _ in range(2)]
    published += [repository.publish(squeezed(chart))]
    assert published == [published[0]] * 3
    assert repository.versions("foo") == ["1.0.0-rc.1"]
    if isinstance(repository, Rewritable):
        assert (repository.index() or b"").count(b"1.0.0-rc.1.tgz") == 1


def test_the_index_names_what_is_stored_after_a_crash_before_it(repository: Writable) -> None:
    """Acceptance test A1 (rstudio/helm#9): uploaded, no index yet, packed again in other bytes,
    published again.

    In a registry the manifest is written last and a museum writes the index itself: there is
    nothing in between.
    """
    repository.publish(packed("base"))
    before = repository.index() if isinstance(repository, Rewritable) else None
    chart = packed()
    repository.publish(chart)
    if isinstance(repository, Rewritable):
        repository.rewrite(repository.index(), before or b"")
        assert repository.versions("hello") == []
    published = repository.publish(squeezed(chart))
    assert published == repository.find("hello", "1.0.0")
    assert published.archive_digest == sha256(published.archive.tgz)
    assert published.archive_digest == chart.digest, "the bytes that were there stay"


def test_versions_are_newest_first(repository: Writable) -> None:
    for version in ("1.9.0", "1.10.0-0.3.t0123456789ab", "1.10.0", "1.2.0"):
        repository.publish(packed(version=version))
    repository.publish(packed("other"))
    assert repository.versions("hello") == ["1.10.0", "1.10.0-0.3.t0123456789ab", "1.9.0", "1.2.0"]


def test_concurrent_publishers_lose_nothing(repository: Writable) -> None:
    versions = [f"1.0.{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        published = list(
            pool.map(lambda version: repository.publish(packed(version=version)), versions)
        )
    assert sorted(repository.versions("hello")) == sorted(versions)
    assert [repository.find(one.name, one.version) for one in published] == published


def test_the_reference_is_the_same_everywhere(
    repository: Writable, host: str, museum: str, tmp_path: Path
) -> None:
    """Known before the push: an independent place gives the same digest."""
    digest = repository.publish(packed()).reference.rpartition("@")[2]
    kind = repository.url.partition(":")[0].partition("+")[0]
    elsewhere = empty(kind, museum if kind == "chartmuseum" else host, tmp_path / "elsewhere")
    assert elsewhere.publish(packed()).reference.rpartition("@")[2] == digest


def test_unreachable_repository_is_an_error_not_absence() -> None:
    with pytest.raises(Unreachable):
        open_writable(f"oci://127.0.0.1:{free_port()}/charts", {}).find("hello", "1.0.0")


@pytest.mark.parametrize(
    ("url", "capabilities"),
    [
        ("oci://h/p", {Writable}),
        ("file:///f", {Writable, Indexed, Rewritable}),
        ("git+https://h/p#b", {Writable, Indexed, Rewritable}),
        ("git+ssh://git@h/p", {Writable, Indexed, Rewritable}),
        ("git+file:///p", {Writable, Indexed, Rewritable}),
        ("github-releases:o/r", {Writable, Indexed, Rewritable}),
        ("chartmuseum+https://h", {Writable, Indexed}),
        ("https://h/p", {Indexed}),
    ],
)
def test_each_url_opens_a_repository_with_its_capabilities(
    url: str, capabilities: set[type]
) -> None:
    repository = open_repository(url, {})
    assert {
        one for one in (Writable, Indexed, Rewritable) if isinstance(repository, one)
    } == capabilities


def test_open_writable_refuses_read_only_urls() -> None:
    assert open_writable("oci://h/p", {}).url == "oci://h/p"
    with pytest.raises(
        ConfigurationError,
        match=r"^https://h/p: .*only read \(name one of oci://.*, file://.*, git\+",
    ):
        open_writable("https://h/p/", {})


def test_find_reads_index_or_manifest_and_archive_once(
    host: str, museum: str, hub: Github, tmp_path: Path
) -> None:
    """A chart with its archive costs two requests of each kind; found, then fetched, it was three
    or four.
    """
    with scripted(forwarded(host)) as proxy:
        open_writable(f"oci://{host}/counted", {}).publish(packed())
        assert open_repository(f"oci://{proxy.host}/counted", {}).find("hello", "1.0.0")
    blob = f"/v2/counted/hello/blobs/{packed().digest}"
    assert paths(proxy.requests) == ["/v2/counted/hello/manifests/1.0.0", blob]
    with scripted(forwarded(museum.partition("://")[2])) as proxy:
        open_writable(f"{museum}/counted", {}).publish(packed())
        assert open_repository(f"chartmuseum+http://{proxy.host}/counted", {}).find(
            "hello", "1.0.0"
        )
        tgz = "/counted/charts/hello-1.0.0.tgz"
        assert paths(proxy.requests)[-2:] == ["/api/counted/charts/hello/1.0.0", tgz]
        proxy.requests.clear()
        assert open_repository(f"http://{proxy.host}/counted", {}).find("hello", "1.0.0")
        assert paths(proxy.requests) == ["/counted/index.yaml", tgz]


@pytest.mark.parametrize(
    "url",
    [
        "oci://h",
        "oci://h/p:1",
        "file://host/x",
        "ftp://h",
        "x",
        "git+http://h/x",
        "github-releases:o",
    ],
)
def test_invalid_repository_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_writable(url, {})


def test_an_entry_without_a_url_is_evidence_missing_and_replaced_by_nothing(tmp_path: Path) -> None:
    repository = open_writable(tmp_path.as_uri(), {})
    repository.publish(packed())
    index = tmp_path / "index.yaml"
    index.write_bytes(
        before := index.read_bytes().replace(b"urls:\n    - hello-1.0.0.tgz\n", b"urls: []\n")
    )
    assert b"urls: []" in before
    for call in (repository.find, repository.resolve):
        with pytest.raises(EvidenceError, match=r"hello 1\.0\.0 has the URL ''"):
            call("hello", "1.0.0")
    with pytest.raises(EvidenceError, match=r"hello 1\.0\.0 has the URL ''"):
        repository.publish(packed())
    assert index.read_bytes() == before


def test_damage_in_a_folder_is_named(tmp_path: Path) -> None:
    repository = open_writable(tmp_path.as_uri(), {})
    repository.publish(packed())
    other = archive.pack({"Chart.yaml": b"apiVersion: v2\nname: hello\nversion: 1.0.0\n"})
    (tmp_path / "hello-1.0.0.tgz").write_bytes(other.tgz)
    with pytest.raises(
        EvidenceError, match=r"hello-1\.0\.0\.tgz: the archive has the digest sha256:"
    ):
        repository.find("hello", "1.0.0")
    (tmp_path / "hello-1.0.0.tgz").unlink()
    with pytest.raises(EvidenceError, match="the index names this archive, which is missing"):
        repository.find("hello", "1.0.0")


def test_what_a_killed_publisher_left_is_completed_or_refused(tmp_path: Path) -> None:
    repository = open_writable(tmp_path.as_uri(), {})
    chart = packed()
    left = squeezed(chart).tgz
    (tmp_path / chart.file_name).write_bytes(left)
    (tmp_path / ".pipeline-steps-tmp-0").write_bytes(b"half")
    published = repository.publish(chart)
    assert published.archive.tgz == left
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "hello-1.0.0.tgz",
        "index.yaml",
    ]
    (tmp_path / "hello-1.0.1.tgz").write_bytes(left)
    with pytest.raises(Conflict, match="another content"):
        repository.publish(packed(version="1.0.1"))


@pytest.mark.parametrize("turn", range(4))
def test_one_version_with_different_content_is_never_published_twice(
    repository: Writable, turn: int
) -> None:
    charts = [packed(more=f"description: number {number}\n") for number in range(8)]

    def publish(chart: Archive) -> bool:
        try:
            repository.publish(chart)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(publish, charts))
    found = repository.find("hello", "1.0.0")
    if not repository.url.startswith("chartmuseum+"):  # it neither locks nor compares
        assert published.count(True) <= 1
    won = [chart.tar_digest for chart, told in zip(charts, published, strict=True) if told]
    assert (found.tar_digest in won) if found else not won, (
        "it is there if one was told so, and of one"
    )
    if repository.url.startswith(("file:", "git+", "github-releases:")):
        assert published.count(True) == 1


def test_a_claim_of_a_killed_publisher_is_taken_up_by_the_same_content_only(host: str) -> None:
    repository = OciRepository(f"oci://{host}/claims", {})
    mine, other = packed(), packed(more="description: other\n")
    for chart in (packed(version="0.9.0"), mine):
        push = build_push(chart)
        for digest, data in push.blobs.items():
            repository._registry("hello").push_blob("claims/hello", data, digest)
    repository._claim(mine, build_push(mine))
    with pytest.raises(
        Conflict, match=r"claims hello 1\.0\.0 with another content \(claim-1\.0\.0-"
    ):
        repository.publish(other)
    assert repository.find("hello", "1.0.0") is None
    with pytest.raises(Conflict, match="remove the claim that is wrong"):
        repository.publish(mine)
    repository.publish(packed(version="0.9.0"))
    assert repository.versions("hello") == ["0.9.0"]
