"""The step `integration_test` on a real Kubernetes: what passes, what fails and why, and that
nothing is left.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from kubernetes.client import AppsV1Api, V1Namespace, V1ObjectMeta

from pipeline_steps.build_image import build_image
from pipeline_steps.clusters import kubeconfig, namespaces
from pipeline_steps.clusters.kubernetes import Api
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.integration_test import integration_test
from pipeline_steps.oci.registry import connect
from pipeline_steps.promote import promote
from pipeline_steps.reproduction import retesting
from pipeline_steps.snapshot import snapshot
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.tag_release import tag_release
from pipeline_steps.testing import pulls, scenario
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ChartFailed,
    EvidenceError,
    MachineError,
    Temporary,
    UsageError,
)
from tests.support import busybox
from tests.support.gits import Repo
from tests.support.helms import chart_files, helm
from tests.support.machine import SECONDS_AFTER_SIGNAL, Node

ASK = "busybox wget -qO- http://web:8080/; test $? -le 1"


@pytest.fixture
def api(node: Node) -> Api:
    return Api(kubeconfig.load(node.kubeconfig, node.context))


class Project:
    """A checkout with the chart `web` and a configuration that tests it on the node."""

    def __init__(self, folder: Path, node: Node, images: str) -> None:
        self.repo = Repo(folder / "checkout", folder / "gitconfig")
        self.images = images
        self.settings: dict[str, Any] = {
            "charts": [{"path": "charts/*"}],
            "channels": {"snapshot": {"charts": f"file://{folder}/channel"}},
            "clusters": {"here": {"kubeconfig": str(node.kubeconfig), "context": node.context}},
            "tests": {"timeout": "60s"},
        }
        self.chart()

    def chart(self, test: str = ASK, **more: str) -> None:
        for name, text in {
            **chart_files(test=test, image=f"{self.images}/web:k-1"),
            **more,
        }.items():
            self.repo.put(f"charts/web/{name}", text)

    @property
    def config(self) -> Config:
        self.repo.put("pipeline.yaml", json.dumps(self.settings))
        self.repo.commit()
        return load((), environ={}, start=self.repo.root)

    @property
    def state(self) -> State:
        return State(self.repo.root / ".pipeline/state.jsonl")

    def test(self, **options: Any) -> tuple[Record, ...]:
        config = self.config
        snapshot("web", config=config, state=self.state)
        return integration_test("web", config=config, state=self.state, **options)

    def failure(self, **options: Any) -> ChartFailed:
        with pytest.raises(ChartFailed) as caught:
            self.test(**options)
        return caught.value

    def last(self) -> Record:
        return self.state.records()[-1]

    def namespaces(self) -> list[str]:
        """Names of the namespaces that were recorded as about to be made."""
        intents = [record for record in self.state.records() if record.result == "started"]
        return [
            r.outputs["namespace"].removeprefix("here/")
            for r in intents
            if "namespace" in r.outputs
        ]


@pytest.fixture
def project(tmp_path: Path, node: Node, images: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(4)))
    return Project(tmp_path, node, images)


def bundle(project: Project) -> Path:
    (folder,) = (project.repo.root / ".pipeline/failures").iterdir()
    return folder


def going(api: Api, name: str) -> bool:
    """Whether a namespace is gone or about to go."""
    namespace = api.ask(api.core.read_namespace, name)
    return namespace is None or namespace["status"]["phase"] == "Terminating"


@pytest.mark.parametrize("major", [3, 4])
def test_every_values_file_is_a_scenario_of_its_own(
    project: Project, api: Api, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(major)))
    project.chart(**{"ci/a-values.yaml": "word: a\n", "ci/b,c-values.yaml": "word: b\n"})
    records = project.test()
    assert [record.parameters["values"] for record in records] == [
        "ci/a-values.yaml",
        "ci/b,c-values.yaml",
    ]
    assert {record.result for record in records} == {"passed"}
    ran = records[0].outputs
    assert ran["platform"].startswith("linux/")
    assert (
        ran["ran.web"] == ran["ran.ask"]
    )  # the test's pod is deleted at once, and was seen all the same
    report = ElementTree.parse(project.repo.root / ".pipeline" / next(iter(records[0].evidence)))
    assert [case.get("name") for case in report.iter("testcase")] == ["install", "web-answers"]
    assert len(project.namespaces()) == 2
    assert all(going(api, name) for name in project.namespaces())
    again = project.test()
    assert [record.id for record in again] == [record.id for record in records]


def test_arguments_for_helm_reach_the_install_and_its_reproduction(project: Project) -> None:
    wrong = '{{ if ne (print .Values.word .Values.more) "of-the-file-more" }}{{ fail .Values.word }}{{ end }}\n'
    project.chart(**{"templates/wrong.yaml": wrong, "ci/a-values.yaml": "word: of-the-scenario\n"})
    project.repo.put("ci/with,comma.yaml", "word: of-the-file\n")
    project.settings["tests"]["helm_args"] = ["--values", "ci/with,comma.yaml", "--set=more=-more"]
    (record,) = project.test()
    assert record.passed and list(record.parameters["helm_values"]) == ["ci/with,comma.yaml"]
    records_by_id = {
        record_of_state.id: record_of_state for record_of_state in project.state.records()
    }
    again = retesting.integration_test(
        record, project.config, records_by_id, cluster=None, keep=False, timeout=None
    )
    assert again.equal and not again.differences, again


def test_a_failing_test_leaves_its_log_though_its_pod_is_gone(project: Project, api: Api) -> None:
    project.chart(test="echo looking for trouble; exit 3")
    error = project.failure()
    assert (
        "test hook failed: container ask of pod web-answers ended with exit code 3; its log ends:\n"
        "  looking for trouble"
    ) in str(error)
    folder = bundle(project)
    assert error.advice == f"see .pipeline/failures/{folder.name}"
    assert (folder / "cause.txt").read_text().startswith("test hook failed: ")
    assert (folder / "logs/web-answers-ask.log").read_text() == "looking for trouble\n"
    record = project.last()
    assert record.result == "failed"
    assert f"failures/{folder.name}/cause.txt" in record.evidence
    (report,) = [name for name in record.evidence if name.startswith("junit/")]
    (failure,) = ElementTree.parse(project.repo.root / ".pipeline" / report).iter("failure")
    assert "looking for trouble" in str(failure.text)
    assert all(going(api, name) for name in project.namespaces())


def test_a_failing_test_job_leaves_its_log_too(project: Project) -> None:
    job = (
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: asks\n  annotations: {helm.sh/hook: test, "
        "helm.sh/hook-delete-policy: 'hook-failed'}\nspec:\n  backoffLimit: 0\n  template:\n    spec:\n"
        "      restartPolicy: Never\n      containers: [{name: ask, image: '{{ .Values.image }}', "
        "command: [/bin/sh, -c, 'echo from the job; exit 4']}]\n"
    )
    project.chart(**{"templates/tests/answers.yaml": job})
    message = str(project.failure())
    assert "test job failed: container ask of pod asks-" in message and "  from the job" in message
    (log,) = (bundle(project) / "logs").glob("asks-*-ask.log")
    assert log.read_text() == "from the job\n"


def test_a_chart_that_does_not_come_up_says_why(project: Project) -> None:
    project.settings["tests"]["timeout"] = "7s"
    project.chart(
        **{
            "ci/crash-values.yaml": 'command: "echo boom; exit 7"\n',
            "ci/deaf-values.yaml": 'command: "sleep 100"\n',
            "ci/nowhere-values.yaml": f"image: {project.images}/web:no-such\n",
        }
    )
    message = str(project.failure())
    assert "3 of 3 scenarios did not pass" in message
    assert "crash loop: container web of pod" in message and "exit code 7" in message
    assert "readiness: container web of pod" in message and "Readiness probe failed" in message
    assert "image pull: pod" in message and "no-such: not found" in message


def test_a_refused_pull_ends_a_scenario_long_before_its_timeout(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """No later try can succeed: 918 seconds were waited for a tag that was nowhere."""
    caplog.set_level("INFO")
    project.settings["tests"]["timeout"] = "5m"
    project.chart(**{"ci/x-values.yaml": f"image: {project.images}/web:no-such\n"})
    start = time.monotonic()
    error = project.failure()
    assert "image pull: pod web-" in str(error) and "no-such: not found" in str(error)
    assert time.monotonic() - start < 150, "three reports of the kubelet and 15 seconds"


def test_a_crash_loop_is_said_at_once_and_ends_the_scenario_with_fail_fast(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    project.settings["tests"].update(timeout="5m", fail_fast=True)
    project.chart(**{"ci/x-values.yaml": 'command: "echo boom; exit 7"\n'})
    start = time.monotonic()
    assert "crash loop: container web of pod web-" in str(project.failure())
    assert time.monotonic() - start < 100
    assert "ended with exit code 7 and is restarted" in caplog.text


def test_a_registry_that_is_gone_is_not_the_charts_fault(project: Project) -> None:
    project.settings["tests"]["timeout"] = "5s"
    project.chart(**{"ci/x-values.yaml": "image: 127.0.0.1:9/web:1\n"})
    with pytest.raises(
        Temporary, match=r"registry: pod web-.* cannot get 127.0.0.1:9/web:1"
    ) as caught:
        project.test(retry_infrastructure=1)
    assert caught.value.exit_code == 75
    results = [
        record.result for record in project.state.records() if record.step == "integration_test"
    ]
    assert results == ["started", "infrastructure"] * 2


def test_a_test_fails_when_the_built_image_did_not_run(project: Project) -> None:
    busybox.push(project.images, "other", label="another one")
    project.settings["charts"][0]["images"] = {"web": {"image": "{reference}"}}
    project.settings["images"] = {"web": {"existing": f"{project.images}/web:k-1"}}
    project.chart(
        "true",
        **{
            "ci/with-values.yaml": "word: a\n",
            "ci/without-values.yaml": f"image: {project.images}/other:k-1\n",
        },
    )
    build_image("web", config=project.config, state=project.state)
    for record in project.test():  # each scenario is asked for the images that it renders
        ran_built = record.outputs["ran.web"] == record.inputs["image:web"]
        assert ran_built == (record.parameters["values"] == "ci/with-values.yaml")
    project.chart("true", **{"ci/with-values.yaml": f"image: {project.images}/other:k-1\n"})
    error = project.failure()
    assert "2 of 2 scenarios did not pass" in str(error)
    assert "image not run: of image web what was built never ran; what ran: " in str(error)
    assert "/other:k-1 (sha256:" in str(error)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"templates/tests/answers.yaml": ""}, "the chart has no test: add a pod or job"),
        (
            {"templates/tests/answers.yaml": "", "templates/deployment.yaml": ""},
            "the chart renders nothing at all",
        ),
    ],
)
def test_a_chart_without_tests_fails(project: Project, files: dict[str, str], told: str) -> None:
    project.chart(**files)
    assert told in str(project.failure())


def test_a_chart_with_tests_none_passes_without_a_cluster(project: Project) -> None:
    project.settings["tests"]["none"] = "tested through its dependents"
    del project.settings["clusters"]
    (record,) = project.test()
    assert record.passed
    assert record.parameters == {"scenario": "none", "none": "tested through its dependents"}
    assert project.test() == (record,)


def test_a_given_namespace_stays_and_is_left_clean(project: Project, api: Api) -> None:
    project.settings["tests"]["namespace"] = "given"
    with pytest.raises(MachineError, match="namespace given does not exist"):
        project.test()
    api.once(api.core.create_namespace, V1Namespace(metadata=V1ObjectMeta(name="given")))
    try:
        project.chart(test="true")
        assert project.test()[0].passed
        assert not going(api, "given")
        assert list(api.items(AppsV1Api(api.client).list_namespaced_deployment, "given")) == []
    finally:
        api.ask(api.core.delete_namespace, "given")


def test_a_test_namespace_has_labels_of_its_owner(project: Project, api: Api) -> None:
    project.chart(test="sleep 2")
    seen: list[dict[str, Any]] = []
    with start(project) as process:
        while process.poll() is None:
            seen += [api.ask(api.core.read_namespace, name) or {} for name in project.namespaces()]
            time.sleep(0.2)
    assert process.returncode == 0
    metadata = next(each["metadata"] for each in seen if each)
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "pipeline-steps"
    assert metadata["labels"]["pipeline-steps/owner"]
    assert metadata["annotations"]["pipeline-steps/expires-after"] == "3720s"


def test_sigterm_ends_the_step_at_once_and_leaves_nothing_running(
    project: Project, api: Api
) -> None:
    project.chart(test="sleep 30")
    with start(project) as process:
        wait_for(
            lambda: (
                project.namespaces() and api.ask(api.core.read_namespace, project.namespaces()[0])
            )
        )
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        process.wait(timeout=60)
    assert time.monotonic() - begin < SECONDS_AFTER_SIGNAL
    assert process.returncode == 143
    assert project.last().result == "interrupted"
    assert going(api, project.namespaces()[0])


def start(project: Project) -> subprocess.Popen[str]:
    snapshot("web", config=project.config, state=project.state)
    command = [sys.executable, "-m", "pipeline_steps.integration_test", "--chart", "web"]
    return subprocess.Popen(command, cwd=project.repo.root, text=True)


def wait_for(holds: Any) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def test_integration_test_without_snapshot_ends_with_4(project: Project) -> None:
    with pytest.raises(
        EvidenceError, match=r"no snapshot of chart web with this content.*"
    ) as caught:
        integration_test("web", config=project.config, state=project.state)
    assert "pipeline-steps snapshot --chart web" in caught.value.advice


def test_integration_test_with_several_clusters_needs_a_choice(project: Project) -> None:
    with pytest.raises(UsageError, match=r"no cluster there in the configuration .there are: here"):
        project.test(cluster="there")
    project.settings["clusters"]["other"] = project.settings["clusters"]["here"]
    with pytest.raises(UsageError, match=r"several clusters are configured .here, other"):
        project.test()
    project.settings["clusters"] = {}
    with pytest.raises(UsageError, match="no cluster to test web on"):
        project.test()


def test_no_answer_wrong_login_and_unknown_authority_are_told_apart(
    project: Project, node: Node, tmp_path: Path
) -> None:
    kubeconfig_text = node.kubeconfig.read_text()
    server = kubeconfig.load(node.kubeconfig, node.context).server
    project.settings["clusters"]["here"] = {"kubeconfig": str(tmp_path / "broken")}
    (tmp_path / "broken").write_text(kubeconfig_text.replace(server, "https://127.0.0.1:9"))
    with pytest.raises(MachineError, match=r"the cluster's API server does not answer.*") as caught:
        project.test()
    assert "https://127.0.0.1:9" in str(caught.value) and "this machine reaches it" in str(
        caught.value
    )
    token = kubeconfig.load(node.kubeconfig, node.context).token
    assert token
    (tmp_path / "broken").write_text(kubeconfig_text.replace(token, "wrong"))
    with pytest.raises(AccessRefused, match="401") as refused:
        project.test()
    assert token not in str(refused.value)
    lines = [line for line in kubeconfig_text.splitlines() if "certificate-authority" not in line]
    (tmp_path / "broken").write_text("\n".join(lines))
    with pytest.raises(MachineError, match="certificate of the API server is not trusted"):
        project.test()
    assert project.last().result == "infrastructure"


def test_a_login_for_pulls_reaches_the_pods(api: Api) -> None:
    """The default service account of a fresh namespace carries it."""
    name = namespaces.fresh_name("pull")
    namespaces.create(api, name, owner="me", chart="pull", build=None, expires_after=60)
    try:
        namespaces.add_pull_secret(api, name, {"registry.example.com": ("me", "secret-word")})
        account = api.ask(api.core.read_namespaced_service_account, "default", name)
        assert account is not None
        assert account["imagePullSecrets"] == [{"name": "pipeline-steps-pull"}]
    finally:
        namespaces.remove(api, name)


def test_nodes_may_report_any_part_of_an_image(images: str) -> None:
    manifest = busybox.push(images, "many")
    index = busybox.push_index(images, "many", "both", [manifest])
    stored = connect(f"{images}/many", {}).manifest("many", manifest)
    assert stored
    config = json.loads(stored.body)["config"]["digest"]
    assert pulls.image_digests(f"{images}/many@{index}", {}) == {index, manifest, config}
    assert (
        scenario.images_not_run(
            {"many": index},
            {config},
            lambda name: pulls.image_digests(f"{images}/{name}@{index}", {}),
        )
        == []
    )


HELMS = pytest.mark.parametrize("major", [3, 4])
FROM_LOOKUP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-more"}
data:
  a: b
{{ if lookup "v1" "Namespace" "" "kube-system" }}{{ if contains "-0." .Chart.Version }}
  debug: "on"
{{ end }}{{ end }}
"""
IN_UPGRADES = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-more"}
data:
  debug: "{{ and .Release.IsUpgrade (contains "-0." .Chart.Version) }}"
