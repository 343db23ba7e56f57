"""Which approvals cover what was merged, on every review system and for each way it merges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.approval import approval
from pipeline_steps.config.config_file import load
from pipeline_steps.reviews.review import Verdict
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import NotApproved
from tests.support.review_systems import FORGES, Forge, Proposed

PIPELINE = """\
charts: [{path: charts/*}]
approvals: {code: {RULE}}
channels:
  production: {charts: "file:///nowhere", requires: [check, approval.code]}
"""
CHART = {
    "charts/web/Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n",
    "charts/web/values.yaml": "".join(f"key{number}: {number}\n" for number in range(30)),
    "charts/web/templates/map.yaml": "kind: ConfigMap\n",
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
        pipeline = PIPELINE.replace("RULE", rule) + self._settings
        self.merged({"pipeline.yaml": pipeline, **CHART})

    def merged(self, files: Mapping[str, str], earlier: Proposed | None = None) -> Proposed:
        """Propose, approve and merge."""
        proposed = self.world.propose(files, earlier=earlier)
        self.world.approve(proposed, self.world.approver)
        return self.merge(proposed)

    def merge(self, proposed: Proposed) -> Proposed:
        system = self.world.opened()
        review = system.review(proposed.id)
        system.deliver(review, Verdict(proposed.revision, "positive", "fine", "fine"))
        system.merge(review, proposed.revision, "Merge it")
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
    world = FORGES[request.param](request, tmp_path)
    return Charts(world, tmp_path, monkeypatch)


every_way = pytest.mark.parametrize("charts", FORGES, indirect=True)


def changed(number: int, text: str = "changed") -> dict[str, str]:
    """The values with another one of the thirty."""
    return {VALUES: CHART[VALUES].replace(f"key{number}: {number}\n", f"key{number}: {text}\n")}


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


@every_way
def test_a_rule_that_nobody_fulfilled_is_told_for_each_change(charts: Charts) -> None:
    charts.begin('by: ["somebody-else"]')
    charts.refused(charts.world.approver, "not in `by`", "1 more person must approve")


@every_way
def test_what_is_not_of_the_chart_needs_no_approval(charts: Charts) -> None:
    charts.begin()
    charts.world.push({"docs/text.md": "no chart\n"})
    charts.world.push({"pipeline.yaml": charts.repo_text() + "tests: {parallel: 2}\n"})
    assert charts.ask().passed
    text = charts.repo_text().replace("{path: charts/*}", "{path: charts/*, paths: [docs/]}")
    pushed = charts.world.push({"pipeline.yaml": text})
    charts.refused(pushed[:12], "pipeline.yaml")
