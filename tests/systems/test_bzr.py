"""Bazaar branches against the real brz: what is peculiar to Bazaar; what every source must do is in
test_sources.
"""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_steps.sources.bzr import Bazaar
from pipeline_steps.sources.kinds import open_source, open_tagged
from pipeline_steps.toolbox import files
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    Conflict,
    EvidenceError,
    MachineError,
    PipelineError,
    Temporary,
    ToolMissing,
    Unreachable,
    UsageError,
)
from tests.support import bazaars
from tests.support.bazaars import Branch


class _Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="charts"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """host:port of a web server that asks everybody for a login."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Branch:
    for name, value in bazaars.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    branch = Branch(tmp_path / "trunk", tmp_path)
    branch.put("a.txt", "one\n")
    branch.commit("first")
    return branch


def listing(root: Path) -> dict[str, bytes]:
    """Every file of .bzr with its bytes."""
    places = sorted(root.joinpath(".bzr").rglob("*"))
    return {str(place): place.read_bytes() for place in places if place.is_file()}


def test_the_checkout_is_read_as_brz_would_store_it_and_nothing_is_written(branch: Branch) -> None:
    branch.put("crlf.txt", b"one\r\n")
    branch.commit()
    (branch.home / "breezy" / "rules").write_text("[name *.txt]\neol = native\n")
    branch.put("crlf.txt", b"two\r\n")
    for number in range(20):
        branch.put(f"many/{number}", "x")
    branch.brz("add", "-q")
    before = listing(branch.root)
    tree = Bazaar(branch.root).tree(None, "")
    read = tree.read(["crlf.txt", "a.txt"])
    assert tree.digests(["crlf.txt"]) == {"crlf.txt": files.sha256(read["crlf.txt"])}
    assert listing(branch.root) == before
    assert read == {"crlf.txt": b"two\n", "a.txt": b"one\n"}


def test_a_renamed_folder_is_all_its_files_and_an_empty_one_is_nothing(branch: Branch) -> None:
    branch.put("old/deep/x", "x")
    (branch.root / "old" / "empty").mkdir()
    first = branch.commit()
    branch.brz("mv", "old", "new")
    tree = Bazaar(branch.root).tree(None, "")
    assert tree.modified == ("new/deep/x", "old/deep/x")
    assert list(tree.entries()) == ["a.txt", "new/deep/x"]
    second = branch.commit()
    source = Bazaar(branch.root)
    assert source.changed(first, second, "") == ("new/deep/x", "old/deep/x")
    assert source.history(second, ["old/deep"], 9) == (second, first)
    (branch.root / "void").mkdir()
    assert Bazaar(branch.root).tree(None, "").modified == ()
    third = branch.commit("an empty folder")
    with source.revisions as revisions:
        assert revisions.folder(third, "") == revisions.folder(second, "")
        assert revisions.folder(third, "void") is None
    assert source.history(third, ["void", "new"], 9) == (second,)


def test_a_checkout_inside_is_seen_and_not_read(branch: Branch, tmp_path: Path) -> None:
    Branch(branch.root / "vendor" / "other", tmp_path)
    tree = Bazaar(branch.root).tree(None, "")
    assert {path: entry.kind for path, entry in tree.entries().items()} == {
        "a.txt": "file",
        "vendor/other": "submodule",
    }
    with pytest.raises(ConfigurationError, match="vendor/other is a bzr repository of its own"):
        tree.read(["vendor/other"])


def test_a_revno_a_revision_id_and_a_tag_name_a_revision(branch: Branch) -> None:
    first = branch.tip()
    branch.commit("second")
    branch.brz("tag", "-q", "-r1", "one")
    source = Bazaar(branch.root)
    for name in ("1", first, f"revid:{first}", "one", "tag:one"):
        assert source.revision(name) == first
    for name in ("3", "0.1", "branch:.", "date:today", "1.1.1"):
        with pytest.raises(UsageError, match=r"there is no revision.*brz pull"):
            source.revision(name)


def test_the_users_configuration_changes_no_answer(branch: Branch) -> None:
    branch.put("seen.xyz", "x")
    settings = branch.home / "breezy"
    (settings / "ignore").write_text("*.xyz\n")
    (settings / "breezy.conf").write_text("[ALIASES]\npipeline-steps-answer = version\n")
    assert branch.brz("status", "-S") == "", "the user's brz ignores it"
    (settings / "plugins").mkdir(exist_ok=True)
    (settings / "plugins" / "broken.py").write_text("raise SystemExit(9)\n")
    assert Bazaar(branch.root).tree(None, "").modified == ("seen.xyz",)


@pytest.mark.parametrize("kind", ["bound", "lightweight", "no tree", "shared", "stacked"])
def test_each_way_to_keep_a_branch_is_read_and_tagged(
    branch: Branch, kind: str, tmp_path: Path
) -> None:
    place = tmp_path / "place" / "trunk"
    place.parent.mkdir()
    if kind == "shared":
        branch.brz("init-shared-repository", "-q", str(place.parent))
    words = {
        "bound": ["checkout"],
        "lightweight": ["checkout", "--lightweight"],
        "no tree": ["branch", "--no-tree"],
        "shared": ["branch"],
        "stacked": ["branch", "--stacked"],
    }
    branch.brz(*words[kind], "-q", str(branch.root), str(place))
    source = Bazaar(place) if kind == "no tree" else open_source(place)
    assert source.tree(source.revision(), "").read(["a.txt"]) == {"a.txt": b"one\n"}
    if kind in ("bound", "lightweight"):
        with pytest.raises(UsageError, match=r"cannot be set here alone.*brz unbind"):
            source.create_tag("v1", source.revision(), "text", push=False)
        assert source.fetch_command == "brz update"
    made = source.create_tag("v1", source.revision(), "text", push=True)
    assert Bazaar(branch.root).tags() == source.tags() == {"v1": made}
    assert branch.brz("status", "-S") == "" or kind == "lightweight"
    if kind != "no tree":
        assert source.tree(None, "").modified == ()
    assert open_tagged(str(place), None)[0].tags() == {"v1": made}


def test_a_folder_of_branches_is_no_checkout(branch: Branch, tmp_path: Path) -> None:
    branch.brz("init-shared-repository", "-q", str(tmp_path / "shared"))
    with pytest.raises(ConfigurationError, match="no checkout of git, Bazaar or Subversion"):
        open_source(tmp_path / "shared")


def test_the_revision_of_a_tag_travels_with_the_branch(branch: Branch, tmp_path: Path) -> None:
    old = branch.tip()
    branch.put("a.txt", "two\n")
    newest = branch.commit("second")
    made = Bazaar(branch.root).create_tag("old", old, "Release\n\nlines", push=False)
    again = Bazaar(branch.root).create_tag("new", "", "Release", push=False)
    copy = Branch(tmp_path / "copy", tmp_path, str(branch.root))
    assert Bazaar(copy.root).tags() == {"old": made, "new": again}
    assert "?" not in copy.brz("tags"), "brz knows each tag's revision"
    source = Bazaar(copy.root)
    assert source.tree("old", "").read(["a.txt"]) == {"a.txt": b"one\n"}
    assert source.changed(newest, "new", "") == ()
    assert branch.brz("status", "-S") == "", "the checkout follows its branch"
    assert source.history(source.revision(), ["a.txt"], 9) == (newest, old)
    branch.brz("tag", "-q", "-r", f"revid:{made.revision}", "stable")
    assert Bazaar(branch.root).tags()["stable"].message == "", "that text is another tag's"


def test_a_tag_that_was_moved_is_told(branch: Branch, tmp_path: Path) -> None:
    first = branch.tip()
    copy = Branch(tmp_path / "copy", tmp_path, str(branch.root))
    branch.brz("tag", "-q", "v1")
    copy.brz("pull", "-q")
    branch.put("a.txt", "two\n")
    second = branch.commit("second")
    branch.brz("tag", "-q", "--force", "v1")
    copy.brz("pull", "-q", code=1)
    before = Bazaar(copy.root).tags()
    with pytest.raises(EvidenceError, match=f"names {first} here and {second} in .*overwrite-tags"):
        Bazaar(copy.root).create_tag("v1", first, "text", push=True)
    assert Bazaar(copy.root).tags() == before
    assert Bazaar(branch.root).tags()["v1"].revision == second
    copy.brz("pull", "-q", "--overwrite-tags")
    with pytest.raises(Conflict, match="a tag is never moved"):
        Bazaar(copy.root).create_tag("v1", first, "text", push=True)


def test_a_tag_of_a_revision_that_is_nowhere_is_told(branch: Branch, tmp_path: Path) -> None:
    other = branch.branch("other")
    other.put("a.txt", "two\n")
    lost = other.commit("of another branch")
    other.brz("tag", "-q", "v1")
    # brz copies the name of a tag, and not what it names
    branch.brz("pull", "-q", "-r1", str(other.root))
    assert Bazaar(branch.root).tags()["v1"].revision == lost
    with pytest.raises(MachineError, match=r"is not here.*brz pull"):
        Bazaar(branch.root).tree("v1", "").entries()
    with pytest.raises(EvidenceError, match=r"which is in no branch.*brz tag --delete v1"):
        Bazaar(branch.root).create_tag("v1", branch.tip(), "text", push=False)


def test_what_the_parent_lacks_is_not_tagged_there(branch: Branch, tmp_path: Path) -> None:
    copy = Branch(tmp_path / "copy", tmp_path, str(branch.root))
    mine = copy.commit("not pushed")
    branch.put("a.txt", "two\n")
    branch.commit("diverged")
    before = listing(branch.root)
    with pytest.raises(
        UsageError, match=rf"the revision {mine} is not in file:.*push it \(brz push\)"
    ):
        Bazaar(copy.root).create_tag("v1", mine, "text", push=True)
    assert Bazaar(copy.root).tags() == {} and listing(branch.root) == before
    with pytest.raises(UsageError, match=r"nowhere to push.*brz push --remember"):
        Bazaar(branch.root).create_tag("v1", branch.tip(), "text", push=True)


def test_a_revision_that_others_left_behind_is_tagged_and_kept(
    branch: Branch, tmp_path: Path
) -> None:
    copy = Branch(tmp_path / "copy", tmp_path, str(branch.root))
    revision = copy.tip()
    branch.put("a.txt", "two\n")
    branch.commit("newer")
    made = Bazaar(copy.root).create_tag("v1", revision, "text", push=True)
    assert copy.tip() == revision, "the checkout stays what it is"
    assert Bazaar(copy.root).tags() == Bazaar(branch.root).tags() == {"v1": made}
    assert Bazaar(branch.root).tree(None, "").modified == ()
    fresh = Bazaar(Branch(tmp_path / "fresh", tmp_path, str(branch.root)).root)
    assert fresh.tree("v1", "").read(["a.txt"]) == {"a.txt": b"one\n"}
    assert fresh.tree(None, "").read(["a.txt"]) == {"a.txt": b"two\n"}


def test_a_lock_that_somebody_holds_is_told_and_nothing_is_written(
    branch: Branch, tmp_path: Path
) -> None:
    copy = Branch(tmp_path / "copy", tmp_path, str(branch.root))
    # as a brz on another machine leaves it that was killed
    held = branch.root / ".bzr" / "branch" / "lock" / "held"
    held.mkdir()
    (held / "info").write_text(
        "hostname: elsewhere.example.com\nnonce: aaaaaaaaaaaaaaaaaaaa\npid: 1\n"
        "start_time: 1700000000\nuser: other@example.com\n"
    )
    with pytest.raises(Temporary, match=r"(?s)LockContention.*brz break-lock"):
        Bazaar(copy.root).create_tag("v1", copy.tip(), "text", push=True)
    assert Bazaar(copy.root).tags() == Bazaar(branch.root).tags() == {}
    assert Bazaar(branch.root).tree(branch.tip(), "").entries(), "reading needs no lock"
    branch.brz("break-lock", "--force", str(branch.root))
    made = Bazaar(copy.root).create_tag("v1", copy.tip(), "text", push=True)
    assert Bazaar(branch.root).tags() == {"v1": made}


def test_a_server_that_only_reads_refuses_and_an_address_of_nothing_is_told(
    branch: Branch, tmp_path: Path
) -> None:
    copy = Branch(tmp_path / "copy", tmp_path, str(branch.root))
    with bazaars.server(tmp_path / "server", "--read-only") as server:
        copy.brz("config", f"parent_location={server.url}")
        copy.brz("push", "-q", str(tmp_path / "server" / "trunk"))
        with pytest.raises(AccessRefused):
            Bazaar(copy.root).create_tag("v1", copy.tip(), "text", push=True)
        assert Bazaar(copy.root).tags() == {}
        with pytest.raises(Unreachable, match="NotBranchError"):
            open_tagged(f"{server.url}-nowhere", tmp_path / "cache")
    with pytest.raises(UsageError, match="there is a password in the URL") as caught:
        open_tagged("bzr://me:secret@127.0.0.1:9/trunk", tmp_path / "cache")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("me@127.0.0.1: Permission denied (publickey).", AccessRefused),
        ("Host key verification failed.", AccessRefused),
        ("ssh: Could not resolve hostname nowhere: Name or service not known", Unreachable),
        ("kex_exchange_identification: read: Connection reset by peer", Temporary),
    ],
)
def test_what_ssh_says_decides(
    words: str, expected: type[PipelineError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh is a script that ends as ssh does; brz says the same of each: ConnectionReset."""
    script = tmp_path / "ssh"
    version = "case $* in -V) echo OpenSSH_9.2 >&2; exit;; esac"
    script.write_text(f"#!/bin/sh\n{version}\necho '{words}' >&2\nexit 255\n")
    script.chmod(0o755)
    monkeypatch.setenv("BRZ_SSH", str(script))
    with pytest.raises(expected) as caught:
        open_tagged("bzr+ssh://127.0.0.1/trunk", tmp_path / "cache")[0].tags()
    assert words in str(caught.value)


