"""The tables of steps and commands say the truth about the modules they name, and steps about their
functions.
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import pipeline_steps
from pipeline_steps.__main__ import main
from pipeline_steps.cli.options import COMMON, Kind, Shard
from pipeline_steps.commands import command_names, run
from pipeline_steps.commands.steps import STEPS
from pipeline_steps.config.language import Config
from pipeline_steps.state.state import State

PACKAGE = Path(pipeline_steps.__file__).parent
#: The type of a function's parameter for each kind of option.
TYPES: dict[Kind, Any] = {
    "flag": bool,
    "text": str | None,
    "word": str | None,
    "texts": tuple[str, ...],
    "number": int | None,
    "path": Path | None,
    "paths": tuple[Path, ...],
    "seconds": float | None,
    "shard": Shard | None,
}


def test_every_step_module_stands_in_the_table_and_the_other_way_round() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert modules == {command.name for command in command_names.STEPS if command.module}


def test_steps_with_a_function_are_those_of_the_table_in_its_order() -> None:
    assert list(STEPS) == [command.name for command in command_names.STEPS if command.module]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_one_value_and_a_function_of_its_name(name: str) -> None:
    step, function = STEPS[name]
    module = importlib.import_module(f"pipeline_steps.{name}")
    assert step == module.STEP
    if hasattr(module, "log"):  # others leave talking to their rooms
        assert module.log.name == f"pipeline_steps.{name}"
    assert (function.__name__, function.__module__) == (name, module.__name__)
    called = rf"(pipeline-steps |python -m pipeline_steps\.){name}\b"
    assert re.search(called, step.documentation or "")
    assert module.main(["--help"]) == 0


def test_help_says_what_kind_of_value_an_option_takes(capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "report": ("--output FOLDER", "--unbelieved FOLDER", "--shard I/N"),
        "sandbox": ("--folder FOLDER", "--kubeconfig FILE"),
    }
    for name, options in expected.items():
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert [option for option in options if f"  {option}" not in text] == []


@pytest.mark.parametrize("name", STEPS)
def test_a_function_takes_what_its_step_says(name: str) -> None:
    step, function = STEPS[name]
    parameters = inspect.signature(function).parameters
    subject = [name for name, each in parameters.items() if each.kind == each.POSITIONAL_OR_KEYWORD]
    assert len(subject) == (1 if step.subjects in ("charts", "images") else 0)
    common = [option for option in COMMON if option.key in step.keywords]
    expected: dict[str, Any] = {"config": Config, "state": State, **dict.fromkeys(subject, str)}
    if step.subjects == "selection" or step.whole:
        expected["charts"] = tuple[str, ...]
    if step.takes_unreadable:
        expected["unreadable"] = tuple[str, ...]
    expected |= {option.key: TYPES[option.kind] for option in (*common, *step.options)}
    hints = get_type_hints(function)
    assert {name: hints[name] for name in parameters} == expected
    required = {name for name, each in parameters.items() if each.default is each.empty}
    needed = () if step.whole else subject  # else it is called for all of `charts`
    assert required == {"config", "state", *needed}, "an option may be left out"


def test_every_command_has_a_main() -> None:
    for command in command_names.COMMANDS:
        if command.module:
            assert callable(importlib.import_module(command.module).main), command.name


def test_run_says_how_to_go_on_with_all_that_was_typed() -> None:
    typed = ["private", "--config", "a b.yaml", "--cluster", "ci", "--state", "s.jsonl", "--all"]
    assert (
        run.release_command(typed)
        == "pipeline-steps run private --config 'a b.yaml' --cluster ci --state s.jsonl --all --release"
    )
