"""What only GitLab has, of reviews: on a double written after its documentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import Approval, GithubReview, GitlabReview
from pipeline_steps.reviews.github import GithubReviews
from pipeline_steps.reviews.gitlab import GitlabReviews
from pipeline_steps.reviews.review import Verdict, Word
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    Conflict,
    MachineError,
    NotApproved,
    Temporary,
    UsageError,
)
from tests.support.github import Answer, Request
from tests.support.gitlabs import JOB, STRANGER, WRITE, Gitlab, Project

NAME = "group/sub/charts"
ANY = Approval()


class Place:
    """A GitLab with one merge request, number 1 by alice, of the branch `fix`."""

    def __init__(self, hub: Gitlab, folder: Path) -> None:
        self.hub = hub
        self.name = f"{NAME}-{folder.name}"
        self.project = hub.projects[self.name] = Project(folder / "hosted.git")
        self.project.people |= {"alice": 30, "bob": 30, "carol": 50, "mallory": 20}
        self.head = self.project.git.commit("fix", {"charts/web/Chart.yaml": "name: web\n"})
        self.project.open("alice", "fix", title="Fix web")

    def reviews(
        self, token: str = WRITE, *, budget: float = 0, job: Mapping[str, str] = {}
    ) -> GitlabReviews:
        """job: variables of the job that asks."""
        settings = GitlabReview(self.hub.url, self.name)
        return GitlabReviews(settings, {}, environ={"GITLAB_TOKEN": token, **job}, budget=budget)

    def job(self, pipeline: int, revision: str) -> dict[str, str]:
        return {
            "CI_SERVER_URL": self.hub.url, "CI_PROJECT_PATH": self.name,
            "CI_PIPELINE_ID": str(pipeline), "CI_COMMIT_SHA": revision,
        }  # fmt: skip

    def verdict(self, word: Word = "positive", text: str = "All **good**") -> Verdict:
        return Verdict(self.head, word, "2 charts", text, "https://ci.example.com/1")


@pytest.fixture
def place(gitlab: Gitlab, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    request.addfinalizer(lambda: setattr(gitlab, "fault", lambda _: None))
    return Place(gitlab, tmp_path)


@pytest.mark.parametrize("word", ["positive", "negative", "incomplete", "started"])
def test_a_pipeline_that_must_succeed_does_for_a_positive_verdict_only(
    place: Place, word: Word
) -> None:
    reviews = place.reviews()
    review = reviews.review("1")
    reviews.deliver(review, place.verdict(word))
    passes = place.project.passing(place.head, "pipeline-steps") == "success"
    assert passes == (word == "positive")
    assert reviews.verdict(review, place.head) == word


def test_a_running_status_gets_other_words_although_gitlab_keeps_it(place: Place) -> None:
    reviews = place.reviews()
    review = reviews.review("1")
    for word in ("started", "incomplete", "started"):
        assert reviews.deliver(review, place.verdict(word)).outcome == "set"
        assert reviews.verdict(review, place.head) == word
    states = [status["status"] for status in place.project.statuses]
    assert states == ["canceled", "canceled", "running"]


def test_each_pipeline_of_a_revision_has_its_own_status(place: Place) -> None:
    """Else one that began in the first stays running, and with it the pipeline."""
    project = place.project
    first, second = project.pipeline(place.head), project.pipeline(place.head)
    of_first, of_second = (
        place.reviews(job=place.job(number, place.head)) for number in (first, second)
    )
    review = of_first.review("1")
    for word in ("started", "incomplete"):
        of_first.deliver(review, place.verdict(word))
    of_second.deliver(review, place.verdict("started"))
    assert of_first.deliver(review, place.verdict("negative")).outcome == "set"
    assert of_second.deliver(review, place.verdict("positive")).outcome == "set"
    shown = [(each["pipeline"], each["status"]) for each in project.statuses]
    assert shown == [(first, "canceled"), (first, "failed"), (second, "success")]


@pytest.mark.parametrize("other", ["child", "merged result", "fork"])
def test_a_status_joins_the_pipeline_of_its_revision_where_the_job_has_another(
    place: Place, other: str
) -> None:
    own = place.project.pipeline(place.head)
    job = place.job(own + 1000, place.head)
    if other == "merged result":
        job["CI_COMMIT_SHA"] = place.project.git.tip("main")
    if other == "fork":
        job["CI_PROJECT_PATH"] = "mallory/charts"
    reviews = place.reviews(job=job)
    assert reviews.deliver(reviews.review("1"), place.verdict()).outcome == "set"
    (status,) = place.project.statuses
    assert (status["pipeline"], status["status"]) == (own, "success")


def test_a_status_says_once_that_tests_have_begun(place: Place) -> None:
    reviews = place.reviews()
    verdict = place.verdict("started")._replace(summary="started: tests have begun")
    reviews.deliver(reviews.review("1"), verdict)
    assert [each["description"] for each in place.project.statuses] == [verdict.summary]


def test_a_long_address_of_the_build_is_left_out_of_the_status(place: Place) -> None:
    reviews = place.reviews()
    review = reviews.review("1")
    verdict = place.verdict()._replace(url=f"https://ci.example.com/job/{'a' * 255}/1/")
    assert reviews.deliver(review, verdict).outcome == "set"
    assert reviews.deliver(review, verdict).outcome == "unchanged"
    assert reviews.verdict(review, place.head) == "positive"


def test_a_status_called_as_a_job_says_which_key_to_write(place: Place) -> None:
    place.project.jobs.add("pipeline-steps")
    reviews = place.reviews()
    with pytest.raises(ConfigurationError, match="a job of the pipeline is called pipeline-steps"):
        reviews.deliver(reviews.review("1"), place.verdict())


def test_an_approval_counts_for_the_version_that_was_there_when_it_was_given(place: Place) -> None:
    place.project.approve(1, "bob")
    newer = place.project.git.commit("fix", {"b": "c"})
    place.project.pushed(1)
    place.project.wait(300)
    place.project.approve(1, "carol")
    for tells in (True, False):
        place.project.tells_times = tells
        reviews = place.reviews()
        review = reviews.review("1")
        votes = {vote.account: vote.revision for vote in reviews.votes(review, ANY)}
        assert votes == {"bob": place.head, "carol": newer}
        assert review.revisions == (place.head, newer)


def test_an_approval_of_an_empty_branch_names_no_revision(place: Place) -> None:
    project = place.project
    empty = {"id": project.id(), "head_commit_sha": None, "created_at": project.now()}
    project.requests[1]["versions"].append(empty)
    project.approve(1, "bob")
    project.pushed(1)
    reviews = place.reviews()
    review = reviews.review("1")
    assert review.revisions == (place.head,)
    (vote,) = reviews.votes(review, ANY)
    assert (vote.revision, vote.reason) == ("", "there was no commit to approve then")


def test_an_approval_of_which_gitlab_tells_no_time_names_no_revision(place: Place) -> None:
    place.project.approve(1, "bob")
    place.project.tells_times = False
    place.project.notes.clear()
    reviews = place.reviews()
    (vote,) = reviews.votes(reviews.review("1"), ANY)
    assert vote.revision == ""
    assert "does not say when" in vote.reason


@pytest.mark.parametrize("change", ["push", "retarget"])
def test_an_approval_whose_note_comes_after_a_change_counts_for_nothing(
    place: Place, change: str
) -> None:
    """Before 18 the note is all, and it is written after the approval: of what was there before."""
    place.project.tells_times = False
    place.project.approve(1, "bob", noted_after=20)
    if change == "push":
        newer = place.project.git.commit("fix", {"b": "c"})
        place.project.pushed(1)
    else:
        newer = place.head
        place.project.git.git("branch", "stable", "main")
        place.project.retarget(1, "alice", "stable")
    reviews = place.reviews()
    (vote,) = reviews.votes(reviews.review("1"), ANY)
    assert vote.revision == ""
    assert "less than 5 minutes before: revoke it and approve again" in vote.reason
    del place.project.requests[1]["approvals"]["bob"]
    place.project.wait(300)
    place.project.approve(1, "bob", noted_after=20)
    (vote,) = reviews.votes(reviews.review("1"), ANY)
    assert (vote.revision, vote.reason) == (newer, "")


def test_a_person_with_a_note_of_the_same_words_did_not_approve(place: Place) -> None:
    place.project.tells_times = False
    place.project.comment(1, "bob", "approved this merge request")
    reviews = place.reviews()
    assert reviews.votes(reviews.review("1"), ANY) == ()


def test_only_people_who_may_push_approve_and_block(place: Place) -> None:
    place.project.people["gone"] = 40
    place.project.blocked.add("gone")
    for name in ("bob", "gone", "mallory", "nobody"):
        place.project.approve(1, name)
    place.project.request_changes(1, "carol")
    place.project.request_changes(1, "visitor")
    reviews = place.reviews()
    votes = {
        vote.account: (vote.word, vote.reason) for vote in reviews.votes(reviews.review("1"), ANY)
    }
    assert votes == {
        "bob": ("approve", ""),
        "carol": ("reject", ""),
        "gone": ("approve", "no right to push to the project"),
        "mallory": ("approve", "no right to push to the project"),
        "nobody": ("approve", "no right to push to the project"),
    }


def test_the_note_of_somebody_with_our_marker_is_left_alone(place: Place) -> None:
    forged = place.project.comment(
        1, "mallory", "<!-- pipeline-steps: pipeline-steps -->\nall good"
    )
    before = dict(forged)
    reviews = place.reviews()
    review = reviews.review("1")
    reviews.deliver(review, place.verdict(text="one"))
    reviews.deliver(review, place.verdict(text="two"))
    assert forged == before
    assert [note["body"].partition("\n")[2] for note in place.project.notes] == ["all good", "two"]


def test_the_commit_of_a_fork_without_a_pipeline_gets_the_note_only(place: Place) -> None:
    place.project.forks.add(place.head)
    reviews = place.reviews()
    delivery = reviews.deliver(reviews.review("1"), place.verdict())
    assert delivery.outcome == "message"
    assert "neither a branch nor a pipeline" in delivery.reason
    assert len(place.project.notes) == 1


def test_a_job_token_is_told_what_it_cannot(place: Place) -> None:
    reviews = place.reviews(JOB)
    with pytest.raises(AccessRefused, match="a job token is not enough"):
        reviews.deliver(reviews.review("1"), place.verdict())
    assert not place.project.statuses


@pytest.mark.parametrize("method", ["merge", "squash", "semi-linear", "fast-forward"])
def test_what_is_merged_belongs_to_its_merge_request_however_it_was_merged(
    place: Place, method: str
) -> None:
    place.project.method = method
    if method in ("merge", "squash"):
        place.project.git.commit("main", {"other": "x"})
    reviews = place.reviews()
    merged = reviews.merge(reviews.review("1"), place.head, "Fix web")
    assert place.project.git.tip("main") == merged
    (review,) = reviews.reviews_of(merged)
    assert (review.id, review.state, review.merged) == ("1", "merged", merged)
    assert reviews.merge(review, place.head, "again") == merged


@pytest.mark.parametrize("method", ["semi-linear", "fast-forward"])
def test_a_branch_that_must_be_rebased_is_no_missing_approval(place: Place, method: str) -> None:
    place.project.method = method
    place.project.git.commit("main", {"other": "x"})
    reviews = place.reviews()
    with pytest.raises(Conflict, match="must be rebased"):
        reviews.merge(reviews.review("1"), place.head, "no")


def test_what_gitlab_waits_for_is_told_in_its_words(place: Place) -> None:
    place.project.approvals_needed = 1
    reviews = place.reviews()
    with pytest.raises(NotApproved, match="not approved"):
        reviews.merge(reviews.review("1"), place.head, "no")
    place.project.approvals_needed, place.project.pipeline_must_succeed = 0, True
    with pytest.raises(NotApproved, match="ci must pass"):
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
    place.hub.fault = lose
    merged = reviews.merge(reviews.review("1"), place.head, "once")
    assert (lost != [], place.project.git.tip("main")) == (True, merged)


def test_a_merge_train_is_boarded_at_the_pinned_revision(place: Place) -> None:
    place.project.trains = []
    reviews = place.reviews()
    review = reviews.review("1")
    for _ in range(2):
        with pytest.raises(Temporary, match="on the merge train"):
            reviews.merge(review, place.head, "queued")
    assert place.project.trains == [1]
    place.project.merge(1)
    assert reviews.merge(review, place.head, "queued") == place.project.git.tip("main")


@pytest.mark.parametrize("ride", ["stale", "merging"])
def test_a_merge_request_on_a_train_is_waited_for_whatever_the_train_does(
    place: Place, ride: str
) -> None:
    place.project.trains, place.project.ride = [1], ride
    reviews = place.reviews()
    with pytest.raises(Temporary, match="on the merge train"):
        reviews.merge(reviews.review("1"), place.head, "queued")


def test_a_merge_train_takes_it_by_itself_when_its_pipeline_has_passed(place: Place) -> None:
    place.project.trains, place.project.pipeline_must_succeed = [], True
    reviews = place.reviews()
    review = reviews.review("1")
    reviews.deliver(review, place.verdict("started"))
    for _ in range(2):
        with pytest.raises(Temporary):
            reviews.merge(review, place.head, "queued")
    assert place.project.trains == []
    place.project.git.commit("fix", {"b": "c"})
    place.project.pushed(1)
    with pytest.raises(Conflict):
        reviews.merge(review, place.head, "queued")


@pytest.mark.parametrize("trains", [None, []])
def test_who_may_not_merge_is_told_the_right_and_not_that_the_token_is_bad(
    place: Place, trains: list[int] | None
) -> None:
    place.project.trains = trains
    reviews = place.reviews(STRANGER)
    with pytest.raises(AccessRefused) as raised:
        reviews.merge(reviews.review("1"), place.head, "no")
    assert "its account the right to merge into the target" in str(raised.value)
    assert "job token" not in str(raised.value)


def test_a_merge_that_somebody_else_has_begun_is_waited_for(place: Place) -> None:
    request = place.project.requests[1]
    request["state"] = "locked"
    asked: list[Request] = []

    def second(each: Request) -> None:
        asked.extend([each] if each.method == "PUT" else [])
        if len(asked) == 2:
            request["state"] = "opened"

    place.hub.fault = second
    reviews = place.reviews()
    merged = reviews.merge(reviews.review("1"), place.head, "Fix web")
    assert place.project.git.tip("main") == merged


def test_the_words_of_a_push_rule_are_told(place: Place) -> None:
    place.project.push_rule = "Commit message does not follow the pattern 'JIRA-'"
    reviews = place.reviews()
    with pytest.raises(NotApproved, match="does not follow the pattern 'JIRA-'"):
        reviews.merge(reviews.review("1"), place.head, "no")


def test_a_merge_train_that_does_not_take_it_is_quoted(place: Place) -> None:
    place.project.trains = []
    place.project.requests[1]["draft"] = True
    reviews = place.reviews()
    review = reviews.review("1")
    with pytest.raises(NotApproved, match="draft status"):
        reviews.merge(review, place.head, "no")
    place.project.git.commit("fix", {"b": "c"})
    place.project.pushed(1)
    with pytest.raises(Conflict):
        reviews.merge(review, place.head, "no")
    assert place.project.trains == []


def test_the_configured_server_beats_the_variables_and_gets_its_own_token(place: Place) -> None:
    elsewhere = {
        "CI_SERVER_URL": "https://gitlab.com", "CI_PROJECT_PATH": "other/place",
        "GITLAB_TOKEN": "of-another-gitlab",
    }  # fmt: skip
    hosts = {f"{place.hub.url.partition('://')[2]}/group": Host("ci", WRITE)}
    settings = GitlabReview(place.hub.url, place.name)
    reviews = GitlabReviews(settings, hosts, environ=elsewhere, budget=0)
    page = f"{place.hub.url}/{place.name}/-/merge_requests/1"
    begin = len(place.hub.requests)
    assert reviews.review(page).title == "Fix web"
    told = {each.headers["Authorization"] for each in place.hub.requests[begin:]}
    assert told == {f"Bearer {WRITE}"}


def test_the_project_comes_from_the_merge_request_before_the_fork(place: Place) -> None:
    variables = {
        "CI_SERVER_URL": place.hub.url, "CI_MERGE_REQUEST_PROJECT_PATH": place.name,
        "CI_PROJECT_PATH": "mallory/charts", "GITLAB_TOKEN": WRITE,
    }  # fmt: skip
    reviews = GitlabReviews(GitlabReview(), {}, environ=variables, budget=0)
    assert reviews.review("!1").author == "alice"
    with pytest.raises(ConfigurationError, match="names no project"):
        GitlabReviews(GitlabReview(), {}, environ={})
    with pytest.raises(ConfigurationError, match="https"):
        GitlabReviews(GitlabReview("http://git.example.com", "a/b"), {}, environ={})


@pytest.mark.parametrize(
    "remote",
    [
        "https://git.example.com/gitlab/team/charts.git",
        "https://gitlab-ci-token:secret@git.example.com/gitlab/team/charts.git",
        "ssh://git@git.example.com:2222/team/charts.git",
        "git@git.example.com:team/charts.git",
    ],
)
def test_a_server_below_a_path_is_asked_for_the_project_of_the_remote(remote: str) -> None:
    url = "https://git.example.com/gitlab"
    for settings, variables in (
        (GitlabReview(f"{url}/"), {}),
        (GitlabReview(), {"CI_SERVER_URL": url}),
    ):
        reviews = GitlabReviews(settings, {}, remote, environ=variables)
        with pytest.raises(UsageError, match=f"{url}/team/charts/-/merge_requests/1"):
            reviews.review("no review")


def test_the_public_server_is_not_asked_for_the_project_of_another() -> None:
    """It would get the token, and a project of the same path there be written to."""
    for remote in ("git@git.example.com:team/charts.git", "https://git.example.com/team/charts"):
        with pytest.raises(ConfigurationError, match="write url: and its URL"):
            GitlabReviews(GitlabReview(), {}, remote, environ={"GITLAB_TOKEN": WRITE})
        with pytest.raises(ConfigurationError, match="write api_url: and its URL"):
            GithubReviews(GithubReview(), {}, remote, environ={"GITHUB_TOKEN": WRITE})
    GitlabReviews(GitlabReview(), {}, "git@gitlab.com:team/charts.git", environ={})
    GithubReviews(GithubReview(), {}, "ssh://git@ssh.github.com:443/team/charts.git", environ={})


def test_a_link_to_another_place_gets_no_token(place: Place) -> None:
    away = {"Link": '<http://127.0.0.1:9/api/v4/projects/1/notes>; rel="next"'}
    place.hub.fault = lambda each: (
        Answer(200, [], away) if each.path.endswith("/versions") else None
    )
    with pytest.raises(MachineError, match="outside its API"):
        place.reviews().review("1")


def test_a_project_that_was_renamed_is_read_and_not_written_to(place: Place) -> None:
    """ "REST API", redirects; what is not GET: lib/api/helpers.rb of GitLab's source."""
    renamed = {"message": "405 Non GET methods are not allowed for moved projects"}
    place.hub.fault = lambda each: None if each.method == "GET" else Answer(405, renamed)
    reviews = place.reviews(budget=20)
    review = reviews.review("1")
    with pytest.raises(MachineError, match="write the new path of the project: it was renamed"):
        reviews.deliver(review, place.verdict())
    with pytest.raises(MachineError, match="write the new path of the project: it was renamed"):
        reviews.merge(review, place.head, "no")


def test_a_rate_limit_is_waited_for_and_told(place: Place) -> None:
    limited = Answer(429, {"message": "Retry later"}, {"Retry-After": "1"})
    first: list[Request] = []

    def once(request: Request) -> Answer | None:
        first.append(request)
        return limited if len(first) == 1 else None

    place.hub.fault = once
    start = time.monotonic()
    assert place.reviews(budget=60).review("1").title == "Fix web"
    assert time.monotonic() - start > 0.9
    place.hub.fault = lambda _: limited
    with pytest.raises(Temporary, match="Retry later"):
        place.reviews().review("1")
