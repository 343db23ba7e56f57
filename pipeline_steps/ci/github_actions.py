"""Build information from the variables and event file of GitHub Actions and Gitea Actions.

Sources: GitHub documentation, "Variables reference", "Events that trigger workflows" and "Webhook
events and payloads"; Gitea 1.26, services/actions/context.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_steps.ci.build import Build
from pipeline_steps.toolbox import json_reader
from pipeline_steps.toolbox.errors import MachineError

_HEADS = "refs/heads/"


def build(environ: Mapping[str, str]) -> Build:
    """The build of a workflow run; all attempts of a run are the same build."""
    get = environ.get
    is_gitea = get("GITEA_ACTIONS") == "true"
    build = Build(
        "gitea_actions" if is_gitea else "github_actions",
        url=_url(environ, get("GITHUB_RUN_NUMBER") if is_gitea else get("GITHUB_RUN_ID")),
        id=get("GITHUB_RUN_ID"),
        revision=get("GITHUB_SHA"),
        repository=get("GITHUB_REPOSITORY"),
        api=get("GITHUB_API_URL"),
    )
    event = get("GITHUB_EVENT_NAME", "")
    if event.startswith("pull_request"):
        return _pull_request(build, environ)
    if event == "merge_group":
        return _merge_group(build, environ)
    if event == "workflow_run":
        # A second workflow, of the default branch, that tells what the first one found.
        run = _mapping(_event(get("GITHUB_EVENT_PATH")), "workflow_run")
        if str(run.get("event", "")).startswith("pull_request"):
            build = build._replace(head=run.get("head_sha"))
    if get("GITHUB_REF_TYPE") == "tag":
        return build._replace(tag=get("GITHUB_REF_NAME"))
    return build._replace(branch=get("GITHUB_REF_NAME"))


def _url(environ: Mapping[str, str], run: str | None) -> str | None:
    """The page of a run: GitHub's go by the run's id, Gitea's by its number in the repository."""
    server, repository = environ.get("GITHUB_SERVER_URL"), environ.get("GITHUB_REPOSITORY")
    if not server or not repository or not run:
        return None
    return f"{server.rstrip('/')}/{repository}/actions/runs/{run}"


def _pull_request(build: Build, environ: Mapping[str, str]) -> Build:
    """GITHUB_SHA is a merge made for testing, in Gitea the head itself."""
    get = environ.get
    pull_request = _mapping(_event(get("GITHUB_EVENT_PATH")), "pull_request")
    ref = re.fullmatch(r"refs/pull/(\d+)/.*", get("GITHUB_REF", ""))
    return build._replace(
        review=str(pull_request["number"]) if "number" in pull_request else ref and ref[1],
        # A run for a review (pull_request_review) has no GITHUB_BASE_REF.
        target=get("GITHUB_BASE_REF") or _mapping(pull_request, "base").get("ref"),
        head=_mapping(pull_request, "head").get("sha"),
        base=_mapping(pull_request, "base").get("sha"),
    )


def _merge_group(build: Build, environ: Mapping[str, str]) -> Build:
    """A merge queue waits for the verdict on the commit that it made, which is what is tested.

    The commit has the pull requests in front of this one, too: nothing of it is in the target yet.
    """
    group = _mapping(_event(environ.get("GITHUB_EVENT_PATH")), "merge_group")
    # Only GitHub writes to these branches.
    ref = environ.get("GITHUB_REF", "")
    name = re.fullmatch(r"refs/heads/gh-readonly-queue/(.+)/pr-(\d+)-[0-9a-f]+", ref)
    target = str(group.get("base_ref") or "").removeprefix(_HEADS) or (name and name[1])
    return build._replace(
        review=name[2] if name else None,
        target=target or None,
        head=group.get("head_sha") or build.revision,
        base=group.get("base_sha"),
        queued=True,
    )


def _mapping(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _event(path: str | None) -> dict[str, Any]:
    if not path:
        return {}
    try:
        event = json_reader.decode(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise MachineError(
            f"this account cannot read the event of this run: {error}",
            where=path,
            advice="run it again; in a container, mount the file that GITHUB_EVENT_PATH names",
        ) from error
    return event if isinstance(event, dict) else {}
