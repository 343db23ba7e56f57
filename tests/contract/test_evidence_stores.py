"""What every evidence store promises, asked of every implementation, the registry being Debian's
docker-registry.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline_steps.auth.hosts import Host
from pipeline_steps.evidence.kinds import open_store
from pipeline_steps.evidence.store import Store, lookup_digests
from pipeline_steps.evidence.stores import Stores
from pipeline_steps.oci.registry import connect
from pipeline_steps.state.record import Record, decode, encode
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    EvidenceError,
    MachineError,
    PipelineError,
    Unreachable,
)
from pipeline_steps.toolbox.files import sha256
from tests.support.registries import TokenServer, free_port, registry

CONTENT = f"sha256:{'c' * 64}"
OTHER = f"sha256:{'d' * 64}"
TAR = f"sha256:{'1' * 64}"


def made(**more: object) -> tuple[bytes, Record]:
    """The line of a record and the record."""
    fields = {
        "step": "snapshot",
        "subject": "hello",
        "key": "k",
        "content": CONTENT,
        "result": "passed",
        "started": "t",
    }
    line = encode({**fields, **more})
    return line, decode(line, where="here")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.host


@pytest.fixture(params=["oci", "file"])
def url(request: pytest.FixtureRequest, host: str, tmp_path: Path) -> str:
    path = f"r{abs(hash(str(tmp_path)))}/evidence"
    return f"oci://{host}/{path}" if request.param == "oci" else (tmp_path / "store").as_uri()


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url, {})


def test_a_record_is_found_by_content_by_every_output_and_by_id_byte_for_byte(store: Store) -> None:
    line, record = made(
        outputs={"tar": TAR, "chart": f"oci://h/hello:1@{OTHER}"}, future={"ä": [1]}
    )
    assert store.record_ids(CONTENT) == set() and store.record_line(record.id) is None
    store.put(line, record, {})

    assert (
        store.record_ids(CONTENT) == store.record_ids(TAR) == store.record_ids(OTHER) == {record.id}
    )
    assert store.record_line(record.id) == line
    assert store.record_ids(f"sha256:{'e' * 64}") == set()


def test_a_line_that_is_not_canonical_is_kept_as_it_was_written(store: Store) -> None:
    line, record = made()
    spaced = line.replace(b'{"', b'{ "', 1)
    assert decode(spaced, where="here") == record
    store.put(spaced, record, {})
    assert store.record_line(record.id) == spaced


def test_a_long_record_is_kept_too(store: Store) -> None:
    line, record = made(parameters={"changes": ["x" * 100] * 20_000})
    store.put(line, record, {})
    assert store.record_line(record.id) == line


def test_evidence_file_is_found_by_its_digest(store: Store) -> None:
    report = b"<testsuite/>"
    line, record = made(evidence={"junit/a.xml": sha256(report)})
    assert store.evidence_file(sha256(report)) is None
    store.put(line, record, {"junit/a.xml": report})
    assert store.evidence_file(sha256(report)) == report


def test_the_same_record_again_changes_nothing(store: Store) -> None:
    report = b"report"
    line, record = made(evidence={"junit/a.xml": sha256(report)})
    store.put(line, record, {"junit/a.xml": report})
    store.put(line, record, {})  # another agent, which has not got the file
    assert store.record_ids(CONTENT) == {record.id}
    assert store.evidence_file(sha256(report)) == report


def test_a_writer_that_was_killed_between_is_completed(store: Store) -> None:
    """All but the entry of the content, which is written last."""
    line, record = made(outputs={"tar": TAR})
    store.put(line, replace(record, content=None), {})
    assert store.record_ids(CONTENT) == set() and store.record_ids(TAR) == {record.id}
    store.put(line, record, {})
    assert store.record_ids(CONTENT) == {record.id}


def test_lookup_digests_end_with_the_content() -> None:
    _, record = made(outputs={"same": CONTENT, "tar": TAR})
    assert lookup_digests(record) == [TAR, CONTENT]


def _write(url: str, number: int) -> str:
    line, record = made(run=str(number), outputs={"tar": TAR})
    open_store(url, {}).put(line, record, {"junit/shared.xml": b"the same for all"})
    return record.id


def test_fifty_concurrent_writers_lose_nothing(url: str, store: Store) -> None:
    processes = multiprocessing.get_context(
        "forkserver"
    )  # a fork of this one would share its connections
    processes.set_forkserver_preload(["pipeline_steps.evidence.oci", "pipeline_steps.state.state"])
    with processes.Pool(50) as pool:
        written = set(pool.starmap(_write, [(url, number) for number in range(50)]))
    assert len(written) == 50
    assert store.record_ids(CONTENT) == store.record_ids(TAR) == written
    assert {one for one in written if store.record_line(one) is not None} == written


def test_a_store_that_cannot_be_asked_is_never_empty(tmp_path: Path) -> None:
    dead = open_store(f"oci://127.0.0.1:{free_port()}/evidence", {})
    with pytest.raises(Unreachable):
        dead.record_ids(CONTENT)
    (tmp_path / "store").write_text("a file")
    with pytest.raises(PipelineError, match=r"store/about.*: the file cannot be read"):
        open_store((tmp_path / "store").as_uri(), {}).record_ids(CONTENT)


@pytest.mark.parametrize("url", ["https://h/p", "oci://h", "file://host/x", "x"])
def test_open_store_refuses_other_urls(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(url, {})


def test_names_that_would_leave_the_store_are_refused(store: Store) -> None:
    line, record = made(step="../../x")
    with pytest.raises(EvidenceError, match="is not the name of a step"):
        store.put(line, record, {})
    with pytest.raises(EvidenceError, match="not a digest"):
        store.record_ids("../../etc")


def test_a_damaged_record_in_a_folder_is_named_and_never_replaced(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri(), {})
    line, record = made()
    store.put(line, record, {})
    [place] = (tmp_path / "records").rglob("*.json")
    place.write_bytes(line.replace(b"hello", b"hullo"))
    with pytest.raises(
        EvidenceError, match=r"record sha256:\S+: record sha256:\S+ of snapshot hullo was edited"
    ):
        Stores([store], store).fetch_records([CONTENT], ())
    with pytest.raises(EvidenceError, match="is there with other bytes: nothing was written"):
        store.put(line, record, {})
    place.unlink()
    with pytest.raises(EvidenceError, match="is listed, but missing"):
        Stores([store], store).fetch_records([CONTENT], ())


@pytest.mark.parametrize("planted", ["records", "about", f"about/cc/{'c' * 62}"])
def test_a_planted_link_in_a_folder_is_not_followed(tmp_path: Path, planted: str) -> None:
    link, elsewhere = tmp_path / "store" / planted, tmp_path / "elsewhere"
    elsewhere.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    line, record = made()
    with pytest.raises(MachineError, match="symbolic link"):
        open_store((tmp_path / "store").as_uri(), {}).put(line, record, {})
    assert not list(elsewhere.iterdir())


def test_other_manifest_under_a_record_id_is_an_error(host: str) -> None:
    store = open_store(f"oci://{host}/damaged/evidence", {})
    (line, record), (_, other) = made(), made(subject="other")
    store.put(line, record, {})
    here = connect(host + "/damaged", {})
    manifest = here.manifest("damaged/evidence/records", record.id.removeprefix("sha256:"))
    assert manifest is not None
    here.put_manifest(
        "damaged/evidence/records",
        other.id.removeprefix("sha256:"),
        manifest.body,
        manifest.media_type,
    )
    with pytest.raises(EvidenceError, match="holds another record"):
        Stores([store], None).fetch_by_id([other.id])


def test_a_state_reads_the_union_and_writes_the_store(url: str, tmp_path: Path) -> None:
    fields = {"step": "check", "subject": "hello", "key": "k", "content": CONTENT, "started": "t"}
    store = open_store(url, {})
    first = State(tmp_path / "a" / "state.jsonl", Stores([store], store))
    added = first.add({**fields, "result": "passed"})

    second = State(tmp_path / "b" / "state.jsonl", Stores([store], store))
    assert second.verdict("k") is None
    assert second.find(step="check", content=CONTENT) == [added] and second.verdict("k") == added
    assert not second.path.exists(), "what is read is not written"


def test_record_that_a_store_refused_is_flushed_later(tmp_path: Path) -> None:
    fields = {
        "step": "check",
        "subject": "hello",
        "key": "k",
        "content": CONTENT,
        "started": "t",
        "result": "passed",
    }
    folder = tmp_path / "store"
    folder.write_text("in the way")
    store = open_store(folder.as_uri(), {})
    state = State(tmp_path / "a" / "state.jsonl", Stores([store], store))
    with pytest.raises(
        PipelineError, match=r"the record sha256:\S+ of check is not in the evidence store"
    ) as raised:
        state.add(fields)
    assert raised.value.exit_code == 7 and len(State(state.path).records()) == 1

    folder.unlink()
    again = State(state.path, Stores([store], store))
    again.load_evidence([CONTENT])
    again.flush()
    assert (
        store.record_ids(CONTENT) == {record.id for record in again.records()}
        and len(again.records()) == 1
    )


def test_a_record_waits_for_evidence_that_cannot_be_read_now(tmp_path: Path) -> None:
    fields = {
        "step": "check",
        "subject": "hello",
        "key": "k",
        "content": CONTENT,
        "started": "t",
        "result": "passed",
    }
    store = open_store((tmp_path / "store").as_uri(), {})
    report = tmp_path / "a/report"
    report.mkdir(parents=True)  # reading a folder fails, whoever tries
    state = State(tmp_path / "a/state.jsonl", Stores([store], store))
    with pytest.raises(
        MachineError,
        match=r"is not in the evidence store: the file cannot be read.*\(\w.*; it is in .*the store takes",
    ):
        state.add({**fields, "evidence": {"report": sha256(b"text")}})
    assert store.record_ids(CONTENT) == set()

    report.rmdir()
    report.write_bytes(b"text")
    again = State(state.path, Stores([store], store))
    again.load_evidence([CONTENT])
    again.flush()
    assert len(store.record_ids(CONTENT)) == 1 and store.evidence_file(sha256(b"text")) == b"text"


def test_records_of_a_write_only_store_do_not_count(url: str, tmp_path: Path) -> None:
    store = open_store(url, {})
    line, record = made()
    store.put(line, record, {})
    state = State(tmp_path / "state.jsonl", Stores([], store))
    assert state.find(step="snapshot", content=CONTENT) == []


READ = """
import sys
from pipeline_steps.evidence.kinds import open_store
store = open_store(sys.argv[1], {})
[found] = store.record_ids(sys.argv[2])
assert store.record_line(found)
"""


def test_finding_a_record_in_a_folder_opens_no_more_when_the_store_grows(tmp_path: Path) -> None:
    line, record = made()
    opened = []
    for many in (0, 2000):
        folder = tmp_path / str(many)
        open_store(folder.as_uri(), {}).put(line, record, {})
        for number in range(many):
            (folder / f"about/{number % 256:02x}/{number:062x}").mkdir(parents=True)
            (folder / f"about/{number % 256:02x}/{number:062x}/check-{number:064x}").touch()
        trace = tmp_path / f"{many}.trace"
        command = ["strace", "-f", "-e", "trace=openat,getdents64", "-o", str(trace)]
        subprocess.run([*command, sys.executable, "-c", READ, folder.as_uri(), CONTENT], check=True)
        calls = trace.read_text().splitlines()
        begin = next(number for number, call in enumerate(calls) if str(folder) in call)
        opened.append(len(calls) - begin)
    assert opened[0] == opened[1] > 1


def test_logins_come_from_hosts_and_a_refused_one_is_never_an_empty_store(tmp_path: Path) -> None:
    line, record = made(outputs={"tar": TAR})
    with (
        TokenServer(tmp_path / "t", {"ci": "hunter2-of-ci"}) as server,
        registry(tmp_path / "r", auth=server.auth) as running,
    ):
        url = f"oci://{running.host}/ci/evidence"
        store = open_store(
            url, {f"{running.host}/ci": Host("ci", "hunter2-of-ci", plain_http=True)}
        )
        store.put(line, record, {})
        assert store.record_ids(TAR) == {record.id} and store.record_line(record.id) == line
        for hosts in ({}, {running.host: Host("ci", "wrong-one", plain_http=True)}):
            with pytest.raises(AccessRefused):
                open_store(url, hosts).record_ids(TAR)
            with pytest.raises(AccessRefused):
                open_store(url, hosts).put(line, record, {})


def test_interrupted_record_reaches_the_store_with_the_next_run(tmp_path: Path) -> None:
    """After a signal nothing new is written outside; the record is in the file and reaches the
    store later.
    """
    fields = {"step": "check", "subject": "hello", "key": "k", "content": CONTENT, "started": "t"}
    store = open_store((tmp_path / "store").as_uri(), {})
    state = State(tmp_path / "state.jsonl", Stores([store], store))
    stopped = state.add({**fields, "result": "interrupted"})
    assert store.record_ids(CONTENT) == set()
    again = State(state.path, Stores([store], store))
    again.load_evidence([CONTENT])
    again.flush()
    assert store.record_ids(CONTENT) == {stopped.id}


def test_a_store_that_is_down_is_asked_once_for_all_charts(tmp_path: Path) -> None:
    store = open_store(f"oci://127.0.0.1:{free_port()}/evidence", {})
    stores = Stores([store], store)
    with pytest.raises(Unreachable) as first:
        stores.fetch_records([CONTENT], ())
    with pytest.raises(Unreachable) as second:
        stores.fetch_records([OTHER], ())
    assert second.value is first.value
