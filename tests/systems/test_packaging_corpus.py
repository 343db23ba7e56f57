"""Any chart is packaged as helm 3 and 4 package it: the corpus of tests/support/corpus.py through
all three.

What differs on purpose, and stands in docs/how-to/charts.md: we keep every file's bytes, where helm
writes Chart.yaml and Chart.lock anew and takes byte order marks away, and requirements.yaml beside
apiVersion v2, which it reads into Chart.yaml; vendored archives stay archives, which helm unpacks
into folders.
"""

from __future__ import annotations

import codecs
import functools
import http.server
import os
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline_steps.charts import archive, dependencies
from pipeline_steps.charts.archive import Archive
from pipeline_steps.charts.metadata import helm_metadata
from pipeline_steps.repositories.fetch import fetcher
from pipeline_steps.repositories.kinds import open_writable
from pipeline_steps.toolbox.errors import PipelineError
from tests.support import corpus
from tests.support.corpus import Case
from tests.support.helms import helm
from tests.support.registries import registry
from tests.support.sources import gathered, written

DOCS = Path(__file__).resolve().parents[2] / "docs/how-to/charts.md"
BOTH = (3, 4)
LOCKS = ("Chart.lock", "requirements.lock")
SHOWN = (
    "every key of Chart.yaml",
    "subcharts in subcharts",
    "an exact version",
    "byte order marks",
)


class Packages(NamedTuple):
    """The packages of a case. theirs: by version of helm, or what it said when it refused; they lie
    in `folder`.
    """

    case: Case
    folder: Path
    theirs: Mapping[int, bytes | str]

    @property
    def taken(self) -> dict[int, bytes]:
        return {major: tgz for major, tgz in self.theirs.items() if isinstance(tgz, bytes)}

    def of(self, major: int) -> Path:
        """Helm's own package."""
        return next((self.folder / str(major)).glob("*.tgz"))


