"""The state file: one line a record, named by its hash, merged by union; what is wrong is named by
file and line.
"""

import fcntl
import json
import logging
import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_steps.state import record, union
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import ChartFailed, EvidenceError, MachineError


def fields(**more: object) -> dict[str, object]:
    return {
        "step": "snapshot",
        "subject": "hello",
        "key": "k1",
        "result": "passed",
        "started": "t",
        **more,
    }


def test_an_added_record_is_found_again_by_another_process(tmp_path: Path) -> None:
    state = State(tmp_path / ".pipeline" / "state.jsonl")
    added = state.add(fields(outputs={"chart": "oci://r/hello:1@sha256:aa"}))

    assert State(state.path).verdict("k1") == added
    assert (tmp_path / ".pipeline" / ".gitignore").read_text() == "*\n"
    assert state.path.stat().st_mode & 0o777 == 0o600


def test_id_is_the_hash_of_the_canonical_record_without_id(tmp_path: Path) -> None:
    state = State(tmp_path / "state.jsonl")
    added = state.add(fields(reason="é"))

    written = json.loads(state.path.read_text())
    identity = written.pop("id")
    assert identity == added.id == record.fingerprint(written)


def test_unknown_fields_survive_and_are_part_of_the_id(tmp_path: Path) -> None:
    state = State(tmp_path / "state.jsonl")
    state.add(fields(future={"a": 1}))

    assert b'"future":{"a":1}' in state.path.read_bytes()
    assert len(State(state.path).records()) == 1


def test_an_edited_record_is_named_by_file_line_and_record(tmp_path: Path) -> None:
    state = State(tmp_path / "state.jsonl")
    state.add(fields(key="k0"))
    state.add(fields())
    state.path.write_bytes(state.path.read_bytes().replace(b'"k1"', b'"k2"'))

    with pytest.raises(
        EvidenceError, match=r"state\.jsonl:2: record sha256:\S+ of snapshot hello was edited"
    ):
        State(state.path).records()


def test_the_reason_of_a_chart_in_a_folder_whose_name_is_not_utf_8_is_recorded(
    tmp_path: Path,
) -> None:
    state = State(tmp_path / "state.jsonl")
    state.add(fields(reason="charts/na\udcffme: x", parameters={"na\udcff": ["\udcff"]}))
    (recorded,) = State(state.path).records()
    assert recorded.reason == r"charts/na\udcffme: x"
    assert recorded.parameters == {r"na\udcff": [r"\udcff"]}


@pytest.mark.parametrize(
    "line", [b"not json", b'{"a":1}', b"[]", b'{"schema":1,"id":3}', b"\xff\xfe"]
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "state.jsonl").write_bytes(line + b"\n")

    with pytest.raises(EvidenceError, match=r"state\.jsonl:1: the line is not a record"):
        State(tmp_path / "state.jsonl").records()


def test_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.jsonl").write_bytes(b'{"schema":2,"id":"sha256:0","shape":"unknown"}\n')

    with pytest.raises(
        EvidenceError, match=r"record of schema 2, this version reads schema 1 \(use a newer"
    ):
        State(tmp_path / "state.jsonl").records()


