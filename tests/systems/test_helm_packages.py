"""Our packages and repositories as helm 3 and 4 see them: the same files, linted, rendered, pulled
like their own.
"""

from __future__ import annotations

import http.server
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline_steps.charts import archive, version
from pipeline_steps.charts.metadata import oci_annotations
from pipeline_steps.charts.read import read_metadata
from pipeline_steps.repositories import index
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.repositories.oci import OciRepository
from pipeline_steps.toolbox.errors import ConfigurationError
from tests.support.charts import files, packed
from tests.support.helms import helm
from tests.support.registries import registry
from tests.support.sources import gathered, written

Helm = Callable[..., str]
BOTH = [3, 4]


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Helm:
    """Runs the helm of the test's parameter, with a home of its own."""
    program = helm(getattr(request, "param", 4))

    def call(*arguments: str, fails: bool = False) -> str:
        environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
        ran = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert (ran.returncode != 0) == fails, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    return call


def names(tgz: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(tgz)) as read:
        return {member.name.partition("/")[2] for member in read.getmembers()}


TREE = {
    "a.txt": b"", "b.bak": b"", "!c": b"", "dir/a.txt": b"", "dir/b.bak": b"", "dir/sub/x": b"", "other/dir/y": b"",
    "templates/.hidden": b"", "templates/sub/.hidden": b"", ".git/config": b"", "[x]": b"", "x-1": b"", "tests/z": b"",
    "charts/_skipped/x": b"", "charts/.skipped": b"", "a b": b"",
}  # fmt: skip
RULES = [
    "", "# a comment\n\n", "*.bak\n", "dir/\n", "/dir\n", "dir/*\n", "*.txt\r\n.git/\r\n", "sub\n", "[ab].*\n",
    "\ufeff*.bak", "[!x]*\n", "\\!c\n", "!a.txt\n", "!*.txt\n!dir/\n", "templates\n", "x-?\n", "a b\n", "dir/sub/\n",
    "[^a-w]*\n", "*/dir\n", "/*.txt", "  tests/  \n", "charts/\n", "[z-a]*\n",
]  # fmt: skip

#: Those that leave out Chart.yaml itself, most of them because of how helm reads a !.
REFUSED = ("!a.txt\n", "!*.txt\n!dir/\n", "[^a-w]*\n")


@pytest.mark.parametrize("rules", RULES)
def test_helmignore_leaves_out_what_helm_leaves_out(rules: str, run: Helm, tmp_path: Path) -> None:
    folder = written(tmp_path / "src/hello", {**files(), **TREE, ".helmignore": rules.encode()})
    if rules in REFUSED:
        assert "Chart.yaml file is missing" in run("package", str(folder), fails=True)
        with pytest.raises(ConfigurationError, match=r"Chart\.yaml is left out of the package"):
            gathered(folder, tmp_path / "src")
        return
    assert "Successfully" in run("package", str(folder), "-d", str(tmp_path))
    theirs = names((tmp_path / "hello-1.0.0.tgz").read_bytes())
    assert names(archive.pack(gathered(folder, tmp_path / "src")).tgz) == theirs


@pytest.mark.parametrize("rules", ["**/x\n", "[x\n", "x\\\n", "[]a]\n", "[a-]\n"])
def test_a_helmignore_that_helm_refuses_is_refused(rules: str, run: Helm, tmp_path: Path) -> None:
    folder = written(tmp_path / "src/hello", {**files(), ".helmignore": rules.encode()})
    run("package", str(folder), fails=True)
    with pytest.raises(ConfigurationError, match=r"hello/\.helmignore:1"):
        gathered(folder, tmp_path / "src")


def test_links_are_followed_as_helm_does(run: Helm, tmp_path: Path) -> None:
    root = tmp_path / "src"
    folder = written(root / "hello", {**files(), "files/one": b"1"})
    written(root / "shared", {"deep/two": b"2", "three": b"3"})
    (folder / "link.txt").symlink_to("files/one")
    (folder / "again").symlink_to("link.txt")
    (folder / "shared").symlink_to("../shared")
    (folder / "deep").symlink_to("shared/deep")
    run("package", str(folder), "-d", str(tmp_path))
    theirs = archive.unpack((tmp_path / "hello-1.0.0.tgz").read_bytes())
    ours = gathered(folder, root)
    theirs.pop("Chart.yaml")  # helm writes it anew
    assert ours.pop("Chart.yaml")
    assert ours == theirs
    assert ours["deep/two"] == b"2"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/etc/passwd", "points outside the checkout"), ("../../../x", "points outside the checkout"),
        ("missing", "points to hello/missing, which is not"),
        (".", "points to one of its own parent folders"), ("link", "points outside"),
    ],
)  # fmt: skip
def test_links_outside_the_checkout_are_refused(target: str, message: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "src/hello", files())
    (folder / "link").symlink_to(target)
    with pytest.raises(ConfigurationError, match=message):
        gathered(folder, tmp_path / "src")


