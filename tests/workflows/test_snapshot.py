"""The snapshot step on real git, a real registry and a folder: what it publishes, when it has
nothing to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.charts import archive, version
from pipeline_steps.charts.read import read_metadata
from pipeline_steps.config import config_file
from pipeline_steps.config.language import Config
from pipeline_steps.evidence.trust import open_state
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.snapshot import snapshot
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, EvidenceError
from pipeline_steps.workspace.checkout import Checkout
from tests.support.charts import files, packed
from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.registries import registry

PIPELINE = """\
charts:
  - path: charts/hello
    images: {{web: {{image.repository: "{{repository}}", image.tag: "{{tag}}@{{digest}}"}}}}
  - path: charts/common
    images: {{web: {{image.tag: "{{digest}}", Chart.appVersion: "{{tag}}"}}}}
images: {{web: {{context: app}}}}
channels: {{snapshot: {{images: r.example.com/snap, charts: {channels}}}}}
"""
DEPENDENCIES = """\
appVersion: "1"   # of the app
dependencies:
- {{name: common, version: 0.x, repository: "file://../common"}}
- {{name: db, version: ^1.0.0, repository: "{url}"}}
"""
DIGEST = "sha256:" + "d" * 64
IMAGE = f"r.example.com/snap/web:k-0123456789ab@{DIGEST}"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


class Line:
    """A checkout with a chart, its subchart, its image and a dependency from a repository."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder = folder
        self.oci = f"oci://{host}/r{abs(hash(str(folder)))}"
        self.file = (folder / "published").as_uri()
        (folder / "published").mkdir()
        open_writable(f"{self.oci}/others", {}).publish(packed("db", "1.4.0"))
        self.repo = Repo(folder / "source", folder / "gitconfig")
        self.configure(self.oci, self.file)
        chart = files(more=DEPENDENCIES.format(url=f"{self.oci}/others"))
        lock = f"dependencies:\n- name: db\n  repository: {self.oci}/others\n  version: 1.4.0\n"
        for path, data in {**chart, "Chart.lock": lock.encode()}.items():
            self.repo.put(f"charts/hello/{path}", data)
        for path, data in files("common", "0.3.0", more="appVersion: '0'\n").items():
            self.repo.put(f"charts/common/{path}", data)
        self.repo.put("app/Dockerfile", "FROM scratch\n")
        self.repo.commit()

    def configure(self, *channels: str) -> None:
        self.repo.put("pipeline.yaml", PIPELINE.format(channels=list(channels)))

    @property
    def config(self) -> Config:
        return config_file.load(environ={}, start=self.repo.root)

    @property
    def state(self) -> State:
        return State(self.repo.root / ".pipeline/state.jsonl")

    def built(self, image: str = IMAGE, state: State | None = None) -> None:
        """The record that build_image leaves."""
        content = Checkout(self.config).image_content("web")
        key = f"sha256:{image[-64:]}"
        state = state or self.state
        earlier = [
            record.id for record in state.find(step="build_image", subject="web", content=content)
        ]
        with record_attempt(
            state, step="build_image", subject="web", key=key, content=content, supersedes=earlier
        ) as it:
            it.passed({"image": image})

    def snapshot(self, *, plan: bool = False, again: bool = False) -> Record:
        found = snapshot("hello", config=self.config, state=self.state, plan=plan, again=again)
        assert isinstance(found, Record)
        return found


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No CI, no login and no cache of this machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "CI",
        "XDG_CACHE_HOME",
        "JENKINS_URL",
        "GITHUB_ACTIONS",
        "GITLAB_CI",
        "DOCKER_CONFIG",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def line(tmp_path: Path, host: str) -> Line:
    return Line(tmp_path, host)


def number_of(record: Record) -> str:
    return record.outputs["chart"].rpartition("@")[0].rpartition(":")[2]


def test_snapshot_publishes_the_chart_with_images_and_dependencies(line: Line) -> None:
    line.built()
    record = line.snapshot()
    number = number_of(record)
    assert version.is_snapshot(number)
    assert number.startswith("1.0.0-0.1.t")
    published = open_repository(line.oci, {}).find("hello", number)
    assert published is not None
    assert (published.reference, published.tar_digest) == (
        record.outputs["chart"],
        record.outputs["tar"],
    )
    also = open_repository(line.file, {}).find("hello", number)
    assert also is not None
    assert (also.reference, also.tar_digest) == (record.outputs["chart-2"], record.outputs["tar"])
    inside = archive.unpack(published.archive.tgz)
    assert inside["values.yaml"].splitlines()[1:] == [
        b"image:", b"  repository: r.example.com/snap/web", f"  tag: k-0123456789ab@{DIGEST}".encode(),
    ]  # fmt: skip
    assert b'appVersion: "1"   # of the app\n' in inside["Chart.yaml"]
    assert f"tag: {DIGEST}".encode() in inside["charts/common/values.yaml"]
    common = read_metadata(inside["charts/common/Chart.yaml"], "")
    assert (common.version, common.app_version) == ("0.3.0", "k-0123456789ab")
    assert inside["charts/db-1.4.0.tgz"] == packed("db", "1.4.0").tgz
    assert record.inputs == {
        "image:web": DIGEST, "dependency:charts/db-1.4.0.tgz": packed("db", "1.4.0").digest,
    }  # fmt: skip


