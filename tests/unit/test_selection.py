"""Which charts a build is about, and that all its steps agree, on real git checkouts."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from pipeline_steps.ci.detect import Build
from pipeline_steps.cli import selection
from pipeline_steps.cli.options import Shard, parse_shard
from pipeline_steps.cli.selection import Selection, SelectionRequest
from pipeline_steps.config import config_file
from pipeline_steps.state.state import State
from pipeline_steps.testing import settings
from pipeline_steps.testing.requirements import check_key
from pipeline_steps.toolbox.errors import ConfigurationError, UsageError
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo, chart

TERMINAL = Build("terminal")
NO_WORD = SelectionRequest()
PIPELINE = "charts:\n  - path: charts/*\n    tests: {none: libraries}\n"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    made = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(made.config))
    made.put("pipeline.yaml", PIPELINE)
    made.put("charts/api/Chart.yaml", chart("api", "1.0.0", "common"))
    made.put("charts/web/Chart.yaml", chart("web", "2.0.0"))
    made.put("charts/common/Chart.yaml", chart("common"))
    made.commit("first")
    return made


def opened(repo: Repo) -> Checkout:
    return Checkout(config_file.load(environ={}, start=repo.root))


def state_of(repo: Repo) -> State:
    return State(repo.root / ".pipeline" / "state.jsonl")


def nothing_published(name: str, version: str) -> bool:
    return False


def select(repo: Repo, request: SelectionRequest = NO_WORD, build: Build = TERMINAL) -> Selection:
    return selection.select(opened(repo), state_of(repo), request, build, nothing_published)


@pytest.mark.parametrize(
    ("more", "charts"),
    [
        ("tests: {helm_args: [--set, a=b]}\n", ("api", "common", "web")),
        ("check: {kube_versions: ['1.29.0']}\n", ("api", "common", "web")),
        ("tests: {timeout: 9m}\n", ()),
        ("# a comment\n", ()),
    ],
)
def test_sections_that_hold_for_all_charts_affect_all_where_they_change_keys(
    repo: Repo, more: str, charts: tuple[str, ...]
) -> None:
    base = repo.git("rev-parse", "HEAD")
    repo.put("pipeline.yaml", PIPELINE + more)
    repo.commit("settings")
    assert set(selection.affected(opened(repo), base)) == set(charts)


def test_an_entry_that_makes_another_folder_the_chart_affects_it(repo: Repo) -> None:
    for version in ("1.0.0", "1.1.0"):
        repo.put(f"versions/{version}/Chart.yaml", chart("hello", version))
    repo.put("pipeline.yaml", PIPELINE + "  - path: versions/1.0.0\n")
    repo.commit()
    base = repo.git("rev-parse", "HEAD")
    repo.put("pipeline.yaml", PIPELINE + "  - path: versions/1.1.0\n")
    repo.commit()
    assert selection.affected(opened(repo), base) == ("hello",)


def outcome(repo: Repo, name: str, result: str = "passed", supersedes: tuple[str, ...] = ()) -> str:
    """Record a check and a snapshot of the chart as it stands and what its test came to; the id of
    the latter.
    """
    checkout = opened(repo)
    chart = checkout.chart(name)
    content = chart.content
    fields = {"subject": name, "content": content, "started": "2026-01-01T00:00:00.000Z"}
    made = state_of(repo).add(
        {**fields, "step": "snapshot", "key": f"snapshot of {content}", "result": "passed"}
    )
    check = {
        "step": "check",
        "key": check_key(checkout, chart, checkout.config),
        "result": "passed",
    }
    state_of(repo).add({**fields, **check})
    key = settings.scenario_key(settings.NO_TEST, settings.settings(checkout, chart), content, {})
    test = {**fields, "step": "integration_test", "key": key, "result": result, "uses": [made.id]}
    return state_of(repo).add({**test, "supersedes": supersedes}).id


def test_chart_option_selects_each_existing_chart_once(repo: Repo) -> None:
    assert select(repo, SelectionRequest(charts=("web", "api", "web"))).charts == ("web", "api")
    with pytest.raises(ConfigurationError, match=r"there is no chart 'webb' \(there is web"):
        select(repo, SelectionRequest(charts=("webb",)))
    with pytest.raises(UsageError, match="--chart, --all and --since exclude each other"):
        select(repo, SelectionRequest(charts=("web",), all=True))


def test_default_selection_is_charts_without_a_passed_test(repo: Repo) -> None:
    outcome(repo, "api")
    failed = outcome(repo, "web", "failed")
    chosen = selection.decide(
        opened(repo), state_of(repo), SelectionRequest(), TERMINAL, nothing_published
    )
    assert chosen == Selection(("common", "web"), "content without a passed test")
    outcome(repo, "common")
    outcome(repo, "web", supersedes=(failed,))
    chosen = selection.decide(
        opened(repo), state_of(repo), SelectionRequest(), TERMINAL, nothing_published
    )
    assert chosen.charts == ()
    assert chosen.reason.startswith("already done: every chart has passed as it is checked out")


def test_release_selects_charts_not_tagged_or_not_published(repo: Repo) -> None:
    def decide(*published: str) -> tuple[str, ...]:
        request = SelectionRequest(release=True)
        return selection.decide(
            opened(repo), state_of(repo), request, TERMINAL, lambda name, _: name in published
        ).charts

    assert decide("web") == ("api", "common", "web")
    repo.git("tag", "web-2.0.0")
    repo.git("tag", "api-1.0.0")
    assert decide("web") == ("api", "common")
    repo.put("charts/web/values.yaml", "a: 1\n")
    repo.commit("other content under the released version")
    assert decide("web") == ("api", "common", "web")


def test_later_steps_of_a_build_use_the_selection_of_the_first(repo: Repo) -> None:
    first = select(repo)
    assert first.charts == ("api", "common", "web")
    outcome(repo, "web")
    assert select(repo) == first
    record = state_of(repo).find(step="selection")[0]
    assert (record.subject, record.reason) == ("selection", "content without a passed test")
    assert record.outputs["web"] == opened(repo).chart("web").content
    assert record.parameters["charts"] == ["api", "common", "web"]
    # Another build, other arguments, local changes, another revision: each decides anew.
    assert select(repo, build=Build("jenkins", id="2")).charts == ("api", "common")
    assert select(repo, SelectionRequest(charts=("web",))).charts == ("web",)
    outcome(repo, "common")
    repo.put("charts/web/values.yaml", "a: 1\n")
    assert select(repo).charts == ("api", "web")
    outcome(repo, "web")
    assert select(repo).charts == ("api", "web")
    repo.put("charts/web/values.yaml", "a: 1\n# later\n")
    repo.put("charts/web/values.yaml", "a: 10\n")
    assert select(repo).charts == ("api", "web")
    repo.put("charts/web/values.yaml", "a: 1\n")
    repo.commit("the tested content")
    assert select(repo).charts == ("api",)


def test_review_selects_changed_charts_and_their_dependents(repo: Repo) -> None:
    repo.git("checkout", "-q", "-b", "topic")
    repo.put("charts/common/values.yaml", "a: 1\n")
    repo.commit("change common")
    repo.git("checkout", "-q", "main")
    repo.put("charts/web/values.yaml", "a: 1\n")
    repo.commit("the mainline goes on")
    repo.git("checkout", "-q", "topic")
    review = Build("gitlab", id="7", review="4", target="main")
    assert select(repo, build=review) == Selection(("api", "common"), "changed by review 4 of main")
    assert select(repo, SelectionRequest(since="main")).charts == ("api", "common")
    repo.git("reset", "-q", "--hard", "main")
    assert select(repo, build=review) == Selection((), "no chart affected")
    with pytest.raises(
        UsageError, match=r"does not say where review 4 goes \(give --since BRANCH\)"
    ):
        select(repo, build=Build("jenkins", id="8", review="4"))


@pytest.mark.parametrize(
    ("tests", "affected"),
    [
        ("{helm_args: [--set, a=b]}", ("new", "web")),
        ("{none: why}", ("new", "web")),
        ("{timeout: 9m}", ("new",)),
    ],
)
def test_a_changed_entry_affects_the_charts_it_is_about(
    repo: Repo, tests: str, affected: tuple[str, ...]
) -> None:
    repo.git("checkout", "-q", "-b", "topic")
    repo.put("pipeline.yaml", PIPELINE + f"  - path: charts/web\n    tests: {tests}\n")
    repo.put("charts/new/Chart.yaml", chart("new"))
    repo.commit("an entry and a new chart")
    assert select(repo, SelectionRequest(since="main")).charts == affected


def test_a_values_file_for_helm_affects_the_charts_that_are_tested_with_it(repo: Repo) -> None:
    repo.put(
        "pipeline.yaml",
        PIPELINE + "  - path: charts/web\n    tests: {helm_args: [--values, ci/all.yaml]}\n",
    )
    repo.put("ci/all.yaml", "a: 1\n")
    repo.commit("an argument")
    repo.git("checkout", "-q", "-b", "topic")
    repo.put("ci/all.yaml", "a: 2\n")
    repo.put("ci/other.yaml", "a: 2\n")
    repo.commit("another value")
    assert select(repo, SelectionRequest(since="main")).charts == ("web",)


def test_what_is_removed_outside_of_a_chart_affects_the_charts_that_need_it(repo: Repo) -> None:
    """`check` found no chart affected and the report was positive: nothing could be packed then."""
    images = "images: {app: {context: app}}\n"
    entry = "  - path: charts/web\n    images: {app: {image: '{reference}'}}\n"
    repo.put("pipeline.yaml", f"{PIPELINE}{entry}{images}")
    repo.put("app/Dockerfile", "FROM scratch\n")
    base = repo.commit("web has an image")
    for place, affected in (("charts/common", "api"), ("app", "web")):
        repo.git("rm", "-q", "-r", place)
        repo.commit(f"without {place}")
        assert select(repo, SelectionRequest(since=base)).charts == (affected,), place
        repo.put("README", f"{place} is missed by now\n")
        assert select(repo, SelectionRequest(since=repo.commit())).charts == ()
        repo.git("reset", "-q", "--hard", base)


def test_files_of_charts_that_nobody_touched_are_not_read(repo: Repo) -> None:
    repo.put("charts/web/values.yaml", "a: 1\n")
    base = repo.commit("web has values")
    repo.put("charts/api/values.yaml", "a: 1\n")
    repo.commit("api has values")
    blob = repo.git("rev-parse", "HEAD:charts/web/values.yaml")
    # What would be read of it could only come from here.
    (repo.root / "charts/web/values.yaml").unlink()
    repo.git("update-index", "--skip-worktree", "charts/web/values.yaml")
    (repo.root / ".git/objects" / blob[:2] / blob[2:]).unlink()
    assert selection.affected(opened(repo), base) == ("api",)


def test_tag_of_a_chart_selects_that_chart(repo: Repo) -> None:
    repo.git("tag", "-a", "-m", "x", "web-2.0.0")
    build = Build("github_actions", id="1", tag="web-2.0.0")
    assert select(repo, build=build) == Selection(("web",), "released by the tag web-2.0.0")
    repo.commit("another revision")
    with pytest.raises(
        UsageError, match=r"the tag web-2\.0\.0 names .*, checked out is .*check out web-2\.0\.0"
    ):
        select(repo, build=build)


def test_a_tag_with_another_version_than_the_chart_is_no_global_tag(repo: Repo) -> None:
    with pytest.raises(
        UsageError, match=r"the tag web-2\.0\.1 names the chart web, whose version there is 2\.0\.0"
    ):
        select(repo, build=Build("gitlab", id="1", tag="web-2.0.1"))


def test_tag_without_a_chart_selects_unpublished_charts(repo: Repo) -> None:
    checkout, state, build = opened(repo), state_of(repo), Build("gitlab", id="1", tag="2026.11")
    chosen = selection.decide(
        checkout,
        state,
        SelectionRequest(),
        build,
        lambda name, version: (name, version) == ("web", "2.0.0"),
    )
    assert chosen == Selection(("api", "common"), "not yet published at the tag 2026.11")
    assert selection.decide(
        checkout, state, SelectionRequest(), build, lambda *_: True
    ) == Selection((), "no chart affected")


def test_the_command_line_selects_at_a_tag_and_in_shards(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "os.environ", {"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": str(repo.config)}
    )
    repo.git("tag", "web-2.0.0")
    repo.put("charts/web/Chart.yaml", chart("web", "3.0.0"))
    repo.commit("next")
    config = config_file.load(environ={}, start=repo.root)

    def selected(**given: object) -> tuple[str, ...]:
        options = {"chart": (), "all": False, "since": None, "shard": None, "plan": False, **given}
        return selection.selected_charts(config, state_of(repo), Namespace(**options)).charts

    assert selected() == ("api", "common", "web")
    assert selected(tag="web-2.0.0") == ("web",)
    with pytest.raises(UsageError, match="there is no tag 'gone' here"):
        selected(tag="gone")
    assert [selected(shard=Shard(n, 2)) for n in (1, 2)] == [("api", "web"), ("common",)]


@pytest.mark.parametrize("text", ["0/2", "3/2", "x", "1", "1/0", "-1/2"])
def test_a_bad_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="I/N"):
        parse_shard(text, TERMINAL)


def test_shard_auto_without_a_shard_in_ci_is_refused() -> None:
    assert parse_shard("auto", Build("gitlab", shard=(2, 4))) == (2, 4)
    with pytest.raises(
        UsageError, match=r"--shard auto: this build does not say its shard \(give --shard I/N\)"
    ):
        parse_shard("auto", TERMINAL)
