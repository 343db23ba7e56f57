"""`reproduce` of tests on a real Kubernetes: fails again for the recorded cause, kept on demand;
and what differs.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline_steps.clusters import kubeconfig, namespaces
from pipeline_steps.clusters.kubernetes import Api
from tests.support.gits import Repo
from tests.support.helms import chart_files, helm
from tests.support.machine import Node
from tools.programs import programs

GOOD = "busybox wget -qO- http://web:8080/; test $? -le 1"
BAD = "echo no greeting here; exit 3"


class Project:
    """A checkout with the chart `web`, tested once on the node, and moved on since."""

    def __init__(self, folder: Path, node: Node, images: str, test: str) -> None:
        self.repo = Repo(folder / "checkout", folder / "gitconfig")
        cluster = {"kubeconfig": str(node.kubeconfig), "context": node.context}
        settings: dict[str, Any] = {
            "charts": [{"path": "charts/*"}],
            "channels": {"snapshot": {"charts": f"file://{folder}/channel"}},
            "clusters": {"here": cluster, "other": cluster},
            "tests": {"timeout": "60s"},
        }
        self.repo.put("pipeline.yaml", json.dumps(settings))
        for name, text in chart_files(test=test, image=f"{images}/web:k-1").items():
            self.repo.put(
                f"charts/web/{name}", text.replace(",hook-failed", "")
            )  # the chart keeps what failed
        self.repo.commit()
        assert self.run("snapshot", "--chart", "web").returncode == 0
        self.tested = self.run("integration_test", "--chart", "web", "--cluster", "here")
        self.repo.put("charts/web/values.yaml", "image: moved-on\n")
        self.repo.commit()

    @property
    def state(self) -> Path:
        return self.repo.root / ".pipeline/state.jsonl"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PIPELINE_STEPS_HELM": str(helm(4)),
            "GIT_CONFIG_GLOBAL": str(self.repo.config),
        }
        command = [sys.executable, "-m", "pipeline_steps", *words]
        return subprocess.run(
            command, cwd=self.repo.root, env=environment, capture_output=True, text=True
        )


def test_reproduce_keep_leaves_the_namespace_of_a_failed_test(
    tmp_path: Path, node: Node, images: str
) -> None:
    project = Project(tmp_path, node, images, BAD)
    assert project.tested.returncode == 8, project.tested.stderr
    before = project.state.read_bytes()
    completed = project.run(
        "reproduce", "integration_test/web", "--last-failed", "--keep", "--cluster", "other"
    )
    assert completed.returncode == 0 and "equal: fails as recorded: " in completed.stdout, (
        completed.stderr
    )
    assert project.state.read_bytes() == before, "nothing was recorded"

    lines = [line for line in completed.stderr.splitlines() if line.startswith("kubectl ")]
    kubectl = str(programs.get("helm4") / "kubectl")
    *looks, remove = [line.replace("kubectl", kubectl, 1) for line in lines]
    output = [subprocess.run(shlex.split(line), capture_output=True, text=True) for line in looks]
    assert [one.returncode for one in output] == [0, 0, 0], [one.stderr for one in output]
    assert "no greeting here" in output[-1].stdout, "the log of the pod that failed"
    name = remove.rpartition(" ")[2]
    api = Api(kubeconfig.load(node.kubeconfig, node.context))
    kept = api.ask(api.core.read_namespace, name)
    assert (
        kept is not None
        and kept["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "pipeline-steps"
    )
    namespaces.remove(api, name)
    collected = (project.repo.root / ".pipeline/reproduced").glob("*/failures/**/*.log")
    assert any("no greeting here" in file.read_text() for file in collected)


def test_reproduce_reports_a_test_that_ends_otherwise(
    tmp_path: Path, node: Node, images: str
) -> None:
    project = Project(tmp_path, node, images, GOOD)
    assert project.tested.returncode == 0, project.tested.stderr
    completed = project.run("reproduce", "integration_test/web")
    assert completed.returncode == 0 and "equal: passes as recorded" in completed.stdout, (
        completed.stderr
    )

    from pipeline_steps.state.state import State

    fields = json.loads(project.state.read_text().splitlines()[-1])
    planted = {
        **fields,
        "result": "failed",
        "reason": "web install-default on here: timeout: slow",
        "supersedes": [],
    }
    planted["tools"] = {**fields["tools"], "kubernetes": "1.2.3"}
    State(project.state).add(
        {key: value for key, value in planted.items() if key not in ("id", "schema")}
    )
    completed = project.run("reproduce", "integration_test/web", "--last-failed")
    assert completed.returncode == 4
    assert (
        "differs: recorded failed, here passed (web install-default on here: timeout: slow)"
        in completed.stdout
    )
    assert (
        "likely cause: tool version: kubernetes" in completed.stdout
        and "recorded 1.2.3" in completed.stdout
    )


def test_reproduce_refuses_an_unknown_cluster(tmp_path: Path, node: Node, images: str) -> None:
    project = Project(tmp_path, node, images, GOOD)
    completed = project.run("reproduce", "integration_test/web", "--cluster", "nowhere")
    assert (
        completed.returncode == 2 and "no cluster nowhere in the configuration" in completed.stderr
    )
