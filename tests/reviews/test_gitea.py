"""Pull requests on a real Gitea: what only Gitea has, its flags, its protection, its merge styles."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.config.language import Approval, GiteaReview
from pipeline_steps.reviews.gitea import GiteaReviews
from pipeline_steps.reviews.review import Review, Verdict, Vote, Word
from pipeline_steps.sources.source import Tag
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    Conflict,
    NotApproved,
    PipelineError,
    Unreachable,
    UsageError,
)
from tests.support import docs
from tests.support.giteas import TEAM, Forge, Refused, Repository
from tests.support.registries import fetch

CODE = Approval()


@pytest.fixture
def repository(forge: Forge, tmp_path: Path) -> Repository:
    return forge.repository(tmp_path)


def reviews(repository: Repository, who: str = "ci", token: str = "", **more: Any) -> GiteaReviews:
    forge = repository.forge
    hosts = {forge.host: Host(username=who, password=token or forge.tokens[who])}
    settings = GiteaReview(url=forge.url)
    return GiteaReviews(settings, repository.name, hosts, environ={}, **{"budget": 5.0, **more})


def verdict(revision: str, word: Word = "positive", text: str = "All is well.") -> Verdict:
    return Verdict(revision, word, f"{word}: 2 of 2 charts", text, "https://ci.example.com/7")


def votes(repository: Repository, number: int) -> list[Vote]:
    system = reviews(repository)
    return list(system.votes(system.review(str(number)), CODE))


# Approvals


def test_an_approval_names_the_commit_it_was_given_on(repository: Repository) -> None:
    pull = repository.propose("one", {"charts/a.yaml": "a: 1\n"})
    repository.review(pull.number, "core")
    repository.checkout.put("charts/a.yaml", "a: 2\n")
    repository.checkout.commit("Another")
    head = repository.push("one")
    (vote,) = votes(repository, pull.number)
    assert (vote.account, vote.word, vote.revision) == ("core", "approve", pull.head)
    assert vote.revision != head
    end = time.monotonic() + 20
    while not vote.reason and time.monotonic() < end:  # Gitea sets the flag in the background
        (vote,) = votes(repository, pull.number)
    assert "stale" in vote.reason
    assert vote.given.endswith("Z")


def test_a_stranger_approves_without_any_weight(repository: Repository) -> None:
    pull = repository.propose("one", {"charts/a.yaml": "a: 1\n"})
    repository.review(pull.number, "stranger")
    (vote,) = votes(repository, pull.number)
    assert "not official" in vote.reason
    repository.review(pull.number, "stranger", "REQUEST_CHANGES")
    assert votes(repository, pull.number) == [], "and cannot block"


def test_whoever_is_not_in_the_list_of_a_protected_branch_has_no_weight(
    repository: Repository,
) -> None:
    repository.protect(
        required_approvals=1, enable_approvals_whitelist=True, approvals_whitelist_username=["core"]
    )
    pull = repository.propose("one", {"charts/a.yaml": "a: 1\n"})
    repository.review(pull.number, "ci")
    repository.review(pull.number, "core")
    by_ci, by_core = votes(repository, pull.number)
    assert "not official" in by_ci.reason
    assert by_core.reason == ""


def test_a_dropped_file_leaves_the_flag_but_not_the_revision(repository: Repository) -> None:
    """The flag stays false after a forced push that removed what was approved."""
    pull = repository.propose("one", {"charts/a.yaml": "a: 1\n", "charts/b.yaml": "b: 1\n"})
    repository.review(pull.number, "core")
    repository.checkout.git("reset", "-q", "--hard", "origin/main")
    repository.checkout.put("charts/a.yaml", "a: 1\n")
    repository.checkout.commit("Without b")
    head = repository.push("one", force=True)
    repository.settle(pull.number, head)
    raw = repository.call("GET", f"/pulls/{pull.number}/reviews", "core")
    assert [each["stale"] for each in raw] == [False], "which is why the flag decides nothing"
    (vote,) = votes(repository, pull.number)
    assert vote.reason == ""
    assert vote.revision == pull.head != head


def test_the_newest_word_of_a_person_counts(repository: Repository) -> None:
    pull = repository.propose("one", {"charts/a.yaml": "a: 1\n"})
    repository.review(pull.number, "core")
    repository.review(pull.number, "core", "REQUEST_CHANGES")
    repository.review(pull.number, "core", "COMMENT")
    (vote,) = votes(repository, pull.number)
    assert (vote.word, vote.reason) == ("reject", "")
    repository.review(pull.number, "core")
    (vote,) = votes(repository, pull.number)
    assert (vote.word, vote.reason) == ("approve", "")


@pytest.mark.parametrize(
    ("event", "left"), [("APPROVED", ["it was dismissed"]), ("REQUEST_CHANGES", [])]
)
def test_dismissed_reviews_do_not_count(
    repository: Repository, event: str, left: list[str]
) -> None:
    pull = repository.propose("one", {"charts/a.yaml": "a: 1\n"})
    number = repository.review(pull.number, "core", event)["id"]
    path = f"/pulls/{pull.number}/reviews/{number}/dismissals"
    repository.call("POST", path, "core", {"message": "by mistake"})
    assert [vote.reason for vote in votes(repository, pull.number)] == left


def test_votes_are_read_from_all_pages(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_steps.services.gitea._PER_PAGE", 2)
    pull = repository.propose("one", {"charts/a.yaml": "a: 1\n"})
    for _ in range(4):
        repository.review(pull.number, "ci", "COMMENT")
    repository.review(pull.number, "core")
    assert [vote.account for vote in votes(repository, pull.number)] == ["core"]


# Revisions


def test_all_heads_are_known_and_who_pushed_the_last(repository: Repository) -> None:
    pull = repository.propose("one", {"a": "1"})
    repository.checkout.put("a", "2")
    repository.checkout.commit("second")
    repository.checkout.put("a", "3")
    repository.checkout.commit("third")
    third = repository.push("one")
    system = reviews(repository)
    review = system.review(f"{repository.forge.url}/{repository.name}/pulls/{pull.number}")
    assert review.revisions == (pull.head, third)
    repository.checkout.git("commit", "-q", "--amend", "-m", "amended")
    repository.checkout.git("push", "-q", "--force", repository.clone_url("core"), "HEAD:one")
    fourth = repository.checkout.git("rev-parse", "HEAD")
    review = system.review(str(pull.number))
    assert review.revisions == (third, fourth), "the forced push rewrote the history of the first"
    assert (review.author, review.uploader, review.head) == ("member", "core", fourth)
    assert [each.id for each in system.reviews_of(third)] == [str(pull.number)]
    clone = repository.checkout
    clone.git("fetch", "-q", "origin", system.fetch_reference(review, third))
    assert clone.git("rev-parse", "FETCH_HEAD") == third
    clone.git("fetch", "-q", "origin", system.fetch_reference(review, fourth))
    assert clone.git("rev-parse", "FETCH_HEAD") == fourth


def test_a_draft_is_told_and_gets_its_verdict(repository: Repository) -> None:
    pull = repository.propose("one", {"a": "1"}, title="WIP: not yet")
    system = reviews(repository)
    review = system.review(str(pull.number))
    assert review.state == "draft"
    assert system.deliver(review, verdict(pull.head)).outcome == "set"
    with pytest.raises(NotApproved, match="Work in progress"):
        system.merge(review, pull.head, "Merge")


def test_closed_ones_are_found_by_their_head(repository: Repository) -> None:
    pull = repository.propose("one", {"a": "1"})
    repository.call("PATCH", f"/pulls/{pull.number}", "member", {"state": "closed"})
    system = reviews(repository)
    (review,) = system.reviews_of(pull.head)
    assert review.state == "closed"
    with pytest.raises(Conflict, match="is closed"):
        system.merge(review, pull.head, "Merge")
    assert system.reviews_of("0" * 40) == ()


# Verdicts


def test_statuses_that_are_not_success_never_satisfy_a_required_check(
    repository: Repository,
) -> None:
    repository.protect(enable_status_check=True, status_check_contexts=["pipeline-steps"])
    pull = repository.propose("one", {"a": "1"})
    system = reviews(repository, "core")
    review = system.review(str(pull.number))
    words: tuple[Word, ...] = ("started", "incomplete", "negative")
    for word in words:
        system.deliver(review, verdict(pull.head, word))
        assert system.verdict(review, pull.head) == word
        with pytest.raises(NotApproved, match="status check"):
            system.merge(review, pull.head, "Merge")
    system.deliver(review, verdict(pull.head))
    assert system.merge(review, pull.head, "Merge")


def test_the_comment_of_another_account_is_left_alone(repository: Repository) -> None:
    pull = repository.propose("one", {"a": "1"})
    forged = {"body": "<!-- pipeline-steps: pipeline-steps -->\nAll is well, says the author."}
    repository.call("POST", f"/issues/{pull.number}/comments", "member", forged)
    system = reviews(repository)
    review = system.review(str(pull.number))
    system.deliver(review, verdict(pull.head, "negative", "It fails."))
    system.deliver(review, verdict(pull.head, "positive", "It works."))
    comments = repository.comments(pull.number)
    assert [each["user"]["login"] for each in comments] == ["member", "ci"]
    assert comments[0]["body"] == forged["body"]
    assert comments[1]["body"].endswith("It works.")


def test_a_status_of_another_account_is_not_taken_for_ours(repository: Repository) -> None:
    pull = repository.propose("one", {"a": "1"})
    forged = {"state": "success", "context": "pipeline-steps", "description": "fine"}
    repository.call("POST", f"/statuses/{pull.head}", "member", forged)
    system = reviews(repository)
    review = system.review(str(pull.number))
    assert system.verdict(review, pull.head) is None
    assert system.deliver(review, verdict(pull.head, "negative")).outcome == "set"
    assert repository.status(pull.head)["status"] == "failure"


def test_two_first_reports_at_once_leave_one_comment(repository: Repository) -> None:
    pull = repository.propose("one", {"a": "1"})
    review = reviews(repository).review(str(pull.number))
    together = threading.Barrier(2)

    def deliver() -> None:
        system = reviews(repository)
        together.wait()
        system.deliver(review, verdict(pull.head))

    threads = [threading.Thread(target=deliver) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reviews(repository).deliver(review, verdict(pull.head)).outcome in ("set", "unchanged")
    assert len(repository.comments(pull.number)) == 1


def test_a_push_while_tests_run_keeps_the_verdict_from_the_new_revision(
    repository: Repository,
) -> None:
    """Eight pushes, each at another moment of a report."""
    pull = repository.propose("one", {"a": "0"})
    system = reviews(repository)
    review, old = system.review(str(pull.number)), pull.head
    for number in range(8):
        repository.checkout.put("a", f"{number + 1}")
        repository.checkout.git("add", "-A")
        repository.checkout.git("commit", "-q", "--amend", "-m", f"again {number}")
        pushing = threading.Timer(number * 0.02, repository.push, ("one",), {"force": True})
        pushing.start()
        outcome = system.deliver(review, verdict(old, text=f"Verdict on {old}.")).outcome
        pushing.join()
        new = repository.checkout.git("rev-parse", "HEAD")
        assert repository.statuses(new) == []
        assert outcome in ("set", "superseded")
        if outcome == "set":
            assert repository.status(old)["status"] == "success"
        late = system.deliver(review, verdict(old))
        assert (late.outcome, late.reason) == (
            "superseded",
            f"the pull request has a newer revision, {new[:12]}",
        )
        old = new


# Merges


@pytest.mark.parametrize(
    ("style", "parents"),
    [("squash", 1), ("rebase-merge", 2), ("fast-forward-only", 1)],
)
def test_every_style_merges_the_pinned_head_and_finds_its_review_again(
    forge: Forge, tmp_path: Path, style: str, parents: int
) -> None:
    repository = forge.repository(tmp_path)
    settings = {"default_merge_style": style, "allow_fast_forward_only_merge": True}
    repository.call("PATCH", "", "core", settings)
    pull = repository.propose("one", {"a": "1"})
    if style != "fast-forward-only":  # the target moves on
        repository.checkout.git("checkout", "-q", "main")
        repository.checkout.put("b", "1")
        repository.checkout.commit("Meanwhile")
        repository.checkout.push()
    system = reviews(repository, "core")
    review = system.review(str(pull.number))
    revision = system.merge(review, pull.head, "Release a\n\nApproved by core.")
    assert system.merge(review, pull.head, "again") == revision, "repeated, nothing happens"
    clone = repository.checkout
    clone.git("fetch", "-q", "origin")
    assert clone.git("rev-parse", "origin/main") == revision
    assert clone.git("show", "origin/main:a") == "1"
    assert len(clone.git("show", "-s", "--format=%P", revision).split()) == parents
    if style in ("merge", "squash"):
        assert clone.git("show", "-s", "--format=%s", revision) == "Release a"
    (merged,) = system.reviews_of(revision)
    assert (merged.state, merged.merged, merged.head) == ("merged", revision, pull.head)
    assert merged.id == review.id


def test_gitea_itself_refuses_a_head_that_moved_in_between(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull = repository.propose("one", {"a": "1"})
    system = reviews(repository, "core")
    review = system.review(str(pull.number))
    ask = system._merged

    def ask_then_push(review: Review, revision: str) -> str:
        before = ask(review, revision)
        repository.checkout.put("a", "2")
        repository.checkout.commit("Slipped in")
        repository.push("one")
        return before

    monkeypatch.setattr(system, "_merged", ask_then_push)
    with pytest.raises(Conflict, match="got a newer revision"):
        system.merge(review, pull.head, "Merge")
    assert not repository.pull(pull.number)["merged"]


def protected(repository: Repository) -> None:
    repository.protect(required_approvals=1, block_on_rejected_reviews=True)


def closed_to_ci(repository: Repository) -> None:
    repository.protect(enable_merge_whitelist=True, merge_whitelist_usernames=["core"])


@pytest.mark.parametrize(
    ("prepare", "kind", "words"),
    [
        (protected, NotApproved, "enough approvals"),
        (closed_to_ci, AccessRefused, "not allowed to merge"),
    ],
)
def test_a_protected_branch_refuses_in_its_own_words(
    repository: Repository,
    prepare: Callable[[Repository], None],
    kind: type[PipelineError],
    words: str,
) -> None:
    prepare(repository)
    pull = repository.propose("one", {"a": "1"})
    system = reviews(repository)
    with pytest.raises(kind, match=words):
        system.merge(system.review(str(pull.number)), pull.head, "Merge")


def test_a_rejection_blocks_the_merge_of_a_protected_branch(repository: Repository) -> None:
    protected(repository)
    pull = repository.propose("one", {"a": "1"})
    repository.review(pull.number, "ci")
    repository.review(pull.number, "core", "REQUEST_CHANGES")
    system = reviews(repository)
    with pytest.raises(NotApproved, match="requested changes"):
        system.merge(system.review(str(pull.number)), pull.head, "Merge")
    repository.review(pull.number, "core")
    assert system.merge(system.review(str(pull.number)), pull.head, "Merge")


# Releases


def test_a_release_is_made_at_a_pushed_tag_and_completed(repository: Repository) -> None:
    system = reviews(repository)
    files = {"hello-1.0.0.tgz": b"\x1f\x8b" + bytes(range(256)) * 40}
    tag = Tag("hello-1.0.0", repository.checkout.git("rev-parse", "HEAD"), "", "")
    with pytest.raises(UsageError, match="push the tag first"):
        system.releases.publish(tag, "hello 1.0.0", "First.", files)
    assert repository.call("GET", "/tags", "core") == [], "none was made"
    repository.checkout.git("tag", "-a", "-m", "Release hello 1.0.0", "hello-1.0.0")
    repository.checkout.git("push", "-q", "origin", "hello-1.0.0")
    page = system.releases.publish(tag, "hello 1.0.0", "First.", {})
    assert page == f"{repository.forge.url}/{repository.name}/releases/tag/hello-1.0.0"
    for _ in range(2):  # the second finds all there
        assert system.releases.publish(tag, "hello 1.0.0", "First.", files) == page
    (release,) = repository.call("GET", "/releases", "core")
    assert (release["name"], release["body"], release["draft"]) == ("hello 1.0.0", "First.", False)
    (asset,) = release["assets"]
    assert fetch(asset["browser_download_url"]) == files["hello-1.0.0.tgz"]
    with pytest.raises(Conflict, match="with other bytes"):
        system.releases.publish(tag, "hello 1.0.0", "First.", {"hello-1.0.0.tgz": b"x"})


def test_the_files_of_a_private_repository_are_compared_too(forge: Forge, tmp_path: Path) -> None:
    repository = forge.repository(tmp_path, private=True)
    repository.checkout.git("tag", "v1")
    repository.checkout.git("push", "-q", "origin", "v1")
    tag = Tag("v1", repository.checkout.git("rev-parse", "HEAD"), "", "")
    for _ in range(2):
        reviews(repository).releases.publish(tag, "One", "", {"a+b.tgz": b"bytes"})


# Teams


def test_members_of_a_team_are_read_with_the_right_token(repository: Repository) -> None:
    forge = repository.forge
    system = reviews(repository, "core", forge.token("core", "read:organization"))
    assert system.members(TEAM) == {"core"}
    with pytest.raises(UsageError, match="has no team nobody"):
        system.members("acme/nobody")
    with pytest.raises(AccessRefused, match="read:organization"):
        reviews(repository).members(TEAM)


# Logins and failures


def test_an_account_without_the_right_to_write_is_told(repository: Repository) -> None:
    pull = repository.propose("one", {"a": "1"})
    system = reviews(repository, "stranger")
    review = system.review(str(pull.number))
    with pytest.raises(AccessRefused, match="write access to the repository"):
        system.deliver(review, verdict(pull.head))
    with pytest.raises(AccessRefused, match="not allowed to merge"):
        system.merge(review, pull.head, "Merge")
    assert repository.statuses(pull.head) == []


@pytest.mark.parametrize("missing", ["write:issue", "read:user", "write:repository"])
def test_a_token_without_one_right_is_told_which_ones_are_needed(
    repository: Repository, missing: str
) -> None:
    pull = repository.propose("one", {"a": "1"})
    rights = {"write:issue", "read:user", "write:repository"} - {missing}
    if missing == "write:repository":
        rights.add("read:repository")
    system = reviews(repository, token=repository.forge.token("ci", *sorted(rights)))
    with pytest.raises(AccessRefused, match=missing):
        system.deliver(system.review(str(pull.number)), verdict(pull.head))


def test_what_does_not_exist_or_is_hidden_is_told_apart(forge: Forge, tmp_path: Path) -> None:
    repository = forge.repository(tmp_path, private=True)
    with pytest.raises(UsageError, match="no such pull request"):
        reviews(repository).review("77")
    with pytest.raises(AccessRefused, match="may not see it"):
        reviews(repository, "stranger").review("77")
    with pytest.raises(UsageError, match="not a pull request of this repository"):
        reviews(repository).review("https://git.example.com/core/charts/pulls/1")


def test_a_server_that_goes_away_in_the_middle_is_unreachable(repository: Repository) -> None:
    pull = repository.propose("one", {"a": "1"})
    system = reviews(repository, "core", budget=0.5)
    review = system.review(str(pull.number))
    server = repository.forge.server
    server.stop()
    try:
        with pytest.raises(Unreachable) as raised:
            system.deliver(review, verdict(pull.head))
        assert raised.value.exit_code == 7
        with pytest.raises(Unreachable):
            system.merge(review, pull.head, "Merge")
    finally:
        server.start()
    assert system.deliver(review, verdict(pull.head)).outcome == "set"
    assert system.merge(review, pull.head, "Merge")


def test_a_public_repository_is_read_without_a_token(repository: Repository) -> None:
    pull = repository.propose("one", {"a": "1"})
    settings = GiteaReview(url=repository.forge.url)
    system = GiteaReviews(settings, repository.name, {}, environ={})
    assert system.review(str(pull.number)).head == pull.head
    with pytest.raises(AccessRefused, match="GITEA_TOKEN"):
        system.deliver(system.review(str(pull.number)), verdict(pull.head))


# The page about it


def test_the_how_to_does_what_it_says(forge: Forge, tmp_path: Path) -> None:
    repository = forge.repository(tmp_path / "repository")
    page = docs.ROOT / "docs/how-to/gitea.md"
    lines = [line for line in docs.scripts(page) if not line.startswith("pipeline-steps")]
    command = shlex.join(forge.server.command())
    on_server = f'gitea() {{ {command} "$@" --config {forge.server.settings}; }}'
    script = "\n".join(["set -eu", on_server, f"cd {forge.server.folder}", *lines])
    for shown, real in {
        "https://git.example.com": forge.url,
        "repos/team/charts": f"repos/{repository.name}",
    }.items():
        assert shown in script
        script = script.replace(shown, real)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login core password password-of-core\n")
    completed = subprocess.run(
        ["/bin/sh", "-c", script], env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    of_reviews, of_releases = re.findall(r"^([0-9a-f]{40})$", completed.stdout, re.MULTILINE)
    pull = repository.propose("one", {"a": "1"})
    system = reviews(repository, "ci-reviews", of_reviews)
    releasing = reviews(repository, "ci-release", of_releases)
    review = system.review(str(pull.number))
    repository.review(pull.number, "core")
    with pytest.raises(NotApproved, match="status check"):
        releasing.merge(review, pull.head, "Merge")
    system.deliver(review, verdict(pull.head))
    with pytest.raises(AccessRefused, match="not allowed to merge"):
        system.merge(review, pull.head, "Merge")
    assert releasing.merge(review, pull.head, "Merge")
    tag = {"tag_name": "hello-1.0.0", "target": "main"}
    forge.tokens.update({"ci-reviews": of_reviews, "ci-release": of_releases})
    with pytest.raises(Refused):
        repository.call("POST", "/tags", "ci-reviews", tag)
    assert repository.call("POST", "/tags", "ci-release", tag)["name"] == "hello-1.0.0"


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [("", 0, "gitea answers"), ("0" * 40, 7, "GITEA_TOKEN")],
    ids=["the right token", "a wrong one"],
)
def test_doctor_asks_the_server(repository: Repository, token: str, code: int, words: str) -> None:
    forge, checkout = repository.forge, repository.checkout.root
    (checkout / "pipeline.yaml").write_text(
        f"charts: [{{path: charts/*}}]\nreview: {{gitea: {{url: '{forge.url}'}}}}\n"
        f"hosts: {{'{forge.host}': {{username: ci, password: '${{PSW}}'}}}}\n"
    )
    completed = subprocess.run(
        [sys.executable, "-m", "pipeline_steps", "doctor", "--for", "report"],
        cwd=checkout, env={**os.environ, "PSW": token or forge.tokens["ci"]},
        capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == code, completed.stdout + completed.stderr
    assert words in completed.stdout
