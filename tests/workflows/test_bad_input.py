"""Bad input as users meet it: the words and the exit code of the real command line, one case for
each thing amiss.

What needs a working engine or cluster to go wrong stands in tests/systems (test_docker,
test_buildx, test_cluster); what a release refuses stands in test_release.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_steps.config.config_file import load
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.state import State
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.registries import free_port, htpasswd, registry

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = """\
charts:
  - path: charts/*
images: {{app: {{context: app}}}}
channels: {{snapshot: {{charts: "{charts}", images: "{images}"}}}}
clusters: {{here: {{kubeconfig: kubeconfig}}}}
"""
CHART = "apiVersion: v2\nname: web\nversion: 1.0.0\n"
MAP = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\n'


class Project:
    """A checkout with a small chart and an image, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo(folder / "source", folder / "gitconfig")
        self.configure()
        self.repo.put("charts/web/Chart.yaml", CHART)
        self.repo.put("charts/web/values.yaml", "image: {tag: none}\n")
        self.repo.put("charts/web/templates/map.yaml", MAP)
        self.repo.put("app/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
        self.repo.commit()

    def configure(
        self, *, charts: str = "", images: str = "r.example.com/x", more: str = ""
    ) -> None:
        text = PIPELINE.format(charts=charts or (self.folder / "published").as_uri(), images=images)
        self.repo.put("pipeline.yaml", text + more)

    def use_image(self, key: str) -> None:
        """The chart names the image in one of its values."""
        text = (self.repo.root / "pipeline.yaml").read_text()
        self.repo.put(
            "pipeline.yaml",
            text.replace("charts/*", f"charts/*\n    images: {{app: {{{key}: '{{tag}}'}}}}"),
        )

    def environment(self, **variables: str) -> dict[str, str]:
        return {
            "PATH": f"{helm(4).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "GIT_CONFIG_GLOBAL": str(self.repo.config),
            "PYTHONPATH": str(ROOT),
            **variables,
        }

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline_steps", *words]
        environment = self.environment(**variables)
        return subprocess.run(
            command, cwd=self.repo.root, env=environment, capture_output=True, text=True
        )

    def ok(self, *words: str) -> str:
        completed = self.run(*words)
        assert completed.returncode == 0, completed.stderr
        return completed.stderr

    def refused(self, code: int, message: str, *words: str, **variables: str) -> None:
        completed = self.run(*words, **variables)
        assert (completed.returncode, message in completed.stderr) == (code, True), (
            completed.returncode,
            completed.stderr,
        )
        assert "Traceback" not in completed.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# -- what is not there, or not let in ---------------------------------------------------------------------------------


def test_build_image_without_docker_engine_ends_with_7(project: Project) -> None:
    with registry(project.folder / "registry") as running:
        project.configure(images=running.host)
        project.use_image("image.tag")
        gone = f"unix://{project.folder}/none.sock"
        project.refused(
            7, f"DOCKER_HOST={gone}: no docker engine answers", "build_image", DOCKER_HOST=gone
        )


def test_build_image_with_a_closed_docker_socket_ends_with_7(project: Project) -> None:
    """Another's socket, and a root without the capabilities that would open it all the same."""
    with registry(project.folder / "registry") as running, socket.socket(socket.AF_UNIX) as closed:
        project.configure(images=running.host)
        project.use_image("image.tag")
        closed.bind(str(project.folder / "docker.sock"))
        closed.listen()
        (project.folder / "docker.sock").chmod(0o600)
        os.chown(project.folder / "docker.sock", 65534, 65534)
        completed = subprocess.run(
            ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all",
             sys.executable, "-m", "pipeline_steps", "build_image"],
            cwd=project.repo.root, env=project.environment(DOCKER_HOST=f"unix://{project.folder}/docker.sock"),
            capture_output=True, text=True,
        )  # fmt: skip
    assert completed.returncode == 7, completed.stderr
    assert "this account may not use the docker engine (add it to the group" in completed.stderr


def test_snapshot_without_registry_ends_with_7(project: Project) -> None:
    host = f"127.0.0.1:{free_port()}"
    project.configure(charts=f"oci://{host}/charts")
    project.refused(7, f"{host}", "snapshot")
    project.refused(7, "does not answer", "snapshot")


def test_snapshot_with_refused_credentials_ends_with_7(project: Project) -> None:
    with registry(
        project.folder / "registry", auth=htpasswd(project.folder, "ci", "hunter2")
    ) as running:
        project.configure(charts=f"oci://{running.host}/charts")
        project.refused(7, "wants a login", "snapshot")
        hosts = f'hosts: {{"{running.host}": {{username: ci, password: "${{PASSWORD}}"}}}}\n'
        project.configure(charts=f"oci://{running.host}/charts", more=hosts)
        project.refused(
            7, "check the credentials and their rights", "snapshot", PASSWORD="wrong-one"
        )
        assert project.run("snapshot", PASSWORD="hunter2").returncode == 0


def test_integration_test_with_an_unreachable_cluster_ends_with_7(project: Project) -> None:
    server = f"https://127.0.0.1:{free_port()}"
    (project.repo.root / "kubeconfig").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: '{server}'}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    project.ok("snapshot")
    project.refused(
        7, "the cluster's API server does not answer", "integration_test", "--cluster", "here"
    )
    project.refused(7, server, "integration_test", "--cluster", "here")


def test_helm_is_missing_or_too_old(project: Project) -> None:
    programs = project.folder / "bin"
    programs.mkdir()
    for name in ("git", "sh"):
        helm_ = next(
            Path(place) / name
            for place in os.environ["PATH"].split(":")
            if (Path(place) / name).exists()
        )
        (programs / name).symlink_to(helm_)
    project.refused(7, "install helm 3", "check", PATH=str(programs))
    old = programs / "helm"
    old.write_text("#!/bin/sh\necho v2.17.0\n")
    old.chmod(0o755)
    project.refused(7, f"{old} is helm 2.17.0; supported are 3.14", "check", PATH=str(programs))


# -- what is written wrongly -----------------------------------------------------------------------------------------


def test_a_step_without_pipeline_yaml_ends_with_2(project: Project) -> None:
    project.refused(2, "gone.yaml: there is no such file", "check", "--config", "gone.yaml")
    project.repo.git("rm", "-qf", "pipeline.yaml")
    project.refused(2, "there is no pipeline.yaml in this folder and above", "check")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "pipeline.yaml: the file is empty"),
        (
            "charts: [{path: charts/*}]\nimagse: {}\n",
            "pipeline.yaml:2: unknown key imagse (there is images",
        ),
        ("charts: charts/*\n", "pipeline.yaml:1: charts must be a list, not the text 'charts/*'"),
        (
            "charts: [{path: chart/web}]\n",
            "pipeline.yaml:1: there is no chart/web/Chart.yaml in the source",
        ),
    ],
    ids=["empty", "unknown key", "wrong type", "chart path without Chart.yaml"],
)
def test_the_configuration_is_wrong(project: Project, text: str, message: str) -> None:
    project.repo.put("pipeline.yaml", text)
    project.refused(2, message, "check")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apiVersion: v2\nname: web\n", "Chart.yaml:1: version is missing (add version: to it)"),
        (
            CHART.replace("1.0.0", "1.10"),
            "Chart.yaml:3: version: 1.10 is read as a float, helm wants text here",
        ),
        (
            f"{CHART}appVersion: 1.10\n",
            "Chart.yaml:4: appVersion: 1.10 is read as a float, helm wants text here",
        ),
    ],
    ids=["no version", "a number for the version", "a number for the version of the app"],
)
@pytest.mark.parametrize("step", ["check", "snapshot"])
def test_the_chart_is_wrong(project: Project, step: str, text: str, message: str) -> None:
    project.repo.put("charts/web/Chart.yaml", text)
    project.refused(2, f"charts/web/{message}", step)


def test_the_values_key_to_set_does_not_exist(project: Project) -> None:
    project.use_image("image.tga")
    config = load((), environ={}, start=project.repo.root)
    state, content = (
        State(project.repo.root / ".pipeline/state.jsonl"),
        Checkout(config).image_content("app"),
    )
    with record_attempt(
        state, step="build_image", subject="app", key="k", content=content
    ) as built:
        built.passed({"image": f"r.example.com/app:1@sha256:{'0' * 64}"})
    project.refused(2, "the key to set, image.tga, does not exist", "snapshot")


def test_the_dockerfile_is_missing(project: Project) -> None:
    project.use_image("image.tag")
    (project.repo.root / "app/Dockerfile").rename(project.repo.root / "app/dockerfile.old")
    project.refused(2, "app/Dockerfile", "build_image")


def test_a_step_outside_of_a_checkout_ends_with_2(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (project.repo.root / ".git").rename(tmp_path / "elsewhere")
    for step in ("check", "build_image", "snapshot", "integration_test", "tag_release", "promote"):
        project.refused(2, "no checkout of git, Bazaar or Subversion here or above", step)


# -- state -----------------------------------------------------------------------------------------------------------


def test_a_state_file_of_a_newer_schema_is_refused(project: Project) -> None:
    project.ok("snapshot")
    with (project.repo.root / ".pipeline/state.jsonl").open("a") as state:
        state.write('{"schema":2,"id":"sha256:0","shape":"unknown"}\n')
    project.refused(4, "record of schema 2, this version reads schema 1 (use a newer", "snapshot")


def test_a_torn_last_line_of_the_state_is_dropped_with_a_warning(project: Project) -> None:
    project.ok("snapshot")
    with (project.repo.root / ".pipeline/state.jsonl").open("a") as state:
        state.write('{"schema":1,"id":"sha')
    output = project.ok("snapshot")
    assert "torn" in output and "already done" in output


def test_an_edited_state_file_is_refused(project: Project) -> None:
    project.ok("snapshot")
    state = project.repo.root / ".pipeline/state.jsonl"
    state.write_text(state.read_text().replace('"result":"passed"', '"result":"failed"'))
    project.refused(4, "was edited", "snapshot")


def test_a_full_disk_ends_a_step_with_7(project: Project) -> None:
    """A real full file system for the state."""
    place = project.repo.root / ".pipeline"
    place.mkdir()
    words = f"{sys.executable} -m pipeline_steps snapshot"
    script = f"mount -t tmpfs -o size=16k none {place} && cat /dev/zero >{place}/filler 2>/dev/null; exec {words}"
    completed = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=project.repo.root, env=project.environment(),
        capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 7, completed.stderr
    assert "the disk is full: free space and run it again" in completed.stderr
    project.ok("snapshot")


# -- options that cannot mean anything --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("snapshot", "--timeout", "5m"), ("promote", "--timeout", "5"), ("regenerate", "--all"), ("audit", "--all"),
        ("audit", "--since", "HEAD"), ("audit", "--shard", "1/2"), ("verify", "--chart", "web"),
    ],
)  # fmt: skip
def test_an_unsupported_option_on_the_command_line_is_refused(
    project: Project, words: tuple[str, ...]
) -> None:
    project.refused(2, f"{words[1]}: {words[0]} can do nothing with it", *words)
    assert not (project.repo.root / ".pipeline").exists()


def test_an_unsupported_option_in_the_environment_is_ignored(project: Project) -> None:
    completed = project.run("snapshot", PIPELINE_STEPS_TIMEOUT="5m", PIPELINE_STEPS_JOBS="3")
    assert completed.returncode == 0, completed.stderr
    completed = project.run("run", "snapshot", "--timeout", "5m", "--channels", "configured")
    assert completed.returncode == 0, completed.stderr
