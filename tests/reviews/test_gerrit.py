"""What only Gerrit has: patch sets that come meanwhile, copied votes, topics, its own refusals."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import Approval, GerritReview
from pipeline_steps.reviews.gerrit import GerritReviews
from pipeline_steps.reviews.gerrit_changes import Change as ReadChange
from pipeline_steps.reviews.gerrit_verdicts import Verdicts
from pipeline_steps.reviews.review import Verdict, Vote
from pipeline_steps.toolbox import retry
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    EvidenceError,
    MachineError,
    NotApproved,
    PipelineError,
    Unreachable,
    UsageError,
)
from tests.support import docs
from tests.support.examples import FULL
from tests.support.gerrits import PEOPLE, Change, Gerrit, Project, vote
from tests.support.registries import free_port
from tools import processes
from tools.gerrit import server

REPETITIONS = 100 if FULL else 15


def reviews(
    project: Project,
    by: str = "ci",
    kind: type[GerritReviews] = GerritReviews,
    budget: float = retry.BUDGET,
    **settings: str,
) -> GerritReviews:
    hosts = {project.gerrit.host: Host(username=by, password=PEOPLE[by])} if by else {}
    return kind(
        GerritReview(url=project.gerrit.url, **settings), project.name, hosts, budget=budget
    )


def positive(change: Change, text: str = "3 tests passed") -> Verdict:
    return Verdict(change.revision, "positive", "the charts are good", text)


def deliver(system: GerritReviews, change: Change, **more: Any) -> Any:
    return system.deliver(system.review(str(change.number)), positive(change, **more))


def approvals(project: Project, change: Change, condition: str = "") -> list[Vote]:
    system = reviews(project)
    approval = Approval(gerrit=condition) if condition else Approval()
    return list(system.votes(system.review(str(change.number)), approval))


@pytest.fixture
def project(gerrit: Gerrit, tmp_path: Path) -> Project:
    return gerrit.project(tmp_path)


# -- exactly one patch set ---


def test_a_verdict_lands_on_its_patch_set_or_nowhere(project: Project) -> None:
    """While the verdict for one patch set is written, the next one is pushed."""
    change = project.push({"a": "0"})
    system = reviews(project)
    outcomes = []
    with ThreadPoolExecutor(1) as pool:
        for number in range(1, REPETITIONS + 1):
            revision = project.commit(
                {"a": str(number)}, onto="origin/main", subject="Next", change_id=change.change_id
            )
            pushing = pool.submit(project.push_commit, revision)
            # A push takes some tenths of a second, a verdict about as long.
            time.sleep(random.uniform(0, 0.5))
            outcomes.append(deliver(system, change, text=f"of {change.revision}").outcome)
            pushing.result()
            assert project.votes(change) == {}, outcomes
            change = Change(change.number, number + 1, revision, change.change_id)
    revisions = system.review(str(change.number)).revisions
    landed = 0
    for message in project.messages(change):
        if match := re.search(r"of ([0-9a-f]{40})", message["message"]):
            landed += 1
            assert match[1] == revisions[message["_revision_number"] - 1]
            assert f"Patch Set {message['_revision_number']}: Verified+1\n" in message["message"]
    assert landed == len(outcomes) - outcomes.count("superseded")
    assert not FULL or 0 < landed < len(outcomes), "some came before, some after the push"
    # Gerrit's own notes say the same of every vote.
    noted = re.findall(r"of ([0-9a-f]{40})\n(?:.*\n)*?Patch-set: (\d+)\n", project.meta(change))
    assert [(revisions[int(number) - 1]) for _, number in noted] == [sha for sha, _ in noted]
    assert len(noted) == landed


class MeanwhileVerdicts(Verdicts):
    once: Callable[[], None]

    def _post_for(self, change: ReadChange, *arguments: Any) -> Any:
        post = super()._post_for(change, *arguments)
        self.once()
        return post


class Meanwhile(GerritReviews):
    """Does something after a change was read and before the answer to it is sent."""

    do: Callable[[], object]

    def __init__(
        self,
        settings: GerritReview,
        project: str,
        hosts: Mapping[str, Host],
        *,
        budget: float = retry.BUDGET,
    ) -> None:
        super().__init__(settings, project, hosts, budget=budget)
        self._verdicts = MeanwhileVerdicts(self._gerrit, self._changes, settings.label)
        self._verdicts.once = self._once

    def _once(self) -> None:
        do, self.do = self.do, lambda: None
        do()

    def _refuse_company(self, change: ReadChange) -> None:
        super()._refuse_company(change)
        self._once()


def meanwhile(project: Project, do: Callable[[], object]) -> Meanwhile:
    system = reviews(project, kind=Meanwhile)
    assert isinstance(system, Meanwhile)
    system.do = do
    return system


def test_a_patch_set_that_comes_between_look_and_vote_gets_no_vote(project: Project) -> None:
    first = project.push({"a": "1"})
    system = meanwhile(project, lambda: project.push({"a": "2"}, earlier=first))
    delivery = deliver(system, first)
    assert (delivery.outcome, delivery.reason) == (
        "set",
        "patch set 2 came meanwhile: the verdict stands on 1",
    )
    assert project.votes(first) == {}
    review = system.review(str(first.number))
    assert system.verdict(review, first.revision) == "positive"
    assert system.verdict(review, review.head) is None


def test_a_change_that_is_abandoned_meanwhile_gets_the_words(project: Project) -> None:
    change = project.push({"a": "1"})
    path = f"{project.path(change)}/abandon"
    system = meanwhile(project, lambda: project.gerrit.do("POST", path, {}, by="alice"))
    delivery = deliver(system, change)
    assert (delivery.outcome, delivery.reason) == ("message", "the change is abandoned")
    assert sum("3 tests" in each["message"] for each in project.messages(change)) == 1
    assert deliver(system, change).outcome == "unchanged"


def test_a_label_that_goes_meanwhile_is_noticed(project: Project) -> None:
    """Gerrit answers 200 and drops the vote."""
    label = f"/projects/{project.quoted}/labels/Charts"
    project.gerrit.do("PUT", label, {"values": {"-1": "bad", " 0": "no", "+1": "good"}})
    groups = project.gerrit.do("GET", "/groups/ci-bots")
    permissions = {"label-Charts": vote("Charts", groups["id"], 1)}
    access = {"add": {"refs/heads/*": {"permissions": permissions}}}
    project.gerrit.do("POST", f"/projects/{project.quoted}/access", access)
    change = project.push({"a": "1"})
    system = reviews(project, kind=Meanwhile, label="Charts")
    assert isinstance(system, Meanwhile)
    system.do = lambda: project.gerrit.do("DELETE", label)
    with pytest.raises(MachineError, match=r"took the message, but not the vote Charts\+1"):
        deliver(system, change)


def test_a_vote_that_gerrit_copied_to_the_next_patch_set_is_ours_once_we_said_so(
    project: Project,
) -> None:
    """A new commit message copies Verified, by its copy condition."""
    first = project.push({"a": "1"})
    system = reviews(project)
    deliver(system, first)
    second = project.push({"a": "1"}, earlier=first, subject="Say it better")
    review = system.review(str(first.number))
    assert project.votes(second) == {"ci": 1}
    assert system.verdict(review, second.revision) is None
    assert deliver(system, second).outcome == "set"
    assert system.verdict(review, second.revision) == "positive"


# -- who approved what ---


def test_a_copied_approval_counts_for_the_patch_set_it_was_given_on(project: Project) -> None:
    """Who presses Rebase becomes the uploader, and the vote is copied without a sign of it."""
    other, first = project.push({"b": "1"}), project.push({"a": "1"})
    project.vote(first, "bob", Code_Review=2)
    for name, value in (("bob", {"Code_Review": 2}), ("ci", {"Verified": 1})):
        project.vote(other, name, **value)
    project.gerrit.do("POST", f"{project.path(other)}/submit", {}, by="bob")
    project.gerrit.do("POST", f"{project.path(first)}/rebase", {}, by="bob")
    assert project.votes(first, "Code-Review") == {"bob": 2}
    review = reviews(project).review(str(first.number))
    assert (review.author, review.uploader, len(review.revisions)) == ("alice", "bob", 2)
    assert [(each.account, each.revision) for each in approvals(project, first)] == [
        ("bob", first.revision)
    ]


def test_an_approval_of_an_earlier_patch_set_is_told_with_it(project: Project) -> None:
    first = project.push({"a": "1"})
    project.vote(first, "bob", Code_Review=2)
    second = project.push({"a": "2"}, earlier=first)
    assert project.votes(second, "Code-Review") == {}
    [approval] = approvals(project, second)
    assert (approval.revision, approval.word) == (first.revision, "approve")
    move = {"destination_branch": "stable", "keep_all_votes": True}
    project.gerrit.do("PUT", f"/projects/{project.quoted}/branches/stable", {})
    project.gerrit.do("POST", f"{project.path(second)}/move", move)
    [approval] = approvals(project, second)
    assert "given for another target: the review goes to stable" in approval.reason
    project.vote(second, "bob", Code_Review=1)
    assert approvals(project, second) == []


def test_a_vote_that_was_taken_away_does_not_count(project: Project) -> None:
    for by, path in (("admin", "votes/Code-Review/delete"), ("admin", "delete"), ("bob", "")):
        change = project.push({"a": by + path})
        project.vote(change, "bob", Code_Review=2)
        assert len(approvals(project, change)) == 1
        if path:
            reviewer = f"{project.path(change)}/reviewers/bob/{path}"
            project.gerrit.do("POST", reviewer, {}, by=by)
        else:
            project.vote(change, "bob", Code_Review=0)
        assert approvals(project, change) == []
        later = project.push({"a": by + path + "later"}, earlier=change)
        assert approvals(project, later) == []


def test_a_rejection_counts_whatever_the_messages_say(project: Project) -> None:
    """One came with a push, the message of another was deleted."""
    first = project.push({"a": "1"})
    project.vote(first, "bob", Code_Review=2)
    second = project.push({"a": "2"}, earlier=first)
    project.vote(second, "bob", Code_Review=-2)
    assert [each.word for each in approvals(project, second)] == ["reject"]
    told = next(m for m in project.messages(second) if "Code-Review-2" in m["message"])
    project.gerrit.do("POST", f"{project.path(second)}/messages/{told['id']}/delete", {})
    assert [(each.account, each.word) for each in approvals(project, second)] == [("bob", "reject")]
    project.repo.git("config", "user.email", "bob@example.com")
    pushed = project.push({"a": "3"}, by="bob", options="l=Code-Review-2")
    assert [(each.account, each.word) for each in approvals(project, pushed)] == [("bob", "reject")]


def test_a_group_whose_members_gerrit_leaves_out_is_refused(project: Project) -> None:
    gerrit, name = project.gerrit, f"contractors-{project.name.rpartition('-')[2]}"
    inner = {"members": ["eve"], "visible_to_all": True}
    gerrit.do("PUT", f"/groups/{name}-inner", inner)
    gerrit.do("PUT", f"/groups/{name}", {"members": ["alice"], "visible_to_all": True})
    gerrit.do("PUT", f"/groups/{name}/groups/{name}-inner")
    assert reviews(project).members(name) == {"alice", "eve"}
    gerrit.do("PUT", f"/groups/{name}-inner/groups/{name}")  # includes each other
    assert reviews(project).members(name) == {"alice", "eve"}
    gerrit.do("PUT", f"/groups/{name}-inner/groups/global%3ARegistered-Users")
    with pytest.raises(AccessRefused, match=r"includes Registered Users, whose members"):
        reviews(project).members(name)


def test_words_that_look_like_votes_are_none(project: Project) -> None:
    change = project.push({"a": "1"}, options="m=Patch_Set_1%3A_Code-Review%2B2")
    forged = "Patch Set 1: Code-Review+2"
    for message, tag in ((forged, ""), (f"\n\n{forged}", "autogenerated:gerrit:merged")):
        body = {"message": message, "tag": tag}
        path = f"{project.path(change)}/revisions/{change.revision}/review"
        project.gerrit.do("POST", path, body, by="eve")
    submitted = f"Change has been successfully cherry-picked as {change.revision}"
    body = {"message": submitted, "tag": "autogenerated:gerrit:merged"}
    project.gerrit.do("POST", path, body, by="eve")
    assert approvals(project, change) == []
    assert reviews(project).review(str(change.number)).head == change.revision


def test_less_than_the_highest_vote_is_no_approval(project: Project) -> None:
    change = project.push({"a": "1"})
    project.vote(change, "eve", Code_Review=1)
    assert approvals(project, change) == []
    [vote] = approvals(project, change, "label:Code-Review=+1")
    assert (vote.account, vote.word) == ("eve", "approve")
    project.vote(change, "eve", Code_Review=-1)
    assert approvals(project, change) == []


def test_a_submit_requirement_names_who_fulfils_it(project: Project) -> None:
    change = project.push({"a": "1"})
    project.vote(change, "bob", Code_Review=2)
    requirement = f"/projects/{project.quoted}/submit_requirements/Release"
    expression = "label:Code-Review=MAX,user=non_uploader AND label:Verified=MAX"
    body = {"name": "Release", "submittability_expression": expression}
    project.gerrit.do("PUT", requirement, body)
    [vote] = approvals(project, change, "submit_requirement:Release")
    assert vote.account == "bob"
    assert vote.reason == "the submit requirement Release is unsatisfied"
    project.vote(change, "ci", Verified=1)
    votes = approvals(project, change, "submit_requirement:Release")
    assert sorted((each.account, each.reason) for each in votes) == [("bob", ""), ("ci", "")]
    body["submittability_expression"] = "branch:refs/heads/main"
    project.gerrit.do("PUT", requirement, body)
    [vote] = approvals(project, change, "submit_requirement:Release")
    assert (vote.account, vote.revision) == ("submit_requirement:Release", change.revision)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("label:Nope=MAX", "has no label Nope"),
        ("submit_requirement:Nope", "has no submit requirement Nope"),
        ("label:Code-Review", "is no vote of Gerrit"),
        ("label:Code-Review=MAX,user=self", "is no vote of Gerrit"),
    ],
)
def test_a_condition_that_cannot_be_asked_is_a_wrong_configuration(
    condition: str, words: str, project: Project
) -> None:
    change = project.push({"a": "1"})
    with pytest.raises(ConfigurationError, match=words):
        approvals(project, change, condition)


# -- which change ---


def test_one_change_id_on_two_branches_is_two_reviews(project: Project) -> None:
    path = f"/projects/{project.quoted}/branches/release"
    project.gerrit.do("PUT", path, {"revision": project.tip()})
    first = project.push({"a": "1"})
    other = project.push({"a": "2"}, branch="release", change_id=first.change_id)
    system = reviews(project)
    found = [system.review(str(each.number)) for each in (first, other)]
    assert [each.target for each in found] == ["main", "release"]
    assert [each.id for each in found] == [
        f"{project.name}~main~{first.number}",
        f"{project.name}~release~{other.number}",
    ]
    deliver(system, first)
    assert project.votes(other) == {}


def test_a_change_of_another_project_is_not_taken(gerrit: Gerrit, tmp_path: Path) -> None:
    one, two = gerrit.project(tmp_path / "1"), gerrit.project(tmp_path / "2")
    change = two.push({"a": "1"})
    for name in (str(change.number), f"{two.name}~main~{change.number}"):
        with pytest.raises(UsageError, match=rf"{change.number}.*project"):
            reviews(one).review(name)


def test_changes_that_are_merged_together_are_found_by_their_one_merge(project: Project) -> None:
    other = project.push({"b": "1"})
    parent = project.push({"a": "1"})
    child = project.push({"c": "1"}, onto=parent.revision)
    for change in (other, parent, child):
        project.vote(change, "ci", Verified=1)
        project.vote(change, "bob", Code_Review=2)
    for change in (other, child):
        project.gerrit.do("POST", f"{project.path(change)}/submit", {}, by="bob")
    system = reviews(project)
    tip = project.tip()
    assert [system.review(str(each.number)).merged for each in (other, parent, child)] == [
        other.revision,
        tip,
        tip,
    ]
    assert [each.head for each in system.reviews_of(tip)] == [child.revision]


# -- merging ---


def ready(project: Project, change: Change) -> Change:
    project.vote(change, "ci", Verified=1)
    project.vote(change, "bob", Code_Review=2)
    return change


def merge(system: GerritReviews, change: Change) -> str:
    return system.merge(system.review(str(change.number)), change.revision, "")


def test_a_change_is_not_merged_with_those_it_stands_on(project: Project) -> None:
    parent = ready(project, project.push({"a": "1"}))
    child = ready(project, project.push({"b": "1"}, onto=parent.revision))
    system = reviews(project)
    before = project.tip()
    with pytest.raises(NotApproved, match=rf"main~{parent.number} \(Change the chart\)"):
        merge(system, child)
    assert project.tip() == before
    assert merge(system, parent) == parent.revision
    assert merge(system, child) == child.revision


def test_a_topic_with_a_change_of_another_project_is_refused_by_name(
    gerrit: Gerrit, tmp_path: Path
) -> None:
    one, two = gerrit.project(tmp_path / "1"), gerrit.project(tmp_path / "2")
    topic = f"topic=together-{one.name.rpartition('-')[2]}"
    first = ready(one, one.push({"a": "1"}, options=topic))
    second = two.push({"a": "1"}, options=topic)
    before = one.tip(), two.tip()
    with pytest.raises(NotApproved, match=rf"{two.name}~main~{second.number}"):
        merge(reviews(one), first)
    gerrit.do("POST", f"{two.path(second)}/private", {}, by="alice")
    with pytest.raises(NotApproved, match="1 that ci cannot see"):
        merge(reviews(one), first)
    assert (one.tip(), two.tip()) == before


def test_a_change_that_joins_the_topic_meanwhile_is_told(gerrit: Gerrit, tmp_path: Path) -> None:
    one, two = gerrit.project(tmp_path / "1"), gerrit.project(tmp_path / "2")
    topic = f"late-{one.name.rpartition('-')[2]}"
    first = ready(one, one.push({"a": "1"}, options=f"topic={topic}"))
    second = ready(two, two.push({"a": "1"}))
    join = lambda: gerrit.do(  # noqa: E731
        "PUT", f"{two.path(second)}/topic", {"topic": topic}, by="admin"
    )
    with pytest.raises(EvidenceError, match=rf"{two.name}~main~{second.number}"):
        merge(meanwhile(one, join), first)


def test_work_in_progress_is_not_merged(project: Project) -> None:
    change = ready(project, project.push({"a": "1"}, options="wip"))
    with pytest.raises(NotApproved, match="work in progress"):
        merge(reviews(project), change)


def test_a_missing_verdict_is_named_by_the_requirement(project: Project) -> None:
    change = project.push({"a": "1"})
    project.vote(change, "bob", Code_Review=2)
    with pytest.raises(NotApproved, match="submit requirement 'Verified' is unsatisfied"):
        merge(reviews(project), change)


# -- machines and accounts ---


def test_a_label_that_is_not_there_is_named(project: Project) -> None:
    change = project.push({"a": "1"})
    with pytest.raises(MachineError, match=r"has no label Tested.*review\.gerrit\.label"):
        deliver(reviews(project, label="Tested"), change)
    assert len(project.messages(change)) == 1


def test_without_a_login_it_only_reads(project: Project) -> None:
    change = project.push({"a": "1"})
    system = reviews(project, by="")
    assert system.review(str(change.number)).head == change.revision
    with pytest.raises(AccessRefused, match=r"hosts"):
        deliver(system, change)


def test_rights_are_named_with_branch_and_project(project: Project) -> None:
    change = ready(project, project.push({"a": "1"}))
    system = reviews(project, by="eve")
    with pytest.raises(
        AccessRefused, match=rf"Label Verified on refs/heads/main of {project.name}"
    ):
        deliver(system, change)
    with pytest.raises(AccessRefused, match=rf"Submit on refs/heads/main of {project.name}"):
        merge(system, change)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://gerrit.example.com", "plain_http"),
        ("ftp://127.0.0.1", "not an https:// URL"),
        ("https://", "not an https:// URL"),
    ],
)
def test_a_wrong_url_is_a_wrong_configuration(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        GerritReviews(GerritReview(url=url), "charts", {})


def test_what_is_no_gerrit_is_told(gerrit: Gerrit) -> None:
    elsewhere = GerritReviews(GerritReview(url=f"{gerrit.url}/static"), "charts", {})
    with pytest.raises(PipelineError) as caught:
        elsewhere.review("1")
    assert caught.value.exit_code in (2, 7)
    nobody = GerritReviews(GerritReview(url=f"http://127.0.0.1:{free_port()}"), "charts", {})
    with pytest.raises(Unreachable):
        nobody.review("1")


def test_no_error_tells_a_password(project: Project) -> None:
    change = project.push({"a": "1"})
    errors = []
    for by, secret in (("ci", "pw-canary-11"), ("eve", PEOPLE["eve"])):
        hosts = {project.gerrit.host: Host(username=by, password=secret)}
        system = GerritReviews(GerritReview(url=project.gerrit.url), project.name, hosts)
        for act in (lambda: deliver(system, change), lambda: merge(system, change)):  # noqa: B023
            with pytest.raises(PipelineError) as caught:
                act()
            errors.append((secret, str(caught.value) + repr(caught.value.__cause__)))
    assert all(secret not in text for secret, text in errors)


def test_a_restart_in_the_middle_is_waited_for(project: Project) -> None:
    change = project.push({"a": "1"})
    # A server beside builds takes longer than the waiting of a step.
    system = reviews(project, budget=server.PATIENCE + retry.BUDGET)
    review = system.review(str(change.number))
    project.gerrit.stop()
    with ThreadPoolExecutor(1) as pool:
        delivering = pool.submit(system.deliver, review, positive(change))
        project.gerrit.start()  # here: it is tied to the thread that starts it
        assert delivering.result().outcome == "set"
    assert project.votes(change) == {"ci": 1}
    assert sum("3 tests" in each["message"] for each in project.messages(change)) == 1


def test_doctor_asks_the_server(project: Project) -> None:
    config = project.repo.root / "pipeline.yaml"
    for name, settings, code, words in (
        ("ci", "", 0, "gerrit answers"),
        ("ci", ", project: nope", 2, "the project nope does not exist, or ci may not see it"),
        ("nobody", "", 7, "nobody or its password is wrong"),
    ):
        config.write_text(
            f"charts: [{{path: charts/*}}]\nreview: {{gerrit: {{url: '{project.gerrit.url}'{settings}}}}}\n"
            f"hosts: {{'{project.gerrit.host}': {{username: {name}, password: '${{PSW}}'}}}}\n"
        )
        command = [sys.executable, "-m", "pipeline_steps", "doctor", "--for", "report"]
        environment = {**os.environ, "PSW": PEOPLE["ci"]}
        completed = subprocess.run(
            command, cwd=project.repo.root, env=environment, capture_output=True, text=True
        )
        assert completed.returncode == code, completed.stdout + completed.stderr
        assert words in completed.stdout


def test_the_how_to_does_what_it_says(gerrit: Gerrit, tmp_path: Path) -> None:
    project = gerrit.project(tmp_path)
    page = docs.ROOT / "docs/how-to/gerrit.md"
    commands = [line for line in docs.scripts(page) if not line.startswith("pipeline-steps")]
    script = "set -eu\n" + "\n".join(commands)
    for shown, real in {
        "https://gerrit.example.com": gerrit.url,
        "projects/charts": f"projects/{project.quoted}",
    }.items():
        assert shown in script
        script = script.replace(shown, real)
    name, password = server.ADMIN
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login {name} password {password}\n")
    environment = {**os.environ, "HOME": str(tmp_path)}
    completed = subprocess.run(
        ["/bin/sh", "-c", script], env=environment, capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stderr
    passwords = re.findall(r'^"(\S{20,})"$', completed.stdout, re.MULTILINE)
    reviewing, releasing = (
        GerritReviews(
            GerritReview(url=gerrit.url),
            project.name,
            {gerrit.host: Host(username=who, password=password)},
        )
        for who, password in zip(("ci-reviews", "ci-release"), passwords, strict=True)
    )
    change = project.push({"a": "1"})
    with pytest.raises(AccessRefused):
        deliver(releasing, change)
    deliver(reviewing, change)
    assert project.votes(change) == {"ci-reviews": 1}
    project.vote(change, "bob", Code_Review=2)
    with pytest.raises(AccessRefused):  # its login lies in builds of reviews
        merge(reviewing, change)
    assert merge(releasing, change) == project.tip()


# -- the server of these tests ---


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    code = (
        "import time; from pathlib import Path; from tools.gerrit import server; "
        f"server.up(Path({str(folder)!r}), tied=True); print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        assert server.read(folder) is not None
        os.kill(starter.pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while processes.of_folder(folder) and time.monotonic() < end:
        time.sleep(0.05)
    assert not processes.of_folder(folder)
    server.down(folder)
    assert not folder.exists()


def test_a_folder_without_server_is_told(tmp_path: Path) -> None:
    command = [sys.executable, server.__file__, "status", "--folder", str(tmp_path / "g")]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert completed.returncode == 7
    assert "no Gerrit runs in" in completed.stderr
