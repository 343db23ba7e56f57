"""Archives that must be refused, by every door through which a chart comes in; and what helm makes
of them.

A child reads the whole corpus, so that its memory and what it leaves behind can be measured. The
commands that read charts of others do so, too, each as a process that meets all of them at once: a
hostile one keeps no other back.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline_steps.charts import archive
from pipeline_steps.repositories.kinds import open_writable
from pipeline_steps.toolbox.files import sha256
from tests.support import hostile
from tests.support.charts import files, packed
from tests.support.gits import Repo
from tests.support.helms import helm

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs/reference/refused-archives.md"
MOST_MIB = 256

#: Gives each archive of a folder to every door; says what each answered, and how much memory was
#: needed at most.
CHILD = """
import json, re, sys
from pathlib import Path
from pipeline_steps.charts import archive, dependencies
from pipeline_steps.toolbox.errors import PipelineError
from tests.support.charts import files
own = archive.Files(files(more="dependencies: [{name: a, version: 1.0.0, repository: 'https://example.com'}]\\n"))
doors = {
    "opened": lambda tgz: archive.open_archive(tgz, "a-1.0.0.tgz"),
    "fetched": lambda tgz: dependencies.fill(own, lambda missing: tgz, "hello"),
    "vendored": lambda tgz: dependencies.missing_archives({**files(), "charts/a-1.0.0.tgz": tgz}, "hello"),
}
def answered(door, tgz):
    try:
        door(tgz)
        return "taken"
    except PipelineError as error:
        return f"{error.exit_code} {error}"
told = {}
for path in sorted(Path(sys.argv[1]).glob("*.tgz")):
    tgz = path.read_bytes()
    told[path.stem] = {name: answered(door, tgz) for name, door in doors.items()}
kib = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]  # getrusage counts the parent's, too
print(json.dumps({"told": told, "kib": int(kib)}))
"""


class Hostile(NamedTuple):
    """An archive. says: in the refusal; loads: it is well made, and only what packs it into another
    chart refuses.
    """

    name: str
    path: Path
    message: str
    loads: bool


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Hostile]]:
    folder = tmp_path_factory.mktemp("hostile")
    found: list[Hostile] = []
    for loads, source in ((False, hostile.archives()), (True, hostile.unloadable())):
        for name, data, message in source:
            path = folder / f"{len(found):03}.tgz"
            path.write_bytes(data)
            found.append(Hostile(name, path, message, loads))
    yield found


def at_every_door(archives: Path, home: Path) -> dict[str, dict[str, str]]:
    """Archive → door → what it said; in little memory, and nothing is written."""
    environment = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", CHILD, str(archives)]
    completed = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    answer = json.loads(completed.stdout)
    assert list(home.iterdir()) == []
    assert answer["kib"] <= MOST_MIB * 1024, f"{answer['kib'] / 1024:.0f} MiB"
    return dict(answer["told"])


def test_every_door_refuses_all_of_it_in_little_memory_and_writes_nothing(
    corpus: list[Hostile], tmp_path: Path
) -> None:
    answers = at_every_door(corpus[0].path.parent, tmp_path)
    assert len(corpus) > 110
    for corpus_file in corpus:
        for door, answer in answers[corpus_file.path.stem].items():
            if door == "opened" and corpus_file.loads and answer == "taken":
                continue
            assert (
                answer[:2] in ("2 ", "4 ")
                and "a-1.0.0.tgz" in answer
                and corpus_file.message in answer
            ), (
                corpus_file.name,
                door,
                answer,
            )


def test_what_is_odd_and_harmless_is_taken_in_little_memory_and_published_as_what_it_is(
    tmp_path: Path,
) -> None:
    """helm's own packages have an extra field and a comment in their header, too."""
    (tmp_path / "home").mkdir()
    (tmp_path / "odd").mkdir()
    archives = dict(hostile.odd())
    for number, data in enumerate(archives.values()):
        (tmp_path / f"odd/{number}.tgz").write_bytes(data)
    answers = at_every_door(tmp_path / "odd", tmp_path / "home")
    assert [set(answer.values()) for answer in answers.values()] == [{"taken"}] * len(archives)
    for number, data in enumerate(archives.values()):
        place = tmp_path / f"p/{number}"
        published = open_writable(place.as_uri(), {}).publish(archive.open_archive(data))
        assert set(left(place)) == {".lock", "a-1.0.0.tgz", "index.yaml"}
        assert published.reference.startswith(f"{place.as_uri()}/a-1.0.0.tgz@")
        assert "evil" not in (place / "index.yaml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "odd", "p"]
    header = archives["gzip header with extra, name and comment"]
    assert gzip.decompress(header) == hostile.tar() and archive.open_archive(
        header
    ).tar_digest == sha256(hostile.tar())


@pytest.mark.parametrize("step", ["check", "snapshot"])
@pytest.mark.parametrize(
    "name",
    [
        "member that is a symbolic link (kind 2)",
        "bomb of 300 MiB",
        "two Chart.yaml",
        "values.yaml: alias bomb",
    ],
)
def test_a_chart_that_brings_one_is_refused(
    corpus: list[Hostile], step: str, name: str, tmp_path: Path
) -> None:
    [corpus_file] = [corpus_file for corpus_file in corpus if corpus_file.name == name]
    repo = Repo(tmp_path / "source", tmp_path / "gitconfig")
    repo.put(
        "pipeline.yaml",
        f"charts: [{{path: hello}}]\nchannels: {{snapshot: {{charts: '{tmp_path.as_uri()}/p'}}}}\n",
    )
    for path, data in {**files(), "charts/a-1.0.0.tgz": corpus_file.path.read_bytes()}.items():
        repo.put(f"hello/{path}", data)
    repo.commit()
    environment = {
        "PATH": f"{helm(4).parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT),
        "GIT_CONFIG_GLOBAL": str(repo.config),
    }  # fmt: skip
    command = [sys.executable, "-m", "pipeline_steps", step]
    completed = subprocess.run(
        command, cwd=repo.root, env=environment, capture_output=True, text=True
    )
    assert completed.returncode == 2, completed.stderr
    assert (
        "hello/charts/a-1.0.0.tgz" in completed.stderr and corpus_file.message in completed.stderr
    )
    assert not (tmp_path / "p").exists()


#: A repository of one chart, or a part of a larger one.
ENTRY = "  {name}:\n  - {{apiVersion: v2, name: {name}, version: 1.0.0, urls: [{file}], digest: {digest}}}\n"
HEAD = "apiVersion: v1\nentries:\n"


class Ended(NamedTuple):
    """A process that has ended. mib: what it needed at most."""

    code: int
    told: str
    mib: float

    def about(self, name: str) -> str:
        """The one line that names it; it must be there once."""
        [line] = [line for line in self.told.splitlines() if name in line]
        return line


def ran(home: Path, *words: str, cwd: Path | None = None) -> Ended:
    """The command line with a home of its own; its memory is read as long as it runs, and never
    shrinks there.
    """
    environment = {
        "PATH": f"{helm(4).parent}:{os.environ['PATH']}", "HOME": str(home), "TMPDIR": str(home),
        "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "GIT_CONFIG_GLOBAL": str(home.parent / "gitconfig"),
    }  # fmt: skip
    home.mkdir()
    command = [sys.executable, "-m", "pipeline_steps", *words]
    with (home.parent / "told").open("w+") as told:
        child = subprocess.Popen(
            command, cwd=cwd or home, env=environment, stdout=told, stderr=told
        )
        kib = 0
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.005)
                break
            match = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{child.pid}/status").read_text())
            kib = int(match[1]) if match else kib
    return Ended(child.returncode, (home.parent / "told").read_text(), kib / 1024)


