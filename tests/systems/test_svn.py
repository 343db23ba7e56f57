"""Subversion as people have it: real svn, svnserve with a password, working copies of every kind."""

from __future__ import annotations

import contextlib
import os
import pickle
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.auth.hosts import Host
from pipeline_steps.sources import svn as svn_source
from pipeline_steps.sources import svn_normal_form
from pipeline_steps.sources.kinds import open_source, open_tagged
from pipeline_steps.sources.source import Source
from pipeline_steps.sources.tree import walk_files
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
    Unreachable,
    UsageError,
)
from tests.support import svns
from tests.support.svns import WorkingCopy, svn

PASSWORD = "correct horse"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return svns.repository(tmp_path / "repository")


@pytest.fixture
def copy(tmp_path: Path, url: str) -> WorkingCopy:
    made = WorkingCopy(tmp_path / "copy", f"{url}/trunk")
    made.put("a/x", "x1")
    made.put("b/y", "y1")
    made.commit("first")
    return made


def other(copy: WorkingCopy, *options: str) -> WorkingCopy:
    """Another working copy of the same branch, as it is now."""
    number = len(list(copy.root.parent.glob("copy*")))
    folder = copy.root.with_name(f"copy-{number}")
    svn("checkout", "-q", *options, copy.url, str(folder))
    made = WorkingCopy.__new__(WorkingCopy)
    made.__dict__.update(copy.__dict__, root=folder)
    return made


def opened(copy: WorkingCopy) -> Source:
    return open_source(copy.root)


def contents(source: Source, revision: str | None, folder: str = "") -> dict[str, bytes]:
    tree = source.tree(revision, folder)
    return tree.read(tree.entries())


# -- working copies ---


def test_a_working_copy_of_several_revisions_is_not_modified(copy: WorkingCopy) -> None:
    copy.put("a/x", "x2")
    revision = copy.commit()
    assert svn(str(copy.root), program="svnversion") == "1:3"
    tree = opened(copy).tree(None, "")
    assert (tree.modified, tree.revision) == ((), revision)
    assert tree.read(["a/x", "b/y"]) == {"a/x": b"x2", "b/y": b"y1"}


def test_what_somebody_else_changed_since_counts_where_it_lies(copy: WorkingCopy) -> None:
    theirs = other(copy)
    theirs.put("b/y", "y2")
    theirs.put("b/new", "new")
    theirs.commit()
    copy.put("a/x", "x2")
    revision = copy.commit()
    source = opened(copy)
    assert source.tree(None, "").revision == revision
    assert source.tree(None, "a").modified == ()
    assert source.tree(None, "b").modified == ("new", "y"), "an update would bring them"
    assert source.tree(None, "b").read(["y"]) == {"y": b"y1"}
    copy.svn("update", "-q")
    assert opened(copy).tree(None, "").modified == ()


def test_what_was_committed_after_the_update_counts_nowhere(copy: WorkingCopy) -> None:
    theirs = other(copy)
    revision = opened(theirs).revision()
    copy.put("a/x", "x2")
    copy.commit()
    tree = opened(theirs).tree(None, "")
    assert (tree.revision, tree.modified) == (revision, ())
    assert opened(theirs).tip("trunk") == opened(copy).revision() != revision


@pytest.mark.parametrize("depth", ["empty", "files", "immediates"])
def test_what_a_sparse_working_copy_leaves_out_is_read_from_the_server(
    copy: WorkingCopy, depth: str
) -> None:
    copy.put("top", "top")
    copy.put("a/run", "#!", executable=True)
    revision = copy.commit()
    sparse = other(copy, "--depth", depth)
    svn("update", "-q", "--set-depth", "infinity", str(sparse.root / "b"))
    assert svn(str(sparse.root), program="svnversion").endswith("P")
    source = opened(sparse)
    tree = source.tree(None, "")
    assert (tree.revision, tree.modified) == (revision, ())
    assert contents(source, None) == contents(opened(copy), None)
    assert tree.entries()["a/run"].kind == "executable"


