"""T1d: SIGKILL at every request of steps that fill a registry with many charts at once, then once
more: as if nothing had been. The requests of each thread are counted apart, so every one of them is
the last at some point.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.figures import Figure, Settings, counted, spread
from tests.faults.kills import KILLED
from tests.faults.world import FILLED, TAGS, Outcome, Step, World, signed
from tests.support.registries import registry

MADE = Step("regenerate, plain tags", ("regenerate", *TAGS, "--to", FILLED))
FILLING = (
    Step("regenerate to a registry", ("regenerate", *TAGS, "--to", "oci://{host}/made/charts")),
    Step(
        "regenerate --from, to a registry",
        ("regenerate", "--from", FILLED, "--to", "oci://{host}/copied"),
        signed,
    ),
)
#: How requests leave a process.
SENDING = "sendto,sendmsg"


_CLAIM = re.compile(r"(/claim-k-[0-9a-f]+-[0-9a-f]{12})-[0-9a-f]{8}(?:-[0-9]+)?$")


class Point(NamedTuple):
    """The nth request of any thread of a step."""

    step: Step
    nth: int


class Filled(World):
    """A world whose charts go to a registry at `host`, which keeps them below the world's folder."""

    def __init__(self, folder: Path, code: Path, host: str) -> None:
        super().__init__(folder, code, steps=(MADE, *FILLING))
        self.names["host"] = host

    def outcome(self) -> Outcome:
        return {**super().outcome(), "registry": tags(self.root / "registry")}


def tags(storage: Path) -> dict[str, str]:
    """Every tag of a registry with the digest that it names.

    Claims on the tag of a built image stay, each with a random end: those of one content count as
    one (`oci.claim.put_tag_once`).
    """
    home = storage / "data/docker/registry/v2/repositories"
    names = {
        str(link.relative_to(home).parents[1]): link.read_text()
        for link in sorted(home.glob("**/_manifests/tags/*/current/link"))
    }
    return {_CLAIM.sub(r"\1", name): digest for name, digest in names.items()}


def at_every_request(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: requests of a step that was killed there and then ends as an undisturbed one."""
    with contextlib.ExitStack() as stack:
        filled = [stack.enter_context(_ready(beside)) for beside in worlds[: settings.workers]]
        dead: list[bool] = []
        points = [
            Point(step, nth) for step in FILLING for nth in range(1, _requests(filled[0], step) + 1)
        ]

        def run(number: int, point: Point) -> str:
            world, (step, nth) = filled[number], point
            world.back(step)
            completed = world.run(
                step, *_traced("/dev/null"), "-e", f"inject={SENDING}:signal=KILL:when={nth}"
            )
            dead.append(
                completed.returncode in KILLED
            )  # no thread may have so many requests this time
            if completed.returncode not in (0, *KILLED):
                return (
                    f"{step.name} at request {nth}: exit {completed.returncode}: "
                    f"{completed.stderr[-300:]}"
                )
            wrong = world.again(step)
            return f"{step.name} at request {nth}: {wrong}" if wrong else ""

        wrong = spread(points, len(filled), run)
    wrong += (
        [f"only {sum(dead)} of {len(points)} were killed"] if 2 * sum(dead) < len(points) else []
    )
    what = "SIGKILL at a request of a step that fills a registry, then again"
    return [counted("T1d", what, points, wrong, f"{sum(dead)} killed")]


@contextlib.contextmanager
def _ready(beside: World) -> Iterator[Filled]:
    folder = beside.root.parent / "filled"
    with registry(folder / "world/registry") as running:
        world = Filled(folder, beside.code, running.host)
        world.ready()
        yield world


def _traced(output: str) -> list[str]:
    return ["strace", "-f", "-qq", "-o", output, "-e", f"trace={SENDING}"]


def _requests(world: World, step: Step) -> int:
    """The most requests that one thread of an undisturbed run makes."""
    world.back(step)
    output = world.root.parent / "trace"
    completed = world.run(step, *_traced(str(output)))
    assert completed.returncode == 0, completed.stderr
    return max(
        Counter(re.findall(r"(?m)^(\d+) +send", output.read_text(errors="replace"))).values()
    )
