"""Faults planted into chart repositories are found by name, and what can be mended without a guess
is mended once.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import http.server
import io
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline_steps.audit import audit
from pipeline_steps.audits import indexed, inspection
from pipeline_steps.audits.production import report_text
from pipeline_steps.charts import archive
from pipeline_steps.config.language import Config, Release
from pipeline_steps.oci.manifest import OCI_MANIFEST
from pipeline_steps.oci.registry import connect
from pipeline_steps.repositories import other_hosts
from pipeline_steps.repositories.https import HttpsRepository
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.repositories.oci import CONTENT, build_push
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import Conflict, EvidenceError, MachineError, UsageError
from pipeline_steps.toolbox.files import sha256
from tests.support.chartmuseum import chartmuseum
from tests.support.charts import packed, signed
from tests.support.github import Github, github
from tests.support.planting import Folder, Pages, Releases
from tests.support.records import Story
from tests.support.registries import registry
from tests.support.release_line import Line

Planter = Folder | Pages | Releases
KINDS = ("file", "git", "github")
#: Reading an index has nothing to do with where it is: these show that what is planted elsewhere is
#: seen, and mended.
ELSEWHERE = ("missing", "changed file", "unlisted", "doubled", "without URL", "hostile")
INDEX = "index.yaml"
NEXT = packed(version="1.1.0")
OTHER = packed(more="description: other\n")


def entry_of(data: bytes, version: str) -> bytes:
    """The lines of an entry, whose dash is at the first of them."""
    match = re.search(
        rb"(?:^  - (?:(?!^  - )[^\0])*?\n    version: %s\n)" % re.escape(version.encode()),
        data,
        re.M,
    )
    assert match, data.decode()
    return match[0]


def missing(stored: dict[str, bytes]) -> None:
    del stored["hello-1.0.0.tgz"]


def changed_file(stored: dict[str, bytes]) -> None:
    stored["hello-1.0.0.tgz"] = OTHER.tgz


def orphan(stored: dict[str, bytes]) -> None:
    stored[NEXT.file_name] = NEXT.tgz


def unlisted(stored: dict[str, bytes]) -> None:
    stored[INDEX] = (
        stored[INDEX].replace(entry_of(stored[INDEX], "1.0.0"), b"", 1).replace(b"  hello:\n", b"")
    )


def orphan_twin(stored: dict[str, bytes]) -> None:
    stored["hello-1.0.0+b.tgz"] = packed(version="1.0.0+b").tgz


def misnamed_orphan(stored: dict[str, bytes]) -> None:
    stored["hello-7.0.0.tgz"] = NEXT.tgz


def doubled(stored: dict[str, bytes]) -> None:
    lines = entry_of(stored[INDEX], "1.0.0")
    stored[INDEX] = stored[INDEX].replace(lines, lines + lines.replace(digest(packed()), b"0" * 64))


def twins(stored: dict[str, bytes]) -> None:
    twin = packed(version="1.0.0+b")
    lines = entry_of(stored[INDEX], "1.0.0").replace(b"version: 1.0.0", b"version: 1.0.0+b")
    lines = lines.replace(b"hello-1.0.0.tgz", b"hello-1.0.0+b.tgz").replace(
        digest(packed()), digest(twin)
    )
    stored[INDEX] = stored[INDEX].replace(b"  - ", lines + b"  - ", 1)
    stored[twin.file_name] = twin.tgz


def loose_version(stored: dict[str, bytes]) -> None:
    stored[INDEX] = stored[INDEX].replace(b"    version: 1.0.0\n", b"    version: v1.0\n", 1)


def unsigned(stored: dict[str, bytes]) -> None:
    stored["hello-1.0.0.tgz.prov"] = signed(packed())
    stored[NEXT.file_name] = NEXT.tgz
    lines = (
        entry_of(stored[INDEX], "1.0.0")
        .replace(b"1.0.0", b"1.1.0")
        .replace(digest(packed()), digest(NEXT))
    )
    stored[INDEX] = stored[INDEX].replace(b"  - ", lines + b"  - ", 1)


def disagreeing(stored: dict[str, bytes]) -> None:
    stored[INDEX] = stored[INDEX].replace(
        b"    version: 1.0.0\n", b'    appVersion: "9"\n    version: 1.0.0\n', 1
    )


def without_digest(stored: dict[str, bytes]) -> None:
    stored[INDEX] = re.sub(rb"(?m)^ *digest: \w+\n", b"", stored[INDEX], count=1)


def hostile(stored: dict[str, bytes]) -> None:
    stored["hello-1.0.0.tgz"] = gzip.compress(b"\0" * 3_000_000)


def without_url(stored: dict[str, bytes]) -> None:
    stored[INDEX] = re.sub(
        rb"(?m)^    urls:\n    - \S+\n", b"    urls: []\n", stored[INDEX], count=1
    )


def without_url_and_file(stored: dict[str, bytes]) -> None:
    without_url(stored)
    missing(stored)


def unreadable(stored: dict[str, bytes]) -> None:
    stored[INDEX] = stored[INDEX].replace(
        b"    version: 1.0.0\n", b"    version: 1.0.0\n    version: 1.0.1\n", 1
    )


def no_index(stored: dict[str, bytes]) -> None:
    stored[INDEX] = b"<html>moved</html>\n"


def stray(stored: dict[str, bytes]) -> None:
    stored["hello-3.0.0.tgz.prov"] = b"x"


def digest(chart: archive.Archive) -> bytes:
    return chart.digest.removeprefix("sha256:").encode()


#: Each fault: what it does to the files, the kinds it is found as, and how many of them --fix leaves.
FAULTS: dict[str, tuple[Callable[[dict[str, bytes]], None], set[str], int]] = {
    "missing": (missing, {"missing file"}, 1),
    "changed file": (changed_file, {"wrong digest"}, 1),
    "orphan": (orphan, {"orphan file"}, 0),
    "unlisted": (unlisted, {"orphan file"}, 0),
    "orphan twin": (orphan_twin, {"orphan file"}, 1),
    "misnamed orphan": (misnamed_orphan, {"orphan file"}, 1),
    "doubled": (doubled, {"duplicate version"}, 0),
    "twins": (twins, {"differs only in +build"}, 1),
    "loose version": (loose_version, {"non-SemVer version", "other chart"}, 2),
    "unsigned": (unsigned, {"missing .prov"}, 1),
    "disagreeing": (disagreeing, {"entry disagrees"}, 0),
    "without digest": (without_digest, {"no digest"}, 0),
    "without URL": (without_url, {"missing file"}, 0),
    "without URL and file": (without_url_and_file, {"missing file"}, 1),
    "hostile": (hostile, {"archive refused", "wrong digest"}, 2),
    "unreadable": (unreadable, {"unreadable entry", "orphan file"}, 2),
    "no index": (no_index, {"unreadable index"}, 1),
    "stray": (stray, {"orphan file"}, 1),
}


@pytest.fixture(scope="module")
def hub() -> Iterator[Github]:
    with github() as running:
        yield running


@pytest.fixture(params=KINDS)
def planter(
    request: pytest.FixtureRequest, hub: Github, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Planter:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    for name, value in hub.environment.items():
        monkeypatch.setenv(name, value)
    place = f"o/r{abs(hash(str(tmp_path)))}"
    planter_: Planter
    if request.param == "github":
        planter_ = Releases(hub.repository(place), place)
    else:
        planter_ = (
            Folder(tmp_path / "charts") if request.param == "file" else Pages(tmp_path / "charts")
        )
    repository = open_writable(planter_.url, {})
    repository.publish(packed())
    repository.publish(packed("other"))
    return planter_


class Audited:
    """What `audit` says of a repository, in a folder with no pipeline.yaml."""

    def __init__(self, folder: Path) -> None:
        self.config = Config(charts=(), root=folder)
        self.state = State(folder / ".pipeline/state.jsonl")

    def kinds(self, url: str, *charts: str) -> set[str]:
        inspected = inspection.inspect(url, self.config, self.state, charts, None)
        return {finding.kind for finding in inspected.findings}

    def fix(self, url: str) -> int:
        """How many things are wrong after --fix."""
        try:
            audit(config=self.config, state=self.state, url=url, fix=True)
        except EvidenceError as error:
            return int(error.what.split()[0])
        return 0


@pytest.fixture
def audited(tmp_path: Path) -> Audited:
    return Audited(tmp_path)


def test_audit_of_a_freshly_published_repository_finds_nothing(
    planter: Planter, audited: Audited
) -> None:
    assert audited.kinds(planter.url) == set()
    [record] = audit(config=audited.config, state=audited.state, url=planter.url)
    assert record.passed and record.parameters["counts"] == {}


@pytest.mark.parametrize(
    ("planter", "fault"),
    [
        *(("file", fault) for fault in FAULTS),
        *((kind, fault) for kind in KINDS for fault in ELSEWHERE if kind != "file"),
    ],
    indirect=["planter"],
)
def test_audit_fix_repairs_each_planted_fault(
    planter: Planter, audited: Audited, fault: str
) -> None:
    plant, kinds, left = FAULTS[fault]
    planter.change(plant)
    assert audited.kinds(planter.url) == kinds
    before = open_repository(planter.url, {}).index()  # type: ignore[attr-defined]
    assert audited.fix(planter.url) == left
    assert audited.kinds(planter.url) == (kinds if left else set())
    after = open_repository(planter.url, {}).index()  # type: ignore[attr-defined]
    assert (after == before) == bool(left), "it changes what it mends, and nothing else"
    assert audited.fix(planter.url) == left, "the second time there is nothing to do"
    assert open_repository(planter.url, {}).index() == after  # type: ignore[attr-defined]
    if not left:
        assert open_repository(planter.url, {}).versions("other") == ["1.0.0"]


def test_audit_fix_leaves_a_chart_with_an_unclear_entry_unchanged(
    planter: Planter, audited: Audited
) -> None:
    open_writable(planter.url, {}).publish(packed(version="0.9.0"))
    planter.change(disagreeing)
    planter.change(
        lambda stored: stored.update(
            {INDEX: stored[INDEX].replace(b": 0.9.0\n", b": 0.9.0\n    version: 1\n")}
        )
    )
    assert audited.kinds(planter.url) == {"entry disagrees", "unreadable entry", "orphan file"}
    assert audited.fix(planter.url) == 3


def test_audit_with_chart_checks_only_these_charts(planter: Planter, audited: Audited) -> None:
    planter.change(missing)
    assert audited.kinds(planter.url, "other") == set()
    assert audited.kinds(planter.url, "hello") == {"missing file"}


def test_audit_fix_conflicts_with_an_index_changed_meanwhile(
    planter: Planter, audited: Audited
) -> None:
    planter.change(unlisted)
    inspected = inspection.inspect(planter.url, audited.config, audited.state, (), None)
    open_writable(planter.url, {}).publish(packed(version="2.0.0"))
    with pytest.raises(Conflict, match="changed meanwhile"):
        inspection.repair(inspected)
    assert audited.fix(planter.url) == 0
    assert open_repository(planter.url, {}).versions("hello") == ["2.0.0", "1.0.0"]


def test_audit_fix_removes_and_adds_the_only_entry(tmp_path: Path, audited: Audited) -> None:
    folder = Folder(tmp_path / "one")
    open_writable(folder.url, {}).publish(packed())
    folder.change(disagreeing)
    assert audited.fix(folder.url) == 0 == audited.fix(folder.url)


def test_audit_fix_reports_findings_of_the_repaired_index(
    tmp_path: Path, audited: Audited, caplog: pytest.LogCaptureFixture
) -> None:
    """An archive without .prov gets its entry; others of its chart have one."""
    folder = Folder(tmp_path / "one")
    open_writable(folder.url, {}).publish(packed(), signed(packed()))
    folder.change(orphan)
    with pytest.raises(EvidenceError, match="1 thing is wrong"):
        audit(config=audited.config, state=audited.state, url=folder.url, fix=True)
    assert audited.state.records()[-1].parameters["left"] == {"missing .prov": 1}
    assert "missing .prov: hello 1.1.0" in caplog.text
    assert open_repository(folder.url, {}).versions("hello") == ["1.1.0", "1.0.0"]
    (folder.folder / f"{NEXT.file_name}.prov").write_bytes(signed(NEXT))
    assert audited.fix(folder.url) == 0


def test_audit_fix_updates_the_url_of_a_moved_archive(tmp_path: Path, audited: Audited) -> None:
    folder = Folder(tmp_path / "one")
    open_writable(folder.url, {}).publish(packed())
    (folder.folder / "old").mkdir()
    (folder.folder / packed().file_name).rename(folder.folder / "old" / packed().file_name)
    assert audited.kinds(folder.url) == {"missing file"}
    assert audited.fix(folder.url) == 0
    assert open_repository(folder.url, {}).find("hello", "1.0.0") is not None


def test_audit_fix_keeps_comments(planter: Planter, audited: Audited) -> None:
    own = b"# kept by hand\nserverInfo: {contextPath: /x}\n"

    def commented(stored: dict[str, bytes]) -> None:
        disagreeing(stored)
        stored[INDEX] = own + stored[INDEX]

    planter.change(commented)
    assert audited.fix(planter.url) == 0
    after = open_repository(planter.url, {}).index()  # type: ignore[attr-defined]
    assert own in after and b"appVersion" not in after


def test_audit_fix_takes_out_keys_for_which_helm_refuses_the_index(
    planter: Planter, audited: Audited
) -> None:
    def strange(stored: dict[str, bytes]) -> None:
        stored[INDEX] = stored[INDEX].replace(b"    urls:", b"    mine: x\n    urls:", 1)

    planter.change(strange)
    assert audited.kinds(planter.url) == {"index refused"}
    assert audited.fix(planter.url) == 0
    assert b"mine" not in open_repository(planter.url, {}).index()  # type: ignore[attr-defined]


def test_audit_fix_removes_a_withdrawn_version_without_archive(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path / "one")
    open_writable(folder.url, {}).publish(packed())
    audited = Audited(tmp_path)
    audited.config = Config(
        charts=(), root=tmp_path, release=Release(withdrawn=("hello-1.0.0", "1.1.0"))
    )
    folder.change(missing)
    folder.change(orphan)
    assert audited.kinds(folder.url) == {"missing file"}
    assert audited.fix(folder.url) == 0 == audited.fix(folder.url)
    assert open_repository(folder.url, {}).charts() == []


def test_audit_fix_removes_a_withdrawn_version_and_keeps_its_archive(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path / "one")
    for chart in (packed(), NEXT, packed("other")):
        open_writable(folder.url, {}).publish(chart)
    audited = Audited(tmp_path)
    audited.config = Config(
        charts=(), root=tmp_path, release=Release(withdrawn=("hello-1.0.0", "1.0.0"))
    )
    assert audited.kinds(folder.url) == {"withdrawn version"}
    assert audited.fix(folder.url) == 0 == audited.fix(folder.url)
    assert open_repository(folder.url, {}).versions("hello") == [NEXT.version]
    assert open_repository(folder.url, {}).versions("other") == ["1.0.0"], (
        "it may be somebody else's"
    )
    assert (folder.folder / "hello-1.0.0.tgz").read_bytes() == packed().tgz


def test_audit_reports_other_findings_of_a_withdrawn_version_without_fix(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path / "one")
    open_writable(folder.url, {}).publish(packed())
    audited = Audited(tmp_path)
    audited.config = Config(charts=(), root=tmp_path, release=Release(withdrawn=("hello-1.0.0",)))
    folder.change(disagreeing)
    assert audited.kinds(folder.url) == {"withdrawn version", "entry disagrees"}
    (folder.folder / "old").mkdir()
    (folder.folder / "hello-1.0.0.tgz").rename(folder.folder / "old/hello-1.0.0.tgz")
    assert audited.kinds(folder.url) == {"missing file"}
    assert audited.fix(folder.url) == 0 == audited.fix(folder.url)
    assert open_repository(folder.url, {}).charts() == []


def test_a_version_published_during_the_audit_is_no_orphan(planter: Planter) -> None:
    repository: Any = open_repository(planter.url, {})
    before = repository.index()
    open_writable(planter.url, {}).publish(NEXT)
    assert indexed.find_problems(repository, before, {}, (), (), 1) == []


def test_audit_fix_repairs_an_index_in_json(tmp_path: Path, audited: Audited) -> None:
    folder = Folder(tmp_path / "one")
    entry = {
        "name": "hello",
        "version": "1.0.0",
        "apiVersion": "v2",
        "urls": ["hello-1.0.0.tgz"],
        "appVersion": "9",
    }
    index = {
        "apiVersion": "v1",
        "entries": {"hello": [{**entry, "digest": digest(packed()).decode()}]},
    }
    (folder.folder / INDEX).write_text(json.dumps(index))
    (folder.folder / "hello-1.0.0.tgz").write_bytes(packed().tgz)
    assert audited.kinds(folder.url) == {"entry disagrees"}
    assert audited.fix(folder.url) == 0 == audited.fix(folder.url)


@contextlib.contextmanager
def browsed(folder: Path) -> Iterator[str]:
    """The folder behind a web server, as anybody may read it."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def test_audit_asks_a_host_once_that_gives_no_answer_in_time(
    tmp_path: Path, audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    within = functools.partial(HttpsRepository, timeout=0.2, budget=0)
    monkeypatch.setattr(other_hosts, "HttpsRepository", within)
    folder = Folder(tmp_path / "charts")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        origin = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for version in ("1.0.0", "1.1.0"):
            open_writable(folder.url, {}).publish(packed(version=version))
            (folder.folder / f"hello-{version}.tgz").unlink()
        index = (folder.folder / INDEX).read_text()
        (folder.folder / INDEX).write_text(index.replace("- hello-", f"- {origin}/hello-"))
        inspected = inspection.inspect(folder.url, audited.config, audited.state, (), 1)
        assert [finding.kind for finding in inspected.findings] == ["cannot be reached"] * 2
        silent.settimeout(0)
        connections = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                connections += 1
        assert connections == 1


