"""The table of docs/reference/review-systems.md: what is asked of which review system, and of what
stands for it. Read from the tests, without importing them.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parents[1] / "tests"
SUITE = TESTS / "reviews/test_reviews.py"
BOUNDS = TESTS / "reviews/test_hub_bounds.py"
WORLDS = TESTS / "support/review_systems.py"


class System(NamedTuple):
    """name: in the suite. merges: whether it merges itself. releases: whether it shows tags as
    releases. kind: what is asked, in one word. words: what that is.
    """

    name: str
    merges: bool
    releases: bool
    kind: str
    words: str


def systems() -> list[System]:
    """The systems and ways of merging in the order of the suite."""
    assigned = _assignments(WORLDS)
    kinds = {name: str(ast.literal_eval(value)) for name, value in _items(assigned["KINDS"])}
    releasing = ast.literal_eval(assigned["RELEASING"])
    found = []
    for variable, merges in (("SYSTEMS", True), ("WITHOUT_MERGES", False)):
        for name, _ in _items(assigned[variable]):
            kind, _, words = kinds[name.partition("-")[0].partition("_")[0]].partition(": ")
            found.append(System(name, merges, name in releasing, kind, words))
    return found


def questions(suite: Path = SUITE) -> list[tuple[str, str]]:
    """The decorator of each test of a suite, and its name in words."""
    tests = [
        node for node in ast.parse(suite.read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    return [
        (decorator.id, test.name.removeprefix("test_").replace("_", " "))
        for test in tests
        if test.name.startswith("test_")
        for decorator in test.decorator_list
        if isinstance(decorator, ast.Name) and decorator.id.startswith("every_")
    ]


def page() -> str:
    """The page below its head."""
    asked = systems()
    columns = [each for each in asked if not each.merges or "-" not in each.name]
    header = " | ".join(each.name.replace("_", " ").replace("-", " ") for each in columns)
    rows = [
        f"| {question} | {' | '.join(cell(decorator, each) for each in columns)} |"
        for decorator, question in questions()
    ]
    by_system = {each.name.partition("-")[0].partition("_")[0]: each for each in asked}
    kinds = [f"- **{name}**, {each.kind}: {each.words}." for name, each in by_system.items()]
    ways = ", ".join(each.name.replace("-", " by ", 1) for each in asked if _is_way(each))
    return "\n".join(
        [
            "# Review systems\n",
            "Which question `tests/reviews/test_reviews.py` asks of which review system, and of what:",
            "the *real* server, a double that a published description judges (*contract*), or one that",
            "follows documentation (*double*).\n",
            *kinds,
            "",
            f"| question | {header} |",
            f"|---|{'---|' * len(columns)}",
            *rows,
            "",
            *(f"- – of **{name}**: {reason}." for name, reason in reasons(asked)),
            "",
            f"What is asked of merging is asked of these ways as well: {ways}.\n",
            "What the clients of GitHub and GitLab bear with, asked of a server that answers as each test of",
            "`tests/reviews/test_hub_bounds.py` says:\n",
            *(f"- {question}" for _, question in questions(BOUNDS)),
            "",
        ]
    )


def reasons(asked: list[System]) -> list[tuple[str, str]]:
    """For each system that is not asked everything, why."""
    given = {
        name: str(ast.literal_eval(value))
        for name, value in _items(_assignments(WORLDS)["NOT_ASKED"])
    }
    lacking = {
        system.name.partition("-")[0].partition("_")[0]
        for system in asked
        for decorator, _ in questions()
        if not _is_way(system) and cell(decorator, system) == "–"
    }
    assert lacking == set(given), f"NOT_ASKED has {sorted(given)}, and needs {sorted(lacking)}"
    return list(given.items())


def cell(decorator: str, system: System) -> str:
    asked = decorator == "every_system" or system.merges
    if decorator == "every_releasing":
        asked = system.releases
    return system.kind if asked else "–"


def _is_way(system: System) -> bool:
    return system.merges and "-" in system.name


def _assignments(file: Path) -> dict[str, ast.expr]:
    return {
        node.target.id: node.value
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value
    }


def _items(node: ast.expr) -> list[tuple[str, ast.expr]]:
    assert isinstance(node, ast.Dict), "a literal dict"
    return [
        (key.value, value)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]
