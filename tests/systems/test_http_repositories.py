"""Attacks on repositories read over HTTP, by the server or by somebody in between: one test for
each, named after it.

The list is that of The Update Framework's threats and of helm's own history. A freeze (an old index
that goes on being served) is missing: nobody can notice it without signatures over the index, which
classic repositories do not have.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_steps.auth.credentials import Login
from pipeline_steps.auth.hosts import Host
from pipeline_steps.charts.dependencies import MissingArchive
from pipeline_steps.oci.registry import Registry
from pipeline_steps.repositories.chartmuseum import ChartmuseumRepository
from pipeline_steps.repositories.fetch import fetcher
from pipeline_steps.repositories.https import HttpsRepository
from pipeline_steps.repositories.repository import Repository
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
)
from tests.support.chartmuseum import Museum, chartmuseum
from tests.support.charts import packed, signed
from tests.support.scripted import Answer, Request, scripted

ROOT = Path(__file__).parents[2]
CHART = packed()
OTHER = packed(more="description: of another build\n")
LOGIN = Host(username="ci", password="secret")
BASIC = f"Basic {base64.b64encode(b'ci:secret').decode()}"
#: What reading may add to the memory of a process, in MiB (issue 5, reliability rule R7).
MOST = 256

#: Paths of the archive, its .prov, the index and the question for one version.
TGZ, PROV, INDEX, VERSION = "/hello-1.0.0.tgz", ".tgz.prov", "/index.yaml", "/charts/hello/1.0.0"


class Attacked:
    """A repository with hello 1.0.0 in it. lies: end of a path → what is answered there instead of
    the truth.
    """

    def __init__(self, kind: str, museum: Museum) -> None:
        self.kind, self.museum = kind, museum
        self.lies: dict[str, Answer] = {}
        self.url = museum.url if kind == "chartmuseum" else f"http://{museum.host}"
        ChartmuseumRepository(museum.url, {}).publish(CHART, signed(CHART))
        museum.requests.clear()
        museum.fault = lambda request: next(
            (lie for end, lie in self.lies.items() if request.path.endswith(end)), None
        )

    @property
    def entrance(self) -> str:
        """The path that is asked first."""
        return VERSION if self.kind == "chartmuseum" else INDEX

    def open(self, login: Host | None = None, timeout: float = 20) -> Repository:
        """Nothing is tried twice."""
        kind = ChartmuseumRepository if self.kind == "chartmuseum" else HttpsRepository
        return kind(self.url, {self.museum.host: login} if login else {}, timeout=timeout, budget=0)

    def refused(self, error: type[PipelineError], words: str) -> None:
        with pytest.raises(error, match=words):
            self.open().find("hello", "1.0.0")

    def index(self, **changes: Any) -> None:
        """Lie about the version in the index, and where a server is asked for it."""
        entry = {**self.museum.index["hello-1.0.0.tgz"], **changes}
        self.lies[INDEX] = (
            200,
            {},
            yaml.safe_dump({"apiVersion": "v1", "entries": {"hello": [entry]}}).encode(),
        )
        self.lies[VERSION] = (200, {}, json.dumps(entry).encode())

    def measured(self, call: str = "repository.find('hello', '1.0.0')") -> tuple[str, int]:
        """What a process of its own says of a call, and how many MiB it needed for it."""
        completed = subprocess.run(
            [sys.executable, "-c", MEASURE, self.url, call],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert completed.returncode == 0, completed.stderr
        output, _, grown = completed.stdout.strip().rpartition("\n")
        return output, int(grown)


#: Prints the answer, then the MiB that this process, or a program that it started, needed for it.
MEASURE = """
import re, resource, sys
from pathlib import Path
from pipeline_steps.charts import archive
from pipeline_steps.toolbox.errors import PipelineError
from pipeline_steps.repositories.kinds import open_repository
repository = open_repository(sys.argv[1], {})
def most():  # not ru_maxrss, which begins with that of the parent
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = most()
try:
    print(eval(sys.argv[2]))
except PipelineError as error:
    print(type(error).__name__, error)