def test_a_torn_last_line_is_dropped_with_a_notice_and_cut_by_the_next_append(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = State(tmp_path / "state.jsonl")
    first = state.add(fields())
    with state.path.open("ab") as torn:
        torn.write(b'{"schema":1,"id":"sha')
    again = State(state.path)

    with caplog.at_level(logging.WARNING):
        assert again.records() == [first]
        second = again.add(fields(key="k2"))

    assert "torn" in caplog.text
    assert State(state.path).records() == [first, second]


def test_every_state_file_of_the_folder_is_read_and_the_own_one_written(tmp_path: Path) -> None:
    one, two = State(tmp_path / "state.1-of-2.jsonl"), State(tmp_path / "state.2-of-2.jsonl")
    a, b = one.add(fields(key="a")), two.add(fields(key="b"))

    assert {r.id for r in State(tmp_path / "state.jsonl").records()} == {a.id, b.id}
    assert not (tmp_path / "state.jsonl").exists()


def test_a_full_disk_leaves_the_state_as_it_was(tmp_path: Path) -> None:
    """A real full file system of its own: what was there stays, the error says so, exit code 7."""
    program = """
import sys
from pathlib import Path
from pipeline_steps.toolbox.errors import MachineError
from pipeline_steps.state.state import State
folder = Path(sys.argv[1])
state = State(folder / "state.jsonl")
state.add(dict(step="s", subject="x", key="k", result="passed", started="t"))
before = state.path.read_bytes()
(folder / "filler").write_bytes(b"x" * 40000)
try:
    state.add(dict(step="s", subject="x", key="k", result="passed", started="t", reason="y" * 60000))
except MachineError as error:
    assert state.path.read_bytes() == before, "changed"
    assert [p.name for p in folder.iterdir() if "tmp" in p.name] == []
    print(error.exit_code, error)
"""
    mounted = f"mount -t tmpfs -o size=80k none {tmp_path} && exec {sys.executable} -c '{program}' {tmp_path}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted], capture_output=True, text=True
    )

    assert done.stdout.startswith("7 "), done.stderr
    assert "the disk is full: free space and run it again" in done.stdout


def test_a_symbolic_link_in_place_of_the_state_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("")
    (tmp_path / "state.jsonl").symlink_to(target)

    with pytest.raises(MachineError, match="symbolic link"):
        State(tmp_path / "state.jsonl").add(fields())
    assert target.read_text() == ""


def _append(path: Path, number: int) -> None:
    State(path).add(fields(key=f"k{number}"))


def test_parallel_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(_append, [(path, number) for number in range(24)])

    assert {r.key for r in State(path).records()} == {f"k{number}" for number in range(24)}


def _is_waited_for(path: Path) -> bool:
    """Whether somebody waits for the lock of a file, as the kernel lists it (proc(5))."""
    inode = f":{path.stat().st_ino} "
    locks = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and inode in line for line in locks)


