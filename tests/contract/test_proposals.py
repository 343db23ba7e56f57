"""Checkouts of proposed revisions, and merging them, alike for git and Bazaar on real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline_steps.sources.kinds import PROPOSALS, open_source
from pipeline_steps.sources.proposal import Proposal, Target
from pipeline_steps.toolbox.errors import Conflict, PipelineError, Temporary, UsageError
from tests.support.lp_projects import SYSTEMS, LpProject
from tests.support.registries import free_port


class World(NamedTuple):
    """A new branch of dev, called `name`, and the proposal of it, which is not checked out yet."""

    project: LpProject
    name: str
    proposal: Proposal

    def commit(self, files: dict[str, str | None], name: str = "") -> str:
        return self.project.commit(name or self.name, files)

    def check_out(self, revision: str = "") -> str:
        branch = self.project.target_name if self.name == "trunk" else self.name
        return self.proposal.check_out(self.project.url(self.name), branch, revision)

    def names(self) -> set[str]:
        root = self.proposal.root
        return {place.name for place in root.iterdir()} - {".git", ".bzr"}


@pytest.fixture(params=SYSTEMS)
def world(
    request: pytest.FixtureRequest,
    lp_project: Callable[[str], LpProject],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    project = lp_project(request.param)
    for name, value in project.environment().items():
        monkeypatch.setenv(name, value)
    target = Target(project.url("trunk"), project.target_name)
    proposal = PROPOSALS[request.param](tmp_path / "proposal", target)
    return World(project, project.next_branch(), proposal)


def test_the_newest_revision_and_an_older_one(world: World) -> None:
    first = world.commit({"ü n": "1", "old": "1"})
    second = world.commit({"ü n": "2", "old": None})
    assert world.check_out() == second
    assert (world.proposal.root / "ü n").read_text() == "2" and "old" not in world.names()
    (world.proposal.root / "left-over").write_text("of a build")
    (world.proposal.root / "ü n").write_text("edited")
    (world.proposal.root / ".pipeline").mkdir()
    (world.proposal.root / ".pipeline/state.jsonl").write_text("kept")
    assert world.check_out(first) == first
    assert (world.proposal.root / "ü n").read_text() == "1"
    assert {"old", ".pipeline"} <= world.names() and "left-over" not in world.names()
    source = open_source(world.proposal.root)
    assert source.revision() == first and not source.tree(None, "").modified


def test_it_knows_the_target(world: World) -> None:
    base = world.project.tip("trunk")
    world.commit({world.name: "1"})
    tip = world.commit({"trunk": world.name}, "trunk")
    world.check_out()
    source = open_source(world.proposal.root)
    assert world.proposal.target_tip() == source.tip(world.project.target_name) == tip
    assert source.base(world.project.target_name) == base
    assert "trunk" in source.tree(tip, "").entries()
    assert source.changed(base, source.revision(), "") == (world.name,)


def test_a_revision_that_the_branch_does_not_have(world: World) -> None:
    other = world.project.next_branch()
    revision = world.commit({"x": "x"}, other)
    world.commit({"y": "y"})
    for absent in (revision, "0" * 40):
        with pytest.raises(UsageError, match="does not have the revision"):
            world.check_out(absent)


def test_exactly_the_revision_is_merged(world: World) -> None:
    reviewed = world.commit({world.name: "reviewed"})
    tip = world.commit({"trunk": f"{world.name} first"}, "trunk")
    world.check_out()
    world.commit({world.name: "sneaked in"})
    assert not world.proposal.merged_by(reviewed)
    merged = world.proposal.merge(reviewed, "Merge it\n\nWith reasons.\n")
    assert world.project.tip("trunk") == tip  # nothing is pushed yet
    world.proposal.push(merged)
    assert world.project.tip("trunk") == merged
    assert world.project.parents(merged) == [tip, reviewed]
    assert world.project.read(world.name) == "reviewed"
    assert world.project.read("trunk") == f"{world.name} first"
    other = world.project.next_branch()
    later = world.commit({other: "another"}, other)
    world.proposal.check_out(world.project.url(other), other)
    world.proposal.push(world.proposal.merge(later, "Merge another one\n"))
    last = world.commit({"trunk": f"{world.name} last"}, "trunk")
    world.check_out(reviewed)
    assert world.proposal.merged_by(reviewed) == merged
    assert world.proposal.merged_by(tip) == tip and world.proposal.merged_by(last) == last


def test_changes_that_meet_are_no_merge(world: World) -> None:
    world.commit({"shared": "a\n"}, "trunk")
    other = world.project.next_branch()
    reviewed = world.commit({"shared": "b\n"}, other)
    tip = world.commit({"shared": "c\n"}, "trunk")
    world.proposal.check_out(world.project.url(other), other)
    with pytest.raises(Conflict, match=r"conflicts with \w+ in shared"):
        world.proposal.merge(reviewed, "no")
    assert world.project.tip("trunk") == tip
    world.proposal.check_out(world.project.url(other), other)  # and it can go on


def test_a_target_that_moves_meanwhile(world: World) -> None:
    reviewed = world.commit({world.name: "1"})
    world.check_out()
    merged = world.proposal.merge(reviewed, "one")
    tip = world.commit({"meanwhile": world.name}, "trunk")
    with pytest.raises(Temporary, match="another revision in the meantime; nothing was pushed"):
        world.proposal.push(merged)
    assert world.project.tip("trunk") == tip
    world.check_out()
    world.proposal.push(world.proposal.merge(reviewed, "two"))
    assert world.project.parents(world.project.tip("trunk")) == [tip, reviewed]


def test_tags_of_the_proposed_branch_stay_there(world: World) -> None:
    revision = world.commit({world.name: "1"})
    world.project.tag(world.name, f"web-9.9.{world.name[3:]}", revision)
    world.check_out()
    assert not [
        name for name in open_source(world.proposal.root).tags() if name.startswith("web-9")
    ]
    world.proposal.push(world.proposal.merge(revision, "m"))
    assert not [name for name in world.project.tags("trunk") if name.startswith("web-9")]


def test_a_server_that_is_gone(world: World) -> None:
    scheme = world.project.code_url.partition("://")[0]
    with pytest.raises(PipelineError) as raised:
        world.proposal.check_out(f"{scheme}://127.0.0.1:{free_port()}/fix", "fix")
    assert raised.value.exit_code == 7