print(max(most() - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024))
"""


@pytest.fixture
def museum() -> Iterator[Museum]:
    with chartmuseum() as running:
        yield running


@pytest.fixture(params=["https", "chartmuseum"])
def attacked(request: pytest.FixtureRequest, museum: Museum) -> Attacked:
    return Attacked(request.param, museum)


@pytest.fixture
def indexed(museum: Museum) -> Attacked:
    """One that is read by its index.yaml."""
    return Attacked("https", museum)


def test_without_an_attack_all_is_well(attacked: Attacked) -> None:
    repository = attacked.open()
    published = repository.find("hello", "1.0.0")
    assert published is not None and published.tar_digest == CHART.tar_digest
    assert repository.provenance(published) == signed(CHART)


# Endless, slow, too much


def zeros() -> Iterator[bytes]:
    return itertools.repeat(bytes(2**20))


@pytest.mark.parametrize("path", ["entrance", TGZ])
def test_endless_data(attacked: Attacked, path: str) -> None:
    attacked.lies[attacked.entrance if path == "entrance" else path] = (200, {}, zeros())
    output, grown = attacked.measured()
    assert output.startswith("MachineError") and "answer has more than" in output
    assert grown <= MOST, f"{grown} MiB"


def test_endless_provenance(attacked: Attacked) -> None:
    attacked.lies[PROV] = (200, {}, zeros())
    output, grown = attacked.measured("repository.provenance(repository.find('hello', '1.0.0'))")
    assert output.startswith("MachineError") and "answer has more than" in output
    assert grown <= MOST, f"{grown} MiB"


def test_endless_refusal(attacked: Attacked) -> None:
    """The body of a 403 is read, too."""
    attacked.lies[attacked.entrance] = (403, {}, zeros())
    output, grown = attacked.measured()
    assert output.startswith("MachineError") and "answer has more than" in output
    assert grown <= MOST, f"{grown} MiB"


@pytest.mark.parametrize("path", ["entrance", TGZ])
def test_slow_data(attacked: Attacked, path: str) -> None:
    """A byte now and then is within every timeout of a single read, and would hold a step for ever."""

    def drops() -> Iterator[bytes]:
        while True:
            time.sleep(0.05)
            yield b"x"

    attacked.lies[attacked.entrance if path == "entrance" else path] = (200, {}, drops())
    with pytest.raises(
        Temporary, match=r"sends too slowly: \d+ bytes in|did not answer in time"
    ):  # a busy machine's drops
        attacked.open(timeout=0.5).find("hello", "1.0.0")


@functools.cache
def bomb() -> bytes:
    """300 MiB in 300 kB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()


def test_gzip_bomb_as_the_body(attacked: Attacked) -> None:
    """Nothing asked for a compressed answer, and none is decompressed."""
    attacked.lies[attacked.entrance] = (200, {"Content-Encoding": "gzip"}, bomb())
    output, grown = attacked.measured()
    assert output.startswith("EvidenceError" if attacked.kind == "https" else "MachineError")
    assert grown <= 32


def test_gzip_bomb_as_the_archive(attacked: Attacked) -> None:
    attacked.lies[TGZ] = (200, {}, bomb())
    attacked.index(digest="")
    output, grown = attacked.measured()
    assert (
        output.startswith("EvidenceError")
        and "this archive is refused: it unpacks to more than" in output
    )
    assert grown <= MOST, f"{grown} MiB"


def test_oversized_index(indexed: Attacked) -> None:
    indexed.lies[INDEX] = (
        200,
        {"Content-Length": str(65 * 2**20)},
        itertools.repeat(b" " * 2**20, 65),
    )
    output, grown = indexed.measured()
    assert output.startswith("MachineError") and "answer has more than 67108864 bytes" in output
    assert grown <= MOST, f"{grown} MiB"


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (lambda: b"  a: []\n" + b"\n" * 60_000_000, "more than 2000000 lines"),
        (
            lambda: b"".join(b"  c%d: []\n" % number for number in range(900_000)),
            "keys and values are not read",
        ),
        (
            lambda: b"  a: {" + b"".join(b"a%d: 1," % number for number in range(2_000_000)),
            "keys and values are not",
        ),
    ],
    ids=["lines", "charts", "keys"],
)
def test_index_that_swells(indexed: Attacked, index: Callable[[], bytes], words: str) -> None:
    """Three bytes of YAML can make two hundred of memory: what is allowed to be large may not have
    too many parts.
    """
    indexed.lies[INDEX] = (200, {}, b"apiVersion: v1\nentries:\n" + index())
    output, grown = indexed.measured()
    assert output.startswith("EvidenceError") and words in output
    assert grown <= MOST, f"{grown} MiB"


def test_answer_that_swells(museum: Museum) -> None:
    attacked = Attacked("chartmuseum", museum)
    charts = b",".join(b'"c%d":[]' % number for number in range(3_000_000))
    attacked.lies["/api/charts"] = (200, {}, b"{%s}" % charts)
    output, grown = attacked.measured("repository.charts()")
    assert (
        output.startswith("MachineError")
        and "more than 500000 lists and objects are not read" in output
    )
    assert grown <= MOST, f"{grown} MiB"


