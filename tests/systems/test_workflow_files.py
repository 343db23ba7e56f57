"""The workflow files for GitHub, byte for byte through actionlint and act, in host mode.

act is not GitHub: it knows no environments and their secrets, no permissions, no queue; `if:`, `env:`, expressions and
every `run:` are its own, and real shells.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.act import ROOT, WorkflowRun, lint, on_path, run_workflow, stand_ins
from tests.support.ci_recorder import Recorder, hostile_refs, hostile_texts
from tests.support.examples import FULL
from tests.support.gits import Repo

EXAMPLES = ROOT / "examples"
WORKFLOWS = sorted(EXAMPLES.glob("github-*.yml"))
ACTION = "example/pipeline-steps@0.1"
SECRET = "canary-51c9e0"
SECRETS = {
    name: f"{SECRET}-{name}"
    for name in ("REVIEW_PASSWORD", "SNAPSHOT_PASSWORD", "PRODUCTION_PASSWORD", "KUBECONFIG")
}


class Forge:
    """A checkout as actions/checkout leaves it, and a recorder on the runner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorder = Recorder(folder / "recorder")
        self.repository = Repo(folder / "work/charts", folder / "gitconfig")
        self.repository.put("charts/hello/Chart.yaml", "hello\n")
        self.revision = self.repository.commit("hello")
        self.repository.git("remote", "add", "origin", "https://github.com/team/charts")
        self.artifacts = folder / "artifacts"

    def run(
        self, workflow: str, event: str, payload: dict[str, Any], *, ref: str, **more: Any
    ) -> WorkflowRun:
        folder = self.folder / "act"
        actions = {
            ACTION: on_path(folder / "actions/pipeline-steps", self.recorder.bin),
            **stand_ins(folder / "actions", self.artifacts),
        }
        environment = {
            "GITHUB_REPOSITORY": "team/charts",
            "GITHUB_SHA": self.revision,
            "GITHUB_REF": ref,
            "GITHUB_RUN_ID": "7",
        }
        return run_workflow(
            EXAMPLES / workflow,
            self.repository.root,
            folder,
            event=event,
            payload=payload,
            actions=actions,
            environment=environment,
            **more,
        )


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def pull_request(*, fork: bool, **more: Any) -> dict[str, Any]:
    """As in a repository that is a fork itself: of the two only the other one is none."""
    repo = {"full_name": "x/charts" if fork else "team/charts", "fork": not fork}
    head: dict[str, Any] = {"ref": "topic", "sha": "d" * 40, "repo": repo}
    base = {"ref": "main", "sha": "b" * 40, "repo": {"full_name": "team/charts"}}
    return {"pull_request": {"number": 7, "title": "t", "head": head, "base": base, **more}}


def test_actionlint_finds_nothing() -> None:
    assert lint(*WORKFLOWS) == ""


def test_no_workflow_gives_reviewed_code_what_the_target_may_do() -> None:
    for file in WORKFLOWS:
        workflow = yaml.safe_load(file.read_text())
        events = workflow[True]  # YAML 1.1 reads the key `on` so
        assert "pull_request_target" not in events
        assert workflow["permissions"], "not the token's default rights"
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                used = step.get("uses", ACTION)
                # A tag can be moved, onto code that reads what the job may do.
                assert used == ACTION or re.search("@[0-9a-f]{40}$", used), used
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False, "else code can read it"
                # GitHub fills in expressions before a shell reads the line.
                assert "${{" not in step.get("run", ""), f"{file.name}: {step['run']}"


def test_a_pull_request_is_tested_with_the_accounts_of_reviews(forge: Forge) -> None:
    run = forge.run(
        "github-pull-request.yml",
        "pull_request",
        pull_request(fork=False),
        ref="refs/pull/7/merge",
        secrets=SECRETS,
        variables={"REVIEW_USER": "reviews", "SITE": "evidence: oci://registry.example.com/e"},
    )
    assert run.code == 0, run.log
    assert forge.recorder.lines == [
        "report --started",
        "check",
        "build_image",
        "snapshot",
        "integration_test --retry-infrastructure 2",
        "report",
    ]
    [seen] = {call.environment["REVIEW_PSW"] for call in forge.recorder.calls}
    assert seen == SECRETS["REVIEW_PASSWORD"]
    assert forge.recorder.calls[0].kubeconfig == SECRETS["KUBECONFIG"]
    assert (forge.artifacts / "pipeline/junit/check.xml").exists()
    tokens = ["GITHUB_TOKEN" in call.environment for call in forge.recorder.calls]
    assert tokens == [True, False, False, False, False, True], "of the reports alone"
    assert "PROD_PSW" not in forge.recorder.calls[0].environment
    assert SECRET not in run.log


