"""GitHub Actions. Source: GitHub's "Variables reference" (contracts.md §2.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline_steps.ci.build import Build


def build(environ: Mapping[str, str]) -> Build | None:
    """The build, or None outside Actions. On pull_request GITHUB_SHA is a merge commit nobody reviewed."""
    if environ.get("GITHUB_ACTIONS") != "true":
        return None
    run = environ.get("GITHUB_RUN_ID", "")
    repository = environ.get("GITHUB_REPOSITORY", "")
    kind, name = environ.get("GITHUB_REF_TYPE"), environ.get("GITHUB_REF_NAME")
    review, head = _pull_request(environ)
    return Build(
        "github_actions",
        url=f"{environ.get('GITHUB_SERVER_URL', '')}/{repository}/actions/runs/{run}",
        id=f"github-{repository}-{run}",
        tag=name if kind == "tag" else None,
        branch=name if kind == "branch" and not review else None,
        review=review,
        target=environ.get("GITHUB_BASE_REF") or None,
        revision=head or environ.get("GITHUB_SHA"),
    )


def _pull_request(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    path = environ.get("GITHUB_EVENT_PATH")
    if not environ.get("GITHUB_EVENT_NAME", "").startswith("pull_request") or not path:
        return None, None
    event = json.loads(Path(path).read_bytes())
    pull = event["pull_request"]
    return str(pull["number"]), str(pull["head"]["sha"])
