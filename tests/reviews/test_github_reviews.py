"""What only GitHub has, of reviews: on a double that GitHub's published description judges."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import Approval, GithubReview
from pipeline_steps.reviews.github import GithubReviews
from pipeline_steps.reviews.review import Finding, Verdict, Word
from pipeline_steps.sources.source import Tag
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    Conflict,
    NotApproved,
    PipelineError,
    Temporary,
    UsageError,
)
from tests.support.charts import packed
from tests.support.github import APP, READ, WRITE, Answer, Fault, Github, Request
from tests.support.github_reviews import (
    APPROVED_ONCE,
    CHECKED,
    PullRequests,
    reviewing,
    rule,
)

NAME = "team/charts"
REVIEW = Approval()
PRODUCTION = Approval(github="environment:production")


class Place:
    """A GitHub with one pull request, number 1 by alice, of the branch `fix`."""

    def __init__(self, hub: Github, people: PullRequests) -> None:
        self.hub, self.people = hub, people
        people.people |= {"alice": "write", "bob": "write", "carol": "admin", "mallory": "read"}
        self.head = people.git.commit("fix", {"charts/web/Chart.yaml": "name: web\n"})
        people.open("alice", "fix", title="Fix web")

    def reviews(
        self, token: str = WRITE, *, budget: float = 0, environ: dict[str, str] | None = None,
        **settings: str,
    ) -> GithubReviews:  # fmt: skip
        api = f"{self.hub.web}/api/v3"
        variables = {"GITHUB_TOKEN": token, **(environ or {})}
        review = GithubReview(NAME, api, **settings)  # type: ignore[arg-type]
        return GithubReviews(review, {}, environ=variables, budget=budget)

    def verdict(
        self, word: Word = "positive", findings: int = 0, text: str = "All **good**"
    ) -> Verdict:
        places = tuple(
            Finding("charts/web/Chart.yaml", n, f"line {n}") for n in range(1, findings + 1)
        )
        return Verdict(self.head, word, "2 charts", text, "https://ci.example.com/1", places)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with reviewing(NAME, tmp_path / "hosted.git") as (hub, people):
        yield Place(hub, people)


def test_a_check_run_has_every_annotation_once_whatever_is_delivered_again(place: Place) -> None:
    reviews = place.reviews(APP, verdict="check")
    review = reviews.review("1")
    assert reviews.deliver(review, place.verdict("started", text="")).outcome == "set"
    assert reviews.deliver(review, place.verdict("negative", 120)).outcome == "set"
    requests = len(place.hub.requests)
    assert reviews.deliver(review, place.verdict("negative", 120)).outcome == "unchanged"
    assert {each.method for each in place.hub.requests[requests:]} == {"GET"}
    (run,) = place.people.checks.values()
    assert [each["start_line"] for each in run["output"]["annotations"]] == list(range(1, 121))
    assert (run["status"], run["conclusion"]) == ("completed", "failure")
    reviews.deliver(review, place.verdict("negative", 3))
    assert [len(each["output"]["annotations"]) for each in place.people.checks.values()] == [120, 3]


@pytest.mark.parametrize("kind", ["check", "status"])
@pytest.mark.parametrize("word", ["positive", "negative", "incomplete", "started"])
def test_a_required_check_passes_for_a_positive_verdict_only(
    place: Place, kind: str, word: Word
) -> None:
    reviews = place.reviews(APP, verdict=kind)
    review = reviews.review("1")
    reviews.deliver(review, place.verdict(word))
    passes = place.people.passing(place.head, "pipeline-steps") == "success"
    assert passes == (word == "positive")
    assert reviews.verdict(review, place.head) == word


def test_a_status_says_once_that_tests_have_begun(place: Place) -> None:
    reviews = place.reviews()
    verdict = place.verdict("started")._replace(summary="started: tests have begun")
    reviews.deliver(reviews.review("1"), verdict)
    assert [each["description"] for each in place.people.statuses] == [verdict.summary]


def test_a_check_run_that_is_killed_between_annotations_does_not_pass(place: Place) -> None:
    reviews = place.reviews(APP, verdict="check")

    def second_fails(request: Request) -> Answer | None:
        return Answer(502, {"message": "bad"}) if request.method == "PATCH" else None

    place.hub.fault = second_fails
    review = reviews.review("1")
    with pytest.raises(Temporary):
        reviews.deliver(review, place.verdict("positive", 70))
    assert reviews.verdict(review, place.head) is None
    place.hub.fault = lambda _: None
    assert reviews.deliver(review, place.verdict("positive", 70)).outcome == "set"
    newest = list(place.people.checks.values())[-1]
    assert (newest["conclusion"], len(newest["output"]["annotations"])) == ("success", 70)


def test_the_check_run_of_a_job_with_our_name_is_left_alone(place: Place) -> None:
    reviews = place.reviews(APP, verdict="check")
    number = next(place.hub.ids)
    job = {
        "id": number, "name": "pipeline-steps", "head_sha": place.head, "status": "in_progress",
        "conclusion": None, "external_id": "9c1a", "started_at": None, "completed_at": None,
        "html_url": None, "output": {"title": None, "summary": None, "text": None, "annotations": []},
    }  # fmt: skip
    place.people.checks[number] = dict(job)
    reviews.deliver(reviews.review("1"), place.verdict())
    assert place.people.checks[number] == job
    assert len(place.people.checks) == 2


def test_a_plain_token_is_told_that_check_runs_are_for_apps(place: Place) -> None:
    reviews = place.reviews(WRITE, verdict="check")
    with pytest.raises(AccessRefused, match=r"review\.github\.verdict: status"):
        reviews.deliver(reviews.review("1"), place.verdict())


@pytest.mark.parametrize(
    ("environ", "kind"), [({"GITHUB_ACTIONS": "true"}, "check"), ({}, "status")]
)
def test_check_runs_are_written_in_github_actions_unless_told(
    place: Place, environ: dict[str, str], kind: str
) -> None:
    reviews = place.reviews(APP, environ=environ)
    reviews.deliver(reviews.review("1"), place.verdict())
    written = "check" if place.people.checks else "status"
    assert (written, bool(place.people.statuses)) == (kind, kind == "status")


def test_a_missing_right_is_named_as_github_names_it(place: Place) -> None:
    rights = {"X-Accepted-GitHub-Permissions": "statuses=write"}

    def refuse(request: Request) -> Answer | None:
        return Answer(403, {"message": "no"}, rights) if request.method == "POST" else None

    place.hub.fault = refuse
    reviews = place.reviews()
    with pytest.raises(AccessRefused, match="statuses, write"):
        reviews.deliver(reviews.review("1"), place.verdict())


def test_the_comment_of_somebody_with_our_marker_is_left_alone(place: Place) -> None:
    reviews = place.reviews()
    forged = {
        "id": next(place.hub.ids), "issue": "1", "user": {"login": "mallory", "type": "User"},
        "body": "<!-- pipeline-steps: pipeline-steps -->\nall good",
    }  # fmt: skip
    place.people.comments[forged["id"]] = dict(forged)  # type: ignore[index]
    review = reviews.review("1")
    reviews.deliver(review, place.verdict(text="one"))
    reviews.deliver(review, place.verdict(text="two"))
    assert place.people.comments[forged["id"]] == forged  # type: ignore[index]
    bodies = [each["body"].partition("\n")[2] for each in place.people.comments.values()]
    assert bodies == ["all good", "two"]


def test_two_first_reports_at_the_same_time_leave_one_comment(place: Place) -> None:
    """The other one's is there before ours, and was not when we looked."""
    reviews = place.reviews()
    other = {"issue": "1", "user": {"login": "ci-account", "type": "User"}}

    def between(request: Request) -> None:
        if request.method == "POST" and request.path.endswith("/comments"):
            body = "<!-- pipeline-steps: pipeline-steps -->\ntheirs"
            number = next(place.hub.ids)
            place.people.comments[number] = {"id": number, "body": body, **other}

    place.hub.fault = between
    review = reviews.review("1")
    assert reviews.deliver(review, place.verdict(text="ours")).outcome == "set"
    [comment] = place.people.comments.values()
    assert comment["body"].endswith("\nours")
    place.people.comments.clear()  # somebody deletes it
    assert reviews.deliver(review, place.verdict(text="ours")).outcome == "set"
    assert len(place.people.comments) == 1