"""
IN_HOOKS = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: hook, annotations: {helm.sh/hook: pre-install}}
data:
  debug: "{{ contains "-0." .Chart.Version }}"
"""
BY_CHANCE = """\
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}"}
stringData:
  password: {{ randAlphaNum 20 | quote }}
"""
KIND = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: KINDs.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: KIND, plural: KINDs, singular: KIND}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
"""
OF_KIND = """\
{{- if .Capabilities.APIVersions.Has "example.com/v1/KIND" }}
apiVersion: example.com/v1
kind: KIND
metadata: {name: "{{ .Release.Name }}", labels: {version: "{{ .Chart.Version }}"}}
{{- end }}
"""


def release(project: Project, **more: Any) -> None:
    """Let the project's chart be released into a folder."""
    folder = project.repo.root.parent / "released"
    folder.mkdir()
    production = {"charts": f"file://{folder}", "requires": ["integration_test"], **more}
    project.settings["channels"]["production"] = production


@HELMS
@pytest.mark.parametrize(
    ("template", "place"),
    [
        (FROM_LOOKUP, "as an install on this cluster .* web/templates/more.yaml:5"),
        (IN_UPGRADES, "as an upgrade on this cluster .* web/templates/more.yaml:5"),
        (IN_HOOKS, "as an install on this cluster .* web/templates/more.yaml:5"),
    ],
    ids=["lookup", "upgrade", "hook"],
)
def test_a_test_fails_when_the_release_renders_something_else(
    project: Project,
    api: Api,
    major: int,
    template: str,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(major)))
    project.chart(**{"templates/more.yaml": template})
    assert re.search(f"rendering: {place}", str(project.failure()))
    record = project.last()
    assert record.result == "failed" and "debug" not in str(record)
    assert all(going(api, name) for name in project.namespaces())