def test_an_excluded_folder_is_no_modification(copy: WorkingCopy) -> None:
    copy.svn("update", "-q")
    copy.svn("update", "-q", "--set-depth", "exclude", "b")
    source = opened(copy)
    assert source.tree(None, "").modified == ()
    assert contents(source, None) == {"a/x": b"x1", "b/y": b"y1"}


def test_a_switched_folder_is_modified(copy: WorkingCopy) -> None:
    topic = copy.branch("topic")
    topic.put("b/y", "topic")
    topic.commit()
    copy.svn("update", "-q")
    copy.svn("switch", "-q", "--ignore-ancestry", f"{topic.url}/b", "b")
    tree = opened(copy).tree(None, "")
    assert tree.modified == ("b/y",) and tree.read(["b/y"]) == {"b/y": b"topic"}


def test_added_copied_moved_replaced_and_conflicting_files_are_read_as_they_stand(
    copy: WorkingCopy,
) -> None:
    copy.put("b/conflict", "one\n")
    copy.commit()
    theirs = other(copy)
    theirs.put("b/conflict", "theirs\n")
    theirs.commit()
    copy.put("b/conflict", "ours\n")
    copy.svn("update", "-q", "--accept", "postpone")
    copy.svn("copy", "-q", "a", "copied")
    copy.svn("move", "-q", "a/x", "a/moved")
    copy.svn("rm", "-q", "b/y")
    copy.put("b/y", "other")
    copy.svn("add", "-q", "b/y")
    tree = opened(copy).tree(None, "")
    ours = {"a/moved": b"x1", "b/y": b"other", "copied/x": b"x1"}
    assert tree.read(ours) == ours
    assert b"<<<<<<<" in tree.read(["b/conflict"])["b/conflict"]
    left = {f"b/conflict.{end}" for end in ("mine", "r3", "r4")}
    assert set(tree.modified) == {"a/x", "b/conflict", *ours, *left}
    assert "a/x" not in tree.entries()


def test_a_property_that_says_nothing_about_content_is_no_modification(copy: WorkingCopy) -> None:
    copy.svn("propset", "-q", "svn:mime-type", "text/plain", "a/x")
    copy.svn("propset", "-q", "svn:ignore", "*.o", "a")
    assert opened(copy).tree(None, "").modified == ()


