"""A checkout with one chart, channels in folders, and the command line on it: releases without
engine or cluster.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.source_systems import SYSTEMS

PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "a library, tested through its dependents"}}
channels:
  snapshot: {{charts: "{base}/snapshots"}}
  production: {{charts: "{base}/charts"{more}}}
"""
CHART = "apiVersion: v2\nname: common\ntype: application\nversion: {version}\n"
MAP = (
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\ndata: {greeting: '
    "hello}\n"
)


class Line:
    """A checkout with one chart, and the command line on it.

    base: URL below which the channels keep charts; of the folder where none is given. host: of a
    registry, where a test has one. system: of the source; `repo` has more methods than
    `checkouts.Checkout` has where it is git.
    """

    host = ""
    chart = "common"

    def __init__(self, folder: Path, base: str = "", system: str = "git") -> None:
        self.folder = folder
        self.base = base or f"file://{folder}"
        self.system = system
        self.repo: Any
        if system == "git":
            self.repo = Repo(folder / "source", folder / "gitconfig")
        else:
            self.repo = SYSTEMS[system].checkout(folder)
            self.repo.ignore(".pipeline")
        for place in ("snapshots", "charts"):
            (folder / place).mkdir()
        self.configure()
        self.repo.put("charts/common/Chart.yaml", CHART.format(version="1.0.0"))
        self.repo.put("charts/common/templates/map.yaml", MAP)
        self.repo.commit()

    def clone(self, name: str) -> Line:
        """Another checkout of the same source, with the same channels."""
        other = copy.copy(self)
        other.repo = Repo(self.folder / name, self.repo.config, clone=str(self.repo.root))
        return other

    def configure(self, more: str = "") -> None:
        self.repo.put("pipeline.yaml", PIPELINE.format(base=self.base, more=more))

    def environment(self, **variables: str) -> dict[str, str]:
        return {
            "PATH": f"{helm(4).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            **SYSTEMS[self.system].environment(self.folder),
            **variables,
        }

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline_steps", *words]
        environment = self.environment(**variables)
        return subprocess.run(
            command, cwd=self.repo.root, env=environment, capture_output=True, text=True
        )

    def ok(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        completed = self.run(*words, **variables)
        assert completed.returncode == 0, completed.stderr
        return completed

    def tested(self) -> None:
        for step in ("check", "snapshot", "integration_test"):
            self.ok(step, "--chart", "common")

    def records(self, step: str) -> list[dict[str, Any]]:
        lines = (self.repo.root / ".pipeline/state.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["step"] == step]

    def refused(self, code: int, message: str, *words: str) -> None:
        before = sorted((self.folder / "charts").iterdir()), self.repo.git("tag")
        completed = self.run(*words)
        assert completed.returncode == code, (completed.returncode, completed.stderr)
        assert message in completed.stderr
        assert (sorted((self.folder / "charts").iterdir()), self.repo.git("tag")) == before, (
            "something was written"
        )
