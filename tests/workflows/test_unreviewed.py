"""Builds of reviews on the command line: what a review's own pipeline.yaml and charts cannot do to
the agent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_steps.toolbox import files
from tests.support.gits import Repo
from tests.support.helms import chart_files, helm
from tests.support.registries import registry

REVIEW = {
    "GITLAB_CI": "true",
    "CI_MERGE_REQUEST_IID": "4",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
}
ROOT = Path(__file__).resolve().parents[2]


class Agent:
    """A checkout of a review, and the command line on it. main and topic start from the same
    pipeline.yaml.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo(folder / "checkout", folder / "gitconfig")
        (folder / "tmp").mkdir()
        for name, text in chart_files().items():
            self.repo.put(f"charts/web/{name}", text)
        self.configure()
        self.repo.commit()
        self.repo.git("checkout", "-q", "-b", "topic")

    def configure(self, **more: object) -> None:
        channels = {"snapshot": {"charts": f"file://{self.folder}/snapshots"}}
        self.repo.put(
            "pipeline.yaml",
            json.dumps({"charts": [{"path": "charts/*"}], "channels": channels, **more}),
        )

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{helm(4).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "GIT_CONFIG_GLOBAL": str(self.repo.config),
            "PYTHONPATH": str(ROOT),
            **variables,
        }
        command = [sys.executable, "-m", "pipeline_steps", *words]
        return subprocess.run(
            command, cwd=self.repo.root, env=environment, capture_output=True, text=True
        )


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    (tmp_path / "snapshots").mkdir()
    return Agent(tmp_path)


def test_the_exec_plugin_of_a_reviews_own_clusters_never_runs(agent: Agent) -> None:
    ran = agent.folder / "ran"
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh", "interactiveMode": "Never",
                     "args": ["-c", f"touch {ran}"]}}  # fmt: skip
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "x", "user": user}],
    }
    agent.repo.put("ci/kubeconfig", json.dumps(kubeconfig))
    agent.configure(clusters={"mine": {"kubeconfig": "ci/kubeconfig"}})
    agent.repo.commit()
    assert agent.run("doctor", "--for", "integration_test").returncode == 7
    assert ran.exists(), "outside of reviews it is the configuration's own plugin"
    ran.unlink()

    completed = agent.run("doctor", "--for", "integration_test", **REVIEW)
    assert "no cluster is configured" in completed.stdout and completed.returncode == 2, completed
    assert "this review changes clusters; that takes effect after the merge" in completed.stderr
    agent.repo.put(
        "ci/overlay.yaml", "tests: {parallel: 2}\nclusters: {mine: {kubeconfig: ci/kubeconfig}}\n"
    )
    agent.repo.commit()
    completed = agent.run(
        "doctor", "--for", "integration_test", "--config", "ci/overlay.yaml", **REVIEW
    )
    assert (
        "ci/overlay.yaml:2: clusters is set in an overlay that this review can change"
        in completed.stderr
    )
    assert completed.returncode == 2 and not ran.exists()


def test_a_review_gets_no_variable_of_the_agent_as_a_build_secret(agent: Agent) -> None:
    agent.repo.put(
        "app/Dockerfile",
        "FROM scratch\nRUN --mount=type=secret,id=agent-token cat /run/secrets/*\n",
    )
    plugin = agent.folder / ".docker/cli-plugins/docker-buildx"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f"#!/bin/sh\nenv > {agent.folder}/ran\n")
    plugin.chmod(0o755)
    image = {"app": {"image.repository": "{repository}"}}
    with registry(agent.folder / "registry") as running:
        agent.configure(
            charts=[{"path": "charts/*", "images": image}],
            images={"app": {"context": "app", "secrets": ["agent-token"]}},
            channels={"snapshot": {"images": f"{running.host}/x"}},
        )
        agent.repo.commit()
        agent.repo.git("branch", "-q", "-f", "main")
        completed = agent.run("build_image", "--all", AGENT_TOKEN="t0ken-of-the-agent", **REVIEW)
    assert not (agent.folder / "ran").exists()
    assert (
        "the secret agent-token is not declared" in completed.stderr and completed.returncode == 2
    ), completed
    assert "t0ken" not in completed.stdout + completed.stderr


@pytest.mark.parametrize(
    "words", [["--namespace", "default"], ["--post-renderer=./run"], ["--set-file", "a=/etc/x"]]
)
def test_arguments_that_are_not_allowed_for_helm_stop_every_step(
    agent: Agent, words: list[str]
) -> None:
    agent.configure(tests={"helm_args": words})
    agent.repo.commit()
    completed = agent.run("snapshot", "--all", **REVIEW)
    assert f"pipeline.yaml:1: tests.helm_args may not have '{words[0]}'" in completed.stderr, (
        completed
    )
    assert (
        "allowed are --set, --set-string, --set-json, --values" in completed.stderr
        and completed.returncode == 2
    )


@pytest.mark.parametrize(
    "command", [("state", "show"), ("doctor",), ("run", "check", "--all"), ("check", "--all")]
)
def test_the_next_command_removes_scratch_folders_of_a_killed_one(
    agent: Agent, command: tuple[str, ...]
) -> None:
    left = agent.folder / "tmp" / f"{files.TEMPORARY}docker-0123456789ab"
    left.mkdir(mode=0o700)
    (left / "config.json").write_text('{"auths": {"r.example.com": {"auth": "bG9naW4="}}}')
    agent.run(*command)
    assert not left.exists()
