"""The static table of `list` says the truth about the modules it names."""

import ast
import importlib
import re
from pathlib import Path

import pipeline_steps
from pipeline_steps.commands import index, run

PACKAGE = Path(pipeline_steps.__file__).parent


def test_every_step_module_stands_in_the_table_and_the_other_way_round() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert modules == {command.name for command in index.STEPS if command.module}


def test_every_step_has_the_anatomy() -> None:
    for command in index.STEPS:
        if command.module:
            module = importlib.import_module(command.module)
            tree = ast.parse(Path(str(module.__file__)).read_text())
            names = {
                node.targets[0].id
                for node in tree.body
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            }
            assert {"NEEDS", "WRITES"} <= names, command.name
            assert callable(getattr(module, command.name)) and callable(module.main)
            called = rf"(pipeline-steps |python -m pipeline_steps\.){command.name}\b"
            assert re.search(called, module.__doc__ or ""), command.name


def test_every_command_has_a_main() -> None:
    for command in index.COMMANDS:
        if command.module:
            assert callable(importlib.import_module(command.module).main), command.name


def test_run_says_how_to_go_on_with_all_that_was_typed() -> None:
    typed = ["private", "--config", "a b.yaml", "--cluster", "ci", "--state", "s.jsonl", "--all"]
    assert (
        run.go_on(typed)
        == "pipeline-steps run private --config 'a b.yaml' --cluster ci --state s.jsonl --all --release"
    )
