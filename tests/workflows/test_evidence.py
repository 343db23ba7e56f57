"""A review build, a tag build and a laptop that share nothing but the evidence store: real git,
helm and registry.

The builds are Jenkins' with the Gerrit Trigger, known from its variables. Each has a clone of its
own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.config.config_file import load
from pipeline_steps.evidence.trust import open_state
from pipeline_steps.oci.registry import Registry
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.workspace.checkout import Checkout
from tests.support.gits import Repo
from tests.support.helms import helm
from tests.support.images import push_base
from tests.support.registries import free_port, registry

PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "a library, tested through its dependents"}}
channels:
  snapshot: {{charts: "file://{folder}/snapshots"}}
  production: {{charts: "file://{folder}/charts"{more}}}
evidence: "{evidence}"
"""
CHART = "apiVersion: v2\nname: common\ntype: application\nversion: 1.0.0\n"
MAP = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\ndata: {greeting: hello}\n'
CHAIN = ("check", "build_image", "snapshot", "integration_test", "report")


class Server:
    """The repository that everybody clones, and the folders of the channels."""

    def __init__(self, folder: Path, evidence: str) -> None:
        self.folder = folder
        self.evidence = evidence
        self.repo = Repo(folder / "server", folder / "gitconfig")
        for place in ("snapshots", "charts"):
            (folder / place).mkdir()
        self.repo.put("charts/common/Chart.yaml", CHART)
        self.repo.put("charts/common/templates/map.yaml", MAP)
        self.configure()

    def configure(self, more: str = "") -> None:
        self.repo.put(
            "pipeline.yaml", PIPELINE.format(folder=self.folder, evidence=self.evidence, more=more)
        )
        self.repo.commit("configure")

    def change(self, greeting: str = "good day") -> str:
        """A review: two commits on a branch that starts at main; its head."""
        self.repo.git("switch", "-q", "-c", "topic")
        self.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "hi"))
        self.repo.commit("begin")
        self.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", greeting))
        return self.repo.commit("end")


class Agent:
    """A build in a fresh clone: nothing of another one's state reaches it. build: variables of the
    CI.
    """

    def __init__(self, server: Server, name: str, revision: str, **build: str) -> None:
        self.server = server
        self.repo = Repo(server.folder / name, server.repo.config, clone=str(server.repo.root))
        self.repo.git("checkout", "-q", "--detach", revision)
        self.build = (
            {"JENKINS_URL": "https://ci.example.com/", "BUILD_TAG": f"jenkins-{name}-1", **build}
            if build
            else {}
        )

    def run(
        self, *words: str, before: Sequence[str] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{helm(4).parent}:{os.environ['PATH']}",
            "HOME": str(self.server.folder),
            "GIT_CONFIG_GLOBAL": str(self.repo.config),
            **self.build,
            **variables,
        }
        command = [*before, sys.executable, "-m", "pipeline_steps", *words]
        return subprocess.run(
            command, cwd=self.repo.root, env=environment, capture_output=True, text=True
        )

    def ok(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        completed = self.run(*words, **variables)
        assert completed.returncode == 0, completed.stderr
        return completed

    def records(self, step: str) -> list[dict[str, Any]]:
        state = self.repo.root / ".pipeline/state.jsonl"
        lines = state.read_text().splitlines() if state.exists() else []
        return [record for record in map(json.loads, lines) if record["step"] == step]


def review(server: Server, head: str, name: str = "review") -> Agent:
    """The build of a patch set."""
    return Agent(
        server, name, head, GERRIT_EVENT_TYPE="patchset-created", GERRIT_CHANGE_NUMBER="1042",
        GERRIT_PATCHSET_REVISION=head, GERRIT_BRANCH="main", GERRIT_REFSPEC="refs/changes/42/1042/2",
    )  # fmt: skip


def tag_build(server: Server, tag: str = "common-1.0.0") -> Agent:
    """The build of a pushed tag."""
    return Agent(
        server, "release", tag, GERRIT_EVENT_TYPE="ref-updated", GERRIT_REFNAME=f"refs/tags/{tag}",
        GERRIT_NEWREV=server.repo.git("rev-parse", tag),
    )  # fmt: skip


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path, (tmp_path / "evidence").as_uri())


def rebased(repo: Repo) -> None:
    repo.git("switch", "-q", "topic")
    repo.git("rebase", "-q", "main")
    repo.git("switch", "-q", "main")
    repo.git("merge", "-q", "--ff-only", "topic")


def squashed(repo: Repo) -> None:
    repo.git("merge", "-q", "--squash", "topic")
    repo.git("commit", "-q", "-m", "the change, as one commit")