def test_audit_fix_refuses_a_read_only_repository(tmp_path: Path, audited: Audited) -> None:
    folder = Folder(tmp_path / "one")
    open_writable(folder.url, {}).publish(packed(), signed(packed()))
    open_writable(folder.url, {}).publish(NEXT)
    open_writable(folder.url, {}).publish(packed("other"))
    with browsed(folder.folder) as url:
        assert audited.kinds(url) == {"missing .prov"}
        folder.change(disagreeing)
        folder.change(lambda stored: stored.update({"other-1.0.0.tgz": OTHER.tgz}))
        assert audited.kinds(url) == {"missing .prov", "entry disagrees", "other chart"}
        with pytest.raises(UsageError, match="read-only"):
            audited.fix(url)


def test_audit_fix_refuses_chartmuseum(audited: Audited) -> None:
    with chartmuseum() as museum:
        repository = open_writable(museum.url, {})
        repository.publish(packed(), signed(packed()))
        assert audited.kinds(museum.url) == set()
        repository.publish(NEXT)
        museum.files["hello-1.0.0.tgz"] = OTHER.tgz
        assert audited.kinds(museum.url) == {"missing .prov", "wrong digest"}
        assert audited.fix(museum.url) == 2
        museum.files["hello-1.0.0.tgz"] = packed().tgz
        museum.index["hello-1.0.0.tgz"]["digest"] = ""
        assert "no digest" in audited.kinds(museum.url)
        with pytest.raises(UsageError, match="its server generates the index"):
            audited.fix(museum.url)


