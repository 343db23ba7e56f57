"""Git checkouts against the real git: what is peculiar to git; what every source must do is in
test_sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_steps.sources import git_program
from pipeline_steps.sources.git import Git, mirror
from pipeline_steps.sources.kinds import open_source
from pipeline_steps.sources.source import Tag
from pipeline_steps.toolbox import clock, files
from pipeline_steps.toolbox.errors import (
    AccessRefused,
    ConfigurationError,
    Conflict,
    MachineError,
    PipelineError,
    Temporary,
    UsageError,
)
from tests.support.gits import Repo, bare
from tests.support.scripted import scripted


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    made = Repo(tmp_path / "checkout", tmp_path / "gitconfig")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(made.config))
    made.put("a.txt", "one\n")
    made.commit("first")
    return made


def listing(root: Path) -> dict[str, bytes]:
    """Every file of .git with its bytes."""
    return {
        str(path): path.read_bytes()
        for path in sorted(root.joinpath(".git").rglob("*"))
        if path.is_file()
    }


def test_the_checkout_is_read_as_git_would_store_it_and_nothing_is_written(repo: Repo) -> None:
    repo.put(".gitattributes", "*.txt text\n*.up filter=upper\n")
    repo.git("config", "filter.upper.clean", "tr a-z A-Z")
    repo.commit()
    repo.put("a.txt", "windows\r\n")
    repo.put("b.up", "loud")
    before = listing(repo.root)
    tree = Git(repo.root).tree(None, "")
    read = tree.read(tree.entries())
    assert listing(repo.root) == before
    repo.git("add", "-A")
    stored = {path: repo.git("cat-file", "blob", f":{path}") for path in ("a.txt", "b.up")}
    assert stored == {"a.txt": "windows", "b.up": "LOUD"}
    assert (read["a.txt"], read["b.up"]) == (b"windows\n", b"LOUD")
    assert tree.digests(["b.up"]) == {"b.up": files.sha256(b"LOUD")}


def test_staged_unstaged_deleted_and_ignored_changes_are_told_apart(repo: Repo) -> None:
    repo.put("gone.txt", "x")
    repo.put("unstaged.txt", "x")
    repo.put("removed-from-index.txt", "x")
    repo.put(".gitignore", "ignored\n")
    repo.commit()
    (repo.root / "gone.txt").unlink()
    repo.put("unstaged.txt", "y")
    repo.put("ignored", "x")
    repo.put("staged.sh", "x", executable=True)
    repo.git("add", "staged.sh")
    repo.git("rm", "-q", "--cached", "removed-from-index.txt")
    (repo.root / "link").symlink_to("a.txt")
    tree = Git(repo.root).tree(None, "")
    assert tree.modified == (
        "gone.txt",
        "link",
        "removed-from-index.txt",
        "staged.sh",
        "unstaged.txt",
    )
    kinds = {path: entry.kind for path, entry in tree.entries().items()}
    assert "gone.txt" not in kinds and "ignored" not in kinds
    assert (kinds["staged.sh"], kinds["link"], kinds["removed-from-index.txt"]) == (
        "executable",
        "link",
        "file",
    )
    assert tree.read(["link", "unstaged.txt"]) == {"link": b"a.txt", "unstaged.txt": b"y"}


def _put_in_one_second(repo: Repo, path: str, text: str) -> None:
    """Write a file that was modified in the same second as all others of this function."""
    repo.put(path, text)
    _date(repo.root / path)


def _date(path: Path) -> None:
    os.utime(path, (1767225600, 1767225600))


@pytest.mark.parametrize("split", ["false", "true"], ids=["one index", "a split index"])
def test_hidden_edits_are_changes(repo: Repo, split: str) -> None:
    """Also those of the same size in the second in which git wrote its index."""
    repo.git("config", "core.trustCTime", "false")  # that time cannot be set
    names = ["assumed.txt", "skipped.txt", "both.txt", "new\nline"]
    for name in [*names, "dropped.txt", "executable.sh", "same.txt"]:
        _put_in_one_second(repo, name, "stored\n")
    repo.commit()
    repo.git("config", "core.splitIndex", split)
    for name in [
        "assumed.txt",
        "both.txt",
        "new\nline",
        "dropped.txt",
        "executable.sh",
        "same.txt",
    ]:
        repo.git("update-index", "--assume-unchanged", name)
    for name in ["skipped.txt", "both.txt"]:
        repo.git("update-index", "--skip-worktree", name)
    for name in names:
        _put_in_one_second(repo, name, "edited\n")
    (repo.root / "dropped.txt").unlink()
    (repo.root / "executable.sh").chmod(0o755)
    assert repo.git("status", "--porcelain") == "", "git itself shows none of them"
    _date(repo.root / ".git/index")
    before = listing(repo.root)
    tree = Git(repo.root).tree(None, "")
    assert tree.modified == tuple(sorted([*names, "dropped.txt", "executable.sh"]))
    assert set(tree.read(names).values()) == {b"edited\n"}
    assert tree.entries()["executable.sh"].kind == "executable"
    assert "dropped.txt" not in tree.entries()
    assert listing(repo.root) == before


@pytest.mark.parametrize(
    "mode", [("--cone",), ("--no-cone",), ("--cone", "--sparse-index")], ids=" ".join
)
def test_what_a_sparse_checkout_leaves_out_is_read_from_the_commit(
    repo: Repo, mode: tuple[str, ...]
) -> None:
    repo.put("inside/x", "x")
    repo.put("outside/y", "stored")
    repo.put("outside/z", "stored")
    repo.commit()
    repo.git("sparse-checkout", "set", *mode, "inside")
    assert not (repo.root / "outside").exists()
    tree = Git(repo.root).tree(None, "")
    assert tree.modified == ()
    assert tree.read(["outside/y"]) == {"outside/y": b"stored"}
    repo.put("outside/y", "edited")
    tree = Git(repo.root).tree(None, "")
    assert tree.modified == ("outside/y",), "z is not there, which is no edit"
    assert tree.read(["outside/y", "outside/z"]) == {"outside/y": b"edited", "outside/z": b"stored"}


def test_hostile_file_names_are_read_as_names(repo: Repo) -> None:
    names = [
        "-rf",
        "--",
        "new\nline",
        'quo"te',
        "back\\slash",
        "sp ace",
        "smile-☺",
        ":(top)x",
        "*",
        "tab\there",
    ]
    for name in names:
        repo.put(f"-dir/{name}", name)
    uncommitted = Git(repo.root).tree(None, "-dir")
    assert uncommitted.read(names) == {name: name.encode() for name in names}
    repo.commit()
    committed = Git(repo.root).tree("HEAD", "-dir")
    assert committed.read(names) == {name: name.encode() for name in names}
    assert set(uncommitted.digests(names).items()) == set(committed.digests(names).items())
    assert Git(repo.root).history("HEAD", ["-dir/*"], 9) == (repo.git("rev-parse", "HEAD"),)


def test_a_submodule_is_seen_and_not_read(repo: Repo, tmp_path: Path) -> None:
    other_clone = Repo(tmp_path / "other", repo.config)
    other_clone.commit()
    repo.git(
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        str(other_clone.root),
        "vendor/other",
    )
    nested = Repo(repo.root / "cloned", repo.config)
    nested.put("x", "x")
    tree = Git(repo.root).tree(None, "")
    assert [tree.entries()[name].kind for name in ("vendor/other", "cloned")] == [
        "submodule",
        "submodule",
    ]
    with pytest.raises(
        ConfigurationError, match=r"vendor/other is a git repository of its own.*keep it out"
    ):
        tree.read(["vendor/other"])


def test_a_repository_of_another_account_says_what_to_do(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    # git's own switch for this case: changing the owner would need root
    monkeypatch.setitem(git_program.ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(
        MachineError, match=r"another account.*git config --global --add safe\.directory"
    ):
        Git(repo.root).revision()


def test_a_shallow_clone_has_no_position_and_says_how_to_get_it(repo: Repo, tmp_path: Path) -> None:
    repo.commit("second")
    shallow = Repo(tmp_path / "shallow", repo.config)
    shallow.git("fetch", "-q", "--depth=1", f"file://{repo.root}", "main")
    shallow.git("checkout", "-q", "FETCH_HEAD")
    with pytest.raises(MachineError, match="git fetch --unshallow"):
        Git(shallow.root).position("HEAD")
    with pytest.raises(MachineError, match="git fetch --unshallow"):
        Git(shallow.root).history("HEAD", ["."], 1)


def test_a_repository_without_commit_is_refused(tmp_path: Path, repo: Repo) -> None:
    empty = Repo(tmp_path / "empty", repo.config)
    with pytest.raises(UsageError, match="no commit yet"):
        Git(empty.root).revision()


def test_the_position_follows_the_first_parent_line(repo: Repo) -> None:
    repo.put("charts/x", "1")
    repo.commit()
    repo.git("checkout", "-q", "-b", "topic")
    repo.put("charts/x", "2")
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.commit("unrelated")
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "topic")
    source = Git(repo.root)
    merge = repo.git("rev-parse", "HEAD")
    assert source.history("HEAD", ["charts"], 1) == (merge,), (
        "the merge brought the change to the mainline"
    )
    assert source.position("HEAD") == 5, "its ancestors count"
    repo.commit("unrelated again")
    assert Git(repo.root).history("HEAD", ["charts"], 1) == (merge,)
    assert Git(repo.root).history("HEAD", ["charts"], 9, after=merge) == ()


def test_the_base_is_taken_from_the_remote_branch(repo: Repo, tmp_path: Path) -> None:
    clone = Repo(tmp_path / "clone", repo.config, clone=str(repo.root))
    first = repo.git("rev-parse", "HEAD")
    clone.git("checkout", "-q", "-b", "topic")
    tip = clone.commit("work")
    clone.git("branch", "-q", "-f", "main", tip)
    assert Git(clone.root).base("main") == Git(clone.root).tip("main") == first
    assert Git(clone.root).tip("topic") == tip
    assert Git(clone.root).base("HEAD~1") == first
    with pytest.raises(UsageError, match="there is no revision 'nowhere'"):
        Git(clone.root).base("nowhere")


def test_one_git_reads_what_a_small_file_holds_once_and_a_large_one_again(repo: Repo) -> None:
    repo.put("large", b"x" * (2**20 + 1))
    repo.commit()
    source = Git(repo.root)
    tree = source.tree(None, "")
    assert tree.digests(["a.txt", "large"])["a.txt"] == files.sha256(b"one\n")
    with source.revisions as objects:
        objects._git.child.kill()
        assert source.tree("HEAD", "").read(["a.txt"]) == {"a.txt": b"one\n"}
        with pytest.raises(MachineError, match="git cat-file failed with exit code -9"):
            source.tree("HEAD", "").read(["large"])
        assert len(source.tree("HEAD", "").read(["large"])["large"]) == 2**20 + 1


def test_a_large_file_is_read_where_it_lies_only_when_it_is_what_the_commit_stores(
    repo: Repo,
) -> None:
    stored, crlf = b"x" * 2**18, b"a\n" * 2**18
    repo.put(".gitattributes", "crlf text eol=crlf\n")
    repo.put("large", stored)
    repo.put("crlf", crlf)
    repo.commit()
    (repo.root / "crlf").unlink()
    repo.git("checkout", "crlf")
    assert (repo.root / "crlf").read_bytes() == crlf.replace(b"\n", b"\r\n")
    tree = Git(repo.root).tree(None, "")
    assert tree.modified == ()
    (repo.root / "large").write_bytes(
        b"y" * 2**18
    )  # after git looked: what was read then is what counts
    assert tree.read(["large", "crlf"]) == {"large": stored, "crlf": crlf}
    assert tree.digests(["crlf", "large"]) == {
        "crlf": files.sha256(crlf),
        "large": files.sha256(stored),
    }
    (repo.root / "large").unlink()
    assert tree.read(["large"]) == {"large": stored}


def test_an_interrupted_answer_is_not_the_next_ones(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.put("large", b"x" * (2**20 + 1))
    repo.commit()
    source = Git(repo.root)
    with source.revisions:
        tree = source.tree("HEAD", "")
        tree.entries()
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                tree.read(["large"])
        assert tree.read(["a.txt"]) == {"a.txt": b"one\n"}


def test_a_partial_clone_says_why_its_remote_gives_nothing_and_is_never_stuck(
    repo: Repo, tmp_path: Path
) -> None:
    for number in range(100):
        repo.put(f"many/{number}", f"{number}")
    repo.commit()
    repo.git("config", "uploadpack.allowFilter", "true")
    chatty = tmp_path / "chatty"
    chatty.write_text(
        "#!/bin/sh\nhead -c 2000 /dev/zero | tr '\\0' x >&2\nexec git-upload-pack \"$@\"\n"
    )
    chatty.chmod(0o755)
    clone = tmp_path / "partial"
    away = ["-c", f"remote.origin.uploadpack={chatty}", "-c", "protocol.file.allow=always"]
    repo.git(
        *away,
        "clone",
        "-q",
        "--no-checkout",
        "--filter=blob:none",
        f"file://{repo.root}",
        str(clone),
    )
    tree = Git(clone).tree("HEAD", "")
    assert len(tree.read([f"many/{number}" for number in range(60)])) == 60
    repo.root.rename(tmp_path / "moved")
    with pytest.raises(
        PipelineError, match=r"(?s)git cat-file failed.*(does not appear|not read|not exist)"
    ):
        tree.read(["many/99"])


def test_old_folder_modes_and_tag_objects_are_read(repo: Repo) -> None:
    blob = repo.git("rev-parse", "HEAD:a.txt")
    (repo.root / "inner").write_bytes(b"100644 a.txt\0" + bytes.fromhex(blob))
    inner = repo.git("hash-object", "-t", "tree", "-w", "inner")
    (repo.root / "outer").write_bytes(b"040000 sub\0" + bytes.fromhex(inner))
    outer = repo.git("hash-object", "-t", "tree", "-w", "--literally", "outer")
    commit = repo.git("commit-tree", outer, "-m", "old")
    assert set(Git(repo.root).tree(commit, "").entries()) == {"sub/a.txt"}
    repo.git("tag", "-a", "-m", "x", "annotated")
    tag = repo.git("rev-parse", "refs/tags/annotated")
    assert "a.txt" in Git(repo.root).tree(tag, "").entries()


def test_git_ends_with_the_outermost_block_that_reads(repo: Repo) -> None:
    source = Git(repo.root)
    with source.revisions as objects:
        with source.revisions:
            source.tree(None, "").entries()
            child = objects._git.child
        source.tree("HEAD", "").read(["a.txt"])
        assert objects._git.child is child and child.poll() is None
    assert child.returncode is not None


def test_a_tag_says_when_it_was_made_else_when_its_commit_was(repo: Repo) -> None:
    repo.git("tag", "light")
    dated = {**os.environ, "GIT_COMMITTER_DATE": "2026-02-03T04:05:06+02:00"}
    subprocess.run(
        ["git", "tag", "-a", "-m", "x", "annotated"], cwd=repo.root, check=True, env=dated
    )
    tags = Git(repo.root).tags()
    assert tags["annotated"].created == "2026-02-03T02:05:06Z"
    commit = int(repo.git("log", "-1", "--format=%ct"))
    assert tags["light"].created == clock.rfc3339(commit)


@pytest.mark.parametrize(
    ("tagger", "created"),
    [
        ("", "2026-01-02T03:04:05Z"),
        (f"tagger a <a@example.com> {'9' * 30} +0000\n", "2026-01-02T03:04:05Z"),
        ("tagger a <a@example.com> 253402300800 +0000\n", "9999-12-31T23:59:59Z"),
    ],
    ids=["none, as git's first tags", "no number", "after the year 9999"],
)
def test_a_tag_with_a_strange_time_is_read(repo: Repo, tagger: str, created: str) -> None:
    dated = {**os.environ, "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z"}
    subprocess.run(
        ["git", "commit", "-q", "--amend", "--no-edit"], cwd=repo.root, check=True, env=dated
    )
    head = repo.git("rev-parse", "HEAD")
    text = f"object {head}\ntype commit\ntag v1\n{tagger}\nold\n"
    hashed = subprocess.run(
        ["git", "hash-object", "-t", "tag", "-w", "--literally", "--stdin"],
        cwd=repo.root, input=text, capture_output=True, check=True, text=True,
    )  # fmt: skip
    repo.git("update-ref", "refs/tags/v1", hashed.stdout.strip())
    names = ("of\x85two", "of\u2028lines")
    for name in names:
        repo.git("tag", name)
    tags = Git(repo.root).tags()
    assert tags.keys() == {"v1", *names} and tags["v1"] == Tag("v1", head, "old", created)


def test_tags_of_files_and_trees_are_listed(repo: Repo) -> None:
    """None vanishes: what reads their revisions says that they are no commits."""
    objects = {"file": "HEAD:a.txt", "tree": "HEAD^{tree}"}
    for name, revision in objects.items():
        repo.git("tag", name, revision)
        repo.git("tag", "-a", "-m", "x", f"{name}-with-text", revision)
    tags = Git(repo.root).tags()
    for name, revision in objects.items():
        for tag in (tags[name], tags[f"{name}-with-text"]):
            assert tag.revision == repo.git("rev-parse", revision)
            with pytest.raises(MachineError, match="is no commit"):
                Git(repo.root).tree(tag.revision, "").entries()


def test_a_subject_ends_where_its_line_ends(repo: Repo) -> None:
    subjects = ["one\u2028and more", "two\x0cpages", "three"]
    commits = []
    for subject in subjects:
        repo.git("commit", "-q", "--allow-empty", "-m", subject)
        commits.append(repo.git("rev-parse", "HEAD"))
    assert Git(repo.root).subjects(commits) == subjects


def test_two_pushes_of_one_tag_leave_one_tag(repo: Repo, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    repo.git("clone", "-q", "--bare", str(repo.root), str(bare))
    clone, other = (
        Repo(tmp_path / name, repo.config, clone=str(bare)) for name in ("clone", "other")
    )
    first = clone.git("rev-parse", "HEAD")
    second = clone.commit("second")
    clone.git("push", "-q", "origin", "HEAD:main")
    # The other publisher comes between our look and our push: git's own hook makes it sure.
    hook = clone.root / ".git" / "hooks" / "pre-push"
    hook.write_text(
        f"#!/bin/sh\ncd {other.root} && git tag -a -m theirs v1 {first} && git push -q origin v1\n"
    )
    hook.chmod(0o755)
    with pytest.raises(
        Conflict, match=f"v1 exists at origin and names {first[:12]}, not {second[:12]}"
    ):
        Git(clone.root).create_tag("v1", second, "ours", push=True)
    assert "v1" not in Git(clone.root).tags(), "ours is taken back"
    assert other.git("ls-remote", "--tags", "origin").endswith(f"{first}\trefs/tags/v1^{{}}")


def test_a_pushed_tag_is_annotated_read_again_and_never_moved(repo: Repo, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    repo.git("clone", "-q", "--bare", str(repo.root), str(bare))
    clone = Repo(tmp_path / "clone", repo.config, clone=str(bare))
    first = clone.git("rev-parse", "HEAD")
    second = clone.commit("second")
    source = Git(clone.root)
    created = source.create_tag(
        "hello-1.0.0", first, "# kept\n\nPipeline-Content: hello", push=True
    )
    assert created.message == "# kept\n\nPipeline-Content: hello"
    assert clone.git("ls-remote", "--tags", "origin").endswith(
        f"{first}\trefs/tags/hello-1.0.0^{{}}"
    )
    assert source.create_tag("hello-1.0.0", first, "other text", push=True).revision == first
    with pytest.raises(
        Conflict, match=rf"hello-1\.0\.0 exists .* names {first[:12]}, not {second[:12]}"
    ):
        source.create_tag("hello-1.0.0", second, "moved", push=True)
    # Somebody else's tag that this clone has not fetched: nothing is left behind here.
    other_clone = Repo(tmp_path / "other", repo.config, clone=str(bare))
    other_clone.git("tag", "-a", "-m", "theirs", "hello-2.0.0", first)
    other_clone.git("push", "-q", "origin", "hello-2.0.0")
    with pytest.raises(Conflict, match="exists at origin"):
        source.create_tag("hello-2.0.0", second, "ours", push=True)
    assert "hello-2.0.0" not in source.tags()


def test_a_refused_push_is_an_error_with_what_the_server_said(repo: Repo, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    repo.git("clone", "-q", "--bare", str(repo.root), str(bare))
    hook = bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho not permitted: create tag >&2\nexit 1\n")
    hook.chmod(0o755)
    clone = Repo(tmp_path / "clone", repo.config, clone=str(bare))
    with pytest.raises(AccessRefused, match="not permitted: create tag"):
        Git(clone.root).create_tag("v1", "HEAD", "one", push=True)
    clone.git("remote", "set-url", "origin", str(tmp_path / "nowhere"))
    with pytest.raises(PipelineError, match="does not appear to be a git repository") as caught:
        Git(clone.root).create_tag("v2", "HEAD", "two", push=True)
    assert caught.value.exit_code == 7 and "check the remote's address" in caught.value.advice
    clone.git("remote", "remove", "origin")
    with pytest.raises(PipelineError, match="'origin' does not appear") as caught:
        Git(clone.root).create_tag("v3", "HEAD", "three", push=True)
    assert caught.value.exit_code == 7 and "git remote add NAME URL" in caught.value.advice


GITLAB = """\
remote:
remote: ========================================================================
remote:
remote: ERROR: The project you were looking for could not be found or you don't have permission to view it.