@pytest.mark.parametrize("login", ["", "me@"])
def test_a_web_server_that_asks_for_a_login_is_told(login: str, tmp_path: Path) -> None:
    """With a name, brz would ask somebody for the password."""
    with refusing() as host, pytest.raises(AccessRefused, match=r"authentication\.conf") as caught:
        open_tagged(f"bzr+http://{login}{host}/trunk", tmp_path / "cache")[0].tags()
    assert caught.value.exit_code == 7


def test_bytes_that_are_not_what_their_revision_names_are_refused(branch: Branch) -> None:
    source = Bazaar(branch.root)
    with source.revisions as revisions:
        tree = source.tree(branch.tip(), "")
        entry = tree.entries()["a.txt"]
        branch.put("b.txt", "other\n")
        other = source.tree(branch.commit(), "")
        revisions._texts[entry.id] = revisions._texts[other.entries()["b.txt"].id]
        with pytest.raises(
            MachineError, match=r"a\.txt.*not those that its revision names.*brz check"
        ):
            tree.read(["a.txt"])


def test_a_brz_that_ends_is_told_and_the_next_question_starts_another(branch: Branch) -> None:
    source = Bazaar(branch.root)
    with source.revisions as revisions:
        tip = source.revision()
        revisions._brz.child.kill()
        with pytest.raises(MachineError, match="brz ended with exit code -9"):
            source.position(tip)
        assert source.position(tip) == 1


def test_without_brz_the_package_is_named(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing, match="apt-get install brz"):
        Bazaar(branch.root).revision()


def test_a_branch_without_a_revision_is_refused(branch: Branch, tmp_path: Path) -> None:
    empty = Branch(tmp_path / "empty", tmp_path)
    with pytest.raises(UsageError, match="there is no revision yet"):
        Bazaar(empty.root).revision()
    with pytest.raises(UsageError, match="there is no revision yet"):
        Bazaar(empty.root).tree(None, "")


def test_who_tags_must_say_who_they_are(
    branch: Branch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BRZ_EMAIL")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(MachineError, match="brz whoami"):
        Bazaar(branch.root).create_tag("v1", branch.tip(), "text", push=False)
    assert Bazaar(branch.root).tags() == {}
