"""`snapshot --diff`: what would be rendered otherwise than what is published, and its place on the
page of `report`.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.release_line import CHART, MAP, Line

NAMED = """metadata:
  name: "{{ .Release.Name }}"
  labels: {helm.sh/chart: "{{ .Chart.Name }}-{{ .Chart.Version }}"}"""


def diff(line: Line) -> str:
    return Path(line.repo.root, ".pipeline/diff/common.diff").read_text()


def test_snapshot_diff_compares_with_production(tmp_path: Path) -> None:
    line = Line(tmp_path)
    labelled = MAP.replace('metadata: {name: "{{ .Release.Name }}"}', NAMED)
    line.repo.put("charts/common/templates/map.yaml", labelled)
    line.repo.put("charts/common/ci/other-values.yaml", "unused: true\n")
    line.repo.commit()
    output = line.ok("snapshot", "--chart", "common", "--diff", "--plan").stderr
    assert (
        "compared with nothing: no version is in production" in output
        and "--- ConfigMap common (added)" in output
    )
    assert not list((line.folder / "snapshots").iterdir()), "a plan publishes nothing"

    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("promote", "--chart", "common")
    assert "nothing else is rendered" in line.ok("snapshot", "--chart", "common", "--diff").stderr
    assert diff(line).startswith(
        "common 1.0.0-0."
    ) and "compared with common 1.0.0 in production" in diff(line)

    line.repo.put("charts/common/Chart.yaml", CHART.format(version="1.1.0"))
    line.repo.put("charts/common/templates/map.yaml", labelled.replace("hello", "good day"))
    line.repo.put(
        "charts/common/templates/more.yaml", MAP.replace("Release.Name }}", "Release.Name }}-more")
    )
    line.repo.commit()
    line.ok("snapshot", "--chart", "common", "--diff")
    assert "-  greeting: hello\n+  greeting: good day" in diff(line)
    assert "--- ConfigMap common-more (added)" in diff(line) and "2 resources differ" in diff(line)
    assert "helm.sh/chart" not in diff(line)

    line.ok("report", "--chart", "common")
    page = (line.repo.root / ".pipeline/report/report.html").read_text()
    assert "<details><summary>What it renders otherwise" in page and "+  greeting: good day" in page
    assert "```diff\n" in (line.repo.root / ".pipeline/report/report.md").read_text()

    line.repo.put("charts/common/templates/map.yaml", labelled)
    line.repo.commit()
    line.ok("snapshot", "--chart", "common")
    line.ok("report", "--chart", "common")
    page = (line.repo.root / ".pipeline/report/report.html").read_text()
    assert "What it renders otherwise" not in page, "a diff of another snapshot is not shown"


def test_snapshot_diff_without_production_compares_with_the_last_snapshot(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.ok("snapshot", "--chart", "common")
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    output = line.ok("snapshot", "--chart", "common", "--diff").stderr
    assert "as nothing is in production" in output and "+  greeting: good day" in output


def test_snapshot_diff_of_an_unrenderable_chart_still_publishes(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.repo.put(
        "charts/common/Chart.yaml", CHART.format(version="1.0.0").replace("application", "library")
    )
    line.repo.commit()
    line.ok("snapshot", "--chart", "common", "--diff")
    assert "library charts are not installable" in diff(line)
