"""The same chart in every source system: each step and command works there without being told
which, and leaves the same behind. Real systems; of engine, registry and cluster what one test needs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from pipeline_steps.toolbox import files
from tests.support import bazaars, busybox, docs, gits, machine, svns
from tests.support.checkouts import Checkout, System
from tests.support.helms import chart_files, helm
from tests.support.registries import Running
from tests.support.release_line import CHART, MAP, PIPELINE
from tests.support.source_systems import SYSTEMS

STEPS = ("check", "build_image", "snapshot", "integration_test", "tag_release", "promote")
#: What differs from one run to the next in the same source, too.
OF_THE_RUN = {"id", "key", "uses", "supersedes", "started", "finished", "run", "actor", "tools"}
#: System → the program that doctor asks for.
PROGRAMS = {"git": "git", "bzr": "brz", "svn": "svn"}
#: A chart with an image, for real: `{{reference}}` is filled in by the steps.
WITH_IMAGE = """\
charts:
  - path: charts/*
    images: {{app: {{image: "{{reference}}"}}}}
images: {{app: {{context: app}}}}
channels:
  snapshot: {{charts: "file://${{HOME}}/snapshots", images: "{host}/snapshots"}}
  production: {{charts: "file://${{HOME}}/charts", images: "{host}/production"}}
clusters: {{here: {{kubeconfig: "{node.kubeconfig}", context: "{node.context}"}}}}
"""
#: The page is what the build put into the image, from a file with a name that is not ASCII.
DOCKERFILE = """\
FROM {host}/web:k-1
COPY . /app
RUN ["/bin/busybox", "sh", "-c", "/app/make > /page"]
"""
ASKS = "test $(busybox cat /page) = made-by-hello"
OF_A_BRANCH = """\
charts:
  - path: charts/*
    tests: {none: "what changed is asked, not whether it works"}
  - path: charts/web
    images: {app: {image: "{reference}"}}
images: {app: {context: app}}
"""
PACKS_COMMON = """\
dependencies:
  - {name: common, version: 1.0.0, repository: "file://../common"}
"""
TAGGED = re.compile(r'("tag": "common-1\.0\.0@)[^"]+')
DIGEST = re.compile("sha256:[0-9a-f]{64}")
COUNT = re.compile(r"(-0\.)[0-9]+(\.t)")
NAMESPACE = re.compile(r"(/ps-common-)[0-9a-f]+")


class Released(NamedTuple):
    """archives: name → bytes of what is in production. records: as they are the same everywhere."""

    archives: Mapping[str, bytes]
    records: list[dict[str, Any]]


class Line:
    """A checkout of a system with one chart, and the command line on it. The channels of all lines
    have the same URLs below HOME.
    """

    def __init__(
        self,
        system: System,
        folder: Path,
        pipeline: str = PIPELINE.format(base="file://${HOME}", more=""),
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """more: path → text of further files of the chart and beside it."""
        self.folder = files.folder(folder)
        self.environment = dict(system.environment(folder))
        self.checkout: Checkout = system.checkout(folder)
        for place in ("snapshots", "charts", "again"):
            (folder / place).mkdir()
        self.checkout.ignore(".pipeline")
        self.checkout.put("pipeline.yaml", pipeline)
        self.checkout.put("charts/common/Chart.yaml", CHART.format(version="1.0.0"))
        self.checkout.put("charts/common/templates/map.yaml", MAP)
        self.checkout.put("charts/common/files/run ☺", "#!/bin/sh\n", executable=True)
        self.checkout.put("charts/common/files/crlf", b"one\r\ntwo\n$Id$\n")
        self.checkout.link("charts/common/files/link", "crlf")
        for path, text in more.items():
            self.checkout.put(path, text, executable=text.startswith("#!"))
        if isinstance(self.checkout, svns.WorkingCopy):
            self.checkout.svn("add", "-q", "charts")
            self.checkout.svn("propset", "-q", "svn:keywords", "Id", "charts/common/files/crlf")
        self.checkout.commit()

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{helm(4).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            **self.environment,
        }
        completed = subprocess.run(
            [sys.executable, "-m", "pipeline_steps", *words],
            cwd=self.checkout.root,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert completed.returncode == code, (words, completed.returncode, completed.stderr)
        return completed

    def release(self) -> None:
        for step in STEPS:
            self.step(step)

    def step(self, name: str) -> str:
        is_local = name == "tag_release" and not self.checkout.tags_on_server
        return self.run(name, *(["--local"] if is_local else []), "--chart", "common").stderr

    @property
    def released(self) -> Released:
        places = (self.folder / "charts").glob("*.tgz")
        archives = {place.name: place.read_bytes() for place in places}
        lines = (self.checkout.root / ".pipeline/state.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        # A revision more, as a tag of Bazaar brings it, has a selection of its own.
        kept = [record for record in records if record["step"] != "selection"]
        return Released(archives, [self._everywhere(record, records) for record in kept])

    def _everywhere(self, record: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
        kept = {name: value for name, value in record.items() if name not in OF_THE_RUN}
        # JUnit files are named after the record, and tell how long it took.
        kept["evidence"] = len(record.get("evidence") or ())
        if record["step"] == "tag_release":  # Subversion's tags are the server's
            kept["parameters"] = {**record["parameters"], "local": None}
        text = json.dumps(kept, sort_keys=True).replace(str(self.folder), "FOLDER")
        text = COUNT.sub(r"\1COUNT\2", text.replace(record["revision"] or "NONE", "REVISION"))
        text = NAMESPACE.sub(r"\1CHANCE", text)
        # The count is in the version, and so in the archive of the snapshot.
        for snapshot in records:
            if snapshot["step"] == "snapshot" and snapshot["outputs"]:
                for digest in DIGEST.findall(json.dumps(snapshot["outputs"])):
                    text = text.replace(digest, "SNAPSHOT")
        # A tag of Bazaar names a revision of its own, with the same files.
        value: dict[str, Any] = json.loads(TAGGED.sub(r"\1REVISION", text))
        return value


def line_with_image(name: str, folder: Path, host: str, node: machine.Node) -> Line:
    """The checkout of a system whose chart has an image that is built, and a test that asks it."""
    chart = chart_files("common", "1.0.0", image="filled in", test=ASKS)
    more = {f"charts/common/{path}": text for path, text in chart.items()}
    more["app/Dockerfile"] = DOCKERFILE.format(host=host)
    more["app/make"] = "#!/bin/busybox sh\nprintf made-by-; exec /bin/busybox cat '/app/who ☺'\n"
    more["app/who ☺"] = "hello"
    return Line(SYSTEMS[name], folder, WITH_IMAGE.format(host=host, node=node), more)


def test_the_same_chart_has_the_same_content_release_and_records_in_every_system(
    tmp_path: Path,
    registry: Running,
    docker_engine: machine.Engine,
) -> None:
    released: dict[str, Released] = {}
    with machine.kubernetes_node(registry.host) as node:
        for name in SYSTEMS:
            # Nothing is left of what another system's line has pushed.
            shutil.rmtree(registry.folder / "data", ignore_errors=True)
            busybox.push(registry.host)
            line = line_with_image(name, tmp_path / name, registry.host, node)
            line.environment.update(docker_engine.environment)
            line.release()
            released[name] = line.released
    expected = released["git"]
    assert set(expected.archives) == {"common-1.0.0.tgz"}
    steps = [record["step"] for record in expected.records if record["result"] == "passed"]
    assert steps == list(STEPS)
    for name, each in released.items():
        assert each.archives == expected.archives, name
        for record, other in zip(each.records, expected.records, strict=True):
            assert record == other, name


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_command_works_in_every_system(name: str, tmp_path: Path) -> None:
    line = Line(SYSTEMS[name], tmp_path / name)
    assert "snapshot" in line.run("list").stdout
    assert f"{name} checkout in" in (said := line.run("doctor", "--for", "check").stdout)
    assert f"ok  source program     {PROGRAMS[name]}: " in said
    line.release()
    assert "already done" in line.step("tag_release")
    assert "already done" in line.step("promote")
    line.run("reproduce", "snapshot/common")
    line.run("reproduce", "promote/common")
    source = ["--source", str(line.checkout.root), "--charts", "charts/*"]
    target = f"file://{line.folder}/again"
    line.run("regenerate", *source, "--tags", "{name}-{version}", "--to", target)
    again = line.folder / "again" / "common-1.0.0.tgz"
    assert again.read_bytes() == line.released.archives["common-1.0.0.tgz"]
    # A change without a new version, beside a chart that nobody touched since.
    other = CHART.format(version="1.0.0").replace("common", "other")
    line.checkout.put("charts/other/Chart.yaml", other)
    base = line.checkout.commit()
    line.checkout.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.checkout.commit()
    said = line.run("check", "--since", base).stderr
    assert "charts/common/Chart.yaml:4" in said and "tag common-1.0.0" in said
    assert "other:" not in said
    line.run("bump", "--chart", "common")
    assert "version: 1.0.1" in (line.checkout.root / "charts/common/Chart.yaml").read_text()


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_local_change_is_told_and_not_released_in_every_system(name: str, tmp_path: Path) -> None:
    line = Line(SYSTEMS[name], tmp_path / name)
    line.checkout.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    for step in ("check", "snapshot", "integration_test"):
        line.run(step, "--chart", "common")
    refused = line.run("promote", "--chart", "common", code=4)
    assert "local modifications: charts/common/templates/map.yaml" in refused.stderr


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_branch_changes_the_same_charts_in_every_system(name: str, tmp_path: Path) -> None:
    """What packs a changed chart, what packs a changed image; renamed and removed charts."""
    line = Line(SYSTEMS[name], tmp_path / name, OF_A_BRANCH, {"app/Dockerfile": "FROM scratch\n"})
    main = line.checkout
    for chart in ("api", "web", "other", "removed", "renamed"):
        text = gits.chart(chart, "1.0.0")
        if chart == "api":
            text += PACKS_COMMON
        main.put(f"charts/{chart}/Chart.yaml", text)
    main.commit()
    topic = main.branch("topic")
    topic.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    topic.put("app/Dockerfile", "FROM scratch\nCOPY . /\n")
    shutil.rmtree(topic.root / "charts/removed")
    (topic.root / "charts/renamed").rename(topic.root / "charts/new-place")
    topic.commit()
    main.put("charts/common/Chart.yaml", CHART.format(version="1.0.0"))
    main.put("charts/common/values.yaml", "theirs: 1\n")
    main.commit()
    line.checkout = topic
    said = line.run("check", "--since", main.branch_name).stderr
    lines = (topic.root / ".pipeline/state.jsonl").read_text().splitlines()
    [selected] = [each for each in map(json.loads, lines) if each["step"] == "selection"]
    assert selected["parameters"]["charts"] == ["api", "common", "renamed", "web"]
    assert f"version 1.0.0 is not above 1.0.0 of {main.branch_name}" in said, said


@pytest.mark.parametrize("name", SYSTEMS)
def test_init_finds_the_charts_in_every_system(name: str, tmp_path: Path) -> None:
    line = Line(SYSTEMS[name], tmp_path / name)
    (line.checkout.root / "pipeline.yaml").unlink()
    line.run("init")
    assert 'path: "charts/*"' in (line.checkout.root / "pipeline.yaml").read_text()


def test_the_page_about_bazaar_does_what_it_says(tmp_path: Path) -> None:
    with bazaars.server(tmp_path / "server") as server:
        beginner = server.checkout(tmp_path / "beginner")
        channels = PIPELINE.format(base=f"file://{tmp_path}", more="")
        beginner.put("pipeline.yaml", channels)
        beginner.put(
            "charts/hello/Chart.yaml", CHART.format(version="1.0.0").replace("common", "hello")
        )
        beginner.put("charts/hello/templates/map.yaml", MAP)
        beginner.commit()
        beginner.push()
        for place in ("charts", "snapshots", "again"):
            (tmp_path / place).mkdir()
        lines = "\n".join(docs.scripts(docs.ROOT / "docs/how-to/bazaar.md"))
        lines = lines.replace("bzr://code.example.com/trunk", server.url)
        lines = lines.replace("file:///srv/", f"file://{tmp_path}/")
        programs = f"/usr/bin:{Path(sys.executable).parent}:{helm(4).parent}"
        environment = {
            **bazaars.environment(tmp_path),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
        }
        done = subprocess.run(
            ["sh", "-e", "-c", lines], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert re.search(r"^hello-1\.0\.0 +2$", done.stdout, re.MULTILINE), done.stdout
    archives = [
        (tmp_path / place / "hello-1.0.0.tgz").read_bytes() for place in ("charts", "again")
    ]
    assert archives[0] == archives[1]