@HELMS
def test_a_chart_with_passwords_by_chance_is_released(
    project: Project, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(major)))
    release(project)
    labelled = BY_CHANCE.replace('"}', '", labels: {version: "{{ .Chart.Version }}"}}', 1)
    project.chart(**{"templates/secret.yaml": labelled})
    (record,) = project.test()
    assert record.parameters["rendering"]["install"] == record.parameters["rendering"]["upgrade"]
    assert record.parameters["rendering"]["install"] == {
        "allowed": ["web/templates/secret.yaml:3", "web/templates/secret.yaml:5"], "refused": [],
    }  # fmt: skip
    digests = {
        name: record.outputs[f"rendered.{name}"] for name in ("install.tested", "install.derived")
    }
    assert len(set(digests.values())) == 2 and all(
        value.startswith("sha256:") for value in digests.values()
    )
    tag_release("web", config=project.config, state=project.state, local=True)
    promoted = promote("web", config=project.config, state=project.state)
    assert isinstance(promoted, Record) and promoted.outputs["tar"] == record.outputs["derived.tar"]


@HELMS
def test_a_chart_that_uses_its_own_kinds_is_rendered_when_they_are_there(
    project: Project, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(major)))
    kind = f"thing{major}{time.time_ns()}"
    project.chart(
        **{
            "crds/kind.yaml": KIND.replace("KIND", kind),
            "templates/own.yaml": OF_KIND.replace("KIND", kind),
        }
    )
    (record,) = project.test()
    assert record.parameters["rendering"]["install"]["allowed"] == ["web/templates/own.yaml:3"]


