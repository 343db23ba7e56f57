"""Exit codes (docs/reference/exit-codes.md): each class has one, and the worst of several wins."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_steps.toolbox import errors
from pipeline_steps.toolbox.errors import PipelineError, worst


def subclasses(of: type[PipelineError]) -> list[type[PipelineError]]:
    return [found for cls in of.__subclasses__() for found in (cls, *subclasses(cls))]


def test_exit_codes_are_the_documented_ones() -> None:
    codes = {cls.exit_code for cls in subclasses(PipelineError) if isinstance(cls.exit_code, int)}
    assert codes == {2, 4, 5, 6, 7, 8, 75}
    assert errors.Interrupted(15).exit_code == 143


@pytest.mark.parametrize(
    ("codes", "wins"),
    [([0], 0), ([0, 75, 8], 8), ([8, 5, 4], 4), ([4, 7], 7), ([7, 3], 3), ([3, 130], 130), ([], 0)],
)
def test_worst_follows_the_order_of_exit_codes(codes: list[int], wins: int) -> None:
    assert worst(codes) == wins


def test_error_text_has_place_problem_and_advice() -> None:
    error = errors.Conflict("tag exists", where="oci://r/x:1", advice="raise the version")
    assert str(error) == "oci://r/x:1: tag exists (raise the version)"


ROOT = Path(errors.__file__).parents[1]
ABOUT_REVIEWS = [
    *(ROOT / "reviews").glob("*.py"),
    *(ROOT / "proposals").glob("*.py"),
    *(ROOT / "approvals").glob("*.py"),
    ROOT / "merge.py",
    ROOT / "report.py",
]


@pytest.mark.parametrize("path", ABOUT_REVIEWS, ids=lambda path: path.stem)
def test_an_error_about_a_review_says_what_to_do(path: Path) -> None:
    classes = {cls.__name__ for cls in subclasses(PipelineError)}
    without = [
        f"{path.name}:{call.lineno}"
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in classes
        and "advice" not in [keyword.arg for keyword in call.keywords]
    ]
    assert without == []


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline_steps", *words], capture_output=True, text=True
    )


def test_list_and_help_name_every_step() -> None:
    assert "integration_test" in run("list").stdout and run("--help").returncode == 0
    unknown = run("list", "charts")
    assert unknown.returncode == 2 and "charts: list takes no arguments" in unknown.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["snapsht"], "did you mean snapshot?"),
        (["sweep"], "sweep: not yet"),
        (["check", "--nope"], "--nope"),
    ],
)
def test_bad_command_lines_exit_with_2(words: list[str], says: str) -> None:
    done = run(*words)
    assert done.returncode == 2 and says in done.stderr
