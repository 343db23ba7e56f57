"""The step `deploy` on a real Kubernetes with helm 3 and 4: what is installed, what is gone back to,
what is kept of it, and what the next one does after one that died.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import V1Namespace, V1ObjectMeta

from pipeline_steps.build_image import build_image
from pipeline_steps.clusters import kubeconfig, lease, namespaces
from pipeline_steps.clusters.helm import Helm, Target
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.deploy import deploy
from pipeline_steps.deployments import revision_secrets
from pipeline_steps.deployments.revisions import Revision
from pipeline_steps.integration_test import integration_test
from pipeline_steps.promote import promote
from pipeline_steps.snapshot import snapshot
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.tag_release import tag_release
from pipeline_steps.toolbox.clock import Deadline
from pipeline_steps.toolbox.errors import (
    ChartFailed,
    EvidenceError,
    MachineError,
    Temporary,
    UsageError,
)
from pipeline_steps.toolbox.files import sha256
from tests.faults.kills import descendants
from tests.support.gits import Repo
from tests.support.helms import chart_files, helm
from tests.support.machine import SECONDS_AFTER_SIGNAL, Node


@pytest.fixture
def api(node: Node) -> Api:
    return Api(kubeconfig.load(node.kubeconfig, node.context))


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    name = f"team-{secrets.token_hex(4)}"
    api.once(api.core.create_namespace, V1Namespace(metadata=V1ObjectMeta(name=name)))
    yield name
    namespaces.remove(api, name)


class Project:
    """A checkout with the chart `web` and a deployment of it, `web-a`."""

    def __init__(self, folder: Path, node: Node, images: str, namespace: str) -> None:
        self.repo = Repo(folder / "checkout", folder / "gitconfig")
        self.images = images
        self.target = Target(node.kubeconfig, node.context, namespace, "web")
        self.settings: dict[str, Any] = {
            "charts": [{"path": "charts/*"}],
            "channels": {"snapshot": {"charts": f"file://{folder}/channel"}},
            "clusters": {"here": {"kubeconfig": str(node.kubeconfig), "context": node.context}},
            "tests": {"timeout": "90s"},
            "deployments": {
                "web-a": {
                    "chart": "web",
                    "cluster": "here",
                    "namespace": namespace,
                    "release": "web",
                    "values": ["env/a.yaml"],
                }
            },
        }
        self.chart()
        self.repo.put("env/a.yaml", "word: first\n")

    @property
    def deployment(self) -> dict[str, Any]:
        entry: dict[str, Any] = self.settings["deployments"]["web-a"]
        return entry

    def chart(self, test: str = "true", **more: str) -> None:
        files = {**chart_files(test=test, image=f"{self.images}/web:k-1"), **more}
        for name, text in files.items():
            self.repo.put(f"charts/web/{name}", text)

    def config(self, *, commit: bool = True) -> Config:
        self.repo.put("pipeline.yaml", json.dumps(self.settings))
        if commit:
            self.repo.commit()
        return load((), environ={}, start=self.repo.root)

    @property
    def state(self) -> State:
        return State(self.repo.root / ".pipeline/state.jsonl")

    def deploy(self, *, commit: bool = True, **options: Any) -> Record | tuple[Record, ...]:
        return deploy(config=self.config(commit=commit), state=self.state, **options)

    def record(self, **options: Any) -> Record:
        record = self.deploy(**options)
        assert isinstance(record, Record)
        return record

    def last(self) -> Record:
        return self.state.records()[-1]

    def process(self, *words: str, commit: bool = True) -> subprocess.Popen[str]:
        """The step as a process of its own."""
        self.config(commit=commit)
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline_steps", "deploy", *words],
            cwd=self.repo.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(params=[3, 4], ids=["helm3", "helm4"])
def project(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    node: Node,
    images: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(request.param)))
    return Project(tmp_path, node, images, namespace)


def revisions(api: Api, project: Project) -> list[Revision]:
    return revision_secrets.read(api, project.target)


def running_word(api: Api, project: Project) -> str:
    """The label that the chart takes from its values, as the cluster has it."""
    from kubernetes.client import AppsV1Api

    read = AppsV1Api(api.client).read_namespaced_deployment
    return str((api.ask(read, "web", project.target.namespace) or {})["metadata"]["labels"]["word"])


def test_a_chart_is_installed_upgraded_and_undone(project: Project, api: Api) -> None:
    first = project.record()
    assert first.outputs["release"] == f"here/{project.target.namespace}/web:1"
    project.repo.put("env/a.yaml", "word: second\n")
    second = project.record()
    assert running_word(api, project) == "second"
    assert second.outputs["release"].endswith("/web:2")
    assert project.record().outputs["release"].endswith("/web:2"), "it runs already"
    again = project.record(again=True)
    assert again.outputs["release"].endswith("/web:3")
    project.repo.put("env/a.yaml", "word: third\n")
    project.record()
    undone = project.record(undo=True)
    assert running_word(api, project) == "second" and undone.revision == again.revision
    project.record(undo=True)
    project.record(undo=True)
    assert running_word(api, project) == "first", "undone again, it goes further back"
    with pytest.raises(UsageError, match="there is no good revision before what runs"):
        project.deploy(undo=True)
    made = revisions(api, project)
    assert [each.origin for each in made] == [1, 2, 3, 4, 3, 2, 1]
    assert all(each.notes and each.notes.result == "passed" for each in made)


def test_modifications_are_refused_or_kept_with_the_release(project: Project, api: Api) -> None:
    project.config()
    project.repo.put("charts/web/values.yaml", f"image: {project.images}/web:k-1\nword: mine\n"
                     "command: httpd -f -p 8080\npassword: hunter22\n")  # fmt: skip
    project.repo.put("env/a.yaml", "{}\n")
    with pytest.raises(
        EvidenceError, match=r"local modifications: charts/web/values.yaml, env/a.yaml \(commit"
    ):
        project.deploy(commit=False)
    assert revisions(api, project) == []
    record = project.record(commit=False, modified=True)
    assert running_word(api, project) == "mine"
    (made,) = revisions(api, project)
    assert made.notes is not None
    assert made.notes.revision == record.revision == project.repo.git("rev-parse", "HEAD")
    assert made.notes.modified == ("charts/web/values.yaml", "env/a.yaml")
    assert "+word: mine" in made.notes.diff and "hunter22" not in made.notes.diff
    assert made.notes.content == record.content and ".dirty" in made.release.version


def test_a_failed_upgrade_goes_back_and_a_failed_install_goes_away(
    project: Project, api: Api
) -> None:
    project.chart("exit 3")
    with pytest.raises(ChartFailed, match="it is uninstalled again"):
        project.deploy()
    assert revisions(api, project) == []
    assert project.last().result == "failed" and project.last().evidence
    project.chart()
    project.record()
    project.repo.put("env/a.yaml", "word: second\n")
    project.chart("exit 3")
    with pytest.raises(
        ChartFailed, match=r"it is rolled back to revision 1 \(web 0.1.0-"
    ) as caught:
        project.deploy()
    assert "see .pipeline/failures/deploy-web-a-" in str(caught.value)
    assert running_word(api, project) == "first"
    made = revisions(api, project)
    assert [(each.origin, each.is_good) for each in made] == [(1, True), (2, False), (1, True)]


def test_a_failure_is_kept_where_people_want_to_look(project: Project, api: Api) -> None:
    project.deployment["on_failure"] = "keep"
    project.record()
    project.repo.put("env/a.yaml", "word: second\n")
    project.chart("exit 3")
    with pytest.raises(ChartFailed, match="it is kept as it is"):
        project.deploy()
    assert running_word(api, project) == "second"
    project.chart()
    project.record()
    project.record(undo=True)
    assert running_word(api, project) == "first", "what failed its tests is nothing to go back to"


def test_a_plan_shows_what_would_change_without_secrets(
    project: Project, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pipeline_steps")
    secret = 'apiVersion: v1\nkind: Secret\nmetadata: {name: web}\nstringData: {key: "{{ .Values.word }}-s3cret"}\n'
    project.chart(**{"templates/secret.yaml": secret})
    assert project.deploy(plan=True) == ()
    assert "it replaces nothing" in caplog.text and "--- Deployment" in caplog.text
    assert (
        revisions(api, project) == [] and lease.holder(api, project.target.namespace, "x") is None
    )
    project.record()
    caplog.clear()
    project.deploy(plan=True)
    assert "nothing would change" in caplog.text
    project.repo.put("env/a.yaml", "word: second\n")
    caplog.clear()
    project.deploy(plan=True)
    assert "+    word: second" in caplog.text and "2 resources would change" in caplog.text
    assert "+  key: hidden:" in caplog.text and "s3cret" not in caplog.text
    assert len(revisions(api, project)) == 1


def test_status_is_asked_of_the_cluster(
    project: Project, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    made = project.record()
    (project.repo.root / ".pipeline/state.jsonl").unlink()
    (row,) = project.record(status=True).parameters["deployments"]
    assert row["status"] == "deployed" and row["content"] == made.content
    assert row["source"] == f"git {made.revision}" and row["result"] == "passed"
    assert row["by"].startswith(f"{made.actor}@")
    subprocess.run(
        [str(Helm.find().program), "--kubeconfig", project.target.kubeconfig, "--namespace",
         project.target.namespace, "upgrade", "web", project.repo.root / "charts/web"],
        check=True, capture_output=True,
    )  # fmt: skip
    (row,) = project.record(status=True).parameters["deployments"]
    assert row["by"] == "by hand: not with pipeline-steps" and "content" not in row


def test_images_are_those_that_were_built(project: Project, api: Api) -> None:
    project.settings["charts"][0]["images"] = {"web": {"image": "{reference}"}}
    project.settings["images"] = {"web": {"existing": f"{project.images}/web:k-1"}}
    with pytest.raises(EvidenceError, match="run pipeline-steps build_image first"):
        project.deploy()
    build_image("web", config=project.config(), state=project.state)
    record = project.record()
    assert record.inputs["image:web"].startswith("sha256:")
    (made,) = revisions(api, project)
    assert made.notes is not None and made.notes.images["web"].endswith(record.inputs["image:web"])


def test_a_namespace_that_does_not_exist_is_not_made(project: Project, api: Api) -> None:
    project.deployment["namespace"] = "no-such-team"
    with pytest.raises(MachineError, match="kubectl create namespace no-such-team"):
        project.deploy()
    assert api.ask(api.core.read_namespace, "no-such-team") is None


def test_whoever_comes_second_waits_or_is_told_who_is_at_work(
    project: Project, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    name = "pipeline-steps-web"
    with lease.hold(api, project.target.namespace, name, "alice@laptop/1", Deadline(9)):
        with pytest.raises(Temporary, match=r"alice@laptop/1 holds the lease .* since 20"):
            project.deploy(timeout=3)
        first = project.process("--verbose")
        assert first.stderr is not None
        assert any("waiting for alice@laptop/1" in line for line in first.stderr)
        assert first.poll() is None
    _, talk = first.communicate(timeout=600)
    assert first.returncode == 0, talk


def test_a_dead_deployer_is_taken_over_from(project: Project, api: Api) -> None:
    """Its lease ends by the server's clock, its release is mended, no Secret of helm is deleted."""
    project.record()
    project.repo.put("env/a.yaml", "word: second\n")
    project.chart(**{"values.yaml": f"image: {project.images}/web:k-1\ncommand: sleep 300\n"})
    child = project.process()
    wait_for(lambda: revisions(api, project)[-1].release.status == "pending-upgrade")
    child.kill()
    child.communicate()
    # The kernel ends helm with the process that started it, but not before that has been waited for.
    wait_for(lambda: not helms_in(project.target.namespace))
    assert lease.holder(api, project.target.namespace, "pipeline-steps-web")
    project.chart()
    record = project.record()
    assert record.passed and running_word(api, project) == "second"
    made = revisions(api, project)
    assert [each.release.status for each in made] == [
        "superseded",
        "pending-upgrade",
        "superseded",
        "deployed",
    ]
    assert [each.origin for each in made] == [1, 2, 1, 4]


