"""examples/gitlab-ci.yml and the component, executed by gitlab-ci-local with its shell executor.

It is not GitLab: it ignores retry, services, resource_group and protection, and evaluates no reports.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.ci_recorder import Recorder, hostile_refs, hostile_texts
from tests.support.gits import Repo
from tools.programs import programs

ROOT = Path(__file__).resolve().parents[2]
COMPONENT = """\
include:
  - component: $CI_SERVER_FQDN/$CI_PROJECT_PATH/pipeline@$CI_COMMIT_SHA
    inputs: {shards: 2, production: live}
"""
SECRET = "canary-08d3aa"


class GitLab:
    """A checkout of a project, and a recorder on the runner."""

    def __init__(self, folder: Path, *, component: bool) -> None:
        self.folder = folder
        self.recorder = Recorder(folder / "recorder")
        self.repository = Repo(folder / "charts", folder / "gitconfig")
        text = COMPONENT if component else (ROOT / "examples/gitlab-ci.yml").read_text()
        self.repository.put(".gitlab-ci.yml", text)
        self.repository.put(".gitignore", ".gitlab-ci-local/\n.pipeline/\n")
        shutil.copytree(ROOT / "templates", self.repository.root / "templates")
        self.repository.commit("charts")
        self.repository.git("remote", "add", "origin", "git@gitlab.example.com:team/charts.git")

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = [
            word for name, text in variables.items() for word in ("--variable", f"{name}={text}")
        ]
        program = programs.get("gitlab-ci-local") / "gitlab-ci-local"
        return subprocess.run(
            [
                program,
                "--force-shell-executor",
                "--shell-isolation",
                "--no-color",
                *given,
                *arguments,
            ],
            cwd=self.repository.root,
            env={
                "PATH": f"{self.recorder.bin}:{os.environ['PATH']}",
                "HOME": str(self.folder),
                "GIT_CONFIG_GLOBAL": str(self.folder / "gitconfig"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )


@pytest.mark.parametrize(("component", "shards"), [(False, 4), (True, 2)])
def test_a_tag_is_built_tested_in_shards_and_promoted(
    tmp_path: Path, component: bool, shards: int
) -> None:
    gitlab = GitLab(tmp_path, component=component)
    ran = gitlab.run(CI_COMMIT_TAG="hello-1.4.0", PROD_PSW=SECRET)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = gitlab.recorder.lines
    assert lines[:4] == ["approval", "check", "build_image", "snapshot"]
    assert lines[4:-3] == ["integration_test --shard auto --retry-infrastructure 2"] * shards
    assert lines[-3:] == ["approval", "promote", "report"], "one may be withdrawn meanwhile"
    environments = [call.environment for call in gitlab.recorder.calls]
    places = [(each["CI_NODE_INDEX"], each["CI_NODE_TOTAL"]) for each in environments[4:-3]]
    assert sorted(places) == [(str(n), str(shards)) for n in range(1, shards + 1)]
    assert environments[-2]["CI_COMMIT_TAG"] == "hello-1.4.0"
    assert SECRET not in ran.stdout + ran.stderr


def test_the_component_asks_for_no_approval_where_its_input_says_so(tmp_path: Path) -> None:
    gitlab = GitLab(tmp_path, component=True)
    inputs = COMPONENT.replace("shards: 2", "shards: 1, approve: false")
    gitlab.repository.put(".gitlab-ci.yml", inputs)
    ran = gitlab.run(CI_COMMIT_TAG="hello-1.4.0")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = [line.split()[0] for line in gitlab.recorder.lines]
    assert lines == ["check", "build_image", "snapshot", "integration_test", "promote", "report"]


def test_what_nobody_approved_runs_nothing_of_a_tag(tmp_path: Path) -> None:
    gitlab = GitLab(tmp_path, component=False)
    gitlab.recorder = Recorder(tmp_path / "refusing", {"approval": 6})
    ran = gitlab.run(CI_COMMIT_TAG="hello-1.4.0")
    assert ran.returncode != 0
    # After a failure gitlab-ci-local does not always come to .post.
    assert gitlab.recorder.lines in (["approval"], ["approval", "report"])


@pytest.mark.parametrize("component", [False, True])
def test_a_merge_request_is_told_and_releases_nothing(tmp_path: Path, component: bool) -> None:
    gitlab = GitLab(tmp_path, component=component)
    ran = gitlab.run(CI_MERGE_REQUEST_IID="4")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "promote" not in gitlab.recorder.lines
    assert gitlab.recorder.lines[:2] == ["report --started", "check"]
    assert len(gitlab.recorder.lines) == (7 if component else 9), "each shard is a call"


def test_jobs_of_merge_requests_see_the_variables_of_reviews_only() -> None:
    """Read, not run: gitlab-ci-local does not know variables of workflow rules."""
    jobs = yaml.safe_load((ROOT / "examples/gitlab-ci.yml").read_text())
    accounts = {rule["if"]: rule["variables"]["ACCOUNTS"] for rule in jobs["workflow"]["rules"]}
    assert accounts.pop("$CI_MERGE_REQUEST_IID") == "reviews"
    assert set(accounts.values()) == {"mainline"}
    for name in ("start", "build", "test", "report"):
        assert jobs[name]["environment"] == {"name": "$ACCOUNTS", "action": "access"}
    assert jobs["release"]["environment"] == "production"
    assert jobs["approve"]["environment"] == {"name": "production", "action": "access"}


def test_the_component_has_the_jobs_of_the_file_that_is_copied() -> None:
    """One of them goes through a whole workflow, in test_official_hubs.py."""
    copied = yaml.safe_load((ROOT / "examples/gitlab-ci.yml").read_text())
    head, _, text = (ROOT / "templates/pipeline/template.yml").read_text().partition("\n---\n")
    inputs = yaml.safe_load(head)["spec"]["inputs"]
    assert inputs.pop("approve")["default"] is True
    asking = ("if $[[ inputs.approve ]]; then ", "; fi", ' && "$[[ inputs.approve ]]" == "true"')
    for words in asking:
        assert text.count(words) == 1
        text = text.replace(words, "")
    for name, given in {name: each["default"] for name, each in inputs.items()}.items():
        text = text.replace(f"$[[ inputs.{name} ]]", "4" if name == "shards" else given)
    component = yaml.safe_load(text)
    common, default = component.pop(".pipeline-steps"), copied.pop("default")
    assert common == default
    for name, job in component.items():
        if isinstance(job, dict) and job.pop("extends", None):
            reports = job.get("artifacts", {}).get("reports", {})
            if reports:
                whole = default["artifacts"]
                job["artifacts"] = {**whole, "reports": {**whole["reports"], **reports}}
        assert job == copied[name], name
    assert set(component) == set(copied)
    assert component["report"]["artifacts"]["reports"] == {
        "junit": ".pipeline/junit/*.xml",
        "codequality": ".pipeline/report/gl-code-quality-report.json",
    }


def test_the_component_takes_its_inputs(tmp_path: Path) -> None:
    gitlab = GitLab(tmp_path, component=True)
    ran = gitlab.run("--preview", CI_COMMIT_TAG="hello-1.4.0")
    jobs = yaml.safe_load(ran.stdout)
    assert jobs["test"]["parallel"] == 2
    assert jobs["release"]["environment"] == "live"
    assert "registry.example.com/ci/pipeline-steps:0.1" in str(jobs["release"]["image"])


def test_names_that_others_choose_run_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    gitlab = GitLab(tmp_path, component=False)
    # It reads $NAME in the value of a variable as another variable; GitLab does so, too.
    for name in [each for each in hostile_refs(canary) if "$" not in each][:1]:
        ran = gitlab.run(
            CI_COMMIT_TAG=name, CI_COMMIT_TITLE=hostile_texts(canary)[3], GITLAB_USER_LOGIN=name
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert gitlab.recorder.calls[-2].environment["CI_COMMIT_TAG"] == name
        assert not canary.exists(), name
    ran = gitlab.run(
        CI_COMMIT_TAG=hostile_refs(canary)[0], CI_COMMIT_TITLE=hostile_texts(canary)[0]
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not canary.exists()
