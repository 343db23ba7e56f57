"""Exit codes (docs/reference/exit-codes.md): each class has one, and the worst of several wins."""

import subprocess
import sys

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


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline_steps", *words], capture_output=True, text=True
    )


def test_list_and_help_name_every_step() -> None:
    assert "integration_test" in run("list").stdout and run("--help").returncode == 0


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
