"""`reproduce` of snapshots and releases on real git and a folder repository; each cause of a
difference, planted.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.charts import archive
from pipeline_steps.charts.archive import Files
from pipeline_steps.repositories.directory import DirectoryRepository
from pipeline_steps.state.state import State
from tests.support.gits import Repo
from tests.support.helms import helm

PIPELINE = """\
charts:
  - path: charts/*
    tests: {{none: "a library, tested through its dependents"}}
channels:
  snapshot: {{charts: "file://{folder}/snapshots"}}
  production: {{charts: "file://{folder}/charts"}}
"""
BUILT = "built: 2026-11-20T10:00:00+00:00\n"
MAP = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}"}\ndata: {greeting: hello}\n'


class Line:
    """A checkout with one chart, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo = Repo(folder / "source", folder / "gitconfig")
        for place in ("snapshots", "charts"):
            (folder / place).mkdir()
        self.repo.put("pipeline.yaml", PIPELINE.format(folder=folder))
        self.repo.put(
            "charts/common/Chart.yaml",
            "apiVersion: v2\nname: common\ntype: application\nversion: 1.0.0\n",
        )
        self.repo.put("charts/common/templates/map.yaml", MAP)
        self.repo.put("charts/common/files/built.txt", BUILT)
        self.repo.put("charts/common/files/run.sh", "#!/bin/sh\n", executable=True)
        self.repo.commit()

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{helm(4).parent}:{os.environ['PATH']}", "HOME": str(self.folder),
            "GIT_CONFIG_GLOBAL": str(self.repo.config), **variables,
        }  # fmt: skip
        command = [sys.executable, "-m", "pipeline_steps", *words]
        return subprocess.run(
            command, cwd=self.repo.root, env=environment, capture_output=True, text=True
        )

    def ok(self, *words: str, **variables: str) -> str:
        completed = self.run(*words, **variables)
        assert completed.returncode == 0, (completed.stdout, completed.stderr)
        return completed.stdout

    def differs(self, *words: str) -> str:
        completed = self.run("reproduce", *words)
        assert completed.returncode == 4, (completed.stdout, completed.stderr)
        assert "differs: " in completed.stdout
        return completed.stdout

    def records(self, step: str) -> list[dict[str, Any]]:
        lines = (self.repo.root / ".pipeline/state.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["step"] == step]

    def planted(self, change: Callable[[Files], Files]) -> None:
        """Publish the snapshot with changed files, and record that as what was made."""
        record = self.records("snapshot")[-1]
        place = self.folder / "snapshots"
        [file] = place.glob("*.tgz")
        files = change(archive.unpack(file.read_bytes()))
        file.unlink()
        (place / "index.yaml").unlink(missing_ok=True)
        published = DirectoryRepository(place.as_uri()).publish(
            archive.pack(files, files.executables)
        )
        outputs = {"chart": published.reference, "tar": published.tar_digest}
        fields = {key: value for key, value in record.items() if key not in ("id", "schema")}
        state = State(self.repo.root / ".pipeline/state.jsonl")
        state.add({**fields, "outputs": outputs, "supersedes": [record["id"]], "uses": []})


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """A chart from snapshot to production; the checkout has moved on since."""
    line = Line(tmp_path_factory.mktemp("made"))
    for words in (
        ["check"],
        ["snapshot"],
        ["integration_test"],
        ["tag_release", "--local"],
        ["promote"],
    ):
        line.ok(*words, "--chart", "common")
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.repo.commit()
    return line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    line = Line(tmp_path)
    line.ok("snapshot", "--chart", "common")
    return line


@pytest.mark.parametrize("step", ["snapshot", "promote"])
def test_reproduce_gives_equal_bytes_at_a_later_revision(released: Line, step: str) -> None:
    before = sorted(released.folder.rglob("*.tgz")), released.records(step)
    output = released.ok(
        "reproduce", f"{step}/common", TZ="Asia/Kathmandu", LC_ALL="C", PYTHONHASHSEED="7"
    )
    assert f"equal: tar {released.records(step)[-1]['outputs']['tar']}\n" in output
    assert (sorted(released.folder.rglob("*.tgz")), released.records(step)) == before, (
        "nothing was published or recorded"
    )


def test_reproduce_takes_a_short_id_and_a_state_from_elsewhere(
    released: Line, tmp_path: Path
) -> None:
    state = released.repo.root / ".pipeline/state.jsonl"
    short = released.records("snapshot")[-1]["id"][7:19]
    away = tmp_path / "down loads@2"
    away.mkdir()
    (away / "state.jsonl").write_bytes(state.read_bytes())
    for given in (away, away / "state.jsonl", away.as_uri()):
        assert "equal: tar " in released.ok("reproduce", short, "--state", str(given))
    with served(away) as url:
        assert "equal: tar " in released.ok("reproduce", short, "--state", f"{url}/state.jsonl")
        completed = released.run("reproduce", short, "--state", f"{url}/none.jsonl")
        assert completed.returncode != 0 and "none.jsonl" in completed.stderr


def test_reproduce_promote_packages_a_swept_snapshot_again(released: Line, tmp_path: Path) -> None:
    [swept] = (released.folder / "snapshots").glob("*.tgz")
    kept = swept.read_bytes()
    swept.unlink()
    try:
        completed = released.run("reproduce", "promote/common")
    finally:
        swept.write_bytes(kept)
    assert (
        completed.returncode == 0
        and "packed again, its tar is the recorded one" in completed.stderr
    )


def mode(files: Files) -> Files:
    return Files(files, ())


def zone(files: Files) -> Files:
    return turned(files, b"10:00:00+00:00", b"15:45:00+05:45")


def time(files: Files) -> Files:
    return turned(files, b"10:00:00", b"11:07:09")


def crlf(files: Files) -> Files:
    return turned(files, b"\n", b"\r\n")


def turned(files: Files, old: bytes, new: bytes) -> Files:
    name = "files/built.txt"
    return Files({**files, name: files[name].replace(old, new)}, files.executables)


def more(files: Files) -> Files:
    return Files({**files, "files/more.txt": b"x"}, files.executables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            mode,
            ["files/run.sh: recorded mode 0644, here 0755", "likely cause: file mode: the umask"],
        ),
        (
            zone,
            [
                "files/built.txt at byte 19: recorded b'built: 2026-11-20T15:45",
                "likely cause: time zone",
            ],
        ),
        (
            time,
            [
                "files/built.txt at byte 19: ",
                "likely cause: the time of the build is written into it",
            ],
        ),
        (crlf, ["files/built.txt at byte 32: ", "likely cause: line ends"]),
        (
            more,
            [
                "files/more.txt: is recorded and not made here",
                "likely cause: something that is not recorded",
            ],
        ),
    ],
)
def test_a_planted_difference_is_named_with_its_cause(
    line: Line, change: Callable[[Files], Files], message: list[str]
) -> None:
    line.planted(change)
    told = line.differs("snapshot/common")
    assert [words for words in message if words not in told] == [], told


def test_without_the_recorded_archive_the_digests_are_compared(line: Line) -> None:
    line.planted(time)
    for file in (line.folder / "snapshots").iterdir():
        file.unlink()
    completed = line.run("reproduce", "snapshot/common")
    assert completed.returncode == 4 and "differs: tar: recorded sha256:" in completed.stdout
    assert "cannot be compared file by file" in completed.stderr


def test_reproduce_of_modified_content_works_only_in_its_checkout(line: Line) -> None:
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "good day"))
    line.ok("snapshot", "--chart", "common")
    assert "equal: tar " in line.ok("reproduce", "snapshot/common")
    line.repo.put("charts/common/templates/map.yaml", MAP.replace("hello", "other"))
    completed = line.run("reproduce", "snapshot/common")
    assert completed.returncode == 4
    assert "made with local modifications of charts/common/templates/map.yaml" in completed.stderr


def test_reproduce_refuses_an_unknown_revision(line: Line, tmp_path: Path) -> None:
    other_clone = Repo(tmp_path / "other", tmp_path / "gitconfig")
    for path in ("pipeline.yaml", "charts/common/Chart.yaml"):
        other_clone.put(path, (line.repo.root / path).read_bytes())
    other_clone.commit()
    state = str(line.repo.root / ".pipeline/state.jsonl")
    completed = line.run(
        "reproduce",
        "snapshot/common",
        "--state",
        state,
        "--config",
        str(other_clone.root / "pipeline.yaml"),
    )
    assert (
        completed.returncode == 4
        and "there is no revision" in completed.stderr
        and "git fetch --all" in completed.stderr
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "reproduce needs one record"),
        (["snapshot/none"], 4, "no record of snapshot/none"),
        (["snapshot/common", "--last-failed"], 4, "no failed record of snapshot/common"),
        (["zzzz"], 2, "STEP/SUBJECT"),
        (["0000"], 4, "0 records begin with 0000"),
        (["check/common"], 2, "check is not reproduced: "),
        (["integration_test/common"], 2, "a chart without a test"),
        (["tag_release/common"], 2, "a tag is only a name"),
        (["snapshot/common", "--keep"], 2, "--keep and --cluster are for integration_test"),
        (["snapshot/common", "--state", "nowhere.jsonl"], 2, "the state file does not exist"),
    ],
)
def test_reproduce_refuses_unknown_records_and_other_steps(
    released: Line, words: list[str], code: int, message: str
) -> None:
    completed = released.run("reproduce", *words)
    assert (completed.returncode, message in completed.stderr) == (code, True), completed.stderr


class served:
    """A folder on a port of this machine."""

    def __init__(self, folder: Path) -> None:
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_a_state_in_a_folder_is_the_union_of_its_files(line: Line) -> None:
    state = line.repo.root / ".pipeline/state.jsonl"
    state.rename(state.with_name("state.1-of-2.jsonl"))
    assert "equal: tar " in line.ok("reproduce", "snapshot/common", "--state", str(state.parent))


def test_reproduce_reads_records_from_an_evidence_store(line: Line, tmp_path: Path) -> None:
    store = (tmp_path / "store").as_uri()
    (tmp_path / "store").mkdir()
    with (line.repo.root / "pipeline.yaml").open("a") as file:
        file.write(f"evidence: {store}\n")
    line.ok("snapshot", "--chart", "common", "--again")
    whole = line.records("snapshot")[-1]["id"]
    (line.repo.root / ".pipeline/state.jsonl").unlink()
    for what in ("snapshot/common", whole):
        assert "equal: tar " in line.ok("reproduce", what, "--state", store)
    completed = line.run("reproduce", whole[7:19], "--state", store)
    assert completed.returncode == 2 and "give all 64 digits" in completed.stderr
