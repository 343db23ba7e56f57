"""The day of somebody whose charts are in Subversion: the how-to, on svnserve with a password."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import docs, svns
from tests.support.helms import helm
from tests.support.source_systems import SYSTEMS

PAGE = docs.ROOT / "docs/how-to/subversion.md"
PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "rendered only"}}
channels:
  snapshot: {{charts: "file://{folder}/snapshots"}}
  production: {{charts: ["file://{folder}/charts"]}}
hosts:
  {host}: {{username: "${{SVN_USER}}", password: "file:{folder}/secret"}}
"""
CHART = "apiVersion: v2\nname: hello\nversion: 1.0.0\n"
MAP = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\n'
LOGIN = ("bot", "correct horse battery")


def test_the_how_to_does_what_it_says(tmp_path: Path) -> None:
    with svns.server(tmp_path / "server", LOGIN) as server:
        host = server.url.split("/")[2]
        source = tmp_path / "source"
        for path, text in {
            "pipeline.yaml": PIPELINE.format(folder=tmp_path, host=host),
            "charts/hello/Chart.yaml": CHART,
            "charts/hello/templates/map.yaml": MAP,
        }.items():
            place = source / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        for name in ("snapshots", "charts", "again"):
            (tmp_path / name).mkdir()
        (tmp_path / "secret").write_text(f"{LOGIN[1]}\n")
        trunk = f"{server.repository.as_uri()}/trunk"
        svns.svn("import", "-q", "-m", "charts", str(source), trunk)
        login = f"--username {LOGIN[0]} --password '{LOGIN[1]}' --no-auth-cache --non-interactive"
        environment = {
            "PATH": f"{helm(4).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "SVN_USER": LOGIN[0],
            "LC_ALL": "C.UTF-8",
        }
        names = {
            "svn checkout": f"svn checkout {login}",
            "svn list": f"svn list {login}",
            "svn://svn.example.com/charts": server.url,
            "file:///srv/charts": f"file://{tmp_path}/again",
        }
        folder = tmp_path
        said = {}
        for line in docs.scripts(PAGE):
            real = line
            for written, replaced in names.items():
                real = real.replace(written, replaced)
            if line == "cd charts":
                folder = tmp_path / "work"
                continue
            if line.startswith("svn checkout"):
                real = real.replace(" charts", " work") if real.endswith(" charts") else real
            done = subprocess.run(
                ["sh", "-c", real],
                cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, f"{real}\n{done.stdout}{done.stderr}"
            said[line.split("--source")[0].strip()] = done.stdout + done.stderr
        assert "hello-1.0.0/" in said["svn list svn://svn.example.com/charts/tags"]
        assert "1 published" in said["pipeline-steps regenerate"]
        made, again = (tmp_path / name / "hello-1.0.0.tgz" for name in ("charts", "again"))
        assert made.read_bytes() == again.read_bytes()
        assert not any(LOGIN[1] in text for text in said.values())
        assert not (tmp_path / ".subversion/auth/svn.simple").exists() or not list(
            (tmp_path / ".subversion/auth/svn.simple").iterdir()
        )
        # What everybody has after a commit: a folder that is older than its files.
        (folder / "charts/hello/values.yaml").write_text("a: 1\n")
        (folder / "charts/hello/Chart.yaml").write_text(CHART.replace("1.0.0", "1.1.0"))
        commit = f"svn add -q charts/hello/values.yaml && svn commit -q -m more {login}"
        for line in (commit, "pipeline-steps check --chart hello", "pipeline-steps snapshot"):
            done = subprocess.run(
                ["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert svns.svn(str(folder), program="svnversion") == "2:4"
        lines = (folder / ".pipeline/state.jsonl").read_text().splitlines()
        assert [json.loads(line)["revision"].split(":")[0] for line in lines[-2:]] == ["r4"] * 2
        assert list((tmp_path / "snapshots").glob("hello-1.1.0-0.4.t*.tgz"))


STEPS = ("check", "snapshot", "integration_test", "tag_release", "promote")
#: Of a record: what is the same wherever the chart is kept.
SAME = ("step", "subject", "content", "result", "reason")


def test_the_same_chart_in_git_and_subversion_is_released_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = {}
    for name in ("git", "svn"):
        system, folder = SYSTEMS[name], tmp_path / name
        folder.mkdir()
        for variable, value in system.environment(folder).items():
            monkeypatch.setenv(variable, value)
        checkout = system.checkout(folder)
        (folder / "snapshots").mkdir()
        (folder / "charts").mkdir()
        pipeline = PIPELINE.format(folder="${HOME}", host="svn.example.com")
        checkout.put("pipeline.yaml", pipeline.partition("hosts:")[0])
        checkout.put("charts/hello/Chart.yaml", CHART)
        checkout.put("charts/hello/templates/map ☺.yaml", MAP)
        checkout.put("charts/hello/files/run", "#!/bin/sh\n", executable=True)
        checkout.put("charts/hello/files/crlf", b"one\r\ntwo\n$Id$\n")
        checkout.link("charts/hello/files/link", "crlf")
        if isinstance(checkout, svns.WorkingCopy):
            checkout.svn("add", "-q", "charts")
            checkout.svn("propset", "-q", "svn:keywords", "Id", "charts/hello/files/crlf")
        checkout.commit()
        for step in STEPS:
            local = ["--local"] if step == "tag_release" and name == "git" else []
            done = subprocess.run(
                [sys.executable, "-m", "pipeline_steps", step, "--chart", "hello", *local],
                cwd=checkout.root,
                env={
                    **os.environ,
                    "PATH": f"{helm(4).parent}:{os.environ['PATH']}",
                    "HOME": str(folder),
                },
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, (name, step, done.stderr)
        lines = (checkout.root / ".pipeline/state.jsonl").read_text().splitlines()
        records = [{key: json.loads(line).get(key) for key in SAME} for line in lines]
        archives = {place.name: place.read_bytes() for place in (folder / "charts").glob("*.tgz")}
        released[name] = archives, records
    assert set(released["git"][0]) == {"hello-1.0.0.tgz"}
    assert released["git"][0] == released["svn"][0]
    for of_git, of_svn in zip(released["git"][1], released["svn"][1], strict=True):
        assert of_git == of_svn
