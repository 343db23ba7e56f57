"""What is looked at once more after it was done: each look against a system that did not do it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline_steps.audits.state_records import verify_records
from pipeline_steps.auth.hosts import Host
from pipeline_steps.auth.reference import Reference
from pipeline_steps.building import production_chart, snapshot_records
from pipeline_steps.building.channels import WritableChannel
from pipeline_steps.charts.archive import Archive
from pipeline_steps.config.config_file import load
from pipeline_steps.oci import claim as claims
from pipeline_steps.oci.copy import copy
from pipeline_steps.oci.manifest import OCI_MANIFEST
from pipeline_steps.oci.registry import Registry
from pipeline_steps.release.derivation import derive_release
from pipeline_steps.release.proof import require_proof
from pipeline_steps.repositories.directory import DirectoryRepository
from pipeline_steps.repositories.kinds import open_writable
from pipeline_steps.repositories.oci import OciRepository
from pipeline_steps.state.attempt import record_attempt
from pipeline_steps.state.record import Record
from pipeline_steps.state.state import State
from pipeline_steps.testing import scenario
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import Conflict, EvidenceError, MachineError, PipelineError
from pipeline_steps.toolbox.files import sha256
from pipeline_steps.workspace.checkout import open_checkout
from tests.support.charts import packed, signed
from tests.support.gits import bare
from tests.support.images import push_base
from tests.support.registries import Running, registry
from tests.support.release_line import Line
from tests.support.scripted import Answer, Request, scripted


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with registry(tmp_path / "registry") as started:
        yield started


def other() -> Archive:
    return packed(more="description: other\n")


def test_a_failed_fsync_of_the_state_is_an_error_and_its_line_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.append(tmp_path / "state.jsonl", b"first")

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineError, match="Input/output error"):
        files.append(tmp_path / "state.jsonl", b"second")
    assert (tmp_path / "state.jsonl").read_bytes() == b"first\n"


NO_MANIFEST: Answer = (404, {}, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
OTHER = {"Docker-Content-Digest": sha256(b"other")}


@pytest.mark.parametrize(
    ("put", "head", "error", "message"),
    [
        ({}, NO_MANIFEST, MachineError, "acknowledged the manifest, but does not have it"),
        ({}, (200, OTHER, b""), Conflict, "there is another writer"),
        (OTHER, (200, {"Docker-Content-Digest": sha256(b"{}")}, b""), MachineError, "has digest"),
    ],
    ids=["gone", "another one", "stored as another one"],
)
def test_an_acknowledged_manifest_that_is_not_there_is_an_error(
    put: dict[str, str], head: Answer, error: type[PipelineError], message: str
) -> None:
    with scripted(lambda asked: (201, put, b"") if asked.method == "PUT" else head) as server:
        here = Registry(server.host, plain_http=True)
        with pytest.raises(error, match=message):
            here.put_manifest("web", "1.0.0", b"{}", OCI_MANIFEST)


def test_an_acknowledged_blob_that_is_not_there_is_an_error() -> None:
    def answer(request: Request) -> Answer:
        if request.method == "POST":
            return 202, {"Location": "/upload"}, b""
        return (201 if request.method == "PUT" else 404), {}, b""

    with scripted(answer) as server:
        here = Registry(server.host, plain_http=True)
        with pytest.raises(MachineError, match=r"acknowledged blob .*, but does not have it"):
            here.push_blob("web", b"layer", sha256(b"layer"))


def recorded(folder: Path, archive: Archive, reference: str) -> snapshot_records.Snapshot:
    state = State(folder / "state.jsonl")
    with record_attempt(
        state,
        step="snapshot",
        subject=archive.name,
        key="k",
        content="c",
        revision="r",
        parameters={"version": archive.version},
        inputs={},
        uses=[],
    ) as attempt:
        record = attempt.passed({"chart": reference, "tar": archive.tar_digest})
    return snapshot_records.snapshot_of_record(record)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [("bytes", "is another one than recorded"), ("tar", "has the tar sha256:")],
)
def test_a_snapshot_that_was_replaced_is_not_tested(
    tmp_path: Path, replaced: str, message: str
) -> None:
    repository = DirectoryRepository((tmp_path / "charts").as_uri(), {})
    (tmp_path / "pipeline.yaml").write_text(
        f"charts: [{{path: .}}]\nchannels: {{snapshot: {{charts: '{repository.url}'}}}}\n"
    )
    config = load((tmp_path / "pipeline.yaml",))
    published = repository.publish(packed())
    snapshot = recorded(tmp_path, published.archive, published.reference)
    assert snapshot_records.fetch_archive(snapshot, config) == published.archive.tgz
    if replaced == "bytes":
        snapshot = recorded(
            tmp_path / "other", published.archive, published.reference[:-64] + "0" * 64
        )
    else:
        (tmp_path / "charts/index.yaml").unlink()
        (tmp_path / "charts/hello-1.0.0.tgz").unlink()
        repository.publish(other())
    with pytest.raises(EvidenceError, match=message):
        snapshot_records.fetch_archive(snapshot, config)


def test_a_release_with_a_change_that_nobody_recorded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(tmp_path)
    line.tested()
    for name, value in line.environment().items():
        monkeypatch.setenv(name, value)
    config = load((line.repo.root / "pipeline.yaml",))
    checkout, production = open_checkout(config), WritableChannel(config, "production")
    state = State(line.repo.root / ".pipeline/state.jsonl")
    proof = require_proof(checkout, "common", config, state)
    derive_release(proof, checkout, config, production)
    derive = production_chart.derive_production_chart

    def hide_a_change(*arguments: Any) -> Any:
        return derive(*arguments)._replace(changes=())

    monkeypatch.setattr(production_chart, "derive_production_chart", hide_a_change)
    with pytest.raises(EvidenceError, match="undoing the recorded changes gives"):
        derive_release(proof, checkout, config, production)


#: Makes a commit of its own on top of what was pushed, of the tree in another index.
ON_TOP = """\
export GIT_INDEX_FILE=other GIT_AUTHOR_NAME=a GIT_COMMITTER_NAME=a EMAIL=a@example.com
git read-tree $new
{change}
git update-ref $ref $(git commit-tree -p $new -m x $(git write-tree))
"""


@pytest.mark.parametrize(
    ("taken", "hook_line"),
    [
        ("hello-2.0.0.tgz, the entry", "git update-ref $ref $old"),
        ("hello-2.0.0.tgz", ON_TOP.format(change="git rm -q --cached hello-2.0.0.tgz")),
        ("the entry", ON_TOP.format(
            change="git update-index --cacheinfo 100644,$(git rev-parse $old:index.yaml),index.yaml"
        )),
    ],
    ids=["all", "the archive", "the index"],
)  # fmt: skip
def test_a_commit_that_a_server_takes_back_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str, hook_line: str
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    pages = bare(tmp_path / "pages.git")
    repository = open_writable(f"git+{pages.as_uri()}#gh-pages", {})
    repository.publish(packed())
    hook = pages / "hooks/post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh -e\nread old new ref\n{hook_line}\n")
    hook.chmod(0o755)
    with pytest.raises(
        MachineError, match=rf"the branch does not have {taken}[^,]* \(run it again"
    ):
        repository.publish(packed(version="2.0.0"))


@pytest.mark.parametrize("damaged", ["index.yaml", "hello-1.0.0.tgz"])
def test_a_folder_that_keeps_other_bytes_than_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    add = files.Batch.add

    def damage(self: files.Batch, path: Path, data: bytes) -> None:
        add(self, path, data[:-1] if path.name == damaged else data)

    monkeypatch.setattr(files.Batch, "add", damage)
    repository = DirectoryRepository((tmp_path / "charts").as_uri(), {})
    with pytest.raises(MachineError, match="files differ from what was just written"):
        repository.publish(packed())


def test_provenance_gets_its_name_before_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    replace = Path.replace

    def note(self: Path, target: Path) -> Path:
        names.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", note)
    repository = DirectoryRepository((tmp_path / "charts").as_uri(), {})
    repository.publish(packed(), signed(packed()))
    assert names[-3:] == ["hello-1.0.0.tgz.prov", "hello-1.0.0.tgz", "index.yaml"]


def test_arguments_of_helm_and_the_namespace_are_in_the_key_of_a_test() -> None:
    plain = scenario.Scenario("fresh", "", "")
    keys = [
        scenario.parameters(plain, namespace=namespace, helm_args=arguments)
        for namespace in ("fresh", "team")
        for arguments in ((), ("--skip-crds",))
    ]
    files_read = (
        plain._replace(values_digest="sha256:1"),
        plain._replace(argument_digests=(("values.yaml", "sha256:1"),)),
    )
    keys += [scenario.parameters(each, namespace="fresh", helm_args=()) for each in files_read]
    assert len({json.dumps(key) for key in keys}) == 6


def hosts(running: Running) -> dict[str, Host]:
    return {running.host: Host(plain_http=True)}


def test_a_tag_that_is_taken_while_an_image_is_copied_is_not_moved(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Registry(running.host, plain_http=True)
    ours = push_base(here, "snap/app", "1", b"ours")
    claim = claims.claim_tag

    def claim_and_lose(*arguments: Any, **options: Any) -> None:
        claim(*arguments, **options)
        theirs.append(push_base(here, "prod/app", "1.0", b"theirs"))

    theirs: list[str] = []
    monkeypatch.setattr("pipeline_steps.oci.copy.claim_tag", claim_and_lose)
    with pytest.raises(Conflict, match="is already there with another digest"):
        copy(
            Reference(running.host, "snap/app", None, ours),
            Reference(running.host, "prod/app", "1.0"),
            hosts=hosts(running),
        )
    there = here.head("prod/app", "1.0")
    assert there and there.digest == theirs[0] != ours


def test_a_version_that_is_taken_while_a_chart_is_pushed_is_not_replaced(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = OciRepository(f"oci://{running.host}/charts", {})
    with_claim = OciRepository._claim
    taken: list[str] = []

    def claim_and_lose(self: OciRepository, archive: Archive, push: Any) -> None:
        with_claim(self, archive, push)
        monkeypatch.setattr(OciRepository, "_claim", lambda *_arguments: None)
        taken.append(OciRepository(f"oci://{running.host}/charts", {}).publish(other()).reference)

    monkeypatch.setattr(OciRepository, "_claim", claim_and_lose)
    with pytest.raises(Conflict, match="already there with another content"):
        repository.publish(packed())
    assert [repository.resolve("hello", "1.0.0")] == taken


Change = Callable[[Registry, Running, Path], None]


def move_the_tag(here: Registry, _running: Running, _folder: Path) -> None:
    push_base(here, "app", "1", b"another")


def lose_the_tag(_here: Registry, running: Running, _folder: Path) -> None:
    shutil.rmtree(running.folder / "data/docker/registry/v2/repositories/app/_manifests/tags/1")


def lose_a_layer(here: Registry, running: Running, _folder: Path) -> None:
    manifest = here.manifest("app", "1")
    assert manifest
    layers = running.folder / "data/docker/registry/v2/repositories/app/_layers/sha256"
    shutil.rmtree(layers / manifest.content["layers"][0]["digest"].removeprefix("sha256:"))


def edit_the_evidence(_here: Registry, _running: Running, folder: Path) -> None:
    (folder / "junit.xml").write_text("edited")


@pytest.mark.parametrize(
    ("change", "verdict", "what"),
    [
        (move_the_tag, "changed", "image"),
        (lose_the_tag, "gone", "the tag is gone, the digest is there"),
        (lose_a_layer, "gone", "the registry has lost sha256:"),
        (edit_the_evidence, "changed", "evidence junit.xml"),
        (None, "unresolved", "uses sha256:"),
    ],
)
def test_state_verify_names_what_does_not_hold(
    running: Running, tmp_path: Path, change: Change | None, verdict: str, what: str
) -> None:
    here = Registry(running.host, plain_http=True)
    digest = push_base(here, "app", "1", b"built")
    state = State(tmp_path / ".pipeline/state.jsonl")
    record = build(state, f"{running.host}/app:1@{digest}", uses=[])
    verdicts = [finding.verdict for finding in verify_records(state, hosts(running))]
    assert verdicts == ["holds", "holds"]
    if change:
        change(here, running, state.folder)
    else:
        build(state, f"{running.host}/app:1@{digest}", uses=[f"sha256:{'0' * 64}", record.id])
    wrong = [each for each in verify_records(state, hosts(running)) if each.verdict != "holds"]
    assert [finding.verdict for finding in wrong] == [verdict]
    assert what in wrong[0].what


def build(state: State, image: str, *, uses: list[str]) -> Record:
    with record_attempt(
        state,
        step="build_image",
        subject="app",
        key="k",
        content="c",
        revision="r",
        parameters={},
        inputs={},
        uses=uses,
    ) as attempt:
        files.folder(state.folder)
        (state.folder / "junit.xml").write_text("written")
        attempt.attach(state.folder / "junit.xml")
        return attempt.passed({"image": image})