def test_snapshot_publishes_again_only_what_is_missing(line: Line) -> None:
    line.built()
    first = line.snapshot()
    assert line.snapshot() == first
    line.repo.put("unrelated.txt", "x")
    line.repo.commit()
    assert line.snapshot() == first, "a revision that does not change the chart is no reason"
    for path in (line.folder / "published").iterdir():
        path.unlink()
    second = line.snapshot()
    assert second.id != first.id
    assert second.outputs == first.outputs
    line.configure(line.oci, line.file, (line.folder / "third").as_uri())
    assert "chart-3" in line.snapshot().outputs, "the channel configured now counts"


def test_snapshot_of_another_checkout_has_the_same_digest(line: Line) -> None:
    line.built()
    first = line.snapshot()
    other_clone = Repo(line.folder / "elsewhere/copy", line.repo.config, clone=str(line.repo.root))
    state = State(line.folder / "other.jsonl")
    for name in line.state.folder.glob("state*.jsonl"):
        (line.folder / "other.jsonl").write_bytes(
            b"".join(name.read_bytes().splitlines(keepends=True)[:1])
        )
    again = snapshot(
        "hello", config=config_file.load(environ={}, start=other_clone.root), state=state
    )
    assert isinstance(again, Record)
    assert again.id != first.id
    assert again.outputs == first.outputs


def test_every_machine_makes_the_same_tar_and_the_same_manifest(line: Line) -> None:
    """Acceptance tests A8 (helm/helm#31439), A9 (periareon/rules_helm#259): other time zone, umask,
    clone and helm.
    """
    line.built()
    first = open_repository(line.oci, {}).find("hello", number_of(line.snapshot()))
    assert first is not None
    other_clone = Repo(line.folder / "elsewhere/copy", line.repo.config, clone=str(line.repo.root))
    for path in (other_clone.root / "charts").rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700 if path.is_dir() else 0o600)
    again = line.oci.replace(line.oci.rpartition("/")[2], "again")
    overlay = line.folder / "again.yaml"
    overlay.write_text(f"channels: {{snapshot: {{charts: '{again}'}}}}\n")
    (other_clone.root / ".pipeline").mkdir()
    (other_clone.root / ".pipeline/state.jsonl").write_bytes(line.state.path.read_bytes())
    environment = {
        "PATH": f"{helm(3).parent}:{os.environ['PATH']}", "TZ": "Asia/Tokyo", "HOME": str(line.folder / "home"),
        "GIT_CONFIG_GLOBAL": str(line.repo.config), "PYTHONPATH": str(Path(__file__).parents[2]), "LC_ALL": "C",
    }  # fmt: skip
    words = [
        sys.executable,
        "-m",
        "pipeline_steps",
        "snapshot",
        "--chart",
        "hello",
        "--config",
        "pipeline.yaml",
    ]
    completed = subprocess.run(
        [*words, "--config", str(overlay)],
        cwd=other_clone.root,
        env=environment,
        umask=0o077,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    second = open_repository(again, {}).find("hello", first.version)
    assert second is not None
    assert second.tar_digest == first.tar_digest
    assert second.reference.rpartition("@")[2] == first.reference.rpartition("@")[2]


def test_snapshot_version_has_position_next_patch_and_dirty_mark(line: Line) -> None:
    line.built()
    line.repo.put("charts/hello/templates/new.yaml", "a: b\n")
    assert number_of(line.snapshot()).startswith("1.0.0-0.1.t")
    assert number_of(line.snapshot()).endswith(".dirty")
    line.repo.commit()
    assert number_of(line.snapshot()).startswith("1.0.0-0.2.t")
    line.repo.git("tag", "hello-1.0.0")
    assert number_of(line.snapshot()).startswith("1.0.0-0.2.t"), "released with this content"
    line.repo.put("charts/hello/templates/new.yaml", "a: c\n")
    line.repo.commit()
    assert number_of(line.snapshot()).startswith("1.0.1-0.3.t"), "released with other content"
    line.repo.git("checkout", "-q", "-b", "feature")
    assert number_of(line.snapshot()).startswith("1.0.1-0.0.t")


def test_a_new_image_makes_a_new_version(line: Line) -> None:
    line.built()
    first = line.snapshot()
    line.built(IMAGE.replace("d" * 64, "e" * 64))
    second = line.snapshot()
    assert number_of(second) != number_of(first)
    assert second.inputs["image:web"] == "sha256:" + "e" * 64


def test_snapshot_refuses_invalid_charts_and_publishes_nothing(line: Line) -> None:
    with pytest.raises(
        EvidenceError,
        match=r"image web of chart hello has no record .*\(run pipeline-steps build_image",
    ):
        line.snapshot()
    line.built()
    line.repo.put("charts/hello/values.yaml", "image: {repository: x, tga: y}\n")
    with pytest.raises(
        ConfigurationError,
        match=r"charts/hello/values\.yaml:1: the key to set, image\.tag, does not exist",
    ):
        line.snapshot()
    line.repo.git("checkout", "-q", ".")
    line.repo.git("rm", "-q", "charts/hello/Chart.lock")
    with pytest.raises(
        ConfigurationError,
        match=r"charts/hello/Chart\.lock: the dependency db \^1\.0\.0 is a range",
    ):
        line.snapshot()
    with pytest.raises(ConfigurationError, match=r"there is no chart 'helo' \(there is hello"):
        snapshot("helo", config=line.config, state=line.state)
    assert open_repository(line.oci, {}).versions("hello") == []


def replaced(line: Line) -> str:
    """Another db 1.4.0 in place of the one that was there, by helm, which does not ask; its digest."""
    other_chart = packed("db", "1.4.0", more="description: another\n")
    (line.folder / other_chart.file_name).write_bytes(other_chart.tgz)
    command = [
        str(helm(4)),
        "push",
        str(line.folder / other_chart.file_name),
        f"{line.oci}/others",
        "--plain-http",
    ]
    subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "HOME": str(line.folder)},
        check=True,
        capture_output=True,
    )
    return other_chart.digest


