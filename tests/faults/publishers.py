"""Many publishers at once: distinct versions (T4) while readers poll (T5), blobs of a registry that
many share (T4c), one version with different content (T4d), publishers killed (T4e).

Publishers are processes of their own that begin together, on every kind of repository of
`backends`.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import statistics
import threading
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from pipeline_steps.charts.archive import Archive
from pipeline_steps.repositories import git_pages
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.toolbox.errors import Conflict, PipelineError
from tests.faults.backends import BACKENDS, RIVALS, Backend, in_registry
from tests.faults.figures import Figure, Settings
from tests.faults.world import World
from tests.support.charts import packed

SHARING, SHARING_FULL = 60, 200
ROUNDS = 2
#: Reads while others publish; as many rounds are made as that takes.
READS, READS_FULL = 1_000, 10_000
#: A lock is stuck when nobody can publish for longer than this many seconds and a few tries; who
#: comes second by rule pauses less.
STUCK = 3.0
#: Seconds between two reads.
PAUSE = 0.002
#: Seconds in which all publishers must have started.
TOGETHER = 60.0
#: Seconds in which all publishers must have ended: those to a branch of git may try for ten minutes.
LONGEST = git_pages.BUDGET + TOGETHER


class Watched(NamedTuple):
    """What rounds of publishers of distinct versions came to. there: versions; states: of what was
    read.
    """

    there: int = 0
    published: int = 0
    reads: int = 0
    states: int = 0
    missing: tuple[str, ...] = ()
    misread: tuple[str, ...] = ()

    def and_then(self, other: Watched) -> Watched:
        return Watched(
            self.there + other.there, self.published + other.published, self.reads + other.reads,
            self.states + other.states, self.missing + other.missing, self.misread + other.misread,
        )  # fmt: skip


def distinct(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """Two figures a backend: versions there after all publishers began at once, and what readers
    saw meanwhile.
    """
    demanded = READS_FULL if settings.full else READS
    seen = dict.fromkeys(BACKENDS, Watched())
    rounds = 0
    while not rounds or sum(reader.reads for reader in seen.values()) < demanded:
        rounds += 1
        for name in BACKENDS:
            seen[name] = seen[name].and_then(
                _distinct(name, _place(worlds, f"T4-{name}-{rounds}"), settings)
            )
    reads, misread = (
        sum(reader.reads for reader in seen.values()),
        sum(len(reader.misread) for reader in seen.values()),
    )
    what = "all backends: reads while others publish, none of something half"
    whole = reads - misread
    too_few = () if whole >= demanded else (f"{whole} whole reads of {demanded} demanded",)
    return [
        *(figure for name, reader in seen.items() for figure in _figures(name, reader)),
        Figure("T5", what, f">= {demanded}", f"{whole}/{reads}", too_few),
    ]


def _figures(name: str, seen: Watched) -> list[Figure]:
    whole = seen.reads - len(seen.misread)
    missing = seen.missing if seen.published else ("nothing was published",)
    misread = seen.misread if seen.reads else ("nobody read meanwhile",)
    return [
        Figure("T4", f"{name}: publishers of distinct versions at once: all there",
               f"{seen.published}/{seen.published}", f"{seen.there}/{seen.published}", missing),
        Figure("T5", f"{name}: reads meanwhile: whole, and with all that was acknowledged before",
               "all", f"{whole}/{seen.reads}, {seen.states} states", misread),
    ]  # fmt: skip


def _distinct(name: str, place: Path, settings: Settings) -> Watched:
    """One round."""
    backend = BACKENDS[name]
    charts = [packed(version=f"1.0.{number}") for number in range(backend.crowd(settings))]
    with backend.opened(place) as url:
        publishers = Publishers(place, [(url, chart) for chart in charts])
        with Reader(backend, url, publishers) as reader:
            publishers.wait()
        published = _whole(url, charts)
    wrong = [
        f"{chart.version}: {published[chart.version]}"
        for chart in charts
        if published[chart.version] != "there"
    ]
    told = publishers.results()
    results = [f"told {line}" for line in told if not line.endswith(" done")]
    silent = len(charts) - len(told)
    results += [f"{silent} were told nothing"] if silent else []
    good = len(charts) - len(wrong)
    return Watched(
        good, len(charts), reader.reads, reader.looks, (*wrong, *results), tuple(reader.wrong)
    )


def shared(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure: one chart published to many paths of a registry at once, whose blobs are the
    same.
    """
    number, chart = SHARING_FULL if settings.full else SHARING, packed()
    with in_registry(_place(worlds, "T4c")) as url:
        urls = [f"{url}{n}" for n in range(number)]
        publishers = Publishers(_place(worlds, "T4c-told"), [(url, chart) for url in urls])
        publishers.wait()
        wrong = [
            f"{url}: {seen}"
            for url in urls
            if (seen := _whole(url, [chart])[chart.version]) != "there"
        ]
    wrong += [f"told {line}" for line in publishers.results() if not line.endswith(" done")]
    what = "oci: publishers whose config and chart blobs are the same: all there"
    return [
        Figure("T4c", what, f"{number}/{number}", f"{number - len(wrong)}/{number}", tuple(wrong))
    ]