# Other content than promised


def test_mix_and_match(attacked: Attacked) -> None:
    """The index of one build, the archive of another."""
    attacked.lies[TGZ] = (200, {}, OTHER.tgz)
    attacked.refused(
        EvidenceError, f"the archive has the digest {OTHER.digest}, the index says {CHART.digest}"
    )


@pytest.mark.parametrize("other", [packed("evil"), packed(version="0.9.0")])
def test_another_chart_under_this_name(attacked: Attacked, other: Any) -> None:
    """An index without digests is allowed: name and version must be right all the same (an older
    one is a rollback).
    """
    attacked.index(digest="")
    attacked.lies[TGZ] = (200, {}, other.tgz)
    attacked.refused(EvidenceError, f"the archive holds the chart {other.name} {other.version}")


def test_the_archive_changes_between_two_looks(attacked: Attacked) -> None:
    """What was checked is what is used, without a second look; who looks again compares again."""
    repository = attacked.open()
    published = repository.find("hello", "1.0.0")
    attacked.lies[TGZ] = (200, {}, OTHER.tgz)
    assert published is not None and published.archive == CHART
    with pytest.raises(
        EvidenceError,
        match=f"the archive has the digest {OTHER.digest}, the index says {CHART.digest}",
    ):
        repository.find("hello", "1.0.0")


@pytest.mark.parametrize("digest", ["0" * 63, "g" * 64, "sha512:" + "0" * 128, "md5:0"])
def test_wrong_digests(attacked: Attacked, digest: str) -> None:
    attacked.index(digest=digest)
    attacked.refused(EvidenceError, "is no sha256")


def test_no_url_for_the_archive(indexed: Attacked) -> None:
    indexed.index(urls=[])
    indexed.refused(EvidenceError, r"hello 1\.0\.0 has no URL in the index")


def test_a_page_in_place_of_the_archive(attacked: Attacked) -> None:
    attacked.index(digest="")
    attacked.lies[TGZ] = (200, {"Content-Type": "text/html"}, b"<html>please log in</html>")
    attacked.refused(EvidenceError, "it is not a gzip file")


def test_a_page_in_place_of_the_index(attacked: Attacked) -> None:
    attacked.lies[attacked.entrance] = (
        200,
        {"Content-Type": "text/html"},
        b"<html><body>please log in</body></html>",
    )
    attacked.refused((EvidenceError, MachineError), "is no index|not ChartMuseum's")  # type: ignore[arg-type]


def test_a_version_twice_in_the_index(indexed: Attacked) -> None:
    """CVE-2020-15185: the last one would win."""
    entry = indexed.museum.index["hello-1.0.0.tgz"]
    twice = {"apiVersion": "v1", "entries": {"hello": [entry, {**entry, "digest": "0" * 64}]}}
    indexed.lies[INDEX] = (200, {}, json.dumps(twice).encode())
    indexed.refused(EvidenceError, r"hello 1\.0\.0 is in the index twice")


@pytest.mark.parametrize("more", ["    digest: '0'\n", "  hello: []\n", "entries: {}\n"])
def test_a_key_twice_in_the_index(indexed: Attacked, more: str) -> None:
    text = f"apiVersion: v1\nentries:\n  hello:\n  - name: hello\n    version: 1.0.0\n    digest: '{'0' * 64}'\n"
    indexed.lies[INDEX] = (200, {}, f"{text}{more}".encode())
    indexed.refused(EvidenceError, "twice")


def test_a_key_twice_in_an_answer(museum: Museum) -> None:
    """Whichever is taken, the archive is compared with it."""
    attacked = Attacked("chartmuseum", museum)
    twice = (
        f'{{"name":"hello","version":"1.0.0","digest":"{CHART.digest[7:]}","digest":"{"0" * 64}"}}'
    )
    attacked.lies[VERSION] = (200, {}, twice.encode())
    attacked.refused(EvidenceError, f"the index says sha256:{'0' * 64}")


@pytest.mark.parametrize(
    "text", ["a: &a [x]\nb: *a\n", "entries: !!python/object:os.system {}\n", "--- {}\n--- {}\n"]
)
def test_yaml_that_is_more_than_data(indexed: Attacked, text: str) -> None:
    indexed.lies[INDEX] = (200, {}, f"apiVersion: v1\n{text}".encode())
    indexed.refused(EvidenceError, "index.yaml")


# Elsewhere


