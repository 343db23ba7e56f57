"""`merge` where the review system merges itself: a real Gitea, pinned to the reviewed commit."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline_steps.config.config_file import load
from pipeline_steps.merge import merge
from pipeline_steps.reviews.review import Verdict
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import Conflict, NotApproved, UsageError
from tests.support.gits import chart
from tests.support.review_systems import SYSTEMS, GiteaWorld, Proposed


def deliver(world: GiteaWorld, proposed: Proposed) -> None:
    system = world.opened()
    verdict = Verdict(proposed.revision, "positive", "fine", "fine")
    system.deliver(system.review(proposed.id), verdict)


def test_only_the_reviewed_commit_is_merged(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = SYSTEMS["gitea"](request, tmp_path)
    assert isinstance(world, GiteaWorld)
    forge, root = world.repository.forge, world.repository.checkout.root
    monkeypatch.setenv("FORGE_TOKEN", forge.tokens["ci"])
    settings = {
        "charts": [{"path": "charts/*", "tests": {"none": "rendered only"}}],
        "check": {"version": "required"},
        "review": {"gitea": {"url": forge.url}},
        "hosts": {forge.host: {"username": "ci", "password": "${FORGE_TOKEN}"}},
    }
    world.push({"pipeline.yaml": yaml.safe_dump(settings), "charts/web/Chart.yaml": chart("web")})
    first = world.propose({"charts/web/Chart.yaml": chart("web", "0.2.0")})
    state = State(root / ".pipeline/state.jsonl")

    def merged(proposed: Proposed, revision: str = "") -> Record:
        config = load(start=root)
        record = merge(config=config, state=state, review=proposed.id, revision=revision or None)
        assert isinstance(record, Record)
        return record

    with pytest.raises(NotApproved, match="1 more person must approve"):
        merged(first)
    deliver(world, first)
    world.approve(first, "core")
    before = world.tip()
    with pytest.raises(Conflict, match="not at"):
        merged(first, before)
    planned = merge(config=load(start=root), state=state, review=first.id, plan=True)
    assert (planned, world.tip()) == ((), before)
    assert merged(first).outputs == {"merge": f"main@{world.tip()}"}
    assert world.tip() != before
    assert merged(first).outputs == {"merge": f"main@{world.tip()}"}  # done already

    # Made before the first one was merged: its version is taken now, and nothing conflicts.
    world.repository.checkout.git("checkout", "-q", "-B", "late", before)
    late = world.repository.propose("late", {"charts/web/values.yaml": "a: 1\n"})
    proposed = Proposed(str(late.number), late.head, "late")
    deliver(world, proposed)
    world.approve(proposed, "core")
    tip = world.tip()
    with pytest.raises(Conflict, match=r"version 0\.1\.0 is not above 0\.2\.0 of main"):
        merged(proposed)
    assert world.tip() == tip
    world.repository.checkout.git("checkout", "-q", "--detach", "origin/main")
    with pytest.raises(UsageError, match="the checkout is at"):
        merged(proposed)


def test_a_patch_does_not_change_the_rule_of_its_own_approval(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = SYSTEMS["gitea"](request, tmp_path)
    assert isinstance(world, GiteaWorld)
    forge, root = world.repository.forge, world.repository.checkout.root
    monkeypatch.setenv("FORGE_TOKEN", forge.tokens["ci"])
    settings = {
        "charts": [{"path": "charts/*", "tests": {"none": "rendered only"}}],
        "review": {"gitea": {"url": forge.url}},
        "approvals": {"code": {"by": ["chief"]}},
        "hosts": {forge.host: {"username": "ci", "password": "${FORGE_TOKEN}"}},
    }
    world.push({"pipeline.yaml": yaml.safe_dump(settings), "charts/web/Chart.yaml": chart("web")})
    changed = yaml.safe_dump({**settings, "approvals": {"code": {"by": ["core"]}}})
    proposed = world.propose({"pipeline.yaml": changed})
    deliver(world, proposed)
    world.approve(proposed, "core")
    before = world.tip()
    with pytest.raises(NotApproved, match="core: not in `by`"):
        merge(
            config=load(start=root), state=State(root / ".pipeline/state.jsonl"), review=proposed.id
        )
    assert world.tip() == before
