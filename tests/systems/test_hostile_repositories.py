"""The attacks of test_http_repositories.py on the other kinds that are read from elsewhere:
registries, GitHub's releases, branches of git. Each is refused by name, within bounds of memory and
time.

Servers are scripted, for real ones do not attack; what a branch is attacked with is made with the
real git.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.dependencies import MissingArchive
from pipeline_steps.oci import registry
from pipeline_steps.oci.manifest import OCI_MANIFEST
from pipeline_steps.oci.registry import Registry
from pipeline_steps.repositories import git_branch
from pipeline_steps.repositories.fetch import fetcher
from pipeline_steps.repositories.git_branch import GitBranch
from pipeline_steps.repositories.github_releases import GithubReleasesRepository
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.repositories.oci import CONFIG, CONTENT, build_push
from pipeline_steps.repositories.repository import Repository
from pipeline_steps.services import github
from pipeline_steps.sources import git_program
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
)
from pipeline_steps.toolbox.files import sha256
from tests.support.charts import packed, signed
from tests.support.gits import bare
from tests.support.scripted import Answer, Request, scripted
from tests.systems.test_http_repositories import CHART, MEASURE, MOST, OTHER, ROOT, bomb, zeros

PUSH = build_push(CHART, signed(CHART))

FIND = "repository.find('hello', '1.0.0')"
SIGNED = f"repository.provenance({FIND})"


def measured(url: str, call: str = FIND) -> str:
    """What a process of its own says of a call for which it, or a program that it started, needs no
    more than MOST.
    """
    completed = subprocess.run(
        [sys.executable, "-c", MEASURE, url, call], cwd=ROOT, capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stderr
    output, _, grown = completed.stdout.strip().rpartition("\n")
    assert int(grown) <= MOST, f"{grown} MiB: {output}"
    return output


class Attacked:
    """A repository with hello 1.0.0 in it. lies: end of a path → what is answered there instead of
    the truth.

    entrance, archive, provenance: the paths of what is asked first, of the archive and of its
    .prov.
    """

    def __init__(self, kind: str) -> None:
        self.kind, self.host = kind, ""
        self.lies: dict[str, Answer] = {}
        self.truths: dict[str, Answer] = {}
        if kind == "oci":
            below = "/v2/charts/hello"
            self.entrance, self.archive = (
                f"{below}/manifests/1.0.0",
                f"{below}/blobs/{CHART.digest}",
            )
            self.provenance, self.listing = (
                f"{below}/blobs/{sha256(signed(CHART))}",
                f"{below}/tags/list?n=1000",
            )
        else:
            below = "/api/v3/repos/me/charts"
            self.entrance = f"{below}/contents/index.yaml?ref=gh-pages"
            self.archive = "/me/charts/releases/download/hello-1.0.0/hello-1.0.0.tgz"
            self.provenance, self.listing = f"{self.archive}.prov", f"{below}/releases?per_page=100"

    def answer(self, request: Request) -> Answer:
        lie = next((lie for end, lie in self.lies.items() if request.path.endswith(end)), None)
        absent = b'{"errors": [{"code": "MANIFEST_UNKNOWN"}], "message": "Not Found"}'
        return lie or self.truths.get(request.path, (404, {}, absent))

    def begin(self, host: str) -> None:
        self.host = host
        if self.kind == "oci":
            self.url = f"oci://{host}/charts"
            for digest, data in PUSH.blobs.items():
                self.truths[f"/v2/charts/hello/blobs/{digest}"] = (200, {}, data)
            self.truths[self.listing] = (200, {}, b'{"tags": ["1.0.0"]}')
            self.tag(PUSH.manifest)
        else:
            self.url = "github-releases:me/charts"
            self.truths["/api/v3/repos/me/charts"] = (200, {}, b"{}")
            self.truths[self.archive] = (200, {}, CHART.tgz)
            self.truths[self.provenance] = (200, {}, signed(CHART))
            self.truths[self.listing] = (200, {}, b"[]")
            self.index(CHART.digest)

    def tag(self, manifest: bytes) -> None:
        """Have 1.0.0 stand for a manifest."""
        answer = (
            200,
            {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": sha256(manifest)},
            manifest,
        )
        self.truths[self.entrance] = self.truths[
            f"/v2/charts/hello/manifests/{sha256(manifest)}"
        ] = answer

    def index(self, digest: str) -> None:
        """Have the index say this digest of 1.0.0; "" for none."""
        url = f"http://{self.host}{self.archive}"
        entry = {
            "name": "hello",
            "version": "1.0.0",
            "digest": digest.removeprefix("sha256:"),
            "urls": [url],
        }
        index = {"apiVersion": "v1", "entries": {"hello": [entry]}}
        self.truths[self.entrance] = (200, {}, yaml.safe_dump(index).encode())

    def exchange(self, tgz: bytes) -> None:
        """Another archive under this version, and nothing that would not fit to it."""
        if self.kind == "github":
            self.index(sha256(tgz))
            self.truths[self.archive] = (200, {}, tgz)
            return
        parts = [{"mediaType": kind, "digest": sha256(data), "size": len(data)} for kind, data in
                 ((CONFIG, b"{}"), (CONTENT, tgz))]  # fmt: skip
        self.truths[f"/v2/charts/hello/blobs/{sha256(tgz)}"] = (200, {}, tgz)
        self.tag(json.dumps({"schemaVersion": 2, "config": parts[0], "layers": parts[1:]}).encode())

    def open(self) -> Repository:
        return open_repository(self.url, {})

    def refused(self, error: type[PipelineError], words: str) -> None:
        with pytest.raises(error, match=words):
            self.open().find("hello", "1.0.0")


@contextlib.contextmanager
def attacking(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attacked]:
    it = Attacked(kind)
    with scripted(it.answer) as server:
        monkeypatch.setenv("GITHUB_API_URL", f"http://{server.host}/api/v3")
        it.begin(server.host)
        yield it


@pytest.fixture(params=["oci", "github"])
def attacked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attacked]:
    with attacking(request.param, monkeypatch) as it:
        yield it


@pytest.fixture
def oci(monkeypatch: pytest.MonkeyPatch) -> Iterator[Attacked]:
    with attacking("oci", monkeypatch) as it:
        yield it


def test_without_an_attack_all_is_well(attacked: Attacked) -> None:
    repository = attacked.open()
    published = repository.find("hello", "1.0.0")
    assert published is not None and published.tar_digest == CHART.tar_digest
    assert published.archive == CHART and repository.provenance(published) == signed(CHART)
    assert repository.versions("hello") == ["1.0.0"]


# Endless, slow, too much


@pytest.mark.parametrize("path", ["entrance", "archive", "provenance"])
def test_endless_data(attacked: Attacked, path: str) -> None:
    attacked.lies[getattr(attacked, path)] = (200, {}, zeros())
    assert (
        "MachineError" in (output := measured(attacked.url, SIGNED))
        and "answer has more than" in output
    )


def test_endless_refusal(attacked: Attacked) -> None:
    attacked.lies[attacked.entrance] = (403, {}, zeros())
    assert "MachineError" in (output := measured(attacked.url)) and "answer has more than" in output


def test_endless_token(oci: Attacked) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{oci.host}/token",service="x"'}
    oci.lies[oci.entrance] = (401, challenge, b"")
    oci.lies["service=x&scope=repository%3Acharts%2Fhello%3Apull&client_id=pipeline-steps"] = (
        200,
        {},
        zeros(),
    )
    assert (
        "MachineError" in (output := measured(oci.url))
        and "/token: the server's answer has more than 1048576 bytes" in output
    )


LISTINGS = {"oci": "repository.versions('hello')", "github": "repository.files()"}


def test_endless_list(attacked: Attacked) -> None:
    attacked.lies[attacked.listing] = (200, {}, zeros())
    output = measured(attacked.url, LISTINGS[attacked.kind])
    assert "MachineError" in output and "answer has more than" in output


def test_endless_pages(attacked: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each names the next one, which was never asked before."""
    empty = b'{"tags": []}' if attacked.kind == "oci" else b"[]"
    numbers = iter(range(10**9))
    truth = attacked.answer

    def answer(request: Request) -> Answer:
        if "page=" not in request.path and not request.path.endswith("?n=1000"):
            return truth(request)
        path = request.path.partition("?")[0]
        return (
            200,
            {"Link": f'<http://{request.headers["Host"]}{path}?page={next(numbers)}>; rel="next"'},
            empty,
        )

    with scripted(answer) as server:
        monkeypatch.setenv("GITHUB_API_URL", f"http://{server.host}/api/v3")
        url = attacked.url.replace(attacked.host, server.host)
        output = measured(url, LISTINGS[attacked.kind])
        assert "MachineError" in output and "more than" in output and "pages" in output
        assert len(server.requests) <= 10_001


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (registry, github):
        monkeypatch.setattr(module, "TIMEOUT", 0.5)
    registry._client.cache_clear()
    yield
    registry._client.cache_clear()


