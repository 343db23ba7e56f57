"""Environments of CI builds as each system's documentation and source describe them, whole.

`{event}` stands for the path of the event file, whose content is in EVENTS under the same name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REVISION, HEAD, BASE = "c" * 40, "d" * 40, "b" * 40

_JENKINS = {
    "CI": "true",
    "JENKINS_URL": "https://ci.example.com/",
    "JENKINS_HOME": "/var/jenkins_home",
    "BUILD_NUMBER": "12",
    "BUILD_ID": "12",
    "BUILD_DISPLAY_NAME": "#12",
    "BUILD_URL": "https://ci.example.com/job/charts/12/",
    "BUILD_TAG": "jenkins-charts-12",
    "JOB_NAME": "charts",
    "JOB_BASE_NAME": "charts",
    "JOB_URL": "https://ci.example.com/job/charts/",
    "EXECUTOR_NUMBER": "0",
    "NODE_NAME": "agent-1",
    "NODE_LABELS": "agent-1 linux",
    "WORKSPACE": "/home/jenkins/workspace/charts",
    "WORKSPACE_TMP": "/home/jenkins/workspace/charts@tmp",
    "STAGE_NAME": "Test",
    "GIT_COMMIT": REVISION,
    "GIT_URL": "https://gerrit.example.com/charts",
}
_GERRIT_TRIGGER = {
    **_JENKINS,
    "GIT_BRANCH": "detached",
    "GERRIT_EVENT_HASH": "-1183",
    "GERRIT_EVENT_ACCOUNT": "A Developer <a@example.com>",
    "GERRIT_NAME": "gerrit",
    "GERRIT_HOST": "gerrit.example.com",
    "GERRIT_PORT": "29418",
    "GERRIT_SCHEME": "ssh",
    "GERRIT_VERSION": "3.10.0",
    "GERRIT_PROJECT": "charts",
}
_GERRIT_CHANGE = {
    "GERRIT_BRANCH": "main",
    "GERRIT_TOPIC": "",
    "GERRIT_CHANGE_ID": "I" + "a" * 40,
    "GERRIT_CHANGE_NUMBER": "1234",
    "GERRIT_CHANGE_URL": "https://gerrit.example.com/c/charts/+/1234",
    "GERRIT_CHANGE_SUBJECT": "Serve the page over TLS",
    "GERRIT_CHANGE_WIP_STATE": "false",
    "GERRIT_CHANGE_PRIVATE_STATE": "false",
    "GERRIT_CHANGE_OWNER": "A Developer <a@example.com>",
    "GERRIT_PATCHSET_NUMBER": "2",
    "GERRIT_PATCHSET_REVISION": REVISION,
    "GERRIT_REFSPEC": "refs/changes/34/1234/2",
}
_GERRIT_CODE_REVIEW = {
    **_JENKINS,
    "GERRIT_API_URL": "https://gerrit.example.com/a/",
    "GERRIT_CREDENTIALS_ID": "gerrit",
    "GERRIT_PROJECT": "charts",
}
_GITLAB = {
    "CI": "true",
    "GITLAB_CI": "true",
    "CI_SERVER_URL": "https://git.example.com",
    "CI_API_V4_URL": "https://git.example.com/api/v4",
    "CI_PROJECT_ID": "42",
    "CI_PROJECT_PATH": "team/charts",
    "CI_PROJECT_DIR": "/builds/team/charts",
    "CI_COMMIT_SHA": REVISION,
    "CI_COMMIT_SHORT_SHA": REVISION[:8],
    "CI_DEFAULT_BRANCH": "main",
    "CI_PIPELINE_ID": "77",
    "CI_PIPELINE_URL": "https://git.example.com/team/charts/-/pipelines/77",
    "CI_JOB_ID": "8",
    "CI_JOB_NAME": "test 2/4",
    "CI_JOB_URL": "https://git.example.com/team/charts/-/jobs/8",
    "CI_JOB_TOKEN": "job-token",
    "CI_NODE_INDEX": "2",
    "CI_NODE_TOTAL": "4",
}
_GITLAB_MERGE_REQUEST = {
    **_GITLAB,
    "CI_PIPELINE_SOURCE": "merge_request_event",
    "CI_COMMIT_REF_NAME": "main",
    "CI_MERGE_REQUEST_IID": "4",
    "CI_MERGE_REQUEST_PROJECT_PATH": "team/charts",
    "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "somebody/charts",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "main",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
    "CI_MERGE_REQUEST_DIFF_BASE_SHA": "a" * 40,
}
_GITLAB_MERGED = {
    **_GITLAB_MERGE_REQUEST,
    "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": HEAD,
    "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": BASE,
}
_GITHUB = {
    "CI": "true",
    "GITHUB_ACTIONS": "true",
    "GITHUB_ACTOR": "member",
    "GITHUB_API_URL": "https://api.github.com",
    "GITHUB_EVENT_PATH": "{event}",
    "GITHUB_JOB": "test",
    "GITHUB_REPOSITORY": "team/charts",
    "GITHUB_REPOSITORY_OWNER": "team",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_RUN_ID": "900000001",
    "GITHUB_RUN_NUMBER": "5",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_SHA": REVISION,
    "GITHUB_WORKFLOW": "pull request",
    "GITHUB_WORKSPACE": "/home/runner/work/charts/charts",
    "RUNNER_OS": "Linux",
    "RUNNER_TEMP": "/home/runner/work/_temp",
}
_GITHUB_PULL_REQUEST = {
    **_GITHUB,
    "GITHUB_EVENT_NAME": "pull_request",
    "GITHUB_REF": "refs/pull/7/merge",
    "GITHUB_REF_NAME": "7/merge",
    "GITHUB_REF_TYPE": "branch",
    "GITHUB_BASE_REF": "main",
    "GITHUB_HEAD_REF": "main",
}
_GITEA = {
    **_GITHUB,
    "GITEA_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://forge.example.com/",
    "GITHUB_API_URL": "https://forge.example.com/api/v1",
    "GITHUB_RUN_ID": "31",
}

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "a terminal": {"HOME": "/home/a", "TERM": "xterm-256color", "SHELL": "/bin/bash"},
    "jenkins gerrit-trigger, patch set": {
        **_GERRIT_TRIGGER,
        **_GERRIT_CHANGE,
        "GERRIT_EVENT_TYPE": "patchset-created",
    },
    "jenkins gerrit-trigger, comment": {
        **_GERRIT_TRIGGER,
        **_GERRIT_CHANGE,
        "GERRIT_EVENT_TYPE": "comment-added",
        "GERRIT_EVENT_COMMENT_TEXT": "cmVjaGVjaw==",
    },
    "jenkins gerrit-trigger, merged change": {
        **_GERRIT_TRIGGER,
        **_GERRIT_CHANGE,
        "GERRIT_EVENT_TYPE": "change-merged",
        "GERRIT_NEWREV": HEAD,
    },
    "jenkins gerrit-trigger, branch": {
        **_GERRIT_TRIGGER,
        "GERRIT_EVENT_TYPE": "ref-updated",
        "GERRIT_REFNAME": "refs/heads/main",
        "GERRIT_OLDREV": BASE,
        "GERRIT_NEWREV": REVISION,
    },
    "jenkins gerrit-trigger, tag": {
        **_GERRIT_TRIGGER,
        "GERRIT_EVENT_TYPE": "ref-updated",
        "GERRIT_REFNAME": "refs/tags/hello-1.4.0",
        "GERRIT_OLDREV": "0" * 40,
        "GERRIT_NEWREV": HEAD,
    },
    "jenkins gerrit-code-review, patch set": {
        **_GERRIT_CODE_REVIEW,
        **_GERRIT_CHANGE,
        "BRANCH_NAME": "34/1234/2",
        "GERRIT_REFNAME": "refs/changes/34/1234/2",
        "GERRIT_PATCHSET_KIND": "REWORK",
    },
    "jenkins gerrit-code-review, change not read": {
        **_GERRIT_CODE_REVIEW,
        "BRANCH_NAME": "34/1234/2",
    },
    "jenkins gerrit-code-review, branch": {**_GERRIT_CODE_REVIEW, "BRANCH_NAME": "main"},
    "gitlab, branch": {
        **_GITLAB,
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_REF_NAME": "main",
    },
    "gitlab, tag": {
        **_GITLAB,
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_TAG": "hello-1.4.0",
        "CI_COMMIT_REF_NAME": "hello-1.4.0",
    },
    "gitlab, merge request": {**_GITLAB_MERGE_REQUEST, "CI_MERGE_REQUEST_EVENT_TYPE": "detached"},
    "gitlab, merged results": {
        **_GITLAB_MERGED,
        "CI_MERGE_REQUEST_EVENT_TYPE": "merged_result",
    },
    "gitlab, merge train": {**_GITLAB_MERGED, "CI_MERGE_REQUEST_EVENT_TYPE": "merge_train"},
    "github, branch": {
        **_GITHUB,
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_REF_NAME": "main",
        "GITHUB_REF_TYPE": "branch",
    },
    "github, tag": {
        **_GITHUB,
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REF": "refs/tags/hello-1.4.0",
        "GITHUB_REF_NAME": "hello-1.4.0",
        "GITHUB_REF_TYPE": "tag",
    },
    "github, pull request": _GITHUB_PULL_REQUEST,
    "github, merge queue": {
        **_GITHUB,
        "GITHUB_EVENT_NAME": "merge_group",
        "GITHUB_REF": f"refs/heads/gh-readonly-queue/release/1/pr-7-{BASE}",
        "GITHUB_REF_NAME": f"gh-readonly-queue/release/1/pr-7-{BASE}",
        "GITHUB_REF_TYPE": "branch",
    },
    "github, report of another workflow": {
        **_GITHUB,
        "GITHUB_EVENT_NAME": "workflow_run",
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_REF_NAME": "main",
        "GITHUB_REF_TYPE": "branch",
    },
    "gitea, pull request": {
        **_GITEA,
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_REF": "refs/pull/7/head",
        "GITHUB_REF_NAME": "7/head",
        "GITHUB_REF_TYPE": "branch",
        "GITHUB_BASE_REF": "main",
        "GITHUB_HEAD_REF": "topic",
        "GITHUB_SHA": HEAD,
    },
    "gitea, tag": {
        **_GITEA,
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_REF": "refs/tags/hello-1.4.0",
        "GITHUB_REF_NAME": "hello-1.4.0",
        "GITHUB_REF_TYPE": "tag",
    },
}

_PULL_REQUEST: dict[str, Any] = {
    "action": "synchronize",
    "number": 7,
    "pull_request": {
        "number": 7,
        "title": "Serve the page over TLS",
        "head": {"ref": "main", "sha": HEAD, "repo": {"full_name": "somebody/charts"}},
        "base": {"ref": "main", "sha": BASE, "repo": {"full_name": "team/charts"}},
    },
}
EVENTS: dict[str, dict[str, Any]] = {
    "github, pull request": _PULL_REQUEST,
    "gitea, pull request": _PULL_REQUEST,
    "github, merge queue": {
        "action": "checks_requested",
        "merge_group": {
            "head_sha": REVISION,
            "head_ref": f"refs/heads/gh-readonly-queue/release/1/pr-7-{BASE}",
            "base_sha": BASE,
            "base_ref": "refs/heads/release/1",
        },
    },
    "github, report of another workflow": {
        "action": "completed",
        "workflow_run": {
            "event": "pull_request",
            "head_sha": HEAD,
            "head_branch": "main",
            "id": 900000000,
            "pull_requests": [],
        },
    },
}


def environment(name: str, folder: Path) -> dict[str, str]:
    """The environment of that name, its event file written into `folder`."""
    event = folder / "event.json"
    event.write_text(json.dumps(EVENTS.get(name, {})))
    return {key: value.replace("{event}", str(event)) for key, value in ENVIRONMENTS[name].items()}
