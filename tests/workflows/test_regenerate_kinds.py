"""Every kind of repository filled from the tags of a source: real git, helm, registry and git
server, and the doubles of ChartMuseum and GitHub. What a folder gets is what each of them gets,
however often it is stopped and asked again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline_steps.audits import chain
from pipeline_steps.config.config_file import load
from pipeline_steps.repositories.directory import DirectoryRepository
from pipeline_steps.repositories.kinds import open_repository
from pipeline_steps.toolbox.errors import EvidenceError
from tests.support.chartmuseum import chartmuseum
from tests.support.charts import packed, signed
from tests.support.git_server import https
from tests.support.github import WRITE, github
from tests.support.gits import bare
from tests.support.helms import helm
from tests.support.registries import fetch, registry
from tests.workflows.test_regenerate import Source, stored

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

PASSWORD = "canary-5e21d0"
PIPELINE = 'charts: [{{path: charts/*}}]\nhosts: {{"{host}": {{username: ci, password: "${{PASSWORD}}"{more}}}}}\n'


class Place(NamedTuple):
    """A repository to fill. archives: file name → bytes, read without our code; writes: grows when
    it is changed.

    config: the pipeline.yaml of who fills it, "" for none; pull: words after `helm pull`, () where
    no web server is. listing: its index.yaml, where that is to be the one of a folder.
    """

    url: str
    archives: Callable[[], dict[str, bytes]]
    writes: Callable[[], object]
    environment: Mapping[str, str] = {}
    config: str = ""
    pull: tuple[str, ...] = ()
    listing: Callable[[], bytes] | None = None


@contextlib.contextmanager
def oci(folder: Path) -> Iterator[Place]:
    with registry(folder / "registry") as running:
        api = f"http://{running.host}/v2"

        def asked(path: str) -> Any:
            """What the registry answers; nothing where something is not there yet."""
            request = urllib.request.Request(f"{api}/{path}", headers={"Accept": OCI_MANIFEST})
            with (
                contextlib.suppress(urllib.error.HTTPError),
                urllib.request.urlopen(request, timeout=10) as answer,
            ):
                return json.load(answer)
            return {}

        def manifests() -> dict[tuple[str, str], Any]:
            """By repository and tag, claims left out, and tags that are listed a moment before they
            answer.
            """
            names = asked("_catalog")["repositories"]
            tags = [
                (name, tag)
                for name in names
                for tag in asked(f"{name}/tags/list").get("tags") or ()
            ]
            found = {
                (name, tag): asked(f"{name}/manifests/{tag}")
                for name, tag in tags
                if not tag.startswith("claim-")
            }
            return {place: manifest for place, manifest in found.items() if manifest}

        def archives() -> dict[str, bytes]:
            found = {}
            for (name, tag), manifest in manifests().items():
                (layer,) = (one for one in manifest["layers"] if one["mediaType"] == CONTENT)
                place = f"{name.rpartition('/')[2]}-{tag.replace('_', '+')}.tgz"
                found[place] = fetch(f"{api}/{name}/blobs/{layer['digest']}")
            return found

        url = f"oci://{running.host}/team/charts"
        yield Place(url, archives, manifests, pull=(f"{url}/web", "--plain-http"))


def _branch(folder: Path) -> dict[str, bytes]:
    """The archives on gh-pages."""
    completed = subprocess.run(["git", "archive", "gh-pages"], cwd=folder, capture_output=True)
    if completed.returncode:
        assert b"not a valid object name" in completed.stderr, completed.stderr
        return {}
    with tarfile.open(fileobj=io.BytesIO(completed.stdout)) as tar:
        files = {
            member.name: tar.extractfile(member) for member in tar if member.name.endswith(".tgz")
        }
        return {name: file.read() for name, file in files.items() if file is not None}


def _said(folder: Path, *words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, check=True).stdout


def _pages(url: str, folder: Path, environment: Mapping[str, str], config: str = "") -> Place:
    def index() -> bytes:
        return _said(folder, "cat-file", "blob", "gh-pages:index.yaml")

    def writes() -> bytes:
        return _said(folder, "rev-parse", "--all")

    return Place(url, lambda: _branch(folder), writes, environment, config, listing=index)


def _tgz(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.endswith(".tgz")}


@contextlib.contextmanager
def git_file(folder: Path) -> Iterator[Place]:
    pages = bare(folder / "served/pages.git")
    yield _pages(f"git+{pages.as_uri()}#gh-pages", pages, {})


@contextlib.contextmanager
def git_https(folder: Path) -> Iterator[Place]:
    pages = bare(folder / "served/pages.git", http__receivepack="true")
    with https(folder / "served", "ci", PASSWORD) as server:
        config = PIPELINE.format(host=server.host, more=f', ca_file: "{server.ca_file}"')
        yield _pages(f"git+https://{server.host}/pages.git", pages, {"PASSWORD": PASSWORD}, config)


@contextlib.contextmanager
def museum(folder: Path) -> Iterator[Place]:
    with chartmuseum(depth=1) as running:
        running.login, running.lag = ("ci", PASSWORD), 1

        def archives() -> dict[str, bytes]:
            return {name.removeprefix("stable/"): data for name, data in running.files.items()}

        def writes() -> int:
            return sum(request.method != "GET" for request in running.requests)

        pull = (
            "web",
            "--repo",
            f"http://{running.host}/stable",
            "--username",
            "ci",
            "--password",
            PASSWORD,
        )
        config = PIPELINE.format(host=running.host, more="")
        yield Place(f"{running.url}/stable", archives, writes, {"PASSWORD": PASSWORD}, config, pull)


@contextlib.contextmanager
def releases(folder: Path) -> Iterator[Place]:
    with github() as hub:
        there = hub.repository("team/charts")

        def archives() -> dict[str, bytes]:
            found = [
                files for files in there.published().values() if "refs/heads/gh-pages" in there.refs
            ]
            return _tgz({name: data for files in found for name, data in files.items()})

        def writes() -> int:
            return sum(request.method not in ("GET", "HEAD") for request in hub.requests)

        pull = ("web", "--repo", f"{hub.web}/pages/team/charts")
        yield Place("github-releases:team/charts", archives, writes, hub.environment, pull=pull)
        assert hub.wrong == []


KINDS = {
    "oci": oci,
    "git+file": git_file,
    "git+https": git_https,
    "chartmuseum": museum,
    "github-releases": releases,
}


class Filling(Source):
    """A source whose tags go to one place. whole: what a folder gets from them."""

    def __init__(self, folder: Path, place: Place) -> None:
        super().__init__(folder)
        self.place = place
        if place.config:
            (folder / "pipeline.yaml").write_text(place.config)

    def environment(self, **variables: str) -> dict[str, str]:
        return super().environment(**{**self.place.environment, **variables})

    def fill(self, *words: str) -> dict[str, int]:
        """The counts of a run that ended well, beside what it said."""
        self.said = self.ok(*words, to=self.place.url)
        assert PASSWORD not in self.said and WRITE not in self.said
        return {name: number for name, number in self.report().items() if number}

    def whole(self) -> dict[str, bytes]:
        state = str(self.folder / "aside/state.jsonl")
        self.ok("--state", state, to=self.out.as_uri())
        return _tgz(stored(self.out))


@pytest.fixture(params=KINDS)
def filling(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Filling]:
    with KINDS[request.param](tmp_path) as place:
        yield Filling(tmp_path, place)


def test_every_repository_kind_is_filled_like_a_folder(filling: Filling, tmp_path: Path) -> None:
    for version in ("1.0.0", "1.1.0-rc.1", "1.1.0+build.5"):
        filling.release("web", version)
        filling.release("my-api", version)
    assert filling.fill() == {"published": 6}
    assert filling.place.archives() == filling.whole()
    before = filling.place.writes()
    assert filling.fill() == {"kept": 6}
    shutil.rmtree(tmp_path / ".pipeline")
    assert filling.fill() == {"kept": 6}, "without what was remembered"
    assert filling.fill("--again") == {"kept": 6}
    assert filling.place.writes() == before
    filling.release("web", "1.2.0")
    assert filling.fill() == {"published": 1, "kept": 6}
    assert filling.place.archives() == filling.whole()
    if filling.place.listing:
        assert filling.place.listing() == stored(filling.out)["index.yaml"]
    for major in (3, 4) if filling.place.pull else ():
        (tmp_path / str(major)).mkdir()
        command = [str(helm(major)), "pull", *filling.place.pull, "--version", "1.2.0"]
        subprocess.run(
            [*command, "--destination", str(tmp_path / str(major))],
            env=filling.environment(),
            check=True,
        )
        assert (tmp_path / str(major) / "web-1.2.0.tgz").read_bytes() == filling.place.archives()[
            "web-1.2.0.tgz"
        ]


def test_a_published_archive_stays_in_every_repository_kind(
    filling: Filling, tmp_path: Path
) -> None:
    for version in ("1.0.0", "1.1.0"):
        filling.release("web", version)
    theirs = packed("web", "1.0.0", more="description: made by another program\n")
    DirectoryRepository((tmp_path / "theirs").as_uri()).publish(theirs)
    filling.more = ("--from", (tmp_path / "theirs").as_uri())
    assert filling.fill() == {"published": 1}
    filling.more = ()
    assert filling.fill() == {"published": 1, "differs": 1}
    for words in ((), ("--again",)):
        assert filling.fill(*words) == {"kept": 1, "differs": 1}
        assert f"published is {theirs.tar_digest}" in filling.said
    assert filling.place.archives() == {**filling.whole(), "web-1.0.0.tgz": theirs.tgz}


def test_every_repository_kind_is_completed_after_a_kill(filling: Filling, tmp_path: Path) -> None:
    for number in range(18):  # more than one process makes them
        filling.release("web", f"1.{number}.0")
    whole = filling.whole()
    for kind, visible in ((signal.SIGTERM, 1), (signal.SIGKILL, 4), (signal.SIGKILL, 9)):
        with subprocess.Popen(
            filling.command(filling.place.url),
            cwd=tmp_path,
            env=filling.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as child:
            while child.poll() is None and len(filling.place.archives()) < visible:
                time.sleep(0.02)
            child.send_signal(kind)
        for name, data in filling.place.archives().items():
            assert data == whole[name], "what is seen of a killed one is whole"
    counts = filling.fill()
    assert sum(counts.values()) == 18 and not {"failed", "differs"} & counts.keys()
    assert filling.place.archives() == whole
    assert filling.fill("--again") == {"kept": 18}


def test_every_kind_is_copied_into_a_registry_byte_for_byte_with_provenance(
    filling: Filling, tmp_path: Path
) -> None:
    """What `--from chartmuseum+https://old --to oci://new` is for; a version that is withdrawn
    stays behind.
    """
    old = DirectoryRepository((tmp_path / "old").as_uri())
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        old.publish(packed("web", version), signed(packed("web", version)))
    filling.more = ("--from", old.url)
    assert filling.fill()["published"] == 3
    config = filling.folder / "pipeline.yaml"
    hosts = config.read_text() if config.exists() else "charts: [{path: charts/*}]\n"
    config.write_text(f"{hosts}release: {{withdrawn: [web-1.1.0]}}\n")
    with registry(tmp_path / "registry") as running:
        new = f"oci://{running.host}/new"
        filling.more = ("--from", filling.place.url)
        output = filling.ok(to=new)
        assert "2 published" in output and "web 1.1.0 is withdrawn" in output
        assert "2 there before" in filling.ok(to=new)
        there = open_repository(new, {})
        assert there.versions("web") == ["1.2.0", "1.0.0"]
        for version in there.versions("web"):
            published = there.find("web", version)
            assert published and published.archive == packed("web", version)
            assert there.provenance(published) == signed(packed("web", version))


def test_verify_fetches_a_chart_from_every_kind_by_its_file_name(
    filling: Filling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filling.release("web", "1.0.0-rc.1")
    filling.fill()
    tgz = filling.place.archives()["web-1.0.0-rc.1.tgz"]
    for name, value in filling.place.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "pipeline.yaml").touch()
    text = (tmp_path / "pipeline.yaml").read_text() or "charts: [{path: charts/*}]\n"
    url = filling.place.url
    (tmp_path / "pipeline.yaml").write_text(
        f"{text}channels: {{production: {{charts: '{url}'}}}}\n"
    )
    config = load((), environ=os.environ, start=tmp_path)
    place = f"{url}/web:1.0.0-rc.1" if url.startswith("oci:") else f"{url}/web-1.0.0-rc.1.tgz"
    found = chain.fetch(place, config)
    assert found.archive.tgz == tgz and found.reference.startswith(place)
    assert chain.fetch(found.reference, config) == found
    with pytest.raises(EvidenceError, match=r"digest|leads to"):
        chain.fetch(f"{place}@sha256:{'0' * 64}", config)
    with pytest.raises(EvidenceError, match="the chart is not there"):
        chain.fetch(place.replace("rc.1", "rc.2"), config)