def merged(repo: Repo) -> None:
    repo.git("merge", "-q", "--no-ff", "-m", "merge topic", "topic")


@pytest.mark.parametrize("merge", [rebased, squashed, merged])
def test_the_tag_build_promotes_what_the_review_build_tested(
    tmp_path: Path, host: str, merge: Callable[[Repo], None]
) -> None:
    server = Server(tmp_path, f"oci://{host}/{merge.__name__}/evidence")
    tested = review(server, server.change())
    for step in CHAIN:
        tested.ok(step)
    server.repo.git("switch", "-q", "main")
    server.repo.put("README", "somebody else's change\n")
    server.repo.commit("elsewhere")
    merge(server.repo)
    server.repo.git("tag", "common-1.0.0")

    release = tag_build(server)
    assert release.repo.git("rev-parse", "HEAD") != tested.repo.git("rev-parse", "HEAD")
    release.ok("promote")
    [promoted] = [record for record in release.records("promote") if record["result"] == "passed"]
    assert (
        release.records("integration_test")
        == release.records("check")
        == release.records("snapshot")
        == []
    )
    used = {
        record["id"] for step in ("check", "integration_test") for record in tested.records(step)
    }
    assert used & set(promoted["uses"])
    assert (tmp_path / "charts/common-1.0.0.tgz").is_file()

    assert "already done" in release.ok("integration_test").stderr
    (release.repo.root / ".pipeline/state.jsonl").unlink()  # another agent
    assert "already done" in release.ok("promote").stderr


def test_state_get_finds_a_value_of_another_agent_in_the_store(server: Server) -> None:
    """After `already done` a script asks for the output; a value of other content must not come in
    its place.
    """
    tested = review(server, server.change())
    tested.ok("snapshot")
    value = tested.ok("state", "get", "common", "snapshot.chart").stdout
    agent = Agent(server, "agent", "origin/main")
    agent.ok("snapshot")
    older = agent.ok("state", "get", "common", "snapshot.chart")
    assert older.stdout != value and not older.stderr
    agent.repo.git("checkout", "-q", "--detach", "origin/topic")
    other = agent.ok("state", "get", "common", "snapshot.chart")
    assert other.stdout == value and not other.stderr
    assert "already done" in agent.ok("snapshot").stderr
    assert agent.ok("state", "get", "common", "snapshot.chart").stdout == value

    agent.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "of nobody's build"))
    unknown = agent.run("state", "get", "common", "snapshot.chart", "--quiet")
    assert (unknown.returncode, unknown.stdout) == (4, "")
    assert "snapshot of common is recorded, but not of what is checked out" in unknown.stderr
    named = agent.ok("state", "get", "common", "snapshot.chart", "--state", ".pipeline/state.jsonl")
    assert named.stdout == older.stdout, "of this file, whatever is checked out"
    agent.repo.put("charts/common/Chart.yaml", "apiVersion: v2\n")
    broken = agent.run("state", "get", "common", "snapshot.chart")
    assert (broken.returncode, broken.stdout) == (
        2,
        "",
    ) and "charts/common/Chart.yaml" in broken.stderr
    agent.repo.git("checkout", "-q", ".")
    missing = agent.run("state", "get", "common", "promote.chart")
    assert missing.returncode == 4 and "no passed promote of common" in missing.stderr


def test_promote_ignores_records_of_the_review_store(server: Server) -> None:
    """What unreviewed code wrote counts neither for promote nor as already done."""
    believed = (server.folder / "believed").as_uri()
    server.configure(f', evidence: ["{believed}"]')
    tested = review(server, server.change())
    for step in CHAIN:
        tested.ok(step)
    server.repo.git("switch", "-q", "main")
    merged(server.repo)

    laptop = Agent(server, "laptop", "main")
    completed = laptop.run("tag_release", "--local", "--chart", "common")
    assert completed.returncode == 4 and "no record of check" in completed.stderr, completed.stderr
    server.repo.git("tag", "common-1.0.0")
    release = tag_build(server)
    completed = release.run("promote")
    assert completed.returncode == 4 and "no record of check" in completed.stderr, completed.stderr

    for step in ("check", "snapshot", "integration_test"):
        assert "already done" not in release.ok(step).stderr
    release.ok("promote")
    assert len(release.records("integration_test")) == 1
    (release.repo.root / ".pipeline/state.jsonl").unlink()
    assert "already done" in release.ok("promote").stderr, "its own records are found again"


