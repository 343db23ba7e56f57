"""The step `report`: verdicts from records, and pages that nothing from outside can break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline_steps.config.config_file import load
from pipeline_steps.report import report
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing.requirements import approval_key, check_key
from pipeline_steps.testing.settings import scenario_key, scenarios, settings
from pipeline_steps.toolbox.errors import ChartFailed, NotApproved, NotYet, PipelineError, Temporary
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo
from tests.support.helms import chart_files


class World:
    """A checkout with the chart `web` and records as its steps would write them."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.repo = Repo(folder / "checkout", folder / "gitconfig")
        for name, text in chart_files().items():
            self.repo.put(f"charts/web/{name}", text)
        clusters = {"one": {"kubeconfig": "a"}, "two": {"kubeconfig": "b"}}
        self.repo.put(
            "pipeline.yaml",
            json.dumps({"charts": [{"path": "charts/*"}], "clusters": clusters, **more}),
        )
        self.repo.commit()
        self.config = load((), environ={}, start=self.repo.root)
        self.checkout = Checkout(self.config)
        self.chart = self.checkout.chart("web")
        self.state = State(self.repo.root / ".pipeline/state.jsonl")

    def step(
        self, name: str, *, key: str = "", error: PipelineError | None = None, **outputs: str
    ) -> None:
        """A try of a step that passed, or ended in `error`."""
        try:
            with record_attempt(
                self.state,
                step=name,
                subject="web",
                key=key or self.key(name),
                content=self.chart.content,
            ) as it:
                if error:
                    raise error
                it.passed(outputs)
        except PipelineError:
            assert error

    def key(self, name: str) -> str:
        return (
            check_key(self.checkout, self.chart, self.config)
            if name == "check"
            else f"key of {name}"
        )

    def tests(self, cluster: str, error: PipelineError | None = None) -> None:
        expected = settings(self.checkout, self.chart)
        (scenario_name,) = scenarios(self.checkout, self.chart, expected, (cluster,))
        self.step(
            "integration_test",
            key=scenario_key(scenario_name, expected, self.chart.content, {}),
            error=error,
        )

    def report(self, **options: Any) -> Record:
        record = report(config=self.config, state=self.state, charts=("web",), **options)
        assert isinstance(record, Record)
        return record

    @property
    def page(self) -> str:
        return (self.state.folder / "report/report.md").read_text()


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.step("check")
    world.step("snapshot", chart="oci://registry.example.com/charts/web:0.1.0-0.1.tabc@sha256:00")
    return world


def verdict(record: Record) -> str:
    assert record.passed
    return record.outputs["verdict"]


def test_missing_test_makes_the_verdict_incomplete(world: World) -> None:
    assert verdict(world.report()) == "incomplete"
    assert "| integration_test install-default | missing | 0 | not run |" in world.page
    totals = "1 chart: 1 incomplete; 2 requirements: 1 missing, 1 passed"
    assert totals in world.page
    assert totals in (world.state.folder / "report/report.html").read_text()
    rows = [line for line in world.page.splitlines() if line.startswith("| ")]
    assert "missing" in rows[1] and "passed" in rows[2], "what has not passed comes first"


def test_passed_on_one_of_the_configured_clusters_is_enough(world: World) -> None:
    world.tests("two")
    record = world.report()
    assert verdict(record) == "positive"
    assert "| integration_test install-default on two | passed | 1 |  |" in world.page
    assert "registry.example.com/charts/web:0.1.0-0.1.tabc" in world.page
    assert len(record.uses) == 2


def test_a_failure_is_negative_and_the_retry_stays_visible(world: World) -> None:
    world.tests("one", ChartFailed("crash loop: container web"))
    assert verdict(world.report()) == "negative"
    assert "| failed | 1 | crash loop: container web |" in world.page
    world.tests("one")
    assert verdict(world.report()) == "positive"
    assert "| passed | 2 |" in world.page


def test_a_failure_at_a_line_is_in_gitlabs_code_quality_report(world: World) -> None:
    quality = world.state.folder / "report/gl-code-quality-report.json"
    world.report()
    assert json.loads(quality.read_text()) == []
    world.tests("one", ChartFailed("charts/web/values.yaml:1: no such image"))
    world.report()
    (finding,) = json.loads(quality.read_text())
    assert finding["location"] == {"path": "charts/web/values.yaml", "lines": {"begin": 1}}
    assert "no such image" in finding["description"]
    world.report(started=True)
    assert json.loads(quality.read_text()) == []


def test_infrastructure_failure_makes_the_verdict_incomplete(world: World) -> None:
    world.tests("one", Temporary("node gone"))
    assert verdict(world.report()) == "incomplete"
    assert "| infrastructure | 1 | node gone (run it again) |" in world.page
    report_xml = ElementTree.parse(world.state.folder / "report/report.xml")
    assert [error.get("message") for error in report_xml.iter("error")] == [
        "node gone (run it again)"
    ]


def test_records_of_other_content_do_not_count(world: World) -> None:
    world.tests("one")
    world.repo.put("charts/web/values.yaml", "image: other\n")
    assert verdict(world.report()) == "incomplete"
    assert "there is no snapshot of this content" in world.page
    assert "with local modifications" in world.page


def test_markup_in_a_reason_is_escaped_on_both_pages(world: World) -> None:
    world.tests("one", ChartFailed("<script>alert(1)</script> | @all [x](http://evil)\n# big\n```"))
    world.report()
    html = (world.state.folder / "report/report.html").read_text()
    assert "<script>" not in html and "&lt;script&gt;" in html
    row = next(line for line in world.page.splitlines() if "script" in line)
    assert row.count("|") == 5
    assert not {"<script>", "@all", "[x]", "```"} & set(row.split())


