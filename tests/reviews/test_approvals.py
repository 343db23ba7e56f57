"""Which approvals cover what was merged, on every review system and for each way it merges."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from pipeline_steps.approval import approval
from pipeline_steps.config.config_file import load
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import NotApproved
from tests.support.relays import Relay
from tests.support.review_systems import (
    FORGES,
    Forge,
    GerritWorld,
    GiteaWorld,
    GitlabWorld,
    Proposed,
    gitlab_world,
    merge,
)

PIPELINE = """\
charts: [{path: charts/*, tests: {none: "nothing to install"}}]
approvals: {code: {RULE}}
channels:
  snapshot: {charts: "file://FOLDER/snapshots"}
  production: {charts: "file://FOLDER/charts", requires: [check, approval.code]}
"""
CHART = {
    "charts/web/Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n",
    "charts/web/values.yaml": "".join(f"key{number}: {number}\n" for number in range(30)),
    "charts/web/templates/map.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n",
}
VALUES = "charts/web/values.yaml"


class Charts:
    """A chart on a server: what is merged there, and what a release asks about it.

    rule: of the approval `code`, in YAML.
    """

    def __init__(self, world: Forge, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.folder = folder
        settings, password = world.settings()
        self._settings = settings
        monkeypatch.setenv("REVIEW_PASSWORD", password)
        self.repo = world.clone(folder / "release")

    def begin(self, rule: str = "") -> None:
        """Bring the chart into main by an approved review."""
        pipeline = PIPELINE.replace("RULE", rule).replace("FOLDER", str(self.folder))
        for place in ("snapshots", "charts"):
            (self.folder / place).mkdir()
        pipeline += self._settings
        self.merged({"pipeline.yaml": pipeline, **CHART})

    def merged(self, files: Mapping[str, str], earlier: Proposed | None = None) -> Proposed:
        """Propose, approve and merge."""
        proposed = self.world.propose(files, earlier=earlier)
        self.world.approve(proposed, self.world.approver)
        return self.merge(proposed)

    def merge(self, proposed: Proposed) -> Proposed:
        merge(self.world, proposed)
        return proposed

    def ask(self, review: str | None = None, revision: str = "origin/main") -> Record:
        """The record of `approval` for a revision, which is checked out."""
        self.repo.git("fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")
        if review is not None:
            system = self.world.opened()
            found = system.review(review)
            self.repo.git("fetch", "-q", "origin", system.fetch_reference(found, revision))
        self.repo.git("checkout", "-q", "--detach", revision)
        config = load([self.repo.root / "pipeline.yaml"])
        state = State(self.repo.root / ".pipeline" / "state.jsonl")
        (record,) = approval("web", config=config, state=state, review=review)
        return record

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line, in the clone."""
        return subprocess.run(
            [sys.executable, "-m", "pipeline_steps", *words],
            cwd=self.repo.root,
            env={**os.environ, "GIT_CONFIG_GLOBAL": str(self.repo.config)},
            capture_output=True,
            text=True,
        )

    def ok(self, *steps: str) -> None:
        """Run steps on what main is now."""
        self.repo.git("fetch", "-q", "origin")
        self.repo.git("checkout", "-q", "-B", "main", "origin/main")
        for step in steps:
            local = ["--local"] if step == "tag_release" else []
            done = self.run(step, *local, "--chart", "web")
            assert done.returncode == 0, done.stderr

    def repo_text(self) -> str:
        """pipeline.yaml as main has it."""
        self.repo.git("fetch", "-q", "origin", "+refs/heads/*:refs/remotes/origin/*")
        return self.repo.git("show", "origin/main:pipeline.yaml") + "\n"

    def refused(self, *words: str, **asked: Any) -> None:
        with pytest.raises(NotApproved) as caught:
            self.ask(**asked)
        for word in words:
            assert word in str(caught.value), str(caught.value)
        assert caught.value.exit_code == 6


@pytest.fixture
def charts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Charts:
    world = {**FORGES, **ON_GITLAB}[request.param](request, tmp_path)
    return Charts(world, tmp_path, monkeypatch)


#: On its double; merge commits are in test_official_hubs.py.
ON_GITLAB = {
    f"gitlab-{method}": cast("Callable[[pytest.FixtureRequest, Path], Forge]", gitlab_world(method))
    for method in ("squash", "semi-linear", "fast-forward")
}
every_way = pytest.mark.parametrize("charts", FORGES, indirect=True)


def changed(*numbers: int, more: str = "") -> dict[str, str]:
    """The values with others for some of the thirty."""
    text = CHART[VALUES]
    for number in numbers:
        text = text.replace(f"key{number}: {number}\n", f"key{number}: changed\n")
    return {VALUES: text + more}


@every_way
def test_every_change_since_the_beginning_needs_its_own_approval(charts: Charts) -> None:
    """Two reviews of one base, one after the other, then a push around them."""
    charts.begin()
    world = charts.world
    one, other = (world.propose(changed(number)) for number in (3, 20))
    for proposed in (one, other):
        world.approve(proposed, world.approver)
        charts.merge(proposed)
    record = charts.ask()
    assert record.parameters["approvers"] == [world.approver]
    approved = record.parameters["approved"]
    assert len(approved) == 3
    votes = {vote["revision"] for each in approved for vote in each["votes"]}
    assert {one.revision, other.revision} <= votes
    assert all(vote["given"].endswith("Z") for each in approved for vote in each["votes"])
    pushed = world.push({"charts/web/templates/map.yaml": "kind: Secret\n"})
    charts.refused(pushed[:12], "templates/map.yaml", "pushed directly")
    world.push({"README.md": "about something else\n"})
    charts.refused(pushed[:12])


@pytest.mark.parametrize("charts", ["gerrit", "gitea"], indirect=True)
def test_a_rule_that_nobody_fulfilled_is_told_for_each_change(charts: Charts) -> None:
    charts.begin('by: ["somebody-else"]')
    charts.refused(charts.world.approver, "not in `by`", "1 more person must approve")


@pytest.mark.parametrize("charts", ["gerrit", "gitea"], indirect=True)
def test_what_is_not_of_the_chart_needs_no_approval(charts: Charts) -> None:
    charts.begin()
    charts.world.push({"docs/text.md": "no chart\n"})
    charts.world.push({"pipeline.yaml": charts.repo_text() + "tests: {parallel: 2}\n"})
    assert charts.ask().passed
    text = charts.repo_text().replace("{path: charts/*,", "{path: charts/*, paths: [docs/],")
    pushed = charts.world.push({"pipeline.yaml": text})
    charts.refused(pushed[:12], "pipeline.yaml")


@pytest.mark.parametrize("charts", ["gerrit"], indirect=True)
def test_an_approval_survives_a_clean_rebase_and_no_other_line(charts: Charts) -> None:
    """In the build of a review: its newest revision counts, not the one that was approved. Gitea
    calls the approval stale after each push, which is respected.
    """
    charts.begin()
    world = charts.world
    proposed = world.propose(changed(3))
    charts.refused("1 more person", review=proposed.id, revision=proposed.revision)
    world.approve(proposed, world.approver)
    assert charts.ask(review=proposed.id, revision=proposed.revision).passed
    charts.merged(changed(20))
    rebased = world.replace(proposed, changed(3, 20))
    record = charts.ask(review=proposed.id, revision=rebased.revision)
    (approved,) = record.parameters["approved"]
    assert approved["changes"] == [rebased.revision]
    assert approved["votes"][0]["revision"] == proposed.revision
    resolved = world.replace(rebased, changed(3, 20, more="smuggled: true\n"))
    charts.refused("has other changes", review=proposed.id, revision=resolved.revision)
    charts.refused("this is the build of", review=proposed.id, revision=rebased.revision)


@pytest.mark.parametrize("charts", ["gerrit", "gitea"], indirect=True)
def test_a_file_that_was_dropped_after_the_approval_needs_another(charts: Charts) -> None:
    charts.begin()
    world = charts.world
    secret = {"charts/web/templates/secret.yaml": "kind: Secret\n"}
    proposed = world.propose({**changed(3), **secret})
    world.approve(proposed, world.approver)
    dropped = world.replace(proposed, changed(3))
    charts.refused("1 more person", review=proposed.id, revision=dropped.revision)
    world.approve(dropped, world.approver)
    assert charts.ask(review=proposed.id, revision=dropped.revision).passed


@pytest.mark.parametrize("charts", ["gitea-rebase", "gitea-squash"], indirect=True)
def test_all_commits_of_a_branch_are_covered_by_the_approval_of_the_last(charts: Charts) -> None:
    """Fast-forward where nothing else was merged, else rebased, squashed, or merged."""
    charts.begin()
    world = charts.world
    for numbers in ((3, 4), (5, 6)):
        done = {3, 4, 20} if numbers == (5, 6) else set()
        first = world.propose(changed(*done, numbers[0]))
        second = world.propose(changed(*done, *numbers), earlier=first)
        world.approve(second, world.approver)
        if done:  # beside it
            charts.merged({"charts/web/templates/map.yaml": "kind: Role\n"})
        charts.merge(second)
        assert charts.ask().parameters["approvers"] == [world.approver]
        if not done:
            charts.merged(changed(3, 4, 20))


@pytest.mark.parametrize("charts", ON_GITLAB, indirect=True)
def test_a_release_knows_what_gitlab_merged_however_it_did(charts: Charts) -> None:
    """Of a fast-forward git does not tell where the merge request began."""
    charts.begin()
    world = charts.world
    first = world.propose(changed(3))
    second = world.propose(changed(3, 4), earlier=first)
    charts.refused("1 more person", review=second.id, revision=second.revision)
    world.approve(second, world.approver)
    charts.merge(second)
    record = charts.ask()
    assert len(record.parameters["approved"]) == 2
    pushed = world.push(changed(3, 4, 20))
    first = world.propose(changed(3, 4, 5, 20))
    second = world.propose(changed(3, 4, 5, 6, 20), earlier=first)
    world.approve(second, world.approver)
    charts.merge(second)
    assert isinstance(world, GitlabWorld)
    world.state.clean_up(second.handle)
    charts.refused(pushed[:12], "pushed directly")
    with pytest.raises(NotApproved) as caught:
        charts.ask()
    assert second.revision[:12] not in str(caught.value)


@pytest.mark.parametrize("charts", ["gitlab-fast-forward"], indirect=True)
def test_a_release_knows_what_a_merge_train_fast_forwarded(charts: Charts) -> None:
    """It is rebased, and GitLab names its commits nowhere in the merge request."""
    charts.begin()
    world = charts.world
    assert isinstance(world, GitlabWorld)
    world.state.trains = []
    proposed = world.propose(changed(3, 4), earlier=world.propose(changed(3)))
    world.approve(proposed, world.approver)
    pushed = world.push({"README.md": "in front of it\n"})
    world.state.merge(proposed.handle)
    assert proposed.revision != world.tip() != pushed
    (_, approved) = sorted(charts.ask().parameters["approved"], key=lambda each: each["review"])
    assert len(approved["changes"]) == 2


@pytest.mark.parametrize("charts", ["gitea"], indirect=True)
def test_whoever_may_not_write_approves_in_vain(charts: Charts) -> None:
    charts.begin()
    world = charts.world
    proposed = world.propose(changed(3))
    world.approve(proposed, world.stranger)
    words = (f"{world.stranger}: not official", "1 more person must approve")
    charts.refused(*words, review=proposed.id, revision=proposed.revision)
    world.approve(proposed, world.approver)
    world.reject(proposed, world.bot)
    charts.refused("ci rejects", review=proposed.id, revision=proposed.revision)


@pytest.mark.parametrize("charts", ["gerrit"], indirect=True)
def test_the_author_approves_in_vain_on_gerrit(charts: Charts) -> None:
    """Gitea lets no author approve; Gerrit lets one who may vote."""
    charts.begin()
    world = charts.world
    assert isinstance(world, GerritWorld)
    world.project.repo.git("config", "user.email", f"{world.approver}@example.com")
    change = world.project.push(changed(3), by=world.approver)
    proposed = Proposed(str(change.number), change.revision, change)
    world.approve(proposed, world.approver)
    words = "by the author of the review"
    charts.refused(words, review=proposed.id, revision=proposed.revision)
    charts.merge(proposed)
    charts.refused(proposed.revision[:12], words)


@pytest.mark.parametrize("charts", ["gerrit"], indirect=True)
def test_each_change_of_a_chain_needs_its_own_approval_on_gerrit(charts: Charts) -> None:
    """One merge brings two changes; the approval of the upper one says nothing of the lower."""
    charts.begin(f'by: ["{charts.world.approver}"], gerrit: "label:Verified=MAX"')
    world = charts.world
    assert isinstance(world, GerritWorld)
    lower = world.project.push(changed(3))
    upper = world.project.push(changed(3, 20), onto=lower.revision)
    charts.merged({"README.md": "so that a merge is made\n"})
    for change in (lower, upper):
        world.project.vote(change, world.approver, Code_Review=2)
        world.project.vote(change, world.bot, Verified=1)
    path = f"{world.project.path(upper)}/submit"
    world.gerrit.do("POST", path, {}, by=world.approver)
    with pytest.raises(NotApproved) as caught:
        charts.ask()
    words = str(caught.value)
    assert f"/+/{lower.number}: 1 more" in words
    assert f"/+/{upper.number}: 1 more" in words


@pytest.mark.parametrize("charts", ["gitea"], indirect=True)
def test_a_release_asks_again_and_an_approval_that_is_gone_ends_it(charts: Charts) -> None:
    """The command line, whole: the first release passes, of the second the approval is removed
    between the tag and promote; only the changes since the first are asked about.
    """
    charts.begin()
    proposed = charts.merged(changed(3))
    charts.ok("check", "snapshot", "integration_test", "approval", "tag_release", "promote")
    assert len(list((charts.folder / "charts").glob("*.tgz"))) == 1
    url = f"file://{charts.folder}/charts"
    assert charts.world.approver in charts.run("audit", url, "--report", "table").stdout
    version = CHART["charts/web/Chart.yaml"].replace("1.0.0", "1.1.0")
    proposed = charts.merged({"charts/web/Chart.yaml": version})
    charts.ok("check", "snapshot", "integration_test", "approval", "tag_release")
    planned = charts.run("regenerate", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "web-1.1.0.tgz" in planned.stderr and "would be published" in planned.stderr
    assert isinstance(charts.world, GiteaWorld)
    reviews = f"/pulls/{proposed.id}/reviews"
    for given in charts.world.repository.call("GET", reviews, "core"):
        charts.world.repository.call("DELETE", f"{reviews}/{given['id']}", "core")
    for words in (["promote", "--chart", "web"], ["regenerate"]):
        refused = charts.run(*words)
        assert refused.returncode == 6, refused.stderr
        assert "Chart.yaml" in refused.stderr and "values.yaml" not in refused.stderr
    assert "1 not approved" in refused.stderr and "web 1.1.0 (web-1.1.0): " in refused.stderr
    assert len(list((charts.folder / "charts").glob("*.tgz"))) == 1
    assert charts.run("tag_release", "--local", "--chart", "web").returncode == 6


@pytest.mark.parametrize("charts", ["gitea"], indirect=True)
def test_a_server_that_stops_leaves_nothing_approved_and_the_next_run_finds_it(
    charts: Charts,
) -> None:
    """At the first request, in the middle, and at the last one. Gerrit is waited for where it has
    answered once (test_gerrit.py).
    """
    charts.begin()
    charts.merged(changed(3))
    charts.ok()
    settings = charts.repo_text().rpartition("\nreview: ")[2]
    url = charts.world.opened().review("1").url.partition("/core/")[0]

    def asked(address: str) -> subprocess.CompletedProcess[str]:
        """approval, through another address of the server."""
        overlay = charts.folder / "relay.yaml"
        moved = f"review: {settings}".replace(url, address)
        overlay.write_text(moved.replace(urlsplit(url).netloc, urlsplit(address).netloc))
        return charts.run("approval", "--chart", "web", "--config", str(overlay))

    def approvals() -> list[Record]:
        state = State(charts.repo.root / ".pipeline" / "state.jsonl")
        return list(state.find(step="approval", result="passed"))

    stopped = asked("http://127.0.0.1:9")
    assert stopped.returncode == 7, stopped.stderr
    assert "the server does not answer" in stopped.stderr
    assert "check that it runs, and the port" in stopped.stderr
    with Relay(url) as relay:
        whole = asked(relay.url)
    assert whole.returncode == 0, whole.stderr
    [passed] = approvals()
    count = len(relay.methods)
    for number in (count // 2, count):
        with Relay(url, stops_at=number) as relay:
            stopped = asked(relay.url)
        assert stopped.returncode in (7, 75), (number, stopped.stderr)
        assert relay.host in stopped.stderr and "Traceback" not in stopped.stderr
        assert approvals() == [passed], number
    charts.ok("approval")
    [again] = approvals()
    assert again.id != passed.id and again.outputs == passed.outputs
