"""Build information from GitHub Actions' variables and event file.

Source: GitHub documentation, "Variables reference".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_steps.ci.build import Build
from pipeline_steps.toolbox.errors import MachineError


def build(environ: Mapping[str, str]) -> Build:
    """The build of a GitHub workflow run; all attempts of a run are the same build."""
    get = environ.get
    server, repository, run = (
        get("GITHUB_SERVER_URL"),
        get("GITHUB_REPOSITORY"),
        get("GITHUB_RUN_ID"),
    )
    build = Build(
        "github_actions",
        url=f"{server}/{repository}/actions/runs/{run}" if server and repository and run else None,
        id=run,
        revision=get("GITHUB_SHA"),
    )
    if get("GITHUB_EVENT_NAME", "").startswith("pull_request"):
        pull_request = _event(get("GITHUB_EVENT_PATH")).get("pull_request") or {}
        ref = re.fullmatch(r"refs/pull/(\d+)/.*", get("GITHUB_REF", ""))
        number = str(pull_request["number"]) if "number" in pull_request else ref and ref[1]
        # GITHUB_SHA is a merge made for testing: the verdict belongs to the head
        head = (pull_request.get("head") or {}).get("sha")
        return build._replace(review=number, target=get("GITHUB_BASE_REF"), head=head)
    if get("GITHUB_REF_TYPE") == "tag":
        return build._replace(tag=get("GITHUB_REF_NAME"))
    return build._replace(branch=get("GITHUB_REF_NAME"))


def _event(path: str | None) -> dict[str, Any]:
    if not path:
        return {}
    try:
        event = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise MachineError(f"cannot read the event of this run: {error}", where=path) from error
    return event if isinstance(event, dict) else {}