def left(folder: Path) -> list[str]:
    """The files below a folder that are not a step's records or caches."""
    kept = (".pipeline/", ".cache/")
    leftovers = (
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )
    return sorted(path for path in leftovers if not path.startswith(kept))


@pytest.fixture(scope="module")
def old(corpus: list[Hostile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that offers each of them as a chart of its own, and one good chart."""
    folder = tmp_path_factory.mktemp("old")
    good = packed("good", "1.0.0")
    offered = {
        f"x{corpus_file.path.stem}": corpus_file.path.read_bytes() for corpus_file in corpus
    } | {"good": good.tgz}
    lines = [HEAD]
    for name, tgz in offered.items():
        (folder / f"{name}-1.0.0.tgz").write_bytes(tgz)
        digest = hashlib.sha256(tgz).hexdigest()
        lines.append(ENTRY.format(name=name, file=f"{name}-1.0.0.tgz", digest=digest))
    (folder / "index.yaml").write_text("".join(lines))
    return folder


def test_audit_tells_each_and_reads_on(corpus: list[Hostile], old: Path, tmp_path: Path) -> None:
    before = left(old)
    completed = ran(tmp_path / "home", "audit", old.as_uri())
    assert completed.code == 4, completed.told
    for corpus_file in corpus:
        line = completed.about(f"x{corpus_file.path.stem} 1.0.0")
        assert (
            "other chart"
            if corpus_file.loads and corpus_file.message not in line
            else corpus_file.message
        ) in line, (
            corpus_file.name,
            line,
        )
    assert "good" not in completed.told
    assert left(tmp_path / "home") == [] and left(old) == before
    assert completed.mib <= MOST_MIB, completed.mib


def test_a_migration_takes_what_is_good_and_tells_the_rest(
    corpus: list[Hostile], old: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    completed = ran(tmp_path / "home", "regenerate", "--from", old.as_uri(), "--to", new.as_uri())
    assert completed.code == 8, completed.told
    for corpus_file in corpus:
        line = completed.about(f"x{corpus_file.path.stem}-1.0.0.tgz")
        assert (
            "holds the chart a"
            if corpus_file.loads and corpus_file.message not in line
            else corpus_file.message
        ) in line, (
            corpus_file.name,
            line,
        )
    assert set(left(new)) - {".lock"} == {"good-1.0.0.tgz", "index.yaml"}
    assert left(tmp_path / "home") == []
    assert completed.mib <= MOST_MIB, completed.mib


VERIFIED = (
    "member that is a symbolic link (kind 2)", "a link and a file through it", "bomb of 300 MiB", "a million members",
    "name of a file with .. first", "Chart.yaml: alias bomb", "long pax header", "two Chart.yaml",
    "almost 100 MiB, then a name with .. inside",
)  # fmt: skip


@pytest.mark.parametrize("name", VERIFIED)
def test_verify_refuses_it_before_it_looks_for_records(
    corpus: list[Hostile], name: str, tmp_path: Path
) -> None:
    [corpus_file] = [corpus_file for corpus_file in corpus if corpus_file.name == name]
    (tmp_path / "a-1.0.0.tgz").write_bytes(corpus_file.path.read_bytes())
    completed = ran(tmp_path / "home", "verify", (tmp_path / "a-1.0.0.tgz").as_uri())
    assert completed.code == 4, completed.told
    assert corpus_file.message in completed.about("a-1.0.0.tgz")
    assert left(tmp_path / "home") == []
    assert completed.mib <= MOST_MIB, completed.mib


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def web(folder: Path) -> Iterator[str]:
    """The folder, served."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_no_snapshot_takes_one_in_as_a_dependency(corpus: list[Hostile], tmp_path: Path) -> None:
    """A chart for each of them; the one whose dependency is good is published, all others are
    refused by name.
    """
    repo = Repo(tmp_path / "source", tmp_path / "gitconfig")
    published = tmp_path / "p"
    repo.put(
        "pipeline.yaml",
        f"charts: [{{path: '*'}}]\nchannels: {{snapshot: {{charts: '{published.as_uri()}'}}}}\n",
    )
    offered = {
        f"x{corpus_file.path.stem}": corpus_file.path.read_bytes() for corpus_file in corpus
    } | {"good": packed("a", "1.0.0").tgz}
    with web(tmp_path / "served") as url:
        for name, tgz in offered.items():
            place = tmp_path / "served" / name
            place.mkdir(parents=True)
            (place / "a-1.0.0.tgz").write_bytes(tgz)
            entry = ENTRY.format(
                name="a", file="a-1.0.0.tgz", digest=hashlib.sha256(tgz).hexdigest()
            )
            (place / "index.yaml").write_text(HEAD + entry)
            dependency = (
                f"dependencies: [{{name: a, version: 1.0.0, repository: '{url}/{name}'}}]\n"
            )
            for path, data in files(name, "1.0.0", more=dependency).items():
                repo.put(f"{name}/{path}", data)
        repo.commit()
        completed = ran(tmp_path / "home", "snapshot", cwd=repo.root)
    assert completed.code in (2, 4), completed.told
    for corpus_file in corpus:
        line = completed.about(f"x{corpus_file.path.stem}: ")
        assert (
            corpus_file.message in line
            and f"/x{corpus_file.path.stem}" in line
            and "a-1.0.0.tgz" in line
        ), (
            corpus_file.name,
            line,
        )
    assert [path for path in left(published) if path.startswith("x")] == []
    assert any(path.startswith("good-1.0.0") for path in left(published)), completed.told
    assert left(tmp_path / "home") == []
    assert repo.git("status", "--porcelain") == ""
    assert completed.mib <= MOST_MIB, completed.mib


def test_what_helm_reads_of_it_stands_in_the_documentation(
    corpus: list[Hostile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything in the corpus is refused by us (see above); helm 4 refuses a part of it."""

    def reads(one: Hostile) -> bool:
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        command = [str(helm(4)), "show", "chart", str(one.path)]
        return subprocess.run(command, env=environment, capture_output=True).returncode == 0

    with ThreadPoolExecutor(2) as pool:
        read = sorted(
            one.name for one, taken in zip(corpus, pool.map(reads, corpus), strict=True) if taken
        )
    with capsys.disabled():
        print("\nhelm 4 reads, we refuse:", *read, sep="\n  ")
    assert 20 < len(read) < len(corpus)
    assert (
        sorted(
            line[2:].replace("`", "")
            for line in DOCS.read_text().splitlines()
            if line.startswith("- ")
        )
        == read
    )
