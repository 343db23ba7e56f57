"""The private workflow on the example, for real: engine, registry, Kubernetes; issue "The main
job", items 1 and 2.

One released pipeline is made for the module; each test goes on with a copy of its checkout and
state, as an engineer would with a clone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline_steps.sandbox import sandbox
from tests.support import docs, helms, machine
from tools.demo import proof, repository

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/hello"
PAGE = "app/www/cgi-bin/index.cgi"
NOTES = "charts/hello/templates/NOTES.txt"
MAKING = ("build_image", "snapshot", "integration_test", "tag_release", "promote")
CI_VARIABLES = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "BUILD_TAG")


class Ran(NamedTuple):
    """One `pipeline-steps …`: its exit code, what it said, and the records it added, intents left
    out.
    """

    code: int
    said: str
    records: list[dict[str, Any]]

    def steps(self) -> set[str]:
        """The making steps that did something."""
        return {record["step"] for record in self.records} & set(MAKING)


class Line(NamedTuple):
    """A checkout and the environment of its pipeline."""

    checkout: Path
    environment: dict[str, str]

    def run(self, *words: str) -> Ran:
        before = len(self.records())
        completed = subprocess.run(
            [sys.executable, "-m", "pipeline_steps", *words], cwd=self.checkout, env=self.environment,
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        return Ran(
            completed.returncode, completed.stdout + completed.stderr, self.records()[before:]
        )

    def shell(self, script: str, **variables: str) -> Ran:
        """A line of shell, as somebody types it who has installed the library."""
        path = f"{Path(sys.executable).parent}:{self.environment['PATH']}"
        before = len(self.records())
        done = subprocess.run(
            ["sh", "-c", script], cwd=self.checkout,
            env={**self.environment, "PATH": path, **variables},
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout + done.stderr, self.records()[before:])

    def private(self, *words: str) -> Ran:
        return self.run("run", "private", *words)

    def records(self) -> list[dict[str, Any]]:
        path = self.checkout / ".pipeline/state.jsonl"
        found = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )
        return [record for record in found if record["result"] != "started"]

    def last(self, step: str) -> dict[str, Any]:
        return [record for record in self.records() if record["step"] == step][-1]

    def git(self, *words: str) -> str:
        return repository.git(self.checkout, *words)

    def change(self, path: str, old: str, new: str) -> None:
        file = self.checkout / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def commit(self, message: str) -> None:
        self.git("commit", "--quiet", "--all", "--message", message)

    def raise_version(self, new: str) -> None:
        self.change("charts/hello/Chart.yaml", "version: 0.1.0", f"version: {new}")

    def published(self) -> list[str]:
        """Versions of the chart in the production channel."""
        host = proof.registry(self.overlay)
        completed = subprocess.run(
            ["curl", "--silent", "--fail", f"http://{host}/v2/charts/hello/tags/list"],
            capture_output=True,
            text=True,
        )
        return sorted(json.loads(completed.stdout)["tags"]) if completed.returncode == 0 else []

    @property
    def overlay(self) -> Path:
        return Path(self.environment["XDG_STATE_HOME"]) / "pipeline-steps/sandbox/overlay.yaml"


@pytest.fixture(scope="module")
def environment(
    tmp_path_factory: pytest.TempPathFactory,
    docker_engine: machine.Engine,
    kubernetes_node: machine.Node,
) -> Iterator[dict[str, str]]:
    """The environment of an engineer whose sandbox is up."""
    home = tmp_path_factory.mktemp("state")
    own = {
        "PATH": f"{helms.helm(4).parent}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(home),
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    kept = {key: value for key, value in os.environ.items() if key not in CI_VARIABLES}
    variables = {**kept, **docker_engine.environment, **own}
    command = [sys.executable, "-m", "pipeline_steps", "sandbox", "up", "--kubeconfig"]
    try:
        up = subprocess.run(
            [*command, str(kubernetes_node.kubeconfig)],
            env=variables,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert up.returncode == 0, up.stderr
        with machine.kubernetes_node(proof.registry(Path(up.stdout.strip()))):
            yield variables
    finally:
        sandbox.down(home / "pipeline-steps/sandbox")


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> tuple[Line, Ran]:
    """A new repository and its first run up to the release."""
    target = tmp_path_factory.mktemp("first") / "hello"
    repository.ensure(target, EXAMPLE)
    line = Line(target, environment)
    return line, line.private("--release")


@pytest.fixture
def line(first: tuple[Line, Ran], tmp_path: Path) -> Line:
    """A copy of the released checkout with its state."""
    base, ran = first
    assert ran.code == 0, ran.said
    shutil.copytree(base.checkout, tmp_path / "hello", symlinks=True)
    return Line(tmp_path / "hello", base.environment)


def test_a_push_becomes_a_release_that_helm_pulls(
    first: tuple[Line, Ran], capfd: pytest.CaptureFixture[str]
) -> None:
    line, ran = first
    assert ran.code == 0, ran.said
    assert ran.steps() == set(MAKING)
    assert [record["result"] for record in ran.records if record["step"] in MAKING] == [
        "passed"
    ] * 6, ran.said
    tests = [record for record in ran.records if record["step"] == "integration_test"]
    assert len(tests) == 2, "one for each values file"
    tested = line.last("build_image")["outputs"]["image"].partition("@")[2]
    assert line.last("promote")["outputs"]["image:hello"].endswith(f"@{tested}")
    assert line.git("tag").split() == ["hello-0.1.0"]
    assert list((line.checkout / ".pipeline/junit").glob("*.xml"))
    program = Path(sys.executable).with_name("pipeline-steps")
    assert proof.show(line.checkout, line.overlay, line.environment, program) == 0, (
        capfd.readouterr().err
    )
    assert "helm pull oci://" in ran.said
    assert line.run("state", "verify").code == 0


def test_a_second_run_without_changes_does_nothing(line: Line) -> None:
    ran = line.private("--release")
    assert (ran.code, ran.steps()) == (0, set()), ran.said
    assert ran.said.count("already done") >= len(MAKING), ran.said


def test_a_changed_template_is_tested_but_its_image_is_not_rebuilt(line: Line) -> None:
    line.change(NOTES, "To see the page", "To find the page")
    line.commit("Say find")
    ran = line.private()
    assert (ran.code, ran.steps()) == (0, {"snapshot", "integration_test"}), ran.said
    assert ":0.1.1-0." in line.last("snapshot")["outputs"]["chart"], (
        "the next patch, because 0.1.0 is released"
    )


def test_a_changed_app_is_rebuilt_and_released_under_a_new_version(line: Line) -> None:
    image = line.last("build_image")["outputs"]["image"]
    line.change(PAGE, "Built once", "Made once")
    line.raise_version("0.8.0")
    line.commit("Say made")
    ran = line.private("--release")
    assert (ran.code, ran.steps()) == (0, set(MAKING)), ran.said
    assert line.last("build_image")["outputs"]["image"] != image
    assert {"0.1.0", "0.8.0"} <= set(line.published())


def test_amending_the_message_runs_nothing(line: Line) -> None:
    line.git("commit", "--quiet", "--amend", "--message", "Other words")
    ran = line.private()
    assert (ran.code, ran.steps()) == (0, set()), ran.said


def test_after_a_rebase_nothing_is_rebuilt_or_tested_again(line: Line) -> None:
    line.git("switch", "--quiet", "--create", "topic")
    line.change(NOTES, "To see the page", "To rebase the page")
    line.raise_version("0.1.2")
    line.commit("Say rebase")
    assert line.private().steps() == {"snapshot", "integration_test"}
    line.git("switch", "--quiet", "main")
    (line.checkout / "README.md").write_text("# hello\n")
    line.commit("Say less")
    line.git("switch", "--quiet", "topic")
    line.git("rebase", "--quiet", "main")
    ran = line.private()
    assert ran.code == 0, ran.said
    assert ran.steps() <= {"snapshot"}, ran.said


def test_a_broken_test_stops_the_release_with_its_reason(line: Line) -> None:
    line.raise_version("0.3.0")
    line.change(
        "charts/hello/templates/tests/page.yaml",
        "{{ .Values.greeting | quote }}",
        "words nobody says",
    )
    line.commit("Break the test")
    ran = line.private("--release")
    assert ran.code == 8, ran.said
    assert "container check of pod hello-test-page ended with exit code 1" in ran.said
    logs = [log.read_text() for log in (line.checkout / ".pipeline/failures").rglob("*check.log")]
    assert logs and all("does not say: words nobody says" in log for log in logs), logs
    assert ran.steps() == {"snapshot", "integration_test"}
    assert "0.3.0" not in line.published()
    assert line.git("tag").split() == ["hello-0.1.0"]


def test_local_modifications_are_tested_and_never_released(line: Line) -> None:
    line.raise_version("0.4.0")
    ran = line.private()
    assert ran.code == 0, ran.said
    assert re.search(r"\.dirty", line.last("snapshot")["outputs"]["chart"])
    for step in ("tag_release", "promote"):
        refused = line.run(step, "--config", str(line.overlay))
        assert refused.code == 4, refused.said
    assert "0.4.0" not in line.published()
    assert line.git("tag").split() == ["hello-0.1.0"]


def test_without_release_it_stops_and_says_how_to_go_on(line: Line) -> None:
    line.raise_version("0.5.0")
    line.commit("Raise the version")
    ran = line.private()
    assert ran.code == 0, ran.said
    assert "pipeline-steps run private --release" in ran.said
    assert "0.5.0" not in line.published()


def test_promote_refuses_content_without_test(line: Line) -> None:
    line.raise_version("0.6.0")
    line.commit("Raise the version")
    line.git("tag", "--annotate", "--message", "by hand", "hello-0.6.0")
    ran = line.run("promote", "--tag", "hello-0.6.0", "--config", str(line.overlay))
    assert ran.code == 4, ran.said
    assert "0.6.0" not in line.published()


def test_a_version_that_is_released_with_other_content_is_refused(line: Line) -> None:
    line.change(NOTES, "To see the page", "To view the page")
    line.commit("Change without a new version")
    ran = line.private("--release")
    assert (ran.code, ran.steps() - {"tag_release"}) == (5, {"snapshot", "integration_test"}), (
        ran.said
    )
    assert "pipeline-steps bump --chart hello" in ran.said
    assert ":0.1.1-0." in line.last("snapshot")["outputs"]["chart"], (
        "the next patch, because 0.1.0 is released"
    )


def test_the_tutorial_does_what_it_says(line: Line) -> None:
    text = (docs.ROOT / "docs/tutorial.md").read_text()
    _demo, _enter, nothing, change, broken, release, _down = re.findall(
        r"```sh\n(.*?)```", text, re.DOTALL
    )
    ran = line.shell(nothing)
    assert (ran.code, ran.steps()) == (0, set()), ran.said
    assert ran.said.count("already done") >= len(MAKING), ran.said
    ran = line.private()
    assert "already done: every chart has passed" in ran.said, "as the page says without --release"
    ran = line.shell(f"set -e\n{change}")
    assert (ran.code, ran.steps()) == (0, {"snapshot", "integration_test"}), ran.said
    ran = line.shell(broken)
    assert "exit code 8" in ran.said and "words nobody says" in ran.said, ran.said
    assert ran.code == 0, "ls shows the logs"
    assert line.shell("git revert --no-edit HEAD").code == 0
    ran = line.shell(f"set -e\n{release}")
    assert ran.code == 0, ran.said
    assert re.search(r"^oci://\S+/charts/hello:0\.2\.0@sha256:[0-9a-f]{64}$", ran.said, re.M), (
        ran.said
    )


def test_commands_of_the_docs_with_a_cluster(line: Line, kubernetes_node: machine.Node) -> None:
    """Their own channels are nobody's: here they get the sandbox's, by a variable."""
    channels = {"PIPELINE_STEPS_CONFIG": str(line.overlay)}
    cluster = {"CI_KUBECONFIG": str(kubernetes_node.kubeconfig)}
    line.change(NOTES, "To see the page", "To read the page")
    line.raise_version("0.7.0")
    line.commit("Say read")
    for written in docs.WITH_A_CLUSTER:
        script = written.replace("k131", "sandbox").replace(
            "build_image/backend", "build_image/hello"
        )
        own_config = "--config" in script or " run " in script
        ran = line.shell(script, **cluster, **({} if own_config else channels))
        assert ran.code == 0, f"{script}\n{ran.said}"
        assert "sandbox" not in written or ran.said, "it prints the overlay, or what there is"
