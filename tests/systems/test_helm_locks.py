"""The locks of `check --fix` are helm's own: its digest, its versions; `helm dependency build`
takes them.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline_steps.charts import archive
from pipeline_steps.repositories.kinds import open_writable
from tests.support.charts import files, packed
from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.registries import registry

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("1.2.0", "1.10.0", "1.11.0-rc.1", "2.0.0")
#: Everything a dependency may say is part of the digest.
CHART = """\
apiVersion: v2
name: hello
version: 1.0.0
dependencies:
  - {{name: db, version: ">=1.2.0 <2", repository: "{web}"}}
  - {{name: db, version: ~1.2.0, repository: "{web}", alias: old, condition: old.enabled, tags: [b, a], enabled: true}}
  - name: cache
    version: 1.x.x
    repository: {oci}
    import-values: [{{parent: theirs, child: image}}, greeting]
  - {{name: common, version: ^0.1.0, repository: "file://../common"}}
  - {{name: sub, version: "*", repository: ""}}
"""


class World:
    """A checkout whose chart has ranges from a web repository, a registry and a folder; the command
    line on it.
    """

    def __init__(self, folder: Path, web: str, oci: str) -> None:
        self.folder = folder
        self.web = web
        self.repo = Repo(folder / "source", folder / "gitconfig")
        self.repo.put(
            "pipeline.yaml",
            f"charts: [{{path: hello}}]\nchannels: {{snapshot: {{charts: '{oci}-snap'}}}}\n",
        )
        self.put(CHART.format(web=web, oci=oci))
        for path, data in files("common", "0.1.4").items():
            self.repo.put(f"common/{path}", data)
        self.repo.commit()

    def put(self, chart: str) -> None:
        sub = {f"charts/sub/{path}": data for path, data in files("sub", "3.0.0").items()}
        for path, data in {**files(), **sub, "Chart.yaml": chart.encode()}.items():
            self.repo.put(f"hello/{path}", data)

    @property
    def lock(self) -> Path:
        return self.repo.root / "hello/Chart.lock"

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{helm(4).parent}:{os.environ['PATH']}", "HOME": str(self.folder), "PYTHONPATH": str(ROOT),
            "GIT_CONFIG_GLOBAL": str(self.repo.config), **variables,
        }  # fmt: skip
        command = [sys.executable, "-m", "pipeline_steps", *words]
        return subprocess.run(
            command, cwd=self.repo.root, env=environment, capture_output=True, text=True
        )

    def ok(self, *words: str) -> str:
        completed = self.run(*words)
        assert completed.returncode == 0, completed.stderr
        return completed.stderr

    def helm(self, major: int, *words: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder / f"home{major}")}
        command = [str(helm(major)), *words]
        completed = subprocess.run(
            command, cwd=self.repo.root, env=environment, capture_output=True, text=True
        )
        assert completed.returncode == 0, completed.stderr
        return completed.stdout


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "web").mkdir()
    handler = partial(_Quiet, directory=str(folder / "web"))
    with (
        registry(folder / "registry") as running,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        for version in VERSIONS:
            open_writable((folder / "web").as_uri(), {}).publish(packed("db", version))
            open_writable(f"oci://{running.host}/charts", {}).publish(packed("cache", version))
        yield f"http://127.0.0.1:{server.server_port}", f"oci://{running.host}/charts"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path, urls: tuple[str, str]) -> World:
    return World(tmp_path, *urls)


def without_time(lock: str) -> list[str]:
    return [line for line in lock.splitlines() if not line.startswith("generated: ")]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tgz")
    }


def test_a_range_without_a_lock_is_refused_and_fixed_only_when_told(world: World) -> None:
    for step in ("check", "snapshot"):
        completed = world.run(step, PIPELINE_STEPS_FIX="1")
        assert completed.returncode == 2, completed.stderr
        assert (
            "the dependency db >=1.2.0 <2 is a range without a lock (run pipeline-steps check --fix"
            in completed.stderr
        )
    planned = world.ok("check", "--fix", "--plan")
    assert (
        "hello/Chart.lock: would be written: db 1.10.0 (of >=1.2.0 <2), db 1.2.0 (of ~1.2.0), cache 1.10.0"
        in planned
    )
    assert world.repo.git("status", "--porcelain") == ""

    assert "hello/Chart.lock: is written: db 1.10.0" in world.ok("check", "--fix")
    assert world.repo.git("status", "--porcelain") == "?? hello/Chart.lock"
    first = world.lock.read_bytes()
    assert "is written" not in world.ok("check", "--fix")
    assert world.lock.read_bytes() == first, "what has a lock is left alone"
    world.repo.commit()
    world.ok("snapshot")


@pytest.mark.parametrize("major", [3, 4])
def test_helm_would_write_the_same_lock_and_takes_ours(world: World, major: int) -> None:
    world.ok("check", "--fix")
    ours = world.lock.read_text()
    world.helm(major, "repo", "add", "served", world.web)
    world.helm(major, "dependency", "build", "hello", "--plain-http")
    assert world.lock.read_text() == ours, "build does not write it anew"
    built = digests(world.repo.root / "hello/charts")
    assert set(built) == {"db-1.10.0.tgz", "db-1.2.0.tgz", "cache-1.10.0.tgz", "common-0.1.4.tgz"}

    for path in (world.repo.root / "hello/charts").glob("*.tgz"):
        path.unlink()
    snapshot = world.ok("snapshot", "--json")
    reference = next(word for word in snapshot.split() if word.startswith("oci://"))
    world.helm(
        major,
        "pull",
        reference.partition("@")[0],
        "--plain-http",
        "--destination",
        str(world.folder),
    )
    inside = archive.unpack(next(world.folder.glob("hello-*.tgz")).read_bytes())
    packed_in = {
        path.removeprefix("charts/"): data for path, data in inside.items() if path.endswith(".tgz")
    }
    assert {name: hashlib.sha256(data).hexdigest() for name, data in packed_in.items()} == {
        name: digest for name, digest in built.items() if not name.startswith("common")
    }

    world.lock.unlink()
    world.helm(major, "dependency", "update", "hello", "--plain-http")
    assert without_time(world.lock.read_text()) == without_time(ours)


def test_a_lock_that_does_not_fit_is_mended_and_the_rest_kept(world: World) -> None:
    world.ok("check", "--fix")
    text = world.lock.read_text()
    world.lock.write_text(
        text.replace("version: 1.10.0", "version: 1.2.0", 1).replace(
            "version: 0.1.4", "version: 0.1.0"
        )
    )
    kept = world.lock.read_text()
    world.ok("check", "--fix")
    assert world.lock.read_text() == kept, "an older version that fits is nothing to mend"
    world.repo.put(
        "hello/Chart.yaml",
        (world.repo.root / "hello/Chart.yaml").read_text().replace(">=1.2.0 <2", "^2.0.0"),
    )
    completed = world.run("check")
    assert (
        completed.returncode,
        "Chart.yaml needs ^2.0.0" in completed.stderr,
    ) == (
        2,
        True,
    ), completed.stderr
    assert "is written: db 2.0.0 (of ^2.0.0), db 1.2.0 (of ~1.2.0), cache 1.10.0" in world.ok(
        "check", "--fix"
    )


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [("^0.1.0", "^0.2.0", "common 0.2.0 (of ^0.2.0)"), ("~1.2.0", "2.0.0", "db 2.0.0 (of 2.0.0)")],
    ids=["of a folder", "of an exact version"],
)
def test_a_lock_of_what_needs_none_is_mended_too(
    world: World, before: str, after: str, message: str
) -> None:
    world.ok("check", "--fix")
    world.repo.put(
        "hello/Chart.yaml",
        (world.repo.root / "hello/Chart.yaml").read_text().replace(before, after),
    )
    if "common" in message:
        world.repo.put("common/Chart.yaml", files("common", "0.2.0")["Chart.yaml"])
    completed = world.run("check")
    assert (completed.returncode, "run pipeline-steps check --fix" in completed.stderr) == (
        2,
        True,
    ), completed.stderr
    assert message in world.ok("check", "--fix")
    world.helm(4, "repo", "add", "served", world.web)
    world.helm(4, "dependency", "build", "hello", "--plain-http")


def test_range_without_matching_version_is_refused(world: World) -> None:
    world.repo.put(
        "hello/Chart.yaml",
        (world.repo.root / "hello/Chart.yaml").read_text().replace(">=1.2.0 <2", "^7.0.0"),
    )
    completed = world.run("check", "--fix")
    assert completed.returncode == 2
    assert (
        "no version of the dependency db fits ^7.0.0 "
        "(take one that it has: 2.0.0, 1.11.0-rc.1, 1.10.0, 1.2.0)"
    ) in completed.stderr
    assert not world.lock.exists()
