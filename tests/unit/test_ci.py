"""What the environment of each CI system says about the build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline_steps.ci.detect import Build, detect
from pipeline_steps.toolbox.errors import MachineError
from tests.support.ci_environments import BASE, ENVIRONMENTS, HEAD, REVISION, environment

JENKINS = {
    "JENKINS_URL": "https://ci.example.com/",
    "BUILD_TAG": "jenkins-charts-12",
    "BUILD_URL": "https://ci.example.com/job/charts/12/",
    "GIT_COMMIT": "c" * 40,
}
OF_JENKINS = Build("jenkins", url=JENKINS["BUILD_URL"], id="jenkins-charts-12", revision="c" * 40)
GITLAB = {
    "GITLAB_CI": "true",
    "CI_PIPELINE_ID": "77",
    "CI_PIPELINE_URL": "https://git.example.com/p/-/pipelines/77",
    "CI_JOB_URL": "https://git.example.com/p/-/jobs/8",
    "CI_COMMIT_SHA": "c" * 40,
}
OF_GITLAB = Build("gitlab", url=GITLAB["CI_JOB_URL"], id="77", revision="c" * 40)
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "o/r",
    "GITHUB_RUN_ID": "5",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_SHA": "c" * 40,
}
OF_GITHUB = Build(
    "github_actions",
    url="https://github.com/o/r/actions/runs/5",
    id="5",
    revision="c" * 40,
    repository="o/r",
)

CASES: dict[str, tuple[dict[str, str], Build]] = {
    "a terminal": ({"CI": "true", "HOME": "/h"}, Build("terminal")),
    "jenkins without root URL": (
        {"BUILD_TAG": "jenkins-a-1", "GIT_BRANCH": "origin/main"},
        Build("jenkins", id="jenkins-a-1", branch="main"),
    ),
    "another program's BUILD_TAG": ({"BUILD_TAG": "v1"}, Build("terminal")),
    "jenkins, multibranch branch": (
        {**JENKINS, "BRANCH_NAME": "release/1", "GIT_BRANCH": "release/1"},
        OF_JENKINS._replace(branch="release/1"),
    ),
    "jenkins, multibranch tag": (
        {**JENKINS, "TAG_NAME": "hello-1.0.0", "BRANCH_NAME": "hello-1.0.0"},
        OF_JENKINS._replace(tag="hello-1.0.0"),
    ),
    "jenkins, multibranch pull request": (
        {
            **JENKINS,
            "CHANGE_ID": "9",
            "CHANGE_TARGET": "main",
            "BRANCH_NAME": "PR-9",
            "CHANGE_BRANCH": "main",
        },
        OF_JENKINS._replace(review="9", target="main"),
    ),
    "jenkins, git plugin, detached": ({**JENKINS, "GIT_BRANCH": "detached"}, OF_JENKINS),
    "jenkins, git plugin, tag": (
        {**JENKINS, "GIT_BRANCH": "refs/tags/v1"},
        OF_JENKINS._replace(tag="v1"),
    ),
    "jenkins, gerrit patch set": (
        {
            **JENKINS,
            "GERRIT_EVENT_TYPE": "patchset-created",
            "GERRIT_CHANGE_NUMBER": "1234",
            "GERRIT_PATCHSET_NUMBER": "3",
            "GERRIT_PATCHSET_REVISION": HEAD,
            "GERRIT_BRANCH": "main",
            "GERRIT_REFSPEC": "refs/changes/34/1234/3",
        },
        OF_JENKINS._replace(review="1234", target="main", revision=HEAD, head=HEAD),
    ),
    "jenkins, gerrit tag": (
        {
            **JENKINS,
            "GERRIT_EVENT_TYPE": "ref-updated",
            "GERRIT_REFNAME": "refs/tags/web-1.0.0+b",
            "GERRIT_NEWREV": HEAD,
        },
        OF_JENKINS._replace(tag="web-1.0.0+b", revision=HEAD),
    ),
    "jenkins, gerrit branch": (
        {
            **JENKINS,
            "GERRIT_EVENT_TYPE": "ref-updated",
            "GERRIT_REFNAME": "refs/heads/main",
            "GERRIT_NEWREV": HEAD,
        },
        OF_JENKINS._replace(branch="main", revision=HEAD),
    ),
    "jenkins, gerrit configuration": (
        {
            **JENKINS,
            "GERRIT_EVENT_TYPE": "ref-updated",
            "GERRIT_REFNAME": "refs/meta/config",
            "GERRIT_NEWREV": HEAD,
        },
        OF_JENKINS._replace(revision=HEAD),
    ),
    "jenkins, gerrit tag deleted": (
        {
            **JENKINS,
            "GERRIT_EVENT_TYPE": "ref-updated",
            "GERRIT_REFNAME": "refs/tags/v1",
            "GERRIT_NEWREV": "0" * 40,
        },
        OF_JENKINS._replace(revision=None),
    ),
    "jenkins, gerrit change merged": (
        {
            **JENKINS,
            "GERRIT_EVENT_TYPE": "change-merged",
            "GERRIT_CHANGE_NUMBER": "1234",
            "GERRIT_PATCHSET_REVISION": HEAD,
            "GERRIT_BRANCH": "main",
            "GERRIT_NEWREV": "e" * 40,
        },
        OF_JENKINS._replace(branch="main", revision="e" * 40),
    ),
    "jenkins, gerrit multibranch": (
        {**JENKINS, "GERRIT_API_URL": "https://g.example.com", "BRANCH_NAME": "34/1234/2"},
        OF_JENKINS._replace(review="1234", head="c" * 40, api="https://g.example.com"),
    ),
    "gitlab branch": ({**GITLAB, "CI_COMMIT_BRANCH": "main"}, OF_GITLAB._replace(branch="main")),
    "gitlab tag": (
        {**GITLAB, "CI_COMMIT_TAG": "v1", "CI_COMMIT_BRANCH": "main"},
        OF_GITLAB._replace(tag="v1"),
    ),
    "gitlab merge request": (
        {
            **GITLAB,
            "CI_MERGE_REQUEST_IID": "4",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
            "CI_COMMIT_REF_NAME": "x",
        },
        OF_GITLAB._replace(review="4", target="main", head="c" * 40),
    ),
    "gitlab merged results": (
        {
            **GITLAB,
            "CI_MERGE_REQUEST_IID": "4",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
            "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": HEAD,
        },
        OF_GITLAB._replace(review="4", target="main", head=HEAD),
    ),
    "gitlab parallel": (
        {**GITLAB, "CI_COMMIT_BRANCH": "main", "CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "4"},
        OF_GITLAB._replace(branch="main", shard=(2, 4)),
    ),
    "gitlab not parallel": (
        {**GITLAB, "CI_COMMIT_BRANCH": "main", "CI_NODE_TOTAL": "1"},
        OF_GITLAB._replace(branch="main"),
    ),
    "gitlab-ci-local": (
        {"GITLAB_CI": "false", "CI_COMMIT_SHA": "c" * 40, "CI_COMMIT_BRANCH": "main"},
        Build("gitlab", revision="c" * 40, branch="main"),
    ),
    "github branch": (
        {
            **GITHUB,
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_REF_TYPE": "branch",
            "GITHUB_REF_NAME": "main",
        },
        OF_GITHUB._replace(branch="main"),
    ),
    "github tag": (
        {
            **GITHUB,
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_REF_TYPE": "tag",
            "GITHUB_REF_NAME": "hello-1.0.0",
        },
        OF_GITHUB._replace(tag="hello-1.0.0"),
    ),
    "github pull request without event file": (
        {
            **GITHUB,
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_REF": "refs/pull/7/merge",
            "GITHUB_REF_TYPE": "branch",
            "GITHUB_REF_NAME": "7/merge",
            "GITHUB_BASE_REF": "main",
            "GITHUB_HEAD_REF": "main",
        },
        OF_GITHUB._replace(review="7", target="main"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_detect_reads_the_build_from_the_environment(case: str) -> None:
    environ, expected = CASES[case]
    assert detect(environ) == expected
    assert detect(
        {
            **environ,
            "TAG_NAME": environ.get("TAG_NAME", ""),
            "CI_COMMIT_TAG": environ.get("CI_COMMIT_TAG", ""),
        }
    ) == (expected), "an empty variable is none"


def test_a_run_for_an_approval_knows_the_branch_that_the_pull_request_goes_to(
    tmp_path: Path,
) -> None:
    """GitHub sets no GITHUB_BASE_REF for pull_request_review."""
    path = tmp_path / "event.json"
    pull = {"number": 7, "head": {"sha": HEAD}, "base": {"ref": "main", "sha": BASE}}
    path.write_text(json.dumps({"action": "submitted", "pull_request": pull}))
    of_event = {
        "GITHUB_EVENT_NAME": "pull_request_review",
        "GITHUB_EVENT_PATH": str(path),
        "GITHUB_REF": "refs/pull/7/merge",
        "GITHUB_BASE_REF": "",
    }
    build = detect({**GITHUB, **of_event})
    assert (build.review, build.target, build.head, build.base) == ("7", "main", HEAD, BASE)


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
def test_a_pull_request_is_read_from_the_event(tmp_path: Path, event: str) -> None:
    path = tmp_path / "event.json"
    path.write_text(json.dumps({"pull_request": {"number": 7, "head": {"sha": HEAD}}}))
    environ = {
        **GITHUB,
        "GITHUB_EVENT_NAME": event,
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_BASE_REF": "main",
    }
    found = detect({**environ, "GITHUB_EVENT_PATH": str(path)})
    assert found == OF_GITHUB._replace(review="7", target="main", head=HEAD)
    for damaged in ("{", "[" * 20_000):
        path.write_text(damaged)
        with pytest.raises(
            MachineError, match=r"event\.json: this account cannot read the event of this run"
        ):
            detect({**environ, "GITHUB_EVENT_PATH": str(path)})


_OF_JENKINS = Build(
    "jenkins",
    url="https://ci.example.com/job/charts/12/",
    id="jenkins-charts-12",
    revision=REVISION,
    repository="charts",
)
_PATCH_SET = _OF_JENKINS._replace(review="1234", target="main", head=REVISION)
_CODE_REVIEW = _OF_JENKINS._replace(api="https://gerrit.example.com/a/")
_OF_GITLAB = Build(
    "gitlab",
    url="https://git.example.com/team/charts/-/jobs/8",
    id="77",
    revision=REVISION,
    shard=(2, 4),
    repository="team/charts",
    api="https://git.example.com/api/v4",
)
_MERGED = _OF_GITLAB._replace(review="4", target="main", head=HEAD, base=BASE)
_OF_GITHUB = Build(
    "github_actions",
    url="https://github.com/team/charts/actions/runs/900000001",
    id="900000001",
    revision=REVISION,
    repository="team/charts",
    api="https://api.github.com",
)
_OF_GITEA = Build(
    "gitea_actions",
    url="https://forge.example.com/team/charts/actions/runs/5",
    id="31",
    revision=REVISION,
    repository="team/charts",
    api="https://forge.example.com/api/v1",
)
GOLDEN = {
    "a terminal": Build("terminal"),
    "jenkins gerrit-trigger, patch set": _PATCH_SET,
    "jenkins gerrit-trigger, comment": _PATCH_SET,
    "jenkins gerrit-trigger, merged change": _OF_JENKINS._replace(branch="main", revision=HEAD),
    "jenkins gerrit-trigger, branch": _OF_JENKINS._replace(branch="main"),
    "jenkins gerrit-trigger, tag": _OF_JENKINS._replace(tag="hello-1.4.0", revision=HEAD),
    "jenkins gerrit-code-review, patch set": _CODE_REVIEW._replace(
        review="1234", target="main", head=REVISION
    ),
    "jenkins gerrit-code-review, change not read": _CODE_REVIEW._replace(
        review="1234", head=REVISION
    ),
    "jenkins gerrit-code-review, branch": _CODE_REVIEW._replace(branch="main"),
    "gitlab, branch": _OF_GITLAB._replace(branch="main"),
    "gitlab, tag": _OF_GITLAB._replace(tag="hello-1.4.0"),
    "gitlab, merge request": _OF_GITLAB._replace(
        review="4", target="main", head=REVISION, base="a" * 40
    ),
    "gitlab, merged results": _MERGED,
    "gitlab, merge train": _MERGED._replace(queued=True),
    "github, branch": _OF_GITHUB._replace(branch="main"),
    "github, tag": _OF_GITHUB._replace(tag="hello-1.4.0"),
    "github, pull request": _OF_GITHUB._replace(review="7", target="main", head=HEAD, base=BASE),
    "github, merge queue": _OF_GITHUB._replace(
        review="7", target="release/1", head=REVISION, base=BASE, queued=True
    ),
    "github, report of another workflow": _OF_GITHUB._replace(branch="main", head=HEAD),
    "gitea, pull request": _OF_GITEA._replace(
        review="7", target="main", revision=HEAD, head=HEAD, base=BASE
    ),
    "gitea, tag": _OF_GITEA._replace(tag="hello-1.4.0"),
}
TEST_MERGES = {"gitlab, merged results", "gitlab, merge train", "github, pull request"}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_whole_environment_of_a_build(tmp_path: Path, name: str) -> None:
    build = detect(environment(name, tmp_path))
    assert build == GOLDEN[name]
    assert build.is_test_merge == (name in TEST_MERGES), "revision, head and base told apart"


def test_a_merge_queue_without_its_event_is_read_from_its_branch(tmp_path: Path) -> None:
    environ = environment("github, merge queue", tmp_path)
    del environ["GITHUB_EVENT_PATH"]
    assert detect(environ) == GOLDEN["github, merge queue"]._replace(base=None)


def test_a_review_that_the_ci_knows_nothing_of() -> None:
    named = {
        "PIPELINE_STEPS_REVIEW": "~dev/charts/fix/+merge/1",
        "PIPELINE_STEPS_TARGET": "trunk",
        "PIPELINE_STEPS_HEAD": "dev@example.com-1",
    }
    for environ in ({}, {**JENKINS, "BRANCH_NAME": "trunk"}):
        build = detect({**environ, **named})
        assert (build.review, build.target, build.head, build.branch) == (*named.values(), None)
    own = {**JENKINS, "CHANGE_ID": "7", "CHANGE_TARGET": "main"}
    assert detect({**own, **named}) == detect(own)
