"""The rights that `doctor` sees missing on GitHub and GitLab, step by step; on their doubles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline_steps.commands.probes import PROBES
from pipeline_steps.config.config_file import load
from pipeline_steps.toolbox.errors import AccessRefused, PipelineError, UsageError
from tests.support.github import APP, READ, WRITE, Answer, Request
from tests.support.github_reviews import reviewing
from tests.support.gitlabs import STRANGER, Gitlab, Project
from tests.support.gitlabs import WRITE as CI
from tests.support.gits import Repo

NAME = "team/charts"


class Row(NamedTuple):
    """needs: the probe of doctor. approval: the only one that is configured. error: None where
    nothing is missing; words: of the answer. scopes: of the token. refuse: part of a path that is
    answered with 403.
    """

    needs: str
    token: str
    words: str
    error: type[PipelineError] | None = None
    approval: str = "{}"
    scopes: str = ""
    refuse: str = ""


def _id(row: Row) -> str:
    return f"{row.needs.removeprefix('review ')}: {row.words}"


ENVIRONMENT = '{github: "environment:production"}'
TEAM, NO_TEAM = '{by: "group:masters"}', '{by: "group:nobody"}'
REFUSED = AccessRefused
GITHUB = (
    Row("review verdict", WRITE, "ci-account may set verdicts"),
    Row("review verdict", READ, "reader needs the right to push", REFUSED),
    Row("review verdict", APP, "not told before"),
    Row("review verdict", WRITE, "it needs repo", REFUSED, scopes="gist"),
    Row("review merge", WRITE, "ci-account may merge"),
    Row("review merge", READ, "reader needs the right to push", REFUSED),
    Row("review merge", WRITE, "repo:status; it needs repo", REFUSED, scopes="repo:status"),
    Row("review release", APP, "takes a release"),
    Row("review release", READ, "contents, write", REFUSED),
    Row("review release", "", "there is no token for GitHub", REFUSED),
    Row("review approvals", WRITE, "1 approval can be read"),
    Row("review approvals", READ, "metadata, read, of an account that may push", REFUSED),
    Row("review approvals", APP, "metadata, read", REFUSED, refuse="/permission"),
    Row("review approvals", WRITE, "can be read", None, ENVIRONMENT),
    Row("review approvals", WRITE, "actions, read", REFUSED, ENVIRONMENT, refuse="/actions/runs"),
    Row("review approvals", WRITE, "can be read", None, TEAM),
    Row("review approvals", APP, "members, read", REFUSED, TEAM),
    Row("review approvals", WRITE, "no team nobody", UsageError, NO_TEAM),
)
GITLAB = (
    Row("review verdict", CI, "ci may set verdicts"),
    Row("review verdict", STRANGER, "eve needs the role Developer", REFUSED),
    Row("review verdict", CI, "read_api; it needs api", REFUSED, scopes="read_api"),
    Row("review merge", CI, "ci may merge"),
    Row("review merge", STRANGER, "eve needs the role Developer", REFUSED),
    Row("review merge", CI, "read_api; it needs api", REFUSED, scopes="read_api"),
    Row("review release", STRANGER, "gitlab answers"),
    Row("review approvals", CI, "can be read", scopes="read_api"),
    Row("review approvals", CI, "it needs read_api", REFUSED, scopes="read_repository"),
    Row("review approvals", CI, "can be read", None, TEAM),
    Row("review approvals", CI, "there is no group nobody", REFUSED, NO_TEAM),
)


def ask(row: Row, checkout: Path, review: str) -> None:
    repo = Repo(checkout / "charts", checkout / "gitconfig")
    rules = f"{{charts: [], review: {{{review}}}, approvals: {{code: {row.approval}}}}}\n"
    repo.put("pipeline.yaml", rules)
    repo.commit()
    config = load((), environ={}, start=repo.root)
    if row.error is None:
        assert row.words in PROBES[row.needs](config)
        return
    with pytest.raises(row.error) as raised:
        PROBES[row.needs](config)
    assert row.words in str(raised.value)


def refusing(row: Row) -> Callable[[Request], Answer | None]:
    return lambda request: (
        Answer(403, {"message": "no"}) if row.refuse and row.refuse in request.path else None
    )


@pytest.mark.parametrize("row", GITHUB, ids=_id)
def test_a_right_that_is_missing_on_github_is_told(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", row.token)
    with reviewing(NAME, tmp_path / "hosted.git") as (hub, people):
        people.teams = {"masters": ["bob"]}
        answered = refusing(row)

        def fault(request: Request) -> Answer | None:
            if row.scopes and request.path.endswith(f"/repos/{NAME}"):
                body = {"permissions": {"push": True}}
                return Answer(200, body, {"X-OAuth-Scopes": row.scopes})
            return answered(request)

        hub.fault = fault
        api = f"{hub.web}/api/v3"
        ask(row, tmp_path, f"github: {{repository: {NAME}, api_url: {api!r}}}")


@pytest.mark.parametrize("row", GITLAB, ids=_id)
def test_a_right_that_is_missing_on_gitlab_is_told(
    row: Row, gitlab: Gitlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITLAB_TOKEN", row.token)
    monkeypatch.setattr(gitlab, "scopes", [row.scopes or "api"])
    name = f"team/{tmp_path.name}"
    gitlab.projects[name] = Project(tmp_path / "hosted.git")
    gitlab.projects[name].groups = {"masters": ["bob"]}
    ask(row, tmp_path, f"gitlab: {{project: {name}, url: {gitlab.url!r}}}")