def fork_run(tmp_path: Path, exits: dict[str, int]) -> Forge:
    """A fork's pull request that fails; `sudo`, which changes the runner, is noted only."""
    forge = Forge(tmp_path)
    forge.recorder = Recorder(tmp_path / "failing", exits)
    sudo = forge.recorder.bin / "sudo"
    sudo.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/sudo\n')
    sudo.chmod(0o755)
    payload = pull_request(fork=True)
    run = forge.run("github-pull-request.yml", "pull_request", payload, ref="refs/pull/7/merge")
    assert run.code != 0
    return forge


def test_a_fork_without_a_sandbox_is_not_built_with_the_configured_channels(tmp_path: Path) -> None:
    forge = fork_run(tmp_path, {"sandbox": 7})
    assert forge.recorder.lines == ["sandbox up", "report --output .pipeline/report"]


def test_a_fork_is_tested_in_a_sandbox_and_reports_also_when_it_fails(tmp_path: Path) -> None:
    forge = fork_run(tmp_path, {"integration_test": 8})
    installed = (tmp_path / "sudo").read_text().splitlines()
    assert installed == ["apt-get update", "apt-get install --yes docker-registry"]
    assert forge.recorder.lines[0] == "sandbox up"
    assert forge.recorder.lines[-1] == "report --output .pipeline/report", "nothing is sent"
    assert not any("GITHUB_TOKEN" in call.environment for call in forge.recorder.calls)
    given = forge.recorder.calls[1].environment
    assert given["PIPELINE_STEPS_CONFIG"] == "pipeline-steps sandbox up", "what it printed"
    assert "CI_KUBECONFIG" not in given
    assert "PIPELINE_STEPS_SITE" not in given
    assert (forge.artifacts / "pipeline/junit/report.xml").exists()


def test_a_merge_queue_is_tested_as_well(forge: Forge) -> None:
    payload = {"merge_group": {"head_sha": forge.revision, "base_ref": "refs/heads/main"}}
    ref = "refs/heads/gh-readonly-queue/main/pr-7-" + "b" * 40
    run = forge.run("github-pull-request.yml", "merge_group", payload, ref=ref, secrets=SECRETS)
    assert run.code == 0, run.log
    assert forge.recorder.lines[0] == "report --started"
    assert forge.recorder.calls[0].environment["GITHUB_EVENT_NAME"] == "merge_group"


