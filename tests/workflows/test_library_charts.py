"""A chart of `type: library` is released on the tests of the charts that depend on it by file://."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.release_line import MAP, Line

LIBRARY = "apiVersion: v2\nname: common\ntype: library\nversion: 1.0.0\n"
DEPENDENT = (
    "apiVersion: v2\nname: {name}\nversion: 1.0.0\n"
    "dependencies: [{{name: {on}, version: '>=1.0.0', repository: 'file://../{on}'}}]\n"
)
WITHOUT_SETTINGS = """\
charts:
  - path: charts/*
channels:
  snapshot: {{charts: "file://{folder}/snapshots"}}
  production: {{charts: "file://{folder}/charts"}}
"""


PIPELINE = WITHOUT_SETTINGS.replace(
    "channels:",
    '  - path: charts/{{web,other}}\n    tests: {{none: "as this test wants it"}}\nchannels:',
)


class Library(Line):
    """A library `common` and the charts that are given to depend on it."""

    def __init__(self, folder: Path, pipeline: str = PIPELINE, **dependents: str) -> None:
        super().__init__(folder)
        self.repo.put("charts/common/Chart.yaml", LIBRARY)
        self.repo.git("rm", "-q", "charts/common/templates/map.yaml")
        self.repo.put("charts/common/templates/_x.tpl", '{{ define "x" }}hello{{ end }}\n')
        for name, on in dependents.items():
            self.repo.put(f"charts/{name}/Chart.yaml", DEPENDENT.format(name=name, on=on))
            self.repo.put(
                f"charts/{name}/templates/map.yaml", MAP.replace("hello", '{{ include "x" . }}')
            )
        self.repo.put("pipeline.yaml", pipeline.format(folder=folder))
        self.repo.commit()

    def test(self, *charts: str) -> None:
        for chart in charts:
            for step in ("check", "snapshot", "integration_test"):
                self.ok(step, "--chart", chart)


def test_a_library_is_released_once_every_dependent_passed(tmp_path: Path) -> None:
    line = Library(tmp_path, web="common", other="web")
    line.test("common", "web")
    line.refused(4, "of other", "tag_release", "--local", "--chart", "common")
    line.test("other")
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("promote", "--chart", "common")
    assert (tmp_path / "charts/common-1.0.0.tgz").is_file()
    released = line.records("promote")[-1]
    tests = {record["id"]: record["subject"] for record in line.records("integration_test")}
    used = {tests[identity] for identity in released["uses"] if identity in tests}
    assert used == {"common", "web", "other"}


def test_a_library_without_dependents_is_refused_until_tests_none_says_why(tmp_path: Path) -> None:
    line = Library(tmp_path, WITHOUT_SETTINGS)
    line.test("common")
    line.refused(4, "tests.none", "tag_release", "--local", "--chart", "common")
    reason = WITHOUT_SETTINGS.replace(
        "charts/*\n", 'charts/*\n    tests: {{none: "used by other repositories"}}\n'
    )
    line.repo.put("pipeline.yaml", reason.format(folder=tmp_path))
    line.repo.commit()
    line.test("common")
    line.ok("tag_release", "--local", "--chart", "common")


def test_a_dependent_that_is_a_library_needs_dependents_of_its_own(tmp_path: Path) -> None:
    line = Library(tmp_path, WITHOUT_SETTINGS, middle="common")
    chart = DEPENDENT.format(name="middle", on="common") + "type: library\n"
    line.repo.put("charts/middle/Chart.yaml", chart)
    line.repo.put(
        "charts/middle/templates/map.yaml", '{{ define "y" }}{{ include "x" . }}{{ end }}\n'
    )
    line.repo.commit()
    line.test("common", "middle")
    line.refused(4, "of middle", "tag_release", "--local", "--chart", "common")


@pytest.mark.parametrize("release", [(), ("--release",)], ids=["up to the release", "release"])
def test_run_carries_a_library_with_its_dependents(
    tmp_path: Path, release: tuple[str, ...]
) -> None:
    line = Library(tmp_path, web="common", other="common")
    origin = tmp_path / "origin.git"
    line.repo.git("clone", "-q", "--bare", str(line.repo.root), str(origin))
    line.repo.git("remote", "add", "origin", str(origin))
    completed = line.run("run", "private", "--channels", "configured", *release)
    assert completed.returncode == 0, completed.stderr
    released = sorted(path.name for path in (tmp_path / "charts").glob("*.tgz"))
    assert released == (["common-1.0.0.tgz", "other-1.0.0.tgz", "web-1.0.0.tgz"] if release else [])
