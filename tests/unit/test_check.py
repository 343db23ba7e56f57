"""The step `check` over a real git checkout with a real helm."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline_steps.check import check
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ChartFailed, ConfigurationError
from tests.support.gits import Repo
from tests.support.helms import chart_files, helm


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(4)))
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    repo.put("pipeline.yaml", "charts:\n  - path: charts/*\n")
    for name, text in chart_files().items():
        repo.put(f"charts/web/{name}", text)
    repo.commit()
    return repo


def config_of(repo: Repo) -> Config:
    return load((), environ={}, start=repo.root)


def run(repo: Repo, chart: str = "web") -> Record:
    config = config_of(repo)
    record = check(chart, config=config, state=State(config.root / ".pipeline/state.jsonl"))
    assert isinstance(record, Record)
    return record


def test_a_good_chart_passes_and_leaves_a_report(repo: Repo) -> None:
    repo.put("charts/web/ci/tls-values.yaml", "word: tls\n")
    record = run(repo)
    assert record.passed
    assert record.parameters["values"] == ["ci/tls-values.yaml"]
    assert record.tools["helm"].startswith("4.")
    (report,) = record.evidence
    cases = ElementTree.parse(repo.root / ".pipeline" / report).findall(".//testcase")
    assert [case.get("name") for case in cases] == [
        "lint with ci/tls-values.yaml", "render with ci/tls-values.yaml",
    ]  # fmt: skip


def test_check_reports_failures_with_their_place(repo: Repo) -> None:
    repo.put("charts/web/templates/bad.yaml", "a: 1\nb: {{ .Values.no.such }}\n")
    repo.put("charts/web/ci/wrong-values.yaml", "word: 1\n")
    with pytest.raises(ChartFailed) as caught:
        run(repo)
    assert caught.value.exit_code == 8
    assert "word" in str(caught.value)
    repo.put("charts/web/ci/wrong-values.yaml", "word: right\n")
    with pytest.raises(ChartFailed, match=r"2 of 2 checks failed") as caught:
        run(repo)
    assert "charts/web/templates/bad.yaml:2:" in str(caught.value)
    state = State(repo.root / ".pipeline/state.jsonl")
    assert [record.result for record in state.records()] == ["failed", "failed"]


def test_required_values_fail_though_lint_lets_them_pass(repo: Repo) -> None:
    repo.put(
        "charts/web/templates/need.yaml", 'a: {{ required "word2 is needed" .Values.word2 }}\n'
    )
    with pytest.raises(ChartFailed, match="word2 is needed"):
        run(repo)


def test_subcharts_of_the_checkout_are_there(repo: Repo) -> None:
    repo.put(
        "charts/common/Chart.yaml", "apiVersion: v2\nname: common\nversion: 0.1.0\ntype: library\n"
    )
    repo.put("charts/common/templates/_x.tpl", '{{ define "common.word" }}shared{{ end }}\n')
    text = (repo.root / "charts/web/Chart.yaml").read_text()
    text += "dependencies:\n  - {name: common, version: 0.1.0, repository: file://../common}\n"
    repo.put("charts/web/Chart.yaml", text)
    repo.put("charts/web/templates/cm.yaml", 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n'
             'data: {a: {{ include "common.word" . }}}\n')  # fmt: skip
    repo.commit()
    assert run(repo).passed
    assert run(repo, "common").passed


def test_check_warns_of_other_content_under_a_released_version(
    repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    repo.git("tag", "web-0.1.0")
    assert run(repo).passed
    repo.put("charts/web/values.yaml", "image: other\n")
    repo.commit()
    assert run(repo).passed
    assert re.search(
        r"version 0\.1\.0 is released \(tag web-0\.1\.0 at [0-9a-f]{12}\)", caplog.text
    )
    assert "changed since: charts/web/values.yaml" in caplog.text
    assert "pipeline-steps bump --chart web" in caplog.text
    caplog.clear()
    repo.put("charts/web/Chart.yaml", chart_files(version="0.1.1")["Chart.yaml"])
    assert run(repo).passed and "is released" not in caplog.text


def test_own_commands_run_without_a_shell(repo: Repo) -> None:
    commands = ["test -f {chart}/Chart.yaml", """sh -c 'echo "$0 is wrong"; exit 3' '$(id)'"""]
    repo.put(
        "pipeline.yaml",
        f"charts: [{{path: charts/*}}]\ncheck: {{commands: {json.dumps(commands)}}}\n",
    )
    with pytest.raises(ChartFailed, match="1 of 4 checks failed") as caught:
        run(repo)
    assert "exit code 3" in str(caught.value)
    assert "$(id) is wrong" in str(caught.value)


def test_lint_and_rendering_get_what_tests_give_to_helm(repo: Repo) -> None:
    repo.put(
        "charts/web/templates/need.yaml",
        '{{ if ne .Values.word2 "x" }}{{ fail "word2" }}{{ end }}\n',
    )
    repo.put(
        "charts/web/templates/odd.yaml",
        '{{ if ne .Values.odd "from, file" }}{{ fail "odd" }}{{ end }}\n',
    )
    repo.put("ci/with,comma.yaml", "odd: from, file\nword2: of the file\n")
    arguments = ["--values=ci/with,comma.yaml", "--set", "word2=x"]
    repo.put(
        "pipeline.yaml",
        json.dumps({"charts": [{"path": "charts/*"}], "tests": {"helm_args": arguments}}),
    )
    record = run(repo)
    assert record.passed and record.parameters["helm_args"] == [
        "--values=ci/with,comma.yaml",
        "--set=word2=x",
    ]
    repo.put("ci/with,comma.yaml", "odd: from, file\n")
    assert run(repo).key != record.key
    repo.put(
        "pipeline.yaml",
        "charts: [{path: charts/*}]\ntests: {helm_args: [--values, ci/gone.yaml]}\n",
    )
    with pytest.raises(
        ConfigurationError,
        match=r"ci/gone\.yaml: tests\.helm_args names this file, but the source does not",
    ):
        run(repo)
    repo.put(
        "pipeline.yaml",
        "charts: [{path: charts/*}]\ntests: {helm_args: [--values, ../outside.yaml]}\n",
    )
    with pytest.raises(ConfigurationError, match="leaves the folder of"):
        run(repo)
    (repo.root / "ci/link.yaml").symlink_to("/etc/passwd")
    repo.put(
        "pipeline.yaml",
        "charts: [{path: charts/*}]\ntests: {helm_args: [--values, ci/link.yaml]}\n",
    )
    with pytest.raises(ConfigurationError, match="the source does not store it"):
        run(repo)


def test_check_ignores_settings_of_later_versions(repo: Repo) -> None:
    repo.put("pipeline.yaml", "charts: [{path: charts/*}]\ntests: {upgrade_from: [published]}\n")
    assert run(repo).passed


def subchart(repo: Repo, **files: str) -> None:
    """A chart in charts/ of the chart: Chart.yaml of the name `sub` and these files."""
    text = (repo.root / "charts/web/Chart.yaml").read_text()
    repo.put("charts/web/Chart.yaml", f"{text}dependencies: [{{name: sub, version: 1.0.0}}]\n")
    repo.put("charts/web/charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n")
    for name, content in files.items():
        repo.put(f"charts/web/charts/sub/{name.replace('__', '/')}.yaml", content)
    repo.commit()


def configure_check(repo: Repo, **settings: object) -> None:
    charts = [{"path": "charts/*"}]
    repo.put("pipeline.yaml", json.dumps({"charts": charts, "check": settings}))


@pytest.mark.parametrize("major", [3, 4])
def test_a_subchart_that_has_only_crds_passes_as_it_does_with_helm(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    """Seen at grafana's rollout-operator: "directory does not exist", nothing else."""
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(major)))
    crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
    subchart(repo, crds__a=f"{crd}metadata: {{name: as.example.com}}\n")
    assert run(repo).passed
    configure_check(repo, with_subcharts=True)
    assert run(repo).passed


