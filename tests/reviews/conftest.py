"""Doubles that several files of this folder ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.github import Github
from tests.support.github_reviews import judged
from tests.support.gitlabs import Gitlab
from tests.support.gitlabs import gitlab as running_gitlab


@pytest.fixture(scope="session")
def judged_github() -> Iterator[Github]:
    """A double of GitHub that its published description judges."""
    with judged() as hub:
        yield hub


@pytest.fixture(scope="session")
def gitlab() -> Iterator[Gitlab]:
    """A double of GitLab."""
    with running_gitlab() as hub:
        yield hub
