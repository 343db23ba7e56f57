"""Helm 3 and 4 behind one face: what works with one works with the other, and errors name place and
remedy.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from pipeline_steps.clusters.helm import Helm, Target, error_text
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import ChartFailed, MachineError, Temporary, ToolMissing
from tests.support.helms import chart_files, helm

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{}"}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
users: [{{name: u, user: {{}}}}]
"""


@pytest.fixture(params=[3, 4])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Helm:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(request.param)))
    published = Helm.find()
    assert published.major == request.param
    return published


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    return written(tmp_path / "web", chart_files())


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_renders_with_values_whose_name_has_a_comma(
    program: Helm, chart: Path, tmp_path: Path
) -> None:
    values = tmp_path / 'a,"b.yaml'
    values.write_text("word: bye\n")
    rendered = program.template(chart, values=[values], release="r", namespace="n")
    assert 'word: "bye"' in rendered
    assert "r-answers" in rendered


def test_rendering_error_names_template_and_line(program: Helm, chart: Path) -> None:
    (chart / "templates/bad.yaml").write_text("a: 1\nb: {{ .Values.no.such }}\n")
    with pytest.raises(ChartFailed, match=r"web/templates/bad.yaml:2:\d+") as caught:
        program.template(chart)
    assert caught.value.exit_code == 8
    assert caught.value.where == str(chart)


def test_lint_applies_the_schema(program: Helm, chart: Path, tmp_path: Path) -> None:
    assert program.lint(chart).ok
    (tmp_path / "v.yaml").write_text("word: 1\n")
    refused = program.lint(chart, values=[tmp_path / "v.yaml"])
    assert refused.code == 1
    assert b"word" in refused.stdout


def test_an_option_in_place_of_a_name_stays_a_name(program: Helm, chart: Path) -> None:
    with pytest.raises(ChartFailed, match="release name"):
        program.template(chart, release="--help")


def test_no_cluster_of_the_user_is_ever_asked(
    program: Helm, chart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "theirs"))
    (tmp_path / "empty").write_text("apiVersion: v1\nkind: Config\n")
    done = program.install(chart, Target(tmp_path / "empty", None, "n", "r"), timeout=5)
    assert done.code == 1
    assert "unreachable" in error_text(done) or "no configuration" in error_text(done)


def test_a_template_asks_no_cluster_and_no_name_server_and_sees_no_secret(
    program: Helm, chart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chart / "templates/asks.yaml").write_text(
        'pods: {{ lookup "v1" "Pod" "" "" | toJson }}\naddress: {{ getHostByName "localhost" | quote }}\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        for config in (tmp_path / "theirs", tmp_path / ".kube/config"):
            config.parent.mkdir(exist_ok=True)
            config.write_text(KUBECONFIG.format(server.getsockname()[1]))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "theirs"))
        rendered = program.template(chart)
        assert "pods: {}" in rendered and 'address: ""' in rendered
        assert program.lint(chart).code is not None
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert 'address: ""' not in program.template(chart, args=("--enable-dns",)), (
            "it would be known here"
        )
        server.settimeout(30)
        asked = subprocess.Popen(
            [program.program, "template", chart, "--dry-run=server"], stdout=subprocess.DEVNULL
        )
        server.accept()[0].close()
        asked.kill()
        asked.wait()


@pytest.mark.parametrize("function", ["env", "expandenv"])
def test_a_template_cannot_read_the_environment(
    program: Helm, chart: Path, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_STEPS_SECRET", "hunter2")
    (chart / "templates/asks.yaml").write_text(
        f'a: {{{{ {function} "$PIPELINE_STEPS_SECRET" }}}}\n'
    )
    with pytest.raises(ChartFailed, match=f'function "{function}" not defined') as caught:
        program.template(chart)
    done = program.lint(chart)
    assert done.code == 1
    assert "hunter2" not in f"{caught.value}{done.stdout.decode()}{done.stderr.decode()}"


def test_a_template_that_calls_itself_without_end_ends_in_words_and_in_bounded_memory(
    program: Helm, chart: Path
) -> None:
    (chart / "values.yaml").write_text("again: '{{ tpl .Values.again . }}'\n")
    (chart / "templates/again.yaml").write_text("a: {{ tpl .Values.again . }}\n")
    with pytest.raises(ChartFailed, match=r"helm broke down \(.+\): a template that calls itself"):
        program.template(chart)


def test_a_helm_that_could_start_no_thread_broke_down() -> None:
    """What Go prints when memory ends there: the registers are last, and say nothing."""
    printed = (
        b"runtime/cgo: pthread_create failed: Resource temporarily unavailable\n"
        b"SIGABRT: abort\nPC=0x7f6e m=3 sigcode=18446744073709551610\n\nrax    0x0\nfs     0x0\n"
    )
    text = error_text(process.Completed(("helm", "template"), 2, b"", printed))
    assert text.startswith("helm broke down (pthread_create failed: Resource temporarily unavail")


def test_missing_helm_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PIPELINE_STEPS_HELM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="install helm 3") as caught:
        Helm.find()
    assert caught.value.exit_code == 7


@pytest.mark.parametrize("version", ["v3.13.9", "v2.17.0", "v5.0.0"])
def test_unsupported_versions_are_named(
    version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "helm"
    old.write_text(f"#!/bin/sh\necho {version}\n")
    old.chmod(0o755)
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(old))
    with pytest.raises(MachineError, match=f"is helm {version[1:]}; supported are 3.14"):
        Helm.find()


def test_a_helm_that_is_too_slow_for_its_version_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "helm"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(slow))
    monkeypatch.setattr("pipeline_steps.clusters.helm.VERSION_SECONDS", 0.2)
    with pytest.raises(Temporary, match=r"within 0\.2 s \(run it again when"):
        Helm.find()


def test_a_hung_helm_is_ended(chart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = tmp_path / "helm"
    hung.write_text("#!/bin/sh\nexec sleep 600\n")
    hung.chmod(0o755)
    monkeypatch.setattr("pipeline_steps.clusters.helm.GRACE", 0.2)
    done = Helm(str(hung), "4.0.0").install(chart, Target(tmp_path, None, "n", "r"), timeout=0.2)
    assert done.code is None
    assert error_text(done) == "helm did not end and was stopped"