def test_the_commit_of_a_merge_queue_gets_the_verdict_and_no_comment(place: Place) -> None:
    reviews = place.reviews()
    review = reviews.review("1")
    queued = place.people.git.commit(
        "gh-readonly-queue/main/pr-1-0123", {"a": "b"}, onto=place.head
    )
    verdict = place.verdict()._replace(revision=queued)
    assert reviews.deliver(review, verdict).outcome == "set"
    assert place.people.passing(queued, "pipeline-steps") == "success"
    assert not place.people.comments
    other = place.people.git.commit("elsewhere", {"a": "c"})
    assert reviews.deliver(review, verdict._replace(revision=other)).outcome == "superseded"
    place.people.git.git("update-ref", "refs/heads/gh-readonly-queue/v1%25/pr-1-45", other)
    for_branch = review._replace(target="v1%25")
    assert reviews.deliver(for_branch, verdict._replace(revision=other)).outcome == "set"


def test_only_the_newest_word_of_people_who_may_write_counts(place: Place) -> None:
    people = place.people
    people.say(1, "bob", "CHANGES_REQUESTED")
    people.say(1, "bob", "APPROVED")
    people.say(1, "bob", "COMMENTED")
    people.say(1, "mallory", "APPROVED")
    people.people["renovate[bot]"] = "write"  # an app is nobody, whatever it may
    people.say(1, "renovate[bot]", "APPROVED")
    people.say(1, "eve", "CHANGES_REQUESTED")
    people.dismiss(1, people.say(1, "carol", "APPROVED"))
    reviews = place.reviews()
    votes = {vote.account: vote for vote in reviews.votes(reviews.review("1"), REVIEW)}
    assert {name: vote.reason for name, vote in votes.items()} == {
        "bob": "",
        "carol": "it was dismissed",
        "mallory": "no right to write to the repository",
        "renovate[bot]": "no right to write to the repository",
    }
    assert (votes["bob"].revision, votes["bob"].word) == (place.head, "approve")


