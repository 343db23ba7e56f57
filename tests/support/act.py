"""Run workflow files of GitHub and Gitea on this machine: act in host mode, byte for byte.

    run = run_workflow(
        ROOT / "examples/github-pull-request.yml",
        checkout,
        tmp_path / "act",
        event="pull_request",
        payload=event,
        secrets={"REVIEW_PASSWORD": password},
        variables={"REVIEW_USER": "reviews"},
        environment={"GITHUB_SERVER_URL": gitea_url, "GITHUB_API_URL": f"{gitea_url}/api/v1"},
        actions={"example/pipeline-steps@0.1": ROOT},
    )
    assert run.code == 0, run.log

Jobs run in a copy of the checkout, which act makes where the workflow says `actions/checkout`: check out what GitHub
would. What cannot be fetched here is given by act's own flag: `actions` names a folder for each `uses:`;
`stand_ins` makes them for GitHub's artifact actions, which copy to and from a folder. act starts no container here
and knows no environments: it gives a job whatever secrets the caller gives.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tools.programs import programs

ROOT = Path(__file__).resolve().parents[2]
_UPLOAD = """\
name: upload
description: a stand-in for actions/upload-artifact, into a folder
inputs:
  name: {{required: true}}
  path: {{required: true}}
  include-hidden-files: {{default: "false"}}
runs:
  using: composite
  steps:
    - shell: sh
      run: mkdir -p "{folder}/$NAME" && cp -R "$FROM/." "{folder}/$NAME/"
      env:
        NAME: ${{{{ inputs.name }}}}
        FROM: ${{{{ inputs.path }}}}
"""
_DOWNLOAD = """\
name: download
description: a stand-in for actions/download-artifact, from a folder
inputs:
  name: {{required: true}}
  path: {{required: true}}
  run-id: {{required: false}}
  github-token: {{required: false}}
runs:
  using: composite
  steps:
    - shell: sh
      run: mkdir -p "$TO" && cp -R "{folder}/$NAME/." "$TO/"
      env:
        NAME: ${{{{ inputs.name }}}}
        TO: ${{{{ inputs.path }}}}
"""
_ON_PATH = """\
name: pipeline-steps
description: puts a folder of programs on PATH
runs:
  using: composite
  steps:
    - shell: sh
      run: echo "{folder}" >> "$GITHUB_PATH"
"""


class WorkflowRun(NamedTuple):
    """code: 0 when every job passed. log: what act printed."""

    code: int
    log: str


def lint(*files: Path) -> str:
    """What actionlint says about workflow files; "" for nothing."""
    program = programs.get("actionlint") / "actionlint"
    completed = subprocess.run(
        [str(program), "-no-color", *map(str, files)], capture_output=True, text=True
    )
    return completed.stdout + completed.stderr


def stand_ins(folder: Path, artifacts: Path) -> dict[str, Path]:
    """`uses:` → a folder with an action, for the artifact actions of GitHub, as the examples pin them."""
    texts = {"upload-artifact": _UPLOAD, "download-artifact": _DOWNLOAD}
    for name, text in texts.items():
        _write_action(folder / name, text.format(folder=artifacts))
    used = "".join(file.read_text() for file in (ROOT / "examples").glob("github-*.yml"))
    pinned = re.findall(rf"uses: (actions/({'|'.join(texts)})@\S+)", used)
    return {action: folder / name for action, name in pinned}


def on_path(folder: Path, programs_folder: Path) -> Path:
    """An action, written to `folder`, that puts a folder of programs on PATH."""
    _write_action(folder, _ON_PATH.format(folder=programs_folder))
    return folder


def _write_action(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "action.yml").write_text(text)


def run_workflow(
    workflow: Path,
    checkout: Path,
    folder: Path,
    *,
    event: str,
    payload: Mapping[str, Any],
    actions: Mapping[str, Path],
    secrets: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> WorkflowRun:
    """Run the jobs of a workflow for an event, in `checkout`; `folder` gets what act keeps.

    Args:
        payload: the event's file, as the forge sends it.
        actions: `uses:` of the workflow → a folder that has it.
        environment: variables of the jobs, those that act would guess among them (GITHUB_SHA,
            GITHUB_REF, GITHUB_REPOSITORY, GITHUB_RUN_ID …).
    """
    folder.mkdir(parents=True, exist_ok=True)
    event_file = folder / "event.json"
    event_file.write_text(json.dumps(payload))
    files = {
        "--secret-file": secrets or {},
        "--var-file": variables or {},
        "--env-file": environment or {},
        "--input-file": inputs or {},
    }
    options = []
    for option, values in files.items():
        file = folder / option.removeprefix("--")
        # dotenv: in double quotes, line ends as \\n and no $ expanded
        file.write_text("".join(f"{name}={_quoted(value)}\n" for name, value in values.items()))
        options += [option, str(file)]
    for name, place in actions.items():
        options += ["--local-repository", f"{name}={place}"]
    command = [
        str(programs.get("act") / "act"), event, "--workflows", str(workflow),
        "--directory", str(checkout), "--eventpath", str(event_file), "--no-cache-server",
        "--platform", "ubuntu-latest=-self-hosted", "--action-cache-path", str(folder / "cache"),
        *options,
    ]  # fmt: skip
    variables_of_act = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "LC_ALL": "C.UTF-8",
    }
    completed = subprocess.run(
        command, cwd=folder, env=variables_of_act, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        timeout=timeout,
    )  # fmt: skip
    return WorkflowRun(completed.returncode, completed.stdout)


def _quoted(value: str) -> str:
    if "'" not in value and "\n" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + escaped.replace("$", "\\$") + '"'
