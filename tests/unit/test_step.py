"""How a step's function becomes a process: every chart is tried, and the worst ending is the exit
code.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline_steps.cli import boundary, options
from pipeline_steps.cli.step import (
    Outcome,
    Step,
    StepFunction,
    call_step,
    report_outcome,
    run_step,
)
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Config
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox import process
from pipeline_steps.toolbox.errors import (
    ChartFailed,
    ConfigurationError,
    Interrupted,
    UsageError,
    worst,
)
from tests.support.gits import Repo

tried: list[str] = []


def fragile(chart: str, *, config: Config, state: State) -> NoReturn:
    """A step with a bug that only some charts meet."""
    tried.append(chart)
    if chart == "c":
        raise ChartFailed("does not render")
    raise KeyError(f"ours in {chart}")


def stopped(chart: str, *, config: Config, state: State) -> NoReturn:
    """A step that a signal ends."""
    tried.append(chart)
    raise Interrupted(15)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    repo.put("pipeline.yaml", "charts:\n  - path: charts/*\n")
    for name in "abc":
        repo.put(f"charts/{name}/Chart.yaml", f"apiVersion: v2\nname: {name}\nversion: 0.1.0\n")
    repo.commit()
    tried.clear()
    return repo


def called(function: StepFunction, repo: Repo) -> list[Outcome]:
    config = load((), environ={}, start=repo.root)
    arguments = options.parse("x", "", options.COMMON, ["--all"], {})
    state = State(repo.root / ".pipeline/state.jsonl")
    step = Step("x", __doc__, reuses_records=False, subjects="charts")
    outcomes = call_step(step, function, config, state, arguments)
    for outcome in outcomes:
        report_outcome(outcome, as_json=False)
    return outcomes


def test_what_breaks_while_a_signal_ends_the_step_is_no_bug(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`threading` raises KeyError of a thread whose start was interrupted."""
    monkeypatch.setattr(process, "_stop_signals", [])

    def interrupted(chart: str, *, config: Config, state: State) -> NoReturn:
        process.begin_stopping(15)
        fragile(chart, config=config, state=state)

    with pytest.raises(Interrupted):
        called(interrupted, repo)
    assert tried == ["a"]

    def work() -> int:
        raise KeyError("a thread")

    assert boundary.run_main(work) == 143
    assert "bug" not in capsys.readouterr().err


def test_our_bug_in_one_chart_leaves_no_other_untried(
    repo: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = called(fragile, repo)
    assert tried == ["a", "b", "c"]
    assert [outcome.exit_code for outcome in outcomes] == [3, 3, 8]
    assert worst([outcome.exit_code for outcome in outcomes]) == 3
    told = capsys.readouterr().err
    assert told.count("Traceback") == told.count("This is a bug in pipeline_steps") == 2
    assert "KeyError: 'ours in a'" in told and "KeyError: 'ours in b'" in told


def test_a_signal_stops_all_charts(repo: Repo) -> None:
    with pytest.raises(Interrupted):
        called(stopped, repo)
    assert tried == ["a"]


def test_a_variable_that_is_empty_is_as_one_that_is_not_set(repo: Repo) -> None:
    empty = dict.fromkeys((each.variable for each in options.COMMON if each.variable), "")
    assert options.parse("x", "", options.COMMON, [], empty) == (
        options.parse("x", "", options.COMMON, [], {})
    )
    environ = {"PIPELINE_STEPS_SITE": ""}
    assert load((), environ=environ, start=repo.root) == load((), environ={}, start=repo.root)
    several = {"PIPELINE_STEPS_CONFIG": f"{repo.root}/pipeline.yaml{os.pathsep}"}
    files = options.parse("x", "", options.COMMON, [], several).config
    with pytest.raises(ConfigurationError, match="this is a folder"):
        load(files, environ={}, start=repo.root)


def test_what_a_step_found_does_not_reach_the_terminal_raw(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a cluster says it of a release, or a repository of a chart."""
    foreign = "web\x1b]0;owned\x07 \x9b31m"

    def asking(*, config: Config, state: State) -> Record:
        with record_attempt(state, step="x", subject="x", key="k", parameters={}) as attempt:
            return attempt.passed({"release": foreign})

    monkeypatch.chdir(repo.root)
    step = Step("x", __doc__, reuses_records=False, subjects="none")
    assert run_step(step, asking, [], shown=lambda record, _: record.outputs["release"]) == 0
    assert capsys.readouterr().out == "web�]0;owned� �31m"


@pytest.mark.parametrize("text", ["²/3", "1/²", "0/2", "3/2", "1", "1/2/3", "-1/2"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError, match="I/N"):
        options.parse("x", "", options.COMMON, [f"--shard={text}"], {})


def test_images_that_no_chart_uses_are_named(repo: Repo, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing was built, and the tests waited for a pull that could not work."""
    repo.put(
        "pipeline.yaml",
        "charts:\n  - path: charts/*\nimages:\n  web: {context: app}\n",
    )
    config = load((), environ={}, start=repo.root)
    arguments = options.parse("x", "", options.COMMON, ["--all"], {})
    step = Step("x", __doc__, reuses_records=False, subjects="images")
    state = State(repo.root / ".pipeline/state.jsonl")
    [outcome] = call_step(step, fragile, config, state, arguments)
    assert outcome.summary == "no image in the selected charts"
    assert "pipeline.yaml:4: no chart uses the image web: map it to values keys" in caplog.text