def test_a_vote_names_the_commit_that_it_was_given_on(place: Place) -> None:
    place.people.say(1, "bob", "APPROVED")
    newer = place.people.git.commit("fix", {"b": "c"})
    reviews = place.reviews()
    review = reviews.review("1")
    (vote,) = reviews.votes(review, REVIEW)
    assert (vote.revision, review.head) == (place.head, newer)
    assert review.revisions == (place.head, newer)


@pytest.mark.parametrize("forced", [True, False])
def test_an_approval_that_github_moved_to_a_commit_nobody_saw_does_not_count(
    place: Place, forced: bool
) -> None:
    place.people.say(1, "bob", "APPROVED")
    place.people.say(1, "carol", "CHANGES_REQUESTED")
    head = place.people.rebase(1, {"charts/web/values.yaml": "other: true\n"}, forced=forced)
    reviews = place.reviews()
    votes = {each.account: each for each in reviews.votes(reviews.review("1"), REVIEW)}
    assert (votes["bob"].revision, votes["bob"].word) == (head, "approve")
    assert "GitHub moved it, approve again" in votes["bob"].reason
    assert (votes["carol"].word, votes["carol"].reason) == ("reject", "")
    place.people.say(1, "bob", "APPROVED")
    votes = {each.account: each for each in reviews.votes(reviews.review("1"), REVIEW)}
    assert votes["bob"].reason == ""


def test_an_approval_that_stayed_at_its_commit_counts_after_a_forced_push(place: Place) -> None:
    place.people.say(1, "bob", "APPROVED", place.head)
    head = place.people.rebase(1, {"charts/web/values.yaml": "other: true\n"})
    place.people.pulls[1]["reviews"][0]["commit_id"] = place.head
    reviews = place.reviews()
    [vote] = reviews.votes(reviews.review("1"), REVIEW)
    assert (vote.revision, vote.reason, head != place.head) == (place.head, "", True)


def test_reviewers_of_an_environment_are_read_from_the_runs_of_the_revision(place: Place) -> None:
    place.people.run(place.head, bob="rejected")
    place.people.run(place.head, bob="approved", carol="approved", **{"gate[bot]": "approved"})
    place.people.run(place.people.git.tip("main"), mallory="approved")
    reviews = place.reviews()
    votes = reviews.votes(reviews.review("1"), PRODUCTION)
    assert [(vote.account, vote.word, vote.revision) for vote in votes] == [
        ("bob", "approve", place.head),
        ("carol", "approve", place.head),
    ]
    other = Approval(github="environment:staging")
    assert reviews.votes(reviews.review("1"), other) == ()