def test_an_edit_that_svn_does_not_see_changes_no_content(copy: WorkingCopy) -> None:
    place = copy.root / "a/x"
    stat = place.stat()
    place.write_text("xx")
    os.utime(place, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not copy.svn("status")
    assert opened(copy).tree(None, "").read(["a/x"]) == {"a/x": b"x1"}


def test_an_update_that_runs_is_waited_for(copy: WorkingCopy) -> None:
    with sqlite3.connect(copy.root / ".svn/wc.db") as database:
        database.execute("insert into wc_lock values (1, '', -1)")
    database.close()
    with pytest.raises(
        Temporary, match=r"another svn works in this checkout, or was killed.*svn cleanup"
    ):
        opened(copy).tree(None, "")
    copy.svn("cleanup")
    assert opened(copy).tree(None, "").modified == ()


# -- stored bytes ---


def test_keywords_and_line_ends_change_no_content(copy: WorkingCopy) -> None:
    stored = b"$Id$ $Rev$ $Date::           $ $Author$ $Nothing: x $\n"
    copy.put("keywords", stored)
    copy.put("windows", b"a\r\nb\r\n")
    copy.put("native", b"a\nb\n")
    copy.svn("add", "-q", "keywords", "windows", "native")
    copy.svn("propset", "-q", "svn:keywords", "Id Rev LastChangedDate Author", "keywords")
    copy.svn("propset", "-q", "svn:eol-style", "CRLF", "windows")
    copy.svn("propset", "-q", "svn:eol-style", "native", "native")
    revision = copy.commit()
    assert b"$Id: keywords" in (copy.root / "keywords").read_bytes()
    expected = {"keywords": stored, "windows": b"a\r\nb\r\n", "native": b"a\nb\n"}
    source = opened(copy)
    assert source.tree(None, "").modified == ()
    for each in (None, revision):
        assert source.tree(each, "").read(expected) == expected
    copy.put("keywords", (copy.root / "keywords").read_bytes() + b"more")
    copy.put("windows", b"a\nb\nc\n")
    copy.put("native", b"a\r\nb\r\nc\r\n")
    edited = opened(copy).tree(None, "").read(expected)
    again = copy.commit()
    assert (
        edited
        == opened(copy).tree(again, "").read(expected)
        == {
            "keywords": stored + b"more",
            "windows": b"a\r\nb\r\nc\r\n",
            "native": b"a\nb\nc\n",
        }
    )


def test_pinned_externals_of_the_repository_are_read_and_others_refused(
    copy: WorkingCopy, url: str, tmp_path: Path
) -> None:
    elsewhere = svns.repository(tmp_path / "elsewhere")
    pinned = opened(copy).position(opened(copy).revision())
    copy.put("a/x", "x2")
    copy.commit()
    definitions = [
        f"^/trunk/a@{pinned} peg",
        f"-r {pinned} ^/trunk/a operative/inner",
        f"old -r {pinned} {url}/trunk/a",
        f"../trunk/b@{pinned} relative",
        f'"^/trunk/b@{pinned}" "a name"',
        f"^/trunk/a/x@{pinned} file",
        "^/trunk/a moving",
        f"{elsewhere}/trunk@1 foreign",
    ]
    copy.svn("update", "-q")
    copy.svn("propset", "-q", "svn:externals", "\n".join(definitions), ".")
    revision = copy.commit()
    copy.svn("update", "-q")
    read = {
        "peg/x": b"x1",
        "operative/inner/x": b"x1",
        "old/x": b"x1",
        "relative/y": b"y1",
        "a name/y": b"y1",
        "file": b"x1",
    }
    source = opened(copy)
    for each in (None, revision):
        tree = source.tree(each, "")
        assert tree.modified == ()
        assert tree.read(read) == read
        kinds = {name: tree.entries()[name].kind for name in ("moving", "foreign")}
        assert kinds == {"moving": "submodule", "foreign": "submodule"}
        with pytest.raises(ConfigurationError, match="external of another repository"):
            tree.read(["moving"])
    copy.put("peg/x", "edited")
    copy.put("moving/x", "edited")
    tree = opened(copy).tree(None, "")
    assert tree.modified == ("peg/x",) and tree.read(["peg/x"]) == {"peg/x": b"edited"}
    copy.svn("propset", "-q", "svn:externals", definitions[0].replace("peg", "moved"), ".")
    assert {"moved", "foreign"} <= set(opened(copy).tree(None, "").modified)


def test_a_changed_external_is_a_changed_path(copy: WorkingCopy) -> None:
    pinned = opened(copy).position(opened(copy).revision())
    copy.svn("propset", "-q", "svn:externals", f"^/trunk/a@{pinned} lib", ".")
    base = copy.commit()
    copy.put("a/x", "x2")
    number = opened(copy).position(copy.commit())
    copy.svn("update", "-q")
    copy.svn("propset", "-q", "svn:externals", f"^/trunk/a@{number} lib", ".")
    tip = copy.commit()
    assert opened(copy).changed(base, tip, "") == ("a/x", "lib/x")


# -- layout ---


@pytest.mark.parametrize("project", ["", "web/"])
def test_a_whole_project_is_opened_at_the_branch_that_is_asked_for(
    tmp_path: Path, project: str
) -> None:
    url = svns.repository(tmp_path / "whole", project)
    trunk = WorkingCopy(tmp_path / "trunk", f"{url}/{project}trunk")
    trunk.put("charts/a", "a")
    revision = trunk.commit()
    svn("checkout", "-q", url, str(tmp_path / "all"))
    source = open_source(tmp_path / "all" / f"{project}trunk" / "charts")
    assert source.root == tmp_path / "all" / f"{project}trunk"
    assert (source.branch(), source.revision()) == ("trunk", revision)
    assert source.tree(None, "").read(["charts/a"]) == {"charts/a": b"a"}
    svn("checkout", "-q", f"{url}/{project}trunk/charts", str(tmp_path / "inner"))
    inner = open_source(tmp_path / "inner")
    assert (inner.branch(), inner.revision(), inner.root) == ("trunk", revision, tmp_path / "inner")
    assert contents(inner, None) == contents(inner, revision) == {"a": b"a"}
    tag = inner.create_tag("v1", revision, "text", push=True)
    assert source.tags() == {"v1": tag} and tag.revision == revision
    assert inner.history(revision, ["a"], 9) == (revision,)


def test_a_repository_without_a_layout_is_read_and_not_tagged(tmp_path: Path) -> None:
    svn("create", str(tmp_path / "flat"), program="svnadmin")
    flat = WorkingCopy(tmp_path / "copy", (tmp_path / "flat").as_uri())
    flat.put("a", "a")
    revision = flat.commit()
    source = open_source(flat.root)
    assert contents(source, None) == contents(source, revision) == {"a": b"a"}
    assert source.tags() == {}
    with pytest.raises(UsageError, match=r"no place for tags.*trunk"):
        source.create_tag("v1", revision, "text", push=True)


def test_without_a_layout_the_configuration_says_where_tags_are(tmp_path: Path) -> None:
    svn("create", str(tmp_path / "flat"), program="svnadmin")
    url = (tmp_path / "flat").as_uri()
    svn("mkdir", "-q", "-m", "own folders", f"{url}/main", f"{url}/next")
    main = WorkingCopy(tmp_path / "main", f"{url}/main")
    main.put("a", "a")
    revision = main.commit()
    source = open_source(main.root, svn_tags="stable/releases")
    assert (source.branch(), source.tip("main"), source.tags()) == ("main", revision, {})
    tag = source.create_tag("v1", revision, "text", push=True)
    assert tag == source.create_tag("v1", revision, "text", push=True)
    assert svn("cat", f"{url}/stable/releases/v1/a") == "a"
    svn("copy", "-q", "-m", "", f"{url}/stable/releases/v1", f"{url}/stable/releases/also")
    named = {"also": revision, "v1": revision}
    assert {name: each.revision for name, each in source.tags().items()} == named
    tagged = WorkingCopy(tmp_path / "tagged", f"{url}/stable/releases/v1")
    at_tag = open_source(tagged.root, svn_tags="/stable/releases/")
    assert (at_tag.branch(), at_tag.revision(), {*at_tag.tags()}) == (None, revision, {*named})
    for name in (str(tmp_path / "flat"), f"svn+{url}/main"):
        stored, _ = open_tagged(name, tmp_path / "cache", None, "stable/releases")
        assert {*stored.tags()} == {*named}
    with pytest.raises(ConfigurationError, match=r"svn_tags, '\.\./releases'"):
        open_source(main.root, svn_tags="../releases")
    whole = WorkingCopy(tmp_path / "whole", url)
    source = open_source(whole.root, svn_tags="stable/releases")
    with pytest.raises(UsageError, match=r"stable/releases is in what would be tagged"):
        source.create_tag("v2", source.revision(), "text", push=True)


def test_a_branch_of_a_branch_has_the_history_and_base_of_its_origin(copy: WorkingCopy) -> None:
    base = opened(copy).revision()
    topic = copy.branch("topic")
    topic.put("a/x", "topic")
    tip = topic.commit()
    source = opened(topic)
    assert source.history(tip, ["a"], 9) == (tip, base)
    assert source.history(tip, ["b"], 9) == (base,), "the copy of the branch changed nothing"
    assert source.changed(base, tip, "") == ("a/x",)
    copy.put("b/y", "y2")
    merged = copy.commit()
    assert source.base("trunk") == base
    topic.svn("update", "-q")
    topic.svn("merge", "-q", copy.url)
    topic.commit("merge")
    after = opened(topic)
    assert after.base("trunk") == merged
    assert after.changed(merged, after.revision(), "") == ("a/x",)
    assert after.revision("2") == base and after.revision("r2") == base


def test_a_path_that_is_gone_has_a_history(copy: WorkingCopy) -> None:
    first = opened(copy).revision()
    copy.svn("rm", "-q", "b/y")
    gone = copy.commit()
    assert opened(copy).history(gone, ["b/y"], 9) == (gone, first)
    assert opened(copy).history(gone, ["b/y", "a"], 1) == (gone,)


# -- tags ---


def test_a_copy_onto_a_tag_is_told_as_a_moved_tag(
    copy: WorkingCopy, caplog: pytest.LogCaptureFixture
) -> None:
    revision = opened(copy).revision()
    made = opened(copy).create_tag("v1", revision, "text", push=True)
    svn("copy", "-q", "-m", "again", copy.url, copy.tag_url("v1"))
    assert "trunk/" in svn("ls", copy.tag_url("v1")), "svn nested the copy and said nothing"
    source = opened(copy)
    moved = source.tags()["v1"]
    assert moved.revision != made.revision
    assert "trunk/a/x" in source.tree(moved.revision, "").entries()
    assert "v1, made in revision 3, was changed in 4" in caplog.text
    for ask in (
        lambda: source.revision("v1"),
        lambda: source.create_tag("v1", revision, "text", push=True),
    ):
        with pytest.raises(EvidenceError, match="the tag v1, made in revision 3, was changed in 4"):
            ask()


def test_tags_of_every_making_are_read(copy: WorkingCopy) -> None:
    first = opened(copy).revision()
    copy.put("a/x", "x2")
    second = copy.commit()
    copy.svn("update", "-q")
    copy.svn("update", "-q", "-r", "2", "a/x")
    tags = f"{copy.repository}/tags"
    copy.tag("plain", first)
    copy.svn("copy", "-q", "-m", "", str(copy.root), f"{tags}/of-a-working-copy")
    svn("mkdir", "-q", "-m", "", f"{tags}/web")
    svn("copy", "-q", "-m", "", copy.url, f"{tags}/web/1.0")
    svn("copy", "-q", "-m", "", f"{tags}/plain", f"{tags}/copied")
    svn("move", "-q", "-m", "", f"{tags}/plain", f"{tags}/renamed")
    svn("import", "-q", "-m", "", str(copy.root / "a"), f"{tags}/imported")
    svn("copy", "-q", "-m", "", copy.url, f"{tags}/removed")
    svn("rm", "-q", "-m", "", f"{tags}/removed")
    source = opened(copy)
    found = source.tags()
    assert sorted(found) == ["copied", "imported", "of-a-working-copy", "renamed", "web/1.0"]
    assert found["copied"].revision == found["renamed"].revision == first
    assert found["web/1.0"].revision == second
    assert contents(source, found["of-a-working-copy"].revision) == {"a/x": b"x1", "b/y": b"y1"}
    assert contents(source, found["imported"].revision) == {"x": b"x1"}
    made = source.create_tag("web/1.1", second, "text", push=True)
    assert source.tags("web/*")["web/1.1"] == made
    with pytest.raises(Conflict, match="is no tag"):
        source.create_tag("web", second, "text", push=True)


def test_a_checkout_of_a_tag_is_of_the_revision_that_was_tagged(copy: WorkingCopy) -> None:
    revision = opened(copy).revision()
    opened(copy).create_tag("v1", revision, "text", push=True)
    tagged = WorkingCopy(copy.root.with_name("tagged"), copy.tag_url("v1"))
    source = open_source(tagged.root)
    assert (source.revision(), source.branch()) == (revision, None)
    assert source.tree(None, "").modified == ()
    assert source.tags()["v1"].revision == source.tree(None, "").revision == revision


def test_a_tag_is_not_created_here_alone(copy: WorkingCopy) -> None:
    with pytest.raises(UsageError, match="exists on the server only"):
        opened(copy).create_tag("v1", opened(copy).revision(), "text", push=False)
    assert opened(copy).tags() == {}


def test_two_who_create_one_tag_at_once_get_the_same_or_a_conflict(copy: WorkingCopy) -> None:
    first = opened(copy).revision()
    copy.put("a/x", "x2")
    second = copy.commit()
    outcomes: list[object] = []

    def create(revision: str) -> None:
        try:
            outcomes.append(opened(copy).create_tag("v1", revision, "text", push=True))
        except PipelineError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=create, args=(each,)) for each in (first, second) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tag = opened(copy).tags()["v1"]
    assert set(outcomes) == {tag, Conflict}
    assert outcomes.count(tag) == 2
    assert sorted(svn("ls", copy.tag_url("v1")).split()) == ["a/", "b/"]


