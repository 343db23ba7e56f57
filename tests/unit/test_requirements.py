"""What a content needs before it is released is decided in one place: report, promote and selection
never disagree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.ci.detect import Build
from pipeline_steps.cli import selection
from pipeline_steps.cli.selection import SelectionRequest
from pipeline_steps.config.config_file import load
from pipeline_steps.release.proof import require_proof
from pipeline_steps.report import report
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing.requirements import check_key
from pipeline_steps.testing.settings import scenario_key, scenarios, settings
from pipeline_steps.toolbox.errors import ChartFailed, EvidenceError, PipelineError
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo
from tests.support.helms import chart_files

DIGEST = {letter: f"sha256:{letter * 64}" for letter in "abcde"}


class World:
    """A checkout with the chart `web` of one image, and records as its steps would write them."""

    def __init__(self, folder: Path, *requires: str) -> None:
        self.repo = Repo(folder / "checkout", folder / "gitconfig")
        for name, text in chart_files().items():
            self.repo.put(f"charts/web/{name}", text)
        self.repo.put("app/Dockerfile", "FROM scratch\n")
        images = {"app": {"image.repository": "{repository}", "image.tag": "{tag}"}}
        needs = {"requires": list(requires or ("check", "integration_test"))}
        channels = {"snapshot": {}, "production": needs}
        clusters = {"one": {"kubeconfig": "a"}, "two": {"kubeconfig": "b"}}
        pipeline = {
            "charts": [{"path": "charts/*", "images": images}], "images": {"app": {"context": "app"}},
            "clusters": clusters, "channels": channels, "review": needs,
        }  # fmt: skip
        self.repo.put("pipeline.yaml", json.dumps(pipeline))
        self.repo.commit()
        self.config = load((), environ={}, start=self.repo.root)
        self.checkout = Checkout(self.config)
        self.chart = self.checkout.chart("web")
        self.state = State(self.repo.root / ".pipeline/state.jsonl")

    def step(self, name: str, key: str, content: str = "", **more: Any) -> Record:
        outputs = more.pop("outputs", {})
        fields: dict[str, Any] = {
            "subject": "web",
            "content": content or self.chart.content,
            **more,
        }
        with record_attempt(self.state, step=name, key=key, **fields) as attempt:
            return attempt.passed(outputs)

    def check(self) -> None:
        self.step("check", check_key(self.checkout, self.chart, self.config))

    def build(self, letter: str, *supersedes: Record, modified: tuple[str, ...] = ()) -> Record:
        ids = [record.id for record in supersedes]
        output = f"r.example.com/snap/app:k-{letter * 12}@{DIGEST[letter]}"
        content = self.checkout.image_content("app")
        return self.step(
            "build_image",
            f"build of {letter}",
            content,
            subject="app",
            supersedes=ids,
            outputs={"image": output},
            parameters={"modified": list(modified)},
        )

    def snapshot(
        self, letter: str, *, dependency: str = "", modified: tuple[str, ...] = ()
    ) -> Record:
        """With the image of that letter; supersedes all snapshots before, as the step's record
        does.
        """
        former = self.state.find(step="snapshot", subject="web", content=self.chart.content)
        inputs = {
            "image:app": DIGEST[letter],
            **({"dependency:charts/x-1.0.0.tgz": dependency} if dependency else {}),
        }
        outputs = {
            "chart": f"oci://r.example.com/snap/web:0.1.0-0.1.t{letter}@{DIGEST[letter]}", "tar": DIGEST[letter],
            "image:app": f"r.example.com/snap/app:k-{letter * 12}@{DIGEST[letter]}",
        }  # fmt: skip
        return self.step(
            "snapshot", f"snapshot of {letter} {dependency}", inputs=inputs, outputs=outputs,
            supersedes=[record.id for record in former], parameters={"modified": list(modified)},
        )  # fmt: skip

    def test(
        self, snapshot: Record, cluster: str = "one", error: PipelineError | None = None
    ) -> Record | None:
        wanted = settings(self.checkout, self.chart)
        (scenario,) = scenarios(self.checkout, self.chart, wanted, (cluster,))
        key = scenario_key(scenario, wanted, self.chart.content, snapshot.inputs)
        try:
            with record_attempt(
                self.state, step="integration_test", subject="web", key=key, content=self.chart.content,
                inputs=snapshot.inputs, uses=[snapshot.id],
            ) as attempt:  # fmt: skip
                if error:
                    raise error
                return attempt.passed({})
        except PipelineError:
            assert error
            return None

    def contradict(self, record: Record) -> None:
        """Another build, which knew nothing of `record`, came to another result."""
        fields = {
            name: getattr(record, name)
            for name in ("step", "subject", "key", "content", "inputs", "uses")
        }
        self.state.add(
            {
                **fields,
                "uses": list(record.uses),
                "result": "failed",
                "started": "2026-01-01T00:00:00.000Z",
            }
        )

    @property
    def reported(self) -> str:
        record = report(config=self.config, state=self.state, charts=("web",))
        assert isinstance(record, Record)
        return record.outputs["verdict"]

    @property
    def page(self) -> str:
        return (self.state.folder / "report/report.md").read_text()

    def selected(self) -> bool:
        """Is there still something to do for the chart?"""
        nobody = selection.decide(
            self.checkout,
            self.state,
            SelectionRequest(),
            Build("terminal"),
            lambda name, version: False,
        )
        return nobody.charts == ("web",)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.check()
    return world


def refused(world: World, says: str) -> None:
    """promote refuses, the report is not positive, and the chart is still selected."""
    with pytest.raises(EvidenceError, match=says):
        require_proof(world.checkout, "web", world.config, world.state)
    assert world.reported != "positive"
    assert world.selected()


def test_passed_tests_with_the_current_images_are_enough_for_all(world: World) -> None:
    world.build("a")
    test = world.test(snapshot := world.snapshot("a"))
    proof = require_proof(world.checkout, "web", world.config, world.state)
    assert proof.snapshots == (snapshot,) and proof.tests == (test,)
    assert world.reported == "positive" and not world.selected()


def test_a_required_check_that_is_missing_is_selected_though_the_tests_passed(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.build("a")
    world.test(world.snapshot("a"))
    refused(world, "no record of check")


def test_an_image_that_was_built_again_since_the_test_is_not_reported_as_passed(
    world: World,
) -> None:
    first = world.build("a")
    world.test(world.snapshot("a"))
    assert world.reported == "positive"
    world.build("b", first)
    refused(world, "app")
    assert world.reported == "incomplete" and "image app" in world.page


def test_a_snapshot_of_local_modifications_is_not_reported_as_passed(world: World) -> None:
    world.build("a")
    world.test(world.snapshot("a", modified=("charts/web/values.yaml",)))
    refused(world, "made of local modifications")
    assert world.reported == "incomplete" and "local modifications" in world.page
    world.snapshot("a")
    require_proof(world.checkout, "web", world.config, world.state)
    assert world.reported == "positive", "tests of the same content and images stand"


def test_an_image_of_local_modifications_is_not_reported_as_tested(world: World) -> None:
    world.build("a", modified=("images/app/Dockerfile",))
    world.test(world.snapshot("a"))
    refused(world, "app")
    world.build("a")
    require_proof(world.checkout, "web", world.config, world.state)


def test_a_chart_with_local_modifications_is_not_reported_as_passed(world: World) -> None:
    world.repo.put("charts/web/values.yaml", "a: 1\n")
    world.checkout = Checkout(world.config)
    world.chart = world.checkout.chart("web")
    world.check()
    world.build("a")
    world.test(world.snapshot("a"))
    refused(world, "has local modifications")


def test_a_contradiction_on_one_cluster_is_not_hidden_by_another(world: World) -> None:
    world.build("a")
    snapshot = world.snapshot("a")
    passed = world.test(snapshot, "one")
    world.test(snapshot, "two")
    assert passed and world.reported == "positive"
    world.contradict(passed)
    refused(world, "contradict each other")
    assert world.reported == "incomplete" and "| contradictory |" in world.page


def test_of_two_sets_of_dependencies_the_one_that_passed_counts(world: World) -> None:
    world.build("a")
    tested = world.snapshot("a", dependency=DIGEST["d"])
    world.test(tested)
    world.test(world.snapshot("a", dependency=DIGEST["e"]), error=ChartFailed("crash loop"))
    assert require_proof(world.checkout, "web", world.config, world.state).snapshots == (tested,)
    assert world.reported == "positive" and not world.selected()


def test_failed_test_refuses_promote_and_makes_report_negative(world: World) -> None:
    world.build("a")
    world.test(world.snapshot("a"), error=ChartFailed("crash loop: container web"))
    refused(world, "crash loop: container web")
    assert world.reported == "negative"


def test_requires_may_name_build_image_and_snapshot(tmp_path: Path) -> None:
    world = World(tmp_path, "build_image", "snapshot", "integration_test")
    refused(world, "web")
    world.build("a")
    world.test(world.snapshot("a"))
    require_proof(world.checkout, "web", world.config, world.state)
    assert world.reported == "positive" and not world.selected()