def test_audit_fix_refuses_an_index_that_cannot_be_edited(tmp_path: Path, audited: Audited) -> None:
    folder = Folder(tmp_path / "one")
    open_writable(folder.url, {}).publish(packed())
    folder.change(
        lambda stored: stored.update({INDEX: re.sub(rb"(?m)^(  -|    )", rb"  \1", stored[INDEX])})
    )
    assert audited.kinds(folder.url) == set(), "a list that is indented further is an index, too"
    folder.change(without_digest)
    before = (folder.folder / INDEX).read_bytes()
    with pytest.raises(EvidenceError, match="cannot remove entries from"):
        audit(config=audited.config, state=audited.state, url=folder.url, fix=True)
    assert (folder.folder / INDEX).read_bytes() == before


# -- registries -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


class Pushed:
    """Charts in a registry, and manifests put there by hand."""

    def __init__(self, host: str, path: str) -> None:
        self.url = f"oci://{host}/{path}"
        self.path = f"{path}/hello"
        self.registry = connect(f"{host}/{self.path}", {})
        open_writable(self.url, {}).publish(packed())

    def tag(
        self,
        tag: str,
        one: archive.Archive,
        change: Callable[[dict[str, object]], None] = lambda _: None,
    ) -> None:
        push = build_push(one)
        for name, data in push.blobs.items():
            self.registry.push_blob(self.path, data, name)
        manifest = json.loads(push.manifest)
        change(manifest)
        self.registry.put_manifest(self.path, tag, json.dumps(manifest).encode(), OCI_MANIFEST)


