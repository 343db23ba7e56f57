"""Which versions are free: by tags on this line of history, and by the branch a review goes to."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline_steps.check import check
from pipeline_steps.config.config_file import load
from pipeline_steps.report import report
from pipeline_steps.state.state import State
from pipeline_steps.testing import version_policy
from pipeline_steps.testing.version_policy import VersionFinding
from pipeline_steps.toolbox.errors import ChartFailed, UsageError
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo
from tests.support.helms import chart_files, helm


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    monkeypatch.setenv("PIPELINE_STEPS_HELM", str(helm(4)))
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    repo.put("pipeline.yaml", "charts: [{path: charts/*}]\n")
    put_chart(repo, "1.0.0")
    repo.commit()
    return repo


def put_chart(repo: Repo, version: str, word: str = "one") -> None:
    for name, text in chart_files(version=version).items():
        repo.put(f"charts/web/{name}", text)
    repo.put("charts/web/notes.txt", word)


def finding(repo: Repo, target: str = "") -> VersionFinding | None:
    checkout = Checkout(load((), environ={}, start=repo.root))
    return version_policy.find(checkout, checkout.chart("web"), target)


def test_released_version_with_other_content_names_tag_line_and_changed_file(repo: Repo) -> None:
    repo.git("tag", "web-1.0.0")
    assert finding(repo) is None
    put_chart(repo, "1.0.0", "two")
    version_numbers = finding(repo)
    assert version_numbers is not None and version_numbers.rule == "released"
    assert version_numbers.where == "charts/web/Chart.yaml:3"
    assert (
        "tag web-1.0.0" in version_numbers.text and "charts/web/notes.txt" in version_numbers.text
    )
    assert "pipeline-steps bump --chart web" in version_numbers.text


def test_hotfix_above_its_own_line_is_free_below_a_release_elsewhere(repo: Repo) -> None:
    repo.git("tag", "web-1.0.0")
    repo.git("branch", "release/1")
    put_chart(repo, "2.0.1", "two")
    repo.commit()
    repo.git("tag", "web-2.0.1")
    repo.git("checkout", "-q", "release/1")
    put_chart(repo, "1.0.1", "fixed")
    repo.commit()
    assert finding(repo) is None
    put_chart(repo, "0.9.0", "fixed")
    version_numbers = finding(repo)
    assert (
        version_numbers is not None
        and version_numbers.rule == "below-release"
        and "1.0.0" in version_numbers.text
    )


def test_version_that_the_target_took_meanwhile_names_the_change_that_took_it(repo: Repo) -> None:
    repo.git("checkout", "-q", "-b", "fix")
    put_chart(repo, "1.0.1", "mine")
    repo.commit()
    assert finding(repo, "main") is None
    repo.git("checkout", "-q", "main")
    put_chart(repo, "1.0.1", "theirs")
    taken = repo.commit()
    repo.put("unrelated", "x")
    repo.commit()
    repo.git("checkout", "-q", "fix")
    version_numbers = finding(repo, "main")
    assert version_numbers is not None and version_numbers.rule == "not-raised"
    assert f"1.0.1 is not above 1.0.1 of main (set by {taken[:12]})" in version_numbers.text


def test_chart_that_the_review_leaves_alone_need_not_be_above_a_target_that_moved(
    repo: Repo,
) -> None:
    repo.git("checkout", "-q", "-b", "fix")
    repo.put("unrelated", "x")
    repo.commit()
    repo.git("checkout", "-q", "main")
    put_chart(repo, "1.0.1", "theirs")
    repo.commit()
    repo.git("checkout", "-q", "fix")
    assert finding(repo, "main") is None


def test_new_chart_has_no_version_to_be_above(repo: Repo) -> None:
    repo.git("checkout", "-q", "-b", "fix")
    for name, text in chart_files(name="web2", version="0.1.0").items():
        repo.put(f"charts/web2/{name}", text)
    repo.commit()
    checkout = Checkout(load((), environ={}, start=repo.root))
    assert version_policy.find(checkout, checkout.chart("web2"), "main") is None


def test_check_notices_by_default_and_fails_where_a_version_is_required(
    repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    repo.git("checkout", "-q", "-b", "fix")
    put_chart(repo, "1.0.0", "changed")
    repo.commit()
    state = State(repo.root / ".pipeline/state.jsonl")
    config = load((), environ={}, start=repo.root)
    record = check("web", config=config, state=state, since="main")
    assert record and "charts/web/Chart.yaml:3: version 1.0.0 is not above" in caplog.text
    (path,) = record.evidence  # type: ignore[union-attr]
    case = ElementTree.parse(repo.root / ".pipeline" / path).find(".//testcase[@name='version']")
    assert case is not None and "not above" in (case.findtext("system-out") or "")

    repo.put("pipeline.yaml", "charts: [{path: charts/*}]\ncheck: {version: required}\n")
    repo.commit()
    config = load((), environ={}, start=repo.root)
    with pytest.raises(ChartFailed, match=r"version: charts/web/Chart\.yaml:3: version 1\.0\.0"):
        check("web", config=config, state=state, since="main")


def test_report_shows_the_notice_on_the_page_and_in_junit(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repo.git("tag", "web-1.0.0")
    put_chart(repo, "1.0.0", "two")
    repo.commit()
    config = load((), environ={}, start=repo.root)
    state = State(repo.root / ".pipeline/state.jsonl")
    report(charts=("web",), config=config, state=state, output=tmp_path / "page")
    for file in ("report.md", "report.html", "report.xml"):
        assert "is released" in (tmp_path / "page" / file).read_text(), file


def test_shallow_clone_is_a_warning_and_an_error_where_a_version_is_required(
    repo: Repo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_chart(repo, "1.2.0", "two")
    repo.commit()
    shallow = tmp_path / "shallow"
    repo.git("clone", "-q", "--depth=1", f"file://{repo.root}", str(shallow))
    config = load((), environ={}, start=shallow)
    checkout = Checkout(config)
    chart = checkout.chart("web")
    with pytest.raises(UsageError, match="unshallow"):
        version_policy.find(checkout, chart, "HEAD~1")
    assert version_policy.find_or_warn(checkout, chart, "HEAD~1") is None
    assert "is not known" in caplog.text
