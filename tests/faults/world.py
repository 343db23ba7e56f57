"""A small world to break: a git checkout with one chart, its repositories as folders, and the steps
whose work is local. It says what a step left, in a form that an undisturbed run can be compared
with.

A new step is one line of STEPS: every fault is then tried on it.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.proposed import MERGED, Proposals
from tests.support.gits import Repo
from tests.support.helms import helm

PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "a library, tested through its dependents"}}
channels:
  snapshot: {{charts: "file://{root}/snapshots"}}
  production: {{charts: "file://{root}/released/charts"}}
"""
#: What steps with a store are given beside it.
SITE = 'evidence: "file://{root}/store"\n'
CHART = "apiVersion: v2\nname: common\ntype: application\nversion: 1.0.0\n"
#: A chart with a lock that its range has outgrown, which `check --fix` writes anew from what is
#: vendored.
OUTGROWN = {
    "Chart.yaml": "apiVersion: v2\nname: locked\nversion: 1.0.0\ndependencies:\n"
    "  - {name: sub, version: ^1.0.0, repository: 'https://charts.invalid'}\n",
    "Chart.lock": "dependencies:\n- name: sub\n  repository: https://charts.invalid\n"
    "  version: 0.9.0\ndigest: sha256:0\ngenerated: '2026-01-01T00:00:00Z'\n",
    "charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
}
MAP = (
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\ndata: {greeting: '
    "hello}\n"
)
#: Fields of a record that an undisturbed and a repeated run share.
SAME = (
    "step",
    "subject",
    "key",
    "content",
    "parameters",
    "inputs",
    "outputs",
    "result",
    "revision",
)
#: Parameters that say how the image was come by, not which it is. A step that was killed between
#: the push and its record finds its image there when it is asked again, and says that it took it
#: and cannot tell how it was built.
HOW = ("taken", "reproducible")
#: Parameters that say what a step met when it looked. What one did that was killed before its
#: record is there already when it is asked again; the files themselves are compared byte for byte.
#: A merge that is made already asks nobody; whom it asked is in the message of the merge.
MET = ("counts", "findings", "fixed", "left", "approvers")
#: Fields of records, beside the parameter `stored`, about the chart whose lock says when it was
#: written.
WHEN = ("key", "content")
#: A chart of another source, whose tags no pipeline made.
PLAIN = "apiVersion: v2\nname: hello\nversion: {version}\n"
#: What a file says of the moment when it was written.
_WRITTEN = re.compile(rb'(?m)^generated: .*$| time(?:stamp)?="[^"]*"')
#: How often a step ran, in a report; the line of Markdown is that of `check`, which runs each time.
_ATTEMPTS = re.compile(
    rb'(?<=data-name="attempts">)(?:<b>)?\d+(?:</b>)?|(?<=^\| check \| passed \| )\d+', re.M
)
#: The id of a merge, which has a time; `Proposals.outcome` compares what it merges.
_MERGE = re.compile(r'(?<="merge": "main@)[0-9a-f]{40}')
_RECORD = re.compile(r"\b[0-9a-f]{12}\b")
PACKAGE = Path(__file__).resolve().parents[2] / "pipeline_steps"


class Step(NamedTuple):
    """A command line, and what is done to a world before it. {root} in a word: the world's folder,
    as in its `names`.

    store: with an evidence store beside the state file. reviewed: with `Proposals` of changes.
    """

    name: str
    words: tuple[str, ...]
    before: Callable[[World], object] | None = None
    store: bool = False
    reviewed: bool = False


def handed_over(world: World) -> None:
    """The state comes from another agent: `join` has to bring it in."""
    world.state.rename(world.root / "agent.jsonl")


def afresh(world: World) -> None:
    """Nothing was done yet."""
    shutil.rmtree(world.state.parent)
    for name in ("released", "regenerated", "copied"):
        shutil.rmtree(world.root / name)
    (world.root / "agent.jsonl").unlink()
    for path in (world.root / "snapshots").iterdir():
        path.unlink()
    world.git("tag", "-d", "common-1.0.0")


def signed(world: World) -> None:
    """One chart of the repository to copy has a .prov file."""
    (world.root / "regenerated/hello-0.1.0.tgz.prov").write_bytes(b"signed\n")


def damaged(world: World) -> None:
    """One entry of the index is lost, another one is there twice; all archives have a .prov file."""
    (world.root / "copied/hello-0.2.0.tgz.prov").write_bytes(b"signed\n")
    index = world.root / "copied/index.yaml"
    text = index.read_text()
    first, second = re.findall(r"(?m)^  - .*\n(?:    .*\n)*", text)
    index.write_text(text.replace(first, "").replace(second, second * 2))


def elsewhere(world: World) -> None:
    """A checkout of another machine, which shares the store only."""
    shutil.rmtree(world.state.parent)


def unchanged(world: World) -> None:
    """All charts are as the source stores them."""
    world.git("checkout", "--quiet", "charts")


def changed(world: World) -> None:
    """The released chart was changed since, and that is not committed yet."""
    map_yaml = world.source / "charts/common/templates/map.yaml"
    map_yaml.write_text(MAP.replace("hello", "good day"))
    os.utime(map_yaml, (1767225600, 1767225600))  # a selection's key has the time of modifications


def cloned(world: World) -> None:
    """The checkout is of the reviewed repository, and has what was merged there."""
    world.git("checkout", "--quiet", "charts")
    world.git("remote", "add", "origin", world.names["reviewed"])
    world.git("merge", "--quiet", "--ff-only", MERGED)


MAKING = (
    Step("check", ("check", "--chart", "common")),
    Step("snapshot", ("snapshot", "--chart", "common")),
    Step("integration_test", ("integration_test", "--chart", "common")),
    Step("report", ("report", "--chart", "common")),
    Step("tag_release", ("tag_release", "--local", "--chart", "common")),
    Step("promote", ("promote", "--chart", "common")),
)
TAGS = ("--source", "{root}/history", "--charts", "charts/*", "--tags", "{{name}}-{{version}}")
FILLED, COPIED = "file://{root}/regenerated", "file://{root}/copied"
FILLING = (
    Step("regenerate", ("regenerate", "--to", FILLED)),
    Step("regenerate, plain tags", ("regenerate", *TAGS, "--to", FILLED)),
    Step(
        "regenerate --from",
        ("regenerate", "--from", FILLED, "--to", COPIED, "--chart", "hello"),
        signed,
    ),
    Step("audit --fix", ("audit", COPIED, "--fix"), damaged),
)
VERIFY = ("verify", "file://{root}/released/charts/common-1.0.0.tgz")
SCAN = ("--name", "scan", "--subject", "common", "--evidence", "{root}/site.yaml", "--", "true")
STEPS = (
    *MAKING,
    *FILLING,
    Step("verify", VERIFY),
    Step("reproduce", ("reproduce", "snapshot/common")),
    Step("state join", ("state", "join", "{root}/agent.jsonl"), handed_over),
    *(
        Step(f"{step.name}, store", step.words, None if number else afresh, True)
        for number, step in enumerate(MAKING)
    ),
    Step("record, store", ("record", *SCAN), store=True),
    Step("state pull, store", ("state", "pull", "--revision", "HEAD"), elsewhere, True),
    Step("verify, store", VERIFY, elsewhere, True),
    Step("snapshot --diff", ("snapshot", "--diff", "--chart", "common"), changed),
    Step("check --fix", ("check", "--fix", "--chart", "locked"), unchanged),
    Step("bump", ("bump", "--chart", "common", "--part", "minor", "-m", "Say it"), unchanged),
)
REVIEWED = ("--config", "{root}/reviews.yaml")
STEPS += (
    Step("approval", ("approval", "--chart", "common", *REVIEWED), cloned, reviewed=True),
    Step("merge", ("merge", "--review", "{waiting}", *REVIEWED), unchanged, reviewed=True),
)
Outcome = dict[str, Any]


class World:
    """One throw-away folder with everything that steps read and write. code: the package as it is
    installed.
    """

    def __init__(
        self, folder: Path, code: Path, helm_major: int = 4, steps: Sequence[Step] = STEPS
    ) -> None:
        self.root = folder / "world"
        self.names = {"root": str(self.root)}
        self.kept = folder / "kept"
        self.code = code
        self.helm_major = helm_major
        self.python = sys.executable
        self.steps = steps
        self.source = self.root / "source"
        self.state = self.source / ".pipeline/state.jsonl"
        self.store = self.root / "store"
        self.lock = self.source / "charts/locked/Chart.lock"
        self.chart = self.source / "charts/common/Chart.yaml"
        self.expected: dict[str, Outcome] = {}
        for place in (self.root / "tmp", self.root / "snapshots", self.kept):
            place.mkdir(parents=True)
        (self.root / "site.yaml").write_text(SITE.format(root=self.root))
        repo = Repo(self.source, self.root / "gitconfig")
        self._fill(repo)
        shutil.rmtree(self.source / ".git/hooks")
        repo.git("add", "-A")
        repo.git(
            "-c",
            "user.useConfigOnly=false",
            "commit",
            "-q",
            "--date=2026-01-01T00:00:00Z",
            "-m",
            "change",
        )
        self.proposals = Proposals(self.root, repo) if any(s.reviewed for s in steps) else None
        if self.proposals:
            self.names |= {"reviewed": self.proposals.url, "waiting": self.proposals.waiting}
        history = Repo(self.root / "history", self.root / "gitconfig")
        shutil.rmtree(history.root / ".git/hooks")
        for version in ("0.1.0", "0.2.0"):
            history.put("charts/hello/Chart.yaml", PLAIN.format(version=version))
            history.put("charts/hello/templates/map.yaml", MAP)
            history.commit()
            history.git("tag", f"hello-{version}")

    @property
    def places(self) -> tuple[Path, ...]:
        """The folders that steps write to, but for the source's own."""
        outside = (self.root / name for name in ("snapshots", "released", "regenerated", "copied"))
        return (self.state.parent, *outside, self.store, self.lock.parent, self.chart.parent)

    @property
    def repositories(self) -> tuple[Path, ...]:
        """The folders that are chart repositories."""
        return tuple(
            self.root / name for name in ("snapshots", "released/charts", "regenerated", "copied")
        )

    def _fill(self, repo: Repo) -> None:
        """The files of the checkout."""
        repo.put("pipeline.yaml", PIPELINE.format(root=self.root))
        repo.put("charts/common/Chart.yaml", CHART)
        repo.put("charts/common/templates/map.yaml", MAP)
        for name, text in OUTGROWN.items():
            repo.put(f"charts/locked/{name}", text)

    def environment(self, step: Step, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.code}/helm{self.helm_major}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root),
            "TMPDIR": str(self.root / "tmp"),
            "GIT_CONFIG_GLOBAL": str(self.root / "gitconfig"),
            "PYTHONPATH": str(self.code),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            **({"PIPELINE_STEPS_SITE": str(self.root / "site.yaml")} if step.store else {}),
            **more,
        }

    def command(self, step: Step) -> list[str]:
        return [
            self.python,
            "-m",
            "pipeline_steps",
            *(word.format(**self.names) for word in step.words),
        ]

    def run(
        self,
        step: Step,
        *before: str,
        cwd: Path | None = None,
        more: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the step to its end; before: words before the interpreter, like strace and its
        options.
        """
        return subprocess.run(
            [*before, *self.command(step)],
            cwd=cwd or self.source, env=self.environment(step, **(more or {})), capture_output=True, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def ready(self) -> World:
        """Run the chain undisturbed, keeping the world before and the outcome after each step."""
        for step in self.steps:
            if step.before:
                step.before(self)
            copy(self.root, self.kept / step.name)
            if self.proposals:
                self.proposals.keep(step.name)
            completed = self.run(step)
            assert completed.returncode == 0, f"{step.name} undisturbed: {completed.stderr}"
            self.expected[step.name] = self.outcome()
        return self

    def back(self, step: Step) -> None:
        """As it was before the step."""
        copy(self.kept / step.name, self.root)
        if self.proposals:
            self.proposals.back(step.name)

    def again(self, step: Step) -> str:
        """Run the step once more without any fault; what is not as after an undisturbed run, ""
        when nothing.
        """
        completed = self.run(step)
        if completed.returncode:
            return (
                f"the run after it exits {completed.returncode}: {completed.stderr.strip()[-500:]}"
            )
        seen = self.outcome()
        if step.name == "report, store":
            # Its record is about no content, so no later step puts it into the store again: what a
            # killed one left goes when somebody writes into the same folder of the store.
            seen["left"] = [name for name in seen["left"] if not name.startswith("store/")]
        return difference(self.expected[step.name], seen)

    def outcome(self) -> Outcome:
        """Everything that steps leave and that must not depend on how often they were disturbed."""
        return {
            **{
                f"file {path.relative_to(self.root)}": self.describe(path)
                for path in self._published()
            },
            "tags": self.git(
                "for-each-ref", "--format=%(refname) %(*objectname) %(contents)", "refs/tags"
            ),
            **(self.proposals.outcome() if self.proposals else {}),
            "verdicts": [_MERGE.sub("ITSELF", text) for text in current_lines(lines(self.state))],
            "store": current_lines(stored(self.store)),
            "lost evidence": lost(self.store, stored(self.store)),
            "left": self.left(),
        }

    def left(self) -> list[str]:
        """Temporary files anywhere: ours, those of Python, locks of git."""
        leftovers = [
            path for path in self.root.rglob("*") if "tmp-" in path.name or path.suffix == ".lock"
        ]
        leftovers += (self.root / "tmp").iterdir()
        return sorted(
            {
                str(path.relative_to(self.root))
                for path in leftovers
                if path.name not in (".lock", self.lock.name)
            }
        )

    def _published(self) -> list[Path]:
        files = (
            path
            for place in self.repositories
            for path in place.rglob("*")
            if path.is_file() or path.is_symlink()
        )
        written = [
            path for place in ("report", "diff") for path in self.state.parent.glob(f"{place}/*")
        ]
        return sorted(
            path
            for path in [*files, *written, *filter(Path.exists, [self.lock, self.chart])]
            if path.name != ".lock" and "tmp-" not in path.name
        )

    def describe(self, path: Path) -> str:
        """What is in a file; the times of tags, which an index names, as what they are: each world
        has its own.
        """
        if path.is_symlink():
            return "a symbolic link"
        data = path.read_bytes()
        if path == self.lock or path.parent.name == "report":
            data = _ATTEMPTS.sub(b"ATTEMPTS", _WRITTEN.sub(b"WRITTEN", data))
        if path.name == "index.yaml":
            dates = ("for-each-ref", "--format=%(creatordate:unix)", "refs/tags")
            for tagged in (
                self.git(*dates) + self.git("-C", str(self.root / "history"), *dates)
            ).split():
                written = datetime.fromtimestamp(int(tagged), timezone.utc).strftime(
                    "%Y-%m-%dT%H:%M:%SZ"
                )
                data = data.replace(written.encode(), b"TAGGED")
        return f"{stat.S_IMODE(path.stat().st_mode):o} {hashlib.sha256(data).hexdigest()}"

    def git(self, *words: str) -> str:
        command = ["git", "-c", "safe.directory=*", *words]
        return subprocess.run(
            command, cwd=self.source, capture_output=True, text=True, check=True
        ).stdout


def lines(state: Path) -> list[bytes]:
    """The whole lines of a state file."""
    return state.read_bytes().split(b"\n")[:-1] if state.exists() else []


def stored(store: Path) -> list[bytes]:
    """The record behind each entry of a store; one that is not there is a failed one called
    missing. And those that no entry leads to: reports, whatever nobody can read.
    """
    names = sorted(path.name.rpartition("-")[2] for path in store.glob("about/*/*/*"))
    places = [store / "records" / name[:2] / f"{name[2:]}.json" for name in names]
    places += [
        path
        for path in sorted(store.glob("records/*/*.json"))
        if path not in places and _is_report_or_broken(path.read_bytes())
    ]
    missing = {"step": "missing", "result": "failed"}
    return [
        place.read_bytes() if place.exists() else json.dumps({"id": str(place), **missing}).encode()
        for place in places
    ]


def _is_report_or_broken(line: bytes) -> bool:
    try:
        return bool(json.loads(line)["step"] == "report")
    except ValueError:
        return True


def lost(store: Path, records: Sequence[bytes]) -> list[str]:
    """Evidence of a store's records that is not in it, or other bytes there."""
    digests = {
        digest[7:]: name
        for line in records
        for name, digest in json.loads(line).get("evidence", {}).items()
    }
    places = {store / "files" / digest[:2] / digest[2:]: digest for digest in digests}
    return [
        digests[digest]
        for place, digest in places.items()
        if not place.exists() or hashlib.sha256(place.read_bytes()).hexdigest() != digest
    ]


def current_lines(lines: Sequence[bytes]) -> list[str]:
    """The verdicts that nothing supersedes, read without the library's own code."""
    records = [json.loads(line) for line in lines if line]
    gone = {identity for record in records for identity in record.get("supersedes", ())}
    verdicts = [
        r
        for r in records
        if r["id"] not in gone
        and r["result"] in ("passed", "failed", "refused")
        and "locked" not in r.get("outputs", ())  # selections of the chart whose content has a time
    ]
    for verdict in verdicts:
        verdict["parameters"] = {
            k: _normalized(v)
            for k, v in verdict.get("parameters", {}).items()
            if k not in (*HOW, *MET)
        }
        if verdict["subject"] == "locked":
            verdict.update(dict.fromkeys(WHEN, "WRITTEN"))
            verdict["parameters"].pop("stored")
    return sorted(
        json.dumps({name: record.get(name) for name in SAME}, sort_keys=True) for record in verdicts
    )


def _normalized(value: Any) -> Any:
    """A parameter; the ids of records, which are random, in lines of text as what they are."""
    if not isinstance(value, list):
        return value
    return [_RECORD.sub("RECORD", line) if isinstance(line, str) else line for line in value]


def difference(expected: Outcome, seen: Outcome) -> str:
    """The first thing in which two outcomes differ, "" when they are equal."""
    for name in sorted({*expected, *seen}):
        if expected.get(name) != seen.get(name):
            return f"{name}: {seen.get(name)!r:.600}, undisturbed {expected.get(name)!r:.600}"
    return ""


def copy(source: Path, target: Path) -> None:
    """Make `target` what `source` is, links, modes and times included."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", "--", source, target], check=True)


def installed(folder: Path) -> Path:
    """A copy of the package with its bytecode, so that no run depends on who edits or compiles it
    meanwhile.
    """
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(folder, quiet=2)
    for major in (3, 4):  # where every account can start them
        (folder / f"helm{major}").mkdir()
        shutil.copy(helm(major), folder / f"helm{major}/helm")
    folder.parent.chmod(0o755)
    return folder


def worlds(folder: Path, number: int) -> list[World]:
    """Worlds that break independently of each other, each with its undisturbed run behind it."""
    code = installed(folder / "code")
    os.environ.pop("PYTHONPATH", None)
    made = [World(folder / str(n), code) for n in range(number)]
    with ThreadPoolExecutor(max(1, number)) as pool:
        return list(pool.map(World.ready, made))