def no_layers(manifest: dict[str, object]) -> None:
    manifest["layers"] = []


def configured_otherwise(manifest: dict[str, object]) -> None:
    manifest["config"] = json.loads(build_push(OTHER).manifest)["config"]


TAGS: dict[str, tuple[Callable[[Pushed], None], set[str]]] = {
    "other version": (lambda pushed: pushed.tag("2.0.0", NEXT), {"other chart"}),
    "no chart": (lambda pushed: pushed.tag("1.1.0", NEXT, no_layers), {"archive refused"}),
    "word": (lambda pushed: pushed.tag("latest", packed()), {"non-SemVer version"}),
    "twin": (
        lambda pushed: pushed.tag("1.0.0_b", packed(version="1.0.0+b")),
        {"differs only in +build"},
    ),
    "claim": (lambda pushed: pushed.tag("claim-1.1.0-0123456789ab", NEXT), {"stale claim"}),
    "other configuration": (
        lambda pushed: pushed.tag("1.1.0", NEXT, configured_otherwise),
        {"entry disagrees"},
    ),
}


@pytest.mark.parametrize("fault", TAGS)
def test_audit_finds_each_planted_fault_in_a_registry(
    host: str, audited: Audited, fault: str
) -> None:
    plant, kinds = TAGS[fault]
    pushed = Pushed(host, f"r{abs(hash(str(audited.config.root)))}")
    for data in build_push(OTHER).blobs.values():
        pushed.registry.push_blob(pushed.path, data, sha256(data))
    assert audited.kinds(pushed.url) == set(), "the claim of a version that is there is none"
    plant(pushed)
    assert audited.kinds(pushed.url) == kinds
    assert audited.fix(pushed.url) == 1, "nothing in a registry is mended"