def test_tag_release_refuses_a_test_of_another_derived_chart(project: Project) -> None:
    release(project)
    (record,) = project.test()
    fields = {
        name: getattr(record, name)
        for name in ("step", "subject", "key", "content", "parameters", "inputs")
    }
    other = {"derived.tar": "sha256:" + "0" * 64}
    project.state.add(
        {**fields, "uses": list(record.uses), "result": "passed", "started": record.started, "outputs": other,
         "supersedes": [record.id]}
    )  # fmt: skip
    with pytest.raises(
        EvidenceError, match="rendered another chart than would be released"
    ) as caught:
        tag_release("web", config=project.config, state=project.state, local=True)
    assert "integration_test --again" in caught.value.advice


def test_other_image_names_in_production_need_a_new_test(project: Project) -> None:
    project.settings["charts"][0]["images"] = {"web": {"image": "{reference}"}}
    project.settings["images"] = {"web": {"existing": f"{project.images}/web:k-1"}}
    project.settings["channels"]["snapshot"]["images"] = f"{project.images}/snapshot"
    build_image("web", config=project.config, state=project.state)
    (record,) = project.test()
    assert "channels.production.images is not set" in record.parameters["rendering"]["derived"]
    assert record.parameters["rendering"]["install"]["allowed"] == []
    release(project, images=f"{project.images}/production")
    (again,) = project.test()
    assert again.id != record.id and again.outputs["derived.tar"] != record.outputs["derived.tar"]
    assert "web/templates/deployment.yaml:12" in again.parameters["rendering"]["install"]["allowed"]