def test_a_dead_first_install_is_removed_and_installed_again(project: Project, api: Api) -> None:
    project.chart(**{"values.yaml": f"image: {project.images}/web:k-1\ncommand: sleep 300\n"})
    child = project.process()
    wait_for(
        lambda: [each.release.status for each in revisions(api, project)] == ["pending-install"]
    )
    child.kill()
    child.communicate()
    project.chart()
    assert project.record().outputs["release"].endswith("/web:1")
    assert revisions(api, project)[-1].release.status == "deployed"


def test_a_foreign_helm_at_work_is_left_alone(project: Project, api: Api) -> None:
    project.record()
    command = [
        str(Helm.find().program), "--kubeconfig", str(project.target.kubeconfig), "--namespace",
        project.target.namespace, "upgrade", "web", str(project.repo.root / "charts/web"),
        "--wait", "--set", "command=sleep 300", "--timeout", "60s",
    ]  # fmt: skip
    foreign = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: revisions(api, project)[-1].release.status == "pending-upgrade")
        for _ in range(2):  # who only waited leaves nothing that the next takes for its own
            with pytest.raises(
                Temporary, match=r"is pending-upgrade since .*that no deploy started"
            ):
                project.deploy(timeout=4, again=True)
        assert len(revisions(api, project)) == 2
    finally:
        foreign.kill()
        foreign.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_deploy_soon_and_the_next_goes_on(
    project: Project, api: Api, number: signal.Signals
) -> None:
    project.record()
    project.chart(**{"values.yaml": f"image: {project.images}/web:k-1\ncommand: sleep 300\n"})
    child = project.process()
    wait_for(lambda: len(revisions(api, project)) == 2)
    began = time.monotonic()
    child.send_signal(number)
    child.communicate(timeout=60)
    assert child.returncode == 128 + number and time.monotonic() - began < SECONDS_AFTER_SIGNAL
    assert project.last().result == "interrupted"
    assert lease.holder(api, project.target.namespace, "pipeline-steps-web") is None
    project.chart()
    assert project.record().passed
    assert running_word(api, project) == "first"


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.2)