def test_audit_reports_a_withdrawn_version_in_a_registry_without_fix(
    host: str, audited: Audited
) -> None:
    pushed = Pushed(host, "withdrawn")
    audited.config = Config(
        charts=(), root=audited.config.root, release=Release(withdrawn=("hello-1.0.0",))
    )
    assert audited.kinds(pushed.url) == {"withdrawn version"}
    assert audited.fix(pushed.url) == 1
    assert open_repository(pushed.url, {}).versions("hello") == ["1.0.0"]


def test_audit_reports_a_chart_whose_layer_is_lost(tmp_path: Path, audited: Audited) -> None:
    with registry(tmp_path / "registry") as running:
        pushed = Pushed(running.host, "lost")
        layer = next(
            blob
            for blob in json.loads(build_push(packed()).manifest)["layers"]
            if blob["mediaType"] == CONTENT
        )
        hexadecimal = layer["digest"].removeprefix("sha256:")
        [link] = (tmp_path / "registry").rglob(f"_layers/sha256/{hexadecimal}/link")
        link.unlink()
        assert audited.kinds(pushed.url) == {"missing file"}


def test_audit_of_a_chart_without_tags_reports_missing(host: str, audited: Audited) -> None:
    assert audited.kinds(f"oci://{host}/none", "hello") == {"missing file"}