def test_a_laptop_reuses_test_records_of_ci(server: Server) -> None:
    head = server.change()
    tested = review(server, head)
    for step in ("check", "snapshot", "integration_test"):
        tested.ok(step)
    laptop = Agent(server, "laptop", head)
    completed = laptop.ok("integration_test")
    assert "already done: every chart has passed" in completed.stderr
    assert laptop.records("integration_test") == []
    assert "already done" in laptop.ok("snapshot", "--chart", "common").stderr


def test_plan_writes_nothing_to_the_store(server: Server) -> None:
    laptop = Agent(server, "laptop", "main")
    for step in ("check", "snapshot"):
        assert "would" in laptop.ok(step, "--all", "--plan").stderr
    assert laptop.records("selection") == [] and not (server.folder / "evidence").exists()


def test_another_agent_continues_what_a_killed_one_began(server: Server) -> None:
    """SIGKILL after the intent is in the store, before anything is published; they share nothing
    but the store.
    """
    head = server.change()
    lost = review(server, head)
    lock = server.folder / "snapshots/.lock"
    kill = (
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        str(lock),
        "-e",
        "inject=openat:signal=KILL:when=1",
    )
    assert lost.run("snapshot", before=kill).returncode == -signal.SIGKILL
    assert [record["result"] for record in lost.records("snapshot")] == ["started"]

    other = review(server, head, "retried")
    assert "already done" not in other.ok("snapshot").stderr
    assert len(list((server.folder / "snapshots").glob("*.tgz"))) == 1
    other.ok("state", "pull", "--revision", "HEAD")
    assert lost.records("snapshot")[0] in other.records("snapshot")
    shown = [
        line.split()
        for line in other.ok("state", "show").stdout.splitlines()
        if line.startswith("snapshot")
    ]
    ended = sorted((line[2], *line[-2:]) for line in shown)
    assert ended == [("passed", "2", "attempts"), ("started", "2", "attempts")], (
        "both tries are counted"
    )


def test_records_reach_the_store_after_an_outage(server: Server, host: str) -> None:
    head = server.change()
    dead, alive = f"oci://127.0.0.1:{free_port()}/evidence", f"oci://{host}/late/evidence"
    server.repo.put("site.yaml", f"evidence: '{dead}'\n")
    agent = review(server, head)
    site = {"PIPELINE_STEPS_SITE": str(server.repo.root / "site.yaml")}
    completed = agent.run("check", **site)
    assert (
        completed.returncode == 7
        and "evidence" in completed.stderr
        and "127.0.0.1" in completed.stderr
    ), completed.stderr

    agent.ok("check", PIPELINE_STEPS_SITE=_site(server, (server.folder / "other").as_uri()))
    agent.ok("snapshot", PIPELINE_STEPS_SITE=_site(server, alive))
    laptop = Agent(server, "laptop", head)
    laptop.ok("state", "pull", "--revision", head, PIPELINE_STEPS_SITE=_site(server, alive))
    assert {record["id"] for record in laptop.records("check")} == {
        record["id"] for record in agent.records("check")
    }


def _site(server: Server, evidence: str) -> str:
    server.repo.put("site.yaml", f"evidence: '{evidence}'\n")
    return str(server.repo.root / "site.yaml")


def test_state_pull_fetches_all_records_behind_a_production_digest(server: Server) -> None:
    agent = Agent(server, "agent", "origin/main")
    for step in ("check", "snapshot", "integration_test"):
        agent.ok(step, "--chart", "common")
    agent.ok("tag_release", "--chart", "common")
    agent.ok("promote", "--chart", "common")
    [promoted] = [record for record in agent.records("promote") if record["result"] == "passed"]
    digest = promoted["outputs"]["chart"].rpartition("@")[2]

    auditor = Agent(server, "auditor", "main")
    auditor.ok("state", "pull", "--digest", digest)
    theirs = (agent.repo.root / ".pipeline/state.jsonl").read_bytes().splitlines()
    assert set((auditor.repo.root / ".pipeline/state.jsonl").read_bytes().splitlines()) == set(
        theirs
    )
    [report] = agent.records("check")[-1]["evidence"]
    assert (auditor.repo.root / ".pipeline" / report).read_bytes() == (
        agent.repo.root / ".pipeline" / report
    ).read_bytes()
    assert "holds" in auditor.ok("state", "verify").stdout
    (auditor.repo.root / ".pipeline" / report).unlink()
    assert "gone" not in auditor.ok("state", "verify").stdout, "the store has it"
    assert "0 records added" in auditor.ok("state", "pull", "--digest", digest).stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--digest", f"sha256:{'0' * 64}"), 4, f"no record about sha256:{'0' * 64}"),
        (("--digest", "common-1.0.0"), 4, "not a digest"),
        (("--revision", "no-such-thing"), 2, "no-such-thing"),
        (("--revision", "0" * 40), 2, "fetch it first"),
        ((), 2, "give --revision R or --digest D"),
    ],
)
def test_state_pull_refuses_unknown_digests_and_revisions(
    server: Server, words: tuple[str, ...], code: int, message: str
) -> None:
    completed = Agent(server, "laptop", "main").run("state", "pull", *words)
    assert completed.returncode == code and message in completed.stderr, completed.stderr