@pytest.mark.parametrize("major", [3, 4])
def test_what_lint_says_of_a_subchart_names_chart_file_and_reason(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(major)))
    subchart(repo, templates__a='{{ fail "not today" }}\n', values="replicas: 1\n")
    configure_check(repo, with_subcharts=True)
    with pytest.raises(ChartFailed) as caught:
        run(repo)
    said = str(caught.value)
    assert "charts/web/charts/sub/templates/a.yaml:1:3" in said and "not today" in said
    assert "/tmp" not in said and "check-" not in said, said


def test_what_helm_4_alone_warns_of_is_a_notice(
    repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    """`engine` in Chart.yaml (harbor, fluent-bit): helm 3 and both installs take it."""
    text = (repo.root / "charts/web/Chart.yaml").read_text()
    repo.put("charts/web/Chart.yaml", f"{text}engine: gotpl\n")
    assert run(repo).passed
    assert "failed to strictly parse chart metadata file" in caplog.text
    assert 'unknown field "engine"' in caplog.text


@pytest.mark.parametrize("major", [3, 4])
def test_versions_of_kubernetes_and_apis_are_configured(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, major: int
) -> None:
    """A chart for older clusters, and one for OpenShift: no key helped."""
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(major)))
    text = (repo.root / "charts/web/Chart.yaml").read_text()
    repo.put("charts/web/Chart.yaml", f'{text}kubeVersion: "<1.30.0-0"\n')
    route = '{{ if not (.Capabilities.APIVersions.Has "route.openshift.io/v1") }}{{ fail "no route" }}{{ end }}\n'
    repo.put("charts/web/templates/route.yaml", route)
    repo.commit()
    with pytest.raises(
        ChartFailed, match=r"kubeVersion: [^?]*\(check\.kube_versions says"
    ) as caught:
        run(repo)
    assert "--debug" not in str(caught.value)
    configure_check(repo, kube_versions=["1.29.0"])
    with pytest.raises(ChartFailed, match="no route"):
        run(repo)
    configure_check(repo, kube_versions=["1.29.0"], api_versions=["route.openshift.io/v1"])
    assert run(repo).passed
    configure_check(
        repo, kube_versions=["1.29.0", "1.31.0"], api_versions=["route.openshift.io/v1"]
    )
    with pytest.raises(ChartFailed, match=r"render with its own values for Kubernetes 1\.31\.0: "):
        run(repo)


def test_a_plan_says_what_is_done_for_a_library(
    repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    repo.put("charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\ntype: library\n")
    check("web", config=config_of(repo), state=State(repo.root / "state.jsonl"), plan=True)
    assert "web: would lint it with its own values; writes nothing outside" in caplog.text


@pytest.mark.parametrize("values", ["web: {tag: x}\n", "web: null\n", "other: 1\nweb:\n  tag: x\n"])
def test_values_file_that_sets_a_key_of_an_image_fails_with_its_line(
    repo: Repo, values: str
) -> None:
    repo.put(
        "pipeline.yaml",
        'charts: [{path: charts/*, images: {web: {web.tag: "{tag}"}}}]\n'
        "images: {web: {existing: registry.example.com/web}}\n",
    )
    repo.put("charts/web/values.yaml", "image: web\nweb: {tag: ''}\n")
    repo.put("charts/web/ci/a-values.yaml", values)
    line = values.count("\n")
    with pytest.raises(ChartFailed, match=rf"ci/a-values\.yaml:{line}: sets web.* the image web"):
        run(repo)
    repo.put("charts/web/ci/a-values.yaml", "word: right\n")
    assert run(repo).passed
