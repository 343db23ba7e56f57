"""`pipeline-steps run` as a person and as a log sees it: real git and helm, a folder as repository,
a real terminal.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_steps.reporting.rendering import short
from tests.support.gits import bare
from tests.support.helms import helm
from tests.support.one_chart import CHART, MAP, OneChart
from tests.support.terminal import CONTROL, Shown, on_terminal

PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "a library, tested through its dependents"}}
channels:
  snapshot: {{charts: "file://{folder}/snapshots"}}
  production: {{charts: "file://{folder}/a team@2"}}
"""
RUN = ("run", "check", "snapshot", "--channels", "configured")
#: rich turns the spinner and redraws the clock by moving up and erasing the line.
REDRAWN = "\x1b[2K"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def project(tmp_path: Path) -> OneChart:
    """A checkout with the charts common and other."""
    for place in ("snapshots", "a team@2"):
        (tmp_path / place).mkdir()
    found = OneChart(tmp_path, PIPELINE.format(folder=tmp_path), {})
    found.repo.put("charts/other/Chart.yaml", CHART.replace("common", "other"))
    found.repo.put("charts/other/templates/map.yaml", MAP)
    found.repo.commit()
    return found


def watched(project: OneChart, *words: str, columns: int = 100, **more: str) -> Shown:
    command = [sys.executable, "-m", "pipeline_steps", *words]
    return on_terminal(command, project.repo.root, {**project.environment, **more}, columns=columns)


def charts_told(text: str) -> set[str]:
    """The charts whose chain stands at the end."""
    return set(re.findall(r"^(\w+)  (?:content|snapshot) ", text, re.MULTILINE))


def test_a_log_gets_plain_lines_without_control_codes(project: OneChart) -> None:
    completed = project.ok(*RUN, "--chart", "common")
    assert completed.stdout == ""
    assert not CONTROL.search(completed.stderr), repr(completed.stderr)
    lines = completed.stderr.splitlines()
    assert lines[0] == "check ..."
    assert re.fullmatch(r"✓ check +\d+\.\d s  common: passed", lines[1])
    assert lines[2] == "snapshot ..."
    made = project.output("snapshot")
    assert re.fullmatch(rf"✓ snapshot +\d+\.\d s  common: passed {short(made)}", lines[3])
    assert completed.stderr.count(made) == 1, "each reference once"
    assert f"common  snapshot chart     {made}  " in completed.stderr, (
        "not folded: it is there to copy"
    )
    assert f"\nstate: {project.repo.root}/.pipeline/state.jsonl\n" in completed.stderr
    assert re.fullmatch(r"\d+\.\d s in all", lines[-1])


def test_helm_is_asked_for_its_version_and_for_each_comparison_once(
    project: OneChart, tmp_path: Path
) -> None:
    program, log = tmp_path / "logged-helm", tmp_path / "helm.log"
    program.write_text(f'#!/bin/sh\necho "$1 $*" >> {log}\nexec {helm(4)} "$@"\n')
    program.chmod(0o755)
    words = ("run", "private", "--release", "--chart", "common", "--channels", "configured")
    project.environment["PIPELINE_STEPS_HELM"] = str(program)
    project.repo.git("remote", "add", "origin", str(bare(project.folder / "origin.git")))
    project.repo.git("push", "-q", "--set-upstream", "origin", "main")
    project.ok(*words)
    calls = log.read_text().splitlines()
    assert [line.split()[0] for line in calls].count("version") == 1
    assert len([line for line in calls if "tested.tgz" in line]) == 1
    assert len([line for line in calls if "released.tgz" in line]) == 1


def test_colours_forced_by_a_ci_change_nothing_in_a_log(project: OneChart) -> None:
    forced = {
        "FORCE_COLOR": "1",
        "CLICOLOR_FORCE": "1",
        "TTY_COMPATIBLE": "1",
        "TERM": "xterm-256color",
    }
    project.environment.update(forced)
    assert not CONTROL.search(project.ok(*RUN, "--chart", "common").stderr)


def test_a_person_sees_what_runs_and_for_how_long(project: OneChart) -> None:
    shown = watched(project, *RUN, "--chart", "common")
    assert shown.code == 0, shown.text
    assert re.search(r"^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] check +0:00:0\d *$", shown.text, re.MULTILINE), (
        "a spinner, the step, a clock"
    )
    assert re.search(r"^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] snapshot +0:00:0\d *$", shown.text, re.MULTILINE)
    assert REDRAWN in shown.raw, "in place, not a line each time"
    assert "check ..." not in shown.text
    assert re.search(r"^✓ check +\d+\.\d s  common: passed *$", shown.text, re.MULTILINE)


