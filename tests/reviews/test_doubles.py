"""What the doubles of GitHub and GitLab stand on: a published description, a page of documentation."""

from __future__ import annotations

import re

from tests.support import github_reviews, gitlabs
from tests.support.github import ROUTES, SERVER_ROUTES
from tests.support.github_description import description


def example(pattern: str) -> str:
    """A path that fits a pattern of a double's routes."""
    return re.sub(r"\((?:\\d\+|[^()]*)\)", "1", pattern).removeprefix("/api/v3")


def test_every_answer_of_githubs_double_is_of_a_described_operation() -> None:
    """Those of GraphQL are judged by its schema."""
    judge = description()
    assert github_reviews.__name__, "imported for the routes that it adds"
    for method, pattern, _ in ROUTES:
        assert judge.template(method, f"/repos/team/charts{example(pattern.pattern)}")
    for method, pattern, _ in SERVER_ROUTES:
        if not pattern.pattern.endswith("/graphql"):
            assert judge.template(method, example(pattern.pattern))
    assert judge.template("POST", "/repos/team/charts/releases/1/assets")


def test_every_answer_of_gitlabs_double_names_its_page() -> None:
    for method, pattern, answer in gitlabs.ROUTES:
        words = answer.__doc__ or ""
        assert re.search(r'"[A-Z][^"]+"', words), f"{method} {pattern.pattern}"