# -- what is recorded -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Line:
    line = Line(tmp_path_factory.mktemp("line"))
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("promote", "--chart", "common")
    return line


@pytest.fixture
def line(released: Line) -> Iterator[Line]:
    """The released chart; what a test does to the production repository is undone."""
    folder = released.folder / "charts"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    yield released
    for path in folder.iterdir():
        path.unlink()
    for name, data in before.items():
        (folder / name).write_bytes(data)


def test_audit_compares_production_with_records_by_default(line: Line) -> None:
    assert "nothing is wrong" in line.ok("audit").stderr
    place = line.folder / "charts/common-1.0.0.tgz"
    index = line.folder / "charts/index.yaml"
    other = archive.pack({**archive.unpack(place.read_bytes()), "more.txt": b"x"})
    index.write_bytes(
        index.read_bytes().replace(line_digest(place.read_bytes()), line_digest(other.tgz))
    )
    place.write_bytes(other.tgz)

    completed = line.run("audit", "--fix")
    assert completed.returncode == 4
    assert "changed since recorded: common 1.0.0: the archive has the digest" in completed.stderr
    assert place.read_bytes() == other.tgz, "an archive is never touched"
    assert line.records("audit")[-1]["parameters"]["counts"] == {"changed since recorded": 1}


def test_audit_fix_corrects_the_digest_of_a_recorded_archive(line: Line) -> None:
    place, index = line.folder / "charts/common-1.0.0.tgz", line.folder / "charts/index.yaml"
    right = index.read_bytes()
    index.write_bytes(right.replace(line_digest(place.read_bytes()), b"0" * 64))
    assert line.run("audit").returncode == 4
    output = line.ok("audit", "--fix").stderr
    assert "fix: put the digest of the archive, which a record names, into the index" in output
    assert index.read_bytes() == right
    assert "nothing is wrong" in line.ok("audit", "--fix").stderr


