"""Every command on a page of the docs runs, and ends as the page says.

Here: on real git, helm and registry, with charts that need neither engine nor cluster. What names a
server of nobody (registry.example.com) gets a real one on this machine. test_demo.py runs what
needs an engine and a cluster. What no test can run is listed with the reason.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import docs
from tests.support.chartmuseum import chartmuseum
from tests.support.gits import Repo, bare
from tests.support.helms import helm
from tests.support.registries import registry

PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "rendered only"}}
channels:
  snapshot: {{charts: "oci://{host}/snapshots"}}
  production: {{charts: ["oci://{host}/charts", "{folder}/srv/charts", "chartmuseum+http://{museum}"]}}
evidence: oci://{host}/ci/evidence
"""
CHART = "apiVersion: v2\nname: {name}\ndescription: says hello\nversion: {version}\n"
MAP = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\ndata: {greeting: hello}\n'
#: A stand-in for a foreign program that a page uses as an example: it writes its report.
SCANNER = """#!/bin/sh
while [ $# -gt 1 ]; do case $1 in -o|--output) : > "$2";; esac; shift; done
"""


#: Begin of a line → what its page says that it prints.
SAID = {
    "pipeline-steps audit --report html": "audit: passed",
    "pipeline-steps audit --report": "hello",
    "pipeline-steps audit --uses": "none",
    "pipeline-steps audit oci://registry.example.com/charts --chart hello --report": "passed",
    "pipeline-steps audit": "nothing is wrong",
    "pipeline-steps init --plan": "^charts:",
    "pipeline-steps check --fix": "web: ",
    "pipeline-steps promote --plan": "hello|already done: every chart is released",
    "pipeline-steps record": "scan: passed",
    "pipeline-steps regenerate": r"\d+ published",
    "pipeline-steps report": r"report\.html",
    "pipeline-steps reproduce": "^equal: tar sha256:",
    "pipeline-steps snapshot --chart hello --diff": "compared with hello",
    "pipeline-steps state get": r"^oci://\S+/snapshots/hello:1\.4\.0-0\.2\.t[0-9a-f]{12}@sha256:[0-9a-f]{64}$",
    "pipeline-steps state html": r"(\.html|FILE)$",
    "pipeline-steps state show": "tag_release +hello",
    "pipeline-steps verify": "^holds",
    "python -m pipeline_steps.snapshot": "web: passed oci://",
}


#: Lines of steps that are about what is not tested yet: they get a change.
CHANGED = re.compile(
    r"(pipeline-steps |python -m pipeline_steps\.)(check|build_image|snapshot|report)"
)


