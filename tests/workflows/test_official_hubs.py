"""The official workflow on the doubles of GitHub and GitLab: pull request, CI, discussion, approval,
pinned merge, release.

The lines of the workflow files are what runs; git, helm and the folders that are published to are
real. What needs an engine and a cluster is asked on a real Gitea, in test_official.py: the chart
here has no image, and says why it needs no test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.act import ROOT, WorkflowRun, on_path, run_workflow, stand_ins
from tests.support.github import APP, READ, WRITE, Github
from tests.support.github_reviews import APPROVED_ONCE, CHECKED, PullRequests, reviewing, rule
from tests.support.gitlabs import WRITE as CI
from tests.support.gitlabs import Gitlab, Project, gitlab
from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.hosted_git import HostedGit
from tests.support.pages import served
from tools.programs import programs

NAME = "team/charts"
ACTION = "example/pipeline-steps@0.1"
PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "a library of names, without anything to run"}}
channels:
  snapshot: {{charts: "file://{folder}/snapshot"}}
  production:
    charts: ["file://{folder}/production"]
    requires: [check, approval.code, approval.release]
review: {{{review}}}
approvals: {{code: {{by: [bob]}}, release: {{by: [carol]}}}}
evidence: file://{folder}/evidence
"""
#: What the environment `production` of GitHub says instead: who lets its jobs begin approves, too.
RELEASE_SITE = """\
clusters: {}
approvals: {code: {by: [bob]}, release: {by: [carol], github: "environment:production"}}
"""
CHART = {
    "charts/names/Chart.yaml": "apiVersion: v2\nname: names\nversion: 0.1.0\ndescription: Names.\n",
    "charts/names/values.yaml": "name: charts\n",
    "charts/names/templates/names.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Values.name }}}\n"
    ),
}
TEMPLATE = "charts/names/templates/names.yaml"
#: The second line names a function that helm does not have.
BROKEN = {**CHART, TEMPLATE: CHART[TEMPLATE].replace(".name }}", ".name | quoted }}")}


