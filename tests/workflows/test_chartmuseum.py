"""A release by way of ChartMuseum, and what is noticed when its storage is taken back to an earlier
day.

ChartMuseum is a double (tests/support/chartmuseum.py); git and both helms are real.
"""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chartmuseum import Museum, chartmuseum
from tests.support.charts import packed
from tests.support.helms import helm
from tests.support.one_chart import OneChart

PIPELINE = """\
charts: [{{path: charts/common, tests: {{none: "tested through its dependents"}}}}]
channels:
  snapshot: {{charts: "{url}/snapshots"}}
  production: {{charts: "{url}/stable"}}
hosts: {{"{host}": {{username: ci, password: "${{MUSEUM}}"}}}}
"""


class Line(OneChart):
    """A checkout with one chart, whose channels are in `museum`."""

    def __init__(self, folder: Path, museum: Museum) -> None:
        super().__init__(
            folder, PIPELINE.format(url=museum.url, host=museum.host), {"MUSEUM": "secret"}
        )
        self.museum = museum

    def storage(self) -> tuple[Any, Any]:
        return copy.deepcopy(self.museum.files), copy.deepcopy(self.museum.index)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with chartmuseum(depth=1) as museum:
        museum.login = ("ci", "secret")
        yield Line(tmp_path, museum)


def test_a_rolled_back_chartmuseum_is_noticed(line: Line, tmp_path: Path) -> None:
    """Rollback: an older index with its files. Consistent in itself; the records of what was
    published tell.
    """
    line.ok("check")
    before_snapshot = line.storage()
    line.ok("snapshot")
    line.ok("integration_test")
    line.ok("tag_release", "--local")
    before_promote = line.storage()
    line.ok("promote")
    for major in (3, 4):
        login = [
            "--username",
            "ci",
            "--password",
            "secret",
            "--repo",
            f"http://{line.museum.host}/stable",
        ]
        command = [
            str(helm(major)),
            "pull",
            "common",
            "--version",
            "1.0.0",
            *login,
            "--destination",
            str(tmp_path),
        ]
        completed = subprocess.run(
            command, capture_output=True, text=True, env={"HOME": str(tmp_path), "PATH": "/bin"}
        )
        assert completed.returncode == 0, completed.stderr
        assert (tmp_path / "common-1.0.0.tgz").read_bytes() == line.museum.files[
            "stable/common-1.0.0.tgz"
        ]
        (tmp_path / "common-1.0.0.tgz").unlink()
    assert "already done" in line.ok("promote").stderr
    assert "holds" in line.ok("state", "verify").stdout
    line.museum.login = ("ci", "changed")
    completed = line.run("state", "verify")
    assert completed.returncode == 7 and "cannot be reached: promote of" in completed.stdout, (
        "what cannot be read is not taken for whole"
    )
    line.museum.login = ("ci", "secret")

    line.museum.files, line.museum.index = before_promote
    completed = line.run("state", "verify")
    assert completed.returncode == 4 and "gone: promote of common" in completed.stdout
    published = line.output("promote")
    assert "already done" not in line.ok("promote").stderr
    assert line.output("promote") == published, "the very bytes again"

    line.museum.files, line.museum.index = before_snapshot
    completed = line.run("promote", "--again")
    assert completed.returncode == 4 and "does not have what was tested" in completed.stderr
    completed = line.run("state", "verify")
    assert completed.returncode == 4 and "gone: snapshot of common" in completed.stdout
    assert "already done" not in line.ok("snapshot").stderr

    other_chart = packed("common", more="description: of another day\n")
    line.museum.files["stable/common-1.0.0.tgz"] = other_chart.tgz
    line.museum.index["stable/common-1.0.0.tgz"] = {
        "name": "common", "version": "1.0.0", "apiVersion": "v2", "urls": ["charts/common-1.0.0.tgz"],
        "created": "2026-01-02T03:04:05Z", "digest": other_chart.digest.removeprefix("sha256:"),
    }  # fmt: skip
    completed = line.run("state", "verify")
    assert completed.returncode == 4 and "changed: promote of common" in completed.stdout
    completed = line.run("promote")
    assert completed.returncode == 5 and other_chart.tar_digest in completed.stderr