def drops() -> Iterator[bytes]:
    while True:
        time.sleep(0.05)
        yield b"x"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", ["entrance", "archive"])
def test_slow_data(attacked: Attacked, path: str) -> None:
    attacked.lies[getattr(attacked, path)] = (200, {}, drops())
    with pytest.raises(
        Temporary, match=r"sends too slowly: \d+ bytes in|did not answer in time"
    ):  # a busy machine's drops
        if attacked.kind == "github":
            GithubReleasesRepository(attacked.url, {}, budget=0).find("hello", "1.0.0")
        else:
            asked = Registry(attacked.host, plain_http=True, budget=0)
            asked.manifest("charts/hello", "1.0.0")
            asked.blob("charts/hello", CHART.digest)


@pytest.mark.parametrize("path", ["entrance", "archive"])
def test_gzip_bomb_as_the_body(attacked: Attacked, path: str) -> None:
    """Nothing asked for a compressed answer, and none is decompressed."""
    attacked.lies[getattr(attacked, path)] = (200, {"Content-Encoding": "gzip"}, bomb())
    assert measured(attacked.url).startswith(("EvidenceError", "MachineError"))


def test_gzip_bomb_as_the_archive(attacked: Attacked) -> None:
    attacked.exchange(bomb())
    output = measured(attacked.url)
    assert (
        output.startswith("EvidenceError")
        and "this archive is refused: it unpacks to more than" in output
    )