# -- many revisions ---


def test_a_range_of_revisions_is_the_same_as_each_alone(copy: WorkingCopy) -> None:
    source = opened(copy)
    revisions = [source.revision()]
    copy.put("big", b"0123456789" * 30000)
    revisions.append(copy.commit())
    copy.put("big", b"9" + b"0123456789" * 30000)
    revisions.append(copy.commit())
    copy.svn("update", "-q")
    copy.svn("copy", "-q", "a", "copied")
    copy.put("copied/x", "changed in the copy")
    copy.put("copied/empty", "")
    revisions.append(copy.commit())
    copy.svn("copy", "-q", f"{copy.url}/a@2", "old")
    copy.svn("rm", "-q", "b/y")
    copy.link("b/y", "../a/x")
    copy.svn("add", "-q", "b/y")
    revisions.append(copy.commit())
    topic = copy.branch("topic")
    topic.put("new/deep/z", "z", executable=True)
    topic.commit()
    copy.merge(topic)
    copy.svn("rm", "-q", "copied")
    copy.set_executable("a/x", True)
    revisions.append(copy.commit())
    bulk = opened(copy).revisions
    with bulk:
        bulk.prepare(revisions)
        for revision in revisions:
            alone = open_source(copy.root).revisions
            with alone:
                top = alone.folder(revision, "")
                assert top and top == bulk.folder(revision, "")
                entries = sorted(walk_files(alone, top))
                assert entries == sorted(walk_files(bulk, top))
                ids = [entry.id for entry in entries]
                assert alone.read(ids) == bulk.read(ids)
                assert {each: files.sha256(data) for each, data in bulk.read(ids).items()} == {
                    each: each for each in ids
                }
        exported = copy.root.with_name("exported")
        svn("export", "-q", copy.url, str(exported))
        here = sorted(
            path.relative_to(exported).as_posix()
            for path in exported.rglob("*")
            if path.is_symlink() or path.is_file()
        )
        assert here == [entry.path for entry in entries]