def subcharts(root: Path) -> Path:
    dependency = (
        "dependencies:\n- {{name: {0}, version: 0.1.0, repository: 'file://../{0}'}}\n".format
    )
    written(root / "leaf", files("leaf", "0.1.0"))
    written(
        root / "common",
        {
            **files("common", "0.1.0", more=dependency("leaf")),
            ".helmignore": b"*.bak\n",
            "x.bak": b"",
        },
    )
    return written(root / "hello", files(more=dependency("common")))


def test_file_dependencies_are_what_helm_makes_of_them(run: Helm, tmp_path: Path) -> None:
    folder = subcharts(tmp_path / "src")
    ours = archive.pack(gathered(folder, tmp_path / "src"))
    for chart in ("common", "hello"):
        run("dependency", "build", str(tmp_path / "src" / chart), "--skip-refresh")
    run("package", str(folder), "-d", str(tmp_path))
    theirs = names((tmp_path / "hello-1.0.0.tgz").read_bytes())
    locks = {"Chart.lock", "charts/common/Chart.lock"}  # made by `dependency build`
    assert names(ours.tgz) == theirs - locks
    (tmp_path / "ours.tgz").write_bytes(ours.tgz)
    rendered = run("template", "r", "ours.tgz")
    assert rendered == run("template", "r", "hello-1.0.0.tgz")
    assert rendered.count("kind: ConfigMap") == 3


@pytest.mark.parametrize("run", BOTH, indirect=True)
def test_helm_lints_and_renders_our_package(run: Helm, tmp_path: Path) -> None:
    ours = packed(
        more="description: d\nannotations: {a: 'true'}\n",
        long="x",
        **{"files__" + "n" * 110: "long"},
    )
    (tmp_path / ours.file_name).write_bytes(ours.tgz)
    assert "1 chart(s) linted, 0 chart(s) failed" in run("lint", ours.file_name)
    assert 'image: "example.com/hello:none"' in run("template", "r", ours.file_name)
    assert run("show", "values", ours.file_name).strip() == files()["values.yaml"].decode().strip()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


RICH = (
    "description: 'ä'\nhome: https://example.com\nicon: i\nsources: [https://s.example.com, b]\nkeywords: [k]\n"
    "maintainers: [{name: M, email: m@example.com}, {name: N}]\nannotations: {a.b/c: 'true'}\nappVersion: '1.10'\n"
    "kubeVersion: '>=1.20-0'\ntype: application\n"
)


DEPENDENCY = (
    "dependencies: [{name: common, alias: c, version: '>=0.1', condition: c.on, tags: [t],"
    " import-values: [{parent: p, child: a}, x]}]\n"
)


@pytest.mark.parametrize("run", BOTH, indirect=True)
@pytest.mark.parametrize("number", ["1.2.3", "1.2.3-0.4.t0123456789ab.dirty", "1.2.3+b.1"])
def test_helm_pulls_what_we_push(run: Helm, number: str, host: str, tmp_path: Path) -> None:
    url = f"oci://{host}/ours{abs(hash(str(tmp_path)))}/charts"
    chart = packed(version=number, more=RICH)
    published = open_writable(url, {}).publish(chart)
    out = run("pull", f"{url}/hello", "--version", number, "--plain-http", "-d", str(tmp_path))
    assert published.reference.rpartition("@")[2] in out
    assert (tmp_path / chart.file_name).read_bytes() == chart.tgz
    assert "1.10" in run("show", "chart", f"{url}/hello", "--version", number, "--plain-http")