@pytest.mark.parametrize("status", [200, 403, 400])
@pytest.mark.parametrize("path", ["entrance", "archive"])
def test_answer_that_swells(attacked: Attacked, path: str, status: int) -> None:
    """Three bytes of JSON can make a hundred of memory; GitHub's limits may be told with any
    status.
    """
    attacked.lies[getattr(attacked, path)] = (
        status,
        {},
        b'{"errors": [%s]}' % b",".join([b"{}"] * 6_900_000),
    )
    assert measured(attacked.url).startswith(("AccessRefused", "EvidenceError", "MachineError"))


@pytest.mark.parametrize("part", [b"[]", b'{"digest":"%d"}'], ids=["lists", "layers"])
def test_manifest_that_swells(oci: Attacked, part: bytes) -> None:
    count = 4_000_000 // (len(part) + 6)
    parts = b",".join(part % number if b"%" in part else part for number in range(count))
    oci.tag(b'{"layers": [%s]}' % parts)
    assert measured(oci.url).startswith(("EvidenceError", "MachineError"))


@pytest.mark.parametrize("name", [b'"%d"', b"[]"], ids=["names", "lists"])
def test_list_that_swells(oci: Attacked, name: bytes) -> None:
    names = b",".join(name % number if b"%" in name else name for number in range(3_000_000))
    oci.lies[oci.listing] = (200, {}, b'{"tags": [%s]}' % names)
    output = measured(oci.url, LISTINGS["oci"])
    assert output.startswith("MachineError") and "more than 500000 tags" in output


# Other content than promised


def test_mix_and_match(attacked: Attacked) -> None:
    """The name of one build, the archive of another."""
    attacked.lies[attacked.archive] = (200, {}, OTHER.tgz)
    kind = MachineError if attacked.kind == "oci" else EvidenceError
    attacked.refused(kind, f"digest {OTHER.digest}, (expected|the index says) {CHART.digest}")