def test_the_terminal_is_left_as_it_was(project: OneChart) -> None:
    shown = watched(project, *RUN, "--chart", "common")
    assert shown.raw.count(HIDE_CURSOR) == shown.raw.count(SHOW_CURSOR) == 1
    assert shown.raw.index(HIDE_CURSOR) < shown.raw.index(SHOW_CURSOR)
    after = shown.raw.partition(SHOW_CURSOR)[2]
    assert "⠋" not in after and REDRAWN not in after, "the table stands below, and is not redrawn"


def test_the_table_on_a_terminal_has_whole_digests_in_its_columns(project: OneChart) -> None:
    shown = watched(project, *RUN, "--chart", "common", columns=80)
    table = shown.raw.partition(SHOW_CURSOR)[2].replace("\r\n", "\n")
    title, *rest = table.strip().splitlines()
    assert CONTROL.sub("", title).rstrip() == "common"
    assert not CONTROL.search("".join(rest)), "what is copied holds no codes"
    assert rest[0].startswith("content         sha256:")
    values = "".join(
        line[16:74].strip()
        for line in rest[: rest.index(f"state: {project.repo.root}/.pipeline/state.jsonl")]
    )
    assert project.output("snapshot") in values, "folded within its column, nothing cut off"


def test_a_run_that_failed_goes_on_with_the_same_command(project: OneChart) -> None:
    words = ("run", "check", "snapshot", "--chart", "common", "--channels", "configured")
    project.repo.put("charts/common/templates/map.yaml", "{{ .Values.no.such }}")
    project.repo.commit()
    completed = project.run(*words)
    assert completed.returncode == 8
    assert completed.stderr.endswith(
        "correct that, then go on with: pipeline-steps run check snapshot --chart common "
        "--channels configured\n"
    )
    project.repo.put("charts/common/templates/map.yaml", MAP)
    project.repo.commit()
    assert "correct that" not in project.ok(*words).stderr


def test_a_failure_is_shown_on_a_terminal_and_ends_the_clock(project: OneChart) -> None:
    project.repo.put("charts/common/templates/map.yaml", "{{ fail `no greeting` }}\n")
    project.repo.commit()
    shown = watched(project, *RUN, "--chart", "common")
    assert shown.code == 8
    assert re.search(r"^✗ check +\d+\.\d s  common: ", shown.text, re.MULTILINE)
    assert "no greeting" in shown.text
    assert "snapshot  " not in shown.text.partition("content")[0]
    assert shown.raw.count(SHOW_CURSOR) == 1


@pytest.mark.parametrize(
    "see",
    [
        lambda project, *words: project.run(*words).stderr,
        lambda project, *words: watched(project, *words).raw,
    ],
)
def test_quiet_says_only_errors(project: OneChart, see: Callable[..., str]) -> None:
    assert see(project, *RUN, "--quiet", "--all") == ""


def test_the_chain_is_that_of_the_charts_of_this_run(project: OneChart) -> None:
    for name in ("common", "other", "common"):
        assert charts_told(project.ok(*RUN, "--chart", name).stderr) == {name}
    assert charts_told(project.ok("run", "check", "--all", "--shard", "2/2", *RUN[3:]).stderr) == {
        "other"
    }
    assert charts_told(project.ok("run", "report", "--all", *RUN[3:]).stderr) == {"common", "other"}


def test_a_chart_that_fails_is_not_shown_with_the_chain_of_its_content_before(
    project: OneChart,
) -> None:
    before = project.ok(*RUN, "--chart", "common").stderr
    (content,) = re.findall(r"^common  content +(\S+)$", before, re.MULTILINE)
    project.repo.put("charts/common/templates/map.yaml", "{{ fail `no greeting` }}\n")
    project.repo.commit()
    completed = project.run(*RUN, "--chart", "common")
    assert completed.returncode == 8
    assert content not in completed.stderr
    assert "\ncommon  snapshot           none\n" in completed.stderr


def test_run_writes_junit_beside_the_state_file(project: OneChart) -> None:
    completed = project.ok(*RUN, "--chart", "common", "--state", "elsewhere/state.jsonl")
    folder = project.repo.root / "elsewhere"
    assert f"\nJUnit: {folder}/junit\n" in completed.stderr
    assert list((folder / "junit").glob("check-common-*.xml"))