def test_audit_fix_removes_the_entry_of_a_recorded_missing_archive(line: Line) -> None:
    place = line.folder / "charts/common-1.0.0.tgz"
    was = place.read_bytes()
    place.unlink()
    assert "take the entry out" in line.ok("audit", "--fix").stderr
    assert "nothing is wrong" in line.ok("audit").stderr
    line.ok("promote", "--chart", "common")
    assert archive.tar_digest(place.read_bytes()) == archive.tar_digest(was)


def test_audit_accepts_the_recorded_tar_compressed_otherwise(line: Line) -> None:
    place, index = line.folder / "charts/common-1.0.0.tgz", line.folder / "charts/index.yaml"
    was = place.read_bytes()
    place.write_bytes(again := gzip.compress(gzip.decompress(was), 1))
    assert "wrong digest: common 1.0.0" in line.run("audit").stderr
    line.ok("audit", "--fix")
    assert (
        line_digest(again) in index.read_bytes() and "nothing is wrong" in line.ok("audit").stderr
    )


def test_audit_does_not_fix_with_plan_or_from_the_environment(line: Line) -> None:
    index = line.folder / "charts/index.yaml"
    index.write_bytes(
        wrong := index.read_bytes().replace(
            b"    version: 1.0.0", b"    icon: x\n    version: 1.0.0"
        )
    )
    assert "fix: write what its Chart.yaml says" in line.run("audit", "--fix", "--plan").stderr
    assert line.run("audit", PIPELINE_STEPS_FIX="1").returncode == 4
    assert index.read_bytes() == wrong


@pytest.mark.parametrize("form", ["table", "csv", "json", "html"])
def test_audit_report_lists_versions_with_their_tests(line: Line, form: str) -> None:
    output = line.ok("audit", "--report", form).stdout
    promoted = line.records("promote")[-1]
    assert (
        "common" in output
        and "1.0.0" in output
        and "a library, tested through its dependents" in output
    )
    assert (promoted["content"] if form != "table" else promoted["content"][7:19]) in output
    assert (promoted["revision"] if form != "table" else promoted["revision"][:12]) in output
    if form == "json":
        [version] = json.loads(output)
        assert (version["proof"], version["tests"][0]["attempts"]) == ("recorded", 1)


@pytest.mark.parametrize("words", [("--report", "html"), ("--uses", f"sha256:{'0' * 64}"), ()])
def test_audit_plan_writes_no_record_and_no_report(line: Line, words: tuple[str, ...]) -> None:
    folder = line.repo.root / ".pipeline"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    completed = line.ok("audit", *words, "--plan")
    assert completed.stdout == "" and ("would be written" in completed.stderr) == bool(words)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_audit_report_marks_versions_without_record(line: Line, tmp_path: Path) -> None:
    open_writable(line.folder.joinpath("charts").as_uri(), {}).publish(packed())
    lines = json.loads(line.ok("audit", "--report", "json").stdout)
    assert [(version["chart"], version["proof"]) for version in lines] == [
        ("common", "recorded"),
        ("hello", "no record"),
    ]


def line_digest(data: bytes) -> bytes:
    return sha256(data).removeprefix("sha256:").encode()


def test_audit_of_an_unreadable_index_fails(tmp_path: Path, audited: Audited) -> None:
    folder = Folder(tmp_path / "one")
    open_writable(folder.url, {}).publish(packed())
    (folder.folder / INDEX).unlink()
    (folder.folder / INDEX).mkdir()
    with pytest.raises(MachineError, match="cannot be read"):
        audited.kinds(folder.url)