@pytest.mark.parametrize("order", [("approved", "rejected"), ("rejected", "approved")])
def test_of_the_attempts_of_one_run_a_rejection_counts(
    place: Place, order: tuple[str, str]
) -> None:
    """GitHub says of none when it was."""
    run = place.people.run(place.head, bob=order[0])
    place.people.approvals[run] += [{**place.people.approvals[run][0], "state": order[1]}]
    reviews = place.reviews()
    assert [vote.word for vote in reviews.votes(reviews.review("1"), PRODUCTION)] == ["reject"]
    place.people.run(place.head, bob="approved")
    assert [vote.word for vote in reviews.votes(reviews.review("1"), PRODUCTION)] == ["approve"]


def test_the_run_that_asks_counts_too(place: Place) -> None:
    run = place.people.run(place.people.git.tip("main"), carol="approved")
    environ = {"GITHUB_REPOSITORY": NAME, "GITHUB_RUN_ID": str(run)}
    reviews = place.reviews(environ=environ)
    votes = reviews.votes(reviews.review("1"), PRODUCTION)
    assert [vote.account for vote in votes] == ["carol"]


def test_a_team_that_the_token_may_not_read_is_told_from_one_that_does_not_exist(
    place: Place,
) -> None:
    place.people.teams = {"release-managers": ["carol", "bob"]}
    assert place.reviews().members("release-managers") == {"bob", "carol"}
    assert place.reviews().members("team/release-managers") == {"bob", "carol"}
    with pytest.raises(UsageError, match="no team masters"):
        place.reviews().members("masters")
    with pytest.raises(AccessRefused, match="members, read"):
        place.reviews(APP).members("release-managers")


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_what_is_merged_belongs_to_its_pull_request_however_it_was_merged(
    place: Place, method: str
) -> None:
    place.people.git.commit("main", {"other": "x"})
    reviews = place.reviews(merge_method=method)
    merged = reviews.merge(reviews.review("1"), place.head, "Fix web\n\nwith words")
    assert place.people.git.tip("main") == merged
    (review,) = reviews.reviews_of(merged)
    assert (review.id, review.state, review.merged) == ("1", "merged", merged)
    assert reviews.merge(review, place.head, "again") == merged
    parents = place.people.git.git("rev-list", "--parents", "-1", merged).split()[1:]
    assert len(parents) == (2 if method == "merge" else 1)


def test_the_method_is_the_first_that_repository_and_rulesets_allow(place: Place) -> None:
    place.people.settings["allow_merge_commit"] = False
    methods = {"allowed_merge_methods": ["rebase", "merge"]}
    place.people.rules = [rule("pull_request", {**APPROVED_ONCE, **methods})]
    reviews = place.reviews()
    review = reviews.review("1")
    place.people.say(1, "mallory", "APPROVED")
    with pytest.raises(NotApproved, match="1 approving review"):
        reviews.merge(review, place.head, "no")
    place.people.say(1, "bob", "APPROVED")
    reviews.merge(review, place.head, "yes")
    sent = [json.loads(each.body) for each in place.hub.requests if each.method == "PUT"]
    assert {each["merge_method"] for each in sent} == {"rebase"}


def test_settings_that_allow_no_way_of_merging_are_a_wrong_configuration(place: Place) -> None:
    place.people.settings["allow_merge_commit"] = False
    methods = {"allowed_merge_methods": ["merge"]}
    place.people.rules = [rule("pull_request", {**APPROVED_ONCE, **methods})]
    place.people.say(1, "bob", "APPROVED")
    reviews = place.reviews()
    with pytest.raises(ConfigurationError, match=r"allow no way of merging.*allow merge, squash"):
        reviews.merge(reviews.review("1"), place.head, "no")


def test_a_conflict_is_told_when_github_has_compared(place: Place) -> None:
    place.people.git.commit("main", {"charts/web/Chart.yaml": "name: other\n"})
    reviews = place.reviews()
    with pytest.raises(Conflict, match="conflicts with the target"):
        reviews.merge(reviews.review("1"), place.head, "no")
    place.people.git.commit("fix", {"b": "c"})
    with pytest.raises(Conflict, match="test and approve the new revision"):
        reviews.merge(reviews.review("1"), place.head, "no")


