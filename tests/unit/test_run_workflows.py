"""What `run` does with approvals, and what it says to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_steps.commands import run
from pipeline_steps.config.language import Channels, Config, ProductionChannel

TYPED = ("official", "--chart", "web")


def config(*requires: str) -> Config:
    production = ProductionChannel(requires=requires)
    return Config(charts=(), root=Path(), channels=Channels(production=production))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "stopped before tag_release; go on with: pipeline-steps run official --chart web --release"),
        (6, "not approved yet; go on when it is, with: pipeline-steps run official --chart web"),
        (75, "a passing problem; go on with: pipeline-steps run official --chart web"),
        (8, "correct that, then go on with: pipeline-steps run official --chart web"),
    ],
)  # fmt: skip
def test_a_run_ends_with_the_next_thing_to_do(code: int, words: str) -> None:
    assert run.next_action(code, ["tag_release", "promote"], TYPED) == words


def test_a_run_that_released_everything_has_nothing_left_to_do() -> None:
    assert run.next_action(0, [], TYPED) == ""


def test_the_sandbox_asks_nobody_to_approve(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    names = ["check", "approval", "tag_release", "promote"]
    configured = config("check", "approval.code", "integration_test")
    found, kept = run.without_approvals(configured, names, ["official"])
    assert found.channels.production.requires == ("check", "integration_test")
    assert kept == ["check", "tag_release", "promote"]
    assert "in the sandbox no approval is asked for" in caplog.text
    assert run.without_approvals(configured, names, ["approval"])[1] == names


def test_a_run_without_approvals_says_nothing_of_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    names = ["check", "tag_release", "promote"]
    configured = config("check", "integration_test")
    assert run.without_approvals(configured, names, ["private"]) == (configured, names)
    assert caplog.text == ""