def test_a_failed_program_record_stops_the_release(server: Server) -> None:
    server.configure(", requires: [check, integration_test, scan]")
    scanner, laptop = Agent(server, "scanner", "main"), Agent(server, "laptop", "main")
    for step in ("check", "snapshot", "integration_test"):
        laptop.ok(step, "--chart", "common")
    scan = ("record", "--name", "scan", "--subject", "common", "--evidence", "scan.json", "--")
    script = "echo '{\"found\": 1}' > scan.json; echo 1 vulnerability >&2; exit 3"

    completed = laptop.run("tag_release", "--local", "--chart", "common")
    assert completed.returncode == 4, completed.stderr
    assert "run pipeline-steps record --name scan --subject common -- PROGRAM" in completed.stderr
    completed = scanner.run(*scan, "sh", "-c", script)
    assert completed.returncode == 8 and "1 vulnerability" in completed.stderr, completed.stderr
    assert "scan of common: sh ended with exit code 3" in completed.stderr
    completed = laptop.run("tag_release", "--local", "--chart", "common")
    assert completed.returncode == 4 and "scan of common failed" in completed.stderr, (
        completed.stderr
    )

    scanner.ok(
        *scan,
        "sh",
        "-c",
        'test "$TOKEN" = t && echo {} > scan.json',
        TOKEN="t",
        PIPELINE_STEPS_EVIDENCE="/no",
    )
    failed, passed = scanner.records("scan")
    assert (
        passed["supersedes"] == [failed["id"]]
        and len(failed["evidence"]) == len(passed["evidence"]) == 1
    )
    [(name, _digest)] = passed["evidence"].items()
    assert (scanner.repo.root / ".pipeline" / name).read_text() == "{}\n"
    laptop.ok("tag_release", "--local", "--chart", "common")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--subject", "common", "--", "true"), 2, "record needs a name, a chart and a program"),
        (
            ("--name", "scan", "--subject", "common"),
            2,
            "record needs a name, a chart and a program",
        ),
        (
            ("--name", "check", "--subject", "common", "--", "true"),
            2,
            "the name of records that steps write",
        ),
        (
            ("--name", "a/b", "--subject", "common", "--", "true"),
            2,
            "--name 'a/b' cannot be the name of a record (use lower-case letters",
        ),
        (("--name", "scan", "--subject", "comon", "--", "true"), 2, "there is no chart 'comon'"),
        (
            ("--name", "scan", "--subject", "common", "--", "no-such-program"),
            7,
            "no-such-program is not installed",
        ),
        (
            ("--name", "scan", "--subject", "common", "--evidence", "x", "--", "true"),
            4,
            "did not write x",
        ),
        (
            ("--name", "scan", "--subject", "common", "--timeout", "0.1", "--", "sleep", "9"),
            8,
            "took too long",
        ),
    ],
)
def test_record_refuses_invalid_names_and_missing_arguments(
    server: Server, words: tuple[str, ...], code: int, message: str
) -> None:
    agent = Agent(server, "agent", "origin/main")
    completed = agent.run("record", *words)
    assert completed.returncode == code and message in completed.stderr, completed.stderr
    assert [record for record in agent.records("scan") if record["result"] == "passed"] == []


def test_a_chart_failure_is_reported_although_the_store_fails(server: Server) -> None:
    server.repo.put("charts/common/templates/map.yaml", "{{ fail `no` }}")
    agent = Agent(server, "agent", server.repo.commit("break"))
    (server.folder / "evidence").write_text("a file in the way of the folder")
    server_side = agent.run("check", "--chart", "common")
    assert server_side.returncode == 7 and "cannot be read" in server_side.stderr, (
        server_side.stderr
    )

    (server.folder / "evidence").unlink()
    (server.folder / "evidence").mkdir(mode=0o755)
    (server.folder / "evidence/records").write_text("only writing fails")
    completed = agent.run("check", "--chart", "common")
    assert completed.returncode == 7, "of several, the machine's trouble counts first"
    assert (
        "is not in the evidence store" in completed.stderr and "checks failed" in completed.stderr
    )
    assert agent.records("check")[-1]["result"] == "failed"