def test_a_merge_whose_answer_is_lost_is_done_once(place: Place) -> None:
    lost: list[int] = []

    def lose(request: Request) -> str | None:
        if request.method == "PUT" and not lost:
            lost.append(request.number)
            return "lose"
        return None

    reviews = place.reviews(budget=20)
    reviews.review("1")
    place.hub.fault = lose  # type: ignore[assignment]
    merged = reviews.merge(reviews.review("1"), place.head, "once")
    assert (lost != [], place.people.git.tip("main")) == (True, merged)


def test_what_is_pushed_between_the_look_and_the_merge_is_not_merged(place: Place) -> None:
    pushed: list[str] = []

    def push(request: Request) -> None:
        if request.method == "PUT" and not pushed:
            pushed.append(place.people.git.commit("fix", {"charts/web/values.yaml": "a: b\n"}))

    reviews = place.reviews()
    before = place.people.git.tip("main")
    place.hub.fault = push
    with pytest.raises(Conflict, match="test and approve the new revision"):
        reviews.merge(reviews.review("1"), place.head, "no")
    assert (pushed != [], place.people.git.tip("main")) == (True, before)


def test_a_merge_queue_is_entered_at_the_pinned_revision(place: Place) -> None:
    place.people.queue = []
    place.people.rules = [rule("merge_queue")]
    reviews = place.reviews()
    review = reviews.review("1")
    for _ in range(2):
        with pytest.raises(Temporary, match="merge queue at position 1"):
            reviews.merge(review, place.head, "queued")
    assert place.people.queue == [1]
    merged = place.people.merge(1, "squash")
    assert reviews.merge(review, place.head, "queued") == merged


def test_a_merge_queue_of_classic_protection_is_found_when_the_merge_is_refused(
    place: Place,
) -> None:
    place.people.queue = []
    refusal = {"message": "Changes must be made through the merge queue"}
    place.hub.fault = lambda each: Answer(405, refusal) if each.method == "PUT" else None
    reviews = place.reviews()
    with pytest.raises(Temporary, match="merge queue"):
        reviews.merge(reviews.review("1"), place.head, "queued")
    assert place.people.queue == [1]


LIMITED = {"type": "RATE_LIMITED", "message": "API rate limit exceeded for user ID 1."}
BROKEN = {"message": "Something went wrong while executing your query. This may be a GitHub bug."}


def test_a_limit_of_graphql_is_waited_for_and_no_refusal_of_the_queue(place: Place) -> None:
    """ "Rate limits and query limits for the GraphQL API": the status is 200."""
    place.people.queue = []
    place.people.rules = [rule("merge_queue")]
    review = place.reviews().review("1")
    for mutation in (False, True):
        for problem in (LIMITED, BROKEN):
            told = Answer(200, {"data": None, "errors": [problem]}, {"Retry-After": "0"})

            def fault(
                request: Request, told: Answer = told, mutation: bool = mutation
            ) -> Answer | None:
                is_asked = request.path.endswith("/graphql")
                return told if is_asked and (b"mutation" in request.body) == mutation else None

            place.hub.fault = fault
            with pytest.raises(Temporary, match=problem["message"][:20]):
                place.reviews().merge(review, place.head, "queued")
    assert place.people.queue == []
    limited = iter([Answer(200, {"errors": [LIMITED]}, {"Retry-After": "0"})])
    place.hub.fault = lambda each: next(limited, None) if b"mutation" in each.body else None
    with pytest.raises(Temporary, match="merge queue at position 1"):
        place.reviews(budget=10).merge(review, place.head, "queued")


def test_a_refused_merge_is_told_where_queues_are_not_known(place: Place) -> None:
    """As of an older GitHub Enterprise, or a private repository without a paid plan."""
    unknown = {"message": "Field 'mergeQueue' doesn't exist on type 'Repository'"}
    upgrade = {"message": "Upgrade to GitHub Pro or make this repository public"}
    place.people.rules = [rule("pull_request", APPROVED_ONCE)]

    def fault(request: Request) -> Answer | None:
        if "/rules/" in request.path:
            return Answer(403, upgrade)
        return Answer(200, {"errors": [unknown]}) if "/graphql" in request.path else None

    place.hub.fault = fault
    reviews = place.reviews()
    with pytest.raises(NotApproved, match="1 approving review"):
        reviews.merge(reviews.review("1"), place.head, "no")
    place.people.say(1, "bob", "APPROVED")
    assert reviews.merge(reviews.review("1"), place.head, "yes")


