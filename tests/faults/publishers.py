"""Many publishers at once: distinct versions (T4) while readers poll (T5), blobs of a registry that many share (T4c),
one version with different content (T4d), publishers killed (T4e).

Publishers are processes of their own that begin together. A new kind of repository is one line of BACKENDS: every
test is then made on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import random
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock
from urllib.parse import urlsplit

import yaml

from pipeline_steps.charts.archive import Archive
from pipeline_steps.core.errors import Conflict, PipelineError
from pipeline_steps.repositories.table import open_repository
from pipeline_steps.toolbox.files import sha256
from tests.faults.figures import Figure, Settings
from tests.faults.world import World
from tests.support.charts import packed
from tests.support.github import github
from tests.support.gits import bare
from tests.support.registries import registry

PUBLISHERS, RIVALS = 200, 50
SHARING, SHARING_FULL = 60, 200
ROUNDS, ROUNDS_FULL = 2, 100
#: A lock is stuck when nobody can publish for longer than this many seconds.
STUCK = 1.0
#: Seconds in which all publishers must have started.
TOGETHER = 60.0


class Backend(NamedTuple):
    """One kind of repository. opened: (an empty folder) → its URL, for as long as the context is open.

    versions: (URL) → versions of hello that a reader sees, read without our code; it raises when what is read is half.
    one_wins: exactly one of those who want the same version, or at most one? publishers: how many begin together;
    rounds: how often one version is competed for in the full size.
    """

    opened: Callable[[Path], contextlib.AbstractContextManager[str]]
    versions: Callable[[str], set[str]]
    one_wins: bool
    publishers: int = PUBLISHERS
    rounds: int = ROUNDS_FULL


@contextlib.contextmanager
def _folder(place: Path) -> Iterator[str]:
    yield (place / "charts").as_uri()


@contextlib.contextmanager
def _registry(place: Path) -> Iterator[str]:
    with registry(place) as running:
        yield f"oci://{running.host}/team/charts"


@contextlib.contextmanager
def _pages(place: Path) -> Iterator[str]:
    yield f"git+{bare(place / 'pages.git').as_uri()}"


def _in_folder(url: str) -> set[str]:
    """The versions in the index, each with its archive."""
    folder = Path(urlsplit(url).path)
    try:
        index = yaml.load((folder / "index.yaml").read_bytes(), Loader=yaml.CSafeLoader)
    except FileNotFoundError:
        return set()
    entries = (index["entries"] or {}).get("hello", [])
    for entry in entries:
        assert sha256((folder / entry["urls"][0]).read_bytes()) == f"sha256:{entry['digest']}", entry["version"]
    return {entry["version"] for entry in entries}


def _in_registry(url: str) -> set[str]:
    """The versions that are tags."""
    host, _, path = url.removeprefix("oci://").partition("/")
    try:
        with urllib.request.urlopen(f"http://{host}/v2/{path}/hello/tags/list") as answer:
            tags = json.load(answer)["tags"] or []
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return set()
        raise
    return {tag for tag in tags if not tag.startswith("claim-")}


def _on_branch(url: str) -> set[str]:
    """The versions in the index of the newest commit, each with its archive."""
    folder = urlsplit(url.removeprefix("git+")).path

    def git(*words: str, stdin: bytes = b"") -> bytes:
        return subprocess.run(["git", *words], cwd=folder, input=stdin, capture_output=True, check=True).stdout

    commit = git("for-each-ref", "--format=%(objectname)", "refs/heads/gh-pages").decode().strip()
    if not commit:
        return set()
    index = yaml.load(git("cat-file", "blob", f"{commit}:index.yaml"), Loader=yaml.CSafeLoader)
    entries = index["entries"]["hello"]
    archives = git("cat-file", "--batch", stdin="".join(f"{commit}:{one['urls'][0]}\n" for one in entries).encode())
    for entry in entries:
        head, _, rest = archives.partition(b"\n")
        size = int(head.split()[2])
        assert sha256(rest[:size]) == f"sha256:{entry['digest']}", entry["version"]
        archives = rest[size + 1 :]
    return {entry["version"] for entry in entries}


@contextlib.contextmanager
def _releases(place: Path) -> Iterator[str]:
    with github("team/charts") as hub, mock.patch.dict(os.environ, hub.environment):
        yield "github-releases:team/charts"
        assert hub.wrong == []


def _on_github(url: str) -> set[str]:
    """The versions in the index that the pages serve, each with its archive."""
    pages = os.environ["GITHUB_API_URL"].replace("/api/v3", "/pages/team/charts/index.yaml")
    try:
        with urllib.request.urlopen(pages) as answer:
            entries = yaml.load(answer.read(), Loader=yaml.CSafeLoader)["entries"].get("hello", [])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return set()
        raise
    for entry in entries:
        with urllib.request.urlopen(entry["urls"][0]) as answer:
            assert sha256(answer.read()) == f"sha256:{entry['digest']}", entry["version"]
    return {entry["version"] for entry in entries}


BACKENDS = {
    "file": Backend(_folder, _in_folder, one_wins=True),
    "oci": Backend(_registry, _in_registry, one_wins=False),
    "git": Backend(_pages, _on_branch, one_wins=True, publishers=20, rounds=10),  # 200 are in T4b
    "github": Backend(_releases, _on_github, one_wins=True, publishers=20, rounds=10),
}


def distinct(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """Two figures a backend: versions there after all publishers began at once, and what readers saw meanwhile."""
    return [figure for name in BACKENDS for figure in _distinct(name, _place(worlds, f"T4-{name}"))]


def _distinct(name: str, place: Path) -> list[Figure]:
    backend = BACKENDS[name]
    charts = [packed(version=f"1.0.{number}") for number in range(backend.publishers)]
    with backend.opened(place) as url:
        publishers = Publishers(place, [(url, chart) for chart in charts])
        with Reader(backend, url, publishers) as reader:
            publishers.wait()
        there = _whole(url, charts)
    wrong = [f"{chart.version}: {there[chart.version]}" for chart in charts if there[chart.version] != "there"]
    wrong += [f"told {line}" for line in publishers.told() if not line.endswith(" done")]
    good = len(charts) - len(wrong)
    return [
        Figure("T4", f"{name}: publishers of distinct versions at once: all there",
               f"{len(charts)}/{len(charts)}", f"{good}/{len(charts)}", tuple(wrong)),
        Figure("T5", f"{name}: reads meanwhile: whole, and with all that was acknowledged before",
               "all", f"{reader.reads - len(reader.wrong)}/{reader.reads}",
               tuple(reader.wrong) or (() if reader.reads else ("no read",))),
    ]  # fmt: skip


def shared(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: one chart published to many paths of a registry at once, whose blobs are the same."""
    number, chart = SHARING_FULL if settings.full else SHARING, packed()
    with _registry(_place(worlds, "T4c")) as url:
        urls = [f"{url}{n}" for n in range(number)]
        publishers = Publishers(_place(worlds, "T4c-told"), [(one, chart) for one in urls])
        publishers.wait()
        wrong = [f"{one}: {seen}" for one in urls if (seen := _whole(one, [chart])[chart.version]) != "there"]
    wrong += [f"told {line}" for line in publishers.told() if not line.endswith(" done")]
    what = "oci: publishers whose config and chart blobs are the same: all there"
    return [Figure("T4c", what, f"{number}/{number}", f"{number - len(wrong)}/{number}", tuple(wrong))]


