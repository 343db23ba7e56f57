"""`bump` over real git checkouts; a real helm accepts the locks that it writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline_steps.commands.bump import bump, main
from pipeline_steps.config.config_file import load
from pipeline_steps.toolbox.errors import ConfigurationError, UsageError
from tests.support.gits import Repo
from tests.support.helms import helm

CHARTS = {
    "common": "apiVersion: v2\nname: common\ntype: library\nversion: 1.2.3 # of the library\n",
    "web": "apiVersion: v2\nname: web\nversion: '2.0.0'\ndependencies:\n"
    "  - {name: common, version: 1.2.3, repository: file://../common}\n",
    "shop": "apiVersion: v2\nname: shop\nversion: 3.0.0\ndependencies:\n"
    "  - name: web\n    version: ^2.0.0  # any\n    repository: file://../web\n",
    "other": "apiVersion: v2\nname: other\nversion: 0.1.0\n",
}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    repo.put("pipeline.yaml", "charts: [{path: charts/*}]\n")
    for name, text in CHARTS.items():
        repo.put(f"charts/{name}/Chart.yaml", text)
        repo.put(f"charts/{name}/templates/_helpers.tpl", "")
    for name in ("web", "shop"):
        subprocess.run(
            [str(helm(4)), "dependency", "update", f"charts/{name}"],
            cwd=repo.root, check=True, capture_output=True,
        )  # fmt: skip
    repo.put(".gitignore", "charts/*/charts/\n")
    repo.commit()
    for name, version in (("common", "1.2.3"), ("web", "2.0.0"), ("shop", "3.0.0")):
        repo.git("tag", f"{name}-{version}")
    return repo


def raised(repo: Repo, *charts: str, **options: object) -> dict[str, str]:
    config = load((), environ={}, start=repo.root)
    result = bump(charts, config=config, **options)  # type: ignore[arg-type]
    return {each.chart: each.after for each in result.versions}


def text(repo: Repo, path: str) -> str:
    return (repo.root / path).read_text()


def test_library_is_raised_with_all_that_pack_it_and_helm_takes_their_locks(repo: Repo) -> None:
    assert raised(repo, "common", part="minor") == {
        "common": "1.3.0", "web": "2.0.1", "shop": "3.0.1",
    }  # fmt: skip
    assert "version: 1.3.0 # of the library" in text(repo, "charts/common/Chart.yaml")
    assert "version: '2.0.1'" in text(repo, "charts/web/Chart.yaml")
    assert "{name: common, version: 1.3.0," in text(repo, "charts/web/Chart.yaml")
    assert "version: ^2.0.0  # any" in text(repo, "charts/shop/Chart.yaml")
    assert "version: 1.3.0" in text(repo, "charts/web/Chart.lock")
    assert "version: 2.0.1" in text(repo, "charts/shop/Chart.lock")
    assert text(repo, "charts/other/Chart.yaml") == CHARTS["other"]
    for major in (3, 4):
        for name in ("web", "shop"):
            subprocess.run(
                [str(helm(major)), "dependency", "build", f"charts/{name}"],
                cwd=repo.root, check=True, capture_output=True,
            )  # fmt: skip


def test_same_bump_again_changes_nothing(repo: Repo) -> None:
    first = raised(repo, "common")
    repo.commit()
    before = repo.git("rev-parse", "HEAD^{tree}")
    assert raised(repo, "common") == first
    repo.commit()
    assert repo.git("rev-parse", "HEAD^{tree}") == before


def test_larger_part_after_a_smaller_one_counts_from_the_release(repo: Repo) -> None:
    assert raised(repo, "shop") == {"shop": "3.0.1"}
    assert raised(repo, "shop", part="minor") == {"shop": "3.1.0"}
    assert raised(repo, "shop", part="major") == {"shop": "4.0.0"}


def test_range_that_excludes_the_new_version_is_refused_and_nothing_written(repo: Repo) -> None:
    with pytest.raises(ConfigurationError, match=r"web \^2\.0\.0 excludes the new version 3\.0\.0"):
        raised(repo, "web", part="major")
    assert repo.git("status", "--porcelain") == ""


def test_affected_takes_what_changed_since_the_release_branch_but_not_tests_alone(
    repo: Repo,
) -> None:
    repo.git("checkout", "-q", "-b", "fix")
    repo.put("charts/shop/values.yaml", "a: 1\n")
    repo.put("charts/web/.helmignore", "ci/\n")
    repo.commit()
    assert raised(repo, affected=True) == {"web": "2.0.1", "shop": "3.0.1"}
    repo.git("checkout", "-q", "-f", "main")
    repo.git("checkout", "-q", "-b", "tests")
    repo.put("charts/shop/ci/a-values.yaml", "a: 1\n")
    repo.put("charts/shop/.helmignore", "ci/\n")
    repo.commit()
    base = repo.git("rev-parse", "HEAD")
    repo.put("charts/shop/ci/a-values.yaml", "a: 2\n")
    repo.commit()
    assert raised(repo, affected=True, since=base) == {}


def test_version_that_another_line_released_is_skipped(repo: Repo) -> None:
    repo.git("checkout", "-q", "-b", "elsewhere")
    repo.put("charts/shop/values.yaml", "a: 1\n")
    repo.put("charts/shop/Chart.yaml", CHARTS["shop"].replace("3.0.0", "3.0.1", 1))
    repo.commit()
    repo.git("tag", "shop-3.0.1")
    repo.git("checkout", "-q", "main")
    assert raised(repo, "shop") == {"shop": "3.0.2"}


def test_chart_without_any_release_keeps_its_version(repo: Repo) -> None:
    assert raised(repo, "other") == {"other": "0.1.0"}


def test_message_becomes_the_annotation_and_replaces_the_former(repo: Repo) -> None:
    raised(repo, "shop", message='Say "hello": again')
    assert text(repo, "charts/shop/Chart.yaml").endswith(
        'annotations:\n  artifacthub.io/changes: |\n    - "Say \\"hello\\": again"\n'
    )
    raised(repo, "shop", part="minor", message="Other")
    assert text(repo, "charts/shop/Chart.yaml").endswith(
        'annotations:\n  artifacthub.io/changes: |\n    - "Other"\n'
    )


def test_neither_charts_nor_affected_is_refused(repo: Repo) -> None:
    with pytest.raises(UsageError, match="--chart NAME or --affected"):
        raised(repo)


def test_command_prints_versions_and_plan_writes_nothing(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo.root)
    assert main(["--chart", "web", "--plan", "-m", "Why"]) == 0
    assert capsys.readouterr().out == "web 2.0.1\nshop 3.0.1\n"
    assert repo.git("status", "--porcelain") == ""
    assert main(["--chart", "web", "--part", "huge"]) == 2
