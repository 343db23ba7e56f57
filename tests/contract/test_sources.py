"""What every source system must do alike; `tests.support.source_systems` has the systems."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.sources import kinds
from pipeline_steps.sources.kinds import open_source, open_tagged
from pipeline_steps.sources.source import Reviewable, Source, Tag
from pipeline_steps.sources.tree import node_at, walk_files
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import (
    ConfigurationError,
    Conflict,
    PipelineError,
    Temporary,
    UsageError,
)
from tests.support import daemons, svns
from tests.support.checkouts import Checkout, Server, System
from tests.support.source_systems import SYSTEMS

#: Subversion once more, with its own protocol instead of the repository's files.
ASKED = {**SYSTEMS, "svn+ssh": System(svns.tunnel, svns.tunnelled, svns.server)}


@pytest.fixture(params=ASKED)
def system(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> System:
    for each in ASKED.values():
        for name, value in each.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
    return ASKED[request.param]


@pytest.fixture
def checkout(system: System, tmp_path: Path) -> Checkout:
    checkout = system.checkout(tmp_path)
    first(checkout)
    return checkout


@pytest.fixture
def server(system: System, tmp_path: Path) -> Iterator[Server]:
    with system.server(tmp_path / "server") as server:
        checkout = server.checkout(tmp_path / "beginner")
        first(checkout)
        checkout.push()
        yield server


def first(checkout: Checkout) -> None:
    checkout.put("sub/a b☺.txt", "one")
    checkout.put("sub/run", "#!", executable=True)
    checkout.put("top", "top")
    checkout.link("sub/link", "a b☺.txt")
    checkout.commit("first")


def create_tag(checkout: Checkout, name: str, revision: str, message: str) -> Tag:
    return opened(checkout).create_tag(name, revision, message, push=checkout.tags_on_server)


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
    stored = opened(checkout).tree(tree.revision, "sub")
    assert sorted(stored.entries()) == ["a b☺.txt", "link", "run"]
    assert stored.read(["a b☺.txt", "run"]) == {"a b☺.txt": b"one", "run": b"#!"}


def test_a_changed_mode_alone_is_a_change(checkout: Checkout) -> None:
    checkout.set_executable("sub/run", False)
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


def test_changed_paths_are_the_files_of_folders_that_came_went_and_were_renamed(
    checkout: Checkout,
) -> None:
    for folder in ("gone/deep", "renamed"):
        checkout.put(f"sub/{folder}/x", folder)
    base = checkout.commit()
    shutil.rmtree(checkout.root / "sub/gone")
    (checkout.root / "sub/renamed").rename(checkout.root / "sub/named")
    checkout.put("sub/new/deep/x", "new")
    tip = checkout.commit()
    expected = ("gone/deep/x", "named/x", "new/deep/x", "renamed/x")
    assert opened(checkout).changed(base, tip, "sub") == expected


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
    made = create_tag(checkout, "one", opened(checkout).revision(), "text")
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
    revision = opened(checkout).revision()
    checkout.put("top", "changed")
    second = checkout.commit("second")
    message = "Release\n\nPipeline-Content: hello 1.0.0 sha256:aa"
    made = create_tag(checkout, "hello-1.0.0", revision, message)
    assert made == create_tag(checkout, "hello-1.0.0", revision, message)
    source = opened(checkout)
    assert source.tags("hello-*") == {"hello-1.0.0": made}
    assert made.message == message
    assert source.changed(revision, made.revision, "") == (), "it names the same files"
    assert source.tags("other-*") == {}
    assert source.revision("hello-1.0.0") == made.revision
    with pytest.raises(Conflict, match="a tag is never moved"):
        create_tag(checkout, "hello-1.0.0", second, message)
    assert opened(checkout).tags("hello-*") == {"hello-1.0.0": made}


def test_a_tag_is_created_without_a_look_at_local_changes(checkout: Checkout) -> None:
    revision = opened(checkout).revision()
    checkout.put("top", "changed")
    checkout.put("new", "new")
    made = create_tag(checkout, "one", revision, "text")
    assert opened(checkout).changed(revision, made.revision, "") == ()
    assert opened(checkout).tree(None, "").modified == ("new", "top")


def test_a_tag_that_people_set_has_the_files_of_its_revision(checkout: Checkout) -> None:
    revision = opened(checkout).revision()
    checkout.put("top", "changed")
    checkout.commit("second")
    checkout.tag("plain", revision)
    source = opened(checkout)
    tag = source.tags()["plain"]
    assert source.changed(revision, tag.revision, "") == ()
    assert source.tree(tag.revision, "").read(["top"]) == {"top": b"top"}
    assert source.tree("plain", "").read(["top"]) == {"top": b"top"}


@pytest.mark.parametrize("name", ["", "-d", "a\nb", "a b/../c"])
def test_an_impossible_tag_name_is_refused(checkout: Checkout, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a tag"):
        create_tag(checkout, name, opened(checkout).revision(), "text")


def test_an_unknown_revision_is_an_error_naming_it(checkout: Checkout) -> None:
    for name in ("nope", "-r", "--help", "a b", "nope\nx"):
        with pytest.raises(UsageError, match="there is no revision") as caught:
            opened(checkout).revision(name)
        assert repr(name) in str(caught.value)


NAMES = ["-rf", "--", 'quo"te', "sp ace", "smile-☺", ":(top)x", "*", "a@b", "%41", "tab\there", "#"]


def test_hostile_file_names_are_read_as_names(checkout: Checkout) -> None:
    names = [name for name in NAMES if name.isprintable() or checkout.takes_control_characters]
    for name in names:
        checkout.put(f"-dir@1/{name}", name)
    uncommitted = opened(checkout).tree(None, "-dir@1")
    assert uncommitted.read(names) == {name: name.encode() for name in names}
    assert uncommitted.modified == tuple(sorted(names))
    revision = checkout.commit()
    committed = opened(checkout).tree(revision, "-dir@1")
    assert committed.read(names) == {name: name.encode() for name in names}
    assert uncommitted.digests(names) == committed.digests(names)
    assert opened(checkout).tree(None, "-dir@1").modified == ()
    assert opened(checkout).history(revision, ["-dir@1/*"], 9) == (revision,)
    assert opened(checkout).is_versioned("-dir@1/*") and not opened(checkout).is_versioned(
        "-dir@1/?"
    )


def test_ignored_files_are_in_no_tree_and_untracked_ones_are(checkout: Checkout) -> None:
    checkout.ignore("*.o")
    checkout.commit()
    checkout.put("sub/x.o", "ignored")
    checkout.put("sub/deep/x", "untracked")
    tree = opened(checkout).tree(None, "sub")
    assert tree.modified == ("deep/x",)
    assert "x.o" not in tree.entries() and tree.entries()["deep/x"].kind == "file"
    assert not opened(checkout).is_versioned("sub/deep/x") and opened(checkout).is_versioned(
        "sub/run"
    )


def test_a_changed_link_and_a_kind_that_changed_are_read_as_they_stand(checkout: Checkout) -> None:
    (checkout.root / "sub" / "link").unlink()
    checkout.put("sub/link", "a file now")
    tree = opened(checkout).tree(None, "sub")
    assert (tree.modified, tree.entries()["link"].kind) == (("link",), "file")
    assert tree.read(["link"]) == {"link": b"a file now"}


def test_a_branch_has_its_name_its_tip_and_its_base(checkout: Checkout) -> None:
    base = opened(checkout).revision()
    topic = checkout.branch("topic")
    topic.put("top", "changed")
    tip = topic.commit("work")
    source = opened(topic)
    assert (source.branch(), source.revision()) == ("topic", tip)
    assert opened(checkout).branch() == checkout.branch_name
    assert source.tip(checkout.branch_name) == base
    assert source.base(checkout.branch_name) == base
    with pytest.raises(UsageError, match="'nowhere'"):
        source.tip("nowhere")
    with pytest.raises(UsageError, match="'nowhere'"):
        source.base("nowhere")


def test_a_merge_counts_as_the_changes_it_brought_to_the_mainline(checkout: Checkout) -> None:
    before = opened(checkout).revision()
    topic = checkout.branch("topic")
    topic.put("sub/run", "#!/bin/sh", executable=True)
    topic.commit("work")
    checkout.put("top", "changed")
    between = checkout.commit("elsewhere")
    merged = checkout.merge(topic)
    after = checkout.commit("unrelated")
    source = opened(checkout)
    assert source.history(after, ["sub"], 9) == (merged, before)
    assert source.changed(between, merged, "") == ("sub/run",)
    positions = [source.position(each) for each in (before, between, merged, after)]
    assert positions == sorted(set(positions)), "it grows along the mainline"


def test_a_checkout_has_the_url_that_it_came_from(server: Server, tmp_path: Path) -> None:
    url = opened(server.checkout(tmp_path / "one")).remote_url
    assert open_tagged(url, tmp_path / "cache")[0].tags() == {}


def test_a_checkout_without_a_remote_has_no_url(checkout: Checkout) -> None:
    if not checkout.tags_on_server:
        assert opened(checkout).remote_url == ""


def test_a_pushed_tag_is_seen_from_another_checkout(server: Server, tmp_path: Path) -> None:
    checkout = server.checkout(tmp_path / "one")
    made = opened(checkout).create_tag("v1", opened(checkout).revision(), "text", push=True)
    assert opened(checkout).create_tag("v1", opened(checkout).revision(), "text", push=True) == made
    source = opened(server.checkout(tmp_path / "two"))
    assert source.tags() == {"v1": made}
    assert source.tree("v1", "").read(["top"]) == {"top": b"top"}


def test_a_tag_that_somebody_else_pushed_is_not_moved(server: Server, tmp_path: Path) -> None:
    checkout, other = (server.checkout(tmp_path / name) for name in ("one", "two"))
    other.tag("v1", opened(other).revision())
    before = opened(checkout).tags()
    checkout.put("top", "changed")
    second = checkout.commit("second")
    checkout.push()
    with pytest.raises(Conflict, match="a tag is never moved"):
        opened(checkout).create_tag("v1", second, "ours", push=True)
    if not checkout.tags_on_server:
        assert opened(checkout).tags() == before, "nothing is left behind here"
    again = opened(server.checkout(tmp_path / "three"))
    assert again.changed(again.tags()["v1"].revision, second, "") == ("top",)


def test_a_server_that_is_gone_is_told_and_the_next_run_converges(
    server: Server, tmp_path: Path
) -> None:
    checkout = server.checkout(tmp_path / "one")
    revision = opened(checkout).revision()
    server.stop()
    with pytest.raises(PipelineError) as caught:
        opened(checkout).create_tag("v1", revision, "text", push=True)
    assert caught.value.exit_code in (7, 75)
    server.start()
    made = opened(checkout).create_tag("v1", revision, "text", push=True)
    assert opened(server.checkout(tmp_path / "two")).tags() == {"v1": made}


@pytest.mark.parametrize("system", SYSTEMS, indirect=True)
def test_a_line_that_breaks_in_the_middle_is_told_and_the_next_run_converges(
    server: Server, tmp_path: Path
) -> None:
    assert isinstance(server, daemons.Daemon)
    with daemons.breaking_line(server) as line:
        url, server.url = server.url, line.url
        checkout = server.checkout(tmp_path / "one")
        revision = opened(checkout).revision()
        for line.limit in (0, 100):
            with pytest.raises(Temporary) as caught:
                opened(checkout).create_tag("v1", revision, "text", push=True)
            assert caught.value.exit_code == 75
        line.limit = None
        made = opened(checkout).create_tag("v1", revision, "text", push=True)
        server.url = url
        assert opened(server.checkout(tmp_path / "two")).tags() == {"v1": made}


def test_a_repository_is_opened_for_its_tags_by_its_url(server: Server, tmp_path: Path) -> None:
    checkout = server.checkout(tmp_path / "one")
    made = opened(checkout).create_tag("v1", opened(checkout).revision(), "text", push=True)
    for _ in range(2):
        tagged, folder = open_tagged(server.url, tmp_path / "cache")
        assert (tagged.tags(), folder) == ({"v1": made}, "")
        root = tagged.revisions.folder(made.revision, "")
        node = node_at(tagged.revisions, root or "", "sub/run")
        assert node and node.kind == "executable"
        assert tagged.revisions.read([node.id]) == {node.id: b"#!"}
    server.stop()
    with pytest.raises(PipelineError) as caught:
        open_tagged(server.url, tmp_path / "cache")[0].tags()
    assert caught.value.exit_code in (7, 75)


def test_the_innermost_checkout_is_the_one_that_is_opened(
    checkout: Checkout, tmp_path: Path
) -> None:
    for name, system in SYSTEMS.items():
        # Moved there: brz refuses to make a branch below a working copy of Subversion.
        inner = system.checkout(files.folder(tmp_path / name))
        inner.put("x", "x")
        inner.commit()
        place = inner.root.rename(checkout.root / "sub" / name)
        assert open_source(place).root == place
    assert opened(checkout).root == checkout.root


def test_a_folder_of_two_systems_is_refused(checkout: Checkout) -> None:
    marks = [system.mark for system in kinds.SYSTEMS.values()]
    for mark in marks:
        if not (checkout.root / mark).exists():
            (checkout.root / mark).mkdir(parents=True)
            with pytest.raises(
                ConfigurationError, match=r"a checkout of .* and of .* at once.*but one"
            ):
                opened(checkout)


def test_revisions_of_a_review_are_fetched_and_nothing_else_changes(
    server: Server, tmp_path: Path
) -> None:
    """What somebody proposed, and its place beside the mainline; Subversion has no reviews."""
    checkout, other = (server.checkout(tmp_path / name) for name in ("one", "two"))
    source = opened(checkout)
    if not isinstance(source, Reviewable):
        assert source.system == "svn"
        return
    base = source.revision()
    other.put("top", "proposed")
    proposed = other.commit("proposed")
    reference = str(other.root)
    if source.system == "git":
        other.branch_name = reference = "proposal"
        other.push()
        other.branch_name = "main"
    before = (source.tags(), source.branch(), source.tree(None, "").modified)
    with pytest.raises(UsageError, match="is not in"):
        source.fetch_revision("f" * 40, reference)
    source.fetch_revision(proposed, reference)
    source.fetch_revision(proposed, "nowhere, as it is here")
    again = opened(checkout)
    assert (again.tags(), again.branch(), again.tree(None, "").modified) == before
    assert again.revision() == base
    assert source.parents(proposed) == (base,)
    assert source.parents(base) == ()
    assert source.changed(base, proposed, "") == ("top",)
    checkout.put("sub/run", "#!more", executable=True)
    mainline = checkout.commit("beside it")
    source = opened(checkout)
    assert isinstance(source, Reviewable)
    assert source.common_ancestor(mainline, proposed) == base
    merged = checkout.merge(other)
    source = opened(checkout)
    assert isinstance(source, Reviewable)
    assert source.parents(merged) == (mainline, proposed)
    assert source.common_ancestor(merged, proposed) == proposed


@pytest.mark.parametrize("reference", ["+main", "main:main", "-v", "refs/*", "a b"])
def test_a_reference_that_could_write_is_refused(
    server: Server, tmp_path: Path, reference: str
) -> None:
    source = opened(server.checkout(tmp_path / "one"))
    if source.system == "git":
        assert isinstance(source, Reviewable)
        with pytest.raises(UsageError, match="cannot be fetched"):
            source.fetch_revision("f" * 40, reference)