def test_another_manifest_than_its_digest_says(oci: Attacked) -> None:
    other = build_push(OTHER).manifest
    oci.lies[oci.entrance] = (200, {"Docker-Content-Digest": PUSH.digest}, other)
    oci.refused(MachineError, f"digest {sha256(other)}, expected {PUSH.digest}")


@pytest.mark.parametrize(
    "other", [packed("evil"), packed(version="0.9.0")], ids=["name", "version"]
)
def test_another_chart_under_this_name(attacked: Attacked, other: Archive) -> None:
    """Consistent in itself: name and version must be right all the same (an older one is a
    rollback).
    """
    attacked.exchange(other.tgz)
    attacked.refused(EvidenceError, f"holds the chart {other.name} {other.version}")


def test_the_archive_changes_between_two_looks(attacked: Attacked) -> None:
    """What was checked is what is used, without a second look; who looks again compares again."""
    repository = attacked.open()
    published = repository.find("hello", "1.0.0")
    attacked.lies[attacked.archive] = (200, {}, OTHER.tgz)
    assert published is not None and published.archive == CHART
    with pytest.raises(
        (EvidenceError, MachineError), match=f"the digest {OTHER.digest}|has digest {OTHER.digest}"
    ):
        repository.find("hello", "1.0.0")


def test_rollback_of_a_dependency(oci: Attacked, tmp_path: Path) -> None:
    """A tag that was moved: the bytes in the cache are those of a digest, and never taken for those
    of another.
    """
    dependency = MissingArchive("", "hello", "1.0.0", oci.url)
    assert fetcher({}, tmp_path)(dependency) == CHART.tgz
    oci.exchange(OTHER.tgz)
    assert fetcher({}, tmp_path)(dependency) == OTHER.tgz


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_out_of_the_web(attacked: Attacked, target: str) -> None:
    attacked.lies[attacked.archive] = (302, {"Location": target}, b"")
    attacked.refused(MachineError, "is neither http nor https|redirects to an invalid URL")


# A branch of git