class World(NamedTuple):
    """A checkout with two released charts and a version more. names: what pages write → what it is
    here.
    """

    checkout: Path
    environment: dict[str, str]
    names: dict[str, str]

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line of shell, with the names of this machine in it."""
        for written, real in self.names.items():
            line = line.replace(written, real)
        return subprocess.run(
            ["sh", "-c", line],
            cwd=self.checkout, env=self.environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip

    def ok(self, line: str) -> str:
        done = self.run(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def record(self, step: str) -> dict[str, str]:
        """Outputs, id and content of the newest record of a step of hello."""
        lines = (self.checkout / ".pipeline/state.jsonl").read_text().splitlines()
        about = (step, "hello")
        found = [r for r in map(json.loads, lines) if (r["step"], r["subject"]) == about]
        return {**found[-1]["outputs"], "id": found[-1]["id"], "content": found[-1]["content"]}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("docs")
    web = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder / "web"))
    )
    threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
    with registry(folder / "registry") as running, chartmuseum() as museum:
        yield released(folder, running.host, f"http://127.0.0.1:{web.server_port}", museum.host)
    web.shutdown()
    web.server_close()


def released(folder: Path, host: str, web: str, museum: str) -> World:
    """Charts hello 1.2.3 and web 1.0.0 in production, hello 1.4.0 tested and tagged."""
    (folder / "srv/charts").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin/trivy").write_text(SCANNER)
    (folder / "bin/trivy").chmod(0o755)
    origin = bare(folder / "origin.git")
    repo = Repo(folder / "hello", folder / "gitconfig")
    repo.git("remote", "add", "origin", str(origin))
    repo.put("pipeline.yaml", PIPELINE.format(host=host, folder=folder.as_uri(), museum=museum))
    for name, version in (("hello", "1.2.3"), ("web", "1.0.0")):
        repo.put(f"charts/{name}/Chart.yaml", CHART.format(name=name, version=version))
        repo.put(f"charts/{name}/templates/map.yaml", MAP)
    repo.commit("Add charts")
    programs = f"{folder / 'bin'}:{Path(sys.executable).parent}:{helm(4).parent}"
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(folder),
        "GIT_CONFIG_GLOBAL": str(repo.config),
    }
    world = World(repo.root, environment, {})
    chain = "pipeline-steps check && pipeline-steps build_image && pipeline-steps snapshot"
    repo.git("push", "-q", "origin", "main", "main:topic", "main:refs/tags/v1")
    world.ok(f"{chain} && pipeline-steps integration_test && pipeline-steps tag_release")
    world.ok("pipeline-steps promote && pipeline-steps report")
    shutil.copytree(folder / "srv/charts", folder / "web/charts")
    repo.put("charts/hello/Chart.yaml", CHART.format(name="hello", version="1.4.0"))
    repo.put("charts/hello/templates/map.yaml", MAP.replace("hello", "good morning"))
    repo.commit("Say good morning")
    repo.git("push", "-q", "origin", "main")
    world.ok(f"{chain} && pipeline-steps integration_test && pipeline-steps tag_release")
    shutil.copytree(repo.root / ".pipeline", folder / "web/job/hello/7/artifact/.pipeline")
    shutil.copytree(repo.root / ".pipeline", repo.root / "downloads/.pipeline")
    for agent in ("agent-1", "agent-2"):
        shutil.copytree(repo.root / ".pipeline", repo.root / agent)
    new = Repo(repo.root / "my-repository", repo.config)
    new.put("charts/hello/Chart.yaml", CHART.format(name="hello", version="0.1.0"))
    new.commit("Add a chart")
    snapshot = world.record("snapshot")
    production = world.record("promote")["chart"].partition("@")[2]
    names = {
        "oci://registry.example.com": f"oci://{host}",
        "file:///srv/charts": (folder / "srv/charts").as_uri(),
        "chartmuseum+https://charts.example.com": f"chartmuseum+http://{museum}",
        "https://charts.example.com": f"{web}/charts",
        "https://git.example.com/team/charts.git": origin.as_uri(),
        "https://ci.example.com": web,
        "2f811e24f293": snapshot["id"].removeprefix("sha256:")[:12],
        "sha256:7d0e…": production,
        "sha256:4b6f…": snapshot["content"],
        "sha256:9b2f6c1d0f5a4e7c8b3d2a1908f7e6d5c4b3a29180706f5e4d3c2b1a09f8e7d6": snapshot[
            "content"
        ],
    }
    return World(repo.root, environment, names)


#: Each line once, whatever pages it is on.
RUN_HERE = sorted(
    {
        line
        for page, name in zip(docs.PAGES, docs.IDS, strict=True)
        if name not in docs.RUN_WHOLE
        for line in docs.scripts(page)
    }
    - {*docs.WITH_A_CLUSTER, *docs.ELSEWHERE, *docs.NOT_RUN}
)


@pytest.mark.parametrize("line", RUN_HERE)
def test_a_command_of_the_docs_ends_as_its_page_says(
    line: str, world: World, tmp_path: Path
) -> None:
    shutil.copytree(world.checkout, tmp_path / "hello", symlinks=True)
    here = world._replace(checkout=tmp_path / "hello")
    if CHANGED.match(line) and "--chart" not in line:
        (here.checkout / "charts/web/values.yaml").write_text(f"test: {tmp_path.name}\n")
        here.ok("git add charts && git commit -qm change")
    if line.startswith("pipeline-steps init"):  # before there is a pipeline.yaml
        here = world._replace(checkout=tmp_path / "hello/my-repository")
    for variant in variants(line):
        done = here.run(variant)
        said = f"{variant}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, said
        pattern = next((text for start, text in SAID.items() if line.startswith(start)), "")
        assert re.search(pattern, said, re.MULTILINE), said
    for name in re.findall(r"(?:> |--output )([\w./]+)$", line):
        assert (here.checkout / name).exists(), name


def variants(line: str) -> list[str]:
    """The line, and where it has an option in brackets, the line without and with it."""
    plain = line.replace(" …", "")
    optional = re.search(r" \[(.*?)\]", plain)
    if not optional:
        return [plain]
    return [plain.replace(optional[0], ""), plain.replace(optional[0], f" {optional[1]}")]


def test_every_command_of_the_docs_is_run_or_says_why_not() -> None:
    """A line that is on no page any more leaves the tables, and what they name exists."""
    written = {line for page in docs.PAGES for line in docs.scripts(page)}
    listed = {*docs.WITH_A_CLUSTER, *docs.ELSEWHERE, *docs.NOT_RUN}
    assert listed - written == set()
    for test in (*docs.ELSEWHERE.values(), *docs.RUN_WHOLE.values()):
        file, _, name = test.partition("::")
        assert f"def {name}(" in (docs.ROOT / file).read_text(), test