def test_report_started_records_no_verdict(world: World, tmp_path: Path) -> None:
    assert verdict(world.report(started=True, output=tmp_path / "page")) == "started"
    assert (tmp_path / "page/report.md").read_text().startswith("# testing web\n")


def test_report_without_charts_is_positive(world: World) -> None:
    record = report(config=world.config, state=world.state)
    assert isinstance(record, Record) and verdict(record) == "positive"
    assert world.page.startswith("# no chart affected")


def test_report_with_output_sends_nothing(tmp_path: Path) -> None:
    review = {"gitea": {"url": "http://127.0.0.1:1", "repository": "a/b"}, "requires": ["check"]}
    world = World(tmp_path, review=review)
    world.step("check")
    record = world.report(output=tmp_path / "page")
    assert (verdict(record), record.outputs["delivery"]) == ("positive", "files")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CI_COMMIT_TAG": "web-1.0.0"}, "a build of the tag web-1.0.0 is no review; files only"),
        ({"CI_COMMIT_BRANCH": "main"}, "a build of the branch main is no review; files only"),
    ],
)
def test_outside_of_a_review_only_files_are_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    words: str,
) -> None:
    review = {"gitea": {"url": "http://127.0.0.1:1", "repository": "a/b"}, "requires": ["check"]}
    world = World(tmp_path, review=review)
    world.step("check")
    for name, value in {"GITLAB_CI": "true", **variables}.items():
        monkeypatch.setenv(name, value)
    caplog.set_level("INFO")
    assert world.report().outputs == {"verdict": "positive", "delivery": "files"}
    assert words in caplog.text and world.page


def test_a_required_approval_is_missing_until_the_step_approval_has_it(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        review={"requires": ["check", "approval.code"]},
        approvals={"code": {"by": "alice"}},
    )
    world.step("check")
    assert verdict(world.report()) == "incomplete"
    key = approval_key("code", world.chart, world.config, "")
    world.step("approval", key=key, error=NotApproved("nobody has approved it"))
    assert verdict(world.report()) == "incomplete", "nothing is wrong with the chart"
    assert "nobody has approved it" in world.page
    world.step("approval", key=key)
    assert verdict(world.report()) == "positive"


def test_the_page_says_that_charts_can_read_a_login_that_pushes(tmp_path: Path) -> None:
    hosts = {
        "r.example.com": {
            "username": "${USER_THAT_IS_NOT_SET}",
            "password": "${PASSWORD_THAT_IS_NOT_SET}",
        }
    }
    (tmp_path / "b").mkdir()
    world = World(tmp_path, hosts=hosts, channels={"snapshot": {"images": "r.example.com/x"}})
    world.report()
    assert (
        "Note: charts under test can read the login that pushes to r.example.com/x: name one that on"
        in world.page
    )
    html = (world.state.folder / "report/report.html").read_text()
    assert "Note: charts under test can read the login that pushes" in html
    hosts["r.example.com"]["pull"] = {"username": "${A}", "password": "${B}"}  # type: ignore[assignment]
    world = World(tmp_path / "b", hosts=hosts, channels={"snapshot": {"images": "r.example.com/x"}})
    world.report()
    assert "Note:" not in world.page


@pytest.mark.parametrize(
    "tests", [{"breaking": "test"}, {"upgrade_from": ["published"]}, {"prepare": ["a.yaml"]}]
)
def test_settings_of_tests_without_effect_are_refused_with_their_place(
    tmp_path: Path, tests: dict[str, Any]
) -> None:
    world = World(tmp_path, tests=tests)
    with pytest.raises(
        NotYet, match=rf"pipeline\.yaml:1: tests\.{next(iter(tests))} of chart web: not yet"
    ):
        settings(world.checkout, world.chart)


def test_a_values_file_for_helm_is_part_of_the_tests_key(tmp_path: Path) -> None:
    world = World(tmp_path, tests={"helm_args": ["--set=a=b", "--values", "ci/all.yaml"]})
    expected = settings(world.checkout, world.chart)

    def key(text: str) -> str:
        world.repo.put("ci/all.yaml", text)
        (scenario_name,) = scenarios(Checkout(world.config), world.chart, expected, ("one",))
        return scenario_key(scenario_name, expected, world.chart.content, {})

    assert key("a: 1\n") == key("a: 1\n") != key("a: 2\n")


def test_a_diff_stays_in_its_fence_and_in_bounds(tmp_path: Path) -> None:
    it = World(tmp_path)
    it.step("snapshot", chart="oci://r.example.com/snap/web:1.0.0-0.1.tab@sha256:" + "0" * 64)
    hostile = "```\n</details><script>alert(1)</script>\n"
    (it.state.folder / "diff").mkdir()
    about = "web 1.0.0-0.1.tab, compared with nothing\n"
    (it.state.folder / "diff/web.diff").write_text(about + hostile + "+ more\n" * 5000)
    it.report()
    pages = {
        kind: (it.repo.root / f".pipeline/report/report.{kind}").read_text()
        for kind in ("md", "html")
    }
    assert "````diff\n" in pages["md"] and pages["md"].count("````") == 2
    assert "<script>" not in pages["html"] and "&lt;script&gt;" in pages["html"]
    assert all(
        "characters more in the file" in page and len(page) < 30_000 for page in pages.values()
    )
