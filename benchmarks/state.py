"""Records: ours over json alone on the same lines, what a step itself costs, and finding in a big
store over a small.

python -m benchmarks.state        # these rows alone, without engine and node
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, alone, alternately, once
from pipeline_steps.auth.hosts import Host
from pipeline_steps.evidence.kinds import open_store
from pipeline_steps.evidence.store import Store, hex_digits
from pipeline_steps.state import file
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import decode, encode
from pipeline_steps.state.state import State
from tests.support.registries import registry

#: Records of a state file, of the state that a step meets, and of a small and a big store.
STATE, MET = 10_000, 1_000
FOLDERS, REGISTRIES = (1_000, 100_000), (1_000, 10_000)
#: Seconds that a step's own bookkeeping may take.
BOOKKEEPING = 0.010
#: Records that are searched for; the others only stand in a store.
SOUGHT = 40
OCI = "docker/registry/v2/repositories/evidence"
MEMORY = """
import json, re, sys
from pathlib import Path
from pipeline_steps.state import file
def most():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
path, before = Path(sys.argv[2]), most()
if sys.argv[1] == "ours":
    kept = file.load(path)
else:
    kept = [json.loads(line) for line in path.read_bytes().splitlines()]
print((most() - before) / 1024)
"""


def rows(folder: Path) -> list[Row]:
    """All of them. folder: empty, on a real disk; stores are in memory, where many files are made
    at once.
    """
    with tempfile.TemporaryDirectory(prefix="bench-stores-", dir="/dev/shm") as memory:
        stores = small_and_big_folder(Path(memory))
        with small_and_big_registry(Path(memory)) as registries:
            return [
                *state_file(folder),
                Row(
                    f"attempt, {MET} records / {1000 * BOOKKEEPING:.0f} ms",
                    bookkeeping(folder),
                    BOOKKEEPING,
                    1.0,
                ),
                lookup_row("folder", FOLDERS, stores, 25),
                lookup_row("registry", REGISTRIES, registries, 9),
            ]


def state_file(folder: Path) -> list[Row]:
    """Append to and load of a state file, and the memory of the latter."""
    ours, theirs = folder / "ours.jsonl", folder / "theirs.jsonl"
    for path in (ours, theirs):
        path.write_bytes(b"".join(encode(fields(number)) + b"\n" for number in range(STATE)))
    numbers = itertools.count(STATE)

    def append() -> None:
        file.append(ours, encode(fields(next(numbers))))

    def append_json() -> None:
        with theirs.open("ab") as out:
            out.write(json.dumps(fields(next(numbers))).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())

    def load_json() -> list[Any]:
        return [json.loads(line) for line in theirs.read_bytes().splitlines()]

    loads = alternately(partial(file.load, ours), load_json, 11)
    appends = alternately(append, append_json, 151)
    return [
        Row(f"load {STATE} records / json.loads", *loads, 3.0),
        Row(f"append to {STATE}, fsync / json, fsync", *appends, 3.0),
        Row(
            f"memory of {STATE} records / json.loads",
            memory("ours", ours),
            memory("theirs", theirs),
            3.0,
            "MiB",
        ),
    ]


def memory(whose: str, path: Path) -> float:
    """MiB that a process grows by when it loads a file."""
    completed = subprocess.run(
        [sys.executable, "-c", MEMORY, whose, path], capture_output=True, text=True, check=True
    )
    return float(completed.stdout)


def bookkeeping(folder: Path) -> float:
    """Seconds of a step that does nothing: its state read, an intent and an outcome written and
    fsynced.

    The fastest of many: a time that is compared with nothing says how busy the machine is, too.
    """
    path = folder / ".pipeline/state.jsonl"
    path.parent.mkdir()
    before = b"".join(encode(fields(number)) + b"\n" for number in range(MET))

    def nothing() -> None:
        key, content = digest("key"), digest("content")
        with record_attempt(
            State(path), step="snapshot", subject="hello", key=key, content=content
        ) as attempt:
            attempt.begin({"chart": "oci://registry.example.com/charts/hello:1.2.3"})
            attempt.passed(
                {"chart": f"oci://registry.example.com/charts/hello:1.2.3@{digest('chart')}"}
            )

    path.write_bytes(before)
    return min(once(nothing) for _ in range(51))


def lookup_row(kind: str, sizes: Sequence[int], stores: Sequence[Store], rounds: int) -> Row:
    """The records about some contents, in the big store over the small one."""

    def find(store: Store) -> None:
        for number in range(SOUGHT):
            [identity] = store.record_ids(fields(number)["content"])
            assert store.record_line(identity)

    small, big = stores
    ours, theirs = alternately(partial(find, big), partial(find, small), rounds)
    return Row(
        f"find in a {kind} of {sizes[1]} / of {sizes[0]}", ours / SOUGHT, theirs / SOUGHT, 1.5
    )


def small_and_big_folder(folder: Path) -> list[Store]:
    """Two stores in folders. What is not searched for are names where `evidence/directory` would
    have put them.
    """
    stores = []
    for size in FOLDERS:
        home = folder / f"store-{size}"
        stores.append(sought(open_store(home.as_uri(), {})))
        for number in range(SOUGHT, size):
            name, content = (
                hex_digits(digest(("id", number))),
                hex_digits(digest(("content", number))),
            )
            lay(home / "records" / name[:2] / f"{name[2:]}.json")
            lay(home / "about" / content[:2] / content[2:] / f"check-{name}")
    return stores


@contextlib.contextmanager
def small_and_big_registry(folder: Path) -> Iterator[list[Store]]:
    """Two stores on registries. What is not searched for are further tags and repositories on their
    disks.
    """
    with contextlib.ExitStack() as running:
        stores = []
        for size in REGISTRIES:
            running_registry = running.enter_context(registry(folder / f"registry-{size}"))
            stores.append(
                sought(
                    open_store(
                        f"oci://{running_registry.host}/evidence",
                        {running_registry.host: Host(plain_http=True)},
                    )
                )
            )
            home = running_registry.folder / "data" / OCI
            tag = next((home / "records/_manifests/tags").iterdir())
            for number in range(SOUGHT, size):
                lay(tag.parent / hex_digits(digest(("id", number))) / "current/link")
                (home / hex_digits(digest(("content", number)))).mkdir()
        yield stores


def sought(store: Store) -> Store:
    """The store with the records that are searched for, put there by itself."""
    for number in range(SOUGHT):
        line = encode({**fields(number), "outputs": {}})
        store.put(line, decode(line, where="made here"), {})
    return store


def fields(number: int) -> dict[str, Any]:
    """A record of a test as builds write them, of some content."""
    return {
        "step": "integration_test",
        "subject": "hello",
        "key": digest(("key", number)),
        "content": digest(("content", number)),
        "revision": hashlib.sha1(str(number).encode()).hexdigest(),
        "parameters": {
            "cluster": "k131",
            "scenario": "install-default",
            "values": "ci/default-values.yaml",
        },
        "inputs": {"chart": digest(("chart", number)), "image.hello": digest(("image", number))},
        "uses": [digest(("snapshot", number)), digest(("intent", number))],
        "supersedes": [],
        "outputs": {"platform": "linux/amd64", "ran.web": digest(("image", number))},
        "result": "passed",
        "reason": None,
        "evidence": {f"junit/integration_test-hello-{number}.xml": digest(("junit", number))},
        "tools": {"helm": "v4.3.1", "kubernetes": "1.34.4"},
        "started": "2026-01-01T00:00:00Z",
        "finished": "2026-01-01T00:00:41Z",
        "actor": "jenkins",
        "ci": {"system": "jenkins", "url": f"https://ci.example.com/job/hello/{number}/"},
        "run": f"jenkins-hello-{number}",
    }


def digest(value: object) -> str:
    return f"sha256:{hashlib.sha256(repr(value).encode()).hexdigest()}"


def lay(path: Path) -> None:
    """An empty file: a name among many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


if __name__ == "__main__":
    raise SystemExit(alone(rows))
