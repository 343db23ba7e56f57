"""Sections and findings in the logs of CI jobs, and what hostile text in them may not do."""

from __future__ import annotations

import io
import json
import logging

import pytest

from pipeline_steps.ci import code_quality
from pipeline_steps.ci.build import System
from pipeline_steps.ci.job_log import annotation, harmless, section, section_lines
from pipeline_steps.cli import boundary
from pipeline_steps.toolbox.progress import is_watched

ACTIONS: tuple[System, ...] = ("github_actions", "gitea_actions")
OTHERS: tuple[System, ...] = ("jenkins", "terminal")


@pytest.mark.parametrize("system", ACTIONS)
def test_a_finding_is_shown_at_its_line(system: System) -> None:
    shown = annotation(system, "charts/a,b/x:y.yaml", 7, "100% wrong\n::add-path::/tmp")
    assert annotation(system, "a\x1b[2J", 1, "\x1b[31mb") == "::error file=a�[2J,line=1::�[31mb"
    assert shown == ("::error file=charts/a%2Cb/x%3Ay.yaml,line=7::100%25 wrong%0A::add-path::/tmp")
    assert section_lines(system, "check", 5) == ("::group::check", "::endgroup::")


def test_a_code_quality_report_has_what_gitlab_asks_of_each_finding() -> None:
    """GitLab documentation 18, "Code Quality", section "Code Quality report format"."""
    findings = [("deploy/a.yaml", 2, "no `x`"), ("deploy/a.yaml", 9, "no `x`"), ("b.yaml", 2, "é")]
    entries = json.loads(code_quality.report(findings))
    for entry, (path, line, message) in zip(entries, findings, strict=True):
        assert (entry["description"], entry["check_name"]) == (message, "pipeline-steps")
        assert entry["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert entry["location"] == {"path": path, "lines": {"begin": line}}
    prints = [entry["fingerprint"] for entry in entries]
    assert len(set(prints)) == 3
    moved = [(path, line + 40, message) for path, line, message in findings]
    assert [each["fingerprint"] for each in json.loads(code_quality.report(moved))] == prints
    assert code_quality.report(()) == b"[]\n"


def test_sections_of_gitlab_fold() -> None:
    start, end = section_lines("gitlab", "build_image", 1700000000)
    assert start == "\x1b[0Ksection_start:1700000000:build_image\r\x1b[0Kbuild_image"
    assert end == "\x1b[0Ksection_end:1700000000:build_image\r\x1b[0K"
    assert annotation("gitlab", "x", 1, "y") == ""


@pytest.mark.parametrize("system", OTHERS)
def test_other_logs_get_text_only(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    with section(system, "check"):
        pass
    assert capsys.readouterr().err == ""
    assert annotation(system, "x", 1, "y") == ""
    assert harmless(system, "::set-output name=x::y") == "::set-output name=x::y"


def test_a_section_ends_when_its_step_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), section("github_actions", "check"):
        raise ValueError("x")
    assert capsys.readouterr().err == "::group::check\n::endgroup::\n"


def test_words_of_a_chart_are_no_commands_to_the_runner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    boundary.setup_logging()
    logging.getLogger("pipeline_steps.x").error("hello: failed:\n  ::add-mask::a\nsee ##[set-env]b")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["hello: failed:", "|  ::add-mask::a", "see # #[set-env]b"]


def test_nobody_watches_a_terminal_that_ci_gives_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("CI", raising=False)
    assert is_watched(Terminal())
    assert not is_watched(io.StringIO())
    monkeypatch.setenv("CI", "true")
    assert not is_watched(Terminal())