def test_a_merge_queue_that_refuses_is_quoted(place: Place) -> None:
    place.people.queue = []
    checked = {**CHECKED, "required_status_checks": [{"context": "ci"}]}
    place.people.rules = [rule("required_status_checks", checked), rule("merge_queue")]
    reviews = place.reviews()
    with pytest.raises(NotApproved, match='"ci" is expected'):
        reviews.merge(reviews.review("1"), place.head, "no")
    with pytest.raises(AccessRefused, match="contents, write"):
        place.reviews(READ).merge(reviews.review("1"), place.head, "no")


def test_the_configured_api_beats_the_variables_and_gets_its_own_token(place: Place) -> None:
    elsewhere = {"GITHUB_API_URL": "https://api.github.com", "GITHUB_REPOSITORY": "other/place"}
    host = place.hub.web.partition("://")[2]
    settings = GithubReview(NAME, f"{place.hub.web}/api/v3")
    hosts = {host: Host("ci", WRITE)}
    variables = {**elsewhere, "GITHUB_TOKEN": "of-another-github"}
    reviews = GithubReviews(settings, hosts, environ=variables, budget=0)
    assert reviews.review(f"{place.hub.web}/{NAME}/pull/1").title == "Fix web"
    told = {each.headers["Authorization"] for each in place.hub.requests}
    assert told == {f"Bearer {WRITE}"}


def test_the_pull_request_of_a_fork_is_found_by_its_revision(place: Place) -> None:
    head = place.people.git.commit("topic", {"charts/web/values.yaml": "a: b\n"})
    number = place.people.open("eve", "topic", fork="eve/charts")
    place.people.open("eve", "fix", fork="eve/charts")  # another one's head
    [review] = place.reviews().reviews_of(head)
    assert (review.id, review.head, review.state) == (str(number), head, "open")
    newer = place.people.git.commit("topic", {"charts/web/values.yaml": "a: c\n"})
    assert place.reviews().reviews_of(head) == ()
    merged = place.people.merge(number, "squash")
    [review] = place.reviews().reviews_of(merged)
    assert (review.id, review.head, review.merged) == (str(number), newer, merged)


def test_a_renamed_repository_is_told_and_not_taken_for_one_without_reviews(place: Place) -> None:
    place.hub.repositories = {"team/renamed": place.hub.repository(NAME), **place.hub.repositories}
    with pytest.raises(ConfigurationError, match="called team/renamed now"):
        place.reviews().reviews_of(place.head)


def test_many_reviews_are_read_page_by_page(place: Place) -> None:
    for _ in range(150):
        place.people.say(1, "bob", "COMMENTED")
    place.people.say(1, "bob", "APPROVED")
    reviews = place.reviews()
    assert [vote.word for vote in reviews.votes(reviews.review("1"), REVIEW)] == ["approve"]


def test_a_rate_limit_is_waited_for_and_told(place: Place) -> None:
    limited = Answer(403, {"message": "secondary rate limit"}, {"Retry-After": "1"})
    place.hub.fault = lambda each: limited if each.number == 2 else None
    start = time.monotonic()
    assert place.reviews(budget=60).review("1").title == "Fix web"
    assert time.monotonic() - start > 0.9
    place.hub.fault = lambda _: limited
    with pytest.raises(Temporary, match="secondary rate limit"):
        place.reviews().review("1")


def test_a_pull_request_that_does_not_exist_is_told_from_a_hidden_repository(place: Place) -> None:
    with pytest.raises(UsageError, match="no such pull request"):
        place.reviews().review("99")
    with pytest.raises(UsageError, match="not a pull request of this repository"):
        place.reviews().review("https://elsewhere.example.com/team/charts/pull/1")
    assert place.reviews().reviews_of("0" * 40) == ()
    place.hub.repository(NAME).private = True
    place.hub.fault = lambda _: Answer(404, {"message": "Not Found"})
    with pytest.raises(AccessRefused, match="may not see it"):
        place.reviews().review("1")