def test_audit_report_lists_a_version_of_two_repositories_twice(tmp_path: Path) -> None:
    one, other = Folder(tmp_path / "one"), Folder(tmp_path / "other")
    published = open_writable(one.url, {}).publish(packed())
    open_writable(one.url, {}).publish(NEXT)
    open_writable(other.url, {}).publish(OTHER)
    audited = Audited(tmp_path)
    outputs = {"chart": published.reference, "tar": published.tar_digest}
    elsewhere = {
        "chart": f"{other.url}/hello-1.0.0.tgz@sha256:{'0' * 64}",
        "tar": f"sha256:{'1' * 64}",
    }
    story = Story(audited.state)
    released = story.add("promote", "hello", "a", parameters={"version": "1.0.0"}, outputs=outputs)
    replaced = story.add(
        "promote", "hello", "b", parameters={"version": "1.0.0"}, outputs=elsewhere
    )
    production = {"charts": [one.url, other.url]}
    config = msgspec.convert(
        {"channels": {"production": production}, "root": tmp_path, "charts": ()}, Config
    )

    def report(form: str) -> str:
        (record,) = audit(config=config, state=audited.state, report=form)
        return report_text(record, audited.state)

    lines = json.loads(report("json"))
    assert [
        (line["version"], line["repository"], line["proof"], line["record"]) for line in lines
    ] == [
        ("1.1.0", one.url, "no record", ""),
        ("1.0.0", one.url, "recorded", released.id),
        ("1.0.0", other.url, "changed", replaced.id),
    ]
    head, *rows = report("table").splitlines()
    assert head.split()[:3] == ["chart", "version", "repository"]
    assert [row.split()[2] for row in rows] == [one.url, one.url, other.url]
    assert [row["repository"] for row in csv.DictReader(io.StringIO(report("csv")))] == [
        one.url,
        one.url,
        other.url,
    ]
    assert report("html").count(f'<td data-name="repository">{other.url}</td>') == 1


# -- what uses an image -----------------------------------------------------------------------------------------


def test_audit_uses_lists_versions_built_on_a_base_image(tmp_path: Path) -> None:
    """The records of a chart with an image, as its steps write them, and a chart that nobody
    recorded.
    """
    folder = Folder(tmp_path / "charts")
    repository = open_writable(folder.url, {})
    repository.publish(packed("other"))
    published = repository.publish(packed())
    base, image, content = (f"sha256:{sign * 64}" for sign in "abc")
    audited = Audited(tmp_path)
    story = Story(audited.state)
    reference = f"r.example.com/web:k-1@{image}"
    built = story.add(
        "build_image",
        "web",
        "image",
        inputs={"docker.io/library/busybox:1": base},
        outputs={"image": reference},
    )
    images = {"image:web": image}
    snapshot = story.add(
        "snapshot",
        "hello",
        content,
        uses=[built.id],
        inputs=images,
        outputs={"tar": f"sha256:{'d' * 64}"},
    )
    lost = story.test(
        "hello",
        content,
        snapshot,
        "ci/a-values.yaml",
        "infrastructure",
        reason="the node went away",
    )
    test = story.test("hello", content, snapshot, "ci/a-values.yaml")
    story.add(
        "promote", "hello", content, uses=[snapshot.id, test.id], inputs=images, parameters={"version": "1.0.0"},
        outputs={
            "chart": published.reference, "tar": published.tar_digest, "image:web": f"r.example.com/web:1.0.0@{image}",
        },
    )  # fmt: skip
    assert lost.key == test.key
    for asked, versions in ((base, 1), (image, 1), (f"sha256:{'e' * 64}", 0)):
        (record,) = audit(config=audited.config, state=audited.state, url=folder.url, uses=asked)
        assert record.parameters["versions"] == versions
    (record,) = audit(config=audited.config, state=audited.state, url=folder.url, report="json")
    [hello, other] = json.loads(report_text(record, audited.state))
    assert (other["chart"], other["proof"], hello["proof"]) == ("other", "no record", "recorded")
    assert hello["tests"] == [{"values": "ci/a-values.yaml", "cluster": "k131", "attempts": 2}]
    assert hello["bases"] == {"docker.io/library/busybox:1": base}
    with pytest.raises(UsageError):
        audit(config=audited.config, state=audited.state, url=folder.url, report="pdf")
    with pytest.raises(EvidenceError, match="not a digest"):
        audit(config=audited.config, state=audited.state, url=folder.url, uses="busybox")