class World:
    """Both helms with homes of their own, a repository of each kind that they know, every case
    packaged once.
    """

    def __init__(self, folder: Path, cases: Iterable[Case]) -> None:
        self.folder = folder
        self.cases = {case.name: case for case in cases}
        self.packaged = functools.cache(self._packaged)

    def helm(self, major: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(self.folder / f"home{major}"), "PATH": os.environ["PATH"]}
        return subprocess.run(
            [helm(major), *map(str, arguments)], env=environment, capture_output=True, text=True
        )

    def told(self, major: int, *arguments: object) -> str:
        ran = self.helm(major, *arguments)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def _packaged(self, name: str) -> Packages:
        return self.package(
            self.cases[name],
            self.folder / "packages" / str(len(list(self.folder.glob("packages/*")))),
        )

    def package(self, case: Case, folder: Path) -> Packages:
        with ThreadPoolExecutor() as pool:
            made = pool.map(lambda major: theirs(self, major, case, folder / str(major)), BOTH)
            packages = Packages(case, folder, dict(zip(BOTH, made, strict=True)))
        if case.refuse == "nobody":
            (folder / "ours.tgz").write_bytes(ours(case, folder / "ours").tgz)
        return packages


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "served").mkdir()
    handler = partial(_Quiet, directory=str(folder / "served"))
    with (
        registry(folder / "registry") as running,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        web, oci = f"http://127.0.0.1:{server.server_port}", f"oci://{running.host}/charts"
        for url in ((folder / "served").as_uri(), oci):
            for name, tgz in corpus.served():
                open_writable(url, {}).publish(archive.open_archive(tgz, name))
        world = World(folder, corpus.cases(web, oci))
        for major in BOTH:
            world.told(major, "repo", "add", "served", web)
        yield world
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def ours(case: Case, folder: Path) -> Archive:
    """The package as `snapshot` makes it, before it sets a version."""
    written(folder, case.files, executables=case.executables, links=case.links)
    files = gathered(folder / "hello", folder)
    filled = dependencies.fill(files, fetcher({}, folder / "cache"), "hello")
    return archive.pack(filled, filled.executables, "hello")


def theirs(world: World, major: int, case: Case, folder: Path) -> bytes | str:
    """What `helm package` makes, dependencies built first where it wants them; what it says when it
    refuses.
    """
    written(folder / "source", case.files, links=case.links)
    package = ("package", folder / "source/hello", "--destination", folder)
    ran = world.helm(major, *package)
    if "missing in charts/ directory" in ran.stderr:
        for chart in ("leaf", "common", "hello"):  # those that others need first
            if (folder / "source" / chart).exists():
                ran = world.helm(
                    major, "dependency", "build", folder / "source" / chart, "--plain-http"
                )
                if ran.returncode:
                    return ran.stderr
        ran = world.helm(major, *package)
    return next(folder.glob("*.tgz")).read_bytes() if ran.returncode == 0 else ran.stderr


CASES = [pytest.param(case.name, id=case.name) for case in corpus.cases("http://x", "oci://x")]


@pytest.mark.parametrize("name", CASES)
def test_it_is_packaged_or_refused_as_by_helm(name: str, world: World, tmp_path: Path) -> None:
    packages = world.packaged(name)
    case, taken = packages.case, packages.taken
    assert {"nobody": len(taken) == 2, "both": not taken, "us": bool(taken)}[case.refuse], (
        packages.theirs
    )
    if case.refuse != "nobody":
        with pytest.raises(PipelineError) as refused:
            ours(case, tmp_path)
        assert case.says in str(refused.value)
        assert refused.value.exit_code in (2, 4)
        return
    packed = archive.unpack((packages.folder / "ours.tgz").read_bytes())
    for tgz in taken.values():
        same_files(packed, archive.unpack(tgz))
    same_rendering(world, packages)


def same_files(ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> None:
    """The same files with the same bytes, but for what differs on purpose."""
    mine, other = expanded(ours), expanded(theirs)
    folded = [name for name in mine if name not in other and name.endswith("requirements.yaml")]
    assert mine.keys() - folded == other.keys()
    for name, data in mine.items():
        if name in folded:
            chart = mine[name.replace("requirements.yaml", "Chart.yaml")]
            assert b"apiVersion: v2" in chart
        elif name.rpartition("/")[2] == "Chart.yaml":
            assert known(mine, name) == known(other, name)
        else:
            assert data == other[name], name


def expanded(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with archives in charts/ as folders, without locks and byte order marks."""
    found: dict[str, bytes] = {}
    for name, data in files.items():
        above, _, last = name.rpartition("/")
        if name.endswith(".tgz") and above.rpartition("/")[2] == "charts":
            inner = archive.unpack(data)
            place = f"{above}/{archive.metadata_of(inner).name}"
            found.update({f"{place}/{path}": inside for path, inside in expanded(inner).items()})
        elif last not in LOCKS:
            found[name] = data.removeprefix(codecs.BOM_UTF8)
    return found


def known(files: Mapping[str, bytes], name: str) -> dict[str, object]:
    prefix = name.removesuffix("Chart.yaml")
    chart = {path.removeprefix(prefix): files[path] for path in files if path.startswith(prefix)}
    return helm_metadata(archive.metadata_of(chart, strict=False).fields)


#: What is asked of both packages, by version of helm. Helm 3 dry-runs an install only with a
#: cluster.
ASKED = ((3, ("template", "r")), (4, ("template", "r")), (4, ("install", "r", "--dry-run=client")))


def same_rendering(world: World, packages: Packages) -> None:
    """Each helm renders our package as its own, notes and hooks with it, or fails in the same
    words.
    """
    commands = [
        (major, *words, tgz)
        for major, words in ASKED
        for tgz in (packages.folder / "ours.tgz", packages.of(major))
    ]
    with ThreadPoolExecutor() as pool:
        ran = list(pool.map(lambda words: world.helm(*words), commands))
    for our_output, helm_output in zip(ran[::2], ran[1::2], strict=True):
        assert our_output.returncode == helm_output.returncode, (our_output, helm_output)
        assert (_timeless(our_output.stdout), _unasked(our_output.stderr)) == (
            _timeless(helm_output.stdout),
            _unasked(helm_output.stderr),
        )
        assert "unreachable" not in our_output.stderr


def _unasked(stderr: str) -> list[str]:
    """Without the advice to move dependencies into Chart.yaml, as helm's own packages have them."""
    advice = "Dependencies are handled in Chart.yaml since apiVersion"
    return [line for line in stderr.splitlines() if advice not in line]


def _timeless(output: str) -> str:
    """Without when it was asked."""
    return re.sub(r"(?m)^LAST DEPLOYED: .*$", "", output)


@pytest.mark.parametrize("major", BOTH)
def test_helm_lints_and_shows_ours_like_its_own(major: int, world: World) -> None:
    names = [case.name for case in world.cases.values() if case.refuse == "nobody"]
    made = [
        world.packaged(name) for name in names if name != "a key of one's own in Chart.yaml"
    ]  # helm drops it
    mine, other = [one.folder / "ours.tgz" for one in made], [one.of(major) for one in made]
    lints = [_said(world.helm(major, "lint", "--strict", *paths).stdout) for paths in (mine, other)]
    assert len(lints[0]) > len(made)
    assert lints[0] == lints[1]
    for one in made:
        if one.case.name in SHOWN:
            for what in ("values", "crds"):
                told = [
                    world.told(major, "show", what, path)
                    for path in (one.folder / "ours.tgz", one.of(major))
                ]
                assert told[0] == told[1]


def _said(output: str) -> list[str]:
    """Without the paths in it."""
    lines = (re.sub(r"/\S*/helm-lint\d+", "", line) for line in output.splitlines())
    return [line for line in lines if not line.startswith("==>")]


@pytest.mark.parametrize("major", BOTH)
def test_what_helm_create_makes(major: int, world: World, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    world.told(major, "create", tmp_path / "made/hello")
    paths = [path for path in (tmp_path / "made").rglob("*") if path.is_file()]
    case = Case(
        "created",
        {path.relative_to(tmp_path / "made").as_posix(): path.read_bytes() for path in paths},
    )
    packages = world.package(case, tmp_path / "packages")
    same_files(
        archive.unpack((packages.folder / "ours.tgz").read_bytes()),
        archive.unpack(packages.taken[major]),
    )
    same_rendering(world, packages)


def test_what_only_we_refuse_stands_in_the_documentation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = [case.name for case in corpus.cases("http://x", "oci://x") if case.refuse == "us"]
    assert sorted(alone) == sorted(corpus.ALONE)
    reasons = sorted(corpus.ALONE.values())
    with capsys.disabled():
        print("\nhelm packages, we refuse:", *reasons, sep="\n  ")
    section = DOCS.read_text().partition("## What only we refuse\n")[2].partition("\n## ")[0]
    assert sorted(line[2:] for line in section.splitlines() if line.startswith("- ")) == reasons