def test_a_copy_in_another_process_reads_what_was_prefetched_and_asks_nobody(
    copy: WorkingCopy, tmp_path: Path
) -> None:
    copy.link("a/link", "x")
    revisions = [opened(copy).revision(), copy.commit()]
    source = opened(copy)
    with source.revisions:
        source.revisions.preload_for_workers(revisions)
        twin = pickle.loads(pickle.dumps(source.revisions))
        (tmp_path / "repository").rename(tmp_path / "gone")
        with twin:
            top = twin.folder(revisions[1], "a")
            assert top and twin.folder(revisions[0], "") != twin.folder(revisions[1], "")
            ids = [node.id for node in twin.listing(top)]
            assert list(twin.read(ids).values()) == [b"x", b"x1"]
    with pytest.raises(PipelineError):
        twin.read(ids)
    (tmp_path / "gone").rename(tmp_path / "repository")
    assert list(twin.read(ids).values()) == [b"x", b"x1"], "read again when they are gone"


# -- servers ---


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[svns.Svnserve, WorkingCopy]]:
    with svns.server(tmp_path / "server", ("bot", PASSWORD)) as server:
        login = ("--username", "bot", "--password", PASSWORD, "--no-auth-cache")
        folder = tmp_path / "guarded"
        svn("checkout", "-q", *login, f"{server.url}/trunk", str(folder))
        (folder / "x").write_text("x")
        svn("add", "-q", "x", cwd=folder)
        svn("commit", "-q", "-m", "first", *login, cwd=folder)
        svn("update", "-q", *login, cwd=folder)
        made = WorkingCopy.__new__(WorkingCopy)
        made.root = folder
        yield server, made