def rivals(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure a backend: rounds in which all want the same version, each with another content."""
    return [_rivals(name, _place(worlds, f"T4d-{name}"), settings) for name in BACKENDS]


def _rivals(name: str, place: Path, settings: Settings) -> Figure:
    backend = BACKENDS[name]
    rounds, wrong, winners = backend.rounds if settings.full else ROUNDS, list[str](), list[int]()
    with backend.opened(place) as url:
        for number in range(rounds):
            charts = [packed(version=f"1.0.{number}", more=f"description: number {n}\n") for n in range(RIVALS)]
            publishers = Publishers(place / str(number), [(url, chart) for chart in charts])
            publishers.wait()
            told = publishers.told()
            won = [line.split()[1] for line in told if line.endswith(" done")]
            winners.append(len(won))
            others = [line for line in told if not line.endswith((" done", " conflict"))]
            found = open_repository(url, {}).find("hello", f"1.0.{number}")
            if len(won) > 1 or (backend.one_wins and not won):
                wrong.append(f"round {number}: {len(won)} winners")
            if len(told) != RIVALS or others:
                wrong.append(f"round {number}: {RIVALS - len(told)} were told nothing, {others}")
            if won and (found is None or found.tar_digest not in won):
                wrong.append(f"round {number}: acknowledged {won}, there is {found}")
            if won and not _again(url, next(chart for chart in charts if chart.tar_digest in won)):
                wrong.append(f"round {number}: the winner is refused when it comes again")
    demanded = "1 winner" if backend.one_wins else "0 or 1 winner"
    return Figure("T4d", f"{name}: {rounds} rounds of {RIVALS} publishers of one version with other content each",
                  demanded, f"{min(winners)} to {max(winners)}, {sum(winners)} in all", tuple(wrong))  # fmt: skip


def killed(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """Two figures a backend: what is there after a fifth of the publishers was killed, and when they come again."""
    return [figure for name in BACKENDS for figure in _killed(name, _place(worlds, f"T4e-{name}"), settings)]


def _killed(name: str, place: Path, settings: Settings) -> list[Figure]:
    backend, dice = BACKENDS[name], random.Random(settings.seed)
    charts = [packed(version=f"1.0.{number}") for number in range(backend.publishers)]
    with backend.opened(place) as url:
        publishers = Publishers(place, [(url, chart) for chart in charts])
        with Reader(backend, url, publishers) as reader:
            publishers.kill(dice, len(charts) // 5)
            publishers.wait()
        acknowledged = publishers.acknowledged()
        there = _whole(url, charts)
        stuck = min(_seconds(url, packed(version=f"2.0.{number}")) for number in range(3))
        seen = backend.versions(url)
        gone = [chart for chart in charts if there[chart.version] != "there"]
        again = Publishers(place / "again", [(url, chart) for chart in gone])
        again.wait()
        after = _whole(url, charts)
    wrong = [f"{version} was acknowledged and is not there" for version in acknowledged if there[version] != "there"]
    wrong += [f"{version}: {how}" for version, how in there.items() if how not in ("there", "absent")]
    wrong += [f"{one.version} is seen by readers, not by us" for one in gone if one.version in seen]
    wrong += reader.wrong
    wrong += [f"the next publisher waited {stuck:.1f} s"] if stuck > STUCK else []
    missing = [f"{version}: {how}" for version, how in after.items() if how != "there"]
    alive = len(acknowledged)
    return [
        Figure("T4e", f"{name}: {len(publishers.dead)} of {len(charts)} publishers killed: acknowledged versions there",
               f"{alive}/{alive}", f"{alive - len(wrong)}/{alive}, the next after {stuck:.2f} s, {reader.reads} reads",
               tuple(wrong)),
        Figure("T4e", f"{name}: the killed ones again: all there", f"{len(charts)}/{len(charts)}",
               f"{len(charts) - len(missing)}/{len(charts)}", tuple(missing)),
    ]  # fmt: skip


class Publishers:
    """Processes that begin to publish at once, one chart each; what each was told stands in a file, line by line."""

    def __init__(self, place: Path, what: Sequence[tuple[str, Archive]]) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self._told, gate = place / "told", place / "gate"
        self._told.touch()
        self.dead: list[int] = []
        context = multiprocessing.get_context("forkserver")  # no child has a connection of ours
        context.set_forkserver_preload([__name__])
        with gate.open("ab") as opened:  # a lock: no killed child can keep it from the others
            fcntl.flock(opened, fcntl.LOCK_EX)
            self._children = [
                context.Process(target=_publish, args=(*one, self._told, gate, dict(os.environ))) for one in what
            ]
            for child in self._children:
                child.start()
            end = time.monotonic() + TOGETHER
            while gate.stat().st_size < len(what) and time.monotonic() < end:
                time.sleep(0.005)

    def wait(self) -> None:
        for child in self._children:
            child.join(2 * TOGETHER)

    def kill(self, dice: random.Random, number: int) -> None:
        """Kill so many of those that still publish, spread over the time in which half of them get done."""
        while not self.acknowledged() and any(child.is_alive() for child in self._children):
            time.sleep(0.001)
        for child in dice.sample(self._children, len(self._children)):
            if len(self.dead) == number:
                return
            if child.is_alive():
                os.kill(child.pid or 0, signal.SIGKILL)
                self.dead.append(child.pid or 0)
                time.sleep(dice.random() * 0.02)

    def told(self) -> list[str]:
        """version, digest of the tar, and done, conflict or the error."""
        return self._told.read_text().splitlines()

    def acknowledged(self) -> list[str]:
        return [line.split()[0] for line in self.told() if line.endswith(" done")]


def _publish(url: str, chart: Archive, told: Path, gate: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with gate.open("ab", buffering=0) as opened:
        opened.write(b".")
        fcntl.flock(opened, fcntl.LOCK_SH)
    try:
        open_repository(url, {}).publish(chart)
        how = "done"
    except Conflict:
        how = "conflict"
    except PipelineError as error:
        how = " ".join(str(error).split())
    descriptor = os.open(told, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{chart.version} {chart.tar_digest} {how}\n".encode())


class Reader:
    """A reader that polls as long as it is open. wrong: reads that failed, or lacked what was acknowledged before."""

    def __init__(self, backend: Backend, url: str, publishers: Publishers) -> None:
        self.reads = 0
        self.wrong: list[str] = []
        self._ask = (backend.versions, url, publishers.acknowledged)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def _poll(self) -> None:
        versions, url, acknowledged = self._ask
        while not self._end.wait(0.02) or not self.reads:
            before = acknowledged()
            self.reads += 1
            try:
                missing = sorted(set(before) - versions(url))
            except Exception as error:  # whatever a reader trips over is the finding
                self.wrong.append(f"read {self.reads}: {error!r}")
            else:
                self.wrong += [f"read {self.reads}: without {missing}"] if missing else []

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()


def _whole(url: str, charts: Sequence[Archive]) -> dict[str, str]:
    """Of each version: there, absent, or what is wrong with it; its archive is read and compared."""
    repository = open_repository(url, {})
    versions, seen = set(repository.versions(charts[0].name)), {}
    for chart in charts:
        try:
            found = repository.find(chart.name, chart.version)
        except PipelineError as error:
            seen[chart.version] = str(error)
            continue
        same = found is not None and found.tar_digest == chart.tar_digest and chart.version in versions
        seen[chart.version] = "there" if same else "absent" if found is None else f"another: {found}"
    return seen


def _again(url: str, chart: Archive) -> bool:
    try:
        return open_repository(url, {}).publish(chart).tar_digest == chart.tar_digest
    except PipelineError:
        return False


def _seconds(url: str, chart: Archive) -> float:
    began = time.monotonic()
    open_repository(url, {}).publish(chart)
    return time.monotonic() - began


def _place(worlds: Sequence[World], name: str) -> Path:
    place = worlds[0].root.parent / name
    place.mkdir()
    return place
