"""X1, X2: a release that needs an approval, on a real forge (Gitea) with votes that people gave
there: what counts is that somebody who may approve saw these very lines.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.faults.release_runs import GIT, Case, passed, refused, release
from tests.support import giteas
from tests.support.release_line import MAP, Line
from tests.support.review_systems import GiteaWorld, Proposed, merge

REQUIRES = ", requires: [check, integration_test, approval.code]"
FILES = ("pipeline.yaml", "charts/common/Chart.yaml", "charts/common/templates/map.yaml")
OTHER = {FILES[-1]: MAP.replace("hello", "good day")}
NOT_APPROVED = 6

#: Judges a proposal of the line's chart and brings it into main.
Vote = Callable[[GiteaWorld, Proposed], object]


def voted(line: Line, vote: Vote, *, words: str = "") -> str:
    """Release what a vote brought into main. words: of the refusal; "" where it has to pass."""
    line.configure(REQUIRES)
    with giteas.serving() as forge:
        world = GiteaWorld(forge, line.folder / "forge", "merge")
        settings, password = world.settings()
        files = {path: (line.repo.root / path).read_text() for path in FILES}
        files["pipeline.yaml"] += f"approvals: {{code: {{}}}}\n{settings}"
        vote(world, world.propose(files))
        line.repo = world.clone(line.folder / "release")
        ended = release(line, REVIEW_PASSWORD=password)
    return refused(ended, NOT_APPROVED, words) if words else passed(ended)


def approved(world: GiteaWorld, proposed: Proposed) -> None:
    world.approve(proposed, world.approver)
    merge(world, proposed)


def approved_before_another_revision(world: GiteaWorld, proposed: Proposed) -> None:
    world.approve(proposed, world.approver)
    second = world.propose(OTHER, earlier=proposed)
    world.repository.settle(int(second.id), second.revision)
    merge(world, second)


def approved_by_a_stranger(world: GiteaWorld, proposed: Proposed) -> None:
    """The forge lets it in, because its branch asks for no approval any more."""
    world.approve(proposed, world.stranger)
    rules = "/branch_protections/main"
    world.repository.call("PATCH", rules, "core", {"required_approvals": 0})
    merge(world, proposed)


def rejected_by_another(world: GiteaWorld, proposed: Proposed) -> None:
    """The forge lets it in, because its branch does not mind rejections any more."""
    world.approve(proposed, world.approver)
    rules = "/branch_protections/main"
    world.repository.call("PATCH", rules, "core", {"block_on_rejected_reviews": False})
    world.reject(proposed, world.bot)
    merge(world, proposed)


def pushed(files: dict[str, str], world: GiteaWorld, proposed: Proposed) -> None:
    approved(world, proposed)
    world.push(files)


MUST_NOT = tuple(
    Case(name, partial(voted, vote=vote, words=words), GIT)
    for name, vote, words in (
        (
            "an approval that was given before another revision",
            approved_before_another_revision,
            "stale",
        ),
        ("an approval by a stranger", approved_by_a_stranger, "not official"),
        ("a change of main that nobody approved", partial(pushed, OTHER), "pushed directly"),
        ("an approval that somebody else's rejection meets", rejected_by_another, "rejects"),
    )
)
MAY = tuple(
    Case(name, partial(voted, vote=vote), GIT)
    for name, vote in (
        ("an approved change", approved),
        ("an approved change, and a push of no chart", partial(pushed, {"README.md": "text\n"})),
    )
)
