"""Charts as GitHub releases: broken at every request, raced, half done by others; and helm's own
pull of them.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories import github_releases, index
from pipeline_steps.repositories.github_releases import GithubReleasesRepository
from pipeline_steps.repositories.repository import ArchiveGone, Publication
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
)
from pipeline_steps.toolbox.files import sha256
from tests.support.charts import packed, signed
from tests.support.github import READ, WRITE, Answer, Fault, Github, Repository, Request, github
from tests.support.helms import helm
from tests.support.scripted import scripted

URL = "github-releases:me/charts"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Github]:
    with github("me/charts") as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running
        assert running.wrong == []


@pytest.fixture
def remote(hub: Github) -> Repository:
    return hub.repository("me/charts")


def opened(budget: float = 5.0) -> GithubReleasesRepository:
    return GithubReleasesRepository(URL, {}, budget=budget)


def entries(repository: Repository) -> list[dict[str, Any]]:
    """What the index says, read by a parser that is not ours."""
    if "refs/heads/gh-pages" not in repository.refs:
        return []
    index_entries = yaml.safe_load(repository.files("gh-pages")["index.yaml"])["entries"]
    return [entry for versions in index_entries.values() for entry in versions]


def squeezed(chart: Archive) -> Archive:
    return Archive(
        chart.name, chart.version, chart.tar_digest, gzip.compress(gzip.decompress(chart.tgz), 1)
    )


def state(repository: Repository) -> dict[str, Any]:
    """All that somebody could see, drafts and half files too."""
    drafts = [release for release in repository.releases.values() if release["draft"]]
    half = [release for release in repository.assets.values() if release["state"] != "uploaded"]
    tags = sorted(ref for ref in repository.refs if ref.startswith("refs/tags/"))
    published = repository.published()
    return {
        "releases": published,
        "drafts": drafts,
        "half": half,
        "tags": tags,
        "index": entries(repository),
    }


Hook = Callable[[Request], Fault | Answer | None]


def at(number: int, fault: Fault) -> Hook:
    """A fault at one request."""
    return lambda request: fault if request.number == number else None


def answered(status: int, message: str, *, path: str = "", method: str = "") -> Hook:
    """Requests to such a path are answered so, and nothing is done."""
    return lambda request: (
        Answer(status, {"message": message})
        if path in request.path and method in request.method
        else None
    )


def dying(at: int, first: Fault) -> Hook:
    """A publisher is killed at this request: `first` happens to it, and none of its later ones
    come.
    """
    return lambda request: (
        None if request.number < at else first if request.number == at else "drop"
    )


def test_an_archive_that_is_gone_is_given_back_with_the_very_bytes(hub: Github) -> None:
    chart, there = packed(), hub.repository("me/charts")
    published = opened().publish(chart)
    expected = there.published(), entries(there)
    there.assets.clear()
    with pytest.raises(ArchiveGone):
        opened().find("hello", "1.0.0")
    with pytest.raises(ArchiveGone):
        opened().publish(packed(more="description: of other bytes\n"))
    assert opened().publish(chart) == published
    assert (there.published(), entries(there)) == expected


@pytest.mark.parametrize("fault", ["drop", "lose"])
def test_killed_at_every_request_then_again(
    hub: Github, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    chart = packed()
    opened().publish(chart, signed(chart))
    expected, requests = state(hub.repository("me/charts")), len(hub.requests)
    assert requests > 12
    for number in range(1, requests + 1):
        with github("me/charts") as other:
            monkeypatch.setenv("GITHUB_API_URL", other.environment["GITHUB_API_URL"])
            other.fault, remote = dying(number, fault), other.repository("me/charts")
            with pytest.raises(PipelineError):
                opened(budget=0).publish(chart, signed(chart))
            for entry in entries(remote):
                stored = remote.published()["hello-1.0.0"]["hello-1.0.0.tgz"]
                assert sha256(stored) == f"sha256:{entry['digest']}", "an entry has its archive"
            other.fault = lambda _: None
            opened().publish(chart, signed(chart))
            assert str(state(remote)).replace(other.web, hub.web) == str(expected), (
                f"{fault} at request {number}"
            )
            assert other.wrong == []


@pytest.mark.parametrize("fault", ["drop", "lose"])
def test_one_lost_connection_is_healed_on_the_way(
    hub: Github, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    chart = packed()
    opened().publish(chart, signed(chart))
    expected, requests = state(hub.repository("me/charts")), len(hub.requests)
    for number in range(1, requests + 1):
        with github("me/charts") as other:
            monkeypatch.setenv("GITHUB_API_URL", other.environment["GITHUB_API_URL"])
            other.fault = at(number, fault)
            opened().publish(chart, signed(chart))
            remote = other.repository("me/charts")
            assert str(state(remote)).replace(other.web, hub.web) == str(expected), (
                f"{fault} at request {number}"
            )


def test_half_an_upload_is_thrown_away(
    hub: Github, remote: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
    uploads: list[Request] = []

    def fault(request: Request) -> Fault | None:
        if "uploads" not in request.path:
            return None
        uploads.append(request)
        return "half" if len(uploads) in (1, 4) else None

    hub.fault = fault
    chart = packed()
    opened().publish(chart, signed(chart))
    assert [request.query["name"] for request in uploads] == [f"{chart.file_name}.prov"] * 3 + [
        chart.file_name
    ] * 3
    assert state(remote)["half"] == []
    assert remote.published() == {
        "hello-1.0.0": {f"{chart.file_name}.prov": signed(chart), chart.file_name: chart.tgz}
    }


def test_what_is_stored_otherwise_than_sent_is_not_published(
    hub: Github, remote: Repository
) -> None:
    damaged: list[Request] = []

    def fault(request: Request) -> Answer | None:
        if "uploads" not in request.path or len(damaged) == 2:
            return None
        assert not remote.published()
        damaged.append(request)
        asset = {
            "id": 99,
            "name": request.query["name"],
            "state": "uploaded",
            "size": 1,
            "browser_download_url": "",
        }
        return Answer(201, {**asset, "digest": sha256(b"x")})

    hub.fault = fault
    chart = packed()
    opened().publish(chart)
    assert remote.published() == {"hello-1.0.0": {chart.file_name: chart.tgz}}
    assert len(damaged) == 2


def test_the_index_has_the_digest_of_what_is_stored(hub: Github, remote: Repository) -> None:
    """Acceptance test A1 (rstudio/helm#9): upload, crash before the index, packed again in other
    bytes.
    """
    chart = packed()
    hub.fault = lambda request: "drop" if request.method == "PUT" else None
    with pytest.raises(Temporary):
        opened(budget=0).publish(chart, signed(chart))
    hub.fault = lambda _: None
    assert entries(remote) == []
    again = squeezed(chart)
    published = opened().publish(again, signed(again), created="2026-01-02T03:04:05Z")
    (entry,) = entries(remote)
    assert f"sha256:{entry['digest']}" == published.archive_digest == chart.digest != again.digest
    assert entry["created"] == "2026-01-02T03:04:05Z"
    assert remote.published()["hello-1.0.0"] == {
        f"{chart.file_name}.prov": signed(chart), chart.file_name: chart.tgz,
    }, "the .prov of the archive that stands there"  # fmt: skip


def release(hub: Github, remote: Repository, chart: Archive, **files: bytes) -> dict[str, Any]:
    """A published release as another program leaves it. files: tgz, prov."""
    tag = f"{chart.name}-{chart.version}"
    number = next(hub.ids)
    fields = {
        "tag_name": tag,
        "target_commitish": "main",
        "name": tag,
        "draft": False,
        "prerelease": False,
    }
    created = remote.releases[number] = {"id": number, **fields}
    remote.refs[f"refs/tags/{tag}"] = remote.refs["refs/heads/main"]
    for kind, data in files.items():
        number, name = next(hub.ids), f"{chart.file_name}{'' if kind == 'tgz' else '.prov'}"
        asset = {
            "id": number,
            "release": created["id"],
            "name": name,
            "size": len(data),
            "digest": sha256(data),
        }
        remote.assets[number] = {**asset, "state": "uploaded" if data else "starter"}
        remote.data[number] = data
    return created


@pytest.mark.parametrize(
    "left", [{}, {"tgz": b""}, {"prov": b"of another archive"}, {"prov": b"", "tgz": b""}]
)
def test_a_release_without_archive_is_completed(
    hub: Github, remote: Repository, left: dict[str, bytes]
) -> None:
    """Acceptance test A2: what helm/chart-releaser leaves when it dies, for ever
    (rancher/turtles#2521).
    """
    chart = packed()
    release(hub, remote, chart, **left)
    published = opened().publish(chart, signed(chart))
    assert remote.published() == {
        "hello-1.0.0": {f"{chart.file_name}.prov": signed(chart), chart.file_name: chart.tgz}
    }
    assert opened().find("hello", "1.0.0") == published
    assert state(remote)["half"] == []
    assert remote.refs["refs/tags/hello-1.0.0"] == remote.refs["refs/heads/main"], "its tag stays"


def test_a_provenance_file_is_of_the_archive_beside_it(hub: Github, remote: Repository) -> None:
    chart, other_chart = packed(), packed(version="1.0.1")
    release(hub, remote, chart, tgz=chart.tgz)
    release(hub, remote, other_chart, prov=b"of another archive")
    opened().publish(chart, signed(chart))
    opened().publish(other_chart)
    left = {f"{chart.file_name}.prov": signed(chart), chart.file_name: chart.tgz}
    assert remote.published() == {
        "hello-1.0.0": left,
        "hello-1.0.1": {other_chart.file_name: other_chart.tgz},
    }
    remote.put("gh-pages", "index.yaml", index.Index(None, "").data)
    opened().publish(chart, signed(chart, by="somebody else"))
    assert remote.published()["hello-1.0.0"] == left, "what fits stays"


def test_another_tar_in_a_release_is_refused_before_the_index(
    hub: Github, remote: Repository
) -> None:
    other_chart = packed(more="description: other\n")
    release(hub, remote, other_chart, tgz=other_chart.tgz)
    with pytest.raises(Conflict, match=other_chart.tar_digest):
        opened().publish(packed())
    assert entries(remote) == []
    assert state(remote)["drafts"] == []


def test_versions_with_dashes_are_one_entry(hub: Github, remote: Repository) -> None:
    """Acceptance test A3: helm/chart-releaser splits names at the last dash
    (helm/chart-releaser#533).
    """
    for _ in range(2):
        opened().publish(packed("foo-bar", "1.0.0-rc.1"))
    assert [(entry["name"], entry["version"]) for entry in entries(remote)] == [
        ("foo-bar", "1.0.0-rc.1")
    ]
    (created,) = remote.releases.values()
    assert (created["tag_name"], created["prerelease"]) == ("foo-bar-1.0.0-rc.1", True)


def test_the_tag_stays_where_it_is_and_a_new_one_starts_nothing(
    hub: Github, remote: Repository
) -> None:
    remote.refs["refs/tags/hello-1.0.0"] = remote.refs["refs/heads/main"]
    opened().publish(packed())
    assert remote.refs["refs/tags/hello-1.0.0"] == remote.refs["refs/heads/main"]
    opened().publish(packed("other"))
    tree = remote.commits[remote.refs["refs/tags/other-1.0.0"]][0]
    assert list(remote.trees[tree]) == ["index.yaml"], "of the pages branch, where no workflow is"


def test_drafts_of_people_stay(hub: Github, remote: Repository) -> None:
    chart = packed()
    notes = release(hub, remote, chart, prov=b"x")
    remote.releases[notes["id"]].update(draft=True, name="What is new")
    left = release(hub, remote, chart)
    remote.releases[left["id"]].update(draft=True, name="hello-1.0.0 (being published)")
    for number in range(120):
        release(hub, remote, packed(version=f"0.1.{number}"))
    opened().publish(chart)
    assert [draft["name"] for draft in state(remote)["drafts"]] == ["What is new"]


@pytest.mark.parametrize("major", [3, 4])
@pytest.mark.parametrize("plus", ["+", "."])
def test_helm_pulls_what_was_published(hub: Github, tmp_path: Path, plus: str, major: int) -> None:
    """GitHub renames files with special letters, maybe +: the index has the URL of the asset as it
    is stored.
    """
    hub.plus = plus
    charts = [packed(version="1.0.0+b.1"), packed(version="1.0.1")]
    for chart in charts:
        opened().publish(chart, signed(chart))
        assert opened().publish(chart, signed(chart)) == opened().find(chart.name, chart.version)
        run = [
            str(helm(major)),
            "pull",
            "hello",
            "--repo",
            f"{hub.web}/pages/me/charts",
            "--version",
            chart.version,
        ]
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        completed = subprocess.run(
            [*run, "--prov"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert completed.returncode == 0, completed.stderr
        (pulled,) = tmp_path.glob(f"hello-{chart.version.replace('+', '?')}.tgz")
        assert pulled.read_bytes() == chart.tgz
        assert pulled.with_name(f"{pulled.name}.prov").read_bytes() == signed(chart)


def test_an_older_server_computes_no_digests(hub: Github, remote: Repository) -> None:
    hub.digests = False
    chart = packed()
    published = opened().publish(chart)
    assert opened().resolve("hello", "1.0.0") == published.reference
    hub.fault = lambda request: "drop" if request.method == "PUT" else None
    with pytest.raises(Temporary):
        opened(budget=0).publish(packed(version="1.0.1"))
    hub.fault = lambda _: None
    with pytest.raises(Conflict):
        opened().publish(packed(version="1.0.1", more="description: other\n"))


def test_a_private_repository_by_its_token(hub: Github, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repository("me/hidden", private=True)
    repository = GithubReleasesRepository("github-releases:me/hidden", {})
    chart = packed()
    published = repository.publish(chart, signed(chart))
    assert repository.provenance(published) == signed(chart)
    monkeypatch.setenv("GITHUB_TOKEN", READ)
    assert (
        GithubReleasesRepository("github-releases:me/hidden", {}).find("hello", "1.0.0")
        == published
    )
    monkeypatch.delenv("GITHUB_TOKEN")
    with pytest.raises(AccessRefused, match="or this login may not see it: set GITHUB_TOKEN"):
        GithubReleasesRepository("github-releases:me/hidden", {}).find("hello", "1.0.0")
    with pytest.raises(AccessRefused):
        GithubReleasesRepository("github-releases:me/hidden", {}).provenance(published)
    host = hub.web.partition("://")[2]
    configured = {f"{host}/me/hidden": Host(username="x-access-token", password=READ)}
    assert GithubReleasesRepository("github-releases:me/hidden", configured).versions("hello") == [
        "1.0.0"
    ]


@pytest.mark.parametrize("token", ["", READ, "token-of-nobody"])
def test_who_may_not_write_learns_it_before_anything_is_written(
    hub: Github, remote: Repository, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    before = dict(remote.refs)
    monkeypatch.setenv("GITHUB_TOKEN", token)
    with pytest.raises(
        AccessRefused, match="set GITHUB_TOKEN" if token != READ else "contents, write"
    ):
        opened().publish(packed())
    assert (remote.refs, remote.releases) == (before, {})


def test_reading_what_is_public_needs_no_token(
    hub: Github, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = opened().publish(packed())
    assert opened().find("hello", "1.0.0") == published
    monkeypatch.delenv("GITHUB_TOKEN")
    assert opened().find("hello", "1.0.0") == published
    assert opened().resolve("hello", "1.0.0") == published.reference
    assert not any(
        "Authorization" in request.headers for request in hub.requests if "download" in request.path
    )


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503])
def test_only_404_means_absent(hub: Github, remote: Repository, status: int) -> None:
    opened().publish(packed("other"))
    for path in ("/releases/tags/", "/contents/", "/download/"):
        hub.fault = answered(status, "no", path=path)
        began = len(hub.requests)
        with pytest.raises(AccessRefused if status == 403 else Temporary):
            if path == "/download/":
                opened(budget=0).find("other", "1.0.0")
            else:
                opened(budget=0).publish(packed())
        assert not [request for request in hub.requests[began:] if request.method != "GET"]


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "0"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}]
)
@pytest.mark.parametrize("status", [403, 429])
def test_a_rate_limit_is_waited_for(
    hub: Github, remote: Repository, status: int, headers: dict[str, str]
) -> None:
    limited = set()

    def fault(request: Request) -> Answer | None:
        what = (request.method, request.path, *request.query.values())
        if "/api/" not in request.path or what in limited:
            return None
        limited.add(what)
        return Answer(status, {"message": "API rate limit exceeded"}, headers)

    hub.fault = fault
    chart = packed()
    opened().publish(chart, signed(chart))
    assert len(limited) > 12
    assert list(remote.published()) == ["hello-1.0.0"]
    assert len(remote.releases) == 1


def test_the_token_goes_nowhere_else(hub: Github, remote: Repository) -> None:
    with scripted(lambda _: (200, {}, b"")) as elsewhere:

        def fault(request: Request) -> Answer | None:
            if request.method != "POST" or not request.path.endswith("/releases"):
                return None
            upload = f"http://{elsewhere.host}/assets{{?name}}"
            release = {
                "id": 1,
                "tag_name": "t",
                "draft": True,
                "html_url": "",
                "upload_url": upload,
            }
            return Answer(201, release)

        hub.fault = fault
        with pytest.raises(MachineError, match="a URL of another host, which gets no token"):
            opened().publish(packed())
        assert elsewhere.requests == []


def test_the_token_is_never_told(
    hub: Github, remote: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    opened().publish(packed())
    texts = [str(state(remote)), str(remote.commits)]
    for status in (401, 403, 404, 409, 422, 500):
        hub.fault = answered(status, f"I was told {WRITE}")
        with pytest.raises(PipelineError) as raised:
            opened(budget=0).publish(packed())
        texts.append(str(raised.value))
        assert "I was told" in texts[-1]
    assert WRITE not in "".join([*texts, caplog.text])


def test_an_index_is_replaced_only_as_it_was_read(hub: Github, remote: Repository) -> None:
    repository = opened()
    begun = index.Index(None, "").with_entries([])
    assert repository.index() is None
    repository.rewrite(None, begun)
    with pytest.raises(Conflict, match="changed meanwhile"):
        repository.rewrite(None, begun + b"# 1\n")
    with pytest.raises(Conflict, match="changed meanwhile"):
        repository.rewrite(begun + b"# 1\n", begun + b"# 2\n")
    large = begun + b"# more than is told as JSON\n" * 60000
    repository.rewrite(begun, large)
    assert repository.index() == large
    repository.rewrite(large, begun)
    assert remote.files("gh-pages") == {"index.yaml": begun}


def test_entries_of_others_in_the_meantime_are_kept(hub: Github, remote: Repository) -> None:
    opened().publish(packed("one"))
    chart = packed("two")
    lost: list[Request] = []

    def fault(request: Request) -> None:
        if request.method == "PUT" and len(lost) < 3:
            lost.append(request)
            known = index.Index(remote.files("gh-pages")["index.yaml"], "")
            fields = {"apiVersion": "v2", "name": f"other{len(lost)}", "version": "1.0.0"}
            remote.put(
                "gh-pages",
                "index.yaml",
                known.with_entries([index.new_entry_fields(fields, chart.digest, "x.tgz")]),
            )

    hub.fault = fault
    opened().publish(chart)
    assert opened().charts() == ["one", "other1", "other2", "other3", "two"]


def test_a_rule_against_commits_is_no_race(hub: Github, remote: Repository) -> None:
    words = "Repository rule violations found\n\nChanges must be made through a pull request."
    hub.fault = answered(409, words, method="PUT")
    with pytest.raises(MachineError, match="made through a pull request"):
        opened().publish(packed())


def test_what_github_refuses_for_good_leaves_no_draft(hub: Github, remote: Repository) -> None:
    words = (
        "Repository rule violations found\n\nCannot create ref due to creations being restricted."
    )
    for status, error in ((422, MachineError), (403, AccessRefused)):
        hub.fault = answered(status, words, method="PATCH")
        with pytest.raises(error, match="creations being restricted"):
            opened().publish(packed())
        assert (remote.releases, remote.assets) == ({}, {})


@pytest.mark.parametrize("status", [403, 422])
def test_a_release_that_was_published_is_never_taken_for_a_draft(
    hub: Github, remote: Repository, status: int
) -> None:
    """Its answer gets lost, and the next try is refused, as a release that has become immutable."""
    tries = iter(["lose", Answer(status, {"message": "the release is immutable"})])
    hub.fault = lambda request: next(tries, None) if request.method == "PATCH" else None  # type: ignore[arg-type]
    chart = packed()
    with contextlib.suppress(AccessRefused):
        opened().publish(chart)
    assert remote.published() == {"hello-1.0.0": {chart.file_name: chart.tgz}}


def test_a_fix_of_an_older_version_does_not_become_the_latest_release(
    hub: Github, remote: Repository
) -> None:
    def latest(version: str, name: str = "hello") -> str:
        opened().publish(packed(name, version=version))
        return str(remote.releases[remote.latest]["tag_name"])

    assert latest("1.9.0") == "hello-1.9.0"
    hub.plus = "."  # GitHub stores some names otherwise
    assert latest("1.10.0+b") == "hello-1.10.0+b"
    assert latest("1.9.1") == "hello-1.10.0+b"
    assert latest("2.0.0-rc.1") == "hello-1.10.0+b", "a pre-release never is"
    assert latest("0.1.0", "hello-world") == "hello-world-0.1.0", "of another chart nothing follows"


def test_what_a_release_forbids_is_said(hub: Github, remote: Repository) -> None:
    words = "Cannot upload assets to an immutable release."
    hub.fault = answered(422, words, path="uploads")
    release(hub, remote, packed())
    with pytest.raises(MachineError, match="immutable"):
        opened().publish(packed())


def test_what_the_index_says_must_be_so(hub: Github, remote: Repository) -> None:
    opened().publish(packed())
    (number,) = remote.assets
    for wrong, words in (
        ({"digest": "sha256:" + "0" * 64}, "the index says"),
        ({"state": "starter"}, "is missing"),
    ):
        right = dict(remote.assets[number])
        remote.assets[number].update(wrong)
        with pytest.raises(EvidenceError, match=words):
            opened().resolve("hello", "1.0.0")
        remote.assets[number] = right
    remote.data[number] = packed(version="1.0.1").tgz
    with pytest.raises(EvidenceError, match="the index says"):
        opened().find("hello", "1.0.0")
    index_bytes = remote.files("gh-pages")["index.yaml"]
    for url in (
        "http://127.0.0.1:1/hello-1.0.0.tgz",
        "hello-1.0.0.tgz",
        f"{hub.web}/you/charts/releases/download/a/b",
    ):
        remote.put(
            "gh-pages", "index.yaml", re.sub(rb"- http://.*", f"- {url}".encode(), index_bytes)
        )
        with pytest.raises(EvidenceError, match="which is no asset of this repository's releases"):
            opened().find("hello", "1.0.0")


def test_a_group_is_one_commit(
    hub: Github, remote: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github_releases, "GROUP", 3)
    charts = [packed(version=f"1.0.{number}") for number in range(4)]
    twin = packed(version="1.0.0+twin")
    outcomes = list(
        opened().publish_all(
            Publication(one) for one in (*charts[:2], charts[0], twin, *charts[2:])
        )
    )
    assert [outcome == outcomes[0] for outcome in outcomes] == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]
    assert isinstance(outcomes[3], Conflict)
    assert [request.method for request in hub.requests].count("PUT") == 2, (
        "the last group changes nothing"
    )
    assert len(remote.releases) == 4, "nothing is made of what is refused"


def test_all_files_are_told_page_by_page(hub: Github, remote: Repository) -> None:
    repository = opened()
    published = repository.publish(packed())
    for number in range(120):
        chart = packed(version=f"0.1.{number}")
        release(hub, remote, chart, tgz=chart.tgz)
    files = repository.files()
    assert len(files) == 121
    (entry,) = entries(remote)
    assert files[entry["urls"][0]] == len(published.archive.tgz)
    assert repository.read(entry["urls"][0]) == packed().tgz
    assert repository.read(entry["urls"][0].replace("hello", "gone")) is None


def test_fifty_with_one_version_one_wins(hub: Github, remote: Repository) -> None:
    charts = [packed(more=f"description: number {number}\n") for number in range(50)]

    def publish(chart: Archive) -> bool:
        try:
            opened(budget=60).publish(chart, signed(chart))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(publish, charts))
    (winner,) = (chart for chart, this in zip(charts, won, strict=True) if this)
    assert remote.published() == {
        "hello-1.0.0": {f"{winner.file_name}.prov": signed(winner), winner.file_name: winner.tgz}
    }
    assert state(remote)["drafts"] == []
    assert [f"sha256:{entry['digest']}" for entry in entries(remote)] == [winner.digest]