@pytest.mark.parametrize("run", BOTH, indirect=True)
def test_we_find_what_helm_pushes_and_write_the_same_manifest(
    run: Helm, host: str, tmp_path: Path
) -> None:
    url = f"oci://{host}/theirs{abs(hash(str(tmp_path)))}"
    folder = written(tmp_path / "hello", files(version="1.2.3", more=RICH + DEPENDENCY))
    written(folder / "charts/common", files("common", "0.1.0"))
    run("package", str(folder))
    out = run("push", "hello-1.2.3.tgz", url, "--plain-http")
    repository = OciRepository(url, {})
    published = repository.find("hello", "1.2.3")
    assert published is not None
    assert published.reference.rpartition("@")[2] in out
    tgz = published.archive.tgz
    assert tgz == (tmp_path / "hello-1.2.3.tgz").read_bytes()
    registry_ = repository._registry("hello")
    path = repository._chart_repository("hello").path
    manifest = registry_.manifest(path, "1.2.3")
    assert manifest is not None
    theirs = manifest.content["annotations"]
    fields = read_metadata(archive.unpack(tgz)["Chart.yaml"], "").fields
    ours = oci_annotations(fields)
    created = "org.opencontainers.image.created"
    assert {**ours, created: ""} == {**theirs, created: ""}
    from pipeline_steps.repositories.oci import build_push

    opened = archive.open_archive(tgz)
    assert manifest.content["config"]["digest"] in build_push(opened).blobs, (
        "the configuration is byte for byte helm's"
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("run", BOTH, indirect=True)
def test_helm_uses_our_folder_as_a_repository(
    run: Helm, served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = served
    repository = open_writable(folder.as_uri(), {})
    charts = [
        packed(version=number, more=RICH)
        for number in ("1.9.0", "1.10.0", "1.11.0-0.3.t0123456789ab")
    ]
    charts += [packed("common", "0.1.0"), packed('"123"', "1.0.0+b")]
    for chart in charts:
        repository.publish(chart, b"-----BEGIN PGP SIGNED MESSAGE-----\n")
    run("repo", "add", "ours", url)
    output = run("search", "repo", "ours", "--versions", "--devel")
    assert [line.split()[1] for line in output.splitlines() if "ours/hello" in line] == [
        "1.11.0-0.3.t0123456789ab", "1.10.0", "1.9.0",
    ]  # fmt: skip
    run("pull", "ours/hello", "-d", str(tmp_path))
    assert (tmp_path / "hello-1.10.0.tgz").read_bytes() == charts[1].tgz
    run("pull", "ours/123", "--version", "1.0.0+b", "-d", str(tmp_path))
    assert (folder / "hello-1.10.0.tgz.prov").exists()
    reader = open_repository(url, {})
    assert reader.versions("hello") == repository.versions("hello")
    published = reader.find("hello", "1.10.0")
    assert published is not None
    assert published.archive.tgz == charts[1].tgz
    assert reader.find("nope", "1.0.0") is None


def test_our_index_says_what_helm_repo_index_says(run: Helm, tmp_path: Path) -> None:
    folder = tmp_path / "charts"
    repository = open_writable(folder.as_uri(), {})
    dependency = (
        "dependencies:\n"
        "- {name: common, version: 0.1.0, repository: 'https://example.com', alias: c, tags: [t]}\n"
    )
    for chart in (
        packed(more=RICH),
        packed("b", "1.0.0"),
        packed("a", "0.2.0"),
        packed(version="1.1.0", more=dependency),
    ):
        repository.publish(chart)

    def entries() -> list[index.Entry]:
        found = index.Index((folder / "index.yaml").read_bytes(), "index.yaml").entries()
        return [one._replace(created="") for versions in found.values() for one in versions]

    ours = entries()
    lines = (folder / "index.yaml").read_text().splitlines()
    (folder / "index.yaml").unlink()
    run("repo", "index", str(folder))
    assert entries() == ours
    theirs = (folder / "index.yaml").read_text().splitlines()

    def told(text: list[str]) -> list[str]:
        return [
            line.replace('"', "").replace("'", "")
            for line in text
            if not line.strip(" -").startswith(("created", "generated"))
        ]

    assert sorted(told(lines)) == sorted(told(theirs))


def test_helm_orders_snapshots_as_we_do(run: Helm, served: tuple[Path, str]) -> None:
    folder, url = served
    base = version.Version(1, 4, 0)
    versions_ = [
        version.snapshot(
            base, released=released, count=count, fingerprint=f"sha256:{digest:064x}", dirty=dirty
        )
        for released, count, digest, dirty in [
            (False, 0, 9, False),
            (False, 2, 1, True),
            (False, 10, 0, False),
            (True, 3, 5, False),
        ]
    ]
    repository = open_writable(folder.as_uri(), {})
    for number in (*versions_, "1.3.9", "1.4.0"):
        repository.publish(packed(version=number))
    run("repo", "add", "ours", url)
    lines = run("search", "repo", "ours", "--versions", "--devel").splitlines()[1:]
    assert [line.split()[1] for line in lines] == version.newest_first(
        [*versions_, "1.3.9", "1.4.0"]
    )
    assert [line.split()[1] for line in lines] == [
        versions_[3],
        "1.4.0",
        versions_[2],
        versions_[1],
        versions_[0],
        "1.3.9",
    ]
    assert "version: 1.4.0\n" in run("show", "chart", "ours/hello"), (
        "a snapshot is never taken for a release"
    )


def test_packaging_is_faster_than_helm_package(run: Helm, tmp_path: Path) -> None:
    import time

    folder = written(
        tmp_path / "src/hello",
        {**files(), **{f"templates/{n}.yaml": b"a: b\n" * 100 for n in range(20)}},
    )
    start = time.perf_counter()
    run("package", str(folder))
    theirs = time.perf_counter() - start
    times = []
    for _ in range(10):
        start = time.perf_counter()
        archive.pack(gathered(folder, tmp_path / "src"))
        times.append(time.perf_counter() - start)
    assert min(times) < theirs * 0.1