def helms_in(namespace: str) -> list[str]:
    """The command lines of helm processes that upgrade a release in a namespace."""
    command_lines = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if Path(words[0]).name == "helm" and "upgrade" in words and namespace in words:
                command_lines.append(" ".join(words))
    return command_lines


def test_a_chart_from_a_repository_is_deployed_with_its_evidence_only(
    project: Project, api: Api, tmp_path: Path
) -> None:
    """Byte for byte, when what `verify` asks for holds."""
    snapshots, released = f"file://{tmp_path}/channel", f"file://{tmp_path}/released"
    project.settings["channels"] = {
        "snapshot": {"charts": snapshots},
        "production": {"charts": [released], "requires": ["integration_test"]},
    }
    config = project.config()
    snapshot("web", config=config, state=project.state)
    integration_test("web", config=config, state=project.state)
    tag_release("web", config=config, state=project.state, local=True)
    promote("web", config=config, state=project.state)
    reference = f"{released}/web-0.1.0.tgz"
    project.deployment.update(chart=reference, values=[])
    assert project.record().inputs["chart"] in sha256(
        (tmp_path / "released/web-0.1.0.tgz").read_bytes()
    )
    (made,) = revisions(api, project)
    assert made.notes is not None and made.notes.source.startswith(f"{reference}@sha256:")
    (project.repo.root / ".pipeline/state.jsonl").unlink()
    with pytest.raises(EvidenceError, match=r"links do not hold.*pipeline-steps verify file://"):
        project.deploy(again=True)
    assert len(revisions(api, project)) == 1


def test_no_secret_is_in_the_command_line_of_a_child(project: Project) -> None:
    """Neither what the kubeconfig holds nor what values and modifications say."""
    project.config()
    project.repo.put("env/a.yaml", "word: first\npassword: s3cret-of-values\n")
    child = project.process("--modified", commit=False)
    seen: set[str] = set()
    while child.poll() is None:
        for pid in descendants(child.pid):
            with contextlib.suppress(OSError):
                seen.add(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"))
    talk = child.communicate()[1]
    assert child.returncode == 0, talk
    connection = kubeconfig.load(project.target.kubeconfig, project.target.context)
    held = [
        connection.token,
        *map(bytes.decode, filter(None, (connection.key, connection.certificate))),
    ]
    words = "\n".join(seen)
    assert "upgrade" in words or "install" in words
    for secret in ("s3cret-of-values", *filter(None, held)):
        assert secret not in words