def test_state_files_of_shards_count_together(server: Server, tmp_path: Path) -> None:
    """Two agents without a store: what they hand over is read as one, and `join` makes one file of
    it.
    """
    server.repo.put("charts/other/Chart.yaml", CHART.replace("common", "other"))
    server.repo.put("charts/other/templates/map.yaml", MAP)
    server.repo.put(
        "pipeline.yaml", (server.repo.root / "pipeline.yaml").read_text().partition("evidence:")[0]
    )
    head = server.repo.commit("two charts")
    release = Agent(server, "release", head)
    for number in (1, 2):
        agent = Agent(server, f"agent-{number}", head)
        for step in ("check", "snapshot", "integration_test"):
            agent.ok(step, "--all", "--shard", f"{number}/2")
        assert (agent.repo.root / f".pipeline/state.{number}-of-2.jsonl").is_file()
        shutil.copytree(
            agent.repo.root / ".pipeline", release.repo.root / ".pipeline", dirs_exist_ok=True
        )
    release.ok("tag_release", "--local", "--all")

    folder = release.repo.root / ".pipeline"
    lines = {
        line for path in folder.glob("state*.jsonl") for line in path.read_bytes().splitlines()
    }
    release.ok("state", "join", *(str(path) for path in folder.glob("state.*-of-2.jsonl")))
    for path in folder.glob("state.*-of-2.jsonl"):
        path.unlink()
    assert set((folder / "state.jsonl").read_bytes().splitlines()) == lines
    release.ok("promote", "--all")


@pytest.mark.parametrize("kind", ["oci", "file"])
def test_promote_reads_the_store_once_for_each_content(tmp_path: Path, kind: str) -> None:
    """The contents of the chart and of its image; also where the store knows nothing of one of
    them.
    """
    with registry(tmp_path / "registry", access_log=True) as running:
        evidence = (
            f"oci://{running.host}/evidence" if kind == "oci" else (tmp_path / "evidence").as_uri()
        )
        server = Server(tmp_path, evidence)
        server.repo.put("app/Dockerfile", "FROM scratch\n")
        server.repo.put("charts/common/values.yaml", "image: {repository: x, tag: none}\n")
        pipeline = PIPELINE.replace('snapshots"', f'snapshots", images: {running.host}/snap')
        pipeline = pipeline.replace('charts"{more}', f'charts", images: {running.host}/production')
        pipeline = pipeline.replace(
            "tests:", "images: {{app: {{image.repository: '{{repository}}'}}}}\n    tests:"
        )
        pipeline += "images: {{app: {{context: app}}}}\n"
        server.repo.put("pipeline.yaml", pipeline.format(folder=tmp_path, evidence=evidence))
        server.repo.commit("an image")
        agent = Agent(server, "agent", "origin/main")
        config = load((), environ={}, start=agent.repo.root)
        checkout = Checkout(config)
        built = push_base(Registry(running.host, plain_http=True), "snap/app", "k-1", b"built")
        with record_attempt(
            open_state(config),
            step="build_image",
            subject="app",
            key="k",
            content=checkout.image_content("app"),
        ) as build:
            build.passed({"image": f"{running.host}/snap/app:k-1@{built}"})
        for words in (["check"], ["snapshot"], ["integration_test"], ["tag_release", "--local"]):
            agent.ok(*words, "--chart", "common")
        (
            agent.repo.root / ".pipeline/state.jsonl"
        ).unlink()  # another agent: all it knows is in the store

        before, trace = len(_lines(tmp_path / "registry/log")), tmp_path / "trace"
        strace = ("strace", "-f", "-qq", "-e", "trace=openat", "-o", str(trace))
        completed = agent.run(
            "promote", "--tag", "common-1.0.0", "--chart", "common", before=strace
        )
        assert completed.returncode == 0, completed.stderr
        if kind == "oci":
            text = "\n".join(_lines(tmp_path / "registry/log")[before:])
            asked = re.findall(r'"GET /v2/evidence/([0-9a-f]{64})/tags/list', text)
        else:
            opened = r"evidence/about/([0-9a-f]{2}/[0-9a-f]{62})\", .*O_NONBLOCK.*O_DIRECTORY"
            folders = re.findall(opened, trace.read_text())
            asked = [folder.replace("/", "") for folder in folders]
        contents = [checkout.chart("common").content, checkout.image_content("app")]
        assert sorted(asked) == sorted(content.removeprefix("sha256:") for content in contents)
        promoted = agent.records("promote")[-1]
        assert promoted["result"] == "passed" and promoted["inputs"] == {"image:app": built}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