def rivals(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """One figure a backend: rounds in which all want the same version, each with another content."""
    return [_rivals(name, _place(worlds, f"T4d-{name}"), settings) for name in BACKENDS]


def _rivals(name: str, place: Path, settings: Settings) -> Figure:
    backend = BACKENDS[name]
    rounds, wrong, winners = backend.rounds if settings.full else ROUNDS, list[str](), list[int]()
    with backend.opened(place) as url:
        for number in range(rounds):
            charts = [
                packed(version=f"1.0.{number}", more=f"description: number {n}\n")
                for n in range(RIVALS)
            ]
            publishers = Publishers(place / str(number), [(url, chart) for chart in charts])
            publishers.wait()
            results = publishers.results()
            won = [line.split()[1] for line in results if line.endswith(" done")]
            winners.append(len(won))
            unexpected = [line for line in results if not line.endswith((" done", " conflict"))]
            published = open_repository(url, {}).find("hello", f"1.0.{number}")
            if len(won) not in backend.winners:
                wrong.append(f"round {number}: {len(won)} winners")
            if len(results) != RIVALS or unexpected:
                wrong.append(
                    f"round {number}: {RIVALS - len(results)} were told nothing, {unexpected}"
                )
            if won and (published is None or published.tar_digest not in won):
                wrong.append(f"round {number}: acknowledged {won}, there is {published}")
            again = [
                chart for chart in charts if published and chart.tar_digest == published.tar_digest
            ]
            if not all(_again(url, chart) for chart in again):
                wrong.append(f"round {number}: the winner is refused when it comes again")
    least, most = backend.winners[0], backend.winners[-1]
    demanded = "1 winner" if least == most else f"{least} to {most} winners"
    return Figure(
        "T4d",
        f"{name}: {rounds} rounds of {RIVALS} publishers of one version with other content each",
        demanded,
        f"{min(winners)} to {max(winners)}, {sum(winners)} in all",
        tuple(wrong),
    )


def killed(worlds: Sequence[World], settings: Settings) -> list[Figure]:
    """Two figures a backend: what is there after a fifth of the publishers was killed, and when
    they come again.
    """
    return [
        figure
        for name in BACKENDS
        for figure in _killed(name, _place(worlds, f"T4e-{name}"), settings)
    ]


def _killed(name: str, place: Path, settings: Settings) -> list[Figure]:
    backend, dice = BACKENDS[name], random.Random(settings.seed)
    charts = [packed(version=f"1.0.{number}") for number in range(backend.crowd(settings))]
    with backend.opened(place) as url:
        alone = statistics.median(
            [_seconds(url, packed(version=f"2.0.{number}")) for number in range(3)]
        )
        publishers = Publishers(place, [(url, chart) for chart in charts])
        with Reader(backend, url, publishers) as reader:
            publishers.kill(dice, len(charts) // 5)
            publishers.wait()
            first = _seconds(url, packed(version="3.0.0"))
        results, acknowledged = publishers.results(), publishers.acknowledged()
        published = _whole(url, charts)
        seen = backend.seen(url)
        gone = [chart for chart in charts if published[chart.version] != "there"]
        again = Publishers(place / "again", [(url, chart) for chart in gone])
        again.wait()
        after = _whole(url, charts)
    lost = [
        f"{version} was acknowledged and is not there"
        for version in acknowledged
        if published[version] != "there"
    ]
    wrong = lost + [
        f"{version}: {how}" for version, how in published.items() if how not in ("there", "absent")
    ]
    wrong += [
        f"{lost_chart.version} is seen by readers, not by us"
        for lost_chart in gone
        if lost_chart.version in seen
    ]
    wrong += reader.wrong
    wrong += [f"told {line}" for line in results if not line.endswith(" done")]
    silent = len(charts) - len(results) - len(publishers.dead)
    wrong += [f"{silent} that nobody killed were told nothing"] if silent > 0 else []
    # A push that outlives its killed publisher makes the first one come second, which is no lock:
    # it tries twice, with a pause of up to a second or four tries.
    stuck = first > STUCK + 6 * alone
    wrong += (
        [f"the first after the kills took {first:.1f} s, one alone {alone:.2f} s"] if stuck else []
    )
    missing = [f"{version}: {how}" for version, how in after.items() if how != "there"]
    alive, took = len(acknowledged), f"the next in {first:.2f} s, alone {alone:.2f} s"
    ended = len(charts) - alive - len(publishers.dead)
    return [
        Figure(
            "T4e",
            f"{name}: {len(publishers.dead)} of {len(charts)} publishers killed: "
            "acknowledged versions there",
            f"{alive}/{alive}",
            f"{alive - len(lost)}/{alive}, {max(ended, 0)} others, {took}, {reader.reads} reads",
            tuple(wrong),
        ),
        Figure(
            "T4e",
            f"{name}: the killed ones again: all there",
            f"{len(charts)}/{len(charts)}",
            f"{len(charts) - len(missing)}/{len(charts)}",
            tuple(missing),
        ),
    ]


class Publishers:
    """Processes that begin to publish at once, one chart each; what each was told stands in a file,
    line by line.
    """

    def __init__(self, place: Path, publications: Sequence[tuple[str, Archive]]) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self._told, gate = place / "told", place / "gate"
        self._told.touch()
        self.dead: list[BaseProcess] = []
        context = multiprocessing.get_context("forkserver")  # no child has a connection of ours
        context.set_forkserver_preload([__name__])
        with gate.open("ab") as opened:  # a lock: no killed child can keep it from the others
            fcntl.flock(opened, fcntl.LOCK_EX)
            self._children: list[BaseProcess] = [
                context.Process(
                    target=_publish, args=(*publication, self._told, gate, dict(os.environ))
                )
                for publication in publications
            ]
            for child in self._children:
                child.start()
            end = time.monotonic() + TOGETHER
            while gate.stat().st_size < len(publications) and time.monotonic() < end:
                time.sleep(0.005)

    def wait(self) -> None:
        """Until all have ended, or longer than any may take."""
        end = time.monotonic() + LONGEST
        for child in self._children:
            child.join(max(0.0, end - time.monotonic()))

    def kill(self, dice: random.Random, number: int) -> None:
        """Kill so many: half of them one by one while others get done, the rest at one blow as the
        last that publish.

        Those all want the lock, so the one that has it dies with it, and none is left that would
        clear it away.
        """
        for count in sorted(dice.sample(range(1, len(self._children) - number), number // 2)):
            while len(self.acknowledged()) < count and self._living():
                time.sleep(0.001)
            time.sleep(dice.random() * 0.02)
            self._kill([dice.choice(living)] if (living := self._living()) else [])
        while len(last := self._living()) > number - len(self.dead):
            time.sleep(0.001)
        self._kill(last)

    def _living(self) -> list[BaseProcess]:
        return [child for child in self._children if child not in self.dead and child.is_alive()]

    def _kill(self, children: Sequence[BaseProcess]) -> None:
        for child in children:
            child.kill()
        self.dead += children

    def results(self) -> list[str]:
        """version, digest of the tar, and done, conflict or the error."""
        return self._told.read_text().splitlines()

    def acknowledged(self) -> list[str]:
        return [line.split()[0] for line in self.results() if line.endswith(" done")]


def _publish(
    url: str, chart: Archive, results: Path, gate: Path, environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    with gate.open("ab", buffering=0) as opened:
        opened.write(b".")
        fcntl.flock(opened, fcntl.LOCK_SH)
    try:
        open_writable(url, {}).publish(chart)
        how = "done"
    except Conflict:
        how = "conflict"
    except PipelineError as error:
        how = " ".join(str(error).split())
    descriptor = os.open(results, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{chart.version} {chart.tar_digest} {how}\n".encode())


class Reader:
    """A reader that polls as long as it is open. wrong: reads that failed, or lacked what was
    acknowledged before.

    What reads as it did the last time is not looked into again; looks: how often it was another.
    """

    def __init__(self, backend: Backend, url: str, publishers: Publishers) -> None:
        self.reads = self.looks = 0
        self.wrong: list[str] = []
        self._backend, self._url, self._acknowledged = backend, url, publishers.acknowledged
        self._last: bytes | None = None
        self._seen: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def _poll(self) -> None:
        while not self._end.wait(PAUSE) or not self.reads:
            before = self._acknowledged()
            self.reads += 1
            try:
                missing = sorted(set(before) - self._versions())
            except Exception as error:  # whatever a reader trips over is the finding
                self.wrong.append(f"read {self.reads}: {error!r}")
            else:
                self.wrong += [f"read {self.reads}: without {missing}"] if missing else []

    def _versions(self) -> set[str]:
        index_bytes = self._backend.read(self._url)
        if index_bytes != self._last:
            self.looks += 1
            self._seen = (
                set() if index_bytes is None else self._backend.versions(self._url, index_bytes)
            )
            self._last = index_bytes
        return self._seen

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
            published = repository.find(chart.name, chart.version)
        except PipelineError as error:
            seen[chart.version] = str(error)
            continue
        same = (
            published is not None
            and published.tar_digest == chart.tar_digest
            and chart.version in versions
        )
        seen[chart.version] = (
            "there" if same else "absent" if published is None else f"another: {published}"
        )
    return seen


def _again(url: str, chart: Archive) -> bool:
    try:
        return open_writable(url, {}).publish(chart).tar_digest == chart.tar_digest
    except PipelineError:
        return False


def _seconds(url: str, chart: Archive) -> float:
    began = time.monotonic()
    open_writable(url, {}).publish(chart)
    return time.monotonic() - began


def _place(worlds: Sequence[World], name: str) -> Path:
    place = worlds[0].root.parent / name
    place.mkdir()
    return place