def hosts(server: svns.Svnserve, password: str) -> dict[str, Host]:
    return {server.url.split("/")[2]: Host(username="bot", password=password)}


def test_the_login_comes_from_hosts_and_is_in_no_argument(
    guarded: tuple[svns.Svnserve, WorkingCopy], tmp_path: Path
) -> None:
    server, copy = guarded
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSWORD}\n")
    seen: set[str] = set()
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.is_set():
            for entry in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):  # a process that ended meanwhile
                    line = Path(entry, "cmdline").read_bytes().replace(b"\0", b" ")
                    seen.add(line.decode(errors="replace"))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        source = open_source(copy.root, hosts(server, f"file:{secret}"))
        tag = source.create_tag("v1", source.revision(), "text", push=True)
        tagged, _ = open_tagged(server.url, tmp_path / "cache", hosts(server, PASSWORD))
        assert tagged.tags() == {"v1": tag}
        assert tagged.revisions.folder(tag.revision, "")
    finally:
        stopped.set()
        watcher.join()
    assert any("--password-from-stdin" in line for line in seen)
    assert not any(PASSWORD in line for line in seen)


@pytest.mark.parametrize("password", ["wrong horse", ""])
def test_a_wrong_login_is_told_and_nothing_is_done(
    guarded: tuple[svns.Svnserve, WorkingCopy], password: str, tmp_path: Path
) -> None:
    server, copy = guarded
    logins = hosts(server, password) if password else {}
    source = open_source(copy.root, logins)
    revision = source.revision()
    with pytest.raises(AccessRefused, match=r"check the login \(`hosts`") as caught:
        source.create_tag("v1", revision, "text", push=True)
    assert caught.value.exit_code == 7
    assert not password or password not in str(caught.value)
    with pytest.raises(AccessRefused):
        open_tagged(server.url, tmp_path, logins)
    assert open_source(copy.root, hosts(server, PASSWORD)).tags() == {}