def test_a_writer_waits_for_the_lock_of_another(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    _append(path, 1)
    before = path.read_bytes()
    writer = threading.Thread(target=_append, args=(path, 2))
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writer.start()
        while writer.is_alive() and not _is_waited_for(path):
            time.sleep(0.01)
        assert writer.is_alive() and path.read_bytes() == before
    writer.join()
    assert {record.key for record in State(path).records()} == {"k1", "k2"}


def made(
    key: str, result: str, supersedes: tuple[str, ...] = (), uses: tuple[str, ...] = (), n: int = 0
) -> Record:
    line = record.encode(
        fields(key=key, result=result, supersedes=supersedes, uses=uses, run=str(n))
    )
    return record.decode(line, where="test")


records = st.lists(
    st.builds(
        made,
        st.sampled_from("abc"),
        st.sampled_from(["passed", "failed", "started"]),
        n=st.integers(0, 9),
    ),
    max_size=6,
)


@given(records, records, records)
def test_union_is_commutative_associative_idempotent(
    a: list[Record], b: list[Record], c: list[Record]
) -> None:
    def ids(found: list[Record]) -> set[str]:
        return {r.id for r in found}

    assert ids(union.union(a, b)) == ids(union.union(b, a))
    assert ids(union.union(a, union.union(b, c))) == ids(union.union(union.union(a, b), c))
    assert union.union(a, a) == union.union(a)


def test_passed_beside_failed_is_a_contradiction_until_one_supersedes_the_other() -> None:
    passed, failed = made("k", "passed"), made("k", "failed")
    assert union.resolve([passed, failed], "k").contradictory
    assert union.resolve([passed, failed], "k").record is None

    settled = made("k", "passed", supersedes=(passed.id, failed.id), n=1)
    assert union.resolve([settled, failed, passed], "k").record == settled


def test_infrastructure_and_interrupted_are_attempts_not_verdicts() -> None:
    started = made("k", "started")
    trouble = made("k", "infrastructure", uses=(started.id,))
    assert union.resolve([started, trouble], "k") == union.Verdict((), 1, trouble)


def test_decisive_attempt_is_the_same_in_any_order() -> None:
    started, running = made("k", "started"), made("k", "started", n=1)
    trouble, interrupted = made("k", "infrastructure", uses=(started.id,)), made("k", "interrupted")
    ended = [started, trouble, interrupted]
    first = min((trouble, interrupted), key=lambda record: record.id)
    for order in (ended, ended[::-1]):
        assert union.resolve(order, "k").attempt == first
    for order in ([*ended, running], [running, *ended]):
        assert union.resolve(order, "k").attempt == running


def test_an_attempt_records_intent_outcome_and_what_it_supersedes(tmp_path: Path) -> None:
    state = State(tmp_path / "state.jsonl")
    with (
        pytest.raises(ChartFailed),
        record_attempt(state, step="snapshot", subject="hello", key="k") as it,
    ):
        it.begin({"chart": "oci://r/hello:1"})
        raise ChartFailed("template breaks", where="templates/x.yaml:3", advice="mend it")
    with record_attempt(state, step="snapshot", subject="hello", key="k") as it:
        it.passed({"chart": "oci://r/hello:1@sha256:aa"})

    started, failed, passed = state.records()
    assert [started.result, failed.result, passed.result] == ["started", "failed", "passed"]
    assert started.id in failed.uses and passed.supersedes == (failed.id,)
    assert failed.reason == "templates/x.yaml:3: template breaks (mend it)"
    assert state.verdict("k") == passed


def test_an_attempt_without_an_outcome_is_an_error(tmp_path: Path) -> None:
    state = State(tmp_path / "state.jsonl")
    with (
        pytest.raises(EvidenceError, match="without an outcome"),
        record_attempt(state, step="s", subject="x", key="k"),
    ):
        pass
    assert state.verdict("k") is not None and state.records()[-1].result == "refused"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_canonical_json_reads_back(value: object) -> None:
    try:
        text = record.canonical(value)
    except UnicodeEncodeError:
        return  # lone surrogates are no Unicode text
    assert json.loads(text) == value


def test_floats_cannot_stand_in_a_record() -> None:
    with pytest.raises(TypeError, match="float cannot stand in a record"):
        record.canonical({"a": [1.5]})


def test_the_order_of_records_is_of_supersedes_then_channels_then_ids_never_of_clocks(
    tmp_path: Path,
) -> None:
    """An agent whose clock was slow lost against one whose records lay later in the file."""
    state = State(tmp_path / "state.jsonl", channel_locations=("oci://r.example.com/now",))

    def made(name: str, place: str, *supersedes: Record, day: int = 1) -> Record:
        reference = f"oci://r.example.com/{place}/web:1.0.0@sha256:{name * 64}"
        return state.add(
            {
                "step": "snapshot", "subject": "web", "key": "k", "result": "passed", "run": name,
                "outputs": {"chart": reference}, "supersedes": [record.id for record in supersedes],
                "started": f"2026-01-{day:02d}T00:00:00.000Z",
            }
        )  # fmt: skip

    first = made("a", "now", day=9)
    second = made("b", "now", first, day=1)
    gone, nowhere = made("c", "nowadays", day=9), made("d", "then", day=9)
    third = made("e", "now", day=1)
    by_id = sorted([second, third], key=lambda record: record.id)
    elsewhere = sorted([gone, nowhere], key=lambda record: record.id)
    for records in (state.records(), state.records()[::-1]):
        assert state.preferred(records) == [*by_id, *elsewhere, first]
    assert state.verdict("k") == by_id[0]
