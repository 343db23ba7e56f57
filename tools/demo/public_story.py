"""The story that `make demo-public` tells: workflow B with real Bazaar branches and a double of
Launchpad.

    python -m tools.demo.public_story FOLDER
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

# What a test proves, the demo shows: the same project and people.
from tests.support.lp_projects import BazaarProject, LpProject
from tools.machine import say

CHART = "apiVersion: v2\nname: {name}\ndescription: says hello\nversion: {version}\n"
MAP = (
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: "{{{{ .Release.Name }}}}"}}\n'
    "data: {{word: {word}}}\n"
)
FAILED = 8


def chart(name: str, version: str, word: str) -> dict[str, str | None]:
    """The files of a chart, by path."""
    return {
        f"charts/{name}/Chart.yaml": CHART.format(name=name, version=version),
        f"charts/{name}/templates/map.yaml": MAP.format(word=word),
    }


def configuration(project: LpProject, folder: Path) -> str:
    """pipeline.yaml of the maintainer's checkout."""
    settings = {key: url for key, url in project.settings("boss").items() if "url" in key}
    return yaml.safe_dump(
        {
            "charts": [{"path": "charts/*", "tests": {"none": "a ConfigMap, rendered only"}}],
            "channels": {
                "snapshot": {"charts": f"file://{folder}/snapshots"},
                "production": {"charts": f"file://{folder}/published"},
            },
            "evidence": f"file://{folder}/evidence",
            "check": {"version": "required"},
            "review": {"launchpad": settings},
            "approvals": {"code": {"by": "group:owners"}},
        },
        sort_keys=False,
    )


def tell(folder: Path) -> int:
    """Tell it; 0, or FAILED when a command did not end as it should."""
    with BazaarProject(folder / "launchpad") as project:
        files = {**chart("web", "1.0.0", "hello"), **chart("api", "2.0.0", "hello")}
        project.commit("trunk", {"pipeline.yaml": configuration(project, folder), **files})
        trunk = project.check_out(folder / "trunk")
        branch = project.next_branch()
        project.commit(branch, chart("web", "1.1.0", "good day"), "Greet politely")
        proposal = project.propose(branch, message="Greet politely")
        proposed = project.identity(branch)
        say(f"\nDeveloper: pushes {proposed} with web 1.1.0, and proposes it for merging")
        lines: tuple[tuple[str, int], ...] = (
            (f"pipeline-steps run public --proposal {proposed} --channels configured", 0),
            (f"pipeline-steps merge --review {proposed}", 6),
        )
        if not typed(lines, project, trunk):
            return FAILED
        say("\nMaintainer, on the page of the proposal: Approved, at this revision")
        project.approve(proposal)
        lines = (
            (f"pipeline-steps merge --review {proposed}", 0),
            (
                "PATH=/usr/bin:$PATH brz pull -q && pipeline-steps run public --channels configured",
                0,
            ),
            ("pipeline-steps tag_release --global 2026.11", 0),
            ("pipeline-steps regenerate --tags '20*'", 0),
            ("pipeline-steps regenerate --tags '20*'", 0),
            (f"helm template hello {folder}/published/web-1.1.0.tgz", 0),
        )
        return 0 if typed(lines, project, trunk) else FAILED


def typed(lines: tuple[tuple[str, int], ...], project: LpProject, trunk: Path) -> bool:
    """Run lines of shell as the maintainer; whether each ended with its exit code."""
    token = project.settings("boss")["token_file"]
    variables = {"LP_CREDENTIALS_FILE": token, **project.environment()}
    for line, code in lines:
        say(f"\nMaintainer: {line}")
        ran = subprocess.run(["sh", "-c", line], cwd=trunk, env={**os.environ, **variables})
        if ran.returncode != code:
            say(f"demo: it ended with {ran.returncode}, not with {code}")
            return False
        if code:
            say(f"  refused, as it has to be (exit code {code})")
    return True


if __name__ == "__main__":
    sys.exit(tell(Path(sys.argv[1])))