remote:
remote: ========================================================================
remote:"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("ERROR: Permission to o/r.git denied to somebody.", 7),
        ("ERROR: The key you are authenticating with has been marked as read only.", 7),
        (GITLAB, 7),
        ("Unable to negotiate with 192.0.2.1 port 22: no matching host key type found.", 7),
        ("Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures", 7),
        ("Permission denied (publickey).\nConnection closed by 192.0.2.1 port 22", 7),
        ("Your plan has ended.", 7),
        ("kex_exchange_identification: Connection closed by remote host", 75),
        ("client_loop: send disconnect: Broken pipe", 75),
        ("Warning: Permanently added '192.0.2.1' (ED25519) to the list of known hosts.", 75),
        ("", 75),
    ],
)
def test_what_ssh_says_before_git_decides_whether_to_run_again(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: int
) -> None:
    told = tmp_path / "told"
    told.write_text(f"{words}\n" if words else "")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"cat {told} >&2; exit 255; #")
    with pytest.raises(PipelineError) as caught:
        git_program.output(repo.root, "ls-remote", "ssh://git.example.com/r", remote=True)
    assert caught.value.exit_code == code
    assert isinstance(caught.value, AccessRefused if code == 7 else Temporary)
    assert all(line in str(caught.value) for line in words.splitlines() if "ERROR" in line)


