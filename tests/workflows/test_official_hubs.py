"""The official workflow on the doubles of GitHub and GitLab: pull request, CI, discussion, approval,
pinned merge, release.

The lines of the workflow files are what runs; git, helm and the folders that are published to are
real. What needs an engine and a cluster is asked on a real Gitea, in test_official.py: the chart
here has no image, and says why it needs no test.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.act import ROOT, WorkflowRun, on_path, run_workflow, stand_ins
from tests.support.github import APP, WRITE, Github
from tests.support.github_reviews import APPROVED_ONCE, CHECKED, PullRequests, reviewing, rule
from tests.support.gits import Repo
from tests.support.hosted_git import HostedGit

NAME = "team/charts"
ACTION = "example/pipeline-steps@v0.1"
PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "a library of names, without anything to run"}}
channels:
  snapshot: {{charts: "file://{folder}/snapshot"}}
  production: {{charts: ["file://{folder}/production"]}}
review: {{{review}}}
approvals: {{code: {{by: [bob]}}}}
evidence: file://{folder}/evidence
"""
CHART = {
    "charts/names/Chart.yaml": "apiVersion: v2\nname: names\nversion: 0.1.0\ndescription: Names.\n",
    "charts/names/values.yaml": "name: charts\n",
    "charts/names/templates/names.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Values.name }}}\n"
    ),
}


class OnGithub:
    """A repository with nothing but its policy: one approval and the verdict are required."""

    def __init__(self, hub: Github, people: PullRequests, folder: Path) -> None:
        self.hub, self.people, self.folder = hub, people, folder
        people.people |= {"alice": "write", "bob": "write"}
        people.rules = [
            rule("pull_request", APPROVED_ONCE),
            rule("required_status_checks", CHECKED),
        ]
        (folder / "published").mkdir()
        push_policy(people.git, folder, "github: {}")
        self._runs = itertools.count(1)

    def run(
        self, workflow: str, event: str, ref: str, payload: dict[str, object], **inputs: str
    ) -> WorkflowRun:
        number = next(self._runs)
        clone = checkout(self.people.git, self.folder / f"run-{number}", ref)
        folder = clone.root.parent / "act"
        actions = {
            ACTION: on_path(folder / "actions/pipeline-steps", Path(sys.executable).parent),
            **stand_ins(folder / "actions", folder / "artifacts"),
        }
        known = {
            "GITHUB_API_URL": f"{self.hub.web}/api/v3",
            "GITHUB_SERVER_URL": self.hub.web,
            "GITHUB_REPOSITORY": NAME,
            "GITHUB_SHA": clone.git("rev-parse", "HEAD"),
            "GITHUB_RUN_ID": str(number),
            "GITHUB_REF": ref,
            "GIT_CONFIG_GLOBAL": str(clone.config),
            "PATH": os.environ["PATH"],
        }
        return run_workflow(
            ROOT / "examples" / workflow, clone.root, folder, event=event, payload=payload,
            actions=actions, secrets={"GITHUB_TOKEN": APP, "KUBECONFIG": "none"},
            variables={"SITE": "clusters: {}\n"}, inputs=inputs,
            environment={**known, **({"GITHUB_BASE_REF": "main"} if "pull" in ref else {})},
        )  # fmt: skip


def push_policy(git: HostedGit, folder: Path, review: str) -> None:
    """What the target branch says: policy, which no review can change for itself."""
    text = PIPELINE.format(folder=folder / "published", review=review)
    git.commit("main", {"pipeline.yaml": text}, "Say where charts go")


def checkout(git: HostedGit, folder: Path, ref: str) -> Repo:
    """A checkout as CI leaves it: all history, detached."""
    folder.mkdir()
    clone = Repo(folder / "charts", folder / "gitconfig", str(git.folder))
    clone.git("fetch", "-q", "origin", ref)
    clone.git("checkout", "-q", "--detach", "FETCH_HEAD")
    return clone


@pytest.fixture
def on_github(tmp_path: Path) -> Iterator[OnGithub]:
    with reviewing(NAME, tmp_path / "hosted.git") as (hub, people):
        yield OnGithub(hub, people, tmp_path)


def test_a_chart_goes_from_a_pull_request_on_github_to_a_release(on_github: OnGithub) -> None:
    people = on_github.people
    # 1 the member proposes a new chart
    head = people.git.commit("names", CHART, "Add names")
    number = people.open("alice", "names", title="Add names")
    people.git.git("update-ref", f"refs/pull/{number}/head", head)

    # 2, 3 CI tests it, and tells the pull request
    pull = {"number": number, "head": {"sha": head, "repo": {"fork": False}}}
    build = on_github.run(
        "github-pull-request.yml", "pull_request", f"refs/pull/{number}/head",
        {"number": number, "pull_request": pull},
    )  # fmt: skip
    assert build.code == 0, build.log
    assert people.passing(head, "pipeline-steps") == "success", build.log
    (comment,) = people.comments.values()
    assert comment["user"]["login"] == "github-actions[bot]"

    # 4 which gives them something to talk about
    assert "names" in comment["body"]

    # 5 nobody merges what nobody approved; then exactly what was approved is merged
    assert merge(on_github, number) == 6
    people.say(number, "bob", "APPROVED")
    assert merge(on_github, number) == 0
    assert people.pulls[number]["merge_commit_sha"] == people.git.tip("main")

    # 6, 7 somebody starts a release: tagged, and promoted
    release = on_github.run(
        "github-release.yml", "workflow_dispatch", "refs/heads/main",
        {"inputs": {"chart": "names"}}, chart="names",
    )  # fmt: skip
    assert release.code == 0, release.log
    assert people.git.git("tag", "--list") == "names-0.1.0"
    assert (on_github.folder / "published/production/names-0.1.0.tgz").exists()


def merge(on_github: OnGithub, number: int) -> int:
    """The exit code of `pipeline-steps merge`, as a person who may merge runs it."""
    folder = on_github.folder / f"merge-{os.urandom(4).hex()}"
    clone = checkout(on_github.people.git, folder, f"refs/pull/{number}/head")
    environment = {
        **on_github.hub.environment, "GITHUB_TOKEN": WRITE, "GITHUB_REPOSITORY": NAME,
        "PATH": os.environ["PATH"], "HOME": str(clone.root.parent),
        "GIT_CONFIG_GLOBAL": str(clone.config),
    }  # fmt: skip
    command = [
        str(Path(sys.executable).parent / "pipeline-steps"),
        "merge",
        "--review",
        str(number),
    ]
    done = subprocess.run(
        command, cwd=clone.root, env=environment, capture_output=True, text=True, check=False
    )
    print(done.stdout, done.stderr)
    return done.returncode
