"""The examples a stranger copies: they load, lint, render, and call only what this version can do."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline_steps.commands import command_names
from pipeline_steps.config.config_file import load
from tests.support.helms import helm

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CHART = EXAMPLES / "hello/charts/hello"
PIPELINES = ("vars/chartPipeline.groovy", *(f"examples/{name}" for name in (
    "Jenkinsfile.declarative", "gitlab-ci.yml",
    "github-mainline.yml", "github-pull-request.yml", "github-release.yml")),
    "templates/pipeline/template.yml")  # fmt: skip
DIGEST = "sha256:" + "0" * 64


def test_the_example_configuration_loads_without_a_variable_set() -> None:
    config = load((), environ={}, start=EXAMPLES / "hello")
    assert config.channels.production.requires == ("check", "integration_test"), "the defaults"
    assert config.channels.snapshot.images == "registry.example.com/snapshot"
    changed = load(
        (), environ={"SNAPSHOT_REGISTRY": "registry.example.org/x"}, start=EXAMPLES / "hello"
    )
    assert changed.channels.snapshot.charts == "oci://registry.example.org/x/charts"


@pytest.mark.parametrize("major", [3, 4])
def test_the_chart_is_clean_and_carries_the_digest(major: int) -> None:
    values = sorted(CHART.glob("ci/*-values.yaml"))
    assert len(values) == 2
    for file in values:
        lint = [str(helm(major)), "lint", "--strict", str(CHART), "--values", str(file)]
        done = subprocess.run(lint, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        render = [
            *lint[:1],
            "template",
            "hi",
            str(CHART),
            "--values",
            str(file),
            "--set",
            f"image.digest={DIGEST}",
        ]
        rendered = list(
            yaml.safe_load_all(
                subprocess.run(render, capture_output=True, text=True, check=True).stdout
            )
        )
        images = [
            container["image"]
            for thing in rendered
            for container in thing["spec"].get("template", thing)["spec"].get("containers", [])
            if thing["kind"] in ("Deployment", "Pod")
        ]
        assert images == [f"registry.example.com/hello@{DIGEST}"] * 2
        kinds = sorted(thing["kind"] for thing in rendered)
        assert kinds == ["Deployment", "Pod", "Service"]


@pytest.mark.parametrize("major", [3, 4])
def test_the_schema_refuses_a_misspelt_value(major: int) -> None:
    done = subprocess.run(
        [str(helm(major)), "template", "hi", str(CHART), "--set", "greting=x"],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "greting" in done.stderr


def test_the_services_selector_leaves_the_test_pod_out() -> None:
    rendered = subprocess.run(
        [str(helm(4)), "template", "hi", str(CHART)], capture_output=True, text=True, check=True
    )
    things = {thing["kind"]: thing for thing in yaml.safe_load_all(rendered.stdout)}
    selector = things["Service"]["spec"]["selector"]
    assert (
        selector.items() <= things["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    )
    assert not selector.items() <= things["Pod"]["metadata"]["labels"].items()


def calls(text: str) -> list[list[str]]:
    """The arguments of every pipeline-steps call in a pipeline, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("#", "//"))]
    code = "\n".join(re.sub(r"\s(//|#) .*", "", line) for line in lines)
    argument = r"""[\w./=-]+|\$\w+|"\$[{\w#/}]+\""""
    found = re.findall(rf"(?<![/\w])pipeline-steps(?!:)((?: +(?:{argument}))+)", code)
    return [shlex.split(words) for words in found]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pipelines_call_only_what_this_version_can(
    pipeline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline_steps.__main__ import main

    found = calls((ROOT / pipeline).read_text())
    assert {"check", "build_image", "snapshot", "integration_test", "report"} <= {
        words[0] for words in found
    } or ("promote" in {words[0] for words in found})
    for words in found:
        command = command_names.find(words[0])
        assert command is not None and command.module, f"{pipeline}: {words[0]} is not there"
        assert main([words[0], "--help"]) == 0
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        unknown = {word for word in words if word.startswith("--")} - known
        assert not unknown, f"{pipeline}: {words[0]} has no {unknown}"


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_what_is_not_yet_there_is_marked_so(pipeline: str) -> None:
    marked = set(re.findall(r"not yet: `pipeline-steps (\w+)`", (ROOT / pipeline).read_text()))
    later = {command.name for command in command_names.STEPS if not command.module}
    assert marked <= later, f"{pipeline}: {marked - later} is there now: use it"


def test_the_tool_image_copies_what_is_there() -> None:
    for line in (EXAMPLES / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_prepare_gives_the_same_bytes_every_time(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "hello", tmp_path / "hello", symlinks=True)
    seen = []
    for _ in range(2):
        (tmp_path / "hello/app/busybox").unlink(missing_ok=True)
        subprocess.run([tmp_path / "hello/prepare"], check=True)
        seen.append((tmp_path / "hello/app/busybox").read_bytes())
    assert seen[0] == seen[1]
    assert (tmp_path / "hello/app/busybox").stat().st_mode & 0o777 == 0o755