def test_a_server_that_is_gone_is_told_with_its_exit_code(
    guarded: tuple[svns.Svnserve, WorkingCopy],
) -> None:
    server, copy = guarded
    source = open_source(copy.root, hosts(server, PASSWORD))
    revision = source.revision()
    server.stop()
    with pytest.raises(Unreachable) as caught:
        source.tags()
    assert caught.value.exit_code == 7
    assert contents(open_source(copy.root), None) == {"x": b"x"}, "what is here needs no server"
    server.start()
    assert source.create_tag("v1", revision, "text", push=True).revision == revision


def test_a_server_that_goes_away_in_the_middle_is_told_as_temporary(
    guarded: tuple[svns.Svnserve, WorkingCopy], tmp_path: Path
) -> None:
    server, copy = guarded
    hook = server.repository / "hooks" / "pre-commit"
    hook.write_text('#!/bin/sh\ntouch "$1/waiting"; sleep 30\n')
    hook.chmod(0o755)
    source = open_source(copy.root, hosts(server, PASSWORD))
    revision = source.revision()
    caught: list[PipelineError] = []

    def create() -> None:
        try:
            source.create_tag("v1", revision, "text", push=True)
        except PipelineError as error:
            caught.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    while not (server.repository / "waiting").exists() and thread.is_alive():
        time.sleep(0.02)
    for child in _children_of(server._child.pid):
        subprocess.run(["kill", "-9", str(child)], check=False)
    thread.join()
    assert [type(error) for error in caught] == [Temporary], caught
    hook.unlink()
    assert source.tags() == {}
    assert source.create_tag("v1", revision, "text", push=True).revision == revision