def test_a_release_ends_with_its_tag_its_chart_and_what_to_type(project: OneChart) -> None:
    project.repo.git("remote", "add", "origin", str(bare(project.folder / "origin.git")))
    project.repo.git("push", "-q", "--set-upstream", "origin", "main")
    release = ("run", "private", "--channels", "configured", "--chart", "common")
    tag, published = (
        f"common-1.0.0@{project.repo.git('rev-parse', 'HEAD')}",
        project.folder / "a team@2/common-1.0.0.tgz",
    )
    for time in ("first", "already done"):
        output = project.ok(*release, "--release").stderr
        assert re.search(rf"^common  tag +{tag}  \d+\.\d s$", output, re.MULTILINE), (time, output)
        assert re.search(
            rf"^common  production chart +{published.as_uri()}@sha256:\w{{64}}$",
            output,
            re.MULTILINE,
        )
        assert re.search(r"^common  test +passed  ", output, re.MULTILINE)
        (install,) = re.findall(r"^helm install .+$", output, re.MULTILINE)
        typed = [
            "sh",
            "-c",
            install.replace("helm install", "helm template"),
        ]  # the same chart, without a cluster
        rendered = subprocess.run(
            typed, env=project.environment, cwd="/", capture_output=True, text=True
        )
        assert "greeting: hello" in rendered.stdout, rendered.stderr
        verified = project.ok("state", "verify")
        assert "gone" not in verified.stdout + verified.stderr
    project.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    project.repo.commit()
    output = project.ok(*release).stderr
    assert "helm install" not in output and "production" not in output, "of the release before"
    assert output.endswith(f"go on with: pipeline-steps {' '.join(release)} --release\n")


def test_charts_that_cannot_be_released_are_skipped_and_the_others_are_released(
    project: OneChart,
) -> None:
    """All are checked before the first is tagged; the exit code is that of the refused one."""
    release = ("run", "private", "--channels", "configured", "--release")
    project.repo.git("remote", "add", "origin", str(bare(project.folder / "origin.git")))
    project.repo.git("push", "-q", "--set-upstream", "origin", "main")
    project.ok(*release)
    published = project.folder / "a team@2"
    before = sorted(path.name for path in published.glob("*.tgz"))
    project.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "unbumped"))
    project.repo.put(
        "charts/other/Chart.yaml", CHART.replace("common", "other").replace("1.0.0", "1.1.0")
    )
    project.repo.commit()
    completed = project.run(*release)
    assert completed.returncode == 5, completed.stderr
    assert re.search(
        r"^✗ tag_release .* common: .*raise the version", completed.stderr, re.MULTILINE
    )
    assert sorted(path.name for path in published.glob("*.tgz")) == [*before, "other-1.1.0.tgz"]
    assert project.repo.git("tag").split() == ["common-1.0.0", "other-1.0.0", "other-1.1.0"]
    junit = project.repo.root / ".pipeline/junit"
    assert "raise the version" in (junit / "tag_release-common.xml").read_text()
    assert 'failures="0"' in (junit / "promote-other.xml").read_text()


def test_run_reports_tested_charts_as_already_done(project: OneChart) -> None:
    steps = ("run", "check", "snapshot", "integration_test", "report", "--channels", "configured")
    project.ok(*steps)
    page = project.repo.root / ".pipeline/report/report.md"
    written = page.read_bytes()
    project.repo.put("README", "no chart has it\n")
    project.repo.commit()
    completed = project.ok(*steps)
    said = r"✓ check +\d+\.\d s  already done: every chart has passed .* the last at 20\d\d-"
    assert re.search(said, completed.stderr), completed.stderr
    assert "no chart affected" not in completed.stderr.partition("report")[0]
    assert page.read_bytes() == written, "a page that says nothing does not replace one that does"


def test_run_plan_covers_the_whole_workflow(project: OneChart) -> None:
    """On a fresh clone the records of the steps before are missing: that is no error of a plan."""
    origin = bare(project.folder / "origin.git")
    project.repo.git("remote", "add", "origin", str(origin))
    project.repo.git("push", "-q", "--set-upstream", "origin", "main")
    completed = project.ok("run", "private", "--channels", "configured", "--release", "--plan")
    for step in ("check", "snapshot", "integration_test", "tag_release", "promote"):
        assert re.search(rf"^✓ {step} .* common: planned", completed.stderr, re.MULTILINE), (
            completed.stderr
        )
    assert not (project.repo.root / ".pipeline").exists() and project.repo.git("tag") == ""
    assert not list((project.folder / "snapshots").iterdir())
