"""The inputs of an image: what is in, as what, and that nothing else of a checkout matters."""

from __future__ import annotations

import io
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_steps.images.context import (
    Context,
    Input,
    files_not_sent,
    generated_digest,
    generated_files,
    open_generated,
    write_folder,
    write_tar,
)
from pipeline_steps.images.ignore import IgnoreRules, parse
from pipeline_steps.toolbox.errors import ConfigurationError, EvidenceError
from pipeline_steps.toolbox.files import sha256
from tests.support.contexts import context_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "Dockerfile",
        "a.log",
        "src/b.log",
        "src/deep/c.log",
        "src/main.py",
        "docs/x.md",
        "docs/keep.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def inputs(folder: Path, ignore: str = "") -> list[str]:
    (folder / ".dockerignore").write_text(ignore)
    return [each.path for each in context_of(folder).inputs if each.path != ".dockerignore"]


ALL = [
    "Dockerfile",
    "a.log",
    "docs/keep.md",
    "docs/x.md",
    "src/b.log",
    "src/deep/c.log",
    "src/main.py",
]


@pytest.mark.parametrize(
    ("ignore", "left_out"),
    [
        ("", []),
        ("*.log", ["a.log"]),
        ("**/*.log", ["a.log", "src/b.log", "src/deep/c.log"]),
        ("**/*.log\n!src/deep/*", ["a.log", "src/b.log"]),
        ("/docs/\n!docs/keep.md", ["docs/x.md"]),
        ("docs\n!docs/keep.md\ndocs/k*", ["docs/keep.md", "docs/x.md"]),
        ("*/?.log", ["src/b.log"]),
        ("src/[a-b]*", ["src/b.log"]),
        ("src/**", ["src/b.log", "src/deep/c.log", "src/main.py"]),
        ("# *.log\n  \n ./a.log ", ["a.log"]),
        ("Dockerfile", ["Dockerfile"]),
        ("*\n!src", ["Dockerfile", "a.log", "docs/keep.md", "docs/x.md"]),
    ],
)
def test_dockerignore(folder: Path, ignore: str, left_out: list[str]) -> None:
    assert inputs(folder, ignore) == [path for path in ALL if path not in left_out]


def test_the_dockerfiles_own_ignore_file_wins(folder: Path) -> None:
    (folder / "Dockerfile.dockerignore").write_text("src\ndocs\n*ignore\n")
    assert inputs(folder, "*") == ["Dockerfile", "a.log"]


