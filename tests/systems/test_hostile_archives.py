"""Archives that must be refused, by every door through which a chart comes in; and what helm makes of them.

A child reads the whole corpus, so that its memory and what it leaves behind can be measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import hostile
from tests.support.charts import files
from tests.support.gits import Repo
from tests.support.helms import helm

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs/reference/refused-archives.md"
MOST_MIB = 256

#: Gives each archive of a folder to every door; says what each answered, and how much memory was needed at most.
CHILD = """
import json, re, sys
from pathlib import Path
from pipeline_steps.charts import archive, dependencies
from pipeline_steps.core.errors import PipelineError
from tests.support.charts import files
own = files(more="dependencies: [{name: a, version: 1.0.0, repository: 'https://example.com'}]\\n")
doors = {
    "opened": lambda tgz: archive.opened(tgz, "a-1.0.0.tgz"),
    "fetched": lambda tgz: dependencies.fill(own, lambda needed: tgz, "hello"),
    "vendored": lambda tgz: dependencies.needed({**files(), "charts/a-1.0.0.tgz": tgz}, "hello"),
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
    """An archive. says: in the refusal; loads: it is well made, and only what packs it into another chart refuses."""

    name: str
    path: Path
    says: str
    loads: bool


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Hostile]]:
    folder = tmp_path_factory.mktemp("hostile")
    found: list[Hostile] = []
    for loads, source in ((False, hostile.archives()), (True, hostile.unloadable())):
        for name, data, says in source:
            path = folder / f"{len(found):03}.tgz"
            path.write_bytes(data)
            found.append(Hostile(name, path, says, loads))
    yield found


def test_every_door_refuses_all_of_it_in_little_memory_and_writes_nothing(
    corpus: list[Hostile], tmp_path: Path
) -> None:
    environment = {
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", CHILD, str(corpus[0].path.parent)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(corpus) > 110
    for one in corpus:
        for door, said in answer["told"][one.path.stem].items():
            if door == "opened" and one.loads and said == "taken":
                continue
            assert said[:2] in ("2 ", "4 ") and "a-1.0.0.tgz" in said and one.says in said, (one.name, door, said)
    assert list(tmp_path.iterdir()) == []
    assert answer["kib"] <= MOST_MIB * 1024, f"{answer['kib'] / 1024:.0f} MiB"


@pytest.mark.parametrize("step", ["check", "snapshot"])
@pytest.mark.parametrize(
    "name", ["member that is a symbolic link (kind 2)", "bomb of 300 MiB", "two Chart.yaml", "values.yaml: alias bomb"]
)
def test_a_chart_that_brings_one_is_refused(corpus: list[Hostile], step: str, name: str, tmp_path: Path) -> None:
    [one] = [one for one in corpus if one.name == name]
    repo = Repo(tmp_path / "source", tmp_path / "gitconfig")
    repo.put(
        "pipeline.yaml", f"charts: [{{path: hello}}]\nchannels: {{snapshot: {{charts: '{tmp_path.as_uri()}/p'}}}}\n"
    )
    for path, data in {**files(), "charts/a-1.0.0.tgz": one.path.read_bytes()}.items():
        repo.put(f"hello/{path}", data)
    repo.commit()
    environment = {
        "PATH": f"{helm(4).parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT),
        "GIT_CONFIG_GLOBAL": str(repo.config),
    }  # fmt: skip
    command = [sys.executable, "-m", "pipeline_steps", step]
    done = subprocess.run(command, cwd=repo.root, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "hello/charts/a-1.0.0.tgz" in done.stderr and one.says in done.stderr
    assert not (tmp_path / "p").exists()


def test_what_helm_reads_of_it_stands_in_the_documentation(
    corpus: list[Hostile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything in the corpus is refused by us (see above); helm 4 refuses a part of it."""

    def reads(one: Hostile) -> bool:
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        command = [str(helm(4)), "show", "chart", str(one.path)]
        return subprocess.run(command, env=environment, capture_output=True).returncode == 0

    with ThreadPoolExecutor(2) as pool:
        read = sorted(one.name for one, taken in zip(corpus, pool.map(reads, corpus), strict=True) if taken)
    with capsys.disabled():
        print("\nhelm 4 reads, we refuse:", *read, sep="\n  ")
    assert 20 < len(read) < len(corpus)
    assert sorted(line[2:].replace("`", "") for line in DOCS.read_text().splitlines() if line.startswith("- ")) == read
