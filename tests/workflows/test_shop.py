"""Five charts adopted by somebody with nothing but the README: from `pip install` to a release, and
what happens to such a person on the days after. Only documented commands are typed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.support import busybox, helms, machine, shop
from tests.support.gits import Repo, bare
from tests.support.terminal import on_terminal
from tools.demo import proof

ROOT = Path(__file__).resolve().parents[2]
CI_VARIABLES = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "BUILD_TAG")
CHARTS = ("backend", "common", "frontend", "redis-proxy", "shop")


class Ran(NamedTuple):
    code: int
    said: str


class Person(NamedTuple):
    """Somebody at a checkout of the shop. program: pipeline-steps, as pip installed it."""

    repo: Repo
    program: Path
    environment: dict[str, str]

    def run(self, *words: str, below: str = "", **variables: str) -> Ran:
        done = subprocess.run(
            [self.program, *words], cwd=self.repo.root / below, env={**self.environment, **variables},
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout + done.stderr)

    def change(self, path: str, old: str, new: str) -> None:
        text = (self.repo.root / path).read_text()
        assert old in text, text
        self.repo.put(path, text.replace(old, new))

    def raise_version(self, *charts: str, to: str = "1.1.0") -> None:
        for name in charts:
            self.change(f"charts/{name}/Chart.yaml", "\nversion: 1.0.0\n", f"\nversion: {to}\n")

    def push(self) -> None:
        self.repo.commit()
        self.repo.git("push", "-q", "--set-upstream", "origin", "HEAD")

    def tags(self) -> set[str]:
        return set(self.repo.git("tag").split())

    def records(self, step: str) -> list[dict[str, Any]]:
        lines = (self.repo.root / ".pipeline/state.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["step"] == step]

    @property
    def overlay(self) -> str:
        return f"{self.environment['XDG_STATE_HOME']}/pipeline-steps/sandbox/overlay.yaml"


def installed(folder: Path) -> Path:
    """What `pip install CLONE` makes in a fresh environment; dependencies are this environment's."""
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    python = folder / "venv/bin/python"
    ours = next(place for place in sys.path if place.endswith("site-packages"))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    pth = folder / f"venv/lib/{version}/site-packages/dependencies.pth"
    pth.write_text(f"{ours}\n")
    clone = folder / "clone"
    left_out = shutil.ignore_patterns(
        ".git", ".venv", ".demo", "__pycache__", "*.egg-info", "build"
    )
    shutil.copytree(ROOT, clone, ignore=left_out, symlinks=True)
    offline = ("--quiet", "--no-deps", "--no-index")
    # The clone is built with the tools that are here: a new environment would download them.
    wheel = (sys.executable, "-m", "pip", "wheel", *offline, "--no-build-isolation")
    subprocess.run([*wheel, "-w", str(folder), str(clone)], check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    pip = (str(python), "-m", "pip", "install", *offline, str(file))
    subprocess.run(pip, check=True, capture_output=True)
    return folder / "venv/bin/pipeline-steps"


@pytest.fixture(scope="module")
def adopted(
    tmp_path_factory: pytest.TempPathFactory, docker_engine: machine.Engine
) -> Iterator[tuple[Person, dict[str, Ran]]]:
    """The shop, released once; what each command said."""
    folder = tmp_path_factory.mktemp("adopted")
    kept = {key: value for key, value in os.environ.items() if key not in CI_VARIABLES}
    environment = {
        **kept,
        **docker_engine.environment,
        "PATH": f"{helms.helm(4).parent}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(folder / "state"),
        "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
    }
    person = Person(Repo(folder / "source", folder / "gitconfig"), installed(folder), environment)
    said: dict[str, Ran] = {}
    with machine.registry() as third, machine.kubernetes_node(third.host) as node:
        busybox.push(third.host, "third/redis", "7.2")
        shop.write(person.repo, f"{third.host}/third/redis:7.2")
        person.repo.git("remote", "add", "origin", str(bare(folder / "origin.git")))
        person.push()
        try:
            said["init"] = person.run("init")
            person.push()
            said["doctor"] = person.run("doctor")
            up = person.run("sandbox", "up", "--kubeconfig", str(node.kubeconfig))
            assert up.code == 0, up.said
            with machine.kubernetes_node(proof.registry(Path(person.overlay))):
                said["plan"] = person.run("run", "private", "--plan")
                said["private"] = person.run("run", "private")
                said["release"] = person.run("run", "private", "--release")
                yield person, said
        finally:
            person.run("sandbox", "down")


@pytest.fixture
def person(adopted: tuple[Person, dict[str, Ran]], tmp_path: Path) -> Person:
    """A copy of the released checkout with its state and its server."""
    before, said = adopted
    assert said["release"].code == 0, said["release"].said
    shutil.copytree(before.repo.root, tmp_path / "source", symlinks=True)
    shutil.copytree(before.repo.root.parent / "origin.git", tmp_path / "origin.git")
    repo = Repo(tmp_path / "source", before.repo.config)
    repo.git("remote", "set-url", "origin", str(tmp_path / "origin.git"))
    return before._replace(repo=repo)


def test_from_pip_install_to_a_release(adopted: tuple[Person, dict[str, Ran]]) -> None:
    person, said = adopted
    assert said["init"].code == 0, said["init"].said
    assert said["doctor"].code == 7 and "host of the server is unknown" in said["doctor"].said
    for name in ("plan", "private", "release"):
        assert said[name].code == 0, said[name].said
    assert "✓ integration_test" in said["plan"].said and "planned" in said["plan"].said
    assert person.tags() == {f"{name}-1.0.0" for name in CHARTS}
    promoted = {record["subject"]: record for record in person.records("promote")}
    assert {name for name, one in promoted.items() if one["result"] == "passed"} == set(CHARTS)
    for name in ("private", "release"):
        words = said[name].said.split()
        references = [word for word in words if "@sha256:" in word and "k-" not in word]
        assert references and len(references) == len(set(references)), said[name].said
    assert "helm install shop " in said["release"].said
    assert "would be set" not in said["release"].said, "a plan that nobody asked for"
    assert "helm install common " not in said["release"].said, "a library"
    umbrella = promoted["shop"]["outputs"]
    assert ":shop-1.0.0@" in umbrella["image:backend"]
    assert ":backend-1.0.0@" in promoted["backend"]["outputs"]["image:backend"]


def test_what_init_writes_says_what_the_repository_has(
    adopted: tuple[Person, dict[str, Ran]],
) -> None:
    text = (adopted[0].repo.root / "pipeline.yaml").read_text()
    assert text.count("context: apps/") == 2 and "redis" not in text
    assert "# evidence:" in text and "# hosts:" in text


def test_nothing_to_do_says_what_was_done_when(person: Person) -> None:
    ran = person.run("run", "private")
    assert ran.code == 0 and ran.said.count("already done") >= 3, ran.said
    assert "no chart affected" not in ran.said
    assert "5 charts" in (person.repo.root / ".pipeline/report/report.md").read_text()
    shown = person.run("state", "show", COLUMNS="80").said.splitlines()
    assert [line for line in shown if len(line) > 80 and len(line.split()) > 1] == []


def test_one_template_is_changed_and_its_version_is_not_raised(person: Person) -> None:
    person.change("charts/backend/templates/deployment.yaml", "replicas }}", "replicas | int }}")
    person.push()
    plan = person.run("run", "private", "--plan")
    assert plan.code == 0 and "planned after snapshot" in plan.said, plan.said
    assert "helm install" not in plan.said, "nothing of the release before"
    ran = person.run("run", "private", "--release", "--chart", "backend")
    assert ran.code == 5, ran.said
    assert "version 1.0.0 is released" in ran.said and "raise the version" in ran.said
    assert "✗ tag_release" in ran.said and "promote ..." not in ran.said
    assert person.tags() == {f"{name}-1.0.0" for name in CHARTS}


def test_of_several_changed_charts_those_that_were_raised_are_released(person: Person) -> None:
    for name in ("frontend", "redis-proxy"):
        person.change(f"charts/{name}/values.yaml", "replicas: 1", "replicas: 1  # one")
    person.raise_version("frontend", "shop")
    person.push()
    ran = person.run("run", "private", "--release")
    assert ran.code == 5, ran.said
    assert {"frontend-1.1.0", "shop-1.1.0"} < person.tags()
    assert "✗ tag_release" in ran.said and "redis-proxy-1.0.0 exists" in ran.said
    promoted = [one for one in person.records("promote") if one["result"] == "passed"]
    released = {one["subject"] for one in promoted if one["parameters"]["version"] == "1.1.0"}
    assert released == {"frontend", "shop"}
    junit = (person.repo.root / ".pipeline/junit/tag_release-redis-proxy.xml").read_text()
    assert "<error" in junit or "<failure" in junit


def test_a_chart_is_renamed_and_one_deleted(person: Person) -> None:
    person.repo.git("mv", "charts/redis-proxy", "charts/cache")
    person.change("charts/cache/Chart.yaml", "name: redis-proxy", "name: cache")
    person.change("charts/shop/Chart.yaml", "redis-proxy", "cache")
    person.repo.git("rm", "-rq", "charts/frontend")
    person.change("charts/shop/Chart.yaml", shop.dependency("frontend"), "")
    person.repo.commit()
    stale = person.run("check")
    assert stale.code == 2 and "there is no charts/frontend/Chart.yaml" in stale.said, stale.said
    text = (person.repo.root / "pipeline.yaml").read_text()
    kept = [line for line in text.splitlines() if "frontend" not in line]
    kept = [line for line, after in zip(kept, [*kept[1:], ""], strict=True)
            if not (line.strip() == "images:" and after == "images:")]  # fmt: skip
    person.repo.put("pipeline.yaml", "\n".join(kept) + "\n")
    person.raise_version("shop")
    person.push()
    ran = person.run("run", "check", "build_image", "snapshot")
    assert ran.code == 0, ran.said
    assert "✓ snapshot" in ran.said and "cache: passed" in ran.said and "shop: passed" in ran.said


def test_a_hotfix_of_an_old_release(person: Person) -> None:
    person.raise_version("backend", "shop", to="2.0.0")
    person.push()
    person.repo.git("checkout", "-q", "-b", "hotfix", "backend-1.0.0")
    person.change("charts/backend/values.yaml", "replicas: 1", "replicas: 1  # hot")
    person.raise_version("backend", to="1.0.1")
    person.push()
    ran = person.run("run", "private", "--release", "--chart", "backend")
    assert ran.code == 0 and "backend-1.0.1" in person.tags(), ran.said


def test_a_registry_that_is_wrong_is_named(person: Person) -> None:
    overlay = "channels: {snapshot: {images: 127.0.0.1:9/s, charts: 'oci://127.0.0.1:9/c'}}\n"
    (person.repo.root / "wrong.yaml").write_text(overlay)
    for step in ("build_image", "snapshot"):
        ran = person.run(step, "--chart", "backend", "--again", "--config", "wrong.yaml")
        assert ran.code == 7 and "127.0.0.1:9" in ran.said, ran.said
        assert "Connection refused" in ran.said


def test_a_key_that_is_wrong_is_named_with_its_line(person: Person) -> None:
    person.change("pipeline.yaml", "image.tag:", "image.tagg:")
    person.repo.commit()
    ran = person.run("run", "private", "--chart", "backend")
    assert ran.code == 2 and "values.yaml:3: the key to set, image.tagg, does not" in ran.said
    person.change("pipeline.yaml", "clusters:", "clutsers:")
    ran = person.run("check")
    assert ran.code == 2 and "unknown key clutsers (there is clusters" in ran.said, ran.said


def test_a_step_from_a_subfolder(person: Person) -> None:
    below = "charts/backend/templates"
    ran = person.run("snapshot", "--chart", "backend", "--config", person.overlay, below=below)
    assert ran.code == 0 and "already done" in ran.said, ran.said
    assert not (person.repo.root / below / ".pipeline").exists()


def test_without_an_engine(person: Person) -> None:
    person.repo.put("apps/frontend/app.txt", "changed\n")
    person.repo.commit()
    gone = {"DOCKER_HOST": "unix:///nonexistent.sock", "BUILDX_BUILDER": ""}
    ran = person.run("run", "private", "--chart", "frontend", **gone)
    assert ran.code == 7 and "unix:///nonexistent.sock" in ran.said, ran.said
    assert "✓ check" in ran.said and "✗ build_image" in ran.said and "snapshot ..." not in ran.said
    charts_only = person.run("run", "private", "--chart", "redis-proxy", **gone)
    assert charts_only.code == 0, charts_only.said


def test_ctrl_c_in_the_middle_and_again(person: Person) -> None:
    person.change("charts/backend/values.yaml", "replicas: 1", "replicas: 1  # again")
    person.repo.commit()
    words = [str(person.program), "run", "private", "--chart", "backend"]
    running = subprocess.Popen(
        words, cwd=person.repo.root, env=person.environment, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("integration_test ..."):
            break
    time.sleep(1)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    rest = running.communicate()[1]
    assert running.returncode == 130 and time.monotonic() - began < machine.SECONDS_AFTER_SIGNAL, (
        rest
    )
    assert "stopped by signal 2" in rest and "Traceback" not in rest
    shown = on_terminal(words, person.repo.root, person.environment)
    assert shown.code == 0, shown.text
    assert "snapshot" in shown.text and "already done" in shown.text


def test_a_second_clone_as_an_agent_with_and_without_evidence(
    person: Person, tmp_path: Path
) -> None:
    agent = person._replace(
        repo=Repo(tmp_path / "agent", person.repo.config, clone=str(person.repo.root))
    )
    build = {"CI": "true", "JENKINS_URL": "http://ci.example.com", "BUILD_TAG": "b-1"}
    without = yaml.safe_load(Path(person.overlay).read_text())
    without.pop("evidence", None)
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(without))
    words = ("--chart", "backend", "--config", str(tmp_path / "overlay.yaml"))
    alone = agent.run("snapshot", *words, **build)
    assert alone.code == 4 and "image backend of chart backend has no record" in alone.said
    store = tmp_path / "store.yaml"
    store.write_text(f"evidence: file://{tmp_path}/evidence\n")
    shared = (*words, "--config", str(store))
    for step in ("check", "build_image", "snapshot"):
        first = person.run(step, *shared)
        assert first.code == 0, first.said
    for step in ("build_image", "snapshot"):
        found = agent.run(step, *shared, **build)
        assert found.code == 0 and "already done" in found.said, found.said