class OnGithub:
    """A repository with nothing but its policy: two approvals and the verdict are required."""

    def __init__(self, hub: Github, people: PullRequests, folder: Path) -> None:
        self.hub, self.people, self.folder = hub, people, folder
        people.people |= {"alice": "write", "bob": "write", "carol": "write"}
        people.rules = [
            rule("pull_request", APPROVED_ONCE),
            rule("required_status_checks", CHECKED),
        ]
        (folder / "published").mkdir()
        push_policy(people.git, folder, "github: {}")

    def pushed(self, files: dict[str, str], number: int = 0) -> tuple[int, str]:
        """The pull request of the branch `names` after a push, opened by the first one, and its head."""
        head = self.people.git.commit("names", files, "Add names")
        number = number or self.people.open("alice", "names", title="Add names")
        self.people.git.git("update-ref", f"refs/pull/{number}/head", head)
        return number, head

    def build(self, number: int, head: str) -> WorkflowRun:
        """What the workflow of pull requests does for one."""
        repo = {"full_name": NAME, "fork": False}
        pull = {"number": number, "head": {"sha": head, "repo": repo}}
        return self.run(
            "github-pull-request.yml", "pull_request", f"refs/pull/{number}/head",
            {"number": number, "pull_request": pull},
        )  # fmt: skip

    def run(
        self, workflow: str, event: str, ref: str, payload: dict[str, object], *,
        site: str = "clusters: {}\n", begun_by: str = "", handed_over: Path | None = None,
        **inputs: str,
    ) -> WorkflowRun:  # fmt: skip
        """A run of a workflow; begun_by: which reviewer of `production` let it begin. handed_over:
        the artifact of another run.
        """
        commit = self.people.git.git("rev-parse", ref)
        number = self.people.run(commit, **({begun_by: "approved"} if begun_by else {}))
        clone = checkout(self.people.git, self.folder / f"run-{number}", ref)
        folder = clone.root.parent / "act"
        if handed_over:
            shutil.copytree(handed_over, folder / "artifacts/pipeline")
        actions = {
            ACTION: on_path(folder / "actions/pipeline-steps", Path(sys.executable).parent),
            **stand_ins(folder / "actions", folder / "artifacts"),
        }
        known = {
            "GITHUB_API_URL": f"{self.hub.web}/api/v3",
            "GITHUB_SERVER_URL": self.hub.web,
            "GITHUB_REPOSITORY": NAME,
            "GITHUB_SHA": commit,
            "GITHUB_RUN_ID": str(number),
            "GITHUB_REF": ref,
            "GIT_CONFIG_GLOBAL": str(clone.config),
            "PATH": os.environ["PATH"],
        }
        return run_workflow(
            ROOT / "examples" / workflow, clone.root, folder, event=event, payload=payload,
            actions=actions, secrets={"GITHUB_TOKEN": APP, "KUBECONFIG": "none"},
            variables={"SITE": site}, inputs=inputs,
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
    # 1 to 3 the member proposes a new chart, which cannot be rendered: CI says so, and where
    number, broken = on_github.pushed(BROKEN)
    build = on_github.build(number, broken)
    assert build.code != 0
    [run] = people.checks.values()
    assert (run["head_sha"], run["conclusion"]) == (broken, "failure"), build.log
    [place] = run["output"]["annotations"]
    assert (place["path"], place["start_line"]) == (TEMPLATE, 3), place
    assert 'function "quoted" not defined' in place["message"]
    (comment,) = people.comments.values()
    assert 'function "quoted" not defined' in comment["body"]
    people.say(number, "bob", "APPROVED")  # too early

    # 2, 3 the member corrects it; CI tests that, and tells both in the same place
    _, head = on_github.pushed(CHART, number)
    build = on_github.build(number, head)
    assert build.code == 0, build.log
    assert people.passing(head, "pipeline-steps") == "success", build.log
    (comment,) = people.comments.values()
    assert comment["user"]["login"] == "github-actions[bot]"

    # 4 which gives them something to talk about: what was tested, how it went, how to look at it
    assert "### `names 0.1.0`: **positive**" in comment["body"]
    assert "- `check` **passed**" in comment["body"] and "quoted" not in comment["body"]
    assert f"git fetch origin refs/pull/{number}/head" in comment["body"]

    # 5 nobody merges what was pushed after the approval, nor what one of two has approved; then
    # exactly what both approved is merged
    assert merge(on_github, number) == 6
    people.say(number, "bob", "APPROVED")
    assert merge(on_github, number) == 6
    people.say(number, "carol", "APPROVED")
    assert merge(on_github, number) == 0
    assert people.pulls[number]["merge_commit_sha"] == people.git.tip("main")

    # 6, 7 somebody starts a release: tagged, and promoted; a token that may not make it sets no tag
    reader = {**on_github.hub.environment, "GITHUB_TOKEN": READ, "GITHUB_REPOSITORY": NAME}
    tag = ("tag_release", "--chart", "names")
    for words in ((*tag, "--plan"), tag):
        assert by_hand(people.git, on_github.folder, "main", reader, *words) == 7
    assert people.git.git("tag", "--list") == ""
    release = on_github.run(
        "github-release.yml", "workflow_dispatch", "refs/heads/main",
        {"inputs": {"chart": "names"}}, chart="names", site=RELEASE_SITE, begun_by="carol",
    )  # fmt: skip
    assert release.code == 0, release.log
    assert people.git.git("tag", "--list") == "names-0.1.0"
    promoted = (on_github.folder / "published/production/names-0.1.0.tgz").read_bytes()
    assert on_github.hub.repository(NAME).published() == {
        "names-0.1.0": {"names-0.1.0.tgz": promoted}
    }

    # 8 the member gets it
    assert pulled(on_github.folder / "published/production") == promoted


def test_what_a_fork_hands_over_on_github_is_told_and_believed_by_nobody(
    on_github: OnGithub,
) -> None:
    """Its build is played by hand, as without an engine there is no sandbox. The default branch has
    no chart yet.
    """
    people = on_github.people
    number, head = on_github.pushed(CHART)
    fork = Checkout(people.git, on_github.folder, f"refs/pull/{number}/head", {})
    fork.run("check")
    fork.run("snapshot")
    fork.run("integration_test")
    fork.run("report", "--output", ".pipeline/report")
    build = {
        "id": 9, "event": "pull_request", "head_sha": head, "head_branch": "names",
        "head_repository": {"full_name": "alice/charts"},
    }  # fmt: skip
    told = on_github.run(
        "github-report.yml", "workflow_run", "refs/heads/main",
        {"action": "completed", "workflow_run": build},
        handed_over=fork.clone.root / ".pipeline",
    )  # fmt: skip
    assert told.code == 0, told.log
    assert people.passing(head, "pipeline-steps") is None, "no required check takes it"
    [run] = people.checks.values()
    assert (run["head_sha"], run["status"]) == (head, "in_progress")
    [comment] = people.comments.values()
    assert "not believed" in comment["body"] and "`names`" in comment["body"]
    # core has read it, and opens another pull request from a branch here: both have this head
    ours = people.open("bob", "names", title="Add names, as alice proposes")
    ref = f"refs/pull/{ours}/head"
    people.git.git("update-ref", ref, head)
    pull = {"number": ours, "head": {"sha": head}}
    build_here = job_on_github(on_github, "pull_request", ref, {"pull_request": pull})
    assert "the verdict is set" in build_here.run("report")
    assert people.passing(head, "pipeline-steps") == "success"
    # the fork's build is started again, and ends later
    later = job_on_github(on_github, "workflow_run", "refs/heads/main", {"workflow_run": build})
    said = later.run("report", "--unbelieved", str(fork.clone.root / ".pipeline"))
    assert "the verdict is there already: a build of this repository says positive" in said
    assert people.passing(head, "pipeline-steps") == "success"


def job_on_github(
    on_github: OnGithub, event: str, ref: str, payload: dict[str, object]
) -> Checkout:
    """A checkout, and the variables that a job for an event has."""
    file = on_github.folder / f"event-{os.urandom(4).hex()}.json"
    file.write_text(json.dumps(payload))
    kind, _, name = ref.removeprefix("refs/").partition("/")
    return Checkout(on_github.people.git, on_github.folder, ref, {
        "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(file), "GITHUB_REF": ref, "GITHUB_REF_NAME": name,
        "GITHUB_REF_TYPE": "branch", "GITHUB_SHA": on_github.people.git.git("rev-parse", ref),
        "GITHUB_RUN_ID": "9", "GITHUB_REPOSITORY": NAME, "GITHUB_TOKEN": APP,
        "GITHUB_SERVER_URL": on_github.hub.web,
        "GITHUB_API_URL": f"{on_github.hub.web}/api/v3",
        **({"GITHUB_BASE_REF": "main"} if kind == "pull" else {}),
    })  # fmt: skip


def pulled(repository: Path) -> bytes:
    """What helm gets of names 0.1.0, each helm that is supported the same."""
    archives = set()
    with served(repository) as url:
        for major in (3, 4):
            target = repository.parent / f"helm{major}"
            words = (
                "pull",
                "names",
                "--repo",
                url,
                "--version",
                "0.1.0",
                "--destination",
                str(target),
            )
            target.mkdir()
            variables = {"PATH": os.environ["PATH"], "HOME": str(target)}
            subprocess.run([helm(major), *words], env=variables, check=True, capture_output=True)
            archives.add((target / "names-0.1.0.tgz").read_bytes())
    [archive] = archives
    return archive


def test_what_carol_did_not_let_begin_on_github_is_not_released(on_github: OnGithub) -> None:
    """The release approval of the environment, and a pull request that GitHub itself merged."""
    people = on_github.people
    number, _ = on_github.pushed(CHART)
    people.say(number, "bob", "APPROVED")
    people.merge(number, "merge")
    site = on_github.folder / "site.yaml"
    site.write_text(RELEASE_SITE)
    asking = {
        **on_github.hub.environment, "GITHUB_REPOSITORY": NAME, "PIPELINE_STEPS_SITE": str(site),
    }  # fmt: skip

    def ask(*begun_by: str) -> int:
        run = people.run(people.git.tip("main"), **dict.fromkeys(begun_by, "approved"))
        ci = {**asking, "GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": str(run)}
        return by_hand(people.git, on_github.folder, "main", ci, "approval", "--chart", "names")

    assert (ask(), ask("bob"), ask("carol")) == (6, 6, 0)


def merge(on_github: OnGithub, number: int) -> int:
    """The exit code of `pipeline-steps merge`, as a person who may merge runs it."""
    return by_hand(
        on_github.people.git, on_github.folder, f"refs/pull/{number}/head",
        {**on_github.hub.environment, "GITHUB_TOKEN": WRITE, "GITHUB_REPOSITORY": NAME},
        "merge", "--review", str(number),
    )  # fmt: skip


def by_hand(
    git: HostedGit, folder: Path, ref: str, environment: dict[str, str], *words: str
) -> int:
    """The exit code of a step that a person runs in a checkout."""
    clone = checkout(git, folder / f"by-hand-{os.urandom(4).hex()}", ref)
    known = {
        "PATH": os.environ["PATH"], "HOME": str(clone.root.parent),
        "GIT_CONFIG_GLOBAL": str(clone.config), **environment,
    }  # fmt: skip
    program = str(Path(sys.executable).parent / "pipeline-steps")
    done = subprocess.run(
        [program, *words], cwd=clone.root, env=known, capture_output=True, text=True
    )
    print(done.stdout, done.stderr)  # shown when the test fails
    return done.returncode


COMPONENT = "templates/pipeline/template.yml"
#: From the same project: gitlab-ci-local gets no other. examples/gitlab-ci.yml has the same jobs,
#: which test_gitlab_ci.py compares.
INCLUDED = """\
include:
  - component: $CI_SERVER_FQDN/$CI_PROJECT_PATH/pipeline@$CI_COMMIT_SHA
"""


#: What GitLab's server says to a push of a protected tag: git/tag access checks of its source,
#: lib/gitlab/checks/tag_check.rb.
PROTECTED_TAGS = """\
#!/bin/sh
case $1 in refs/tags/*)
    echo "GitLab: You are not allowed to create this tag as it is protected." >&2
    exit 1
esac
"""


class Checkout:
    """A checkout, of CI or of a person, whose steps share what they record."""

    def __init__(self, git: HostedGit, folder: Path, ref: str, environment: dict[str, str]) -> None:
        self.clone = checkout(git, folder / f"ci-{os.urandom(4).hex()}", ref)
        self._environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.clone.root.parent),
            "GIT_CONFIG_GLOBAL": str(self.clone.config), **environment,
        }  # fmt: skip

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "pipeline-steps"), *words],
            cwd=self.clone.root, env=self._environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_merge_queue_of_github_gets_approval_and_verdict_on_its_commit(
    on_github: OnGithub, method: str
) -> None:
    """Behind another pull request, which the queue has in front. With `squash` its commit does not
    contain the head.
    """
    people = on_github.people
    head = people.git.commit("names", CHART, "Add names")
    number = people.open("alice", "names", title="Add names")
    people.git.git("update-ref", f"refs/pull/{number}/head", head)
    base = people.git.commit("in-front", {"README.md": "other\n"}, "Another pull request")
    queue = f"gh-readonly-queue/main/pr-{number}-{base}"
    people.git.git("update-ref", f"refs/heads/{queue}", base)
    queued = people.git.merge(queue, head, method, "queue")
    group = {"head_sha": queued, "base_sha": base, "base_ref": "refs/heads/main"}
    event: dict[str, object] = {"action": "checks_requested", "merge_group": group}
    ci = job_on_github(on_github, "merge_group", f"refs/heads/{queue}", event)
    for step in ("check", "snapshot", "integration_test"):
        ci.run(step)
    assert "1 more person must approve" in ci.run("approval", code=6)
    people.say(number, "bob", "APPROVED")
    assert "no approval release" in ci.run("approval", code=6)
    people.say(number, "carol", "APPROVED")
    ci.run("approval")
    assert "the verdict is set" in ci.run("report")
    assert people.passing(queued, "pipeline-steps") == "success"
    assert people.passing(head, "pipeline-steps") is None and not people.comments
    # Its author pushes: GitHub takes it out of the queue, and what was queued is approved no more.
    values = {"charts/names/values.yaml": "name: other\n"}
    people.git.git("update-ref", f"refs/pull/{number}/head", people.git.commit("names", values))
    people.say(number, "bob", "APPROVED")
    assert "this is the build of" in ci.run("approval", code=6)


