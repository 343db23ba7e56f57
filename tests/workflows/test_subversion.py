"""The day of somebody whose charts are in Subversion: the how-to, on svnserve with a password, and
what comes after it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support import docs, svns
from tests.support.helms import helm

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

        def typed(line: str, code: int = 0) -> str:
            done = subprocess.run(
                ["sh", "-c", line],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"
            return done.stdout + done.stderr

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
            said[line.split("--source")[0].strip()] = typed(real)
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
        typed(f"svn add -q charts/hello/values.yaml && svn commit -q -m more {login}")
        for step in ("check", "snapshot"):
            typed(f"pipeline-steps {step} --chart hello")
        assert svns.svn(str(folder), program="svnversion") == "2:5"
        lines = (folder / ".pipeline/state.jsonl").read_text().splitlines()
        assert [json.loads(line)["revision"].split(":")[0] for line in lines[-2:]] == ["r5"] * 2
        assert list((tmp_path / "snapshots").glob("hello-1.1.0-0.5.t*.tgz"))
        # A tag over all charts is never moved: svn would copy trunk into the folder that is there.
        typed("pipeline-steps integration_test --chart hello")
        tags = f"{server.repository.as_uri()}/tags"
        before = svns.svn("list", "-R", tags)
        moved = typed("pipeline-steps tag_release --global 2026.11", 5)
        assert "2026.11 exists" in moved and svns.svn("list", "-R", tags) == before
        typed("pipeline-steps tag_release --global 2026.12")
        after = svns.svn("list", "-R", tags)
        typed("pipeline-steps tag_release --global 2026.12")
        assert svns.svn("list", "-R", tags) == after != before
        publish = "pipeline-steps regenerate --tags '20*'"
        assert "1 published" in typed(publish) and "1 published" not in typed(publish)
        published = {place.name for place in (tmp_path / "charts").glob("*.tgz")}
        assert published == {"hello-1.0.0.tgz", "hello-1.1.0.tgz"}


def test_charts_of_a_repository_without_trunk_are_released(tmp_path: Path) -> None:
    """Where tags are is said in pipeline.yaml; a checkout of such a tag is what was tagged."""
    svns.svn("create", str(tmp_path / "repository"), program="svnadmin")
    url = (tmp_path / "repository").as_uri()
    pipeline = PIPELINE.partition("hosts:")[0].format(folder=tmp_path)
    files = {
        "pipeline.yaml": f"{pipeline}release: {{svn_tags: releases}}\n",
        "charts/hello/Chart.yaml": CHART,
        "charts/hello/templates/map.yaml": MAP,
    }
    for name in ("snapshots", "charts", "again"):
        (tmp_path / name).mkdir()
    svns.svn("mkdir", "-q", "-m", "own folders", f"{url}/main")
    work = svns.WorkingCopy(tmp_path / "work", f"{url}/main")
    for path, text in files.items():
        work.put(path, text)
    work.commit()
    environment = {**os.environ, "PATH": f"{helm(4).parent}:{os.environ['PATH']}", "CI": ""}

    def step(*words: str, folder: Path = work.root) -> None:
        command = [sys.executable, "-m", "pipeline_steps", *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"

    for name in ("check", "snapshot", "integration_test", "tag_release"):
        step(name, "--chart", "hello")
    assert svns.svn("list", f"{url}/releases") == "hello-1.0.0/"
    assert list((tmp_path / "snapshots").glob("hello-1.0.0-0.2.t*.tgz"))
    tagged = svns.WorkingCopy(tmp_path / "tagged", f"{url}/releases/hello-1.0.0")
    state = str(work.root / ".pipeline/state.jsonl")
    step("promote", "--state", state, "--tag", "hello-1.0.0", folder=tagged.root)
    step("regenerate", "--to", f"file://{tmp_path}/again")
    archives = (tmp_path / name / "hello-1.0.0.tgz" for name in ("charts", "again"))
    assert len({archive.read_bytes() for archive in archives}) == 1
