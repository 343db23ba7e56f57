"""`verify`: one chart's chain by its records, whole and with each link broken."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml

from pipeline_steps.audits import chain
from pipeline_steps.audits.state_records import verify_records
from pipeline_steps.charts import archive
from pipeline_steps.charts.rewrite import rewrite
from pipeline_steps.config.config_file import load
from pipeline_steps.config.language import Channels, Config, ProductionChannel
from pipeline_steps.oci.registry import Registry
from pipeline_steps.repositories.kinds import open_repository, open_writable
from pipeline_steps.sources.kinds import open_source
from pipeline_steps.state.record import encode
from pipeline_steps.state.state import State
from pipeline_steps.toolbox.errors import EvidenceError, UsageError
from pipeline_steps.toolbox.files import sha256
from tests.support.chartmuseum import chartmuseum
from tests.support.charts import files, packed
from tests.support.gits import Repo, bare
from tests.support.images import push_base
from tests.support.records import Story
from tests.support.registries import registry
from tests.support.release_line import Line
from tests.workflows.test_regenerate import served
from tests.workflows.test_regenerate_kinds import KINDS, Place

NONE = Config(charts=(), root=Path("/"))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Line:
    line = Line(tmp_path_factory.mktemp("line"))
    written = (line.repo.root / "pipeline.yaml").read_text()
    line.repo.put("pipeline.yaml", f'{written}evidence: "file://{line.folder}/evidence"\n')
    line.repo.commit()
    line.tested()
    line.ok("tag_release", "--local", "--chart", "common")
    line.ok("promote", "--chart", "common")
    return line


@pytest.fixture
def chart(released: Line) -> str:
    return (released.folder / "charts/common-1.0.0.tgz").as_uri()


def test_verify_of_a_released_chart_holds_for_every_link(released: Line, chart: str) -> None:
    completed = released.ok("verify", chart)
    lines = completed.stdout.splitlines()
    assert lines and all(line.startswith("holds ") for line in lines)
    promoted = released.records("promote")[-1]
    for words in (
        promoted["id"][7:19],
        promoted["content"],
        promoted["revision"],
        "of promote it is the tested tar sha256:",
    ):
        assert words in completed.stdout
    assert "test " in completed.stdout and "check " in completed.stdout
    # What verify read it did not publish.
    assert released.ok("state", "verify").stdout.endswith(" holds\n")


def test_verify_works_with_the_evidence_store_alone(
    released: Line, chart: str, tmp_path: Path
) -> None:
    away = tmp_path / "pipeline.yaml"
    shutil.copy(released.repo.root / "pipeline.yaml", away)
    assert "holds" in released.ok("verify", chart, "--config", str(away)).stdout
    assert not (tmp_path / ".pipeline/state.jsonl").read_text().count('"step":"promote"')


def test_verify_writes_nothing_to_the_store(released: Line, chart: str) -> None:
    before = sorted((released.folder / "evidence").rglob("*"))
    released.ok("verify", chart)
    assert sorted((released.folder / "evidence").rglob("*")) == before


def test_verify_plan_logs_the_links_and_writes_nothing(released: Line, chart: str) -> None:
    state = released.repo.root / ".pipeline/state.jsonl"
    before = state.read_bytes()
    completed = released.ok("verify", chart, "--plan")
    assert completed.stderr.count("holds ") > 3 and completed.stdout == ""
    assert state.read_bytes() == before


def test_verify_of_a_snapshot_holds(released: Line) -> None:
    reference = released.records("snapshot")[-1]["outputs"]["chart"]
    assert "snapshot" in released.ok("verify", reference).stdout


def test_verify_refuses_an_exchanged_archive(released: Line, tmp_path: Path) -> None:
    files = archive.unpack((released.folder / "charts/common-1.0.0.tgz").read_bytes())
    other = tmp_path / "common-1.0.0.tgz"
    other.write_bytes(archive.pack({**files, "more.txt": b"x"}).tgz)
    completed = released.run("verify", other.as_uri())
    assert completed.returncode == 4
    assert completed.stdout.splitlines()[-1].startswith(
        "changed  promote of common 1.0.0 recorded the tar sha256:"
    )
    assert "(see who changed it, and release a higher version)" in completed.stderr


def test_verify_compares_the_digest_in_the_reference(released: Line, chart: str) -> None:
    assert released.run("verify", f"{chart}@sha256:{'0' * 64}").returncode == 4
    assert released.run("verify", f"{chart}.gone").returncode == 4
    assert released.run("verify").returncode == 2
    assert released.run("verify", "https://example.com/x").returncode == 2


Edit = Callable[[dict[str, dict[str, Any]]], None]


def untested(steps: dict[str, dict[str, Any]]) -> None:
    steps["integration_test"]["result"] = "failed"


def other_tar(steps: dict[str, dict[str, Any]]) -> None:
    steps["snapshot"]["outputs"]["tar"] = f"sha256:{'1' * 64}"


def other_content(steps: dict[str, dict[str, Any]]) -> None:
    steps["integration_test"]["content"] = f"sha256:{'1' * 64}"


def without_changes(steps: dict[str, dict[str, Any]]) -> None:
    steps["promote"]["parameters"]["changes"] = []


def unused(steps: dict[str, dict[str, Any]]) -> None:
    steps["integration_test"]["uses"] = []


BROKEN: dict[str, tuple[Edit, str]] = {
    "test failed": (untested, "changed  test"),
    "other snapshot": (other_tar, "changed  undoing the recorded changes gives"),
    "other content": (other_content, "changed  test"),
    "without changes": (without_changes, "changed  undoing"),
    "test of no snapshot": (unused, "missing  test"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_verify_names_a_broken_link(
    released: Line, chart: str, tmp_path: Path, broken: str
) -> None:
    """Records made anew with one thing wrong, each hashed as it then is: what counts is that they
    no longer fit.
    """
    edit, said = BROKEN[broken]
    records = [
        json.loads(line)
        for line in (released.repo.root / ".pipeline/state.jsonl").read_text().splitlines()
    ]
    steps = {record["step"]: record for record in records if record["result"] == "passed"}
    edit(steps)
    ids: dict[str, str] = {}
    with (tmp_path / "state.jsonl").open("wb") as file:
        for record in records:
            record["uses"] = [ids.get(one, one) for one in record.get("uses", [])]
            line = encode(
                {name: value for name, value in record.items() if name not in ("id", "schema")}
            )
            ids[record["id"]] = json.loads(line)["id"]
            file.write(line + b"\n")
    state = State(tmp_path / "state.jsonl")
    links = chain.links(chain.fetch(chart, NONE), state, {})
    assert [str(link) for link in links if link.status != "holds" and str(link).startswith(said)], (
        links
    )


def test_verify_names_what_contradicts_a_release_by_now(
    released: Line, chart: str, tmp_path: Path
) -> None:
    """A program that failed elsewhere, and a tag that somebody moved."""
    state = State(tmp_path / "state.jsonl")
    state.path.write_bytes((released.repo.root / ".pipeline/state.jsonl").read_bytes())
    fetched, tags = chain.fetch(chart, NONE), open_source(released.repo.root).tags()
    whole = chain.links(fetched, state, {}, tags)
    assert {link.status for link in whole} == {"holds"}
    assert whole[-1].what.startswith("tag common-1.0.0 leads to ")
    check = msgspec.to_builtins(state.find(step="check")[-1])
    fields = {name: value for name, value in check.items() if name not in ("id", "schema")}
    state.add({**fields, "result": "failed", "supersedes": []})
    moved = {name: tag._replace(revision="0" * 40) for name, tag in tags.items()}
    broken = [
        str(link) for link in chain.links(fetched, state, {}, moved) if link.status != "holds"
    ]
    assert [line.split(":")[0][:15] for line in broken] == ["changed  check ", "changed  tag co"]
    assert broken[0].endswith("passed, or contradicted by now")
    assert f"leads to {'0' * 40}, set at " in broken[1]


def test_verify_without_records_ends_with_a_missing_link(chart: str, tmp_path: Path) -> None:
    links = chain.links(chain.fetch(chart, NONE), State(tmp_path / "state.jsonl"), {})
    assert [link.status for link in links] == ["holds", "missing"]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    with registry(tmp_path / "registry") as running:
        yield running.host


def test_a_chart_in_a_registry_is_found_by_tag_and_by_digest(released: Line, host: str) -> None:
    made = archive.open_archive((released.folder / "charts/common-1.0.0.tgz").read_bytes())
    published = open_writable(f"oci://{host}/charts", {}).publish(made)
    by_digest = f"oci://{host}/charts/common@{published.reference.rpartition('@')[2]}"
    for reference in (published.reference, published.reference.partition("@")[0], by_digest):
        completed = released.ok("verify", reference)
        assert "recorded this tar" in completed.stdout
    for wrong in (f"oci://{host}/charts/common:9.0.0", f"{published.reference[:-64]}{'0' * 64}"):
        with pytest.raises(EvidenceError):
            chain.fetch(wrong, NONE)
    with pytest.raises(UsageError):
        chain.fetch(f"oci://{host}/charts/common", NONE)


@contextlib.contextmanager
def web(folder: Path) -> Iterator[Place]:
    """A folder behind a web server, which is only read."""
    (folder / "served").mkdir()
    with served(folder / "served") as url:
        yield Place(url, dict, dict)


@pytest.mark.parametrize("kind", [*(kind for kind in KINDS if kind != "oci"), "https"])
def test_a_chart_in_a_repository_of_pipeline_yaml_is_found(
    released: Line, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the reference that publishing gives it, and by the repository's URL with a file name."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(released.repo.config))
    made = archive.open_archive((released.folder / "charts/common-1.0.0.tgz").read_bytes())
    odd = packed("my-chart", "1.0.0-rc.1+b.2")
    with {**KINDS, "https": web}[kind](tmp_path) as place:
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "channel.yaml").write_text(
            f"channels: {{production: {{charts: '{place.url}'}}}}\n"
        )
        (tmp_path / "hosts.yaml").write_text(place.config or "{}\n")
        overlays = [
            released.repo.root / "pipeline.yaml",
            tmp_path / "hosts.yaml",
            tmp_path / "channel.yaml",
        ]
        config = load(overlays, environ=place.environment, start=released.repo.root)
        folder = (tmp_path / "served").as_uri()
        for one in (made, odd):
            open_writable(folder if kind == "https" else place.url, config.hosts).publish(one)
        repository = open_repository(place.url, config.hosts)
        published, other = (
            repository.find("common", "1.0.0"),
            repository.find(odd.name, odd.version),
        )
        assert published is not None and other is not None
        words = [word for overlay in overlays for word in ("--config", str(overlay))]
        for reference in (
            published.reference,
            published.reference.rpartition("@")[0],
            f"{place.url}/common-1.0.0.tgz",
        ):
            completed = released.ok("verify", reference, *words, **place.environment)
            assert "recorded this tar" in completed.stdout
            assert all(line.startswith("holds ") for line in completed.stdout.splitlines())
        assert chain.fetch(other.reference, config).archive.tgz == odd.tgz
        for wrong in (
            f"{published.reference[:-64]}{'0' * 64}",
            f"{place.url}/common-1.0.1.tgz",
            f"{place.url}/common.tgz",
        ):
            with pytest.raises(EvidenceError):
                chain.fetch(wrong, config)


class Files(NamedTuple):
    """A repository with one chart, common 1.0.0. entries: of its index, written whole."""

    url: str
    entries: Callable[[], dict[str, Any]]
    write_entries: Callable[[dict[str, Any]], object]
    archive: Callable[[], bytes]
    write_archive: Callable[[bytes | None], object]


def _in_folder(url: str, folder: Path, written: Callable[[], object]) -> Files:
    index, archive_path = folder / "index.yaml", folder / "common-1.0.0.tgz"

    def write(path: Path, data: bytes | None) -> None:
        path.unlink() if data is None else path.write_bytes(data)
        written()

    return Files(
        url,
        lambda: dict(yaml.safe_load(index.read_text())["entries"]),
        lambda entries: write(
            index, yaml.safe_dump({"apiVersion": "v1", "entries": entries}).encode()
        ),
        archive_path.read_bytes,
        partial(write, archive_path),
    )


@contextlib.contextmanager
def folder_files(folder: Path, made: archive.Archive) -> Iterator[Files]:
    open_writable((folder / "charts").as_uri(), {}).publish(made)
    yield _in_folder((folder / "charts").as_uri(), folder / "charts", lambda: None)


@contextlib.contextmanager
def web_files(folder: Path, made: archive.Archive) -> Iterator[Files]:
    with folder_files(folder, made), served(folder / "charts") as url:
        yield _in_folder(url, folder / "charts", lambda: None)


@contextlib.contextmanager
def branch_files(folder: Path, made: archive.Archive) -> Iterator[Files]:
    pages = bare(folder / "pages.git")
    url = f"git+{pages.as_uri()}#gh-pages"
    open_writable(url, {}).publish(made)
    clone = Repo(folder / "clone", folder / "gitconfig", clone=str(pages))
    clone.git("checkout", "-q", "gh-pages")

    def push() -> None:
        clone.commit()
        clone.git("push", "-q", "origin", "gh-pages")

    yield _in_folder(url, clone.root, push)


@contextlib.contextmanager
def museum_files(_folder: Path, made: archive.Archive) -> Iterator[Files]:
    name = "common-1.0.0.tgz"
    with chartmuseum() as museum:

        def write_index(entries: dict[str, Any]) -> None:
            museum.index.clear()
            museum.index.update((name, entry) for entry in entries.get("common", []))

        def write_archive(data: bytes | None) -> None:
            museum.files[name] = data or b""
            if data is None:
                del museum.files[name]

        def index() -> dict[str, Any]:
            return {"common": list(museum.index.values())}

        open_writable(museum.url, {}).publish(made)
        yield Files(museum.url, index, write_index, lambda: museum.files[name], write_archive)


REPOSITORIES = {
    "folder": folder_files,
    "git": branch_files,
    "https": web_files,
    "chartmuseum": museum_files,
}


def without_entry(there: Files) -> None:
    there.write_entries({})


def other_digest(there: Files) -> None:
    entry = there.entries()["common"][0]
    there.write_entries({"common": [{**entry, "digest": "0" * 64}]})


def without_archive(there: Files) -> None:
    there.write_archive(None)


def other_archive(there: Files) -> None:
    files = archive.unpack(there.archive())
    there.write_archive(archive.pack({**files, "more.txt": b"x"}).tgz)


def other_archive_and_digest(there: Files) -> None:
    other_archive(there)
    entry = there.entries()["common"][0]
    digest = sha256(there.archive()).removeprefix("sha256:")
    there.write_entries({"common": [{**entry, "digest": digest}]})


def turned_bit(there: Files) -> None:
    tgz = there.archive()
    there.write_archive(tgz[:50] + bytes([tgz[50] ^ 1]) + tgz[51:])


DAMAGES: dict[Callable[[Files], None], tuple[str, str]] = {
    without_entry: ("gone", "does not name it"),
    other_digest: ("changed", "the index says sha256:0000"),
    without_archive: ("gone", "missing|not there|no such file"),
    other_archive: ("changed", "the archive has the digest sha256:"),
    other_archive_and_digest: ("changed", "the archive has the digest sha256:"),
    turned_bit: ("changed", "the archive has the digest sha256:"),
}


@pytest.mark.parametrize("kind", REPOSITORIES)
def test_each_damage_of_a_repository_is_named(released: Line, kind: str, tmp_path: Path) -> None:
    """By `state verify`, and by `verify` of the chart: index entry and archive of each kind."""
    made = archive.open_archive((released.folder / "charts/common-1.0.0.tgz").read_bytes())
    with REPOSITORIES[kind](tmp_path, made) as there:
        config = Config(
            charts=(),
            root=tmp_path,
            channels=Channels(production=ProductionChannel(charts=there.url)),
        )
        published = open_repository(there.url, {}).find("common", "1.0.0")
        assert published is not None
        state = State(tmp_path / "state.jsonl")
        outputs = {"chart": published.reference, "tar": published.tar_digest}
        Story(state).add("promote", "common", "x", outputs=outputs, parameters={"version": "1.0.0"})
        whole = there.entries(), there.archive()
        for damage, (verdict, words) in DAMAGES.items():
            assert [finding.verdict for finding in verify_records(state, {}, [there.url])] == [
                "holds"
            ], f"before {damage.__name__}"
            assert chain.fetch(published.reference, config).archive.tgz == made.tgz
            damage(there)
            findings = [finding.verdict for finding in verify_records(state, {}, [there.url])]
            assert findings == [verdict], damage.__name__
            with pytest.raises(EvidenceError, match=words):
                chain.fetch(published.reference, config)
            there.write_entries(whole[0])
            there.write_archive(whole[1])


def test_verify_takes_no_account_in_a_url_for_a_digest() -> None:
    elsewhere = "git+ssh://git@git.example.com/pages.git#gh-pages/common-1.0.0.tgz@sha256:0"
    with pytest.raises(
        UsageError,
        match=r"git\+ssh://git@git\.example\.com/pages\.git#gh-pages/common-1\.0\.0\.tgz: ",
    ):
        chain.fetch(elsewhere, NONE)


@pytest.mark.parametrize(
    ("tested", "built", "said"),
    [
        ("a", "a", ""),
        ("b", "a", "changed  image:web is sha256:"),
        ("a", "c", "missing  image:web sha256:"),
    ],
    ids=["whole", "other image tested", "no build"],
)
def test_verify_compares_images_by_digest(
    tmp_path: Path, host: str, tested: str, built: str, said: str
) -> None:
    """Records as the steps of a chart with an image write them."""
    image_there = push_base(Registry(host, plain_http=True), "web", "1.0.0", b"a")
    digests = {"a": image_there, **{sign: f"sha256:{sign * 64}" for sign in "bc"}}
    snapshot_files = archive.Files(files(version="1.0.0-0.1.t0123456789ab"))
    made = rewrite(snapshot_files, "1.0.0", {"values.yaml": {"image.tag": "1.0.0"}})
    (tmp_path / "hello-1.0.0.tgz").write_bytes(made.archive.tgz)
    story = Story(State(tmp_path / "state.jsonl"))
    image = story.add(
        "build_image", "web", "image", outputs={"image": f"{host}/web:k-1@{digests[built]}"}
    )
    inputs = {"image:web": digests[tested]}
    tar = archive.pack(snapshot_files).tar_digest
    snapshot = story.add(
        "snapshot", "hello", "x", uses=[image.id], inputs=inputs, outputs={"tar": tar}
    )
    test = story.test("hello", "x", snapshot, "ci/a-values.yaml")
    outputs = {
        "tar": made.archive.tar_digest,
        "image:web": f"{host}/web:1.0.0@{digests['a']}",
    }
    parameters = {
        "version": "1.0.0",
        "changes": [msgspec.structs.asdict(change) for change in made.changes],
    }
    uses = [snapshot.id, test.id]
    story.add(
        "promote", "hello", "x", uses=uses, inputs=inputs, outputs=outputs, parameters=parameters
    )
    links = chain.links(chain.fetch((tmp_path / "hello-1.0.0.tgz").as_uri(), NONE), story.state, {})
    broken = [str(link) for link in links if link.status != "holds"]
    assert broken == [] if not said else [one for one in broken if one.startswith(said)], links