def test_that_only_apps_write_check_runs_is_told_before(place: Place) -> None:
    with pytest.raises(AccessRefused, match="only apps write check runs"):
        place.reviews(WRITE, verdict="check").access()


def tagged(place: Place, name: str) -> Tag:
    """An annotated tag of main that was pushed."""
    place.people.git.git("tag", "--annotate", "--message", f"Release {name}", name, "main")
    return Tag(name, place.people.git.tip("main"), "", "")


def test_a_pushed_tag_becomes_a_release_with_the_chart(place: Place) -> None:
    there, chart = place.hub.repository(NAME), packed(version="1.0.0-rc.1+b")
    place.hub.plus = "."  # GitHub stores some names otherwise
    files = {chart.file_name.replace("+", "."): chart.tgz}
    reviews = place.reviews(APP)
    with pytest.raises(UsageError, match="push the tag first"):
        reviews.publish_release_of(Tag("v1", place.people.git.tip("main"), "", ""), chart)
    assert (there.releases, place.people.git.git("tag")) == ({}, ""), "none was made"
    tag = tagged(place, "v1")
    there.releases[99] = {"id": 99, "tag_name": "v1", "draft": True, "name": "Notes"}
    for _ in range(2):  # the second finds all there
        assert reviews.publish_release_of(tag, chart) == f"{place.hub.web}/{NAME}/releases/tag/v1"
    assert there.published() == {"v1": files}
    assert there.releases.pop(99)["name"] == "Notes", "a draft of people stays"
    assert [each["prerelease"] for each in there.releases.values()] == [True]
    other = packed(version=chart.version, more="description: another\n")
    with pytest.raises(Conflict, match="with another content"):
        reviews.publish_release_of(tag, other)
    assert there.published() == {"v1": files}


def test_a_tag_that_is_removed_meanwhile_is_told(place: Place) -> None:
    """GitHub makes one when it publishes, at the default branch."""
    tag = tagged(place, "v1")
    place.people.git.commit("main", {"later": "x"})

    def remove(request: Request) -> None:
        if request.method == "PATCH":
            place.people.git.git("tag", "--delete", "v1")

    place.hub.fault = remove
    with pytest.raises(Conflict, match="the tag v1 names"):
        place.reviews(APP).publish_release_of(tag, packed())


@pytest.mark.parametrize("fault", ["drop", "lose", "half"])
def test_a_release_killed_at_any_request_is_finished_and_never_doubled(
    place: Place, fault: Fault
) -> None:
    there, chart = place.hub.repository(NAME), packed()
    before = len(place.hub.requests)
    place.reviews().publish_release_of(tagged(place, "v"), chart)
    requests = place.hub.requests[before:]
    # Half of a request is left of an upload only.
    steps = [n for n, each in enumerate(requests) if fault != "half" or "/uploads/" in each.path]
    assert len(steps) > 6 or fault == "half"
    for step in steps:
        tag, last = tagged(place, f"v{step}"), len(place.hub.requests) + 1 + step

        def killed(request: Request, last: int = last) -> Fault | None:
            return None if request.number < last else fault if request.number == last else "drop"

        place.hub.fault = killed
        with contextlib.suppress(PipelineError):
            place.reviews().publish_release_of(tag, chart)
        place.hub.fault = lambda _: None
        place.reviews(budget=60).publish_release_of(tag, chart)
    files = {chart.file_name: chart.tgz}
    assert there.published() == {"v": files, **{f"v{step}": files for step in steps}}
    assert len(there.releases) == len(there.assets) == len(steps) + 1, "no draft, no half file"


@pytest.mark.parametrize(
    "path, words",
    [
        ("/pulls/1/reviews?order=newest", "no parameter order"),
        ("/immutable-releases", "no such operation"),  # of GitHub Enterprise
    ],
)
def test_the_double_refuses_what_the_descriptions_do_not_have(
    tmp_path: Path, path: str, words: str
) -> None:
    with pytest.raises(AssertionError), reviewing(NAME, tmp_path / "hosted.git") as (hub, people):
        reviews = Place(hub, people).reviews()
        hub.fault = lambda _: Answer(200, {})  # a request is judged whatever answers it
        reviews._github.call("GET", path, allowed=(501,))
        assert words in hub.wrong[-1]
