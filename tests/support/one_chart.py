"""A checkout with one chart that needs neither image nor cluster, and the command line on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.gits import Repo
from tests.support.helms import helm

CHART = "apiVersion: v2\nname: common\nversion: 1.0.0\n"
MAP = (
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\ndata: {greeting: '
    "hello}\n"
)


class OneChart:
    """pipeline: the text of pipeline.yaml; more: variables that its commands see."""

    def __init__(self, folder: Path, pipeline: str, more: Mapping[str, str]) -> None:
        self.folder = folder
        self.repo = Repo(folder / "source", folder / "gitconfig")
        self.repo.put("pipeline.yaml", pipeline)
        self.repo.put("charts/common/Chart.yaml", CHART)
        self.repo.put("charts/common/templates/map.yaml", MAP)
        self.repo.commit()
        path = f"{helm(4).parent}:{os.environ['PATH']}"
        self.environment = {
            "PATH": path,
            "HOME": str(folder),
            "GIT_CONFIG_GLOBAL": str(self.repo.config),
            **more,
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline_steps", *words]
        return subprocess.run(
            command, cwd=self.repo.root, env=self.environment, capture_output=True, text=True
        )

    def ok(self, *words: str) -> subprocess.CompletedProcess[str]:
        completed = self.run(*words)
        assert completed.returncode == 0, completed.stderr
        return completed

    def output(self, step: str) -> str:
        """The chart that the newest record of a step names."""
        lines = (self.repo.root / ".pipeline/state.jsonl").read_text().splitlines()
        outputs = [
            record["outputs"]["chart"]
            for record in map(json.loads, lines)
            if record["step"] == step
        ]
        return str(outputs[-1])