def test_a_login_banner_is_nothing_to_run_again(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "echo Welcome; #")
    with pytest.raises(MachineError, match="make it silent"):
        git_program.output(repo.root, "ls-remote", "ssh://git.example.com/r", remote=True)


def test_a_lock_that_somebody_holds_is_told_and_the_next_run_converges(
    repo: Repo, tmp_path: Path
) -> None:
    server = tmp_path / "bare.git"
    repo.git("clone", "-q", "--bare", str(repo.root), str(server))
    clone = Repo(tmp_path / "clone", repo.config, clone=str(server))
    revision = clone.git("rev-parse", "HEAD")
    for folder in (clone.root / ".git", server):
        held = folder / "refs/tags/v1.lock"  # as a git leaves it that was killed
        held.parent.mkdir(parents=True, exist_ok=True)
        held.touch()
        with pytest.raises(Temporary, match=r"(?s)v1\.lock.*another git runs"):
            Git(clone.root).create_tag("v1", revision, "text", push=True)
        held.unlink()
        assert not clone.git("ls-remote", "--tags", "origin")
    assert Git(clone.root).create_tag("v1", revision, "text", push=True).revision == revision


@pytest.mark.parametrize("name", ["-d", "a b", "a..b", "", "x.lock", "a\nb"])
def test_an_impossible_tag_name_is_refused(repo: Repo, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a tag"):
        Git(repo.root).create_tag(name, "HEAD", "text", push=False)


@pytest.mark.parametrize("name", ["--all", "nope", "HEAD\nx", "HEAD..HEAD"])
def test_an_unknown_revision_is_refused(repo: Repo, name: str) -> None:
    with pytest.raises(UsageError, match="there is no revision"):
        Git(repo.root).revision(name)


def test_a_worktree_and_a_detached_head_are_checkouts_too(repo: Repo, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", "--detach", str(tmp_path / "other"), "HEAD")
    source = open_source(tmp_path / "other")
    assert (source.branch(), source.revision()) == (None, repo.git("rev-parse", "HEAD"))
    assert open_source(repo.root).branch() == "main"


def test_a_tree_has_what_git_archive_leaves_out_and_links_out_of_it(repo: Repo) -> None:
    repo.put("c/.gitattributes", "secret export-ignore\n")
    repo.put("c/secret", "kept")
    (repo.root / "c" / "out").symlink_to("/etc")
    repo.commit()
    tree = Git(repo.root).tree("HEAD", "c")
    assert sorted(tree.entries()) == [".gitattributes", "out", "secret"]
    assert tree.read(["out", "secret"]) == {"out": b"/etc", "secret": b"kept"}


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no checkout of git, Bazaar or Subversion.*\.git, \.bzr, \.svn"
    ):
        open_source(tmp_path)


def wrapped(folder: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    """A `git` before the real one on PATH that first runs a line of shell."""
    folder.mkdir()
    program = folder / "git"
    program.write_text(f'#!/bin/sh\n{first}\nexec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_help_starts_no_git_process(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    wrapped(tmp_path / "programs", monkeypatch, f"echo >> {started}")
    for words in (["pipeline_steps", "promote"], ["pipeline_steps.promote"]):
        subprocess.run(
            [sys.executable, "-m", *words, "--help"],
            cwd=repo.root,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    time.sleep(0.1)
    assert not started.exists()


GPG = """\
#!/bin/sh
case "$*" in
    *--verify*) echo "gpg: a signature that nobody knows" >&2; exit 1 ;;
esac
cat >/dev/null
echo "[GNUPG:] SIG_CREATED " >&2
printf -- '-----BEGIN PGP SIGNATURE-----\\n\\nx\\n-----END PGP SIGNATURE-----\\n'
"""


def answers(root: Path, first: str) -> dict[str, object]:
    """What `Git` says of a checkout, each asked of a new one."""
    tree = Git(root).tree(None, "")
    return {
        "files": tree.digests(tree.entries()),
        "modified": tree.modified,
        "read": tree.read(["line.txt", "new.txt"]),
        "history": Git(root).history(Git(root).revision(), ["a.txt"], 10),
        "changed": Git(root).changed(first, Git(root).revision(), ""),
        "position": Git(root).position(Git(root).revision()),
        "tags": Git(root).tags(),
        "branch": Git(root).branch(),
        "subjects": Git(root).subjects([Git(root).revision()]),
    }


def test_the_users_configuration_changes_no_answer(repo: Repo, tmp_path: Path) -> None:
    first = repo.git("rev-parse", "HEAD")
    gpg = repo.put("../gpg", GPG, executable=True)
    repo.put("a.txt", "two\n")
    repo.put("ü.txt", "umlaut\n")
    repo.put("line.txt", "one\r\ntwo\n")
    repo.git("add", "-A")
    repo.git("-c", f"gpg.program={gpg}", "commit", "-q", "-S", "-m", "signed: ü")
    repo.git("tag", "-a", "-m", "release", "v1")
    repo.put("line.txt", "three\r\nfour\n")
    repo.put("new.txt", "new\n")
    expected = answers(repo.root, first)
    (tmp_path / "ignore").write_text("new.txt\n")
    (tmp_path / "order").write_text("ü*\n")
    monitor = repo.put("../monitor", "#!/bin/sh\nprintf 'token\\0'\n", executable=True)
    with repo.config.open("a") as config:
        config.write(
            f"[gpg]\nprogram = {gpg}\n[log]\nshowSignature = true\nshowRoot = false\n"
            "follow = true\ndecorate = full\ndate = relative\n[format]\npretty = fuller\n"
            "[status]\nshort = true\nbranch = false\nshowUntrackedFiles = no\nshowStash = true\n"
            "relativePaths = true\nrenames = copies\nsubmoduleSummary = true\n"
            f"[core]\nexcludesFile = {tmp_path}/ignore\nquotePath = true\nabbrev = 4\n"
            f"fsmonitor = {monitor}\nsafecrlf = true\npager = false\ncommentChar = r\n"
            "untrackedCache = true\npreloadIndex = false\nlogAllRefUpdates = false\n"
            "ignoreStat = true\ncheckStat = minimal\ntrustctime = false\nsparseCheckout = true\n"
            "splitIndex = true\n"
            f"[diff]\norderFile = {tmp_path}/order\nnoprefix = true\nrenames = copies\n"
            "ignoreSubmodules = all\nexternal = false\n[color]\nui = always\n"
            "[i18n]\ncommitEncoding = ISO-8859-1\nlogOutputEncoding = ISO-8859-1\n"
            "[safe]\nbareRepository = explicit\n"
            "[column]\nui = always\n[tag]\nsort = -refname\n[push]\nfollowTags = true\n"
        )
    assert answers(repo.root, first) == expected
    copied = mirror(str(repo.root), tmp_path / "cache", {})
    merge = git_program.output(repo.root, "commit-tree", "HEAD^{tree}", stdin="ü".encode())
    assert b"\nencoding " not in git_program.output(
        repo.root, "cat-file", "commit", merge[:40].decode()
    )
    assert copied.tags() == expected["tags"] and copied.tree("v1", "").entries()
    repo.git("replace", first, repo.git("rev-parse", "HEAD"))
    assert answers(repo.root, first) == expected


def test_only_the_one_tag_is_pushed(repo: Repo, tmp_path: Path) -> None:
    elsewhere = bare(tmp_path / "elsewhere.git")
    repo.git("remote", "add", "origin", str(elsewhere))
    repo.git("tag", "-a", "-m", "private", "private")
    with repo.config.open("a") as config:
        config.write("[push]\nfollowTags = true\nrecurseSubmodules = on-demand\n")
    Git(repo.root).create_tag("v1", "", "release", push=True)
    assert set(Git(elsewhere).tags()) == {"v1"}


@pytest.mark.parametrize("no_proxy", [{}, {"NO_PROXY": "a.example"}, {"no_proxy": "*"}])
def test_this_machine_is_never_asked_through_a_proxy(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, no_proxy: dict[str, str]
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with scripted(lambda _: (404, {}, b"")) as proxy, scripted(lambda _: (404, {}, b"")) as server:
        for name, value in {"http_proxy": f"http://{proxy.host}", **no_proxy}.items():
            monkeypatch.setenv(name, value)
        git_program.call(repo.root, "ls-remote", f"http://{server.host}/a.git", remote=True)
        assert server.requests and not proxy.requests
        for name in ("http_proxy", *no_proxy):
            monkeypatch.delenv(name)
        server.requests.clear()
        repo.git("config", "--global", "http.proxy", f"http://{proxy.host}")
        git_program.call(repo.root, "ls-remote", f"http://{server.host}/a.git", remote=True)
    assert server.requests and not proxy.requests


def test_the_remotes_url_is_the_one_that_git_uses(repo: Repo) -> None:
    repo.put("a", "1")
    repo.commit()
    assert open_source(repo.root).remote_url == ""
    repo.git("remote", "add", "review", "https://me:hunter2@git.example.com/team/charts.git")
    assert open_source(repo.root).remote_url == "https://git.example.com/team/charts.git"
    repo.git("config", "url.git@git.example.com:.insteadOf", "https://me:hunter2@git.example.com/")
    assert open_source(repo.root).remote_url == "git@git.example.com:team/charts.git"