def test_a_dependency_that_was_replaced_is_refused_naming_both(line: Line) -> None:
    line.built()
    first = line.snapshot()
    theirs = replaced(line)
    ours = packed("db", "1.4.0").digest
    message = rf"charts/hello: charts/db-1\.4\.0\.tgz is {theirs}, the snapshot of \S+ used {ours} under this version"
    with pytest.raises(EvidenceError, match=message) as caught:
        line.snapshot()
    assert caught.value.exit_code == 4 and "snapshot --again" in caught.value.advice
    taken = line.snapshot(again=True)
    assert (
        taken.outputs["tar"] != first.outputs["tar"]
        and taken.inputs["dependency:charts/db-1.4.0.tgz"] == theirs
    )
    assert line.snapshot() == taken


def test_a_replaced_dependency_is_found_by_a_release_record_in_a_store(
    line: Line,
) -> None:
    line.repo.put(
        "pipeline.yaml",
        PIPELINE.format(channels=[line.oci]) + f"evidence: {line.folder.as_uri()}/evidence\n",
    )
    line.built()
    line.repo.commit()
    config = line.config
    snapshot("hello", config=config, state=open_state(config, "snapshot"))
    line.repo.git("tag", "hello-1.0.0")
    line.repo.git("tag", "hello-next")  # no release of it
    replaced(line)
    line.repo.put("charts/hello/values.yaml", "image: {repository: x, tag: y}\n")
    line.repo.commit()
    elsewhere = open_state(config, "snapshot", line.folder / "elsewhere/state.jsonl")
    line.built(state=elsewhere)
    with pytest.raises(EvidenceError, match="under this version"):
        snapshot("hello", config=config, state=elsewhere)


def test_snapshot_of_a_taken_version_records_a_conflict(line: Line) -> None:
    line.built()
    number = number_of(line.snapshot())
    for path in (line.folder / "published").iterdir():
        path.unlink()
    open_writable(line.file, {}).publish(packed(version=number))
    with pytest.raises(
        Conflict, match=f"chart hello {number} is already there with another content"
    ):
        line.snapshot()
    assert line.state.records()[-1].result == "refused"


def test_snapshot_plan_writes_nothing(line: Line) -> None:
    line.built()
    before = len(line.state.records())
    assert snapshot("hello", config=line.config, state=line.state, plan=True) == ()
    assert len(line.state.records()) == before
    assert open_repository(line.oci, {}).versions("hello") == []


def children_cpu_seconds() -> float:
    """Processor time of all children that ended so far."""
    times = os.times()
    return times.children_user + times.children_system


def test_snapshot_without_changes_ends_quickly(line: Line) -> None:
    line.built()
    line.snapshot()
    command = [sys.executable, "-m", "pipeline_steps.snapshot", "--chart", "hello"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(line.folder),
        "GIT_CONFIG_GLOBAL": str(line.repo.config),
    }
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    times = []
    for _ in range(3):
        before = children_cpu_seconds()
        completed = subprocess.run(
            command, cwd=line.repo.root, env=environment, capture_output=True, text=True
        )
        # Not wall time, which depends on the machine's load.
        times.append(children_cpu_seconds() - before)
        assert completed.returncode == 0, completed.stderr
        assert "hello: already done" in completed.stderr
    assert min(times) < 1.5, times