def test_a_bad_pattern_is_named(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\.dockerignore:2: 'a\[' is not a pattern"):
        inputs(folder, "ok\na[\n")


def test_our_state_and_the_sources_own_files_are_never_in(folder: Path) -> None:
    for name in (".pipeline/state.jsonl", ".git/HEAD", "src/.svn/entries", ".bzr/x"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("x")
    (folder / "docs/.git").write_text("gitdir: elsewhere")
    assert inputs(folder, "!.git\n!.pipeline") == ALL


def test_what_lies_in_the_folder_and_is_no_input_is_listed(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("x")
    rules = parse(b"docs\n", ".dockerignore")
    assert files_not_sent(folder, rules, ["Dockerfile", "src/main.py"]) == [
        "a.log",
        "src/b.log",
        "src/deep/c.log",
    ]
    assert files_not_sent(folder, IgnoreRules(), ALL) == []


def test_generated_files_are_found_by_pattern(folder: Path) -> None:
    found = generated_files(
        folder, ["src/**/*.log", "{docs,none}/x.md"], ["Dockerfile"], "pipeline.yaml:3"
    )
    assert found == {name: folder / name for name in ("src/b.log", "src/deep/c.log", "docs/x.md")}
    with open_generated(found["docs/x.md"]) as file:
        assert file.read() == b"docs/x.md"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "target/*.jar",
            r"pipeline\.yaml:3: no file fits 'target/\*\.jar' \(run the stage that makes it first",
        ),
        (
            "src/main.py",
            r"pipeline\.yaml:3: src/main\.py is in the source \(remove it from `generated`",
        ),
        ("../x", "leads out|outside|leaves"),
    ],
)
def test_generated_files_that_cannot_be_are_refused(
    folder: Path, pattern: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        generated_files(folder, [pattern], ["src/main.py"], "pipeline.yaml:3")


def test_a_generated_link_or_pipe_is_refused(folder: Path) -> None:
    (folder / "to").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe")
    for name in ("to", "pipe"):
        with pytest.raises(ConfigurationError, match=name):
            open_generated(folder / name)
    with pytest.raises(EvidenceError, match="gone: the generated file is not there"):
        open_generated(folder / "gone")


def with_generated(folder: Path, name: str) -> Context:
    digest = generated_digest(folder / name)
    inputs = (Input(name, "executable", digest),)
    return Context(inputs, lambda path: b"", generated={name: folder / name})


def test_a_large_generated_file_is_never_held_whole(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (folder / "app.jar").open("wb") as file:
        file.truncate(64 * 2**20)
    tracemalloc.start()
    try:
        context = with_generated(folder, "app.jar")
        with tempfile.TemporaryFile() as tar:
            write_tar(context, tar, {}, epoch=0)
        write_folder(context, target := tmp_path_factory.mktemp("context"), epoch=0)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert (target / "app.jar").stat().st_size == 64 * 2**20


@pytest.mark.parametrize("after", [b"longer than before", b"short", b"another1"])
def test_a_generated_file_that_changes_while_it_is_read_is_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, after: bytes
) -> None:
    (folder / "app.jar").write_bytes(b"as it is")
    context = with_generated(folder, "app.jar")
    (folder / "app.jar").write_bytes(after)
    with pytest.raises(EvidenceError, match=r"app\.jar: the file changed while it was being read"):
        write_tar(context, io.BytesIO(), {}, epoch=0)
    with pytest.raises(EvidenceError, match=r"app\.jar: the file changed while it was being read"):
        write_folder(context, tmp_path_factory.mktemp("context"), epoch=0)


def test_kinds_and_digests(folder: Path) -> None:
    (folder / "a.log").chmod(0o744)
    (folder / "to").symlink_to("../outside")
    found = {each.path: each for each in context_of(folder).inputs}
    assert found["a.log"] == ("a.log", "executable", sha256(b"a.log"))
    assert found["to"] == ("to", "link", sha256(b"../outside"))


def test_umask_times_and_place_do_not_matter(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def tar() -> bytes:
        stream = io.BytesIO()
        write_tar(context_of(folder), stream, {"more": b"x"}, epoch=0)
        return stream.getvalue()

    (folder / "to").symlink_to("a.log")
    before = tar()
    copy = tmp_path_factory.mktemp("copy")
    write_folder(context_of(folder), copy, epoch=315532800)
    for path in ALL:
        os.utime(folder / path, (1, 1))
        (folder / path).chmod(0o600)
    assert tar() == before
    assert context_of(copy).inputs == context_of(folder).inputs
    stat = (copy / "src/main.py").stat()
    assert (stat.st_mode & 0o777, stat.st_mtime) == (0o644, 315532800)
    assert ((copy / "src").stat().st_mode & 0o777, (copy / "src").stat().st_mtime) == (
        0o755,
        315532800,
    )


def _to_tar(context: Context, _: Path) -> None:
    write_tar(context, io.BytesIO(), {}, epoch=0)


def _to_folder(context: Context, folder: Path) -> None:
    (folder / "out").mkdir()
    write_folder(context, folder / "out", epoch=0)


def _swapped(file: Path) -> None:
    file.unlink()
    file.symlink_to("/etc/hostname")


@pytest.mark.parametrize("write", [_to_tar, _to_folder])
@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text("file!"),
        lambda file: file.write_text("file and more"),
        lambda file: file.write_text("f"),
        _swapped,
    ],
    ids=["same size", "longer", "shorter", "link"],
)
def test_what_changed_since_it_was_read_is_not_built(
    change: Callable[[Path], object], write: Callable[[Context, Path], None], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/Dockerfile").write_text("FROM scratch")
    (tmp_path / "in/app").write_text("file.")
    context = context_of(tmp_path / "in")
    write(context, tmp_path)
    change(tmp_path / "in/app")
    (tmp_path / "again").mkdir()
    with pytest.raises(
        EvidenceError, match=r"in/app: the file changed while it was being read .*run it again"
    ):
        write(context, tmp_path / "again")


@pytest.mark.parametrize("write", [_to_tar, _to_folder])
def test_a_link_that_leads_elsewhere_now_is_not_built(
    write: Callable[[Context, Path], None], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to("one")
    context = context_of(tmp_path / "in")
    (tmp_path / "in/link").unlink()
    (tmp_path / "in/link").symlink_to("two")
    with pytest.raises(EvidenceError, match="in/link: the file changed while"):
        write(context, tmp_path)