def test_a_release_of_names_that_no_test_rendered_is_refused(project: Project) -> None:
    """A tag of format 1 gives an image of several charts other names than the tests rendered: the
    chart with these was only compared offline.
    """
    project.settings["charts"][0]["images"] = {"web": {"image": "{reference}"}}
    project.settings["images"] = {"web": {"existing": f"{project.images}/web:k-1"}}
    project.settings["channels"]["snapshot"]["images"] = f"{project.images}/snapshot"
    for name, text in chart_files(image=f"{project.images}/web:k-1").items():
        project.repo.put(f"charts/other/{name}", text.replace("name: web", "name: other"))
    release(project, images=f"{project.images}/production")
    build_image("web", config=project.config, state=project.state)
    project.test()
    message = f"Pipeline-Content: web 0.1.0 sha256:{'0' * 64}"
    project.repo.git("tag", "-a", "-m", message, "web-0.1.0")
    with pytest.raises(EvidenceError, match="has no Pipeline-Format line") as caught:
        promote("web", config=project.config, state=project.state, tag="web-0.1.0")
    assert 'release.image_tag: "{version}"' in caught.value.advice
    assert list((project.repo.root.parent / "released").iterdir()) == []

    project.settings["release"] = {"image_tag": "{version}"}
    project.test()
    config = load((), environ={}, start=project.repo.root)
    project.repo.git("tag", "-f", "-a", "-m", message, "web-0.1.0")
    released = promote("web", config=config, state=project.state, tag="web-0.1.0")
    assert isinstance(released, Record)
    assert f"{project.images}/production/web:0.1.0@sha256:" in released.outputs["image:web"]