class Branch:
    """A bare repository whose branch gh-pages has hello 1.0.0, as somebody else's server gives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = bare(folder / "pages.git")
        self.url = f"git+{self.folder.as_uri()}"
        self.config = folder / "gitconfig"
        open_writable(self.url, {}).publish(CHART, signed(CHART))

    def git(self, *words: str, said: bytes = b"") -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        environment |= {
            f"GIT_{who}_{what}": "a@b"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        completed = subprocess.run(
            ["git", *words], cwd=self.folder, env=environment, input=said, stdout=subprocess.PIPE
        )
        assert completed.returncode == 0
        return completed.stdout.decode().strip()

    def blob(self, data: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", said=data)

    def put(self, files: Mapping[str, str]) -> None:
        """Have the branch be these lines of a tree: name → mode, kind and id."""
        tree = self.git(
            "mktree", said="".join(f"{facts}\t{name}\n" for name, facts in files.items()).encode()
        )
        self.git("update-ref", "refs/heads/gh-pages", self.git("commit-tree", tree, "-m", "x"))

    def now(self) -> dict[str, str]:
        lines = self.git("ls-tree", "gh-pages").splitlines()
        return {name: facts for facts, _, name in (line.partition("\t") for line in lines)}

    def sends(self, script: str) -> None:
        """Have the server send what a script prints in the place of a pack."""
        hook = self.folder / "send"
        hook.write_text(
            f"#!{sys.executable}\nimport sys, time, zlib\nout = sys.stdout.buffer\n{script}\n"
        )
        hook.chmod(0o755)
        self.config.write_text(f"[uploadpack]\npackObjectsHook = {hook}\n")


@pytest.fixture
def branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Branch:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    return Branch(tmp_path)


@pytest.mark.parametrize(
    ("name", "cap"), [("index.yaml", 64), ("hello-1.0.0.tgz", 20), ("hello-1.0.0.tgz.prov", 20)]
)
def test_a_file_of_a_branch_that_swells(branch: Branch, name: str, cap: int) -> None:
    """300 MiB of zeros, which came as 300 kB."""
    large = branch.blob(bytes(300 * 2**20))
    branch.git(
        "config", "core.bigFileThreshold", "1m"
    )  # what the server needs for it is not measured
    branch.put({**branch.now(), name: f"100644 blob {large}"})
    output = measured(branch.url, SIGNED)
    assert (
        output.startswith("EvidenceError")
        and f"a file of the branch has 314572800 bytes, more than {cap * 2**20}" in output
    )


def test_folders_of_a_branch_that_swell(branch: Branch) -> None:
    """A dozen objects that name 10^10 files."""
    inside = f"100644 blob {branch.blob(b'x')}"
    for _ in range(9):
        lines = "".join(f"{inside}\td{number}\n" for number in range(10))
        inside = f"040000 tree {branch.git('mktree', said=lines.encode())}"
    branch.put({**branch.now(), **{f"d{number}": inside for number in range(10)}})
    output = measured(branch.url)
    assert output.startswith("EvidenceError")
    assert f"the list of files of the branch has more than {git_branch.LISTING} bytes" in output


HEAD = "out.write(b'PACK' + bytes([0, 0, 0, 2, 0, 0, 0, 1]))"
#: Type blob and a size of 2^46 bytes, in git's own way of writing it.
HUGE = "out.write(bytes([0xb0, *[0x80] * 5, 0x80, 0x01])); z = zlib.compressobj()"
DROP = "out.write(z.compress(b'x') + z.flush(zlib.Z_SYNC_FLUSH)); out.flush(); time.sleep(0.1)"


@pytest.mark.parametrize(
    "script",
    [f"{HEAD}; {HUGE}\nwhile True: out.write(z.compress(bytes(2**20)))",
     f"{HEAD}; {HUGE}\nwhile True: {DROP}"],
    ids=["endless", "slow"],
)  # fmt: skip
def test_what_a_branch_sends_for_ever(
    branch: Branch, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch.sends(script)
    monkeypatch.setattr(git_program, "REMOTE", 3.0)
    began = time.monotonic()
    with pytest.raises(Temporary, match="git fetch took too long"):
        GitBranch(branch.folder.as_uri(), "gh-pages", where=branch.url).tip()
    assert time.monotonic() - began < 30


def test_mix_and_match_on_a_branch(branch: Branch) -> None:
    branch.put({**branch.now(), "hello-1.0.0.tgz": f"100644 blob {branch.blob(OTHER.tgz)}"})
    with pytest.raises(
        EvidenceError,
        match=f"the archive has the digest {OTHER.digest}, the index says {CHART.digest}",
    ):
        open_repository(branch.url, {}).find("hello", "1.0.0")


@pytest.mark.parametrize(
    "other", [packed("evil"), packed(version="0.9.0")], ids=["name", "version"]
)
def test_another_chart_under_this_name_on_a_branch(branch: Branch, other: Archive) -> None:
    tgz = other.tgz
    index = branch.git("show", "gh-pages:index.yaml").replace(CHART.digest[7:], sha256(tgz)[7:])
    branch.put({"index.yaml": f"100644 blob {branch.blob(index.encode())}",
                "hello-1.0.0.tgz": f"100644 blob {branch.blob(tgz)}"})  # fmt: skip
    with pytest.raises(EvidenceError, match=f"holds the chart {other.name} {other.version}"):
        open_repository(branch.url, {}).find("hello", "1.0.0")


def test_a_branch_that_was_set_back(branch: Branch, tmp_path: Path) -> None:
    """What is gone is named, also where it was read before; nothing else takes its place."""
    repository = open_writable(branch.url, {})
    before = branch.git("rev-parse", "gh-pages")
    published = repository.publish(packed(version="1.1.0"))
    dependency = MissingArchive("", "hello", "1.1.0", branch.url)
    assert fetcher({}, tmp_path / "cache")(dependency) == packed(version="1.1.0").tgz
    branch.git("update-ref", "refs/heads/gh-pages", before)
    assert repository.find("hello", "1.1.0") is None
    assert repository.resolve("hello", "1.1.0") is None and repository.provenance(published) is None
    with pytest.raises(
        ConfigurationError,
        match=r"hello 1\.1\.0 is not in the repository \(take one that it has: 1\.0\.0\)",
    ):
        fetcher({}, tmp_path / "cache")(dependency)
