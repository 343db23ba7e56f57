"""A repository made again from tags, and one copied from another: real git, helm and registry, the
command line.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.charts import archive
from pipeline_steps.repositories.directory import DirectoryRepository
from pipeline_steps.repositories.kinds import open_repository
from tests.support.busybox import push
from tests.support.charts import packed
from tests.support.gits import Repo, chart
from tests.support.helms import helm
from tests.support.registries import registry
from tests.support.release_line import Line

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {greeting: hello}\n"


class Source:
    """A git repository of charts, and the command line started beside it, where there is no
    pipeline.yaml.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo(folder / "source", folder / "gitconfig")
        self.out = folder / "charts"
        self.more: tuple[str, ...] = ()

    def release(
        self, name: str, version: str, *, folder: str = "charts", tag: str = "", more: str = ""
    ) -> None:
        self.repo.put(f"{folder}/{name}/Chart.yaml", chart(name, version, more=more))
        self.repo.put(f"{folder}/{name}/templates/map.yaml", MAP)
        self.repo.commit()
        self.repo.git("tag", tag or f"{name}-{version}")

    def command(self, to: str, *words: str) -> list[str]:
        source = ("--source", str(self.repo.root))
        patterns = (*source, "--charts", "charts/*", "--tags", "{name}-{version}")
        step = (sys.executable, "-m", "pipeline_steps", "regenerate")
        return [*step, *(self.more or patterns), "--to", to, *words]

    def run(self, *words: str, to: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(to or self.out.as_uri(), *words),
            cwd=self.folder, env=self.environment(**variables), capture_output=True, text=True,
        )  # fmt: skip

    def environment(self, **variables: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_GLOBAL": str(self.repo.config),
                **variables}  # fmt: skip

    def ok(self, *words: str, to: str = "") -> str:
        completed = self.run(*words, to=to)
        assert completed.returncode == 0, completed.stderr
        return completed.stderr

    def report(self) -> dict[str, int]:
        lines = (self.folder / ".pipeline/state.jsonl").read_text().splitlines()
        counts: dict[str, int] = json.loads(lines[-1])["parameters"]["counts"]
        return counts


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def stored(folder: Path) -> dict[str, bytes]:
    """Every file of a repository in a folder but its lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def versions(folder: Path, name: str) -> list[str]:
    return DirectoryRepository(folder.as_uri()).versions(name)


def test_every_tag_becomes_an_archive_and_a_second_run_changes_nothing(source: Source) -> None:
    """Acceptance test A15 (helm/helm#4482): unchanged sources, regenerate twice, an empty diff with
    all times.
    """
    for version in ("1.0.0", "1.1.0", "1.2.0-rc.1"):
        source.release("web", version)
        source.release("my-api", version)
    source.repo.git("tag", "nightly")
    source.ok()
    first = stored(source.out)
    assert len(first) == 7 and source.report()["published"] == 6
    assert versions(source.out, "my-api") == ["1.2.0-rc.1", "1.1.0", "1.0.0"]
    when = source.repo.git("for-each-ref", "--format=%(creatordate:unix)", "refs/tags/web-1.0.0")
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(when)))
    assert first["index.yaml"].count(b"created: ") == 6 and created.encode() in first["index.yaml"]

    for again in ((), ("--again",)):
        before = {path: path.stat().st_mtime_ns for path in source.out.iterdir()}
        source.ok(*again)
        assert stored(source.out) == first and source.report()["kept"] == 6
        assert {path: path.stat().st_mtime_ns for path in source.out.iterdir()} == before, (
            "written once more"
        )

    for state in (source.folder / ".pipeline").iterdir():
        state.unlink()
    source.ok()
    assert stored(source.out) == first, "without what was remembered"
    source.release("web", "1.3.0")
    source.ok()
    assert source.report() == {
        "published": 1,
        "kept": 6,
        "unmade": 0,
        "differs": 0,
        "withdrawn": 0,
        "failed": 0,
    }


def test_publishing_in_any_order_gives_the_regenerated_index(
    source: Source, tmp_path: Path
) -> None:
    """T13 of the test plan: the index is a function of what is published, whoever did it, in
    whatever order.
    """
    for version in ("1.0.0", "1.10.0", "1.2.0-rc.1", "1.2.0+b.2"):
        source.release("web", version)
        source.release("my-api", version)
    source.ok()
    whole = stored(source.out)
    archives = [
        archive.open_archive(data, name) for name, data in whole.items() if name.endswith(".tgz")
    ]
    times = source.repo.git(
        "for-each-ref", "--format=%(refname:short) %(creatordate:unix)", "refs/tags"
    )
    seconds = dict(line.split() for line in times.splitlines())
    created = {
        tag: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(when)))
        for tag, when in seconds.items()
    }
    for seed in range(4):
        published = DirectoryRepository((tmp_path / str(seed)).as_uri())
        for archive_ in random.Random(seed).sample(archives, len(archives)):
            published.publish(archive_, created=created[f"{archive_.name}-{archive_.version}"])
        assert stored(published.folder) == whole


def test_shards_workers_and_url_give_the_same_repository(source: Source, tmp_path: Path) -> None:
    for number in range(20):
        source.release("web", f"1.{number}.0")
    whole, parts, remote = (tmp_path / name for name in ("whole", "parts", "remote"))
    source.ok("--jobs", "1", to=whole.as_uri())
    for part in ("1/3", "2/3", "3/3"):
        source.ok("--shard", part, "--jobs", "2", to=parts.as_uri())
    assert stored(parts) == stored(whole)
    assert len(list((tmp_path / ".pipeline").glob("state.*-of-3.jsonl"))) == 3
    source.more = (
        "--source",
        source.repo.root.as_uri(),
        "--charts",
        "charts/*",
        "--tags",
        "{name}-{version}",
    )
    source.ok(to=remote.as_uri())
    assert stored(remote) == stored(whole)


def test_moved_charts_and_a_tag_over_all_charts_are_packaged(
    source: Source, tmp_path: Path
) -> None:
    source.release("web", "1.0.0", folder="stable")
    source.repo.git("mv", "stable", "charts")
    source.release("web", "2.0.0")
    source.more = ("--source", ".", "--charts", "charts/*", "--charts", "{stable,incubator}/*", "--tags",
                   "{name}-{version}")  # fmt: skip
    source.more = (*source.more[:1], str(source.repo.root), *source.more[2:])
    source.ok()
    assert versions(source.out, "web") == ["2.0.0", "1.0.0"]

    source.release("api", "0.1.0", tag="v1")
    source.release("web", "2.1.0", tag="v2")
    source.more = ("--source", str(source.repo.root), "--charts", "charts/*", "--tags", "v*")
    every = tmp_path / "global"
    source.ok(to=every.as_uri())
    assert sorted(stored(every)) == [
        "api-0.1.0.tgz",
        "index.yaml",
        "web-2.0.0.tgz",
        "web-2.1.0.tgz",
    ]
    assert source.ok(to=every.as_uri()).count("3 there before") == 1


def test_an_unpackageable_version_fails_with_its_reason_and_others_are_published(
    source: Source,
) -> None:
    source.release("web", "1.0.0")
    source.release(
        "bad",
        "1.0.0",
        more="dependencies: [{name: x, version: ^1, repository: https://example.com}]\n",
    )
    source.release("odd", "1.0.0", tag="odd-1.1.0")
    source.repo.put("charts/ring/Chart.yaml", chart("ring", "0.1.0", "ring2"))
    source.release(
        "ring2",
        "0.1.0",
        more="dependencies: [{name: ring, version: 0.1.0, repository: file://../ring}]\n",
    )
    source.repo.put("charts/torn/Chart.yaml", "name: [\n")
    source.repo.commit()
    source.repo.git("tag", "torn-1.0.0")
    for _ in range(2):
        completed = source.run()
        assert completed.returncode == 8, completed.stderr
        assert (
            "bad 1.0.0 (bad-1.0.0): charts/bad/Chart.lock: the dependency x ^1 is a range without a lock"
            in completed.stderr
        )
        assert "odd 1.1.0 (odd-1.1.0): the version of odd there is 1.0.0" in completed.stderr
        assert (
            "ring2 0.1.0 (ring2-0.1.0): charts/ring/Chart.yaml: the dependency ring2 leads back to"
            in completed.stderr
        )
        assert "torn-1.0.0" in completed.stderr and "charts/torn/Chart.yaml" in completed.stderr
        assert sorted(stored(source.out)) == ["index.yaml", "web-1.0.0.tgz"]


def test_a_published_version_that_cannot_be_packaged_is_no_failure(source: Source) -> None:
    source.release(
        "old",
        "1.0.0",
        more="dependencies: [{name: x, version: ^1, repository: https://example.com}]\n",
    )
    theirs = packed("old", "1.0.0")
    DirectoryRepository(source.out.as_uri()).publish(theirs)
    for message in (
        "the dependency x ^1 is a range without a lock",
        "could not be made again when it was looked at",
    ):
        assert f"old 1.0.0 (old-1.0.0): {message}" in source.ok().replace(
            "charts/old/Chart.lock: ", ""
        )
        assert source.report()["unmade"] == 1
    (source.out / "index.yaml").unlink()
    (source.out / "old-1.0.0.tgz").unlink()
    assert source.run().returncode == 8, "now it is missing"


def test_a_published_archive_stays_and_the_difference_is_listed(source: Source) -> None:
    source.release("web", "1.0.0")
    source.release("web", "1.1.0")
    theirs = packed("web", "1.0.0", more="description: made by another program\n")
    DirectoryRepository(source.out.as_uri()).publish(theirs)
    source.out.joinpath("web-1.1.0.tgz").write_bytes(
        packed("web", "1.1.0").tgz
    )  # its entry got lost
    for _ in range(2):
        output = source.ok()
        for version in ("1.0.0", "1.1.0"):
            assert f"web {version}: web-{version} gives the tar sha256:" in output
        assert theirs.tar_digest in output and source.report()["differs"] == 2
    assert stored(source.out)["web-1.0.0.tgz"] == theirs.tgz
    assert versions(source.out, "web") == ["1.1.0", "1.0.0"]


def test_a_lost_index_is_regenerated_byte_for_byte(source: Source) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        source.release("web", version)
    source.ok()
    first = stored(source.out)
    (source.out / "index.yaml").unlink()
    source.ok()
    assert stored(source.out) == first


def test_again_rebuilds_a_damaged_index(source: Source) -> None:
    for version in ("1.0.0", "1.1.0"):
        source.release("web", version)
    source.ok()
    DirectoryRepository(source.out.as_uri()).publish(packed("untagged"))
    first = stored(source.out)
    (source.out / "index.yaml").write_bytes(first["index.yaml"][:200])
    completed = source.run()
    assert completed.returncode == 4 and "regenerate --again rebuilds the index" in completed.stderr
    source.ok("--again")
    assert stored(source.out) == first


def test_withdrawn_versions_are_not_published(source: Source) -> None:
    for version in ("1.0.0", "1.1.0"):
        source.release("web", version)
        source.release("api", version)
    (source.folder / "pipeline.yaml").write_text(
        f"charts:\n  - path: charts/*\nchannels: {{production: {{charts: '{source.out.as_uri()}'}}}}\n"
        "release: {withdrawn: [web-1.0.0]}\n"
    )
    shutil.copy(source.folder / "pipeline.yaml", source.repo.root)
    completed = subprocess.run(
        [sys.executable, "-m", "pipeline_steps", "regenerate"],
        cwd=source.repo.root, env=source.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 0 and "web 1.0.0 is withdrawn" in completed.stderr, (
        completed.stderr
    )
    assert (versions(source.out, "web"), versions(source.out, "api")) == (
        ["1.1.0"],
        ["1.1.0", "1.0.0"],
    )


def test_where_production_requires_approvals_only_its_own_checkout_fills_it(source: Source) -> None:
    source.release("web", "1.0.0")
    production = f'{{charts: "{source.out.as_uri()}", requires: [check, approval.code]}}'
    (source.folder / "pipeline.yaml").write_text(
        f"charts: [{{path: charts/*}}]\nchannels: {{production: {production}}}\n"
    )
    refused = source.run()
    assert refused.returncode == 2, refused.stderr
    words = (
        "production requires approval.code, which can be asked for in the checkout of pipeline.yaml"
    )
    assert words in refused.stderr
    assert not source.out.exists()
    source.ok(to=(source.folder / "elsewhere").as_uri())


def test_regenerate_plan_lists_each_write_and_writes_nothing(source: Source) -> None:
    source.release("web", "1.0.0")
    source.release("web", "1.1.0")
    output = source.ok("--plan", "--chart", "web")
    assert output.count(f"would be published, replacing nothing: {source.out.as_uri()}") == 2
    assert not source.out.exists() and not (source.folder / ".pipeline").exists()


def test_regenerate_killed_at_any_point_continues_to_the_same_result(
    source: Source, tmp_path: Path
) -> None:
    for number in range(40):
        source.release("web", f"1.{number}.0")
    source.ok()
    command = [sys.executable, "-m", "pipeline_steps", "regenerate", "--source", str(source.repo.root), "--charts",
               "charts/*", "--tags", "{name}-{version}", "--jobs", "2"]  # fmt: skip
    for number, turn in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)):
        out = tmp_path / f"out-{number}"
        running = subprocess.Popen(
            [*command, "--to", out.as_uri(), "--state", f"s{number}.jsonl"], cwd=source.folder,
            env=source.environment(), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while running.poll() is None and len(list(out.glob("web-*.tgz"))) < 1 + 5 * number:
            time.sleep(0.002)
        running.send_signal(turn)
        running.communicate()
        source.ok("--state", f"s{number}.jsonl", to=out.as_uri())
        assert stored(out) == stored(source.out)


def test_regenerate_refuses_missing_and_unsupported_sources(source: Source) -> None:
    source.release("web", "1.0.0")
    for words, message in (
        (("--tags", "v*"), "give --source PATH or URL"),
        (("--source", str(source.repo.root)), "give --charts PATTERN"),
        (
            ("--source", "https://me:secret@example.com/x.git", "--charts", "*"),
            "https://example.com/x.git: there is a password",
        ),
        (("--source", "nowhere", "--charts", "*"), "there is no such folder"),
    ):
        source.more = words
        completed = source.run()
        assert completed.returncode == 2 and message in completed.stderr, completed.stderr


# -- as promote makes it ------------------------------------------------------------------------------------------

PIPELINE = """\
charts:
  - path: charts/*
    images: {{app: {{image.repository: "{{repository}}", image.tag: "{{tag}}", image.digest: "{{digest}}"}}}}
    tests: {{none: "tested elsewhere"}}
images: {{app: {{existing: "{host}/outside/app:1.10"}}}}
channels:
  snapshot: {{images: "{host}/snapshots", charts: "file://{folder}/snapshots"}}
  production: {{images: "{host}/production", charts: "file://{folder}/charts"}}
evidence: "file://{folder}/evidence"
"""
VALUES = (
    "# the image\nimage: {repository: outside/app, tag: 1.10, digest: ''}  # set by the pipeline\n"
)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with registry(tmp_path / "registry") as running:
        push(running.host, "outside/app", "1.10")
        line = Line(tmp_path)
        line.repo.put("pipeline.yaml", PIPELINE.format(folder=tmp_path, host=running.host))
        line.repo.put("charts/common/values.yaml", VALUES)
        line.repo.commit()
        line.ok("build_image", "--chart", "common")
        line.tested()
        line.ok("tag_release", "--local", "--chart", "common")
        yield line


def test_a_promoted_version_is_regenerated_with_the_same_tar(line: Line) -> None:
    again = line.folder / "again"
    early = line.run("regenerate", "--to", again.as_uri())
    assert (
        early.returncode == 8
        and "is not in production (promote first: --tag common-1.0.0)" in early.stderr
    )
    line.ok("promote", "--chart", "common")
    promoted = stored(line.folder / "charts")
    line.ok("regenerate", "--to", again.as_uri())
    assert stored(again) == promoted
    assert b"/production/app" in archive.unpack(promoted["common-1.0.0.tgz"])["values.yaml"]
    assert "1 there before" in line.ok("regenerate").stderr, "channels.production.charts"

    # Without lines the records of this content know the images.
    text = line.repo.git("tag", "-l", "--format=%(contents)", "common-1.0.0")
    commit = line.repo.git("rev-parse", "common-1.0.0^{commit}")
    line.repo.git("tag", "-d", "common-1.0.0")
    line.repo.git("tag", "common-1.0.0", commit)
    for number in ("here", "elsewhere"):
        third = line.folder / number
        state = () if number == "here" else ("--state", str(line.folder / "fresh/state.jsonl"))
        line.ok("regenerate", "--to", third.as_uri(), *state)
        assert stored(third)["common-1.0.0.tgz"] == promoted["common-1.0.0.tgz"], (
            "by the state, by the store"
        )

    # Without records, too, it is packaged as it stands.
    shutil.rmtree(line.folder / "evidence")
    plain = line.folder / "plain"
    line.ok("regenerate", "--to", plain.as_uri(), "--state", str(line.folder / "empty/state.jsonl"))
    assert archive.unpack(stored(plain)["common-1.0.0.tgz"])["values.yaml"] == VALUES.encode()

    # A CI that builds a tag may have kept its commit only: the remote has the lines.
    ci = line.clone("ci")
    line.repo.git("tag", "-f", "-a", "--cleanup=verbatim", "-m", text, "common-1.0.0", commit)
    variables = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_REF_TYPE": "tag",
        "GITHUB_REF_NAME": "common-1.0.0",
    }
    built = line.folder / "built"
    done = ci.run("regenerate", "--to", built.as_uri(), **variables)
    assert done.returncode == 0, done.stderr
    assert stored(built)["common-1.0.0.tgz"] == promoted["common-1.0.0.tgz"]
    assert ci.repo.git("rev-parse", "refs/tags/common-1.0.0") == commit


def test_a_moved_release_tag_is_refused(line: Line) -> None:
    line.ok("promote", "--chart", "common")
    text = line.repo.git("tag", "-l", "--format=%(contents)", "common-1.0.0")
    line.repo.git("tag", "-d", "common-1.0.0")
    line.repo.put("charts/common/values.yaml", VALUES + "more: 1\n")
    line.repo.commit()
    line.repo.git("tag", "-a", "-m", text, "common-1.0.0")
    completed = line.run("regenerate", "--to", (line.folder / "again").as_uri())
    assert (
        completed.returncode == 8 and "the tag says 1.0.0 with content sha256:" in completed.stderr
    )


# -- copies -------------------------------------------------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder behind a web server."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.mark.parametrize("major", [3, 4])
def test_helm_pulls_a_regenerated_chart(source: Source, tmp_path: Path, major: int) -> None:
    source.release("web", "1.0.0")
    source.ok()
    with served(source.out) as url:
        pull = [
            str(helm(major)),
            "pull",
            "web",
            "--repo",
            url,
            "--version",
            "1.0.0",
            "--destination",
            str(tmp_path),
        ]
        subprocess.run(pull, env=source.environment(), check=True, capture_output=True)
    assert (tmp_path / "web-1.0.0.tgz").read_bytes() == (source.out / "web-1.0.0.tgz").read_bytes()


def test_regenerate_from_copies_archives_provenance_and_times(
    source: Source, tmp_path: Path
) -> None:
    old = DirectoryRepository((tmp_path / "old").as_uri())
    for number in range(5):
        old.publish(
            packed(version=f"1.{number}.0"),
            b"signed %d" % number,
            created=f"2026-01-0{number + 1}T00:00:00Z",
        )
    old.publish(packed("api"))
    with registry(tmp_path / "registry") as running, served(tmp_path / "old") as url:
        source.more = ("--from", url)
        oci = f"oci://{running.host}/charts"
        assert "6 published" in source.ok(to=oci)
        assert "6 there before" in source.ok(to=oci)
        there = open_repository(oci, {})
        for version in old.versions("hello"):
            mine, theirs = old.find("hello", version), there.find("hello", version)
            assert mine and theirs and theirs.archive == mine.archive
            assert (
                there.provenance(theirs)
                == old.provenance(mine)
                == b"signed %s" % version.split(".")[1].encode()
            )
        source.more = ("--from", oci)
        source.ok("--chart", "hello", to=(tmp_path / "back").as_uri())
    source.more = ("--from", old.url)
    source.ok(to=source.out.as_uri())
    assert stored(source.out) == stored(tmp_path / "old")
    archives = {
        name: data for name, data in stored(tmp_path / "old").items() if name.startswith("hello")
    }
    assert {
        name: data for name, data in stored(tmp_path / "back").items() if name != "index.yaml"
    } == archives
    assert "6 there before" in source.ok(to=source.out.as_uri())


def test_further_repositories_of_a_channel_are_filled_from_the_first(
    source: Source, tmp_path: Path
) -> None:
    theirs = packed("web", "1.0.0", more="description: made by another program\n")
    DirectoryRepository(source.out.as_uri()).publish(theirs)
    urls = f"['{source.out.as_uri()}', '{(tmp_path / 'second').as_uri()}']"
    source.repo.put(
        "pipeline.yaml",
        f"charts:\n  - path: charts/*\nchannels: {{production: {{charts: {urls}}}}}\n",
    )
    for version in ("1.0.0", "1.1.0"):
        source.release("web", version)
    completed = subprocess.run(
        [sys.executable, "-m", "pipeline_steps", "regenerate", "--json"],
        cwd=source.repo.root, env=source.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    assert stored(tmp_path / "second") == stored(source.out)
    first, second = (
        json.loads(line)["parameters"]["counts"] for line in completed.stdout.splitlines()
    )
    assert (first["differs"], second["published"]) == (1, 2)


def test_regenerate_from_lists_refused_and_differing_versions(
    source: Source, tmp_path: Path
) -> None:
    old = DirectoryRepository((tmp_path / "old").as_uri())
    for name in ("hello", "api", "web"):
        old.publish(packed(name))
    (tmp_path / "old/api-1.0.0.tgz").write_bytes(b"broken")
    other_chart = packed("web", more="description: other\n")
    DirectoryRepository(source.out.as_uri()).publish(other_chart)
    source.more = ("--from", old.url)
    completed = source.run()
    assert (
        completed.returncode == 8
        and "api 1.0.0: " in completed.stderr
        and "web 1.0.0: " in completed.stderr
    )
    assert stored(source.out)["web-1.0.0.tgz"] == other_chart.tgz
    assert stored(source.out)["hello-1.0.0.tgz"] == packed().tgz