class OnGitlab:
    """A project with its policy and its pipeline: two approvals and a green pipeline are required."""

    def __init__(self, hub: Gitlab, folder: Path) -> None:
        self.hub, self.folder = hub, folder
        self.project = hub.projects[NAME] = Project(folder / "hosted.git")
        self.project.people |= {"alice": 30, "bob": 30, "carol": 30}
        self.project.approvals_needed, self.project.pipeline_must_succeed = 1, True
        (folder / "published").mkdir()
        push_policy(self.project.git, folder, "gitlab: {}")
        files = {
            ".gitlab-ci.yml": INCLUDED,
            COMPONENT: (ROOT / COMPONENT).read_text(),
            ".gitignore": ".gitlab-ci-local/\n.pipeline/\n",
        }
        self.project.git.commit("main", files, "Say what CI does")
        self.environment = {
            "CI_SERVER_URL": hub.url, "CI_PROJECT_PATH": NAME, "GITLAB_TOKEN": CI,
        }  # fmt: skip

    def pushed(self, files: dict[str, str], number: int = 0) -> tuple[int, str]:
        """The merge request of the branch `names` after a push, opened by the first one, and its
        head.
        """
        head = self.project.git.commit("names", files, "Add names")
        if number:
            self.project.pushed(number)
        else:
            number = self.project.open("alice", "names", title="Add names")
        self.project.git.git("update-ref", f"refs/merge-requests/{number}/head", head)
        return number, head

    def build(self, name: str, number: int) -> subprocess.CompletedProcess[str]:
        """The pipeline of a merge request."""
        return self.run(
            name, f"refs/merge-requests/{number}/head", CI_MERGE_REQUEST_IID=str(number),
            CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main", CI_MERGE_REQUEST_PROJECT_PATH=NAME,
        )  # fmt: skip

    def run(self, name: str, ref: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A pipeline. Without shell isolation: that copies no .git."""
        clone = checkout(self.project.git, self.folder / name, ref)
        # A component is found by the address of the checkout's remote.
        ssh = clone.root.parent / "ssh"
        ssh.write_text(
            f"#!/bin/sh\nfor last; do :; done\nexec ${{last%% *}} {self.project.git.folder}\n"
        )
        ssh.chmod(0o755)
        clone.git("config", "core.sshCommand", str(ssh))
        clone.git("remote", "set-url", "origin", f"git@gitlab.example.com:{NAME}.git")
        done = self._ci(clone, variables)
        # After a failure gitlab-ci-local does not always come to .post, as GitLab does.
        return done if done.returncode == 0 else self._ci(clone, variables, "report")

    def _ci(
        self, clone: Repo, variables: Mapping[str, str], *jobs: str
    ) -> subprocess.CompletedProcess[str]:
        given = [
            word
            for variable, text in {**self.environment, **variables}.items()
            for word in ("--variable", f"{variable}={text}")
        ]
        program = programs.get("gitlab-ci-local") / "gitlab-ci-local"
        done = subprocess.run(
            [program, "--force-shell-executor", "--no-color", *given, *jobs],
            cwd=clone.root,
            env={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(clone.root.parent),
                "GIT_CONFIG_GLOBAL": str(clone.config),
            },
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        print(done.stdout, done.stderr)  # shown when the test fails
        return done


@pytest.fixture
def on_gitlab(tmp_path: Path) -> Iterator[OnGitlab]:
    with gitlab() as hub:
        yield OnGitlab(hub, tmp_path)


def test_a_chart_goes_from_a_merge_request_on_gitlab_to_a_release(on_gitlab: OnGitlab) -> None:
    project = on_gitlab.project
    # 1 to 3 the member proposes a new chart, which cannot be rendered: CI says so, and where
    number, broken = on_gitlab.pushed(BROKEN)
    on_gitlab.build("broken", number)
    assert project.passing(broken, "pipeline-steps") == "failed"
    (note,) = project.notes
    assert 'function "quoted" not defined' in note["body"]
    [place] = json.loads(quality_of(on_gitlab, "broken"))
    assert place["location"] == {"path": TEMPLATE, "lines": {"begin": 3}}, place
    project.approve(number, "bob")  # too early

    # 2, 3 the member corrects it; CI tests that, and tells both in the same place
    _, head = on_gitlab.pushed(CHART, number)
    build = on_gitlab.build("review", number)
    assert build.returncode == 0, build.stdout + build.stderr
    assert project.passing(head, "pipeline-steps") == "success", build.stdout + build.stderr
    (note,) = (each for each in project.notes if not each["system"])
    assert note["author"]["username"] == "ci"
    assert quality_of(on_gitlab, "review") == "[]\n"

    # 4 which gives them something to talk about: what was tested, how it went, how to look at it
    assert "### `names 0.1.0`: **positive**" in note["body"]
    assert "- `check` **passed**" in note["body"] and "quoted" not in note["body"]
    assert f"git fetch origin refs/merge-requests/{number}/head" in note["body"]

    # 5 nobody merges what was pushed after the approval, nor what one of two has approved; then
    # exactly what both approved is merged
    assert merge_on_gitlab(on_gitlab, number) == 6
    project.approve(number, "bob")
    assert merge_on_gitlab(on_gitlab, number) == 6
    project.approve(number, "carol")
    assert merge_on_gitlab(on_gitlab, number) == 0
    assert project.requests[number]["merge_commit_sha"] == project.git.tip("main")

    # 6, 7 somebody tags it, and the tag's pipeline promotes
    main = on_gitlab.run("main", "refs/heads/main", CI_COMMIT_BRANCH="main")
    assert main.returncode == 0, main.stdout + main.stderr
    by_core = Checkout(project.git, on_gitlab.folder, "main", on_gitlab.environment)
    said = by_core.run("run", "official", "--chart", "names", "--channels", "configured")
    assert "✓ approval" in said, said
    assert "stopped before tag_release; go on with: pipeline-steps run official" in said, said
    # nobody whom its protected tags do not name
    hook = project.git.folder / "hooks/update"
    hook.write_text(PROTECTED_TAGS)
    hook.chmod(0o755)
    refusal = by_core.run("tag_release", "--chart", "names", code=7)
    assert "You are not allowed to create this tag as it is protected." in refusal
    assert project.git.git("tag", "--list") == ""
    hook.unlink()
    by_core.run("tag_release", "--chart", "names")
    release = on_gitlab.run("tag", "refs/tags/names-0.1.0", CI_COMMIT_TAG="names-0.1.0")
    assert release.returncode == 0, release.stdout + release.stderr

    # 8 the member gets it
    production = on_gitlab.folder / "published/production"
    assert pulled(production) == (production / "names-0.1.0.tgz").read_bytes()


def merge_on_gitlab(on_gitlab: OnGitlab, number: int) -> int:
    """The exit code of `pipeline-steps merge`, as a person who may merge runs it."""
    return by_hand(
        on_gitlab.project.git, on_gitlab.folder, f"refs/merge-requests/{number}/head",
        on_gitlab.environment, "merge", "--review", str(number),
    )  # fmt: skip


def quality_of(on_gitlab: OnGitlab, pipeline: str) -> str:
    """The code quality report of a pipeline."""
    report = on_gitlab.folder / pipeline / "charts/.pipeline/report"
    return (report / "gl-code-quality-report.json").read_text()


def test_a_merge_train_of_gitlab_gets_approval_and_verdict(on_gitlab: OnGitlab) -> None:
    """The verdict stands at the head of the merge request, and names what the train made of it."""
    project = on_gitlab.project
    head = project.git.commit("names", CHART, "Add names")
    number = project.open("alice", "names", title="Add names")
    project.git.git("update-ref", f"refs/merge-requests/{number}/head", head)
    base = project.git.commit("in-front", {"README.md": "other\n"}, "Another merge request")
    train = f"refs/merge-requests/{number}/train"
    project.git.git("update-ref", "refs/heads/train", base)
    made = project.git.merge("train", head, "merge", "train")
    project.git.git("update-ref", train, made)
    ci = Checkout(project.git, on_gitlab.folder, train, {
        **on_gitlab.environment, "GITLAB_CI": "true", "CI": "true", "CI_COMMIT_SHA": made,
        "CI_MERGE_REQUEST_IID": str(number), "CI_MERGE_REQUEST_EVENT_TYPE": "merge_train",
        "CI_MERGE_REQUEST_PROJECT_PATH": NAME, "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": head, "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": base,
    })  # fmt: skip
    for step in ("check", "snapshot", "integration_test"):
        ci.run(step)
    assert "1 more person must approve" in ci.run("approval", code=6)
    project.approve(number, "bob")
    project.approve(number, "carol")
    ci.run("approval")
    assert "the verdict is set" in ci.run("report")
    assert project.passing(head, "pipeline-steps") == "success"
    [note] = [note["body"] for note in project.notes if not note["system"]]
    assert f"Tested: `{made}`" in note