def _children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_hook_that_refuses_is_quoted(guarded: tuple[svns.Svnserve, WorkingCopy]) -> None:
    server, copy = guarded
    hook = server.repository / "hooks" / "pre-commit"
    hook.write_text("#!/bin/sh\necho 'no tags on Sundays' >&2; exit 1\n")
    hook.chmod(0o755)
    source = open_source(copy.root, hosts(server, PASSWORD))
    with pytest.raises(AccessRefused, match="no tags on Sundays"):
        source.create_tag("v1", source.revision(), "text", push=True)


def test_a_password_in_a_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is a password in the URL"):
        svn_source.mirror("svn://bot:secret@svn.example.com/r", tmp_path, {})


def test_local_urls_and_folders_are_opened_as_repositories(
    copy: WorkingCopy, url: str, tmp_path: Path
) -> None:
    tag = opened(copy).create_tag("v1", opened(copy).revision(), "text", push=True)
    for name in (url, f"{url}/trunk", f"svn+{url}", str(tmp_path / "repository")):
        tagged, folder = open_tagged(name, tmp_path / "cache")
        assert (tagged.tags(), folder) == ({"v1": tag}, "")
    inner, _ = open_tagged(f"{url}/trunk/a", tmp_path / "cache")
    node = inner.revisions.child(inner.revisions.folder(tag.revision, "") or "", "x")
    assert node and inner.revisions.read([node.id]) == {node.id: b"x1"}


def test_another_repositorys_revision_is_refused(copy: WorkingCopy) -> None:
    foreign = opened(copy).revision().replace(copy.uuid, "00000000-0000-0000-0000-000000000000")
    with pytest.raises(UsageError, match="there is no revision"):
        opened(copy).revision(foreign)
    with pytest.raises(MachineError, match="none of this repository"):
        opened(copy).revisions.folder(foreign, "")


@pytest.mark.parametrize(
    "data, properties",
    [
        (b"$Id: f 3 2026-01-01 00:00:00Z bot $", {"svn:keywords": "Id"}),
        (b"$Rev: 3 $ $Revision: 4 $ $LastChangedRevision: 5 $", {"svn:keywords": "Revision"}),
        (b"$URL:: svn://h/r#$ $HeadURL:$", {"svn:keywords": "URL"}),
        (b"$Mine: 1 $ $Id: kept $", {"svn:keywords": "Mine=%r%_%a"}),
        (b"$Id: " + b"x" * 300 + b" $", {"svn:keywords": "Id"}),
        (b"$Id: a\nb $ $Id$ $Id: $", {"svn:keywords": "id"}),
    ],
)
def test_the_normal_form_is_what_svn_commits(
    copy: WorkingCopy, data: bytes, properties: dict[str, str]
) -> None:
    copy.put("f", data)
    copy.svn("add", "-q", "f")
    for name, value in properties.items():
        copy.svn("propset", "-q", name, value, "f")
    expected = svn_normal_form.normal_form(data, properties)
    revision = copy.commit()
    assert opened(copy).tree(revision, "").read(["f"]) == {"f": expected}


def test_a_missing_program_is_named(
    copy: WorkingCopy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"svn\w* is not installed.*subversion"):
        opened(copy).revision()