def test_a_login_goes_to_no_other_host_that_the_index_names(attacked: Attacked) -> None:
    """CVE-2021-32690. ChartMuseum's archives are asked from itself, whatever its index says."""
    attacked.museum.login = ("ci", "secret")
    with scripted(lambda _: (200, {}, CHART.tgz)) as other:
        attacked.index(urls=[f"http://{other.host}/x.tgz"])
        published = attacked.open(LOGIN).find("hello", "1.0.0")
    assert published is not None and published.tar_digest == CHART.tar_digest
    assert [request.headers.get("Authorization") for request in other.requests] == (
        [None] if attacked.kind == "https" else []
    )


@pytest.mark.parametrize(
    "challenge", ["", "Basic realm=x", 'Bearer realm="http://{host}/token",service="x"']
)
def test_a_login_does_not_follow_a_redirect(attacked: Attacked, challenge: str) -> None:
    """Nor does it go to a token server that the other origin names."""
    with scripted(
        lambda _: (401, {"WWW-Authenticate": challenge.format(host=other.host)}, b"")
    ) as other:
        attacked.lies[TGZ] = (302, {"Location": f"http://{other.host}/x.tgz"}, b"")
        with pytest.raises(MachineError, match="answered 401"):
            attacked.open(LOGIN).find("hello", "1.0.0")
    assert [request.headers.get("Authorization") for request in other.requests] == [None]
    assert any(
        request.headers.get("Authorization") == BASIC for request in attacked.museum.requests
    )


def test_a_registry_cannot_have_its_storage_ask_for_the_login() -> None:
    def storage(_: Request) -> Answer:
        return (
            401,
            {"WWW-Authenticate": f'Bearer realm="http://{other.host}/token",service="x"'},
            b"",
        )

    with (
        scripted(storage) as other,
        scripted(lambda _: (307, {"Location": f"http://{other.host}/b"}, b"")) as first,
    ):
        registry = Registry(
            first.host, login=lambda: Login("ci", "secret"), plain_http=True, budget=0
        )
        with pytest.raises(MachineError, match="answered 401"):
            registry.blob("charts/hello", f"sha256:{'0' * 64}")
    assert [request.path for request in other.requests] == ["/b"]


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x"]
)
def test_a_redirect_out_of_the_web(attacked: Attacked, target: str) -> None:
    attacked.lies[attacked.entrance] = (302, {"Location": target}, b"")
    attacked.refused(MachineError, "is neither http nor https|redirects to an invalid URL")


@pytest.mark.parametrize(
    "url", ["http://127.evil.example.com/x.tgz", "http://localhost.evil.example.com/x.tgz"]
)
def test_a_host_that_only_looks_like_this_machine(indexed: Attacked, url: str) -> None:
    indexed.index(urls=[url])
    indexed.refused(EvidenceError, "which is not https")


def test_this_machine_is_not_reached_from_elsewhere() -> None:
    """An index from the web may not have a CI machine ask its own services."""
    repository = HttpsRepository("https://charts.example.com", {})
    with pytest.raises(EvidenceError, match="which is not https"):
        repository.read("http://127.0.0.1:8080/admin")


# Back in time


def test_removed_version(attacked: Attacked, tmp_path: Path) -> None:
    """A pinned dependency that is gone is named; nothing else takes its place."""
    attacked.museum.index.clear()
    attacked.museum.files.clear()
    other_chart = packed(version="0.9.0")
    ChartmuseumRepository(attacked.museum.url, {}).publish(other_chart)
    assert attacked.open().find("hello", "1.0.0") is None
    url = f"http://{attacked.museum.host}"
    with pytest.raises(
        ConfigurationError,
        match=r"hello 1\.0\.0 is not in the repository \(take one that it has: 0\.9\.0\)",
    ):
        fetcher({}, tmp_path)(MissingArchive("", "hello", "1.0.0", url))


def test_version_marked_as_removed(indexed: Attacked) -> None:
    indexed.index(removed=True)
    assert indexed.open().find("hello", "1.0.0") is None


def test_rollback_of_a_dependency(indexed: Attacked, tmp_path: Path) -> None:
    """What was there before, index and archive alike: consistent in itself, so only a digest kept
    elsewhere tells.

    The bytes in the cache are those of a digest, and the digest in the record of a snapshot is
    another one then.
    """
    dependency = MissingArchive("", "hello", "1.0.0", indexed.url)
    assert fetcher({}, tmp_path)(dependency) == CHART.tgz
    indexed.index(digest=OTHER.digest[7:])
    indexed.lies[TGZ] = (200, {}, OTHER.tgz)
    assert fetcher({}, tmp_path)(dependency) == OTHER.tgz, (
        "not what the cache has of another digest"
    )
