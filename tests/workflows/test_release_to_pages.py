"""A release whose channels are branches of a git repository behind ssh, pulled by helm from what
pages would serve.

git and both helms are real. `ssh` is a double: it runs here what it is told to run on the other
machine.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline_steps.toolbox import clock
from tests.support.gits import Repo, bare
from tests.support.helms import helm
from tests.support.one_chart import OneChart
from tests.support.pages import served

PIPELINE = """\
charts: [{{path: charts/common, tests: {{none: "tested through its dependents"}}}}]
channels:
  snapshot: {{charts: "{url}#snapshots"}}
  production: {{charts: "{url}"}}
"""
SSH = """\
#!/bin/sh
for word; do before=$command; command=$word; done
test "$before" = git@pages.example.com && exec sh -c "$command"
"""


class Line(OneChart):
    """A checkout with one chart; pages: the repository that the channels are in."""

    def __init__(self, folder: Path) -> None:
        self.pages = bare(folder / "pages.git")
        self.url = f"git+ssh://git@pages.example.com{self.pages}"
        super().__init__(
            folder, PIPELINE.format(url=self.url), {"GIT_SSH_COMMAND": f"{folder}/bin/ssh"}
        )
        self.repo.put("../bin/ssh", SSH, executable=True)

    def git(self, *arguments: str) -> str:
        ran = subprocess.run(
            ["git", *arguments], cwd=self.pages, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def test_a_release_to_github_pages_and_a_second_run_without_changes(
    line: Line, tmp_path: Path
) -> None:
    for words in (
        ["check"],
        ["snapshot"],
        ["integration_test"],
        ["tag_release", "--local"],
        ["promote"],
    ):
        line.ok(*words)
    assert line.output("snapshot").startswith(f"{line.url}#snapshots/common-1.0.0-0.1.t")
    assert line.output("promote").startswith(f"{line.url}#gh-pages/common-1.0.0.tgz@sha256:")
    assert line.git("log", "--format=%s by %an", "gh-pages") == "Publish common 1.0.0 by Tester"
    tagged = line.repo.git("for-each-ref", "--format=%(taggerdate:unix)", "refs/tags/common-1.0.0")
    assert f'created: "{clock.rfc3339(int(tagged))}"' in line.git("show", "gh-pages:index.yaml")
    clone = Repo(tmp_path / "clone", tmp_path / "gitconfig", str(line.pages))
    clone.git("checkout", "-q", "gh-pages")
    with served(clone.root) as url:
        for major in (3, 4):
            folder = tmp_path / f"by-{major}"
            command = [
                str(helm(major)),
                "pull",
                "common",
                "--repo",
                url,
                "--version",
                "1.0.0",
                "--destination",
                str(folder),
            ]
            folder.mkdir()
            completed = subprocess.run(
                command, capture_output=True, text=True, env={"HOME": str(folder), "PATH": "/bin"}
            )
            assert completed.returncode == 0, completed.stderr
            assert (folder / "common-1.0.0.tgz").read_bytes() == (
                clone.root / "common-1.0.0.tgz"
            ).read_bytes()

    commits = line.git("rev-parse", "snapshots", "gh-pages")
    assert "already done" in line.ok("snapshot").stderr
    assert "already done" in line.ok("promote").stderr
    assert line.git("rev-parse", "snapshots", "gh-pages") == commits
    assert "holds" in line.ok("state", "verify").stdout

    published = line.output("promote")
    line.git("branch", "-D", "gh-pages")
    completed = line.run("state", "verify")
    assert completed.returncode == 4 and "gone: promote of common" in completed.stdout
    assert "already done" not in line.ok("promote").stderr
    assert line.output("promote") == published, "the very bytes again"