@pytest.mark.parametrize(("head", "told"), [("x/charts", True), ("team/charts", False)])
def test_a_second_workflow_tells_of_forks_and_runs_nothing_of_theirs(
    forge: Forge, head: str, told: bool, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    payload = {
        "repository": {"full_name": "team/charts"},
        "workflow_run": {
            "id": 9,
            "event": "pull_request",
            "head_sha": "d" * 40,
            "head_repository": {"full_name": head},
            "head_branch": hostile_refs(canary)[0],
            "display_title": "".join(hostile_texts(canary)),
        },
    }
    (forge.artifacts / "pipeline").mkdir(parents=True)
    (forge.artifacts / "pipeline/state.jsonl").write_text("{}\n")
    run = forge.run("github-report.yml", "workflow_run", payload, ref="refs/heads/main")
    assert run.code == 0, run.log
    assert not canary.exists()
    temp = [line.removeprefix("report --unbelieved ") for line in forge.recorder.lines]
    assert len(temp) == told
    assert all(path.endswith("/handed-over") for path in temp)
    workflow = (EXAMPLES / "github-report.yml").read_text()
    assert "ref:" not in workflow, "the default branch is checked out"
    assert "head_sha" not in workflow and "head_branch" not in workflow


def test_a_release_by_hand_tags_and_promotes_in_one_job(forge: Forge) -> None:
    run = forge.run(
        "github-release.yml",
        "workflow_dispatch",
        {"inputs": {"chart": "hello"}},
        ref="refs/heads/main",
        inputs={"chart": "hello"},
        secrets=SECRETS,
    )
    assert run.code == 0, run.log
    steps = ["check", "build_image", "snapshot", "integration_test --retry-infrastructure 2"]
    assert forge.recorder.lines == [
        *("approval", *steps),
        *("approval", "tag_release", "approval", "promote"),  # one may be withdrawn meanwhile
        "report",
    ]
    for name in ("PROD_PSW", "GITHUB_TOKEN", "GIT_CONFIG_VALUE_0"):
        found = [call.argv[0] for call in forge.recorder.calls if name in call.environment]
        without_code = ["approval", "approval", "tag_release", "approval", "promote"]
        assert found == without_code, "not while code of the source runs"
    given = [call.environment["PIPELINE_STEPS_CHART"] for call in forge.recorder.calls]
    assert set(given) == {"hello"}
    assert forge.recorder.calls[-2].environment["PROD_PSW"] == SECRETS["PRODUCTION_PASSWORD"]
    tagger = forge.recorder.calls[-4].tagger
    assert re.match(r"\S+ <\S+@users\.noreply\.github\.com> ", tagger), "a runner has no identity"
    assert SECRET not in run.log


def test_what_is_merged_is_built_and_tested_with_the_accounts_of_the_mainline(forge: Forge) -> None:
    run = forge.run(
        "github-mainline.yml",
        "push",
        {"ref": "refs/heads/main"},
        ref="refs/heads/main",
        secrets=SECRETS,
    )
    assert run.code == 0, run.log
    assert forge.recorder.lines == [
        "check",
        "build_image",
        "snapshot",
        "integration_test --retry-infrastructure 2",
        "report",
    ]
    given = forge.recorder.calls[0].environment
    assert given["SNAP_PSW"] == SECRETS["SNAPSHOT_PASSWORD"]
    assert not {"PROD_PSW", "REVIEW_PSW", "GITHUB_TOKEN"} & given.keys()
    assert SECRET not in run.log


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_the_page_names_what_each_environment_has(file: Path) -> None:
    text = file.read_text()
    given = set(re.findall(r"(?:vars|secrets)\.(\w+)", text))
    read = set(re.findall(r"\b(\w+_(?:USR|PSW|KUBECONFIG))[:=]", text))
    rows = (ROOT / "docs/how-to/github.md").read_text().splitlines()
    for environment in re.findall(r"environment: (\w+)", text):
        [row] = [row for row in rows if row.startswith(f"| `{environment}` |")]
        assert set(re.findall(r"\w+", row)) - {environment} == given | read


def test_no_release_is_cancelled_while_it_waits_and_no_tag_is_passed_over() -> None:
    """GitHub cancels all but the last that wait in a group, and * matches no slash."""
    release = yaml.safe_load((EXAMPLES / "github-release.yml").read_text())
    assert release[True]["push"]["tags"] == ["**"]
    for part in ("github.ref", "github.sha", "inputs.chart"):
        assert f"${{{{ {part} }}}}" in release["concurrency"]


def test_what_nobody_approved_runs_nothing_in_a_release(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.recorder = Recorder(tmp_path / "refusing", {"approval": 6})
    ref = "refs/tags/hello-1.4.0"
    run = forge.run("github-release.yml", "push", {"ref": ref}, ref=ref, secrets=SECRETS)
    assert run.code != 0
    assert forge.recorder.lines == ["approval", "report"]


def test_names_that_others_choose_run_nothing(tmp_path: Path) -> None:
    """Tags that start a release; titles, branches and authors in the event of a review; messages,
    authors and file names of what was merged.
    """
    canary = tmp_path / "canary"
    # act evaluates expressions in the variables that it is given.
    tags = [tag for tag in hostile_refs(canary) if "${{" not in tag]
    for number, tag in enumerate(tags[:: 1 if FULL else 4]):
        forge = Forge(tmp_path / f"tag-{number}")
        forge.repository.git("update-ref", f"refs/tags/{tag}", forge.revision)
        payload: dict[str, Any] = {
            "ref": f"refs/tags/{tag}",
            "head_commit": {"message": hostile_texts(canary)[number % len(hostile_texts(canary))]},
        }
        ref = f"refs/tags/{tag}"
        run = forge.run("github-release.yml", "push", payload, ref=ref, secrets=SECRETS)
        assert run.code == 0, run.log
        assert "tag_release" not in forge.recorder.lines, "the tag is there"
        assert forge.recorder.calls[-1].environment["GITHUB_REF"] == ref
        assert not canary.exists(), tag
    texts = json.dumps(hostile_texts(canary))
    payload = pull_request(fork=False, title=texts, body=texts, user={"login": texts})
    payload["pull_request"]["head"]["ref"] = hostile_refs(canary)[1]
    other = Forge(tmp_path / "other")
    run = other.run(
        "github-pull-request.yml", "pull_request", payload, ref="refs/pull/7/merge", secrets=SECRETS
    )
    assert run.code == 0, run.log
    assert not canary.exists()
    other = Forge(tmp_path / "merged")
    for text in hostile_texts(Path("planted")):
        other.repository.put(f"charts/{text.replace('/', '')}/Chart.yaml", "x")
    merged = {"message": texts, "author": {"name": texts}}
    payload = {"ref": "refs/heads/main", "head_commit": merged, "pusher": {"name": texts}}
    run = other.run("github-mainline.yml", "push", payload, ref="refs/heads/main", secrets=SECRETS)
    assert run.code == 0, run.log
    assert not canary.exists() and not [*tmp_path.rglob("planted")]


def test_the_action_puts_this_version_on_path(tmp_path: Path) -> None:
    """Its own lines, in a venv of their own; pip finds what is required installed already."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    [step] = action["runs"]["steps"]
    copy = tmp_path / "action"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
    path = tmp_path / "path"
    path.touch()
    environment = {
        **os.environ,
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "PYTHONPATH": next(path for path in sys.path if path.endswith("site-packages")),
        "GITHUB_ACTION_PATH": str(copy),
        "GITHUB_PATH": str(path),
    }
    subprocess.run(["sh", "-e", "-c", step["run"]], env=environment, check=True)
    program = Path(path.read_text().strip(), "pipeline-steps")
    done = subprocess.run([program, "list"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "integration_test" in done.stdout
