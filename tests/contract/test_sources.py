"""What every source system must do alike; a new system is one more maker in SYSTEMS."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from pipeline_steps.sources import kinds
from pipeline_steps.sources.kinds import open_source, open_tagged
from pipeline_steps.sources.source import Source
from pipeline_steps.sources.tree import export, node_at, walk_files
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import ConfigurationError, Conflict, UsageError
from tests.support.gits import Repo


class Checkout(Protocol):
    """What the suite needs to write: files, commits."""

    root: Path

    def put(self, path: str, text: str | bytes, *, executable: bool = False) -> Path: ...
    def commit(self, message: str = "change") -> str: ...


def git(folder: Path) -> Checkout:
    return Repo(folder / "checkout", folder / "gitconfig")


SYSTEMS: dict[str, Callable[[Path], Checkout]] = {"git": git}


@pytest.fixture(params=SYSTEMS)
def checkout(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Checkout:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    made = SYSTEMS[request.param](tmp_path)
    made.put("sub/a b☺.txt", "one")
    made.put("sub/run", "#!", executable=True)
    made.put("top", "top")
    (made.root / "sub" / "link").symlink_to("a b☺.txt")
    made.commit("first")
    return made


def opened(checkout: Checkout) -> Source:
    return open_source(checkout.root / "sub")


def test_a_folder_inside_opens_the_checkout(checkout: Checkout) -> None:
    assert opened(checkout).root == checkout.root


def test_a_checkout_is_opened_once_within_share_sources(checkout: Checkout) -> None:
    assert opened(checkout) is not opened(checkout)
    before = children()
    with kinds.share_sources():
        source = opened(checkout)
        source.revisions.folder(source.revision(), "sub")
        with kinds.share_sources():
            assert open_source(checkout.root) is source
        assert children() != before
    assert children() == before


def test_a_tree_has_kinds_bytes_and_digests(checkout: Checkout) -> None:
    for revision in (None, opened(checkout).revision()):
        tree = opened(checkout).tree(revision, "sub")
        assert [(e.path, e.kind) for e in tree.entries().values()] == [
            ("a b☺.txt", "file"),
            ("link", "link"),
            ("run", "executable"),
        ]
        assert tree.read(["link", "run"]) == {"link": "a b☺.txt".encode(), "run": b"#!"}
        assert tree.digests(["run"]) == {"run": files.sha256(b"#!")}
        assert tree.modified == ()


def test_a_path_that_is_not_there_is_an_error_and_an_absent_folder_is_empty(
    checkout: Checkout,
) -> None:
    with pytest.raises(ConfigurationError, match="nope is not stored in"):
        opened(checkout).tree(None, "sub").read(["nope"])
    assert opened(checkout).tree(None, "nope").entries() == {}
    assert opened(checkout).tree(opened(checkout).revision(), "nope").entries() == {}


def test_the_checkout_shows_local_changes_and_its_revision_does_not(checkout: Checkout) -> None:
    checkout.put("sub/a b☺.txt", "two")
    checkout.put("sub/new", "new")
    (checkout.root / "sub" / "run").unlink()
    checkout.put("top", "changed")
    tree = opened(checkout).tree(None, "sub")
    assert tree.modified == ("a b☺.txt", "new", "run")
    assert sorted(tree.entries()) == ["a b☺.txt", "link", "new"]
    assert tree.read(["a b☺.txt", "new"]) == {"a b☺.txt": b"two", "new": b"new"}
    assert sorted(opened(checkout).tree(tree.revision, "sub").entries()) == [
        "a b☺.txt",
        "link",
        "run",
    ]


def test_a_changed_mode_alone_is_a_change(checkout: Checkout) -> None:
    (checkout.root / "sub" / "run").chmod(0o644)
    tree = opened(checkout).tree(None, "sub")
    assert (tree.modified, tree.entries()["run"].kind) == (("run",), "file")


def test_pipeline_output_is_in_no_tree(checkout: Checkout) -> None:
    checkout.put(".pipeline/state.jsonl", "x")
    checkout.put("sub/.pipeline/state.jsonl", "x")
    tree = opened(checkout).tree(None, "sub")
    assert tree.modified == () and ".pipeline/state.jsonl" not in tree.entries()
    assert ".pipeline/state.jsonl" not in opened(checkout).tree(None, "").entries()


def test_changed_paths_between_revisions_name_both_ends_of_a_rename(checkout: Checkout) -> None:
    base = opened(checkout).revision()
    (checkout.root / "sub" / "run").rename(checkout.root / "sub" / "walk")
    checkout.put("top", "changed")
    tip = checkout.commit("second")
    assert opened(checkout).changed(base, tip, "sub") == ("run", "walk")
    assert opened(checkout).changed(base, tip, "") == ("sub/run", "sub/walk", "top")
    assert opened(checkout).base(base) == base


def test_an_export_is_the_revision_byte_for_byte(checkout: Checkout, tmp_path: Path) -> None:
    revision = opened(checkout).revision()
    checkout.put("sub/run", "changed")
    target = tmp_path / "export"
    target.mkdir()
    export(opened(checkout).tree(revision, "sub"), target)
    assert (target / "run").read_bytes() == b"#!"
    assert (target / "run").stat().st_mode & 0o777 == 0o755
    assert (target / "link").readlink() == Path("a b☺.txt")


def test_the_history_of_paths_is_newest_first_limited_and_cut(checkout: Checkout) -> None:
    first = opened(checkout).revision()
    checkout.put("top", "changed")
    second = checkout.commit("elsewhere")
    checkout.put("sub/run", "changed")
    last = checkout.commit("here")
    assert opened(checkout).history(last, ["sub/run"], 9) == (last, first)
    assert opened(checkout).history(last, ["sub"], 1) == (last,)
    assert opened(checkout).history(second, ["sub"], 9) == (first,)
    assert opened(checkout).history(last, ["sub", "top"], 9) == (last, second, first)
    assert opened(checkout).history(last, ["sub", "top"], 9, after=first) == (last, second)
    assert opened(checkout).history(last, ["nowhere"], 9) == ()


def test_the_position_grows_with_every_revision(checkout: Checkout) -> None:
    first = opened(checkout).position(opened(checkout).revision())
    second = checkout.commit("another")
    assert opened(checkout).position(second) == first + 1


def test_with_block_reads_the_same_and_leaves_no_process(checkout: Checkout) -> None:
    before = children()
    source, alone = opened(checkout), opened(checkout)
    with source.revisions, source.revisions:
        assert source.tree(None, "").read(["sub/run"]) == alone.tree(None, "").read(["sub/run"])
        assert source.tree(source.revision(), "").digests(["top"]) == alone.tree(None, "").digests(
            ["top"]
        )
        kept = children() - before
    assert children() == before, f"{kept} are left"


def test_revisions_share_the_ids_of_what_is_equal(checkout: Checkout) -> None:
    source = opened(checkout)
    first = source.revision()
    checkout.put("other/a b☺.txt", "one")
    checkout.put("top", "changed")
    second = checkout.commit("second")
    revisions = pickle.loads(pickle.dumps(source.revisions))
    with revisions:
        revisions.prepare([first, second])
        one, two = (revisions.folder(each, "") for each in (first, second))
        sub = revisions.folder(second, "sub")
        assert one and two and one != two and sub and sub == revisions.folder(first, "sub")
        assert revisions.folder(first, "other") is None and revisions.folder(first, "top") is None
        assert [(node.name, node.kind) for node in revisions.listing(sub)] == [
            ("a b☺.txt", "file"),
            ("link", "link"),
            ("run", "executable"),
        ]
        node = node_at(revisions, one, "sub/a b☺.txt")
        assert node and node.kind == "file" and node == node_at(revisions, two, "other/a b☺.txt")
        assert revisions.read([node.id]) == {node.id: b"one"}
        assert revisions.digests([node.id]) == {node.id: files.sha256(b"one")}
        assert node_at(revisions, two, "sub/run/x") is None
        whole = [(entry.path, entry.kind, entry.id) for entry in walk_files(revisions, two)]
    assert sorted(whole) == [tuple(entry) for entry in source.tree(second, "").entries().values()]


def test_a_repository_is_opened_for_its_tags_by_the_path_of_a_folder_in_it(
    checkout: Checkout, tmp_path: Path
) -> None:
    made = opened(checkout).create_tag("one", opened(checkout).revision(), "text", push=False)
    tagged, folder = open_tagged(str(checkout.root / "sub"), tmp_path)
    assert (tagged.tags(), folder, tagged.revisions.root) == ({"one": made}, "sub", checkout.root)
    assert open_tagged(str(checkout.root), tmp_path)[1] == ""
    with pytest.raises(UsageError, match="there is no such folder"):
        open_tagged(str(checkout.root / "nope"), tmp_path)


def children() -> set[int]:
    """The processes that this one has started and that have not ended."""
    return {
        int(pid)
        for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
    }


def test_a_tag_is_set_once_listed_and_never_moved(checkout: Checkout) -> None:
    source = opened(checkout)
    first = source.revision()
    second = checkout.commit("second")
    message = "Release\n\nPipeline-Content: hello 1.0.0 sha256:aa"
    made = source.create_tag("hello-1.0.0", first, message, push=False)
    assert made == source.create_tag("hello-1.0.0", first, message, push=False)
    assert source.tags("hello-*") == {"hello-1.0.0": made}
    assert (made.revision, made.message) == (first, message)
    assert source.tags("other-*") == {}
    assert source.revision("hello-1.0.0") == first
    with pytest.raises(Conflict, match="a tag is never moved"):
        source.create_tag("hello-1.0.0", second, message, push=False)


def test_an_unknown_revision_is_an_error_naming_it(checkout: Checkout) -> None:
    with pytest.raises(UsageError, match="'nope'"):
        opened(checkout).revision("nope")
