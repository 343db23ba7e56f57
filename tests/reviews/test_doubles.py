"""What the doubles of GitHub and GitLab stand on: a published description, a page of documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.services.gitlab import Gitlab
from tests.reviews import test_reviews as suite
from tests.support import github_reviews, gitlabs
from tests.support.github import ROUTES, SERVER_ROUTES
from tests.support.github_description import (
    JSON,
    VERSION,
    NotAsDescribed,
    description,
    enterprise,
    graphql_answer,
    query_errors,
)
from tools import review_table


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


class Sent(NamedTuple):
    """A request to GitHub, as its client would send it unless a test says otherwise."""

    method: str
    path: str
    body: Any = None
    query: Mapping[str, str] = {}
    headers: Mapping[str, str | None] = {}

    def judged_by(self, judge: Any = None) -> None:
        usual = {"Accept": JSON, "X-GitHub-Api-Version": VERSION, "Authorization": "Bearer t"}
        kind = {} if self.body is None else {"Content-Type": "application/json"}
        headers = {
            name: value
            for name, value in {**usual, **kind, **self.headers}.items()
            if value is not None
        }
        data = b"" if self.body is None else json.dumps(self.body).encode()
        path = f"/repos/team/charts{self.path}"
        (judge or description()).check_request(self.method, path, self.query, headers, data)


STATUS = "/statuses/0a1b"
CHECK = {"name": "pipeline-steps", "head_sha": "0a1b"}


def annotated(**fields: Any) -> Any:
    finding = {"path": "a", "start_line": 1, "end_line": 1, "message": "m"}
    output = {"title": "t", "summary": "s"}
    return {**CHECK, "output": {**output, "annotations": [{**finding, **fields}]}}


GOOD = (
    Sent("POST", STATUS, {"state": "success", "description": "all passed"}),
    Sent("POST", "/check-runs", annotated(annotation_level="failure")),
    Sent("GET", "/pulls/1/reviews", query={"per_page": "100", "page": "2"}),
    Sent("GET", "/git/ref/tags/a/b"),
    Sent("GET", "/releases/assets/1", headers={"Accept": "application/octet-stream"}),
    Sent("GET", "/contents/index.yaml", headers={"Accept": "application/vnd.github.raw+json"}),
)
#: What GitHub refuses, or takes and ignores.
WRONG = {
    "no such path": (Sent("GET", "/pull/1"), "no such operation"),
    "no such method": (Sent("PATCH", "/pulls/1/reviews", {}), "no such operation"),
    "value of a list": (Sent("POST", STATUS, {"state": "passed"}), "'passed' is not one of"),
    "lacking field": (Sent("POST", STATUS, {"description": "all passed"}), "'state' is a required"),
    "type": (Sent("POST", STATUS, {"state": "success", "context": 1}), "1 is not of type 'string'"),
    "misspelt field": (
        Sent("POST", STATUS, {"state": "success", "descripton": "all passed"}),
        "no field /descripton",
    ),
    "misspelt field far inside": (
        Sent("POST", "/check-runs", annotated(annotation_level="failure", titel="t")),
        "no field /output/annotations/titel",
    ),
    "lacking field far inside": (Sent("POST", "/check-runs", annotated()), "'annotation_level'"),
    "no body": (Sent("POST", STATUS), "a body is required"),
    "body of a question": (Sent("GET", "/pulls/1", {"a": 1}), "is not described"),
    "content type": (
        Sent("POST", STATUS, {"state": "success"}, headers={"Content-Type": "text/plain"}),
        "the type text/plain is not described",
    ),
    "parameter": (Sent("GET", "/pulls/1/reviews", query={"order": "newest"}), "no parameter order"),
    "value of a parameter": (
        Sent("GET", "/commits/0a1b/check-runs", query={"filter": "newest"}),
        "filter: 'newest' is not one of",
    ),
    "type of a parameter": (Sent("GET", "/pulls/1/reviews", query={"page": "two"}), "page: 'two'"),
    "part of the path": (Sent("GET", "/pulls/first"), "pull_number: 'first'"),
    "lacking parameter": (
        Sent("POST", "/releases/1/assets", {}, headers={"Content-Type": "application/gzip"}),
        "the parameter name is required",
    ),
    "accept": (Sent("GET", "/pulls/1", headers={"Accept": "text/html"}), "Accept is text/html"),
    "no accept": (Sent("GET", "/pulls/1", headers={"Accept": None}), "Accept is none"),
    "no version": (Sent("GET", "/pulls/1", headers={"X-GitHub-Api-Version": None}), VERSION),
    "login": (Sent("GET", "/pulls/1", headers={"Authorization": "Basic eA=="}), "no bearer token"),
}


def test_the_judge_takes_what_github_describes() -> None:
    for sent in GOOD:
        sent.judged_by()
        sent.judged_by(enterprise())


@pytest.mark.parametrize("name", WRONG)
def test_the_judge_refuses_what_github_would_refuse_or_ignore(name: str) -> None:
    sent, words = WRONG[name]
    with pytest.raises(NotAsDescribed, match=re.escape(words)):
        sent.judged_by()


def test_github_enterprise_has_a_judge_of_its_own() -> None:
    """A field and an operation that only github.com has."""
    release = Sent("POST", "/releases", {"tag_name": "v1", "discussion_category_name": "New"})
    immutable = Sent("GET", "/immutable-releases")
    for sent in (release, immutable):
        sent.judged_by()
        with pytest.raises(NotAsDescribed, match=r"no field|no such operation"):
            sent.judged_by(enterprise())


ANSWERS: dict[str, tuple[str, str, int, Any, str]] = {
    "field": ("GET", "/pulls/1", 200, {"approved": True}, "no field /approved"),
    "field inside": ("GET", "/pulls/1", 200, {"head": {"commit": ""}}, "no field /head/commit"),
    "type": ("GET", "/pulls/1", 200, {"number": "1"}, "'1' is not of type 'integer'"),
    "value of a list": ("GET", "/pulls/1", 200, {"state": "merged"}, "'merged' is not one of"),
    "null": ("GET", "/pulls/1", 200, {"title": None}, "None is not of type 'string'"),
    "status": ("GET", "/pulls/1", 201, {}, "201 is not described"),
    "no content": ("GET", "/pulls/1", 200, None, "none at all"),
    "content": ("DELETE", "/releases/1", 204, {"id": 1}, "none is described"),
    "a list": ("GET", "/pulls/1/reviews", 200, {"reviews": []}, "no field /reviews"),
    "error": ("GET", "/pulls/1", 404, {"reason": "none"}, "no field /reason"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_judge_refuses_answers_that_github_does_not_give(name: str) -> None:
    method, path, status, body, words = ANSWERS[name]
    with pytest.raises(NotAsDescribed, match=re.escape(words)):
        description().complete(method, f"/repos/team/charts{path}", status, body)


def test_answers_get_what_the_description_requires() -> None:
    told = description().complete("GET", "/repos/team/charts/pulls/1", 200, {"title": "Mine"})
    assert told["title"] == "Mine" and {"merged", "mergeable_state", "user"} <= set(told)


def test_graphql_is_judged_by_its_schema_both_ways() -> None:
    query = 'query($n: Int!) { repository(owner: "a", name: "b") { pullRequest(number: $n) { id %s } } }'
    assert list(query_errors(query % "isDraft", {"n": 1})) == []
    assert any("isDraught" in error for error in query_errors(query % "isDraught", {"n": 1}))
    assert any("$n" in error for error in query_errors(query % "isDraft", {"n": "one"}))
    data = {"repository": {"pullRequest": {"id": "1", "isDraft": None}}}
    with pytest.raises(NotAsDescribed, match=r"non-nullable field PullRequest\.isDraft"):
        graphql_answer(query % "isDraft", {"n": 1}, data)


def test_the_table_of_the_docs_says_what_the_suite_asks() -> None:
    """The page is made from names of decorators; here is what each of them asks."""
    systems = review_table.systems()
    for decorator, question in review_table.questions():
        test = getattr(suite, f"test_{question.replace(' ', '_')}")
        [asked] = [mark.args[1] for mark in test.pytestmark if mark.args[0] == "world"]
        told = [each.name for each in systems if review_table.cell(decorator, each) != "–"]
        ways = decorator == "every_way"
        assert set(asked) == {name for name in told if ways or name in suite.COLUMNS}, question
    tests = [name for name in vars(suite) if name.startswith("test_")]
    assert len(tests) == len(review_table.questions()), "each is in the table"


@pytest.mark.parametrize(
    "method, path, body, words",
    [
        ("GET", "/merge_requests/1/approval", None, "no page describes it"),
        ("PATCH", "/merge_requests/1/notes/1", {"body": "b"}, "no page describes it"),
        ("GET", "/merge_requests/1/notes?order=asc", None, "no parameter order"),
        ("POST", "/merge_requests/1/notes", {"text": "t"}, "fields ['text']"),
        ("PUT", "/merge_requests/1/merge", {"sha": "0a1b", "sqash": True}, "'sqash'"),
    ],
)
def test_gitlabs_double_notes_what_gitlab_would_refuse_or_ignore(
    tmp_path: Path, method: str, path: str, body: Any, words: str
) -> None:
    with pytest.raises(AssertionError), gitlabs.gitlab() as hub:
        project = hub.projects["team/charts"] = gitlabs.Project(tmp_path / "hosted.git")
        project.git.commit("topic", {"a": "1"}, "Change")
        project.open("alice", "topic")
        hosts = {hub.url.partition("://")[2]: Host("ci", gitlabs.WRITE)}
        client = Gitlab(hub.url, "team/charts", hosts, environ={}, budget=0)
        client.call(method, path, body=body, allowed=range(600))
        assert words in hub.wrong[-1]


def test_every_answer_of_gitlabs_double_names_its_page() -> None:
    for method, pattern, answer in gitlabs.ROUTES:
        words = answer.__doc__ or ""
        assert re.search(r'"[A-Z][^"]+"', words), f"{method} {pattern.pattern}"
