"""Official charts (workflow A), from the release on: a tag, a promoted release on GitHub, and
helm's pull of it.

GitHub is a double (tests/support/github.py); git and both helms are real.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from pipeline_steps.repositories.kinds import open_writable
from tests.support.charts import packed
from tests.support.github import WRITE, Fault, Github, Request, github
from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.one_chart import CHART, MAP

PIPELINE = """\
charts: [{{path: charts/common, tests: {{none: "tested through its dependents"}}}}]
channels:
  snapshot: {{charts: "{folder}"}}
  production: {{charts: "github-releases:official/charts"}}
"""


def step(repo: Repo, hub: Github, *words: str) -> subprocess.Popen[str]:
    path = f"{helm(4).parent}:{os.environ['PATH']}"
    environment = {
        "PATH": path,
        "HOME": str(repo.root.parent),
        "GIT_CONFIG_GLOBAL": str(repo.config),
    }
    command = [sys.executable, "-m", "pipeline_steps", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=repo.root, env={**environment, **hub.environment}, **pipes)  # type: ignore[call-overload,no-any-return]


def test_a_release_killed_before_its_index_update_is_completed_by_the_next_run(
    tmp_path: Path,
) -> None:
    repo = Repo(tmp_path / "source", tmp_path / "gitconfig")
    repo.put("pipeline.yaml", PIPELINE.format(folder=(tmp_path / "snapshots").as_uri()))
    repo.put("charts/common/Chart.yaml", CHART)
    repo.put("charts/common/templates/map.yaml", MAP)
    repo.commit()
    output = ""
    with github("official/charts") as hub:

        def ok(*words: str) -> str:
            process = step(repo, hub, *words)
            output, _ = process.communicate()
            assert process.returncode == 0, output
            return output

        for words in (["check"], ["snapshot"], ["integration_test"], ["tag_release", "--local"]):
            output += ok(*words)

        promoting = step(repo, hub, "promote")

        def kill(request: Request) -> Fault | None:
            if request.method != "PUT":
                return None
            promoting.send_signal(signal.SIGKILL)
            promoting.wait()
            return "drop"

        hub.fault = kill
        output += promoting.communicate()[0]
        assert promoting.returncode == -signal.SIGKILL
        hub.fault = lambda request: "drop" if request.method in ("POST", "PATCH") else None
        output += ok("promote")
        hub.fault = lambda _: None
        assert "already done" in ok("promote")
        assert "holds" in ok("state", "verify")
        there = hub.repository("official/charts")
        (files,) = there.published().values()
        for major in (3, 4):
            place = [
                "--repo",
                f"{hub.web}/pages/official/charts",
                "--destination",
                str(tmp_path / str(major)),
            ]
            (tmp_path / str(major)).mkdir()
            environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
            subprocess.run(
                [str(helm(major)), "pull", "common", *place], env=environment, check=True
            )
            assert (tmp_path / str(major) / "common-1.0.0.tgz").read_bytes() == files[
                "common-1.0.0.tgz"
            ]
        assert hub.wrong == []
    records = "".join(path.read_text() for path in (repo.root / ".pipeline").rglob("*.jsonl"))
    assert "github-releases:official/charts/common-1.0.0/common-1.0.0.tgz@sha256:" in records
    assert WRITE not in output + records


def test_an_index_that_was_damaged_is_made_anew_from_the_releases(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "source", tmp_path / "gitconfig")
    repo.put("charts/common/Chart.yaml", CHART)
    repo.commit()
    repo.git("tag", "common-1.0.0")
    to = [
        "--charts",
        "charts/*",
        "--tags",
        "{name}-{version}",
        "--to",
        "github-releases:official/charts",
    ]
    words = ["regenerate", "--source", str(repo.root), *to]
    with github("official/charts") as hub, mock.patch.dict(os.environ, hub.environment):
        charts = open_writable("github-releases:official/charts", {})
        charts.publish(packed("of-other-sources"))
        done = step(repo, hub, *words)
        output, _ = done.communicate()
        assert done.returncode == 0, output
        hub.repository("official/charts").put("gh-pages", "index.yaml", b"<<<<<<< ours\n")
        done = step(repo, hub, *words, "--again")
        output, _ = done.communicate()
        assert done.returncode == 0, output
        assert charts.charts() == ["common", "of-other-sources"]
        assert len(hub.repository("official/charts").releases) == 2
        assert hub.wrong == []
